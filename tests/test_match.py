"""Keypoints that are made by hand: which matches count, which transforms are refused, and what a cache is keyed by."""

import os
import time
from dataclasses import replace
from itertools import combinations
from math import comb, log10, pi
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageDraw, ImageFont, ImageOps
from test_stages import small_files
from test_verify import features, png, scene, screened, verified

from neardup.arrays import Floats
from neardup.encode.screen import screen_period
from neardup.verify import store, verifier
from neardup.verify.candidates import CANDIDATES
from neardup.verify.evidence import LEAST_KEYPOINTS, Evidence
from neardup.verify.keypoints import MIRRORED, Keypoints, LocalFeatures, features_of_image
from neardup.verify.match import (
    LEAST_MATCHES,
    RATIO,
    Match,
    Prepared,
    _affine,
    best_matches,
    better,
    log_false_alarms,
    mutual_nearest,
    plausible,
)
from neardup.verify.products import GREATEST
from neardup.verify.screens import certain_screen_period
from neardup.verify.store import KeypointCache
from neardup.verify.verifier import Verifier, cache_features, proof_of, verifier_fingerprint

SIZE = (400, 300)
"""Width and height of the made photos."""
NONE = Keypoints(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8))
"""The keypoints of a photo that has none."""


def photo(
    points: Floats, descriptors: npt.NDArray[np.uint8], angles: Floats | float = 0.0, sizes: Floats | float = 8.0
) -> Prepared:
    """A photo with these keypoints, float64 (n, 2), and none when it is blurred."""
    places = np.column_stack([points, *(np.broadcast_to(each, len(points)) for each in (sizes, angles))])
    plain = Keypoints(places.astype(np.float32), descriptors)
    return Prepared.of(LocalFeatures(*SIZE, plain, NONE, np.zeros((30, 40), np.uint8), 0.0))


def points_and_descriptors(seed: int, count: int = 60) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Points all over a photo, and a descriptor of each that is like no other."""
    rng = np.random.default_rng(seed)
    return rng.uniform(20, 280, (count, 2)), rng.integers(0, GREATEST + 1, (count, 128), dtype=np.uint8)


def match_of(first: Prepared, second: Prepared) -> Match | None:
    """The match of two photos as they are."""
    return best_matches(first, second)[0]


def test_a_match_is_the_nearest_of_both_and_far_nearer_than_the_next() -> None:
    """The second row's nearest is nearer to the first row, and the third row has two that are nearly as near."""
    likeness = np.array([[90, 20, 10], [85, 30, 10], [10, 88, 90]], np.int32)
    lengths = np.full(3, 100)
    rows, columns = mutual_nearest(likeness, lengths, lengths)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


@pytest.mark.parametrize(("factor", "passes"), [(0.99, True), (1.01, False)])
def test_the_ratio_is_that_of_distances(factor: float, passes: bool) -> None:  # noqa: FBT001 - what is expected
    """Squared: from a descriptor of length 100 the next best one lies √8,000 away, and it must be so much nearer."""
    nearest = round((20_000 - factor * RATIO**2 * 8_000) / 2)
    likeness, lengths = np.array([[nearest, 6_000]], np.int32), np.full(2, 10_000)
    assert (len(mutual_nearest(likeness, lengths[:1], lengths)[0]) == 1) == passes


def test_the_transform_of_made_keypoints_is_found_among_wrong_matches() -> None:
    """Turned by 20°, enlarged and moved; a third of the matches lead anywhere."""
    points, descriptors = points_and_descriptors(0)
    turn = np.deg2rad(20)
    linear = 1.3 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = points @ linear.T + [30, -40]
    moved[:20] = np.random.default_rng(1).uniform(0, 400, (20, 2))
    first = photo(points, descriptors)
    places = np.column_stack([moved, np.full(60, 8 * 1.3), np.full(60, 20.0)]).astype(np.float32)
    second = Prepared.of(LocalFeatures(*SIZE, Keypoints(places, descriptors), NONE, first.features.grey, 0.0))
    found = match_of(first, second)
    assert found is not None
    assert np.allclose(np.array(found.transform).reshape(3, 3)[:2], np.column_stack([linear, [30, -40]]), atol=0.01)
    assert (found.matches, 40 <= found.inliers <= 44) == (60, True)


