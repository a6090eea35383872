"""The threshold: chosen on the historian's groups, never on those that it is judged by, and kept beside its encoder."""

import json
from pathlib import Path

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.errors import ConfigError
from neardup.measure.metrics import Pairs

ERROR_RESAMPLES = 200
"""Resamples of the groups from which the standard error of F1 is taken."""


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


def calibrated_beside(checkpoint: str, fingerprint: str) -> float:
    """The threshold that belongs to a checkpoint, from the `metrics.json` beside it.

    Raises:
        ConfigError: the checkpoint was not evaluated, another encoder was, or no threshold could be calibrated.
    """
    metrics = Path(checkpoint).parent / "metrics.json"
    measured = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
    threshold = measured.get("threshold")
    if threshold is not None and measured["fingerprint"] != fingerprint:
        raise ConfigError(f"{metrics} was measured with another model than {checkpoint}: say a --threshold")
    if threshold is None:
        raise ConfigError(
            f"{checkpoint} has no calibrated threshold: say one with --threshold (comparison.json has those of an "
            "experiment), or name a model that an experiment measured"
        )
    return float(threshold)
