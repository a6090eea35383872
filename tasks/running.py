"""How a task runs: retried for outside faults only, answered from the cache when its stage is done."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import Task, get_run_logger
from prefect.client.schemas.objects import State, TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL

from neardup.errors import NeardupError, TrackingError
from neardup.stages import Stage, digest_of


class _Mendable(logging.Filter):
    """Takes the traceback off a fault that the user can mend: its sentence says all, with what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through, those of our own errors without their traceback."""
        if record.exc_info and isinstance(record.exc_info[1], NeardupError):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_Mendable())

RETRY: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 30]}
_OURS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def outside_fault(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure came from outside (network, server, disk), so that trying again may help."""
    fault = state.result(raise_on_failure=False)
    return isinstance(fault, (OSError, TrackingError)) and not isinstance(fault, _OURS)


def run(task: Task[..., Any], stage: Stage, *args: Any) -> dict[str, Any]:
    """Run a task that makes a stage; a stage that is whole on disk is answered from Prefect's cache.

    The cache key is the stage's key, which is made of the digests of all inputs, and the folder that it writes to.
    """
    manifest = stage.read()
    if manifest is not None:
        get_run_logger().info("%s: unchanged, nothing to do", stage.name)
    cached = task.with_options(
        cache_key_fn=lambda *_: digest_of(stage.name, stage.key, str(stage.out.resolve())),
        persist_result=True,
        result_serializer="json",
        refresh_cache=manifest is None,
    )
    made: Any = cached(stage, *args)
    return dict(made)


@contextmanager
def server() -> Iterator[None]:
    """The Prefect server that is configured, or a temporary one that never outlives this process.

    Prefect stops its temporary server when Python exits; after a `kill -9` it would run on. A shell that reads a pipe
    whose other end only this process holds sees the end of it in any case.
    """
    if PREFECT_API_URL.value():
        yield
        return
    temporary = SubprocessASGIServer()
    temporary.start()
    process = temporary.server_process
    watch = subprocess.Popen(  # noqa: S602 - the command holds nothing but our own process id
        f"read -r _; kill {process.pid if process else 0} 2>/dev/null",
        shell=True,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        APILogHandler().flush()
        EventsWorker.drain_all()
        temporary.stop()
        if watch.stdin:
            watch.stdin.close()
        watch.wait()
