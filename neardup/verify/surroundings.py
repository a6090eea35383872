"""What a photo shows around the part that it shares with another one: plain paper, or more of a picture."""

import cv2
import numpy as np

from neardup.arrays import Bools, Floats
from neardup.encode.screen import Grey
from neardup.verify.evidence import Transform
from neardup.verify.frames import inverse, outline
from neardup.verify.pixels import GreyPhoto, factors_of

TONES = 16
"""Width in grey levels of what counts as one tone: paper has grain, and yellows unevenly.

With `relation.MOSTLY_PLAIN`, 145 of 150 drawn mounts are called plain, 30 of them lit from one side; none of 64 pages
of an album or of a newspaper; 1 of 29 crops.
"""
PLANES = 4
"""How often the plane of the paper's tone is fitted, each time to what lies near the last one."""
EVERY = 7
"""Of so many pixels one serves to fit the plane."""
LEAST_AROUND = 100
"""Pixels of a small photo (`GreyPhoto`) below which the surroundings of the common part say nothing."""
PICTURE_SIDE = 0.07
"""Side of a square, as a share of a photo's longer side, whose surroundings hold another picture where it is full.

Full of other tones than the paper's, that is: lines of a caption, ornaments and stamps are narrower. Of 30 drawn pages
of an album with two pictures, 14 passed for plain without it.
"""
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
        show, 0 to 1; 0 where the other photo shows nearly all of it, or where that part holds another picture.
    """
    in_first, in_second = outline(transform, second.size), outline(inverse(transform), first.size)
    return _of_one_tone(first, in_first), _of_one_tone(second, in_second)


def _of_one_tone(photo: GreyPhoto, common: Floats | None) -> float:
    """Share of the area outside of four corners, float64 (4, 2) in full pixels, that has its most frequent tone.

    It is 0 where that area holds another picture (`PICTURE_SIDE`).
    """
    if common is None:
        return 0.0
    height, width = photo.grey.shape
    corners = np.clip(common * factors_of(photo.grey, photo.size), -10 * max(width, height), 10 * max(width, height))
    inside = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(inside, corners.round().astype(np.int32), 1)
    side = 2 * round(MISFIT * max(width, height)) + 1
    grain = 2 * max(1, round(photo.screen * width / photo.size[0])) + 1  # wider than the dots of a screen
    around = cv2.dilate(inside, np.ones((side, side), np.uint8)) == 0
    if around.sum() < LEAST_AROUND:
        return 0.0
    paper = _paper(np.asarray(cv2.blur(photo.grey, (grain, grain)), dtype=np.uint8), around)
    picture = max(2, round(PICTURE_SIDE * max(width, height)))
    others = (around & ~paper).astype(np.uint8)
    if cv2.erode(others, np.ones((picture, picture), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0).any():
        return 0.0
    return float(paper.sum() / around.sum())


def _paper(grey: Grey, around: Bools) -> Bools:
    """Find the pixels of one tone, bool (h, w), in an area, bool (h, w), of a picture, uint8 (h, w).

    The tone is the most frequent one of the area, and may change evenly across the picture, as paper that is lit from
    one side does: a plane is fitted to what has it.
    """
    until = np.concatenate([[0], np.bincount(grey[around], minlength=256).cumsum()])
    darkest = int((until[TONES:] - until[:-TONES]).argmax())
    rows, columns = np.nonzero(around)
    places = np.column_stack([columns, rows, np.ones(len(rows))])
    tones = grey[around].astype(np.float64)
    plane = np.array([0, 0, darkest + (TONES - 1) / 2])
    some, some_tones = places[::EVERY], tones[::EVERY]
    for _ in range(PLANES):
        near = np.abs(some_tones - some @ plane) <= TONES / 2
        plane = np.linalg.lstsq(some[near], some_tones[near], rcond=None)[0]
    paper = np.zeros_like(around)
    paper[around] = np.abs(tones - places @ plane) <= TONES / 2
    return paper
