"""What the transforms of several pairs show together: contradicting triangles, and photos without a common part.

A link's probability is lowered where going round a triangle of links does not lead back to the start. A pair weighs
nothing where its two photos lie side by side in a third. Both rules follow paths of two links, a bounded number for
each pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.verify.evidence import Evidence

MOST_PATHS = 16
"""Most paths that a link starts at one of its photos: all of them in small groups, bounded time in large ones."""
LEAST_DEPTH = 1e-12
"""Third homogeneous coordinate at or below which a point lies on the horizon or behind it."""
CHUNK = 20_000
"""Paths whose points are in memory at once: about 100 MB."""
GRID = 9
"""Points along each side of the grid that the transforms map; 81 points in all detect an overlap of 2 %."""
LEAST_POINTS = 4
"""Grid points that must lie in all three photos of a triangle; fewer are too small an overlap to judge it."""
TOLERANCE = 0.05
"""Share of the diagonal by which two ways to a point may differ: a transform from few points is off by 2 % of it."""
SLOPPY = 0.02
"""Chance that a triangle of three true links contradicts: a transform from few points is inexact far from them."""
LINKED = 0.5
"""Probability at or above which a pair counts as a link and its transform as true when paths are followed."""


@dataclass(frozen=True)
class Placements:
    """How the photos of pairs lie in one another.

    Attributes:
        left: int64 (m,), row of each pair's first photo.
        right: int64 (m,), row of its second photo; each unordered pair once.
        probabilities: float64 (m,), of the pairs.
        transforms: float64 (m, 3, 3), from pixels of the left photo to those of the right; NaN where none is known.
        sizes: float64 (n, 2), width and height of each photo in pixels.
    """

    left: Ints
    right: Ints
    probabilities: Floats
    transforms: Floats
    sizes: Floats


def transform_of(evidence: Evidence | None, left: str) -> Floats:
    """Get the transform of a pair from its left photo to the other, float64 (3, 3); NaN where none is known.

    Args:
        evidence: evidence of the pair; None where it was not verified.
        left: SHA-256 of the left photo; evidence names the lesser SHA-256 first, whatever the rows are.
    """
    if evidence is None or evidence.transform is None:
        return np.full((3, 3), np.nan)
    matrix = np.array(evidence.transform, dtype=np.float64).reshape(3, 3)
    return matrix if evidence.first == left else np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@dataclass(frozen=True)
class _Paths:
    """Paths of two links from a photo by way of a middle one to a third.

    Attributes:
        start: int64 (k,), row of the first photo.
        middle: int64 (k,), row of the photo that both others are linked to.
        end: int64 (k,), row of the third photo, greater than `start`.
        first: int64 (k,), index of the pair of the first and the middle photo.
        second: int64 (k,), index of the pair of the middle and the third photo.
        direct: int64 (k,), index of the pair of the first and the third photo; -1 where it is not listed.
    """

    start: Ints
    middle: Ints
    end: Ints
    first: Ints
    second: Ints
    direct: Ints

    def take(self, chosen: Ints | Bools) -> "_Paths":
        """Select paths by their indices or by a mask."""
        return _Paths(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def chunks(self) -> Iterator["_Paths"]:
        """Yield all paths, `CHUNK` at a time."""
        for start in range(0, len(self.start), CHUNK):
            yield self.take(np.arange(start, min(start + CHUNK, len(self.start))))


def lowered_by_triangles(placements: Placements) -> Floats:
    """Lower the probabilities of pairs in contradicting triangles; all other pairs keep theirs.

    A photo that is linked to both photos of a pair gives a second way from one to the other. Where the median distance
    between the two ways, over the points that all three photos show, exceeds `TOLERANCE` of the diagonal, at least one
    of the three links is false, unless the geometry was inexact. By Bayes, a link that is false with probability q is
    then false with probability q / (Q + SLOPPY · (1 - Q)), where Q is the chance that any of the three is false: the
    weakest link takes most of the blame. The least probability over a pair's triangles counts.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        float64 (m,), each at most the pair's own probability.
    """
    paths = _paths(placements)
    paths = paths.take((paths.direct >= 0) & ~np.isnan(placements.transforms[paths.direct, 0, 0]))
    doubts = 1 - placements.probabilities
    raised_doubts = doubts.copy()
    for chunk in paths.chunks():
        contradicting = chunk.take(_contradicts(placements, chunk))
        links = np.stack([contradicting.direct, contradicting.first, contradicting.second], axis=1)
        any_false = 1 - np.prod(1 - doubts[links], axis=1, keepdims=True)
        blamed = doubts[links] / (any_false + SLOPPY * (1 - any_false))
        np.maximum.at(raised_doubts, links.ravel(), np.minimum(blamed, 1.0).ravel())
    return np.where(raised_doubts > doubts, 1 - raised_doubts, placements.probabilities)


def disjoint_pairs(placements: Placements) -> tuple[Ints, Ints]:
    """Find pairs of photos that lie side by side in a third: both are linked to it and share no part of it.

    A pair that is linked itself is never among them, nor is one whose photos overlap by way of any photo.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        Rows of the pairs' photos, int64 (k,) each, the lesser row first, sorted; listed and unlisted pairs.
    """
    paths, count = _paths(placements), max(1, len(placements.sizes))
    paths = paths.take((paths.direct < 0) | (placements.probabilities[paths.direct] < LINKED))
    pairs, pair_of_path = np.unique(paths.start * count + paths.end, return_inverse=True)
    any_shared = [_both_ways(placements, chunk)[1].any(axis=1) for chunk in paths.chunks()]
    overlapping = np.zeros(len(pairs), dtype=bool)
    overlapping[pair_of_path[np.concatenate([np.zeros(0, dtype=bool), *any_shared])]] = True
    start, end = np.divmod(pairs[~overlapping], count)
    return start.astype(np.int64), end.astype(np.int64)


def _paths(placements: Placements) -> _Paths:
    """Make paths of two links: each link of a photo with the `MOST_PATHS` next below it in probability."""
    linked = ~np.isnan(placements.transforms[:, 0, 0]) & (placements.probabilities >= LINKED)
    places = np.tile(np.flatnonzero(linked), 2)
    ends = np.concatenate([placements.left[linked], placements.right[linked]])
    others = np.concatenate([placements.right[linked], placements.left[linked]])
    order = np.lexsort((others, -placements.probabilities[places], ends))
    ends, others, places = ends[order], others[order], places[order]
    rank = np.arange(len(ends)) - np.searchsorted(ends, ends)
    ranks_from = [np.flatnonzero(rank >= step) for step in range(1, MOST_PATHS + 1)]
    a = np.concatenate(ranks_from)
    b = np.concatenate([later - step for step, later in enumerate(ranks_from, 1)])
    a, b = np.where(others[a] < others[b], a, b), np.where(others[a] < others[b], b, a)
    direct = _listed(placements, others[a], others[b])
    return _Paths(others[a], ends[a], others[b], places[a], places[b], direct)


def _listed(placements: Placements, low: Ints, high: Ints) -> Ints:
    """Find the index of each pair of rows, the lesser row first, int64 (k,); -1 where it is not listed."""
    count = len(placements.sizes)
    if not len(placements.left):
        return np.full(len(low), -1, dtype=np.int64)
    ends = np.stack([placements.left, placements.right])
    keys, wanted_keys = ends.min(axis=0) * count + ends.max(axis=0), low * count + high
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, wanted_keys, sorter=order), len(keys) - 1)]
    return np.where(keys[place] == wanted_keys, place, -1).astype(np.int64)


def _directed(placements: Placements, places: Ints, start: Ints) -> Floats:
    """Get the transforms of pairs from one of their photos, given by its row, to the other, float64 (k, 3, 3)."""
    matrices = placements.transforms[places]
    forward = (placements.left[places] == start)[:, None, None]
    return np.asarray(np.where(forward, matrices, np.linalg.inv(matrices)), dtype=np.float64)


def _grid(placements: Placements, rows: Ints) -> Floats:
    """Lay a grid of points over the photos of rows, float64 (k, GRID², 2)."""
    steps = (np.arange(GRID) + 0.5) / GRID
    unit = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    return np.asarray(unit[None] * placements.sizes[rows][:, None], dtype=np.float64)


def _mapped(transforms: Floats, points: Floats) -> Floats:
    """Map points, float64 (k, g, 2), by one transform a row, float64 (k, 3, 3); NaN for points behind the horizon."""
    ends = points @ transforms[:, :, :2].transpose(0, 2, 1) + transforms[:, None, :, 2]
    depth = np.where(ends[..., 2:] > LEAST_DEPTH, ends[..., 2:], np.nan)
    return np.asarray(ends[..., :2] / depth, dtype=np.float64)


def _inside(placements: Placements, rows: Ints, points: Floats) -> Bools:
    """Find the points that lie in the photos of rows, bool (k, g)."""
    return np.asarray(((points >= 0) & (points <= placements.sizes[rows][:, None])).all(axis=2))


def _both_ways(placements: Placements, paths: _Paths) -> tuple[Floats, Bools]:
    """Map a grid on the first photo to the third by way of the middle one, and find which points all three show.

    Returns:
        float64 (k, GRID², 2), pixels of the third photo, and bool (k, GRID²).
    """
    middle = _mapped(_directed(placements, paths.first, paths.start), _grid(placements, paths.start))
    end = _mapped(_directed(placements, paths.second, paths.middle), middle)
    return end, _inside(placements, paths.middle, middle) & _inside(placements, paths.end, end)


def _contradicts(placements: Placements, paths: _Paths) -> Bools:
    """Whether the direct way of each path leads elsewhere than the way by its middle photo, bool (k,)."""
    roundabout, shared = _both_ways(placements, paths)
    direct = _mapped(_directed(placements, paths.direct, paths.start), _grid(placements, paths.start))
    diagonal = np.hypot(*placements.sizes[paths.end].T)[:, None]
    apart = np.hypot(*np.moveaxis(direct - roundabout, 2, 0)) > TOLERANCE * diagonal
    apart |= np.isnan(direct).any(axis=2)
    points = shared.sum(axis=1)
    return np.asarray((points >= LEAST_POINTS) & ((apart & shared).sum(axis=1) * 2 > points))
