"""What kind of copy a pair is, in words, from the numbers of its evidence, without a classifier."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from neardup.verify.evidence import LEAST_KEYPOINTS, Box, Evidence
from neardup.verify.frames import Size, box_in_first, cut_to, frames_of, inverse
from neardup.verify.tones import MOSTLY, PARTLY
from neardup.words import counted

WHOLE = 0.95
"""Share of a frame, 0 to 1, from which the other photo counts as showing all of it: borders and misfit take some."""
NEARLY_WHOLE = 0.85
"""Share of a frame, 0 to 1, that the other photo must show for the frame to be called a crop of it.

Paper or mount around a cut-out, which the other photo cannot show, takes more than the few per cent of `WHOLE`.
"""
TURNED = 1.5
"""Degrees from which a photo is called rotated: reproductions lie up to a degree askew, which nobody calls rotated."""
HALF_TURN = 180
"""Degrees of half a turn, which is the same clockwise and anticlockwise, so that no sentence names a direction."""
SQUEEZED = 0.94
"""Lesser singular value of a transform as a share of the greater below which a photo is called squeezed.

Copies that nobody squeezed have 0.97 and more.
"""
UPRIGHT = 0.9
"""Cosine of a rotation from which the width of one photo is that of the other one: up to 26 degrees, or half a turn."""
ASKEW = 0.02
"""Greatest difference of a squeeze and of the ratio of both sides' scales at which it runs along a side."""
NEGATIVE = -0.1
"""Tone slope (grey levels of one photo per grey level of the other) below which a pair is a negative, if tones fit.

Tones fit from a correlation of `FITS`. A slope between this limit and 0 is that of a picture without contrast, whose
sign says nothing.
"""
FITS = 0.6
"""Correlation of matched tones, -1 to 1, from which the sign of the tone slope is trusted, as it is with `MOSTLY`."""
SMALL = 0.5
"""Share of a frame, 0 to 1, up to which a crop may be one of several pictures in a montage or on a page.

Half a frame is one picture of two; a detail of a single picture may be as small, so that montage remains a hint.
"""
MOSTLY_PLAIN = 0.75
"""Share of a crop's surroundings, 0 to 1, that must have one tone to be called plain: a caption may take the rest."""
THIRD = 1 / 3
"""Share of a crop's room to move that left, middle and right take each, as do upper, middle and lower."""
LABEL = 2
"""Letters up to which a name is a label, such as A, which a sentence may repeat; a longer name is written once."""
LEAST_ROOM = 0.02
"""Share of a frame's side that must remain beside a crop; with less, the crop fills the side and lies in its middle."""

Which = Literal["", "first", "second", "both"]
"""The photo of a pair of which something is true; the empty text for neither."""
FIRST: Which = "first"
"""The first photo of a pair, the one of the lesser SHA-256."""
SECOND: Which = "second"
"""The second photo of a pair."""


