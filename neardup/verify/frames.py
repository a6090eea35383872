"""How the frames of two photos lie against each other, from the transform that takes one to the other."""

from dataclasses import dataclass

import numpy as np

from neardup.arrays import Floats, Vectors
from neardup.verify.evidence import Box, Transform

Size = tuple[int, int]
"""Width and height of a photo in pixels, upright and at full size."""


@dataclass(frozen=True)
class Frames:
    """How two frames lie by a transform; the numbers mean the same as the fields of these names in `Evidence`.

    Attributes:
        coverage_first: share of the first photo that the second one shows, 0 to 1.
        coverage_second: share of the second photo that the first one shows, 0 to 1.
        mirrored: whether the transform turns left into right.
        rotation: degrees clockwise, above -180 and up to 180: a mirrored pair's first photo is mirrored left to right,
            then turned by so much, and then lies as the second one does. Upside down by a mirror is mirrored and 180°.
        scale: length in the second photo of what is one pixel long in the first.
        squeeze: the lesser of the transform's two singular values as a share of the greater, 0 to 1.
    """

    coverage_first: float
    coverage_second: float
    mirrored: bool
    rotation: float
    scale: float
    squeeze: float


def frames_of(transform: Transform, first: Size, second: Size) -> Frames:
    """Read from a transform how two frames lie: coverage by clipping, the rest from its derivative.

    Args:
        transform: pixels of the first photo to those of the second; a photo's left upper corner is (0, 0) and the
            right lower one its width and height, so that pixels have their centres at halves.
        first: size of the first photo.
        second: size of the second photo.

    Returns:
        The numbers; of a projective transform, rotation, scale and squeeze are those at the first photo's centre.
    """
    linear = _linear(matrix_of(transform), (first[0] / 2, first[1] / 2))
    mirrored = bool(np.linalg.det(linear) < 0)
    greater, lesser = np.linalg.svd(linear, compute_uv=False)
    unmirrored = linear * [-1, 1] if mirrored else linear
    rotation = float(np.degrees(np.arctan2(unmirrored[1, 0] - unmirrored[0, 1], unmirrored[0, 0] + unmirrored[1, 1])))
    return Frames(
        coverage_first=_coverage(outline(transform, second), first),
        coverage_second=_coverage(_projected(matrix_of(transform), _corners(first)), second),
        mirrored=mirrored,
        rotation=180.0 if rotation <= -180 else rotation,  # noqa: PLR2004 - half a turn
        scale=float(np.sqrt(greater * lesser)),
        squeeze=float(lesser / greater) if greater > 0 else 0.0,
    )


def outline(transform: Transform, second: Size) -> Floats | None:
    """Find where the second photo's frame lies in the first photo.

    Args:
        transform: pixels of the first photo to those of the second.
        second: size of the second photo.

    Returns:
        float64 (4, 2), in pixels of the first photo, beginning with what is the second photo's left upper corner and
        going clockwise in the second photo; None where the transform has no inverse or a corner lies at infinity.
    """
    matrix = matrix_of(transform)
    if abs(np.linalg.det(matrix)) < np.finfo(np.float64).tiny:
        return None
    return _projected(np.asarray(np.linalg.inv(matrix), dtype=np.float64), _corners(second))


def box_in_first(transform: Transform, first: Size, second: Size) -> Box | None:
    """The upright box that the second photo's frame takes in the first photo, cut off at the first photo's edges."""
    corners = outline(transform, second)
    if corners is None:
        return None
    left, top = np.clip(corners.min(axis=0), 0, first)
    right, bottom = np.clip(corners.max(axis=0), 0, first)
    return float(left), float(top), float(right - left), float(bottom - top)


def inverse(transform: Transform) -> Transform:
    """Invert a transform, so that it leads from the second photo to the first.

    Raises:
        numpy.linalg.LinAlgError: the transform has no inverse.
    """
    inverted = np.asarray(np.linalg.inv(matrix_of(transform)), dtype=np.float64)
    return numbers_of(np.asarray(inverted / inverted[2, 2], dtype=np.float64) if inverted[2, 2] else inverted)


