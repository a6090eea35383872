"""Two photos laid on each other pixel by pixel: tones, likeness, and the places where they differ."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.encode.screen import Grey
from neardup.verify.evidence import Transform
from neardup.verify.frames import Size, by_centres, rescaled
from neardup.verify.samples import median_of, quantiles, sampled

SIDE = 160
"""Pixels of the longer side at which photos are compared.

Measured on press copies of held-out photos: 256 pixels take more than twice as long and find no more retouches.
"""
BLUR = 1.0
"""Standard deviation in compared pixels of the blur that hides grain and JPEG's blocks."""
BLUR_OF_SCREEN = 0.6
"""Standard deviation of the blur as a share of a screen's period: by it dots are grey."""
LEAST_OVERLAP = 500
"""Compared pixels that both photos must show; a patch of 22 × 22 has no tones to match."""
QUANTILES = np.linspace(0, 1, 33)
"""Shares of the pixels, 0 to 1, at whose grey levels two tone curves are matched: 33 follow any paper or plate."""
FINENESS = 4
"""Entries of a tone curve's table for each grey level: finer than the grain that remains after the blur."""
OUTLYING = 2.5
"""Robust standard deviations at which a pixel's difference is cut off before uneven light is measured.

What lies farther from the median was painted over, and says nothing of the light.
"""
OUTLYING_LEVELS = 4.0
"""Grey levels that are added to the limit by `OUTLYING`: in photos that hardly differ it would be a fraction of one."""
OUTLYING_FOR_TONES = 1.5
"""Multiple of the limit by `OUTLYING` and `OUTLYING_LEVELS` above which tones are matched anew without a pixel."""
UNEVEN = 0.1
"""Half the side of a window, as a share of the longer side, whose mean difference is removed: uneven light, fading."""
RELIT = 0.7
"""Share of a pair's median difference that uneven light must leave at most to be believed: any quadratic fits a bit."""
FLAT = 3.0
"""Grey levels a pixel that are added to every gradient, so that grain in a sky makes no great apparent shift."""
GREATEST = 8.0
"""Apparent shift in pixels at which a pixel's difference is cut off: a scratch differs strongly, yet is narrow."""
EDGE = 0.8
"""Apparent shift in pixels above which what reaches in from the edge is a border, a caption or paper."""
EDGE_OF_MEDIAN = 1.8
"""Multiple of the median apparent shift that an edge must exceed as well."""
INWARD = 0.5
"""Share of the overlap's width and of its height below which what reaches in may be a retouch at the edge."""
THICK = 0.1
"""Least thickness of a retouch at the edge, as a share of the overlap's longer side: frames and strips are thinner."""
FILLED = 0.6
"""Least share of its box that a retouch at the edge fills: the paper around a turned picture is a wedge."""
ROUNDS = 3
"""Times that tones are matched anew: without what was painted over, and from the second time on without borders."""


@dataclass(frozen=True)
class Comparison:
    """What pixels say of a pair that geometry has matched.

    Attributes:
        tone_slope: grey levels of the second photo by one of the first; negative where one is a negative of the other.
        correlation: of grey levels where both show something, after their tones were matched, -1 to 1; a negative that
            fits has a correlation near 1.
        overlap: share of the first photo that was compared, 0 to 1: without the borders that only one has.
    """

    tone_slope: float = 0.0
    correlation: float = 0.0
    overlap: float = 0.0


@dataclass(frozen=True)
class GreyPhoto:
    """A whole photo in grey, upright and small, with what its pixels stand for.

    Attributes:
        grey: uint8 (h, w), of 160 to 400 pixels on the longer side.
        size: width and height of the photo at full size.
        screen: period of its printing screen in full pixels; 0 for none.
    """

    grey: Grey
    size: Size
    screen: float = 0.0


