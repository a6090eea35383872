"""Perceptual hashes: what a picture looks like, in 64 bits."""

import imagehash
import numpy as np
from PIL import Image


def phash_of(image: Image.Image) -> str:
    """Compute a picture's perceptual hash (pHash), 64 bits as 16 hex digits; few bits differ if two look alike."""
    return str(imagehash.phash(image))


def phash_bits(phashes: list[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Convert perceptual hashes of 16 hex digits to numbers, uint64 (n,), whose differing bits can be counted."""
    return np.array([int(text, 16) for text in phashes], dtype=np.uint64)
