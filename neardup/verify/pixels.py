"""Two photos laid on each other pixel by pixel: tones, likeness, and the places where they differ."""

from dataclasses import dataclass

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.evidence import Box, Transform
from neardup.verify.frames import Size, by_centres, rescaled
from neardup.verify.screen import Grey

SIDE = 256
"""Pixels of the longer side at which photos are compared: a pair takes some 10 ms, and a face is still a face."""
BLUR = 1.0
"""Standard deviation in compared pixels of the blur that hides grain and JPEG's blocks."""
BLUR_OF_SCREEN = 0.6
"""Standard deviation of the blur as a share of a screen's period: by it dots are grey."""
LEAST_OVERLAP = 500
"""Compared pixels that both photos must show; a patch of 22 × 22 has no tones to match."""
QUANTILES = np.linspace(0, 1, 33)
"""Where two tone curves are matched, 0 to 1: a curve of 33 points bends as any paper or plate does."""
SAMPLED = 5000
"""Pixels, evenly spread, whose quantiles make a tone curve: all would take half of the whole comparison's time."""
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
SPREAD = 0.15
"""Pixels of apparent shift that are added to the spread of a pair: a pair that fits perfectly is not all spots."""
SIGNIFICANT = 2.5
"""Significance above which a spot is reported: 88 % of press copies without retouch or scratch stay silent."""
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
    laid = lay(
        first,
        second,
        transform,
        first_size,
        second_size,
        first_screen=first_screen,
        second_screen=second_screen,
    )
    matched = _matched(laid)
    if matched is None:
        return Comparison()
    shifts = _apparent_shifts(matched)
    for _ in range(2):
        smaller = Laid(laid.first, laid.second, laid.shown & ~_reaching_in(shifts, laid.shown))
        rematched = _matched(smaller)
        if rematched is None:
            break
        laid, matched = smaller, rematched
        shifts = _apparent_shifts(matched)
    boxes = _spots(shifts, laid.shown, first_size)
    return Comparison(
        tone_slope=_slope(laid),
        correlation=_correlation(matched.first[matched.shown], matched.second[matched.shown]),
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
) -> Laid:
    """Bring the second photo into the frame of the first one, at most `SIDE` pixels, and blur both equally."""
    if max(first.shape) > SIDE:
        factor = SIDE / max(first.shape)
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
    step = max(1, len(like) // SAMPLED)
    target, own = np.quantile(like[::step], QUANTILES), np.quantile(source[::step], QUANTILES)
    if _correlation(like, source) < 0:
        target = target[::-1]
    rising = own + np.arange(len(own)) * 1e-4
    return np.interp(values, rising, target).astype(np.float32)


def _reduced(shape: tuple[int, ...], factor: float) -> Size:
    """Width and height, at least 1, of a picture (h, w) after it was made smaller."""
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def _matched(laid: Laid) -> Laid | None:
    """The pair after the second photo got the first one's tones; None where there is too little to compare."""
    if laid.shown.sum() < LEAST_OVERLAP:
        return None
    first, second = laid.first[laid.shown], laid.second[laid.shown]
    if min(first.std(), second.std()) < 1:
        return None
    return Laid(laid.first, match_tones(laid.second, first, second), laid.shown)


def _correlation(first: Vectors, second: Vectors) -> float:
    """Pearson's correlation, 0 where a photo is of one tone."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _slope(laid: Laid) -> float:
    """Ratio of the two tone ranges between their deciles, with the sign of the correlation: robust to a few places."""
    first, second = laid.first[laid.shown], laid.second[laid.shown]
    step = max(1, len(first) // SAMPLED)
    low, high = np.quantile(first[::step], [0.1, 0.9])
    other_low, other_high = np.quantile(second[::step], [0.1, 0.9])
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


def _levelled(matched: Laid) -> Vectors:
    """First photo less second one, without the slow differences of uneven light; 0 outside of the overlap."""
    weights = matched.shown.astype(np.float32)
    difference = matched.first - matched.second
    window = 2 * int(UNEVEN * max(weights.shape)) + 1
    return np.asarray((difference - _within(difference, weights, window)) * weights, dtype=np.float32)


def _apparent_shifts(matched: Laid) -> Vectors:
    """The difference by the gradient: how many pixels the photos would have to be shifted to differ so.

    A slight misfit gives large differences at every edge of the subject and a small apparent shift; what was painted
    over gives a great one.
    """
    weights = matched.shown.astype(np.float32)
    difference = _levelled(matched)
    gradient = np.maximum(_gradient(matched.first), _gradient(matched.second))
    return np.asarray(np.minimum(np.abs(difference) / (_within(gradient, weights, 7) + FLAT), GREATEST))


def _reaching_in(shifts: Vectors, shown: Bools) -> Bools:
    """Where differences reach in from the edge of the overlap: borders, captions, paper beside a turned picture."""
    smooth = cv2.GaussianBlur(shifts, (0, 0), 1.5)
    limit = max(EDGE, EDGE_OF_MEDIAN * float(np.median(smooth[shown])))
    around = np.pad(~shown, 1, constant_values=True) | np.pad((smooth > limit) & shown, 1)
    _, labels = cv2.connectedComponents(around.astype(np.uint8), connectivity=4)
    reaching = (labels == labels[0, 0])[1:-1, 1:-1] & shown
    return np.asarray(cv2.dilate(reaching.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)


def _spots(shifts: Vectors, shown: Bools, size: Size) -> list[tuple[float, Box]]:
    """The significant spots, each with its significance and its box in full pixels."""
    weights = shown.astype(np.float32)
    blur = SPOT * max(shown.shape)
    sums = cv2.GaussianBlur(shifts * weights, (0, 0), blur) / (cv2.GaussianBlur(weights, (0, 0), blur) + 0.2)
    median = float(np.median(sums[shown]))
    spread = 1.48 * float(np.median(np.abs(sums[shown] - median))) + SPREAD
    scores = np.where(shown, (sums - median) / spread, 0)
    scale = np.array(size) / scores.shape[::-1]
    found: list[tuple[float, Box]] = []
    while len(found) < MOST_BOXES and scores.max() > SIGNIFICANT:
        peak = float(scores.max())
        found.append((peak, _cut_out(scores, scale)))
    return found


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
    matched = _matched(laid)
    if matched is None:
        return None
    return np.asarray(np.abs(_levelled(matched)), dtype=np.float32)
