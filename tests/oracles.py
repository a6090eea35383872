"""Slow and readable: each metric once more, from its definition or by scikit-learn, to hold the fast ones against."""

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


def best_f1(similarities: Floats, groups: Ints) -> float:
    """The greatest F1 over pairs at any threshold, tried one by one."""
    scores = sorted({float(s) for s in similarities[np.triu_indices(len(groups), 1)]})
    return max(pair_scores(similarities, groups, threshold)[2] for threshold in scores)


def recall_at_precision(similarities: Floats, groups: Ints, least: float) -> float:
    """The greatest recall at a threshold with that precision, tried one by one."""
    scores = sorted({float(s) for s in similarities[np.triu_indices(len(groups), 1)]})
    found = [pair_scores(similarities, groups, threshold) for threshold in scores]
    return max((recall for precision, recall, _ in found if precision >= least), default=0.0)


def b_cubed(found: Ints, true: Ints) -> tuple[float, float]:
    """Per photo, by sets."""
    count = range(len(true))
    of_found = [{j for j in count if found[j] == found[i]} for i in count]
    of_true = [{j for j in count if true[j] == true[i]} for i in count]
    both = [a & b for a, b in zip(of_found, of_true, strict=True)]
    precision = np.mean([len(b) / len(f) for b, f in zip(both, of_found, strict=True)])
    recall = np.mean([len(b) / len(t) for b, t in zip(both, of_true, strict=True)])
    return float(precision), float(recall)


def bootstrap(similarities: Floats, groups: Ints, drawn: Ints) -> dict[str, float]:
    """Top-1 and pair recall of a resample of groups, with every drawn group written out as a group of its own.

    The nearest photo is looked for in the original test set, as a resample weighs groups and does not make photos.
    """
    hits, weights = [], []
    for group, times in enumerate(drawn):
        for q in queries(groups):
            if groups[q] == group:
                hits.append(relevance(similarities, groups, q)[0])
                weights.append(times)
    return {"top_1": float(np.average(hits, weights=weights))}
