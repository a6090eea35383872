"""Tuning: Optuna searches the recipe whose model finds near-duplicates best among photos that training does not see.

A study is a journal on disk. Killed and started again it goes on: the trial that died is marked failed and tried again
with the same parameters, and its training goes on from its last epoch. What a study asks next depends on the trials
that ended and on the seed alone, so that a study that was killed finds what one that was not finds.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as pictures

from neardup.archive.testset import TestPhoto, TestSet
from neardup.encode.encoder import Encoder, load_encoder, load_trainable
from neardup.encode.vectors import embed_photos
from neardup.errors import ConfigError, DivergedError, TrainingError
from neardup.experiment import Say, history_of, table_digest, training_examples
from neardup.images import read_image
from neardup.measure.comparison import compare
from neardup.measure.evaluate import Evaluation, Figure
from neardup.measure.metrics import ndcg
from neardup.measure.scored import rankings
from neardup.progress import bar
from neardup.settings.schema import Recipe, Settings
from neardup.stages import STATE, Stage, digest_file, digest_of, replacing, write_json
from neardup.tables import Value, write_table
from neardup.train.augment import copy_seed
from neardup.train.finetune import TRAIN_STEP, EpochResult, train, validation_examples
from neardup.train.press import press
from neardup.train.split import inseparable

optuna.logging.set_verbosity(optuna.logging.WARNING)

TUNE_STEP = 2
"""Version of the study, bumped when equal inputs would give other trials or other validation groups."""
STARTUP_TRIALS = 5
"""Trials that are drawn at random, before the sampler has a model, and of which none is pruned."""
WARMUP_EPOCHS = 2
"""Epochs after which a trial may be pruned, and not before: the first ones say little."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of a trial that counts among those that were asked for; one whose process died does not."""
JPEG_QUALITY = 90
"""JPEG quality, 1 to 95, of the press copies that are validated on: the file adds little to the damage of the press."""


@dataclass(frozen=True)
class Tuning:
    """A study in one output folder.

    Attributes:
        out: the experiment's output folder, prepared and translated.
        settings: of the experiment; `settings.encoder` can be loaded.
        base: fingerprint of that encoder.
    """

    out: Path
    settings: Settings
    base: str

    @cached_property
    def key(self) -> str:
        """Digest of all that a trial's result depends on, and of the ranges: another key is another study."""
        searched = {k: v for k, v in asdict(self.settings.tune).items() if k not in {"trials", "parallel"}}
        trained = TRAIN_STEP, asdict(self.settings.train)
        return digest_of(TUNE_STEP, self.settings.encoder, self.validation.key, trained, searched)

    @property
    def folder(self) -> Path:
        """Where the study's journal and its trials lie."""
        return self.out / STATE / "tune" / self.key[:16]

    @property
    def validation(self) -> Stage:
        """The stage that makes the groups which trials are measured on."""
        recipe, tune = self.settings.train, self.settings.tune
        split = (recipe.validation, recipe.seed, recipe.long_legends, self.settings.prepare.look_alike_bits)
        tables = [table_digest(self.out, name) for name in ("training_set.csv", "captions.csv")]
        return Stage(
            self.out, "tune/validation", digest_of(TUNE_STEP, self.base, split, tables, tune.copies, tune.seed)
        )

    @property
    def groups(self) -> Path:
        """Folder of the near-duplicate groups that trials are measured on."""
        return self.out / STATE / "tune" / "validation"

    @property
    def results(self) -> Path:
        """Folder of the tables and pictures in which people read what the study found."""
        return self.out / "tuning"

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """What is searched: name of the recipe's field → its range.

        Raises:
            ConfigError: a range is empty.
        """
        tune = self.settings.tune
        for name, low, high in (
            ("lr", tune.lr_low, tune.lr_high),
            ("weight_decay", tune.weight_decay_low, tune.weight_decay_high),
        ):
            if low >= high:
                raise ConfigError(f"tune.{name}_low = {low} is not below tune.{name}_high = {high}: widen the range")
        choices = {
            "batch_size": tune.batch_sizes,
            "augmentation": tune.augmentations,
            "frozen_layers": tune.frozen_layers,
        }
        return {
            "lr": FloatDistribution(tune.lr_low, tune.lr_high, log=True),
            "weight_decay": FloatDistribution(tune.weight_decay_low, tune.weight_decay_high, log=True),
            **{name: CategoricalDistribution(values) for name, values in choices.items() if len(values) > 1},
        }

    def recipe(self, params: dict[str, Any]) -> Recipe:
        """The recipe that a trial's parameters make of the experiment's own."""
        return replace(self.settings.train, epochs=self.settings.tune.epochs, **params)

    def open(self) -> optuna.Study:
        """The study: new, with the recipe's own values as its first trial, or as a former run left it.

        Only one process may have it open (`neardup.stages.alone`), so that a trial which still runs belongs to a
        process that died: it is marked failed and enqueued again.
        """
        journal = self.folder / "journal.log"
        journal.parent.mkdir(parents=True, exist_ok=True)
        _mend(journal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(journal))),
                pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS),
                study_name=self.key[:16],
                direction="maximize",
                load_if_exists=True,
            )
        if not study.trials:
            self._enqueue_default(study)
        for died in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(died.number, state=TrialState.FAIL)
            study.enqueue_trial(died.params, user_attrs={"again": died.number})
        return study

    def _enqueue_default(self, study: optuna.Study) -> None:
        """Make the recipe's own values the first trial, if they lie within the ranges."""
        default = {name: getattr(self.settings.train, name) for name in self.space}
        if all(_contains(distribution, default[name]) for name, distribution in self.space.items()):
            study.enqueue_trial(default)

    def ask(self, study: optuna.Study) -> optuna.Trial:
        """The next trial, its parameters drawn."""
        # The sampler starts anew at each trial, so that a study goes on as if it had not been killed.
        earlier = sum(trial.state in {*ENDED, TrialState.RUNNING} for trial in study.trials)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=self.settings.tune.seed + earlier
        )
        return study.ask(self.space)

    def left(self, study: optuna.Study) -> int:
        """How many trials must still end until the study has as many as the settings ask for."""
        return max(0, self.settings.tune.trials - len(study.get_trials(states=ENDED)))


