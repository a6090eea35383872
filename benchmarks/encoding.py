"""How many JPEG files a second become vectors on one core and on two, beside what the peers' own documentation does."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jpegs import SCAN, SMALL, made_jpegs
from PIL import Image
from rates import Measured, measured
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionModelWithProjection

from neardup.arrays import Vectors
from neardup.encode.encoder import BATCH, BUILTIN, CHECKPOINT, cpu_has_bf16, load_encoder
from neardup.encode.files import encode_files
from neardup.images import read_image
from neardup.settings.schema import Dtype

PHOTOS = 64
"""JPEG files in one pass."""
PASSES = 2
"""Passes that are clocked: each takes up to half a minute."""
CORES = 2
"""Cores of this machine that are measured, together and one of them alone."""
DTYPES: tuple[Dtype, ...] = ("fp32", *(("bf16",) if cpu_has_bf16() else ()), "int8")
"""Number formats that are measured: those that this CPU computes in."""
Work = Callable[[], object]
"""Encodes all files once; a text that it returns becomes the note."""


class Pictures(Dataset[torch.Tensor]):
    """Files as the documentation of transformers and of open_clip reads them: decoded whole, then prepared."""

    def __init__(self, paths: Sequence[Path], prepare: Callable[[Image.Image], torch.Tensor]) -> None:
        """Take files and what prepares a picture: float32 (3, height, width)."""
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        """One prepared picture."""
        return self.prepare(Image.open(self.paths[row]).convert("RGB"))


class Processed:
    """An image processor that takes one picture; a class, so that it travels to the loader's processes."""

    def __init__(self, folder: Path) -> None:
        """Read the image processor of a checkpoint."""
        self.processor: Any = CLIPImageProcessor.from_pretrained(folder)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The normalised pixels: float32 (3, height, width)."""
        pixels: torch.Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels


def measure_encoding(photos: Path, work: Path) -> list[Measured]:
    """Measure ViT-B/32 with random weights and the encoder that neardup ships, in about 20 minutes on two cores.

    Args:
        photos: folder with images/.
        work: what is made on the way goes there and is not made again.
    """
    folder = random_checkpoint(work / "vit-b-32", CLIPConfig())
    for name in (str(folder), BUILTIN):
        load_encoder(name, "cpu", "int8")  # quantised once and kept, so that nobody's memory counts it
    found: list[Measured] = []
    for size in (SMALL, SCAN):
        paths = made_jpegs(photos, work / "jpegs", PHOTOS, size)
        reference = decoded_whole(str(folder), paths)
        for cores in range(1, min(CORES, len(os.sched_getaffinity(0))) + 1):
            task = f"ViT-B/32 from JPEG files of {size[0]} × {size[1]}, {cores} core{'s' * (cores > 1)}"
            rate = partial(_rate, task, cores)
            found += [rate(f"neardup, {one}", ours, str(folder), paths, one, reference) for one in DTYPES]
            found += [
                rate("the vision tower alone, its pixels ready", tower, folder),
                rate("transformers, a photo at a time", notebook, folder, paths),
                rate("transformers, DataLoader", batched, folder, paths),
                rate("open_clip, DataLoader", by_open_clip, paths),
                rate("imagededup, the same encoder", by_imagededup, folder, paths),
            ]
        rate = partial(_rate, f"{BUILTIN} from JPEG files of {size[0]} × {size[1]}, 1 core", 1)
        reference = decoded_whole(BUILTIN, paths)
        found += [rate(f"neardup, {one}", ours, BUILTIN, paths, one, reference) for one in DTYPES]
        found.append(rate("transformers, a photo at a time", notebook, CHECKPOINT, paths))
    return found


def _rate(task: str, cores: int, method: str, make: Callable[..., Work], *inputs: Any) -> Measured:
    """Clock one method on so many cores."""
    return measured(task, method, "photos", PHOTOS, on_cores, cores, make, *inputs, passes=PASSES)


def on_cores(cores: int, make: Callable[..., Work], *inputs: Any) -> Work:
    """Keep this process, and those that it starts, on so many cores: a loader's process would else be one more."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-cores:]))
    torch.set_num_threads(cores)
    return make(*inputs)


def random_checkpoint(folder: Path, config: CLIPConfig) -> Path:
    """A CLIP with random weights, as `save_pretrained` writes it; its last file says that it is whole."""
    if not (folder / "preprocessor_config.json").is_file():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessor().save_pretrained(folder)
    return folder


def decoded_whole(name: str, paths: Sequence[Path]) -> Vectors:
    """The vectors in fp32 of files that are decoded at their full size: float32 (n, d)."""
    return load_encoder(name, "cpu").encode([read_image(path) for path in paths])


def ours(name: str, paths: Sequence[Path], dtype: Dtype, reference: Vectors) -> Work:
    """Our pipeline; its note says how near the vectors are to those in fp32 of whole decoding."""
    encoder = load_encoder(name, "cpu", dtype)

    def work() -> str:
        vectors = np.stack([vector for _, vector in encode_files(encoder, paths) if isinstance(vector, np.ndarray)])
        least = float((vectors * reference).sum(axis=1).min())
        return f"cosine to fp32 after full decoding: at least {least:.5f}"

    return work


def tower(folder: Path) -> Work:
    """The limit: batches that are ready go through the tower, and nothing else is done."""
    model: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = torch.randn(BATCH, 3, 224, 224)

    @torch.inference_mode()
    def work() -> None:
        for _ in range(PHOTOS // BATCH):
            model(pixel_values=pixels)

    return work


def notebook(folder: Path, paths: Sequence[Path]) -> Work:
    """One photo after the other, as the model card of CLIP does it."""
    model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    pictures = Pictures(paths, Processed(folder))

    @torch.inference_mode()
    def work() -> None:
        for row in range(len(pictures)):
            model.get_image_features(pixel_values=pictures[row][None])

    return work


def batched(folder: Path, paths: Sequence[Path]) -> Work:
    """Batches of a DataLoader whose processes, one a core, decode beside the model."""
    model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return _over(Pictures(paths, Processed(folder)), lambda pixels: model.get_image_features(pixel_values=pixels))


def by_open_clip(paths: Sequence[Path]) -> Work:
    """The same of open_clip, with its own transform; its weights are random too."""
    import open_clip  # noqa: PLC0415 - here only, or the memory of the others would count it

    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    return _over(Pictures(paths, transform), model.eval().encode_image)


def by_imagededup(folder: Path, paths: Sequence[Path]) -> Work:
    """A folder by imagededup, whose encoder is replaced as its documentation says; its own is a download."""
    from imagededup.methods import CNN  # noqa: PLC0415 - as above
    from imagededup.utils import CustomModel  # noqa: PLC0415

    model: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    holding = TemporaryDirectory()
    for path in paths:
        (Path(holding.name) / path.name).symlink_to(path.resolve())
    finder = CNN(verbose=False, model_config=CustomModel("ViT-B/32", _Features(model), Processed(folder)))

    def work() -> None:
        finder.encode_images(holding.name)

    return work


class _Features(torch.nn.Module):
    """The vectors alone, as imagededup takes them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model(pixel_values=pixels).image_embeds
        return vectors


def _over(pictures: Pictures, encode: Callable[[torch.Tensor], object]) -> Work:
    """Encode the batches of a DataLoader."""
    # Its processes live on from the pass that is not counted.
    loader = DataLoader(pictures, batch_size=BATCH, num_workers=torch.get_num_threads(), persistent_workers=True)

    @torch.inference_mode()
    def work() -> None:
        for pixels in loader:
            encode(pixels)

    return work
