"""MLflow, Prefect and a worker on this machine: `neardup up` starts them, `neardup down` ends them.

Each process carries its state folder in its environment, and so does all that it starts in its turn (MLflow's workers,
the runs of a flow). This mark, instead of a file of process ids, identifies them: it survives a `kill -9`, and another
process that gets the same id does not have it.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
from filelock import FileLock

from neardup.archive.scan import check_folders
from neardup.builtin.demo import make_archive
from neardup.errors import ConfigError, ServerError
from neardup.stages import write_json
from tasks.addresses import Addresses, mlflow_settings, prefect_settings, without_credentials
from tasks.empty_databases import PREFECT_DATABASE, begin_database
from tasks.settings_files import warn_of_no_photo

POOL = "neardup"
"""Name of the work pool from which the worker takes runs."""
DEPLOYMENTS = Path("prefect.yaml")
"""The project's file of deployments."""
AUTOMATIONS = Path("flows/automations.yaml")
"""The project's file of automations."""
MLFLOW = Path("mlflow/server.env")
"""The project's file of settings for MLflow's server."""
ARCHIVE = "NEARDUP_ARCHIVE"
"""Variable that names the archive of the deployments; prefect.yaml reads it."""
OUT = "NEARDUP_OUT"
"""Variable that names the output folder of the deployments; prefect.yaml reads it."""
_MARK = "NEARDUP_SERVICES"
"""Variable, in every process that is started here, that names its state folder."""
_ROLE = "NEARDUP_SERVICE"
"""Variable, in every process that is started here, that names its service."""
_AT = "NEARDUP_ADDRESSES"
"""Variable, in every process that is started here, with the addresses of the servers as JSON."""
_DEFAULTS = {ARCHIVE: "archive", OUT: "results"}
"""The folders, within the project, of a variable that is not set where the other one is."""
_DRAWN = {ARCHIVE: "demo/archive", OUT: "demo/results"}
"""The folders, within the project, where no variable was ever set: those of `neardup demo`."""
_PATIENCE = 240
"""Seconds to wait for a server: on two busy cores a first start, with its migrations, took 50."""
Report = Callable[[str], object]
"""Function that is called with each line for the user."""


@dataclass(frozen=True)
class Service:
    """A process that `neardup up` starts and keeps running.

    Attributes:
        name: What people call it; its log is named after it.
        command: What follows the interpreter.
        folder: Where it is started.
        ready: An address that answers, or else what its log says, once it works.
        environment: What it gets unless ours has it.
        port: Where it listens, if it does.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    ready: str
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0


def services(project: Path, state: Path, at: Addresses) -> tuple[Service, Service, Service]:
    """MLflow, Prefect's server and a worker, in the order in which they need each other."""
    mlflow = ("-m", "mlflow", "--env-file", str(project / MLFLOW), "server")
    prefect = ("-m", "uvicorn", "--factory", "tasks.addresses:prefect_app", "--log-level", "warning")
    worker = ("-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", platform.node())
    return (
        Service(
            "mlflow",
            (*mlflow, "--host", at.host, "--port", str(at.mlflow_port)),
            state,
            f"{at.mlflow}/health",
            mlflow_settings(at),
            at.mlflow_port,
        ),
        Service(
            "prefect",
            (*prefect, "--host", at.host, "--port", str(at.prefect_port)),
            state,
            f"{at.prefect}/api/health",
            prefect_settings(at),
            at.prefect_port,
        ),
        Service("worker", worker, project, "started!"),
    )


def up(project: Path, state: Path, wanted: Mapping[str, Any], report: Report) -> Addresses:
    """Start what does not run yet, and bring deployments and automations up to date.

    Args:
        project: Folder with prefect.yaml, mlflow/server.env and flows/automations.yaml.
        state: Folder for databases, artifacts and logs.
        wanted: Fields of `Addresses` that the user named.
        report: Is called with a line for each step.

    Raises:
        ConfigError: the folder is no project, or the servers would be open to others without protection.
        ServerError: a port is taken, a server does not start, or they run at other addresses.
    """
    missing = [str(name) for name in (DEPLOYMENTS, AUTOMATIONS, MLFLOW) if not (project / name).is_file()]
    if missing:
        raise ConfigError(f"{project} has no {', '.join(missing)}: go to the project's folder, then say `neardup up`")
    with _alone(state):
        at = _choose_addresses(wanted, _marked(state))
        _choose_folders(project, state, report)
        *servers, worker = services(project, state, at)
        _run(servers, state, at, report)
        _deploy(project, state, at, report)
        _run([worker], state, at, report)
    return at


