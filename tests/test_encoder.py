"""The shipped encoder by its real loading path, unit vectors, and a fingerprint that tells encoders apart."""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from tiny_models import encoder_of
from transformers import BertConfig, CLIPConfig, CLIPImageProcessor, CLIPModel, VisionTextDualEncoderModel

from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.encode.batch import BATCHES, fastest_batch, with_batch
from neardup.encode.devices import cpu_has_bf16, pick_device
from neardup.encode.encoder import BUILTIN, CHECKPOINT, load_encoder
from neardup.encode.files import encode_files
from neardup.encode.kinds import ClipEncoder, DualEncoder, load_vision
from neardup.encode.onnx import OnnxEncoder
from neardup.encode.trainable import load_trainable, save_encoder
from neardup.encode.vision import VisionEncoder, fingerprint, in_dtype
from neardup.errors import EncoderError
from neardup.images import read_image
from neardup.settings.schema import Dtype
from neardup.train.press import DAMAGES


@cache
def images() -> list[Image.Image]:
    """Twenty drawn scenes, for whoever of the test processes runs these tests."""
    return [Scene.of(seed).image for seed in range(20)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`builtin:tiny` as a folder, without the background that normalises its similarities."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    load_trainable(BUILTIN).save(folder)
    return folder


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipEncoder]:
    """`builtin:tiny` in 8-bit integers, quantised into a folder of the tests."""
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neardup.encode.int8.FOLDER", tmp_path_factory.mktemp("int8"))
        yield load_encoder(BUILTIN, "cpu", "int8")


def test_vectors_are_unit_float32() -> None:
    """One row an image, of length one."""
    vectors = load_encoder(BUILTIN).encode(images())
    assert (vectors.dtype, vectors.shape) == (np.float32, (20, 257))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-6)


def test_a_vector_does_not_depend_on_its_company() -> None:
    """Alone or among others, the bits are the same."""
    encoder = load_encoder(BUILTIN)
    together = encoder.encode(images())
    alone = np.concatenate([encoder.encode([image]) for image in images()])
    assert together.tobytes() == alone.tobytes()


