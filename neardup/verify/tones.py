"""Give one photo the tones of another: by a curve, a falling one for a negative, and in uneven light."""

from functools import lru_cache

import numpy as np

from neardup.arrays import Bools, Vectors
from neardup.verify.samples import median_of, middle_of, quantiles, sampled

QUANTILES = np.linspace(0, 1, 33)
"""Shares of the pixels, 0 to 1, at whose grey levels two tone curves are matched: 33 follow any paper or plate."""
FINENESS = 4
"""Entries of a tone curve's table per grey level: finer than the grain that remains after the blur."""
RELIT = 0.7
"""Greatest share of a pair's median difference that uneven light may leave to be believed: any quadratic fits a bit."""


def match_tones(values: Vectors, target: Vectors, source: Vectors) -> Vectors:
    """Give pixels the tones of another photo, quantile by quantile; in reverse where one photo is a negative.

    Args:
        values: float32 of any shape, 0 to 255, the pixels to change.
        target: float32 (n,), pixels of the photo whose tones they get.
        source: float32 (n,), pixels in the same places of the photo that `values` come from.

    Returns:
        float32 of the shape of `values`, 0 to 255.
    """
    target_levels, source_levels = quantiles(target, QUANTILES), quantiles(source, QUANTILES)
    if correlation(target, source) < 0:
        target_levels = target_levels[::-1]
    rising = source_levels + np.arange(len(source_levels)) * 1e-4  # equal levels would have no slope between them
    table = np.interp(np.arange(256 * FINENESS) / FINENESS, rising, target_levels).astype(np.float32)
    places = np.clip(values * FINENESS + 0.5, 0, len(table) - 1).astype(np.int16)
    return np.asarray(table[places], dtype=np.float32)


def relit(first: Vectors, second: Vectors, reliable: Bools) -> Vectors | None:
    """Match the second photo's tones to the first one's, where one was lit, or has faded, unevenly.

    How much lighter the first photo is, and how much more contrast it has, are quadratics of the place, fitted robustly
    on a sample, so that what was painted over has no weight.

    Args:
        first: float32 (h, w), 0 to 255, the first photo.
        second: float32 (h, w), 0 to 255, the second photo in the frame of the first one.
        reliable: bool (h, w), the pixels from which tones are taken.

    Returns:
        float32 (h, w); None where uneven light leaves more than `RELIT` of the difference that even light leaves.
    """
    places, pixels = _quadratic(*reliable.shape), sampled(np.flatnonzero(reliable))
    first_sample, second_sample = (grey.ravel()[pixels] for grey in (first, second))
    even, darker = _misfit(first_sample - match_tones(second_sample, first_sample, second_sample)), first_sample
    for _ in range(2):  # tones were matched in the wrong light at first
        target, tones = darker, match_tones(second_sample, darker, second_sample)
        middle, wanted = tones.mean(), first_sample - tones
        terms = np.concatenate([places[:, pixels], places[:, pixels] * ((tones - middle) / 64)])
        factors = _robust_fit(terms, wanted)
        darker = first_sample - factors @ terms
    if _misfit(darker - match_tones(second_sample, darker, second_sample)) > RELIT * even:
        return None
    tones = (match_tones(second, target, second_sample) - middle) / 64
    lighter, harder = ((part @ places).reshape(reliable.shape) for part in np.split(factors, 2))
    return np.asarray(match_tones(second, darker, second_sample) + lighter + harder * tones, dtype=np.float32)


def _robust_fit(terms: Vectors, wanted: Vectors) -> Vectors:
    """Fit factors of terms, float32 (k, n), whose sum is `wanted`, float32 (n,), disregarding outliers.

    Iteratively reweighted least squares with the weights of Geman and McClure.
    """
    weighted, ridge = terms, 1e-3 * len(wanted) * np.eye(len(terms), dtype=np.float32)
    for _ in range(4):
        factors = np.linalg.solve(weighted @ terms.T + ridge, weighted @ wanted)
        misfit = np.abs(wanted - factors @ terms)
        weighted = np.asarray(terms / (1 + (misfit / (1.5 * middle_of(misfit) + 2)) ** 2) ** 2, dtype=np.float32)
    return np.asarray(factors, dtype=np.float32)


@lru_cache(maxsize=8)
def _quadratic(height: int, width: int) -> Vectors:
    """The terms of a quadratic of the place at each pixel, row by row: float32 (6, height * width)."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].reshape(2, -1)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).astype(np.float32)


def correlation(first: Vectors, second: Vectors) -> float:
    """Compute Pearson's correlation of two arrays of one shape, -1 to 1; 0 where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _misfit(differences: Vectors) -> float:
    """Median distance of differences, float32 (n,), from their median."""
    sample = sampled(differences)
    return median_of(np.abs(sample - median_of(sample)))
