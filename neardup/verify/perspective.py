"""The projective transform of a pair of which one photo was taken at an angle, where it clearly fits better."""

import cv2
import numpy as np
from scipy.stats import f as f_distribution

from neardup.arrays import Floats, Vectors
from neardup.verify.evidence import Transform
from neardup.verify.frames import Size, homogeneous, least_squares_affine, matrix_of, moved, numbers_of

LEAST_POINTS = 20
"""Matches that must agree on a projective transform: its two further numbers would fit the noise of fewer matches."""
REACH = 0.05
"""Share of the second photo's diagonal by which the affine transform may miss a match that is still considered.

Near the edges of a photo taken at an angle, the affine transform misses true matches by more than an inlier may.
"""
OUTLYING = 3.0
"""Multiple of the median residual within which a match agrees: with normal residuals, 99.8 % of the true ones do."""
ROUNDS = 4
"""Times that the transform is fitted, each time to the matches that agreed with it before."""
REMAINING = 0.5
"""Greatest sum of squared residuals as a share of what the best affine transform leaves of the same matches."""
CHANCE = 1e-6
"""Greatest probability of the gain in fit if the affine transform were true: an F-test of the two further numbers."""
UNSURE = 0.25
"""Greatest standard error of a place, as a share of the greatest distance between both transforms of a place."""
STEEPEST = 0.5
"""Least depth of the nearest part of a photo as a share of the farthest: nobody takes copies at a flatter angle."""
GRID = 9
"""Points along each side of the grid in the first photo on which the two transforms are compared."""
LEAST_RESIDUAL = 0.0005
"""Share of the diagonal to which a smaller median residual is raised: keypoints are exact to half a pixel at best."""
TINY = 1e-12
"""Lower bound for determinants and sums of squared residuals, against division by zero."""
LEAST_DEPTH = 0.1
"""Least depth of a photo's corner as a share of its middle's: at 0 it lies on the horizon, infinitely far away."""
FREE = 8
"""Degrees of freedom of a projective transform; an affine one has two fewer."""


def perspective_of(matches: Vectors, affine: Transform, first: Size, second: Size) -> Transform | None:
    """Fit a projective transform to the matches near an affine one, and keep it only if it fits clearly better.

    Args:
        matches: float32 (n, 4), x and y in full pixels of the first and of the second photo, wrong ones among them.
        affine: the transform that many of them agree on.
        first: width and height of the first photo.
        second: width and height of the second photo.

    Returns:
        Full pixels of the first photo to those of the second; None where few matches agree, the gain may be chance, the
        places between the matches and the edges remain uncertain, or a part of a photo would lie beyond the horizon.
    """
    to_first, to_second = _to_unit(first), _to_unit(second)
    source, target = moved(to_first, matches[:, :2]), moved(to_second, matches[:, 2:])
    matrix = np.asarray(to_second @ matrix_of(affine) @ np.linalg.inv(to_first), dtype=np.float64)
    near = _distances(moved(matrix, source), target) < REACH
    source, target = source[near], target[near]
    agreeing = np.ones(len(source), dtype=bool)
    for _ in range(ROUNDS):
        fitted = _fitted(source[agreeing], target[agreeing])
        if fitted is None or not _faces_both(fitted, first, second):
            return None
        matrix, distances = fitted, _distances(moved(fitted, source), target)
        agreeing = distances < OUTLYING * max(float(np.median(distances[agreeing])), LEAST_RESIDUAL)
    places = _grid(first)
    shown = places[(np.abs(moved(matrix, places)) <= _extent(second) / 2).all(axis=1)]
    if agreeing.sum() < LEAST_POINTS or not _is_truer(matrix, source[agreeing], target[agreeing], shown):
        return None
    return numbers_of(np.linalg.inv(to_second) @ matrix @ to_first)


def _fitted(source: Floats, target: Floats) -> Floats | None:
    """Fit the projective transform of least squares, float64 (3, 3); None for too few points or where none exists."""
    if len(source) < LEAST_POINTS:
        return None
    matrix, _ = cv2.findHomography(source, target, 0)
    return None if matrix is None or not np.isfinite(matrix).all() else np.asarray(matrix, dtype=np.float64)


def _is_truer(matrix: Floats, source: Floats, target: Floats, shown: Floats) -> bool:
    """Whether a projective transform fits clearly better than the best affine one of the same points, and is certain.

    Args:
        matrix: float64 (3, 3), the projective transform of least squares.
        source: float64 (n, 2), points of the first photo.
        target: float64 (n, 2), where they lie in the second photo.
        shown: float64 (m, 2), places of the first photo that the second one shows.
    """
    affine = least_squares_affine(source, target)
    remaining, of_affine = (
        float((_distances(moved(one, source), target) ** 2).sum()) + TINY for one in (matrix, affine)
    )
    freedom = 2 * len(source) - FREE
    gain = (of_affine - remaining) / 2 / (remaining / freedom)
    if not len(shown) or remaining > REMAINING * of_affine or f_distribution.sf(gain, 2, freedom) > CHANCE:
        return False
    depths = homogeneous(shown) @ matrix[2]
    slopes, slopes_shown = _slopes(matrix, source).reshape(-1, FREE), _slopes(matrix, shown)
    covariance = np.linalg.pinv(slopes.T @ slopes) * (remaining / freedom)
    errors = np.sqrt(np.einsum("nij,jk,nik->n", slopes_shown, covariance, slopes_shown))
    apart = _distances(moved(matrix, shown), moved(affine, shown))
    return bool(errors.max() <= UNSURE * apart.max() and depths.min() >= STEEPEST * depths.max())


def _slopes(matrix: Floats, points: Floats) -> Floats:
    """Derivatives of the transformed points by the first eight numbers of a projective transform: float64 (n, 2, 8)."""
    ends, rows = moved(matrix, points), homogeneous(points)
    nothing = np.zeros_like(rows)
    across = np.concatenate([rows, nothing, -ends[:, :1] * points], axis=1)
    down = np.concatenate([nothing, rows, -ends[:, 1:] * points], axis=1)
    return np.asarray(np.stack([across, down], axis=1) / (rows @ matrix[2])[:, None, None])


def _faces_both(matrix: Floats, first: Size, second: Size) -> bool:
    """Whether each corner of either photo lies well in front of the other photo's horizon."""
    if abs(np.linalg.det(matrix)) < TINY:
        return False
    ways = ((matrix, first), (np.linalg.inv(matrix), second))
    # Depth is linear in the place, so that the least one is at a corner.
    return all(
        bool(one[2, 2] and 1 - np.abs(one[2, :2] / one[2, 2]) @ _extent(size) / 2 > LEAST_DEPTH) for one, size in ways
    )


def _extent(size: Size) -> Floats:
    """Width and height of a photo as shares of its diagonal: float64 (2,)."""
    return np.asarray(np.array(size) / np.hypot(*size))


def _grid(size: Size) -> Floats:
    """Places all over a photo, its corners among them, as shares of its diagonal from its middle: float64 (81, 2)."""
    steps = np.linspace(-0.5, 0.5, GRID)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * _extent(size)


def _to_unit(size: Size) -> Floats:
    """From pixels of a photo to shares of its diagonal, counted from its middle: float64 (3, 3)."""
    width, height = size
    diagonal = float(np.hypot(width, height))
    return np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, diagonal]]) / diagonal


def _distances(points: Floats, others: Floats) -> Floats:
    """Distance of each point from its counterpart: float64 (n,)."""
    return np.asarray(np.hypot(*(points - others).T))