def test_a_photo_is_read_as_the_image_processor_has_it(tmp_path: Path) -> None:
    """Its uint8 pixels are those of the processor, but for what Pillow rounds; encoded they give the same."""
    encoder = load_encoder(BUILTIN, "cpu")
    images()[0].save(tmp_path / "x.png")
    pixels = encoder.read(tmp_path / "x.png")
    processor = CLIPImageProcessor.from_pretrained(CHECKPOINT)
    expected = processor(images()[0], do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    difference = np.abs(pixels.astype(int) - expected.permute(1, 2, 0).numpy())
    assert (pixels.dtype, difference.max() <= 2, difference.mean() < 0.5) == (np.uint8, True, True)
    assert np.array_equal(encoder.encode([pixels]), encoder.encode(images()[:1]))


def test_a_fraction_of_a_scan_is_as_good_as_the_whole(tmp_path: Path) -> None:
    """A large JPEG decoded at a fraction of its size gives nearly the vector of all its pixels."""
    encoder = load_encoder(BUILTIN, "cpu")
    images()[0].resize((2400, 1800)).save(tmp_path / "scan.jpg")
    fraction, whole = encoder.encode([encoder.read(tmp_path / "scan.jpg"), read_image(tmp_path / "scan.jpg")])
    assert fraction @ whole > 0.99


def test_the_batch_hardly_changes_a_vector() -> None:
    """Another number of photos in a pass: other last bits, the same vectors."""
    encoder = load_encoder(BUILTIN, "cpu")
    sixteen = encoder.encode(images())
    encoder.batch = 3
    assert encoder.encode(images()) == pytest.approx(sixteen, abs=1e-5)


def test_another_batch_is_another_encoder_s() -> None:
    """The one that it was taken of keeps its own, be its similarities normalised, as the shipped one's are, or not."""
    encoder = load_encoder(BUILTIN, "cpu")
    before = encoder.batch
    other = with_batch(encoder, before + 3)
    assert (getattr(other, "batch", None), encoder.batch) == (before + 3, before)


def test_choosing_a_batch_changes_nothing() -> None:
    """The encoder keeps its batch, and torch its threads."""
    encoder, threads = load_encoder(BUILTIN, "cpu"), torch.get_num_threads()
    before = encoder.batch
    assert fastest_batch(encoder) in BATCHES
    assert (encoder.batch, torch.get_num_threads()) == (before, threads)


@pytest.mark.slow
def test_int8_is_nearly_fp32(int8: ClipEncoder) -> None:
    """Its vectors are of unit length, close to those of fp32, and alone the same as in company."""
    vectors = int8.encode(images())
    assert (vectors * load_encoder(BUILTIN, "cpu").encode(images())).sum(axis=1).min() > 0.9
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert np.concatenate([int8.encode([image]) for image in images()]).tobytes() == vectors.tobytes()


def test_int8_without_onnx_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says what to install."""
    name = encoder_of("vit", tmp_path)  # of whose tower PyTorch makes a graph in a moment
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EncoderError, match=r"make install.*pip install onnx onnxscript"):
        load_encoder(name, "cpu", "int8")


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_bf16_is_nearly_fp32() -> None:
    """Its vectors are float32 of unit length, close to those of fp32."""
    vectors = load_encoder(BUILTIN, "cpu", "bf16").encode(images())
    assert (vectors * load_encoder(BUILTIN, "cpu").encode(images())).sum(axis=1).min() > 0.99
    assert vectors.dtype == np.float32


@pytest.mark.usefixtures("int8")
def test_each_number_format_is_another_encoder(saved: Path) -> None:
    """Vectors and thresholds of one are never taken for those of another."""
    dtypes: tuple[Dtype, ...] = ("fp32", "int8", *(("bf16",) if cpu_has_bf16() else ()))
    fingerprints = [load_encoder(str(saved), "cpu", dtype).fingerprint for dtype in dtypes]
    assert fingerprints == [in_dtype(fingerprints[0], dtype) for dtype in dtypes]
    assert len(set(fingerprints)) == len(dtypes)


@pytest.mark.parametrize(
    ("device", "dtype", "reason"),
    [
        ("cpu", "fp16", "the CPU has no fast fp16"),
        ("mps", "int8", "int8 is computed by the CPU, not by mps"),
        pytest.param("cpu", "bf16", "this CPU has no bf16", marks=pytest.mark.skipif(cpu_has_bf16(), reason="it has")),
    ],
)
def test_a_number_format_that_a_device_lacks_is_one_sentence(device: str, dtype: Dtype, reason: str) -> None:
    """It says which one to take."""
    with pytest.raises(EncoderError, match=reason):
        pick_device(device, dtype)


@pytest.mark.parametrize(("device", "dtype"), [("gpu", "fp32"), ("cpu", "float16"), ("cpu", "int4")])
def test_an_unknown_device_or_number_format_is_one_sentence(device: str, dtype: Any) -> None:
    """It is not taken for another one, such as int8; the sentence names those that there are."""
    unknown = device if device == "gpu" else dtype
    with pytest.raises(EncoderError, match=f"there is no (device|number format) '{unknown}': take one of"):
        load_encoder(BUILTIN, device, dtype)


def test_no_images_give_no_vectors() -> None:
    """An empty batch is no error."""
    assert load_encoder(BUILTIN).encode([]).shape == (0, 257)


def test_a_folder_gives_the_same_vectors(tmp_path: Path) -> None:
    """Saved and loaded, weights, preprocessing and background are the same: the fingerprints say so."""
    save_encoder(BUILTIN, tmp_path / "whole")
    first, second = load_encoder(BUILTIN), load_encoder(str(tmp_path / "whole"))
    assert first.fingerprint == second.fingerprint
    assert first.encode(images()[:3]).tobytes() == second.encode(images()[:3]).tobytes()


def test_the_fingerprint_sees_a_single_weight(saved: Path, tmp_path: Path) -> None:
    """One number of the vision tower changed: another encoder."""
    clip = load_trainable(str(saved))
    with torch.no_grad():
        clip.model.visual_projection.weight[0, 0] += 1e-3
    clip.save(tmp_path / "changed")
    assert load_encoder(str(tmp_path / "changed")).fingerprint != load_encoder(str(saved)).fingerprint


def test_the_fingerprint_sees_the_preprocessing(saved: Path, tmp_path: Path) -> None:
    """Another mean: another encoder."""
    clip = load_trainable(str(saved))
    clip.image_processor.image_mean = [0.4, 0.4, 0.4]
    clip.save(tmp_path / "changed")
    assert load_encoder(str(tmp_path / "changed")).fingerprint != load_encoder(str(saved)).fingerprint


def test_a_fingerprint_is_that_of_all_weights_and_of_all_preprocessing() -> None:
    """Biases and running means too, which are no weights by their names; where positions are counted tells nothing."""
    model = torch.nn.BatchNorm1d(2)
    model.register_buffer("position_ids", torch.arange(2))
    given = {"size": 1, "crop_size": 1, "resample": 1, "image_mean": 1, "image_std": 1}
    given |= {"rescale_factor": 1, "do_center_crop": 1}
    before = fingerprint(model, SimpleNamespace(**given))
    assert len({fingerprint(model, SimpleNamespace(**given | {name: 2})) for name in given} - {before}) == len(given)
    assert fingerprint(model, SimpleNamespace(**given), "another") != before
    for name, weight in model.state_dict().items():
        weight.add_(1)
        assert (fingerprint(model, SimpleNamespace(**given)) == before) == (name == "position_ids")
        weight.sub_(1)


def test_only_the_vision_tower_is_loaded(saved: Path) -> None:
    """An encoder of images holds no text tower."""
    names = [name for name, _ in by_torch(str(saved))._model.named_parameters()]
    assert (any("vision" in name for name in names), any("text" in name for name in names)) == (True, False)


def test_the_builtin_is_small() -> None:
    """Four million parameters see, 0.8 million read; at most 16 MB are shipped."""
    model = load_trainable(BUILTIN).model
    vision, text = (
        sum(p.numel() for name, p in model.named_parameters() if name.startswith(part)) for part in ("vis", "text")
    )
    assert (round(vision / 1e6, 1), round(text / 1e6, 1)) == (4.0, 0.8)
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 16_000_000


def test_the_builtin_is_plain_transformers(saved: Path) -> None:
    """Which give the vectors that we normalise, but for how Pillow and torchvision round what they resize."""
    model = VisionTextDualEncoderModel.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    pixels = CLIPImageProcessor.from_pretrained(CHECKPOINT)(images()[:4], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output)
    assert (load_encoder(str(saved)).encode(images()[:4]) * vectors.numpy()).sum(axis=1).min() > 0.9995


def by_torch(name: str) -> VisionEncoder:
    """An encoder that torch computes."""
    return load_vision(name, "cpu", "fp32", compiled=False)


def test_onnx_runtime_gives_what_torch_gives(saved: Path) -> None:
    """The builtin has one fingerprint, whatever computes it."""
    light, heavy = load_encoder(str(saved), "cpu"), by_torch(BUILTIN)
    assert (type(light), type(heavy)) == (OnnxEncoder, DualEncoder)
    assert light.fingerprint == heavy.fingerprint
    assert light.encode(images()) == pytest.approx(heavy.encode(images()), abs=1e-5)


def test_a_search_by_the_builtin_needs_no_torch(tmp_path: Path) -> None:
    """The command finds a photo in a table of vectors without the seconds that torch takes to import."""
    photos = tmp_path / "photos"
    photos.mkdir()
    images()[0].save(photos / "x.png")
    code = (
        "import sys; from neardup.cli import main\n"
        f"main(['embed', {str(photos)!r}, '--out', {str(tmp_path / 'v.parquet')!r}, '--encoder', 'builtin:tiny'], "
        "standalone_mode=False)\n"
        f"main(['search', {str(photos / 'x.png')!r}, '--in', {str(tmp_path / 'v.parquet')!r}, "
        "'--encoder', 'builtin:tiny'], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "x.png  (itself)" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "False"


def test_the_duplicates_of_a_small_folder_need_no_torch(tmp_path: Path) -> None:
    """Few vectors are multiplied as they are: planning would import it, for int8, in two seconds."""
    for number, image in enumerate(images()):
        image.save(tmp_path / f"{number}.png")
    code = (
        f"import sys, neardup; found = neardup.find_duplicates({str(tmp_path)!r})\n"
        "print(found.photos, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(len(images())), "False"]


@pytest.fixture(scope="module")
def undamaged() -> Vectors:
    """The vectors of the drawn scenes by the shipped encoder."""
    return load_encoder(BUILTIN).encode(images())


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_the_builtin_knows_a_damaged_photo(damage: str, undamaged: Vectors) -> None:
    """Of twenty drawn scenes, nearly every damaged copy is nearest to the one that it was made of."""
    encoder = load_encoder(BUILTIN)
    copies = [DAMAGES[damage](image, np.random.default_rng(seed)) for seed, image in enumerate(images())]
    nearest = (encoder.encode(copies) @ undamaged.T).argmax(axis=1)
    assert int((nearest == np.arange(len(images()))).sum()) >= 18


@pytest.mark.slow
def test_the_real_architecture_with_random_weights(tmp_path: Path) -> None:
    """ViT-B/32 from a local folder: 512 dimensions, unit rows, by the path that the hub's weights take."""
    torch.manual_seed(0)
    clip = load_trainable(BUILTIN)
    vocabulary = {"vocab_size": len(clip.tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    reads = {**vocabulary, "num_hidden_layers": 1}  # what reads is not loaded
    model = CLIPModel(CLIPConfig(text_config=reads))
    type(clip)("random", model, clip.tokenizer, CLIPImageProcessor()).save(tmp_path / "clip")
    encoder = load_encoder(str(tmp_path / "clip"))
    vectors = encoder.encode(images()[:2])
    assert (vectors.shape, encoder.size) == ((2, 512), 224)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(2), abs=1e-6)


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    """It says what is missing."""
    with pytest.raises(EncoderError, match=r"holds no config\.json"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["./no/such", "/no/such", "~/no", "a/b/c", "my model", "results/my model", "modèle/été"]
)
def test_a_missing_folder_is_one_sentence(name: str) -> None:
    """It does not ask the hub for a path."""
    with pytest.raises(EncoderError, match="there is no folder"):
        load_encoder(name)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    """The sentence names the kind."""
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="is a bert model, which neardup cannot encode by: name CLIP, SigLIP"):
        load_encoder(str(tmp_path))


def test_pickled_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    """Safetensors only."""
    for path in saved.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_trainable(str(saved)).model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="safetensors"):
        load_encoder(str(tmp_path))