def _mend(journal: Path) -> None:
    """Take off the journal what a power cut left: half a last line, and the lock of a process that is gone."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file() and not (data := journal.read_bytes()).endswith(b"\n"):
        with replacing(journal) as partial:
            partial.write_bytes(data[: data.rfind(b"\n") + 1])


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter's range holds a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(distribution, FloatDistribution) and distribution.low <= value <= distribution.high


def make_validation(tuning: Tuning) -> dict[str, Any]:
    """Make the groups that trials are measured on: each photo that training validates on, and press copies of it.

    Returns:
        The manifest; its facts hold the nDCG that the encoder has there before any training.
    """
    settings, folder = tuning.settings, tuning.groups
    clip = load_trainable(settings.encoder)
    bits = settings.prepare.look_alike_bits
    limit = settings.prepare.max_pixels
    examples = validation_examples(training_examples(tuning.out, limit), clip, settings.train, bits)
    shutil.rmtree(folder, ignore_errors=True)
    photos: list[TestPhoto] = []
    # Photos of one look are one group; their captions do not matter here.
    phashes = [example.phash for example in examples]
    alike = inseparable([str(row) for row in range(len(examples))], [e.photo for e in examples], phashes, bits)
    group_of = {row: group for group, rows in enumerate(alike, 1) for row in rows}
    for row, example in enumerate(bar(examples, "press copies to validate on", unit="photo", disable=None)):
        image = read_image(example.image, max_pixels=limit)
        files = [example.image]
        for i in range(settings.tune.copies):
            files.append(folder / f"{example.image.name}_{i}.jpg")
            with replacing(files[-1]) as partial:
                press(image, copy_seed(example.photo, i, settings.tune.seed)).save(partial, quality=JPEG_QUALITY)
        for file in files:
            path = file.relative_to(tuning.out).as_posix()
            photos.append(TestPhoto(file.name, path, digest_file(file), group_of[row], row))
    table = TestSet(tuple(photos)).save(folder)
    before = validation_ndcg(tuning, load_encoder(settings.encoder, settings.device), folder / "vectors")
    facts = {"photos": len(photos), "groups": len(alike), "ndcg": before}
    return tuning.validation.finish([table, *(tuning.out / p.path for p in photos)], facts)


def validation_ndcg(tuning: Tuning, encoder: Encoder, store: Path) -> float:
    """Mean nDCG over the photos of the validation groups, each searched among all others; 0 to 1."""
    groups = TestSet.load(tuning.groups)
    items = [(photo.path, photo.sha256) for photo in groups.photos]
    limit = tuning.settings.prepare.max_pixels
    vectors = embed_photos(items, tuning.out, encoder, store=store, max_pixels=limit).vectors.astype(float)
    return float(ndcg(rankings(vectors @ vectors.T, groups.groups)[1]).mean())


def try_recipe(
    tuning: Tuning, trial: optuna.Trial, say: Say, on_epoch: Callable[[EpochResult], None] | None = None
) -> float:
    """Train by a trial's recipe and measure it after each epoch.

    Returns:
        The validation nDCG of the checkpoint that training keeps, 0 to 1.

    Raises:
        optuna.TrialPruned: its nDCG is below that of most trials at this epoch, or training broke down.
    """
    recipe = tuning.recipe(trial.params)
    folder = _trial_folder(tuning, trial)
    clip = load_trainable(tuning.settings.encoder)
    measured = _measured_before(trial)

    def after_epoch(epoch: EpochResult) -> None:
        if epoch.epoch not in measured:
            measured[epoch.epoch] = validation_ndcg(tuning, clip.encoder(tuning.settings.device), folder / "vectors")
            trial.report(measured[epoch.epoch], epoch.epoch)
        trial.set_user_attr("validation_losses", [row["validation_loss"] for row in history_of(folder)])
        if on_epoch:
            on_epoch(epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(
                f"its nDCG after epoch {epoch.epoch}, {measured[epoch.epoch]:.4f}, is below the median"
            )

    try:
        training = train(
            training_examples(tuning.out, tuning.settings.prepare.max_pixels),
            clip,
            recipe,
            folder,
            after_epoch,
            report=say,
            device=tuning.settings.device,
            look_alike_bits=tuning.settings.prepare.look_alike_bits,
        )
    except DivergedError as error:
        raise optuna.TrialPruned(str(error)) from error
    return measured[training.best_epoch]


def _measured_before(trial: optuna.Trial) -> dict[int, float]:
    """Validation nDCG by epoch that earlier attempts at this trial reported, whose processes died.

    It is reported again for this attempt, so that the pruner sees whole curves.
    """
    trials = trial.study.trials
    known: dict[int, float] = {}
    died = trial.user_attrs.get("again")
    while died is not None:
        known |= trials[died].intermediate_values
        died = trials[died].user_attrs.get("again")
    for epoch, value in sorted(known.items()):
        trial.report(value, epoch)
    return known


def tell(tuning: Tuning, study: optuna.Study, trial: optuna.Trial, value: float | None) -> FrozenTrial:
    """Record a trial's validation nDCG, or None for one that was pruned, and delete its weights.

    The best trial's weights are made anew by the approach `tuned`.
    """
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    ended = study.tell(trial, value, state=state)
    shutil.rmtree(_trial_folder(tuning, trial), ignore_errors=True)
    return ended


def _trial_folder(tuning: Tuning, trial: optuna.Trial) -> Path:
    """Folder in which a trial is trained: equal parameters share it, so that a killed trial goes on."""
    return tuning.folder / digest_of(trial.params)[:16]


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The trial with the greatest validation nDCG; the first of equals.

    Raises:
        TrainingError: none was trained to its end.
    """
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise TrainingError(f"none of {len(study.trials)} trials was trained to its end: lower tune.lr_high")
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number))


