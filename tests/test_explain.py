"""The relation in words, the picture that explains, the printing screen, and the comparison of pixels."""

from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy.special import logit
from test_verify import cropped, png, scene, screened, verified

from neardup.decide.chosen_decision import SHIPPED
from neardup.decide.decision import Decision
from neardup.detect.explain import Explained, explain_files
from neardup.detect.hits import VerifiedHit, best_first, verify_hits
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.search.nearest import Hit
from neardup.stages import digest_file
from neardup.verify.certainty import median_residual, squeeze_by_chance
from neardup.verify.differences import levels_of
from neardup.verify.evidence import Box, Evidence
from neardup.verify.frames import numbers_of
from neardup.verify.keypoints import SIDE, features_of_image
from neardup.verify.match import Prepared
from neardup.verify.picture import GAP, LABEL, SENTENCE, WIDTH, _font, _waterfall, _wrapped, explain_picture, panels_of
from neardup.verify.pixels import GreyPhoto, LaidPair, align, compare
from neardup.verify.relation import Kind, place_of, relation_of
from neardup.verify.store import KeypointCache
from neardup.verify.verifier import proof_of

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MATCHED = Evidence(
    *("a", "b"),
    *(400, 300, 400, 300, 200, 200),
    matches=90,
    inliers=80,
    log_false_alarms=-90.0,
    transform=IDENTITY,
    coverage_first=1.0,
    coverage_second=1.0,
    scale=1.0,
    squeeze=1.0,
    tone_slope=1.0,
    correlation=0.98,
)
"""Two photos in one frame."""


def painted(photo: Image.Image, colour: str) -> Image.Image:
    """A photo with a box painted over."""
    changed = photo.copy()
    ImageDraw.Draw(changed).rectangle((120, 90, 240, 200), fill=colour)
    return changed


