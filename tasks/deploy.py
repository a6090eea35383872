"""Registers this project with a Prefect server: its work pool, its deployments, its automations.

`python -m tasks.deploy`, in the project's folder, brings them to the server of PREFECT_API_URL; `neardup up` does so
for its own. Done again, only what differs is changed.
"""

import os
import sys
from collections.abc import Callable
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from prefect.automations import AutomationCore
from prefect.cli import app
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from neardup.errors import ConfigError, NeardupError, ServerError
from tasks.services import ARCHIVE, AUTOMATIONS, DEPLOYMENTS, OUT, POOL
from tasks.settings_files import warn_of_no_photo


def deploy(project: Path, report: Callable[[str], object]) -> None:
    """Bring work pool, deployments and automations of a project to the server of PREFECT_API_URL.

    Args:
        project: Folder with prefect.yaml and flows/automations.yaml.
        report: Is called with a line for each automation, and if the deployments would find no photo.

    Raises:
        ConfigError: the server, the archive or the output folder is not named, or a settings file is wrong.
        ServerError: a deployment was refused.
    """
    if missing := [name for name in ("PREFECT_API_URL", ARCHIVE, OUT) if not os.environ.get(name)]:
        raise ConfigError(
            f"not set: {', '.join(missing)}; name the Prefect server that is to know the deployments, their archive "
            "and their output folder"
        )
    with get_client(sync_client=True) as client:
        _make_pool(client)
        if not _deploy_all(project):
            raise ServerError(f"a deployment of {project / DEPLOYMENTS} was refused: see above which and why")
        for line in apply_automations(project / AUTOMATIONS, client):
            report(line)
        _await_runs(client)
    warn_of_no_photo(Path(os.environ[ARCHIVE]), Path(os.environ[OUT]), report)


def _deploy_all(project: Path) -> bool:
    """Do what `prefect deploy --all` does, in this process, which has already imported Prefect.

    Returns:
        Whether every deployment of the project was taken.
    """
    before, sys.argv = sys.argv, ["prefect", "--no-prompt", "deploy", "--all"]
    try:
        with chdir(project):
            app()
    except SystemExit as end:
        return not end.code
    finally:
        sys.argv = before
    return True


def _make_pool(client: SyncPrefectClient) -> None:
    """Make the work pool if there is none."""
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def apply_automations(path: Path, client: SyncPrefectClient) -> list[str]:
    """Create the automations of a file, or update those that the server has by their name.

    One that was switched off stays off. An action may name a `block` as `type/name`; its automation is left out while
    the server has no such block.

    Returns:
        A line for each automation: what became of it.
    """
    lines = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]:
        absent = _fill_blocks(entry, client)
        outcome = (
            f"left out, there is no block {absent}" if absent else _apply(AutomationCore.model_validate(entry), client)
        )
        lines.append(f"{entry['name']}: {outcome}")
    return lines


def _fill_blocks(entry: dict[str, Any], client: SyncPrefectClient) -> str | None:
    """Put the block's id where an action names a block.

    Returns:
        The name of a block that the server does not know, or None.
    """
    for action in entry["actions"]:
        if block := action.pop("block", None):
            kind, name = block.split("/")
            try:
                action["block_document_id"] = client.read_block_document_by_name(name, kind).id
            except ObjectNotFound:
                return str(block)
    return None


def _apply(wanted: AutomationCore, client: SyncPrefectClient) -> str:
    """Create an automation, or update a differing one, upon which Prefect forgets the runs that it was waiting for.

    Returns:
        What became of it.
    """
    known = client.read_automations_by_name(wanted.name)
    if not known:
        client.create_automation(wanted)
        return "created"
    same = wanted.model_copy(update={"enabled": known[0].enabled})
    if same == AutomationCore.model_validate(known[0].model_dump()):
        return "unchanged"
    client.update_automation(known[0].id, same)
    return "updated"


def _await_runs(client: SyncPrefectClient) -> None:
    """Have the automations wait for a sign of life of every run that is said to go on.

    Prefect forgets whom it waits for when a server was away for longer than `within` and a minute, as after a power
    cut, and when an automation is changed.
    """
    going_on = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=going_on))):
        if run.state_type:
            event = f"neardup.flow-run.{run.state_type.value.lower()}"
            emit_event(event, resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"})
    EventsWorker.drain_all()


if __name__ == "__main__":
    try:
        deploy(Path.cwd(), print)
    except NeardupError as error:
        sys.exit(f"neardup: {error}")