def finish_tuning(tuning: Tuning, study: optuna.Study) -> FrozenTrial:
    """Write the recipe of the approach `tuned`, and `tuning/`: the table of trials, the pictures and `tuning.json`.

    Returns:
        The best trial.

    Raises:
        TrainingError: no trial was trained to its end.
    """
    best, folder = best_trial(study), tuning.results
    before = (tuning.validation.read() or {"facts": {}})["facts"].get("ndcg")
    columns, rows = trial_table(tuning, study)
    write_table(folder / "trials.xlsx", columns, rows)
    study_facts = {
        "study": study.study_name,
        "best": {"trial": best.number, "params": best.params, "validation_ndcg": best.value},
        "zero_shot_validation_ndcg": before,
        "trials": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    write_json(folder / "tuning.json", study_facts)
    for name, figure in _pictures(study):
        with replacing(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    recipe = {"base": tuning.base, "recipe": asdict(tuning.recipe(best.params))}
    write_json(tuning.out / "tuned" / "recipe.json", recipe)
    return best


def trial_table(tuning: Tuning, study: optuna.Study) -> tuple[list[str], list[list[Value]]]:
    """Columns and a row a trial: number, state, parameters, validation nDCG, epochs, least validation loss, seconds."""
    columns = ["trial", "state", *tuning.space, "validation_ndcg", "epochs", "validation_loss", "seconds"]
    rows: list[list[Value]] = []
    for trial in study.trials:
        losses = trial.user_attrs.get("validation_losses", [])
        seconds = trial.duration.total_seconds() if trial.duration else None
        params = [trial.params.get(name) for name in tuning.space]
        state = trial.state.name.lower()
        rows.append([trial.number, state, *params, trial.value, len(losses), min(losses, default=None), seconds])
    return columns, rows


def _pictures(study: optuna.Study) -> Iterator[tuple[str, Any]]:
    """Name and figure of each picture: history, slices and, given trials enough, the importance of the parameters."""
    draw: dict[str, Callable[..., Any]] = {
        "history": pictures.plot_optimization_history,
        "slice": pictures.plot_slice,
        "importance": pictures.plot_param_importances,
    }
    values = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
    for name, plot in draw.items():
        if name == "importance" and len(values) < 2:  # noqa: PLR2004 - equal values leave nothing to explain
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, and of a layout that is tight
            axes = plot(study, target_name="validation nDCG")
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        FigureCanvasAgg(figure)
        yield name, figure


def gain_of_tuning(tuning: Tuning) -> Figure:
    """What tuning brought on the test set: the gain in nDCG over the default recipe, with its paired interval.

    The whole comparison is written to the folder `tuning/`.
    """
    comparison = compare([Evaluation.load(tuning.out / name) for name in ("fine-tuned", "tuned")])
    comparison.write(tuning.results)
    return comparison.differences["ndcg"]["tuned"]
