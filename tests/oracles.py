"""Slow and readable: each metric once more, from its definition or by scikit-learn, to hold the fast ones against."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from sklearn.metrics import average_precision_score, ndcg_score, precision_recall_fscore_support

from neardup.arrays import Floats, Ints


def f1_error(similarities: Floats, group_of: Ints, threshold: float) -> float:
    """Deviation of the F1 over pairs where each group is there as often as it was drawn, pair by pair."""
    count = int(group_of.max()) + 1
    found = []
    for drawn in np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 200):
        hits = calls = true = 0
        for i, j in combinations(range(len(group_of)), 2):
            same, called = group_of[i] == group_of[j], similarities[i, j] >= threshold
            often = int(drawn[group_of[i]]) if same else int(drawn[group_of[i]] * drawn[group_of[j]])
            hits, calls, true = hits + often * (same and called), calls + often * called, true + often * same
        if calls + true:
            found.append(2 * hits / (calls + true))
    return float(np.std(found)) if found else 0.0


def phash_distance(a: str, b: str) -> int:
    """Differing bits of two perceptual hashes of 16 hex digits, 0 to 64; lower is more alike."""
    return sum((int(a, 16) ^ int(b, 16)) >> bit & 1 for bit in range(64))


def queries(groups: Ints) -> list[int]:
    """Photos of a group of two or more."""
    return [i for i in range(len(groups)) if (groups == groups[i]).sum() > 1]


def ranking(similarities: Floats, groups: Ints, query: int) -> list[int]:
    """The other photos, best first; of equal ones the irrelevant first."""
    others = [i for i in range(len(groups)) if i != query]
    return sorted(others, key=lambda i: (-similarities[query, i], groups[i] == groups[query]))


def relevance(similarities: Floats, groups: Ints, query: int) -> list[bool]:
    """Whether each of the ranked photos is of the query's group."""
    return [bool(groups[i] == groups[query]) for i in ranking(similarities, groups, query)]


def top(similarities: Floats, groups: Ints, k: int) -> float:
    """Share of queries with a relevant photo among the first k."""
    return float(np.mean([any(relevance(similarities, groups, q)[:k]) for q in queries(groups)]))


def recall_at(similarities: Floats, groups: Ints, k: int) -> float:
    """Mean share of the relevant photos that are among the first k."""
    rows = [relevance(similarities, groups, q) for q in queries(groups)]
    return float(np.mean([sum(row[:k]) / sum(row) for row in rows]))


def r_precision(similarities: Floats, groups: Ints) -> float:
    """Mean precision at as many as there are relevant."""
    rows = [relevance(similarities, groups, q) for q in queries(groups)]
    return float(np.mean([sum(row[: sum(row)]) / sum(row) for row in rows]))


def ndcg(similarities: Floats, groups: Ints) -> float:
    """scikit-learn's, on scores without ties."""
    values = []
    for q in queries(groups):
        others = np.delete(np.arange(len(groups)), q)
        values.append(ndcg_score([groups[others] == groups[q]], [similarities[q, others]]))
    return float(np.mean(values))


def mean_average_precision(similarities: Floats, groups: Ints) -> float:
    """scikit-learn's, on scores without ties."""
    values = []
    for q in queries(groups):
        others = np.delete(np.arange(len(groups)), q)
        values.append(average_precision_score(groups[others] == groups[q], similarities[q, others]))
    return float(np.mean(values))


def micro_average_precision(similarities: Floats, groups: Ints) -> float:
    """scikit-learn's, over all pairs."""
    i, j = np.triu_indices(len(groups), 1)
    return float(average_precision_score(groups[i] == groups[j], similarities[i, j]))


