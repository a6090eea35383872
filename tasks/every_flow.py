"""Options of every flow: the names of its runs, and the hooks at their end.

No hook runs for a run that was killed with its worker: an automation detects it.
"""

import logging
from pathlib import Path
from typing import Any

from prefect import Flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State

from neardup.errors import ConfigError, TrackingError
from tasks.tracking import is_tracked, tracking_of


def ended(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Publish the outcome as an artifact; after a failure, end the MLflow runs that this flow run worked on.

    The artifact `outcome-<flow>` keeps a history of all runs of the flow. Prefect's worker calls this by the arguments'
    names, where a run crashed or was cancelled.
    """
    out = flow_run.parameters.get("out")
    if not state.is_completed() and out:
        fail_runs(Path(str(out)), str(flow_run.id))
    lines = [f"**{state.name}**: {flow_run.name}, started by {_trigger(flow_run)}.", "", state.message or ""]
    create_markdown_artifact("\n".join(lines), key=f"outcome-{flow.name}", description=f"How {flow.name} ended")


def run_name() -> str:
    """Name a run after its archive's folder, else after that of its results."""
    parameters = runtime.flow_run.parameters
    return Path(str(parameters.get("archive") or parameters["out"])).name


EVERY_FLOW: dict[str, Any] = {
    "flow_run_name": run_name,
    **{key: [ended] for key in ("on_completion", "on_failure", "on_crashed", "on_cancellation")},
}
"""Options of `@flow` that every flow has: `@flow(name=..., **EVERY_FLOW)`."""


def fail_runs(out: Path, worker: str) -> None:
    """Mark what a flow run has left open in MLflow as failed; runs of other flow runs are left alone.

    Args:
        out: the output folder; nothing is made in it, for the flow run may have been refused because of it.
        worker: id of the Prefect flow run.
    """
    if not is_tracked(out):
        return
    try:
        tracking_of(out).fail_runs(worker)
    except (ConfigError, TrackingError) as away:
        logging.getLogger(__name__).warning("%s", away)


def _trigger(run: FlowRun) -> str:
    """Who or what started a flow run: a person, a schedule or an automation."""
    created = run.created_by
    return created.display_value or created.type or "a person" if created else "a person"