def cut_to(transform: Transform, first: Box, second: Box) -> Transform:
    """Turn a transform between two photos into one between parts of them, each part a box in pixels of its photo."""
    to_first, to_second = (np.array([[1, 0, box[0]], [0, 1, box[1]], [0, 0, 1]]) for box in (first, second))
    return numbers_of(np.asarray(np.linalg.inv(to_second) @ matrix_of(transform) @ to_first))


def rescaled(transform: Transform, first: tuple[float, float], second: tuple[float, float]) -> Transform:
    """Turn a transform between two photos into one between resized versions of them, each axis by its own factor.

    Args:
        transform: pixels of the first photo to those of the second.
        first: factors by which the first photo's width and height were multiplied.
        second: factors by which the second photo's width and height were multiplied.
    """
    return numbers_of(np.diag([*second, 1.0]) @ matrix_of(transform) @ np.diag([1 / first[0], 1 / first[1], 1.0]))


def by_centres(transform: Transform) -> Floats:
    """A transform as OpenCV wants it, whose pixels have their centres at whole numbers: float64 (3, 3)."""
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(np.linalg.inv(centre) @ matrix_of(transform) @ centre)


def matrix_of(transform: Transform) -> Floats:
    """A transform's nine numbers as a matrix, float64 (3, 3)."""
    return np.array(transform, dtype=np.float64).reshape(3, 3)


def numbers_of(matrix: Floats) -> Transform:
    """A matrix as a transform's nine numbers."""
    a, b, c, d, e, f, g, h, i = (float(value) for value in matrix.ravel())
    return a, b, c, d, e, f, g, h, i


def _corners(size: Size) -> Floats:
    """The corners of a frame, clockwise from the left upper one: float64 (4, 2)."""
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def _linear(matrix: Floats, point: tuple[float, float]) -> Floats:
    """Derivative of a projective transform at a point, float64 (2, 2)."""
    x, y, w = matrix @ [*point, 1.0]
    return np.asarray((matrix[:2, :2] - np.outer([x / w, y / w], matrix[2, :2])) / w)


def _projected(matrix: Floats, points: Floats) -> Floats | None:
    """Transform points, float64 (n, 2); None where one of them comes to lie at infinity or behind the horizon."""
    moved = np.c_[points, np.ones(len(points))] @ matrix.T
    depth = moved[:, 2] * np.sign(moved[:, 2].sum())
    if depth.min() <= np.abs(moved).max() * 1e-12:
        return None
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _coverage(corners: Floats | None, size: Size) -> float:
    """Share of a frame that lies within a convex quadrilateral."""
    if corners is None:
        return 0.0
    # OpenCV's own intersection of convex shapes is sometimes empty where two frames are equal but for rounding.
    polygon = corners / size
    for axis in (0, 1):
        polygon = _cut_off(_cut_off(polygon, axis, 1.0) * [-1, -1] + 1, axis, 1.0)
    x, y = polygon.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return min(1.0, area)


def _cut_off(polygon: Floats, axis: int, limit: float) -> Floats:
    """The part of a convex polygon, float64 (n, 2), below a limit of one coordinate (Sutherland and Hodgman 1974)."""
    if not len(polygon):
        return polygon
    following = np.roll(polygon, -1, axis=0)
    distances, following_distances = polygon[:, axis] - limit, following[:, axis] - limit
    corners = []
    for start, end, before, after in zip(polygon, following, distances, following_distances, strict=True):
        if before <= 0:
            corners.append(start)
        if before * after < 0:
            corners.append(start + (end - start) * before / (before - after))
    return np.array(corners, dtype=np.float64).reshape(-1, 2)


def homogeneous(points: Floats | Vectors) -> Floats:
    """Points, (n, 2), with a third coordinate of 1: float64 (n, 3)."""
    return np.concatenate([np.asarray(points, dtype=np.float64), np.ones((len(points), 1))], axis=1)


def moved(matrix: Floats, points: Floats | Vectors) -> Floats:
    """Points, (n, 2), after a projective transform: float64 (n, 2)."""
    ends = homogeneous(points) @ matrix.T
    return np.asarray(ends[:, :2] / ends[:, 2:])


def least_squares_affine(source: Floats, target: Floats) -> Floats:
    """The affine transform, float64 (3, 3), that takes points, float64 (n, 2), nearest to others."""
    affine = np.eye(3)
    affine[:2] = np.linalg.lstsq(homogeneous(source), target)[0].T
    return affine
