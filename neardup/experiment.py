"""The stages of an experiment between the prepared archive and the report.

Each stage is a function with a manifest, and its key is made from the keys before it, so that what is done already is
found without loading a model. Call any of them again: nothing that is whole on disk is made anew.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neardup import __version__
from neardup.archive.captions import load_captions
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import load_clip, load_encoder
from neardup.encode.vectors import Embeddings, embed_test_set
from neardup.errors import ArchiveError
from neardup.measure.comparison import compare
from neardup.measure.evaluate import Evaluation, evaluate
from neardup.measure.plots import pictures
from neardup.measure.report import write_report
from neardup.settings.schema import APPROACHES, Recipe, Settings
from neardup.stages import STATE, Stage, digest_file, digest_of
from neardup.train.finetune import TRAIN_STEP, EpochResult, Example
from neardup.train.launch import Job, train_on

VECTORS_STEP = COMPARE_STEP = 1
EVALUATE_STEP = 2
"""Bumped when a step's result changes for equal inputs."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Approach:
    """One of the compared approaches, in one output folder.

    Attributes:
        name: `zero-shot`, `fine-tuned`, `fine-tuned-augmented` or `tuned`; also its folder's name.
        out: the experiment's output folder.
        settings: what the experiment was told.
        base: fingerprint of the encoder that it starts from.
    """

    name: str
    out: Path
    settings: Settings
    base: str

    @property
    def folder(self) -> Path:
        """Where its checkpoint, vectors, tables and pictures lie."""
        return self.out / self.name

    @property
    def recipe(self) -> Recipe | None:
        """What it is trained with; None for zero-shot."""
        if self.name == "zero-shot":
            return None
        if self.name == "tuned":
            return self.settings.train
        augmentation = self.settings.augmentation if self.name == "fine-tuned-augmented" else "none"
        return replace(self.settings.train, augmentation=augmentation)

    @property
    def checkpoint(self) -> Stage:
        """The stage that makes the checkpoint."""
        recipe = (TRAIN_STEP, asdict(self.recipe)) if self.recipe else None
        tables = ("training_set.csv", "captions.csv") if recipe else ()
        inputs = [table_digest(self.out, table) for table in tables]
        bits = self.settings.prepare.look_alike_bits
        key = digest_of(self.base, self.settings.encoder, recipe, bits, inputs)
        return Stage(self.out, f"{self.name}/checkpoint", key)

    @property
    def vectors(self) -> Stage:
        """The stage that encodes the test set."""
        key = digest_of(VECTORS_STEP, self.checkpoint.key, table_digest(self.out, "test_set.csv"))
        return Stage(self.out, f"{self.name}/vectors", key)

    @property
    def evaluation(self) -> Stage:
        """The stage that measures the vectors."""
        return Stage(self.out, f"{self.name}/evaluation", digest_of(EVALUATE_STEP, self.vectors.key))


def table_digest(out: Path, table: str) -> str:
    """SHA-256 of a table of the prepared folder.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    if not (out / table).is_file():
        first = f"run `neardup prepare ARCHIVE --out {out}`, then `neardup translate --out {out}`"
        raise ArchiveError(f"{out / table} does not exist: {first}")
    return digest_file(out / table)


def approaches_of(out: Path, settings: Settings, base: str) -> list[Approach]:
    """The three approaches, and the tuned one where `neardup tune` has found a recipe for this very encoder."""
    approaches = [Approach(name, out, settings, base) for name in APPROACHES]
    path = out / "tuned" / "recipe.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["base"] == base:
            recipe = replace(settings.train, **found["recipe"])
            approaches.append(Approach("tuned", out, replace(settings, train=recipe), base))
    return approaches


def training_examples(out: Path) -> list[Example]:
    """The training photos with their captions, in the order of the sheet.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    captions = load_captions(out)
    return [
        Example(
            image=out / "training_set" / photo.image_name,
            photo=photo.sha256,
            caption=captions[photo.legend].text,
            look=photo.phash,
        )
        for photo in TrainingSet.load(out).photos
    ]


def made_approaches(approaches: Sequence[Approach], say: Say) -> list[Approach]:
    """Zero-shot, and those of the others that were trained with these very settings.

    Args:
        approaches: all that there may be.
        say: is told of each that was trained otherwise, and so is left out.
    """
    made = []
    for approach in approaches:
        if approach.recipe is None or approach.checkpoint.done():
            made.append(approach)
        elif (approach.folder / "checkpoint").is_dir():
            say(f"{approach.name} is left out: it was trained with other settings than these; say the same ones again")
    return made


