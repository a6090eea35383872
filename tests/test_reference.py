"""The photo that stands for a group: without margin or page around it, upright, and the rest of the group agrees."""

from itertools import permutations

import numpy as np
import pytest

from neardup.decide.groups import DecidedPairs, explain_groups
from neardup.decide.reference import Looks
from neardup.verify.evidence import Evidence, Transform

NAMES = "abcdef"
"""SHA-256 of the photos of a test, in the order of their rows."""
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of a group's widest photo."""
ALL: Box = (0, 0, 400, 300)
TURNS = {0: np.eye(2), 90: np.array([[0, -1], [1, 0]]), 180: -np.eye(2), 270: np.array([[0, 1], [-1, 0]])}
"""Degrees clockwise → the matrix that turns by as many."""


class Print:
    """A photo of a test: which part of the widest one it shows, and how it lies.

    Attributes:
        box: that part.
        to_own: float64 (3, 3), from pixels of the widest photo to its own.
        size: its width and height.
        negative: whether its tones are reversed.
    """

    def __init__(self, box: Box, turned: int = 0, *, mirrored: bool = False, negative: bool = False) -> None:
        """Place the print; it is mirrored, then turned clockwise."""
        self.box, self.negative = box, negative
        linear = TURNS[turned] @ np.diag([-1.0 if mirrored else 1.0, 1.0])
        corners = np.array([[0, 0], box[2:]]) @ linear.T
        size = np.abs(corners[1] - corners[0])
        self.size = int(size[0]), int(size[1])
        self.to_own = np.eye(3)
        self.to_own[:2, :2] = linear
        self.to_own[:2, 2] = -corners.min(axis=0) - linear @ box[:2]


def overlap(one: Box, other: Box) -> int:
    """The pixels that two boxes have in common."""
    sides = (min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    width, height = (max(0, side) for side in sides)
    return width * height


def compared(names: str, first: Print, second: Print, *, plain: bool) -> Evidence:
    """What verification measures of two prints; `plain` says whether the rest of either, if any, has one tone."""
    matrix = second.to_own @ np.linalg.inv(first.to_own)
    a, b, c, d, e, f, g, h, i = matrix.ravel().tolist()
    transform: Transform = a, b, c, d, e, f, g, h, i
    mirrored = bool(np.linalg.det(matrix) < 0)
    turn = matrix[:2, :2] @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    shared, rest = overlap(first.box, second.box), 1.0 if plain else 0.1
    return Evidence(
        *names,
        *first.size,
        *second.size,
        *(90, 90, 60, 50),
        transform=transform,
        mirrored=mirrored,
        rotation=float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))),
        squeeze=1.0,
        correlation=1.0,
        tone_slope=-1.0 if first.negative != second.negative else 1.0,
        coverage_first=shared / (first.box[2] * first.box[3]),
        coverage_second=shared / (second.box[2] * second.box[3]),
        plain_first=rest,
        plain_second=rest,
    )


def reference(prints: list[Print], pairs: list[tuple[int, int]], *, plain: bool = False) -> int:
    """The place of the print that stands for a group of all of them, linked by some pairs, whatever their order is."""
    chosen = set()
    for order in permutations(range(len(prints))):
        row_of = {number: row for row, number in enumerate(order)}
        ends = np.array([[row_of[left], row_of[right]] for left, right in pairs])
        evidence = []
        for pair in pairs:
            left, right = sorted(pair, key=row_of.__getitem__)
            names = NAMES[row_of[left]] + NAMES[row_of[right]]
            evidence.append(compared(names, prints[left], prints[right], plain=plain))
        chances = np.full(len(pairs), 0.99)
        linked = DecidedPairs(ends[:, 0], ends[:, 1], chances, evidence, dict(enumerate(NAMES)))
        none, groups = np.zeros(len(pairs), dtype=bool), np.zeros(len(prints), dtype=np.int64)
        chosen.add(order[explain_groups(groups, linked, none)[0].reference])
    (place,) = chosen
    return place


STAR = [(0, 1), (0, 2), (1, 2)]
"""All pairs of three prints."""


def test_a_print_with_a_margin_stands_for_nobody() -> None:
    """Plain paper on opposite sides of what another photo shows is no part of the picture."""
    assert reference([Print(ALL), Print((30, 20, 340, 240))], [(0, 1)], plain=True) == 1


def test_a_sky_is_a_part_of_the_picture() -> None:
    """Plain ground on one side of a crop is no margin; nor is what another photo shows as well."""
    assert reference([Print(ALL), Print((0, 100, 400, 200))], [(0, 1)], plain=True) == 0
    studio = [Print(ALL), Print((0, 0, 400, 299)), Print((60, 40, 280, 220))]
    assert reference(studio, STAR, plain=True) == 0


def test_a_page_stands_for_no_picture_on_it() -> None:
    """Two photos show one small part of it; of an original two show different details, or one shows a detail."""
    picture: Box = (40, 50, 150, 120)
    assert reference([Print(ALL), Print(picture), Print((44, 52, 140, 114))], STAR) == 1
    assert reference([Print(ALL), Print(picture), Print((220, 60, 160, 120))], STAR[:2]) == 0
    assert reference([Print(ALL), Print(picture)], [(0, 1)]) == 0


@pytest.mark.parametrize(
    "odd", [Print(ALL, mirrored=True), Print(ALL, 90), Print(ALL, 180), Print(ALL, negative=True), Print(ALL, 270)]
)
def test_a_photo_lies_as_most_of_its_group_do(odd: Print) -> None:
    """Though the one that is mirrored, turned or a negative shows more, and the others are linked only to it."""
    prints = [odd, Print((0, 0, 380, 290)), Print((0, 0, 370, 285))]
    assert reference(prints, STAR) == reference(prints, STAR[:2]) == 1


def test_of_two_photos_nobody_knows_which_is_mirrored() -> None:
    """The larger one stands for both; a mirrored photo that alone shows the whole picture does so, too."""
    assert reference([Print(ALL, mirrored=True), Print((0, 0, 398, 298))], [(0, 1)]) == 0
    half = (0, 0, 200, 300)
    assert reference([Print(ALL, mirrored=True), Print(half), Print((0, 0, 196, 298))], STAR) == 0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", list(TURNS))
def test_turns_add_up_along_links(turned: int, mirrored: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """How a photo lies by way of another one is how it lies directly, in either direction of each link."""
    first, second, third = Print(ALL), Print(ALL, turned, mirrored=mirrored), Print(ALL, 90, mirrored=True)
    one, other, direct = (
        Looks.of(compared(names, *two, plain=False), *rows)
        for names, two, rows in (
            ("ab", (first, second), (0, 1)),
            ("bc", (second, third), (1, 2)),
            ("ac", (first, third), (0, 2)),
        )
    )
    assert one
    assert other
    assert direct
    start = (True, 3, True)
    assert other.orientation(2, one.orientation(1, start)) == direct.orientation(2, start)
    assert one.orientation(0, one.orientation(1, start)) == start
