"""TorchScript files as encoders: by path, by folder, and SSCD by its name, fetched once and checked."""

import warnings
from collections.abc import Iterator
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from neardup.encode.encoder import load_encoder
from neardup.encode.trainable import Trainable, load_trainable
from neardup.errors import EncoderError, TrainingError
from neardup.train.towers import text_tower, vision_tower

DRAWS = np.random.default_rng(3)
IMAGES = [Image.fromarray(DRAWS.integers(0, 256, (300, 400, 3), dtype=np.uint8)) for _ in range(3)]


class Pooled(nn.Module):
    """What SSCD is, much smaller: convolutions, generalised mean, a linear layer, vectors of length one."""

    def __init__(self) -> None:
        """Draw its weights."""
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=8)
        self.second = nn.Conv2d(8, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 12)

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors of normalised pixels."""
        maps = self.norm(self.second(self.first(pixels).relu())).relu().clamp(min=1e-6)
        return nn.functional.normalize(self.linear(maps.pow(3).mean(dim=(2, 3)).pow(1 / 3)))


def write(module: nn.Module, path: Path, *, frozen: bool = False) -> Path:
    """Write a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.script(module.eval())
        torch.jit.save(torch.jit.freeze(script) if frozen else script, path)
    return path


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A module of pictures."""
    torch.manual_seed(0)
    return Pooled().eval()


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its TorchScript file."""
    return write(network, tmp_path_factory.mktemp("script") / "small.torchscript.pt")


