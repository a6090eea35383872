"""Verification of pairs: keypoints, matches, transforms, false alarms, and what is kept of them."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw, ImageOps

from neardup.errors import ArchiveError
from neardup.stages import digest_of
from neardup.verify.candidates import (
    CANDIDATES,
    CLOSING_LIMIT,
    candidate_pairs,
    closing_pairs,
    near_together,
    with_pairs,
)
from neardup.verify.evidence import FEW_POINTS, LEAST_KEYPOINTS, SAME_EXPOSURE, Evidence
from neardup.verify.keypoints import SCALE, LocalFeatures, features_of_image, local_features
from neardup.verify.match import Prepared, best_matches, likenesses, log_false_alarms
from neardup.verify.products import GREATEST, products
from neardup.verify.relation import relation_of
from neardup.verify.store import KeypointCache, read_evidence, write_evidence
from neardup.verify.verifier import (
    Verifier,
    matched_points,
    verifier_fingerprint,
)


def scene(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A made picture of many shapes and textures, different for each seed."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (size[1] // 12, size[0] // 12), dtype=np.uint8)
    image = Image.fromarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        width, height = rng.integers(8, 60, 2)
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return image


def features(image: Image.Image) -> LocalFeatures:
    """Keypoints of a picture in memory."""
    return features_of_image(image, image.size)


def png(image: Image.Image) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def verified(first: Image.Image, second: Image.Image) -> Evidence:
    """Evidence of two pictures."""
    photos = {"a": png(first), "b": png(second)}
    return Verifier(photos.__getitem__).verify([("a", "b")])["a", "b"]


def screened(image: Image.Image) -> Image.Image:
    """A picture as dots of 6 pixels, black on white."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    screen = 127.5 + 63 * (np.cos(2 * np.pi * (x + y) / 8.5) + np.cos(2 * np.pi * (x - y) / 8.5))
    return Image.fromarray(np.where(grey > screen, 255, 0).astype(np.uint8)).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    """A part of a picture, from (96, 72) on, 60 % as wide and high."""
    return image.crop((96, 72, 96 + 288, 72 + 216))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda image: image.resize((240, 180)),
    "cropped": cropped,
    "mirrored": ImageOps.mirror,
    "rotated": lambda image: image.rotate(7, expand=True, fillcolor="white"),
    "screened": screened,
    "mirrored crop, screened": lambda image: screened(ImageOps.mirror(cropped(image))),
    "framed": lambda image: ImageOps.expand(image, 60, "white"),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_copy_matches_and_a_stranger_does_not(copy: Callable[[Image.Image], Image.Image], seed: int) -> None:
    """Copies are far rarer by chance than one in a million; what else is of the same making does not match."""
    photo = scene(seed)
    assert verified(photo, copy(photo)).log_false_alarms < -6
    assert not verified(scene(seed + 100), copy(photo)).matched


def test_the_transform_of_a_crop_says_where_it_lies() -> None:
    """Its corner is found within two pixels, and coverage is the share of each that the other shows."""
    photo = scene(3)
    found = verified(photo, cropped(photo))
    assert found.transform is not None
    assert np.allclose(found.transform, (1, 0, -96, 0, 1, -72, 0, 0, 1), atol=[0.02, 0.02, 2, 0.02, 0.02, 2, 0, 0, 0])
    assert found.coverage_first == pytest.approx(0.36, abs=0.02)
    assert found.coverage_second == pytest.approx(1, abs=0.02)


def test_a_mirrored_photo_is_called_mirrored_and_a_turned_one_by_its_angle() -> None:
    """Left and right swapped is one thing, half a turn another."""
    photo = scene(4)
    mirrored, turned = verified(photo, ImageOps.mirror(photo)), verified(photo, photo.rotate(180))
    assert (mirrored.mirrored, turned.mirrored) == (True, False)
    assert abs(turned.rotation) == pytest.approx(180, abs=0.5)


