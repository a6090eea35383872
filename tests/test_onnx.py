"""Encoders that ONNX Runtime computes: files of anybody's, and checkpoints with a graph beside them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from neardup.encode.graph import write_graph
from neardup.encode.onnx import GRAPH, Preparation, fingerprint_of, of_checkpoint, of_file, opened, vision_weights
from neardup.errors import EncoderError

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SIDE = 8


def made(
    path: Path, *, levels: bool = False, last: bool = False, batch: int | str = "n", side: int | str = SIDE
) -> Path:
    """A model that gives the mean of each channel and a constant: (n, 4)."""
    shape = [batch, side, side, 3] if last else [batch, 3, side, side]
    kind = TensorProto.UINT8 if levels else TensorProto.FLOAT
    axes = numpy_helper.from_array(np.array([1, 2] if last else [2, 3], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["means"], keepdims=0),
        helper.make_node("Pad", ["means", "pads", "one"], ["vectors"]),
    ]
    constants = [
        axes,
        numpy_helper.from_array(np.array([0, 0, 0, 1], np.int64), "pads"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [batch, 4])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of one colour."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 30), (51, 102, 153)).save(path)
    return path


def expected(channels: list[float]) -> Any:
    """A unit vector of the channels and 1."""
    vector = np.array([*channels, 1])
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("last", [False, True])
def test_a_file_of_floats_gets_normalised_levels(tmp_path: Path, photo: Path, *, last: bool) -> None:
    """In either layout; the mean and the deviation are said."""
    encoder = of_file("x", made(tmp_path / "m.onnx", last=last), {"mean": MEAN, "std": STD, "size": ()})
    [vector] = encoder.encode([encoder.read(photo)])
    channels = [(level - mean) / std for level, mean, std in zip((0.2, 0.4, 0.6), MEAN, STD, strict=True)]
    np.testing.assert_allclose(vector, expected(channels), atol=1e-6)
    assert encoder.dimension == 4


@pytest.mark.parametrize("last", [False, True])
def test_a_file_of_levels_gets_them_as_they_are(tmp_path: Path, photo: Path, *, last: bool) -> None:
    """uint8 in, whatever the layout."""
    encoder = of_file("x", made(tmp_path / "m.onnx", levels=True, last=last))
    [vector] = encoder.encode([encoder.read(photo)])
    np.testing.assert_allclose(vector, expected([51, 102, 153]), atol=1e-6)


def test_a_file_that_takes_one_image_is_given_one(tmp_path: Path, photo: Path) -> None:
    """However many are encoded."""
    encoder = of_file("x", made(tmp_path / "m.onnx", levels=True, batch=1))
    assert encoder.encode([encoder.read(photo)] * 3).shape == (3, 4)


def test_a_file_may_say_itself_how_photos_are_prepared(tmp_path: Path, photo: Path) -> None:
    """In its metadata."""
    model = onnx.load(made(tmp_path / "m.onnx", side="side"))
    for key, value in {"image_size": [6, 6], "image_mean": MEAN, "image_std": STD}.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, tmp_path / "said.onnx")
    encoder = of_file("x", tmp_path / "said.onnx")
    assert encoder.read(photo).shape == (6, 6, 3)


def test_the_fingerprint_is_that_of_bytes_and_preparation(tmp_path: Path) -> None:
    """Another mean gives other vectors."""
    path = made(tmp_path / "m.onnx")
    first, again, other = (of_file("x", path, {"mean": mean, "std": STD}) for mean in (MEAN, MEAN, STD))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes(b"no model"), "cannot open x"),
        (lambda path: made(path, side="side"), "takes images of any size"),
        (made, "how levels are normalised"),
        (lambda _: None, "there is no file"),
    ],
)
def test_what_is_no_image_encoder_is_refused(tmp_path: Path, make: Any, sentence: str) -> None:
    """In one sentence."""
    make(tmp_path / "m.onnx")
    with pytest.raises(EncoderError, match=sentence):
        of_file("x", tmp_path / "m.onnx")


def test_a_crop_takes_the_middle_of_the_photo() -> None:
    """As an image processor of transformers does that resizes the shortest side."""
    config = {
        "size": {"shortest_edge": 8},
        "crop_size": {"height": 8, "width": 8},
        "do_center_crop": True,
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 2,
    }
    wide = Image.new("RGB", (48, 16), "white")
    wide.paste("black", (16, 0, 32, 16))
    assert Preparation.of(config).pixels(wide)[:, 1:-1].max() == 0


class Tower(nn.Module):
    """A vision tower by the names of a dual encoder's."""

    def __init__(self) -> None:
        """Draw the weights."""
        super().__init__()
        self.vision_model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.visual_projection = nn.Linear(4, 5, bias=False)


def vectors_of(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Means of the features, projected."""
    vectors: torch.Tensor = tower.visual_projection(tower.vision_model(pixels).mean((2, 3)))
    return vectors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tower]:
    """A checkpoint in half precision with a graph beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    tower = Tower().eval()
    tower.vision_model[1].running_var.fill_(2.0)
    tower.half().float()
    save_file({name: one.half() for name, one in tower.state_dict().items()}, folder / "model.safetensors")
    config = {"size": {"height": 8, "width": 8}, "image_mean": MEAN, "image_std": STD, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"vision_config": {}}), encoding="utf-8")
    write_graph(tower, vectors_of, (3, 8, 8), folder / GRAPH)
    return folder, tower


def test_a_checkpoint_gives_what_torch_gives(checkpoint: tuple[Path, Tower]) -> None:
    """Its graph holds no weights: those of the checkpoint are put in."""
    folder, tower = checkpoint
    encoder = of_checkpoint("x", folder)
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)) for _ in range(5)]
    pixels = [encoder.prepare(photo) for photo in photos]
    config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    with torch.no_grad():
        wanted = vectors_of(tower, torch.from_numpy(Preparation.of(config).normalised(pixels)))
    np.testing.assert_allclose(encoder.encode(pixels), nn.functional.normalize(wanted).numpy(), atol=1e-5)
    assert b"running_mean" in (folder / GRAPH).read_bytes()


def test_its_fingerprint_is_that_of_weights_and_preparation(checkpoint: tuple[Path, Tower]) -> None:
    """So that torch, which computes it from the same numbers, has the same one."""
    folder, tower = checkpoint
    config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    weights = {name: one.numpy() for name, one in tower.state_dict().items() if "num_batches" not in name}
    assert of_checkpoint("x", folder).fingerprint == fingerprint_of(weights, Preparation.of(config))
    assert sorted(weights) == list(vision_weights(folder))


def test_a_photo_has_one_vector_whatever_its_company(checkpoint: tuple[Path, Tower]) -> None:
    """To the last bit."""
    encoder = of_checkpoint("x", checkpoint[0])
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(7)]
    together = encoder.encode(pixels)
    alone = np.concatenate([encoder.encode([one]) for one in pixels])
    np.testing.assert_array_equal(together, alone)


def test_torch_is_not_imported(checkpoint: tuple[Path, Tower]) -> None:
    """It takes seconds that a search for one photo has not."""
    code = (
        "import sys; from pathlib import Path; from neardup.encode.onnx import of_checkpoint; "
        f"of_checkpoint('x', Path({str(checkpoint[0])!r})); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_weights_of_another_graph_are_refused(checkpoint: tuple[Path, Tower]) -> None:
    """In one sentence."""
    graph = (checkpoint[0] / GRAPH).read_bytes()
    with pytest.raises(EncoderError, match="cannot open x"):
        opened("x", graph, {"vision_model.9.weight": np.zeros(3, np.float32)})
