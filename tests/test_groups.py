"""Groups from decided pairs and their geometry: triangles, photos side by side, verdicts, and the report of each."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.arrays import Floats
from neardup.decide.constraints import Constraints, PairVerdicts
from neardup.decide.geometry import (
    LINKED,
    MOST_PATHS,
    SLOPPY,
    Placements,
    disjoint_pairs,
    lowered_by_triangles,
    transform_of,
)
from neardup.decide.group_report import COLUMNS, GroupReport, group_reports
from neardup.decide.groups import DecidedPairs, explain_groups, group_pairs, members_of
from neardup.decide.reference import LinkedPairs
from neardup.detect.verified_pairs import VerifiedPairs, _firmness, groups_of
from neardup.errors import ConfigError
from neardup.search.pairs import NearPairs
from neardup.verify.evidence import Evidence
from neardup.verify.verifier import Verifier

SIZE = (400, 300)
"""Width and height of a whole photo."""
Place = tuple[int, int, int, int]
"""Left, top, width and height of a photo as a part of the scene."""
SCENE: Place = (0, 0, *SIZE)
LEFT: Place = (0, 0, 180, 300)
RIGHT: Place = (220, 0, 180, 300)


def shift(x: float, y: float = 0.0) -> Floats:
    """The transform that moves every point."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def placed(places: list[Place], chances: dict[tuple[int, int], float], wrong: tuple[int, int] = (-1, -1)) -> Placements:
    """How parts of one scene lie in one another, by their listed pairs; the transform of one pair may be wrong."""
    ends = np.array(list(chances), dtype=np.int64).reshape(-1, 2)
    transforms = [
        shift(places[i][0] - places[j][0] + 150 * ((i, j) == wrong), places[i][1] - places[j][1]) for i, j in chances
    ]
    sizes = np.array([place[2:] for place in places], dtype=np.float64)
    matrices = np.array(transforms).reshape(-1, 3, 3)
    return Placements(ends[:, 0], ends[:, 1], np.array(list(chances.values())), matrices, sizes)


def turned(placements: Placements, chosen: list[bool]) -> Placements:
    """The same pairs, some of them from their other photo."""
    left, right = (
        np.where(chosen, *ends) for ends in ((placements.right, placements.left), (placements.left, placements.right))
    )
    matrices = np.where(np.array(chosen)[:, None, None], np.linalg.inv(placements.transforms), placements.transforms)
    return replace(placements, left=left, right=right, transforms=matrices)


TRIANGLE = {(0, 1): 0.9, (0, 2): 0.99, (1, 2): 0.99}


def test_a_triangle_that_agrees_leaves_its_links_as_they_are() -> None:
    """To the last bit, wherever in the scene its photos lie, and whichever of them comes first."""
    for places in permutations([SCENE, (0, 0, 240, 300), (100, 20, 300, 200)]):
        assert lowered_by_triangles(placed(list(places), TRIANGLE)).tolist() == [0.9, 0.99, 0.99]


def test_a_contradiction_is_judged_by_the_photo_that_the_ways_lead_to() -> None:
    """Fifteen pixels are nothing in a photo of 400 × 300, and much in a detail of 100 × 100."""
    for detail, lowered in (((50, 50, 100, 100), True), (SCENE, False)):
        placements = placed([SCENE, SCENE, detail], TRIANGLE)
        moved = np.concatenate([placements.transforms[:2], placements.transforms[2:] @ shift(15)])
        assert (lowered_by_triangles(replace(placements, transforms=moved))[2] < TRIANGLE[1, 2]) == lowered


