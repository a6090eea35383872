"""Every metric, defined once, with its formula and its rules for ties and singletons, and the table of all.

A metric is a function of a resample of the test set's groups: `Resample.whole` gives its value, the bootstrap's
resamples its interval. To add a metric, write its function and a line of `_TABLE`, from which its name, title and
direction, its place in every table and whether a promotion may go by it are taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.measure.bootstrap import Resample, ordered, weighted
from neardup.measure.pairs import micro_average_precision, recall_at_precision
from neardup.measure.scored import ScoredTestSet

Relevance = Bools
"""Bool (q, m): for each query, whether the photo at each rank of its gallery is of its group (`scored.rankings`)."""
LEAST_PRECISION = 0.9
"""Least share of called pairs that are right at the operating point of `recall_at_90_precision`."""


# Ranking metrics: one value per query, from the relevance of its gallery's photos by rank.


def hit_at(relevance: Relevance, k: int) -> Floats:
    """Top-k, also called hit rate: 1 for a query if one of the first k photos is relevant, else 0.

    Its mean over queries is the metric. It is not recall@k, which counts how many of the relevant photos are found.
    Ties: a tied irrelevant photo, or distractor, ranks first. Singletons: never a query, always in the gallery.

    >>> hit_at(np.array([[False, True]]), 1).tolist(), hit_at(np.array([[False, True]]), 5).tolist()
    ([0.0], [1.0])
    """
    return np.asarray(relevance[:, :k].any(axis=1), dtype=np.float64)


def recall_at(relevance: Relevance, k: int) -> Floats:
    """Recall@k: per query the share of its relevant photos that are among the first k.

    Its mean over queries is the metric. It is not the hit rate, which needs only one relevant photo. Ties: a tied
    irrelevant photo, or distractor, ranks first. Singletons: never a query, always in the gallery.

    >>> recall_at(np.array([[True, False, True]]), 1).tolist()
    [0.5]
    """
    return np.asarray(relevance[:, :k].sum(axis=1) / relevance.sum(axis=1), dtype=np.float64)


def ndcg(relevance: Relevance) -> Floats:
    """nDCG: per query, the discounted binary gain of the whole ranking as a share of the best possible ranking's.

    A relevant photo at rank r gains 1 / log2(r + 1) (Järvelin and Kekäläinen 2002); the mean over queries is reported.
    Ties: a tied irrelevant photo, or distractor, ranks first; scikit-learn's `ndcg_score` averages over ties instead,
    and equals this metric where there are none. Singletons: never a query, always in the gallery.

    >>> ndcg(np.array([[False, True]])).round(4).tolist()
    [0.6309]
    """
    discounts = 1 / np.log2(np.arange(2, relevance.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[relevance.sum(axis=1)]
    return np.asarray(relevance @ discounts / ideal, dtype=np.float64)


def average_precision(relevance: Relevance) -> Floats:
    """Average precision: per query the mean, over its relevant photos, of the precision at their rank.

    Its mean over queries is mAP, the metric.
    Ties: a tied irrelevant photo, or distractor, ranks first. Singletons: never a query, always in the gallery.

    >>> average_precision(np.array([[True, False, True]])).round(4).tolist()
    [0.8333]
    """
    ranks = np.arange(1, relevance.shape[1] + 1)
    precision = np.cumsum(relevance, axis=1) / ranks
    return np.asarray((precision * relevance).sum(axis=1) / relevance.sum(axis=1), dtype=np.float64)


def r_precision(relevance: Relevance) -> Floats:
    """R-precision: per query with n relevant photos the share of relevant ones among the first n.

    Its mean over queries is the metric.
    Ties: a tied irrelevant photo, or distractor, ranks first. Singletons: never a query, always in the gallery.

    >>> r_precision(np.array([[True, False, True]])).tolist()
    [0.5]
    """
    counts = relevance.sum(axis=1)
    within = np.arange(relevance.shape[1])[None, :] < counts[:, None]
    return np.asarray((relevance & within).sum(axis=1) / counts, dtype=np.float64)


def mean_over_queries(per_query: Callable[[Relevance], Floats]) -> Callable[[Resample], float]:
    """Make a ranking metric: the mean over queries of a function of their relevance; NaN without queries."""

    def values(scored: ScoredTestSet) -> Floats:
        return per_query(scored.relevance)

    return lambda resample: weighted(resample.scored.once(values), resample.queries)


# Metrics over the unordered pairs of the test set, at the calibrated thresholds. Distractors are in no pair.


def precision(resample: Resample) -> float:
    """Precision over pairs: the share of the pairs called near-duplicates that are of one group; 0 if none is called.

    Ties: a pair exactly at its threshold is called. Singletons: their pairs are of two groups, and wrong if called.
    Each pair is judged by the threshold that was calibrated without the groups of its photos. Distractors do not count.
    """
    hits, called, _ = resample.pair_counts
    return hits / called if called else 0.0


def recall(resample: Resample) -> float:
    """Recall over pairs: the share of the pairs of one group that are called near-duplicates; NaN without such pairs.

    Ties: a pair exactly at its threshold is called. Singletons: they make no pair of one group, and so do not count.
    Each pair is judged by the threshold that was calibrated without the groups of its photos. Distractors do not count.
    """
    hits, _, same = resample.pair_counts
    return hits / same if same else float("nan")


def f1(resample: Resample) -> float:
    """F1 over pairs: harmonic mean of `precision` and `recall`, with their rules for ties and singletons."""
    return harmonic(precision(resample), recall(resample))


# Metrics of predicting a query's group by its nearest photo's.


def precision_recall_by_group(true: Ints, predicted: Ints, groups: int) -> tuple[Floats, Floats, Bools]:
    """Compute precision and recall of each group in a prediction, whose means over occurring groups are macro averages.

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
    precise = np.divide(hits, of_predicted, out=np.zeros(groups), where=of_predicted > 0)
    recalled = np.divide(hits, of_true, out=np.zeros(groups), where=of_true > 0)
    return precise, recalled, (of_true > 0) | (of_predicted > 0)


