"""`neardup up` and `neardup down`, with real servers: started, left alone, killed, ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml
from click.testing import CliRunner
from commands import neardup
from servers import BIN, answered, environment, free_port

from neardup.cli import main
from tasks.services import ARCHIVE, OUT, _choose_folders

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
AUTOMATIONS = (ROOT / "flows" / "automations.yaml").read_text(encoding="utf-8")
FLOW = """
import time
from pathlib import Path

from prefect import flow


@flow
def wait(seconds: int = 0, fail: bool = False, archive: str = "") -> None:
    Path("began").touch()
    time.sleep(seconds)
    if fail:
        raise ValueError("as asked")
"""
DEPLOYMENT = """
name: throwaway
deployments:
  - name: throwaway
    entrypoint: throwaway:wait
    parameters: {archive: "{{ $NEARDUP_ARCHIVE }}"}
    work_pool: {name: neardup}
"""


@dataclass(frozen=True)
class Project:
    """A small project of one flow, and the ports of its servers."""

    folder: Path
    mlflow: int
    prefect: int

    def user(self) -> dict[str, str]:
        """Variables of a user whose home folder is empty, but whose caches are not."""
        caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return {"HOME": str(self.folder / "home"), "XDG_CACHE_HOME": caches, "MLFLOW_WORKERS": "1"}

    def neardup(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as that user."""
        done = neardup(*command, cwd=self.folder, **{**self.user(), **more})
        assert "Traceback" not in done.stderr
        return done

    def ports(self) -> tuple[str, ...]:
        """The ports of its servers, as `neardup up` takes them."""
        return "--mlflow-port", str(self.mlflow), "--prefect-port", str(self.prefect)

    def up(self, *more: str) -> str:
        """Start everything; what it said."""
        done = self.neardup("up", *self.ports(), *more)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def up_in_a_shell(self) -> str:
        """Start everything by the command that is installed, which pays for its imports; what it said."""
        line, env = [str(BIN / "neardup"), "up", *self.ports()], environment(**self.user())
        done = subprocess.run(line, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        return done.stdout + done.stderr

    def processes(self, role: str | None = None) -> dict[int, psutil.Process]:
        """What runs of its servers, or of one of them."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                carried = process.environ()
                ours = carried.get("NEARDUP_SERVICES") == str(self.folder / "services")
                if ours and role in (None, carried["NEARDUP_SERVICE"]):
                    found[process.pid] = process
        return found

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Prefect; an order needs a token, as in the browser."""
        address = f"http://127.0.0.1:{self.prefect}/api"
        token = answered(Request(f"{address}/csrf-token?client=tests"))["token"]  # noqa: S310 - this machine
        headers = {"Content-Type": "application/json", "Prefect-Csrf-Client": "tests", "Prefect-Csrf-Token": token}
        order = None if body is None else json.dumps(body).encode()
        return answered(Request(f"{address}{path}", order, headers))  # noqa: S310 - this machine

    def begin(self, **parameters: Any) -> str:
        """Order a run of the flow and wait until its process is in it; the run's id."""
        (self.folder / "began").unlink(missing_ok=True)
        deployment = self.ask("/deployments/name/wait/throwaway")["id"]
        run = self.ask(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]
        wait_until((self.folder / "began").exists)
        return str(run)

    def parameters(self) -> Any:
        """The parameters that the deployment of the flow gives to its runs."""
        return self.ask("/deployments/name/wait/throwaway")["parameters"]

    def state(self, run: str) -> str:
        """The state of a run."""
        return str(self.ask(f"/flow_runs/{run}")["state_type"])

    def lives(self, run: str) -> bool:
        """Whether a run has said so once."""
        wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
        return bool(self.ask("/events/filter", {"filter": wanted})["events"])


def wait_until(true: Any, seconds: float = 300) -> float:
    """Wait, at most so long, which a busy machine may take; the seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.5)
    return time.monotonic() - began


def make_project(folder: Path) -> Project:
    """The files that `neardup up` reads; two heartbeats are not waited for."""
    for name in ("flows", "mlflow", "home"):
        (folder / name).mkdir()
    (folder / "throwaway.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(DEPLOYMENT)
    (folder / "flows" / "automations.yaml").write_text(AUTOMATIONS.replace("within: 90", "within: 40"))
    (folder / "mlflow" / "server.env").write_text((ROOT / "mlflow" / "server.env").read_text())
    return Project(folder, free_port(), free_port())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose servers run, and are gone afterwards."""
    made = make_project(tmp_path_factory.mktemp("project"))
    try:
        said = made.up_in_a_shell()
        assert (said.count("starting"), "will find no photo" in said) == (3, False)
        yield made
    finally:
        made.neardup("down")


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a command that was refused."""
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_up_runs_everything(project: Project) -> None:
    """Both servers answer, the flow is deployed, a worker waits, and the user's own Prefect was not touched."""
    with urlopen(f"http://127.0.0.1:{project.mlflow}/health") as answer:
        assert answer.read() == b"OK"
    assert project.ask("/deployments/name/wait/throwaway")["work_pool_name"] == "neardup"
    workers = project.ask("/work_pools/neardup/workers/filter", {})
    assert [worker["status"] for worker in workers] == ["ONLINE"]
    assert list((project.folder / "home").iterdir()) == []
    assert {path.name for path in project.folder.iterdir()} <= {
        *("services", "flows", "mlflow", "home", "demo", "throwaway.py", "prefect.yaml", "__pycache__", "began")
    }


@pytest.fixture(scope="module")
def moved(project: Project) -> tuple[list[Any], subprocess.CompletedProcess[str]]:
    """An `up` that names another archive, and what the deployment's parameters were before and after it."""
    (project.folder / "photos").mkdir()
    before = project.parameters()
    done = project.neardup("up", "--archive", "photos")
    return [before, project.parameters()], done


@pytest.fixture(scope="module")
def again(
    project: Project, moved: tuple[list[Any], subprocess.CompletedProcess[str]]
) -> tuple[set[int], subprocess.CompletedProcess[str]]:
    """An `up` of what runs already, after that of another archive, and the processes that ran before it."""
    assert moved[1].returncode == 0
    return set(project.processes()), project.neardup("up")


def test_the_deployments_work_where_they_were_told_to(
    project: Project,
    moved: tuple[list[Any], subprocess.CompletedProcess[str]],
    again: tuple[set[int], subprocess.CompletedProcess[str]],
) -> None:
    """That of the demo, another one, and that one again when nothing is said."""
    told = [*moved[0], project.parameters()]
    assert told == [{"archive": str(project.folder / name)} for name in ("demo/archive", "photos", "photos")]
    for done in (moved[1], again[1]):
        assert (done.returncode, "will find no photo" in done.stderr) == (0, True)


def test_up_says_how_to_use_them(project: Project, again: tuple[set[int], subprocess.CompletedProcess[str]]) -> None:
    """Addresses, logs, the variables of a terminal, and the end."""
    mlflow, prefect = f"http://127.0.0.1:{project.mlflow}", f"http://127.0.0.1:{project.prefect}"
    assert again[1].stdout.splitlines() == [
        f"MLflow   {mlflow}",
        f"Prefect  {prefect}",
        "Logs     services/logs",
        "",
        f"export PREFECT_API_URL={prefect}/api MLFLOW_TRACKING_URI={mlflow}",
        "make down",
    ]


def test_what_runs_is_left_alone(project: Project, again: tuple[set[int], subprocess.CompletedProcess[str]]) -> None:
    """A second `up` starts no process, and the automations are as many as the file has without a block."""
    before, done = again
    assert done.stderr.count("runs already") == 3
    assert set(project.processes()) == before
    names = [entry["name"] for entry in project.ask("/automations/filter", {})]
    assert sorted(names) == sorted(entry["name"] for entry in yaml.safe_load(AUTOMATIONS)["automations"][:3])


@pytest.mark.parametrize(("server", "status"), [("mlflow", 403), ("prefect", 400)])
def test_a_forged_host_is_refused(project: Project, server: str, status: int) -> None:
    """A web page whose name was made to lead here reads nothing."""
    address = f"http://127.0.0.1:{getattr(project, server)}/{'api/version' if server == 'prefect' else ''}"
    with urlopen(address) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(address, headers={"Host": "10.example.org"}))
    caught.value.close()
    assert caught.value.code == status


