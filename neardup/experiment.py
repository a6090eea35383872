"""The steps of an experiment between the prepared archive and the report.

Each step is a function that ends with a stage's manifest. The stage's key is made from the keys before it, so that
finished steps are found without loading a model or torch. Repeating a step does not make anew what is complete on disk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neardup import __version__
from neardup.approach import WITHOUT_LEGENDS, Approach, examples_of, known_pairs_of
from neardup.archive.captions import load_captions
from neardup.archive.known_pairs import training_photos_also_tested
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import limits_of, load_encoder
from neardup.encode.store import store_of
from neardup.encode.vectors import Embeddings, embed_test_set
from neardup.errors import ConfigError
from neardup.measure.comparison import compare
from neardup.measure.distractors import draw, embed_distractors
from neardup.measure.evaluate import Distractors, Evaluation, evaluate
from neardup.measure.plots import curves, pictures
from neardup.measure.queries import search_queries
from neardup.measure.query_report import NewPhotos
from neardup.measure.report import write_report
from neardup.settings.schema import Settings
from neardup.stages import STATE, Stage, digest_file, digest_of, read_json
from neardup.train.epochs import EpochResult, learned_from, normalised, read_numbers
from neardup.words import counted

COMPARE_STEP = 6
"""Version of the step that writes comparison and report; bumped when its result changes for equal inputs."""

Say = Callable[[str], None]
"""Function that shows one sentence to a person."""
OnEpoch = Callable[[EpochResult], None]
"""Function that is called with the result of each epoch of a training."""


@dataclass(frozen=True)
class Step:
    """One step of an experiment, which a command runs directly and a flow in a task.

    Attributes:
        title: name of the step for people.
        stage: stage of its outputs and its manifest.
        make: function that makes the outputs, reports progress to a `say`, and returns the manifest.
    """

    title: str
    stage: Stage
    make: Callable[[Say], dict[str, Any]]

    def take(self, say: Say) -> dict[str, Any]:
        """Return the manifest, after doing the work only if the stage is not complete on disk."""
        return self.stage.read() or self.make(say)


def steps_of(
    approaches: Sequence[Approach],
    facts: Mapping[str, str],
    on_epochs: Callable[[Approach], OnEpoch | None] = lambda _: None,
) -> list[Step]:
    """List all steps from the prepared and translated folder to the report, in order.

    Args:
        approaches: zero-shot first; each is repeated by as many seeds as its settings ask for.
        facts: provenance that the report shows: encoder, archive, versions.
        on_epochs: approach → function that is called after each epoch of its training.
    """
    steps = [step for approach in approaches for step in _approach_steps(approach, on_epochs(approach))]
    steps += [step for approach in approaches for repeat in approach.repeats for step in _approach_steps(repeat)]
    if queries := approaches[0].queries:
        from neardup.train.variants import write_queries  # noqa: PLC0415 - torchvision, for seconds

        make = partial(write_queries, queries, approaches[0].settings)
        steps = [Step("queries", queries, make), *steps, *(_search_step(a, a.search(queries)) for a in approaches)]
    stage = comparison_stage(approaches)
    return [*steps, Step("compare", stage, lambda _: compare_approaches(approaches, facts, stage))]


def _approach_steps(approach: Approach, on_epoch: OnEpoch | None = None) -> list[Step]:
    """Checkpoint, vectors, evaluation and verification of one approach."""
    vectors, evaluation = approach.vectors, approach.evaluation
    steps = [
        checkpoint_step(approach, on_epoch),
        Step(f"{approach.place}: encode", vectors, lambda _: encode_test_set(approach, vectors)),
        Step(f"{approach.place}: evaluate", evaluation, lambda _: evaluate_approach(approach, evaluation)),
    ]
    if stage := approach.verification:
        steps.append(Step(f"{approach.place}: verify", stage, partial(verify_approach, approach, stage)))
    return steps


def checkpoint_step(approach: Approach, on_epoch: OnEpoch | None = None) -> Step:
    """The training of an approach, or for zero-shot a copy of the base encoder.

    Args:
        approach: what is trained.
        on_epoch: is called after each epoch.
    """
    stage = approach.checkpoint
    make = partial(make_checkpoint, approach, on_epoch=on_epoch, stage=stage)
    return Step(f"{approach.place}: checkpoint", stage, make)


def augment_training_set(out: Path, settings: Settings) -> dict[str, Any]:
    """Write `train_dataset_aug/` and `df_training_aug.xlsx`; copies that are there already are kept.

    Returns:
        The facts of the manifest: copies, recipe, seed.

    Raises:
        ArchiveError: nothing has been prepared or translated in `out`, or the folder holds files of somebody else.
    """
    from neardup.train.augment import write_augmented  # noqa: PLC0415 - torch, for seconds

    recipe = settings.train
    training, captions = TrainingSet.load(out), load_captions(out)
    return write_augmented(
        out, training, captions, settings.augmentation, recipe.copies, recipe.seed, settings.prepare.max_pixels
    )


def make_checkpoint(
    approach: Approach, say: Say = print, on_epoch: OnEpoch | None = None, stage: Stage | None = None
) -> dict[str, Any]:
    """Fine-tune the base encoder by the approach's recipe, or save it as it is for zero-shot.

    Args:
        approach: what is trained.
        say: called with sentences about the progress of training.
        on_epoch: called after each epoch.
        stage: the stage as planned, as tables may be edited while training runs.

    Returns:
        The manifest; its facts say when and why training stopped.

    Raises:
        TrainingError: see `neardup.train.finetune.train`; the best checkpoint so far is kept.
    """
    from neardup.encode.trainable import save_encoder  # noqa: PLC0415 - torch, for seconds
    from neardup.train.launch import Job, train_on  # noqa: PLC0415 - torch, for seconds

    settings, checkpoint, stage = approach.settings, approach.folder / "checkpoint", stage or approach.checkpoint
    if approach.recipe is None:
        save_encoder(settings.encoder, checkpoint)
        return stage.finish([checkpoint], _normalise(approach, say))
    if approach.name not in WITHOUT_LEGENDS and (tested := training_photos_also_tested(approach.out)):
        photos = counted(len(tested), "training photo")
        say(f"{approach.name}: left out {photos} that known pairs call the same as a test photo")
    job = Job(
        examples_of(approach),
        settings.encoder,
        approach.recipe,
        approach.folder,
        settings.device,
        state=approach.out / STATE / "training" / approach.place,
        look_alike_bits=settings.prepare.look_alike_bits,
        known=known_pairs_of(approach),
    )
    training = train_on(settings.processes, job, on_epoch, say)
    facts = {**training.facts, "best_epoch": training.best_epoch, "stopped_because": training.stopped_because}
    tables = [approach.folder / name for name in ("history.csv", *(("shares.csv",) if training.shares else ()))]
    return stage.finish([checkpoint, *tables], facts)


def _normalise(approach: Approach, say: Say) -> dict[str, Any]:
    """Normalise the similarities of the untrained encoder, where the settings say so; the facts of it."""
    from neardup.train.normalise import normalise_untrained  # noqa: PLC0415 - torch, for seconds

    if approach.normalisation is None:
        return {}
    return normalise_untrained(
        approach.folder / "checkpoint",
        examples_of(approach),
        approach.normalisation,
        known=known_pairs_of(approach),
        bits=approach.settings.prepare.look_alike_bits,
        device=approach.settings.device,
        say=say,
    )


def encode_test_set(approach: Approach, stage: Stage | None = None) -> dict[str, Any]:
    """Encode the test set with the approach's checkpoint into `vectors.parquet`.

    Distractors, where the settings ask for any, are drawn if they were not yet, and go to `distractors.parquet`.

    Args:
        approach: approach whose checkpoint encodes.
        stage: the stage as planned, before any table could be edited.

    Returns:
        The manifest; its facts name the encoder's fingerprint.

    Raises:
        ArchiveError: the archive has too few photos that may be distractors, or it is gone.
    """
    stage, test_set = stage or approach.vectors, TestSet.load(approach.out)
    drawn = draw(approach.out, approach.settings.distractors)
    encoder = load_encoder(str(approach.folder / "checkpoint"), device=approach.settings.device)
    limit, store = approach.settings.prepare.max_pixels, approach.settings.cluster.store
    outputs = [embed_test_set(approach.out, test_set, encoder, limit, store).save(approach.folder / "vectors.parquet")]
    if drawn:
        distractors = embed_distractors(approach.out, drawn, encoder, limit, store)
        outputs.append(distractors.save(approach.folder / "distractors.parquet"))
    facts = {"fingerprint": encoder.fingerprint, "photos": len(test_set.photos), "distractors": len(drawn)}
    return stage.finish(outputs, facts)


def evaluate_approach(approach: Approach, stage: Stage | None = None) -> dict[str, Any]:
    """Measure the approach's vectors against the groups; write its tables and pictures.

    What a former verification left is deleted, for it is that of other vectors; a decision stays if it is this model's.

    Args:
        approach: what is measured.
        stage: as it was planned, before any table could be edited.

    Returns:
        The manifest; its facts hold each metric's value.
    """
    stage, test_set = stage or approach.evaluation, TestSet.load(approach.out)
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
    _delete_verified(approach.folder, embeddings.fingerprint)
    outputs = evaluation.save(approach.folder)
    images, limit = approach.out / "test_dataset", approach.settings.prepare.max_pixels
    outputs += pictures(evaluation, approach.folder, images, read_history(approach), limit)
    outputs += curves(approach.folder, read_history(approach), read_shares(approach))
    facts = {name: figure.value for name, figure in evaluation.metrics.items()}
    return stage.finish(outputs, facts)


def _delete_verified(folder: Path, encoder: str) -> None:
    """Delete what verification wrote of an approach, but for the decision of an encoder with this fingerprint."""
    from neardup.decide.chosen_decision import DECISION  # noqa: PLC0415 - OpenCV, which not all need
    from neardup.measure.verified_approaches import FILES  # noqa: PLC0415 - OpenCV, which not all need

    kept = read_json(folder / DECISION).get("belongs", {}).get("encoder") == encoder
    for path in [*(folder / name for name in FILES), *folder.glob("explained_*.jpg")]:
        if path.name != DECISION or not kept:
            path.unlink(missing_ok=True)


def verify_approach(approach: Approach, stage: Stage, say: Say = print) -> dict[str, Any]:
    """Measure the approach again with its nearest pairs verified, and fit its decision.

    If the ground truth is too small to fit a probability, as with a single group, this is reported and nothing changes.

    Returns:
        The manifest; its facts hold each metric's value, or why there is none.
    """
    from neardup.measure.verified_approaches import FILES, verify_folder  # noqa: PLC0415 - OpenCV, which not all need

    promises, limit = approach.settings.decide, approach.settings.prepare.max_pixels
    try:
        verified = verify_folder(approach.out, approach.folder, limit, (promises.precision, promises.recall))
    except ConfigError as reason:
        say(f"{approach.name} is not verified: {reason}")
        for name in FILES:
            (approach.folder / name).unlink(missing_ok=True)
        return stage.finish([], {"left_out": str(reason)})
    outputs = [approach.folder / name for name in FILES] + sorted(approach.folder.glob("explained_*.jpg"))
    return stage.finish(outputs, {name: figure.value for name, figure in verified.figures.figures.items()})


def _search_step(approach: Approach, stage: Stage) -> Step:
    """The search for the new photos by the approach's checkpoint."""

    def search(_: Say) -> dict[str, Any]:
        settings = approach.settings
        encoder = load_encoder(str(approach.folder / "checkpoint"), device=settings.device)
        store = store_of(approach.out, settings.cluster.store)
        return stage.finish(search_queries(approach.folder, encoder, store, settings.prepare.max_pixels))

    return Step(f"{approach.name}: queries", stage, search)


