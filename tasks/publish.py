"""Tasks that hand results to MLflow and to the Prefect UI."""

from collections.abc import Mapping, Sequence

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from neardup.approach import Approach, validation_gain
from neardup.errors import TrackingError
from neardup.experiment import comparison_stage
from tasks.registry import nominate, register
from tasks.running import RETRY
from tasks.runs import log_approach, log_comparison
from tasks.tracking import Tracking, is_logged


def begin(tracking: Tracking, name: str, key: str, approaches: Sequence[Approach]) -> dict[str, str]:
    """Open a run and a child run an approach, or those that a killed run began; what it began of other keys has failed.

    Returns:
        Approach, and `name` for the parent → run id; empty where the server is away, which stops nothing.
    """
    try:
        parent = str(tracking.open(name, key).info.run_id)
        children = {a.name: str(tracking.open(a.name, a.measured.key, parent).info.run_id) for a in approaches}
        tracking.fail_abandoned()
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
        run = tracking.open(approach.name, approach.measured.key, parent)
        if not is_logged(run):
            log_approach(tracking, run.info.run_id, approach)
        versions[approach.name] = register(tracking, run.info.run_id, approach)
    nominate(tracking, versions, {approach.name: validation_gain(approach) for approach in approaches})


@task(name="log-to-mlflow", **RETRY)
def publish(tracking: Tracking, approaches: Sequence[Approach], counts: Mapping[str, float]) -> str:
    """Log what the tracking server does not have yet of an experiment.

    Returns:
        The parent run's id.

    Raises:
        TrackingError: the server is away; nothing is lost, the results are on disk.
    """
    run = tracking.open("experiment", comparison_stage(approaches).key)
    parent = str(run.info.run_id)
    publish_approaches(tracking, approaches, parent)
    if not is_logged(run):
        log_comparison(tracking, parent, approaches, counts)
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