def test_a_web_page_cannot_order_runs(project: Project) -> None:
    """A form of another page that is open in the browser is refused."""
    order = Request(f"http://127.0.0.1:{project.prefect}/api/flow_runs/filter", b"{}", {"Content-Type": "text/plain"})
    with pytest.raises(HTTPError) as caught:
        urlopen(order)  # noqa: S310 - this machine
    caught.value.close()
    assert caught.value.code == 403


def test_a_run_that_was_killed_with_its_worker_is_crashed(project: Project) -> None:
    """`kill -9` of both: `up` starts the worker only, the next run completes, the dead one is found out."""
    dead = project.begin(seconds=600)
    wait_until(lambda: project.lives(dead))
    killed = project.processes("worker")
    assert len(killed) >= 2
    for process in killed.values():
        process.kill()
    servers = {*project.processes("mlflow"), *project.processes("prefect")}
    assert project.state(dead) == "RUNNING"

    said = project.up()
    assert [line for line in said.splitlines() if line.startswith("starting")] == ["starting worker"]
    assert {*project.processes("mlflow"), *project.processes("prefect")} == servers
    run = project.begin()
    wait_until(lambda: project.state(run) == "COMPLETED")

    wait_until(lambda: project.state(dead) == "CRASHED")


def test_a_run_that_died_while_the_server_was_away_is_crashed(project: Project) -> None:
    """After a power cut Prefect waits for no heartbeat any more: `up` makes it wait again."""
    dead = project.begin(seconds=600)
    for process in project.processes().values():
        process.kill()
    database = project.folder / "services" / "prefect" / "prefect.db"
    forget = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute('{}')"
    subprocess.run([sys.executable, "-c", forget.format("delete from automation_bucket"), str(database)], check=True)
    assert project.up().count("starting") == 3
    assert project.state(dead) == "RUNNING"
    wait_until(lambda: project.state(dead) == "CRASHED")


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """An address, and what it was told."""
    told: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()
        thread.join()