def test_the_descriptors_of_a_mirrored_photo_are_a_permutation() -> None:
    """So no photo needs to be mirrored to be compared with the mirrored ones."""
    photo = scene(5, (512, 384))
    here, there = (Prepared.of(features(image)).versions[0] for image in (photo, ImageOps.mirror(photo)))
    _, mirrored = likenesses(here, there)
    assert np.median(mirrored.max(axis=1)) > 0.97 * SCALE**2


def test_products_of_descriptors_are_exact_on_every_processor() -> None:
    """Also of the greatest numbers, two of whose products some processors add in sixteen bits."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.full((8, 128), GREATEST), rng.integers(0, GREATEST + 1, (40, 128))])
    found = products(rows.astype(np.uint8), rows[:30].T.astype(np.int8))
    assert np.array_equal(found, rows @ rows[:30].T)


def test_one_caption_under_two_photos_is_no_match() -> None:
    """Letters match, but they lie on a line."""
    photos = []
    for seed in (6, 7):
        page = ImageOps.expand(scene(seed), (0, 0, 0, 24), "white")
        ImageDraw.Draw(page).text((10, 364), "Nos troupes devant Tripoli, cliché de notre envoyé spécial", "black")
        photos.append(page)
    assert not verified(*photos).matched


@pytest.mark.parametrize("size", [(1, 1), (40, 3), (300, 200)])
def test_a_picture_of_nothing_cannot_be_told_apart(size: tuple[int, int]) -> None:
    """One-coloured pictures, however small, end well and say nothing."""
    found = verified(Image.new("RGB", size, "grey"), scene(8))
    assert (found.matched, found.cannot_tell) == (False, True)


@pytest.mark.parametrize(("darkest", "lightest"), [(0, 40), (200, 240), (110, 150)])
def test_a_dark_or_a_faded_print_matches(darkest: int, lightest: int) -> None:
    """SIFT asks for contrast: tones are stretched before, but not so much that the grain of blank paper counts."""
    photo = scene(8)
    faded = photo.convert("L").point([round(darkest + (lightest - darkest) * level / 255) for level in range(256)])
    assert verified(photo, faded).points > 40
    grain = np.random.default_rng(1).normal((darkest + lightest) / 2, 2, (360, 480))
    assert features(Image.fromarray(grain.clip(0, 255).astype(np.uint8))).count < LEAST_KEYPOINTS


def test_places_are_pixels_of_the_upright_photo_at_full_size() -> None:
    """A JPEG of a large scan, turned by its EXIF, is decoded smaller and measured at full size."""
    photo = scene(9, (2400, 1800))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    photo.rotate(90, expand=True).save(buffer, "JPEG", exif=exif, quality=90)
    found = local_features(buffer.getvalue())
    assert (found.width, found.height) == (2400, 1800)
    points = matched_points(features(photo), found)
    assert np.median(np.abs(points[:, :2] - points[:, 2:])) < 4


def test_the_same_keypoints_always_give_the_same_evidence() -> None:
    """There is no chance in it, on one core or many."""
    one, other = Prepared.of(features(scene(10))), Prepared.of(features(screened(scene(10))))
    matches = [best_matches(one, other) for _ in range(3)]
    assert len({digest_of([match and (match.transform, match.inliers) for match in found]) for found in matches}) == 1


def test_false_alarms_fall_with_each_match_that_agrees() -> None:
    """Ten matches within two pixels are rarer than five, and far ones are no evidence."""
    few, many, far = (log_false_alarms(np.array(r), 1e5, 1.0) for r in ([2.0] * 5, [2.0] * 10, [200.0] * 10))
    assert many < few < far == 0


def test_candidates_are_near_either_photo_and_each_pair_is_once() -> None:
    """A pair is a candidate if one is among the nearest of the other; nothing below the least similarity is."""
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.8, 0.6, 0, 0]
    vectors[2] = [0.6, 0.8, 0, 0]
    assert candidate_pairs(vectors, 0.5, 1).tolist() == [[0, 1], [1, 2]]
    assert candidate_pairs(vectors[:1], 0.5).shape == (0, 2)
    vectors[1] = [0.5, 0.75**0.5, 0, 0]
    assert candidate_pairs(vectors[:2], 0.5).tolist() == [[0, 1]]


def test_evidence_is_read_as_it_was_written_and_not_for_another_verifier(tmp_path: Path) -> None:
    """Equal to the last bit, boxes and transform included."""
    found = [verified(scene(11), cropped(scene(11))), verified(scene(12), scene(13))]
    found[1] = replace(found[1], first="b", second="c")
    path = write_evidence(tmp_path / "evidence.parquet", found, "v")
    assert list(read_evidence(path, "v").values()) == found
    assert read_evidence(path, "w") == read_evidence(tmp_path / "none.parquet", "v") == {}


def test_evidence_that_is_read_shares_what_is_equal(tmp_path: Path) -> None:
    """The names of photos, and what a pair without a match lacks: an archive's whole evidence is in memory at once."""
    found = [replace(verified(scene(12), scene(13)), first="photo", second=second) for second in ("x.jpg", "y.jpg")]
    one, other = read_evidence(write_evidence(tmp_path / "evidence.parquet", found, "v")).values()
    assert (one.first is other.first, one.rotation is other.rotation) == (True, True)
    assert not hasattr(one, "__dict__")


