"""Quantiles of many pixels from an even sample of them, in a fraction of the time that all would take."""

from typing import TypeVar

import numpy as np

from neardup.arrays import Floats, Ints, Vectors

SAMPLED = 2500
"""Pixels, evenly spread, whose quantiles make a tone curve: all would take half of the whole comparison's time."""
Values = TypeVar("Values", Vectors, Ints)
"""Levels of pixels, or their places."""


def sampled(values: Values) -> Values:
    """Some values, evenly spread, about `SAMPLED` of them."""
    return values[:: max(1, len(values) // SAMPLED)]


def quantiles(values: Vectors, shares: Floats) -> Floats:
    """Quantiles of a sample of the values, linear between neighbours, in a third of the time of NumPy's own."""
    ordered = np.sort(sampled(values))
    return np.interp(shares * (len(ordered) - 1), np.arange(len(ordered)), ordered)


def median_of(values: Vectors) -> float:
    """Median of a sample of the values."""
    return middle_of(sampled(values))


def middle_of(values: Vectors) -> float:
    """Median of values, (n,) with n at least 1, in a third of the time that NumPy's own takes for so few."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    lower, upper = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float((lower + upper) / 2)
