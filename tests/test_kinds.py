"""Every kind of encoder: saved, loaded, its vectors those of transformers, and a fingerprint that tells it apart."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from tiny_models import MODELS, SIDE, made
from torch import Tensor, nn
from transformers import Siglip2Config, SiglipVisionConfig, SiglipVisionModel, TimmWrapperConfig

from neardup.encode.encoder import check_encoder, load_encoder, objectives_of
from neardup.encode.kinds import ClipEncoder, DualEncoder, timm_image_processor
from neardup.encode.onnx import PREPARATION
from neardup.encode.torchscript import WEIGHTS
from neardup.encode.trainable import Trainable, load_trainable
from neardup.encode.vectors import embed
from neardup.errors import EncoderError

DRAWS = np.random.default_rng(3)
IMAGES = [Image.fromarray(DRAWS.integers(0, 256, (40, 56, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Trainable:
    """A tiny model of each kind."""
    return made(request.param)


@pytest.fixture(scope="module")
def folder(model: Trainable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder that it was saved to."""
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(path)
    return str(path)


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """What transformers itself gives for pixels: the features of images, or what is pooled, or the CLS token."""
    if hasattr(model, "get_image_features"):
        return model.get_image_features(pixel_values=pixels).pooler_output
    outputs = model(pixel_values=pixels)
    return outputs.last_hidden_state[:, 0] if outputs.pooler_output is None else outputs.pooler_output


def test_vectors_are_those_of_transformers(model: Trainable, folder: str) -> None:
    """Loaded by its folder, an encoder gives the features that transformers gives for the processor's pixels."""
    pixels = torch.cat([model.image_processor(image, return_tensors="pt")["pixel_values"] for image in IMAGES])
    with torch.inference_mode():
        expected = nn.functional.normalize(features(model.model.eval(), pixels)).numpy()
    encoder = load_encoder(folder, "cpu")
    vectors = encoder.encode(IMAGES)
    # Of a dual encoder pictures are resized by Pillow, which rounds otherwise.
    assert vectors == pytest.approx(expected, abs=1e-3 if isinstance(encoder, DualEncoder) else 1e-5)
    assert vectors.shape == (len(IMAGES), encoder.dimension)


def test_a_trained_model_encodes_as_its_folder_does(model: Trainable, folder: str) -> None:
    """The fingerprint and the vectors of a model in memory are those of the folder that it was saved to."""
    saved, shared = load_encoder(folder, "cpu"), model.encoder("cpu")
    assert shared.fingerprint == saved.fingerprint
    assert shared.encode(IMAGES).tobytes() == saved.encode(IMAGES).tobytes()


def test_a_folder_can_be_trained_again(model: Trainable, folder: str) -> None:
    """With the tokenizer that was saved, or none, and the fingerprint that it had."""
    again = load_trainable(folder)
    assert (again.tokenizer is None) == (model.tokenizer is None)
    assert again.encoder("cpu").fingerprint == model.encoder("cpu").fingerprint


def test_a_photo_is_read_as_the_image_processor_has_it(model: Trainable) -> None:
    """Its uint8 pixels are the processor's before it normalises; of a dual encoder, but for what Pillow rounds."""
    expected = model.image_processor(IMAGES[0], do_rescale=False, do_normalize=False, return_tensors="pt")
    encoder = model.encoder("cpu")
    difference = (encoder.prepare(IMAGES[0]).int() - expected["pixel_values"][0].int()).abs()
    assert difference.max() <= (2 if isinstance(encoder, DualEncoder) else 0)


