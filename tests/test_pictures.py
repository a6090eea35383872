"""Files as pictures: which of them are near each other depends on no photo that is not among them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_blocks import units

from neardup.arrays import Ints, Vectors
from neardup.detect import pictures
from neardup.detect.pictures import pictures_in
from neardup.encode.collection import Collection
from neardup.encode.shards import SHARDS, content_keys
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError
from neardup.search.all_pairs import near_pairs
from neardup.search.blocks import open_triangle, search_all, search_block

PHOTOS = tuple(f"{2 * number:016x}{0:048x}" for number in range(60))
"""The SHA-256 of photos that nobody took."""


def grown(folder: Path, vectors: Vectors, size: int) -> Iterator[Collection]:
    """A collection of `PHOTOS`, each time that a shard of a size was added to it; float32 (n, d)."""
    collection = Collection(folder, str(folder), "made", "cpu", "fp32", "made", 16)
    for start in range(0, len(vectors), size):
        photos = PHOTOS[start : start + size]
        shard = Embeddings(photos, photos, vectors[start : start + size], "made")
        collection.vectors.write(f"{SHARDS}{size:06d}-{start:016d}", shard.table())
        yield collection


def keys_of(photos: Sequence[str]) -> Ints:
    """The key of each photo's content."""
    return content_keys(pa.chunked_array([pa.array(photos, pa.string())]))


@pytest.mark.parametrize(
    ("slab", "most", "first", "least"), [(20, 1, 0, 0.0), (60, 3, 0, 0.0), (20, 3, 20, 0.0), (20, 3, 0, 0.9)]
)
def test_photos_that_are_gone_take_no_place_among_the_nearest(
    tmp_path: Path, slab: int, most: int, first: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest of those photos that are there are what a search of these alone gives, whatever the store holds.

    Of the photos before the first one none is there, which may be a whole slab, as where another folder shares a store.
    """
    monkeypatch.setattr(pictures, "KEPT", 10)
    vectors, there = units(60), np.flatnonzero(np.random.default_rng(0).random(60) < 0.6)
    there = there[there >= first]
    *_, collection = grown(tmp_path, vectors, 20)
    triangle = open_triangle(collection, least, slab, most)
    for block in triangle.blocks():
        search_block(collection, least, block, most)
    pairs, _ = pictures_in(triangle, keys_of([PHOTOS[number] for number in there])).of_files()
    expected = near_pairs(vectors[there], np.arange(len(there)), least).nearest(most)
    assert pairs.left.tolist() == expected.left.tolist()
    assert pairs.right.tolist() == expected.right.tolist()
    assert pairs.similarities.tolist() == expected.similarities.tolist()


@pytest.mark.parametrize("most", [1, 2, 3, 6, 10])
def test_what_blocks_give_is_left_out_as_it_is_read(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pair is lost that is among the nearest of one of its pictures, where a picture is in several slabs, too.

    Copies in other slabs make one pair of pictures several pairs of rows, which must count as one.
    """
    monkeypatch.setattr(pictures, "KEPT", 1)
    vectors = units(60)
    vectors[20:28], vectors[40:48] = vectors[:8], vectors[:8]
    *_, collection = grown(tmp_path, vectors, 4)
    triangle = open_triangle(collection, -1.0, 4, most)
    for block in triangle.blocks():
        search_block(collection, -1.0, block, most)
    first, near = pictures_in(triangle, keys_of(PHOTOS)).first_files
    once = np.unique(first)
    assert once.tolist() == [*range(20), *range(28, 40), *range(48, 60)]
    expected = near_pairs(vectors[once], np.arange(len(once)), -1.0).nearest(most)
    assert near.left.tolist() == once[expected.left].tolist()
    assert near.right.tolist() == once[expected.right].tolist()
    assert near.similarities.tolist() == expected.similarities.tolist()


def test_of_many_runs_the_tables_keep_the_nearest_alone(tmp_path: Path) -> None:
    """Merging leaves out what is no longer among the nearest; copies that came in other runs count once."""
    most, vectors = 3, units(60)
    vectors[20:28], vectors[40:48] = vectors[:8], vectors[:8]
    for collection in grown(tmp_path, vectors, 4):
        triangle = search_all(collection, -1.0, most)
    first, near = pictures_in(triangle, keys_of(PHOTOS)).first_files
    once = np.unique(first)
    expected = near_pairs(vectors[once], np.arange(len(once)), -1.0).nearest(most)
    assert near.left.tolist() == once[expected.left].tolist()
    assert near.right.tolist() == once[expected.right].tolist()
    assert len(triangle.links().pairs.left) < 400  # 1,148 where merged tables keep all that their parts kept


@pytest.mark.parametrize("most", [None, 1])
def test_a_photo_of_two_vectors_is_in_no_pair_with_itself(tmp_path: Path, most: int | None) -> None:
    """Two workers made them, with a bit that differs; the nearest other photo keeps its place."""
    vectors, again = units(20), units(20)
    again[:, 0] = np.nextafter(again[:, 0], 2)
    collection = Collection(tmp_path, str(tmp_path), "made", "cpu", "fp32", "made", 16)
    for name, rows in (("a", vectors), ("b", again)):
        shard = Embeddings(PHOTOS[:20], PHOTOS[:20], rows, "made")
        collection.vectors.write(f"{SHARDS}000020-{name}", shard.table())
    pairs, _ = pictures_in(search_all(collection, 0.0, most), keys_of(PHOTOS[:20])).of_files()
    expected = near_pairs(vectors, np.arange(20), 0.0)
    expected = expected if most is None else expected.nearest(most)
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == set(
        zip(expected.left.tolist(), expected.right.tolist(), strict=True)
    )


def test_a_photo_whose_vector_went_away_is_one_sentence(tmp_path: Path) -> None:
    """It does not take the vector of the photo that comes after it."""
    collection, photos = Collection(tmp_path, str(tmp_path), "made", "cpu", "fp32", "made", 16), PHOTOS[1:7:2]
    collection.vectors.write(f"{SHARDS}000003-a", Embeddings(photos, photos, units(3), "made").table())
    for lost in (PHOTOS[2], PHOTOS[7]):
        with pytest.raises(ArchiveError, match=r"the vectors of 1 photo went away .*: run the same command again"):
            pictures_in(search_all(collection, 0.0), keys_of([PHOTOS[1], lost]))
