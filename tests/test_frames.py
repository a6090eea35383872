"""How two frames lie, read from a transform."""

import numpy as np
import pytest

from neardup.verify.evidence import Transform
from neardup.verify.frames import box_in_first, by_centres, frames_of, inverse, outline, rescaled

SIZE = (400, 300)


def affine(*numbers: float) -> Transform:
    """A transform of six numbers."""
    a, b, c, d, e, f = numbers
    return (a, b, c, d, e, f, 0, 0, 1)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("error", [0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-4])
def test_equal_frames_cover_each_other_whatever_is_rounded(error: float, sign: int) -> None:
    """No rounding of a transform that changes nothing makes two equal frames disjoint."""
    found = frames_of(affine(1, sign * error, -error, error, 1, sign * error), SIZE, SIZE)
    assert found.coverage_first == pytest.approx(1, abs=1e-3)
    assert found.coverage_second == pytest.approx(1, abs=1e-3)


def test_coverage_is_the_share_that_the_other_shows() -> None:
    """Of a quarter moved half out: an eighth of the whole, half of the crop; of frames that do not meet: nothing."""
    found = frames_of(affine(1, 0, 100, 0, 1, 0), SIZE, (200, 150))
    assert (found.coverage_first, found.coverage_second) == pytest.approx((0.125, 0.5))
    apart = frames_of(affine(1, 0, 1000, 0, 1, 0), SIZE, SIZE)
    assert (apart.coverage_first, apart.coverage_second) == (0, 0)


def test_a_turned_frame_is_covered_by_what_is_inside() -> None:
    """A square turned by 45° about its middle covers 82.8 % of itself."""
    root = np.sqrt(0.5)
    found = frames_of(affine(root, -root, 50, root, root, 50 - 100 * root), (100, 100), (100, 100))
    assert found.coverage_first == pytest.approx(2 * (np.sqrt(2) - 1), abs=1e-6)
    assert found.rotation == pytest.approx(45)


def test_mirror_rotation_scale_and_squeeze_are_told_apart() -> None:
    """Mirrored and upside down are one mirror and half a turn; a squeeze is the ratio of two axes."""
    mirrored = frames_of(affine(-2, 0, 800, 0, 2, 0), SIZE, (800, 600))
    assert (mirrored.mirrored, mirrored.rotation, mirrored.scale) == pytest.approx((True, 0, 2))
    flipped = frames_of(affine(1, 0, 0, 0, -1, 300), SIZE, SIZE)
    assert (flipped.mirrored, flipped.rotation) == (True, 180)
    cosine, sine = np.sqrt(0.75), 0.5
    turned = frames_of(affine(-cosine, -sine, 400, -sine, cosine, 200), SIZE, (600, 600))
    assert (turned.mirrored, turned.rotation) == pytest.approx((True, 30))
    assert frames_of(affine(0.8, 0, 0, 0, 1, 0), SIZE, (320, 300)).squeeze == pytest.approx(0.8)


def test_a_box_is_cut_off_at_the_frame_and_undone_by_the_inverse() -> None:
    """What lies outside of the first photo is no part of it."""
    transform = affine(1, 0, 50, 0, 1, -30)
    assert box_in_first(transform, SIZE, (100, 100)) == pytest.approx((0, 30, 50, 100))
    assert box_in_first(affine(1, 0, -380, 0, 1, -250), SIZE, (100, 100)) == pytest.approx((380, 250, 20, 50))
    back = outline(inverse(transform), SIZE)
    assert back is not None
    assert np.allclose(back[0], [50, -30])
    halved = rescaled(transform, (0.5, 0.5), (2, 2))
    assert halved == pytest.approx(affine(4, 0, 100, 0, 4, -60))
    assert rescaled(transform, (0.5, 0.25), (2, 3)) == pytest.approx(affine(4, 0, 100, 0, 12, -90))


def test_a_transform_without_an_inverse_has_no_outline() -> None:
    """It covers nothing."""
    assert outline(affine(0, 0, 0, 0, 0, 0), SIZE) is None


def test_a_projective_transform_is_read_at_the_middle_of_the_first_photo() -> None:
    """There it shrinks by 1.2 one way and by 1.44 the other, and leans; at the left edge it does neither."""
    found = frames_of((1, 0, 0, 0, 1, 0, 0.001, 0, 1), SIZE, SIZE)
    assert found.scale == pytest.approx(1.2**-1.5)
    assert found.rotation == pytest.approx(np.degrees(np.arctan2(-0.15 / 1.44, 1 / 1.2 + 1 / 1.44)))


def test_opencv_counts_pixels_from_their_centres() -> None:
    """What doubles a photo takes the centre of its first pixel between the first and the second pixel."""
    assert np.allclose(by_centres(affine(2, 0, 0, 0, 2, 0)), [[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
