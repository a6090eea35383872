"""Every metric once, in NumPy, with its rule for ties and for singletons.

All take similarities (higher is more alike) and groups; ties are resolved against us: of equally similar photos the
irrelevant ones rank first. A query is a photo of a group of two or more; a singleton is never a query, always gallery.
Weights are how often each group was drawn in a resample: all ones give the metric itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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
ERROR_RESAMPLES = 200
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


def f1_by_threshold(scores: Floats, same: Bools) -> tuple[Floats, Floats]:
    """F1 over pairs at every threshold that tells pairs apart, the highest first.

    Returns:
        float64 (k,) each: thresholds, midway to the next lower score, and F1; a pair at or above one is called.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(same[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + same.sum())
    ends = np.append(ranked[1:] != ranked[:-1], True)
    below = np.append(ranked[1:], ranked[-1])
    return (ranked[ends] + below[ends]) / 2, f1[ends]


def best_threshold(scores: Floats, same: Bools) -> float:
    """The threshold with the greatest F1 over pairs; the highest of equally good ones.

    Returns:
        A pair at or above it is called near-duplicate; infinity where there is no pair of one group.
    """
    if not same.any():
        return float("inf")
    thresholds, f1 = f1_by_threshold(scores, same)
    return float(thresholds[np.argmax(f1)])


def f1_error(pairs: Pairs, group_of: Ints, threshold: float) -> float:
    """Standard error of the F1 over pairs at a threshold: its deviation over resampled groups, where it is defined."""
    few = pairs.take((pairs.scores >= threshold) | pairs.same)
    called = few.scores >= threshold
    present = np.unique(group_of[np.concatenate([pairs.i, pairs.j])])
    drawn = np.random.default_rng(0).multinomial(len(present), np.full(len(present), 1 / len(present)), ERROR_RESAMPLES)
    found = []
    for counts in drawn:
        weights = np.zeros(int(group_of.max()) + 1)
        weights[present] = counts
        weight = few.weights(group_of, weights)
        total = weight[called].sum() + weight[few.same].sum()
        if total:
            found.append(2 * weight[called & few.same].sum() / total)
    return float(np.std(found)) if found else 0.0


def calibrated_threshold(pairs: Pairs, group_of: Ints) -> float:
    """The strictest threshold whose F1 over pairs is within one standard error of the greatest.

    The one-standard-error rule (Breiman et al. 1984): F1 is flat at its top, so that the very best threshold is a
    matter of chance, while a stricter one that cannot be told from it gives far fewer false alarms.

    Args:
        pairs: those to choose on.
        group_of: int64 (n,), 0-based group of each photo.

    Returns:
        At least `best_threshold`; infinity where there is no pair of one group.
    """
    if not pairs.same.any():
        return float("inf")
    thresholds, f1 = f1_by_threshold(pairs.scores, pairs.same)
    error = f1_error(pairs, group_of, float(thresholds[np.argmax(f1)]))
    return float(thresholds[np.argmax(f1 >= f1.max() - error)])


def calibrated_thresholds(pairs: Pairs, group_of: Ints, folds: int, seed: int) -> tuple[Floats, Ints]:
    """A threshold for every pair, calibrated on groups that neither of its photos belongs to.

    The groups are dealt into folds. A pair within a fold is judged by the threshold chosen on the pairs wholly outside
    that fold; a pair across two folds by the one chosen on the pairs outside both. Every pair is judged once.

    Args:
        pairs: all pairs.
        group_of: int64 (n,), 0-based group of each photo.
        folds: how many, at least 3.
        seed: of the dealing.

    Returns:
        float64 (m,), a threshold a pair, and int64 (n,), the fold of each photo.
    """
    count = int(group_of.max()) + 1
    folds = max(3, min(folds, count))
    fold_of = np.empty(count, dtype=np.int64)
    # Dealt by size, so that every fold gets large groups and singletons alike.
    shuffled = np.random.default_rng(seed).permutation(count)
    by_size = shuffled[np.argsort(-np.bincount(group_of)[shuffled], kind="stable")]
    fold_of[by_size] = np.arange(count) % folds
    fold = fold_of[group_of]
    left, right = fold[pairs.i], fold[pairs.j]
    thresholds = np.empty(len(pairs.scores))
    for a in range(folds):
        for b in range(a, folds):
            judged = ((left == a) & (right == b)) | ((left == b) & (right == a))
            outside = ~np.isin(left, (a, b)) & ~np.isin(right, (a, b))
            thresholds[judged] = calibrated_threshold(pairs.take(outside), group_of)
    return thresholds, fold


def found_groups(pairs: Pairs, margins: Floats, n: int) -> Ints:
    """Groups in which every pair is at or above its threshold: complete linkage, so that a ~ b ~ c makes no a ≡ c.

    Args:
        pairs: all pairs.
        margins: float64 (m,), score less threshold.
        n: photos.

    Returns:
        int64 (n,), the found group of each photo.
    """
    if n < 2:  # noqa: PLR2004
        return np.arange(n)
    distances = np.zeros((n, n))
    finite = np.clip(margins, -4.0, 4.0)
    distances[pairs.i, pairs.j] = distances[pairs.j, pairs.i] = 4.0 - finite
    tree = linkage(squareform(distances, checks=False), "complete")
    return np.asarray(fcluster(tree, 4.0, "distance"), dtype=np.int64)


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