def test_a_checkpoint_that_lacks_weights_is_refused(saved: Path, tmp_path: Path) -> None:
    """Missing weights would be drawn at random, in silence."""
    clip = load_trainable(str(saved))
    weights = {name: value for name, value in clip.model.state_dict().items() if "visual_projection" not in name}
    clip.model.save_pretrained(tmp_path, state_dict=weights)
    clip.image_processor.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="lacks the weights"):
        load_encoder(str(tmp_path))


def test_a_folder_without_a_tokenizer_still_encodes(saved: Path, tmp_path: Path) -> None:
    """Images need none; for fine-tuning the sentence says what is missing."""
    for path in saved.iterdir():
        if "tokenizer" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load_encoder(str(tmp_path)).encode(images()[:1]).shape == (1, 256)
    with pytest.raises(EncoderError, match=r"cannot be loaded .*tokenizer"):
        load_trainable(str(tmp_path))


def test_weights_that_are_not_finite_are_refused(saved: Path, tmp_path: Path) -> None:
    """No vector of NaN ever reaches a table."""
    clip = load_trainable(str(saved))
    with torch.no_grad():
        clip.model.visual_projection.weight[0, 0] = float("nan")
    clip.save(tmp_path / "broken")
    with pytest.raises(EncoderError, match="not finite"):
        load_encoder(str(tmp_path / "broken")).encode(images()[:1])


