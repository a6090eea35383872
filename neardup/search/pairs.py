"""Pairs of rows with their similarities, as every search for pairs returns them."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from neardup.arrays import Bools, Floats, Ints, Vectors
from neardup.errors import ConfigError, EncoderError

UNIT = 0.01
"""Greatest difference of a vector's length from 1; vectors that were stored as float16 differ by 0.0005."""
Real32or64 = TypeVar("Real32or64", np.float32, np.float64)
"""Number formats that vectors are computed in."""


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows whose similarity is at or above a threshold.

    A search returns them best first, equally similar ones by `left`, then by `right`.

    Attributes:
        left: int64 (m,), a row that is a query; the lesser row where both are.
        right: int64 (m,), the other row.
        similarities: float64 (m,), -1 to 1, higher is more alike.
    """

    left: Ints
    right: Ints
    similarities: Floats

    @classmethod
    def between(cls, ends: Ints, vectors: Vectors) -> "NearPairs":
        """Make pairs of rows, int64 (m, 2), in order, with the similarities of their vectors, float32 (m, 2, d)."""
        return cls(ends[:, 0], ends[:, 1], np.vecdot(vectors[:, 0], vectors[:, 1]).astype(np.float64))

    def take(self, chosen: Ints | Bools) -> "NearPairs":
        """Select pairs by their indices or by a mask."""
        return NearPairs(self.left[chosen], self.right[chosen], self.similarities[chosen])

    def order(self) -> Ints:
        """Indices that order the pairs best first, equally similar ones by `left`, then by `right`: int64 (m,)."""
        return np.lexsort((self.right, self.left, -self.similarities))

    def sorted(self) -> "NearPairs":
        """Order the pairs best first, equally similar ones by `left`, then by `right`."""
        return self.take(self.order())

    def nearest(self, most: int) -> "NearPairs":
        """Keep the pairs, ordered best first before, of which one row is among the `most` nearest of the other."""
        ends = np.concatenate([self.left, self.right])
        order = np.lexsort((np.tile(np.arange(len(self.left)), 2), ends))
        ranks = np.empty(len(ends), dtype=np.int64)
        ranks[order] = np.arange(len(ends)) - np.searchsorted(ends[order], ends[order])
        return self._where_either(ranks < most)

    def most_similar(self, most: int) -> "NearPairs":
        """Keep the pairs, in their order, that have one of the `most` greatest similarities of one of their rows.

        Equal similarities count once, because rows with equal vectors have equal similarities.
        """
        ends, similarities = np.concatenate([self.left, self.right]), np.tile(self.similarities, 2)
        order = np.lexsort((-similarities, ends))
        ends, similarities = ends[order], similarities[order]
        levels = np.cumsum(np.append(True, (np.diff(ends) != 0) | (np.diff(similarities) != 0))[: len(ends)])
        close = np.empty(len(ends), dtype=bool)
        close[order] = levels - levels[np.searchsorted(ends, ends)] < most
        return self._where_either(close)

    def _where_either(self, chosen: Bools) -> "NearPairs":
        """Keep the pairs of which a row is chosen: bool (2 m,), for all left rows, then for all right ones."""
        return self.take(chosen[: len(self.left)] | chosen[len(self.left) :])


def joined(parts: Sequence[NearPairs]) -> NearPairs:
    """Join the pairs of all parts, at least one, one part after the other."""
    sides = zip(*((part.left, part.right, part.similarities) for part in parts), strict=True)
    return NearPairs(*map(np.concatenate, sides))


def squared_lengths(vectors: npt.NDArray[Real32or64], rows: Ints) -> npt.NDArray[Real32or64]:
    """Compute the squared lengths, shape (n,), of vectors, shape (n, d), which every search needs to be of length 1.

    Args:
        vectors: float32 or float64 (n, d), in which the lengths are computed.
        rows: int64 (n,), numbers of the vectors, for the error message.

    Raises:
        EncoderError: a row is not a unit vector, or has a number that is not finite.
    """
    squares: npt.NDArray[Real32or64] = np.vecdot(vectors, vectors)
    odd = np.flatnonzero(~(np.abs(np.sqrt(squares) - 1) <= UNIT))
    if len(odd):
        length = np.sqrt(squares[odd[0]])
        raise EncoderError(f"vector {rows[odd[0]]} has length {length:g} instead of 1: encode its photo again")
    return squares


def checked_threshold(threshold: float) -> float:
    """Return the threshold as a float, if it is a similarity.

    Raises:
        ConfigError: it is not a number from -1 to 1.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not -1 <= threshold <= 1:
        raise ConfigError(f"the threshold must be a similarity from -1 to 1, not {threshold}: take the calibrated one")
    return float(threshold)
