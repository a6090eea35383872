"""What every flow has: a name for its runs, and what happens when one has ended, well or not.

A run that was killed with its worker has no such moment: an automation finds it out.
"""

import logging
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run

from neardup.errors import TrackingError
from tasks.publish import tracking_of
from tasks.tracking import Tracking, reachable


def ended(flow: Flow[..., Any], run: FlowRun, state: State[Any]) -> None:
    """Leave the outcome where people look; of a run that did not end well, end its MLflow runs too.

    The artifact `outcome-<flow>` keeps a history of all runs of the flow.
    """
    out = run.parameters.get("out")
    if not state.is_completed() and out:
        fail_runs(tracking_of(Path(str(out))))
    lines = [f"**{state.name}**: {run.name}, started by {_trigger(run)}.", "", state.message or ""]
    create_markdown_artifact("\n".join(lines), key=f"outcome-{flow.name}", description=f"How {flow.name} ended")


def run_name() -> str:
    """A run is called by the name of its archive's folder, else by that of its results."""
    said = flow_run.parameters
    return Path(str(said.get("archive") or said["out"])).name


EVERY_FLOW: dict[str, Any] = {
    "flow_run_name": run_name,
    **{key: [ended] for key in ("on_completion", "on_failure", "on_crashed", "on_cancellation")},
}
"""`@flow(name=..., **EVERY_FLOW)`."""


def fail_runs(tracking: Tracking) -> None:
    """Mark what the folder's runs left open as failed; the next run goes on with them and ends them well."""
    try:
        with reachable(tracking.uri):
            for entry in tracking.ledger().values():
                run = tracking.client.get_run(entry["run_id"])
                if run.info.status == "RUNNING":
                    tracking.client.set_terminated(run.info.run_id, "FAILED")
    except TrackingError as away:
        logging.getLogger(__name__).warning("%s", away)


def _trigger(run: FlowRun) -> str:
    created = run.created_by
    return created.display_value or created.type or "a person" if created else "a person"
