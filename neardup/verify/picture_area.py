"""Where the picture ends in a photo that also shows a mount, a text or another picture beside it, if they share one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.borders import SAME_PAPER, paper_around, without_borders
from neardup.verify.evidence import Box
from neardup.verify.frames import Size, box_in_first, frames_of
from neardup.verify.pixels import AlignedPair, LaidPair, align, masked_mean_of
from neardup.verify.relation import WHOLE
from neardup.verify.samples import middle_of
from neardup.verify.tones import match_tones

SIDE = 120
"""Pixels of the longer side at which agreement is looked for: a mount of a twentieth of the side is six of them."""
WINDOW = 9
"""Pixels of the side of the window in which the structure of two photos is compared."""
GRAIN = 4.0
"""Grey levels that are added to a window's spread: in an even sky only grain would agree or disagree."""
EVEN = 0.25
"""Spread of a window as a multiple of the pair's usual one up to which it says nothing."""
MOST = 2.0
"""Weight of a window at most, so that one sharp edge does not outweigh a strip."""
LEAST_OVERLAP = 300
"""Pixels that both photos must show, or no picture is looked for."""
AGREES = 0.45
"""Mean agreement from which what remains is a picture that both photos show."""
DISAGREES = 0.6
"""Share of the agreement inside below which that of a strip must lie to be cut off."""
LEAST_STRUCTURE = 0.1
"""Mean weight of a strip's windows below which it is even in both photos, and nothing is known of it."""
LEAST_STRIP = 2
"""Pixels of a strip below which it is a misfit of the frame."""
STRAY = 0.03
"""Share of the matched points that may lie beyond a side of the picture by chance; where more do, it goes on there."""
SEARCHED = 5
"""Pixels beyond the end of agreement, which windows blur, up to which the picture's edge is looked for."""
ALONG = 0.35
"""Share of the pixels along an edge that may lack a step in tone, where picture and mount have one tone by chance."""
TIMES_OTHER = 1.7
"""Multiple of the other photo's step in tone that the step at a picture's edge must exceed: there the other goes on."""
LEAST_STEP = 3.0
"""Multiple of a photo's usual step in tone that the step at a picture's edge must reach."""
NEARLY_GREATEST = 0.6
"""Share of the greatest step from which the innermost one is taken: lines of text have steps as well."""
STRUCTURED = 0.2
"""Weight of a window from which its structure is compared among matched points."""
SIMILAR = 0.4
"""Agreement of a window from which both photos show the same there."""
NEARBY = 8
"""Pixels around a matched point within which it speaks for agreement: a retouch or a moiré may lie around it."""
VARIED = 12.0
"""Grey levels between the quartiles of what paper lies over from which that is a picture: paper may lie over paper."""
TIMES_MISFIT = 2.0
"""Multiple of the misfit of tones inside a border from which that of the border tells that it covers something else."""
LEAST_AGREEING = 0.62
"""Share of what lies among matched points below which they are of a headline, an imprint or a border, not a picture.

Pairs of different photographs on one mount with two lines of text, or within one ornate border, have at most .58; the
863 matches of a press archive's groups at least .70, exposures of one plate .76, press copies .95.
"""

OUTWARDS = (-1, -1, 1, 1)
"""Direction from the middle to each side: left, top, right and bottom."""

