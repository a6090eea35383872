"""Which photo stands for a group: the one that shows most of the picture, alone, upright and unscreened."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from neardup.arrays import Bools, Floats, Ints
from neardup.verify.evidence import Box, Evidence
from neardup.verify.relation import FIRST, LEAST_ROOM, NEARLY_WHOLE, SECOND, WHOLE, Kind, Relation, relation_of

LIKE_SIZE = 0.5
"""Least pixels of a photo, as a share of those of a screened, mirrored or turned one, to become the reference instead.

The paper around a print, and the resolution that its dots need, make it larger than a photograph that shows as much.
"""
ON_A_PAGE = 0.25
"""Greatest share of a photo, 0 to 1, that is one picture on a page where two photos show just this part of it.

A detail that was printed twice is seldom so small, a picture on a newspaper's page seldom larger.
"""
ONE_PLACE = 0.5
"""Least share of the larger of two boxes, 0 to 1, that both have in common for them to be one place on a page."""
QUARTER = 90
"""Degrees of a quarter turn, by which photos that lie on their side differ from upright ones."""
Orientation = tuple[bool, int, bool]
"""How a photo differs from another one of its group: mirrored, then turned by quarters clockwise (0 to 3); negative."""


@dataclass(frozen=True)
class LinkedPairs:
    """The pairs that count as links, with their probabilities and coverage.

    Attributes:
        left: int64 (m,), row of each pair's one photo.
        right: int64 (m,), row of its other photo; each unordered pair once.
        probabilities: float64 (m,).
        coverage_left: float64 (m,), share of the left photo that the right one shows, 0 to 1; 0 where not known.
        coverage_right: float64 (m,), share of the right photo that the left one shows, 0 to 1; 0 where not known.
        looks: what each pair's evidence says of how its photos look; None where there is no evidence, or nothing that
            is certain.
    """

    left: Ints
    right: Ints
    probabilities: Floats
    coverage_left: Floats
    coverage_right: Floats
    looks: "Sequence[Looks | None]" = ()

    def take(self, chosen: Ints) -> "LinkedPairs":
        """Select pairs by their indices."""
        left, right, probabilities = self.left[chosen], self.right[chosen], self.probabilities[chosen]
        looks = [self.looks[place] for place in chosen.tolist()] if self.looks else ()
        return LinkedPairs(left, right, probabilities, self.coverage_left[chosen], self.coverage_right[chosen], looks)

    def cropped(self, surrounded: Container[int] = frozenset()) -> set[int]:
        """Find the photos that are crops of another one, by the limits of `verify.relation`.

        Args:
            surrounded: rows of photos that show more than the picture, of which a photo is no crop.
        """
        shown_more = self.coverage_left - self.coverage_right
        nearly: Bools = self.coverage_left.clip(self.coverage_right) >= NEARLY_WHOLE
        crops = (
            (self.left, self.right, nearly & (shown_more >= 1 - WHOLE)),
            (self.right, self.left, nearly & (-shown_more >= 1 - WHOLE)),
        )
        pairs = (zip(crop[rows].tolist(), whole[rows].tolist(), strict=True) for crop, whole, rows in crops)
        return {crop for each in pairs for crop, whole in each if whole not in surrounded}

    def showing(self, photo: int) -> list[int]:
        """Find the photos that show nearly all of a photo."""
        by_right = (self.left == photo) & (self.coverage_left >= NEARLY_WHOLE)
        by_left = (self.right == photo) & (self.coverage_right >= NEARLY_WHOLE)
        return [*self.right[by_right].tolist(), *self.left[by_left].tolist()]


@dataclass(frozen=True)
class Looks:
    """What the evidence of a link says of how its two photos look, each of them given by its row.

    Attributes:
        first: row of the photo that the evidence names first.
        second: row of the other photo.
        turn: how the second photo differs from the first.
        mounted: row of the photo in which a margin, a mount or a text surrounds what the other photo shows; None where
            nothing does.
        whole: row of the photo of which the other one is a crop; None where neither is.
        share: share of the whole photo that the crop shows, 0 to 1.
        place: the crop's box in pixels of the whole photo.
    """

    first: int
    second: int
    turn: Orientation
    mounted: int | None = None
    whole: int | None = None
    share: float = 1.0
    place: Box = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def of(cls, evidence: Evidence | None, first: int, second: int) -> "Looks | None":
        """Read a link's evidence; None where there is none, where nothing matches, and where the match is doubtful.

        Args:
            evidence: evidence of the pair.
            first: row of the photo that it names first.
            second: row of the other photo.
        """
        if evidence is None or not evidence.matched or evidence.doubtful:
            return None
        relation = relation_of(evidence)
        turn = relation.mirrored, round(relation.rotation / QUARTER) % 4, relation.negative
        row_of = {FIRST: first, SECOND: second}
        whole = row_of[FIRST if relation.crop == SECOND else SECOND] if relation.kind is Kind.CROP else None
        mounted = row_of.get(relation.framed)
        sizes = {first: (evidence.width_first, evidence.height_first)}
        sizes |= {second: (evidence.width_second, evidence.height_second)}
        if mounted is None and whole is not None and relation.plain and _has_margins(relation, sizes[whole]):
            mounted = whole
        if relation.place_box is None:
            return cls(first, second, turn, mounted, whole)
        return cls(first, second, turn, mounted, whole, relation.share, relation.place_box)

    def other(self, photo: int) -> int:
        """The photo of the link that is not `photo`."""
        return self.first + self.second - photo

    def orientation(self, photo: int, of_other: Orientation) -> Orientation:
        """Compute how a photo of the link lies from how the other one does: turns are added, mirrors reverse them."""
        mirrored, quarters, negative = self.turn
        if photo == self.first and not mirrored:  # a mirror with a turn is its own inverse, a turn alone is not
            quarters = -quarters
        turned = quarters + (-of_other[1] if mirrored else of_other[1])
        return mirrored != of_other[0], turned % 4, negative != of_other[2]


def _has_margins(relation: Relation, size: tuple[int, int]) -> bool:
    """Whether a crop's plain surroundings lie on opposite sides of it, as a margin does and a sky does not."""
    assert relation.place_box  # noqa: S101 - only crops have plain surroundings
    left, top, width, height = relation.place_box
    sides = ((left, width, size[0]), (top, height, size[1]))
    return any(min(start, whole - start - length) > LEAST_ROOM * whole for start, length, whole in sides)


