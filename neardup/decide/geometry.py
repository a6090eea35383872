"""What the transforms of several pairs say together: triangles that contradict, and photos that share no part.

A link is lowered where going round a triangle does not lead back; a pair weighs nothing where its two photos lie side by
side in a third. Both walk paths of two links, a bounded number for each pair.
"""

from dataclasses import dataclass

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.clusters import CERTAIN
from neardup.verify.evidence import Evidence

MOST_PATHS = 12
"""Common neighbours by which a pair is judged; further ones would cost time in large groups and say the same."""
GRID = 9
"""Points on each side of the grid that is followed through the transforms; 81 points see an overlap of 2 %."""
LEAST_POINTS = 4
"""Points of the grid that must lie in all three photos; fewer are too small an overlap to judge a triangle by."""
TOLERANCE = 0.05
"""Distance, as a share of the diagonal, by which two ways to a point may differ: a transform of few points is off by 2 %."""
SLOPPY = 0.02
"""Chance that a triangle of three true links contradicts, as where few points carried a transform beyond them."""
LINKED = 0.5
"""Probability at or above which a pair's transform is taken for true when paths are followed."""


@dataclass(frozen=True)
class Placements:
    """How the photos of pairs lie in one another.

    Attributes:
        left: int64 (m,), row of each pair's first photo.
        right: int64 (m,), row of its second photo; each unordered pair once.
        probabilities: float64 (m,).
        transforms: float64 (m, 3, 3), from pixels of the left photo to those of the right; NaN where none is known.
        sizes: float64 (n, 2), width and height of each photo in pixels.
    """

    left: Ints
    right: Ints
    probabilities: Floats
    transforms: Floats
    sizes: Floats


def transform_of(evidence: Evidence | None, left: str) -> Floats:
    """The transform of a pair from its left photo to the other, float64 (3, 3); NaN where none is known.

    Args:
        evidence: of the pair, or None where it was not verified.
        left: SHA-256 of the left photo; evidence has the lesser of the two first, whatever the rows are.
    """
    if evidence is None or evidence.transform is None:
        return np.full((3, 3), np.nan)
    matrix = np.array(evidence.transform, dtype=np.float64).reshape(3, 3)
    return matrix if evidence.first == left else np.linalg.inv(matrix)


@dataclass(frozen=True)
class _Paths:
    """Paths of two links from a photo over a middle one to a third.

    Attributes:
        start: int64 (k,), row of the first photo.
        end: int64 (k,), row of the third photo, greater than `start`.
        first: int64 (k,), place of the pair of the first and the middle photo.
        second: int64 (k,), place of the pair of the middle and the third photo.
        over: float64 (k, 3, 3), from the first photo to the middle one.
        onward: float64 (k, 3, 3), from the middle photo to the third.
        middle: int64 (k,), row of the middle photo.
    """

    start: Ints
    end: Ints
    first: Ints
    second: Ints
    over: Floats
    onward: Floats
    middle: Ints


def lowered_by_triangles(placements: Placements) -> Floats:
    """Probabilities of pairs after the triangles they are in; a pair in no contradicting triangle keeps its own.

    For a pair, each photo that is linked to both of its own gives a second way from one to the other. Where the two ways
    lead apart, by more than `TOLERANCE` of the diagonal in the median of the points that all three photos show, at least
    one of the three links is false, unless the geometry was sloppy. By Bayes a link whose chance to be false is q then
    is false with q / (Q + SLOPPY · (1 - Q)), where Q is the chance that any of the three is: a weak link takes the blame
    of a strong one. The least probability over a pair's triangles counts.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        float64 (m,), at most what they were.
    """
    paths = _paths(placements)
    direct = _places_of(placements, paths)
    paths, direct = _take(paths, direct >= 0), direct[direct >= 0]
    known = ~np.isnan(placements.transforms[direct, 0, 0])
    paths, direct = _take(paths, known), direct[known]
    apart, judged = _differences(placements, paths, _directed(placements, direct, paths.start))
    contradict = judged & (apart > TOLERANCE)
    doubts = 1 - placements.probabilities
    three = np.stack([direct, paths.first, paths.second], axis=1)[contradict]
    any_false = 1 - np.prod(1 - doubts[three], axis=1, keepdims=True)
    blamed = doubts[three] / (any_false + SLOPPY * (1 - any_false))
    doubtful = doubts.copy()
    np.maximum.at(doubtful, three.ravel(), np.minimum(blamed, 1.0).ravel())
    return np.minimum(placements.probabilities, 1 - doubtful)


def disjoint_pairs(placements: Placements) -> tuple[Ints, Ints]:
    """Pairs of photos that lie side by side in a third: both are linked to it, and share no part of it.

    A pair that is linked itself is never among them, and neither is one that overlaps by way of any photo.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        Rows of the pairs' photos, int64 (k,) each, the lesser row first, in order; listed pairs and others.
    """
    paths = _paths(placements)
    direct = _places_of(placements, paths)
    paths = _take(paths, (direct < 0) | (placements.probabilities[direct] < LINKED))
    keys = paths.start * len(placements.sizes) + paths.end
    pairs, place = np.unique(keys, return_inverse=True)
    overlapping = np.zeros(len(pairs), dtype=bool)
    overlapping[place[_shared_points(placements, paths).any(axis=1)]] = True
    start, end = np.divmod(pairs[~overlapping], max(1, len(placements.sizes)))
    return start.astype(np.int64), end.astype(np.int64)


