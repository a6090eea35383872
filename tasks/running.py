"""How a task runs: retried for outside faults only, answered from the cache when its stage is done."""

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from prefect import Task, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL

from neardup.errors import NeardupError, ServerError, TrackingError
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
def server(meanwhile: Callable[[], object]) -> Iterator[None]:
    """The Prefect server that is configured, or a temporary one that never outlives this process.

    The temporary one takes many seconds to start; `meanwhile` is called while it does.

    Prefect stops its temporary server when Python exits; after a `kill -9` it would run on. A shell that reads a pipe
    whose other end only this process holds sees the end of it in any case, and stops the server.

    Raises:
        ServerError: the configured server does not answer.
    """
    if PREFECT_API_URL.value():
        _require(PREFECT_API_URL.value())
        meanwhile()
        with _said():
            yield
        return
    temporary = SubprocessASGIServer()
    watch = subprocess.Popen(
        ["/bin/sh", "-c", "while read -r pid; do last=$pid; done; kill $last 2>/dev/null"],
        stdin=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(temporary.start)
        while temporary.server_process is None and not started.done():
            time.sleep(0.01)
        _tell(watch, temporary)
        meanwhile()
        started.result()
    _tell(watch, temporary)  # another process, where the first found its port taken
    try:
        with _said():
            yield
    finally:
        temporary.stop()
        watch.communicate()


@contextmanager
def _said() -> Iterator[None]:
    """Send what Prefect still holds of a run, and let it warn of that, before the command says its own last line."""
    try:
        yield
    finally:
        APILogHandler().flush()
        EventsWorker.drain_all()


def _require(address: str) -> None:
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise ServerError(f"the Prefect server at {address} does not answer: start it, or unset PREFECT_API_URL")


def _tell(watch: "subprocess.Popen[str]", temporary: SubprocessASGIServer) -> None:
    """Tell the watch which process to stop."""
    if watch.stdin and temporary.server_process:
        watch.stdin.write(f"{temporary.server_process.pid}\n")
        watch.stdin.flush()