def test_a_triangle_that_contradicts_lowers_its_weakest_link_most() -> None:
    """By Bayes: of three links with doubts .1, .01 and .01 one is false, or geometry was sloppy, once in fifty."""
    some = 1 - 0.9 * 0.99 * 0.99
    total = some + SLOPPY * (1 - some)
    lowered = lowered_by_triangles(placed([SCENE] * 3, TRIANGLE, wrong=(1, 2)))
    assert lowered == pytest.approx([1 - 0.1 / total, 1 - 0.01 / total, 1 - 0.01 / total])


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.permutations(range(3)))
def test_triangles_do_not_depend_on_the_order_of_pairs_or_photos(chosen: list[bool], order: list[int]) -> None:
    """Nor on which photo of a pair is its first one."""
    placements = turned(placed([SCENE] * 3, TRIANGLE, wrong=(1, 2)), chosen)
    columns = placements.left, placements.right, placements.probabilities, placements.transforms
    shuffled = Placements(*(column[order] for column in columns), placements.sizes)
    expected = lowered_by_triangles(placed([SCENE] * 3, TRIANGLE, wrong=(1, 2)))
    assert lowered_by_triangles(shuffled) == pytest.approx(expected[order])


@pytest.mark.parametrize(
    "behind", [-np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])], ids=["everything", "three quarters"]
)
def test_what_comes_to_lie_behind_the_horizon_contradicts(behind: Floats) -> None:
    """No photo shows it there, wherever its numbers lead."""
    placements = placed([SCENE] * 3, TRIANGLE)
    matrices = np.concatenate([placements.transforms[:2], behind[None]])
    assert lowered_by_triangles(replace(placements, transforms=matrices))[2] < TRIANGLE[1, 2]


def test_two_links_of_a_pair_that_is_not_listed_make_no_triangle() -> None:
    """Nothing says where the one lies in the other, so that nothing contradicts."""
    chain = {(0, 1): 0.9, (1, 2): 0.99}
    assert lowered_by_triangles(placed([SCENE] * 3, chain, wrong=(1, 2))).tolist() == list(chain.values())


def test_photos_that_share_no_place_contradict_nobody() -> None:
    """Two ends of a scene are compared nowhere, or in a corner, so that the transform between them is not judged."""
    chances = {(0, 1): 0.99, (0, 2): 0.99, (1, 2): 0.9}
    for other_end in ((300, 0, 100, 300), (92, 250, 100, 300)):
        placements = placed([SCENE, (0, 0, 100, 300), other_end], chances, wrong=(1, 2))
        assert lowered_by_triangles(placements).tolist() == list(chances.values())


def test_a_pair_without_a_transform_makes_no_triangle() -> None:
    """Neither as a side nor as the one that is judged."""
    placements = placed([SCENE] * 3, TRIANGLE, wrong=(1, 2))
    for unknown in range(3):
        matrices = placements.transforms.copy()
        matrices[unknown] = np.nan
        assert lowered_by_triangles(replace(placements, transforms=matrices)).tolist() == [0.9, 0.99, 0.99]


def test_halves_of_a_photo_are_side_by_side_and_overlapping_parts_are_not() -> None:
    """Whether the pair is listed as unlikely or not at all; a listed link is never among them."""
    halves = {(0, 1): 0.99, (0, 2): 0.99}
    assert np.stack(disjoint_pairs(placed([SCENE, LEFT, RIGHT], halves))).T.tolist() == [[1, 2]]
    listed = placed([SCENE, LEFT, RIGHT], {**halves, (1, 2): 0.01})
    assert np.stack(disjoint_pairs(listed)).T.tolist() == [[1, 2]]
    linked = placed([SCENE, LEFT, RIGHT], {**halves, (1, 2): LINKED})
    assert disjoint_pairs(linked)[0].tolist() == []
    overlapping = placed([SCENE, (0, 0, 240, 300), (160, 0, 240, 300)], halves)
    assert disjoint_pairs(overlapping)[0].tolist() == []


def test_photos_that_overlap_by_way_of_any_photo_are_not_side_by_side() -> None:
    """One original shows both parts beside each other, the other one shows that they overlap."""
    places = [SCENE, LEFT, RIGHT, SCENE]
    chances = {(0, 1): 0.99, (0, 2): 0.99, (1, 3): 0.99, (3, 2): 0.99}
    assert np.stack(disjoint_pairs(placed(places, chances))).T.tolist() == [[1, 2]]
    contrary = placed(places, chances, wrong=(3, 2))
    assert disjoint_pairs(contrary)[0].tolist() == []