def _paths(placements: Placements) -> _Paths:
    """Paths of two links with transforms, at most `MOST_PATHS` ** 2 through each photo, by its likeliest links."""
    known = ~np.isnan(placements.transforms[:, 0, 0]) & (placements.probabilities >= LINKED)
    places = np.flatnonzero(known)
    ends = np.concatenate([placements.left[places], placements.right[places]])
    others = np.concatenate([placements.right[places], placements.left[places]])
    places = np.concatenate([places, places])
    order = np.lexsort((others, -placements.probabilities[places], ends))
    ends, others, places = ends[order], others[order], places[order]
    starts = np.searchsorted(ends, ends)
    rank = np.arange(len(ends)) - starts
    first, second = [], []
    for step in range(1, MOST_PATHS):
        # Each link of a photo with the one that is `step` ranks below it.
        later = np.flatnonzero(rank >= step)
        first.append(later)
        second.append(later - step)
    a, b = (np.concatenate(halves).astype(np.int64) for halves in (first, second))
    swap = others[a] > others[b]
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    over = np.linalg.inv(_directed(placements, places[a], ends[a]))
    return _Paths(others[a], others[b], places[a], places[b], over, _directed(placements, places[b], ends[b]), ends[a])


def _take(paths: _Paths, chosen: Bools) -> _Paths:
    """Some of the paths, chosen by a mask."""
    return _Paths(
        paths.start[chosen],
        paths.end[chosen],
        paths.first[chosen],
        paths.second[chosen],
        paths.over[chosen],
        paths.onward[chosen],
        paths.middle[chosen],
    )


def _places_of(placements: Placements, paths: _Paths) -> Ints:
    """The place of the pair of each path's two ends, int64 (k,); -1 where it is not listed."""
    count = len(placements.sizes)
    low, high = np.minimum(placements.left, placements.right), np.maximum(placements.left, placements.right)
    keys = low * count + high
    order = np.argsort(keys)
    wanted = paths.start * count + paths.end
    found = np.searchsorted(keys, wanted, sorter=order)
    place = order[np.minimum(found, len(keys) - 1)] if len(keys) else np.zeros(0, dtype=np.int64)
    return np.where(keys[place] == wanted, place, -1).astype(np.int64)


def _directed(placements: Placements, places: Ints, start: Ints) -> Floats:
    """Transforms of pairs from the photo of a row, one of their two, to the other, float64 (k, 3, 3)."""
    matrices = placements.transforms[places]
    return np.where((placements.left[places] == start)[:, None, None], matrices, np.linalg.inv(matrices))


def _grid(placements: Placements, rows: Ints) -> Floats:
    """Points all over the photos of rows, float64 (k, GRID², 2)."""
    steps = (np.arange(GRID) + 0.5) / GRID
    unit = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    return np.asarray(unit[None] * placements.sizes[rows][:, None], dtype=np.float64)


def _mapped(transforms: Floats, points: Floats) -> Floats:
    """Points, float64 (k, g, 2), by a transform each, float64 (k, 3, 3); NaN for those behind the horizon."""
    ends = points @ transforms[:, :, :2].transpose(0, 2, 1) + transforms[:, None, :, 2]
    depth = np.where(ends[..., 2:] > CERTAIN, ends[..., 2:], np.nan)
    return np.asarray(ends[..., :2] / depth, dtype=np.float64)


def _inside(placements: Placements, rows: Ints, points: Floats) -> Bools:
    """Which points lie in the photos of rows, bool (k, g)."""
    return np.asarray(((points >= 0) & (points <= placements.sizes[rows][:, None])).all(axis=2))


def _shared_points(placements: Placements, paths: _Paths) -> Bools:
    """Which points of the first photo lie in the middle one and, from there, in the third, bool (k, GRID²)."""
    middle = _mapped(paths.over, _grid(placements, paths.start))
    end = _mapped(paths.onward, middle)
    return _inside(placements, paths.middle, middle) & _inside(placements, paths.end, end)


def _differences(placements: Placements, paths: _Paths, direct: Floats) -> tuple[Floats, Bools]:
    """How far two ways lead apart, in the median, as a share of the third photo's diagonal; and whether it can be judged."""
    grid = _grid(placements, paths.start)
    there = _mapped(paths.onward, _mapped(paths.over, grid))
    shared = _shared_points(placements, paths)
    diagonal = np.hypot(*placements.sizes[paths.end].T)[:, None]
    gone = np.where(np.isnan(straight := _mapped(direct, grid)), np.inf, straight)
    apart = np.where(shared, np.hypot(*np.moveaxis(gone - there, 2, 0)) / diagonal, np.nan)
    judged = shared.sum(axis=1) >= LEAST_POINTS
    median = np.zeros(len(apart))
    median[judged] = np.nanmedian(apart[judged], axis=1)
    return median, judged
