"""Where runs are kept: found by their tags, opened by many threads at once, ended by whoever worked on them."""

import asyncio
import base64
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import Flow
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.runner._hook_runner import HookRunner
from prefect.states import Cancelling, Crashed
from servers import free_port, mlflow_server

from neardup.encode.onnx import PREPARATION
from neardup.errors import ArchiveError, ConfigError, EncoderError, TrackingError
from neardup.settings.schema import Settings
from neardup.stages import digest_file, write_json
from tasks.addresses import without_credentials
from tasks.models import fetch_encoder
from tasks.publish import begin
from tasks.tracking import EXPERIMENT, Tracking, is_logged, local_uri
from tasks.watch import log_watched

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of MLflow's own imports
THREADS = 8
SECRET = "s3cret-word"  # noqa: S105 - of no server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server that several folders use."""
    with mlflow_server(tmp_path_factory.mktemp("server"), free_port()) as uri:
        yield uri


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose file of runs holds none; to make its tables takes MLflow seconds."""
    folder = tmp_path_factory.mktemp("empty")
    local_uri(folder)
    return folder


@pytest.fixture
def tracking(empty: Path, tmp_path: Path) -> Tracking:
    """The place for the runs of a folder that holds them itself, and has none yet."""
    out = tmp_path / "results"
    shutil.copytree(empty, out)
    return Tracking(local_uri(out), out)


def log_many(uri_of: Callable[[Path], str], out: Path) -> list[str]:
    """Open and finish a run in each of many threads, which begin at the same moment; the ids of the runs."""
    start = threading.Barrier(THREADS)

    def log(number: int) -> str:
        start.wait()
        tracking = Tracking(uri_of(out), out)
        run_id = tracking.open(f"trial-{number}", "study").info.run_id
        tracking.finish(run_id)
        return str(run_id)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(log, range(THREADS)))


@pytest.mark.parametrize("kind", ["file", "server"])
def test_many_threads_at_once_lose_no_run(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each of eight threads finds its own run again, whole; in a file that was not there yet, and on a server."""
    shared = str(request.getfixturevalue("shared")) if kind == "server" else None
    begun = log_many(lambda out: shared or local_uri(out), tmp_path)
    tracking = Tracking(shared or local_uri(tmp_path), tmp_path)
    found = [tracking.find(f"trial-{number}", "study") for number in range(THREADS)]
    assert [run.info.run_id for run in found if run and is_logged(run)] == begun
    assert len(set(begun)) == THREADS
    assert sum(known.name == EXPERIMENT for known in tracking.client.search_experiments()) == 1


def test_a_run_that_was_begun_is_gone_on_with(tracking: Tracking) -> None:
    """Under the same name and key; another key is another run."""
    first = tracking.open("zero-shot", "key").info.run_id
    assert tracking.open("zero-shot", "key").info.run_id == first
    assert tracking.open("zero-shot", "another").info.run_id != first


def test_a_run_that_is_finished_is_not_opened_again(tracking: Tracking) -> None:
    """It keeps its end, and says that it has everything."""
    tracking.finish(tracking.open("trial-0", "key").info.run_id, "KILLED")
    again = tracking.open("trial-0", "key")
    assert (again.info.status, is_logged(again)) == ("KILLED", True)


def test_a_deleted_run_is_made_anew(tracking: Tracking) -> None:
    """A run that a person deleted in MLflow is not logged to."""
    first = tracking.open("zero-shot", "key").info.run_id
    tracking.client.delete_run(first)
    assert tracking.open("zero-shot", "key").info.run_id != first


def test_two_folders_of_one_server_have_runs_of_their_own(shared: str, tmp_path: Path) -> None:
    """Although name and key are the same."""
    one, two = (Tracking(shared, tmp_path / name).open("experiment", "same") for name in ("one", "two"))
    assert one.info.run_id != two.info.run_id


