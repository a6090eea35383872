"""Real servers for the tests: Prefect's and MLflow's, each on a port of its own and gone afterwards."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tasks.empty_databases import PREFECT_DATABASE, begin_database, keep_database

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port that nobody listens on.

    It is below those that a system gives to outgoing connections, one of which could take it before a server is up.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise OSError("none of a hundred ports is free")


def environment(**more: str) -> dict[str, str]:
    """Ours without any server's address, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return {**kept, **more}


_BEGUN: dict[int, "subprocess.Popen[bytes]"] = {}
"""What this process has started and not ended: forgotten before its end, a process is warned of."""


def begin(command: list[str], healthy: str, folder: Path, **environment: str) -> int:
    """Start a server and wait until it answers; the number of its process, which `end` takes."""
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _BEGUN[process.pid] = process
    try:
        _wait(healthy, process, folder / "server.log")
    except BaseException:
        end(process.pid)
        raise
    return process.pid


def end(server: int) -> None:
    """End a server, which another process may have started, with all that it has started itself."""
    with suppress(ProcessLookupError):
        os.killpg(server, signal.SIGTERM)
    if server in _BEGUN:  # whose end only the process that has begun it can wait for
        _BEGUN.pop(server).wait(30)


@contextmanager
def serving(command: list[str], healthy: str, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends; begin the block when it answers."""
    server = begin(command, healthy, folder, **environment)
    try:
        yield
    finally:
        end(server)


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(1200):
        try:
            urlopen(address, timeout=2).close()  # noqa: S310 - this machine
        except (URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(log.read_text())


def answered(order: Request) -> Any:
    """What Prefect answers; it is asked again where its sqlite is locked for a moment, as its own client does."""
    for _ in range(120):
        try:
            with urlopen(order) as answer:  # noqa: S310 - this machine
                return json.load(answer)
        except HTTPError as busy:
            busy.close()
            if busy.code != 503:
                raise
            time.sleep(0.5)
    raise TimeoutError(order.full_url)


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """MLflow's tracking server, configured as the project's `mlflow/server.env` says, with a database in the folder."""
    settings = Path(__file__).parents[1] / "mlflow" / "server.env"
    command = [str(BIN / "mlflow"), "--env-file", str(settings), "server", "--port", str(port)]
    begin_database(folder / "mlflow.db", "mlflow")
    with serving(command, f"http://127.0.0.1:{port}/health", folder, MLFLOW_WORKERS="1"):
        keep_database(folder / "mlflow.db", "mlflow")
        yield f"http://127.0.0.1:{port}"


def begin_prefect(folder: Path) -> tuple[str, int]:
    """Start Prefect's server with a database of its own, which begins as the product's own servers begin theirs.

    It has no services, which no test needs and which cost half of what an idle server does: runs that nobody schedules,
    events that nobody reads. The servers of `neardup up` have theirs.

    Returns:
        Its address, and the number of its process, which `end` takes.
    """
    port = free_port()
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    command += ["--no-services"]
    home = {"PREFECT_HOME": str(folder / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    begin_database(folder / "home" / PREFECT_DATABASE, "prefect")
    server = begin(command, f"http://127.0.0.1:{port}/api/health", folder, **home)
    keep_database(folder / "home" / PREFECT_DATABASE, "prefect")
    return f"http://127.0.0.1:{port}/api", server
