"""What a task does when it fails: it is tried again after an outside fault, and not after a fault of the user's."""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from servers import free_port, mlflow_server

from neardup.builtin.demo import MadeArchive
from neardup.encode.encoder import BUILTIN
from neardup.errors import ArchiveError, StorageError, TrackingError
from neardup.settings.schema import OnnxSettings, PrepareSettings
from neardup.stages import STATE
from tasks import approach, augment, chosen, duplicates, prepare, promoted, publish, registry, tuning, verdicts, watch
from tasks.decisions import VERDICTS_URL
from tasks.running import RETRY, outside_fault, quoted
from tasks.tracking import Tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("prefect"),
    pytest.mark.filterwarnings("ignore"),
]  # of MLflow's own imports
MODULES = (approach, augment, chosen, duplicates, prepare, promoted, publish, registry, tuning, verdicts, watch)
STEADY = {"evaluate", "compare", "publish"}
"""Tasks that only compute from local files and write a few: they promise no retry."""
TASKS = {item for module in MODULES for item in vars(module).values() if isinstance(item, Task)}


@contextmanager
def retries(react: Callable[[], object] = lambda: None) -> Iterator[list[str]]:
    """The lines in which Prefect says that it will try again; `react` is called at each."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Retry" in record.getMessage():
                lines.append(record.getMessage())
                react()

    logger, listener = logging.getLogger("prefect.task_runs"), Listener()
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)


def run(task: Task[..., Any], *arguments: Any) -> Any:
    """Run a task in a flow, with its own number of retries, without waiting between them."""
    return flow(lambda: task.with_options(retry_delay_seconds=0)(*arguments), name="one-task")()


@pytest.mark.parametrize("task", sorted(TASKS, key=lambda task: task.name), ids=lambda task: task.name)
def test_every_task_that_may_meet_an_outside_fault_is_tried_three_times(task: Task[..., Any]) -> None:
    """For outside faults only; a task that meets none promises nothing."""
    expected = (0, None) if task.name in STEADY else (RETRY["retries"], outside_fault)
    assert (task.retries, task.retry_condition_fn) == expected


def test_a_disk_that_is_full_for_a_moment_is_tried_again(made: MadeArchive, tmp_path: Path) -> None:
    """The archive is read in the end."""
    state = tmp_path / "out" / STATE
    state.mkdir(parents=True)
    # What is written there finds no space; the name is gone once the attempt has failed.
    (state / f".scan.{os.getpid()}-{threading.get_native_id()}.part.parquet").symlink_to("/dev/full")
    with retries() as lines:
        counts = run(prepare.prepare_archive, made.root, tmp_path / "out", PrepareSettings())
    assert (len(lines), bool(counts)) == (1, True)


def test_an_archive_that_the_user_must_mend_is_not_tried_again(tmp_path: Path) -> None:
    """Its fault is said at once."""
    (tmp_path / "archive").mkdir()
    with retries() as lines, pytest.raises(ArchiveError):
        run(prepare.prepare_archive, tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert lines == []


def test_a_teams_database_that_is_away_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fits a decision at night reads it."""
    monkeypatch.setenv(VERDICTS_URL, f"postgresql+psycopg://u@127.0.0.1:{free_port()}/x")
    with retries() as lines, pytest.raises(StorageError, match="cannot be opened"):
        run(verdicts.fit_again, tmp_path)
    assert len(lines) == RETRY["retries"]


def test_a_file_that_is_missing_is_not_tried_again(made: MadeArchive, tmp_path: Path) -> None:
    """It does not come back by itself."""
    shutil.copytree(made.root, tmp_path / "archive")
    (tmp_path / "out").write_text("no folder")
    with retries() as lines, pytest.raises(OSError, match="out"):
        run(prepare.prepare_archive, tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert lines == []


@contextmanager
def relay(target: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """A port that nobody answers on until the function is called; from then on it leads to another port."""
    port, listener, threads = free_port(), socket.socket(), []

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def answer() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                onward = socket.create_connection(("127.0.0.1", target))
                for pair in ((client, onward), (onward, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    def begin() -> None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        threads.append(threading.Thread(target=answer, daemon=True))
        threads[0].start()

    try:
        yield port, begin
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_server_that_is_away_at_first_is_tried_again(tmp_path: Path) -> None:
    """The second attempt reaches it, when it is there."""
    folder = tmp_path / "server"
    folder.mkdir()
    target = free_port()
    with mlflow_server(folder, target), relay(target) as (port, begin):
        tracking = Tracking(f"http://127.0.0.1:{port}", tmp_path)
        called = Task(lambda: tracking.open("watch", "key"), name="open", **RETRY)
        with retries(begin) as lines:
            assert run(called)
    assert len(lines) == 1


def test_the_champion_is_asked_for_again_when_the_server_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search waits for it instead of failing."""
    folder = tmp_path / "server"
    folder.mkdir()
    target = free_port()
    with mlflow_server(folder, target), relay(target) as (port, begin):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with retries(begin) as lines:
            assert run(chosen.choose_encoder, tmp_path, None, OnnxSettings()) == (BUILTIN, BUILTIN)
    assert len(lines) == 1


def test_a_server_that_stays_away_is_given_up_in_a_sentence(tmp_path: Path) -> None:
    """After as many attempts as are promised."""
    tracking = Tracking(f"http://127.0.0.1:{free_port()}", tmp_path)
    called = Task(lambda: tracking.open("watch", "key"), name="open", **RETRY)
    with retries() as lines, pytest.raises(TrackingError, match="does not answer"):
        run(called)
    assert len(lines) == RETRY["retries"]


def test_prefect_does_not_look_into_what_is_quoted() -> None:
    """In each pair of a large archive it would look for futures; the task gets the value itself."""
    walks = []

    class Parts(dict[str, int]):
        def items(self) -> Any:
            walks.append(self)
            return super().items()

    parts = Parts(one=1)
    taking = Task(lambda some: some is parts, name="take", cache_policy=NO_CACHE)
    assert flow(lambda: taking(**quoted(some=parts)), name="one-task")()
    assert walks == []