def test_a_watch_that_was_killed_before_it_was_logged_is_logged_by_the_next(tracking: Tracking) -> None:
    """Each published run is logged once, whatever became of its run in MLflow."""
    for number in (2, 1):
        facts = {"counts": {"new": number}, "threshold": 0.5}
        write_json(tracking.out / "watch" / f"000{number}" / "watch.json", facts)
        log_watched(tracking)
    client = tracking.client
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], order_by=["start_time"])
    assert [run.data.metrics for run in runs] == [{"watch new": number, "threshold": 0.5} for number in (2.0, 1.0)]
    client.delete_run(runs[0].info.run_id)
    log_watched(tracking)
    assert tracking.find("watch", digest_file(tracking.out / "watch" / "0002" / "watch.json")) is None


def test_a_folder_that_holds_its_runs_may_move(tracking: Tracking, tmp_path: Path) -> None:
    """Its runs are found where it lies now."""
    after = tmp_path / "after"
    first = tracking.open("experiment", "key").info.run_id
    tracking.out.rename(after)
    found = Tracking(local_uri(after), after).find("experiment", "key")
    assert found
    assert found.info.run_id == first


def test_the_files_of_runs_move_with_their_folder(tracking: Tracking, tmp_path: Path) -> None:
    """They are found and added to where they lie now, also by a registered model, and nothing is written elsewhere."""
    before, after = tracking.out, tmp_path / "a b%20 é"
    run = tracking.open("experiment", "key").info
    files = before / "mlartifacts" / run.run_id / "artifacts"
    files.mkdir(parents=True)
    (files / "x.txt").write_text("first")  # by hand: a client of this process would remember the former address
    tracking.client.create_registered_model("model")
    tracking.client.create_model_version("model", f"{run.artifact_uri}/model", run.run_id)
    before.rename(after)
    client = Tracking(local_uri(after), after).client
    client.log_text(run.run_id, "second", "y.txt")
    artifacts = (after / "mlartifacts").as_uri()
    assert not before.exists()
    assert sorted(item.path for item in client.list_artifacts(run.run_id)) == ["x.txt", "y.txt"]
    assert client.get_model_version("model", "1").source == f"{artifacts}/{run.run_id}/artifacts/model"
    assert client.get_experiment_by_name(EXPERIMENT).artifact_location == artifacts


def test_the_files_of_runs_stay_where_they_are_if_they_did_not_move(tracking: Tracking, tmp_path: Path) -> None:
    """Where the database alone was taken along, the files of its runs are still found."""
    run_id = tracking.open("experiment", "key").info.run_id
    tracking.client.log_text(run_id, "first", "x.txt")
    (tmp_path / "after").mkdir()
    shutil.copy(tracking.out / "mlflow.db", tmp_path / "after")
    client = Tracking(local_uri(tmp_path / "after"), tmp_path / "after").client
    assert [item.path for item in client.list_artifacts(run_id)] == ["x.txt"]


def test_files_that_are_in_no_folder_keep_their_address(tmp_path: Path) -> None:
    """An experiment that somebody made with a bucket for its files moves with its folder, its files do not."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    Tracking(local_uri(before), before).client.create_experiment(EXPERIMENT, "s3://bucket/runs")
    before.rename(after)
    (after / "mlartifacts").mkdir()
    found = Tracking(local_uri(after), after).client.get_experiment_by_name(EXPERIMENT)
    assert found.artifact_location == "s3://bucket/runs"


def test_a_flow_run_ends_only_its_own_runs(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another flow run works on stays as it is."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-first")
    run_id = tracking.open("experiment", "key").info.run_id
    tracking.fail_runs("the-second")
    assert tracking.client.get_run(run_id).info.status == "RUNNING"
    tracking.fail_runs("the-first")
    assert tracking.client.get_run(run_id).info.status == "FAILED"


def test_a_run_belongs_to_the_flow_run_that_goes_on_with_it(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow run that died is asked to end it in vain, for it runs again."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-first")
    run_id = tracking.open("experiment", "key").info.run_id
    tracking.fail_runs("the-first")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-second")
    tracking.open("experiment", "key")
    tracking.fail_runs("the-first")
    assert tracking.client.get_run(run_id).info.status == "RUNNING"


def test_what_a_killed_run_left_open_has_failed_although_a_setting_changed(
    shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run in the folder sees to it; runs of other folders of the server and its own are left alone."""
    ours, others = Tracking(shared, tmp_path / "ours"), Tracking(shared, tmp_path / "others")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-killed")
    killed, elsewhere = begin(ours, "experiment", "key", []), begin(others, "experiment", "key", [])
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-next")
    tuned = begin(ours, "tune", "key", [])
    changed = begin(ours, "experiment", "another key", [])
    runs = (killed["experiment"], elsewhere["experiment"], tuned["tune"], changed["experiment"])
    status = [ours.client.get_run(run).info.status for run in runs]
    assert status == ["FAILED", "RUNNING", "RUNNING", "RUNNING"]
    assert begin(ours, "experiment", "key", []) == killed
    assert ours.client.get_run(killed["experiment"]).info.status == "RUNNING"


