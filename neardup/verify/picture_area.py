"""Where the picture that two photos share ends in a photo that also shows a mount, a text or another picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from neardup.arrays import Bools, Floats, Vectors
from neardup.verify.borders import SAME_PAPER, paper_around, without_borders
from neardup.verify.boxes import box_around, box_of_greatest_sum
from neardup.verify.evidence import Box
from neardup.verify.frames import Size, box_in_first, frames_of
from neardup.verify.pixels import AlignedPair, LaidPair, align, masked_mean_of
from neardup.verify.relation import WHOLE
from neardup.verify.samples import middle_of
from neardup.verify.tones import GRAIN, WINDOW, match_tones

SIDE = 120
"""Pixels of the longer side at which agreement is looked for: a mount of a twentieth of the side is six of them."""
EVEN = 0.25
"""Spread of a window, as a multiple of the photo's median one, up to which the window has no weight."""
MOST = 2.0
"""Greatest weight of a window, so that one sharp edge does not outweigh a strip."""
LEAST_OVERLAP = 300
"""Pixels that both photos must show for the picture's edges to be looked for."""
AGREES = 0.45
"""Mean agreement from which the part inside the edges counts as a picture that both photos show."""
DISAGREES = 0.6
"""Share of the agreement inside the picture below which a strip's agreement must lie for it to be cut off."""
LEAST_STRUCTURE = 0.1
"""Mean weight of a strip's windows up to which the strip is too even in both photos to be judged."""
LEAST_STRIP = 2
"""Width of a strip in pixels below which it is a misfit of the frame."""
LINE = 3
"""Pixels beyond an edge that a line along it takes with its blur; whether a photo goes on is asked farther out."""
WIDE = 0.1
"""Share of the overlap from which a strip that agrees is no paper; a caption on both mounts agrees, and takes less."""
SEARCHED = 5
"""Pixels beyond the end of agreement, which the windows blur, within which the picture's edge is looked for."""
ALONG = 0.35
"""Share of the pixels along an edge that may lack a step in tone, because picture and mount have one tone by chance."""
TIMES_OTHER = 1.7
"""Multiple of the other photo's step in tone that the step at a picture's edge must exceed: the other goes on there."""
LEAST_STEP = 3.0
"""Multiple of a photo's usual step in tone that the step at a picture's edge must reach."""
NEARLY_GREATEST = 0.6
"""Share of the greatest step from which the innermost step is the edge: lines of text have steps as well."""
STRUCTURED = 0.2
"""Weight of a window above which it is compared among matched points."""
SIMILAR = 0.4
"""Agreement of a window above which both photos show the same there."""
NEARBY = 8
"""Pixels around a matched point that count as agreeing: a retouch or a moiré may surround it."""
VARIED = 12.0
"""Grey levels between the quartiles above which what paper covers is a picture: paper may also lie over paper."""
TIMES_MISFIT = 2.0
"""Multiple of the misfit of tones inside a border above which the border's own shows that it covers something else."""
LEAST_AGREEING = 0.62
"""Share of the area among matched points that must agree, or the points are of a headline, an imprint or a border.

Pairs of different photographs on one mount with two lines of text, or within one ornate border, have at most .58; the
863 matches of a press archive's groups at least .70, exposures of one plate .76, press copies .95.
"""

OUTWARDS = (-1, -1, 1, 1)
"""Direction from the middle to each side: left, top, right and bottom."""

