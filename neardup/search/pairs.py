"""All pairs at or above a threshold, exactly: most are ruled out by a bound on few whole numbers a photo."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from neardup.arrays import Bools, Floats, Ints, Vectors
from neardup.errors import EncoderError
from neardup.search.int8_products import UNIT, Limits, Numbers, Rounded, int8_pays, multiply, products_of_pairs

ROWS, COLUMNS = 512, 2048
"""Sides of one block of the pair search: its products are 4 MB and stay in the cache."""
CHUNK = 4096
"""Rows, or pairs, that are held at once in float64: 17 MB at 512 dimensions."""
SAMPLE = 2048
"""Rows that a search is planned on: 2 million pairs."""
MARKS = (16, 32, 48, 64, 96, 128, 192, 256, 384)
"""Numbers a row that are tried; products of multiples of 16 are the fastest."""
SURVIVOR = 130_000
"""Cost of computing one similarity, in numbers of one product of marks: 0.67 us against 5 ps (EPYC with AVX-512)."""
FEW = 2**24
"""Pairs, each counted twice, from which on a plan pays: 0.15 s against 70 million products a second."""
DENSE = 0.03
"""Share of a block's pairs above which a product of all its vectors is faster than one pair after the other."""


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows that are at or above a threshold, best first, ties by `left`, then by `right`.

    Attributes:
        left: int64 (m,), a row that was asked about; the lesser one where both were.
        right: int64 (m,), another row.
        similarities: float64 (m,), -1 to 1, higher is more alike.
    """

    left: Ints
    right: Ints
    similarities: Floats

    def take(self, chosen: Ints | Bools) -> "NearPairs":
        """Some of the pairs, by index or by mask."""
        return NearPairs(self.left[chosen], self.right[chosen], self.similarities[chosen])

    def sorted(self) -> "NearPairs":
        """The pairs in order."""
        return self.take(np.lexsort((self.right, self.left, -self.similarities)))


@dataclass(frozen=True)
class Slab:
    """Rows that are searched, with few numbers each that bound their similarities.

    Attributes:
        vectors: float32 (n, d), unit rows; may be a memory map.
        rows: int64 (m,), those of the slab.
        marks: (m, c + 1), the components and the length of the rest.
    """

    vectors: Vectors
    rows: Ints
    marks: Rounded

    def head(self, count: int) -> "Slab":
        """The first rows."""
        return Slab(self.vectors, self.rows[:count], self.marks.head(count))


@dataclass(frozen=True)
class PairSearch:
    """A plan of a search for all pairs; small, so that it can be sent to who searches a block.

    A vector is split into its first principal components p and a rest of length r. By Cauchy-Schwarz
    v·w ≤ p·p' + r r', which is one product of the rows (p, r). They are turned by a random orthogonal matrix, so that
    no column is much greater than others, and rounded to int8. Only pairs whose bound reaches the threshold are looked
    at.

    Attributes:
        threshold: a similarity.
        components: float64 (d, c), orthonormal columns.
        turn: float64 (c + 1, c + 1), orthogonal.
    """

    threshold: float
    components: Floats
    turn: Floats

    @classmethod
    def of(cls, vectors: Vectors, threshold: float) -> "PairSearch":
        """Plan the search: as many components as make it fastest on a sample of the vectors.

        Args:
            vectors: float32 (n, d), unit rows; all of them, or some that are like them.
            threshold: a similarity.

        Raises:
            EncoderError: a row of the sample is not a unit vector.
        """
        drawn = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
        sample = np.asarray(vectors[np.sort(drawn)])
        wide = sample.astype(np.float64)
        _require_units(wide, np.sort(drawn))
        axes = np.linalg.eigh(wide.T @ wide)[1][:, ::-1]
        best, least = cls.unplanned(len(axes), threshold), float(len(axes) + 1)
        for width in (*(width for width in MARKS if width < len(axes)), len(axes)):
            if width >= least:  # its products alone cost more
                break
            plan = cls(threshold, axes[:, : width - 1], _turn(width))
            if (cost := plan.cost(sample)) < least:
                best, least = plan, cost
        return best

    @classmethod
    def unplanned(cls, dimension: int, threshold: float) -> "PairSearch":
        """The search of few vectors: without components, so that nothing but products of whole blocks is left."""
        return cls(threshold, np.empty((dimension, 0)), _turn(1))

    def cost(self, sample: Vectors) -> float:
        """Of one pair of the sample, in numbers of one product of marks."""
        slab = self.slab(sample, np.arange(len(sample)))
        products = np.empty((len(sample), len(sample)), slab.marks.kind())
        multiply(slab.marks.numbers, slab.marks.numbers, products)
        survivors = np.count_nonzero(products >= self.limit(slab, slab)) - len(sample)
        return len(self.turn) + SURVIVOR * survivors / max(1, len(sample) * (len(sample) - 1))

    @property
    def planned(self) -> bool:
        """Whether its marks rule anything out."""
        return self.components.size > 0

    @property
    def slack(self) -> float:
        """More than a float32 product of two rows errs by: d eps / 2 for unit rows, by any order of summation.

        It also covers the float64 sums behind the marks: they err by less than d 1e-15 in a square, r by its root.
        """
        return (len(self.components) + 8) * float(np.finfo(np.float32).eps)

    def slab(self, vectors: Vectors, rows: Ints) -> Slab:
        """Mark some of the vectors.

        Args:
            vectors: float32 (n, d), unit rows.
            rows: int64 (m,), which of them.

        Raises:
            EncoderError: a row is not a unit vector, or has a number that is not finite.
        """
        exact = np.empty((len(rows), len(self.turn)), np.float32)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            exact[start : start + CHUNK] = self._marked(vectors[chunk].astype(np.float64), chunk)
        return Slab(vectors, rows, (Rounded.of if self.planned and int8_pays() else Rounded.not_at_all)(exact))

    def _marked(self, wide: Floats, rows: Ints) -> Floats:
        squares = _require_units(wide, rows)
        parts = wide @ self.components
        rest = np.sqrt(np.maximum(squares - np.vecdot(parts, parts), 0.0))
        return np.column_stack([parts, rest]) @ self.turn

    def limit(self, left: Slab, right: Slab) -> Limits:
        """The least product of marks that a pair at or above the threshold may have."""
        return left.marks.least(right.marks, self.threshold - 2 * self.slack)

    def between(
        self,
        left: Vectors,
        right: Vectors,
        left_start: int,
        right_start: int,
        report: Callable[[int], None] = lambda _: None,
    ) -> NearPairs:
        """The pairs of one slab of vectors with another, or within one where both start at the same row.

        Over all slabs of an archive they are those of `near_pairs`, to the last bit, however it is cut.

        Args:
            left: float32 (m, d), unit rows.
            right: float32 (n, d), unit rows; `left` itself, or apart from it.
            left_start: row of the archive that `left` begins with.
            right_start: row of the archive that `right` begins with.
            report: is told how many pairs were looked at since it was told last.

        Returns:
            Pairs of the archive's rows, the lesser one left.

        Raises:
            EncoderError: a row is not a unit vector.
        """
        if left_start > right_start:
            return self.between(right, left, right_start, left_start, report)
        first = self.slab(left, np.arange(len(left)))
        second = first if left_start == right_start else self.slab(right, np.arange(len(right)))
        found = self.found(first, second, right_start - left_start, report)
        return NearPairs(found.left + left_start, found.right + right_start, found.similarities).sorted()

    def found(
        self,
        left: Slab,
        right: Slab,
        offset: int,
        report: Callable[[int], None],
        *,
        rows: int = ROWS,
        columns: int = COLUMNS,
    ) -> NearPairs:
        """Pairs (i, j) with i < j + offset, numbered within the slabs, in no order."""
        block = _Block(self, left, right, offset, rows * columns)
        parts = [NearPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        for top in range(0, len(left.rows), rows):
            band = np.arange(top, min(top + rows, len(left.rows)))
            parts += [
                block.pairs(slice(top, top + len(band)), slice(start, start + columns))
                for start in range(max(0, top + 1 - offset), len(right.rows), columns)
            ]
            report(int((len(right.rows) - np.maximum(band + 1 - offset, 0)).sum()))
        return _joined(parts)


@dataclass(frozen=True)
class _Block:
    """What one block after the other is searched with."""

    search: PairSearch
    left: Slab
    right: Slab
    offset: int
    size: int

    @cached_property
    def products(self) -> npt.NDArray[Any]:
        """Room for those of one block; new room each time costs as much as the products."""
        return np.empty(self.size, self.left.marks.kind())

    @cached_property
    def reached(self) -> Bools:
        """Room for where they reach the limit."""
        return np.empty(self.size, bool)

    @cached_property
    def limit(self) -> Limits:
        """The least product of interest."""
        return self.search.limit(self.left, self.right)

    def pairs(self, rows: slice, columns: slice) -> NearPairs:
        """The pairs of some rows of the left slab with some of the right."""
        left, right = self.left.marks.numbers[rows], self.right.marks.numbers[columns]
        places = self.reaching(left, right) if self.search.planned else None
        if places is None or len(places) > DENSE * len(left) * len(right):
            near = self.left.vectors[self.left.rows[rows]] @ self.right.vectors[self.right.rows[columns]].T
            places = np.flatnonzero(near >= self.search.threshold - self.search.slack)
        i, j = np.divmod(places, len(right))
        return self.judged(i + rows.start, j + columns.start)

    def reaching(self, left: Numbers, right: Numbers) -> Ints:
        """Which of the products of marks reach the limit, int64, row after row."""
        shape = (len(left), len(right))
        products = self.products[: len(left) * len(right)].reshape(shape)
        reached = self.reached[: products.size].reshape(shape)
        multiply(left, right, products)
        np.greater_equal(products, self.limit, out=reached)
        return np.flatnonzero(reached)

    def judged(self, i: Ints, j: Ints) -> NearPairs:
        """Those that are at or above the threshold, by a float64 sum that does not depend on the blocks."""
        once = i < j + self.offset
        i, j = i[once], j[once]
        left, right = self.left.rows[i], self.right.rows[j]
        near = products_of_pairs(self.left.vectors, left, self.right.vectors, right)
        likely = near >= self.search.threshold - self.search.slack
        left, right, exact = left[likely], right[likely], np.empty(np.count_nonzero(likely))
        for start in range(0, len(exact), CHUNK):
            chunk = slice(start, start + CHUNK)
            wide = self.left.vectors[left[chunk]].astype(np.float64)
            exact[chunk] = (wide * self.right.vectors[right[chunk]]).sum(axis=1)
        return NearPairs(i[likely], j[likely], exact).take(exact >= self.search.threshold)


def near_pairs(
    vectors: Vectors,
    asked: Ints,
    threshold: float,
    *,
    report: Callable[[int], None] = lambda _: None,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> NearPairs:
    """Find every pair at or above a threshold of which at least one photo was asked about, each pair once.

    Memory grows with the pairs that are found, not with n x n; beside them it is some hundred bytes a row.

    Args:
        vectors: float32 (n, d), unit rows; may be a memory map.
        asked: int64, rows of `vectors`.
        threshold: a similarity.
        report: is told how many pairs were looked at since it was told last.
        rows: of one block.
        columns: of one block.

    Raises:
        EncoderError: a row is not a unit vector.
    """
    first = np.unique(asked).astype(np.int64)
    order = np.concatenate([first, np.setdiff1d(np.arange(len(vectors)), first)])
    few = len(first) * len(vectors) < FEW
    search = PairSearch.unplanned(vectors.shape[1], threshold) if few else PairSearch.of(vectors, threshold)
    slab = search.slab(vectors, order)
    found = search.found(slab.head(len(first)), slab, 0, report, rows=rows, columns=columns)
    return NearPairs(order[found.left], order[found.right], found.similarities).sorted()


def _joined(parts: Sequence[NearPairs]) -> NearPairs:
    sides = zip(*((part.left, part.right, part.similarities) for part in parts), strict=True)
    return NearPairs(*map(np.concatenate, sides))


def _require_units(wide: Floats, rows: Ints) -> Floats:
    """The squared lengths of float64 rows, which must be near 1."""
    squares: Floats = np.vecdot(wide, wide)
    odd = np.flatnonzero(~(np.abs(np.sqrt(squares) - 1) <= UNIT))
    if len(odd):
        length = np.sqrt(squares[odd[0]])
        raise EncoderError(f"vector {rows[odd[0]]} has length {length:g} instead of 1: encode its photo again")
    return squares


def _turn(width: int) -> Floats:
    """A random orthogonal matrix, the same each time."""
    turned: Floats = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0]
    return turned