def test_paths_of_a_photo_with_many_links_are_bounded() -> None:
    """A hundred parts of one photo side by side: each is told apart from those next to it in strength only."""
    places = [SCENE, *((4 * part, 0, 3, 300) for part in range(100))]
    chances = {(0, part): 0.9 + part * 1e-4 for part in range(1, 101)}
    left, right = disjoint_pairs(placed(places, chances))
    assert (right - left).max() == MOST_PATHS
    assert len(left) == sum(100 - step for step in range(1, MOST_PATHS + 1))


def test_evidence_gives_the_transform_from_the_left_photo() -> None:
    """Whichever of the two has the lesser SHA-256; none where nothing matches."""
    found = evidence("a", "b", SCENE, LEFT)
    assert np.allclose(transform_of(found, "a") @ transform_of(found, "b"), np.eye(3))
    assert np.allclose(transform_of(evidence("a", "b", SCENE, RIGHT), "a"), shift(-220))
    assert np.isnan(transform_of(None, "a")).all()
    assert np.isnan(transform_of(replace(found, transform=None), "a")).all()


def evidence(first: str, second: str, one: Place, other: Place) -> Evidence:
    """Evidence of two parts of one scene."""
    moved = tuple(shift(one[0] - other[0], one[1] - other[1]).ravel().tolist())
    width = max(0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
    shared = width * min(one[3], other[3])
    return Evidence(
        first,
        second,
        *one[2:],
        *other[2:],
        90,
        90,
        inliers=50,
        matches=60,
        transform=moved if shared else None,  # type: ignore[arg-type]
        coverage_first=shared / (one[2] * one[3]),
        coverage_second=shared / (other[2] * other[3]),
    )


def decided(places: list[Place], chances: dict[tuple[int, int], float]) -> DecidedPairs:
    """Decided pairs of parts of one scene, whose photos are called a, b, c in the order of their rows."""
    ends = np.array(list(chances), dtype=np.int64).reshape(-1, 2)
    names = dict(enumerate("abcdefgh"[: len(places)]))
    found = [evidence(names[i], names[j], places[i], places[j]) for i, j in chances]
    return DecidedPairs(ends[:, 0], ends[:, 1], np.array(list(chances.values())), found, names)


def test_disjoint_crops_of_one_original_are_one_group() -> None:
    """Though the pair of both crops is surely no likeness; were they to overlap, it would speak against them."""
    chances = {(0, 1): 0.99, (0, 2): 0.99, (1, 2): 0.0001}
    assert group_pairs(3, decided([SCENE, LEFT, RIGHT], chances))[0].tolist() == [0, 0, 0]
    overlapping = decided([SCENE, (0, 0, 240, 300), (160, 0, 240, 300)], chances)
    assert len(set(group_pairs(3, overlapping)[0].tolist())) == 2


def test_many_disjoint_crops_need_no_pair_among_themselves() -> None:
    """Pairs that are no candidates weigh against a group, but not those of crops side by side."""
    parts: list[Place] = [(57 * part, 0, 55, 300) for part in range(7)]
    chances = {(0, part): 0.52 for part in range(1, 8)}
    assert set(group_pairs(8, decided([SCENE, *parts], chances))[0].tolist()) == {0}
    unknown = replace(decided([SCENE, *parts], chances), evidence=[None] * 7)
    assert set(group_pairs(8, unknown)[0].tolist()) != {0}


def test_a_false_bridge_that_contradicts_is_given_up() -> None:
    """A triangle whose transforms do not lead back loses its weakest link, and says with which probability."""
    pairs = decided([SCENE] * 3, {(0, 1): 0.99, (0, 2): 0.8, (1, 2): 0.8})
    moved = replace(pairs.evidence[2], transform=tuple(shift(150).ravel().tolist()))  # type: ignore[type-var]
    groups, lowered = group_pairs(3, replace(pairs, evidence=[*pairs.evidence[:2], moved]))
    assert lowered[0] > 0.9
    assert lowered[1:].tolist() == pytest.approx([lowered[1]] * 2)
    assert lowered[1] < LINKED
    assert groups.tolist() == [0, 0, 1]


def verified_pairs(pairs: DecidedPairs) -> VerifiedPairs:
    """The same pairs as verification has them."""
    near = NearPairs(pairs.left, pairs.right, np.ones(len(pairs.left)))
    names = tuple(pairs.photos.values())
    bands = ("link",) * len(pairs.left)
    found = tuple(pairs.evidence)
    return VerifiedPairs(names, near, names, found, pairs.probabilities, bands, Verifier(lambda _: b""))


def test_a_report_has_the_probabilities_that_a_contradiction_lowered() -> None:
    """Not those of the decision, by which nothing seems wrong."""
    pairs = decided([SCENE] * 3, {(0, 1): 0.999, (0, 2): 0.99, (1, 2): 0.99})
    moved = replace(pairs.evidence[2], transform=tuple(shift(150).ravel().tolist()))  # type: ignore[type-var]
    pairs = replace(pairs, evidence=[*pairs.evidence[:2], moved])
    _, lowered = group_pairs(3, pairs)
    _, (report,) = groups_of(verified_pairs(pairs))
    assert {member.probability for member in report.members} <= set(lowered.tolist())
    assert max(lowered) < 0.99


def test_the_pair_that_is_drawn_is_the_weakest_that_a_group_needs() -> None:
    """Not the first one, nor the weakest of all, without which the group holds together."""
    verified = verified_pairs(decided([SCENE] * 3, {(0, 1): 0.99, (0, 2): 0.96, (1, 2): 0.98}))
    _, reports = groups_of(verified)
    assert verified._weakest(dict.fromkeys(range(3), 1), {report.group: report for report in reports}, 5) == [(1, 2)]


@pytest.mark.parametrize("keypoints", [3, 90])
def test_a_pair_without_a_match_joins_nothing(keypoints: int) -> None:
    """Two skies are alike, and so are two patterns that geometry says are not one; that a person says so joins them."""
    pairs = decided([SCENE] * 2, {(0, 1): 0.999})
    sky = replace(pairs.evidence[0], transform=None, keypoints_first=keypoints)  # type: ignore[type-var]
    untold = replace(pairs, evidence=[sky])
    groups, chances = group_pairs(2, untold)
    assert groups.tolist() == [0, 1]
    assert chances[0] < LINKED
    assert group_pairs(2, untold, Constraints(together=((0, 1),)))[0].tolist() == [0, 0]


def test_a_match_that_counts_as_none_joins_nothing() -> None:
    """Two brick walls match by chance and look alike; their transform contradicts no other either."""
    walls = decided([SCENE] * 2, {(0, 1): 0.999})
    assert group_pairs(2, replace(walls, counted=np.array([True])))[0].tolist() == [0, 0]
    groups, chances = group_pairs(2, replace(walls, counted=np.array([False])))
    assert groups.tolist() == [0, 1]
    assert chances[0] < LINKED
    pairs = decided([SCENE] * 3, {(0, 1): 0.99, (0, 2): 0.99, (1, 2): 0.6})
    moved = replace(pairs.evidence[2], transform=tuple(shift(150).ravel().tolist()))  # type: ignore[type-var]
    weak = replace(pairs, evidence=[*pairs.evidence[:2], moved], counted=np.array([True, True, False]))
    groups, chances = group_pairs(3, weak)
    assert groups.tolist() == [0, 0, 0]
    assert chances[:2].tolist() == [0.99, 0.99]


def test_a_pair_without_a_match_speaks_against_no_group() -> None:
    """A likely pair in which geometry finds nothing neither joins nor parts, where a third photo joins both."""
    pairs = decided([SCENE] * 3, {(0, 1): 0.99, (1, 2): 0.99, (0, 2): 0.95})
    unlike = replace(pairs.evidence[2], transform=None)  # type: ignore[type-var]
    groups, _ = group_pairs(3, replace(pairs, evidence=[*pairs.evidence[:2], unlike]))
    assert groups.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("keypoints", "groups"), [(3, [0, 0, 0]), (90, [0, 1, 0])])
