"""What says how photos are prepared for an ONNX file: settings, the file beside it, metadata and shape, in turn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_onnx import MEAN, STD, expected, made, said_itself, settings, wide_photo

from neardup.encode.onnx_file import of_file, prepared
from neardup.errors import EncoderError

CROP = {
    "size": {"shortest_edge": 12},
    "crop_size": {"height": 8, "width": 8},
    "do_center_crop": True,
    "image_mean": MEAN,
    "image_std": STD,
}
"""A preparation that cuts a square of 8 pixels out of the middle."""


def beside(folder: Path, **config: Any) -> None:
    """Write a `preprocessor_config.json`."""
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A photo that is black in its middle third and white beside it."""
    wide_photo().save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def test_what_lies_beside_a_file_hides_its_metadata(tmp_path: Path, wide: Path) -> None:
    """A crop stays a crop, whatever the file says of itself."""
    path = said_itself(made(tmp_path / "m.onnx"), size=[8, 8], mean=STD, std=MEAN)
    beside(tmp_path, **CROP)
    encoder = of_file("x", path)
    assert encoder.read(wide).max() == 0
    assert encoder.fingerprint == of_file("x", path, {"mean": MEAN, "std": STD}).fingerprint


def test_a_size_that_is_said_crops_nothing(tmp_path: Path, wide: Path) -> None:
    """The whole photo is squeezed into it, with every level between black and white at the edges."""
    path = made(tmp_path / "m.onnx")
    beside(tmp_path, **CROP)
    assert of_file("x", path, {"size": [8, 8]}).read(wide)[:, [0, -1]].min() == 255


def test_a_photo_is_reduced_smoothly_where_nothing_says_how(tmp_path: Path, wide: Path) -> None:
    """Between black and white lie greys."""
    levels = of_file("x", made(tmp_path / "m.onnx", levels=True)).read(wide)
    assert ((levels > 0) & (levels < 255)).any()


def test_the_shape_of_the_input_wins_over_the_metadata(tmp_path: Path, wide: Path) -> None:
    """Where it tells the layout; where it does not the metadata do, and without them channels come first."""
    told = said_itself(made(tmp_path / "told.onnx", levels=True, last=True), layout="nchw")
    said = said_itself(made(tmp_path / "said.onnx", levels=True, last=True, channels="c"), layout="nhwc", size=[8, 8])
    mute = said_itself(made(tmp_path / "mute.onnx", levels=True, channels="c"), size=[8, 8])
    pixels = of_file("x", told).read(wide)
    for path in (told, said, mute):
        [vector] = of_file("x", path).encode([pixels])
        assert np.allclose(vector, expected(pixels.mean((0, 1)).tolist()), atol=1e-6)


def test_height_comes_before_width(tmp_path: Path, wide: Path) -> None:
    """In settings and in shapes of either layout."""
    oblong = made(tmp_path / "free.onnx", side="side", levels=True)
    assert of_file("x", oblong, {"size": [6, 4]}).read(wide).shape == (6, 4, 3)
    for last in (False, True):
        path = reshaped(made(tmp_path / "m.onnx", levels=True, last=last), 6, 4, last=last)
        assert of_file("x", path).read(wide).shape == (6, 4, 3)


def reshaped(path: Path, height: int, width: int, *, last: bool) -> Path:
    """A model with another height and width of its input."""
    import onnx  # noqa: PLC0415 - half a second that few of these tests need

    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for place, side in zip((1, 2) if last else (2, 3), (height, width), strict=True):
        dims[place].dim_value = side
    onnx.save(model, path)
    return path


def test_settings_win_over_a_file_that_does_not_normalise(tmp_path: Path) -> None:
    """Whoever names mean and scale wants them, whatever lies beside the file."""
    path = made(tmp_path / "m.onnx")
    beside(tmp_path, **CROP, do_normalize=False)
    plain, normalised = (of_file("x", path, table) for table in ({}, {"mean": MEAN, "std": STD}))
    photo = plain.prepare(Image.new("RGB", (4, 4), "orange"))
    assert not np.allclose(plain.encode([photo]), normalised.encode([photo]))
    (tmp_path / "preprocessor_config.json").unlink()
    assert np.array_equal(normalised.encode([photo]), of_file("x", path, {"mean": MEAN, "std": STD}).encode([photo]))


def test_the_layout_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Where the bytes of the file do not tell it: other numbers are in other places."""
    path = made(tmp_path / "m.onnx", levels=True, channels="c", side="side")
    one, other = (of_file("x", path, {"layout": layout, "size": [3, 3]}) for layout in ("nchw", "nhwc"))
    assert one.fingerprint != other.fingerprint


def test_what_is_said_beside_a_file_is_no_contradiction(tmp_path: Path) -> None:
    """The size of a crop is the size, and each way to say a layout is known; metadata that are hidden say nothing."""
    path = said_itself(made(tmp_path / "m.onnx"), size=[4, 4])
    beside(tmp_path, **CROP, data_format="channels_first")
    sentences: list[str] = []
    prepared(str(path), settings(tmp_path, 'size = [8, 8]\nlayout = "nchw"'), tmp_path / "models", sentences.append)
    assert sentences == []


def test_other_settings_are_another_folder(tmp_path: Path) -> None:
    """So that what was made for the former ones is not taken for these."""
    path = str(made(tmp_path / "m.onnx"))
    tables = [settings(tmp_path, f"mean = {mean}\nstd = {STD}") for mean in (MEAN, STD, MEAN)]
    first, other, again = (prepared(path, table, tmp_path / "models", print) for table in tables)
    assert first == again != other


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mean": [True, 0.5, 0.5], "std": STD}, "mean = .* is not three numbers"),
        ({"mean": "[Infinity, 0.5, 0.5]", "std": STD}, "mean = .* is not three numbers"),
        ({"mean": MEAN, "std": [0, 1, 1]}, "std = .* is not three numbers above 0"),
        ({"size": [8, 8.5]}, "size = .* is not height and width in pixels"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    """Truth is no number, infinity is no level, and nothing can be divided by 0."""
    with pytest.raises(EncoderError, match=f"the metadata of x: {sentence}"):
        of_file("x", said_itself(made(tmp_path / "m.onnx"), **values))


def test_a_mean_above_every_level_is_refused(tmp_path: Path) -> None:
    """Many models name mean and scale of levels 0 to 255: all photos would look alike; a file beside may say so."""
    path, of_bytes = made(tmp_path / "m.onnx"), {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    sentence = r"a mean of \[123.675, .*\] from levels of 0 to 1: .* divide both by 255"
    with pytest.raises(EncoderError, match=sentence):
        of_file("x", path, of_bytes)
    with pytest.raises(EncoderError, match=sentence):
        of_file("x", said_itself(made(tmp_path / "said.onnx"), **of_bytes))
    beside(tmp_path, size={"height": 8, "width": 8}, do_rescale=False, **{f"image_{k}": v for k, v in of_bytes.items()})
    photo = Image.new("RGB", (4, 4), (51, 102, 153))
    channels = [(level - mean) / std for level, mean, std in zip((51, 102, 153), *of_bytes.values(), strict=True)]
    np.testing.assert_allclose(of_file("x", path).encode([photo])[0], expected(channels), atol=1e-6)
