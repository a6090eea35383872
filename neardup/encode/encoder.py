"""Encoders: pixels → one unit vector, with a fingerprint that vectors and thresholds carry."""

import copy
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from neardup.arrays import Vectors
from neardup.encode.int8 import BITS, Int8Tower
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS, read_image

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

BUILTIN = "builtin:tiny"
"""Name of the encoder that neardup ships."""
CHECKPOINT = Path(__file__).parents[1] / "builtin" / "checkpoint"
"""Folder of that encoder, a plain CLIP checkpoint; its README says how it was made."""
LEAST_VOCABULARY = 16
"""A tokenizer that knows fewer tokens was read from nothing: transformers makes one of two tokens then."""
BATCH = 16
"""Images in one pass, where nothing else was measured."""
BATCHES = (BATCH, 32, 64, 8, 4)
"""Those that `calibrate` tries."""
CALIBRATION, GAIN, ROUNDS = 3.0, 1.05, 4
"""Seconds that `calibrate` may take, how much faster than `BATCH` a batch must be, and passes of each at most."""
DTYPES: "Mapping[Dtype, torch.dtype]" = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


class Encoder(Protocol):
    """What turns photos into vectors."""

    name: str
    fingerprint: str
    dimension: int

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Any:
        """Decode an image to what `encode` takes."""

    def encode(self, images: Sequence[Any]) -> Vectors:
        """Encode images: float32 (n, d), unit rows; the dot product is the similarity, higher is more alike."""


