"""Training: what a run gives, and that a killed one gives the same."""

import csv
import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Process
from PIL import Image
from safetensors.torch import load_file
from servers import environment
from small_clip import small_clip, small_tokenizer
from transformers import CLIPModel

from neardup.errors import TrainingError
from neardup.settings.schema import Recipe
from neardup.train.batches import (
    KEEP_BYTES,
    PLAIN,
    Captions,
    Example,
    KnownPairs,
    Photos,
    TensorCache,
    batch_rows,
    own_rows,
    parts_of,
)
from neardup.train.data import TrainingData
from neardup.train.epochs import Share
from neardup.train.finetune import EpochResult, _facts_of_kept, _fault, train
from neardup.train.learner import Learner, Validation, spread_of
from neardup.train.normalise import Normalisation
from neardup.train.resume import TrainingState, recover_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTOS = 24
RECIPE = Recipe(
    lr=1e-3, batch_size=8, epochs=3, patience=3, validation=0.2, seed=1, select_by="loss", interpolate=False
)


def make_examples(folder: Path, count: int = PHOTOS) -> list[Example]:
    """Photos of noise, each with a caption that it shares with one other at most, all unlike each other."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    examples = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
        phash = f"{int(rng.integers(0, 2**63)):016x}"
        photo, caption = sha256(path.read_bytes()).hexdigest(), f"soldiers of regiment {i * 2 // 3}"
        examples.append(Example(path, photo, caption, phash))
    return examples


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """The photos that most of these tests train on."""
    return make_examples(tmp_path_factory.mktemp("photos"))


def weights(checkpoint: Path) -> bytes:
    """The bytes of a checkpoint's weights."""
    return (checkpoint / "model.safetensors").read_bytes()


def silent(_sentence: str) -> None:
    """Takes what training reports."""


