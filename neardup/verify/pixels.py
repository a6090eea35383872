"""Two photos laid on each other pixel by pixel: tones, likeness, and the places where they differ."""

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.evidence import Box, Transform
from neardup.verify.frames import Size, by_centres, rescaled
from neardup.verify.screen import Grey

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
"""Where two tone curves are matched, 0 to 1: a curve of 33 points bends as any paper or plate does."""
SAMPLED = 2500
"""Pixels, evenly spread, whose quantiles make a tone curve: all would take half of the whole comparison's time."""
FINENESS = 4
"""Entries of a tone curve's table by one grey level: finer than the grain that remains after the blur."""
OUTLYING = 2.5
"""Spreads of the difference beyond which a pixel says nothing of tones and of uneven light: it was painted over."""
OUTLYING_LEVELS = 4.0
"""Grey levels that are added to that, for photos which hardly differ."""
OUTLYING_FOR_TONES = 1.5
"""Multiple of that difference from which a pixel is left out when tones are matched anew."""
UNEVEN = 0.1
"""Half side of windows, as a share of the longer side, whose mean difference is uneven light or fading: removed."""
FLAT = 3.0
"""Grey levels a pixel that are added to every gradient, so that grain in a sky is no difference."""
GREATEST = 8.0
"""Apparent shift in pixels at which one difference is cut off: a scratch is strong, yet narrow."""
SPOT = 0.03
"""Standard deviation, as a share of the longer side, of the window in which differences add up to a spot."""
EDGE = 0.8
"""Apparent shift in pixels above which what reaches in from the edge is a border, a caption or paper."""
EDGE_OF_MEDIAN = 1.8
"""Multiple of the median apparent shift that an edge must exceed as well."""
INWARD = 0.5
"""Share of the overlap's width and of its height below which what reaches in may be a retouch at the edge."""
THICK = 0.1
"""Share of the overlap's longer side that such a retouch is thick at least: frames and strips of paper are thinner."""
FILLED = 0.6
"""Share of its box that such a retouch fills at least: what lies around a turned picture is a wedge."""
ROUNDS = 3
"""Times that tones are matched anew, without what was painted over and, but for the first time, without borders."""
SPREAD = 0.15
"""Pixels of apparent shift that are added to the spread of a pair: a pair that fits perfectly is not all spots."""
SIGNIFICANT = 2.2
"""Significance above which a spot is reported: of 300 press copies of held-out photos without retouch
or scratch 91 % stay silent; of 100 retouched before it, 79 % of paper boxes, 81 % of black ones, 54 % of soft patches
and 67 % of repairs are found, with those that a crop lost counted as missed.
"""
MOST_BOXES = 5
"""Places of one pair that are reported: more are another picture, or another print, and not a retouch."""


@dataclass(frozen=True)
class Comparison:
    """What pixels say of a pair that geometry has matched.

    Attributes:
        tone_slope: grey levels of the second photo by one of the first; negative where one is a negative of the other.
        correlation: of grey levels where both show something, after their tones were matched, -1 to 1; a negative that
            fits has a correlation near 1.
        overlap: share of the first photo that was compared, 0 to 1: without the borders that only one has.
        differences: boxes in full pixels of the first photo, the most significant first.
        significances: of each box, in spreads above what is usual for the pair.
    """

    tone_slope: float = 0.0
    correlation: float = 0.0
    overlap: float = 0.0
    differences: tuple[Box, ...] = ()
    significances: tuple[float, ...] = ()


@dataclass(frozen=True)
class Laid:
    """Two photos in the frame of the first one, small, blurred alike, before or after their tones were matched.

    Attributes:
        first: float32 (h, w), 0 to 255.
        second: float32 (h, w), 0 to 255.
        shown: where both show something.
    """

    first: Vectors
    second: Vectors
    shown: Bools


