"""A photo that lies askew before the camera: its transform is projective, and nothing else has such a transform."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from test_explain import painted
from test_verify import COPIES, scene, verified

from neardup.arrays import Floats, Vectors
from neardup.verify.evidence import Evidence
from neardup.verify.frames import numbers_of, outline
from neardup.verify.perspective import LEAST_POINTS, perspective_of
from neardup.verify.relation import Kind, relation_of

SIZE = (480, 360)
"""Width and height of a scene."""
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def corners_of(narrowed: float) -> Floats:
    """Where the corners of a scene lie when its right side is so much shorter, as if farther away."""
    inward = SIZE[1] * narrowed / 2
    return np.array([[0, 0], [480, inward], [480, 360 - inward], [0, 360]])


def matrix_of_side(narrowed: float) -> Floats:
    """The transform that takes the corners of a scene there."""
    corners = corners_of(0).astype(np.float32)
    return np.asarray(cv2.getPerspectiveTransform(corners, corners_of(narrowed).astype(np.float32)), dtype=np.float64)


def from_the_side(photo: Image.Image, narrowed: float) -> Image.Image:
    """A scene on white paper whose right side is shorter."""
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = np.linalg.inv(centre) @ matrix_of_side(narrowed) @ centre
    warped = cv2.warpPerspective(np.asarray(photo), matrix, SIZE, borderValue=(255, 255, 255))
    return Image.fromarray(warped.astype(np.uint8))


def farthest_off(evidence: Evidence, corners: Floats) -> float:
    """By how much of the diagonal the first photo's corners are put beside their true places in the second."""
    assert evidence.transform is not None
    transform = np.linalg.inv(np.reshape(evidence.transform, (3, 3)))
    placed = outline(tuple(transform.ravel()), SIZE)
    assert placed is not None
    return float(np.hypot(*(placed - corners).T).max() / np.hypot(*SIZE))


