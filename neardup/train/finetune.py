"""Fine-tune a model on photos, with captions or without: one loop; a killed run resumes to the same weights."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neardup.encode.trainable import Trainable, load_trainable
from neardup.errors import DivergedError
from neardup.measure.evaluate import clean
from neardup.progress import bar
from neardup.settings.schema import PrepareSettings, Recipe
from neardup.stages import digest_contents, read_json, write_json
from neardup.train.batches import Example, KnownPairs
from neardup.train.data import TrainingData
from neardup.train.epochs import (
    UNTRAINED,
    EpochResult,
    Share,
    best_of,
    expected,
    expected_seconds,
    progress,
    stop_reason,
    write_lines,
)
from neardup.train.interpolate import best_share, interpolate, shares_of, weights_of
from neardup.train.learner import Validation, VisionLearner
from neardup.train.lora import merged
from neardup.train.normalise import normalise
from neardup.train.resume import TrainingState, recover_checkpoint, save_checkpoint
from neardup.train.validation import NearDuplicates, SearchScore

__all__ = ["EpochResult", "Example", "KnownPairs", "Share", "Training", "measure_start", "train"]

COLLAPSED = 1e-4
"""Mean cosine distance of the validation photos below which all vectors count as collapsed into one.

Untrained weights may start near it, so that the distance must also have fallen to a hundredth of what it was.
"""


@dataclass(frozen=True)
class Training:
    """The result of a finished training, epoch by epoch.

    Attributes:
        checkpoint: folder of the kept model, as `from_pretrained` reads it.
        history: every epoch, in order.
        best_epoch: the epoch that is kept, by the recipe's criterion; the first of equals.
        stopped_because: why no other epoch followed, in words.
        facts: counts, device, number format, seconds; loss, nDCG and µAP on the validation photos before the first
            epoch; nDCG and µAP of the kept model, and its share of the way from the start to the best epoch.
        shares: results of weights between the start and the best epoch; none where the recipe does not interpolate.
    """

    checkpoint: Path
    history: tuple[EpochResult, ...]
    best_epoch: int
    stopped_because: str
    facts: dict[str, Any]
    shares: tuple[Share, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Training":
        """Read the training that `train` finished in a folder."""
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        history = tuple(EpochResult(**line) for line in record["history"])
        shares = tuple(map(_from_json, record["shares"]))
        return cls(
            folder / "checkpoint", history, record["best_epoch"], record["stopped_because"], record["facts"], shares
        )


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
    known: KnownPairs = KnownPairs(),  # noqa: B008 - frozen
) -> Training:
    """Fine-tune a model on photos; the kept weights become `folder/checkpoint`.

    A run that was killed continues from its last whole epoch and ends with the same weights as an uninterrupted one. A
    finished training of the same examples, recipe and weights is returned without training again.

    Args:
        examples: the training photos; validation photos are taken from them.
        clip: a freshly loaded model, whose weights are changed in place, or its name.
        recipe: every setting.
        folder: gets `checkpoint/`, `history.csv`, `shares.csv` where the recipe interpolates, and `training.json`.
        on_epoch: called after each epoch, when its state is on disk; when a killed run resumes, again for its last
            epoch.
        report: called with sentences: counts, device and expected time before the first step, then progress.
        device: `auto`, `cpu`, `cuda` or `mps`; several processes started by `torchrun` share the work; `train_on` of
            `neardup.train.launch` starts them.
        state: where the resumable state lies until training has finished; `folder/state` by default.
        look_alike_bits: photos whose perceptual hashes differ in at most this many bits are never split from each
            other.
        known: pairs of photos that are known to show the same picture, or not to.

    Raises:
        TrainingError: there is nothing to validate on, or a photo is gone.
        DivergedError: the loss is not finite, or the embeddings collapsed; the best checkpoint so far is kept.
    """
    clip = load_trainable(clip) if isinstance(clip, str) else clip
    data = TrainingData.of(examples, clip, recipe, look_alike_bits, known)
    if finished := _finished(folder, data.key):
        report(f"training is done already: best epoch {finished.best_epoch} of {len(finished.history)}")
        return finished
    untrained = weights_of(clip.model) if recipe.interpolate else {}
    learner, search = data.learner(clip, device), data.near_duplicates()
    main = learner.processes.is_main_process
    say = report if main else _ignore
    optimizer = learner.optimizer()
    checkpoint = folder / "checkpoint"
    saved = TrainingState(state or folder / "state", data.key)
    facts = data.facts(learner)
    say(data.counts(facts))
    learner.begin(data.rows(learner))
    if saved_facts := saved.read():
        saved.restore(learner.model, optimizer)
        recover_checkpoint(checkpoint, saved.folder)
        history, spread = [EpochResult(**line) for line in saved_facts["history"]], saved_facts["spread"]
        facts |= saved_facts["before"]
        say(f"going on after epoch {len(history)}")
        if main and on_epoch and history:  # the kill may have come before the call
            on_epoch(history[-1])
    else:
        if main:
            (folder / "training.json").unlink(missing_ok=True)
        start, score, seconds = _start(learner, search, data)
        history, spread = [], start.spread
        facts |= _before(start, score)
        at_start = f"before training the validation loss is {start.loss:.4f}, the nDCG {score.ndcg:.4f}"
        say(f"expected: {expected(start, seconds, facts, recipe)}; {at_start}")

    while not (reason := stop_reason(history, recipe)):
        epoch, began, total = len(history) + 1, time.perf_counter(), 0.0
        batches = learner.batches(data.parts.training, epoch)
        title, hidden = f"epoch {epoch} of at most {recipe.epochs}", None if main else True
        inputs_of_all = learner.inputs(batches, epoch)
        steps = bar(inputs_of_all, title, len(batches), unit="step", leave=False, disable=hidden)
        for step, (batch, inputs) in enumerate(steps, (epoch - 1) * len(batches)):
            optimizer.zero_grad()
            loss = learner.backward(batch, inputs)
            if not math.isfinite(loss):
                raise DivergedError(_breakdown(f"the loss became {loss}", epoch, history, checkpoint, recipe))
            learner.descend(optimizer, step / (recipe.epochs * len(batches)))
            total += loss * len(batch)
            steps.set_postfix(loss=f"{loss:.4f}")

        validation = learner.validate(data.parts.validation)
        if fault := _fault(validation, spread):
            raise DivergedError(_breakdown(fault, epoch, history, checkpoint, recipe))
        score, seconds = search.measure(learner), round(time.perf_counter() - began, 3)
        mean = total / sum(map(len, batches))
        result = EpochResult(epoch, mean, validation.loss, seconds, learner.temperature, score.ndcg, score.micro_ap)
        history.append(result)

        if main:
            if best_of(history, recipe).epoch == epoch:
                save_checkpoint(replace(clip, model=merged(clip.model)), checkpoint, saved.folder)
            lines = [asdict(line) for line in history]
            saved_facts = {"history": lines, "spread": spread, "before": {name: facts[name] for name in BEFORE}}
            saved.write(epoch, learner.model, [optimizer], saved_facts)
            write_lines(folder / "history.csv", EpochResult, history)
            say(progress(history, recipe))
            if on_epoch:
                on_epoch(result)
        learner.processes.wait_for_everyone()

    best = best_of(history, recipe)
    found = SearchScore(facts["validation_ndcg_before"], facts["validation_micro_ap_before"])
    ended = _Ended(data, learner, search, saved, checkpoint)
    shares = ended.shares(untrained, found, best) if recipe.interpolate else []
    kept_share = best_share(shares) if shares else Share(1.0, best.validation_ndcg, best.validation_micro_ap)
    facts |= _facts_of_kept(kept_share, history)
    facts |= normalise(checkpoint, data, search, clip.background, kept_share.share, device, say) if main else {}
    training = Training(checkpoint, tuple(history), best.epoch, reason, facts, tuple(shares))
    if main:
        _finish(training, data.key, folder)
        saved.discard()
    say(_ending(training, kept_share))
    learner.processes.wait_for_everyone()
    return training


BEFORE = ("validation_loss_before", "validation_ndcg_before", "validation_micro_ap_before")
"""Names of the facts about the model's results on the validation photos before training."""


