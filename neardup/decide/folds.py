"""Deal groups into folds, so that no pair is judged by a model that was fitted on its own groups."""

from collections.abc import Iterator

import numpy as np

from neardup.arrays import Bools, Ints

LEAST_FOLDS = 3
"""Least number of folds: with fewer, a pair across two folds would leave no other fold to learn from."""


def dealt_folds(group_of: Ints, folds: int, seed: int) -> Ints:
    """Deal groups into folds by size, so that every fold gets large groups and singletons alike.

    Args:
        group_of: int64 (n,), 0-based group of each photo, without gaps.
        folds: how many folds; at least 3 are made, and at most as many as there are groups.
        seed: seed of the order in which groups of one size are dealt.

    Returns:
        int64 (n,), the fold of each photo.
    """
    count = int(group_of.max()) + 1
    fold_of = np.empty(count, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(count)
    by_size = shuffled[np.argsort(-np.bincount(group_of)[shuffled], kind="stable")]
    fold_of[by_size] = np.arange(count) % max(LEAST_FOLDS, min(folds, count))
    return fold_of[group_of]


def judged_and_outside(left: Ints, right: Ints) -> Iterator[tuple[Bools, Bools]]:
    """Yield each part of the pairs that is judged together, with the pairs that it may be judged by.

    A pair within a fold is judged by the pairs wholly outside that fold; a pair across two folds by those outside both.
    Every pair is judged once.

    Args:
        left: int64 (m,), the fold of each pair's first photo.
        right: int64 (m,), the fold of each pair's second photo.

    Yields:
        Two masks, bool (m,): the pairs that are judged, at least one, and the pairs outside their folds.
    """
    low, high = np.minimum(left, right), np.maximum(left, right)
    count = int(high.max(initial=0)) + 1
    for key in np.unique(low * count + high).tolist():
        a, b = divmod(key, count)
        outside = ~np.isin(left, (a, b)) & ~np.isin(right, (a, b))
        yield (low == a) & (high == b), outside