def test_matches_of_one_place_are_no_match() -> None:
    """Sixty keypoints on one spot, as a printed star has, agree on every transform that keeps the spot."""
    _, descriptors = points_and_descriptors(2)
    spot = np.tile([[100.0, 120.0]], (60, 1))
    assert match_of(photo(spot, descriptors), photo(spot + 30, descriptors)) is None


@pytest.mark.parametrize("spots", [3, 4])
def test_matches_of_three_places_of_one_photo_are_no_match(spots: int) -> None:
    """Any three fix a transform, however many keypoints of the other photo lie about each."""
    _, descriptors = points_and_descriptors(2)
    corners = np.array([[40.0, 30.0], [340.0, 60.0], [180.0, 260.0], [60.0, 250.0]])[np.arange(60) % spots]
    about = corners + np.random.default_rng(3).uniform(-3, 3, (60, 2))
    for first, second in ((corners, about), (about, corners)):
        assert (match_of(photo(first, descriptors), photo(second, descriptors)) is None) == (spots < LEAST_MATCHES)


@pytest.mark.parametrize(("height", "matches"), [(2.0, False), (120.0, True)])
def test_matches_on_a_line_are_no_match(height: float, matches: bool) -> None:  # noqa: FBT001 - what is expected
    """A line of text, a ruled border; as many points that are spread out are one."""
    points, descriptors = points_and_descriptors(3)
    line = points * [1, height / 260]
    assert (match_of(photo(line, descriptors), photo(np.add(line, [5, 9]), descriptors)) is not None) == matches


@pytest.mark.parametrize("unlike", [{"angles": 90.0}, {"sizes": 24.0}], ids=["turned", "larger"])
def test_matches_that_are_turned_or_sized_otherwise_do_not_agree(unlike: dict[str, float]) -> None:
    """Though they lie where three others say: three agree on any transform, and a fourth is asked for."""
    points, descriptors = points_and_descriptors(5)
    ((name, value),) = unlike.items()
    usual = {"angles": 0.0, "sizes": 8.0}[name]
    few = photo(points, descriptors, **{name: np.where(np.arange(60) < 3, usual, value)})
    assert match_of(photo(points, descriptors), few) is None
    assert match_of(photo(points, descriptors), photo(points, descriptors)) is not None


def test_a_whole_photo_does_not_match_a_speck() -> None:
    """Its matches are spread over the one photo and crowd in the other, where chance agrees with all of them."""
    points, descriptors = points_and_descriptors(6)
    speck = photo(points / 10 + 100, descriptors, sizes=0.8)
    assert match_of(photo(points, descriptors), speck) is None
    assert match_of(speck, photo(points, descriptors)) is None


def test_what_fills_one_photo_and_is_a_speck_of_a_larger_one_does_not_match() -> None:
    """As many pixels lie between the points of both; each photo's own size says whether they crowd."""
    small = photo(*points_and_descriptors(6))
    large = Prepared.of(replace(small.features, width=10 * SIZE[0], height=10 * SIZE[1]))
    assert match_of(small, small) is not None
    assert match_of(small, large) is None
    assert match_of(large, small) is None


def test_points_of_a_mirrored_match_lie_in_both_photos_as_they_are() -> None:
    """What is left in the one is right in the other."""
    points, descriptors = points_and_descriptors(7)
    mirrored = photo(np.array([SIZE[0], 0]) + points * [-1, 1], descriptors[:, MIRRORED], 180.0)
    found = match_of(photo(points, descriptors), mirrored)
    assert found is not None
    assert np.allclose(found.points[:, 0] + found.points[:, 2], SIZE[0], atol=0.01)
    assert np.allclose(found.points[:, 1], found.points[:, 3], atol=0.01)