def test_an_unknown_builtin_names_the_one_there_is() -> None:
    """A typing mistake is one sentence."""
    with pytest.raises(EncoderError, match=r"the encoder that neardup ships is builtin:tiny"):
        load_encoder("builtin:large")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence() -> None:
    """It says what to leave out."""
    with pytest.raises(EncoderError, match="no CUDA device on this machine"):
        load_encoder(BUILTIN, device="cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_an_apple_gpu_that_is_not_there_is_one_sentence() -> None:
    """It says what to leave out."""
    with pytest.raises(EncoderError, match=r"no Apple GPU \(MPS\) on this machine: leave --device out"):
        load_encoder(BUILTIN, device="mps")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize(("dtype", "least"), [("fp32", 0.99999), ("bf16", 0.999), ("fp16", 0.9999)])
def test_a_gpu_gives_the_vectors_of_the_cpu(dtype: Dtype, least: float) -> None:
    """Nearly, and by files in several threads the same as by images in one."""
    encoder, expected = load_encoder(BUILTIN, "cuda", dtype), load_encoder(BUILTIN, "cpu").encode(images())
    vectors = encoder.encode(images())
    assert (vectors * expected).sum(axis=1).min() > least
    by_file = [vector for _, vector in encode_files(encoder, [as_png(image) for image in images()])]
    assert np.stack(by_file) == pytest.approx(vectors, abs=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_gives_nearly_the_same_compiled() -> None:
    """The fingerprint is the same, for the vectors may be compared."""
    plain, compiled = load_encoder(BUILTIN, "cuda"), load_encoder(BUILTIN, "cuda", compiled=True)
    assert compiled.fingerprint == plain.fingerprint
    assert compiled.encode(images()) == pytest.approx(plain.encode(images()), abs=1e-4)


def as_png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_compiled_layers_give_the_same_vectors() -> None:
    """But for the last digits, in one thread and in several, by the same fingerprint."""
    plain, compiled = load_encoder(BUILTIN, "cpu"), load_encoder(BUILTIN, "cpu", compiled=True)
    assert compiled.fingerprint == plain.fingerprint
    expected = plain.encode(images())
    assert compiled.encode(images()) == pytest.approx(expected, abs=1e-5)
    by_file = [vector for _, vector in encode_files(compiled, [as_png(image) for image in images()])]
    assert np.stack(by_file) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json"])
@pytest.mark.parametrize("text", ["[]", '{"size', None], ids=["list", "half", "missing"])
def test_a_damaged_checkpoint_with_a_graph_is_one_sentence(name: str, text: str | None, tmp_path: Path) -> None:
    """It says what to do."""
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(EncoderError, match=r"cannot be read .*: copy the whole checkpoint again"):
        load_encoder(str(folder), "cpu")


def test_a_file_that_is_no_model_is_called_so(tmp_path: Path) -> None:
    """It is not looked for on the hub under its own name."""
    (tmp_path / "photo.jpg").write_bytes(b"no model")
    with pytest.raises(EncoderError, match=r"photo\.jpg is a file, and no model that neardup can load: name an ONNX"):
        load_encoder(str(tmp_path / "photo.jpg"))


class Hub:
    """A model hub on this machine that answers every request alike, and notes the tokens that it was sent."""

    def __init__(self, about: int, file: int, leads_to: str = "") -> None:
        """Answer with one status when asked about a model, with another one when asked for its files.

        Where it leads on to another server, the status must be such.
        """
        tokens: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                tokens.append(self.headers["Authorization"])
                status = about if self.path.startswith("/api/") else file
                self.send_response(status)
                if status == 403:
                    self.send_header("X-Error-Code", "GatedRepo")
                if leads_to:
                    self.send_header("Location", leads_to + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD  # noqa: N815 - the name that the server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.tokens = tokens
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        """Serve until the block ends."""
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        """Where it is."""
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"


@pytest.fixture
def sentence_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str | None], str]:
    """The sentence about a model that a hub at an address, or no hub at all, does not give; no token is set.

    The library reads its environment as it is imported, which has happened; here is what it makes of it.
    """
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))

    def sentence(address: str | None) -> str:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", address is None)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "ENDPOINT", address or constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + template)
        with pytest.raises(EncoderError) as error:
            load_encoder("somebody/clip")
        return str(error.value)

    return sentence


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9"], ids=["off", "away"])
def test_a_model_that_cannot_be_fetched_is_one_sentence(
    address: str | None, sentence_of: Callable[[str | None], str]
) -> None:
    """It says how to get the model, and which encoder works without."""
    sentence = sentence_of(address)
    assert "not on this machine" in sentence
    assert "hf download somebody/clip" in sentence
    assert "builtin:tiny" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9"], ids=["off", "away"])