def read_history(approach: Approach) -> list[dict[str, float]]:
    """The epochs of the approach's training (epoch, train_loss, validation_loss …); empty for zero-shot."""
    return history_of(approach.folder) if approach.recipe else []


def history_of(folder: Path) -> list[dict[str, float]]:
    """The epochs of the training in a folder, as `history.csv` has them; empty before the first has ended."""
    return read_numbers(folder / "history.csv")


def read_shares(approach: Approach) -> list[dict[str, float]]:
    """Read the results of weights between the untrained and the best epoch's, from `shares.csv`; empty without it."""
    return read_numbers(approach.folder / "shares.csv") if approach.recipe else []


def provenance(settings: Settings, archive: Path | None = None) -> dict[str, str]:
    """Collect the report's facts on its provenance: encoder, archive, versions of the packages."""
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "mlflow", "prefect")]
    return {
        "encoder": settings.encoder,
        **({"archive": archive.resolve().name} if archive else {}),
        "versions": ", ".join([f"neardup {__version__}", *versions]),
    }


def comparison_stage(approaches: Sequence[Approach]) -> Stage:
    """The stage that sets the approaches side by side and writes the report."""
    out = approaches[0].out
    parts = [COMPARE_STEP, [a.measured.key for a in approaches], digest_file(out / "discrepancies.csv")]
    if queries := approaches[0].queries:
        parts.append([a.search(queries).key for a in approaches])
    if repeats := [repeat.evaluation.key for a in approaches for repeat in a.repeats]:
        parts.append(["seeds", repeats])
    return Stage(out, "comparison", digest_of(*parts))


