"""The printing screen that is told of a photo: seen in its spectrum, and borne out by the parts of the picture.

The encoder blurs what may be a screen, which harms little where it is none. What is said to people must be true: lines
of equal text and rows of equal helmets have peaks at a right angle too.
"""

import cv2
import numpy as np

from neardup.arrays import Floats
from neardup.encode.screen import PEAK, SHORTEST_PERIOD, TILE, Grey, pairs_of_peaks

PART = 64
"""Side in pixels of the parts that bear a screen out: seven of its longest periods, and lower than many a caption."""
DOMINANT = 25.0
"""Power of a screen's waves, of the weaker one, by the mean power of all finer waves in a part, from which it is sure.

Pages of text have at most 21, rows of helmets 12; drawn screens of 2.6 to 8.5 pixels at least 134, alone and on pages
of text, and 121 of 123 portraits that came with their screen 25 and more.
"""
BEST_PARTS = 0.1
"""Share of the parts whose mean is compared with `DOMINANT`: a print may be a tenth of its page."""
FINER = 0.85
"""Frequency by a screen's own above which waves count as finer; edges of the subject are coarser, and stronger."""


def told_screen_period(grey: Grey) -> float:
    """The distance of a screen's dots, where they stand out from all else that is as fine.

    Args:
        grey: uint8 (h, w), at a size at which the dots are still there, as for `screen_period`.

    Returns:
        Pixels of `grey` from one line of dots to the next; 0 where the picture shows no screen for certain.
    """
    pairs = pairs_of_peaks(grey)
    if pairs is None:
        return 0.0
    # A screen has peaks at its diagonals and multiples too, which may stand out more, but have less power.
    strongest = np.where(pairs.prominence >= np.log(PEAK), pairs.power, -np.inf).argmax()
    down, across = (int(place) - TILE // 2 for place in divmod(int(strongest), TILE))
    dominances = np.sort(_dominances(grey, down / TILE, across / TILE))
    if dominances[-max(1, round(BEST_PARTS * len(dominances))) :].mean() < DOMINANT:
        return 0.0
    return float(TILE / np.hypot(down, across))


def _dominances(grey: Grey, down: float, across: float) -> Floats:
    """How far the weaker of a wave and that at a right angle stands out in each part of a picture: float64 (n,).

    Args:
        grey: uint8 (h, w).
        down: cycles of the wave in a pixel from top to bottom.
        across: its cycles in a pixel from left to right.
    """
    side = min(PART, *grey.shape)
    rows, columns = (range(0, length - side + 1, side) for length in grey.shape)
    parts = np.stack([grey[top : top + side, left : left + side] for top in rows for left in columns])
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    powers = np.abs(np.fft.fft2((parts - parts.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    finer = (frequencies > FINER * np.hypot(down, across)) & (frequencies < 1 / SHORTEST_PERIOD)

    def power(*wave: float) -> Floats:
        near = [(round(cycles * side) + np.arange(-1, 2)) % side for cycles in wave]
        return np.asarray(powers[:, near[0][:, None], near[1]].max(axis=(1, 2)))

    weaker = np.minimum(power(down, across), power(-across, down))
    return np.asarray(weaker / (powers[:, finer].mean(axis=1) + 1.0))
