"""The picture that explains a pair: where one photo lies in the other, what differs, which points agree."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.special import expit

from neardup.arrays import Floats, Vectors
from neardup.verify.differences import Pictures, levels_of
from neardup.verify.evidence import Box, Evidence, Transform
from neardup.verify.frames import by_centres, cut_to, inverse, outline, rescaled
from neardup.verify.pixels import GreyPhoto, LaidPair
from neardup.verify.relation import relation_of
from neardup.words import chance_text

WIDTH = 1200
"""Pixels of the picture's width: what fits a screen and prints legibly on a page."""
GAP = 12
"""Pixels between panels and around them."""
TALLEST = 520
"""Greatest height of a panel in pixels: three rows of portraits then still fit a screen."""
ENLARGED = 2.0
"""Greatest factor by which a small photo is enlarged: more pixels would show nothing more."""
LABEL = 18
"""Height in pixels of the letters of a panel's label."""
LETTERS = 34
"""Most letters of a photo's name in its label: two names and the number of points then fit a row."""
SENTENCE = 24
"""Height in pixels of the letters of the sentence."""
SHOWN_POINTS = 40
"""Most matched points that are drawn: more would hide the photos."""
COMPARED = 256
"""Pixels of the longer side at which differences are drawn: finer differences are misfit and grain."""
CONTRAST = 3.0
"""Factor by which differences of grey are made darker in their panel, so that a retouch of 40 levels is seen."""
EDGE_PIXELS = 12
"""Pixels on either side of a panel's edge within which an outline is moved inside to be visible."""
OUTLINE = "#E69F00"
"""Colour of the second photo's frame: orange of Okabe and Ito's palette, which colour-blind people tell apart."""
DIFFERENT = "#D55E00"
"""Colour of the boxes around differences: vermilion of Okabe and Ito's palette."""
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7")
"""Colours of the matched points, in turn from the top of the photo down: the light ones of Okabe and Ito's palette."""
SPEAKS_FOR = "#009E73"
"""Colour of the terms that make a pair more probable: green of Okabe and Ito's palette; the others are `DIFFERENT`."""
LEAST_TERM = 0.05
"""Natural log-odds below which a term is not shown: it changes no probability by as much as 0.02."""
PAPER = "#FFFFFF"
"""Colour of the page."""
INK = "#202020"
"""Colour of the text, and of the dark edge of each line that is drawn on a photo."""
NOT_SHOWN = (206, 212, 220)
"""Colour (RGB) of what only one photo shows: a cold grey, which no print has."""

Points = Vectors
"""Matched points, float32 (n, 4): x and y in full pixels of the first photo, x and y in those of the second."""

Terms = Sequence[tuple[str, float]]
"""Title and amount, in natural log-odds, of each term of a pair's probability; the amounts add up to its log-odds."""


@dataclass(frozen=True)
class Panels:
    """The parts of the picture, RGB, without labels; `first`, `laid` and `difference` have one size, for blinking.

    Attributes:
        first: the first photo with the second one's frame.
        second: the second photo with the first one's frame, to be shown instead where the first photo is the crop.
        laid: the second photo as it lies in the first one's frame.
        difference: white where both photos are alike, darker where they differ, boxes around the places that stand out.
        points: both photos side by side with lines between the points that agree.
    """

    first: Image.Image
    second: Image.Image
    laid: Image.Image
    difference: Image.Image
    points: Image.Image