def test_a_pair_that_geometry_cannot_tell_parts_no_group(keypoints: int, groups: list[int]) -> None:
    """A blank page that a person puts beside a photo does not keep copies of that photo away; another photo does."""
    pairs = decided([SCENE] * 3, {(0, 1): 0.99, (1, 2): 1e-4})
    unlike = replace(pairs.evidence[1], transform=None, keypoints_second=keypoints)  # type: ignore[type-var]
    found, _ = group_pairs(3, replace(pairs, evidence=[pairs.evidence[0], unlike]), Constraints(together=((0, 2),)))
    assert found.tolist() == groups


def test_a_pair_that_was_not_verified_weighs_its_probability() -> None:
    """Geometry was not asked, which is not the same as that it cannot tell."""
    unverified = replace(decided([SCENE] * 2, {(0, 1): 0.99}), evidence=[None])
    assert group_pairs(2, unverified)[0].tolist() == [0, 0]


def test_verdicts_outweigh_every_probability() -> None:
    """Must-links join what surely differs, cannot-links part what surely is the same, contradictions are refused."""
    pairs = decided([SCENE] * 3, {(0, 1): 0.9999, (0, 2): 0.0001, (1, 2): 0.0001})
    rules = Constraints(together=((0, 2),), apart=((0, 1),))
    assert group_pairs(3, pairs, rules)[0].tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="contradict each other"):
        group_pairs(3, pairs, Constraints(together=((0, 1), (1, 2)), apart=((2, 0),)))


