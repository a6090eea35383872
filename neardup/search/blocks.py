"""Search for all pairs of a collection at or above a threshold, in blocks; no two vectors are compared twice.

Shards are combined into slabs in the order in which they were stored; a block compares two slabs, or one with itself,
so that all blocks form a triangle. A block's pairs are kept in the store: after a kill, or when photos were added, only
the missing blocks are searched. Small slabs are merged, and so are their tables, so that their number does not grow
with the number of runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa

from neardup.arrays import Bools, Ints, Vectors
from neardup.encode.collection import Collection
from neardup.encode.shards import SHARDS, content_keys
from neardup.encode.store import Store, vectors_of
from neardup.search.all_pairs import FEW, PairSearch
from neardup.search.pairs import NearPairs
from neardup.stages import digest_of

SLAB = 65_536
"""Most vectors in a slab: 134 MB at 512 dimensions; a task holds two slabs in memory."""
PLANNED = 16
"""Shards, spread over all, from whose vectors `PairSearch` draws the sample on which it plans the search."""
NEARLY_ONE = 0.9999
"""Similarity that equal vectors reach despite rounding; pairs that reach it are compared bit by bit."""
COMPARED = 8192
"""Pairs of vectors that are compared bit by bit at once: two copies, of 17 MB each at 512 dimensions."""


@dataclass(frozen=True)
class Slab:
    """Shards of vectors that are searched together.

    Attributes:
        shards: names of the shards, in order.
        start: number of the slab's first vector, counted over all slabs.
    """

    shards: tuple[str, ...]
    start: int

    @cached_property
    def rows(self) -> int:
        """Vectors in the slab."""
        return sum(map(_rows, self.shards))


@dataclass(frozen=True)
class Block:
    """One task of comparing: two slabs, or one with itself.

    Attributes:
        left: the slab that comes first.
        right: the other slab, or the same one.
        sample: names of shards that the search is planned on, the same for all blocks.
    """

    left: Slab
    right: Slab
    sample: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Pairs of vectors in the block."""
        left, right = self.left.rows, self.right.rows
        return left * (left - 1) // 2 if self.left == self.right else left * right

    def __str__(self) -> str:
        """The ranges of vectors that are compared, as in the name of a task."""
        return " and ".join(f"{slab.start}-{slab.start + slab.rows - 1}" for slab in (self.left, self.right))


@dataclass(frozen=True)
class Links:
    """The pairs that blocks found, with rows counted over all slabs.

    Attributes:
        pairs: pairs of different vectors at or above the threshold; the first row stands for all rows of a slab with
            equal vectors.
        equal: int64 (2, m), pairs of rows with bitwise equal vectors: enough of them to connect all equal rows.
    """

    pairs: NearPairs
    equal: Ints