Edges = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture: its first column and row, and those one past its last."""


@dataclass(frozen=True)
class Agreement:
    """How far the structure of two photos agrees around each pixel, whatever their tones.

    Attributes:
        photos: both photos as they lie on each other.
        aligned: both photos in the frame of the first one, reduced.
        values: float32 (h, w), correlation of the two photos in a window, -1 to 1, whose sign is turned for a negative.
        weights: float32 (h, w), how much structure the window has, 0 to `MOST`; 0 outside of the overlap, and where
            both photos are even.
        both: float32 (h, w), structure of the photo that has less of it in the window, 0 to `MOST`; 0 where either is
            even.
        sign: by which the values were turned: -1 for a negative, else 1.
    """

    photos: LaidPair
    aligned: AlignedPair
    values: Vectors
    weights: Vectors
    both: Vectors
    sign: int

    @classmethod
    def of(cls, photos: LaidPair) -> Self | None:
        """Compare two photos; None where no pixel of the reduced photos shows both."""
        aligned = align(photos.first, photos.second, photos.transform, SIDE)
        return cls(photos, aligned, *_agreement(aligned)) if aligned.overlap.any() else None

    @property
    def size(self) -> Size:
        """Width and height of the first photo in full pixels."""
        return self.photos.first.size

    def places(self, points: Vectors) -> Vectors:
        """Points in full pixels of the first photo, float32 (n, 2), in pixels of the small picture."""
        height, width = self.values.shape
        return points * np.asarray([width / self.size[0], height / self.size[1]], dtype=np.float32)

    def near(self, points: Vectors) -> Bools:
        """The pixels of the small picture within `NEARBY` of points in full pixels, float32 (n, 2): bool (h, w)."""
        near = np.zeros(self.values.shape, dtype=np.uint8)
        for x, y in np.round(self.places(points)).astype(int).tolist():
            cv2.circle(near, (x, y), NEARBY, 1, -1)
        return near > 0


def agreeing_share(found: Agreement | None, points: Vectors) -> float:
    """Measure the share of the area among matched points that agrees in two photos, 0 to 1; 1 without any structure.

    Different photos on equal mounts, between the same headline and imprint, match in these two lines, and nothing
    between the lines agrees. Much also disagrees around a crop on a mount or a picture in a page, but no matched point
    lies there.

    Args:
        found: agreement of both photos; None where nothing can be compared.
        points: float32 (n, 2), matched points in full pixels of the first photo, at least 3.
    """
    if found is None:
        return 1.0
    among = np.zeros(found.values.shape, dtype=np.uint8)
    cv2.fillConvexPoly(among, np.round(cv2.convexHull(found.places(points))).astype(np.int32), 1)
    compared = found.aligned.overlap & (among > 0) & (found.weights > STRUCTURED)
    agrees = (found.values > SIMILAR) | found.near(points)
    return float(agrees[compared].mean()) if compared.any() else 1.0


def picture_box(found: Agreement | None, points: Vectors) -> Box | None:
    """Find where the picture lies in a photo of which a part shows something else than the other photo does.

    A mount over a part of the picture, or a text or another picture beside a crop, has a straight edge, along a strip
    in which the two photos have nothing in common; the other photo has no edge in that place.

    Args:
        found: agreement of the photo whose picture is looked for, as the first, with another; None where nothing can be
            compared.
        points: float32 (n, 2), matched points in full pixels of the photo; nearly all lie in the picture.

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
    """Find where the picture ends at paper that surely is not part of it.

    Paper that surely is not part of the picture on one side is not on the other sides either, if it has the same tone.
    """
    photo, shape = found.photos.first.grey, found.aligned.overlap.shape
    whole, papers = (0, 0, shape[1], shape[0]), paper_around(photo)
    cuts = [*whole]
    for side, paper in enumerate(papers):
        if paper:
            factor = whole[2 + side % 2] / photo.shape[1 - side % 2]
            cut = whole[side] - OUTWARDS[side] * round(paper.width * factor)
            cuts[side] = whole[side] if _goes_on(found, whole, side, cut) else cut
    sides = _sides_of_paper(found, whole, cuts)
    tones = [paper.tone for side, paper in enumerate(papers) if paper and side in sides]
    left, top, right, bottom = (
        cut if paper and any(abs(paper.tone - tone) < SAME_PAPER for tone in tones) else end
        for paper, cut, end in zip(papers, cuts, whole, strict=True)
    )
    return left, top, right, bottom