Edges = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture: its first column and row, and those after its last ones."""


@dataclass(frozen=True)
class Agreement:
    """How far the structure of two photos agrees around each pixel, whatever their tones.

    Attributes:
        photos: both photos as they lie on each other.
        aligned: both in the frame of the first one, small.
        values: float32 (h, w), correlation of the two photos in a window, -1 to 1, whose sign is turned for a negative.
        weights: float32 (h, w), how much structure the window has, 0 to `MOST`; 0 outside of the overlap and where both
            photos are even.
        both: float32 (h, w), the same of the photo that has less of it there: 0 where either is even.
    """

    photos: LaidPair
    aligned: AlignedPair
    values: Vectors
    weights: Vectors
    both: Vectors

    @classmethod
    def of(cls, photos: LaidPair) -> Self | None:
        """Compare two photos; None where no pixel of the small pictures shows both."""
        aligned = align(photos.first, photos.second, photos.transform, SIDE)
        return cls(photos, aligned, *_agreement(aligned)) if aligned.overlap.any() else None

    @property
    def size(self) -> Size:
        """Width and height of the first photo in full pixels."""
        return self.photos.first.size


def agreeing_share(found: Agreement | None, points: Vectors) -> float:
    """Share of what lies among matched points that agrees in two photos, 0 to 1; 1 where nothing has structure there.

    Two photos on equal mounts, above one imprint and below one headline, match in both lines, and nothing between these
    agrees. Beside a crop on a mount, or a picture in a page, much disagrees as well, but no matched point lies there.

    Args:
        found: of both photos; None where nothing can be compared.
        points: float32 (n, 2), matched points in full pixels of the first photo, at least 3.
    """
    if found is None:
        return 1.0
    height, width = found.values.shape
    places = points * np.asarray([width / found.size[0], height / found.size[1]], dtype=np.float32)
    corners = np.round(cv2.convexHull(places)).astype(np.int32)
    among, near = (np.zeros((height, width), dtype=np.uint8) for _ in range(2))
    cv2.fillConvexPoly(among, corners, 1)
    for x, y in np.round(places).astype(int).tolist():
        cv2.circle(near, (x, y), NEARBY, 1, -1)
    compared = found.aligned.overlap & (among > 0) & (found.weights > STRUCTURED)
    agrees = (found.values > SIMILAR) | (near > 0)
    return float(agrees[compared].mean()) if compared.any() else 1.0


def picture_box(found: Agreement | None, points: Vectors) -> Box | None:
    """Where the picture lies in a photo that shows something else as well in the place of what the other photo shows.

    A mount over a part of the picture, or a text or another picture beside a crop, has a straight edge in the photo
    that it is in, along a strip in which the two photos have nothing in common; the other photo has no edge there.

    Args:
        found: of the photo whose picture is looked for and one of which it shows a part; None where nothing can be
            compared.
        points: float32 (n, 2), matched points in full pixels of the photo; but for a few they lie in the picture.

    Returns:
        The picture's box in full pixels; None where nothing has to be cut off.
    """
    if found is None or found.aligned.overlap.sum() < LEAST_OVERLAP:
        return None
    height, width = found.aligned.overlap.shape
    x, y = found.size[0] / width, found.size[1] / height
    mount = _edges_of_paper(found)
    left, top, right, bottom = _edges_of_agreement(found, mount, np.asarray(points / [x, y], dtype=np.float64))
    if (left, top, right, bottom) == (0, 0, width, height):
        return None
    if right <= left or bottom <= top or (right - left) * (bottom - top) < LEAST_OVERLAP:
        return None
    return left * x, top * y, (right - left) * x, (bottom - top) * y


def _edges_of_paper(found: Agreement) -> Edges:
    """Where the picture ends at paper that is surely none of it.

    Paper of one tone that is so on one side is no part of the picture on the other sides either, where the other photo
    shows nothing or is as plain as the paper.
    """
    photo, shape = found.photos.first.grey, found.aligned.overlap.shape
    whole, papers = (0, 0, shape[1], shape[0]), paper_around(photo)
    cuts = [*whole]
    for side, paper in enumerate(papers):
        if paper:
            factor = whole[2 + side % 2] / photo.shape[1 - side % 2]
            cuts[side] -= OUTWARDS[side] * round(paper.width * factor)
    sides = _sides_of_paper(found, whole, cuts)
    tones = [paper.tone for side, paper in enumerate(papers) if paper and side in sides]
    left, top, right, bottom = (
        cut if paper and any(abs(paper.tone - tone) < SAME_PAPER for tone in tones) else end
        for paper, cut, end in zip(papers, cuts, whole, strict=True)
    )
    return left, top, right, bottom


def _sides_of_paper(found: Agreement, whole: Edges, cuts: Sequence[int]) -> list[int]:
    """The sides on which paper is surely none of the picture, of those on which there may be paper.

    It lies over a part of the other photo that looks otherwise. Or the other photo ends where the paper begins, and
    beyond another side it goes on: the picture is then a crop of it, and not all of it on a mount.

    Args:
        found: of both photos.
        whole: left, top, right and bottom of the small photo.
        cuts: where paper begins on these sides; the end of the photo where there is none.
    """
    aligned = found.aligned
    papers = [side for side in range(4) if abs(cuts[side] - whole[side]) > LEAST_STRIP]
    inside = _within(aligned.overlap, cuts)
    if not papers or inside.sum() < LEAST_OVERLAP:
        return []
    misfits = np.abs(aligned.first - match_tones(aligned.second, aligned.first[inside], aligned.second[inside]))
    least = TIMES_MISFIT * (misfits[inside].mean() + GRAIN)
    covering = []
    for side in papers:
        unmixed = cuts[side] + OUTWARDS[side]  # the blur mixes the inmost row with the picture
        covers = _within(aligned.overlap, _beyond(whole, side, unmixed))
        if covers.any():
            low, high = np.quantile(aligned.second[covers], [0.25, 0.75])
            covering += [side] if high - low > VARIED and misfits[covers].mean() > least else []
    lying = found.photos.transform, found.size, found.photos.second.size
    shown = box_in_first(*lying)
    if covering or not shown or frames_of(*lying).coverage_second >= WHOLE:
        return covering
    left, top, across, down = np.multiply(shown, [whole[2] / found.size[0], whole[3] / found.size[1]] * 2)
    ends = left, top, left + across, top + down
    return [side for side in papers if abs(ends[side] - cuts[side]) <= LEAST_STRIP]


def _edges_of_agreement(found: Agreement, mount: Edges, points: Floats) -> Edges:
    """Where the picture ends along a strip in which the two photos have nothing in common.

    Args:
        found: of both photos.
        mount: where it ends at a plain mount, beyond which nothing is compared.
        points: float64 (n, 2), matched points in pixels of the small photo.
    """
    overlap = _within(found.aligned.overlap, mount)
    aligned, agreement, weights = replace(found.aligned, overlap=overlap), found.values, found.weights * overlap
    if not weights.any():
        return mount
    usual = float(np.quantile(agreement[weights > 0], 0.75))
    inside = _box_of_greatest_sum(np.where(overlap, weights * (agreement - usual / 2), 0))
    agrees = _mean(agreement, weights, inside)
    if agrees < AGREES:
        return mount
    photo = found.photos.first.grey
    plain, whole = without_borders(photo), (0, 0, photo.shape[1], photo.shape[0])
    left, top, across, down = cv2.boundingRect(overlap.astype(np.uint8))
    ends, edges = (left, top, left + across, top + down), [*mount]
    inside = _around(inside, points)
    for side, (cut, end) in enumerate(zip(inside, ends, strict=True)):
        # What is plain to the photo's end, and no paper with a straight edge, is a ground that was painted over.
        painted = plain[side] != whole[side]
        if painted or OUTWARDS[side] * (end - cut) < LEAST_STRIP:
            continue
        # To the ends of the other sides: beside a large retouch the photos agree again.
        strip = _beyond(ends, side, cut)
        disagrees = _mean(agreement, weights, strip) < DISAGREES * agrees
        if disagrees and weights[_slices(strip)].mean() > LEAST_STRUCTURE:
            edge = _edge(aligned, inside, ends, side)
            edges[side] = edges[side] if edge is None else edge
    return edges[0], edges[1], edges[2], edges[3]


def _agreement(aligned: AlignedPair) -> tuple[Vectors, Vectors, Vectors]:
    """Values and both weights as `Agreement` has them, of two photos that both show something somewhere."""
    overlap = aligned.overlap.astype(np.float32)
    mean = masked_mean_of(overlap, WINDOW)
    # Their means are subtracted first, or the squares would use up the digits of 32 bits.
    first, second = (grey - grey[aligned.overlap].mean() for grey in (aligned.first, aligned.second))
    first_mean, second_mean = mean(first), mean(second)
    spreads = [
        np.sqrt(np.maximum(mean(grey * grey) - around * around, 0))
        for grey, around in ((first, first_mean), (second, second_mean))
    ]
    agreement = (mean(first * second) - first_mean * second_mean) / (spreads[0] * spreads[1] + GRAIN)
    relative = [spread / (middle_of(spread[aligned.overlap]) + GRAIN) for spread in spreads]
    greater, lesser = np.maximum(*relative), np.minimum(*relative)
    either, both = (np.clip(spread - EVEN, 0, MOST) * overlap for spread in (greater, lesser))
    sign = np.float32(-1 if (agreement * either).sum() < 0 else 1)
    values, weights, shared = (np.asarray(part, dtype=np.float32) for part in (agreement * sign, either, both))
    return values, weights, shared


def _box_of_greatest_sum(values: Vectors) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the rectangle whose values, float (h, w), have the greatest sum.

    Kadane's algorithm (Bentley 1984) for each pair of rows whose positive values alone exceed the best sum so far: of
    photos that agree nearly everywhere that is few. Two by two pixels are one, which takes an eighth of the time.
    """
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)))
    coarse = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum(axis=(1, 3), dtype=np.float64)
    rows, columns = coarse.shape
    above = np.concatenate([np.zeros((1, columns)), coarse.cumsum(axis=0)])
    positive_above = np.maximum(coarse, 0).sum(axis=1).cumsum()
    best, box = 0.0, (0, 0, columns, rows)
    for top in range(rows):
        least = best + (positive_above[top - 1] if top else 0.0)
        shortest = max(top, int(np.searchsorted(positive_above, least, side="right")))
        if shortest >= rows:
            break
        sums = np.zeros((rows - shortest, columns + 1))
        np.cumsum(above[shortest + 1 :] - above[top], axis=1, out=sums[:, 1:])
        gains = sums - np.minimum.accumulate(sums, axis=1)
        place = int(gains.argmax())
        if gains.flat[place] > best:
            row, right = divmod(place, columns + 1)
            best, box = float(gains.flat[place]), (int(sums[row, : right + 1].argmin()), top, right, shortest + 1 + row)
    left, top, right, bottom = (2 * edge for edge in box)
    return left, top, min(right, width), min(bottom, height)


