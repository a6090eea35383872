"""Inner products of vectors quantised to int8, with a bound on the error of quantising."""

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from neardup.arrays import Floats, Ints, Vectors

LEVELS = 127
"""The greatest int8 code; codes range from -127 to 127, so that the negative of a code is a code too."""
LEAST_PEAK = 0.01
"""Least value assumed for the greatest number of some rows, so that rows of zeros have a scale above zero."""
INT32 = np.iinfo(np.int32)
"""The range of inner products of codes."""
CHUNK = 4096
"""Rows that are quantised at once, by way of float32 arrays of 8 MB at 512 columns."""
GATHERED = 256
"""Pairs of rows that are gathered at once, 1 MB at 512 columns; more allocate new memory, at three times the cost."""
TIMED = 512
"""Rows of each side of the products by which the speed of int8 is measured."""
TRIALS = 5
"""Times that each product of `TIMED` rows is timed; the fastest counts, so that a busy machine matters little."""

Codes = npt.NDArray[np.int8] | npt.NDArray[np.float32]
"""Rows of int8 codes, or rows of float32 numbers that stand for themselves."""
Limits = npt.NDArray[np.int32] | npt.NDArray[np.float32]
"""Inner products of codes, in the type in which they are computed."""


@dataclass(frozen=True)
class Quantized:
    """Rows of numbers as int8 codes with one scale, or unchanged where int8 products are not faster.

    A row a is s q + e, with its codes q, the scale s and a rounding error e. By Cauchy-Schwarz the inner product of two
    rows differs from that of their codes by |a·a' - s s' q·q'| = |e·a' + (a - e)·e'| ≤ |e| |a'| + (|a| + |e|) |e'|.

    Attributes:
        codes: int8 or float32 (n, c).
        scale: value of one step of the codes.
        error: the greatest |e| of all rows, 0 for float32.
        length: the greatest |a| of all rows.
    """

    codes: Codes
    scale: float
    error: float
    length: float

    @classmethod
    def to_int8(cls, rows: Vectors) -> "Quantized":
        """Quantise rows to int8.

        Args:
            rows: float32 (n, c), finite.
        """
        scale = float(max(rows.max(initial=LEAST_PEAK), -rows.min(initial=0))) / LEVELS
        codes, error = np.empty(rows.shape, np.int8), 0.0
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            rounded = np.rint(chunk / np.float32(scale))
            codes[start : start + CHUNK] = rounded
            rounded *= np.float32(scale)
            rounded -= chunk
            error = max(error, _greatest_length(rounded))
        return cls(codes, scale, error, _greatest_length(rows))

    @classmethod
    def as_float32(cls, rows: Vectors) -> "Quantized":
        """Use rows, float32 (n, c), as their own codes, without error."""
        return cls(rows, 1.0, 0.0, _greatest_length(rows))

    @property
    def product_dtype(self) -> type[np.int32 | np.float32]:
        """The type of number in which inner products of these codes are computed."""
        return np.int32 if self.codes.dtype == np.int8 else np.float32

    def head(self, count: int) -> "Quantized":
        """Take the first `count` rows, with the scale and the error of all."""
        return Quantized(self.codes[:count], self.scale, self.error, self.length)

    def limits(self, other: "Quantized", similarities: Floats | Vectors | float) -> Limits:
        """Compute the least inner products of codes that rows can have whose own inner product reaches a similarity.

        Args:
            other: the rows of the right side.
            similarities: inner products of rows, of any shape.

        Returns:
            int32 or float32 of the same shape: pairs of rows whose codes give less are below the similarity.
        """
        error = self.error * other.length + (self.length + self.error) * other.error
        limits = (np.asarray(similarities, np.float64) - error) / (self.scale * other.scale)
        if self.product_dtype is np.float32:
            return np.asarray(limits, np.float32)
        return np.clip(np.ceil(limits), INT32.min, INT32.max).astype(np.int32)


def multiply(left: Codes, right: Codes, products: npt.NDArray[Any]) -> None:
    """Write the inner product of each left row with each right row into `products`, int32 or float32 (m, n)."""
    if left.dtype == np.float32 or left.shape[1] == 1:  # torch's int8 product of one column leaves its output as it was
        np.matmul(left, right.T, out=products, dtype=products.dtype)
        return
    import torch  # noqa: PLC0415 - seconds that a search for a few photos need not wait

    torch._int_mm(torch.from_numpy(left), torch.from_numpy(right).T, out=torch.from_numpy(products))  # noqa: SLF001 - the only way to int8 products


def products_of_pairs(left: Vectors, i: Ints, right: Vectors, j: Ints) -> Vectors:
    """Compute the inner product of each left row i[k] with the right row j[k], float32 (len(i),)."""
    products = np.empty(len(i), np.float32)
    for start in range(0, len(i), GATHERED):
        chunk = slice(start, start + GATHERED)
        products[chunk] = np.vecdot(left[i[chunk]], right[j[chunk]])
    return products


@lru_cache
def int8_is_exact() -> bool:
    """Whether this machine multiplies int8 exactly: some processors add two products in 16 bits, which may overflow."""
    codes = _extreme_codes()
    exact, products = codes.astype(np.float32), np.empty((TIMED, TIMED), np.int32)
    multiply(codes, codes, products)
    return bool((products == exact @ exact.T).all())


@lru_cache
def int8_pays() -> bool:
    """Whether this machine multiplies int8 faster than float32, and exactly."""
    signs = _extreme_codes()
    sides: dict[type, Codes] = {np.int32: signs, np.float32: signs.astype(np.float32)}
    products: dict[type, npt.NDArray[Any]] = {dtype: np.empty((TIMED, TIMED), dtype) for dtype in sides}
    seconds = dict.fromkeys(sides, float("inf"))
    for _ in range(TRIALS):
        for dtype, codes in sides.items():
            start = time.perf_counter()
            multiply(codes, codes, products[dtype])
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[np.int32] < seconds[np.float32] and int8_is_exact()


def _extreme_codes() -> npt.NDArray[np.int8]:
    """Make rows of random greatest and least codes: int8 (TIMED, 64)."""
    return np.random.default_rng(0).choice(np.array([-LEVELS, LEVELS], np.int8), (TIMED, 64))


def _greatest_length(rows: Vectors) -> float:
    """Compute the greatest length of rows, float32 (n, c); 0 without rows."""
    return math.sqrt(np.vecdot(rows, rows).max(initial=0.0))
