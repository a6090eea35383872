"""Encoding and training ViT-B/32 on a GPU, in each number format, with and without torch.compile."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from encoding import decoded_whole, random_checkpoint
from jpegs import SMALL, made_jpegs
from rates import Measured, measured
from training import BATCH, by_neardup, training_files
from transformers import CLIPConfig

from neardup.arrays import Vectors
from neardup.encode.encoder import fastest_batch, load_encoder
from neardup.encode.files import encode_files

if TYPE_CHECKING:
    from neardup.settings.schema import Dtype

PHOTOS = 1024
"""JPEG files in one pass of encoding: a few seconds of a GPU."""
DTYPES: tuple["Dtype", ...] = ("fp32", "bf16", "fp16")
"""Number formats that a GPU encodes in."""
WAYS = (
    ("fp32", {"precision": "fp32"}),
    ("bf16", {"precision": "bf16"}),
    ("bf16, compiled", {"precision": "bf16", "compiled": True}),
)
"""Ways to train, and what each changes in the recipe."""


def measure_gpu(photos: Path, work: Path) -> list[Measured]:
    """Measure encoding from files, all cores decoding, and a training step; nothing where there is no GPU.

    Args:
        photos: folder with images/.
        work: what is made on the way goes there and is not made again.
    """
    if not torch.cuda.is_available():
        return []
    folder = str(random_checkpoint(work / "vit-b-32", CLIPConfig()))
    paths = made_jpegs(photos, work / "jpegs", PHOTOS, SMALL)
    reference = decoded_whole(folder, paths)
    task = f"ViT-B/32 on a GPU from JPEG files of {SMALL[0]} × {SMALL[1]}"
    found = [
        measured(task, _name(dtype, compiled), "photos", len(paths), encode, folder, paths, dtype, compiled, reference)
        for dtype in DTYPES
        for compiled in (False, True)
    ]
    task = f"a step of {BATCH} photos and captions, ViT-B/32, on a GPU"
    files = training_files(photos)
    return found + [measured(task, f"neardup, {name}", "photos", BATCH, train, files, ways) for name, ways in WAYS]


def _name(dtype: str, compiled: bool) -> str:  # noqa: FBT001 - it is the only one
    """What a way to encode is called in the table."""
    return f"neardup, {dtype}{', compiled' * compiled}"


def encode(
    folder: str,
    paths: Sequence[Path],
    dtype: "Dtype",
    compiled: bool,  # noqa: FBT001 - handed on by position
    reference: Vectors,
) -> Callable[[], object]:
    """Our pipeline on the GPU; its note says how near the vectors are to those in fp32 of the CPU."""
    encoder = load_encoder(folder, "cuda", dtype, compiled=compiled)
    encoder.batch = fastest_batch(encoder)

    def work() -> str:
        vectors = np.stack([vector for _, vector in encode_files(encoder, paths) if isinstance(vector, np.ndarray)])
        least = float((vectors * reference).sum(axis=1).min())
        return f"batch {encoder.batch}, cosine to fp32 of the CPU: at least {least:.5f}, {_memory()}"

    return work


def train(files: Sequence[Path], changes: dict[str, object]) -> Callable[[], object]:
    """A step of `train` on the GPU."""
    step = by_neardup(files, changes, "cuda")

    def work() -> str:
        loss = step()
        torch.cuda.synchronize()
        return f"{loss}, {_memory()}"

    return work


def _memory() -> str:
    """The most memory of the GPU that this process held, in words."""
    return f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB on the GPU"
