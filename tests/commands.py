"""Commands as processes of their own that pay for no imports: they are forked from one that has loaded everything.

A `neardup` that a shell starts computes for ten seconds before it does anything, and the tests start dozens. Those of
this file can be killed, wait for each other and read their environment as it does, except what a library reads while
it is imported. Where the start itself is the subject, or a Prefect server of the command's own, tests start the real
one.
"""

import atexit
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers import environment

LOADED = [
    *("neardup.cli", "neardup.cli.live", "tasks.models", "pytest"),
    *(
        f"flows.{name}"
        for name in ("duplicates", "experiment", "finetune", "promote", "recalibrate", "translate", "tune", "watch")
    ),
]
"""Modules of the process that all commands are forked from; what is missing here costs each command its time."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(LOADED)


class Process:
    """A function that runs in a forked process, with its own folder, environment, output and errors."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, cwd: Path, env: Mapping[str, str]) -> None:
        """Start it."""
        self._output = TemporaryDirectory()
        files = [Path(self._output.name) / name for name in ("stdout", "stderr")]
        self._files, self._arguments = files, arguments
        self._ended: subprocess.CompletedProcess[str] | None = None
        self._process = _FORKS.Process(target=_call, args=(function, arguments, cwd, dict(env), files), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.exitcode

    def said(self) -> str:
        """What it has written so far where a shell shows errors."""
        errors = self._files[1]
        return errors.read_text() if errors.exists() else ""

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self.ended()

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; its status and what it wrote."""
        self._process.join()
        if self._ended is None:
            stdout, stderr = (path.read_text() if path.exists() else "" for path in self._files)
            status = self._process.exitcode or 0
            self._ended = subprocess.CompletedProcess(list(self._arguments), status, stdout, stderr)
            self._output.cleanup()
        return self._ended


def start(*command: object, cwd: Path, **variables: str) -> Process:
    """Start `neardup` with these arguments, and with these variables in place of any server's address."""
    return Process(_neardup, *map(str, command), cwd=cwd, env=environment(**variables))


def neardup(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `neardup` to its end."""
    return start(*command, cwd=cwd, **variables).ended()


def _neardup(*arguments: str) -> None:
    from neardup.cli import main  # noqa: PLC0415 - loaded already where this runs

    sys.argv = ["neardup", *arguments]
    main(arguments)


def dask(*arguments: str) -> None:
    """What `dask` does in a shell: be a scheduler or a worker; for a `Process`."""
    role, *options = arguments
    importlib.import_module(f"distributed.cli.dask_{role}").main(options)


def prefect(*arguments: str) -> None:
    """What `prefect` does in a shell; for a `Process`."""
    sys.argv = ["prefect", *arguments]
    importlib.import_module("prefect.cli").app()


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], cwd: Path, env: dict[str, str], files: list[Path]
) -> None:
    """Call the function in the forked process as if a shell had started it."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for stream, path in zip((sys.stdout, sys.stderr), files, strict=True):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.reload(importlib.import_module("tasks"))  # its defaults belong into this environment, too
    importlib.import_module("prefect.context").refresh_global_settings_context()
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