def test_who_wants_to_know_is_told_of_a_failed_run(project: Project) -> None:
    """Once the server has the block, the automation that names it is made, and tells."""
    make = (
        "import sys; from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block;"
        "Block(name='neardup', url=sys.argv[1], json_data={'text': '{{subject}} {{body}}'}).save('neardup')"
    )
    with listening() as (address, told):
        prefect = {"PREFECT_API_URL": f"http://127.0.0.1:{project.prefect}/api", "HOME": str(project.folder / "home2")}
        (project.folder / "home2").mkdir()
        subprocess.run([sys.executable, "-c", make, address], env={**os.environ, **prefect}, check=True)
        project.up()
        project.begin(fail=True)
        wait_until(lambda: told)
    assert "wait Failed" in told[0]
    assert "as asked" in told[0]


def test_other_ports_are_refused_while_they_run(project: Project) -> None:
    """Moving them means ending them first."""
    sentence = refused(project.neardup("up", "--mlflow-port", str(free_port())))
    assert f"the servers run at http://127.0.0.1:{project.mlflow} " in sentence
    assert "neardup down" in sentence


def test_down_ends_all_of_it_and_nothing_else(project: Project) -> None:
    """Orphans of a killed worker too; not a process of another folder; said again, it says so."""
    project.begin(seconds=600)
    (worker,) = [p for p in project.processes("worker").values() if "worker" in p.cmdline()]
    worker.kill()
    stranger = subprocess.Popen(["sleep", "600"], env={"NEARDUP_SERVICES": str(project.folder / "other")})
    try:
        orphans = len(project.processes("worker")) - (worker.pid in project.processes("worker"))
        assert orphans
        said = project.neardup("down").stdout.splitlines()
        assert [line.split(":")[0] for line in said] == ["ended worker", "ended prefect", "ended mlflow"]
        assert project.processes() == {}
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()
    again = project.neardup("down")
    assert (again.returncode, again.stdout) == (0, f"nothing runs from {project.folder / 'services'}\n")


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """It names the port and the option; nothing was started."""
    made = make_project(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = ("--mlflow-port", str(made.mlflow), "--prefect-port", port)
        sentence = refused(made.neardup("up", "--archive", "mlflow", *ports))
    assert f"port {port} of 127.0.0.1" in sentence
    assert "--prefect-port" in sentence
    assert made.processes() == {}


def test_a_server_that_dies_is_one_sentence_without_a_password(tmp_path: Path) -> None:
    """It has the last line of the log and the log's place; both name the address of a database without its password."""
    made = make_project(tmp_path)
    address, secret = "nonsense://me:s3cret-word@host/runs", "s3cret-word"
    try:
        done = made.neardup("up", "--archive", "mlflow", *made.ports(), MLFLOW_BACKEND_STORE_URI=address)
    finally:
        made.neardup("down")
    folder = tmp_path / "services" / "logs"
    sentence, logs = refused(done), "".join(path.read_text() for path in folder.iterdir())
    assert sentence.startswith("neardup: mlflow ended as it started (")
    assert sentence.endswith(f"see {folder / 'mlflow.log'}")
    assert "nonsense" in logs
    assert secret not in done.stdout + done.stderr + logs
    assert made.processes() == {}


def refused_at_once(*options: str) -> str:
    """The sentence with which `neardup up`, called in this process and folder, refuses before it starts anything."""
    done = CliRunner().invoke(main, ["up", *options])
    assert (done.exit_code, done.stdout) == (1, "")
    return done.stderr.splitlines()[-1]


def test_servers_are_not_opened_without_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others reach them only by a name that was said, and Prefect only with a password."""
    made = make_project(tmp_path)
    monkeypatch.chdir(made.folder)
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    assert "--allow-host" in refused_at_once("--host", "0.0.0.0")  # noqa: S104 - refused
    sentence = refused_at_once("--host", "0.0.0.0", "--allow-host", "photos.example.org")  # noqa: S104
    assert "PREFECT_SERVER_API_AUTH_STRING" in sentence
    assert made.processes() == {}


def test_up_wants_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any other folder it names what it misses."""
    monkeypatch.chdir(tmp_path)
    assert "has no prefect.yaml, flows/automations.yaml, mlflow/server.env" in refused_at_once()


def test_the_team_servers_are_closed_by_default() -> None:
    """Ports on this machine only, each password from outside, each image with a version, each service watched."""
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text(encoding="utf-8"))
    text = json.dumps(compose)
    services = compose["services"].values()
    assert [
        port for service in services for port in service.get("ports", []) if not port.startswith("127.0.0.1:")
    ] == []
    for name in ("POSTGRES_PASSWORD", "MINIO_PASSWORD", "PREFECT_PASSWORD"):
        assert f"${{{name}:?" in text
    assert {":" in service["image"] and "latest" not in service["image"] for service in services} == {True}
    lasting = [service for service in services if service.get("restart") != "no"]
    assert {("healthcheck" in service, service["restart"]) for service in lasting} == {(True, "unless-stopped")}


def test_the_drawn_archive_has_its_own_results_though_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time, when nothing is remembered, as later."""
    folders = []
    for _ in range(2):
        monkeypatch.setenv(ARCHIVE, "demo/archive")
        monkeypatch.setenv(OUT, "")
        (tmp_path / "state").mkdir(exist_ok=True)
        _choose_folders(tmp_path, tmp_path / "state", lambda _: None)
        folders.append((os.environ[ARCHIVE], os.environ[OUT]))
    assert folders == [(str(tmp_path / "demo" / "archive"), str(tmp_path / "demo" / "results"))] * 2