def _sides_of_paper(found: Agreement, whole: Edges, cuts: Sequence[int]) -> list[int]:
    """Choose, of the sides on which there may be paper, those on which it surely is not part of the picture.

    Either the paper lies over a part of the other photo that looks different, or the other photo ends where the paper
    begins and goes on beyond another side: the picture is then a crop of it, not all of it on a mount.

    Args:
        found: agreement of both photos.
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
        unmixed = cuts[side] + OUTWARDS[side]  # the blur mixes the innermost row with the picture
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
    """Find where the picture ends along a strip in which the two photos have nothing in common.

    Args:
        found: agreement of both photos.
        mount: where the picture ends at a plain mount, beyond which nothing is compared.
        points: float64 (n, 2), matched points in pixels of the small photo.
    """
    overlap = _within(found.aligned.overlap, mount)
    aligned, agreement, weights = replace(found.aligned, overlap=overlap), found.values, found.weights * overlap
    if not weights.any():
        return mount
    usual = float(np.quantile(agreement[weights > 0], 0.75))
    inside = box_of_greatest_sum(np.where(overlap, weights * (agreement - usual / 2), 0))
    agrees = _mean(agreement, weights, inside)
    if agrees < AGREES:
        return mount
    photo = found.photos.first.grey
    plain, whole = without_borders(photo), (0, 0, photo.shape[1], photo.shape[0])
    left, top, across, down = cv2.boundingRect(overlap.astype(np.uint8))
    ends, edges = (left, top, left + across, top + down), [*mount]
    inside = box_around(inside, points)
    for side, (cut, end) in enumerate(zip(inside, ends, strict=True)):
        # An area that is plain to the photo's end without being paper with a straight edge is a background painted
        # over.
        painted = plain[side] != whole[side]
        if painted or OUTWARDS[side] * (end - cut) < LEAST_STRIP:
            continue
        # The strip reaches to the ends of the other sides: beside a large retouch the photos agree again.
        strip = _beyond(ends, side, cut)
        disagrees = _mean(agreement, weights, strip) < DISAGREES * agrees
        if disagrees and weights[_slices(strip)].mean() > LEAST_STRUCTURE:
            edge = _edge(aligned, inside, ends, side)
            if edge is not None and _shows_something_else(found, ends, side, edge, mount[side]):
                edges[side] = edge
    return edges[0], edges[1], edges[2], edges[3]


def _goes_on(found: Agreement, whole: Edges, side: int, edge: int) -> bool:
    """Whether a photo shows the same as the other one beyond the edge of what seems to be paper.

    A fold across a sky, or a line across a black ground, is such an edge as well.
    """
    common, _, pixels = _beyond_line(found, whole, side, edge)
    overlap = found.aligned.overlap
    inside = _mean(found.values, found.weights * overlap, whole)
    return bool(pixels >= WIDE * overlap.sum() and common > DISAGREES * inside)


def _shows_something_else(found: Agreement, ends: Edges, side: int, edge: int, end: int) -> bool:
    """Whether a photo shows something else beyond an edge than the other one, and no line and no painted ground.

    Beyond a scratch or a crop mark both show the same. Where the other photo is plain, its ground may have been painted
    over; not where it ends long before this one does: beside a crop of its margin lies something else.

    Args:
        found: agreement of both photos.
        ends: left, top, right and bottom of what both show.
        side: index of the edge's side in these.
        edge: where the picture may end on that side.
        end: where the photo ends there, or a mount begins.
    """
    common, structure, _ = _beyond_line(found, ends, side, edge)
    return common < AGREES if structure > GRAIN else abs(end - ends[side]) > WINDOW


def _beyond_line(found: Agreement, frame: Edges, side: int, edge: int) -> tuple[float, float, int]:
    """How far a photo agrees with the other one beyond an edge and the line along it, which would spoil the windows.

    Args:
        found: agreement of both photos.
        frame: left, top, right and bottom of the part in which the strip beyond the edge lies.
        side: index of the side in these.
        edge: where the picture may end on that side.

    Returns:
        Mean agreement, -1 to 1, by the structure of the other photo; the mean spread of that one in a window, in grey
        levels; and how many pixels were compared. All are 0 where nothing is left to compare.
    """
    beyond = edge + OUTWARDS[side] * LINE
    strip = _within(found.aligned.overlap, _beyond(frame, side, beyond))
    if OUTWARDS[side] * (frame[side] - beyond) <= 0 or not strip.any():
        return 0.0, 0.0, 0
    values, (_, spread) = _windows(replace(found.aligned, overlap=strip))
    turned, structure = values[strip] * found.sign, spread[strip]
    return float((turned * structure).sum() / (structure.sum() + 1e-6)), float(structure.mean()), int(strip.sum())


def _agreement(aligned: AlignedPair) -> tuple[Vectors, Vectors, Vectors, int]:
    """Compute values, both weights and the sign, as `Agreement` has them, of two photos that overlap."""
    agreement, spreads = _windows(aligned)
    relative = [spread / (middle_of(spread[aligned.overlap]) + GRAIN) for spread in spreads]
    greater, lesser = np.maximum(*relative), np.minimum(*relative)
    either, both = (np.clip(spread - EVEN, 0, MOST) * aligned.overlap for spread in (greater, lesser))
    sign = -1 if (agreement * either).sum() < 0 else 1
    values, weights, shared = (np.asarray(part, dtype=np.float32) for part in (agreement * sign, either, both))
    return values, weights, shared, sign


def _windows(aligned: AlignedPair) -> tuple[Vectors, list[Vectors]]:
    """Correlation of two photos in the window around each pixel, float32 (h, w), and the spread of each one in it."""
    overlap = aligned.overlap.astype(np.float32)
    mean = masked_mean_of(overlap, WINDOW)
    # The mean tones are subtracted first, or the squares would use up the precision of float32.
    first, second = (grey - grey[aligned.overlap].mean() for grey in (aligned.first, aligned.second))
    first_mean, second_mean = mean(first), mean(second)
    spreads: list[Vectors] = [
        np.sqrt(np.maximum(mean(grey * grey) - around * around, 0))
        for grey, around in ((first, first_mean), (second, second_mean))
    ]
    agreement = (mean(first * second) - first_mean * second_mean) / (spreads[0] * spreads[1] + GRAIN)
    return np.asarray(agreement, dtype=np.float32), spreads


def _edge(aligned: AlignedPair, inside: tuple[int, ...], ends: tuple[int, ...], side: int) -> int | None:
    """Find where the picture ends on a side: the innermost straight step in tone that only the first photo has.

    Args:
        aligned: the pair.
        inside: left, top, right and bottom of the area in which the photos agree or have matched points.
        ends: left, top, right and bottom of the area that both photos show.
        side: index of the side in `inside` and `ends`.

    Returns:
        The first pixel of the picture (left, top) or one past its last (right, bottom); None where there is no such
        step.
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
    """Measure the step in tone that most pixels of each column, or row, have to the next one: float64 (n,)."""
    sobel = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1 - axis, axis, scale=1 / 8))
    return np.asarray(np.quantile(sobel[along].T if axis == 0 else sobel[:, along], ALONG, axis=1), dtype=np.float64)


def _beyond(frame: tuple[int, ...], side: int, edge: int) -> list[int]:
    """Cut out the part of a frame (left, top, right, bottom) that lies beyond an edge on one of its sides."""
    strip = [*frame]
    strip[(side + 2) % 4] = edge
    return strip


def _within(overlap: Bools, box: Sequence[int]) -> Bools:
    """Restrict an overlap to the pixels in a box of left, top, right and bottom."""
    inside = np.zeros_like(overlap)
    inside[_slices(box)] = overlap[_slices(box)]
    return inside


def _slices(box: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a box of left, top, right and bottom, even if opposite sides are swapped."""
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    return slice(top, bottom), slice(left, right)


def _mean(agreement: Vectors, weights: Vectors, box: Sequence[int]) -> float:
    """Weighted mean of the agreement in a box of left, top, right and bottom."""
    place = _slices(box)
    return float((agreement[place] * weights[place]).sum() / max(1e-6, float(weights[place].sum())))