def down(state: Path, report: Report) -> None:
    """End what `up` started and all that came of it; the worker first, so that its runs can still report."""
    if not _marked(state):
        report(f"nothing runs from {state}")
        return
    with _alone(state):
        for name in ("deploy", "worker", "prefect", "mlflow"):
            if ended := _end(state, name):
                report(f"ended {name}: {ended} process{'es' * (ended > 1)}")


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Lock that lets one `up` or `down` run at a time, in a folder that git ignores."""
    state.mkdir(parents=True, exist_ok=True)
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    with FileLock(state / ".lock"):
        yield


def _choose_addresses(wanted: Mapping[str, Any], running: Sequence[psutil.Process]) -> Addresses:
    """The addresses that the user wants, or those at which the servers run already.

    Raises:
        ServerError: they run at other addresses.
    """
    chosen = {name: value for name, value in wanted.items() if value}
    if not running:
        at = Addresses(**chosen)
        at.check()
        return at
    current = json.loads(running[0].environ()[_AT])
    at = Addresses(**{**current, "names": tuple(current["names"])})
    if replace(at, **chosen) != at:
        raise ServerError(
            f"the servers run at {at.mlflow} and {at.prefect} already: end them with `neardup down` first"
        )
    return at


def _choose_folders(project: Path, state: Path, report: Report) -> None:
    """Set the variables that prefect.yaml reads: as the user did, else as the last time, else the drawn archive's.

    Raises:
        ArchiveError: the archive is not there, or the results would lie inside it.
    """
    path = state / "folders.json"
    drawn = {name: str((project / folder).resolve()) for name, folder in _DRAWN.items()}
    last = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else drawn
    chosen = {name: str((project / os.environ[name]).resolve()) for name in _DEFAULTS if os.environ.get(name)}
    # The results of the last time are those of its archive: another archive gets the default folder.
    fallback = last if chosen.get(ARCHIVE, last[ARCHIVE]) == last[ARCHIVE] else _DEFAULTS
    folders = {name: str((project / folder).resolve()) for name, folder in {**fallback, **chosen}.items()}
    archive, out = Path(folders[ARCHIVE]), Path(folders[OUT])
    if str(archive) == drawn[ARCHIVE]:
        report(f"the deployments work on the drawn archive {_DRAWN[ARCHIVE]}; name yours with --archive")
        make_archive(archive)
    check_folders(archive, out)
    warn_of_no_photo(archive, out, report)
    write_json(path, folders)
    os.environ.update(folders)


def _marked(state: Path, name: str | None = None) -> list[psutil.Process]:
    """This user's living processes that carry the state folder's mark, those of one service if it is named."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid():
                variables = process.environ()
                if variables.get(_MARK) == str(state) and name in (None, variables.get(_ROLE)):
                    found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def _run(wanted: Sequence[Service], state: Path, at: Addresses, report: Report) -> None:
    """Start the services that do not run, then wait until all answer."""
    missing = [service for service in wanted if not _runs(service, state)]
    for service in missing:
        if service.port:
            _require_free(service, at.host)
    started = {}
    for service in wanted:
        if service not in missing:
            report(f"{service.name} runs already")
            continue
        report(f"starting {service.name}")
        if service.name == "prefect":
            begin_database(state / "prefect" / PREFECT_DATABASE, "prefect")
        started[service.name] = _start(service, state, at)
    for service in wanted:
        _wait(service, state, *started.get(service.name, (None, 0)))


def _runs(service: Service, state: Path) -> bool:
    """Whether the service itself runs, not only something that it left behind."""
    for process in _marked(state, service.name):
        with suppress(psutil.Error):
            if tuple(process.cmdline()[1:]) == service.command:
                return True
    return False