@pytest.fixture(scope="module")
def uninterrupted(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(examples, small_clip(), RECIPE, folder, report=silent)
    return folder


class Stop(Exception):  # noqa: N818 - not a fault
    """Ends a training from its callback."""


def stop_after(epoch: int) -> Callable[[EpochResult], None]:
    """A callback that stops a training after an epoch."""

    def on_epoch(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise Stop

    return on_epoch


def test_two_steps_give_recorded_losses(examples: list[Example]) -> None:
    """The first two steps of Adam on a tiny CLIP have the losses that were recorded."""
    clip = small_clip()
    captions = Captions(clip.tokenizer, [example.caption for example in examples], 77)
    learner = Learner(examples, clip, captions, RECIPE, "cpu")
    optimizer = torch.optim.Adam(clip.model.parameters(), lr=1e-4, weight_decay=1e-3)
    losses = []
    for batch, pixels in learner.load([list(range(8)), list(range(8, 16))], PLAIN):
        optimizer.zero_grad()
        losses.append(learner.backward(batch, pixels))
        optimizer.step()
    assert losses == pytest.approx([2.209660, 2.176811], rel=1e-4)


def test_best_epoch_is_the_checkpoint(examples: list[Example], tmp_path: Path) -> None:
    """The checkpoint holds the weights of the epoch with the lowest validation loss, as transformers loads them."""
    clip = small_clip()
    after: dict[int, torch.Tensor] = {}

    def on_epoch(result: EpochResult) -> None:
        after[result.epoch] = clip.model.visual_projection.weight.detach().clone()

    training = train(examples, clip, replace(RECIPE, epochs=5), tmp_path, on_epoch, report=silent)
    best = min(training.history, key=lambda line: line.validation_loss).epoch
    assert training.best_epoch == best
    loaded = CLIPModel.from_pretrained(training.checkpoint)
    assert torch.equal(loaded.visual_projection.weight, after[best])


def test_training_learns(uninterrupted: Path) -> None:
    """The training loss, a mean over photos, falls from that of chance among the eight of a batch."""
    history = json.loads((uninterrupted / "training.json").read_text())["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] == pytest.approx(np.log(8), abs=0.3)


def test_the_temperature_has_clips_own_limit(examples: list[Example]) -> None:
    """No step takes it beyond 100 times; dropout is off, for a training that goes on would draw otherwise."""
    clip = small_clip()
    clip.model.train()
    learner = Learner(examples, clip, Captions(clip.tokenizer, ["a"] * len(examples), 77), RECIPE, "cpu")
    torch.nn.init.constant_(learner.scale, 9.0)
    learner.descend(learner.optimizer(), 0)
    assert learner.scale.item() == pytest.approx(np.log(100))
    assert not any(module.training for module in learner.model.modules())


def test_history_file_has_a_line_an_epoch(uninterrupted: Path) -> None:
    """`history.csv` holds each epoch with its numbers."""
    lines = list(csv.DictReader((uninterrupted / "history.csv").read_text().splitlines()))
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert list(lines[0]) == [field.name for field in fields(EpochResult)]


def test_seed_reproduces_training(examples: list[Example], uninterrupted: Path, tmp_path: Path) -> None:
    """The same examples, recipe and weights give the same checkpoint, to the last bit."""
    assert weights(train(examples, small_clip(), RECIPE, tmp_path, report=silent).checkpoint) == weights(
        uninterrupted / "checkpoint",
    )


@pytest.mark.parametrize("epoch", [1, 2])
def test_stopped_training_goes_on(examples: list[Example], uninterrupted: Path, tmp_path: Path, epoch: int) -> None:
    """It tells of the last epoch once more, goes on with the next, and gives the same weights and losses."""
    with pytest.raises(Stop):
        train(examples, small_clip(), RECIPE, tmp_path, stop_after(epoch), report=silent)
    seen: list[int] = []
    training = train(examples, small_clip(), RECIPE, tmp_path, lambda line: seen.append(line.epoch), report=silent)
    assert seen == list(range(epoch, 4))
    assert weights(training.checkpoint) == weights(uninterrupted / "checkpoint")
    losses = [line["validation_loss"] for line in json.loads((uninterrupted / "training.json").read_text())["history"]]
    assert [line.validation_loss for line in training.history] == losses


def test_killed_augmented_training_goes_on(examples: list[Example], tmp_path: Path) -> None:
    """The same with copies made on the fly."""
    recipe = replace(RECIPE, augmentation="classic", copies=2)
    whole = train(examples, small_clip(), recipe, tmp_path / "whole", report=silent)
    with pytest.raises(Stop):
        train(examples, small_clip(), recipe, tmp_path / "cut", stop_after(1), report=silent)
    assert weights(train(examples, small_clip(), recipe, tmp_path / "cut", report=silent).checkpoint) == weights(
        whole.checkpoint,
    )


def train_six_epochs(photos: str, out: str) -> None:
    """Train on made photos; for a `Process`."""
    torch.set_num_threads(1)
    train(make_examples(Path(photos)), small_clip(), replace(RECIPE, epochs=6), Path(out))


@pytest.mark.slow
def test_killed_process_goes_on(tmp_path: Path) -> None:
    """Killed with -9 within an epoch, training ends with the weights of a run that was not."""
    recipe = replace(RECIPE, epochs=6)
    examples = make_examples(tmp_path / "photos")
    whole = train(examples, small_clip(), recipe, tmp_path / "whole", report=silent)
    out = tmp_path / "killed"
    child = Process(train_six_epochs, str(tmp_path / "photos"), str(out), cwd=tmp_path, env=environment())
    while child.poll() is None and _epochs(out) == 0:
        time.sleep(0.001)
    time.sleep(0.02)
    child.kill()
    assert not (out / "training.json").exists()
    training = train(examples, small_clip(), recipe, out, report=silent)
    assert weights(training.checkpoint) == weights(whole.checkpoint)
    assert len(training.history) == 6


def _epochs(out: Path) -> int:
    path = out / "history.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_finished_training_is_not_repeated(examples: list[Example], uninterrupted: Path) -> None:
    """Called again with the same inputs, training returns what it has."""
    said: list[str] = []
    training = train(examples, small_clip(), RECIPE, uninterrupted, pytest.fail, report=said.append)
    assert training.stopped_because == "all 3 epochs are done"
    assert said == [f"training is done already: best epoch {training.best_epoch} of 3"]


def test_changed_checkpoint_is_made_again(examples: list[Example], tmp_path: Path) -> None:
    """A finished training whose weights are no longer those that it wrote is not taken as done."""
    recipe = replace(RECIPE, epochs=1)
    checkpoint = train(examples, small_clip(), recipe, tmp_path, report=silent).checkpoint
    whole = weights(checkpoint)
    (checkpoint / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    train(examples, small_clip(), recipe, tmp_path, report=silent)
    assert weights(checkpoint) == whole


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is flushed to the disk and what is renamed, in order; both happen indeed."""
    events: list[tuple[str, str]] = []
    flush, rename, put = os.fsync, Path.rename, Path.replace

    def flushed(descriptor: int) -> None:
        flush(descriptor)
        events.append(("flush", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def renamed(path: Path, target: Path) -> Path:
        events.append(("rename", str(target)))
        return rename(path, target)

    def replaced(path: Path, target: Path) -> Path:
        events.append(("rename", str(target)))
        return put(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "replace", replaced)
    return events


def test_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, events: list[tuple[str, str]]) -> None:
    """Every file, and the name of every file; then the new name of the folder, before the old one is deleted."""
    beside, checkpoint = tmp_path / "state", tmp_path / "checkpoint"
    save_checkpoint(small_clip(), checkpoint, beside)
    partial, new = beside / ".new-checkpoint.part", beside / "new-checkpoint"
    files = {("flush", str(partial / path.name)) for path in checkpoint.iterdir()}
    named = events.index(("rename", str(new)))
    assert {("flush", str(partial / "model.safetensors")), ("flush", str(partial / "config.json"))} <= files
    assert files | {("flush", str(partial))} <= set(events[:named])
    assert events[named:] == [
        ("rename", str(new)),
        ("flush", str(beside)),
        ("rename", str(checkpoint)),
        ("flush", str(beside)),
        ("flush", str(tmp_path)),
    ]


def test_state_is_on_the_disk_before_it_is_named(tmp_path: Path, events: list[tuple[str, str]]) -> None:
    """Tensors and their folders are flushed, and only then is `state.json` written."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    TrainingState(tmp_path / "state", "key").write(1, model, [optimizer], {})
    folder, pointer = tmp_path / "state" / "epoch-000001", ("rename", str(tmp_path / "state" / "state.json"))
    before = events[: events.index(pointer)]
    flushed = (folder / "model.safetensors", folder / "optimizer-0.safetensors", folder, folder.parent, tmp_path)
    assert [path for path in flushed if ("flush", str(path)) not in before] == []


def test_the_state_of_another_training_is_discarded(tmp_path: Path) -> None:
    """What was trained on other photos or by another recipe, whose key differs, is not gone on with, and goes away."""
    model = torch.nn.Linear(2, 2)
    state = TrainingState(tmp_path / "state", "key")
    state.write(1, model, [], {"epoch": 1})
    assert state.read() == {"epoch": 1}
    assert TrainingState(tmp_path / "state", "another").read() is None
    assert state.read() is None


@pytest.mark.parametrize("name", ["state.json", "epoch-000001/model.safetensors"])
def test_a_damaged_state_is_no_state(name: str, tmp_path: Path) -> None:
    """A training begins anew rather than to go on from weights that a disk changed."""
    state = TrainingState(tmp_path / "state", "key")
    state.write(1, torch.nn.Linear(2, 2), [], {"epoch": 1})
    file = tmp_path / "state" / name
    data = file.read_bytes()
    file.write_bytes(data[:-9] + bytes([data[-9] ^ 128]) + data[-8:])
    assert state.read() is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch's own compiler
def test_compiled_training_has_nearly_the_same_losses(
    examples: list[Example], uninterrupted: Path, tmp_path: Path
) -> None:
    """With captions of several lengths and a last batch of another size; its checkpoint is a plain CLIP."""
    training = train(examples, small_clip(), replace(RECIPE, compiled=True), tmp_path, report=silent)
    expected = json.loads((uninterrupted / "training.json").read_text(encoding="utf-8"))["history"]
    losses = [line.validation_loss for line in training.history]
    assert losses == pytest.approx([line["validation_loss"] for line in expected], rel=1e-3)
    names = set(load_file(training.checkpoint / "model.safetensors"))
    assert names == set(load_file(uninterrupted / "checkpoint" / "model.safetensors"))


def test_other_recipe_starts_anew(examples: list[Example], tmp_path: Path) -> None:
    """The state of a run with another recipe is discarded."""
    with pytest.raises(Stop):
        train(examples, small_clip(), RECIPE, tmp_path, stop_after(1), report=silent)
    seen: list[int] = []
    other = replace(RECIPE, lr=2e-3)
    train(examples, small_clip(), other, tmp_path, lambda line: seen.append(line.epoch), report=silent)
    assert seen == [1, 2, 3]
    assert not (tmp_path / "state").exists()


def test_whatever_weights_depend_on_is_in_the_key(examples: list[Example]) -> None:
    """Which photos look the same, what is known of pairs, how photos and words are prepared: each beside the recipe."""
    recipe, clip = replace(RECIPE, long_legends="truncate"), small_clip()
    lighter, shorter = (
        replace(clip, **{part: deepcopy(getattr(clip, part))}) for part in ("image_processor", "tokenizer")
    )
    lighter.image_processor.image_mean = [0.0] * 3
    shorter.tokenizer.model_max_length = 5
    normed = replace(clip, model=deepcopy(clip.model))
    normed.model.register_buffer("running_mean", torch.ones(3))  # as batch normalisation has
    nothing, something = KnownPairs(), KnownPairs(different=(("a", "b"),))
    other_look = [*examples[:-1], replace(examples[-1], phash="0" * 15 + "f")]
    other_image = [*examples[:-1], replace(examples[-1], phash_mirrored="0" * 15 + "f")]
    variants = [
        (examples, clip, 6, nothing),
        (examples, clip, 7, nothing),
        (examples, clip, 6, something),
        (examples, lighter, 6, nothing),
        (examples, shorter, 6, nothing),
        (examples, normed, 6, nothing),
        (other_look, clip, 6, nothing),
        (other_image, clip, 6, nothing),
    ]
    keys = {TrainingData.of(photos, model, recipe, bits, known).key for photos, model, bits, known in variants}
    assert len(keys) == len(variants)


def test_patience_stops_training(examples: list[Example], tmp_path: Path) -> None:
    """Without a better validation loss for so many epochs, training ends."""
    recipe = replace(RECIPE, lr=1e-15, epochs=50, patience=2)
    training = train(examples, small_clip(), recipe, tmp_path, report=silent)
    assert (training.best_epoch, len(training.history)) == (1, 3)
    assert training.stopped_because == "no better validation loss for 2 epochs"


def test_loss_that_is_not_finite_stops_training(examples: list[Example], tmp_path: Path) -> None:
    """The sentence says so, and the best checkpoint stays."""
    clip = small_clip()

    def poison(result: EpochResult) -> None:
        if result.epoch == 1:
            with torch.no_grad():
                clip.model.visual_projection.weight.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"in epoch 2, for the loss became nan; the best checkpoint, of epoch 1, is"
    ):
        train(examples, clip, RECIPE, tmp_path, poison, report=silent)
    assert torch.isfinite(CLIPModel.from_pretrained(tmp_path / "checkpoint").visual_projection.weight).all()


def test_collapse_stops_training(examples: list[Example], tmp_path: Path) -> None:
    """Embeddings that all point one way end the training, and the best checkpoint stays."""
    clip = small_clip()

    def flatten(result: EpochResult) -> None:
        if result.epoch == 1:
            with torch.no_grad():
                clip.model.vision_model.post_layernorm.weight.fill_(0)
                clip.model.vision_model.post_layernorm.bias.fill_(1)

    with pytest.raises(TrainingError, match=r"collapsed: the mean cosine of two photos is 1\.0000"):
        train(examples, clip, replace(RECIPE, lr=1e-7), tmp_path, flatten, report=silent)
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    assert _fault(Validation(1.0, 2e-4, 0.0, 0.0), spread=0.5) == ""


def test_one_legend_is_refused(examples: list[Example], tmp_path: Path) -> None:
    """Photos that all share a legend leave nothing to validate on."""
    same = [replace(example, caption="a trench") for example in examples]
    with pytest.raises(TrainingError, match="share a legend or a look"):
        train(same, small_clip(), RECIPE, tmp_path, report=silent)


def test_missing_photo_is_named(examples: list[Example], tmp_path: Path) -> None:
    """A photo that is gone is named with what to do."""
    gone = [replace(examples[0], image=tmp_path / "gone.jpg"), *examples[1:]]
    with pytest.raises(TrainingError, match=r"gone\.jpg cannot be read .*neardup prepare"):
        train(gone, small_clip(), RECIPE, tmp_path, report=silent)


def test_long_legends_are_counted(examples: list[Example], tmp_path: Path) -> None:
    """A caption of over 77 tokens is truncated and counted, or its photo is left out and counted."""
    long = [replace(examples[0], caption="war " * 100), *examples[1:]]
    one = replace(RECIPE, epochs=1)
    cut = train(long, small_clip(), one, tmp_path / "cut", report=silent).facts
    assert (cut["photos"], cut["truncated"], cut["dropped"]) == (PHOTOS, 1, 0)
    drop = replace(one, long_legends="drop")
    dropped = train(long, small_clip(), drop, tmp_path / "dropped", report=silent).facts
    assert (dropped["photos"], dropped["truncated"], dropped["dropped"]) == (PHOTOS - 1, 0, 1)


def test_numbers_are_reported_before_training(examples: list[Example], tmp_path: Path) -> None:
    """Counts, device, precision and the expected time are said first."""
    said: list[str] = []
    train(examples, small_clip(), replace(RECIPE, epochs=1), tmp_path, report=said.append)
    assert "distinct captions" in said[0]
    assert "steps an epoch on 1 x cpu in fp32" in said[0]
    assert said[1].startswith("expected: about")


def test_captions_are_padded_to_their_longest() -> None:
    """A batch is as wide as its longest caption, and the rest is masked; one that has all its tokens is not cut."""
    captions = Captions(small_tokenizer(), ["a", "a soldier in a trench"], 77)
    assert captions([0])["input_ids"].shape == (1, 3)
    limit = len(captions.tokens[1])
    assert [Captions(small_tokenizer(), ["a soldier in a trench"], limit - less).long for less in (0, 1)] == [
        [False],
        [True],
    ]
    both = captions([0, 1])
    assert both["attention_mask"].sum(dim=1).tolist() == [3, len(captions.tokens[1])]


def test_pixels_are_those_of_the_processor(examples: list[Example]) -> None:
    """Pixels kept as bytes and normalised later equal what the encoder's own preprocessing gives."""
    clip = small_clip()
    photos = Photos(examples, clip.image_processor, RECIPE, TensorCache(KEEP_BYTES))
    (pixels,) = photos.batches([[3]], PLAIN)
    with Image.open(examples[3].image) as image:
        expected = clip.image_processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(photos.normalise(pixels), expected, atol=1e-5, rtol=0)


def test_epochs_see_copies_in_turn(examples: list[Example]) -> None:
    """Epoch e sees copy e modulo the copies; each is another picture, and so is that of another seed."""
    photos = Photos(
        examples, small_clip().image_processor, replace(RECIPE, augmentation="press", copies=2), TensorCache(KEEP_BYTES)
    )
    assert [photos.copy(epoch) for epoch in (1, 2, 3)] == [0, 1, 0]
    first, second = (next(iter(photos.batches([[0]], copy))) for copy in (0, 1))
    other = Photos(
        examples, photos._processor, replace(RECIPE, augmentation="press", copies=2, seed=5), TensorCache(KEEP_BYTES)
    )
    drawn = next(iter(other.batches([[0]], 0)))
    assert [torch.equal(*pair) for pair in ((first, second), (first, drawn))] == [False, False]


def test_order_is_that_of_seed_and_epoch() -> None:
    """Every row comes once; another epoch, or another seed, has another order."""
    first, second = (list(chain(*batch_rows(range(10), 4, 0, epoch))) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert batch_rows(range(10), 4, 0, 1) == batch_rows(range(10), 4, 0, 1) != batch_rows(range(10), 4, 1, 1)


def test_single_row_joins_the_batch_before() -> None:
    """A contrastive loss of one pair says nothing, so no batch has one."""
    assert [len(batch) for batch in batch_rows(range(9), 4, 0, 1)] == [4, 5]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_share_a_batch(processes: int) -> None:
    """Together the processes embed each row once."""
    shares = [list(range(4))[own_rows(4, process, processes)] for process in range(processes)]
    assert list(chain(*shares)) == [0, 1, 2, 3]


def test_parts_cover_a_batch() -> None:
    """A batch is cut into parts that hold each row once; a small one into fewer."""
    assert [part.stop - part.start for part in parts_of(7, 3)] == [2, 2, 3]
    assert parts_of(2, 3) == [slice(0, 1), slice(1, 2)]


def test_accumulation_gives_the_gradient_of_the_whole_batch(examples: list[Example]) -> None:
    """Cut into parts, a batch has the loss and the gradient of the whole."""
    found = []
    for accumulate in (1, 3):
        clip = small_clip()
        captions = Captions(clip.tokenizer, [example.caption for example in examples], 77)
        learner = Learner(examples, clip, captions, replace(RECIPE, accumulate=accumulate), "cpu")
        ((batch, pixels),) = learner.load([list(range(8))], PLAIN)
        loss = learner.backward(batch, pixels)
        found.append((loss, {name: p.grad for name, p in clip.model.named_parameters()}))
    (loss, gradient), (loss_in_parts, gradient_in_parts) = found
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(gradient_in_parts, gradient, rtol=1e-3, atol=1e-5)


def test_spread_is_the_mean_cosine_distance() -> None:
    """Over unordered pairs: of three unit vectors, two equal and one at a right angle, two pairs of three differ."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert spread_of(vectors) == pytest.approx(2 / 3)


def test_checkpoint_survives_a_kill_between_renames(tmp_path: Path) -> None:
    """The one that was moved aside comes back."""
    (tmp_path / "state" / "old-checkpoint").mkdir(parents=True)
    recover_checkpoint(tmp_path / "checkpoint", tmp_path / "state")
    assert (tmp_path / "checkpoint").is_dir()


def test_frozen_layers_keep_their_weights(examples: list[Example], tmp_path: Path) -> None:
    """Those of the first layers and of what is before them; all others learn."""
    before = {name: value.clone() for name, value in small_clip().model.named_parameters()}
    clip = small_clip()
    train(examples, clip, replace(RECIPE, epochs=1, frozen_layers=1), tmp_path, report=silent)
    kept = {name for name, value in clip.model.named_parameters() if torch.equal(value, before[name])}
    frozen = (".embeddings.", ".pre_layrnorm.", ".layers.0.")
    assert kept == {name for name in before if any(part in name for part in frozen)}


FROZEN = [{}, {"frozen_layers": 1}, {"frozen_layers": 2}, {"frozen_text": True}, {"lora_rank": 2}]


@pytest.mark.parametrize("frozen", FROZEN, ids=str)
def test_halves_give_what_the_whole_model_gives(examples: list[Example], frozen: dict[str, Any]) -> None:
    """Cut above the frozen layers, with captions of several lengths, a CLIP embeds as transformers runs it."""
    clip = small_clip(layers=2)
    texts = ["a trench" + " in the rain" * i for i in (3, 0, 5, 1, 4, 2)]
    inputs = clip.tokenizer(texts, padding=True, return_tensors="pt")
    pixels = clip.image_processor([Image.open(e.image) for e in examples[:6]], return_tensors="pt")["pixel_values"]
    expected = clip.model.eval()(**inputs, pixel_values=pixels)
    captions = Captions(clip.tokenizer, texts, 77)
    learner = Learner(examples[:6], clip, captions, replace(RECIPE, **frozen), "cpu")
    ((batch, photos),) = learner.load([range(6)], PLAIN)
    torch.testing.assert_close(learner.embed(batch, photos), (expected.image_embeds, expected.text_embeds))


@pytest.mark.parametrize("frozen", FROZEN[1:], ids=str)
def test_killed_partial_training_goes_on(examples: list[Example], tmp_path: Path, frozen: dict[str, Any]) -> None:
    """Stopped with some of its weights frozen, it ends with those of one that was not."""
    recipe = replace(RECIPE, epochs=2, **frozen)
    whole = train(examples, small_clip(2), recipe, tmp_path / "whole", report=silent)
    with pytest.raises(Stop):
        train(examples, small_clip(2), recipe, tmp_path / "cut", stop_after(1), report=silent)
    cut = train(examples, small_clip(2), recipe, tmp_path / "cut", report=silent)
    assert weights(cut.checkpoint) == weights(whole.checkpoint)


def test_frozen_states_are_made_once(tmp_path: Path) -> None:
    """The second epoch needs no file, and sees the same to the last bit."""
    examples, clip = make_examples(tmp_path, 4), small_clip(2)
    captions = Captions(clip.tokenizer, [example.caption for example in examples], 77)
    learner = Learner(examples, clip, captions, replace(RECIPE, frozen_layers=1), "cpu")
    ((_, first),) = learner.load([range(4)], PLAIN)
    for example in examples:
        example.image.unlink()
    ((_, second),) = learner.load([range(4)], PLAIN)
    assert torch.equal(first, second)


def test_frozen_states_that_find_no_room_are_made_again(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing kept, copies included, a training has the same losses, to the last bit."""
    recipe = replace(RECIPE, frozen_layers=1, frozen_text=True, augmentation="classic", copies=2)
    kept = train(examples, small_clip(2), recipe, tmp_path / "kept", report=silent)
    monkeypatch.setattr("neardup.train.learner.KEEP_BYTES", 0)
    made_again = train(examples, small_clip(2), recipe, tmp_path / "made", report=silent)
    assert [replace(line, seconds=0) for line in made_again.history] == [
        replace(line, seconds=0) for line in kept.history
    ]


def test_low_rank_checkpoint_is_a_plain_clip(examples: list[Example], tmp_path: Path) -> None:
    """Its attention alone has changed, besides the temperature, and it embeds as the model that was trained."""
    clip, before = small_clip(), dict(small_clip().model.named_parameters())
    recipe = replace(RECIPE, epochs=1, lora_rank=2)
    after = CLIPModel.from_pretrained(train(examples, clip, recipe, tmp_path, report=silent).checkpoint).eval()
    changed = {name for name, value in after.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"logit_scale", *(name for name in before if name.endswith("_proj.weight"))}
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        after.get_image_features(pixels).pooler_output, clip.model.get_image_features(pixels).pooler_output
    )


def test_low_rank_state_holds_what_learns(examples: list[Example], tmp_path: Path) -> None:
    """The frozen weights, most of a model, are not written after each epoch."""
    with pytest.raises(Stop):
        train(examples, small_clip(), replace(RECIPE, lora_rank=2), tmp_path, stop_after(1), report=silent)
    [path] = (tmp_path / "state").glob("*/model.safetensors")
    assert {name.rpartition(".")[2] for name in load_file(path)} == {"logit_scale", "down", "up"}


def test_low_rank_of_frozen_layers_is_refused(examples: list[Example], tmp_path: Path) -> None:
    """With all layers frozen there is nothing to update."""
    recipe = replace(RECIPE, lora_rank=2, frozen_layers=1)
    with pytest.raises(TrainingError, match="frozen_layers leaves none"):
        train(examples, small_clip(), recipe, tmp_path, report=silent)


def test_an_error_that_nothing_bears_is_none_in_json() -> None:
    """Of one picture the standard error is infinite, which JSON has no number for."""
    facts = _facts_of_kept(Share(1.0, 0.5, 0.5, float("inf")), [])
    normalised = Normalisation(*(1, 1, 0.5, 0.5, 0.6, 0.6, float("inf"))).facts
    assert (facts["validation_ndcg_error"], normalised["normalised_ndcg_error"]) == (None, None)
    json.dumps([facts, normalised], allow_nan=False)