def _before(start: Validation, score: SearchScore) -> dict[str, float]:
    """Make the facts of the model before training, by the names of `BEFORE`."""
    return dict(zip(BEFORE, (start.loss, score.ndcg, score.micro_ap), strict=True))


def _start(learner: VisionLearner, search: NearDuplicates, data: TrainingData) -> tuple[Validation, SearchScore, float]:
    """Measure loss and search before training, and the seconds that the search took."""
    start = learner.validate(data.parts.validation)
    search.read(learner)
    began = time.perf_counter()
    return start, search.measure(learner), time.perf_counter() - began


def measure_start(
    examples: Sequence[Example], clip: Trainable, recipe: Recipe, *, device: str, look_alike_bits: int
) -> dict[str, Any]:
    """Measure what precedes a training by the recipe: its counts, the validation before it, the expected seconds.

    Returns:
        The facts of `Training` that are known before the first step, and `expected_seconds` of all epochs.
    """
    data = TrainingData.of(examples, clip, recipe, look_alike_bits, KnownPairs())
    learner = data.learner(clip, device)
    learner.begin(data.parts.validation)
    start, score, seconds = _start(learner, data.near_duplicates(), data)
    facts = data.facts(learner) | _before(start, score)
    return facts | {"expected_seconds": round(expected_seconds(start, seconds, facts, recipe)[1])}


def _ignore(_sentence: str) -> None:
    """Take the place of `report` in all processes but the main one."""


def _fault(validation: Validation, spread: float) -> str:
    """Say why a model is not worth keeping; empty if it is. `spread` is the one before training."""
    if not math.isfinite(validation.loss):
        return f"the validation loss became {validation.loss}"
    if validation.spread < min(COLLAPSED, spread / 100):
        return f"the embeddings collapsed: the mean cosine of two photos is {1 - validation.spread:.6f}"
    return ""