def _around(box: tuple[int, int, int, int], points: Floats) -> tuple[int, int, int, int]:
    """A box of left, top, right and bottom, widened to hold all points, float64 (n, 2), but the `STRAY` ones."""
    ordered, stray = np.sort(points, axis=0), int(STRAY * len(points))
    (left, top), (right, bottom) = np.floor(ordered[stray]).astype(int), np.ceil(ordered[-1 - stray]).astype(int)
    return min(box[0], int(left)), min(box[1], int(top)), max(box[2], int(right)), max(box[3], int(bottom))


def _edge(aligned: AlignedPair, inside: tuple[int, ...], ends: tuple[int, ...], side: int) -> int | None:
    """Where the picture ends on a side: the innermost straight step in tone that only the first photo has.

    Args:
        aligned: the pair.
        inside: left, top, right and bottom of where the photos agree, or points do.
        ends: left, top, right and bottom of what both show.
        side: index of the side in these.

    Returns:
        The first pixel of the picture, or the one after its last; None where there is no such step.
    """
    axis, outwards = side % 2, OUTWARDS[side]
    along = slice(inside[1 - axis], inside[3 - axis])
    steps = [_steps(grey, axis, along) for grey in (aligned.first, aligned.second)]
    own, others = (step / (step[ends[axis] : ends[axis + 2]].mean() + 0.5) for step in steps)
    clear = own - TIMES_OTHER * others
    cut, end = inside[side], ends[side]
    places = np.arange(end, cut + SEARCHED) if outwards < 0 else np.arange(end - 1, cut - SEARCHED - 1, -1)
    places = places[(places >= 1) & (places < len(clear) - 1)][::-1]  # from the inside outwards
    high = places[clear[places] > NEARLY_GREATEST * clear[places].max()] if len(places) else places
    if not len(high):
        return None
    place = int(high[0])
    while 0 < place < len(clear) - 1 and max(clear[place - 1], clear[place + 1]) > clear[place]:
        place += 1 if clear[place + 1] > clear[place - 1] else -1
    nearby = others[max(0, place - 1) : place + 2].max()
    if own[place] < LEAST_STEP or own[place] < TIMES_OTHER * nearby or abs(place - end) < LEAST_STRIP:
        return None
    return place + 1 if outwards < 0 else place


