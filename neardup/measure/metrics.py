"""Every metric once, in NumPy, with its rule for ties and for singletons.

All take similarities (higher is more alike) and groups; ties are resolved against us: of equally similar photos the
irrelevant ones rank first. A query is a photo of a group of two or more; a singleton is never a query, always gallery.
Weights are how often each group was drawn in a resample: all ones give the metric itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Floats, Ints

NAMES = (
    "precision",
    "recall",
    "f1",
    "top_1",
    "top_5",
    "ndcg",
    "map",
    "r_precision",
    "recall_at_5",
    "recall_at_10",
    "nn_precision",
    "nn_recall",
    "nn_f1",
    "micro_ap",
    "recall_at_90_precision",
    "b3_precision",
    "b3_recall",
    "b3_f1",
    "over_merged",
    "over_split",
    "false_alarms",
)
"""The prior project's six first."""
LOWER_IS_BETTER = frozenset({"over_merged", "over_split", "false_alarms"})


def rankings(similarities: Floats, groups: Ints) -> tuple[Ints, Bools]:
    """The relevance of every query's gallery, best first.

    Args:
        similarities: float64 (n, n).
        groups: int64 (n,).

    Returns:
        The queries' indices, int64 (q,), and bool (q, n - 1): whether the photo at each rank is of the query's group.
        A photo never finds itself.
    """
    sizes = np.bincount(groups)[groups]
    queries = np.flatnonzero(sizes > 1)
    relevance = np.empty((len(queries), max(0, len(groups) - 1)), dtype=bool)
    for row, query in enumerate(queries):
        others = np.delete(np.arange(len(groups)), query)
        same = groups[others] == groups[query]
        relevance[row] = same[np.lexsort((same, -similarities[query, others]))]
    return queries, relevance


def hit_at(relevance: Bools, k: int) -> Floats:
    """Per query, 1 if one of the first k is relevant: top-k, also called hit rate.

    >>> hit_at(np.array([[False, True]]), 1).tolist(), hit_at(np.array([[False, True]]), 5).tolist()
    ([0.0], [1.0])
    """
    return np.asarray(relevance[:, :k].any(axis=1), dtype=np.float64)


def recall_at(relevance: Bools, k: int) -> Floats:
    """Per query, share of its relevant photos that are among the first k; not the hit rate.

    >>> recall_at(np.array([[True, False, True]]), 1).tolist()
    [0.5]
    """
    return np.asarray(relevance[:, :k].sum(axis=1) / relevance.sum(axis=1), dtype=np.float64)