def test_a_folder_of_photos_is_embedded(tmp_path: Path) -> None:
    """From the files to the vectors, in the order of their paths."""
    made("dual, EfficientNet").save(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(IMAGES):
        image.save(tmp_path / "photos" / f"{number}.png")
    encoder = load_encoder(str(tmp_path / "model"), "cpu")
    found = embed(tmp_path / "photos", encoder, tmp_path / "store")
    assert found.vectors == pytest.approx(encoder.encode(IMAGES), abs=1e-6)
    assert found.fingerprint == encoder.fingerprint


def test_only_what_sees_is_kept(tmp_path: Path) -> None:
    """An encoder of images holds no text tower."""
    made("dual, EfficientNet").save(tmp_path / "model")
    names = [name for name, _ in load_encoder(str(tmp_path / "model"), "cpu")._model.named_parameters()]
    assert [name for name in names if "text" in name] == []


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dual, ViT"])
@pytest.mark.parametrize(
    ("field", "value"), [("hidden_act", "relu"), ("num_attention_heads", 1), ("layer_norm_eps", 0.1)]
)
def test_the_fingerprint_sees_what_shows_in_no_weight(kind: str, field: str, value: object, tmp_path: Path) -> None:
    """A configuration that is mended changes all vectors; kept ones are not taken for the new ones."""
    made(kind).save(tmp_path / "model")
    before, config = load_encoder(str(tmp_path / "model")).fingerprint, tmp_path / "model" / "config.json"
    facts = json.loads(config.read_text())
    facts.get("vision_config", facts)[field] = value
    config.write_text(json.dumps(facts))
    assert load_encoder(str(tmp_path / "model")).fingerprint != before


def test_the_fingerprint_sees_how_timm_pools() -> None:
    """Mean or maximum of the last feature map: the weights are the same, the encoder is another."""
    torch.manual_seed(0)
    mean, processor = tiny_models.convnet(pooling="avg"), tiny_models.timm().image_processor
    greatest = tiny_models.convnet(pooling="max")
    greatest.load_state_dict(mean.state_dict())
    encoders = [Trainable("timm", network, None, processor).encoder("cpu") for network in (mean, greatest)]
    assert encoders[0].fingerprint != encoders[1].fingerprint


def test_timm_prepares_pictures_as_timm_does() -> None:
    """By the numbers of its architecture; but for rounding, for one resizes by Pillow and the other by torchvision."""
    config = TimmWrapperConfig(architecture="test_efficientnet")
    processor = timm_image_processor(config)
    cfg = {"input_size": (3, 160, 160), "crop_pct": 0.95, "interpolation": "bicubic"}
    smooth = IMAGES[0].resize((300, 200), Image.Resampling.BICUBIC)
    expected = create_transform(**resolve_data_config(pretrained_cfg=cfg))(smooth)
    pixels = processor(smooth, return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == expected.shape == (3, 160, 160)
    assert (pixels - expected).abs().max() < 0.05


def test_a_timm_checkpoint_without_an_image_processor_has_timm_s(tmp_path: Path) -> None:
    """Timm's own checkpoints have no preprocessor_config.json: the numbers are in config.json."""
    network = made("timm").model
    network.config.pretrained_cfg = {"input_size": [3, 64, 64], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3}
    network.save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), "cpu")
    assert encoder.prepare(IMAGES[0]).shape == (3, 64, 64)
    assert tuple(encoder._processor.image_mean) == (0.5, 0.5, 0.5)


def test_a_timm_model_that_wants_a_border_is_refused() -> None:
    """The sentence says what neardup has."""
    cfg = {"input_size": [3, 64, 64], "crop_mode": "border"}
    with pytest.raises(EncoderError, match="crop mode border; neardup has only squares"):
        timm_image_processor(TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg=cfg))


def says(**values: object) -> Callable[[Path], object]:
    """What changes these values in a JSON file."""
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | values))