def explain_picture(
    first: Image.Image,
    second: Image.Image,
    evidence: Evidence,
    points: Points,
    *,
    names: tuple[str, str] = ("", ""),
    terms: Terms = (),
) -> Image.Image:
    """Draw the picture that explains a pair.

    Args:
        first: the first photo, upright, at full size or smaller.
        second: the second photo.
        evidence: what was measured of the pair.
        points: float32 (n, 4), matched points in full pixels: x and y in the first photo, x and y in the second one.
        names: what the photos are called, beside "A" and "B".
        terms: what adds up to the log-odds of the pair's probability; none where nothing was decided.

    Returns:
        RGB, `WIDTH` pixels wide: the panels of a pair that matches, both photos of one that does not; below them a
        sentence, and the terms as a waterfall.
    """
    a, b = (_label(letter, name) for letter, name in zip("AB", names, strict=True))
    relation = relation_of(evidence)
    if evidence.matched:
        third = (WIDTH - 4 * GAP) // 3
        panels = panels_of(first, second, evidence, points, width=third)
        doubt = ", if they are one" if relation.doubtful else ""
        frame_on_second = (f"B, with the frame of A{doubt}", panels.second)
        frame_on_first = (f"A, with the frame of B{doubt}", panels.first)
        rows = [
            [
                frame_on_second if relation.crop == "first" else frame_on_first,
                (f"B, laid on A{doubt}", panels.laid),
                ("Where they differ (dark)", panels.difference),
            ],
            [(f"{min(SHOWN_POINTS, len(points))} of the points that agree      {a}  ·  {b}", panels.points)],
        ]
    else:
        half = (WIDTH - 3 * GAP) // 2
        rows = [[(a, _fitted(first, half)), (b, _fitted(second, half))]]
    return _page(rows, relation.sentence(), _waterfall(terms) if terms else None)


def panels_of(
    first: Image.Image, second: Image.Image, evidence: Evidence, points: Points, *, width: int = 640
) -> Panels:
    """Draw the panels of a pair that matches, for a page that arranges them itself.

    Args:
        first: the first photo, upright, at full size or smaller.
        second: the second photo.
        evidence: what was measured of the pair; it has a transform.
        points: float32 (n, 4), matched points in full pixels of both photos.
        width: pixels of the first three panels at most; the panel of points is three times as wide.

    Raises:
        ValueError: the evidence has no transform.
    """
    if evidence.transform is None:
        raise ValueError("a pair without a transform has no panels: ask evidence.matched first")
    first_panel, second_panel = _fitted(first, width), _fitted(second, width)
    first_size = evidence.width_first, evidence.height_first
    second_size = evidence.width_second, evidence.height_second
    first_factor = _factor(first_panel, *first_size)
    second_factor = _factor(second_panel, *second_size)
    matrix = by_centres(
        rescaled(evidence.transform, (first_factor[0], first_factor[1]), (second_factor[0], second_factor[1])),
    )
    warped = cv2.warpPerspective(
        np.asarray(second_panel),
        matrix,
        first_panel.size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=NOT_SHOWN,
    )
    return Panels(
        first=_framed(first_panel, _outline(evidence.transform, evidence.pictures[1]), first_factor),
        second=_framed(second_panel, _outline(inverse(evidence.transform), evidence.pictures[0]), second_factor),
        laid=Image.fromarray(warped.astype(np.uint8)),
        difference=_difference(first_panel, second_panel, evidence, first_factor),
        points=_points(first, second, evidence, points, 3 * width + 2 * GAP),
    )


def _outline(transform: Transform, picture: Box) -> Floats | None:
    """Find the outline in one photo of the other one's picture; see `frames.outline`."""
    return outline(cut_to(transform, (0.0, 0.0, 0.0, 0.0), picture), (round(picture[2]), round(picture[3])))


def _framed(photo: Image.Image, corners: Floats | None, factor: Floats) -> Image.Image:
    """Draw the other photo's outline, given in full pixels, on a photo; a line at its very edge is moved inside."""
    framed = photo.copy()
    if corners is None:
        return framed
    low, high = np.array([2.0, 2.0]), np.array(photo.size) - 3.0
    scaled = corners * factor
    near = (scaled > low - EDGE_PIXELS) & (scaled < high + EDGE_PIXELS)
    _line(ImageDraw.Draw(framed), np.where(near, np.clip(scaled, low, high), scaled), OUTLINE, 4)
    return framed