def _by_nearest(scored: ScoredTestSet) -> tuple[Floats, Floats, Bools]:
    """Precision and recall by group of predicting, for each query, the group of its nearest photo or distractor."""
    queries, group_of = scored.queries, scored.gallery_group_of
    groups = scored.group_count + scored.distractors.shape[1]
    return precision_recall_by_group(group_of[queries], group_of[scored.nearest[queries]], groups)


def nn_precision(resample: Resample) -> float:
    """nn-precision: macro precision of predicting each query's group by its nearest photo.

    Macro means the mean over the groups that occur, true or predicted. Together with nn-recall and nn-F1, this is the
    likeliest reading of the prior project's published table. Ties: of equally near photos one of another group is
    taken. Singletons: never a query; one that is predicted is a group of precision 0, and so is a distractor, whose
    weight is 1 in every resample.
    """
    precise, _, occurs = resample.scored.once(_by_nearest)
    return weighted(precise[occurs], resample.gallery_groups[occurs])


def nn_recall(resample: Resample) -> float:
    """nn-recall: macro recall of predicting each query's group by its nearest photo.

    Macro means the mean over the groups that occur, true or predicted.
    Ties: of equally near photos one of another group is taken. Singletons: never a query; one that is predicted is a
    group of recall 0, and so is a distractor, whose weight is 1 in every resample.
    """
    _, recalled, occurs = resample.scored.once(_by_nearest)
    return weighted(recalled[occurs], resample.gallery_groups[occurs])


def nn_f1(resample: Resample) -> float:
    """nn-F1: harmonic mean of `nn_precision` and `nn_recall`, with their rules for ties and singletons."""
    return harmonic(nn_precision(resample), nn_recall(resample))


