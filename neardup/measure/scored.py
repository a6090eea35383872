"""A test set with its photos' similarities by an encoder, from which all metrics are computed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.complete_linkage import complete_linkage
from neardup.measure.pairs import Pairs
from neardup.measure.threshold import calibrated_thresholds

DECIMALS = 9
"""Decimals of a similarity that count.

For equal vectors, BLAS gives products that differ by about 1e-16 in double precision, which would break ties by chance;
float32 vectors determine a similarity only to about 1e-8.
"""
T = TypeVar("T")
"""Result of a function of a test set."""


def similarities_between(queries: Floats, gallery: Floats) -> Floats:
    """Compute cosine similarities to `DECIMALS` places, float64 (n, m), so that equal vectors are equally similar.

    Args:
        queries: float64 (n, d), unit rows.
        gallery: float64 (m, d), unit rows.
    """
    products = queries @ gallery.T
    return np.round(products, DECIMALS, out=products)


def rankings(similarities: Floats, groups: Ints, distractors: Floats | None = None) -> tuple[Ints, Bools]:
    """Rank each query's gallery, the most similar photo first: whether the photo at each rank is relevant.

    A query is a photo of a group of two or more: a singleton is never a query, but always in the gallery. The gallery
    is every other photo and every distractor; a photo never finds itself. Ties are resolved pessimistically: of equally
    similar photos, the irrelevant ones rank first. A distractor is always irrelevant.

    Args:
        similarities: float64 (n, n); higher is more alike.
        groups: int64 (n,), the group of each photo.
        distractors: float64 (n, m), similarity of each photo to each distractor; none by default.

    Returns:
        The queries' indices, int64 (q,), and their relevance by rank, bool (q, n - 1 + m).
    """
    distractor_scores = np.empty((len(groups), 0)) if distractors is None else distractors
    queries = np.flatnonzero(np.bincount(groups)[groups] > 1)
    relevance = np.empty((len(queries), max(0, len(groups) - 1) + distractor_scores.shape[1]), dtype=bool)
    for row, query in enumerate(queries):
        others = np.delete(np.arange(len(groups)), query)
        same = np.append(groups[others] == groups[query], np.zeros(distractor_scores.shape[1], dtype=bool))
        scores = np.append(similarities[query, others], distractor_scores[query])
        relevance[row] = same[np.lexsort((same, -scores))]
    return queries, relevance


@dataclass(frozen=True)
class ScoredTestSet:
    """The photos of a test set with their similarities, their groups and their calibrated thresholds.

    Distractors are further photos of the archive in the gallery of every query. Each is a singleton that is never a
    query: it counts in the ranking metrics and as a nearest neighbour. It makes no pair, so that the threshold, the
    metrics over pairs, the found groups and the false alarms are those of the test set alone.

    Attributes:
        similarities: float64 (n, n), symmetric; higher is more alike.
        group_of: int64 (n,), 0-based group of each photo, without gaps.
        pairs: all unordered pairs of the test set.
        thresholds: float64 (m,), for each pair, the threshold that was calibrated without its groups.
        distractors: float64 (n, d), similarity of each photo to each distractor; no columns where there is none.
    """

    similarities: Floats
    group_of: Ints
    pairs: Pairs
    thresholds: Floats
    distractors: Floats

    @classmethod
    def of(
        cls, similarities: Floats, groups: Ints, folds: int, seed: int, distractors: Floats | None = None
    ) -> "ScoredTestSet":
        """Calibrate the thresholds of a test set.

        Args:
            similarities: float64 (n, n).
            groups: int64 (n,), in any numbering.
            folds: folds of the cross-validation that calibrates the thresholds.
            seed: seed by which groups are dealt into folds.
            distractors: float64 (n, d); none by default.
        """
        group_of = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        pairs = Pairs.of(similarities, group_of)
        thresholds = calibrated_thresholds(pairs, group_of, folds, seed)
        distractor_scores = np.empty((len(group_of), 0)) if distractors is None else distractors
        return cls(similarities, group_of, pairs, thresholds, distractor_scores)

    @property
    def group_count(self) -> int:
        """How many groups the test set has, singletons included, distractors not."""
        return int(self.group_of.max()) + 1

    @cached_property
    def called(self) -> Bools:
        """Which pairs are called near-duplicates, bool (m,): those at or above their threshold."""
        return np.asarray(self.pairs.scores >= self.thresholds)

    @cached_property
    def queries(self) -> Ints:
        """Indices of the photos of a group of two or more, int64 (q,)."""
        return self._rankings[0]

    @cached_property
    def relevance(self) -> Bools:
        """For each query, whether the photo at each rank is of its group, bool (q, n - 1 + d), as in `rankings`."""
        return self._rankings[1]

    @cached_property
    def _rankings(self) -> tuple[Ints, Bools]:
        return rankings(self.similarities, self.group_of, self.distractors)

    @cached_property
    def nearest(self) -> Ints:
        """The nearest other photo of each, int64 (n,): its index, or n + k for distractor k.

        Ties are resolved pessimistically: of equally near photos, one of another group is taken.
        """
        scores = self.similarities.copy()
        np.fill_diagonal(scores, -np.inf)
        scores = np.concatenate([scores, self.distractors], axis=1)
        tied = scores == scores.max(axis=1, keepdims=True)
        foreign = tied & (self.group_of[:, None] != self.gallery_group_of[None, :])
        nearest = np.where(foreign.any(axis=1), foreign.argmax(axis=1), tied.argmax(axis=1))
        return np.asarray(nearest, dtype=np.int64)

    @cached_property
    def gallery_group_of(self) -> Ints:
        """The group of each photo, then of each distractor, int64 (n + d,): a distractor is a group of its own."""
        return np.append(self.group_of, self.group_count + np.arange(self.distractors.shape[1]))

    @cached_property
    def found_groups(self) -> Ints:
        """The found group of each photo, int64 (n,), from 1: every pair of a group reaches its threshold."""
        square = np.zeros(self.similarities.shape)
        square[self.pairs.i, self.pairs.j] = self.pairs.scores - self.thresholds
        return complete_linkage(square)

    @cached_property
    def _results(self) -> dict[Callable[..., Any], Any]:
        return {}

    def once(self, function: "Callable[[ScoredTestSet], T]") -> T:
        """Cache the result of a function of this test set, which all resamples share."""
        if function not in self._results:
            self._results[function] = function(self)
        return cast("T", self._results[function])