def compare(
    first: Grey,
    second: Grey,
    transform: Transform,
    first_size: Size,
    second_size: Size,
    *,
    first_screen: float = 0.0,
    second_screen: float = 0.0,
) -> Comparison:
    """Compare two photos where they overlap.

    Args:
        first: uint8 (h, w), the whole first photo, small (256 to 400 pixels) and upright.
        second: uint8 (h, w), the whole second photo.
        transform: full pixels of the first photo to those of the second.
        first_size: width and height of the first photo at full size.
        second_size: width and height of the second photo at full size.
        first_screen: period of the first photo's screen in its full pixels, 0 for none.
        second_screen: period of the second photo's screen in its full pixels, 0 for none.

    Returns:
        Tones, likeness and differences; all zero where too little overlaps or a photo is of one tone.
    """
    sizes = first_size, second_size
    laid = lay(first, second, transform, *sizes, first_screen=first_screen, second_screen=second_screen)
    found = _differing(laid)
    if found is None:
        return Comparison()
    for number in range(ROUNDS):
        # What was painted over bends the tones at first, so that much else differs: nothing is cut off before.
        smaller = replace(laid, shown=laid.shown & ~_reaching_in(found.shifts, laid.shown)) if number else laid
        again = _differing(smaller, smaller.shown & ~found.outlying)
        if again is None:
            break
        laid, found = smaller, again
    boxes = _spots(found.shifts, laid.shown, first_size)
    return Comparison(
        tone_slope=_slope(replace(laid, shown=laid.shown & ~found.outlying)),
        correlation=_correlation(laid.first[laid.shown], found.second[laid.shown]),
        overlap=float(laid.shown.mean()),
        differences=tuple(box for _, box in boxes),
        significances=tuple(significance for significance, _ in boxes),
    )