def ndcg(relevance: Bools) -> Floats:
    """Per query, binary-gain nDCG over the whole ranking (Järvelin and Kekäläinen 2002).

    >>> ndcg(np.array([[False, True]])).round(4).tolist()
    [0.6309]
    """
    discounts = 1 / np.log2(np.arange(2, relevance.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[relevance.sum(axis=1)]
    return np.asarray(relevance @ discounts / ideal, dtype=np.float64)


def average_precision(relevance: Bools) -> Floats:
    """Per query, mean over its relevant photos of the precision at their rank; its mean over queries is mAP.

    >>> average_precision(np.array([[True, False, True]])).round(4).tolist()
    [0.8333]
    """
    ranks = np.arange(1, relevance.shape[1] + 1)
    precision = np.cumsum(relevance, axis=1) / ranks
    return np.asarray((precision * relevance).sum(axis=1) / relevance.sum(axis=1), dtype=np.float64)


def r_precision(relevance: Bools) -> Floats:
    """Per query with n relevant photos, share of relevant ones among the first n.

    >>> r_precision(np.array([[True, False, True]])).tolist()
    [0.5]
    """
    counts = relevance.sum(axis=1)
    within = np.arange(relevance.shape[1])[None, :] < counts[:, None]
    return np.asarray((relevance & within).sum(axis=1) / counts, dtype=np.float64)


@dataclass(frozen=True)
class Pairs:
    """All unordered pairs of the test set.

    Attributes:
        i: int64 (m,), the lesser index.
        j: int64 (m,), the greater index.
        scores: float64 (m,), similarities.
        same: bool (m,), whether both are of one group.
    """

    i: Ints
    j: Ints
    scores: Floats
    same: Bools

    @classmethod
    def of(cls, similarities: Floats, groups: Ints) -> "Pairs":
        """The n (n - 1) / 2 pairs above the diagonal."""
        i, j = np.triu_indices(len(groups), 1)
        return cls(i.astype(np.int64), j.astype(np.int64), similarities[i, j], groups[i] == groups[j])

    def take(self, chosen: Ints | Bools) -> "Pairs":
        """Some of the pairs, by index or by mask."""
        return Pairs(self.i[chosen], self.j[chosen], self.scores[chosen], self.same[chosen])

    @cached_property
    def order(self) -> Ints:
        """Best first; of equal scores the pairs of different groups come first."""
        return np.lexsort((self.same, -self.scores)).astype(np.int64)

    def weights(self, group_of: Ints, weights: Floats) -> Floats:
        """How often each pair occurs in a resample: within a group as often as the group, else the product."""
        left, right = weights[group_of[self.i]], weights[group_of[self.j]]
        return np.where(self.same, left, left * right)


def precision_recall(same: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Precision and recall after each of the ordered pairs, float64 (m,) each."""
    found = np.cumsum(weights * same)
    seen = np.cumsum(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return found / seen, found / found[-1]


def micro_average_precision(same: Bools, weights: Floats) -> float:
    """Average precision over all ordered pairs at once: image copy detection's µAP (Douze et al. 2021)."""
    precision, recall = precision_recall(same, weights)
    return float(np.nansum(precision * np.diff(recall, prepend=0.0)))


def recall_at_precision(same: Bools, weights: Floats, ends: Bools, least: float = 0.9) -> float:
    """Greatest recall at a threshold whose precision is at least `least`; 0 if there is none.

    Args:
        same: bool (m,), ordered as `Pairs.order`.
        weights: float64 (m,).
        ends: bool (m,), True at the last pair of each score: only there can a threshold lie.
        least: the precision asked for.
    """
    precision, recall = precision_recall(same, weights)
    return float(np.max(recall[ends & (precision >= least)], initial=0.0))


def b_cubed(found: Ints, group_of: Ints) -> tuple[Floats, Floats]:
    """Per photo, share of its found group that is of its true one, and the other way round (Bagga and Baldwin 1998)."""
    both = (found[:, None] == found[None, :]) & (group_of[:, None] == group_of[None, :])
    shared = both.sum(axis=1)
    return shared / np.bincount(found)[found], shared / np.bincount(group_of)[group_of]


def precision_recall_by_group(true: Ints, predicted: Ints, groups: int) -> tuple[Floats, Floats, Bools]:
    """Precision and recall of each group in a prediction; the mean over the groups that occur is the macro average.

    Args:
        true: int64 (q,), the group of each query.
        predicted: int64 (q,), the group that was predicted.
        groups: how many groups there are.

    Returns:
        float64 (groups,) each, 0 where a group was never predicted or is never true (as scikit-learn with
        `zero_division=0`), and bool (groups,), whether the group occurs, true or predicted.
    """
    hits = np.bincount(true, true == predicted, groups)
    of_true, of_predicted = np.bincount(true, minlength=groups), np.bincount(predicted, minlength=groups)
    precision = np.divide(hits, of_predicted, out=np.zeros(groups), where=of_predicted > 0)
    recall = np.divide(hits, of_true, out=np.zeros(groups), where=of_true > 0)
    return precision, recall, (of_true > 0) | (of_predicted > 0)


def harmonic(a: float, b: float) -> float:
    """Harmonic mean; 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b > 0 else (0.0 if a == b == 0 else float("nan"))


def weighted(values: Floats, weights: Floats) -> float:
    """Weighted mean; NaN where nothing has a weight."""
    total = weights.sum()
    return float(values @ weights / total) if total > 0 else float("nan")