class Kind(StrEnum):
    """How the frames of two photos lie to each other, or why that is not known; the values are the words in tables.

    `SAME_FRAME`: each shows nearly all of the other. `CROP`: one shows all of the other and more. `OVERLAP`: each shows
    a part of the other. `NO_MATCH`: no part of one fits a part of the other. `CANNOT_TELL`: nothing matches, but a
    photo has too few keypoints for that to mean anything.
    """

    SAME_FRAME = "same frame"
    CROP = "crop"
    OVERLAP = "overlapping crops"
    NO_MATCH = "no match"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Relation:
    """What kind of copy a pair is: facts for machines, and a sentence for people.

    Attributes:
        kind: how the frames lie.
        crop: the photo that is a crop of the other one.
        share: share of the other photo that a crop shows; without a crop, share of the first photo in the second; 0 to
            1.
        other_share: share of the second photo that the first shows, where they overlap; else 0.
        place: where a crop lies in the other photo, as "upper left", "centre" or "right"; empty without a crop.
        place_box: the crop's box in pixels of the other photo; None without a crop.
        mirrored: whether left and right are exchanged.
        rotation: whole degrees clockwise by which the second photo is turned after mirroring; 0 below `TURNED`, and
            where errors of the points may feign it.
        squeeze: ratio of the two axes, 0 to 1; 1 where the photo is not squeezed, where errors of the points may feign
            it, and where the photo is only seen from the side.
        narrower: of a squeezed pair, the photo that at equal height is less wide; empty where it is squeezed askew, or
            one photo lies on its side. Which of both was squeezed nobody knows.
        seen_from_side: whether one photo shows the other as one that lies askew before the camera.
        screened: which photo shows a printing screen.
        negative: whether one photo is a negative of the other.
        partly_reversed: whether a part of the structure has its tones reversed and a part has not, as if solarised.
        other_exposure: whether the tones fit so badly that it may be another exposure of the scene: a hint.
        doubtful: whether the match may be a likeness only, as `Evidence` has it: a hint.
        plain: whether what surrounds a crop in the other photo is plain: a margin, a mount or empty ground.
        montage: the photo that may be a montage or page of which the other is a part: a hint, because a narrow crop of
            a single picture has the same numbers.
        framed: the photo in which a mount, a text or another picture takes the place of what the other photo shows
            there; it is left out of the shares and the places.
        retouched: boxes in the first photo where the second one seems to differ: a hint; none where the match is
            doubtful, for two different pictures differ everywhere.
        points: matched points that agree.
        poor: which photo has too few keypoints, where geometry cannot tell.
    """

    kind: Kind
    crop: Which = ""
    share: float = 0.0
    other_share: float = 0.0
    place: str = ""
    place_box: Box | None = None
    mirrored: bool = False
    rotation: int = 0
    squeeze: float = 1.0
    narrower: Which = ""
    seen_from_side: bool = False
    screened: Which = ""
    negative: bool = False
    partly_reversed: bool = False
    other_exposure: bool = False
    doubtful: bool = False
    plain: bool = False
    montage: Which = ""
    framed: Which = ""
    retouched: tuple[Box, ...] = ()
    points: int = 0
    poor: Which = ""

    @property
    def words(self) -> str:
        """The relation as a table's cell shows it: the kind of frames, and what else no reader should miss.

        >>> Relation(Kind.SAME_FRAME, mirrored=True).words
        'same frame, mirrored'
        """
        if self.doubtful:
            return "doubtful"
        return ", ".join(
            [str(self.kind), *(["mirrored"] if self.mirrored else []), *(["negative"] if self.negative else [])]
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Every word that holds, in a fixed order, for tables and filters; for a doubtful match only that word."""
        if self.doubtful:
            return ("doubtful",)
        words = {
            str(self.kind): True,
            "mirrored": self.mirrored,
            "rotated": self.rotation != 0,
            "squeezed": self.squeeze < 1,
            "seen from the side": self.seen_from_side,
            "screened": bool(self.screened),
            "negative": self.negative,
            "tones partly reversed": self.partly_reversed,
            "retouched": bool(self.retouched),
            "tones fit badly": self.other_exposure,
            "plain around": self.plain,
            "small part": bool(self.montage),
            "framed": bool(self.framed),
        }
        return tuple(word for word, holds in words.items() if holds)

    def sentence(self, first: str = "A", second: str = "B") -> str:
        """The relation as one English sentence, in which a long name stands once.

        Args:
            first: name of the first photo.
            second: name of the second photo.

        >>> relation = Relation(Kind.CROP, crop="second", share=0.62, place="left", screened="first", points=143)
        >>> relation.sentence()
        'B is a crop of A (62 %, left), A screened; 143 points agree.'
        >>> relation.sentence("matin_P20.jpg", "excelsior_P4.jpg")
        'excelsior_P4.jpg is a crop of matin_P20.jpg (62 %, left), the second screened; 143 points agree.'
        """
        if self.kind is Kind.CANNOT_TELL:
            poor = {"first": f"{first} has", "second": f"{second} has"}.get(self.poor, f"{first} and {second} have")
            return f"Cannot tell: {poor} too little structure to compare."
        if self.kind is Kind.NO_MATCH:
            return f"No match: nothing of {first} was found in {second}."
        if self.doubtful:
            points = counted(self.points, "point agrees", "points agree")
            return f"Doubtful: {first} and {second} may only look alike, for tones fit badly and no more than {points}."
        subject, other = (first, second) if self.crop == "first" else (second, first)
        frames = self._frames(subject, other)
        subject, other = self._again(subject, other)
        first, second = (subject, other) if self.crop == "first" else (other, subject)
        parts = [", ".join([frames, *self._changes(subject, other)])]
        if self.plain:
            parts.append(f"the rest of {other} is plain, as a margin, a mount or a sky is")
        if self.montage:
            parts.append("a detail, or one picture of a montage or a page")
        if self.framed:
            framed = {"first": f"the picture in {first}", "second": f"the picture in {second}", "both": "both pictures"}
            parts.append(f"what is around {framed[self.framed]} (mount, text, other pictures) is left out")
        if self.other_exposure:
            parts.append("tones fit badly: a large retouch, a poor print or another exposure of the same scene")
        if self.retouched:
            parts.append(counted(len(self.retouched), "place seems to differ", "places seem to differ"))
        parts.append(counted(self.points, "point agrees", "points agree"))
        return "; ".join(parts) + "."

    def _again(self, subject: str, other: str) -> tuple[str, str]:
        """Words for the sentence's subject and for the other photo once both have been named."""
        if max(len(subject), len(other)) <= LABEL:
            return subject, other
        first, second = "the first", "the second"
        return (second, first) if self.kind is Kind.OVERLAP else (first, second)

    def _frames(self, subject: str, other: str) -> str:
        """Begin the sentence: how the frames lie, and whether one is mirrored."""
        mirrored = "mirrored " if self.mirrored else ""
        if self.kind is Kind.CROP:
            return f"{subject} is a {mirrored}crop of {other} ({_percent(self.share)}, {self.place})"
        if self.kind is Kind.OVERLAP:
            nearly = min(self.share, self.other_share) >= NEARLY_WHOLE
            crops = f"{other} and {subject} " + (
                "have nearly the same frame" if nearly else "are overlapping crops of one picture"
            )
            subject, other = self._again(subject, other)
            return f"{crops} ({subject} shows {_percent(self.share)} of {other})" + (", mirrored" if mirrored else "")
        return (
            f"{subject} is {other} mirrored, in the same frame"
            if mirrored
            else f"{subject} has the same frame as {other}"
        )

    def _changes(self, subject: str, other: str) -> list[str]:
        """What was done to the sentence's subject beside the cut, and what sets the other photo apart."""
        changes = []
        if self.rotation:
            # Mirror and turn together are their own inverse; a turn alone is undone by the opposite turn.
            turned_back = self.crop == "first" and not self.mirrored
            degrees = -self.rotation if turned_back else self.rotation
            direction = "" if abs(degrees) == HALF_TURN else " clockwise" if degrees > 0 else " anticlockwise"
            changes.append(f"rotated by {abs(degrees)}°{direction}")
        if self.squeeze < 1:
            narrower = subject if (self.narrower == "first") == (self.crop == "first") else other
            percent = _percent(self.squeeze)
            changes.append(
                f"one squeezed (at equal height {narrower} is {percent} as wide)"
                if self.narrower
                else f"one squeezed to {percent} against the other"
            )
        if self.seen_from_side:
            changes.append("one seen from the side")
        if self.negative:
            changes.append("one a negative of the other")
        if self.partly_reversed:
            changes.append("tones partly reversed, as in a solarised print")
        if self.screened == "both":
            changes.append("both screened")
        elif self.screened:
            is_subject = (self.screened == "first") == (self.crop == "first")
            changes.append("screened" if is_subject else f"{other} screened")
        return changes


def relation_of(evidence: Evidence) -> Relation:
    """Read the relation of a pair from its evidence.

    Where each photo shows nearly all of the other they have the same frame; where one shows all of the other only, the
    other is its crop; else they overlap. A negative needs tones that fit, or structure of which nearly all is reversed.
    Another exposure and a montage are hints: tones that fit badly may also be a bad print, and a small crop that lies
    whole in another photo may be a detail of a single picture; what surrounds it would have to be known to be a picture
    of its own, and numbers do not say that.
    """
    if evidence.transform is None:
        if not evidence.cannot_tell:
            return Relation(Kind.NO_MATCH)
        few = [count < LEAST_KEYPOINTS for count in (evidence.keypoints_first, evidence.keypoints_second)]
        return Relation(Kind.CANNOT_TELL, poor=_photos_where(first=few[0], second=few[1]))
    by_chance = evidence.squeeze_by_chance
    rotation = round(evidence.rotation) if abs(evidence.rotation) >= max(TURNED, math.degrees(by_chance / 2)) else 0
    is_squeezed = evidence.squeeze < min(SQUEEZED, 1 - by_chance) and not evidence.in_perspective
    is_partly_reversed = PARTLY < evidence.reversed_share < MOSTLY
    fits = evidence.correlation >= FITS or evidence.reversed_share >= MOSTLY
    frames = _frames_relation(evidence)
    return replace(
        frames,
        mirrored=evidence.mirrored,
        rotation=HALF_TURN if rotation == -HALF_TURN else rotation,
        squeeze=evidence.squeeze if is_squeezed else 1.0,
        narrower=_narrower(evidence) if is_squeezed else "",
        seen_from_side=evidence.in_perspective,
        screened=_photos_where(first=evidence.screen_first > 0, second=evidence.screen_second > 0),
        negative=evidence.tone_slope < NEGATIVE and fits and not is_partly_reversed,
        partly_reversed=is_partly_reversed,
        other_exposure=evidence.fits_badly,
        doubtful=evidence.doubtful,
        retouched=() if evidence.doubtful else evidence.differences,
        points=evidence.points,
    )


def place_of(box: Box, size: Size) -> str:
    """Name where a box lies in a frame, by thirds of its room to move: "upper left", "centre", "right".

    A crop of nine tenths at the frame's left edge lies on the left, though its middle is near the frame's.
    """
    left, top, width, height = box
    x = left / (size[0] - width) if size[0] - width > size[0] * LEAST_ROOM else 0.5
    y = top / (size[1] - height) if size[1] - height > size[1] * LEAST_ROOM else 0.5
    column = "left" if x < THIRD else "right" if x > 1 - THIRD else ""
    row = "upper" if y < THIRD else "lower" if y > 1 - THIRD else ""
    if not column:
        return {"upper": "top", "lower": "bottom", "": "centre"}[row]
    return f"{row} {column}".strip()


def _frames_relation(evidence: Evidence) -> Relation:
    """Read how the frames of a matched pair lie and, for a crop, its share and place."""
    transform, boxes = evidence.transform, evidence.pictures
    assert transform is not None  # noqa: S101 - a matched pair has one
    framed = _photos_where(first=evidence.picture_first is not None, second=evidence.picture_second is not None)
    transform = cut_to(transform, *boxes)
    first_size, second_size = ((round(box[2]), round(box[3])) for box in boxes)
    # For a photo seen from the side, an affine transform puts the edges some per cent off.
    own = evidence.in_perspective or framed
    coverage = frames_of(transform, first_size, second_size) if own else evidence
    first, second = coverage.coverage_first, coverage.coverage_second
    if min(first, second) >= WHOLE:
        return Relation(Kind.SAME_FRAME, share=first, framed=framed)
    greater = max(first, second)
    if greater < NEARLY_WHOLE or greater - min(first, second) < 1 - WHOLE:
        return Relation(Kind.OVERLAP, share=first, other_share=second, framed=framed)
    if second > first:
        crop, uncropped, share, size = SECOND, FIRST, first, first_size
        place_box = box_in_first(transform, first_size, second_size)
    else:
        crop, uncropped, share, size = FIRST, SECOND, second, second_size
        place_box = box_in_first(inverse(transform), second_size, first_size)
    plain = evidence.plain_first if crop == SECOND else evidence.plain_second
    # Beyond the picture in a framed crop, the other photo goes on: those surroundings are no margin and no other
    # picture.
    ends_with_it = framed not in {crop, "both"}
    return Relation(
        Kind.CROP,
        crop=crop,
        share=share,
        place=place_of(place_box, size) if place_box else "",
        place_box=_moved(place_box, boxes[0] if crop == SECOND else boxes[1]) if place_box else None,
        framed=framed,
        plain=plain >= MOSTLY_PLAIN and ends_with_it,
        montage=uncropped if share <= SMALL and plain < MOSTLY_PLAIN and ends_with_it else "",
    )


def _narrower(evidence: Evidence) -> Which:
    """The photo of a squeezed pair that at equal height is less wide; empty where the squeeze runs along no side."""
    assert evidence.transform is not None  # noqa: S101 - a matched pair has one
    across, down = (math.hypot(evidence.transform[axis], evidence.transform[axis + 3]) for axis in (0, 1))
    lies_on_side = abs(math.cos(math.radians(evidence.rotation))) < UPRIGHT
    if lies_on_side or not across or not down or abs(min(across / down, down / across) - evidence.squeeze) > ASKEW:
        return ""
    return SECOND if across < down else FIRST


def _moved(box: Box, within: Box) -> Box:
    """Turn a box in pixels of a part of a photo into one in pixels of the photo."""
    return box[0] + within[0], box[1] + within[1], box[2], box[3]


def _photos_where(*, first: bool, second: bool) -> Which:
    """Name the photo of a pair, or both, of which something is true."""
    if first and second:
        return "both"
    return "first" if first else "second" if second else ""


def _percent(share: float) -> str:
    """Write a share as a percentage, never as 0 or 100 % unless it is exactly that.

    >>> _percent(0.998)
    '99 %'
    """
    percent = round(share * 100)
    if 0 < share < 1:
        percent = min(99, max(1, percent))
    return f"{percent} %"