# Metrics over the ranking of all pairs of the test set at once, without a threshold. Distractors are in no pair.


def _ends(scored: ScoredTestSet) -> Bools:
    """Find the ordered pairs that are the last ones of their score, bool (m,)."""
    scores = scored.once(ordered).scores
    return np.append(scores[1:] != scores[:-1], True)


def micro_ap(resample: Resample) -> float:
    """µAP: micro average precision, that of all pairs of the test set in one ranking; NaN if no pair is of one group.

    Image copy detection's usual measure (Douze et al. 2021); see `neardup.measure.pairs.micro_average_precision`.
    Ties: of equal scores the pairs of two groups come first. Singletons: their pairs are wrong ones. Distractors do
    not count.
    """
    same, weights = resample.scored.once(ordered).same, resample.ordered_pairs
    return micro_average_precision(same, weights) if (weights * same).any() else float("nan")


def recall_at_90_precision(resample: Resample) -> float:
    """Greatest recall over pairs at a threshold whose precision is at least 90 %; NaN if no pair is of one group.

    Image copy detection's usual operating point; see `neardup.measure.pairs.recall_at_precision`.
    Ties: equally similar pairs are called together. Singletons: their pairs are wrong ones. Distractors do not count.
    """
    same, weights = resample.scored.once(ordered).same, resample.ordered_pairs
    if not (weights * same).any():
        return float("nan")
    return recall_at_precision(same, weights, resample.scored.once(_ends), LEAST_PRECISION)


# Metrics that compare found groups with true ones. Distractors are in no found group.


def b_cubed(found: Ints, group_of: Ints) -> tuple[Floats, Floats]:
    """B³: per photo, the share of its found group that is in its true one, and of its true group in its found one.

    The first is the photo's precision, the second its recall (Bagga and Baldwin 1998); their means are the metrics.
    Ties: there are none, groups are given. Singletons: they count as every photo does.

    Args:
        found: int64 (n,), the found group of each photo.
        group_of: int64 (n,), the true group of each photo.

    >>> [values.round(4).tolist() for values in b_cubed(np.array([1, 1, 2]), np.array([0, 0, 0]))]
    [[1.0, 1.0, 1.0], [0.6667, 0.6667, 0.3333]]
    """
    together = (found[:, None] == found[None, :]) & (group_of[:, None] == group_of[None, :])
    shared = together.sum(axis=1)
    return shared / np.bincount(found)[found], shared / np.bincount(group_of)[group_of]


def _b_cubed(scored: ScoredTestSet) -> tuple[Floats, Floats]:
    """B³ precision and recall of each photo, float64 (n,) each."""
    return b_cubed(scored.found_groups, scored.group_of)


def b3_precision(resample: Resample) -> float:
    """B³ precision: mean over photos of the share of their found group that is of their true one; see `b_cubed`.

    Ties: a pair exactly at its threshold may share a group. Singletons: each counts. Distractors do not count.
    """
    return weighted(resample.scored.once(_b_cubed)[0], resample.photos)


def b3_recall(resample: Resample) -> float:
    """B³ recall: mean over photos of the share of their true group that is in their found one; see `b_cubed`.

    Ties: a pair exactly at its threshold may share a group. Singletons: each counts. Distractors do not count.
    """
    return weighted(resample.scored.once(_b_cubed)[1], resample.photos)


def b3_f1(resample: Resample) -> float:
    """B³ F1: harmonic mean of `b3_precision` and `b3_recall`, with their rules for ties and singletons."""
    return harmonic(b3_precision(resample), b3_recall(resample))


def over_merged(resample: Resample) -> float:
    """Over-merged: share of photos whose found group holds a photo of another true group; lower is better.

    Ties: a pair exactly at its threshold may share a group. Singletons: each counts. Distractors do not count.
    """
    return weighted((resample.scored.once(_b_cubed)[0] < 1).astype(np.float64), resample.photos)


