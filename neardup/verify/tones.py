"""Give one photo the tones of another: by a curve, a falling one for a negative, and in uneven light."""

from functools import lru_cache, partial

import cv2
import numpy as np

from neardup.arrays import Bools, Vectors
from neardup.verify.samples import median_of, middle_of, quantiles, sampled

QUANTILES = np.linspace(0, 1, 33)
"""Shares of the pixels, 0 to 1, at whose grey levels two tone curves are matched: 33 follow any paper or plate."""
FINENESS = 4
"""Entries of a tone curve's table per grey level: finer than the grain that remains after the blur."""
RELIT = 0.7
"""Greatest share of a pair's median difference that uneven light may leave to be believed: any quadratic fits a bit."""
WINDOW = 9
"""Pixels of the side of the window in which it is seen whether what is lighter in one photo is so in the other one."""
GRAIN = 4.0
"""Grey levels that are added to what windows hold of structure, so that grain in a sky says nothing."""
STRUCTURED = 0.25
"""Spread of a window in both photos, as a multiple of the usual one, up to which it says nothing."""
WEIGHTIEST = 2.0
"""Weight of a window at most, so that one sharp edge does not outweigh a picture."""
CLEAR = 0.6
"""Correlation of a window in two photos, whatever its sign, from which it is clear which way its tones run."""
PARTLY = 0.2
"""Share of the structure whose tones are reversed, 0 to 1, up to which a photo is a positive of the other one.

Of 1,890 pairs of positives, those of a press archive's groups among them, one has more; poor prints have up to .13.
"""
MOSTLY = 0.94
"""Share of the structure whose tones are reversed, 0 to 1, from which a photo is a negative of the other one.

Of 1,300 negatives, cropped, screened, unevenly lit, hard, or with a background painted over, the least has .95.
"""


def reversed_share(first: Vectors, second: Vectors, overlap: Bools) -> float:
    """Share of the structure of two photos that is light in one of them where it is dark in the other one.

    It is 0 for positives, 1 for a negative, and between for a solarised print. What was painted over has no structure
    in common and does not count, while it may turn the correlation of all pixels.

    Args:
        first: float32 (h, w), 0 to 255.
        second: float32 (h, w), 0 to 255, in the frame of the first photo.
        overlap: bool (h, w), where both photos show something.

    Returns:
        0 to 1; 0 or 1 by the correlation of all pixels where nothing has structure.
    """
    if not overlap.any():
        return 0.0
    one, other = (grey - grey[overlap].mean() for grey in (first, second))
    products = (one, other, one * one, other * other, one * other)
    one_mean, other_mean, *squares, together = (cv2.blur(values, (WINDOW, WINDOW))[overlap] for values in products)
    means = one_mean, other_mean
    spreads = [np.sqrt(np.maximum(square - mean * mean, 0)) for square, mean in zip(squares, means, strict=True)]
    alike = (together - one_mean * other_mean) / (spreads[0] * spreads[1] + GRAIN)
    structure = np.minimum(*(spread / (median_of(spread) + GRAIN) for spread in spreads))
    weights = np.minimum(structure, WEIGHTIEST) * ((structure > STRUCTURED) & (np.abs(alike) > CLEAR))
    total = float(weights.sum())
    return float(weights[alike < 0].sum()) / total if total else float(correlation(one[overlap], other[overlap]) < 0)


def match_tones(values: Vectors, target: Vectors, source: Vectors, *, backwards: bool | None = None) -> Vectors:
    """Give pixels the tones of another photo, quantile by quantile; backwards where one photo is a negative.

    Args:
        values: float32 of any shape, 0 to 255, the pixels to change.
        target: float32 (n,), pixels of the photo whose tones they get.
        source: float32 (n,), what lies in the same places of the photo that `values` come from.
        backwards: whether one photo is a negative of the other; None to go by the correlation of all pixels.

    Returns:
        float32 of the shape of `values`, 0 to 255.
    """
    target_levels, source_levels = quantiles(target, QUANTILES), quantiles(source, QUANTILES)
    if correlation(target, source) < 0 if backwards is None else backwards:
        target_levels = target_levels[::-1]
    rising = source_levels + np.arange(len(source_levels)) * 1e-4  # equal levels would have no slope between them
    table = np.interp(np.arange(256 * FINENESS) / FINENESS, rising, target_levels).astype(np.float32)
    places = np.clip(values * FINENESS + 0.5, 0, len(table) - 1).astype(np.int16)
    return np.asarray(table[places], dtype=np.float32)


def relit(first: Vectors, second: Vectors, reliable: Bools, *, backwards: bool | None = None) -> Vectors | None:
    """Tones of the second photo in the light of the first one, where one was lit, or has faded, unevenly.

    How much lighter the first photo is, and how much more contrast it has, are quadratics of the place, fitted robustly
    on a sample, so that what was painted over has no weight.

    Args:
        first: float32 (h, w), 0 to 255, the first photo.
        second: float32 (h, w), 0 to 255, the second photo in the frame of the first one.
        reliable: bool (h, w), the pixels from which tones are taken.
        backwards: whether one photo is a negative of the other; None to go by the correlation of all pixels.

    Returns:
        float32 (h, w); None where uneven light leaves more than `RELIT` of the difference that even light leaves.
    """
    matched = partial(match_tones, backwards=backwards)
    places, pixels = _quadratic(*reliable.shape), sampled(np.flatnonzero(reliable))
    first_sample, second_sample = (grey.ravel()[pixels] for grey in (first, second))
    even, darker = _misfit(first_sample - matched(second_sample, first_sample, second_sample)), first_sample
    for _ in range(2):  # tones were matched in the wrong light at first
        target, tones = darker, matched(second_sample, darker, second_sample)
        middle, wanted = tones.mean(), first_sample - tones
        terms = np.concatenate([places[:, pixels], places[:, pixels] * ((tones - middle) / 64)])
        factors = _robust_fit(terms, wanted)
        darker = first_sample - factors @ terms
    if _misfit(darker - matched(second_sample, darker, second_sample)) > RELIT * even:
        return None
    tones = (matched(second, target, second_sample) - middle) / 64
    lighter, harder = ((part @ places).reshape(reliable.shape) for part in np.split(factors, 2))
    return np.asarray(matched(second, darker, second_sample) + lighter + harder * tones, dtype=np.float32)


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
