"""A test set that was judged: every metric of it, for the test set itself and for each resample of its groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.groups import complete_linkage
from neardup.measure.metrics import (
    Pairs,
    average_precision,
    b_cubed,
    harmonic,
    hit_at,
    micro_average_precision,
    ndcg,
    precision_recall_by_group,
    r_precision,
    rankings,
    recall_at,
    recall_at_precision,
    weighted,
)
from neardup.measure.threshold import calibrated_thresholds

Statistic = Callable[[Floats], dict[str, float]]
"""From the weights of the groups, float64 (g,), to metrics."""


@dataclass(frozen=True)
class Judged:
    """A test set with its similarities, judged: what every metric is computed from.

    Attributes:
        similarities: float64 (n, n).
        group_of: int64 (n,), 0-based.
        pairs: all unordered pairs.
        thresholds: float64 (m,), the calibrated threshold of each pair.
    """

    similarities: Floats
    group_of: Ints
    pairs: Pairs
    thresholds: Floats

    @classmethod
    def of(cls, similarities: Floats, groups: Ints, folds: int, seed: int) -> "Judged":
        """Judge similarities, float64 (n, n), against any numbering of the groups, int64 (n,)."""
        group_of = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        pairs = Pairs.of(similarities, group_of)
        return cls(similarities, group_of, pairs, calibrated_thresholds(pairs, group_of, folds, seed)[0])

    @cached_property
    def positive(self) -> Bools:
        """Bool (m,): pairs called near-duplicates."""
        return np.asarray(self.pairs.scores >= self.thresholds)

    @cached_property
    def ranked(self) -> tuple[Ints, Bools]:
        """Queries and the relevance of their rankings."""
        return rankings(self.similarities, self.group_of)

    @cached_property
    def found(self) -> Ints:
        """The found group of each photo."""
        margins = np.where(np.isinf(self.thresholds), -4.0, self.pairs.scores - self.thresholds)
        square = np.zeros(self.similarities.shape)
        square[self.pairs.i, self.pairs.j] = margins
        return complete_linkage(square)

    def per_query(self) -> Mapping[str, Floats]:
        """Ranking metrics, float64 (q,) each."""
        _, relevance = self.ranked
        return {
            "top_1": hit_at(relevance, 1),
            "top_5": hit_at(relevance, 5),
            "ndcg": ndcg(relevance),
            "map": average_precision(relevance),
            "r_precision": r_precision(relevance),
            "recall_at_5": recall_at(relevance, 5),
            "recall_at_10": recall_at(relevance, 10),
        }

    def nearest(self) -> Ints:
        """Int64 (n,): the nearest other photo of each; of equally near ones, one of another group."""
        other = self.similarities.copy()
        np.fill_diagonal(other, -np.inf)
        tied = other == other.max(axis=1, keepdims=True)
        foreign = tied & (self.group_of[:, None] != self.group_of[None, :])
        nearest = np.where(foreign.any(axis=1), foreign.argmax(axis=1), tied.argmax(axis=1))
        return np.asarray(nearest, dtype=np.int64)

    def statistics(self) -> dict[str, Statistic]:
        """The metrics by kind."""
        return {
            "ranking": self._ranking(),
            "pairs": self._pairs(),
            "nearest": self._nearest(),
            "micro": self._micro(),
            "found": self._found(),
        }

    def _ranking(self) -> Statistic:
        columns, own = self.per_query(), self.group_of[self.ranked[0]]
        return lambda weights: {name: weighted(values, weights[own]) for name, values in columns.items()}

    def _pairs(self) -> Statistic:
        chosen = self.positive | self.pairs.same
        few = self.pairs.take(chosen)
        called = self.positive[chosen]

        def statistic(weights: Floats) -> dict[str, float]:
            weight = few.weights(self.group_of, weights)
            hits = float(weight[called & few.same].sum())
            calls, true = float(weight[called].sum()), float(weight[few.same].sum())
            precision = hits / calls if calls else 0.0
            recall = hits / true if true else float("nan")
            return {"precision": precision, "recall": recall, "f1": harmonic(precision, recall)}

        return statistic

    def _nearest(self) -> Statistic:
        queries = self.ranked[0]
        count = int(self.group_of.max()) + 1
        true, predicted = self.group_of[queries], self.group_of[self.nearest()[queries]]
        by_group = precision_recall_by_group(true, predicted, count)
        precision, recall = by_group[0][by_group[2]], by_group[1][by_group[2]]

        def statistic(weights: Floats) -> dict[str, float]:
            weight = weights[by_group[2]]
            macro = weighted(precision, weight), weighted(recall, weight)
            return {"nn_precision": macro[0], "nn_recall": macro[1], "nn_f1": harmonic(*macro)}

        return statistic

    def _micro(self) -> Statistic:
        order = self.pairs.order
        ordered = self.pairs.take(order)
        ends = np.append(ordered.scores[1:] != ordered.scores[:-1], True)

        def statistic(weights: Floats) -> dict[str, float]:
            weight = ordered.weights(self.group_of, weights)
            if not (weight * ordered.same).any():
                return {"micro_ap": float("nan"), "recall_at_90_precision": float("nan")}
            ap = micro_average_precision(ordered.same, weight)
            return {"micro_ap": ap, "recall_at_90_precision": recall_at_precision(ordered.same, weight, ends)}

        return statistic

    def _found(self) -> Statistic:
        precision, recall = b_cubed(self.found, self.group_of)
        merged, apart = (precision < 1).astype(np.float64), (recall < 1).astype(np.float64)
        partnered = np.zeros(len(self.group_of))
        partnered[self.pairs.i[self.positive]] = partnered[self.pairs.j[self.positive]] = 1
        alone = np.bincount(self.group_of)[self.group_of] == 1

        def statistic(weights: Floats) -> dict[str, float]:
            weight = weights[self.group_of]
            b3 = weighted(precision, weight), weighted(recall, weight)
            return {
                "b3_precision": b3[0],
                "b3_recall": b3[1],
                "b3_f1": harmonic(*b3),
                "over_merged": weighted(merged, weight),
                "over_split": weighted(apart, weight),
                "false_alarms": weighted(partnered[alone], weight[alone]),
            }

        return statistic