@pytest.mark.usefixtures("prefect")
def test_a_flow_run_that_is_refused_touches_nobody_elses_runs(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the folder of a run that is going on it leaves that run's MLflow run open, and writes into no archive."""
    from flows.experiment import experiment  # noqa: PLC0415 - needs a folder for Prefect's state

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    archive = tmp_path / "archive"
    archive.mkdir()
    begun = tracking.open("experiment", "key").info.run_id
    with pytest.raises(ArchiveError, match="is not a folder"):
        experiment(tmp_path / "nowhere", tracking.out, Settings())
    with pytest.raises(ArchiveError, match="lies inside the archive"):
        experiment(archive, archive / "results", Settings())
    assert tracking.client.get_run(begun).info.status == "RUNNING"
    assert list(archive.iterdir()) == []


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("end", [Crashed(message="The process was killed."), Cancelling(message="Somebody ended it.")])
def test_a_run_that_its_worker_saw_die_leaves_its_outcome_and_no_run_open(
    end: State[Any], tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker calls what is to happen then, for the run's own process is gone."""
    from flows.experiment import experiment  # noqa: PLC0415 - needs a folder for Prefect's state

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(experiment, parameters={"out": str(tracking.out)})
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
    begun = tracking.open("experiment", "key").info.run_id

    async def resolve(_: FlowRun) -> Flow[..., Any]:
        return experiment

    worker = HookRunner(resolve_flow=resolve)
    asyncio.run((worker.run_crashed_hooks if end.is_crashed() else worker.run_cancellation_hooks)(run, end))
    assert tracking.client.get_run(begun).info.status == "FAILED"
    artifact = Artifact.get("outcome-experiment")
    assert artifact
    assert str(artifact.data).startswith(f"**{end.name}**: {run.name}, started by")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"http://me:{SECRET}@host:5000/path", "http://host:5000/path"),
        (f"postgresql+psycopg2://me:{SECRET}@host/runs", "postgresql+psycopg2://host/runs"),
        (f"postgresql://me:{SECRET}@more@host/runs", "postgresql://host/runs"),
        (f"postgresql://host/runs?user=me&password={SECRET}&x=1", "postgresql://host/runs?user=me&password=…&x=1"),
        (f"postgresql://me:a/{SECRET}@host/runs", "postgresql://host/runs"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        (f"API request to http://me:{SECRET}@host/api failed: a@b", "API request to http://host/api failed: a@b"),
        ("sqlite:////a@b/mlflow.db", "sqlite:////a@b/mlflow.db"),
        (f"http://me:it's{SECRET}@host:5000", "http://host:5000"),
        (f'see http://me:it"s{SECRET}@host for a', "see http://host for a"),
        (f"mysql://h/d?ssl_key={SECRET}&AWS_SECRET={SECRET}&x=1", "mysql://h/d?ssl_key=…&AWS_SECRET=…&x=1"),
        (f"s3://bucket?access_key={SECRET}", "s3://bucket?access_key=…"),
        (f"https://h/o?X-Amz-Signature={SECRET}&sig={SECRET}&x=1", "https://h/o?X-Amz-Signature=…&sig=…&x=1"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str) -> None:
    """Wherever it stands in an address, and whatever stands around the address."""
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"postgresql://me:12/34{SECRET}@host:5432/runs?a=b@c", "postgresql://host:5432/runs?a=b@c"),
        (f"postgresql://me:a {SECRET}@host/runs", "postgresql://host/runs"),
        (f"postgresql://me:a@{SECRET}'@host/runs?password={SECRET}", "postgresql://host/runs?password=…"),
        ("https://host:5000/path", "https://host:5000/path"),
        ("sqlite:////a:b@c/mlflow.db", "sqlite:////a:b@c/mlflow.db"),
        ("results/mlflow.db", "results/mlflow.db"),
    ],
)
def test_a_known_address_shows_no_password_of_any_kind(address: str, shown: str, tmp_path: Path) -> None:
    """Blanks, and what looks like a port, are no end of it."""
    assert Tracking(address, tmp_path).shown == shown


