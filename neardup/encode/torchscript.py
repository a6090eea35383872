"""TorchScript files as encoders: Meta's SSCD by its name, and any other module that maps pixels to vectors by its path.

SSCD (Pizzi et al., CVPR 2022, MIT licence) was trained to recognise copies of photographs. Pictures are squeezed to a
square of 288 pixels and normalised by the mean and deviation of ImageNet; its authors advise a shortest side of 288
pixels, or a squeezed square for batches. Pictures for any other module are prepared in the same way, unless it lies in
a folder with a `preprocessor_config.json`.
"""

import shutil
import warnings
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import torch
from huggingface_hub import constants
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor

from neardup.encode.hub import FOLDER, TIMEOUT
from neardup.encode.protocol import BUILTIN
from neardup.errors import EncoderError
from neardup.progress import bar
from neardup.stages import digest_file, replacing
from neardup.words import LONGEST_REASON, reason_of

SSCD = "sscd"
"""Name of Meta's model for copies of photographs, `sscd_disc_mixup`."""
URL = "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt"
"""Where Meta publishes SSCD's file of 94 MB."""
SHA256 = "9f26bd4c848cc19b73d2ae92eea6e04886f61a7b764ceb7a13aeee62e6a6db56"
"""SHA-256 of SSCD's file: Meta publishes none, but five public programs that download the file expect this one."""
FILE = "model.torchscript.pt"
"""File name of a TorchScript module in an encoder's folder."""
WEIGHTS = "model.safetensors"
"""File name of weights beside a module, which replace those in the module."""
MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, red, green and blue, 0 to 1."""
DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, red, green and blue."""
SIDE = 288
"""Pixels of a side of SSCD's pictures."""
CHUNK = 2**20
"""Bytes that are downloaded at a time."""


class Script(nn.Module):
    """A TorchScript module with facts that it does not hold itself.

    Attributes:
        digest: SHA-256 of its file.
        width: how many numbers it returns for a picture.
    """

    def __init__(self, script: Any, file: Path, digest: str, width: int) -> None:
        """Wrap a module that was loaded from a file."""
        super().__init__()
        self.script, self.file, self.digest, self.width = script, file, digest, width

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors, (n, width), of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = self.script(pixels)
        return vectors

    def save_pretrained(self, folder: Path) -> None:
        """Write the module as it was loaded, and its current weights beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.file, folder / FILE)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.script.state_dict().items()}
        save_file(weights, folder / WEIGHTS)


def is_torchscript(name: str) -> bool:
    """Whether a name is SSCD's, a TorchScript file, or a folder that `Script.save_pretrained` wrote."""
    return name == SSCD or name.endswith(".pt") or (Path(name) / FILE).is_file()


def load_torchscript(name: str) -> tuple[Script, CLIPImageProcessor]:
    """Load a TorchScript module and what prepares its pictures, in float32, on the CPU.

    Args:
        name: `sscd`, a file, or a folder that `Script.save_pretrained` wrote.

    Raises:
        EncoderError: there is no such file, it is not TorchScript, returns no vectors, or cannot be downloaded.
    """
    folder = Path(name) if name != SSCD and Path(name).is_dir() else None
    path = _sscd() if name == SSCD else folder / FILE if folder else Path(name)
    if not path.is_file():
        raise EncoderError(f"there is no file {name}: name a TorchScript file, {SSCD}, or {BUILTIN}")
    digest = digest_file(path)
    if name == SSCD and digest != SHA256:
        raise EncoderError(f"{path} is not the SSCD that Meta publishes (its SHA-256 is {digest[:12]}…): delete it")
    has_processor = folder is not None and (folder / "preprocessor_config.json").is_file()
    processor = CLIPImageProcessor.from_pretrained(name) if has_processor else _squeezing()
    script = _opened(name, path)
    if folder and (folder / WEIGHTS).is_file():
        _take_weights(script, folder / WEIGHTS)
    width = _width_of(name, script.float().eval(), processor)
    return Script(script, path, digest, width).requires_grad_(), processor


def _opened(name: str, path: Path) -> Any:
    """Open the TorchScript module in a file, on the CPU.

    Raises:
        EncoderError: this version of torch cannot open the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch recommends another export format
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise EncoderError(
            f"{name} is no TorchScript module that torch {torch.__version__} opens ({reason_of(error)}): name a file "
            "that torch.jit.save wrote"
        ) from error


def _take_weights(script: Any, path: Path) -> None:
    """Replace a module's weights by those in a file.

    Raises:
        EncoderError: the file is broken, or its weights belong to another module.
    """
    try:
        script.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise EncoderError(f"{path} cannot be read ({reason_of(error)}): copy the whole checkpoint again") from error


@torch.inference_mode()
def _width_of(name: str, script: Any, processor: CLIPImageProcessor) -> int:
    """Find how many numbers a module returns for a picture, by a black one.

    Raises:
        EncoderError: the module does not take the picture, or does not return one vector.
    """
    black = processor(Image.new("RGB", (SIDE, SIDE)), return_tensors="pt")["pixel_values"]
    try:
        vectors = script(black)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1][:LONGEST_REASON]  # a traceback precedes the last line
        height, width = black.shape[2:]
        raise EncoderError(
            f"{name} does not take pictures of {height} × {width} pixels ({reason}): save it in a folder as {FILE}, "
            f"with a preprocessor_config.json that says how photos are prepared for it, and name the folder"
        ) from error
    if not isinstance(vectors, Tensor) or vectors.shape[:-1] != (1,):
        raise EncoderError(f"{name} does not give one vector a picture: name a TorchScript module that does")
    return int(vectors.shape[1])


def _squeezing() -> CLIPImageProcessor:
    """Make an image processor that squeezes a picture to a square of 288 pixels and normalises it."""
    return CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        resample=Image.Resampling.BILINEAR,
        image_mean=list(MEAN),
        image_std=list(DEVIATION),
    )


def _sscd() -> Path:
    """Path of SSCD's file, downloaded if it is not on this machine; any other file is not kept."""
    path = FOLDER / URL.rpartition("/")[2]
    if path.is_file():
        return path
    advice = f"fetch {URL} on a machine with network and say --encoder FILE, or say --encoder {BUILTIN}"
    if constants.HF_HUB_OFFLINE:
        raise EncoderError(f"SSCD is not on this machine and HF_HUB_OFFLINE is set; {advice}")
    try:
        with replacing(path) as new:
            with urlopen(URL, timeout=TIMEOUT) as answer, new.open("wb") as file:
                count = int(answer.headers["Content-Length"] or 0) // CHUNK
                for chunk in bar(
                    iter(partial(answer.read, CHUNK), b""), "fetching SSCD", count, unit="MB", disable=None
                ):
                    file.write(chunk)
            if digest_file(new) != SHA256:
                raise EncoderError(
                    f"what came from {URL} is not the file that Meta publishes ({new.stat().st_size} bytes): try "
                    f"again, or {advice}"
                )
    except (URLError, HTTPException, OSError) as error:
        raise EncoderError(f"SSCD is not on this machine and cannot be fetched ({error}); {advice}") from error
    return path
