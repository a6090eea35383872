"""Two photos laid on each other pixel by pixel: tones, likeness, and the places where they differ."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import cv2
import numpy as np

from neardup.arrays import Bools, Vectors
from neardup.encode.screen import Grey
from neardup.verify.edges import reaching_in
from neardup.verify.evidence import Transform
from neardup.verify.frames import Size, by_centres, rescaled
from neardup.verify.samples import middle_of, quantiles, sampled
from neardup.verify.tones import MOSTLY, PARTLY, correlation, match_tones, relit, reversed_share

SIDE = 160
"""Pixels of the longer side at which photos are compared.

Measured on press copies of held-out photos: 256 pixels take more than twice as long and find no more retouches.
"""
BLUR = 1.0
"""Standard deviation in compared pixels of the blur that hides grain and JPEG's blocks."""
BLUR_OF_SCREEN = 0.6
"""Standard deviation of the blur as a share of a screen's period: by it dots are grey."""
LEAST_OVERLAP = 500
"""Compared pixels that both photos must show: fewer than a patch of 22 × 22 have no tones to match."""
OUTLYING = 2.5
"""Robust standard deviations at which a pixel's difference is cut off before uneven light is measured.

What lies farther from the median was painted over and says nothing about the light.
"""
OUTLYING_LEVELS = 4.0
"""Grey levels that are added to the limit by `OUTLYING`: in photos that hardly differ it would be a fraction of one."""
OUTLYING_FOR_TONES = 1.5
"""Multiple of the limit by `OUTLYING` and `OUTLYING_LEVELS` above which the next round takes no tone from a pixel."""
UNEVEN = 0.1
"""Half the side of the window whose mean difference counts as uneven light or fading, as a share of the longer side."""
FLAT = 3.0
"""Grey levels per pixel that are added to every gradient, so that grain in a sky makes no great apparent shift."""
GREATEST = 8.0
"""Apparent shift in pixels at which a pixel's difference is cut off: a scratch differs strongly, yet is narrow."""
DETAIL = 0.05
"""Half the side of the window whose mean tone is subtracted before details are compared, as a share of the longer side.

Two people's portraits with eyes, nose and mouth laid on each other have light and dark in the same places; only their
details differ.
"""
ROUNDS = 2
"""Times that borders are cut off and tones matched anew, after the two rounds of `first_rounds`."""