def test_of_equal_photos_the_first_stands_for_all() -> None:
    """Verdicts name contents; the rows of one are joined by `same`, so that any of them would do, but one only."""
    judged = PairVerdicts(together=(("a", "b"),), apart=(("b", "c"), ("b", "elsewhere")))
    rules = judged.constraints(["a", "b", "a", "b", "c", "c"], same=((0, 2),))
    assert (rules.together, rules.apart) == (((0, 2), (0, 1)), ((1, 4),))


def test_a_further_copy_takes_nothing_from_the_photo_that_pairs_name() -> None:
    """Size and screen are those of the first row of a content, by which halves are seen to lie side by side."""
    pairs = decided([SCENE, LEFT, RIGHT], {(0, 1): 0.99, (0, 2): 0.99, (1, 2): 0.0001})
    dots = [replace(item, screen_first=4.0) for item in pairs.evidence]  # type: ignore[type-var]
    copied = replace(pairs, evidence=dots, photos={**pairs.photos, 3: "a"})
    assert copied.sizes(4).tolist() == [*pairs.sizes(3).tolist(), [1, 1]]
    assert copied.screened() == {0, 1}
    assert group_pairs(4, copied)[0].tolist() == [0, 0, 0, 1]


def linked(chances: dict[tuple[int, int], float], covers: dict[tuple[int, int], tuple[float, float]]) -> LinkedPairs:
    """Links with their probabilities, and how much each of a pair shows of the other, where that is not nothing."""
    ends = np.array(list(chances), dtype=np.int64).reshape(-1, 2)
    shares = np.array([covers.get(pair, (0.0, 0.0)) for pair in chances]).reshape(-1, 2)
    return LinkedPairs(ends[:, 0], ends[:, 1], np.array(list(chances.values())), shares[:, 0], shares[:, 1])


@st.composite
def link_graphs(draw: st.DrawFn) -> tuple[int, dict[tuple[int, int], float]]:
    """Photos of one group, and links between some of them with probabilities that may be equal."""
    count = draw(st.integers(2, 9))
    chances = st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9])
    return count, draw(st.dictionaries(st.sampled_from(list(combinations(range(count), 2))), chances))


def parts(count: int, pairs: list[tuple[int, int]]) -> int:
    """How many connected parts the photos have by some links."""
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return int(connected_components(graph, directed=False)[0])


def report_of(count: int, links: LinkedPairs, pixels: list[int] | None = None) -> GroupReport:
    """The report of one group of all photos."""
    sizes = np.array(pixels or [100] * count, dtype=np.int64)
    return group_reports(np.zeros(count, dtype=np.int64), links, sizes)[0]


