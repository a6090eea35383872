"""Exact search for all pairs of vectors at or above a threshold; a bound on the vectors' sketches prunes most pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from neardup.arrays import Bools, Floats, Ints, Vectors
from neardup.search.int8_products import Limits, Quantized, int8_pays, multiply, products_of_pairs
from neardup.search.pairs import NearPairs, joined, squared_lengths
from neardup.search.top_k import RunningTopK

ROWS = 512
"""Left rows of one block; with `COLUMNS` its 4 MB of inner products stay in the cache."""
COLUMNS = 2048
"""Right rows of one block; see `ROWS`."""
CHUNK = 4096
"""Rows, or pairs, that are in memory at once as float64: 17 MB at 512 dimensions."""
SAMPLE = 2048
"""Vectors in the sample on which a search is planned: they make 2 million pairs."""
WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384)
"""Numbers per sketch that a plan tries: inner products are the fastest at multiples of 16."""
CANDIDATE_COST = 130_000
"""Cost of one inner product of two gathered vectors, in multiplications of a matrix product of sketches.

Measured on an EPYC with AVX-512: 0.67 us against 5 ps.
"""
FEW = 2**24
"""Queries times vectors below which a search is not planned: a plan takes 0.15 s, as long as 10 million products.

Where nothing has imported torch yet, by which int8 is multiplied, it takes two seconds more.
"""
DENSE = 0.03
"""Share of a block's pairs above which one product of all its vectors is faster than gathering the candidates."""
KEPT = 2**22
"""Pairs that are kept before those no longer among the nearest are dropped: 100 MB."""


@dataclass(frozen=True)
class SketchedRows:
    """Vectors to search, with a sketch of each: a few numbers whose inner products bound the similarities.

    Attributes:
        vectors: float32 (n, d), unit rows; may be a memory map.
        rows: int64 (m,), the rows of `vectors` that are searched.
        sketches: int8 or float32 codes (m, c), a sketch for each of `rows`.
    """

    vectors: Vectors
    rows: Ints
    sketches: Quantized

    def head(self, count: int) -> "SketchedRows":
        """The first `count` rows with their sketches."""
        return SketchedRows(self.vectors, self.rows[:count], self.sketches.head(count))


