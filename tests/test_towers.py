"""Training of every kind: its towers give what the whole gives, and what learns is what the recipe says."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import MODELS, READING, SEES, SIDE, TOKENIZER, clip_text, convnet, dual, made
from torch import nn
from transformers import DeiTConfig, DeiTModel

from neardup.encode.encoder import load_encoder
from neardup.encode.trainable import Trainable
from neardup.errors import TrainingError
from neardup.settings.schema import Recipe
from neardup.train.batches import PLAIN, Captions, Example
from neardup.train.finetune import EpochResult, train
from neardup.train.learner import Learner
from neardup.train.towers import ALL, logit_scale_of, text_tower, towers_of, vision_tower, width_of

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(
    lr=1e-3, batch_size=4, epochs=2, patience=3, validation=0.25, seed=1, select_by="loss", interpolate=False
)
TEXTS = ["a trench" + " in the rain" * i for i in (3, 0, 5, 1, 4, 2)]
FROZEN: list[dict[str, Any]] = [{}, {"frozen_layers": 1}, {"frozen_layers": 9}, {"frozen_text": True}, {"lora_rank": 2}]
CONVNET = "dual, EfficientNet"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Photos of noise with captions of several lengths."""
    folder, draws, found = tmp_path_factory.mktemp("photos"), np.random.default_rng(7), []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.fromarray(draws.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
        photo, caption = sha256(path.read_bytes()).hexdigest(), f"{TEXTS[number % 6]} {number // 2}"
        found.append(Example(path, photo, caption, f"{int(draws.integers(0, 2**63)):016x}"))
    return found


def silent(_sentence: str) -> None:
    """Takes what training reports."""


def vectors(model: nn.Module, tokens: dict[str, torch.Tensor], pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Unit vectors of images and texts, as transformers gives them."""
    found = model.eval()(**tokens, pixel_values=pixels)
    return found.image_embeds, found.text_embeds


@pytest.mark.parametrize("frozen", FROZEN, ids=str)
@pytest.mark.parametrize("name", READING)
def test_halves_give_what_the_whole_model_gives(examples: list[Example], name: str, frozen: dict[str, Any]) -> None:
    """Cut above the frozen layers, with captions of several lengths, a model embeds as transformers runs it."""
    model = made(name)
    full = {"padding": "max_length", "max_length": 24} if name == "siglip" else {"padding": True}
    tokens = dict(TOKENIZER(TEXTS, **full, return_tensors="pt"))
    if name == "siglip":
        del tokens["attention_mask"]  # it reads padding
    paths = [example.image for example in examples[:6]]
    pixels = model.image_processor([Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    expected = vectors(model.model, tokens, pixels)
    learner = Learner(examples[:6], model, Captions(TOKENIZER, TEXTS, 24), replace(RECIPE, **frozen), "cpu")
    ((batch, photos),) = learner.load([range(6)], PLAIN)
    torch.testing.assert_close(learner.embed(batch, photos), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [0, 1, ALL])
@pytest.mark.parametrize("name", list(MODELS))
def test_the_vision_tower_gives_the_vectors_of_the_encoder(name: str, layers: int) -> None:
    """Wherever it is cut, and from the states that are kept of each photo."""
    model, pixels = made(name), torch.rand(3, 3, SIDE, SIDE)
    encoder, tower = model.encoder("cpu"), vision_tower(model.model, layers)
    with torch.inference_mode():
        expected = encoder.vectors_of(encoder._model, pixels)
        kept = torch.stack([tower.states_of(one[None]) for one in pixels])
        torch.testing.assert_close(tower.above(tower.below(pixels)), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tower.above(kept), expected, atol=1e-5, rtol=1e-4)
    assert width_of(model.model) == expected.shape[1]


@pytest.mark.parametrize("name", list(MODELS))
def test_only_what_reads_has_a_text_tower_and_a_temperature(name: str) -> None:
    """A vision model alone has neither."""
    model = made(name)
    reads = name in READING
    assert (text_tower(model.model, 0) is not None, logit_scale_of(model.model) is not None) == (reads, reads)


def learning(model: nn.Module) -> set[str]:
    """The names of the weights that learn."""
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_frozen_layers_of_a_convnet_are_counted_from_the_stem() -> None:
    """The blocks of its stages in order; the stem is frozen with them."""
    model = made(CONVNET).model
    towers_of(model, replace(RECIPE, frozen_layers=2))
    network = "vision_model.timm_model."
    frozen = {name for name, _ in model.named_parameters()} - learning(model)
    seen = {name.removeprefix(network) for name in frozen if name.startswith(network)}
    assert {name.split(".")[0] for name in seen} == {"conv_stem", "bn1", "blocks"}
    assert {name[: len("blocks.0.0")] for name in seen if name.startswith("blocks")} == {"blocks.0.0", "blocks.1.0"}


def stopping(result: EpochResult) -> None:
    """Stops a training after its first epoch."""
    if result.epoch == 1:
        raise InterruptedError


@pytest.mark.parametrize("frozen", [{}, {"frozen_layers": 2}, {"lora_rank": 2}], ids=str)
def test_a_killed_training_of_a_convnet_goes_on(
    examples: list[Example], tmp_path: Path, frozen: dict[str, Any]
) -> None:
    """It ends with the weights of one that was not killed; its batch norms never change what they measured."""
    recipe = replace(RECIPE, lr=1e-4, **frozen)
    whole = train(examples, made(CONVNET), recipe, tmp_path / "whole", report=silent)
    with pytest.raises(InterruptedError):
        train(examples, made(CONVNET), recipe, tmp_path / "cut", stopping, report=silent)
    cut = train(examples, made(CONVNET), recipe, tmp_path / "cut", report=silent)
    first, second = ((one.checkpoint / "model.safetensors").read_bytes() for one in (whole, cut))
    assert first == second
    trained, before = load_encoder(str(whole.checkpoint), "cpu")._model.state_dict(), made(CONVNET).model.state_dict()
    changed = {name for name in trained if not torch.equal(trained[name], before[name])}
    assert changed != set()
    assert [name for name in changed if "running" in name or "tracked" in name] == []


def test_low_rank_updates_of_a_convnet_are_in_its_convolutions_of_one_pixel(
    examples: list[Example], tmp_path: Path
) -> None:
    """A plain checkpoint comes out, which embeds as the model that was trained."""
    model, before = made(CONVNET), made(CONVNET).model.state_dict()
    done = train(examples, model, replace(RECIPE, epochs=1, lora_rank=2), tmp_path, report=silent)
    trained = load_encoder(str(done.checkpoint), "cpu")
    after = trained._model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    parts = ("conv_pw.", "conv_pwl.", "conv_reduce.", "conv_expand.")
    assert {name.rpartition(".")[2] for name in changed} == {"weight"}
    assert [name for name in changed if not name.endswith(tuple(f"{part}weight" for part in parts))] == []
    images = [Image.open(example.image) for example in examples[:2]]
    assert trained.encode(images) == pytest.approx(model.encoder("cpu").encode(images), abs=1e-5)


@pytest.mark.parametrize("name", ["siglip", "dual, ViT"])
def test_other_kinds_are_trained_on_captions(examples: list[Example], tmp_path: Path, name: str) -> None:
    """The loss falls, and the checkpoint is loaded as what it was."""
    model = made(name)
    done = train(examples, model, replace(RECIPE, epochs=3), tmp_path, report=silent)
    assert done.history[-1].train_loss < done.history[0].train_loss
    assert load_encoder(str(done.checkpoint), "cpu").fingerprint != made(name).encoder("cpu").fingerprint


def test_captions_cannot_train_what_reads_no_text(examples: list[Example], tmp_path: Path) -> None:
    """The sentence says what can be trained on them."""
    with pytest.raises(TrainingError, match="reads no captions, it has no text tower"):
        train(examples, made("dinov2"), RECIPE, tmp_path, report=silent)


def resnet() -> Trainable:
    """A dual encoder whose layers are not known."""
    torch.manual_seed(0)
    return dual(convnet("test_resnet", "avg"), clip_text())


REFUSED: Sequence[tuple[dict[str, Any], str]] = [
    ({"frozen_layers": 1}, "neardup knows no layers of test_resnet: leave it at 0"),
    ({"lora_rank": 2}, "neardup knows none of this encoder's: leave it at 0"),
]


@pytest.mark.parametrize(("recipe", "reason"), REFUSED)
def test_layers_that_are_not_known_are_neither_frozen_nor_updated(recipe: dict[str, Any], reason: str) -> None:
    """The whole network learns, or a sentence says why not."""
    with pytest.raises(TrainingError, match=reason):
        towers_of(resnet().model, replace(RECIPE, **recipe))
    with pytest.raises(TrainingError, match=reason.replace("test_resnet", "a deit")):
        towers_of(deit().model, replace(RECIPE, **recipe))


def deit() -> Trainable:
    """A dual encoder whose vision model nothing but its kind knows."""
    torch.manual_seed(0)
    return dual(DeiTModel(DeiTConfig(**SEES)), clip_text())


@pytest.mark.parametrize("made_of", [resnet, deit])
def test_a_network_whose_layers_are_not_known_learns_as_a_whole(made_of: Callable[[], Trainable]) -> None:
    """Its tower gives what the model gives, and the gradient reaches all weights that this depends on."""
    model, pixels = made_of().model, torch.rand(2, 3, SIDE, SIDE)
    tower = vision_tower(model, 0)
    expected = model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(tower.above(tower.below(pixels)), expected)
    tower.above(tower.below(pixels)).sum().backward()
    weights = [*model.vision_model.parameters(), *model.visual_projection.parameters()]
    assert all(weight.grad is not None for weight in weights)
