"""Rows of numbers, rounded to int8 where that pays, and what their products say of those of the rows as they were."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neardup.arrays import Floats, Ints, Vectors

UNIT = 0.01
"""By how much a row's length may differ from 1: vectors kept as float16 do by 0.0005."""
LEVELS = 127
WHOLE = (-(2**31), 2**31 - 1)
CHUNK = 4096
"""Rows that are held at once as float32: 8 MB at 512 columns."""
ROWS = 512
"""Of the product that is timed."""
PAIRS = 256
"""Rows that are gathered at once, 1 MB at 512 columns; more are new memory each time, at three times the cost."""
TRIALS = 5
"""Of each product; the fastest counts."""

Numbers = npt.NDArray[np.int8] | npt.NDArray[np.float32]
Limits = npt.NDArray[np.int32] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rounded:
    """Rows of about unit length, as whole numbers.

    With a = s q + e for a row a, s its scale and |e| at most the error:
    |a·a' - s s' q·q'| ≤ |e| |a'| + (|a| + |e|) |e'|.

    Attributes:
        numbers: int8 or float32 (n, c).
        scale: what a row was divided by.
        error: the greatest distance of a row from what it was rounded to.
    """

    numbers: Numbers
    scale: float
    error: float

    @classmethod
    def of(cls, rows: Vectors) -> "Rounded":
        """Round to int8.

        Args:
            rows: float32 (n, c), none longer than 1 + UNIT.
        """
        scale = float(max(rows.max(initial=UNIT), -rows.min(initial=0))) / LEVELS
        numbers, error = np.empty(rows.shape, np.int8), 0.0
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            rounded = np.rint(chunk / np.float32(scale))
            numbers[start : start + CHUNK] = rounded
            rounded *= np.float32(scale)
            rounded -= chunk
            error = max(error, float(np.vecdot(rounded, rounded).max()) ** 0.5)
        return cls(numbers, scale, error)

    @classmethod
    def not_at_all(cls, rows: Vectors) -> "Rounded":
        """The rows as they are, where int8 does not pay."""
        return cls(rows, 1.0, 0.0)

    def head(self, count: int) -> "Rounded":
        """The first rows."""
        return Rounded(self.numbers[:count], self.scale, self.error)

    def least(self, other: "Rounded", reached: Floats | Vectors | float) -> Limits:
        """The least products of numbers that rows with such a product, or a greater one, may have."""
        length = 1 + UNIT
        error = self.error * length + (length + self.error) * other.error
        limits = (np.asarray(reached) - error) / (self.scale * other.scale)
        if self.numbers.dtype == np.float32:
            return np.asarray(limits, np.float32)
        return np.clip(np.ceil(limits), *WHOLE).astype(np.int32)

    def kind(self) -> type[np.int32 | np.float32]:
        """Of the products of numbers."""
        return np.int32 if self.numbers.dtype == np.int8 else np.float32


def multiply(left: Numbers, right: Numbers, products: npt.NDArray[Any]) -> None:
    """The product of each row of the left with each of the right."""
    if left.dtype == np.float32 or left.shape[1] == 1:  # torch's int8 product of one column leaves its output as it was
        np.matmul(left, right.T, out=products, dtype=products.dtype)
        return
    torch._int_mm(torch.from_numpy(left), torch.from_numpy(right).T, out=torch.from_numpy(products))  # noqa: SLF001 - the only way to int8 products


def products_of_pairs(left: Vectors, i: Ints, right: Vectors, j: Ints) -> Vectors:
    """The product of each row i of the left with its row j of the right."""
    products = np.empty(len(i), np.float32)
    for start in range(0, len(i), PAIRS):
        chunk = slice(start, start + PAIRS)
        products[chunk] = np.vecdot(left[i[chunk]], right[j[chunk]])
    return products


@lru_cache
def int8_pays() -> bool:
    """Whether this machine multiplies int8 faster than float32, and exactly: some add two products in 16 bits."""
    signs = np.random.default_rng(0).choice(np.array([-LEVELS, LEVELS], np.int8), (ROWS, 64))
    wide = signs.astype(np.float32)
    products = {kind: np.empty((ROWS, ROWS), kind) for kind in (np.int32, np.float32)}
    seconds = dict.fromkeys(products, float("inf"))
    for _ in range(TRIALS):
        for kind, numbers in ((np.int32, signs), (np.float32, wide)):
            start = time.perf_counter()
            multiply(numbers, numbers, products[kind])
            seconds[kind] = min(seconds[kind], time.perf_counter() - start)
    return seconds[np.int32] < seconds[np.float32] and bool((products[np.int32] == products[np.float32]).all())
