"""What the encoder is compared with, as far as it makes vectors: each peer is an `Encoder`, so `embed` runs them all.

opencv and pdqhash belong to the dependency group `bench`; only the methods that need them ask for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import imagehash
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from neardup.arrays import Floats, Vectors
from neardup.encode.encoder import ClipEncoder, Encoder
from neardup.encode.vectors import embed_photos
from neardup.errors import ConfigError
from neardup.images import MAX_PIXELS, read_image
from neardup.stages import digest_file, digest_of

STEP = 1
"""Bumped when a peer gives other vectors or similarities for equal photos."""
SIDE = 256
"""Shortest side that a peer needs: a larger JPEG is decoded at a fraction, as for the encoders."""
LEVELS = 8


def needed(module: str) -> ModuleType:
    """Import a module of the dependency group `bench`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the Python package {module} is not installed: `make bench` installs it") from error


@dataclass(frozen=True)
class Photos:
    """Image files with their identities.

    Attributes:
        root: their folder.
        items: (path relative to `root`, SHA-256) of each photo, as `embed` takes them.
    """

    root: Path
    items: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, root: Path, paths: Sequence[Path]) -> "Photos":
        """Files below a folder."""
        return cls(root, tuple((path.relative_to(root).as_posix(), digest_file(path)) for path in paths))

    @property
    def paths(self) -> list[Path]:
        """Where each lies."""
        return [self.root / path for path, _ in self.items]

    def take(self, indices: Sequence[int]) -> "Photos":
        """Some of the photos, in that order."""
        return Photos(self.root, tuple(self.items[index] for index in indices))


class Method(Protocol):
    """What tells how alike photos are."""

    name: str

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g); higher is more alike."""

    def describe(self, paths: Sequence[Path]) -> object:
        """Read files and make of each what is compared: the work that an archive costs once a photo."""


@dataclass
class Peer:
    """An encoder that is one function.

    Attributes:
        name: shown to people.
        dimension: of its vectors.
        vector: RGB image → float32 (dimension,), of length 1.
        fingerprint: of name and `STEP`.
    """

    name: str
    dimension: int
    vector: Callable[[Image.Image], Vectors]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        """Vectors of an older step are not mixed with these."""
        self.fingerprint = digest_of("peer", STEP, self.name)

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image, a large JPEG at a fraction of its size."""
        return read_image(source, max_pixels=max_pixels, draft=SIDE)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Encode RGB images: float32 (n, d), unit rows; higher dot product is more alike."""
        return np.stack([self.vector(image) for image in images])


def unit_bits(bits: npt.NDArray[np.bool_]) -> Vectors:
    """A hash as a vector whose dot products order as the Hamming distances: ±1 / √n each, float32 (n,).

    >>> unit_bits(np.array([True, False, True, True])).tolist()
    [0.5, -0.5, 0.5, 0.5]
    """
    signs = np.where(bits.ravel(), 1.0, -1.0)
    return np.asarray(signs / np.sqrt(bits.size), dtype=np.float32)


def colours(image: Image.Image) -> Vectors:
    """Square roots of the shares of 8 × 8 × 8 colours: the dot product is the Bhattacharyya coefficient, 0 to 1."""
    levels = np.asarray(image, dtype=np.int64).reshape(-1, 3) * LEVELS // 256
    counts = np.bincount(levels @ np.array([LEVELS * LEVELS, LEVELS, 1]), minlength=LEVELS**3)
    return np.asarray(np.sqrt(counts / counts.sum()), dtype=np.float32)


def phash() -> Peer:
    """DCT hash of imagehash, 64 bits."""
    return Peer("pHash", 64, lambda image: unit_bits(imagehash.phash(image).hash))


def dhash() -> Peer:
    """Gradient hash of imagehash, 64 bits."""
    return Peer("dHash", 64, lambda image: unit_bits(imagehash.dhash(image).hash))


def pdq() -> Peer:
    """PDQ, 256 bits."""
    compute = needed("pdqhash").compute
    return Peer("PDQ", 256, lambda image: unit_bits(compute(np.asarray(image))[0] > 0))


def colour_histogram() -> Peer:
    """Which colours a photo has, and nothing of where."""
    return Peer("colour histogram", LEVELS**3, colours)


def random_clip(seed: int = 0) -> ClipEncoder:
    """CLIP's ViT-B/32 that has learnt nothing: what the architecture alone gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # The configuration's defaults are ViT-B/32, projected to 512.
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512))
    return ClipEncoder("random ViT-B/32", model, CLIPImageProcessor(), "cpu")


@dataclass
class ByVector:
    """An encoder's dot products.

    Attributes:
        encoder: what encodes.
        store: folder of vectors, kept between runs.
        name: shown to people.
    """

    encoder: Encoder
    store: Path
    name: str

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g), -1 to 1."""
        left, right = (self._vectors(photos).astype(np.float64) for photos in (queries, gallery))
        return np.asarray(left @ right.T)

    def describe(self, paths: Sequence[Path]) -> Vectors:
        """Read and encode."""
        return self.encoder.encode([self.encoder.read(path) for path in paths])

    def _vectors(self, photos: Photos) -> Vectors:
        return embed_photos(photos.items, photos.root, self.encoder, store=self.store).vectors
