"""A search for the nearest pairs leaves out what is farther while it goes on, and loses none of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pair_bound import listed, units

from neardup.arrays import Floats, Vectors
from neardup.search import all_pairs
from neardup.search.all_pairs import BlockSearch, PairSearch, near_pairs
from neardup.search.pairs import NearPairs
from neardup.search.top_k import RunningTopK


def series(count: int, dimension: int, seed: int = 0) -> Vectors:
    """Unit rows of scenes that lie near together, some of them equal to another one."""
    rng = np.random.default_rng(seed)
    scenes = rng.normal(size=(max(1, count // 6), dimension)) + 1
    rows = scenes[rng.integers(0, len(scenes), count)] + 0.7 * rng.normal(size=(count, dimension))
    rows[rng.integers(0, count, count // 10)] = rows[0]
    return units(rows)


@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize(("most", "threshold"), [(1, -1.0), (3, 0.2), (20, 0.5)])
def test_the_nearest_of_each_are_those_of_all_pairs(
    most: int, threshold: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one part or between two, in blocks of any size, pairs left out early and late: to the last bit, ties too."""
    monkeypatch.setattr(all_pairs, "KEPT", 50)
    vectors = series(400, 32)
    axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)[1][:, ::-1]
    search = PairSearch(threshold, axes[:, : width - 1], all_pairs._rotation(width), most)
    assert search.planned == (width > 1)
    everything = near_pairs(vectors, np.arange(400), threshold)
    sketched = search.sketch(vectors, np.arange(400))
    for rows, columns in ((400, 400), (64, 7), (5, 90)):
        found = search.between_sketched(sketched, sketched, 0, lambda _: None, rows=rows, columns=columns).sorted()
        assert len(found.left) < len(everything.left)
        assert listed(found.nearest(most)) == listed(everything.nearest(most))
    across = everything.take((everything.left < 150) & (everything.right >= 150))
    found = search.between(vectors[:150], vectors[150:], 0, 150)
    assert listed(found.nearest(most)) == listed(across.nearest(most))


@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-6])
def test_the_nearest_among_nearly_equal_vectors_are_those_of_all_pairs(
    noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most pairs are as similar as the nearest, as far as float32 can tell: no more are kept than there are nearest."""
    kept = list[int]()
    monkeypatch.setattr(all_pairs, "KEPT", 600)
    nearest = BlockSearch.nearest

    def counted(search: BlockSearch, pairs: NearPairs) -> NearPairs:
        found = nearest(search, pairs)
        kept.append(len(found.left))
        return found

    monkeypatch.setattr(BlockSearch, "nearest", counted)
    rng = np.random.default_rng(2)
    vectors = units(rng.normal(size=(1, 33)) + noise * rng.normal(size=(200, 33)))
    everything = near_pairs(vectors, np.arange(200), 0.5)
    kept.clear()
    search = replace(PairSearch.unplanned(33, 0.5), most=3)
    sketched = search.sketch(vectors, np.arange(200))
    found = search.between_sketched(sketched, sketched, 0, lambda _: None, rows=20, columns=30).sorted()
    assert listed(found.nearest(3)) == listed(everything.nearest(3))
    assert max(kept) <= 600
    across = everything.take((everything.left < 90) & (everything.right >= 90))
    assert listed(search.between(vectors[:90], vectors[90:], 0, 90).nearest(3)) == listed(across.nearest(3))


def test_a_loose_threshold_costs_no_more_than_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two million pairs at the threshold a tenth is ever looked at, and little more than the nearest is kept."""
    seen = {"looked at": 0, "kept": 0}
    pairs, verified = BlockSearch.pairs, BlockSearch.verified

    def counted(search: BlockSearch, rows: slice, columns: slice) -> NearPairs:
        found = pairs(search, rows, columns)
        seen["looked at"] += len(found.left)
        return found

    def counted_last(search: BlockSearch, found: NearPairs) -> NearPairs:
        seen["kept"] += len(found.left)
        return verified(search, found)

    monkeypatch.setattr(BlockSearch, "pairs", counted)
    monkeypatch.setattr(BlockSearch, "verified", counted_last)
    vectors = np.unique(series(2048, 32), axis=0)
    vectors = vectors[np.random.default_rng(1).permutation(len(vectors))]
    search = replace(PairSearch.unplanned(32, -1.0), most=5)
    sketched = search.sketch(vectors, np.arange(len(vectors)))
    found = search.between_sketched(sketched, sketched, 0, lambda _: None, rows=64, columns=64).sorted().nearest(5)
    assert 2 * len(vectors) < len(found.left) <= seen["kept"] < 1.01 * len(found.left)
    assert seen["looked at"] < 0.1 * len(vectors) * (len(vectors) - 1) / 2


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)), max_size=12), max_size=5),
    st.integers(1, 4),
)
def test_floors_are_the_kth_similarity_of_each_row(found: list[list[tuple[int, int, int]]], k: int) -> None:
    """Whatever was added in which order; the threshold, as long as a row has fewer pairs above it."""
    top_k = RunningTopK(7, k, 0.25)
    given_to: list[list[float]] = [[] for _ in range(7)]
    for part in found:
        rows = np.array([(left, right) for left, right, _ in part if left != right], np.int64).reshape(-1, 2)
        values = np.array([value / 9 for left, right, value in part if left != right])
        top_k.add(rows[:, 0], rows[:, 1], values)
        for ends, value in zip(rows.tolist(), values.tolist(), strict=True):
            for row in ends:
                given_to[row].append(value)
    expected: Floats = np.array([max(0.25, sorted([0.25] * k + values)[-k]) for values in given_to])
    assert top_k.floors.tolist() == expected.tolist()
    left, right = np.triu_indices(7, 1)
    lower = np.minimum(expected[left], expected[right])
    assert top_k.reached(left, right, lower).all()
    assert not top_k.reached(left, right, np.nextafter(lower, -1)).any()
