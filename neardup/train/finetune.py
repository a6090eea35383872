"""Fine-tuning CLIP on photos and their captions: one loop; a run that was killed goes on to the same weights."""

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from neardup.encode.trainable import Trainable, load_trainable
from neardup.errors import DivergedError, TrainingError
from neardup.progress import bar
from neardup.settings.schema import PrepareSettings, Recipe
from neardup.stages import digest_contents, digest_of, replacing, write_json
from neardup.train.batches import Captions, Example, batch_rows, token_limit
from neardup.train.learner import Learner, Validation
from neardup.train.lora import merged
from neardup.train.split import Split, inseparable, split
from neardup.train.state import TrainingState, recover_checkpoint, save_checkpoint, weights_digest

__all__ = ["EpochResult", "Example", "Training", "train"]

TRAIN_STEP = 3
"""Version of the training step, bumped when equal inputs would give other weights."""
MAX_LOGIT_SCALE = math.log(100)
"""Greatest logarithm of what similarities are multiplied by: 100 times, CLIP's own limit."""
COLLAPSED = 1e-4
"""Mean cosine distance of the validation photos below which all pairs are alike. Untrained weights may start near
it, so that the distance must also have fallen to a hundredth of what it was."""


@dataclass(frozen=True)
class EpochResult:
    """One line of `history.csv`.

    Attributes:
        epoch: counted from 1.
        train_loss: mean over the photos, each at its step.
        validation_loss: mean over the photos, after the epoch.
        seconds: time of the epoch, its validation included.
        logit_scale: logarithm of what similarities are multiplied by.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float
    logit_scale: float


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        checkpoint: folder of the best epoch's CLIP, as `from_pretrained` reads it.
        history: every epoch, in order.
        best_epoch: the epoch with the lowest validation loss; the first of equals.
        stopped_because: why no other epoch followed, in words.
        facts: counts, device, number format, seconds and the validation loss before the first epoch.
    """

    checkpoint: Path
    history: tuple[EpochResult, ...]
    best_epoch: int
    stopped_because: str
    facts: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Training":
        """Read the training that `train` finished in a folder."""
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        history = tuple(EpochResult(**line) for line in record["history"])
        return cls(folder / "checkpoint", history, record["best_epoch"], record["stopped_because"], record["facts"])


