"""Squeeze and rotation that errors of the matched points alone may cause."""

import numpy as np
from scipy.stats import f as f_distribution

from neardup.arrays import Vectors
from neardup.verify.evidence import Transform
from neardup.verify.frames import matrix_of

CHANCE = 0.001
"""Probability that normally distributed errors of the points cause more squeeze than `squeeze_by_chance` gives.

Of 898 copies whose transforms are known three are off by more: the points are those that agreed best.
"""
FREE = 6
"""Numbers of an affine transform that may be chosen."""


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
