"""The threshold, chosen on the historian's groups but never on those it is judged by, and kept beside its encoder."""

import json

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.folds import dealt_folds, judged_and_outside
from neardup.encode.protocol import checkpoint_folder
from neardup.errors import ConfigError
from neardup.measure.pairs import Pairs
from neardup.stages import reading

METRICS = "metrics.json"
"""Name of the file that holds the threshold, beside the folder of the checkpoint."""
ERROR_RESAMPLES = 200
"""Resamples of the groups from which F1's standard error is computed, which then varies by about a twentieth."""


def f1_by_threshold(scores: Floats, same: Bools) -> tuple[Floats, Floats]:
    """Compute F1 over pairs at every threshold that separates pairs, the highest threshold first.

    Returns:
        float64 (k,) each: thresholds, midway to the next lower score, and F1; a pair at or above one is called.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(same[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + same.sum())
    ends = np.append(ranked[1:] != ranked[:-1], True)
    below = np.append(ranked[1:], ranked[-1])
    return (ranked[ends] + below[ends]) / 2, f1[ends]


def f1_error(pairs: Pairs, group_of: Ints, threshold: float) -> float:
    """Compute the standard error of F1 over pairs at a threshold: its deviation over resamples where it is defined."""
    relevant = pairs.take((pairs.scores >= threshold) | pairs.same)
    called = relevant.scores >= threshold
    present = np.unique(group_of[np.concatenate([pairs.i, pairs.j])])
    draws = np.random.default_rng(0).multinomial(len(present), np.full(len(present), 1 / len(present)), ERROR_RESAMPLES)
    values = []
    for counts in draws:
        times = np.zeros(int(group_of.max()) + 1)
        times[present] = counts
        weight = relevant.weights(group_of, times)
        total = weight[called].sum() + weight[relevant.same].sum()
        if total:
            values.append(2 * weight[called & relevant.same].sum() / total)
    return float(np.std(values)) if values else 0.0


def calibrated_threshold(pairs: Pairs, group_of: Ints) -> float:
    """Choose the strictest threshold whose F1 over pairs is within one standard error of the greatest.

    This is the one-standard-error rule (Breiman et al. 1984): F1 is flat near its maximum, so that the very best
    threshold is a matter of chance, while a stricter one that is not measurably worse gives far fewer false alarms.

    Args:
        pairs: the pairs to choose on.
        group_of: int64 (n,), 0-based group of each photo.

    Returns:
        The threshold; infinity where no pair is of one group.
    """
    if not pairs.same.any():
        return float("inf")
    thresholds, f1 = f1_by_threshold(pairs.scores, pairs.same)
    error = f1_error(pairs, group_of, float(thresholds[np.argmax(f1)]))
    return float(thresholds[np.argmax(f1 >= f1.max() - error)])


def calibrated_thresholds(pairs: Pairs, group_of: Ints, folds: int, seed: int) -> Floats:
    """Calibrate a threshold for every pair on groups that neither of its photos belongs to.

    The groups are dealt into folds. A pair within a fold is judged by the threshold chosen on the pairs wholly outside
    that fold; a pair across two folds by the one chosen on the pairs outside both. Every pair is judged once.

    Args:
        pairs: all pairs of the test set.
        group_of: int64 (n,), 0-based group of each photo.
        folds: how many folds, at least 3.
        seed: seed by which groups are dealt into folds.

    Returns:
        float64 (m,), a threshold per pair.
    """
    fold = dealt_folds(group_of, folds, seed)
    thresholds = np.empty(len(pairs.scores))
    for judged, outside in judged_and_outside(fold[pairs.i], fold[pairs.j]):
        thresholds[judged] = calibrated_threshold(pairs.take(outside), group_of)
    return thresholds


def calibrated_beside(checkpoint: str, fingerprint: str) -> float:
    """Read the threshold that was calibrated for an encoder, from the `metrics.json` beside its checkpoint.

    Args:
        checkpoint: folder of the encoder, or the name of the shipped one; others have no threshold beside them.
        fingerprint: fingerprint of the loaded encoder, to which the threshold must belong.

    Raises:
        ConfigError: the encoder was not evaluated, no threshold could be calibrated, or the threshold is that of
            another encoder, for example after retraining without evaluating again.
    """
    metrics = checkpoint_folder(checkpoint).parent / METRICS
    with reading(metrics, "run `neardup evaluate` again, or give a threshold with --threshold"):
        facts = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
        threshold, measured = facts.get("threshold"), str(facts.get("fingerprint", ""))
    if threshold is None:
        raise ConfigError(
            f"{checkpoint} has no calibrated threshold: give one with --threshold (comparison_facts.json has those of "
            "an experiment), or name a model that an experiment measured"
        )
    if measured != fingerprint:
        raise ConfigError(
            f"the threshold in {metrics} belongs to the encoder {measured[:12]}, but {checkpoint} holds "
            f"{fingerprint[:12]} now: run `neardup evaluate` to calibrate it anew, or give one with --threshold"
        )
    return float(threshold)