@dataclass(frozen=True)
class Triangle:
    """A search for all near pairs of a collection, cut into blocks of two slabs each.

    Attributes:
        collection: the collection that is searched.
        threshold: least similarity of a pair, -1 to 1.
        slabs: the slabs, in order.
        most: how many nearest photos of each are wanted; None for all pairs.
    """

    collection: Collection
    threshold: float
    slabs: tuple[Slab, ...]
    most: int | None = None

    @property
    def kind(self) -> str:
        """Prefix of the names of this search's tables of pairs."""
        return _kind(self.threshold, self.most)

    @property
    def rows(self) -> int:
        """Vectors in all slabs."""
        return self.slabs[-1].start + self.slabs[-1].rows if self.slabs else 0

    @property
    def shards(self) -> list[str]:
        """Names of all shards, in order."""
        return [name for slab in self.slabs for name in slab.shards]

    def blocks(self) -> list[Block]:
        """List the blocks that have not been searched yet, row by row."""
        done = set(self.collection.vectors.names(self.kind))
        names = self.shards
        sample = (
            sorted({names[place] for place in np.linspace(0, len(names) - 1, PLANNED).astype(int)}) if names else []
        )
        return [
            Block(left, right, tuple(sample))
            for left, right in self.corners()
            if _table(self.kind, left, right) not in done
        ]

    def links(self) -> Links:
        """Read the pairs that all blocks found, best first, ties by row.

        Where only the nearest are wanted, each block found the nearest within itself: overall, there are too many.
        """
        return _joined(self.parts())

    def parts(self) -> Iterator[Links]:
        """Read the pairs that each block found, one block after the other."""
        return (_read_links(self.collection.vectors, self.kind, *corner) for corner in self.corners())

    def contents(self) -> Ints:
        """Read the key of each vector's content, int64 (n,), as `content_keys` gives it."""
        store = self.collection.vectors
        parts = [content_keys(store.read(name, ["photo"])["photo"]) for name in self.shards]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def vectors(self, rows: Ints) -> Vectors:
        """Read the vectors of some rows, in ascending order: float32 (n, d); one shard is in memory at a time."""
        parts, start = [np.empty((0, 0), np.float32)], 0
        for name in self.shards:
            shard_rows = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + _rows(name))] - start
            start += _rows(name)
            if len(shard_rows):
                parts.append(vectors_of(self.collection.vectors.read(name, ["vector"])["vector"])[shard_rows])
        return np.concatenate(parts[1:] or parts)

    def corners(self) -> Iterator[tuple[Slab, Slab]]:
        """Yield the two slabs of each block, searched or not, row by row."""
        for number, right in enumerate(self.slabs):
            for left in self.slabs[: number + 1]:
                yield left, right


def open_triangle(collection: Collection, threshold: float, size: int = SLAB, most: int | None = None) -> Triangle:
    """Put all shards into slabs: slabs of an earlier run stay or are merged, new shards make new slabs.

    Only one run at a time may search a store with the same threshold and `most`, as tables of merged slabs are deleted.

    Args:
        collection: the collection to search.
        threshold: least similarity of a pair, -1 to 1; each threshold has slabs and tables of its own.
        size: most vectors in one slab, unless a single shard has more.
        most: how many nearest photos of each are wanted, among those that reach the threshold; None for all pairs.
    """
    store, kind = collection.vectors, _kind(threshold, most)
    note = f"slabs-{kind}"
    stored = store.names(SHARDS)
    empty = Triangle(collection, threshold, (), most)
    former = _placed(empty, store.noted(note) or [])
    if set(former.shards) - set(stored):  # somebody deleted shards: their rows must not be counted
        former = empty
    merged = _merged(former, size) if not former.blocks() else former
    placed = set(merged.shards)
    fresh = _cut([name for name in stored if name not in placed], size)
    triangle = _placed(empty, [*(slab.shards for slab in merged.slabs), *fresh])
    store.note(note, [slab.shards for slab in triangle.slabs])
    needed = {_table(kind, left, right) for left, right in triangle.corners()}
    for name in set(store.names(kind)) - needed:
        store.delete(name)
    return triangle


def _cut(shards: Sequence[str], size: int) -> list[list[str]]:
    """Combine shards, in order, as long as they have at most `size` vectors together."""
    slabs: list[list[str]] = []
    room = 0
    for name in shards:
        if not slabs or _rows(name) > room:
            slabs.append([])
            room = size
        slabs[-1].append(name)
        room -= _rows(name)
    return slabs


def _merged(triangle: Triangle, size: int) -> Triangle:
    """Merge neighbouring slabs of together at most `size` vectors, a small one only with one that is not far larger.

    Each vector thus takes part in few merges, as in a log-structured merge tree: a slab that is not merged is more than
    twice as large as the next, and n runs that add one photo each leave about log2(n) slabs. Nothing is compared again:
    the tables of a merged slab are those of its parts combined, without pairs that are no longer among the nearest.
    They are written before anything is noted or deleted, so that a kill loses nothing.
    """
    spans: list[list[Slab]] = []
    for slab in triangle.slabs:
        spans.append([slab])
        while len(spans) > 1 and _goes_with(spans[-2], spans[-1], size):
            last = spans.pop()
            spans[-1] += last
    if len(spans) == len(triangle.slabs):
        return triangle
    store, kind = triangle.collection.vectors, triangle.kind
    merged = _placed(triangle, [[name for slab in span for name in slab.shards] for span in spans])
    parts = dict(zip(merged.slabs, spans, strict=True))
    for left, right in merged.corners():
        if len(parts[left]) > 1 or len(parts[right]) > 1:
            corners = [(a, b) for b in parts[right] for a in parts[left] if a.start <= b.start]
            links = _joined(_read_links(store, kind, *corner) for corner in corners)
            if triangle.most is not None:
                links = replace(links, pairs=links.pairs.most_similar(triangle.most))
            _write_links(store, kind, left, right, links)
    return merged