DAMAGES: dict[str, tuple[str, str, Callable[[Path], object], str]] = {
    "no image processor": ("clip", PREPARATION, Path.unlink, "has no preprocessor_config.json, which says how photos"),
    "an image processor of nothing": ("clip", PREPARATION, lambda file: file.write_text("[]"), "cannot be loaded"),
    "other pictures": (
        *("clip", PREPARATION, says(crop_size={"height": 48, "width": 48})),
        r"does not take pictures as its preprocessor_config\.json prepares them \(Input image size",
    ),
    "half the weights": (
        *("dinov2", WEIGHTS, lambda file: file.write_bytes(file.read_bytes()[:5000])),
        "the weights of .* cannot be read .*: copy the whole checkpoint again",
    ),
    "other weights": ("vit", "config.json", says(hidden_size=64), r"cannot be read \(other shapes than its config"),
    "no number": ("vit", "config.json", says(hidden_size="32"), "cannot be loaded .*hidden_size"),
    "a kind of tomorrow": (
        *("vit", "config.json", says(model_type="vit_next")),
        r"of a kind that transformers .* does not know: update transformers, or name CLIP",
    ),
    "a network of tomorrow": ("timm", "config.json", says(architecture="resnet_next"), "update timm, or name CLIP"),
}
"""Fault → kind of the checkpoint, its file, what becomes of that, and a part of the sentence."""


@pytest.mark.parametrize(("kind", "file", "damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_a_checkpoint_that_is_not_as_it_was_saved_is_one_sentence(
    tmp_path: Path, kind: str, file: str, damage: Callable[[Path], object], sentence: str
) -> None:
    """Before a run begins, too, and before anything is encoded."""
    made(kind).save(tmp_path / "model")
    damage(tmp_path / "model" / file)
    for load in (load_encoder, check_encoder):
        with pytest.raises(EncoderError, match=sentence):
            load(str(tmp_path / "model"))


def test_a_siglip_of_any_resolution_is_refused(tmp_path: Path) -> None:
    """The sentence says which ones there are."""
    Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"is a siglip2 model.*SigLIP 2 of one resolution"):
        load_encoder(str(tmp_path))


def test_a_siglip_without_a_pooling_head_is_refused(tmp_path: Path) -> None:
    """It gives no vector of a whole picture."""
    SiglipVisionModel(SiglipVisionConfig(**tiny_models.SEES, vision_use_head=False)).save_pretrained(tmp_path)
    made("siglip").image_processor.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="no pooling head"):
        load_encoder(str(tmp_path))


def test_a_vision_tower_alone_has_the_vectors_of_the_whole(tmp_path: Path) -> None:
    """A SigLIP saved without its text tower is no other encoder."""
    whole = made("siglip")
    whole.model.vision_model.save_pretrained(tmp_path)
    whole.image_processor.save_pretrained(tmp_path)
    assert load_encoder(str(tmp_path), "cpu").fingerprint == whole.encoder("cpu").fingerprint
    assert load_trainable(str(tmp_path)).tokenizer is None


def test_a_vision_tower_reads_nothing_whatever_lies_beside_it(tmp_path: Path) -> None:
    """The tokenizer of the whole model is saved with its processor, and gives the tower no text tower."""
    whole = made("clip")
    ClipEncoder.vision_of(whole.model).save_pretrained(tmp_path)
    whole.image_processor.save_pretrained(tmp_path)
    whole.tokenizer.save_pretrained(tmp_path)
    assert objectives_of(str(tmp_path)) == {"copies"}
    whole.save(tmp_path / "whole")
    assert objectives_of(str(tmp_path / "whole")) == {"captions", "copies"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip", "dual, EfficientNet"])
def test_int8_is_nearly_fp32(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a transformer and of a convolutional network; quantised again, it is the same file; nothing is warned of."""
    pytest.importorskip("onnxruntime")
    model = made(name)
    model.save(tmp_path / "model")
    files = []
    for attempt in ("first", "second"):
        monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path / attempt)
        encoder = load_encoder(str(tmp_path / "model"), "cpu", "int8")
        files += [file.read_bytes() for file in (tmp_path / attempt).iterdir()]
    assert files[0] == files[1]
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert encoder.fingerprint != model.encoder("cpu").fingerprint
    assert (encoder.encode(IMAGES) * model.encoder("cpu").encode(IMAGES)).sum(axis=1).min() > 0.98


def test_pictures_have_the_size_that_the_model_takes(model: Trainable) -> None:
    """What decides how small a JPEG may be decoded is the shortest side before the crop."""
    assert model.encoder("cpu").size == SIDE
