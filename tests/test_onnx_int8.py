"""ONNX files as exporters write them: in 8-bit integers, in half precision, with their weights in another file."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from neardup.encode.encoder import load_encoder
from neardup.errors import EncoderError

SIDE = 32
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
DRAWS = np.random.default_rng(0)
IMAGES = [
    Image.fromarray(DRAWS.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
    for _ in range(5)
]


def convolutional() -> nn.Module:
    """A network of convolutions, more of them than stay in floating point."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, stride=2), nn.ReLU()]
    for _ in range(7):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def products() -> nn.Module:
    """A network of products, as a transformer is."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, 24))


def export(network: nn.Module, path: Path, *, batch: int = 0, half: bool = False, beside: bool = False) -> Path:
    """Write a network as an ONNX file.

    Args:
        network: takes normalised pixels.
        path: the file.
        batch: photos that it takes at once; 0 for any number.
        half: whether it computes in float16.
        beside: whether its weights lie in another file.
    """
    pixels = torch.zeros(batch or 2, 3, SIDE, SIDE, dtype=torch.float16 if half else torch.float32)
    any_number = () if batch else ({0: torch.export.Dim("n")},)
    network = network.eval().half() if half else network.eval()
    options: dict[str, Any] = {"input_names": ["pixels"], "external_data": beside, "verbose": False}
    torch.onnx.export(network, (pixels,), path, dynamic_shapes=any_number or None, **options)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that keeps what is quantised."""
    torch.manual_seed(0)
    monkeypatch.setattr(importlib.import_module("neardup.encode.int8"), "FOLDER", tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("network", [convolutional, products])
def test_int8_is_nearly_fp32(network: Any, tmp_path: Path, home: Path) -> None:
    """Of convolutions and of products; it is another encoder, of a fourth of the weights, quantised once."""
    file = str(export(network(), tmp_path / "model.onnx"))
    full, lower, again = (load_encoder(file, "cpu", dtype, onnx=IMAGENET) for dtype in ("fp32", "int8", "int8"))
    vectors = lower.encode(IMAGES)
    assert 0.99 < (vectors * full.encode(IMAGES)).sum(axis=1).min() < 1 - 1e-6
    assert full.fingerprint != lower.fingerprint == again.fingerprint
    assert vectors.shape == (len(IMAGES), full.dimension)
    [kept] = home.iterdir()
    assert any("Quantize" in node.op_type for node in onnx.load(kept).graph.node)


@pytest.mark.parametrize("network", [convolutional, products])
def test_a_photo_has_one_int8_vector_in_any_company(network: Any, tmp_path: Path) -> None:
    """To the last bit: a scale that is taken as activations come is that of one photo."""
    encoder = load_encoder(str(export(network(), tmp_path / "model.onnx")), "cpu", "int8", onnx=IMAGENET)
    alone = np.concatenate([encoder.encode([image]) for image in IMAGES])
    assert encoder.encode(IMAGES).tobytes() == alone.tobytes()


def test_what_was_quantised_before_is_refused(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the peers' files are; in fp32 it is taken as it is. Another version of the library quantises anew."""
    file = str(export(products(), tmp_path / "model.onnx"))
    load_encoder(file, "cpu", "int8", onnx=IMAGENET)
    [quantised] = home.iterdir()
    monkeypatch.setattr("onnxruntime.__version__", "0")
    load_encoder(file, "cpu", "int8", onnx=IMAGENET)
    assert len(list(home.iterdir())) == 2
    assert load_encoder(str(quantised), onnx=IMAGENET).encode(IMAGES).shape == (len(IMAGES), 24)
    with pytest.raises(EncoderError, match=r"was quantised before it was exported: leave --precision out"):
        load_encoder(str(quantised), "cpu", "int8", onnx=IMAGENET)


@pytest.mark.parametrize(
    ("batch", "half", "sentence"),
    [
        (4, False, "takes 4 photos at once, int8 needs one"),
        (0, True, r"cannot be computed in int8 \(it has no weights in float32"),
    ],
)
def test_what_cannot_be_quantised_is_one_sentence(
    batch: int,
    half: bool,  # noqa: FBT001 - a test's parameter
    sentence: str,
    tmp_path: Path,
    home: Path,
) -> None:
    """It ends with what to do, and nothing is kept."""
    file = export(products(), tmp_path / "model.onnx", batch=batch, half=half)
    with pytest.raises(EncoderError, match=f"{sentence}.*leave --precision out"):
        load_encoder(str(file), "cpu", "int8", onnx=IMAGENET)
    assert not list(home.glob("*"))


@pytest.mark.parametrize(
    ("device", "dtype", "sentence"),
    [("cuda", "fp32", "which the CPU computes: leave --device out"), ("auto", "bf16", "leave --precision bf16 out")],
)
def test_what_onnx_files_do_not_have_is_one_sentence(device: str, dtype: Any, sentence: str, tmp_path: Path) -> None:
    """Neither a GPU nor other numbers."""
    with pytest.raises(EncoderError, match=sentence):
        load_encoder(str(tmp_path / "model.onnx"), device, dtype)


def test_a_file_in_half_precision_is_taken_as_it_is(tmp_path: Path) -> None:
    """Its pixels are given in float16, its vectors are float32."""
    network = products()
    full = load_encoder(str(export(network, tmp_path / "full.onnx")), onnx=IMAGENET).encode(IMAGES)
    half = load_encoder(str(export(network, tmp_path / "half.onnx", half=True)), onnx=IMAGENET).encode(IMAGES)
    assert half.dtype == np.float32
    assert half == pytest.approx(full, abs=1e-3)


def test_weights_may_lie_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch exports unless it is told otherwise; a folder that is made of it holds them all in one."""
    file = export(products(), tmp_path / "model.onnx", beside=True)
    [weights] = tmp_path.glob("model.onnx*data")
    encoder = load_encoder(str(file), onnx=IMAGENET)
    encoder.save(tmp_path / "saved")
    saved = load_encoder(str(tmp_path / "saved"))
    assert saved.fingerprint == load_encoder(str(file), onnx=IMAGENET).fingerprint
    assert saved.encode(IMAGES).tobytes() == encoder.encode(IMAGES).tobytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = load_encoder(str(export(products(), elsewhere / "model.onnx", beside=True)), onnx=IMAGENET)
    monkeypatch.chdir(elsewhere)  # where weights of that name lie, which are another model's
    again = load_encoder(str(file), onnx=IMAGENET)
    assert again.fingerprint == encoder.fingerprint != other.fingerprint
    assert again.encode(IMAGES).tobytes() == encoder.encode(IMAGES).tobytes()
    weights.unlink()
    with pytest.raises(EncoderError, match=r"keeps its weights in another file, which cannot be read .*beside it"):
        load_encoder(str(file), onnx=IMAGENET)