@dataclass(frozen=True)
class AlignedPair:
    """Two photos in the frame of the first one, small and blurred alike, each with its own tones.

    Attributes:
        first: float32 (h, w), 0 to 255.
        second: float32 (h, w), 0 to 255.
        overlap: bool (h, w), where both photos show something.
    """

    first: Vectors
    second: Vectors
    overlap: Bools


@dataclass(frozen=True)
class Difference:
    """How two photos differ after their tones were matched; all arrays are (h, w).

    Attributes:
        first: float32, the first photo.
        second: float32, the second photo in the tones of the first one.
        overlap: bool, where both photos show something.
        levels: float32, first photo less second one, without the slow differences of uneven light; 0 outside of the
            overlap.
        outlying: bool, where the photos differ far more than elsewhere.
    """

    first: Vectors
    second: Vectors
    overlap: Bools
    levels: Vectors
    outlying: Bools

    @cached_property
    def shifts(self) -> Vectors:
        """Apparent shift, float32: the difference by the gradient, by how many pixels a shift would make it.

        A slight misfit gives large differences at every edge of the subject and a small apparent shift; what was
        painted over gives a great one.
        """
        gradient = np.maximum(_gradient(self.first), _gradient(self.second))
        weights = self.overlap.astype(np.float32)
        mean_gradient = _masked_mean(gradient, weights, 7) + FLAT
        return np.asarray(np.minimum(np.abs(self.levels) / mean_gradient, GREATEST))


def compare(first: GreyPhoto, second: GreyPhoto, transform: Transform) -> Comparison:
    """Compare the tones of two photos where they overlap.

    Args:
        first: the first photo.
        second: the second photo.
        transform: full pixels of the first photo to those of the second.

    Returns:
        Tones and likeness; all zero where too little overlaps or a photo is of one tone.
    """
    settled = settle(align(first, second, transform))
    if settled is None:
        return Comparison()
    aligned, difference = settled
    return Comparison(
        tone_slope=_slope(replace(aligned, overlap=aligned.overlap & ~difference.outlying)),
        correlation=correlation(aligned.first[aligned.overlap], difference.second[aligned.overlap]),
        overlap=float(aligned.overlap.mean()),
    )


def settle(aligned: AlignedPair, *, uneven: bool = False) -> tuple[AlignedPair, Difference] | None:
    """Match tones and cut off borders in turn, until neither spoils the other.

    Args:
        aligned: two photos in one frame.
        uneven: whether to look for uneven light once borders are cut off, as `subtract` does.

    Returns:
        The pair without its borders, and how it differs; None where there is too little to compare.
    """
    difference = subtract(aligned)
    if difference is None:
        return None
    for number in range(ROUNDS):
        # What was painted over bends the tones at first, so that much else differs: no border is cut off before.
        overlap = aligned.overlap
        without_borders = overlap & ~_borders(difference.shifts, overlap) if number else overlap
        smaller = replace(aligned, overlap=without_borders)
        next_difference = subtract(smaller, without_borders & ~difference.outlying, uneven=uneven and number > 0)
        if next_difference is None:
            break
        aligned, difference = smaller, next_difference
    return aligned, difference


