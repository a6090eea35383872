"""The whole experiment, with real servers: what it leaves, run again, and refused in a sentence."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request

import mlflow
import numpy as np
import pandas as pd
import pytest
from commands import Process, neardup, prefect
from deepl_server import KEY, deepl_server
from experiments import EPOCHS, STEPS, Experiment, runs_of
from mlflow import MlflowClient
from prefect.blocks.system import Secret
from servers import answered, environment, free_port

from neardup.approach import Approach
from neardup.archive.captions import load_captions
from neardup.archive.testset import TestSet
from neardup.builtin.demo import MadeArchive
from neardup.encode.encoder import load_encoder
from neardup.measure.comparison import FILES
from neardup.measure.metrics import NAMES
from neardup.settings.file import load_settings
from neardup.settings.schema import APPROACHES, Settings
from neardup.train.step_version import TRAIN_STEP
from tasks.models import fetch_encoder
from tasks.runs import log_approach
from tasks.tracking import Tracking, local_uri

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PROMISED = (
    *("new_IS.xlsx", "test_dataset", "df_training.xlsx", "training_set", "discrepancies.xlsx", "discrepancies.html"),
    *FILES,
    "report.html",
    *(f"{approach}/{name}" for approach in APPROACHES for name in ("vectors.parquet", "checkpoint", "queries.csv")),
    "fine-tuned/losses.png",
    "mlflow.db",
)


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
    home = str(whole / ".neardup" / "prefect")  # where the first run, which had a server of its own, kept its state
    ran = experiment.run(whole, PREFECT_API_URL=prefect_url, PREFECT_HOME=home)
    assert (ran.returncode, "temporary server" in ran.stderr) == (0, False), ran.stderr
    assert ran.stderr.count("Finished in state Cached") == 4 * len(APPROACHES) + 1
    assert ran.stderr.count("unchanged, nothing to do") == 4 * len(APPROACHES) + 3
    assert "Error" not in ran.stderr
    assert ((whole / "comparison.json").read_bytes(), (whole / "report.html").stat().st_mtime_ns) == before
    (run,) = (run for run in api(prefect_url, "flow_runs", sort="START_TIME_DESC") if str(whole) in str(run))
    assert run["state_type"] == "COMPLETED"
    shown = api(prefect_url, "artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    artifacts = {str(item["key"]): str(item["data"]) for item in shown}
    assert "| nDCG" in artifacts["comparison"]
    assert "mlflow" in artifacts["mlflow-run"]


def test_a_training_that_computes_otherwise_is_done_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version trained is not taken for what this one trains; zero-shot is."""
    before = [Approach(name, whole, Settings(), "encoder").checkpoint.key for name in APPROACHES]
    monkeypatch.setattr("neardup.approach.TRAIN_STEP", TRAIN_STEP + 1)
    after = [Approach(name, whole, Settings(), "encoder").checkpoint.key for name in APPROACHES]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]


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
    expected = encoder.encode([encoder.read(photo)] * 2)
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


def api(url: str, path: str, **wanted: object) -> list[dict[str, object]]:
    """Ask Prefect's server for something, in an order or by a filter of its API."""
    body, kind = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
    asked = Request(f"{url}/{path}/filter", data=body, headers=kind)  # noqa: S310 - this machine
    return list(answered(asked))


def test_a_prefect_server_that_is_away_is_one_line(experiment: Experiment, tmp_path: Path) -> None:
    """It says which, and how to run without one."""
    address = f"http://127.0.0.1:{free_port()}/api"
    ran = experiment.run(tmp_path / "out", PREFECT_API_URL=address)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert f"the Prefect server at {address} does not answer: start it, or unset PREFECT_API_URL" in ran.stderr


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b"true"])
def test_another_server_in_prefects_place_is_one_line(answer: bytes, experiment: Experiment, tmp_path: Path) -> None:
    """It says where to look."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}/api"
        ran = experiment.run(tmp_path / "out", PREFECT_API_URL=address)
        other.shutdown()
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert f"what answers at {address} is no Prefect server" in ran.stderr


def test_every_deployment_can_be_deployed(prefect_url: str, tmp_path: Path) -> None:
    """`prefect deploy --all` takes prefect.yaml as it is."""
    asked = environment(PREFECT_API_URL=prefect_url, PREFECT_HOME=str(tmp_path))
    for command in ("work-pool create neardup --type process", "--no-prompt deploy --all"):
        ran = Process(prefect, *command.split(), cwd=ROOT, env=asked).ended()
        assert ran.returncode == 0, ran.stderr
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
    servers["PREFECT_API_URL"] = f"http://127.0.0.1:{free_port()}/api"
    away = neardup("translate", "--out", tmp_path, cwd=tmp_path, **servers)
    assert (away.returncode, len(away.stderr.splitlines())) == (1, 1), away.stderr
    assert "which may hold the key for DeepL, cannot be asked" in away.stderr


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
    ran = neardup("experiment", made.root, "--out", tmp_path / "out", "--encoder", "somebody/clip", cwd=tmp_path)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1)
    assert re.search(r"somebody/clip is not on this machine.*--encoder builtin:tiny", ran.stderr)
