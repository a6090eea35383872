"""A Prefect server for one command: it starts while other work goes on, and never outlives the command."""

import logging
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.error import URLError
from urllib.request import urlopen

from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings

from neardup.errors import ServerError
from tasks.empty_databases import PREFECT_DATABASE, begin_database, keep_database

PORTS = range(8000, 9000)
"""Ports to choose from; none is among those that the system gives to outgoing connections."""
ATTEMPTS = 3
"""Attempts to start, as the port may be taken between its choice and the start."""
PATIENCE = 180.0
"""Seconds to wait for an answer: on two busy cores a start took 15 and more."""
GRACE = 5.0
"""Seconds that the server has to end by itself."""


class TemporaryServer:
    """A Prefect server as a process of its own, with its database in PREFECT_HOME.

    It is not started by Prefect, which would import the whole server into this process too, in 5 seconds. After a `kill
    -9` of this process nothing would stop the server; a shell therefore reads a pipe whose other end only this process
    holds, sees its end in any case, and stops the server.
    """

    def __init__(self) -> None:
        """Begin to start it; `wait` says when it answers. Its own lines go to a log in PREFECT_HOME."""
        self._home = PREFECT_HOME.value()
        begin_database(self._home / PREFECT_DATABASE, "prefect")
        self._log = self._home / "temporary-server.log"
        self._log.unlink(missing_ok=True)
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", "while read -r pid; do last=$pid; done; kill $last 2>/dev/null"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self._start()

    def _start(self) -> None:
        """Start the process on a free port, and tell the watching shell which process to stop."""
        self.address = f"http://127.0.0.1:{_free_port()}"
        server = ("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
        where = ("--host", "127.0.0.1", "--port", self.address.rpartition(":")[2], "--log-level", "error")
        # The last two are what Prefect gives to its own temporary server: fewer services run.
        kind = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            # In a separate session: a terminal's Ctrl-C would otherwise end the server first, and Prefect would call it
            # for a minute and fail.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, *server, *where],
                env={**os.environ, **kind},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self._watch.stdin:
            self._watch.stdin.write(f"{self._process.pid}\n")
            self._watch.stdin.flush()

    def wait(self) -> None:
        """Wait until the temporary Prefect server answers.

        Raises:
            ServerError: it ended, or did not answer in time.
        """
        until, attempts = time.monotonic() + PATIENCE, 1
        while not _answers(self.address):
            if self._process.poll() is not None:
                if attempts == ATTEMPTS:
                    raise ServerError(
                        f"a temporary Prefect server ended as it started (status {self._process.returncode}): "
                        f"see {self._log}, or set PREFECT_API_URL to a server that runs"
                    )
                attempts += 1
                self._start()
            elif time.monotonic() > until:
                raise ServerError(
                    f"a temporary Prefect server did not answer within {PATIENCE:.0f} seconds: try again when the "
                    "machine is less busy, or set PREFECT_API_URL to a server that runs"
                )
            time.sleep(0.05)
        keep_database(self._home / PREFECT_DATABASE, "prefect")

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have every thread of this process use the server until the block ends."""
        # Do not offer pages of a server that is about to end.
        variables = {"PREFECT_API_URL": f"{self.address}/api", "PREFECT_UI_URL": ""}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        refresh_global_settings_context()
        worker = logging.getLogger("EventsWorker")
        level = worker.level
        try:
            # Nothing here looks for heartbeats, and at its end a run waits up to a second for who sends them. That the
            # last events are still on their way then is no warning.
            worker.setLevel(logging.ERROR)
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                yield
        finally:
            worker.setLevel(level)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            refresh_global_settings_context()

    def stop(self) -> None:
        """End the server, and the shell that watches."""
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watch.communicate()


def _answers(address: str) -> bool:
    """Whether a server answers that it is well."""
    with suppress(URLError, OSError), urlopen(f"{address}/api/health", timeout=5):  # noqa: S310 - this machine
        return True
    return False


def _free_port() -> int:
    """A port of this machine that nobody listens on."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerError(f"no port from {PORTS[0]} to {PORTS[-1]} is free for a temporary Prefect server: free one")
