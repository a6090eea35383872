"""The steps of an experiment between the prepared archive and the report.

Each step is a function that ends with a stage's manifest. The stage's key is made from the keys before it, so that what
is done already is found without loading a model. Take a step again: nothing that is whole on disk is made anew.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neardup import __version__
from neardup.archive.captions import load_captions
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import load_encoder, load_trainable
from neardup.encode.vectors import Embeddings, embed_test_set
from neardup.errors import ArchiveError
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import compare
from neardup.measure.distractors import draw, drawing, embed_distractors
from neardup.measure.evaluate import Distractors, Evaluation, evaluate
from neardup.measure.plots import pictures
from neardup.measure.report import write_report
from neardup.settings.schema import APPROACHES, Recipe, Settings
from neardup.stages import STATE, Stage, digest_file, digest_of
from neardup.train.augment import write_augmented
from neardup.train.finetune import TRAIN_STEP, EpochResult, Example
from neardup.train.launch import Job, train_on

VECTORS_STEP = 1
"""Version of the step that encodes the test set; bumped when its result changes for equal inputs."""
EVALUATE_STEP = 3
"""Version of the step that measures an approach; bumped when its result changes for equal inputs."""
COMPARE_STEP = 2
"""Version of the step that writes comparison and report; bumped when its result changes for equal inputs."""

Say = Callable[[str], None]
OnEpoch = Callable[[EpochResult], None]


@dataclass(frozen=True)
class Step:
    """One step of an experiment. A command takes it as it is, a flow in a task: the work is the same.

    Attributes:
        title: what a person calls it.
        stage: where its outputs and its manifest lie.
        make: makes the outputs, tells a `say` how it gets on, and returns the manifest.
    """

    title: str
    stage: Stage
    make: Callable[[Say], dict[str, Any]]

    def take(self, say: Say) -> dict[str, Any]:
        """The manifest; the work is done only if the stage is not whole on disk."""
        return self.stage.read() or self.make(say)


@dataclass(frozen=True)
class Approach:
    """One of the compared approaches, in one output folder.

    Attributes:
        name: `zero-shot`, `fine-tuned`, `fine-tuned-augmented` or `tuned`; also its folder's name.
        out: the experiment's output folder.
        settings: those of the experiment.
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
        """The recipe that the approach is trained by; None for zero-shot."""
        if self.name == "zero-shot":
            return None
        if self.name == "tuned":
            return self.settings.train
        augmentation = self.settings.augmentation if self.name == "fine-tuned-augmented" else "none"
        return replace(self.settings.train, augmentation=augmentation)

    @property
    def checkpoint(self) -> Stage:
        """The stage that makes the checkpoint; its key holds legends and captions, for training depends on them."""
        recipe = (TRAIN_STEP, asdict(self.recipe)) if self.recipe else None
        tables = ("training_set.csv", "captions.csv") if recipe else ()
        inputs = [table_digest(self.out, table) for table in tables]
        bits = self.settings.prepare.look_alike_bits
        key = digest_of(self.base, self.settings.encoder, recipe, bits, inputs)
        return Stage(self.out, f"{self.name}/checkpoint", key)

    @property
    def vectors(self) -> Stage:
        """The stage that encodes the test set, and the distractors where there are any."""
        inputs = [VECTORS_STEP, self.checkpoint.key, table_digest(self.out, "test_set.csv")]
        if self.settings.distractors:
            inputs.append(drawing(self.out, self.settings.distractors).key)
        return Stage(self.out, f"{self.name}/vectors", digest_of(*inputs))

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
        tuned = json.loads(path.read_text(encoding="utf-8"))
        if tuned["base"] == base:
            recipe = replace(settings.train, **tuned["recipe"])
            approaches.append(Approach("tuned", out, replace(settings, train=recipe), base))
    return approaches