def _require_free(service: Service, host: str) -> None:
    """Refuse to start a service whose port is taken.

    Raises:
        ServerError: the port is taken, or the host is none of this machine.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, service.port))
        except OSError as refused:
            raise ServerError(
                f"port {service.port} of {host} cannot be had for {service.name} ({refused.strerror}):"
                f" name a free one with --{service.name}-port"
            ) from refused


def _environment(state: Path, at: Addresses, name: str) -> dict[str, str]:
    """The variables of a service: ours, its mark, the servers' addresses, Prefect's state folder; no Prefect Cloud."""
    ours = {key: value for key, value in os.environ.items() if key not in ("PREFECT_API_KEY", "PREFECT_PROFILE")}
    password = ours.get("PREFECT_SERVER_API_AUTH_STRING")
    return {
        **ours,
        **({"PREFECT_API_AUTH_STRING": password} if password else {}),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_API_URL": f"{at.prefect}/api",
        "MLFLOW_TRACKING_URI": at.mlflow,
        _MARK: str(state),
        _ROLE: name,
        _AT: json.dumps(asdict(at)),
    }


def _log(state: Path, name: str) -> Path:
    """Where the log of a service lies."""
    return state / "logs" / f"{name}.log"


def _start(service: Service, state: Path, at: Addresses) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a service in the background.

    Returns:
        The process, and how many bytes its log had before.
    """
    path = _log(state, service.name)
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *service.command],
            cwd=service.folder,
            env={**service.environment, **_environment(state, at, service.name)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        return process, log.tell()


def _wait(service: Service, state: Path, process: "subprocess.Popen[bytes] | None", offset: int) -> None:
    """Wait until a service works; one that ran before is only asked whether it answers."""
    path = _log(state, service.name)
    for _ in range(_PATIENCE * 5):
        if _works(service, path, offset):
            return
        if process and process.poll() is not None:
            _hide_credentials(path)
            raise ServerError(f"{service.name} ended as it started ({_last_line(path)}): see {path}")
        time.sleep(0.2)
    raise ServerError(f"{service.name} did not answer within {_PATIENCE} seconds ({_last_line(path)}): see {path}")


def _works(service: Service, log: Path, offset: int) -> bool:
    """Whether a service answers, or has written to its log, after `offset` bytes, that it is ready."""
    if not service.ready.startswith("http"):
        return service.ready.encode() in log.read_bytes()[offset:]
    with suppress(URLError, OSError), urlopen(service.ready, timeout=5):  # noqa: S310 - this machine
        return True
    return False


def _last_line(path: Path) -> str:
    """The log's last line with words in it, shortened, without the frame around it."""
    text = without_credentials(path.read_text(encoding="utf-8", errors="replace"))
    lines = (line.strip(" │╰─╯") for line in reversed(text.split("\n")))
    return textwrap.shorten(next((line for line in lines if line), "its log is empty"), 240, placeholder="…")


def _hide_credentials(path: Path) -> None:
    """Take the passwords of addresses out of the log of a process that has ended; a refused address stands in it."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    path.write_text(without_credentials(text), encoding="utf-8", errors="surrogateescape")


def _deploy(project: Path, state: Path, at: Addresses, report: Report) -> None:
    """Bring work pool, deployments and automations to the server, in a process whose Prefect is not the user's."""
    report("bringing deployments and automations up to date")
    path = _log(state, "deploy")
    with path.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.deploy"],
            cwd=project,
            env=_environment(state, at, "deploy"),
            stdout=log,
            stderr=log,
            check=False,
        )
    _hide_credentials(path)
    if done.returncode:
        raise ServerError(f"deployments or automations were refused ({_last_line(path)}): see {path}")


def _end(state: Path, name: str) -> int:
    """End every process of a service: terminate it, and after twenty seconds kill it.

    Returns:
        How many there were.
    """
    ended: set[int] = set()
    for force, patience in ((False, 20), (True, 10)):
        until = time.monotonic() + patience
        while (left := _marked(state, name)) and time.monotonic() < until:
            for process in left:
                if force or process.pid not in ended:
                    with suppress(psutil.Error):
                        process.kill() if force else process.terminate()
            ended |= {process.pid for process in left}
            time.sleep(0.2)
    return len(ended)
