"""The printing screen of a photo: it is seen, and blurred before the photo is encoded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from test_verify import scene

from neardup.builtin.tiny import image_processor
from neardup.encode.encoder import CHECKPOINT
from neardup.encode.onnx import Preparation, of_checkpoint
from neardup.encode.screen import descreened, screen_period
from neardup.stages import read_json, write_json
from neardup.train.batches import as_bytes
from neardup.verify.screens import certain_screen_period


def printed(seed: int, period: float) -> Image.Image:
    """A drawn scene, and the same as a printing screen makes it: dots in black and white, turned by 40 degrees."""
    grey = np.asarray(scene(seed).convert("L"), dtype=np.float32)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32) * np.float32(2 * np.pi / period)
    cos, sin = np.float32(np.cos(0.7)), np.float32(np.sin(0.7))
    dots = (np.cos(x * cos + y * sin) + np.cos(y * cos - x * sin)) * 64 + 127
    return Image.fromarray(np.where(grey > dots, 255, 0).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("period", [3.5, 5.0, 6.0])
def test_the_period_of_a_screen_is_measured(period: float) -> None:
    """Within 8 %, and a photo without a screen has none."""
    assert screen_period(np.asarray(printed(73, period).convert("L"))) == pytest.approx(period, rel=0.08)
    assert screen_period(np.asarray(scene(73).convert("L"))) == 0
    assert screen_period(np.zeros((20, 300), np.uint8)) == 0


def test_stripes_are_no_screen() -> None:
    """A fence repeats in one direction, a screen in two at a right angle."""
    y, x = np.mgrid[:300, :400]
    grain = np.random.default_rng(0).normal(127, 10, x.shape)
    waves = [np.cos(2 * np.pi / 5 * (x * np.cos(turn) + y * np.sin(turn))) for turn in (0.6, 0.6 + np.pi / 2)]
    stripes, dots = (np.clip(grain + 40 * wave, 0, 255).astype(np.uint8) for wave in (waves[0], waves[0] + waves[1]))
    assert screen_period(stripes) == 0
    assert screen_period(dots) == pytest.approx(5, rel=0.08)


def test_what_repeats_along_the_axes_is_no_screen() -> None:
    """Columns, windows, lines of text and the blocks of JPEG do; a screen is laid askew."""
    y, x = np.mgrid[:300, :400]
    grain = np.random.default_rng(0).normal(127, 10, x.shape)
    dots = np.clip(grain + 40 * (np.cos(2 * np.pi / 5 * x) + np.cos(2 * np.pi / 5 * y)), 0, 255).astype(np.uint8)
    assert screen_period(dots) == 0


def test_a_photo_without_a_screen_stays_as_it_is() -> None:
    """Nothing is blurred in it, not even by a little."""
    photo = scene(73)
    assert descreened(photo) is photo


@pytest.mark.parametrize("size", [(160, 120), (240, 180)])
def test_a_soft_photo_that_lies_askew_on_white_is_not_called_screened(size: tuple[int, int]) -> None:
    """Its edges are at a right angle, and it holds nothing as fine; a screen that lies so is told all the same."""
    soft = scene(75).resize(size).filter(ImageFilter.GaussianBlur(3))
    for picture, period in ((soft, 0), (printed(73, 5), 5)):
        page = Image.new("L", (picture.width + 120, picture.height + 120), "white")
        page.paste(picture, (60, 60))
        turned = page.rotate(-5, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        assert certain_screen_period(np.asarray(turned)) == pytest.approx(period, rel=0.08)


def test_the_dots_of_a_screen_become_grey() -> None:
    """Black and white come nearer to the photograph that was printed."""
    print_ = printed(73, 5)
    photo, dots, grey = (np.asarray(one.convert("L"), np.float32) for one in (scene(73), print_, descreened(print_)))
    assert np.abs(grey - photo).mean() < np.abs(dots - photo).mean() / 2


def test_a_print_is_encoded_as_its_photograph(tmp_path: Path) -> None:
    """By the shipped encoder, whose preparation says so; without that it is farther off, and another encoder."""
    bare = shutil.copytree(CHECKPOINT, tmp_path / "bare")
    config = read_json(bare / "preprocessor_config.json")
    assert config.pop("do_descreen")
    write_json(bare / "preprocessor_config.json", config)
    shipped, other = of_checkpoint("x", CHECKPOINT), of_checkpoint("x", bare)
    assert shipped.fingerprint != other.fingerprint
    (print_, photo), (dots, plain) = (one.encode([printed(75, 5), scene(75)]) for one in (shipped, other))
    np.testing.assert_array_equal(photo, plain)
    assert dots @ plain < print_ @ photo - 0.1


def test_it_is_kept_with_the_preparation() -> None:
    """And what was prepared without has the key that it had before there was such."""
    preparation = Preparation(8, 8, descreen=True)
    assert Preparation.of(preparation.config()).descreen
    assert not Preparation.of(Preparation(8, 8).config()).descreen
    assert "descreen" in preparation.key
    assert "descreen" not in Preparation(8, 8).key


def test_training_sees_what_the_encoder_sees() -> None:
    """A print without its dots."""
    processor = image_processor()
    seen = as_bytes(processor, printed(73, 5))
    processor.do_descreen = False
    assert torch.equal(seen, as_bytes(processor, descreened(printed(73, 5))))
    assert not torch.equal(seen, as_bytes(processor, printed(73, 5)))
