"""What people said, on Prefect and MLflow: each export and each recalibration is a run, by command or by night."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from review_results import make_results
from test_recalibration import answer_strictly, doubtful, drawn_in_order, made_run, said

from flows.recalibrate import recalibrate as nightly
from neardup.cli import main
from neardup.decide.decision import Decision
from neardup.review.learned.recalibration import Run as FoundPairs
from neardup.review.record.verdicts import DIFFERENT, SAME, open_verdicts
from tasks.tracking import local_uri

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of MLflow's imports


@pytest.fixture(autouse=True)
def _own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log into the folder's own database, whatever server another test of this process has named to MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def neardup(*arguments: object) -> str:
    """What a command prints."""
    ran = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def runs(out: Path, name: str) -> list[Run]:
    """The runs of a name in the folder's own database."""
    client = MlflowClient(local_uri(out))
    experiment = client.get_experiment_by_name("neardup")
    return list(client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'"))


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Results of which 120 doubtful pairs were answered, 30 of them by two people, and the 40 links of an audit."""
    out = made_run(tmp_path / "results")
    with open_verdicts(out) as kept:
        found, links = FoundPairs.load(out), drawn_in_order(out, drawn=40)
        asked = doubtful(found, 120)
        unlinked = [number for number in asked if number not in links]
        disputed = next(number for number in asked if found.log_odds[number] > 1.2 and number not in links[:40])
        answer_strictly(kept, found, 120)
        kept.add_all(said(number, DIFFERENT, who="Ben") for number in [disputed, *unlinked[-29:]])
        kept.add_all(said(number, SAME, "audit") for number in links[:40])
    return out


def test_a_recalibration_is_a_run(judged: Path) -> None:
    """With counts, audit bound, agreement, log loss, both fingerprints, and the decision as its artifact."""
    facts = json.loads(neardup("verdicts", "recalibrate", "--out", judged, "--json"))
    (run,) = runs(judged, "recalibrate")
    metrics, decision = run.data.metrics, Decision.load(judged / "decision.json")
    assert (metrics["verdicts of review"], metrics["verdicts of audit"], metrics["judged by two"]) == (150, 40, 30)
    assert metrics["audited"] >= 40  # a doubtful pair may be the next link that was drawn, and counts then
    assert metrics["audit bound"] == pytest.approx(0.05 ** (1 / metrics["audited"]))
    assert (metrics["log loss"], -1 <= metrics["kappa"] <= 1) == (pytest.approx(facts["log_loss"]), True)
    assert [run.data.tags[name] for name in ("encoder", "verifier", "decision")] == [
        decision.belongs.encoder, decision.belongs.verifier, decision.fingerprint,
    ]  # fmt: skip
    kept = MlflowClient(local_uri(judged)).download_artifacts(run.info.run_id, "decision.json")
    assert Decision.load(Path(kept)) == decision
    assert "No verdict and no pair is new" in neardup("verdicts", "recalibrate", "--out", judged)
    assert len(runs(judged, "recalibrate")) == 1


def test_an_export_is_a_run(tmp_path: Path) -> None:
    """With what had been said by then, and the same export once."""
    out = make_results(tmp_path)[1]
    for _ in range(2):
        neardup("verdicts", "export", "--out", out, "--to", tmp_path / "pairs.csv", "--who", "Ada")
    (run,) = runs(out, "export verdicts")
    assert (run.data.metrics["pairs exported"], run.data.metrics["verdicts same"]) == (3, 0)


def test_a_server_that_is_away_is_said_and_the_decision_is_there(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next time it is logged, although no verdict is new then."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ran = CliRunner().invoke(main, ["verdicts", "recalibrate", "--out", str(judged)])
    assert (ran.exit_code, "does not answer" in ran.stderr) == (0, True)
    assert (judged / "decision.json").is_file()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    neardup("verdicts", "recalibrate", "--out", judged)
    (run,) = runs(judged, "recalibrate")
    assert "decision" in run.data.tags


@pytest.mark.usefixtures("prefect")
def test_the_night_fits_what_is_new_and_says_when_nothing_is(judged: Path, tmp_path: Path) -> None:
    """The flow does what the command does; where nobody ever judged anything it needs no results."""
    first, second = nightly(judged), nightly(judged)
    assert (first["changed"], second["changed"], second["new"]) == (True, False, False)
    assert Decision.load(judged / "decision.json").fingerprint == first["decision"]
    empty = tmp_path / "empty"
    assert nightly(empty)["summary"] == "Nobody has judged a pair yet."


def test_the_night_has_a_deployment_before_the_watch() -> None:
    """By the entry point of the flow, at its hour."""
    file = Path(__file__).parents[1] / "prefect.yaml"
    deployed = {one["name"]: one for one in yaml.safe_load(file.read_text())["deployments"]}
    assert deployed["recalibrate"]["entrypoint"] == "flows.recalibrate:recalibrate"
    hours = [deployed[name]["schedules"][0]["cron"].split()[:2] for name in ("recalibrate", "watch")]
    assert [int(hour) * 60 + int(minute) for minute, hour in hours] == [45, 60]
