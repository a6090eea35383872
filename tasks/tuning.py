"""Tasks of a study: each trial is one, and a child of the study's MLflow run."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from mlflow.entities import Metric, Param, RunTag
from optuna.trial import FrozenTrial, TrialState
from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from neardup.approach import Approach
from neardup.errors import TrackingError
from neardup.measure.evaluate import Figure
from neardup.measure.promotion import points
from neardup.stages import Stage
from neardup.train.finetune import EpochResult
from neardup.tuning import ENDED, Tuning, best_trial, make_start, try_recipe
from tasks.addresses import reachable
from tasks.publish import publish_approaches
from tasks.running import RETRY
from tasks.tracking import Tracking, is_logged

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
"""State of a finished trial → MLflow's status; a trial in any other state is running."""
REFERENCES = {"fine-tuned": "the default recipe", "zero-shot": "the encoder without any training"}
"""Approach that `tuned` is compared with → what a sentence calls it."""


@task(name="start-of-study", **RETRY)
def start_of_study(stage: Stage, tuning: Tuning) -> dict[str, Any]:
    """Measure the encoder before any trial, and how long one will take."""
    return stage.read() or make_start(tuning)


@task(name="trial", task_run_name="trial {number}", cache_policy=NO_CACHE, **RETRY)
def try_trial(tuning: Tuning, trial: optuna.Trial, number: int, tracking: Tracking, parent: str | None) -> float | None:
    """Train by a trial's recipe and measure it.

    Returns:
        The validation nDCG, or None for a trial that was pruned.
    """
    log = get_run_logger().info
    log("trial %d: %s", number, trial.params)
    try:
        value = try_recipe(tuning, trial, log, _log_epochs(tuning, trial, tracking, parent))
    except optuna.TrialPruned as why:
        log("trial %d was pruned: %s", number, why)
        return None
    log("trial %d: validation nDCG %.4f", number, value)
    return value


def _log_epochs(
    tuning: Tuning, trial: optuna.Trial, tracking: Tracking, parent: str | None
) -> Callable[[EpochResult], None]:
    """Make a callback that logs each epoch of a trial as it ends, and stops for good once the server is unreachable."""
    away = parent is None

    def on_epoch(_epoch: EpochResult) -> None:
        nonlocal away
        away = away or not show_trial(tracking, tuning, trial.study.trials[trial.number], parent)

    return on_epoch


def show_trial(tracking: Tracking, tuning: Tuning, trial: FrozenTrial, parent: str | None) -> bool:
    """Log what a trial has so far if the server can be reached; if not, it is logged when the study has ended."""
    if parent is None:
        return False
    try:
        log_trial(tracking, tuning, trial, parent)
    except TrackingError:
        return False
    return True


def log_trial(tracking: Tracking, tuning: Tuning, trial: FrozenTrial, parent: str) -> None:
    """Log what a trial has so far, as a child of the study's run; what was logged before is not logged again.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        run = tracking.open(f"trial-{trial.number}", tuning.key, parent)
        if is_logged(run):
            return
        run_id, client = str(run.info.run_id), tracking.client
        logged = {metric.step for metric in client.get_metric_history(run_id, "epoch_ndcg")}
        losses = enumerate(trial.user_attrs.get("validation_losses", []), 1)
        epochs = {"epoch_ndcg": trial.intermediate_values, "validation_loss": dict(losses)}
        metrics = [
            Metric(title, value, 0, step)
            for title, values in epochs.items()
            for step, value in values.items()
            if step not in logged
        ]
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            metrics.append(Metric("validation_ndcg", trial.value, 0, 0))
        params = [Param(key, str(value)) for key, value in trial.params.items()]
        client.log_batch(run_id, metrics, params, [RunTag("neardup.trial", trial.state.name.lower())])
        if trial.state in STATUS:
            tracking.finish(run_id, STATUS[trial.state])


def log_study(tracking: Tracking, tuning: Tuning, study: optuna.Study, gain: Figure) -> str:
    """Log every trial that the server does not have yet, the best parameters, the pictures and the table of trials.

    Returns:
        The study's run.

    Raises:
        TrackingError: the server cannot be reached.
    """
    parent = str(tracking.open("tune", tuning.key).info.run_id)
    for trial in study.get_trials(states=(*ENDED, TrialState.FAIL)):
        log_trial(tracking, tuning, trial, parent)
    best = best_trial(study)
    with reachable(tracking.uri):
        client = tracking.client
        params = {**best.params, "encoder": tuning.settings.encoder, "best_trial": best.number}
        metrics = {
            "validation_ndcg": best.value,
            "trials": len(study.get_trials(states=ENDED)),
            "gain_ndcg": gain.value,
            "gain_ndcg_low": gain.low,
            "gain_ndcg_high": gain.high,
        }
        client.log_batch(
            parent,
            [Metric(name, float(value), 0, 0) for name, value in metrics.items() if value is not None],
            [],
            [RunTag(f"best.{name}", str(value)) for name, value in params.items()],
        )
        for path in sorted(tuning.results.iterdir()):
            client.log_artifact(parent, str(path), "pictures" if path.suffix == ".png" else None)
        client.set_terminated(parent)
    return parent


@task(name="log-study", **RETRY)
def publish_study(
    tracking: Tracking, tuning: Tuning, study: optuna.Study, approaches: Sequence[Approach], gain: Figure
) -> str:
    """Log what the tracking server does not have yet of a study and of the approaches compared after it.

    Returns:
        The study's run.

    Raises:
        TrackingError: the server is away; nothing is lost, the results are on disk.
    """
    parent = log_study(tracking, tuning, study, gain)
    publish_approaches(tracking, approaches, parent)
    return parent


def show_study(tuning: Tuning, best: FrozenTrial, gain: Figure) -> None:
    """Show the best recipe and its gain in the Prefect UI."""
    lines = [
        f"Trial {best.number} is the best: {', '.join(f'{name} = {value}' for name, value in best.params.items())}.",
        f"Gain in nDCG on the test set over {REFERENCES[tuning.reference]}: {points(gain)}.",
        "",
        (tuning.results / "comparison.md").read_text(encoding="utf-8"),
    ]
    create_markdown_artifact("\n".join(lines), key="tuning", description="What tuning found and what it brought")