@pytest.fixture
def published(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of a server on this machine that publishes the file in the place of Meta."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(file.parent))

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("neardup.encode.torchscript.FOLDER", tmp_path / "home")
    monkeypatch.setattr("neardup.encode.torchscript.SHA256", sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr("neardup.encode.torchscript.URL", f"http://127.0.0.1:{server.server_port}/{file.name}")
    yield asked
    server.shutdown()
    server.server_close()


def test_a_file_encodes_as_its_module_does(network: nn.Module, file: Path) -> None:
    """Pictures are squeezed to 288 × 288 pixels and normalised as ImageNet is."""
    steps = [v2.PILToTensor(), v2.Resize((288, 288)), v2.ToDtype(torch.float32, scale=True)]
    prepare = v2.Compose([*steps, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    with torch.inference_mode():
        expected = network(torch.stack([prepare(image) for image in IMAGES])).numpy()
    encoder = load_encoder(str(file), "cpu")
    assert encoder.encode(IMAGES) == pytest.approx(expected, abs=1e-5)
    assert encoder.dimension == 12


def test_a_saved_folder_is_the_same_encoder(file: Path, tmp_path: Path) -> None:
    """As the zero-shot approach of an experiment keeps it: the same fingerprint, the same vectors."""
    load_trainable(str(file)).save(tmp_path / "checkpoint")
    first, second = load_encoder(str(file), "cpu"), load_encoder(str(tmp_path / "checkpoint"), "cpu")
    assert first.fingerprint == second.fingerprint
    assert first.encode(IMAGES).tobytes() == second.encode(IMAGES).tobytes()


def test_weights_that_were_trained_are_kept(file: Path, tmp_path: Path) -> None:
    """A folder has the weights that the module had when it was saved."""
    trained = load_trainable(str(file))
    with torch.no_grad():
        next(trained.model.parameters()).neg_()
    trained.save(tmp_path / "checkpoint")
    saved = load_encoder(str(tmp_path / "checkpoint"), "cpu")
    assert saved.fingerprint == trained.encoder("cpu").fingerprint != load_encoder(str(file), "cpu").fingerprint
    assert saved.encode(IMAGES).tobytes() == trained.encoder("cpu").encode(IMAGES).tobytes()


def test_the_fingerprint_sees_the_code(network: nn.Module, file: Path, tmp_path: Path) -> None:
    """A module whose weights became constants of its code has none, and is told apart all the same."""
    other = Pooled().eval()
    frozen = [write(module, tmp_path / f"{i}.pt", frozen=True) for i, module in enumerate((network, other))]
    encoders = [load_encoder(str(path), "cpu") for path in (file, *frozen)]
    assert len({encoder.fingerprint for encoder in encoders}) == 3
    assert encoders[1].encode(IMAGES) == pytest.approx(encoders[0].encode(IMAGES), abs=1e-5)


def test_sscd_is_fetched_once(published: list[str], file: Path) -> None:
    """The second time it is read from this machine, and its vectors are those of the file."""
    first, second = load_encoder("sscd", "cpu"), load_encoder("sscd", "cpu")
    assert published == [f"/{file.name}"]
    assert first.fingerprint == second.fingerprint == load_encoder(str(file), "cpu").fingerprint


def test_another_file_than_the_published_one_is_not_kept(
    published: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says that it is another; the next call asks again."""
    monkeypatch.setattr("neardup.encode.torchscript.SHA256", "0" * 64)
    for _ in range(2):
        with pytest.raises(EncoderError, match="is not the file that Meta publishes"):
            load_encoder("sscd", "cpu")
    assert len(published) == 2
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.usefixtures("published")
def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    """What lies on this machine is checked each time."""
    load_encoder("sscd", "cpu")
    [kept] = (tmp_path / "home").iterdir()
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(EncoderError, match=r"is not the SSCD that Meta publishes .*: delete it"):
        load_encoder("sscd", "cpu")


@pytest.mark.parametrize("offline", [True, False])
def test_sscd_without_a_network_is_one_sentence(
    offline: bool,  # noqa: FBT001 - a test's parameter
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says how to get the file and how to name it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("neardup.encode.torchscript.FOLDER", tmp_path)
    monkeypatch.setattr("neardup.encode.torchscript.URL", "http://127.0.0.1:9/sscd.pt")
    with pytest.raises(EncoderError, match=r"fetch .* on a machine with network and say --encoder FILE"):
        load_encoder("sscd", "cpu")


def test_a_missing_file_is_one_sentence() -> None:
    """It is no hub id."""
    with pytest.raises(EncoderError, match=r"there is no file models/x\.torchscript\.pt"):
        load_encoder("models/x.torchscript.pt", "cpu")


def test_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    """Pickled weights are no module."""
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(EncoderError, match=r"is no TorchScript module that torch .* opens"):
        load_encoder(str(tmp_path / "weights.pt"), "cpu")


def test_a_module_that_gives_maps_is_refused(tmp_path: Path) -> None:
    """A vector a picture is what is needed."""
    path = write(nn.Conv2d(3, 4, 1), tmp_path / "maps.pt")
    with pytest.raises(EncoderError, match="does not give one vector a picture"):
        load_encoder(str(path), "cpu")


class Squares(nn.Module):
    """Takes squares of 8 pixels: of a larger picture it makes several vectors, or fails."""

    def __init__(self, numbers: int) -> None:
        """Take how many numbers a vector has."""
        super().__init__()
        self.numbers = numbers

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors of pixels."""
        return pixels.reshape(-1, self.numbers)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (192, "does not give one vector a picture"),
        (191, r"does not take pictures of 288 × 288 pixels \(.*\): save it in a folder as model\.torchscript\.pt"),
    ],
)
def test_a_module_for_pictures_of_another_size_is_refused(tmp_path: Path, numbers: int, sentence: str) -> None:
    """It says where the size is written down."""
    path = write(Squares(numbers), tmp_path / "squares.pt")
    with pytest.raises(EncoderError, match=sentence):
        load_encoder(str(path), "cpu")


def test_a_module_without_weights_has_no_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to quantise."""
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path / "home")
    path = write(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), tmp_path / "means.pt")
    with pytest.raises(EncoderError, match=r"cannot be computed in int8 \(it has no weights in float32 to quantise\)"):
        load_encoder(str(path), "cpu", "int8")
    assert list(tmp_path.rglob("*.onnx*")) == []


def test_a_module_learns_as_a_whole(file: Path) -> None:
    """It has no text tower and no layers; its gradient reaches its weights."""
    model: Trainable = load_trainable(str(file))
    tower = vision_tower(model.model, 0)
    tower.above(tower.below(torch.rand(2, 3, 288, 288))).sum().backward()
    assert text_tower(model.model, 0) is None
    assert all(weight.grad is not None for weight in model.model.parameters())
    with pytest.raises(TrainingError, match="knows no layers of a TorchScript file"):
        vision_tower(model.model, 1)


def test_a_module_without_weights_is_not_trained(network: nn.Module, tmp_path: Path) -> None:
    """The weights of a frozen one are constants."""
    model = load_trainable(str(write(network, tmp_path / "frozen.pt", frozen=True)))
    with pytest.raises(TrainingError, match="no weights that can learn"):
        vision_tower(model.model, 0)


@pytest.mark.slow
def test_int8_is_nearly_fp32(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TorchScript module can be quantised."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path)
    vectors = load_encoder(str(file), "cpu", "int8").encode(IMAGES)
    assert (vectors * load_encoder(str(file), "cpu").encode(IMAGES)).sum(axis=1).min() > 0.98
