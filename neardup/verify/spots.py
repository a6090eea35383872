"""Places where two photos that lie on each other differ: spots of great apparent shift, and their boxes."""

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.evidence import Box
from neardup.verify.frames import Size
from neardup.verify.samples import median_of, quantiles

SPOT = 0.03
"""Standard deviation, as a share of the longer side, of the window in which differences add up to a spot."""
SPREAD = 0.15
"""Pixels added to a pair's spread of apparent shifts; without them, any noise of a perfect fit would be a spot."""
SIGNIFICANT = 2.2
"""Significance, in spreads above a pair's median, from which a spot is reported.

Of 300 press copies of held-out photos without retouch or scratch, 91 % have no spot. Of 100 that were retouched before
they were copied, 79 % of paper boxes, 81 % of black ones, 54 % of soft patches and 67 % of repairs are found, where
those that a crop lost count as missed.
"""
VISIBLE = 6.0
"""Mean difference in grey levels below which a spot is invisible and not reported, as it may be in an even sky."""
STANDS_OUT = 2.5
"""Least mean difference of a reported spot, as a multiple of the level that `NEARLY_ALL` of the other pixels are below.

Two exposures of a scene differ everywhere. Of 153 known copies whose retouch, stamp, patch or torn corner was found
without this limit, 146 keep it: five faint corners and two patches on another exposure are lost. Of 89 pairs of
exposures, 14 have a box, and 69 without this limit.
"""
NEARLY_ALL = 0.9
"""Share of the pixels outside of the spots whose differences count as usual for a pair."""
MOST_BOXES = 5
"""Most places of one pair that are reported: more mean another picture or print, not a retouch."""


def spots_of(shifts: Vectors, levels: Vectors, overlap: Bools, size: Size) -> list[tuple[float, Box]]:
    """Find the significant spots that are visible and stand out, the most significant first.

    Args:
        shifts: float32 (h, w), apparent shift of each pixel, 0 or more.
        levels: float32 (h, w), difference of each pixel in grey levels.
        overlap: bool (h, w), where both photos show something.
        size: width and height of the first photo.

    Returns:
        For each spot, its significance (in spreads above the pair's median shift) and its box in full pixels.
    """
    weights = overlap.astype(np.float32)
    blur = SPOT * max(overlap.shape)
    sums = cv2.GaussianBlur(shifts * weights, (0, 0), blur) / (cv2.GaussianBlur(weights, (0, 0), blur) + 0.2)
    median = median_of(sums[overlap])
    spread = 1.48 * median_of(np.abs(sums[overlap] - median)) + SPREAD
    scores = np.where(overlap, (sums - median) / spread, 0)
    scale = np.array(size) / scores.shape[::-1]
    spots: list[tuple[float, Bools, Box]] = []
    elsewhere = overlap.copy()
    while len(spots) < MOST_BOXES and scores.max() > SIGNIFICANT:
        peak, (spot, box) = float(scores.max()), _cut_out(scores, scale)
        elsewhere &= ~spot
        # A box that overlaps an earlier one holds the rest of that spot and is not a second place.
        if not any(_overlap(box, other) for *_, other in spots):
            spots.append((peak, spot, box))
    differences = np.abs(levels)
    usual = quantiles(differences[elsewhere], np.array([NEARLY_ALL]))[0] if elsewhere.any() else 0.0
    least = max(VISIBLE, STANDS_OUT * usual)
    return [(peak, box) for peak, spot, box in spots if differences[spot].mean() >= least]


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have more in common than a corner: a fifth of the smaller one."""
    across, down = (
        max(0.0, min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis]))
        for axis in (0, 1)
    )
    return across * down > min(one[2] * one[3], other[2] * other[3]) / 5


def _cut_out(scores: Floats, scale: Floats) -> tuple[Bools, Box]:
    """Cut the strongest spot, down to half its height, out of the scores in place; return its pixels and its box."""
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    limit = max(SIGNIFICANT / 2, scores[row, column] / 2)
    _, labels = cv2.connectedComponents((scores > limit).astype(np.uint8))
    spot = labels == labels[row, column]
    left, top, width, height = cv2.boundingRect(spot.astype(np.uint8))
    scores[cv2.dilate(spot.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 0
    box = float(left * scale[0]), float(top * scale[1]), float(width * scale[0]), float(height * scale[1])
    return spot, box