def _goes_with(former: Sequence[Slab], last: Sequence[Slab], size: int) -> bool:
    """Whether two neighbouring runs of slabs are merged."""
    large, small = (sum(slab.rows for slab in slabs) for slabs in (former, last))
    return large + small <= size and large <= 2 * small


def _placed(search: Triangle, slabs: Sequence[Sequence[str]]) -> Triangle:
    """Give a search other slabs, each as the names of its shards."""
    starts = np.cumsum([0, *(sum(map(_rows, names)) for names in slabs)]).tolist()
    placed = tuple(Slab(tuple(names), start) for names, start in zip(slabs, starts, strict=False))
    return replace(search, slabs=placed)


def _rows(shard: str) -> int:
    """Number of vectors in a shard, read from its name."""
    return int(shard.removeprefix(SHARDS).split("-")[0])


def _kind(threshold: float, most: int | None) -> str:
    """Prefix of the names of the tables of pairs at a threshold."""
    digest = digest_of(threshold) if most is None else digest_of(threshold, most)
    return f"near-{digest[:12]}-"


def _table(kind: str, left: Slab, right: Slab) -> str:
    """Name of the table of a block."""
    return kind + digest_of(left.shards, right.shards)[:16]


def search_all(collection: Collection, threshold: float, most: int | None = None) -> Triangle:
    """Search all blocks of a collection that have not been searched yet, one after another.

    Args:
        collection: the collection to search; all its photos are encoded.
        threshold: least similarity of a pair, -1 to 1.
        most: how many nearest photos of each are kept; None for all pairs.
    """
    triangle = open_triangle(collection, threshold, most=most)
    for block in triangle.blocks():
        search_block(collection, threshold, block, most)
    return triangle


def search_block(collection: Collection, threshold: float, block: Block, most: int | None = None) -> int:
    """Search one block and write its pairs to the store.

    Rows of a slab with equal vectors are searched as one, so that a picture that occurs thousands of times costs
    nothing; equal vectors of different slabs are kept apart from the other pairs.

    Args:
        collection: the collection to search.
        threshold: least similarity of a pair, -1 to 1.
        block: the block to search.
        most: how many nearest photos of each, among those in the block, are kept; None for all pairs.

    Returns:
        The number of pairs.
    """
    left, right = block.left, block.right
    left_vectors, right_vectors = _read(collection.vectors, left.shards), _read(collection.vectors, right.shards)
    search = _plan(collection.vectors, min(threshold, NEARLY_ONE), block.sample)
    search = search if most is None else replace(search, most=most + 1)  # one may be equal, which does not count
    offset = 0 if left == right else len(left_vectors.rows)
    pairs = search.between(left_vectors.vectors, right_vectors.vectors, 0, offset)
    pairs = NearPairs(pairs.left, pairs.right - offset, pairs.similarities)
    equal = _equal(left_vectors.vectors, right_vectors.vectors, pairs)
    ends = np.stack([left_vectors.rows[pairs.left] + left.start, right_vectors.rows[pairs.right] + right.start])
    near = NearPairs(ends[0], ends[1], pairs.similarities).take(~equal & (pairs.similarities >= threshold))
    near = near if most is None else near.nearest(most)
    joined = [ends[:, equal], left_vectors.equal + left.start] if left == right else [ends[:, equal]]
    _write_links(collection.vectors, _kind(threshold, most), left, right, Links(near, np.concatenate(joined, axis=1)))
    return len(near.left)