@given(link_graphs())
def test_bridges_and_the_weakest_link_are_those_of_their_definitions(
    graph: tuple[int, dict[tuple[int, int], float]],
) -> None:
    """Without a bridge the group has more parts; asked for more than its weakest link has, it falls apart."""
    count, chances = graph
    report = report_of(count, linked(chances, {}))
    whole = parts(count, list(chances))
    expected = {pair for pair in chances if parts(count, [other for other in chances if other != pair]) > whole}
    assert {(link.left, link.right) for link in report.bridges} == expected
    assert [link.probability for link in report.bridges] == sorted(chances[pair] for pair in expected)
    holding = [p for p in chances.values() if parts(count, [pair for pair in chances if chances[pair] >= p]) == 1]
    assert (report.weakest.probability if report.weakest else None) == max(holding, default=None)
    assert report.density == pytest.approx(len(chances) / (count * (count - 1) / 2))


def test_each_member_says_why_it_is_there() -> None:
    """Its strongest link and how many it has; a photo that only a verdict holds has none. The reference comes first."""
    report = report_of(4, linked({(1, 0): 0.9, (1, 2): 0.95, (0, 2): 0.9}, {}))
    assert [(m.photo, m.because, m.probability, m.links) for m in report.members] == [
        (0, 1, 0.9, 2),
        (1, 2, 0.95, 2),
        (2, 1, 0.95, 2),
        (3, None, 0.0, 0),
    ]
    assert report.weakest is None
    assert [row[7] for row in report.rows("wxyz")] == [False] * 4
    assert len(report.rows("wxyz")[0]) == len(COLUMNS)


def test_the_reference_is_the_largest_photo_that_is_no_crop() -> None:
    """A crop that was scanned larger does not stand for the group; of equally large ones the first row does."""
    crop = linked({(0, 1): 0.9, (1, 2): 0.9}, {(0, 1): (1.0, 0.4), (1, 2): (1.0, 1.0)})
    report = report_of(3, crop, [900, 400, 400])
    assert report.reference == 1
    assert {member.photo: member.cropped for member in report.members} == {0: True, 1: False, 2: False}
    assert report_of(3, crop, [900, 400, 401]).reference == 2
    framed = linked({(0, 1): 0.9}, {(0, 1): (0.92, 0.62)})
    assert report_of(2, framed, [900, 400]).reference == 1
    misfit = linked({(0, 1): 0.9}, {(0, 1): (0.99, 0.96)})
    assert report_of(2, misfit, [900, 400]).reference == 0
    circle = linked(
        {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.9}, dict.fromkeys([(0, 1), (1, 2)], (1.0, 0.4)) | {(0, 2): (0.4, 1.0)}
    )
    assert report_of(3, circle, [1, 3, 2]).reference == 1


def test_links_across_groups_and_photos_of_none_are_no_part_of_a_report() -> None:
    """Groups come in the order of their numbers; one photo alone is not reported."""
    groups = np.array([7, 2, 7, 2, -1, -1, 3])
    links = linked({(0, 1): 0.99, (0, 2): 0.9, (3, 1): 0.8, (4, 5): 0.9}, {})
    reports = group_reports(groups, links, np.arange(7))
    assert [(report.group, report.density, report.reference) for report in reports] == [(2, 1, 3), (7, 1, 2)]


def test_groups_are_explained_by_links_and_exact_copies() -> None:
    """Copies show all of each other without evidence, and a pair below a link explains nothing."""
    pairs = decided([SCENE, LEFT, SCENE, SCENE], {(0, 1): 0.99, (0, 2): 1.0, (0, 3): 0.4})
    copied = replace(pairs, evidence=[pairs.evidence[0], None, pairs.evidence[2]])
    groups = np.array([0, 0, 0, 0])
    (report,) = explain_groups(groups, copied, np.array([False, True, False]))
    why = {member.photo: (member.because, member.cropped) for member in report.members}
    assert why == {0: (2, False), 1: (0, True), 2: (0, False), 3: (None, False)}
    assert report.reference == 0
    assert report.density == pytest.approx(2 / 6)