def training_examples(out: Path, max_pixels: int = MAX_PIXELS) -> list[Example]:
    """The training photos with their captions, in the order of the sheet.

    Args:
        out: the output folder, prepared and translated.
        max_pixels: training refuses a photo that has more.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    captions = load_captions(out)
    return [
        Example(
            image=out / "training_set" / photo.image_name,
            photo=photo.sha256,
            caption=captions[photo.legend].text,
            phash=photo.phash,
            max_pixels=max_pixels,
        )
        for photo in TrainingSet.load(out).photos
    ]


def trained_approaches(approaches: Sequence[Approach], say: Say) -> list[Approach]:
    """Zero-shot, and those of the others that were trained with these very settings.

    Args:
        approaches: all that there may be.
        say: gets a sentence for each that is left out, because it was trained with other settings.
    """
    trained = []
    for approach in approaches:
        if approach.recipe is None or approach.checkpoint.done():
            trained.append(approach)
        elif (approach.folder / "checkpoint").is_dir():
            say(f"{approach.name} is left out: it was trained with other settings than these; say the same ones again")
    return trained


def steps_of(
    approaches: Sequence[Approach],
    facts: Mapping[str, str],
    on_epochs: Callable[[Approach], OnEpoch | None] = lambda _: None,
) -> list[Step]:
    """All steps from the prepared and translated folder to the report, in their order.

    Args:
        approaches: zero-shot first.
        facts: provenance that the report shows: encoder, archive, versions.
        on_epochs: approach → what is called after each epoch of its training.
    """
    steps = [step for approach in approaches for step in _approach_steps(approach, on_epochs(approach))]
    return [*steps, Step("compare", comparison_stage(approaches), lambda _: compare_approaches(approaches, facts))]


def _approach_steps(approach: Approach, on_epoch: OnEpoch | None) -> list[Step]:
    """Checkpoint, vectors and evaluation of one approach."""
    return [
        checkpoint_step(approach, on_epoch),
        Step(f"{approach.name}: encode", approach.vectors, lambda _: encode_test_set(approach)),
        Step(f"{approach.name}: evaluate", approach.evaluation, lambda _: evaluate_approach(approach)),
    ]


def checkpoint_step(approach: Approach, on_epoch: OnEpoch | None = None) -> Step:
    """The training of an approach, or for zero-shot a copy of the base encoder.

    Args:
        approach: what is trained.
        on_epoch: is called after each epoch.
    """
    make = partial(make_checkpoint, approach, on_epoch=on_epoch)
    return Step(f"{approach.name}: checkpoint", approach.checkpoint, make)


def augment_training_set(out: Path, settings: Settings) -> dict[str, Any]:
    """Write `train_dataset_aug/` and `df_training_aug.xlsx`; copies that are there already are kept.

    Returns:
        The facts of the manifest: copies, recipe, seed.

    Raises:
        ArchiveError: nothing has been prepared or translated in `out`, or the folder holds files of somebody else.
    """
    recipe = settings.train
    training, captions = TrainingSet.load(out), load_captions(out)
    return write_augmented(
        out, training, captions, settings.augmentation, recipe.copies, recipe.seed, settings.prepare.max_pixels
    )


def make_checkpoint(approach: Approach, say: Say = print, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
    """Fine-tune the base encoder by the approach's recipe, or save it as it is for zero-shot.

    Returns:
        The manifest; its facts say when and why training stopped.

    Raises:
        TrainingError: see `neardup.train.finetune.train`; the best checkpoint so far is kept.
    """
    settings, checkpoint = approach.settings, approach.folder / "checkpoint"
    if approach.recipe is None:
        load_trainable(settings.encoder).save(checkpoint)
        return approach.checkpoint.finish([checkpoint])
    job = Job(
        training_examples(approach.out, settings.prepare.max_pixels),
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

    Distractors, where the settings ask for any, are drawn if they were not yet, and go to `distractors.parquet`.

    Returns:
        The manifest; its facts name the encoder's fingerprint.

    Raises:
        ArchiveError: the archive has not so many photos that may be distractors, or it is gone.
    """
    test_set = TestSet.load(approach.out)
    drawn = draw(approach.out, approach.settings.distractors)
    encoder = load_encoder(str(approach.folder / "checkpoint"), device=approach.settings.device)
    limit, store = approach.settings.prepare.max_pixels, approach.settings.cluster.store
    outputs = [embed_test_set(approach.out, test_set, encoder, limit, store).save(approach.folder / "vectors.parquet")]
    if drawn:
        distractors = embed_distractors(approach.out, drawn, encoder, limit)
        outputs.append(distractors.save(approach.folder / "distractors.parquet"))
    facts = {"fingerprint": encoder.fingerprint, "photos": len(test_set.photos), "distractors": len(drawn)}
    return approach.vectors.finish(outputs, facts)


def evaluate_approach(approach: Approach) -> dict[str, Any]:
    """Measure the approach's vectors against the groups; write its tables and pictures.

    Returns:
        The manifest; its facts hold each metric's value.
    """
    test_set = TestSet.load(approach.out)
    embeddings = Embeddings.load(approach.folder / "vectors.parquet")
    distractors = None
    if approach.settings.distractors:
        distractors = Distractors.of(Embeddings.load(approach.folder / "distractors.parquet"))
    evaluation = evaluate(
        embeddings.vectors,
        test_set.groups,
        [photo.name for photo in test_set.photos],
        approach=approach.name,
        fingerprint=embeddings.fingerprint,
        distractors=distractors,
    )
    outputs = evaluation.save(approach.folder)
    images, limit = approach.out / "test_dataset", approach.settings.prepare.max_pixels
    outputs += pictures(evaluation, approach.folder, images, read_history(approach), limit)
    facts = {name: figure.value for name, figure in evaluation.metrics.items()}
    return approach.evaluation.finish(outputs, facts)


def read_history(approach: Approach) -> list[dict[str, float]]:
    """The epochs of the approach's training (epoch, train_loss, validation_loss …); empty for zero-shot."""
    return history_of(approach.folder) if approach.recipe else []


def history_of(folder: Path) -> list[dict[str, float]]:
    """The epochs of the training in a folder, as `history.csv` has them; empty before the first has ended."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def provenance(settings: Settings, archive: Path | None = None) -> dict[str, str]:
    """Facts that the report shows of its making: encoder, archive, versions of the packages."""
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
    """Write `comparison.xlsx .csv .md .json`, `comparison_facts.json` and `report.html`.

    Args:
        approaches: evaluated approaches, zero-shot first.
        facts: provenance that the report shows: encoder, archive, versions.

    Returns:
        The manifest.
    """
    out = approaches[0].out
    comparison = compare([Evaluation.load(approach.folder) for approach in approaches])
    limit = approaches[0].settings.prepare.max_pixels
    outputs = [*comparison.write(out), write_report(out, comparison, facts, limit)]
    return comparison_stage(approaches).finish(outputs)