def test_a_fetched_model_that_is_broken_is_not_called_absent(
    address: str | None, sentence_of: Callable[[str | None], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it says more than that the hub, which could give it again, is away."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--somebody--clip"
    shutil.copytree(CHECKPOINT, model / "snapshots" / "1")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("1")
    (model / "snapshots" / "1" / "model.safetensors").write_bytes(b"half")
    assert sentence_of(address).startswith("the weights of somebody/clip cannot be read (")


@pytest.mark.parametrize("status", [401, 403])
def test_a_model_that_the_hub_keeps_to_itself_is_one_sentence(
    status: int, sentence_of: Callable[[str | None], str]
) -> None:
    """Private, gated or not there, the hub does not tell which: the sentence has all three, and what to set."""
    with Hub(status, status) as hub:
        sentence = sentence_of(hub.address)
    assert "it is private or gated, or there is none of that name, and no token is set" in sentence
    assert "set HF_TOKEN" in sentence


def test_a_gated_model_is_one_sentence(sentence_of: Callable[[str | None], str]) -> None:
    """The hub tells about it, but does not give its files."""
    with Hub(200, 403) as hub:
        assert "it is private or gated" in sentence_of(hub.address)


def test_a_model_that_the_hub_does_not_have_is_one_sentence(sentence_of: Callable[[str | None], str]) -> None:
    """The name is what to check."""
    with Hub(404, 404) as hub:
        assert "the model hub has no somebody/clip: check the name" in sentence_of(hub.address)


def test_the_hub_is_sent_the_token(sentence_of: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says that the token was not enough, and does not show it."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Hub(401, 401) as hub:
        sentence = sentence_of(hub.address)
    assert hub.tokens == ["Bearer hf_secret"]
    assert "the token that is set may not read it" in sentence
    assert "hf_secret" not in sentence


def test_another_server_is_not_sent_the_token(
    sentence_of: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hub leads on to one."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Hub(401, 401) as other, Hub(302, 401, leads_to=other.address) as hub:
        sentence_of(hub.address)
    assert (hub.tokens, other.tokens) == (["Bearer hf_secret"], [None])


def test_a_whole_clip_encodes_as_its_vision_tower_does(saved: Path) -> None:
    """The same vectors and the same fingerprint; what training changes in the one changes the other."""
    clip = load_trainable(BUILTIN)
    alone, shared = load_encoder(str(saved), "cpu"), clip.encoder("cpu")
    picture = [Scene.of(1).image]
    assert shared.fingerprint == alone.fingerprint
    assert shared.encode(picture) == pytest.approx(alone.encode(picture), abs=1e-5)
    with torch.no_grad():
        clip.model.visual_projection.weight.neg_()
    assert shared.encode(picture) == pytest.approx(-alone.encode(picture), abs=1e-5)