def reference_of(photos: Sequence[int], links: LinkedPairs, pixels: Ints, screened: Container[int]) -> int:
    """Choose the photo that stands for a group, by its row.

    It is the one with most pixels, ties by row, of the photos that have no mount, margin or page around the picture and
    are no crops of another such photo. If it is mirrored, turned or a negative against most of the group, or screened,
    the largest photo of like size that is not, and shows nearly all of it, stands for the group instead.

    Args:
        photos: rows of the group's photos, exact copies left out.
        links: the links among the group's photos.
        pixels: int64 (n,), width times height of each photo.
        screened: rows of the photos that show a printing screen.
    """
    by_strength = sorted(
        zip(links.probabilities.tolist(), links.left.tolist(), links.right.tolist(), links.looks, strict=True)
        if links.looks
        else (),
        key=lambda link: (-link[0], min(link[1:3]), max(link[1:3])),
    )
    looks = [one for *_, one in by_strength if one]
    surrounded = _surrounded(looks)
    cropped, usual = links.cropped(surrounded), _lying_as_most(photos, looks)
    reference = min(photos, key=lambda photo: (photo in surrounded, photo in cropped, -int(pixels[photo]), photo))
    others = [
        photo
        for photo in links.showing(reference)
        if photo not in surrounded and pixels[photo] >= LIKE_SIZE * pixels[reference]
    ]
    return min(
        [reference, *others],
        key=lambda photo: (photo not in usual, photo in screened, photo != reference, -int(pixels[photo]), photo),
    )


def _surrounded(looks: Iterable[Looks]) -> set[int]:
    """Find the photos that show more than the picture: a mount or a margin around it, or a page.

    That a photo has a margin is said by photos that lack it, and denied by those that show as much as it does; a crop
    that is narrower than the picture says nothing. A page is a photo of which two others show one small part.
    """
    votes, places = Counter[int](), defaultdict[int, list[Box]](list)
    for one in looks:
        for photo in (one.first, one.second):
            votes[photo] += 1 if photo == one.mounted else 0 if photo == one.whole else -1
        if one.whole is not None and one.share <= ON_A_PAGE:
            places[one.whole].append(one.place)
    framed = {photo for photo, balance in votes.items() if balance > 0}
    pages = {photo for photo, boxes in places.items() if any(_one_place(*two) for two in combinations(boxes, 2))}
    return framed | pages


def _one_place(one: Box, other: Box) -> bool:
    """Whether two boxes have most of the larger one in common."""
    width, height = (
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)
    )
    return max(0.0, width) * max(0.0, height) >= ONE_PLACE * max(one[2] * one[3], other[2] * other[3])


def _lying_as_most(photos: Sequence[int], looks: Sequence[Looks]) -> set[int]:
    """Find the photos that lie as most of a group do; of equally many, all that lie as these do.

    How a photo lies follows from the first one of its group along the strongest links; where links do not connect two
    photos, they are not compared, and the part of most photos counts.

    Args:
        photos: rows of the group's photos.
        looks: what its links say, the strongest first.
    """
    neighbours = defaultdict[int, list[Looks]](list)
    for one in looks:
        neighbours[one.first].append(one)
        neighbours[one.second].append(one)
    alike = defaultdict[tuple[int, Orientation], set[int]](set)
    lying: dict[int, Orientation] = {}
    for start in sorted(photos):
        waiting = [] if start in lying else [start]
        lying.setdefault(start, (False, 0, False))
        for photo in waiting:
            alike[start, lying[photo]].add(photo)
            for one in neighbours[photo]:
                if (other := one.other(photo)) not in lying:
                    lying[other] = one.orientation(other, lying[photo])
                    waiting.append(other)
    most = max(map(len, alike.values()))
    return {photo for alike_photos in alike.values() if len(alike_photos) == most for photo in alike_photos}
