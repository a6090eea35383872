"""Where tasks run: threads of this process, or Dask's workers, here or on other machines."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from neardup.errors import ConfigError, install_hint
from neardup.settings.schema import ClusterSettings

AHEAD = 4
"""Tasks that wait for each one that runs: enough to keep workers busy, few enough to hold in memory."""
PATIENCE = "120s"
"""Timeout for connecting: a scheduler that imports modules for a first task does not answer for a while."""


@contextmanager
def workers(settings: ClusterSettings) -> Iterator[TaskRunner[Any]]:
    """Context that provides the workers named in the settings to a flow; workers started here end with it.

    Raises:
        ConfigError: Dask is not installed, or a scheduler is named for threads.
    """
    if settings.runner == "threads":
        if settings.scheduler:
            raise ConfigError(f"the scheduler {settings.scheduler} is Dask's: say runner = dask with it")
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=settings.workers)
        with threads:
            yield threads
        return
    try:
        import dask.config  # noqa: PLC0415 - an extra
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(f"Dask is not installed: {install_hint('dask')}; or say runner = threads") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it logs every connection
    # A process a core: Dask tells each of its processes to compute with one thread.
    local = {"cluster_kwargs": {"n_workers": settings.workers, "threads_per_worker": 1}}
    with get_client(sync_client=True) as client:
        server = str(client.api_url)
    # Workers get the settings of this process; without an address each would start a temporary server of its own.
    with (
        temporary_settings({PREFECT_API_URL: server}),
        dask.config.set({"distributed.comm.timeouts.connect": PATIENCE}),
        DaskTaskRunner(**({"address": settings.scheduler} if settings.scheduler else local)) as runner,
    ):
        yield runner


def spread(
    runner: TaskRunner[Any], task: Task[..., Any], calls: Iterable[Mapping[str, Any]], at_once: int
) -> Iterator[Any]:
    """Run a task on each of many parameters, in any order, and yield the results in order.

    Parameters are consumed as there is room, so that memory does not grow with their number.
    """
    waiting: deque[Any] = deque()
    for call in calls:
        waiting.append(runner.submit(task, dict(call)))
        if len(waiting) >= AHEAD * at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