def test_one_frame_is_called_that_and_nothing_else() -> None:
    """No flag but the frame."""
    relation = relation_of(MATCHED)
    assert relation.flags == ("same frame",)
    assert relation.sentence() == "B has the same frame as A; 80 points agree."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mirrored": True}, "B is A mirrored, in the same frame"),
        ({"rotation": -7.2}, "rotated by 7° anticlockwise"),
        ({"squeeze": 0.8}, "B has the same frame as A, one squeezed to 80 % against the other; 80 points agree."),
        (
            {"squeeze": 0.8, "transform": (0.8, 0, 0, 0, 1, 0, 0, 0, 1)},
            "B has the same frame as A, one squeezed (at equal height B is 80 % as wide); 80 points agree.",
        ),
        (
            {"squeeze": 0.8, "transform": (1, 0, 0, 0, 0.8, 0, 0, 0, 1)},
            "B has the same frame as A, one squeezed (at equal height A is 80 % as wide); 80 points agree.",
        ),
        (
            {"squeeze": 0.8, "transform": (0, -1, 0, 0.8, 0, 0, 0, 0, 1), "rotation": 90.0},
            "rotated by 90° clockwise, one squeezed to 80 % against the other",
        ),
        ({"squeeze": 0.8, "transform": (1, 0.2, 0, 0.2, 1, 0, 0, 0, 1)}, "one squeezed to 80 % against the other"),
        ({"screen_second": 4.0}, "B has the same frame as A, screened"),
        ({"screen_first": 4.0}, "A screened"),
        ({"tone_slope": -0.9}, "one a negative of the other"),
        ({"tone_slope": -0.9, "reversed_share": 0.6}, "tones partly reversed, as in a solarised print"),
        ({"correlation": 0.6}, "a large retouch, a poor print or another exposure of the same scene"),
        ({"differences": ((1.0, 2.0, 3.0, 4.0),)}, "1 place seems to differ"),
        (
            {"coverage_first": 0.2, "transform": (2, 0, 0, 0, 2, 0, 0, 0, 1)},
            "a detail, or one picture of a montage or a page",
        ),
        ({"coverage_first": 0.6, "coverage_second": 0.7}, "overlapping crops of one picture (B shows 60 % of A)"),
        ({"coverage_first": 0.9, "coverage_second": 0.87}, "have nearly the same frame (B shows 90 % of A)"),
        ({"coverage_first": 0.6, "coverage_second": 0.9}, "B is a crop of A (60 %, centre); 80 points agree."),
        ({"coverage_first": 0.998, "coverage_second": 0.9}, "A is a crop of B (90 %, centre)"),
        ({"inliers": 9, "correlation": 0.5}, "Doubtful: A and B may only look alike"),
        ({"inliers": 16, "correlation": 0.7}, "Doubtful: A and B may only look alike"),
        ({"inliers": 17, "correlation": 0.7}, "another exposure of the same scene"),
    ],
)
def test_each_number_has_its_words(changes: dict[str, object], words: str) -> None:
    """What was measured is said, and nothing is said of what was not."""
    assert words in relation_of(replace(MATCHED, **changes)).sentence()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "flag", "is_said"),
    [
        ({"correlation": 0.75}, "another exposure", False),
        ({"rotation": 1.5}, "rotated", True),
        ({"squeeze": 0.94}, "squeezed", False),
        ({"squeeze": 0.82, "squeeze_by_chance": 0.17}, "squeezed", True),
        ({"squeeze": 0.82, "squeeze_by_chance": 0.19}, "squeezed", False),
        ({"rotation": -4.0, "squeeze_by_chance": 0.13}, "rotated", True),
        ({"rotation": -4.0, "squeeze_by_chance": 0.15}, "rotated", False),
        ({"coverage_first": 0.25}, "small part", True),
        ({"coverage_first": 0.95, "coverage_second": 0.95}, "same frame", True),
        ({"coverage_first": 0.5, "coverage_second": 0.85}, "crop", True),
        ({"tone_slope": -0.9, "correlation": 0.5}, "negative", False),
        ({"tone_slope": -0.9, "correlation": 0.5, "reversed_share": 0.94}, "negative", True),
        ({"tone_slope": -0.9, "reversed_share": 0.93}, "negative", False),
        ({"reversed_share": 0.2}, "tones partly reversed", False),
        ({"coverage_first": 0.4, "plain_first": 0.74, "plain_second": 1.0}, "plain around", False),
        ({"coverage_first": 0.4, "plain_first": 0.75}, "plain around", True),
        ({"coverage_second": 0.4, "plain_first": 1.0, "plain_second": 0.74}, "plain around", False),
        ({"coverage_second": 0.4, "plain_second": 0.75}, "plain around", True),
    ],
)
def test_a_limit_belongs_to_one_side(changes: dict[str, object], flag: str, is_said: bool) -> None:  # noqa: FBT001 - expected
    """Numbers that lie on the limit, and a slope of tones of photos whose tones do not fit."""
    assert (flag in relation_of(replace(MATCHED, **changes)).flags) == is_said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"coverage_first": 0.6, "coverage_second": 0.7, "screen_first": 4.0},
            (
                "a/1.jpg and b/1.jpg are overlapping crops of one picture (the second shows 60 % of the first), the "
                "first screened; 80 points agree."
            ),
        ),
        (
            {"coverage_first": 0.6, "coverage_second": 0.9, "screen_first": 4.0},
            "b/1.jpg is a crop of a/1.jpg (60 %, centre), the second screened; 80 points agree.",
        ),
        (
            {"coverage_first": 0.998, "coverage_second": 0.9, "screen_second": 4.0},
            "a/1.jpg is a crop of b/1.jpg (90 %, centre), the second screened; 80 points agree.",
        ),
        ({"screen_first": 4.0}, "b/1.jpg has the same frame as a/1.jpg, the second screened; 80 points agree."),
    ],
)
def test_a_long_name_stands_once_in_a_sentence(changes: dict[str, object], words: str) -> None:
    """After that it is the first or the second, in the order in which the sentence names them; equal names as well."""
    relation = relation_of(replace(MATCHED, **changes))  # type: ignore[arg-type]
    assert relation.sentence("a/1.jpg", "b/1.jpg") == words
    assert relation.sentence("1.jpg", "1.jpg") == words.replace("a/", "").replace("b/", "")


