"""What the rest of neardup needs of an encoder, so that a user or a test can hand in another one."""

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
"""Images in one pass, where nothing else was measured."""


def checkpoint_folder(name: str) -> Path:
    """The folder of an encoder's checkpoint; of what is no folder's name, such as a hub id, one that is not there."""
    return CHECKPOINT if name == BUILTIN else Path(name)


def require_finite(name: str, vectors: Vectors) -> None:
    """Refuse vectors that are not finite.

    Args:
        name: of the encoder that gave them.
        vectors: float32 (n, d).

    Raises:
        EncoderError: a number of theirs is infinite or none.
    """
    if not np.isfinite(vectors).all():
        raise EncoderError(f"{name} gives vectors that are not finite: its weights are broken, take another one")


class Encoder(Protocol):
    """What turns photos into vectors of one kind: vectors of equal fingerprints may be compared, others never."""

    name: str
    fingerprint: str
    dimension: int

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Any:
        """Decode an image to what `encode` takes."""

    def encode(self, images: Sequence[Any]) -> Vectors:
        """Encode images: float32 (n, d), unit rows; the dot product is the similarity, higher is more alike."""


@runtime_checkable
class BatchEncoder(Encoder, Protocol):
    """An encoder whose passes have a fixed number of images, which may be set to what suits the machine."""

    batch: int

    @property
    def size(self) -> int:
        """The shortest side that is needed of a photo, in pixels."""
