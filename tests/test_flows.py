"""The whole experiment, with real servers: run, run again, killed, with a server that goes away."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import pytest
from commands import Process, neardup, start
from deepl_server import KEY, deepl_server
from mlflow import MlflowClient
from prefect.blocks.system import Secret
from servers import BIN, environment, free_port, mlflow_server

from neardup.approach import Approach
from neardup.archive.captions import load_captions
from neardup.archive.testset import TestSet
from neardup.builtin.demo import MadeArchive
from neardup.encode.encoder import load_encoder
from neardup.images import read_image
from neardup.measure.comparison import FILES
from neardup.measure.metrics import NAMES
from neardup.settings.file import load_settings
from neardup.settings.schema import APPROACHES, Settings
from neardup.train.step_version import TRAIN_STEP
from tasks.models import fetch_encoder
from tasks.runs import log_approach
from tasks.tracking import Tracking, local_uri

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[1]
EPOCHS = 4
"""Epochs of a training: so many that it can be killed between two of them."""
STEPS = list(range(1, EPOCHS + 1))
"""The steps at which MLflow holds the losses of a training."""
TRAINING = ("--epochs", EPOCHS, "--batch-size", 8)
PROMISED = (
    *("new_IS.xlsx", "test_dataset", "df_training.xlsx", "training_set", "discrepancies.xlsx", "discrepancies.html"),
    *FILES,
    "report.html",
    *(f"{approach}/{name}" for approach in APPROACHES for name in ("vectors.parquet", "checkpoint", "queries.csv")),
    "fine-tuned/losses.png",
    "mlflow.db",
)


@dataclass(frozen=True)
class Experiment:
    """The experiment that a user runs on an archive with an encoder."""

    archive: Path
    encoder: str

    def arguments(self, out: Path, *more: object) -> list[object]:
        """What stands behind `neardup`."""
        options = ("--encoder", self.encoder, *TRAINING, "--translator", "none")
        return ["experiment", self.archive, "--out", out, *options, *more]

    def start(self, out: Path, *more: object, **servers: str) -> Process:
        """Start it beside its folder."""
        return start(*self.arguments(out, *more), cwd=out.parent, **servers)

    def run(self, out: Path, *more: object, **servers: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.start(out, *more, **servers).ended()

    def popen(self, out: Path, log: Path) -> "subprocess.Popen[bytes]":
        """Start it as a shell does, without any server of a team; what it says goes to a log."""
        line = [str(BIN / "neardup"), *map(str, self.arguments(out))]
        with log.open("wb") as file:
            return subprocess.Popen(line, env=environment(), cwd=out.parent, stdout=file, stderr=file)


@pytest.fixture(scope="module")
def experiment(made: MadeArchive, small_encoder: str) -> Experiment:
    """That on the made archive."""
    return Experiment(made.root, small_encoder)


def weights(out: Path) -> dict[str, bytes]:
    """The weights of every approach."""
    return {name: (out / name / "checkpoint" / "model.safetensors").read_bytes() for name in APPROACHES}


@pytest.fixture(scope="module")
def whole(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an experiment that nobody disturbed, with a Prefect server of its own."""
    folder = tmp_path_factory.mktemp("whole")
    out, log = folder / "results", folder / "log"
    assert experiment.popen(out, log).wait() == 0, log.read_text()
    assert "| nDCG" in log.read_text()
    return out


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the team's MLflow server."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def mlflow_url(mlflow_home: Path) -> Iterator[str]:
    """An MLflow server, as one that a team shares."""
    with mlflow_server(mlflow_home, free_port()) as url:
        yield url


def runs_of(out: Path, uri: str) -> list[mlflow.entities.Run]:
    """The runs of an output folder that an MLflow server or file holds."""
    tags = {f"tags.`{name}` = '{value}'" for name, value in Tracking(uri, out)._folder_tag.items()}
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name("neardup").experiment_id], " and ".join(tags)))


def test_everything_promised_is_there(whole: Path) -> None:
    """Under its fixed name."""
    assert [name for name in PROMISED if not (whole / name).exists()] == []


def test_nothing_half_written_is_left(whole: Path) -> None:
    """No part of a file, no state of a training."""
    assert [path.name for path in whole.rglob("*") if ".part" in path.name or path.name == "state.json"] == []