def test_the_residual_is_in_pixels_of_the_coarser_photo() -> None:
    """Errors of two pixels of a photo that is twice as large as its keypoints' picture are of one there, both ways."""
    rng = np.random.default_rng(6)
    places, whole = rng.uniform(0, 300, (4000, 2)), (2 * SIDE, SIDE)
    missed = places + rng.normal(0, 2, places.shape)
    expected = sqrt(2 * log(2))  # the median distance of two normal errors of one pixel each
    for scale, second in ((1.0, whole), (2.0, (4 * SIDE, 2 * SIDE)), (2.0, whole), (0.5, (SIDE, SIDE // 2))):
        points = np.concatenate([places, scale * missed + 7], axis=1).astype(np.float32)
        shift = (scale, 0, 7, 0, scale, 7, 0, 0, 1)
        assert median_residual(points, shift, scale, whole, second) == pytest.approx(expected, rel=0.05)
        turned = points[:, [2, 3, 0, 1]]
        back = (1 / scale, 0, -7 / scale, 0, 1 / scale, -7 / scale, 0, 0, 1)
        assert median_residual(turned, back, 1 / scale, second, whole) == pytest.approx(expected, rel=0.05)
    few = [np.concatenate([places[i : i + 6], missed[i : i + 6]], axis=1) for i in range(0, 3000, 6)]
    each = [median_residual(points.astype(np.float32), IDENTITY, 1.0, whole, whole) for points in few]
    assert np.mean(each) == pytest.approx(expected, rel=0.1)  # what six points are fitted to is not taken for exactness
    assert median_residual(np.tile(few[0], (3, 1)), IDENTITY, 1.0, whole, whole) == pytest.approx(each[0])
    assert median_residual(np.tile(few[0][:3], (3, 1)), IDENTITY, 1.0, whole, whole) == SIDE


def test_what_is_seen_from_the_side_is_not_inexact() -> None:
    """Points that a projective transform takes to their places miss them by an affine one alone."""
    places = np.random.default_rng(7).uniform(0, 300, (50, 2))
    steep = np.array([[1.0, 0, 0], [0, 1, 0], [0.001, 0, 1]])
    moved = np.c_[places, np.ones(50)] @ steep.T
    points = np.concatenate([places, moved[:, :2] / moved[:, 2:]], axis=1).astype(np.float32)
    assert median_residual(points, numbers_of(steep), 1.0, (300, 300), (300, 300)) < 0.01
    assert median_residual(points, IDENTITY, 1.0, (300, 300), (300, 300)) > 1


def test_few_points_that_scatter_tell_of_no_squeeze() -> None:
    """What errors feign of a transform fitted to equal places is seldom more than is said of them; of none it is 0."""
    rng = np.random.default_rng(5)
    over = 0
    for _ in range(300):
        places = rng.uniform(0, 400, (7, 2))
        points = np.concatenate([places, places + rng.normal(0, 4, (7, 2))], axis=1).astype(np.float32)
        fitted = np.eye(3)
        fitted[:2] = np.linalg.lstsq(np.c_[points[:, :2], np.ones(7)], points[:, 2:])[0].T
        greater, lesser = np.linalg.svd(fitted[:2, :2], compute_uv=False)
        over += 1 - lesser / greater > squeeze_by_chance(points, numbers_of(fitted))
    assert over <= 3
    exact = np.tile(rng.uniform(0, 400, (7, 2)), 2).astype(np.float32)
    assert squeeze_by_chance(exact, IDENTITY) == 0
    assert squeeze_by_chance(exact[:3], IDENTITY) == 1


def test_half_a_turn_has_one_number() -> None:
    """Rounded from either side."""
    assert {relation_of(replace(MATCHED, rotation=angle)).rotation for angle in (-179.7, 179.7)} == {180}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "A is a crop of B (36 %, lower right); a detail, or one picture of a montage or a page; 80 points agree."),
        (
            {"plain_second": 0.9},
            "lower right); the rest of B is plain, as a margin, a mount or a sky is; 80 points agree.",
        ),
        ({"rotation": 10.0}, "rotated by 10° anticlockwise"),
        ({"rotation": 10.0, "mirrored": True}, "rotated by 10° clockwise"),
        ({"screen_first": 4.0}, "A is a crop of B (36 %, lower right), screened"),
        ({"screen_second": 4.0}, "B screened"),
    ],
)
def test_a_crop_that_comes_first_is_the_subject_of_its_sentence(changes: dict[str, object], words: str) -> None:
    """Its place is that in the second photo, and what was done to it is said from that one to it."""
    inside = replace(MATCHED, coverage_second=0.36, transform=(0.6, 0, 160, 0, 0.6, 120, 0, 0, 1))
    relation = relation_of(replace(inside, **changes))  # type: ignore[arg-type]
    assert words in relation.sentence()
    assert relation.place_box == pytest.approx((160, 120, 240, 180))


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 200, 150), "upper left"),
        ((200, 150, 200, 150), "lower right"),
        ((0, 0, 400, 100), "top"),
        ((0, 200, 400, 100), "bottom"),
        ((0, 0, 100, 300), "left"),
        ((100, 75, 200, 150), "centre"),
        ((0, 15, 360, 270), "left"),
    ],
)
def test_a_place_is_that_in_the_room_that_a_crop_had(box: Box, place: str) -> None:
    """In a direction in which it could not move it is nowhere."""
    assert place_of(box, (400, 300)) == place


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "same frame"),
        ({"mirrored": True}, "same frame, mirrored"),
        ({"coverage_first": 0.5, "mirrored": True, "tone_slope": -0.9}, "crop, mirrored, negative"),
        ({"inliers": 9, "correlation": 0.5, "mirrored": True}, "doubtful"),
    ],
)
def test_a_cell_says_what_no_reader_should_miss(changes: dict[str, object], words: str) -> None:
    """A mirrored photo is not called the same frame and nothing else, nor a doubtful match a crop."""
    assert relation_of(replace(MATCHED, **changes)).words == words  # type: ignore[arg-type]


