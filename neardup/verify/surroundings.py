"""What a photo shows around the part that it shares with another one: plain paper, or more of a picture."""

import cv2
import numpy as np

from neardup.arrays import Floats
from neardup.verify.evidence import Transform
from neardup.verify.frames import inverse, outline
from neardup.verify.pixels import GreyPhoto, factors_of

TONES = 16
"""Width in grey levels of what counts as one tone: paper has grain, and yellows unevenly.

With `relation.MOSTLY_PLAIN`, 74 of 75 known mounts are called plain, none of 26 printed pages, and 5 of 101 crops.
"""
LEAST_AROUND = 100
"""Pixels of a small photo (`GreyPhoto`) below which the surroundings of the common part say nothing."""
MISFIT = 0.01
"""Share of the longer side by which the common part is widened, as its outline may be off by a pixel or two."""


def plainness(first: GreyPhoto, second: GreyPhoto, transform: Transform) -> tuple[float, float]:
    """Measure how plain each of two photos is where the other one shows nothing.

    Args:
        first: the first photo.
        second: the second photo.
        transform: full pixels of the first photo to those of the second.

    Returns:
        For the first and for the second photo, the greatest share with one tone in the part that the other does not
        show, 0 to 1; 0 where the other photo shows nearly all of it.
    """
    in_first, in_second = outline(transform, second.size), outline(inverse(transform), first.size)
    return _of_one_tone(first, in_first), _of_one_tone(second, in_second)


def _of_one_tone(photo: GreyPhoto, common: Floats | None) -> float:
    """Share of the area outside of four corners, float64 (4, 2) in full pixels, that has its most frequent tone."""
    if common is None:
        return 0.0
    height, width = photo.grey.shape
    corners = np.clip(common * factors_of(photo.grey, photo.size), -10 * max(width, height), 10 * max(width, height))
    inside = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(inside, corners.round().astype(np.int32), 1)
    side = 2 * round(MISFIT * max(width, height)) + 1
    grain = 2 * max(1, round(photo.screen * width / photo.size[0])) + 1  # wider than the dots of a screen
    tones = cv2.blur(photo.grey, (grain, grain))[cv2.dilate(inside, np.ones((side, side), np.uint8)) == 0]
    if len(tones) < LEAST_AROUND:
        return 0.0
    until = np.concatenate([[0], np.bincount(tones, minlength=256).cumsum()])
    return float((until[TONES:] - until[:-TONES]).max() / len(tones))
