"""Tasks that hand results to MLflow and to the Prefect UI."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna import Study
from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from neardup.errors import TrackingError
from neardup.experiment import Approach, comparison_stage
from neardup.measure.evaluate import Figure
from neardup.tuning import Tuning
from tasks.registry import nominate, register
from tasks.running import outside_fault
from tasks.tracking import Tracking, local_uri, log_approach, log_comparison
from tasks.tuning import log_study


def tracking_of(out: Path) -> Tracking:
    """The configured MLflow server, or a sqlite file in the output folder."""
    return Tracking(os.environ.get("MLFLOW_TRACKING_URI") or local_uri(out), out)


def begin(tracking: Tracking, name: str, key: str, approaches: Sequence[Approach]) -> dict[str, str]:
    """Open a run and a child run an approach, or those that a killed run began.

    Returns:
        Approach, and `name` for the parent → run id; empty where the server is away, which stops nothing.
    """
    try:
        parent = tracking.run_id(name, key)
        children = {a.name: tracking.run_id(a.name, a.evaluation.key, parent) for a in approaches}
    except TrackingError as away:
        get_run_logger().warning("%s", away)
        return {}
    return {name: parent, **children}


def publish_approaches(tracking: Tracking, approaches: Sequence[Approach], parent: str) -> None:
    """Log and register the approaches that the tracking server does not have yet, and name the challenger.

    Raises:
        TrackingError: the server is away; nothing is lost, the results are on disk.
    """
    versions = {}
    for approach in approaches:
        run_id = tracking.run_id(approach.name, approach.evaluation.key, parent)
        if not tracking.ledger()[approach.name].get("logged"):
            log_approach(tracking, run_id, approach)
            tracking.remember(approach.name, {"key": approach.evaluation.key, "run_id": run_id, "logged": True})
        versions[approach.name] = register(tracking, run_id, approach)
    nominate(tracking, versions)


@task(name="log-to-mlflow", retries=2, retry_delay_seconds=10, retry_condition_fn=outside_fault)
def publish(tracking: Tracking, approaches: Sequence[Approach], counts: Mapping[str, float]) -> str:
    """Log what the tracking server does not have yet of an experiment.

    Returns:
        The parent run's id.

    Raises:
        TrackingError: the server is away; nothing is lost, the results are on disk.
    """
    comparison = comparison_stage(approaches)
    parent = tracking.run_id("experiment", comparison.key)
    publish_approaches(tracking, approaches, parent)
    if not tracking.ledger()["experiment"].get("logged"):
        log_comparison(tracking, parent, approaches, counts)
        tracking.remember("experiment", {"key": comparison.key, "run_id": parent, "logged": True})
    return parent


@task(name="log-study", retries=2, retry_delay_seconds=10, retry_condition_fn=outside_fault)
def publish_study(
    tracking: Tracking, tuning: Tuning, study: Study, approaches: Sequence[Approach], gain: Figure
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


def show(tracking: Tracking, run_id: str) -> None:
    """Put the comparison table and the way to the MLflow run into the Prefect UI."""
    table = (tracking.out / "comparison.md").read_text(encoding="utf-8")
    create_markdown_artifact(table, key="comparison", description="The approaches side by side")
    page = tracking.page(run_id)
    if page.startswith("http"):
        create_link_artifact(page, link_text="MLflow run", key="mlflow-run")
    else:
        create_markdown_artifact(f"Run `{run_id}`: `{page}`", key="mlflow-run", description="The MLflow run")


def table_of(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Metric → approach → value and interval, as `comparison.json` has it."""
    return dict(json.loads((out / "comparison.json").read_text(encoding="utf-8")))