def test_evidence_is_read_of_the_pairs_of_some_photos(tmp_path: Path) -> None:
    """A pair is read where either photo is one of them; of no photos nothing is read, not even a broken file."""
    found = [Evidence(first, second, 1, 1, 1, 1, 0, 0) for first, second in ("ab", "bc", "cd")]
    path = write_evidence(tmp_path / "evidence.parquet", found, "v")
    assert [*read_evidence(path, "v", {"b"})] == [("a", "b"), ("b", "c")]
    path.write_bytes(b"PAR1 half of a file")
    assert read_evidence(path, None, ()) == {}


def test_broken_evidence_is_found_again_or_refused(tmp_path: Path) -> None:
    """Who can verify the pairs again takes none; who only reads is told what to run."""
    path = tmp_path / "results" / "duplicates" / "evidence.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 half of a file")
    assert read_evidence(path, "v") == {}
    with pytest.raises(ArchiveError, match=r"evidence\.parquet cannot be read .*: run `neardup duplicates ARCHIVE"):
        read_evidence(path)


def test_only_new_pairs_are_verified_and_cached_keypoints_need_no_file(tmp_path: Path) -> None:
    """A second run asks for no photo, neither for a known pair nor for a new one of cached photos."""
    photos = {name: png(scene(seed)) for seed, name in enumerate("abc", 20)}
    cache = KeypointCache(tmp_path / "keypoints")
    known = Verifier(photos.__getitem__, cache).verify([("a", "b"), ("b", "c")])
    later = Verifier({}.__getitem__, cache)
    assert later.verify([("a", "b"), ("a", "c")], known).keys() == {("a", "b"), ("a", "c")}


def test_a_cache_over_its_limit_forgets_and_a_broken_file_is_made_again(tmp_path: Path) -> None:
    """Nothing but time is lost."""
    cache = KeypointCache(tmp_path, limit=1)
    found = features(scene(24))
    cache.put("a" * 64, found)
    cache._path("a" * 64).write_bytes(b"half")
    assert cache.get("a" * 64) is None
    cache.put("a" * 64, found)
    kept = cache.get("a" * 64)
    assert kept is not None
    assert np.array_equal(kept.plain.descriptors, found.plain.descriptors)
    assert (cache.shrink(), cache.get("a" * 64)) == (1, None)


def test_keypoints_are_kept_until_all_pairs_are_verified(tmp_path: Path) -> None:
    """A cache over its limit shrinks at the end of a run, not after a part of its pairs."""
    photos = {name: png(scene(seed)) for seed, name in enumerate("ab", 27)}
    verifier = Verifier(photos.__getitem__, KeypointCache(tmp_path, limit=1))
    with verifier:
        verifier.verify_closed([("a", "b")])
        assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_a_photo_that_cannot_be_read_has_no_evidence() -> None:
    """The other pairs have theirs."""
    photos = {"a": png(scene(25)), "b": b"no image", "c": png(scene(25))}
    found = Verifier(photos.__getitem__).verify([("a", "b"), ("a", "c")])
    assert list(found) == [("a", "c")]
    assert len(verifier_fingerprint()) == 64