@dataclass(frozen=True)
class PairSearch:
    """A plan of a search for all pairs at or above a threshold, small enough to be sent to other processes.

    A vector v is split into its projection p on the first principal components and a residual of length r. By
    Cauchy-Schwarz v·v' ≤ p·p' + r r', which is the inner product of the sketches (p, r). Sketches are turned by a
    random rotation, so that no column is much greater than the others, and quantised to int8. A pair whose bound does
    not reach the threshold is pruned; the others are candidates, whose similarity is computed. (For sparse vectors,
    Anastasiu and Karypis give such a bound in "L2AP: Fast Cosine Similarity Search With Prefix L-2 Norm Bounds", 2014.)

    Attributes:
        threshold: the similarity that a pair must reach.
        components: float64 (d, c - 1), orthonormal columns; none where nothing can be pruned.
        rotation: float64 (c, c), orthogonal.
        most: a pair may be left out if it is among this many nearest of neither of its rows; None keeps all pairs.
    """

    threshold: float
    components: Floats
    rotation: Floats
    most: int | None = None

    @classmethod
    def of(cls, vectors: Vectors, threshold: float) -> "PairSearch":
        """Plan a search with the width of sketches that is the fastest on a sample of the vectors.

        Args:
            vectors: float32 (n, d), unit rows; all that will be searched, or some that are like them.
            threshold: the similarity that a pair must reach.

        Raises:
            EncoderError: a row of the sample is not a unit vector.
        """
        sample_rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:SAMPLE])
        sample = np.asarray(vectors[sample_rows])
        sample64 = sample.astype(np.float64)
        squared_lengths(sample64, sample_rows)
        axes = np.linalg.eigh(sample64.T @ sample64)[1][:, ::-1]
        best, least = cls.unplanned(len(axes), threshold), float(len(axes) + 1)
        for width in (*(width for width in WIDTHS if width < len(axes)), len(axes)):
            if width >= least:  # the products of the sketches alone cost more
                break
            plan = cls(threshold, axes[:, : width - 1], _rotation(width))
            if (cost := plan.cost(sample)) < least:
                best, least = plan, cost
        return best

    @classmethod
    def unplanned(cls, dimension: int, threshold: float) -> "PairSearch":
        """Plan a search of few vectors: without components, it prunes nothing and multiplies whole vectors."""
        return cls(threshold, np.empty((dimension, 0)), _rotation(1))

    def cost(self, sample: Vectors) -> float:
        """Estimate the mean cost of a pair of the sample, in multiplications of a matrix product of sketches."""
        sketched = self.sketch(sample, np.arange(len(sample)))
        products = np.empty((len(sample), len(sample)), sketched.sketches.product_dtype)
        multiply(sketched.sketches.codes, sketched.sketches.codes, products)
        candidates = np.count_nonzero(products >= self.limits(sketched, sketched, self.threshold)) - len(sample)
        return len(self.rotation) + CANDIDATE_COST * candidates / max(1, len(sample) * (len(sample) - 1))

    @property
    def planned(self) -> bool:
        """Whether the sketches can prune anything."""
        return self.components.size > 0

    @property
    def slack(self) -> float:
        """Bound on the error of a float32 product of unit rows (d eps / 2 in any order of summation) and of its limit.

        It also covers the float64 sums behind the sketches, which err by less than d 1e-15 in r² and by its root in r.
        """
        return (len(self.components) + 8) * float(np.finfo(np.float32).eps)

    def sketch(self, vectors: Vectors, rows: Ints) -> SketchedRows:
        """Make the sketches of some vectors, by which pairs are pruned.

        Args:
            vectors: float32 (n, d), unit rows.
            rows: int64 (m,), the rows of `vectors` to sketch.

        Raises:
            EncoderError: a row is not a unit vector, or has a number that is not finite.
        """
        sketches = np.empty((len(rows), len(self.rotation)), np.float32)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            sketches[start : start + CHUNK] = self._sketches(vectors[chunk].astype(np.float64), chunk)
        quantize = Quantized.to_int8 if self.planned and int8_pays() else Quantized.as_float32
        return SketchedRows(vectors, rows, quantize(sketches))

    def _sketches(self, vectors64: Floats, rows: Ints) -> Floats:
        """Compute the sketches, float64 (m, c), of float64 vectors; `rows` are their numbers, for error messages."""
        squares = squared_lengths(vectors64, rows)
        projections = vectors64 @ self.components
        residuals = np.sqrt(np.maximum(squares - np.vecdot(projections, projections), 0.0))
        return np.column_stack([projections, residuals]) @ self.rotation

    def limits(self, left: SketchedRows, right: SketchedRows, similarities: Floats | float) -> Limits:
        """Compute, for each similarity, the least inner product of sketch codes that a pair at or above it can have."""
        return left.sketches.limits(right.sketches, similarities - 2 * self.slack)

    def between(
        self,
        left: Vectors,
        right: Vectors,
        left_start: int,
        right_start: int,
        report: Callable[[int], None] = lambda _: None,
    ) -> NearPairs:
        """Find the pairs between two parts of an archive, or within one part if both start at the same row.

        Taken over all parts, they equal those of `near_pairs` to the last bit, however the archive is cut.

        Args:
            left: float32 (m, d), unit rows.
            right: float32 (n, d), unit rows; `left` itself, or rows that are not in it.
            left_start: row of the archive that `left` begins with.
            right_start: row of the archive that `right` begins with.
            report: called with the number of pairs that were searched since the last call.

        Returns:
            Pairs of the archive's rows, the lesser one left.

        Raises:
            EncoderError: a row is not a unit vector.
        """
        if left_start > right_start:
            return self.between(right, left, right_start, left_start, report)
        first = self.sketch(left, np.arange(len(left)))
        second = first if left_start == right_start else self.sketch(right, np.arange(len(right)))
        pairs = self.between_sketched(first, second, right_start - left_start, report)
        return NearPairs(pairs.left + left_start, pairs.right + right_start, pairs.similarities).sorted()

    def between_sketched(
        self,
        left: SketchedRows,
        right: SketchedRows,
        offset: int,
        report: Callable[[int], None],
        *,
        rows: int = ROWS,
        columns: int = COLUMNS,
    ) -> NearPairs:
        """Find the pairs of a left row i and a right row j with i < j + offset, as indices, in no order.

        Args:
            left: rows to search, cut into blocks of `rows`.
            right: rows to compare them with, cut into blocks of `columns`.
            offset: how many rows after the left side the right one starts; 0 where the right rows begin with the left
                ones.
            report: called with the number of pairs that were searched since the last call.
            rows: left rows of one block.
            columns: right rows of one block.
        """
        search = BlockSearch(self, left, right, offset, rows * columns)
        parts, kept = [NearPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))], 0
        for top in range(0, len(left.rows), rows):
            band = np.arange(top, min(top + rows, len(left.rows)))
            parts += [
                search.pairs(slice(top, top + len(band)), slice(start, start + columns))
                for start in range(max(0, top + 1 - offset), len(right.rows), columns)
            ]
            if search.top_k and sum(len(part.left) for part in parts) > 2 * max(kept, KEPT):
                parts = [search.nearest(joined(parts))]
                kept = len(parts[0].left)
            report(int((len(right.rows) - np.maximum(band + 1 - offset, 0)).sum()))
        return search.verified(search.nearest(joined(parts)))