def train(  # noqa: C901, PLR0912, PLR0915 - one loop that reads top to bottom
    examples: Sequence[Example],
    clip: Trainable | str,
    recipe: Recipe,
    folder: Path,
    on_epoch: Callable[[EpochResult], None] | None = None,
    *,
    report: Callable[[str], None] = print,
    device: str = "auto",
    state: Path | None = None,
    look_alike_bits: int = PrepareSettings.look_alike_bits,
) -> Training:
    """Fine-tune a CLIP on photos and captions; the best epoch's weights become `folder/checkpoint`.

    A run that was killed goes on from its last whole epoch and ends with the weights of one that was not. A finished
    training of the same examples, recipe and weights is returned as it is.

    Args:
        examples: the training photos; validation photos are taken from them.
        clip: freshly loaded, for its weights are changed in place; or the name of one.
        recipe: every setting.
        folder: gets `checkpoint/`, `history.csv` and `training.json`.
        on_epoch: called after each epoch, when its state is on disk; of a killed run that goes on, once more for its
            last epoch.
        report: gets a few sentences: counts, device and expected time before the first step.
        device: `auto`, `cpu`, `cuda` or `mps`; several processes started by `torchrun` share the work; `train_on` of
            `neardup.train.launch` starts them.
        state: where the resumable state lies until training has finished; `folder/state` by default.
        look_alike_bits: photos whose perceptual hashes are at most so many bits apart are never split from each other.

    Raises:
        TrainingError: nothing to validate on, or a photo is gone.
        DivergedError: the loss is not finite, or the embeddings collapsed; the best checkpoint so far is kept.
    """
    clip = load_trainable(clip) if isinstance(clip, str) else clip
    limit = token_limit(clip.model, clip.tokenizer)
    examples, captions, dropped = _fitting(examples, clip.tokenizer, limit, recipe)
    key = _key(examples, captions, clip, recipe, look_alike_bits)
    if finished := _finished(folder, key):
        report(f"training is done already: best epoch {finished.best_epoch} of {len(finished.history)}")
        return finished
    parts = _split(examples, recipe, look_alike_bits)
    learner = Learner(examples, clip, captions, recipe, device)
    main = learner.processes.is_main_process
    say = report if main else _ignore
    optimizer = learner.optimizer()
    checkpoint = folder / "checkpoint"
    saved = TrainingState(state or folder / "state", key)
    facts = _facts(examples, captions, parts, learner, dropped)
    say(_counts(facts, limit))

    if before := saved.read():
        saved.restore(learner.model, optimizer)
        recover_checkpoint(checkpoint, saved.folder)
        history = [EpochResult(**line) for line in before["history"]]
        spread, facts["validation_loss_before"] = before["spread"], before["validation_loss_before"]
        say(f"going on after epoch {len(history)}")
        if main and on_epoch and history:  # the kill may have come before it was called
            on_epoch(history[-1])
    else:
        if main:
            (folder / "training.json").unlink(missing_ok=True)
        start = learner.validate(parts.validation)
        history, spread, facts["validation_loss_before"] = [], start.spread, start.loss
        say(f"expected: {_expected(start, facts, recipe)}; validation loss before training {start.loss:.4f}")

    while not (reason := _stop_reason(history, recipe)):
        epoch, began, total = len(history) + 1, time.perf_counter(), 0.0
        batches = batch_rows(parts.training, recipe.batch_size, recipe.seed, epoch)
        steps = bar(
            learner.load(batches, learner.photos.copy(epoch)),
            f"epoch {epoch} of at most {recipe.epochs}",
            len(batches),
            unit="step",
            leave=False,
            disable=None if main else True,
        )
        for batch, photos in steps:
            optimizer.zero_grad()
            loss = learner.backward(batch, photos)
            if not math.isfinite(loss):
                raise DivergedError(_stopped(f"the loss became {loss}", epoch, history, checkpoint, recipe))
            optimizer.step()
            with torch.no_grad():
                learner.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
            total += loss * len(batch)
            steps.set_postfix(loss=f"{loss:.4f}")

        validation = learner.validate(parts.validation)
        if fault := _fault(validation, spread):
            raise DivergedError(_stopped(fault, epoch, history, checkpoint, recipe))
        seconds = round(time.perf_counter() - began, 3)
        result = EpochResult(epoch, total / len(parts.training), validation.loss, seconds, learner.logit_scale.item())
        history.append(result)

        if main:
            if _best(history).epoch == epoch:
                save_checkpoint(replace(clip, model=merged(clip.model)), checkpoint, saved.folder)
            progress = {
                "history": [asdict(line) for line in history],
                "spread": spread,
                "validation_loss_before": facts["validation_loss_before"],
            }
            saved.write(epoch, learner.model, [optimizer], progress)
            _write_history(folder, history)
            say(_progress(history, recipe))
            if on_epoch:
                on_epoch(result)
        learner.processes.wait_for_everyone()

    facts |= {"epochs": len(history), "seconds": round(sum(line.seconds for line in history), 3)}
    training = Training(checkpoint, tuple(history), _best(history).epoch, reason, facts)
    if main:
        _write_history(folder, history)
        _finish(training, key, folder)
        saved.discard()
    say(f"stopped after epoch {len(history)}: {reason}; the best is epoch {training.best_epoch}")
    learner.processes.wait_for_everyone()
    return training


def validation_examples(
    examples: Sequence[Example], clip: Trainable, recipe: Recipe, look_alike_bits: int
) -> list[Example]:
    """The examples that `train` validates on: those that no training by this recipe sees.

    Raises:
        TrainingError: as in `train`.
    """
    fitting, _, _ = _fitting(examples, clip.tokenizer, token_limit(clip.model, clip.tokenizer), recipe)
    return [fitting[row] for row in _split(fitting, recipe, look_alike_bits).validation]


def _ignore(_sentence: str) -> None:
    """Take the place of `report` in all processes but the main one."""


def _fitting(
    examples: Sequence[Example],
    tokenizer: Any,
    limit: int,
    recipe: Recipe,
) -> tuple[list[Example], Captions, int]:
    """The examples to train with, their captions, and how many examples were left out for one that is too long."""
    if not examples:
        raise TrainingError("there are no training photos: the legend sheets name none that can be used")
    captions = Captions(tokenizer, [example.caption for example in examples], limit)
    if recipe.long_legends == "truncate" or not any(captions.long):
        return list(examples), captions, 0
    fitting = [example for example, long in zip(examples, captions.long, strict=True) if not long]
    if not fitting:
        raise TrainingError(f"every caption has over {limit} tokens: say long_legends = 'truncate'")
    captions = Captions(tokenizer, [example.caption for example in fitting], limit)
    return fitting, captions, len(examples) - len(fitting)


def _key(examples: Sequence[Example], captions: Captions, clip: Trainable, recipe: Recipe, bits: int) -> str:
    """Digest of everything that the weights depend on."""
    data = [(example.photo, example.phash, example.caption) for example in examples]
    weights = weights_digest(list(clip.model.named_parameters()))
    return digest_of(TRAIN_STEP, data, captions.tokens, asdict(recipe), bits, weights, clip.image_processor.to_dict())


def _split(examples: Sequence[Example], recipe: Recipe, bits: int) -> Split:
    """Which rows of the examples are trained with, and which are validated on."""
    captions, photos, phashes = zip(*((e.caption, e.photo, e.phash) for e in examples), strict=True)
    sets = inseparable(captions, photos, phashes, bits)
    return split(sets, recipe.validation, recipe.seed)