def test_a_doubtful_match_says_nothing_but_that() -> None:
    """What would follow from its transform, boxes too, may be said of two different pictures."""
    box = (10.0, 20.0, 60.0, 60.0)
    doubtful = replace(MATCHED, inliers=9, correlation=0.5, squeeze=0.8, differences=(box,))
    relation = relation_of(doubtful)
    assert relation.flags == ("doubtful",)
    assert relation.retouched == ()
    photo, points = scene(78, (400, 300)), np.empty((0, 4), np.float32)
    drawn, without = (
        panels_of(photo, photo, evidence, points).difference
        for evidence in (doubtful, replace(doubtful, differences=()))
    )
    assert np.array_equal(np.asarray(drawn), np.asarray(without))


def test_no_match_and_too_little_structure_are_told_apart() -> None:
    """A lack of keypoints is no proof of difference."""
    apart = Evidence("a", "b", 400, 300, 400, 300, 200, 200)
    assert relation_of(apart).kind is Kind.NO_MATCH
    assert relation_of(replace(apart, keypoints_first=5)).kind is Kind.CANNOT_TELL
    for few, said in (
        ({"keypoints_first": 5}, "A has"),
        ({"keypoints_second": 5}, "B has"),
        ({"keypoints_first": 5, "keypoints_second": 9}, "A and B have"),
    ):
        assert relation_of(replace(apart, **few)).sentence() == f"Cannot tell: {said} too little structure to compare."


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
def test_what_was_painted_over_is_found_where_it_is(colour: str) -> None:
    """The greatest difference lies on the box, and an untouched copy has none."""
    photo = scene(70)
    left, top, width, height = verified(photo, painted(photo, colour)).differences[0]
    assert abs(left + width / 2 - 180) < 25
    assert abs(top + height / 2 - 145) < 25
    assert verified(photo, photo.resize((240, 180))).differences == ()


def test_equal_photos_differ_nowhere_and_fit_wholly() -> None:
    """Correlation one, slope one, full coverage: equal frames are never taken for disjoint ones."""
    found = verified(scene(71), ImageOps.expand(scene(71), 1, "black").crop((1, 1, 481, 361)).convert("RGB").copy())
    assert found.correlation == pytest.approx(1, abs=0.01)
    assert found.tone_slope == pytest.approx(1, abs=0.05)
    assert min(found.coverage_first, found.coverage_second) > 0.99