@dataclass(frozen=True)
class Clip:
    """A whole CLIP: both towers, and what prepares their inputs."""

    name: str
    model: CLIPModel
    tokenizer: Any
    image_processor: Any

    def encoder(self, device: str = "auto") -> "ClipEncoder":
        """The vision tower as it is now; it shares its weights with this model."""
        config: Any = copy.deepcopy(self.model.config.vision_config)
        config.projection_dim = self.model.config.projection_dim
        with torch.device("meta"):  # nothing is allocated for weights that are put in place next
            tower = CLIPVisionModelWithProjection(config)
        tower.vision_model, tower.visual_projection = self.model.vision_model, self.model.visual_projection
        return ClipEncoder(self.name, tower, self.image_processor, device)

    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` reads, whole or not at all; the weights are safetensors."""
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.save_pretrained(partial)
        self.tokenizer.save_pretrained(partial)
        self.image_processor.save_pretrained(partial)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


class ClipEncoder:
    """The vision tower of a CLIP.

    Attributes:
        batch: images in one pass. Every pass has this many, the last one filled up: with one shape, a photo's vector is
            the same to the last bit whatever it is encoded together with.
    """

    def __init__(
        self, name: str, model: nn.Module, image_processor: Any, device: str = "auto", precision: "Dtype" = "fp32"
    ) -> None:
        """Take a `CLIPVisionModelWithProjection` and its image processor; vectors come out of `device`.

        Raises:
            EncoderError: the device is not there, or cannot compute with that precision.
        """
        self.name = name
        self.device = pick_device(device, precision)
        self.fingerprint = fingerprint(model, image_processor, precision)
        self.dimension = int(model.config.projection_dim)  # type: ignore[union-attr, arg-type]
        self.size = _side(image_processor)
        self.batch = BATCH
        self._processor = image_processor
        self._dtype = DTYPES.get(precision)
        if self._dtype is None:
            black = self.prepare(Image.new("RGB", (self.size, self.size)))
            self._model: Any = Int8Tower(model, black.shape, self.fingerprint)
        else:
            self._model = model.eval().to(self.device, self._dtype)

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Decode an image, a large JPEG at a fraction of its size, and prepare it: uint8 (3, height, width).

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        return self.prepare(read_image(source, max_pixels=max_pixels, draft=self.size))

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize and crop an RGB image: uint8 (3, height, width), as the image processor has them before it normalises.

        Its steps are called one by one: in 0.3 ms instead of 0.8 for 500 × 375 pixels.
        """
        processor = self._processor
        pixels: Tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = processor.resize(pixels, processor.size, processor.resample)
        if processor.do_center_crop:
            pixels = processor.center_crop(pixels, processor.crop_size)
        return pixels.contiguous()

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image | Tensor]) -> Vectors:
        """Encode RGB images, or what `read` made of them.

        Returns:
            float32 (n, d), unit rows; the dot product of two is their similarity, higher is more alike.

        Raises:
            EncoderError: the weights give vectors that are not finite.
        """
        parts = [self._pass(images[start : start + self.batch]) for start in range(0, len(images), self.batch)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def _pass(self, images: Sequence[Image.Image | Tensor]) -> Vectors:
        pixels = torch.stack([image if isinstance(image, Tensor) else self.prepare(image) for image in images])
        embedded = self._embedded(pixels.to(self.device)).float().cpu()
        if not torch.isfinite(embedded).all():
            raise EncoderError(
                f"{self.name} gives vectors that are not finite: its weights are broken, take another one"
            )
        return np.asarray(nn.functional.normalize(embedded, dim=-1).numpy(), dtype=np.float32)

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Vectors of uint8 (n, 3, height, width): (n, d), not normalised."""
        processor = self._processor
        scaling = True, processor.rescale_factor, True, processor.image_mean, processor.image_std
        if self._dtype is None:
            vectors: Tensor = self._model(processor.rescale_and_normalize(pixels, *scaling))
            return vectors
        filled = torch.cat([pixels, pixels.new_zeros(self.batch - len(pixels), *pixels.shape[1:])])
        ready = processor.rescale_and_normalize(filled, *scaling).to(self._dtype)
        vectors = self._model(pixel_values=ready).image_embeds
        return vectors[: len(pixels)]


def calibrate(encoder: ClipEncoder) -> int:
    """The batch with which an encoder is fastest on this machine, found in about 3 seconds or less.

    It is 16 unless another one is clearly faster, each by its best pass, so that noise decides little.
    """
    threads, before, end = torch.get_num_threads(), encoder.batch, time.perf_counter() + CALIBRATION
    black = encoder.prepare(Image.new("RGB", (encoder.size, encoder.size)))
    rates: dict[int, float] = {}
    torch.set_num_threads(1)  # as in `encode_files`
    try:
        for batch in BATCHES * ROUNDS:
            passes = 1 if batch in rates else 2  # the first pass of a shape is slower
            if rates and time.perf_counter() + passes * batch / max(rates.values()) > end:
                continue
            encoder.batch = batch
            for _ in range(passes):
                start = time.perf_counter()
                encoder.encode([black] * batch)
            rates[batch] = max(rates.get(batch, 0), batch / (time.perf_counter() - start))
    finally:
        encoder.batch = before
        torch.set_num_threads(threads)
    fastest = max(rates, key=lambda batch: rates[batch])
    return fastest if rates[fastest] > GAIN * rates[BATCH] else BATCH


def cpu_has_bf16() -> bool:
    """Whether the CPU computes in bf16; where it does not, torch takes five to ten times as long as in fp32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch's own compiler asks so


def pick_device(device: str, precision: "Dtype" = "fp32") -> str:
    """`auto` is the GPU if there is one and it computes with that precision.

    Raises:
        EncoderError: a GPU was asked for and there is none, or the device does not compute with that precision.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and precision != "int8" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderError("no CUDA device on this machine: leave --device out, or say --device cpu")
    if precision == "int8" and device != "cpu":
        raise EncoderError(f"int8 is computed by the CPU, not by {device}: say --device cpu, or --precision bf16")
    if precision == "fp16" and device == "cpu":
        raise EncoderError("the CPU has no fast fp16: say --precision bf16 or int8")
    if precision == "bf16" and device == "cpu" and not cpu_has_bf16():
        raise EncoderError("this CPU has no bf16, and would take longer than in fp32: leave the precision out")
    return device


def _side(image_processor: Any) -> int:
    size = image_processor.size
    return int(size.get("shortest_edge") or min(size["height"], size["width"]))


def fingerprint(model: nn.Module, image_processor: Any, precision: "Dtype" = "fp32") -> str:
    """SHA-256 of the vision tower's weights, the preprocessing and the precision: of comparable vectors it is equal."""
    digest = hashlib.sha256()
    tower = {
        name: value for name, value in model.state_dict().items() if name.startswith(("vision_model", "visual_proj"))
    }
    for name in sorted(tower):
        if not name.endswith("position_ids"):
            digest.update(name.encode())
            digest.update(tower[name].detach().float().cpu().contiguous().numpy().tobytes())
    fields = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_center_crop")
    preprocessing = {field: str(getattr(image_processor, field, None)) for field in fields}
    digest.update(json.dumps(preprocessing, sort_keys=True).encode())
    if precision != "fp32":
        digest.update(precision.encode())
    if precision == "int8":
        digest.update(bytes([BITS]))
    return digest.hexdigest()


def load_encoder(name: str, device: str = "auto", precision: "Dtype" = "fp32") -> ClipEncoder:
    """Load an encoder of images; only the vision tower of a checkpoint is read.

    Args:
        name: `builtin:tiny`, a hub id such as `openai/clip-vit-base-patch32`, or a folder with a CLIP checkpoint.
        device: `auto`, `cpu`, `cuda`.
        precision: of the computation; `int8` on CPUs, `fp16` on GPUs, `bf16` on GPUs and on CPUs that have AVX512-BF16
            or AMX. Measured for ViT-B/32 on one core with AVX512-BF16: 10.1 photos/s, in bf16 19.3, in int8 27.2.

    Raises:
        EncoderError: there is no such checkpoint, it is no CLIP, it has no safetensors weights, or the device cannot
            compute with that precision.
    """
    model, processor = _load(name, CLIPVisionModelWithProjection, CLIPImageProcessor)
    return ClipEncoder(name, model, processor, device, precision)


def load_clip(name: str) -> Clip:
    """Load a whole CLIP for training; names and errors as in `load_encoder`."""
    model, processor, tokenizer = _load(name, CLIPModel, CLIPImageProcessor, CLIPTokenizer)
    known, room = len(tokenizer), model.config.text_config.vocab_size
    if known < LEAST_VOCABULARY:
        raise EncoderError(f"{name} holds no tokenizer, which fine-tuning needs: save it beside the weights")
    if known > room:
        raise EncoderError(f"the tokenizer of {name} has {known} tokens, its model {room}: they do not belong together")
    return Clip(name, model, tokenizer, processor)


def _load(name: str, model: Any, *others: Any) -> list[Any]:
    if name == BUILTIN:
        return _from(str(CHECKPOINT), model, others, local=True)
    if name.startswith("builtin:"):
        raise EncoderError(f"there is no {name}: the encoder that neardup ships is {BUILTIN}")
    if _is_folder(name):
        return _from(name, model, others, local=True)
    try:
        return _from(name, model, others, local=True)  # a model that is in the cache needs no network
    except EncoderError:
        _reach_hub(name)
        return _from(name, model, others, local=False)


def _is_folder(name: str) -> bool:
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise EncoderError(f"the folder {name} holds no config.json: name a folder that save_pretrained wrote")
        return True
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EncoderError(f"there is no folder {name}: name a folder with a CLIP checkpoint, a hub id, or {BUILTIN}")
    return False


def _from(name: str, model: Any, others: Sequence[Any], *, local: bool) -> list[Any]:
    try:
        kind = AutoConfig.from_pretrained(name, local_files_only=local).model_type
        if kind not in {"clip", "clip_vision_model"}:
            raise EncoderError(f"{name} is a {kind} model, not a CLIP: name a CLIP checkpoint")
        options = {"local_files_only": local, "use_safetensors": True, "dtype": torch.float32}
        loaded, report = model.from_pretrained(name, **options, output_loading_info=True)
        if report["missing_keys"]:
            raise EncoderError(f"{name} lacks the weights {sorted(report['missing_keys'])[:3]}: it is no whole CLIP")
        return [loaded.eval(), *(other.from_pretrained(name, local_files_only=local) for other in others)]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, OSError) and "safetensors" in str(error):
            raise EncoderError(
                f"{name} has no model.safetensors: save it again with safe_serialization=True"
            ) from error
        raise EncoderError(f"{name} cannot be loaded ({str(error).splitlines()[0][:200]}); {_advice(name)}") from error


def _advice(name: str) -> str:
    if Path(name).is_dir():
        return "save model, image processor and tokenizer there with save_pretrained"
    return (
        f"get it on a machine with network with `hf download {name} --local-dir FOLDER` and say --encoder FOLDER, "
        f"or say --encoder {BUILTIN}, which needs nothing"
    )


def _reach_hub(name: str) -> None:
    """Fail in seconds where the hub is away; its own client would go on trying for minutes."""
    address = f"{constants.ENDPOINT}/api/models/{name}"
    try:
        if constants.HF_HUB_OFFLINE:
            raise EncoderError(f"{name} is not on this machine and HF_HUB_OFFLINE is set; {_advice(name)}")
        urlopen(Request(address, method="HEAD"), timeout=10).close()  # noqa: S310 - the hub's own https address
    except HTTPError as error:
        if error.code in {401, 404}:
            raise EncoderError(f"the model hub has no {name}: check the name, or say --encoder {BUILTIN}") from error
    except (URLError, OSError) as error:
        raise EncoderError(
            f"{name} is not on this machine and the model hub cannot be reached; {_advice(name)}"
        ) from error