def _facts(
    examples: Sequence[Example],
    captions: Captions,
    parts: Split,
    learner: Learner,
    dropped: int,
) -> dict[str, Any]:
    """What is known before the first step, for the log and for `training.json`."""
    return {
        "photos": len(examples),
        "training_photos": len(parts.training),
        "validation_photos": len(parts.validation),
        "captions": len({example.caption for example in examples}),
        "inseparable_sets": parts.sets,
        "truncated": sum(captions.long),
        "dropped": dropped,
        "steps_an_epoch": len(batch_rows(parts.training, learner.recipe.batch_size, 0, 0)),
        "device": learner.device.type,
        "processes": learner.processes.num_processes,
        "precision": "bf16" if learner.bf16 else "fp32",
    }


def _counts(facts: dict[str, Any], limit: int) -> str:
    """The sentence on the data, the device and the number format of a training."""
    return (
        f"{facts['training_photos']} photos to train with, {facts['validation_photos']} to validate, "
        f"{facts['captions']} distinct captions ({facts['truncated']} photos with one cut at {limit} tokens, "
        f"{facts['dropped']} left out for one); {facts['steps_an_epoch']} steps an epoch on "
        f"{facts['processes']} x {facts['device']} in {facts['precision']}"
    )


def _expected(start: Validation, facts: dict[str, Any], recipe: Recipe) -> str:
    """The expected time, judged by the validation before training: a backward pass costs twice a forward pass."""
    forward = facts["validation_photos"] + (3 if recipe.accumulate == 1 else 4) * facts["training_photos"]
    copies = 1 if recipe.augmentation == "none" else min(recipe.copies, recipe.epochs)
    once = start.load_seconds * facts["training_photos"]
    epoch = start.embed_seconds * forward + (0 if recipe.augmentation == "none" else once)
    total = start.embed_seconds * forward * recipe.epochs + once * copies
    return f"about {_duration(epoch)} an epoch, {_duration(total)} for all {recipe.epochs}"


def _duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `20 min`, `2 h 05 min`."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


def _progress(history: Sequence[EpochResult], recipe: Recipe) -> str:
    """The sentence on the last epoch, with the time that the others would take."""
    last, best = history[-1], _best(history)
    left = sum(line.seconds for line in history) / len(history) * (recipe.epochs - last.epoch)
    return (
        f"epoch {last.epoch} of at most {recipe.epochs}: training loss {last.train_loss:.4f}, "
        f"validation loss {last.validation_loss:.4f} (best {best.validation_loss:.4f} in epoch {best.epoch}), "
        f"{_duration(last.seconds)}" + (f"; the others take {_duration(left)} at most" if left else "")
    )


def _best(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the lowest validation loss; the first of equals."""
    return min(history, key=lambda line: line.validation_loss)


def _stop_reason(history: Sequence[EpochResult], recipe: Recipe) -> str:
    """Why no other epoch follows, in words; empty if one does."""
    if history and len(history) - _best(history).epoch >= recipe.patience:
        return f"no better validation loss for {recipe.patience} epochs"
    if len(history) >= recipe.epochs:
        return f"all {recipe.epochs} epochs are done"
    return ""


def _fault(validation: Validation, spread: float) -> str:
    """Why a model is no longer worth keeping, in words; empty if it is. `spread` is that before training."""
    if not math.isfinite(validation.loss):
        return f"the validation loss became {validation.loss}"
    if validation.spread < min(COLLAPSED, spread / 100):
        return f"the embeddings collapsed: the mean cosine of two photos is {1 - validation.spread:.6f}"
    return ""


def _stopped(what: str, epoch: int, history: Sequence[EpochResult], checkpoint: Path, recipe: Recipe) -> str:
    """The sentence of a training that broke down: in which epoch, why, what is left and what to do."""
    rest = (
        f"the best checkpoint, of epoch {_best(history).epoch}, is kept in {checkpoint}"
        if history
        else "nothing is kept"
    )
    return f"training stopped in epoch {epoch}, for {what}; {rest}. Try a lower learning rate than {recipe.lr}"


def _write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    """Write `history.csv`, a line an epoch."""
    with replacing(folder / "history.csv") as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(field.name for field in fields(EpochResult))
        lines.writerows(astuple(line) for line in history)


def _finish(training: Training, key: str, folder: Path) -> None:
    """Write `training.json`, the last act: who reads it finds the checkpoint whole."""
    checkpoint = {"checkpoint": training.checkpoint.name, "contents": digest_contents(training.checkpoint)}
    write_json(folder / "training.json", asdict(training) | checkpoint | {"key": key})


def _finished(folder: Path, key: str) -> Training | None:
    """The training that finished in a folder by this key, if its checkpoint is as it was left."""
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    checkpoint = folder / "checkpoint"
    whole = checkpoint.is_dir() and record.get("contents") == digest_contents(checkpoint)
    return Training.load(folder) if record["key"] == key and whole else None
