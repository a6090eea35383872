"""The plain paper or mount around a picture, told by rows of pixels that are of one tone."""

from dataclasses import dataclass

import numpy as np

from neardup.arrays import Vectors
from neardup.encode.screen import Grey

PLAIN = 6.0
"""Standard deviation in grey levels up to which a row at the edge is paper or mount."""
SAME_PAPER = 12.0
"""Grey levels by which the mean of a plain row may differ from that of the outermost row and still be its paper."""
LARGEST_BORDER = 0.25
"""Share of a side that may be cut from either end: a sky is no border."""
LEAST_SIDE = 32
"""Pixels of either side that must remain when borders are cut: less is a picture of nothing but paper."""
DEEPEST = 0.4
"""Share of a side up to which paper is looked for around a picture: a caption below it may take a third."""
STEP = 3
"""Pixels inside of the paper's edge in which the picture's tone must differ from that of the paper."""
STEPPING = 0.65
"""Share of the pixels along the paper's edge that must differ; the rest may have the paper's tone by chance."""


@dataclass(frozen=True)
class Paper:
    """Paper that ends with a straight step in tone on one side of a picture.

    Attributes:
        width: pixels from the edge of the photo to that of the picture, lines of text between both included.
        tone: grey level, 0 to 255.
    """

    width: int
    tone: float


def without_borders(grey: Grey) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a picture without the plain paper or mount around it.

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
    """Paper on the left, above, on the right and below of a picture; None for each side on which there may be none.

    A row of one tone may also be a sky or a sea: what this finds is paper only where another photo goes on.

    Args:
        grey: uint8 (h, w).
    """
    levels = grey.astype(np.float32)
    above, below = _paper(levels), _paper(levels[::-1])
    between = levels[above.width if above else 0 : len(levels) - (below.width if below else 0)].T
    return _paper(between), above, _paper(between[::-1]), below


def _paper(rows: Vectors) -> Paper | None:
    """Paper from the first of some rows, float32 (h, w), to the last one that has the tone of the first plain one."""
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
