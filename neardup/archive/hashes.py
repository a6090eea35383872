"""Perceptual hashes: what a picture looks like, in 64 bits."""

import imagehash
import numpy as np
from PIL import Image


def photo_hash(image: Image.Image) -> str:
    """Perceptual hash (pHash, 64 bits, 16 hex digits) of a picture; few differing bits mean the same look."""
    return str(imagehash.phash(image))


def bits(hashes: list[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Hashes as uint64 (n,)."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def hash_distance(a: str, b: str) -> int:
    """Differing bits of two perceptual hashes, 0 to 64; lower is more alike."""
    return (int(a, 16) ^ int(b, 16)).bit_count()
