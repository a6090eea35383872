"""Encoders that ONNX Runtime computes: files of anybody's, and checkpoints with a graph beside them."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from tiny_models import pixels_model
from torch import nn

from neardup.cli import main
from neardup.encode.encoder import CHECKPOINT, load_encoder
from neardup.encode.graph import write_graph
from neardup.encode.onnx import GRAPH, Preparation, fingerprint_of, of_checkpoint, open_graph, vision_weights
from neardup.encode.onnx_file import of_file, prepared
from neardup.errors import ConfigError, EncoderError
from neardup.settings.file import load_settings
from neardup.settings.schema import OnnxSettings

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SIDE = 8


def made(
    path: Path,
    *,
    levels: bool = False,
    last: bool = False,
    batch: int | str = "n",
    side: int | str = SIDE,
    channels: int | str = 3,
) -> Path:
    """A model that gives the mean of each channel and a constant: (n, 4)."""
    shape = [batch, side, side, channels] if last else [batch, channels, side, side]
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


def test_the_vectors_are_the_first_matrix_that_comes_out(tmp_path: Path, photo: Path) -> None:
    """As of a vision model that was exported with its tokens, (n, t, d), before its pooled vectors."""
    model = onnx.load(made(tmp_path / "m.onnx", levels=True))
    alone = of_file("x", tmp_path / "m.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "second"))
    model.graph.node.append(helper.make_node("Unsqueeze", ["vectors", "second"], ["tokens"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", 1, 4]))
    onnx.save(model, tmp_path / "two.onnx")
    both = of_file("x", tmp_path / "two.onnx")
    assert both.encode([both.read(photo)]).tobytes() == alone.encode([alone.read(photo)]).tobytes()
    del model.graph.output[1]
    onnx.save(model, tmp_path / "tokens.onnx")
    with pytest.raises(EncoderError, match=r"x is no image encoder: .* gives \(n, 1, 4\), where"):
        of_file("x", tmp_path / "tokens.onnx")


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        (9, "x does not take pictures of 9 × 9 pixels .*: mend the size"),
        (16, "x gives 4 vectors of 1 picture of 16 × 16 pixels: mend the size"),
    ],
)
def test_a_size_that_the_input_does_not_refute_is_tried(tmp_path: Path, side: int, sentence: str) -> None:
    """Before anything else is done: the graph says that it takes any size, and is made for 8 × 8 pixels."""
    model = onnx.load(pixels_model(tmp_path / "m.onnx", 8))
    for place, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(EncoderError, match=sentence):
        of_file("x", tmp_path / "m.onnx", {"size": (side, side)})


def said_itself(path: Path, **values: Any) -> Path:
    """The same file, which says of itself how photos are prepared."""
    model = onnx.load(path)
    for key, value in values.items():
        model.metadata_props.add(key=f"image_{key}", value=value if isinstance(value, str) else json.dumps(value))
    onnx.save(model, path)
    return path


def settings(folder: Path, table: str) -> OnnxSettings:
    """What a `neardup.toml` with these lines of `[onnx]` says."""
    file = folder / "neardup.toml"
    file.write_text(f"[onnx]\n{table}", encoding="utf-8")
    return load_settings(file).onnx


def test_the_settings_may_say_how_photos_are_prepared(tmp_path: Path, photo: Path) -> None:
    """Layout, size, mean and scale of a file that says nothing, by its shape neither."""
    path = made(tmp_path / "m.onnx", last=True, side="side", channels="channels")
    table = settings(tmp_path, f'layout = "nhwc"\nsize = [6, 4]\nmean = {MEAN}\nstd = {STD}')
    folder = prepared(str(path), table, tmp_path / "models", print)
    encoder = load_encoder(folder)
    assert encoder.read(photo).shape == (6, 4, 3)
    [vector] = encoder.encode([encoder.read(photo)])
    channels = [(level - mean) / std for level, mean, std in zip((0.2, 0.4, 0.6), MEAN, STD, strict=True)]
    np.testing.assert_allclose(vector, expected(channels), atol=1e-6)
    said = {"layout": "nhwc", "size": (6, 4), "mean": MEAN, "std": STD}
    assert load_encoder(str(path), onnx=said).fingerprint == encoder.fingerprint
    assert load_encoder(folder, onnx={"size": (4, 6)}).fingerprint != encoder.fingerprint


def test_the_settings_win_over_the_file_which_is_said_once(tmp_path: Path) -> None:
    """What the file says too, or alone, is no contradiction; a second run has nothing to say."""
    path = said_itself(made(tmp_path / "m.onnx", side="side"), layout="nchw", size=[6, 6], mean=MEAN, std=STD)
    table, sentences = settings(tmp_path, f"size = [4, 4]\nmean = {MEAN}"), []
    for _ in range(2):
        folder = prepared(str(path), table, tmp_path / "models", sentences.append)
    assert load_encoder(folder).read(image_bytes()).shape == (4, 4, 3)
    [sentence] = sentences
    assert sentence.endswith("contradicts " + str(path) + ": size is [4, 4] there, [6, 6] by the file")


def image_bytes() -> bytes:
    """A grey picture as a PNG file."""
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "gray").save(file, "PNG")
    return file.getvalue()


def test_settings_that_say_nothing_leave_every_name_as_it_is(tmp_path: Path) -> None:
    """So do those that speak of an ONNX file where the encoder is none."""
    path, table = str(made(tmp_path / "m.onnx")), settings(tmp_path, "size = [8, 8]")
    assert prepared(path, OnnxSettings(), tmp_path / "models", print) == path
    assert prepared("builtin:tiny", table, tmp_path / "models", print) == "builtin:tiny"
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ('layout = "hwc"', "onnx.layout = 'hwc': input should be 'nchw' or 'nhwc'"),
        ("size = [224]", "onnx.size = .*at least 2 items"),
        ("size = [0, 8]", r"onnx.size.0 = 0: input should be greater than or equal to 1"),
        ("std = [0.2, 0.0, 0.2]", r"onnx.std.1 = 0.0: input should be greater than 0"),
        ("means = [0.2, 0.0, 0.2]", "unknown setting onnx.means: did you mean mean"),
    ],
)
def test_a_bad_setting_is_one_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    """With the file, the name and the value."""
    with pytest.raises(ConfigError, match=sentence):
        settings(tmp_path, table)


@pytest.mark.parametrize(
    ("model", "table", "sentence"),
    [
        ({}, 'layout = "nhwc"', r"takes images \('n', 3, 8, 8\), which is nchw"),
        ({}, f"size = [9, 8]\nmean = {MEAN}\nstd = {STD}", "not of 9 × 8 pixels"),
        ({"levels": True}, f"mean = {MEAN}", "leave mean and std out"),
    ],
)
def test_settings_that_a_model_refutes_are_one_sentence(
    tmp_path: Path, model: dict[str, Any], table: str, sentence: str
) -> None:
    """Before anything is computed."""
    with pytest.raises(EncoderError, match=sentence):
        prepared(str(made(tmp_path / "m.onnx", **model)), settings(tmp_path, table), tmp_path / "models", print)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mean": "half"}, "the metadata of x: image_mean = 'half' is no JSON"),
        ({"mean": [0.5], "std": STD}, r"the metadata of x: mean = \[0.5\] is not three numbers"),
        ({"layout": "chw"}, "the metadata of x: layout = 'chw' is not nchw or nhwc"),
    ],
)
def test_metadata_that_mean_nothing_are_one_sentence(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    """It names the file and the value."""
    with pytest.raises(EncoderError, match=sentence):
        of_file("x", said_itself(made(tmp_path / "m.onnx"), **values))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"size": 8}'])
def test_a_broken_preparation_is_one_sentence(tmp_path: Path, text: str) -> None:
    """It names the file beside the model; an object that says nothing is as none."""
    path = made(tmp_path / "m.onnx")
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"preprocessor_config\.json"):
        of_file("x", path)


def test_what_the_settings_say_reaches_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`embed` makes vectors that `search` takes; without the table the file says too little."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30), (51, 102, 153)).save(photos / "a.png")
    Image.new("RGB", (40, 30), (153, 102, 51)).save(photos / "b.png")
    made(tmp_path / "m.onnx", side="side")
    monkeypatch.chdir(tmp_path)
    embed = ["embed", "photos", "--out", "vectors.parquet", "--encoder", "m.onnx"]
    assert "takes images of any size" in CliRunner().invoke(main, embed).stderr
    settings(tmp_path, f"size = [8, 8]\nmean = {MEAN}\nstd = {STD}")
    ran = [
        CliRunner().invoke(main, command)
        for command in (embed, ["search", "photos/b.png", "--in", "vectors.parquet", "--encoder", "m.onnx"])
    ]
    assert [one.exit_code for one in ran] == [0, 0], ran[-1].stderr
    assert ran[1].stdout.splitlines()[0].split()[2] == "b.png"


def wide_photo() -> Image.Image:
    """A photo that is black in its middle third and white beside it."""
    image = Image.new("RGB", (48, 16), "white")
    image.paste("black", (16, 0, 32, 16))
    return image


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
    assert Preparation.of(config).pixels(wide_photo())[:, 1:-1].max() == 0


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


@pytest.mark.parametrize("kind", ["written", "shipped"])
def test_a_graph_leaves_nothing_but_fused_convolutions(
    checkpoint: tuple[Path, Tower], tmp_path: Path, kind: str
) -> None:
    """Batch norms and activations that stay by themselves make it three times as slow."""
    folder = CHECKPOINT if kind == "shipped" else checkpoint[0]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    weights = vision_weights(folder)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
    options.add_external_initializers(list(weights), values)
    onnxruntime.InferenceSession((folder / GRAPH).read_bytes(), options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
    left = Counter(node.op_type for node in model.graph.node)
    assert left["Conv"] >= 1
    assert not {"BatchNormalization", "Clip", "Relu", "Pad", "Cast", "Expand"} & set(left), left


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
        open_graph("x", graph, {"vision_model.9.weight": np.zeros(3, np.float32)})