def test_a_second_run_does_no_work_and_says_so(whole: Path, experiment: Experiment, prefect_url: str) -> None:
    """Every stage is answered from Prefect's cache, and the numbers are the same to the last digit.

    The configured server is used: it holds the flow run, the comparison and the way to the MLflow run.
    """
    before = (whole / "comparison.json").read_bytes(), (whole / "report.html").stat().st_mtime_ns
    known = [run["id"] for run in api(prefect_url, "flow_runs")]
    home = str(whole / ".neardup" / "prefect")  # where the first run, which had a server of its own, kept its state
    ran = experiment.run(whole, PREFECT_API_URL=prefect_url, PREFECT_HOME=home)
    assert (ran.returncode, "temporary server" in ran.stderr) == (0, False), ran.stderr
    assert ran.stderr.count("Finished in state Cached") == 4 * len(APPROACHES) + 1
    assert ran.stderr.count("unchanged, nothing to do") == 4 * len(APPROACHES) + 3
    assert "Error" not in ran.stderr
    assert ((whole / "comparison.json").read_bytes(), (whole / "report.html").stat().st_mtime_ns) == before
    (run,) = (run for run in api(prefect_url, "flow_runs") if run["id"] not in known)
    assert run["state_type"] == "COMPLETED"
    shown = [item for item in api(prefect_url, "artifacts") if item["flow_run_id"] == run["id"]]
    artifacts = {str(item["key"]): str(item["data"]) for item in shown}
    assert "| nDCG" in artifacts["comparison"]
    assert "mlflow" in artifacts["mlflow-run"]


def test_a_training_that_computes_otherwise_is_done_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version trained is not taken for what this one trains; zero-shot is."""
    before = [Approach(name, whole, Settings(), "encoder").checkpoint.key for name in APPROACHES]
    monkeypatch.setattr("neardup.approach.TRAIN_STEP", TRAIN_STEP + 1)
    after = [Approach(name, whole, Settings(), "encoder").checkpoint.key for name in APPROACHES]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]


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


def wait_for(sign: Path, running: "Process | subprocess.Popen[bytes]") -> None:
    """Wait until a running process has written a file; the name may be a glob."""
    while not list(sign.parents[-1].glob(str(sign.relative_to("/")))):
        assert running.poll() is None, f"it ended before {sign.name} was there"
        time.sleep(0.002)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_killed_at_any_stage_it_goes_on(
    whole: Path, experiment: Experiment, team: dict[str, str], tmp_path: Path
) -> None:
    """Killed while it prepares, trains, evaluates and compares: the same numbers and weights in the end.

    The first has a Prefect server of its own, which must not outlive it.
    """
    out = tmp_path / "results"
    first = experiment.popen(out, tmp_path / "log")
    wait_for(out / ".neardup/scan.parquet", first)
    first.kill()
    first.wait()
    for sign in ("training/fine-tuned/state.json", "fine-tuned.vectors.json", "comparison.json"):
        running = experiment.start(out, **team)
        wait_for(out / ".neardup" / sign, running)
        running.kill()
    ran = experiment.run(out, **team)
    assert ran.returncode == 0, ran.stderr
    assert json.loads((out / "comparison.json").read_text()) == json.loads((whole / "comparison.json").read_text())
    assert weights(out) == weights(whole)
    deadline = time.monotonic() + 60
    while processes_of(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(out) == []


def test_two_experiments_at_once(
    whole: Path, experiment: Experiment, team: dict[str, str], mlflow_url: str, tmp_path: Path
) -> None:
    """Into two folders they run side by side, into one folder the second waits; all end with the same numbers."""
    outs = [tmp_path / "one", tmp_path / "two", tmp_path / "one"]
    running = [experiment.start(out, MLFLOW_TRACKING_URI=mlflow_url, **team) for out in outs]
    ended = [process.ended() for process in running]
    assert [ran.returncode for ran in ended] == [0, 0, 0], [ran.stderr for ran in ended]
    assert sum("another run works in" in ran.stderr for ran in ended) == 1
    expected = json.loads((whole / "comparison.json").read_text())
    assert [json.loads((out / "comparison.json").read_text()) for out in outs[:2]] == [expected] * 2
    for out in outs[:2]:
        assert sorted(run.info.run_name for run in runs_of(out, mlflow_url)) == sorted(["experiment", *APPROACHES])


def tune(out: Path, encoder: str, trials: int, *more: object) -> list[object]:
    """What a user types behind `neardup` for so many trials."""
    options = ("--encoder", encoder, *TRAINING, "--trials", trials, "--trial-epochs", EPOCHS)
    return ["tune", "--out", out, *options, *more]


@pytest.fixture(scope="module")
def tuned(whole: Path, small_encoder: str, team: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was killed in its first trial, and started again."""
    folder = tmp_path_factory.mktemp("tuned")
    out = folder / "results"
    shutil.copytree(whole, out)
    command = tune(out, small_encoder, 3)
    running = start(*command, cwd=folder, **team)
    wait_for(out / ".neardup/tune/*/*/state/state.json", running)
    running.kill()
    ran = neardup(*command, cwd=folder, **team)
    assert ran.returncode == 0, ran.stderr
    assert "going on after epoch" in ran.stderr
    return out


