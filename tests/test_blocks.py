"""Blocks of the triangle: of many small runs few tables are left, and they say what one run says."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neardup.arrays import Vectors
from neardup.encode.collection import Collection
from neardup.encode.shards import SHARDS
from neardup.encode.vectors import Embeddings
from neardup.search.all_pairs import near_pairs
from neardup.search.blocks import Triangle, open_triangle, search_block
from neardup.search.pairs import NearPairs

THRESHOLD = 0.5
DIMENSIONS = 4


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """A store without shards; nothing is ever read from the folder."""
    return Collection(tmp_path, str(tmp_path / "store"), "made", "cpu", "fp32", "made", 16)


def units(count: int, seed: int = 0) -> Vectors:
    """Unit rows, float32 (n, 4); some pairs of four numbers are alike by chance."""
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def add(collection: Collection, vectors: Vectors, first: int) -> None:
    """Write a shard; its photos are numbered, and so are the shards, so that they are in the order of their rows."""
    photos = tuple(f"{number:064x}" for number in range(first, first + len(vectors)))
    name = f"{SHARDS}{len(vectors):06d}-{first:016d}"
    collection.vectors.write(name, Embeddings(photos, photos, vectors, "made").table())


def search(collection: Collection, size: int = 1000) -> tuple[Triangle, int]:
    """One run; the triangle, and how many pairs of vectors were compared."""
    triangle = open_triangle(collection, THRESHOLD, size)
    blocks = triangle.blocks()
    for block in blocks:
        search_block(collection, THRESHOLD, block)
    return triangle, sum(block.pairs for block in blocks)


def tables(collection: Collection) -> int:
    """How many tables of pairs the store holds."""
    return len(collection.vectors.names("near-"))


def expected(vectors: Vectors) -> list[tuple[int, int, float]]:
    """The pairs of one product."""
    pairs = near_pairs(vectors, np.arange(len(vectors)), THRESHOLD)
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarities.tolist(), strict=True))


def found(triangle: Triangle) -> list[tuple[int, int, float]]:
    """The pairs that the blocks gave."""
    pairs = triangle.links().pairs
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarities.tolist(), strict=True))


def joined(triangle: Triangle) -> set[frozenset[int]]:
    """The sets of rows that the blocks call equal."""
    sets = {row: frozenset([row]) for row in range(triangle.rows)}
    for left, right in triangle.links().equal.T.tolist():
        whole = sets[left] | sets[right]
        sets |= dict.fromkeys(whole, whole)
    return {rows for rows in sets.values() if len(rows) > 1}


def test_thirty_runs_that_add_a_photo_each_leave_few_tables(collection: Collection) -> None:
    """The pairs are those of one search, and no two photos were compared twice."""
    vectors, compared = units(30), 0
    for number in range(30):
        add(collection, vectors[number : number + 1], number)
        triangle, pairs = search(collection)
        compared += pairs
    assert found(triangle) == expected(vectors)
    assert compared == 30 * 29 // 2
    assert len(triangle.slabs) <= 6
    assert tables(collection) == len(triangle.slabs) * (len(triangle.slabs) + 1) // 2


def test_full_slabs_are_left_alone(collection: Collection) -> None:
    """Two of them are never one, however many runs there are."""
    vectors = units(60)
    for start in range(0, 60, 4):
        add(collection, vectors[start : start + 4], start)
        triangle, _ = search(collection, size=8)
    assert max(slab.rows for slab in triangle.slabs) == 8
    assert len(triangle.slabs) <= 9
    assert found(triangle) == expected(vectors)


def test_thresholds_have_tables_of_their_own(collection: Collection) -> None:
    """A search at another threshold, or for the nearest alone, takes away nothing: the first is not done again."""
    vectors = units(30)
    for number in range(3):
        add(collection, vectors[10 * number : 10 * number + 10], 10 * number)
        for block in open_triangle(collection, THRESHOLD, most=1).blocks():
            search_block(collection, THRESHOLD, block, 1)
        search(collection)
        other = open_triangle(collection, 0.9)
        for block in other.blocks():
            search_block(collection, 0.9, block)
    triangle, compared = search(collection)
    assert (found(triangle), compared) == (expected(vectors), 0)


def test_shards_that_somebody_deleted_are_not_counted(collection: Collection, tmp_path: Path) -> None:
    """The slabs are made anew of what is there."""
    vectors = units(9)
    for number in range(3):
        add(collection, vectors[3 * number : 3 * number + 3], 3 * number)
    search(collection, size=3)
    next((tmp_path / "store" / "made").glob(f"{SHARDS}*-*3.parquet")).unlink()
    assert found(search(collection, size=3)[0]) == expected(np.delete(vectors, slice(3, 6), axis=0))


def test_blocks_of_the_nearest_hold_the_nearest_of_all(collection: Collection) -> None:
    """However the photos are cut, no pair is lost of which one photo is among the nearest of the other."""
    vectors = units(60)
    for start in range(0, 60, 5):
        add(collection, vectors[start : start + 5], start)
    whole = near_pairs(vectors, np.arange(60), 0.2)
    triangle = open_triangle(collection, 0.2, 20, 3)
    for block in triangle.blocks():
        search_block(collection, 0.2, block, 3)
    pairs = triangle.links().pairs
    nearest, wanted = pairs.nearest(3), whole.nearest(3)
    assert nearest.left.tolist() == wanted.left.tolist()
    assert nearest.right.tolist() == wanted.right.tolist()
    assert len(wanted.left) < len(pairs.left) < len(whole.left)


def test_an_equal_vector_takes_no_place_among_the_nearest(collection: Collection) -> None:
    """A photo whose copy is in the other slab has a nearest one there beside it, although that is nearer to another."""
    angles = np.radians([0, 50, 0, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    add(collection, vectors[:2], 0)
    add(collection, vectors[2:], 2)
    triangle = open_triangle(collection, 0.1, 2, 1)
    for block in triangle.blocks():
        search_block(collection, 0.1, block, 1)
    links = triangle.links()
    assert links.equal.T.tolist() == [[0, 2]]
    assert [0, 3] in np.stack([links.pairs.left, links.pairs.right], axis=1).tolist()


class Killed(BaseException):
    """What ends a run in the middle."""


def killed_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the process die before its n-th change of a file."""
    left = iter(range(count))

    def dying(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: object) -> None:
            if next(left, None) is None:
                raise Killed
            change(*args)

        return changed

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "remove", dying(os.remove))
    monkeypatch.setattr(Path, "replace", dying(Path.replace))