@pytest.mark.parametrize("same", [True, False])
def test_details_tell_apart_what_is_light_and_dark_in_the_same_places(same: bool) -> None:  # noqa: FBT001 - what is drawn
    """Tones agree either way; details only where they are the same ones, a negative's too."""
    rng = np.random.default_rng(3)
    broad = cv2.GaussianBlur(rng.normal(0, 1, (240, 320)), (0, 0), 40)
    fine = [cv2.GaussianBlur(rng.normal(0, 1, (240, 320)), (0, 0), 3) for _ in range(2)]
    first, second = (
        np.uint8(np.clip(128 + 40 * broad / broad.std() + 14 * detail / detail.std(), 0, 255))
        for detail in (fine[0], fine[0 if same else 1])
    )
    for other in (second, 255 - second):
        pair = LaidPair(GreyPhoto(first, (320, 240)), GreyPhoto(other, (320, 240)), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        found = compare(pair)
        assert found.correlation > 0.8
        assert (found.detail > 0.95) == same
        assert same or found.detail < 0.3


def test_a_solarised_print_is_no_negative() -> None:
    """Its lights are reversed and its shadows are not, whichever of both its correlation goes by."""
    grey = np.asarray(scene(72).convert("L"))
    for limit in (96, 128, 160):
        solarised = np.where(grey > limit, 255 - grey, grey).astype(np.uint8)
        found = compare(LaidPair(GreyPhoto(grey, (480, 360)), GreyPhoto(solarised, (480, 360)), IDENTITY))
        relation = relation_of(replace(MATCHED, tone_slope=found.tone_slope, reversed_share=found.reversed_share))
        assert relation.partly_reversed
        assert not relation.negative


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_torn_corner_is_a_place_that_differs(corner: tuple[int, int]) -> None:
    """It is no paper beside a turned picture, which reaches along a side; the tones of the rest agree."""
    photo = scene(31)
    torn, (width, height) = photo.copy(), photo.size
    (x, to_x), (y, to_y) = ((0, 140), (width, width - 140))[corner[0]], ((0, 130), (height, height - 130))[corner[1]]
    ImageDraw.Draw(torn).polygon([(x, y), (to_x, y), (x, to_y)], fill="ivory")
    found = verified(photo, torn)
    left, top, across, down = found.differences[0]
    assert min(x, to_x) < left + across / 2 < max(x, to_x)
    assert min(y, to_y) < top + down / 2 < max(y, to_y)
    assert found.correlation > 0.9
    assert verified(photo, photo.rotate(3, fillcolor="ivory")).differences == ()


def test_differences_are_zero_where_only_one_photo_shows_something() -> None:
    """A crop is compared within itself."""
    grey = np.asarray(scene(72).convert("L"))
    photo, crop = GreyPhoto(grey, (480, 360)), GreyPhoto(grey[72:288, 96:384], (288, 216))
    aligned = align(photo, crop, (1, 0, -96, 0, 1, -72, 0, 0, 1))
    levels = levels_of(aligned)
    assert levels is not None
    assert levels[~aligned.overlap].max() == 0
    assert levels.mean() < 2


def test_the_screen_of_the_second_photo_is_measured_in_the_frame_of_the_first() -> None:
    """At twice the size its period is half as many pixels there; both photos are blurred by the coarser screen."""
    grey = np.asarray(scene(73).convert("L").resize((320, 240)))
    small, large = GreyPhoto(grey[::2, ::2], (160, 120)), GreyPhoto(grey, (320, 240))
    twice = (2, 0, 0.5, 0, 2, 0.5, 0, 0, 1)
    by_second = align(small, replace(large, screen=12.0), twice)
    by_first = align(replace(small, screen=6.0), large, twice)
    assert np.allclose(by_second.first, by_first.first)
    assert not np.allclose(by_first.first, align(small, large, twice).first)


def test_the_picture_has_a_panel_for_each_thing_that_is_said() -> None:
    """The panels that a page blinks have one size, and the whole picture the page's width."""
    photo, copy = scene(74), cropped(scene(74))
    one, other = (Prepared.of(features_of_image(image, image.size)) for image in (photo, copy))
    evidence, points = proof_of(one, other, ("a", "b"))
    panels = panels_of(photo, copy, evidence, points)
    assert panels.first.size == panels.laid.size == panels.difference.size
    accents = explain_picture(photo, copy, evidence, points, names=("débarquement à Tripoli.png", "b.png"))
    assert accents.width == WIDTH
    plain = explain_picture(photo, copy, evidence, points, names=("debarquement a Tripoli.png", "b.png"))
    assert np.any(np.asarray(accents) != np.asarray(plain))


def test_the_frame_is_drawn_in_the_photo_that_shows_more() -> None:
    """Whichever of the two is the crop."""
    photo, copy = scene(75), cropped(scene(75))
    one, other = (Prepared.of(features_of_image(image, image.size)) for image in (copy, photo))
    evidence, points = proof_of(one, other, ("a", "b"))
    assert relation_of(evidence).crop == "first"
    page = np.asarray(explain_picture(copy, photo, evidence, points))
    panel = np.asarray(panels_of(copy, photo, evidence, points, width=(WIDTH - 4 * GAP) // 3).second)
    places = np.lib.stride_tricks.sliding_window_view(page[: 2 * len(panel), GAP : GAP + panel.shape[1]], panel.shape)
    assert (places == panel).all(axis=(-1, -2, -3)).any()
    panels = panels_of(copy, photo, evidence, points, width=480)
    changed = np.any(np.asarray(panels.second) != np.asarray(photo.resize(panels.second.size)), axis=2)
    inner = changed[60:300, 86:394]
    assert inner.any()


def test_an_output_folder_has_its_own_decision(tmp_path: Path) -> None:
    """It decides two files as it decides the pairs of that folder; the similarity is that of their vectors."""
    files = tmp_path / "a.png", tmp_path / "b.png"
    scene(77).save(files[0])
    screened(scene(77)).save(files[1])
    shipped = Decision.load(SHIPPED)
    strict = replace(shipped.bands, precision=replace(shipped.bands.precision, threshold=1.0))
    replace(shipped, bands=strict).save(tmp_path / "out" / "decision.json")
    usual = explain_files(*files, tmp_path / "usual.png")
    own = explain_files(*files, tmp_path / "own.png", out=tmp_path / "out")
    assert (usual.band, own.band) == ("link", "review")
    encoder = load_encoder(BUILTIN)
    one, other = encoder.encode([encoder.read(path) for path in files])
    assert usual.similarity == own.similarity == pytest.approx(float(one @ other))
    assert f"an average match {shipped.model.matched.intercept:+.1f}" in usual.text
    with Image.open(tmp_path / "usual.png") as drawn:
        alone = explain_picture(scene(77), screened(scene(77)), usual.evidence, np.empty((0, 4), np.float32))
        assert drawn.height > alone.height
    with pytest.raises(UnreadableImageError, match="480 x 360 pixels are over the limit"):
        explain_files(*files, tmp_path / "small.png", max_pixels=480 * 360 - 1)


def test_a_hit_is_named_in_the_order_of_its_evidence() -> None:
    """The detail is called one, whichever of both was searched for; of the photo itself there is nothing to say."""
    photos = {"a": png(scene(78)), "b": png(cropped(scene(78)))}
    hits = [[Hit("x/hit.png", "b", 0.9), Hit("x/same.png", "a", 1.0)], [Hit("x/hit.png", "a", 0.9)]]
    (found, itself), (other,) = verify_hits(
        [("a", "query.png"), ("b", "query.png")], hits, photos.__getitem__, None, None
    )
    assert itself is None
    assert found is not None
    assert other is not None
    assert found.sentence.startswith("hit.png is a crop of query.png")
    assert other.sentence.startswith("query.png is a crop of hit.png")


def test_hits_are_ordered_by_what_was_found_of_them() -> None:
    """The photo itself first, then the most probable; what cannot be judged stays behind, in the order of likeness."""
    like, far, gone, same = (Hit(name, name, value) for name, value in (("a", 0.9), ("b", 0.5), ("c", 0.8), ("d", 1.0)))
    itself = replace(same, itself=True)
    doubtful, sure = VerifiedHit(0.1, "review", "", "", 0), VerifiedHit(0.99, "link", "", "", 50)
    hits, found = best_first([[itself, like, gone, far]], [[None, doubtful, None, sure]], 3)
    assert (hits, found) == ([[itself, far, like]], [[None, sure, doubtful]])
    undecided = [replace(proof, probability=None) for proof in (doubtful, sure)]
    assert best_first([[like, far]], [undecided], 9) == ([[like, far]], [undecided])


def test_a_search_leaves_a_cache_of_keypoints_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a search for duplicates does: what was used longest ago goes."""
    monkeypatch.setattr(KeypointCache.__init__, "__defaults__", (1,))
    photos = {"a": png(scene(78)), "b": png(cropped(scene(78)))}
    verify_hits([("a", "query.png")], [[Hit("x/hit.png", "b", 0.9)]], photos.__getitem__, tmp_path, None)
    assert (tmp_path / "keypoints").is_dir()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_speaks_against_a_pair_is_told_and_what_says_nothing_is_not() -> None:
    """Terms are left out by their amount, whatever their sign."""
    terms = (("an average match", 0.4), ("points that agree", -1.2), ("likeness of the tones", 0.04))
    text = Explained(MATCHED, relation_of(MATCHED), "Alike.", 0.9, 0.31, "review", terms).text
    assert text.splitlines()[1] == (
        "Probability 31.0 %, review. What speaks for it (+) and against it (-), in log-odds: an average match +0.4, "
        "points that agree -1.2."
    )


def test_no_probability_is_drawn_as_none() -> None:
    """Under a tenth of a per cent it is called that, which is longer than a number; so is what is nearly certain."""
    last_letters = []
    for log_odds in (-9.0, -5.0, 5.0, 9.0):
        titles = np.asarray(_waterfall([("", log_odds)]).crop((0, LABEL * 3 // 2, WIDTH * 2 // 5 - 8, LABEL * 3)))
        last_letters.append(int(np.flatnonzero((titles < 128).any(axis=(0, 2))).max()))
    assert min(last_letters[0], last_letters[3]) > max(last_letters[1:3]) + LABEL


def test_two_files_are_explained_and_a_broken_one_is_named(tmp_path: Path) -> None:
    """Names of files are in the sentence, and the error of a file that is no image begins with its path."""
    scene(76).save(tmp_path / "a.png")
    screened(scene(76)).save(tmp_path / "b.png")
    explained = explain_files(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "why.png")
    assert "b.png has the same frame as a.png, screened" in explained.sentence
    assert sum(value for _, value in explained.terms) == pytest.approx(logit(explained.probability))
    assert (explained.band, explained.probability > 0.99) == ("link", True)
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.width == WIDTH
    assert b"IDAT\x78\x01" in (tmp_path / "why.png").read_bytes()  # zlib's mark of the fastest level
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"c\.png"):
        explain_files(tmp_path / "a.png", tmp_path / "c.png", tmp_path / "why.png")


def test_equal_files_are_called_that_before_anything_else(tmp_path: Path) -> None:
    """One photo in two files of equal bytes is no copy that somebody made in the same frame."""
    for name in ("a.png", "b.png"):
        scene(76).save(tmp_path / name)
    explained = explain_files(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "why.png")
    assert explained.sentence.startswith("The two files are equal byte by byte. b.png has the same frame as")


def test_the_order_of_two_files_changes_nothing_of_what_is_said_of_them(tmp_path: Path) -> None:
    """What a search measures from the lesser SHA-256 on is measured so here too, and the picture is the same."""
    scene(76).save(tmp_path / "a.png")
    cropped(screened(scene(76))).save(tmp_path / "b.png")
    files = tmp_path / "a.png", tmp_path / "b.png"
    there, back = (explain_files(*order, tmp_path / "why.png") for order in (files, files[::-1]))
    drawn = (tmp_path / "why.png").read_bytes()
    assert there == back
    assert [there.evidence.first, there.evidence.second] == [str(path) for path in sorted(files, key=digest_file)]
    explain_files(*files, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes() == drawn


def test_the_picture_never_takes_the_place_of_a_photo(tmp_path: Path) -> None:
    """Whatever link it is named by, the photo stays as it is, one that is not asked about too."""
    for name in ("a.png", "b.png"):
        scene(76).save(tmp_path / name)
    (tmp_path / "link.png").hardlink_to(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_bytes(b"a photo that cannot be read")
    before = (tmp_path / "b.png").read_bytes()
    for taken in ("link.png", "c.jpg"):
        with pytest.raises(ArchiveError, match=r"is there and was not drawn by `neardup explain`"):
            explain_files(tmp_path / "a.png", tmp_path / "b.png", tmp_path / taken)
    assert (tmp_path / "b.png").read_bytes() == before
    with pytest.raises(ArchiveError, match=r"why\.jpg would hold a PNG: name a file that ends in \.png"):
        explain_files(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "why.jpg")
    assert not (tmp_path / "why.jpg").exists()
    for _ in range(2):
        explain_files(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "why.png")


def test_a_name_that_is_longer_than_a_line_is_broken() -> None:
    """Nothing of the sentence runs off the page or is lost."""
    sentence, font = f"{'m' * 124}.jpg has the same frame as b.jpg; 9 points agree.", _font(SENTENCE)
    lines = _wrapped(sentence, font)
    assert max(map(font.getlength, lines)) <= WIDTH - 2 * GAP
    assert "".join(lines).replace(" ", "") == sentence.replace(" ", "")
