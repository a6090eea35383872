"""The protocols of encoders, which let a user or a test pass in another one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neardup.arrays import Vectors
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS

BUILTIN = "builtin:tiny"
"""Name of the encoder that neardup ships."""
CHECKPOINT = Path(__file__).parents[1] / "builtin" / "checkpoint"
"""Folder of the encoder that neardup ships, a plain checkpoint of transformers; its README says how it was made."""
BATCH = 16
"""Default number of images in one pass."""


def checkpoint_folder(name: str) -> Path:
    """Return the folder of an encoder's checkpoint; for other names, such as a hub id, a path that does not exist."""
    return CHECKPOINT if name == BUILTIN else Path(name)


def require_finite(name: str, vectors: Vectors) -> None:
    """Raise an error if vectors are not finite.

    Args:
        name: name of the encoder that made them.
        vectors: float32 (n, d).

    Raises:
        EncoderError: a number is infinite or NaN.
    """
    if not np.isfinite(vectors).all():
        raise EncoderError(f"{name} gives vectors that are not finite: its weights are broken, take another one")


class Encoder(Protocol):
    """Turns photos into vectors: only vectors of equal fingerprints may be compared."""

    name: str
    fingerprint: str
    dimension: int

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Any:
        """Decode an image into what `encode` takes."""

    def encode(self, images: Sequence[Any]) -> Vectors:
        """Encode images: float32 (n, d), unit rows; the dot product is the similarity, higher is more alike."""


@runtime_checkable
class BatchEncoder(Encoder, Protocol):
    """An encoder whose passes have a fixed number of images, which may be set to suit the machine."""

    batch: int

    @property
    def size(self) -> int:
        """The shortest side of a photo that is needed, in pixels."""