def align(first: GreyPhoto, second: GreyPhoto, transform: Transform, side: int = SIDE) -> AlignedPair:
    """Bring the second photo into the frame of the first one, and blur both equally.

    Args:
        first: the first photo.
        second: the second photo.
        transform: full pixels of the first photo to those of the second.
        side: pixels of the longer side of the result at most.
    """
    grey = first.grey
    if max(grey.shape) > side:
        factor = side / max(grey.shape)
        grey = cv2.resize(grey, _reduced(grey.shape, factor), interpolation=cv2.INTER_AREA).astype(np.uint8)
    height, width = grey.shape
    first_factor, second_factor = factors_of(grey, first.size), factors_of(second.grey, second.size)
    matrix = by_centres(rescaled(transform, first_factor, second_factor))
    scale = max(1e-3, float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))))
    period = max(first.screen * first_factor[0], second.screen * second_factor[0] / scale)
    blur = max(BLUR, BLUR_OF_SCREEN * period, BLUR / scale * 0.75)
    second_blurred = cv2.GaussianBlur(second.grey.astype(np.float32), (0, 0), blur * scale)
    warped = cv2.warpPerspective(
        second_blurred,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = cv2.warpPerspective(
        np.ones(second.grey.shape, np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    margin = 2 * int(2 * blur + 2) + 1
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    overlap = cv2.erode(framed, np.ones((margin, margin), np.uint8))[1:-1, 1:-1] > 0
    first_blurred = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), blur).astype(np.float32)
    return AlignedPair(first_blurred, warped.astype(np.float32), overlap)


def match_tones(values: Vectors, target: Vectors, source: Vectors) -> Vectors:
    """Give pixels the tones of another photo, quantile by quantile; backwards where one photo is a negative.

    Args:
        values: float32 of any shape, 0 to 255, the pixels to change.
        target: float32 (n,), pixels of the photo whose tones they get.
        source: float32 (n,), what lies in the same places of the photo that `values` come from.

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


def relit(aligned: AlignedPair, reliable: Bools) -> Vectors | None:
    """Tones of the second photo in the light of the first one, where one was lit, or has faded, unevenly.

    How much lighter and how much harder the first photo is, each a quadratic of the place, is fitted so that what was
    painted over has no weight (iteratively reweighted least squares with Geman and McClure's weights), on a sample.

    Args:
        aligned: the pair.
        reliable: bool (h, w), where tones are taken from.

    Returns:
        float32 (h, w); None where that leaves more than `RELIT` of the difference that even light leaves.
    """
    places, pixels = _quadratic(*reliable.shape), sampled(np.flatnonzero(reliable))
    first, second = (grey.ravel()[pixels] for grey in (aligned.first, aligned.second))
    even, darker = _misfit(first - match_tones(second, first, second)), first
    for _ in range(2):  # tones were matched in the wrong light at first
        target, tones = darker, match_tones(second, darker, second)
        middle, wanted = tones.mean(), first - tones
        terms = np.concatenate([places[pixels], places[pixels] * ((tones - middle) / 64)[:, None]], axis=1)
        weights = np.ones(len(wanted), np.float32)
        for _ in range(4):
            normal = (terms * weights[:, None]).T
            factors = np.linalg.solve(normal @ terms + 1e-3 * len(wanted) * np.eye(12), normal @ wanted)
            misfit = np.abs(wanted - terms @ factors)
            weights = 1 / (1 + (misfit / (1.5 * np.median(misfit) + 2)) ** 2) ** 2
        light = (terms @ factors).astype(np.float32)
        darker = first - light
    if _misfit(darker - match_tones(second, darker, second)) > RELIT * even:
        return None
    tones = (match_tones(aligned.second, target, second) - middle) / 64
    lighter, harder = ((places @ part).reshape(reliable.shape) for part in np.split(factors, 2))
    return np.asarray(match_tones(aligned.second, darker, second) + lighter + harder * tones, dtype=np.float32)


@lru_cache(maxsize=8)
def _quadratic(height: int, width: int) -> Floats:
    """The terms of a quadratic of the place at each pixel, row by row: float64 (height * width, 6)."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].reshape(2, -1)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def factors_of(grey: Grey, size: Size) -> tuple[float, float]:
    """Pixels of a small picture by one of the full photo, across and down."""
    return grey.shape[1] / size[0], grey.shape[0] / size[1]


def _reduced(shape: tuple[int, ...], factor: float) -> Size:
    """Width and height, at least 1, of a picture (h, w) after it was made smaller."""
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def subtract(aligned: AlignedPair, reliable: Bools | None = None, *, uneven: bool = False) -> Difference | None:
    """Match tones and subtract; None where there is too little to compare.

    Args:
        aligned: two photos in one frame.
        reliable: bool (h, w), where tones are taken from; if it is less than half of the overlap, or None, from all.
        uneven: whether to take uneven light away where that leaves less than `RELIT` of the difference.
    """
    overlap = aligned.overlap
    if overlap.sum() < LEAST_OVERLAP:
        return None
    if reliable is None or 2 * reliable.sum() < overlap.sum():
        reliable = overlap
    first, second = aligned.first[reliable], aligned.second[reliable]
    if min(first.std(), second.std()) < 1:
        return None
    toned = match_tones(aligned.second, first, second)
    if uneven and (lit := relit(aligned, reliable)) is not None:
        toned = lit
    difference = aligned.first - toned
    sample = sampled(difference[reliable])
    median = float(np.median(sample))
    limit = OUTLYING * 1.48 * float(np.median(np.abs(sample - median))) + OUTLYING_LEVELS
    weights, window = overlap.astype(np.float32), 2 * int(UNEVEN * max(overlap.shape)) + 1
    # A large patch would otherwise count as uneven light, and be removed with it.
    clipped = np.clip(difference, median - limit, median + limit)
    light = _masked_mean(clipped, weights, window)
    levels = (difference - light) * weights
    return Difference(aligned.first, toned, overlap, levels, np.abs(levels) > OUTLYING_FOR_TONES * limit)


def correlation(first: Vectors, second: Vectors) -> float:
    """Pearson's correlation, 0 where a photo is of one tone."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _misfit(differences: Vectors) -> float:
    """Median distance of differences, float32 (n,), from their median."""
    sample = sampled(differences)
    return median_of(np.abs(sample - median_of(sample)))


def _slope(aligned: AlignedPair) -> float:
    """Ratio of the two tone ranges between their deciles, with the sign of the correlation: robust to a few places."""
    first, second = aligned.first[aligned.overlap], aligned.second[aligned.overlap]
    (low, high), (second_low, second_high) = (quantiles(side, np.array([0.1, 0.9])) for side in (first, second))
    return float(np.sign(correlation(first, second)) * (second_high - second_low) / max(1.0, high - low))


def _gradient(grey: Vectors) -> Vectors:
    """Grey levels a pixel, float32 (h, w)."""
    x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(cv2.magnitude(x, y), dtype=np.float32)


def _masked_mean(values: Vectors, weights: Vectors, side: int) -> Vectors:
    """Mean of values, float32 (h, w), in a square window of `side` pixels around each, where a mask of 0 and 1 is 1."""
    size = (side, side)
    return np.asarray(cv2.blur(values * weights, size) / (cv2.blur(weights, size) + 1e-3), dtype=np.float32)


def _borders(shifts: Vectors, overlap: Bools) -> Bools:
    """Where differences reach in from the edge of the overlap: borders, captions, paper beside a turned picture.

    A compact patch at the edge that takes less than half of the side is none of these.
    """
    smooth: Vectors = np.asarray(cv2.GaussianBlur(shifts, (0, 0), 1.5), dtype=np.float32)
    limit = max(EDGE, EDGE_OF_MEDIAN * median_of(smooth[overlap]))
    around = np.pad(~overlap, 1, constant_values=True) | np.pad((smooth > limit) & overlap, 1)
    _, labels = cv2.connectedComponents(around.astype(np.uint8), connectivity=4)
    reaching = ((labels == labels[0, 0])[1:-1, 1:-1] & overlap).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(reaching, connectivity=8)
    _, _, width, height = cv2.boundingRect(overlap.astype(np.uint8))
    for label, (_, _, across, down, area) in enumerate(boxes[1:].tolist(), 1):
        compact = min(across, down) > THICK * max(width, height) and area > FILLED * across * down
        if compact and across < INWARD * width and down < INWARD * height:
            reaching[labels == label] = 0
    return np.asarray(cv2.dilate(reaching, np.ones((5, 5), np.uint8)) > 0)