def test_a_match_that_is_wrong_once_in_a_hundred_pairs_is_plausible() -> None:
    """One that is so more often is chance; of two the rarer is the better, and of equal ones the first."""
    none = np.empty((0, 4), np.float32)
    rare, chance = (Match((1, 0, 0, 0, 1, 0, 0, 0, 1), 9, 9, digits, none, none) for digits in (-2.0, -1.9))
    assert (plausible(rare), plausible(chance), plausible(None)) == (True, False, False)
    assert better(chance, rare) is better(rare, None) is better(rare, replace(rare, inliers=8)) is rare


@pytest.mark.parametrize(
    ("linear", "kept"),
    [
        ([[1, 0], [0, 1]], True),
        ([[0.6, 0], [0, 1]], True),
        ([[0.4, 0], [0, 1]], False),
        ([[1, 0], [0, -1]], False),
        ([[1, 1.2], [0, 1]], False),
        ([[13, 0], [0, 13]], False),
        ([[0.08, 0], [0, 0.08]], False),
        ([[11, 0], [0, 11]], True),
    ],
    ids=["same", "squeezed", "collapsed", "reflected", "sheared", "enlarged", "reduced", "detail"],
)
def test_transforms_that_no_reproduction_has_are_refused(linear: list[list[float]], kept: bool) -> None:  # noqa: FBT001
    """A reflection of one axis belongs to the mirrored branch; shear, collapse and specks belong to nothing."""
    points, _ = points_and_descriptors(4)
    assert (_affine(points, points @ np.array(linear, dtype=np.float64).T + 3, 2.0) is not None) == kept


@given(st.lists(st.floats(0, 300), min_size=1, max_size=30), st.floats(1e4, 1e6))
def test_false_alarms_are_those_of_their_formula(residuals: list[float], area: float) -> None:
    """The least over all subsets of (n - 3) C(n, k) C(k, 3) (π r² / area)^(k - 3), term by term."""
    count, nearest = len(residuals), sorted(max(1.5, residual) for residual in residuals)
    terms = [
        log10((count - 3) * comb(count, k) * comb(k, 3)) + (k - 3) * log10(min(1, pi * nearest[k - 1] ** 2 / area))
        for k in range(4, count + 1)
    ]
    assert log_false_alarms(np.array(residuals), area, 1.5) == pytest.approx(min([0.0, *terms]), abs=1e-9)


def test_keypoints_lie_as_if_there_were_no_border() -> None:
    """Paper around a photo is cut off, so that its edge has no keypoints, and those of the photo are the same."""
    picture = scene(80)
    framed = features(ImageOps.expand(picture, 60, "white"))
    for here, there in ((features(picture).plain, framed.plain), (features(picture).blurred, framed.blurred)):
        assert np.array_equal(here.descriptors, there.descriptors)
        assert np.allclose(here.places[:, :2] + 60, there.places[:, :2], atol=1e-3)


def test_a_screen_is_that_of_its_photo_in_full_pixels() -> None:
    """The photo without one shows none; decoded at half its size, a photo's dots are twice as far apart in full."""
    dots = screened(scene(30))
    found = verified(scene(30), dots)
    assert (found.screen_first, found.screen_second) == (0, pytest.approx(6, rel=0.08))
    twice = features_of_image(dots, (2 * dots.width, 2 * dots.height)).screen
    assert twice == pytest.approx(2 * found.screen_second)


@pytest.mark.parametrize("size", [10, 18])
def test_lines_of_text_are_no_screen(size: int) -> None:
    """Twelve equal lines have peaks at a right angle, as a screen has; a print above them still shows its own."""
    caption = "Le port de Tripoli, cliché de notre envoyé spécial, droits réservés"
    for picture, period in ((scene(73), 0), (screened(scene(73)), 6)):
        page = ImageOps.expand(picture, (0, 0, 0, 15 * size), "white")
        for line in range(12):
            place = (8, picture.height + round(1.2 * size * line))
            ImageDraw.Draw(page).text(place, caption, "black", font=ImageFont.load_default(size))
        grey = np.asarray(page.convert("L"))
        assert screen_period(grey) > 0
        assert certain_screen_period(grey) == pytest.approx(period, rel=0.08)