@dataclass(frozen=True)
class Comparison:
    """How alike the pixels are of a pair that geometry has matched.

    Attributes:
        tone_slope: grey levels of the second photo by one of the first; negative where one is a negative of the other.
        correlation: of grey levels where both show something, after their tones were matched, -1 to 1; a negative that
            fits has a correlation near 1.
        detail: the same correlation of what is left of both photos without the mean tone around each pixel, -1 to 1.
        reversed_share: share of the structure of both photos that is light in one and dark in the other, 0 to 1.
    """

    tone_slope: float = 0.0
    correlation: float = 0.0
    detail: float = 0.0
    reversed_share: float = 0.0


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
        reversed_share: share of the structure of both whose tones are reversed, as `tones.reversed_share` gives it.
    """

    first: Vectors
    second: Vectors
    overlap: Bools
    reversed_share: float

    @property
    def backwards(self) -> bool:
        """Whether tones fit better backwards: by the structure, by all pixels where that runs both ways."""
        if PARTLY < self.reversed_share < MOSTLY:
            return correlation(self.first[self.overlap], self.second[self.overlap]) < 0
        return self.reversed_share >= MOSTLY


@dataclass(frozen=True)
class LaidPair:
    """Two photos, with the transform that lays one on the other.

    Attributes:
        first: the first photo.
        second: the second photo.
        transform: full pixels of the first photo to those of the second.
    """

    first: GreyPhoto
    second: GreyPhoto
    transform: Transform

    @cached_property
    def aligned(self) -> AlignedPair:
        """Both photos in the frame of the first one, as `align` gives them."""
        return align(self.first, self.second, self.transform)

    @cached_property
    def first_rounds(self) -> "tuple[Round, ...]":
        """The first rounds of comparing the whole photos, made once for all uses; see the function `first_rounds`."""
        return first_rounds(self.aligned)


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
        """Apparent shift, float32: the difference divided by the gradient, or the shift in pixels that would cause it.

        A slight misfit gives large differences at every edge of the subject but a small apparent shift; what was
        painted over gives a large one.
        """
        gradient = np.maximum(_gradient(self.first), _gradient(self.second))
        mean_gradient = masked_mean_of(self.overlap.astype(np.float32), 7)(gradient) + FLAT
        return np.asarray(np.minimum(np.abs(self.levels) / mean_gradient, GREATEST))


@dataclass(frozen=True)
class Round:
    """A pair after its tones were matched; in later rounds its borders were cut off before.

    Attributes:
        aligned: the pair without the borders that the round before found.
        difference: how its two photos differ.
    """

    aligned: AlignedPair
    difference: Difference

    def without_borders(self, *, shown: bool) -> Bools:
        """Where both photos show something that is not a border, bool (h, w); `shown` is that of `settle`."""
        overlap = self.aligned.overlap
        return overlap & ~reaching_in(self.difference.shifts, overlap, shown=shown)

    def next(self, overlap: Bools, *, uneven: bool = False) -> Self | None:
        """Match tones anew in a part of the overlap, without what was painted over; None for too small a part."""
        aligned = replace(self.aligned, overlap=overlap)
        difference = subtract(aligned, overlap & ~self.difference.outlying, uneven=uneven)
        return None if difference is None else type(self)(aligned, difference)


def first_rounds(aligned: AlignedPair) -> tuple[Round, ...]:
    """Match tones, then once more without what was painted over: the rounds from which `settle` continues.

    What was painted over distorts the tones at first, so that much else differs: no border is cut off in these rounds.

    Returns:
        Both rounds, or only the first, or none, where there is too little to compare.
    """
    difference = subtract(aligned)
    if difference is None:
        return ()
    first = Round(aligned, difference)
    second = first.next(aligned.overlap)
    return (first,) if second is None else (first, second)


def compare(pair: LaidPair) -> Comparison:
    """Compare the tones of two photos where they overlap.

    Returns:
        Tones and likeness; all zero where too little overlaps or a photo has only one tone.
    """
    settled = settle(pair.first_rounds)
    if settled is None:
        return Comparison()
    aligned, difference = settled.aligned, settled.difference
    return Comparison(
        tone_slope=_slope(replace(aligned, overlap=aligned.overlap & ~difference.outlying)),
        correlation=correlation(aligned.first[aligned.overlap], difference.second[aligned.overlap]),
        detail=_detail(difference),
        reversed_share=aligned.reversed_share,
    )


def settle(rounds: tuple[Round, ...], *, shown: bool = False) -> Round | None:
    """Cut off borders and match tones in turn, `ROUNDS` times, since each makes the other more exact.

    Args:
        rounds: the first rounds, as `first_rounds` gives them.
        shown: whether people will see the differences: torn corners are then kept, and uneven light is removed.

    Returns:
        The pair without its borders, and how it differs; None where there is too little to compare.
    """
    if not rounds:
        return None
    latest = rounds[-1]
    for _ in range(ROUNDS if len(rounds) > 1 else 0):
        following = latest.next(latest.without_borders(shown=shown), uneven=shown)
        if following is None:
            break
        latest = following
    return latest


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
    second_warped = warped.astype(np.float32)
    share = reversed_share(first_blurred, second_warped, overlap)
    return AlignedPair(first_blurred, second_warped, overlap, share)


def factors_of(grey: Grey, size: Size) -> tuple[float, float]:
    """Pixels of a small picture per pixel of the full photo, across and down."""
    return grey.shape[1] / size[0], grey.shape[0] / size[1]


def _reduced(shape: tuple[int, ...], factor: float) -> Size:
    """Width and height, at least 1, of a picture (h, w) reduced by a factor."""
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def subtract(aligned: AlignedPair, reliable: Bools | None = None, *, uneven: bool = False) -> Difference | None:
    """Match tones and subtract; None where there is too little to compare.

    Args:
        aligned: two photos in one frame.
        reliable: bool (h, w), the pixels from which tones are taken; the whole overlap if None or less than half of it.
        uneven: whether to remove uneven light where that leaves less than `tones.RELIT` of the difference.
    """
    overlap = aligned.overlap
    if overlap.sum() < LEAST_OVERLAP:
        return None
    if reliable is None or 2 * reliable.sum() < overlap.sum():
        reliable = overlap
    first, second = aligned.first[reliable], aligned.second[reliable]
    if min(first.std(), second.std()) < 1:
        return None
    backwards = aligned.backwards
    toned = match_tones(aligned.second, first, second, backwards=backwards)
    if uneven and (lit := relit(aligned.first, aligned.second, reliable, backwards=backwards)) is not None:
        toned = lit
    difference = aligned.first - toned
    sample = sampled(difference[reliable])
    median = middle_of(sample)
    limit = OUTLYING * 1.48 * middle_of(np.abs(sample - median)) + OUTLYING_LEVELS
    weights, window = overlap.astype(np.float32), 2 * int(UNEVEN * max(overlap.shape)) + 1
    # A large patch would otherwise count as uneven light, and be removed with it.
    clipped = np.clip(difference, median - limit, median + limit)
    light = masked_mean_of(weights, window)(clipped)
    levels = (difference - light) * weights
    return Difference(aligned.first, toned, overlap, levels, np.abs(levels) > OUTLYING_FOR_TONES * limit)


def _slope(aligned: AlignedPair) -> float:
    """Ratio of the two tone ranges between their deciles, less than 0 for a negative: robust to a few places."""
    first, second = aligned.first[aligned.overlap], aligned.second[aligned.overlap]
    (low, high), (second_low, second_high) = (quantiles(side, np.array([0.1, 0.9])) for side in (first, second))
    return float((-1 if aligned.backwards else 1) * (second_high - second_low) / max(1.0, high - low))


def _detail(difference: Difference) -> float:
    """Correlation of two photos in one frame and in matched tones, without the mean tone around each pixel."""
    overlap = difference.overlap
    around = masked_mean_of(overlap.astype(np.float32), 2 * int(DETAIL * max(overlap.shape)) + 1)
    first, second = (grey - around(grey) for grey in (difference.first, difference.second))
    return correlation(first[overlap], second[overlap])


def _gradient(grey: Vectors) -> Vectors:
    """Gradient's length at each pixel, float32 (h, w), in grey levels per pixel."""
    x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(cv2.magnitude(x, y), dtype=np.float32)


def masked_mean_of(mask: Vectors, side: int) -> Callable[[Vectors], Vectors]:
    """Make a function that takes the mean of values, float32 (h, w), in a window around each pixel where a mask is 1.

    Args:
        mask: float32 (h, w), 0 or 1.
        side: pixels of the window's side.
    """
    size = (side, side)
    shares = cv2.blur(mask, size) + 1e-3
    return lambda values: np.asarray(cv2.blur(values * mask, size) / shares, dtype=np.float32)