def make_checkpoint(
    approach: Approach,
    say: Say = print,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune the base encoder by the approach's recipe, or save it as it is for zero-shot.

    Returns:
        The manifest; its facts say when and why training stopped.

    Raises:
        TrainingError: see `neardup.train.finetune.train`; the best checkpoint so far is kept.
    """
    settings, checkpoint = approach.settings, approach.folder / "checkpoint"
    if approach.recipe is None:
        load_clip(settings.encoder).save(checkpoint)
        return approach.checkpoint.finish([checkpoint])
    job = Job(
        training_examples(approach.out),
        settings.encoder,
        approach.recipe,
        approach.folder,
        settings.device,
        state=approach.out / STATE / "training" / approach.name,
        look_alike_bits=settings.prepare.look_alike_bits,
    )
    training = train_on(settings.processes, job, on_epoch, say)
    facts = {**training.facts, "best_epoch": training.best_epoch, "stopped_because": training.stopped_because}
    return approach.checkpoint.finish([checkpoint, approach.folder / "history.csv"], facts)


def encode_test_set(approach: Approach) -> dict[str, Any]:
    """Encode the test set with the approach's checkpoint into `vectors.parquet`.

    Returns:
        The manifest; its facts name the encoder's fingerprint.
    """
    test_set = TestSet.load(approach.out)
    encoder = load_encoder(str(approach.folder / "checkpoint"), device=approach.settings.device)
    embed_test_set(approach.out, test_set, encoder, approach.settings.cluster.store).save(
        approach.folder / "vectors.parquet"
    )
    facts = {"fingerprint": encoder.fingerprint, "photos": len(test_set.photos)}
    return approach.vectors.finish([approach.folder / "vectors.parquet"], facts)


def evaluate_approach(approach: Approach) -> dict[str, Any]:
    """Measure the approach's vectors against the groups; write its tables and pictures.

    Returns:
        The manifest; its facts hold each metric's value.
    """
    test_set = TestSet.load(approach.out)
    embeddings = Embeddings.load(approach.folder / "vectors.parquet")
    evaluation = evaluate(
        embeddings.vectors,
        test_set.groups,
        [photo.name for photo in test_set.photos],
        approach=approach.name,
        fingerprint=embeddings.fingerprint,
    )
    outputs = evaluation.save(approach.folder)
    outputs += pictures(evaluation, approach.folder, approach.out / "test_dataset", read_history(approach))
    facts = {name: figure.value for name, figure in evaluation.metrics.items()}
    return approach.evaluation.finish(outputs, facts)


def read_history(approach: Approach) -> list[dict[str, float]]:
    """The epochs of the approach's training (epoch, train_loss, validation_loss …); empty for zero-shot."""
    return history_of(approach.folder) if approach.recipe else []


def history_of(folder: Path) -> list[dict[str, float]]:
    """The epochs of the training whose folder it is; empty before its first."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def provenance(settings: Settings, archive: Path | None = None) -> dict[str, str]:
    """What the report says of its making: encoder, archive, versions."""
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "mlflow", "prefect")]
    return {
        "encoder": settings.encoder,
        **({"archive": archive.resolve().name} if archive else {}),
        "versions": ", ".join([f"neardup {__version__}", *versions]),
    }


def comparison_stage(approaches: Sequence[Approach]) -> Stage:
    """The stage that sets the approaches side by side and writes the report."""
    out = approaches[0].out
    key = digest_of(COMPARE_STEP, [a.evaluation.key for a in approaches], digest_file(out / "discrepancies.csv"))
    return Stage(out, "comparison", key)


def compare_approaches(approaches: Sequence[Approach], facts: Mapping[str, str]) -> dict[str, Any]:
    """Write `comparison.xlsx .csv .md .json` and `report.html`.

    Args:
        approaches: evaluated approaches, zero-shot first.
        facts: provenance that the report shows: encoder, archive, versions.

    Returns:
        The manifest.
    """
    out = approaches[0].out
    comparison = compare([Evaluation.load(approach.folder) for approach in approaches])
    outputs = [*comparison.write(out), write_report(out, comparison, facts)]
    return comparison_stage(approaches).finish(outputs)