def test_keypoints_of_another_version_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier version kept is another file, and never read."""
    cache = KeypointCache(tmp_path)
    cache.put("a" * 64, features(scene(81)))
    assert cache.get("a" * 64) is not None
    monkeypatch.setattr(store, "KEYPOINTS_STEP", store.KEYPOINTS_STEP + 1)
    assert cache.get("a" * 64) is None


def test_damaged_keypoints_are_made_again(tmp_path: Path) -> None:
    """A byte that a disk changed anywhere in the file is told by the checksum, or the file cannot be read at all."""
    cache = KeypointCache(tmp_path)
    cache.put("a" * 64, features(scene(81)))
    path = cache._path("a" * 64)
    data = path.read_bytes()
    for place in range(8, len(data), len(data) // 40):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert cache.get("a" * 64) is None, place
    path.write_bytes(data)
    assert cache.get("a" * 64) is not None


@pytest.mark.parametrize("step", ["KEYPOINTS_STEP", "MATCH_STEP", "VERIFY_STEP"])
def test_each_step_is_part_of_the_verifier(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence of an earlier version of any of them is not taken for that of this one."""
    before = verifier_fingerprint()
    monkeypatch.setattr(verifier, step, getattr(verifier, step) + 1)
    assert verifier_fingerprint() != before


def test_keypoints_that_go_away_while_they_are_read_leave_no_empty_file(tmp_path: Path) -> None:
    """Another run makes the cache smaller between a run's reading of a file and its note that the file was used."""
    cache, other, found = KeypointCache(tmp_path), KeypointCache(tmp_path, limit=0), features(scene(81))
    for number in range(300):
        cache.put("a" * 64, found)
        reading = Thread(target=cache.get, args=("a" * 64,))
        reading.start()
        time.sleep(number * 1e-5)
        other.shrink()
        reading.join()
        assert not cache.has("a" * 64)


def test_the_cache_deletes_first_what_was_used_longest_ago(tmp_path: Path) -> None:
    """To have been read counts as used; no more is deleted than the limit asks for."""
    found = features(scene(82))
    cache = KeypointCache(tmp_path)
    for letter in "abc":
        cache.put(letter * 64, found)
    files = {letter: cache._path(letter * 64) for letter in "abc"}
    for age, letter in enumerate("cba"):
        os.utime(files[letter], (1e9 - age, 1e9 - age))
    assert cache.get("a" * 64) is not None
    assert KeypointCache(tmp_path, limit=2 * files["a"].stat().st_size).shrink() == 1
    assert [letter for letter in "abc" if files[letter].exists()] == ["a", "c"]


def test_equal_contents_are_not_verified() -> None:
    """There is nothing to prove, and no photo is read."""
    assert Verifier({}.__getitem__).verify([("a", "a")]) == {}


def test_evidence_counts_both_versions_and_takes_the_better() -> None:
    """Inliers of each, and the false alarms of the one that is rarer by chance."""
    sharp, copy = scene(83), scene(83).resize((240, 180))
    plain, blurred = best_matches(Prepared.of(features(sharp)), Prepared.of(features(copy)))
    found = verified(sharp, copy)
    assert plain is not None
    assert blurred is not None
    assert (found.inliers, found.blurred_inliers) == (plain.inliers, blurred.inliers)
    assert found.log_false_alarms == min(plain.log_false_alarms, blurred.log_false_alarms)
    assert (found.width_first, found.height_first, found.width_second, found.height_second) == (480, 360, 240, 180)
    assert (found.keypoints_first, found.keypoints_second) == (features(sharp).count, features(copy).count)