def bent(photo: Image.Image) -> Image.Image:
    """A photo on paper that is wavy by 1 % of its width."""
    y, x = np.mgrid[: photo.height, : photo.width].astype(np.float32)
    waves = (x + 5 * np.sin(y / 60)).astype(np.float32), (y + 5 * np.sin(x / 60)).astype(np.float32)
    return Image.fromarray(cv2.remap(np.asarray(photo), *waves, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


@pytest.mark.parametrize("narrowed", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_photo_seen_from_the_side_is_outlined_exactly(seed: int, narrowed: float) -> None:
    """Its corners are right within .5 % of the diagonal; an affine transform misses by up to ten times as much."""
    found = verified(scene(seed), from_the_side(scene(seed), narrowed))
    assert found.in_perspective
    assert farthest_off(found, corners_of(narrowed)) < 0.005
    assert found.differences == ()


def test_what_is_seen_from_the_side_is_called_that() -> None:
    """Nothing is called squeezed by it, and the frame is the same, mirrored or not."""
    side = from_the_side(scene(3), 0.15)
    relation = relation_of(verified(scene(3), ImageOps.mirror(side)))
    assert relation.flags == ("crop", "mirrored", "seen from the side", "plain around")
    assert ", one seen from the side;" in relation.sentence()
    assert relation.crop == "first"


def test_a_retouch_is_boxed_where_it_is_in_perspective() -> None:
    """One box, on the place that was painted over."""
    [box] = verified(scene(4), from_the_side(painted(scene(4), "white"), 0.12)).differences
    assert np.allclose(box, (120, 90, 120, 110), atol=25)


def waves(matrix: Floats) -> Floats:
    """Light and dark that swell too softly for keypoints, float64 (360, 480), after an affine transform, (2, 3)."""
    inverse = cv2.invertAffineTransform(matrix)
    x, y = inverse @ np.stack([*np.mgrid[:360, :480][::-1], np.ones((360, 480))]).reshape(3, -1)
    return np.reshape(128 + 110 * np.sin(x / 25) * np.sin(y / 25), (360, 480))


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_points_are_not_believed_where_pixels_say_otherwise(seed: int) -> None:
    """The left of a picture leans, and holds all keypoints; the right of it has moved as its mean does."""
    edge, narrowed = 260, 0.08
    grey, left = np.asarray(scene(seed).convert("L"), dtype=np.float64), np.tile(np.arange(480) < edge, (360, 1))
    photo = Image.fromarray(np.where(left, grey, waves(np.eye(2, 3))).astype(np.uint8)).convert("RGB")
    leaning = from_the_side(photo, narrowed)
    assert verified(photo, leaning).in_perspective

    places = np.stack(np.meshgrid(np.linspace(0, edge, 9), np.linspace(0, 360, 9)), axis=-1).reshape(-1, 2)
    moved = cv2.perspectiveTransform(places[None], matrix_of_side(narrowed))[0]
    mean = np.linalg.lstsq(np.c_[places, np.ones(len(places))], moved)[0].T
    left = cv2.warpAffine(left.astype(np.float32), mean, SIZE) > 1 / 2
    half = np.where(left, np.asarray(leaning.convert("L"), dtype=np.float64), waves(mean))
    found = verified(photo, Image.fromarray(half.astype(np.uint8)).convert("RGB"))
    assert found.matched
    assert not found.in_perspective


@pytest.mark.parametrize("copy", [*COPIES.values(), bent], ids=[*COPIES, "bent"])
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_no_other_copy_is_in_perspective(copy: Callable[[Image.Image], Image.Image], seed: int) -> None:
    """Their transforms stay affine."""
    found = verified(scene(seed), copy(scene(seed)))
    assert found.matched
    assert not found.in_perspective


def test_the_share_of_a_crop_is_that_of_its_true_outline() -> None:
    """Words follow the outline; the evidence's coverage is the affine transform's, for probabilities rest on it."""
    whole = verified(scene(8), from_the_side(scene(8), 0.2))
    assert relation_of(whole).share == pytest.approx(0.9, abs=0.01)
    assert relation_of(whole).kind is Kind.CROP


def made_matches(
    count: int, noise: float = 0.5, *, of: float | tuple[float, float] = 1.0, narrowed: float = 0.1
) -> Vectors:
    """Points in a part of the first photo, and where they lie in the second that is seen from the side, with noise."""
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 1, (count, 2)) * SIZE * of
    second = cv2.perspectiveTransform(first[None], matrix_of_side(narrowed))[0] + rng.normal(0, noise, (count, 2))
    return np.concatenate([first, second], axis=1).astype(np.float32)


def test_wrong_matches_do_not_count() -> None:
    """A third of them that lie anywhere changes nothing."""
    wrong = np.random.default_rng(1).uniform(0, 360, (20, 4)).astype(np.float32)
    found = perspective_of(np.concatenate([made_matches(40), wrong]), IDENTITY, SIZE, SIZE)
    assert found is not None
    assert np.allclose(np.reshape(found, (3, 3))[2, :2], matrix_of_side(0.1)[2, :2], atol=5e-5)


@pytest.mark.parametrize(
    "matches",
    [
        made_matches(LEAST_POINTS - 1, 0.1),
        made_matches(200, narrowed=0),
        made_matches(60, 6.0),
        made_matches(60, of=0.3),
        made_matches(60, of=(1.0, 0.1)),
        np.empty((0, 4), np.float32),
    ],
    ids=["few", "affine", "inexact", "in a corner", "in a strip", "none"],
)
def test_nothing_projective_is_made_of_little(matches: Vectors) -> None:
    """Few points, points that an affine transform fits as well, inexact ones, and such as leave far sides unsure."""
    assert perspective_of(matches, IDENTITY, SIZE, SIZE) is None


def test_no_part_of_a_photo_is_turned_away() -> None:
    """A side of half the length is too steep for a copy."""
    assert perspective_of(made_matches(100, narrowed=0.12), IDENTITY, SIZE, SIZE) is not None
    first = np.random.default_rng(0).uniform(0, 1, (200, 2)) * SIZE
    for narrowed, is_found in ((0.45, True), (0.6, False)):
        second = cv2.perspectiveTransform(first[None], matrix_of_side(narrowed))[0]
        affine = np.linalg.lstsq(np.c_[first, np.ones(len(first))], second)[0].T
        matches = np.concatenate([first, second], axis=1).astype(np.float32)
        found = perspective_of(matches, numbers_of(np.vstack([affine, [0, 0, 1]])), SIZE, SIZE)
        assert (found is not None) == is_found


@pytest.mark.parametrize(("second", "is_found"), [((2000, 1500), True), ((8000, 6000), False)])
def test_no_part_of_a_larger_photo_is_turned_away(second: tuple[int, int], is_found: bool) -> None:  # noqa: FBT001
    """The upper and the lower edge of a side of .88 meet at 4,000 pixels: no photo shows what lies beyond."""
    assert (perspective_of(made_matches(100, narrowed=0.12), IDENTITY, SIZE, second) is not None) == is_found