def _steps(grey: Vectors, axis: int, along: slice) -> Floats:
    """The step in tone that most pixels of each column, or row, have to the next ones: float64 (n,)."""
    sobel = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1 - axis, axis, scale=1 / 8))
    return np.asarray(np.quantile(sobel[along].T if axis == 0 else sobel[:, along], ALONG, axis=1), dtype=np.float64)


def _beyond(frame: tuple[int, ...], side: int, edge: int) -> list[int]:
    """The part of a frame of left, top, right and bottom that lies beyond an edge on one of these sides."""
    strip = [*frame]
    strip[(side + 2) % 4] = edge
    return strip


def _within(overlap: Bools, box: Sequence[int]) -> Bools:
    """The pixels of an overlap that lie in a box of left, top, right and bottom."""
    inside = np.zeros_like(overlap)
    inside[_slices(box)] = overlap[_slices(box)]
    return inside


def _slices(box: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a box of left, top, right and bottom, in whatever order these lie."""
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    return slice(top, bottom), slice(left, right)


def _mean(agreement: Vectors, weights: Vectors, box: Sequence[int]) -> float:
    """Mean agreement in a box of left, top, right and bottom, by weights."""
    place = _slices(box)
    return float((agreement[place] * weights[place]).sum() / max(1e-6, float(weights[place].sum())))


def inside_box(shape: tuple[int, int], size: tuple[int, int], box: Box, margin: float) -> Bools:
    """The pixels of a small picture that lie in a box, bool (h, w).

    Args:
        shape: height and width of the small picture.
        size: width and height of the full one.
        box: in pixels of the full one.
        margin: share of the longer side that is left out along the box's edges.
    """
    left, top, width, height = box
    x, y, away = shape[1] / size[0], shape[0] / size[1], margin * max(size)
    inside = np.zeros(shape, dtype=bool)
    rows = slice(int(np.ceil((top + away) * y)), max(0, int((top + height - away) * y)))
    columns = slice(int(np.ceil((left + away) * x)), max(0, int((left + width - away) * x)))
    inside[rows, columns] = True
    return inside
