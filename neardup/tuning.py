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

from neardup.approach import approaches_of, table_digest
from neardup.archive.known_pairs import training_photos_also_tested
from neardup.encode.trainable import load_trainable
from neardup.errors import ConfigError, DivergedError, TrainingError
from neardup.experiment import Say, history_of
from neardup.measure.comparison import compare
from neardup.measure.evaluate import Evaluation, Figure
from neardup.settings.schema import Recipe, Settings
from neardup.stages import STATE, Stage, digest_of, reading, replacing, write_json
from neardup.tables import Value, write_table
from neardup.train.examples import training_examples
from neardup.train.finetune import EpochResult, measure_start, train
from neardup.train.step_version import TRAIN_STEP
from neardup.words import duration

optuna.logging.set_verbosity(optuna.logging.WARNING)

TUNE_STEP = 3
"""Version of the study, bumped when equal inputs would give other trials."""
STARTUP_TRIALS = 5
"""Number of first trials that are drawn at random and never pruned, until the sampler has a model."""
WARMUP_EPOCHS = 2
"""Epochs before which no trial is pruned, as the first ones say little."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of a trial that counts among those that were asked for; one whose process died does not."""


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
        searched = {k: v for k, v in asdict(self.settings.tune).items() if k not in {"trials", "parallel", "minutes"}}
        return digest_of(TUNE_STEP, self.settings.encoder, self._inputs, searched)

    @property
    def folder(self) -> Path:
        """Where the study's journal and its trials lie."""
        return self.out / STATE / "tune" / self.key[:16]

    @property
    def _inputs(self) -> str:
        """Digest of the encoder, the experiment's recipe and the photos that all trials train on."""
        trained = TRAIN_STEP, asdict(replace(self.settings.train, **self.fixed)), self.settings.prepare.look_alike_bits
        tables = [table_digest(self.out, name) for name in ("training_set.csv", "captions.csv")]
        return digest_of(TUNE_STEP, self.base, trained, tables + training_photos_also_tested(self.out))

    @property
    def start(self) -> Stage:
        """The stage that measures the encoder, and its pace, before any trial, on photos that no trial trains on."""
        return Stage(self.out, "tune/start", digest_of(self._inputs, self.settings.tune.epochs, self.settings.device))

    @property
    def results(self) -> Path:
        """Folder of the tables and pictures in which people read what the study found."""
        return self.out / "tuning"

    @property
    def reference(self) -> str:
        """What `tuned` is compared with: the default recipe, or zero-shot where the encoder reads no text."""
        names = [approach.name for approach in approaches_of(self.out, self.settings, self.base)]
        return "fine-tuned" if "fine-tuned" in names else "zero-shot"

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
        return {
            "lr": FloatDistribution(tune.lr_low, tune.lr_high, log=True),
            "weight_decay": FloatDistribution(tune.weight_decay_low, tune.weight_decay_high, log=True),
            **{name: CategoricalDistribution(values) for name, values in self._choices.items() if len(values) > 1},
        }

    @property
    def fixed(self) -> dict[str, Any]:
        """What takes the place of the recipe's own values: name of the recipe's field → the only choice of its list."""
        return {name: values[0] for name, values in self._choices.items() if len(values) == 1}

    @property
    def _choices(self) -> dict[str, tuple[Any, ...]]:
        """The lists of the settings: name of the recipe's field → its choices."""
        tune = self.settings.tune
        return {
            "batch_size": tune.batch_sizes,
            "augmentation": tune.augmentations,
            "frozen_layers": tune.frozen_layers,
            "objective": tune.objectives,
            "captions_weight": tune.captions_weights,
            "likeness": tune.likenesses,
        }

    def recipe(self, params: dict[str, Any]) -> Recipe:
        """The recipe that a trial's parameters, and what is fixed, make of the experiment's own."""
        return replace(self.settings.train, epochs=self.settings.tune.epochs, **self.fixed, **params)

    def open(self) -> optuna.Study:
        """The study: new, with the recipe's own values as its first trial, or as a former run left it.

        Only one process may have it open (`neardup.stages.alone`), so that a trial which still runs belongs to a
        process that died: it is marked failed and enqueued again.
        """
        journal = self.folder / "journal.log"
        journal.parent.mkdir(parents=True, exist_ok=True)
        _mend(journal)
        with reading(journal, "move it away, and the study begins anew"), warnings.catch_warnings():
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
        # Enqueued first: a process that dies between the two lines leaves a trial that is seen here the next time.
        enqueued = {_first_attempt(trial) for trial in study.get_trials(states=(TrialState.WAITING,))}
        for died in study.get_trials(states=(TrialState.RUNNING,)):
            if _first_attempt(died) not in enqueued:
                study.enqueue_trial(died.params, user_attrs={"again": _first_attempt(died)})
            study.tell(died.number, state=TrialState.FAIL)
        return study

    def _enqueue_default(self, study: optuna.Study) -> None:
        """Make the recipe's own values the first trial, if they lie within the ranges."""
        default = {name: getattr(self.settings.train, name) for name in self.space}
        if all(_contains(distribution, default[name]) for name, distribution in self.space.items()):
            study.enqueue_trial(default)

    def ask(self, study: optuna.Study) -> optuna.Trial:
        """The next trial, its parameters drawn."""
        # The sampler is made anew for each trial, so that a study continues as if it had not been killed.
        earlier = sum(trial.state in {*ENDED, TrialState.RUNNING} for trial in study.trials)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=self.settings.tune.seed + earlier
        )
        return study.ask(self.space)

    def left(self, study: optuna.Study) -> int:
        """How many trials must still end until the study has as many as the settings ask for, or has used its time."""
        tune, ended = self.settings.tune, study.get_trials(states=ENDED)
        spent = sum(trial.duration.total_seconds() for trial in ended if trial.duration) / tune.parallel
        if tune.minutes is not None and ended and spent >= tune.minutes * 60:
            return 0
        return max(0, tune.trials - len(ended))

    def expected(self, seconds: float) -> str:
        """The sentence on what a study costs at most, by the seconds that all epochs of a trial take."""
        tune = self.settings.tune
        limit = f"; after {tune.minutes:g} min no other trial begins" if tune.minutes is not None else ""
        return (
            f"expected: at most {duration(seconds)} a trial, {duration(seconds * tune.trials / tune.parallel)} for "
            f"{tune.trials} trials, {tune.parallel} at once{limit}"
        )


