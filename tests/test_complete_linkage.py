"""Groups by complete linkage: never joined wrongly, and in bounded memory however many photos are alike."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neardup.arrays import Ints, Vectors
from neardup.decide.complete_linkage import complete_linkage, near_groups
from neardup.search.all_pairs import near_pairs
from neardup.search.pairs import NearPairs

MANY = 20_000
"""Photos of one chain: their similarities to each other would take 3.2 GB."""
LIMIT = 60_000_000
"""Bytes that `near_groups` may take at most for them, with 1,000 at once: 32 MB of similarities, and lists of pairs."""


def units(rows: np.ndarray) -> Vectors:
    """The rows as float32 unit rows."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def together(groups: Ints) -> set[tuple[int, int]]:
    """The pairs of photos that share a group."""
    return {(i, j) for i, j in combinations(range(len(groups)), 2) if groups[i] == groups[j] >= 0}


def neighbours(vectors: Vectors) -> NearPairs:
    """Each photo with the five that follow it: a chain of all, as long as these are pairs at all."""
    left = np.concatenate([np.arange(len(vectors) - step) for step in range(1, 6)])
    right = np.concatenate([np.arange(step, len(vectors)) for step in range(1, 6)])
    return NearPairs(left, right, (vectors[left].astype(np.float64) * vectors[right]).sum(axis=1))


def grouped(pairs: NearPairs, vectors: Vectors, largest: int) -> tuple[Ints, int]:
    """The groups at .99, and the greatest memory that finding them took, in bytes."""
    tracemalloc.start()
    try:
        groups = near_groups(pairs, vectors, 0.99, largest=largest)
        return groups, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_equal_photos_are_one_group_in_little_memory() -> None:
    """Twenty thousand equal photos, in a chain of pairs of equal similarity, are one node."""
    vectors = units(np.tile(np.random.default_rng(0).normal(size=32), (MANY, 1)))
    groups, memory = grouped(neighbours(vectors), vectors, 1000)
    assert groups.tolist() == [0] * MANY
    assert memory < LIMIT


def test_nearly_equal_photos_are_few_groups_in_little_memory() -> None:
    """Twenty thousand photos that are all near-duplicates are cut into few parts, none of them above the limit."""
    rng = np.random.default_rng(1)
    vectors = units(rng.normal(size=32) + 1e-3 * rng.normal(size=(MANY, 32)))
    groups, memory = grouped(neighbours(vectors), vectors, 1000)
    sizes = np.bincount(groups)
    assert (groups.min(), sizes.max() <= 1000, len(sizes) < 60) == (0, True, True)
    assert memory < LIMIT


def test_a_long_chain_of_equal_similarities_is_cut() -> None:
    """Where no pair is better than another, its parts are found all the same, and nothing is joined wrongly."""
    angles = np.arange(1000) * 0.01
    vectors = units(np.column_stack([np.cos(angles), np.sin(angles)]))
    left = np.arange(999)
    threshold = float(np.cos(0.011))
    groups = near_groups(NearPairs(left, left + 1, np.full(999, 0.99995)), vectors, threshold, largest=100)
    sizes = np.bincount(groups)
    assert (sizes.max(), np.count_nonzero(sizes == 2) > 400) == (2, True)
    wide = vectors.astype(np.float64)
    assert all(float(wide[i] @ wide[j]) >= threshold for i, j in together(groups))


def test_no_part_of_a_chain_has_more_than_the_largest() -> None:
    """Four photos that all are alike are no group where three are the most."""
    angles = np.array([0.0, 0.010, 0.021, 0.033])
    vectors = units(np.column_stack([np.cos(angles), np.sin(angles)]))
    groups = near_groups(near_pairs(vectors, np.arange(4), 0.9), vectors, 0.9, largest=3)
    assert (len(set(groups[:3].tolist())), sorted(np.bincount(groups).tolist())) == (1, [1, 3])
    assert set(near_groups(near_pairs(vectors, np.arange(4), 0.9), vectors, 0.9, largest=4).tolist()) == {0}


def test_strong_groups_of_a_long_chain_stay_whole() -> None:
    """A chain that is too long is cut at its weakest links: fifty copies stay together, bridges between them do not."""
    rng = np.random.default_rng(2)
    scenes = np.linspace(0, 1.5, 30)[:, None] * np.array([[0.0, 1.0, 0.0]]) + np.array([[1.0, 0.0, 0.0]])
    vectors = units(np.repeat(scenes, 50, axis=0) + 1e-4 * rng.normal(size=(1500, 3)))
    pairs = near_pairs(vectors, np.arange(1500), 0.99)
    groups = near_groups(pairs, vectors, 0.99, largest=120)
    assert all(len(set(groups[start : start + 50].tolist())) == 1 for start in range(0, 1500, 50))


@given(st.integers(2, 40), st.integers(2, 12), st.integers(0, 1000))
def test_a_chain_that_is_cut_joins_nothing_wrongly(count: int, largest: int, seed: int) -> None:
    """Every pair of a group is at or above the threshold, and each photo of a pair is in a group."""
    rng = np.random.default_rng(seed)
    vectors = units(rng.normal(size=(count, 3)))[rng.integers(0, count, count)]
    pairs = near_pairs(vectors, np.arange(count), 0.5)
    groups = near_groups(pairs, vectors, 0.5, largest=largest)
    assert all(float(vectors[i] @ vectors[j]) >= 0.5 - 1e-6 for i, j in together(groups))
    assert set(np.flatnonzero(groups >= 0)) == {*pairs.left.tolist(), *pairs.right.tolist()}
    assert set(groups[groups >= 0]) == set(range(groups.max() + 1))


@given(st.integers(2, 40), st.sampled_from([0.0, 0.5, 0.9, 0.99]), st.integers(0, 1000))
def test_equal_photos_change_no_group(count: int, threshold: float, seed: int) -> None:
    """Groups of photos some of which are equal are those of complete linkage of all of them."""
    rng = np.random.default_rng(seed)
    vectors = units(rng.normal(size=(count, 4)))[rng.integers(0, count, count)]
    groups = near_groups(near_pairs(vectors, np.arange(count), threshold), vectors, threshold)
    wide = vectors.astype(np.float64)
    assert together(groups) == together(complete_linkage(wide @ wide.T - threshold))


@pytest.mark.parametrize("threshold", [1.0, 1 + 1e-7])
def test_equal_photos_below_the_threshold_are_not_joined(threshold: float) -> None:
    """At a threshold of 1 the rounding of a vector's length decides whether it is similar to its own copy."""
    rng = np.random.default_rng(3)
    vectors = np.repeat(units(rng.normal(size=(40, 8))), 2, axis=0)
    pairs = near_pairs(vectors, np.arange(80), 0.99)
    wide = vectors.astype(np.float64)
    expected = {(i, i + 1) for i in range(0, 80, 2) if float(wide[i] @ wide[i]) >= threshold}
    assert together(near_groups(pairs, vectors, threshold)) == expected