@dataclass(frozen=True)
class _Distinct:
    """The distinct vectors of a slab.

    Attributes:
        vectors: float32 (n, d).
        rows: int64 (n,), the first row of the slab that holds each vector.
        equal: int64 (2, m), a first row and each further row that is bitwise equal to it.
    """

    vectors: Vectors
    rows: Ints
    equal: Ints


@lru_cache(maxsize=2)
def _read(store: Store, shards: tuple[str, ...]) -> _Distinct:
    """Read the distinct vectors of a slab; those of the last two slabs are cached, as blocks come row by row."""
    vectors = np.concatenate([vectors_of(store.read(name, ["vector"])["vector"]) for name in shards])
    bits = vectors.view(f"V{vectors.shape[1] * vectors.itemsize}").ravel()
    _, first, which = np.unique(bits, return_index=True, return_inverse=True)
    firsts = first[which.ravel()]
    rows, copies = np.unique(firsts), np.flatnonzero(firsts != np.arange(len(firsts)))
    return _Distinct(vectors[rows] if len(copies) else vectors, rows, np.stack([firsts[copies], copies]))


@lru_cache(maxsize=1)
def _plan(store: Store, threshold: float, sample: tuple[str, ...]) -> PairSearch:
    """Make the plan of the search, the same in every worker, and keep it for the following blocks.

    A sample of fewer than `PLANNED` shards holds all of them.
    """
    vectors = np.concatenate([vectors_of(store.read(name, ["vector"])["vector"]) for name in sample])
    if len(sample) < PLANNED and len(vectors) ** 2 < FEW:
        return PairSearch.unplanned(vectors.shape[1], threshold)
    return PairSearch.of(vectors, threshold)


def _equal(left: Vectors, right: Vectors, pairs: NearPairs) -> Bools:
    """Find the pairs of bitwise equal vectors: bool (m,)."""
    equal = np.zeros(len(pairs.left), dtype=bool)
    likely = np.flatnonzero(pairs.similarities >= NEARLY_ONE)
    for start in range(0, len(likely), COMPARED):
        chunk = likely[start : start + COMPARED]
        i, j = pairs.left[chunk], pairs.right[chunk]
        equal[chunk] = (left[i].view(np.int32) == right[j].view(np.int32)).all(axis=1)
    return equal


def _read_links(store: Store, kind: str, left: Slab, right: Slab) -> Links:
    """Read the pairs that one block found from the store."""
    table = store.read(_table(kind, left, right))
    i, j = table["left"].to_numpy() + left.start, table["right"].to_numpy() + right.start
    similarities, equal = table["similarity"].to_numpy(), table["equal"].to_numpy(zero_copy_only=False)
    return Links(NearPairs(i, j, similarities).take(~equal), np.stack([i, j])[:, equal])


def _write_links(store: Store, kind: str, left: Slab, right: Slab, links: Links) -> None:
    """Write the pairs that one block found, with rows counted within its slabs, whose own numbers may change later."""
    equal = np.repeat([False, True], [len(links.pairs.left), links.equal.shape[1]])
    columns = {
        "left": np.concatenate([links.pairs.left, links.equal[0]]) - left.start,
        "right": np.concatenate([links.pairs.right, links.equal[1]]) - right.start,
        "similarity": np.concatenate([links.pairs.similarities, np.ones(links.equal.shape[1])]),
        "equal": equal,
    }
    store.write(_table(kind, left, right), pa.table(columns))


def _joined(parts: Iterator[Links]) -> Links:
    """Join the pairs that some blocks found, best first, ties by row."""
    links = list(parts)
    no_rows = np.empty(0, np.int64)
    left = np.concatenate([no_rows, *(part.pairs.left for part in links)])
    right = np.concatenate([no_rows, *(part.pairs.right for part in links)])
    similarities = np.concatenate([np.empty(0), *(part.pairs.similarities for part in links)])
    equal = np.concatenate([np.empty((2, 0), np.int64), *(part.equal for part in links)], axis=1)
    return Links(NearPairs(left, right, similarities).sorted(), equal)