def _facts_of_kept(share: Share, history: Sequence[EpochResult]) -> dict[str, Any]:
    """Make the facts of the weights that are kept, and of the time that training took."""
    seconds = round(sum(line.seconds for line in history), 3)
    return {"epochs": len(history), "seconds": seconds, **_in_json(share)}


def _in_json(share: Share) -> dict[str, Any]:
    """Convert a share to JSON: an infinite error becomes None."""
    return asdict(share) | {"validation_ndcg_error": clean(share.validation_ndcg_error)}


def _from_json(line: Mapping[str, Any]) -> Share:
    """Convert back what `_in_json` made."""
    error = line["validation_ndcg_error"]
    return Share(**{**line, "validation_ndcg_error": math.inf if error is None else error})


def _ending(training: Training, kept_share: Share) -> str:
    """Write the sentence of a finished training: why it ended, and what is kept."""
    share = f", of which {kept_share.share:.0%} of the way are kept: nDCG {kept_share.validation_ndcg:.4f}"
    share += "" if kept_share.share else f"; {UNTRAINED}"
    return (
        f"stopped after epoch {len(training.history)}: {training.stopped_because}; the best is epoch "
        f"{training.best_epoch}{share if training.shares else ''}"
    )


def _breakdown(cause: str, epoch: int, history: Sequence[EpochResult], checkpoint: Path, recipe: Recipe) -> str:
    """Write the sentence of a failed training: in which epoch, why, what is left and what to do."""
    remains = (
        f"the best checkpoint, of epoch {best_of(history, recipe).epoch}, is kept in {checkpoint}"
        if history
        else "nothing is kept"
    )
    return f"training stopped in epoch {epoch}, for {cause}; {remains}. Try a lower learning rate than {recipe.lr}"


@dataclass(frozen=True)
class _Ended:
    """A training whose epochs are over, before its weights are chosen among those on the way to the best epoch's.

    Attributes:
        data: the photos, split, and the recipe.
        learner: learner that was trained.
        search: search for near-duplicates among the validation photos.
        saved: the resumable state.
        checkpoint: folder of the best epoch's weights.
    """

    data: TrainingData
    learner: VisionLearner
    search: NearDuplicates
    saved: TrainingState
    checkpoint: Path

    def shares(self, untrained: dict[str, Any], start: SearchScore, best: EpochResult) -> list[Share]:
        """Measure weights between the untrained ones and those in `checkpoint`, and put the best there.

        The shares are recorded, with the digest of the best epoch's checkpoint, before the checkpoint is replaced, so
        that a run that was killed in between does not interpolate twice.

        Args:
            untrained: weights from before training, by name.
            start: search result of the untrained weights.
            best: the best epoch, whose weights are in `checkpoint`.
        """
        noted, main = self.saved.read() or {}, self.learner.processes.is_main_process
        best_model = load_trainable(str(self.checkpoint))
        trained = weights_of(best_model.model)
        shares = [Share(**line) for line in noted.get("shares", [])]
        if not shares:
            plain = replace(self.data.recipe, lora_rank=0, frozen_layers=0, compiled=False)
            between = VisionLearner(self.data.examples, best_model, plain, self.learner.device.type)

            def measure(share: float) -> SearchScore:
                interpolate(between.model, untrained, trained, share)
                return self.search.measure(between)

            shares = shares_of(start, SearchScore(best.validation_ndcg, best.validation_micro_ap), measure)
            if main:
                noted |= {"shares": [asdict(line) for line in shares], "contents": digest_contents(self.checkpoint)}
                self.saved.note(noted)
        if main and (share := best_share(shares).share) < 1 and noted["contents"] == digest_contents(self.checkpoint):
            interpolate(best_model.model, untrained, trained, share)
            save_checkpoint(best_model, self.checkpoint, self.saved.folder)
        return shares


def _finish(training: Training, key: str, folder: Path) -> None:
    """Write the tables and, last, `training.json`: whoever finds it finds a whole checkpoint."""
    write_lines(folder / "history.csv", EpochResult, training.history)
    (folder / "shares.csv").unlink(missing_ok=True)
    if training.shares:
        write_lines(folder / "shares.csv", Share, training.shares)
    checkpoint = {"checkpoint": training.checkpoint.name, "contents": digest_contents(training.checkpoint)}
    shares = {"shares": [_in_json(share) for share in training.shares]}
    write_json(folder / "training.json", asdict(training) | shares | checkpoint | {"key": key})


def _finished(folder: Path, key: str) -> Training | None:
    """Load the training that finished in a folder with this key, if its checkpoint is unchanged."""
    record, checkpoint = read_json(folder / "training.json"), folder / "checkpoint"
    if record.get("key") != key or not checkpoint.is_dir() or record.get("contents") != digest_contents(checkpoint):
        return None
    try:
        return Training.load(folder)
    except (KeyError, TypeError):  # if the record is damaged, train again
        return None
