"""Quantiles of many pixels from an evenly spread sample, in a fraction of the time that all pixels would take."""

from typing import TypeVar

import numpy as np

from neardup.arrays import Floats, Ints, Vectors

SAMPLED = 2500
"""Pixels, evenly spread, whose quantiles make a tone curve: using all would take half of a comparison's time."""
Values = TypeVar("Values", Vectors, Ints)
"""Levels of pixels, or their places."""


def sampled(values: Values) -> Values:
    """Take about `SAMPLED` of the values, evenly spread."""
    return values[:: max(1, len(values) // SAMPLED)]


def quantiles(values: Vectors, shares: Floats) -> Floats:
    """Compute quantiles of a sample of the values, linear between neighbours, in a third of the time of NumPy's own.

    Args:
        values: float32 (n,), n at least 1.
        shares: float64 (k,), 0 to 1.
    """
    ordered = np.sort(sampled(values))
    return np.interp(shares * (len(ordered) - 1), np.arange(len(ordered)), ordered)


def median_of(values: Vectors) -> float:
    """Compute the median of a sample of the values, (n,) with n at least 1."""
    return middle_of(sampled(values))


def middle_of(values: Vectors) -> float:
    """Compute the median of values, (n,) with n at least 1, in a third of the time of NumPy's own for few values."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    lower, upper = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float((lower + upper) / 2)