def test_keypoints_that_suffice_can_be_told_and_no_share_is_over_one() -> None:
    """Exactly as many as are asked for suffice; more points may agree than the better version has matches."""
    found = Evidence("a", "b", *SIZE, *SIZE, LEAST_KEYPOINTS, 500, matches=10, inliers=9, blurred_inliers=12)
    assert not found.cannot_tell
    assert replace(found, keypoints_first=LEAST_KEYPOINTS - 1).cannot_tell
    assert found.share == 1


def test_a_photo_that_went_away_or_is_too_large_has_no_evidence() -> None:
    """Neither the keypoints of this process nor those that others keep pass the limit."""
    files = {"a": png(scene(84)), "b": png(scene(85))}

    def read(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    assert Verifier(read).verify([("a", "b"), ("a", "c")]).keys() == {("a", "b")}
    assert Verifier(read, max_pixels=480 * 360 - 1).verify([("a", "b")]) == {}


def test_keypoints_of_a_photo_over_the_limit_are_not_kept(tmp_path: Path) -> None:
    """A process of the pool refuses it as the thread does."""
    cache_features(tmp_path, "a" * 64, png(scene(86)), 480 * 360 - 1)
    cache_features(tmp_path, "b" * 64, png(scene(86)), 480 * 360)
    assert [KeypointCache(tmp_path).has(name * 64) for name in "ab"] == [False, True]


def test_where_keypoints_cannot_be_kept_pairs_are_verified_all_the_same(tmp_path: Path) -> None:
    """As beside vectors that others share, in a folder that can only be read; another fault is not hidden."""
    (tmp_path / "shut").touch()
    photos = {"a" * 64: png(scene(87)), "b" * 64: png(scene(88))}
    with Verifier(photos.__getitem__, KeypointCache(tmp_path / "shut" / "keypoints")) as verifier:
        assert verifier.verify([("a" * 64, "b" * 64)]).keys() == {("a" * 64, "b" * 64)}
    full = Verifier(photos.__getitem__, KeypointCache(tmp_path / "full"))
    with full, small_files(1000), pytest.raises(OSError, match="File too large"):
        full.verify([("a" * 64, "b" * 64)])


def test_keypoints_for_which_a_disk_has_no_room_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They only save time; what fails to be written goes to a device that is full."""
    monkeypatch.setattr(store, "save_file", lambda *_: Path("/dev/full").write_bytes(b"keypoints"))
    cache = KeypointCache(tmp_path)
    cache.put("a" * 64, features(scene(86)))
    assert not cache.has("a" * 64)


def test_a_cache_is_within_its_limit_after_each_run(tmp_path: Path) -> None:
    """Whatever was verified: what was used longest ago goes."""
    cache = KeypointCache(tmp_path, limit=1)
    photos = {"a" * 64: png(scene(87)), "b" * 64: png(scene(88))}
    with Verifier(photos.__getitem__, cache) as verifier:
        verifier.verify_closed([("a" * 64, "b" * 64)])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pairs_that_close_a_triangle_come_with_their_evidence() -> None:
    """That which is known already is not asked for again: no photo is read."""
    match = Evidence(
        "", "", *SIZE, *SIZE, 90, 90, log_false_alarms=-30.0, correlation=1.0, transform=(1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    known = {pair: replace(match, first=pair[0], second=pair[1]) for pair in pairs}
    assert Verifier({}.__getitem__).verify_closed(pairs[:2], known) == (known, [("a", "c")])


def test_pairs_that_close_a_triangle_are_among_the_nearest() -> None:
    """Each of a row of photos is near those beside it; two that both match a third one are verified, too."""
    angles = np.arange(45) / 100
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    photos = [f"{row:02}" for row in range(45)]
    nothing = Evidence("", "", *SIZE, *SIZE, 90, 90)
    known = {pair: replace(nothing, first=pair[0], second=pair[1]) for pair in combinations(photos, 2)}
    for pair in (("00", "20"), ("20", "30")):
        known[pair] = replace(
            known[pair], log_false_alarms=-30.0, correlation=1.0, transform=(1, 0, 0, 0, 1, 0, 0, 0, 1)
        )
    rows, evidence = Verifier({}.__getitem__).verify_nearest(vectors, photos, known)
    assert [pair for pair in rows.tolist() if pair[1] - pair[0] > CANDIDATES] == [[0, 30]]
    assert evidence == [known[photos[left], photos[right]] for left, right in rows.tolist()]


def test_keypoints_of_the_last_pairs_are_remembered_and_older_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photo is read once, for pairs that follow each other share it; no more than the last pairs' are kept."""
    monkeypatch.setattr(verifier, "PREPARED_PHOTOS", 1)
    monkeypatch.setattr(verifier, "BLOCK", 1)
    photos, read = {name: png(scene(number, (96, 72))) for number, name in enumerate("abc")}, list[str]()
    found = Verifier(lambda name: (read.append(name), photos[name])[1], cores=1)
    assert len(found.verify_in_order([("a", "b"), ("b", "c")])) == 2
    assert sorted(read) == ["a", "b", "c"]
    found.features("b")
    assert len(read) == 3
    found.features("a")
    assert len(read) == 4


def test_only_another_major_version_of_opencv_is_another_verifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its keypoints and transforms may differ, so that those that are kept are none of its; a mended version's are."""
    before, major = verifier_fingerprint(), int(cv2.__version__.split(".")[0])
    cache, name = KeypointCache(tmp_path), "a" * 64
    cache.put(name, features(scene(1)))
    monkeypatch.setattr(cv2, "__version__", f"{major}.99.1")
    assert (verifier_fingerprint() == before, cache.has(name)) == (True, True)
    monkeypatch.setattr(cv2, "__version__", f"{major + 1}.0.0")
    assert (verifier_fingerprint() == before, cache.has(name)) == (False, False)


def test_a_match_that_chance_explains_is_no_evidence_of_one() -> None:
    """Five points of fifty lie as another photo's do: they are counted, and no transform follows from them."""
    for seed in range(60):
        points, descriptors = points_and_descriptors(seed)
        places = np.random.default_rng(1000 + seed).uniform(20, 280, points.shape)
        places[:5] = points[:5] + 7
        first, second = photo(points, descriptors), photo(places[:50], descriptors[:50])
        chance = match_of(first, second)
        if chance is not None and not plausible(chance):
            break
    assert chance is not None
    assert not plausible(chance)
    evidence, agreeing = proof_of(first, second, ("a", "b"))
    assert (evidence.matched, evidence.inliers, len(agreeing)) == (False, chance.inliers, 0)
    assert (evidence.keypoints_first, evidence.keypoints_second) == (60, 50)


def test_points_agree_within_a_share_of_the_diagonal() -> None:
    """A fiftieth, ten pixels of these photos: what a warped print moves by four is the same picture."""
    points, descriptors = points_and_descriptors(8)
    moved = points + np.random.default_rng(9).uniform(-4, 4, points.shape)
    found = match_of(photo(points, descriptors), photo(moved, descriptors))
    assert found is not None
    assert found.inliers >= 55


def test_in_a_photo_of_a_stamps_size_points_agree_within_two_pixels() -> None:
    """A fiftieth of its diagonal would be one, and a keypoint is hardly more exact."""
    points, descriptors = points_and_descriptors(8)
    moved = points / 10 + np.random.default_rng(9).uniform(-1.2, 1.2, points.shape)
    stamp, other = (photo(places, descriptors, sizes=0.8) for places in (points / 10, moved))
    found = match_of(*(Prepared.of(replace(each.features, width=40, height=30)) for each in (stamp, other)))
    assert found is not None
    assert found.inliers >= 55


def test_exacter_than_a_third_of_the_tolerance_is_no_further_evidence() -> None:
    """A photo that matches itself to the last digit: 35 % of ten pixels, for a diagonal of 500, count as missed."""
    points, descriptors = points_and_descriptors(10)
    found = match_of(photo(points, descriptors), photo(points, descriptors))
    assert found is not None
    assert found.log_false_alarms == pytest.approx(log_false_alarms(np.zeros(60), 400 * 300, 3.5))