def test_a_killed_study_goes_on(tuned: Path) -> None:
    """The trial that died is failed and tried again; the study has all the trials that it was asked for."""
    trials = json.loads((tuned / "tuning" / "tuning.json").read_text())["trials"]
    assert trials[0]["state"] == "fail"
    assert len([trial for trial in trials if trial["state"] in {"complete", "pruned"}]) == 3
    assert (trials[1]["lr"], trials[1]["weight_decay"]) == (trials[0]["lr"], trials[0]["weight_decay"])


def test_the_best_recipe_is_the_last_column(tuned: Path) -> None:
    """And what it brought over the default recipe has a paired interval."""
    compared = json.loads((tuned / "comparison.json").read_text())
    assert [name for name in compared["ndcg"] if "verified" not in name] == [*APPROACHES, "tuned"]
    gain = json.loads((tuned / "tuning" / "comparison_facts.json").read_text())["differences"]["ndcg"]["tuned"]
    assert gain["low"] <= gain["value"] <= gain["high"]


def test_each_trial_is_a_run_below_its_study(tuned: Path) -> None:
    """With its parameters, its losses an epoch and how it ended; the study has the pictures and the table."""
    client = MlflowClient(local_uri(tuned))
    found = runs_of(tuned, local_uri(tuned))
    study = next(run for run in found if run.info.run_name == "tune")
    trials = [run for run in found if run.info.run_name.startswith("trial-")]
    below = {run.info.run_name for run in found if run.data.tags.get("mlflow.parentRunId") == study.info.run_id}
    assert below >= {"trial-0", "trial-1", "trial-2", "trial-3", "tuned"}
    assert {run.info.status for run in trials} <= {"FINISHED", "KILLED", "FAILED"}
    assert all({"lr", "weight_decay"} <= set(run.data.params) for run in trials)
    finished = next(run for run in trials if run.info.status == "FINISHED")
    for name in ("epoch_ndcg", "validation_loss"):
        assert [metric.step for metric in client.get_metric_history(finished.info.run_id, name)] == STEPS
    assert study.data.metrics["trials"] == 3
    assert {"pictures", "trials.xlsx", "tuning.json"} <= {i.path for i in client.list_artifacts(study.info.run_id)}


def test_a_study_gets_more_trials_two_at_once(
    tuned: Path, small_encoder: str, team: dict[str, str], tmp_path: Path
) -> None:
    """Those that it has are kept; the two new ones overlap in time."""
    out = tmp_path / "results"
    shutil.copytree(tuned, out)
    ran = neardup(*tune(out, small_encoder, 5, "--parallel", 2), cwd=tmp_path, **team)
    assert ran.returncode == 0, ran.stderr
    before = json.loads((tuned / "tuning" / "tuning.json").read_text())["trials"]
    after = json.loads((out / "tuning" / "tuning.json").read_text())["trials"]
    assert (after[: len(before)], len(after)) == (before, len(before) + 2)
    began, ended = (
        [found.start() for found in re.finditer(rf"- trial [45]{words}", ran.stderr)]
        for words in (r": \{", "(: validation nDCG| was pruned)")
    )
    assert (len(began), len(ended), max(began) < min(ended)) == (2, 2, True), ran.stderr


@pytest.fixture(scope="module")
def runs(whole: Path) -> dict[str, mlflow.entities.Run]:
    """Run name → the run that MLflow holds."""
    return {run.info.run_name: run for run in runs_of(whole, local_uri(whole))}


def test_a_parent_run_and_a_child_an_approach(runs: dict[str, mlflow.entities.Run]) -> None:
    """Four runs, all finished, three of them below the first."""
    parent = runs["experiment"].info.run_id
    assert set(runs) == {"experiment", *APPROACHES}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in APPROACHES} == {parent}