def _mend(journal: Path) -> None:
    """Repair the journal after a power cut: remove half a last line, and the lock of a dead process."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file() and not (data := journal.read_bytes()).endswith(b"\n"):
        with replacing(journal) as partial:
            partial.write_bytes(data[: data.rfind(b"\n") + 1])


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter's range holds a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(distribution, FloatDistribution) and distribution.low <= value <= distribution.high


def make_start(tuning: Tuning) -> dict[str, Any]:
    """Measure the encoder before any trial, and how long one will take.

    Returns:
        The manifest; its facts are those of `neardup.train.finetune.measure_start`.
    """
    settings = tuning.settings
    facts = measure_start(
        training_examples(tuning.out, settings.prepare.max_pixels),
        load_trainable(settings.encoder),
        tuning.recipe({}),
        device=settings.device,
        look_alike_bits=settings.prepare.look_alike_bits,
    )
    return tuning.start.finish([], facts)


def try_recipe(
    tuning: Tuning, trial: optuna.Trial, say: Say, on_epoch: Callable[[EpochResult], None] | None = None
) -> float:
    """Train by a trial's recipe; after each epoch the search among the validation photos decides whether it goes on.

    Returns:
        The validation nDCG of the model that training keeps, 0 to 1.

    Raises:
        optuna.TrialPruned: its nDCG is below that of most trials at this epoch, or training broke down.
    """
    folder = trial_folder(tuning, trial)
    reported: set[int] = set()

    def report_epochs() -> None:
        """Report those, too, that an earlier attempt at this trial left, whose process died."""
        history = history_of(folder)
        for row in history:
            if (number := int(row["epoch"])) not in reported:
                reported.add(number)
                trial.report(row["validation_ndcg"], number)
        trial.set_user_attr("validation_losses", [row["validation_loss"] for row in history])

    def after_epoch(epoch: EpochResult) -> None:
        report_epochs()
        if on_epoch:
            on_epoch(epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(
                f"its nDCG after epoch {epoch.epoch}, {epoch.validation_ndcg:.4f}, is below the median"
            )

    try:
        training = train(
            training_examples(tuning.out, tuning.settings.prepare.max_pixels),
            tuning.settings.encoder,
            # A trial's weights are deleted, so that nothing remains to be normalised.
            replace(tuning.recipe(trial.params), normalise=False),
            folder,
            after_epoch,
            report=say,
            device=tuning.settings.device,
            look_alike_bits=tuning.settings.prepare.look_alike_bits,
        )
    except DivergedError as error:
        raise optuna.TrialPruned(str(error)) from error
    if not reported:  # the earlier attempt had trained to its end
        report_epochs()
    return float(training.facts["validation_ndcg"])


def tell(tuning: Tuning, study: optuna.Study, trial: optuna.Trial, value: float | None) -> FrozenTrial:
    """Record a trial's validation nDCG, or None for one that was pruned, and delete its weights.

    The best trial's weights are made anew by the approach `tuned`.
    """
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    ended = study.tell(trial, value, state=state)
    shutil.rmtree(trial_folder(tuning, trial), ignore_errors=True)
    return ended


def trial_folder(tuning: Tuning, trial: optuna.Trial) -> Path:
    """Folder in which a trial is trained: it is that of all attempts at this trial, and of no other trial.

    Two trials may have equal parameters and run at once: the one that ends first deletes its folder.
    """
    return tuning.folder / f"trial-{_first_attempt(trial)}"


def _first_attempt(trial: optuna.Trial | FrozenTrial) -> int:
    """Number of the trial that this one tries again, or its own number."""
    return int(trial.user_attrs.get("again", trial.number))


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
    zero_shot_ndcg = (tuning.start.read() or {"facts": {}})["facts"].get("validation_ndcg_before")
    columns, rows = trial_table(tuning, study)
    write_table(folder / "trials.xlsx", columns, rows)
    study_facts = {
        "study": study.study_name,
        "best": {"trial": best.number, "params": best.params, "validation_ndcg": best.value},
        "zero_shot_validation_ndcg": zero_shot_ndcg,
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
            warnings.simplefilter("ignore")  # Optuna warns of experimental plots, Matplotlib of layouts
            axes = plot(study, target_name="validation nDCG")
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        FigureCanvasAgg(figure)
        yield name, figure


def gain_of_tuning(tuning: Tuning) -> Figure:
    """Measure the gain of tuning in nDCG on the test set over `Tuning.reference`, with its paired interval.

    The whole comparison is written to the folder `tuning/`.
    """
    comparison = compare([Evaluation.load(tuning.out / name) for name in (tuning.reference, "tuned")])
    comparison.write(tuning.results)
    return comparison.differences["ndcg"]["tuned"]