def runs(collection: Collection, vectors: Vectors) -> Iterator[int]:
    """Add photos in runs that leave slabs to merge; yields the pairs that each compared."""
    start = 0
    for count in (3, 1, 1):
        add(collection, vectors[start : start + count], start)
        start += count
        yield search(collection)[1]


@pytest.mark.parametrize("count", range(1, 16))
def test_a_run_that_is_killed_at_any_change_loses_nothing(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The next one finds what one search finds, and compares no two photos that were compared."""
    vectors = units(8)
    list(runs(collection, vectors))
    add(collection, vectors[5:], 5)
    with monkeypatch.context() as patch:
        killed_at(patch, count)
        with suppress(Killed):
            search(collection)
    triangle, compared = search(collection)
    assert found(triangle) == expected(vectors)
    assert compared <= 3 * 5 + 3
    again, compared = search(collection)  # which merges what the last one searched
    assert (found(again), compared) == (expected(vectors), 0)
    assert tables(collection) == len(again.slabs) * (len(again.slabs) + 1) // 2


@pytest.mark.parametrize("size", [7, 1000])
def test_equal_vectors_are_joined_and_are_no_pairs(collection: Collection, size: int) -> None:
    """Within a slab and across slabs, whatever the threshold is; one of each slab stands for the others in pairs."""
    vectors = units(6)[[0, 1, 0, 2, 3, 0, 1, 4, 0, 5, 0, 1]]
    for start in range(0, 12, 3):
        add(collection, vectors[start : start + 3], start)
    triangle, _ = search(collection, size)
    assert joined(triangle) == {frozenset([0, 2, 5, 8, 10]), frozenset([1, 6, 11])}
    bits = [row.tobytes() for row in vectors]
    pairs = {(bits[i], bits[j]) for i, j, _ in found(triangle)}
    assert pairs | {(b, a) for a, b in pairs} == {
        side for i, j, _ in expected(vectors) if bits[i] != bits[j] for side in ((bits[i], bits[j]), (bits[j], bits[i]))
    }


@pytest.mark.parametrize("size", [1, 1000])
def test_equal_vectors_are_joined_where_rounding_keeps_them_from_the_threshold(
    collection: Collection, size: int
) -> None:
    """At a similarity of 1, which few vectors have to themselves; one that differs in a single number is another."""
    row = next(row for row in units(50).astype(np.float64) if row @ row < 1).astype(np.float32)
    vectors = np.tile(row, (3, 1))
    vectors[2, 0] *= np.float32(1 - 1e-4)
    for number in range(3):
        add(collection, vectors[number : number + 1], number)
    triangle = open_triangle(collection, 1.0, size)
    for block in triangle.blocks():
        search_block(collection, 1.0, block)
    assert joined(triangle) == {frozenset([0, 1])}
    assert found(triangle) == []


def test_thousands_of_equal_vectors_take_little_room(collection: Collection) -> None:
    """Twenty thousand of them are as many rows, and not 200 million pairs."""
    vectors = np.repeat(units(1), 20_000, axis=0)
    for start in range(0, 20_000, 5000):
        add(collection, vectors[start : start + 5000], start)
    triangle, _ = search(collection, size=10_000)
    assert len(np.unique(triangle.links().equal)) == 20_000
    assert sum(len(collection.vectors.read(name)) for name in collection.vectors.names("near-")) < 20_000


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 20)), max_size=30), st.integers(1, 4))
def test_the_nearest_pairs_are_those_of_their_definition(found: list[tuple[int, int, int]], most: int) -> None:
    """A pair stays where one photo is among the nearest of the other, and the order does not change."""
    once = {(min(a, b), max(a, b)): value / 20 for a, b, value in found if a != b}
    rows = np.array(list(once), dtype=np.int64).reshape(-1, 2)
    pairs = NearPairs(rows[:, 0], rows[:, 1], np.array(list(once.values()))).sorted()
    expected = []
    for place, ends in enumerate(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)):
        before = list(zip(pairs.left[:place].tolist(), pairs.right[:place].tolist(), strict=True))
        if any(sum(end in pair for pair in before) < most for end in ends):
            expected.append(ends)
    nearest = pairs.nearest(most)
    assert list(zip(nearest.left.tolist(), nearest.right.tolist(), strict=True)) == expected
