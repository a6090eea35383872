"""The epochs of a training: their results, which one is kept, when to stop, and the sentences about them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neardup.settings.schema import Recipe
from neardup.stages import replacing
from neardup.words import duration

if TYPE_CHECKING:  # torch, for seconds that who only reads epochs need not wait
    from neardup.train.learner import Validation

UNTRAINED = "for no more of it gains more than chance explains without losing µAP"
"""Why the untrained weights are kept, in the words of log and report."""
BACKWARD = 2
"""Time of a backward pass in forward passes, for estimating a training's time."""


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch of a training, a line of `history.csv`.

    Attributes:
        epoch: counted from 1.
        train_loss: mean over the photos, each at its step.
        validation_loss: mean over the photos, after the epoch.
        seconds: time of the epoch, its validation included.
        logit_scale: logarithm of what similarities of photos and captions are multiplied by; none without captions.
        validation_ndcg: nDCG of the search of copies of the validation photos, 0 to 1.
        validation_micro_ap: µAP of that search, 0 to 1.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float
    logit_scale: float | None
    validation_ndcg: float
    validation_micro_ap: float


@dataclass(frozen=True)
class Share:
    """One line of `shares.csv`: how well interpolated weights find near-duplicates.

    Attributes:
        share: how far the weights lie on the way from those before training to those of the kept epoch, 0 to 1.
        validation_ndcg: as in `EpochResult`.
        validation_micro_ap: as in `EpochResult`.
        validation_ndcg_error: standard error of the gain in nDCG over the untrained weights, paired by picture.
    """

    share: float
    validation_ndcg: float
    validation_micro_ap: float
    validation_ndcg_error: float = 0.0


def best_of(history: Sequence[EpochResult], recipe: Recipe) -> EpochResult:
    """Choose the epoch whose weights are kept, by the recipe's criterion; the first of equals."""
    if recipe.select_by == "loss":
        return min(history, key=lambda line: line.validation_loss)
    return max(history, key=lambda line: (line.validation_ndcg, line.validation_micro_ap))


def stop_reason(history: Sequence[EpochResult], recipe: Recipe) -> str:
    """Why no other epoch follows, in words; empty if one does."""
    if history and len(history) - best_of(history, recipe).epoch >= recipe.patience:
        what = "validation loss" if recipe.select_by == "loss" else "validation nDCG"
        return f"no better {what} for {recipe.patience} epochs"
    if len(history) >= recipe.epochs:
        return f"all {recipe.epochs} epochs are done"
    spent = sum(line.seconds for line in history)
    if recipe.minutes and history and spent * (1 + 1 / len(history)) > recipe.minutes * 60:
        return f"another epoch would not end within {recipe.minutes:g} minutes"
    return ""


def write_lines(path: Path, kind: type, lines: Sequence[Any]) -> None:
    """Write dataclass instances as CSV, one line each, one column per field."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(kind))
        writer.writerows(astuple(line) for line in lines)


def read_numbers(path: Path) -> list[dict[str, float]]:
    """Read the lines of a table of numbers by column, without blank cells; none where there is no table."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


def learned_from(facts: Mapping[str, Any], recipe: Recipe) -> str:
    """Describe a training for the report: what it learned from and which weights were kept; `facts` are its own."""
    source = {"captions": "with captions", "copies": "by copies of them", "both": "by captions and copies"}
    words = [
        f"{facts['training_photos']} photos {source[recipe.objective]}",
        f"epoch {facts['best_epoch']} is the best",
    ]
    if recipe.interpolate:
        words.append(f"{facts['share']:.0%} of the way there from the untrained encoder is kept")
        if not facts["share"]:
            words.append(UNTRAINED)
    if "background_photos" in facts:
        words.append(normalised(facts))
    ndcg_before, ndcg_kept = facts["validation_ndcg_before"], facts["validation_ndcg"]
    return "; ".join(
        [*words, f"nDCG of the validation photos {100 * ndcg_before:.2f} % before, {100 * ndcg_kept:.2f} % kept"]
    )


def normalised(facts: Mapping[str, Any]) -> str:
    """Say whether similarities are normalised by training photos, and what that gains."""
    by = f"by {facts['background_photos']} training photos"
    if "background_taken" in facts:
        return _background_chosen(facts)
    if "normalised" not in facts:
        return f"similarities are normalised {by}, as those of the encoder were that it came from"
    gained = (
        f"nDCG of the validation photos {100 * facts['plain_ndcg']:.2f} → {100 * facts['normalised_ndcg']:.2f} %, "
        f"µAP {100 * facts['plain_micro_ap']:.2f} → {100 * facts['normalised_micro_ap']:.2f} %"
    )
    if facts["normalised"]:
        return f"similarities are normalised {by} ({gained})"
    return f"similarities are not normalised {by}, which gains no more than chance explains or loses µAP ({gained})"


def _background_chosen(facts: Mapping[str, Any]) -> str:
    """Say which photos normalise the similarities of untrained weights, and what was measured."""
    measured = (
        f"copies of them are found with nDCG {100 * facts['background_ndcg_before']:.2f} → "
        f"{100 * facts['background_ndcg']:.2f} %, µAP {100 * facts['background_micro_ap_before']:.2f} → "
        f"{100 * facts['background_micro_ap']:.2f} %"
    )
    photos = f"{facts['background_photos']} photos of the archive"
    if facts["background_taken"]:
        return f"similarities are normalised by {photos} in place of those that the encoder came with ({measured})"
    return f"similarities are normalised as the encoder came: {photos} gain no more than chance explains ({measured})"


def expected_seconds(
    start: "Validation", search: float, facts: Mapping[str, Any], recipe: Recipe
) -> tuple[float, float]:
    """Estimate the seconds of an epoch, and of all epochs, from the validation before training.

    Args:
        start: the validation loss before training, with its times.
        search: seconds that the search of the copies took, which comes after each epoch.
        facts: the counts of photos and steps.
        recipe: every setting.
    """
    photos = min(facts["training_photos"], facts["steps_an_epoch"] * recipe.batch_size)
    forward = facts["validation_photos"] + (1 + BACKWARD + (recipe.accumulate > 1)) * photos
    epoch = start.embed_seconds * forward + search
    read = start.load_seconds * photos
    copies = 1 if recipe.augmentation == "none" else min(recipe.copies, recipe.epochs)
    read_an_epoch = 0 if recipe.augmentation == "none" else read
    return epoch + read_an_epoch, epoch * recipe.epochs + read * copies


def expected(start: "Validation", search: float, facts: Mapping[str, Any], recipe: Recipe) -> str:
    """Say how long a training is expected to take, per epoch and in all."""
    epoch, total = expected_seconds(start, search, facts, recipe)
    limit = f", of which {recipe.minutes:g} min may be used" if recipe.minutes and total > recipe.minutes * 60 else ""
    return f"about {duration(epoch)} an epoch, {duration(total)} for all {recipe.epochs}{limit}"


def progress(history: Sequence[EpochResult], recipe: Recipe) -> str:
    """Write the sentence on the last epoch, with the time that the remaining ones would take."""
    last, best = history[-1], best_of(history, recipe)
    left = sum(line.seconds for line in history) / len(history) * (recipe.epochs - last.epoch)
    return (
        f"epoch {last.epoch} of at most {recipe.epochs}: training loss {last.train_loss:.4f}, "
        f"validation loss {last.validation_loss:.4f}, nDCG {last.validation_ndcg:.4f} (best: epoch {best.epoch}), "
        f"{duration(last.seconds)}" + (f"; the others take {duration(left)} at most" if left else "")
    )
