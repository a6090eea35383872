"""How far matched points miss their places, and what squeeze and rotation such errors alone may cause."""

import numpy as np
from scipy.stats import f as f_distribution

from neardup.arrays import Vectors
from neardup.verify.evidence import Transform
from neardup.verify.frames import Size, least_squares_affine, matrix_of, moved
from neardup.verify.keypoints import SIDE

CHANCE = 0.001
"""Probability that normally distributed errors of the points cause more squeeze than `squeeze_by_chance` gives.

Of 898 copies whose transforms are known three are off by more: the points are those that agreed best.
"""
FREE = 6
"""Numbers of an affine transform that may be chosen."""
FREE_IN_PERSPECTIVE = 8
"""Numbers of a projective transform that may be chosen."""


def median_residual(points: Vectors, transform: Transform, scale: float, first: Size, second: Size) -> float:
    """Median distance by which matched points miss the places that the best transform of its kind gives them.

    Keypoints of two copies of a picture lie on the same spots, to a pixel of the coarser copy; eyes, noses and mouths
    of two people only on like ones.

    Args:
        points: float32 (n, 4), x and y in the first and in the second photo. Keypoints of several orientations that
            lie on one spot count as one.
        transform: from the first photo to the second. An affine one is fitted again to the points by least squares.
        scale: length in the second photo of what is one pixel long in the first.
        first: width and height of the first photo in pixels.
        second: width and height of the second photo in pixels.

    Returns:
        Pixels of the photo that shows the subject more coarsely, reduced to `SIDE`; corrected for what the transform
        was fitted to. `SIDE` where there are no more points than the transform has freedom.
    """
    points = points[np.unique(points.round(), axis=0, return_index=True)[1]]
    in_perspective = any(transform[6:8])
    left = len(points) - (FREE_IN_PERSPECTIVE if in_perspective else FREE) / 2
    if left <= 0:
        return float(SIDE)
    source, target = points[:, :2].astype(np.float64), points[:, 2:].astype(np.float64)
    matrix = matrix_of(transform) if in_perspective else least_squares_affine(source, target)
    pixel = SIDE * min(1 / max(second), 1 / (max(first) * scale))
    return float(np.median(np.hypot(*(moved(matrix, source) - target).T)) * pixel * np.sqrt(len(points) / left))


def squeeze_by_chance(points: Vectors, transform: Transform) -> float:
    """Greatest squeeze that errors of the matched points may cause, as a share of the greater axis.

    The residuals of the points give the standard errors of the transform's numbers, as in a regression. Two of these,
    the difference of the axes and the shear, make up the squeeze, whose square follows Fisher's F distribution. The
    rotation that errors may cause is half of it, in radians.

    Args:
        points: float32 (n, 4), x and y in the first and in the second photo, which agree on the transform.
        transform: an affine one, from the first photo to the second.

    Returns:
        0 or more; 1 where there are no more points than the transform has freedom.
    """
    freedom = 2 * len(points) - FREE
    matrix = matrix_of(transform)[:2]
    source, target = points[:, :2].astype(np.float64), points[:, 2:].astype(np.float64)
    centred = source - source.mean(axis=0)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if freedom <= 0 or not scale or np.linalg.matrix_rank(centred) < centred.shape[1]:
        return 1.0
    misses = source @ matrix[:, :2].T + matrix[:, 2] - target
    variance = float((misses**2).sum()) / freedom * float(np.trace(np.linalg.inv(centred.T @ centred)))
    return float(np.sqrt(2 * f_distribution.isf(CHANCE, 2, freedom) * variance) / scale)