def lay(
    first: Grey,
    second: Grey,
    transform: Transform,
    first_size: Size,
    second_size: Size,
    *,
    first_screen: float = 0.0,
    second_screen: float = 0.0,
    side: int = SIDE,
) -> Laid:
    """Bring the second photo into the frame of the first one, at most `side` pixels, and blur both equally.

    The other arguments are those of `compare`.
    """
    if max(first.shape) > side:
        factor = side / max(first.shape)
        first = cv2.resize(first, _reduced(first.shape, factor), interpolation=cv2.INTER_AREA).astype(np.uint8)
    (height, width), (other_height, other_width) = first.shape, second.shape
    first_factor, second_factor = width / first_size[0], other_width / second_size[0]
    small = rescaled(transform, (first_factor, height / first_size[1]), (second_factor, other_height / second_size[1]))
    matrix = by_centres(small)
    scale = max(1e-3, float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))))
    period = max(first_screen * first_factor, second_screen * second_factor / scale)
    blur = max(BLUR, BLUR_OF_SCREEN * period, BLUR / scale * 0.75)
    other = cv2.GaussianBlur(second.astype(np.float32), (0, 0), blur * scale)
    moved = cv2.warpPerspective(
        other, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    inside = cv2.warpPerspective(
        np.ones(second.shape, np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    margin = 2 * int(2 * blur + 2) + 1
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    shown = cv2.erode(framed, np.ones((margin, margin), np.uint8))[1:-1, 1:-1] > 0
    still = cv2.GaussianBlur(first.astype(np.float32), (0, 0), blur).astype(np.float32)
    return Laid(still, moved.astype(np.float32), shown)


def match_tones(values: Vectors, like: Vectors, source: Vectors) -> Vectors:
    """Give pixels the tones of another photo, quantile by quantile; backwards where one photo is a negative.

    Args:
        values: pixels to change, any shape.
        like: pixels of the photo whose tones they get, float32 (n,).
        source: what lies in the same places of the photo that `values` come from, float32 (n,).
    """
    target, own = _quantiles(like, QUANTILES), _quantiles(source, QUANTILES)
    if _correlation(like, source) < 0:
        target = target[::-1]
    rising = own + np.arange(len(own)) * 1e-4
    table = np.interp(np.arange(256 * FINENESS) / FINENESS, rising, target).astype(np.float32)
    places = np.clip(values * FINENESS + 0.5, 0, len(table) - 1).astype(np.int16)
    return np.asarray(table[places], dtype=np.float32)


def _sampled(values: Vectors) -> Vectors:
    """Some values, evenly spread, about `SAMPLED` of them."""
    return values[:: max(1, len(values) // SAMPLED)]


def _quantiles(values: Vectors, shares: Floats) -> Floats:
    """Quantiles of a sample of the values, between neighbours by their distance, in a third of NumPy's own time."""
    ordered = np.sort(_sampled(values))
    return np.interp(shares * (len(ordered) - 1), np.arange(len(ordered)), ordered)


def _median(values: Vectors) -> float:
    """Median of a sample of the values."""
    return float(np.median(_sampled(values)))


def _reduced(shape: tuple[int, ...], factor: float) -> Size:
    """Width and height, at least 1, of a picture (h, w) after it was made smaller."""
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


@dataclass(frozen=True)
class _Differing:
    """How two photos differ after their tones were matched, arrays (h, w).

    Attributes:
        second: the second photo in the tones of the first one.
        levels: first photo less second one, without the slow differences of uneven light; 0 outside of the overlap.
        outlying: where they differ far more than elsewhere.
    """

    first: Vectors
    second: Vectors
    shown: Bools
    levels: Vectors
    outlying: Bools

    @cached_property
    def shifts(self) -> Vectors:
        """The difference by the gradient: how many pixels the photos would have to be shifted to differ so.

        A slight misfit gives large differences at every edge of the subject and a small apparent shift; what was
        painted over gives a great one.
        """
        gradient = np.maximum(_gradient(self.first), _gradient(self.second))
        weights = self.shown.astype(np.float32)
        usual = _within(gradient, weights, 7) + FLAT
        return np.asarray(np.minimum(np.abs(self.levels) / usual, GREATEST))


def _differing(laid: Laid, reliable: Bools | None = None) -> _Differing | None:
    """Match tones and subtract; None where there is too little to compare.

    Args:
        laid: two photos in one frame.
        reliable: where tones are taken from, if not from all of the overlap; taken if it is half of that at least.
    """
    if laid.shown.sum() < LEAST_OVERLAP:
        return None
    if reliable is None or 2 * reliable.sum() < laid.shown.sum():
        reliable = laid.shown
    first, second = laid.first[reliable], laid.second[reliable]
    if min(first.std(), second.std()) < 1:
        return None
    toned = match_tones(laid.second, first, second)
    difference = laid.first - toned
    seen = _sampled(difference[reliable])
    middle = float(np.median(seen))
    limit = OUTLYING * 1.48 * float(np.median(np.abs(seen - middle))) + OUTLYING_LEVELS
    weights, window = laid.shown.astype(np.float32), 2 * int(UNEVEN * max(laid.shown.shape)) + 1
    # A large patch would else be uneven light to itself, and vanish.
    usual = np.clip(difference, middle - limit, middle + limit)
    light = _within(usual, weights, window)
    levels = (difference - light) * weights
    return _Differing(laid.first, toned, laid.shown, levels, np.abs(levels) > OUTLYING_FOR_TONES * limit)


def _correlation(first: Vectors, second: Vectors) -> float:
    """Pearson's correlation, 0 where a photo is of one tone."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _slope(laid: Laid) -> float:
    """Ratio of the two tone ranges between their deciles, with the sign of the correlation: robust to a few places."""
    first, second = laid.first[laid.shown], laid.second[laid.shown]
    (low, high), (other_low, other_high) = (_quantiles(side, np.array([0.1, 0.9])) for side in (first, second))
    return float(np.sign(_correlation(first, second)) * (other_high - other_low) / max(1.0, high - low))


def _gradient(grey: Vectors) -> Vectors:
    """Grey levels a pixel, float32 (h, w)."""
    x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(cv2.magnitude(x, y), dtype=np.float32)


def _within(values: Vectors, weights: Vectors, side: int) -> Vectors:
    """Mean of masked values in a square window, over the mask only."""
    size = (side, side)
    return np.asarray(cv2.blur(values * weights, size) / (cv2.blur(weights, size) + 1e-3), dtype=np.float32)


def _reaching_in(shifts: Vectors, shown: Bools) -> Bools:
    """Where differences reach in from the edge of the overlap: borders, captions, paper beside a turned picture.

    A compact patch at the edge that takes less than half of the side is none of these.
    """
    smooth: Vectors = np.asarray(cv2.GaussianBlur(shifts, (0, 0), 1.5), dtype=np.float32)
    limit = max(EDGE, EDGE_OF_MEDIAN * _median(smooth[shown]))
    around = np.pad(~shown, 1, constant_values=True) | np.pad((smooth > limit) & shown, 1)
    _, labels = cv2.connectedComponents(around.astype(np.uint8), connectivity=4)
    reaching = ((labels == labels[0, 0])[1:-1, 1:-1] & shown).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(reaching, connectivity=8)
    _, _, width, height = cv2.boundingRect(shown.astype(np.uint8))
    for label, (_, _, across, down, area) in enumerate(boxes[1:].tolist(), 1):
        compact = min(across, down) > THICK * max(width, height) and area > FILLED * across * down
        if compact and across < INWARD * width and down < INWARD * height:
            reaching[labels == label] = 0
    return np.asarray(cv2.dilate(reaching, np.ones((5, 5), np.uint8)) > 0)


def _spots(shifts: Vectors, shown: Bools, size: Size) -> list[tuple[float, Box]]:
    """The significant spots, each with its significance and its box in full pixels."""
    weights = shown.astype(np.float32)
    blur = SPOT * max(shown.shape)
    sums = cv2.GaussianBlur(shifts * weights, (0, 0), blur) / (cv2.GaussianBlur(weights, (0, 0), blur) + 0.2)
    median = _median(sums[shown])
    spread = 1.48 * _median(np.abs(sums[shown] - median)) + SPREAD
    scores = np.where(shown, (sums - median) / spread, 0)
    scale = np.array(size) / scores.shape[::-1]
    found: list[tuple[float, Box]] = []
    while len(found) < MOST_BOXES and scores.max() > SIGNIFICANT:
        peak, box = float(scores.max()), _cut_out(scores, scale)
        # What remains around a strong spot is no second place.
        if not any(_overlap(box, other) for _, other in found):
            found.append((peak, box))
    return found


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have more in common than a corner: a fifth of the smaller one."""
    across, down = (
        max(0.0, min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis]))
        for axis in (0, 1)
    )
    return across * down > min(one[2] * one[3], other[2] * other[3]) / 5


def _cut_out(scores: Floats, scale: Floats) -> Box:
    """The box in full pixels of the strongest spot, down to half of its height; the spot is then wiped out."""
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    limit = max(SIGNIFICANT / 2, scores[row, column] / 2)
    _, labels = cv2.connectedComponents((scores > limit).astype(np.uint8))
    spot = labels == labels[row, column]
    left, top, width, height = cv2.boundingRect(spot.astype(np.uint8))
    scores[cv2.dilate(spot.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 0
    return float(left * scale[0]), float(top * scale[1]), float(width * scale[0]), float(height * scale[1])


def difference_of(laid: Laid) -> Vectors | None:
    """How far the grey levels of two photos lie apart after their tones were matched, for people to look at.

    Args:
        laid: the pair, as `lay` gives it.

    Returns:
        float32 (h, w), 0 to 255, uneven light removed, 0 where not both show something; None where there is too little.
    """
    found = _differing(laid)
    return None if found is None else np.asarray(np.abs(found.levels), dtype=np.float32)