@dataclass(frozen=True)
class BlockSearch:
    """A search between two sides, one block after the other, in memory that all blocks share.

    Attributes:
        plan: which pairs are searched for, and how.
        left: the left side of all blocks.
        right: the right side of all blocks.
        offset: a pair of indices (i, j) counts where i < j + offset, so that no pair is found twice.
        size: pairs in the largest block.
    """

    plan: PairSearch
    left: SketchedRows
    right: SketchedRows
    offset: int
    size: int

    @cached_property
    def products(self) -> npt.NDArray[Any]:
        """Memory for the inner products of a block; allocating it for each block would cost as much as the products."""
        return np.empty(self.size, self.left.sketches.product_dtype)

    @cached_property
    def reached(self) -> Bools:
        """Memory for a mask of a block: where its inner products reach the limit."""
        return np.empty(self.size, bool)

    @cached_property
    def top_k(self) -> RunningTopK | None:
        """The nearest of each row so far, if only these are wanted; the right index j belongs to row j + offset."""
        rows = max(len(self.left.rows), len(self.right.rows) + self.offset)
        return RunningTopK(rows, self.plan.most, self.plan.threshold) if self.plan.most else None

    def nearest(self, pairs: NearPairs) -> NearPairs:
        """Keep the pairs, with float32 similarities, that can still be among the nearest of one of their rows.

        More than `KEPT` are cut by their exact similarities, ties by row.
        """
        if not self.top_k:
            return pairs
        ends = pairs.left, pairs.right + self.offset
        near = pairs.take(self.top_k.reached(*ends, pairs.similarities + self.plan.slack))
        if self.plan.most is None or len(near.left) <= KEPT:
            return near
        near = self.verified(near).sorted()  # float32 cannot tell the nearest from the many that are nearly as near
        near = NearPairs(near.left, near.right + self.offset, near.similarities).nearest(self.plan.most)
        return NearPairs(near.left, near.right - self.offset, near.similarities)

    def limits(self, rows: slice, columns: slice, of: Callable[[Floats], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """What the pairs of a block must reach: shape (), or (m, n) where only the nearest of each row are wanted.

        Args:
            rows: indices on the left side.
            columns: indices on the right side.
            of: monotonic function from similarities to limits.
        """
        if not self.top_k:
            return of(np.asarray(self.plan.threshold))
        floors = self.top_k.floors
        limits: npt.NDArray[Any] = np.minimum.outer(of(floors[rows]), of(floors[self.offset :][columns]))
        return limits

    def pairs(self, rows: slice, columns: slice) -> NearPairs:
        """Find the pairs of a block, some rows of the left side with some of the right, that may reach the threshold.

        Their similarities are float32 products of the vectors, which `verified` computes exactly.
        """
        left, right = self.left.rows[rows], self.right.rows[columns]
        candidates = self.candidates(rows, columns) if self.plan.planned else None
        if candidates is None or len(candidates) > DENSE * len(left) * len(right):
            block = self.left.vectors[left] @ self.right.vectors[right].T
            candidates = np.flatnonzero(block >= self.limits(rows, columns, self._block_limits))
            i, j = np.divmod(candidates, len(right))
            products = block.ravel()[candidates]
        else:
            i, j = np.divmod(candidates, len(right))
            products = products_of_pairs(self.left.vectors, left[i], self.right.vectors, right[j])
        i, j = i + rows.start, j + columns.start
        likely = (i < j + self.offset) & (products >= self.plan.threshold - self.plan.slack)
        pairs = NearPairs(i[likely], j[likely], products[likely].astype(np.float64))
        if self.top_k:
            self.top_k.add(pairs.left, pairs.right + self.offset, pairs.similarities - self.plan.slack)
        return self.nearest(pairs)

    def candidates(self, rows: slice, columns: slice) -> Ints:
        """Find where a block's products of sketches reach their limits: indices into the flattened block, ascending."""
        left, right = self.left.sketches.codes[rows], self.right.sketches.codes[columns]
        shape = (len(left), len(right))
        products = self.products[: len(left) * len(right)].reshape(shape)
        reached = self.reached[: products.size].reshape(shape)
        multiply(left, right, products)
        np.greater_equal(products, self.limits(rows, columns, self._sketch_limits), out=reached)
        return np.flatnonzero(reached)

    def _sketch_limits(self, similarities: Floats) -> Limits:
        """Limits on products of sketches: a pair below its limit is below the similarity."""
        return self.plan.limits(self.left, self.right, similarities)

    def _block_limits(self, similarities: Floats) -> Vectors:
        """Limits on float32 products of vectors, as `_sketch_limits` on sketches; twice as fast as float64."""
        return (similarities - self.plan.slack).astype(np.float32)

    def verified(self, pairs: NearPairs) -> NearPairs:
        """Keep the pairs at or above the threshold, by a float64 sum that does not depend on how blocks are cut."""
        left, right = self.left.rows[pairs.left], self.right.rows[pairs.right]
        exact = np.empty(len(left))
        for start in range(0, len(exact), CHUNK):
            chunk = slice(start, start + CHUNK)
            left64 = self.left.vectors[left[chunk]].astype(np.float64)
            exact[chunk] = (left64 * self.right.vectors[right[chunk]]).sum(axis=1)
        return NearPairs(pairs.left, pairs.right, exact).take(exact >= self.plan.threshold)


def near_pairs(
    vectors: Vectors,
    queries: Ints,
    threshold: float,
    *,
    report: Callable[[int], None] = lambda _: None,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> NearPairs:
    """Find every pair at or above a threshold of which at least one photo is a query, each pair once.

    Memory grows with the pairs that are found, not with n², plus some hundred bytes a row.

    Args:
        vectors: float32 (n, d), unit rows; may be a memory map.
        queries: int64 (m,), rows of `vectors`.
        threshold: the similarity that a pair must reach.
        report: called with the number of pairs that were searched since the last call.
        rows: left rows of one block.
        columns: right rows of one block.

    Raises:
        EncoderError: a row is not a unit vector.
    """
    query_rows = np.unique(queries).astype(np.int64)
    order = np.concatenate([query_rows, np.setdiff1d(np.arange(len(vectors)), query_rows)])
    few = len(query_rows) * len(vectors) < FEW
    plan = PairSearch.unplanned(vectors.shape[1], threshold) if few else PairSearch.of(vectors, threshold)
    sketched = plan.sketch(vectors, order)
    pairs = plan.between_sketched(sketched.head(len(query_rows)), sketched, 0, report, rows=rows, columns=columns)
    return NearPairs(order[pairs.left], order[pairs.right], pairs.similarities).sorted()


def _rotation(width: int) -> Floats:
    """Make a random orthogonal matrix, float64 (width, width), the same each time."""
    rotation: Floats = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0]
    return rotation
