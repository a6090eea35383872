"""All pairs of a collection at or above a threshold, block by block of the triangle, each block once and for good.

Shards are put together to slabs in the order in which they came; a block is two slabs, or one with itself. What a block
gave lies in the store, so that a search that was killed, or to which photos were added, does only the blocks that lack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa

from neardup.arrays import Bools, Ints, Vectors
from neardup.encode.collection import SHARDS, Collection, among
from neardup.encode.vectors import vectors_of
from neardup.search.pairs import NearPairs, PairSearch
from neardup.stages import digest_of

SLAB = 65_536
"""Vectors in one slab: 134 MB at 512 dimensions; two of them are a task's memory."""
PLANNED = 16
"""Shards whose vectors the search is planned on."""


@dataclass(frozen=True)
class Slab:
    """Shards that are searched together.

    Attributes:
        shards: names, in order.
        start: number of the slab's first vector, counted over all slabs.
    """

    shards: tuple[str, ...]
    start: int

    @cached_property
    def rows(self) -> int:
        """Vectors in the slab."""
        return sum(_rows(name) for name in self.shards)


@dataclass(frozen=True)
class Triangle:
    """A search for all pairs.

    Attributes:
        collection: whose photos.
        threshold: similarity, -1 to 1.
        slabs: in order.
    """

    collection: Collection
    threshold: float
    slabs: tuple[Slab, ...]

    @property
    def rows(self) -> int:
        """Vectors in all slabs."""
        return self.slabs[-1].start + self.slabs[-1].rows if self.slabs else 0

    @property
    def shards(self) -> list[str]:
        """Names of all shards, in order."""
        return [name for slab in self.slabs for name in slab.shards]

    def blocks(self) -> list[tuple[int, int]]:
        """Numbers of two slabs, the lesser first, of each block that was not searched yet."""
        done = set(self.collection.vectors.names(_kind(self.threshold)))
        numbers = range(len(self.slabs))
        return [(i, j) for j in numbers for i in range(j + 1) if self.name(i, j) not in done]

    def pairs(self, i: int, j: int) -> int:
        """Pairs of photos in a block."""
        left, right = self.slabs[i].rows, self.slabs[j].rows
        return left * (left - 1) // 2 if i == j else left * right

    def name(self, i: int, j: int) -> str:
        """Name of the block's table."""
        return _kind(self.threshold) + digest_of(self.slabs[i].shards, self.slabs[j].shards)[:16]


def open_triangle(collection: Collection, threshold: float, size: int = SLAB) -> Triangle:
    """Put all shards into slabs; those that were put together before stay together."""
    store = collection.vectors
    slabs = [list(names) for names in store.noted("slabs") or []]
    placed = {name for names in slabs for name in names}
    fresh: list[list[str]] = []
    for name in store.names(SHARDS):
        if name in placed:
            continue
        if not fresh or sum(map(_rows, fresh[-1])) + _rows(name) > size:
            fresh.append([])
        fresh[-1].append(name)
    if fresh:
        store.note("slabs", slabs + fresh)
    return _placed(collection, threshold, slabs + fresh)


def _placed(collection: Collection, threshold: float, slabs: Sequence[Sequence[str]]) -> Triangle:
    starts = np.cumsum([0, *(sum(map(_rows, names)) for names in slabs)]).tolist()
    return Triangle(
        collection,
        threshold,
        tuple(Slab(tuple(names), start) for names, start in zip(slabs, starts, strict=False)),
    )


def _rows(shard: str) -> int:
    """Vectors in a shard, as its name says."""
    return int(shard.removeprefix(SHARDS).split("-")[0])


def _kind(threshold: float) -> str:
    return f"pairs-{digest_of(threshold)[:12]}-"


def search_block(collection: Collection, threshold: float, slabs: int, i: int, j: int) -> int:
    """Search one block and write its pairs to the store.

    Args:
        collection: that is searched.
        threshold: similarity, -1 to 1.
        slabs: how many the triangle has; the store says which.
        i: number of a slab.
        j: number of another one, or of the same.

    Returns:
        The number of pairs.
    """
    triangle = _opened(collection, threshold, slabs)
    left, right = triangle.slabs[i], triangle.slabs[j]
    vectors = _read(collection, left), _read(collection, right)
    pairs = _plan(triangle).between(*vectors, left.start, right.start)
    columns = {"left": pairs.left - left.start, "right": pairs.right - right.start, "similarity": pairs.similarities}
    collection.vectors.write(triangle.name(i, j), pa.table(columns))
    return len(pairs.left)


@lru_cache(maxsize=1)
def _opened(collection: Collection, threshold: float, slabs: int) -> Triangle:
    """What `open_triangle` gave to whoever asks for a block; read once a process, for it names every shard."""
    return _placed(collection, threshold, collection.vectors.noted("slabs")[:slabs])


@lru_cache(maxsize=2)
def _read(collection: Collection, slab: Slab) -> Vectors:
    """The vectors of a slab, float32 (n, d); the last two are kept, for blocks come row by row."""
    parts = [vectors_of(collection.vectors.read(name, ["vector"])["vector"]) for name in slab.shards]
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def _plan(triangle: Triangle) -> PairSearch:
    """The same in every worker: from shards that are spread evenly over all."""
    shards = triangle.shards
    chosen = sorted({shards[place] for place in np.linspace(0, len(shards) - 1, PLANNED).astype(int)})
    return PairSearch.of(_read(triangle.collection, Slab(tuple(chosen), 0)), triangle.threshold)


def still_there(triangle: Triangle, present: Ints) -> Bools:
    """Whether each vector's file is still there as it was encoded: bool (n,), rows counted over all slabs."""
    store = triangle.collection.vectors
    marks = [among(store.read(name, ["file"])["file"].to_numpy(), present) for name in triangle.shards]
    return np.concatenate([np.empty(0, dtype=bool), *marks])


def all_pairs(triangle: Triangle) -> NearPairs:
    """The pairs of all blocks, rows counted over all slabs, best first, ties by row."""
    store = triangle.collection.vectors
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for j, right in enumerate(triangle.slabs):
        for i, left in enumerate(triangle.slabs[: j + 1]):
            table = store.read(triangle.name(i, j))
            rows = table["left"].to_numpy() + left.start, table["right"].to_numpy() + right.start
            parts.append((*rows, table["similarity"].to_numpy()))
    left_rows, right_rows, similarities = (np.concatenate(side) for side in zip(*parts, strict=True))
    return NearPairs(left_rows, right_rows, similarities).sorted()


def gather(triangle: Triangle, rows: Ints) -> tuple[Vectors, list[str]]:
    """Vectors, float32 (n, d), and paths of some rows, ordered and counted over all slabs; nothing else is kept."""
    parts, paths, start = [], list[str](), 0
    for name in triangle.shards:
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + _rows(name))] - start
        start += _rows(name)
        if len(here):
            table = triangle.collection.vectors.read(name, ["path", "vector"])
            parts.append(vectors_of(table["vector"])[here])
            paths += table["path"].take(here).to_pylist()
    return (np.concatenate(parts) if parts else np.empty((0, 0), np.float32)), paths