def compare_approaches(
    approaches: Sequence[Approach], facts: Mapping[str, str], stage: Stage | None = None
) -> dict[str, Any]:
    """Write `comparison.xlsx .csv .md .json`, `comparison_facts.json` and `report.html`.

    Args:
        approaches: evaluated approaches, zero-shot first.
        facts: provenance that the report shows: encoder, archive, versions.
        stage: as it was planned, before any table could be edited.

    Returns:
        The manifest.
    """
    from neardup.measure.verified_approaches import verified_figures  # noqa: PLC0415 - OpenCV, which not all need

    out, stage = approaches[0].out, stage or comparison_stage(approaches)
    repeats = {a.name: [Evaluation.load(repeat.folder) for repeat in a.repeats] for a in approaches}
    verified = {a.name: found for a in approaches if a.verification and (found := verified_figures(a.folder))}
    comparison = compare([Evaluation.load(approach.folder) for approach in approaches], repeats, verified)
    limit = approaches[0].settings.prepare.max_pixels
    new_photos = NewPhotos.load(out, comparison.approaches, limit) if approaches[0].settings.queries else None
    tables = comparison.write(out, new_photos.facts if new_photos else {})
    facts = {**facts, **training_facts(approaches)}
    outputs = [*tables, write_report(out, comparison, facts, limit, new_photos)]
    return stage.finish(outputs)


def training_facts(approaches: Sequence[Approach]) -> dict[str, str]:
    """Describe each training for the report: what it learned from, what was kept, or why there is none."""
    limits = limits_of(str(approaches[0].folder / "checkpoint"))
    facts = {"left out": limits} if limits else {}
    for approach in approaches:
        manifest = approach.checkpoint.read()
        if manifest and not approach.recipe and "normalised" in manifest["facts"]:
            facts[approach.name] = normalised(manifest["facts"])
        if manifest is None or not approach.recipe:
            continue
        line = learned_from(manifest["facts"], approach.recipe)
        if approach.name == "adapted":
            line += f"; the photos of the test set {'' if approach.settings.transductive else 'not '}among them"
        facts[f"{approach.name} learned from"] = line
    return facts