def _difference(first: Image.Image, second: Image.Image, evidence: Evidence, factor: Floats) -> Image.Image:
    """Draw the panel of differences in the size of the first photo; both photos have the size of a panel already."""
    assert evidence.transform is not None  # noqa: S101 - asked by panels_of
    photos = LaidPair(
        GreyPhoto(np.asarray(first.convert("L")), (evidence.width_first, evidence.height_first), evidence.screen_first),
        GreyPhoto(
            np.asarray(second.convert("L")), (evidence.width_second, evidence.height_second), evidence.screen_second
        ),
        evidence.transform,
    )
    aligned = Pictures(photos, (evidence.picture_first, evidence.picture_second)).aligned(COMPARED)
    levels = levels_of(aligned)
    page = np.full((*aligned.overlap.shape, 3), NOT_SHOWN, dtype=np.uint8)
    if levels is not None:
        grey = np.clip(255 - CONTRAST * levels, 0, 255).astype(np.uint8)
        page = np.where(aligned.overlap[..., None], grey[..., None], page)
    panel = Image.fromarray(page).resize(first.size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(panel)
    for number, (left, top, width, height) in enumerate(relation_of(evidence).retouched, start=1):
        x, y = left * factor[0], top * factor[1]
        right, bottom = x + width * factor[0], y + height * factor[1]
        _line(draw, np.array([[x, y], [right, y], [right, bottom], [x, bottom]]), DIFFERENT, 3)
        _number(draw, (x, y), str(number))
    return panel


def _points(first: Image.Image, second: Image.Image, evidence: Evidence, points: Points, width: int) -> Image.Image:
    """Draw the panel of points: both photos side by side at one height, with lines between the points that agree."""
    half = (width - 4 * GAP) // 2
    a, b = _fitted(first, half), _fitted(second, half)
    panel = Image.new("RGB", (width, max(a.height, b.height)), PAPER)
    starts = np.array([[(half - a.width) // 2, 0], [width - half + (half - b.width) // 2, 0]])
    for photo, (x, y) in zip((a, b), starts, strict=True):
        panel.paste(photo, (int(x), int(y)))
    drawn_points = _spread_points(points)
    first_ends = drawn_points[:, :2] * _factor(a, evidence.width_first, evidence.height_first) + starts[0]
    second_ends = drawn_points[:, 2:] * _factor(b, evidence.width_second, evidence.height_second) + starts[1]
    draw = ImageDraw.Draw(panel)
    for number, ends in enumerate(np.stack([first_ends, second_ends], axis=1)):
        colour = COLOURS[number % len(COLOURS)]
        draw.line([tuple(end) for end in ends], fill=colour, width=1)
        for x, y in ends:
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour, outline=INK, width=1)
    return panel


def _spread_points(points: Points) -> Floats:
    """At most `SHOWN_POINTS` of the points, spread over the first photo, from its top to its bottom: float64 (n, 4).

    Each next point is the farthest from those already chosen, so that a dense corner does not take them all.
    """
    remaining = np.asarray(points, dtype=np.float64).reshape(-1, 4)
    if len(remaining) > SHOWN_POINTS:
        places = [0]
        distances = np.linalg.norm(remaining[:, :2] - remaining[0, :2], axis=1)
        while len(places) < SHOWN_POINTS:
            places.append(int(distances.argmax()))
            distances = np.minimum(distances, np.linalg.norm(remaining[:, :2] - remaining[places[-1], :2], axis=1))
        remaining = remaining[places]
    return np.asarray(remaining[np.argsort(remaining[:, 1], kind="stable")])


def _fitted(image: Image.Image, width: int) -> Image.Image:
    """The photo as RGB within a width and `TALLEST`, enlarged by at most `ENLARGED`."""
    factor = min(width / image.width, TALLEST / image.height, ENLARGED)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _factor(image: Image.Image, width: int, height: int) -> Floats:
    """Pixels of a reduced photo by one of the full one, across and down: float64 (2,)."""
    return np.array([image.width / width, image.height / height])


def _line(draw: ImageDraw.ImageDraw, corners: Floats, colour: str, width: int) -> None:
    """Draw a closed line with a dark edge, visible on light and on dark tones."""
    path = [(float(x), float(y)) for x, y in (*corners, corners[0], corners[1])]
    draw.line(path, fill=INK, width=width + 2, joint="curve")
    draw.line(path, fill=colour, width=width, joint="curve")


def _number(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    """Write the number of a difference on paper, beside a corner of its box."""
    font = _font(LABEL - 4)
    place = (corner[0] + 3, max(0.0, corner[1] - LABEL))
    draw.rectangle(draw.textbbox(place, text, font=font), fill=PAPER)
    draw.text(place, text, fill=INK, font=font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with Matplotlib: Pillow's own font lacks accents.

    Args:
        size: pixels.
    """
    import matplotlib as mpl  # noqa: PLC0415 - a tenth of a second, for the path of a font

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _label(letter: str, name: str) -> str:
    """Compose a photo's label, in NFC for the font, cut in the middle where it is too long: "A: excelsior…_02.jpg"."""
    composed = unicodedata.normalize("NFC", name)
    short = composed if len(composed) <= LETTERS else f"{composed[: LETTERS * 3 // 5]}…{composed[-LETTERS // 3 :]}"
    return f"{letter}: {short}" if short else letter


def _page(
    rows: Sequence[Sequence[tuple[str, Image.Image]]], sentence: str, waterfall: Image.Image | None = None
) -> Image.Image:
    """Compose the whole picture: rows of labelled panels, then the sentence, then the waterfall."""
    label, text = _font(LABEL), _font(SENTENCE)
    lines = _wrapped(sentence, text)
    heights = [max(panel.height for _, panel in row) + LABEL + GAP for row in rows]
    ending = sum(heights) + (len(rows) + 2) * GAP + len(lines) * SENTENCE * 4 // 3
    page = Image.new("RGB", (WIDTH, ending + (waterfall.height + GAP if waterfall else 0)), PAPER)
    if waterfall:
        page.paste(waterfall, (GAP, ending))
    draw, top = ImageDraw.Draw(page), GAP
    for row, height in zip(rows, heights, strict=True):
        column = (WIDTH - GAP) // len(row)
        for number, (title, panel) in enumerate(row):
            draw.text((GAP + number * column, top), title, fill=INK, font=label)
            page.paste(panel, (GAP + number * column, top + LABEL + GAP // 2))
        top += height + GAP
    for number, line in enumerate(lines):
        draw.text((GAP, top + number * SENTENCE * 4 // 3), line, fill=INK, font=text)
    return page


def _waterfall(terms: Terms) -> Image.Image:
    """Draw terms as bars, each beginning where the one before it ends, and the log-odds that they add up to.

    Terms of less than `LEAST_TERM` have no bar.
    """
    font, line = _font(LABEL), LABEL * 3 // 2
    ends = np.cumsum([0.0, *(value for _, value in terms)])
    shown = [bar for bar in zip(terms, ends[:-1], ends[1:], strict=True) if abs(bar[0][1]) >= LEAST_TERM]
    total = f"together, the log-odds of {chance_text(float(expit(ends[-1])))}"
    bars = [*shown, ((total, ends[-1]), 0.0, ends[-1])]
    left, low, high = WIDTH * 2 // 5, min(ends), max(*ends, 1e-9)
    scale = (WIDTH - 2 * GAP - left - 5 * LABEL) / (high - low)
    panel = Image.new("RGB", (WIDTH - 2 * GAP, len(bars) * line), PAPER)
    draw = ImageDraw.Draw(panel)
    for number, ((title, value), start, end) in enumerate(bars):
        top, sides = number * line, sorted(left + scale * (place - low) for place in (start, end))
        draw.text((0, top), title, fill=INK, font=font)
        draw.rectangle((sides[0], top + 4, sides[1] + 1, top + line - 4), fill=SPEAKS_FOR if value > 0 else DIFFERENT)
        draw.text((sides[1] + LABEL // 2, top), f"{value:+.1f}", fill=INK, font=font)
    zero = left - scale * low
    draw.line((zero, 0, zero, panel.height), fill=INK, width=1)
    return panel


def _wrapped(sentence: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a sentence into lines that fit the page; a file name longer than a line is broken where the line ends."""
    lines, width = [""], WIDTH - 2 * GAP
    for word in sentence.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
        while font.getlength(lines[-1]) > width:
            fitting = next(end for end in range(len(lines[-1]), 0, -1) if font.getlength(lines[-1][:end]) <= width)
            lines[-1:] = [lines[-1][:fitting], lines[-1][fitting:]]
    return lines