def test_a_mirrored_photo_lies_edge_on_edge() -> None:
    """Its transform takes the left edge to the right one to a tenth of a pixel: places count from the corner."""
    photo = scene(26, (256, 256))
    found = verified(photo, ImageOps.mirror(photo)).transform
    assert found is not None
    assert np.allclose(
        found, (-1, 0, 256, 0, 1, 0, 0, 0, 1), atol=[0.002, 0.002, 0.1, 0.002, 0.002, 0.1, 1e-5, 1e-5, 0]
    )


@pytest.mark.parametrize("factor", [0.5, 3])
def test_a_photo_of_another_size_lies_corner_on_corner(factor: float) -> None:
    """No half pixel is lost between the sizes at which photos are kept and compared."""
    photo = scene(27, (512, 384))
    other = photo.resize((int(512 * factor), int(384 * factor)), Image.Resampling.LANCZOS)
    found = verified(photo, other).transform
    assert found is not None
    assert np.allclose(np.array(found)[[2, 5]] / factor, 0, atol=0.25)


def negative(image: Image.Image) -> Image.Image:
    """A picture with its tones exchanged."""
    return ImageOps.invert(image)


NEGATIVES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "negative": negative,
    "mirrored": lambda image: ImageOps.mirror(negative(image)),
    "cropped": lambda image: negative(cropped(image)),
}


@pytest.mark.parametrize("copy", NEGATIVES.values(), ids=NEGATIVES)
def test_a_negative_matches_and_is_called_one(copy: Callable[[Image.Image], Image.Image]) -> None:
    """Its tones run the other way, and its place is found as that of a positive."""
    found = verified(scene(28), copy(scene(28)))
    assert found.matched
    assert found.tone_slope < -0.5
    assert "negative" in relation_of(found).flags
    assert "negative" in relation_of(found).sentence()


def fading_to(photo: Image.Image, tone: int) -> Image.Image:
    """A picture that fades into one tone away from its middle, as into a dark or a bright ground."""
    grey = np.asarray(photo, dtype=np.float32)
    y, x = np.mgrid[-1 : 1 : photo.height * 1j, -1 : 1 : photo.width * 1j]
    away = np.clip(np.hypot(x, y) - 0.5, 0, 1)[..., None]
    return Image.fromarray(np.uint8(np.clip(grey * (1 - away) + tone * away, 0, 255)))


