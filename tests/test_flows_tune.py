"""A study of recipes: killed, gone on with, enlarged, and what MLflow holds of it."""

import json
import re
import shutil
from pathlib import Path

import pytest
from commands import neardup, start
from experiments import EPOCHS, STEPS, TRAINING, runs_of, wait_for
from mlflow import MlflowClient

from neardup.settings.schema import APPROACHES
from tasks.tracking import local_uri

pytestmark = pytest.mark.slow


def tune(out: Path, encoder: str, trials: int, *more: object) -> list[object]:
    """What a user types behind `neardup` for so many trials."""
    options = ("--encoder", encoder, *TRAINING, "--trials", trials, "--trial-epochs", EPOCHS)
    return ["tune", "--out", out, *options, *more]


@pytest.fixture(scope="module")
def tuned(untouched: Path, small_encoder: str, team: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was killed in its first trial, and started again."""
    folder = tmp_path_factory.mktemp("tuned")
    out = folder / "results"
    shutil.copytree(untouched, out)
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
