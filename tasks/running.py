"""How tasks run: retried only for external faults, and answered from the cache if their stage is done."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import Task, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging import get_logger
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL
from prefect.utilities.annotations import quote

from neardup.errors import NeardupError, ServerError, StorageError, TrackingError, is_interrupt
from neardup.stages import Stage, digest_of
from tasks.addresses import address_without_credentials
from tasks.temporary_server import TemporaryServer


class _NoTraceback(logging.Filter):
    """Log filter that removes the traceback of Ctrl-C, and of a fault that the user can fix: a sentence says all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through, those of Ctrl-C, and of an error of `neardup.errors` or the system, without it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, NeardupError | OSError) or is_interrupt(error):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_NoTraceback())

_LASTING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Faults of the file system that do not go away by themselves, so that retrying is useless."""


def outside_fault(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure came from outside (network, server, database, disk), so that trying again may help."""
    fault = state.result(raise_on_failure=False)
    return isinstance(fault, (OSError, TrackingError, StorageError)) and not isinstance(fault, _LASTING)


RETRY: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": outside_fault}
"""Options of `@task` for a task that may meet an outside fault; a server or a disk is often back after 30 seconds."""


def quoted(**arguments: Any) -> dict[str, Any]:
    """Arguments of a task by name, so that Prefect does not look for futures in each of their parts.

    It takes 20 microseconds a part: for the evidence of 1.6 million pairs, a quarter of an hour. A task without a cache
    policy of its own looks into them nevertheless, for its cache key.
    """
    return {name: quote(value) for name, value in arguments.items()}


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
    finished: Any = cached(stage, *args)
    return dict(finished)


@contextmanager
def server(meanwhile: Callable[[], object]) -> Iterator[None]:
    """The Prefect server that is configured, or a temporary one that never outlives this process.

    Args:
        meanwhile: is called while the temporary server starts, which takes many seconds.

    Raises:
        ServerError: the server does not answer, or is no Prefect server.
    """
    if PREFECT_API_URL.value():
        _require(PREFECT_API_URL.value())
        meanwhile()
        with _flushed():
            yield
        return
    temporary = TemporaryServer()
    try:
        meanwhile()
        get_logger().info("Starting temporary server on %s", temporary.address)
        temporary.wait()
        with temporary.used(), _flushed():
            yield
    finally:
        temporary.stop()


@contextmanager
def _flushed() -> Iterator[None]:
    """Send what Prefect still holds of a run, and let it warn of that, before the command prints its own last line."""
    try:
        yield
    finally:
        APILogHandler().flush()
        EventsWorker.drain_all()


def _require(address: str) -> None:
    """Check that a server is healthy, and that it is a Prefect server of a version that can be worked with.

    Raises:
        ServerError: it does not answer, or not as such a server.
    """
    shown = address_without_credentials(address)
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise ServerError(f"the Prefect server at {shown} does not answer: start it, or unset PREFECT_API_URL")
        try:
            client.raise_for_api_version_mismatch()
        except (RuntimeError, TypeError, ValueError) as error:
            raise ServerError(
                f"what answers at {shown} is no Prefect server, one of another version, or one that asks for a "
                "password: look at PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset PREFECT_API_URL"
            ) from error