def test_the_ways_to_a_run_hold_no_password(tmp_path: Path) -> None:
    """Neither the command that serves a database nor what a debugger prints."""
    tracking = Tracking(f"postgresql://me:{SECRET}@host/runs", tmp_path)
    assert tracking.page("a").endswith("mlflow ui --backend-store-uri postgresql://host/runs")
    assert SECRET not in repr(tracking)


def test_a_driver_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    """It names the package, and no password."""
    with pytest.raises(ConfigError) as refused:
        Tracking(f"postgresql+pg8000://me:{SECRET}@host/runs", tmp_path).open("experiment", "key")
    assert str(refused.value) == (
        "MLflow at postgresql+pg8000://host/runs needs a package that is not installed (pg8000): install it, or name "
        "another address in MLFLOW_TRACKING_URI"
    )


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port whose server knows nothing, and the passwords that it was shown."""
    shown: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as refusing:
        thread = threading.Thread(target=refusing.serve_forever)
        thread.start()
        yield refusing.server_port, shown
        refusing.shutdown()
        thread.join()


def test_the_password_is_used_but_in_no_sentence(tmp_path: Path) -> None:
    """The server gets it; what is said when it refuses names the address without it."""
    with listening() as (port, shown):
        uri = f"http://me:{SECRET}@127.0.0.1:{port}"
        with pytest.raises(TrackingError, match=rf"MLflow at http://127\.0\.0\.1:{port} does not answer") as away:
            Tracking(uri, tmp_path).open("experiment", "key")
        with pytest.raises((TrackingError, EncoderError)) as missing:
            fetch_encoder("models:/near-duplicates@champion", uri, tmp_path)
    assert shown[0] == f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"
    assert SECRET not in f"{away.value}{missing.value}"


@pytest.mark.parametrize("ending", ["/1", "/latest", "@champion"])
def test_another_model_of_the_same_number_is_fetched(ending: str, empty: Path, tmp_path: Path) -> None:
    """A model that was deleted and registered again counts from 1 again; its weights are not the former ones."""
    shutil.copy(empty / "mlflow.db", tmp_path)
    uri, found = f"sqlite:///{tmp_path}/mlflow.db", []
    client = MlflowClient(uri)
    for weights in ("former", "later"):
        source = tmp_path / weights
        source.mkdir()
        (source / PREPARATION).write_text(weights)
        client.create_registered_model("near-duplicates")
        version = client.create_model_version("near-duplicates", source.as_uri())
        client.set_registered_model_alias("near-duplicates", "champion", version.version)
        for _ in range(2):
            folder = fetch_encoder(f"models:/near-duplicates{ending}", uri, tmp_path / "cache")
            found.append((Path(folder) / PREPARATION).read_text())
        client.delete_registered_model("near-duplicates")
    assert found == ["former", "former", "later", "later"]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_latest_version_is_looked_up_each_time(empty: Path, tmp_path: Path) -> None:
    """A model without a version is said to be none."""
    shutil.copy(empty / "mlflow.db", tmp_path)
    uri, found = f"sqlite:///{tmp_path}/mlflow.db", []
    client = MlflowClient(uri)
    client.create_registered_model("near-duplicates")
    with pytest.raises(EncoderError, match="no model models:/near-duplicates/latest"):
        fetch_encoder("models:/near-duplicates/latest", uri, tmp_path / "cache")
    for weights in ("first", "second"):
        (tmp_path / weights).mkdir()
        (tmp_path / weights / PREPARATION).write_text(weights)
        client.create_model_version("near-duplicates", (tmp_path / weights).as_uri())
        folder = fetch_encoder("models:/near-duplicates/latest", uri, tmp_path / "cache")
        found.append((Path(folder) / PREPARATION).read_text())
    assert found == ["first", "second"]
