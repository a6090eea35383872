"""The printing screen that people are told about: seen in a photo's spectrum, and confirmed by parts of the picture.

The encoder blurs whatever may be a screen, which does little harm where there is none. What people are told must be
true: lines of even text and rows of equal helmets have spectral peaks at a right angle too.
"""

import cv2
import numpy as np

from neardup.arrays import Floats
from neardup.encode.screen import PEAK, SHORTEST_PERIOD, TILE, Grey, pairs_of_peaks

PART = 64
"""Side in pixels of the parts that confirm a screen: seven of its longest periods, and lower than many a caption."""
DOMINANT = 25.0
"""Power of the weaker of a screen's two waves, relative to the mean of all finer waves in a part, that proves it.

Pages of text have at most 21, rows of helmets 12; drawn screens of 2.6 to 8.5 pixels at least 134, alone and on pages
of text, and 121 of 123 portraits that came with their screen 25 and more.
"""
BEST_PARTS = 0.1
"""Share of the parts whose mean is compared with `DOMINANT`: a print may be a tenth of its page."""
FINER = 0.85
"""Multiple of a screen's frequency above which waves count as finer: edges of the subject are coarser, and stronger."""

BESIDE = (0.6, 1.5)
"""Multiples of a wave's frequency, in its own direction, at which a screen has no power: two bins of a part away."""
ISOLATED = 2.0
"""Power of a wave, relative to the greater of those at `BESIDE`, from which it is a peak and not the slope of an edge.

The edges of a photo that lies askew on white are straight and at a right angle too, but less strong the finer the
waves: of 120 drawn photos a kind, those that passed for screened have at most 0.5; of 40 screens a kind, of 2.7 to 8.4
pixels, nine in ten have 7 and more.
"""


def certain_screen_period(grey: Grey) -> float:
    """Measure the distance between a screen's dots, if they stand out from everything else that is as fine.

    Args:
        grey: uint8 (h, w), at a size at which the dots are still there, as for `screen_period`.

    Returns:
        Pixels of `grey` from one line of dots to the next; 0 where the picture shows no screen for certain.
    """
    pairs = pairs_of_peaks(grey)
    if pairs is None:
        return 0.0
    # A screen has peaks at its diagonals and multiples too, which may stand out more but have less power.
    strongest = np.where(pairs.prominence >= np.log(PEAK), pairs.power, -np.inf).argmax()
    down, across = (int(place) - TILE // 2 for place in divmod(int(strongest), TILE))
    dominances = np.sort(_dominances(grey, down / TILE, across / TILE))
    if dominances[-max(1, round(BEST_PARTS * len(dominances))) :].mean() < DOMINANT:
        return 0.0
    return float(TILE / np.hypot(down, across))


def _dominances(grey: Grey, down: float, across: float) -> Floats:
    """Factor by which the weaker of two waves at a right angle stands out in each part of a picture: float64 (n,).

    It is 0 where one of them is no peak.

    Args:
        grey: uint8 (h, w).
        down: cycles per pixel of the first wave, from top to bottom.
        across: cycles per pixel of the first wave, from left to right.
    """
    side = min(PART, *grey.shape)
    rows, columns = (range(0, length - side + 1, side) for length in grey.shape)
    parts = np.stack([grey[top : top + side, left : left + side] for top in rows for left in columns])
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    powers = np.abs(np.fft.fft2((parts - parts.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    finer = (frequencies > FINER * np.hypot(down, across)) & (frequencies < 1 / SHORTEST_PERIOD)

    def power(wave: tuple[float, float], multiple: float = 1.0) -> Floats:
        near = [(round(cycles * multiple * side) + np.arange(-1, 2)) % side for cycles in wave]
        return np.asarray(powers[:, near[0][:, None], near[1]].max(axis=(1, 2)))

    def peak(wave: tuple[float, float]) -> Floats:
        beside = np.maximum(*(power(wave, multiple) for multiple in BESIDE))
        return np.where(power(wave) >= ISOLATED * beside, power(wave), 0.0)

    weaker = np.minimum(peak((down, across)), peak((-across, down)))
    return np.asarray(weaker / (powers[:, finer].mean(axis=1) + 1.0))