def with_ground(photo: Image.Image, tone: int) -> Image.Image:
    """A picture of which all but an oval is painted over with one tone."""
    inside = Image.new("L", photo.size)
    width, height = photo.size
    ImageDraw.Draw(inside).ellipse((width // 6, height // 8, width * 5 // 6, height), fill=255)
    return Image.composite(photo, Image.new("RGB", photo.size, (tone, tone, tone)), inside)


@pytest.mark.parametrize("tone", [0, 255])
@pytest.mark.parametrize("is_negative", [False, True])
def test_a_painted_ground_makes_no_negative_and_hides_none(tone: int, is_negative: bool) -> None:  # noqa: FBT001 - what is drawn
    """Which way tones run is seen where both photos show the same, whatever the ground is like in both."""
    photo = fading_to(scene(28), tone if is_negative else 255 - tone)
    found = verified(photo, with_ground(negative(photo) if is_negative else photo, tone))
    assert (found.tone_slope < 0) == is_negative
    assert ("negative" in relation_of(found).flags) == is_negative
    assert not relation_of(found).partly_reversed


def test_the_descriptors_of_a_negative_are_a_permutation() -> None:
    """So no photo needs to be inverted to be compared with negatives."""
    photo = scene(29, (512, 384)).convert("L")
    here, there = (Prepared.of(features(image)).versions[0] for image in (photo, negative(photo)))
    direct, _ = likenesses(here.negative, there)
    assert np.median(direct.max(axis=1)) > 0.97 * SCALE**2


def test_processes_give_the_evidence_that_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, also of pairs whose keypoints somebody deletes meanwhile, and none of a photo that is no image."""
    photos = {f"{number:02}": png(scene(number // 2, (96 + number % 2, 72))) for number in range(26)}
    photos["25"] = b"no image"
    pairs = list(combinations(photos, 2))
    monkeypatch.setattr("neardup.verify.verifier.MANY", len(pairs))  # from how many on processes pay
    cache = KeypointCache(tmp_path)
    found = Verifier(photos.__getitem__, cache, cores=2).verify(pairs)
    assert len(found) == 25 * 24 // 2
    assert sum(evidence.matched for evidence in found.values()) >= 12
    assert found == Verifier(photos.__getitem__).verify(pairs)


MANY_PAIRS = """
import sys
from itertools import combinations
from pathlib import Path
from test_verify import png, scene
from neardup.verify.store import KeypointCache
from neardup.verify.verifier import Verifier

photos = {str(number): png(scene(number, (96, 72))) for number in range(100, 260)}
Verifier(photos.__getitem__, KeypointCache(Path(sys.argv[1])), cores=2).verify(list(combinations(photos, 2)))
"""
"""A program that verifies 12,720 pairs by processes."""


def test_processes_end_with_the_one_that_is_killed(tmp_path: Path) -> None:
    """A kill that nothing can catch leaves none of them behind."""
    paths = [str(Path(__file__).parent), *sys.path]
    command = [sys.executable, "-c", MANY_PAIRS, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) as program:
        while not list(tmp_path.rglob("*.safetensors")):
            assert program.poll() is None
            time.sleep(0.1)
        started = psutil.Process(program.pid).children(recursive=True)
        program.kill()
    assert started
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive


def test_what_matches_the_same_photo_is_asked_too() -> None:
    """Two neighbours of one photo, but neither those of a weak or doubtful match nor a pair that was asked already."""
    match = verified(scene(11), cropped(scene(11)))
    digits = {
        ("a", "b"): -30.0,
        ("b", "c"): CLOSING_LIMIT,
        ("b", "d"): CLOSING_LIMIT + 0.1,
        ("c", "e"): -9.0,
        ("b", "e"): -9.0,
    }
    known = {
        pair: replace(match, first=pair[0], second=pair[1], log_false_alarms=chance) for pair, chance in digits.items()
    }
    known["a", "f"] = replace(match, first="a", second="f", log_false_alarms=-50.0, transform=None)
    few_that_fit_badly = {"inliers": FEW_POINTS, "blurred_inliers": 0, "correlation": SAME_EXPOSURE - 0.01}
    known["a", "g"] = replace(match, first="a", second="g", log_false_alarms=-50.0, **few_that_fit_badly)
    assert closing_pairs(known, known) == [("a", "c"), ("a", "e")]
    assert closing_pairs(known, [("a", "b"), ("b", "d")]) == []
    hub = {
        ("0", f"{number}"): replace(match, log_false_alarms=-float(number)) for number in range(10, 10 + CANDIDATES + 5)
    }
    closing = closing_pairs(hub, hub)
    assert len(closing) == CANDIDATES * (CANDIDATES - 1) // 2
    assert closing[0] == ("15", "16")


def test_further_pairs_join_the_candidates_in_order() -> None:
    """Whichever photo is named first, and each pair once."""
    found = with_pairs(np.array([[0, 3], [1, 2]]), [(2, 0), (2, 1), (1, 3)])
    assert found.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert with_pairs(np.array([[0, 3]]), []).tolist() == [[0, 3]]


def test_pairs_of_the_same_photos_follow_each_other() -> None:
    """Of two sets of photos that share no pair, one is done with before the other begins, however they are named."""
    photos = [f"{7 * number % 40:02}" for number in range(40)]
    pairs = [tuple(sorted(pair)) for half in (photos[:20], photos[20:]) for pair in combinations(half, 2)]
    ordered = near_together(pairs)
    assert sorted(ordered) == sorted(pairs)
    assert near_together(reversed(pairs)) == ordered
    first = {photo for pair in ordered[:190] for photo in pair}
    assert first in ({*photos[:20]}, {*photos[20:]})
