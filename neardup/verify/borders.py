"""The plain paper or mount around a picture, recognised by rows of pixels of one tone."""

from dataclasses import dataclass

import numpy as np

from neardup.arrays import Vectors
from neardup.encode.screen import Grey

PLAIN = 6.0
"""Standard deviation in grey levels up to which a row at the edge is paper or mount."""
SAME_PAPER = 12.0
"""Grey levels by which the mean of a plain row may differ from that of the outermost row and still be its paper."""
LARGEST_BORDER = 0.25
"""Share of a side that may be cut from either end at most: a larger plain area may be a sky, which is no border."""
LEAST_SIDE = 32
"""Pixels that must remain of each side once borders are cut: less would be a picture of nothing but paper."""
DEEPEST = 0.4
"""Share of a side within which paper around a picture is looked for: a caption below the picture may take a third."""
STEP = 3
"""Pixels inward from the paper's edge within which the picture's tone must differ from the paper's."""
STEPPING = 0.65
"""Share of the pixels along the paper's edge that must differ; the rest may have the paper's tone by chance."""


@dataclass(frozen=True)
class Paper:
    """Paper that ends with a straight step in tone on one side of a picture.

    Attributes:
        width: pixels from the edge of the photo to the edge of the picture, including any lines of text between them.
        tone: grey level, 0 to 255.
    """

    width: int
    tone: float


def without_borders(grey: Grey) -> tuple[int, int, int, int]:
    """Find the left, top, right and bottom of a picture without the plain paper or mount around it, in pixels.

    Args:
        grey: uint8 (h, w).
    """
    height, width = grey.shape
    levels = grey.astype(np.float32)
    top, bottom = _border(levels), height - _border(levels[::-1])
    columns = levels[top:bottom].T if bottom - top >= LEAST_SIDE else levels.T
    left, right = _border(columns), width - _border(columns[::-1])
    if bottom - top < LEAST_SIDE or right - left < LEAST_SIDE:
        return 0, 0, width, height
    return left, top, right, bottom


def _border(rows: Vectors) -> int:
    """How many of the first rows, float32 (h, w), are plain."""
    head = rows[: int(len(rows) * LARGEST_BORDER)]
    if not head.size:
        return 0
    means = head.mean(axis=1)
    plain = (head.std(axis=1) < PLAIN) & (np.abs(means - means[0]) < SAME_PAPER)
    return len(plain) if plain.all() else int(plain.argmin())


def paper_around(grey: Grey) -> tuple[Paper | None, Paper | None, Paper | None, Paper | None]:
    """Find the paper to the left of, above, to the right of and below a picture; None for a side without any.

    Rows of one tone may also be sky or sea: what is found is surely paper only where another photo of the picture goes
    on beyond it.

    Args:
        grey: uint8 (h, w).
    """
    levels = grey.astype(np.float32)
    above, below = _paper(levels), _paper(levels[::-1])
    between = levels[above.width if above else 0 : len(levels) - (below.width if below else 0)].T
    return _paper(between), above, _paper(between[::-1]), below


def _paper(rows: Vectors) -> Paper | None:
    """Find the paper at the beginning of rows, float32 (h, w): to the last row of the first plain row's tone."""
    head = rows[: int(len(rows) * DEEPEST)]
    if not head.size:
        return None
    means, plain = head.mean(axis=1), head.std(axis=1) < PLAIN
    if not plain.any():
        return None
    tone = means[plain.argmax()]
    width = 1 + int(np.flatnonzero(plain & (np.abs(means - tone) < SAME_PAPER))[-1])
    steps = np.abs(rows[width : width + STEP] - tone).max(axis=0)
    return Paper(width, float(tone)) if (steps > SAME_PAPER).mean() > STEPPING else None