def test_exact_copies_make_no_group_look_fragile() -> None:
    """They are no bridges and lower no density, and what is said of their content is said of them."""
    pairs = decided(
        [SCENE, LEFT, SCENE, SCENE, LEFT], {(0, 1): 0.9, (0, 2): 0.9, (1, 2): 0.9, (0, 3): 1.0, (1, 4): 1.0}
    )
    copied = replace(pairs, evidence=[*pairs.evidence[:3], None, None])
    (report,) = explain_groups(np.zeros(5, dtype=np.int64), copied, np.array([False, False, False, True, True]))
    assert (report.density, report.bridges, report.copies) == (1, (), 2)
    assert {member.photo for member in report.members if member.cropped} == {1, 4}
    assert not any(row[COLUMNS.index("at a bridge")] for row in report.rows("abcde"))
    assert _firmness(report, 5).startswith(
        "5 photos, 2 of them exact copies; of the pairs of the others 100% are links;"
    )


def test_a_copy_of_a_photo_at_a_bridge_is_at_one() -> None:
    """As its content is; the bridge itself is that of the two contents."""
    pairs = decided([SCENE, LEFT, SCENE], {(0, 1): 0.9, (0, 2): 1.0})
    copied = replace(pairs, evidence=[pairs.evidence[0], None])
    (report,) = explain_groups(np.zeros(3, dtype=np.int64), copied, np.array([False, True]))
    assert [(link.left, link.right) for link in report.bridges] == [(0, 1)]
    assert all(row[COLUMNS.index("at a bridge")] for row in report.rows("abc"))


@pytest.mark.parametrize(("screened", "reference"), [("screen_first", 1), ("screen_second", 0)])
def test_a_screen_is_that_of_the_photo_that_shows_it(screened: str, reference: int) -> None:
    """Of two equal frames the one without a screen stands for both."""
    pairs = decided([SCENE] * 2, {(0, 1): 0.99})
    dots = replace(pairs.evidence[0], **{screened: 4.0})  # type: ignore[type-var]
    (report,) = explain_groups(np.array([0, 0]), replace(pairs, evidence=[dots]), np.array([False]))
    assert report.reference == reference


def test_shares_belong_to_the_photo_that_they_are_of() -> None:
    """Evidence begins with the lesser SHA-256, a pair with the lesser row; without evidence nothing is known."""
    found = Evidence("a", "b", 400, 300, 400, 300, 90, 90, coverage_first=0.3, coverage_second=0.9)
    rows = np.array([0, 1, 0]), np.array([1, 2, 2])
    pairs = DecidedPairs(*rows, np.full(3, 0.9), [found, found, None], {0: "b", 1: "a", 2: "b"})
    assert [shares.tolist() for shares in pairs.coverage()] == [[0.9, 0.3, 0.0], [0.3, 0.9, 0.0]]


def test_members_come_in_the_order_in_which_pairs_name_them() -> None:
    """Those that no pair names come last; a photo alone is no group."""
    pairs = NearPairs(np.array([4, 0]), np.array([2, 1]), np.array([0.9, 0.8]))
    assert members_of(np.array([0, 0, 1, 2, 1, 0]), pairs) == [[4, 2], [0, 1, 5]]


@pytest.mark.parametrize(
    ("pixels", "screened", "reference"),
    [
        ([150, 100, 90], {0}, 1),
        ([150, 100, 90], {0, 1}, 2),
        ([150, 100, 90], {0, 1, 2}, 0),
        ([150, 70, 60], {0}, 0),
        ([150, 100, 90], set[int](), 0),
    ],
)
def test_an_unscreened_photo_stands_for_a_screened_print(pixels: list[int], screened: set[int], reference: int) -> None:
    """If it is half as large and shows nearly all of it, also where the print has paper around it."""
    links = linked({(0, 1): 0.9, (0, 2): 0.9, (1, 2): 0.9}, {(0, 1): (0.9, 1.0), (0, 2): (0.9, 1.0)})
    [report] = group_reports(np.zeros(3, dtype=np.int64), links, np.array(pixels), screened)
    assert (report.reference, report.members[0].photo) == (reference, reference)


def test_an_unscreened_photo_stands_for_a_print_that_comes_after_it() -> None:
    """It shows nearly all of the print; a larger photo, nearly all of which is in the print, shows half of it."""
    links = linked({(0, 2): 0.9, (1, 2): 0.9}, {(0, 2): (1.0, 0.9), (1, 2): (0.9, 0.5)})
    [report] = group_reports(np.zeros(3, dtype=np.int64), links, np.array([100, 110, 150]), {2})
    assert report.reference == 0
