"""What the transforms of several pairs say together: triangles that contradict, and photos that share no part.

A link is lowered where going round a triangle does not lead back; a pair weighs nothing where its two photos lie side
by side in a third. Both walk paths of two links, a bounded number for each pair.
"""

from collections.abc import Iterator  # noqa: TC003 - beside its use
from dataclasses import dataclass, fields

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.correlation_clustering import CERTAIN
from neardup.verify.evidence import Evidence

MOST_PATHS = 16
"""Links of a photo with which each of its links makes a path: all in small groups, and a bounded time in large ones."""
CHUNK = 20_000
"""Paths whose points are in memory at once: some 100 MB."""
GRID = 9
"""Points on each side of the grid that is mapped by the transforms; 81 points see an overlap of 2 %."""
LEAST_POINTS = 4
"""Points of the grid that must lie in all three photos; fewer are too small an overlap to judge a triangle by."""
TOLERANCE = 0.05
"""Share of the diagonal by which two ways to a point may differ: a transform of few points is off by 2 % of it."""
SLOPPY = 0.02
"""Chance that a triangle of three true links contradicts: few points carry a transform badly beyond them."""
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
    return matrix if evidence.first == left else np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@dataclass(frozen=True)
class _Paths:
    """Paths of two links from a photo over a middle one to a third.

    Attributes:
        start: int64 (k,), row of the first photo.
        middle: int64 (k,), row of the photo that both others are linked to.
        end: int64 (k,), row of the third photo, greater than `start`.
        first: int64 (k,), place of the pair of the first and the middle photo.
        second: int64 (k,), place of the pair of the middle and the third photo.
        direct: int64 (k,), place of the pair of the first and the third photo; -1 where it is not listed.
    """

    start: Ints
    middle: Ints
    end: Ints
    first: Ints
    second: Ints
    direct: Ints

    def take(self, chosen: Ints | Bools) -> "_Paths":
        """Some of the paths, chosen by their places or by a mask."""
        return _Paths(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def chunks(self) -> "Iterator[_Paths]":
        """All paths, `CHUNK` at a time."""
        for start in range(0, len(self.start), CHUNK):
            yield self.take(np.arange(start, min(start + CHUNK, len(self.start))))


def lowered_by_triangles(placements: Placements) -> Floats:
    """Probabilities of pairs after the triangles they are in; a pair in no contradicting triangle keeps its own.

    A photo that is linked to both photos of a pair gives a second way from one to the other. Where the two ways lead
    apart, by more than `TOLERANCE` of the diagonal in the median of the points that all three photos show, at least
    one of the three links is false, unless the geometry was sloppy. By Bayes a link whose chance to be false is q is
    false with q / (Q + SLOPPY · (1 - Q)) then, where Q is the chance that any of the three is: a weak link takes the
    blame of a strong one. The least probability over a pair's triangles counts.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        float64 (m,), at most what they were.
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
    """Pairs of photos that lie side by side in a third: both are linked to it, and share no part of it.

    A pair that is linked itself is never among them, and neither is one that overlaps by way of any photo.

    Args:
        placements: the pairs, their probabilities and transforms.

    Returns:
        Rows of the pairs' photos, int64 (k,) each, the lesser row first, in order; listed pairs and others.
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
    """Paths of two links: each link of a photo with the `MOST_PATHS` that come next below it in probability."""
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
    """The place of each pair of rows, the lesser one first, int64 (k,); -1 where it is not listed."""
    count = len(placements.sizes)
    if not len(placements.left):
        return np.full(len(low), -1, dtype=np.int64)
    ends = np.stack([placements.left, placements.right])
    keys, wanted_keys = ends.min(axis=0) * count + ends.max(axis=0), low * count + high
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, wanted_keys, sorter=order), len(keys) - 1)]
    return np.where(keys[place] == wanted_keys, place, -1).astype(np.int64)


def _directed(placements: Placements, places: Ints, start: Ints) -> Floats:
    """Transforms of pairs from the photo of a row, one of their two, to the other, float64 (k, 3, 3)."""
    matrices = placements.transforms[places]
    forward = (placements.left[places] == start)[:, None, None]
    return np.asarray(np.where(forward, matrices, np.linalg.inv(matrices)), dtype=np.float64)


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


def _both_ways(placements: Placements, paths: _Paths) -> tuple[Floats, Bools]:
    """Where a grid on the first photo comes to lie in the third by way of the middle one, and what lies in all three.

    Returns:
        float64 (k, GRID², 2), pixels of the third photo, and bool (k, GRID²).
    """
    middle = _mapped(_directed(placements, paths.first, paths.start), _grid(placements, paths.start))
    end = _mapped(_directed(placements, paths.second, paths.middle), middle)
    return end, _inside(placements, paths.middle, middle) & _inside(placements, paths.end, end)


def _contradicts(placements: Placements, paths: _Paths) -> Bools:
    """Whether the direct way of each path leads elsewhere than that by its middle photo, bool (k,)."""
    roundabout, shared = _both_ways(placements, paths)
    direct = _mapped(_directed(placements, paths.direct, paths.start), _grid(placements, paths.start))
    diagonal = np.hypot(*placements.sizes[paths.end].T)[:, None]
    apart = np.hypot(*np.moveaxis(direct - roundabout, 2, 0)) > TOLERANCE * diagonal
    apart |= np.isnan(direct).any(axis=2)
    points = shared.sum(axis=1)
    return np.asarray((points >= LEAST_POINTS) & ((apart & shared).sum(axis=1) * 2 > points))
