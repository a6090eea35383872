"""Experiments that are killed, that run at once, and whose MLflow server goes away or wants a password."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments import Experiment, add_approaches, runs_of, wait_for, weights, without
from mlflow import MlflowClient
from servers import free_port, mlflow_server

from neardup.settings.schema import APPROACHES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the team's MLflow server."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def mlflow_url(mlflow_home: Path) -> Iterator[str]:
    """An MLflow server, as one that a team shares."""
    with mlflow_server(mlflow_home, free_port()) as url:
        yield url


def processes_of(out: Path) -> list[str]:
    """Command lines of the running processes that know the folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            known = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(out).encode() in known and "pytest" not in line:
            found.append(line)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_killed_at_any_stage_it_goes_on(
    untouched: Path, experiment: Experiment, team: dict[str, str], tmp_path: Path
) -> None:
    """Killed while it prepares, trains, evaluates and compares: the same numbers and weights in the end.

    The first has a Prefect server of its own, which must not outlive it. Of the approaches one is left to make.
    """
    out = tmp_path / "results"
    first = experiment.popen(out, tmp_path / "log")
    wait_for(out / ".neardup/scan.parquet", first)
    first.kill()
    first.wait()
    add_approaches(untouched, out, "zero-shot", "fine-tuned-augmented", "adapted")
    for sign in ("training/fine-tuned/state.json", "fine-tuned.vectors.json", "comparison.json"):
        running = experiment.start(out, **team)
        wait_for(out / ".neardup" / sign, running)
        running.kill()
    ran = experiment.run(out, **team)
    assert ran.returncode == 0, ran.stderr
    assert json.loads((out / "comparison.json").read_text()) == json.loads((untouched / "comparison.json").read_text())
    assert weights(out) == weights(untouched)
    deadline = time.monotonic() + 60
    while processes_of(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(out) == []


def test_two_experiments_at_once(
    untouched: Path, experiment: Experiment, team: dict[str, str], mlflow_url: str, tmp_path: Path
) -> None:
    """Into two folders they run side by side, into one folder the second waits; all end with the same numbers.

    Each folder has an approach left to train.
    """
    outs = [tmp_path / "one", tmp_path / "two", tmp_path / "one"]
    without(untouched, outs[0], "fine-tuned")
    without(untouched, outs[1], "adapted")
    running = [experiment.start(out, MLFLOW_TRACKING_URI=mlflow_url, **team) for out in outs]
    ended = [process.ended() for process in running]
    assert [ran.returncode for ran in ended] == [0, 0, 0], [ran.stderr for ran in ended]
    assert sum("another run works in" in ran.stderr for ran in ended) == 1
    expected = json.loads((untouched / "comparison.json").read_text())
    assert [json.loads((out / "comparison.json").read_text()) for out in outs[:2]] == [expected] * 2
    for out in outs[:2]:
        assert sorted(run.info.run_name for run in runs_of(out, mlflow_url)) == sorted(["experiment", *APPROACHES])


def test_a_server_that_goes_away_loses_nothing(
    untouched: Path, experiment: Experiment, team: dict[str, str], tmp_path: Path
) -> None:
    """Gone while the run trains: the run ends well and says so; when it is back the same command logs it, once."""
    port, out = free_port(), tmp_path / "results"
    without(untouched, out, "fine-tuned")
    address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", **team}
    with mlflow_server(tmp_path, port):
        running = experiment.start(out, **address)
        wait_for(out / ".neardup/training/fine-tuned/state.json", running)
    ran = running.ended()
    assert (ran.returncode, "not logged: the server is away" in ran.stdout) == (0, True), ran.stderr
    with mlflow_server(tmp_path, port) as uri:
        back = [experiment.run(out, **address) for _ in range(2)]
        assert [ran.returncode for ran in back] == [0, 0]
        found = runs_of(out, uri)
        assert sorted(run.info.run_name for run in found) == sorted(["experiment", *APPROACHES])
        assert {run.info.status for run in found} == {"FINISHED"}
        parent = next(run for run in found if run.info.run_name == "experiment")
        assert {item.path for item in MlflowClient(uri).list_artifacts(parent.info.run_id)} >= {"report.html"}
        assert f"{uri}/#/experiments/" in back[1].stdout


def test_a_password_reaches_nothing_that_is_kept(
    untouched: Path, experiment: Experiment, team: dict[str, str], mlflow_home: Path, mlflow_url: str, tmp_path: Path
) -> None:
    """The server is reached with it; no line, table, artifact, tag or log holds it, nor Prefect's own files."""
    out, password = tmp_path / "results", "s3cret-word"
    shutil.copytree(untouched, out, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    address = mlflow_url.replace("://", f"://me:{password}@")
    ran = experiment.run(out, "--json", MLFLOW_TRACKING_URI=address, **team)
    found = runs_of(out, mlflow_url)
    assert (ran.returncode, len(found)) == (0, 1 + len(APPROACHES)), ran.stderr
    json.loads(ran.stdout)
    kept = [tmp_path, mlflow_home, Path(team["PREFECT_HOME"])]
    written = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if password.encode() in path.read_bytes()] == []
    assert password not in ran.stdout + ran.stderr