def test_the_runs_compare_side_by_side(runs: dict[str, mlflow.entities.Run]) -> None:
    """The same parameter names and the same metric names in each."""
    assert len({frozenset(runs[name].data.params) for name in APPROACHES}) == 1
    assert all(set(NAMES) - {"false_alarms"} <= set(runs[name].data.metrics) for name in APPROACHES)
    assert {run.data.params["augmentation"] for name, run in runs.items() if name in APPROACHES} == {"none", "classic"}


def test_metrics_a_step(whole: Path, runs: dict[str, mlflow.entities.Run]) -> None:
    """Each epoch's losses, once."""
    history = MlflowClient(local_uri(whole)).get_metric_history(runs["fine-tuned"].info.run_id, "validation_loss")
    assert [metric.step for metric in history] == STEPS


def test_a_run_says_what_it_was_made_from(runs: dict[str, mlflow.entities.Run]) -> None:
    """Data sets with digests, and the version of the code."""
    run = runs["fine-tuned"]
    assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"test_set", "training_set"}
    assert all(data.dataset.digest for data in run.inputs.dataset_inputs)
    assert run.data.tags["neardup.version"]


def test_tables_pictures_and_report_are_artifacts(whole: Path, runs: dict[str, mlflow.entities.Run]) -> None:
    """Where the MLflow UI shows them."""
    client = MlflowClient(local_uri(whole))
    pictures = {item.path for item in client.list_artifacts(runs["fine-tuned"].info.run_id, "pictures")}
    assert {"pictures/losses.png", "pictures/similarity_histogram.png", "pictures/gallery_worst.png"} <= pictures
    whole_run = {item.path for item in client.list_artifacts(runs["experiment"].info.run_id)}
    assert {"report.html", "comparison.xlsx", "data"} <= whole_run


@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_a_run_that_is_logged_again_has_everything_once(
    whole: Path, small_encoder: str, runs: dict[str, mlflow.entities.Run]
) -> None:
    """A kill between logging and noting so leads here: one model, one table of one row a metric."""
    given = {"encoder": small_encoder, "train.epochs": EPOCHS, "train.batch_size": 8, "translate.translator": "none"}
    approach = Approach("fine-tuned", whole, load_settings(None, given), load_encoder(small_encoder).fingerprint)
    run = runs["fine-tuned"].info
    log_approach(Tracking(local_uri(whole), whole), run.run_id, approach)
    client = MlflowClient(local_uri(whole))
    models = client.search_logged_models([run.experiment_id], filter_string=f"source_run_id = '{run.run_id}'")
    table = json.loads(mlflow.artifacts.load_text(f"{run.artifact_uri}/metrics.json"))
    assert (len(models), len(table["data"])) == (1, len(NAMES))


@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_the_model_gives_vectors(whole: Path, runs: dict[str, mlflow.entities.Run]) -> None:
    """From base64 or bytes, the very vectors of the checkpoint; the threshold lies beside the weights."""
    mlflow.set_tracking_uri(local_uri(whole))
    photo = whole / "test_dataset" / TestSet.load(whole).photos[0].name
    model = mlflow.pyfunc.load_model(f"runs:/{runs['fine-tuned'].info.run_id}/model")
    images = [base64.b64encode(photo.read_bytes()).decode(), photo.read_bytes()]
    vectors = model.predict(pd.DataFrame({"image": images}))
    encoder = load_encoder(str(whole / "fine-tuned" / "checkpoint"))
    expected = encoder.encode([read_image(photo)] * 2)
    facts = json.loads((whole / "fine-tuned" / "metrics.json").read_text())
    assert np.array_equal(vectors, expected)
    assert model.unwrap_python_model().threshold == facts["threshold"]
    assert model.metadata.signature.inputs.input_names() == ["image"]
    assert [path.name for path in (whole / "mlartifacts").rglob("*") if path.suffix in {".pkl", ".bin"}] == []


def test_a_model_uri_is_an_encoder(whole: Path, runs: dict[str, mlflow.entities.Run], tmp_path: Path) -> None:
    """Any command takes `runs:/…/model` for --encoder."""
    uri = f"runs:/{runs['fine-tuned'].info.run_id}/model"
    folder = fetch_encoder(uri, local_uri(whole), tmp_path)
    assert load_encoder(folder).fingerprint == load_encoder(str(whole / "fine-tuned" / "checkpoint")).fingerprint