def pair_scores(similarities: Floats, groups: Ints, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of the pairs at or above a threshold, by scikit-learn."""
    pairs = list(combinations(range(len(groups)), 2))
    true = [groups[i] == groups[j] for i, j in pairs]
    called = [similarities[i, j] >= threshold for i, j in pairs]
    precision, recall, f1, _ = precision_recall_fscore_support(true, called, average="binary", zero_division=0)
    return float(precision), float(recall), float(f1)


def nearest_neighbour(similarities: Floats, groups: Ints) -> tuple[float, float]:
    """Macro precision and recall of the nearest photo's group as a prediction, by scikit-learn."""
    asked = queries(groups)
    predicted = [groups[ranking(similarities, groups, q)[0]] for q in asked]
    precision, recall, _, _ = precision_recall_fscore_support(
        [groups[q] for q in asked], predicted, average="macro", zero_division=0
    )
    return float(precision), float(recall)


def counted_pairs(similarities: Floats, groups: Ints) -> list[tuple[int, int, int]]:
    """At the score of each pair taken as threshold: the pairs of one group that are called, all called, and all such.

    Counted pair by pair, a hundred times as fast as scikit-learn, which `pair_scores` is by.
    """
    pairs = [(float(similarities[i, j]), bool(groups[i] == groups[j])) for i, j in combinations(range(len(groups)), 2)]
    true = sum(same for _, same in pairs)
    called = [[same for score, same in pairs if score >= threshold] for threshold in {score for score, _ in pairs}]
    return [(sum(row), len(row), true) for row in called]


def best_f1(similarities: Floats, groups: Ints) -> float:
    """The greatest F1 over pairs at any threshold, tried one by one."""
    return max(2 * hits / (called + true) for hits, called, true in counted_pairs(similarities, groups))


def recall_at_precision(similarities: Floats, groups: Ints, least: float) -> float:
    """The greatest recall at a threshold with that precision, tried one by one."""
    found = counted_pairs(similarities, groups)
    return max((hits / true for hits, called, true in found if hits / called >= least), default=0.0)


def b_cubed(found: Ints, true: Ints) -> tuple[float, float]:
    """Per photo, by sets."""
    count = range(len(true))
    of_found = [{j for j in count if found[j] == found[i]} for i in count]
    of_true = [{j for j in count if true[j] == true[i]} for i in count]
    both = [a & b for a, b in zip(of_found, of_true, strict=True)]
    precision = np.mean([len(b) / len(f) for b, f in zip(both, of_found, strict=True)])
    recall = np.mean([len(b) / len(t) for b, t in zip(both, of_true, strict=True)])
    return float(precision), float(recall)


def ndcg_against_us(similarities: Floats, groups: Ints) -> float:
    """The nDCG from its definition, rank by rank; of equally similar photos the irrelevant first."""
    values = []
    for row in (relevance(similarities, groups, q) for q in queries(groups)):
        gain = sum(1 / np.log2(rank + 1) for rank, right in enumerate(row, 1) if right)
        values.append(gain / sum(1 / np.log2(rank + 1) for rank in range(1, sum(row) + 1)))
    return float(np.mean(values))


def _average_precision(row: list[bool]) -> float:
    """Mean precision at the ranks of what is relevant."""
    return float(np.mean([np.mean(row[:rank]) for rank, right in enumerate(row, 1) if right]))


def mean_average_precision_against_us(similarities: Floats, groups: Ints) -> float:
    """The mAP from its definition, rank by rank; of equally similar photos the irrelevant first."""
    return float(np.mean([_average_precision(relevance(similarities, groups, q)) for q in queries(groups)]))


def micro_average_precision_against_us(similarities: Floats, groups: Ints) -> float:
    """µAP from its definition, pair by pair; of equally similar pairs those of two groups first."""
    pairs = [(-similarities[i, j], bool(groups[i] == groups[j])) for i, j in combinations(range(len(groups)), 2)]
    return _average_precision([same for _, same in sorted(pairs)])


def repeated_pairs(similarities: Floats, groups: Ints, times: Ints) -> list[tuple[float, bool]]:
    """Score and truth of every pair, written out as often as a resample has it.

    A group that was drawn t times is there t times, each time a group of its own: its inner pairs t times, and each
    pair with a photo of another group, drawn u times, t · u times.
    """
    pairs = []
    for i, j in combinations(range(len(groups)), 2):
        same = bool(groups[i] == groups[j])
        often = times[groups[i]] if same else times[groups[i]] * times[groups[j]]
        pairs += [(float(similarities[i, j]), same)] * int(often)
    return pairs


def resampled_pair_scores(
    similarities: Floats, groups: Ints, times: Ints, threshold: float
) -> tuple[float, float, float]:
    """Precision, recall and F1 of the repeated pairs at or above a threshold, by scikit-learn."""
    scores, true = zip(*repeated_pairs(similarities, groups, times), strict=True)
    called = [score >= threshold for score in scores]
    precision, recall, f1, _ = precision_recall_fscore_support(true, called, average="binary", zero_division=0)
    return float(precision), float(recall), float(f1)


def resampled_micro_average_precision(similarities: Floats, groups: Ints, times: Ints) -> float:
    """scikit-learn's average precision over the repeated pairs, where pairs have distinct scores and copies equal ones.

    It steps from score to score, as the library does: the copies of a pair come into the ranking together.
    """
    scores, true = zip(*repeated_pairs(similarities, groups, times), strict=True)
    return float(average_precision_score(true, scores))


def resampled_mean(similarities: Floats, groups: Ints, times: Ints, value: Callable[[list[bool]], float]) -> float:
    """Mean over queries of a value of their relevance, each query written out as often as its group was drawn.

    The gallery is that of the original test set, as a resample weighs groups and does not make photos.
    """
    values = []
    for q in queries(groups):
        values += [value(relevance(similarities, groups, q))] * int(times[groups[q]])
    return float(np.mean(values))


def resampled_found(similarities: Floats, groups: Ints, times: Ints, found: Ints, threshold: float) -> dict[str, float]:
    """B³ precision and recall, over-merged, over-split and false alarms, each photo as often as its group was drawn."""
    count = range(len(groups))
    columns: dict[str, list[float]] = {
        name: [] for name in ("b3_precision", "b3_recall", "over_merged", "over_split", "false_alarms")
    }
    for i in count:
        of_found, of_true = {j for j in count if found[j] == found[i]}, {j for j in count if groups[j] == groups[i]}
        both = of_found & of_true
        row = {
            "b3_precision": len(both) / len(of_found),
            "b3_recall": len(both) / len(of_true),
            "over_merged": float(of_found > both),
            "over_split": float(of_true > both),
        }
        if len(of_true) == 1:
            row["false_alarms"] = float(any(similarities[i, j] >= threshold for j in count if j != i))
        for name, value in row.items():
            columns[name] += [value] * int(times[groups[i]])
    return {name: float(np.mean(values)) if values else float("nan") for name, values in columns.items()}


def with_singletons(similarities: Floats, groups: Ints, likeness: Floats) -> tuple[Floats, Ints]:
    """The test set with further photos, each a group of its own, by their similarity to the others, (n, d)."""
    n, more = likeness.shape
    whole = np.zeros((n + more, n + more))
    whole[:n, :n], whole[:n, n:], whole[n:, :n] = similarities, likeness, likeness.T
    return whole, np.append(groups, groups.max() + 1 + np.arange(more))
