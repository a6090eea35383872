"""Boxes in small pictures: where values are greatest, around points, and which pixels lie in one."""

import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.evidence import Box

STRAY = 0.03
"""Share of matched points that may lie beyond a side of the picture by chance; if more do, it extends there."""


def box_of_greatest_sum(values: Vectors) -> tuple[int, int, int, int]:
    """Find the left, top, right and bottom of the rectangle whose values, float32 (h, w), have the greatest sum.

    Kadane's algorithm (Bentley 1984) runs for each pair of rows whose positive values alone exceed the best sum so far:
    few, if the photos agree nearly everywhere. Pixels are merged two by two, which takes an eighth of the time.
    """
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)))
    coarse = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum(axis=(1, 3), dtype=np.float64)
    rows, columns = coarse.shape
    above = np.concatenate([np.zeros((1, columns)), coarse.cumsum(axis=0)])
    positive_above = np.maximum(coarse, 0).sum(axis=1).cumsum()
    best, box = 0.0, (0, 0, columns, rows)
    for top in range(rows):
        least = best + (positive_above[top - 1] if top else 0.0)
        shortest = max(top, int(np.searchsorted(positive_above, least, side="right")))
        if shortest >= rows:
            break
        sums = np.zeros((rows - shortest, columns + 1))
        np.cumsum(above[shortest + 1 :] - above[top], axis=1, out=sums[:, 1:])
        gains = sums - np.minimum.accumulate(sums, axis=1)
        place = int(gains.argmax())
        if gains.flat[place] > best:
            row, right = divmod(place, columns + 1)
            best, box = float(gains.flat[place]), (int(sums[row, : right + 1].argmin()), top, right, shortest + 1 + row)
    left, top, right, bottom = (2 * edge for edge in box)
    return left, top, min(right, width), min(bottom, height)


def box_around(box: tuple[int, int, int, int], points: Floats) -> tuple[int, int, int, int]:
    """Widen a box of left, top, right and bottom to hold the points, float64 (n, 2), but for stray ones (`STRAY`)."""
    ordered, stray = np.sort(points, axis=0), int(STRAY * len(points))
    (left, top), (right, bottom) = np.floor(ordered[stray]).astype(int), np.ceil(ordered[-1 - stray]).astype(int)
    return min(box[0], int(left)), min(box[1], int(top)), max(box[2], int(right)), max(box[3], int(bottom))


def inside_box(shape: tuple[int, int], size: tuple[int, int], box: Box, margin: float) -> Bools:
    """Find the pixels of a small picture that lie in a box: bool (h, w).

    Args:
        shape: height and width of the small picture.
        size: width and height of the full picture.
        box: box in pixels of the full picture.
        margin: share of the longer side that is left out along the box's edges.
    """
    left, top, width, height = box
    x, y, away = shape[1] / size[0], shape[0] / size[1], margin * max(size)
    inside = np.zeros(shape, dtype=bool)
    rows = slice(int(np.ceil((top + away) * y)), max(0, int((top + height - away) * y)))
    columns = slice(int(np.ceil((left + away) * x)), max(0, int((left + width - away) * x)))
    inside[rows, columns] = True
    return inside