def test_a_server_that_goes_away_loses_nothing(experiment: Experiment, team: dict[str, str], tmp_path: Path) -> None:
    """Gone while the run trains: the run ends well and says so; when it is back the same command logs it, once."""
    port, out = free_port(), tmp_path / "results"
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
    whole: Path, experiment: Experiment, team: dict[str, str], mlflow_home: Path, mlflow_url: str, tmp_path: Path
) -> None:
    """The server is reached with it; no line, table, artifact, tag or log holds it, nor Prefect's own files."""
    out, password = tmp_path / "results", "s3cret-word"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    address = mlflow_url.replace("://", f"://me:{password}@")
    ran = experiment.run(out, "--json", MLFLOW_TRACKING_URI=address, **team)
    found = runs_of(out, mlflow_url)
    assert (ran.returncode, len(found)) == (0, 1 + len(APPROACHES)), ran.stderr
    json.loads(ran.stdout)
    kept = [tmp_path, mlflow_home, Path(team["PREFECT_HOME"])]
    written = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if password.encode() in path.read_bytes()] == []
    assert password not in ran.stdout + ran.stderr


def api(url: str, path: str) -> list[dict[str, object]]:
    """Ask Prefect's server for all of something."""
    asked = Request(f"{url}/{path}/filter", data=b"{}", headers={"Content-Type": "application/json"})  # noqa: S310
    with urlopen(asked) as answer:  # noqa: S310 - this machine
        return list(json.load(answer))


def test_a_prefect_server_that_is_away_is_one_line(experiment: Experiment, tmp_path: Path) -> None:
    """It says which, and how to run without one."""
    address = f"http://127.0.0.1:{free_port()}/api"
    ran = experiment.run(tmp_path / "out", PREFECT_API_URL=address)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert f"the Prefect server at {address} does not answer: start it, or unset PREFECT_API_URL" in ran.stderr


def test_every_deployment_can_be_deployed(prefect_url: str, tmp_path: Path) -> None:
    """`prefect deploy --all` takes prefect.yaml as it is."""
    asked = environment(PREFECT_API_URL=prefect_url, PREFECT_HOME=str(tmp_path))
    prefect = str(BIN / "prefect")
    subprocess.run([prefect, "work-pool", "create", "neardup", "--type", "process"], env=asked, check=True)
    subprocess.run([prefect, "--no-prompt", "deploy", "--all"], env=asked, cwd=ROOT, check=True)
    known = {str(item["entrypoint"]) for item in api(prefect_url, "deployments")}
    entrypoints = {name for name in known if name.startswith("flows.")}
    assert len(entrypoints) == len(list((ROOT / "flows").glob("[a-z]*.py")))


def save_key() -> None:
    """Put DeepL's key into a block, as a person does in the UI."""
    Secret(value=KEY).save("deepl-auth-key", overwrite=True)


def test_a_secret_block_holds_the_key(prepared: Path, prefect_url: str, tmp_path: Path) -> None:
    """The key comes from Prefect, the captions from DeepL, and the key reaches no file and no log."""
    for name in ("training_set.csv", "test_set.csv"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())
    servers = {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path / "home")}
    assert Process(save_key, cwd=tmp_path, env=environment(**servers)).ended().returncode == 0
    with deepl_server() as deepl:
        (tmp_path / "neardup.toml").write_text(f'[translate]\nserver_url = "{deepl.url}"\n')
        ran = neardup("translate", "--out", tmp_path, cwd=tmp_path, **servers)
    assert ran.returncode == 0, ran.stderr
    assert "deepl" in {caption.translator for caption in load_captions(tmp_path).values()}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written + ran.stdout.encode() + ran.stderr.encode()


def test_a_wrong_key_is_one_clear_sentence(experiment: Experiment, team: dict[str, str], tmp_path: Path) -> None:
    """In the flow too, and without a traceback."""
    with deepl_server() as deepl:
        (tmp_path / "neardup.toml").write_text(f'[translate]\nserver_url = "{deepl.url}"\n')
        ran = experiment.run(tmp_path / "out", "--translator", "deepl", DEEPL_AUTH_KEY="wrong", **team)
    last = ran.stderr.strip().splitlines()[-1]
    assert (ran.returncode, last) == (
        1,
        "neardup: DeepL refuses the key: check DEEPL_AUTH_KEY (a free key ends in :fx)",
    )
    assert "Traceback" not in ran.stderr


def test_an_encoder_that_is_not_there_is_one_line(made: MadeArchive, tmp_path: Path) -> None:
    """It is said before any server is started."""
    ran = subprocess.run(
        [str(BIN / "neardup"), "experiment", str(made.root), "--out", str(tmp_path / "out")],
        env=environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1)
    assert re.search(r"openai/clip-vit-base-patch32 is not on this machine.*--encoder builtin:tiny", ran.stderr)