def over_split(resample: Resample) -> float:
    """Over-split: share of photos whose found group lacks a photo of their true group; lower is better.

    Ties: a pair exactly at its threshold may share a group. Singletons: they lack nothing, and count as right.
    Distractors do not count.
    """
    return weighted((resample.scored.once(_b_cubed)[1] < 1).astype(np.float64), resample.photos)


def _partnered(scored: ScoredTestSet) -> tuple[Floats, Bools]:
    """Whether each photo is in a called pair, float64 (n,), 0 or 1, and whether it is a singleton, bool (n,)."""
    partnered = np.zeros(len(scored.group_of))
    partnered[scored.pairs.i[scored.called]] = partnered[scored.pairs.j[scored.called]] = 1
    return partnered, np.bincount(scored.group_of)[scored.group_of] == 1


def false_alarms(resample: Resample) -> float:
    """False alarms: share of the test set's singletons that are in a called pair; lower is better, NaN without any.

    Ties: a pair exactly at its threshold is called. Singletons: they alone count. Distractors do not count, neither as
    singletons nor as partners.
    """
    partnered, alone = resample.scored.once(_partnered)
    return weighted(partnered[alone], resample.photos[alone])


def harmonic(a: float, b: float) -> float:
    """Compute the harmonic mean of two shares; 0 where both are 0, NaN where one is NaN."""
    return 2 * a * b / (a + b) if a + b > 0 else (0.0 if a == b == 0 else float("nan"))


@dataclass(frozen=True)
class Metric:
    """One metric, as every table, report and promotion knows it.

    Attributes:
        name: the metric's name in files and on the command line.
        title: its name for people.
        value: function from a resample to the metric, 0 to 1; NaN where undefined.
        higher_is_better: whether a higher value is better.
        promotes: whether a promotion may go by it (`neardup promote --metric`); `neardup.settings.schema.Metric` lists
            the same names, as a test checks.
    """

    name: str
    title: str
    value: Callable[[Resample], float]
    higher_is_better: bool = True
    promotes: bool = False


_TABLE = (
    Metric("precision", "precision", precision),
    Metric("recall", "recall", recall),
    Metric("f1", "F1", f1, promotes=True),
    Metric("top_1", "top-1", mean_over_queries(lambda relevance: hit_at(relevance, 1)), promotes=True),
    Metric("top_5", "top-5", mean_over_queries(lambda relevance: hit_at(relevance, 5)), promotes=True),
    Metric("ndcg", "nDCG", mean_over_queries(ndcg), promotes=True),
    Metric("map", "mAP", mean_over_queries(average_precision), promotes=True),
    Metric("r_precision", "R-precision", mean_over_queries(r_precision)),
    Metric("recall_at_5", "recall@5", mean_over_queries(lambda relevance: recall_at(relevance, 5))),
    Metric("recall_at_10", "recall@10", mean_over_queries(lambda relevance: recall_at(relevance, 10))),
    Metric("nn_precision", "nn-precision", nn_precision),
    Metric("nn_recall", "nn-recall", nn_recall),
    Metric("nn_f1", "nn-F1", nn_f1, promotes=True),
    Metric("micro_ap", "µAP", micro_ap, promotes=True),
    Metric("recall_at_90_precision", "recall at 90 % precision", recall_at_90_precision, promotes=True),
    Metric("b3_precision", "B³ precision", b3_precision),
    Metric("b3_recall", "B³ recall", b3_recall),
    Metric("b3_f1", "B³ F1", b3_f1, promotes=True),
    Metric("over_merged", "over-merged", over_merged, higher_is_better=False),
    Metric("over_split", "over-split", over_split, higher_is_better=False),
    Metric("false_alarms", "false alarms", false_alarms, higher_is_better=False),
)
"""The metrics, in the order of every table."""
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""All metrics by name, in the order of every table; the six that the prior project published come first."""
NAMES = tuple(METRICS)
"""The metrics' names in the order of every table."""
