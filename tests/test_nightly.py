"""The project's own deployments on real servers: fired by a schedule, one after another, killed, started again."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import EPOCHS, without
from mlflow import MlflowClient
from test_services import ROOT, Project, make_project, wait_until

from neardup.builtin.demo import MadeArchive
from neardup.settings.schema import APPROACHES

pytestmark = pytest.mark.slow
SETTINGS = {
    "translate": {"translator": "none"},
    "train": {"epochs": EPOCHS, "batch_size": 8},
    "tune": {"trials": 2, "epochs": 1},
}
LONG = 2000
"""Epochs of a training that does not end before the server has noted the first sign of life of its run."""
MONTHLY = 'schedules: [{cron: "0 3 1 * *"'


@pytest.fixture(scope="module")
def settings(small_encoder: str) -> dict[str, Any]:
    """What all deployments are to work with."""
    return {"encoder": small_encoder, **SETTINGS}


@pytest.fixture(scope="module")
def project(
    made: MadeArchive, settings: dict[str, Any], untouched: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """All deployments on servers of their own; the experiment is due each minute, and short; nothing else is due.

    Its folder has all but one approach, the comparison and the runs.
    """
    found = make_project(tmp_path_factory.mktemp("nightly"))
    without(untouched, found.folder / "results", "fine-tuned")
    deployments = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert MONTHLY in deployments
    kept = [line for line in deployments.splitlines() if "schedules:" not in line or MONTHLY in line]
    often = "\n".join(kept).replace(MONTHLY, 'schedules: [{cron: "* * * * *"')
    (found.folder / "prefect.yaml").write_text(often.replace("encoder: builtin:tiny", _inline(settings)))
    try:
        found.up("--archive", str(made.root), "--out", str(found.folder / "results"))
        yield found
    finally:
        found.neardup("down")


def _inline(settings: dict[str, Any]) -> str:
    """Settings as the lines below `settings:` have them."""
    return "\n    ".join(f"{name}: {value}".replace("'", "") for name, value in settings.items())


def runs(project: Project, deployment: str) -> list[dict[str, Any]]:
    """The runs of a deployment that began, the newest first; one that was cancelled for another never did."""
    found = project.ask(
        "/flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_DESC"}
    )
    return [run for run in found if run["start_time"] and run["state_type"] != "CANCELLED"]


def order(project: Project, deployment: str, **parameters: Any) -> str:
    """Order a run as the form in the UI does."""
    known = project.ask(f"/deployments/name/{deployment}/{deployment}")["id"]
    return str(project.ask(f"/deployments/{known}/create_flow_run", {"parameters": parameters})["id"])


def log_of(project: Project, run: str) -> str:
    """Everything that a run said."""
    lines = project.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
    return "\n".join(line["message"] for line in lines)


def completed(project: Project, run: str) -> None:
    """Wait until a run has ended, well."""
    wait_until(lambda: project.state(run) in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, 600)
    assert project.state(run) == "COMPLETED", log_of(project, run)


def mlflow_runs(project: Project) -> list[Any]:
    """The runs that MLflow's server holds."""
    client = MlflowClient(f"http://127.0.0.1:{project.mlflow}")
    return list(client.search_runs([client.get_experiment_by_name("neardup").experiment_id]))


def artifacts(project: Project) -> dict[str, str]:
    """The newest artifact of each key."""
    return {item["key"]: str(item["data"]) for item in project.ask("/artifacts/latest/filter", {})}


def test_a_schedule_fires_and_the_experiment_completes(project: Project) -> None:
    """Nobody asks for it; its runs are in MLflow, and its models in the registry."""
    wait_until(lambda: runs(project, "experiment"))
    run = runs(project, "experiment")[-1]
    deployment = project.ask("/deployments/name/experiment/experiment")["id"]
    project.ask(f"/deployments/{deployment}/pause_deployment", {})
    completed(project, run["id"])
    assert run["created_by"]["type"] == "SCHEDULE"
    found = mlflow_runs(project)
    assert {r.info.run_name for r in found} >= {"experiment", *APPROACHES}
    client = MlflowClient(f"http://127.0.0.1:{project.mlflow}")
    assert client.get_model_version_by_alias("near-duplicates", "champion").tags["approach"] == "zero-shot"
    assert "| nDCG" in artifacts(project)["comparison"]
    assert "Completed" in artifacts(project)["outcome-experiment"]


def test_every_deployment_has_what_a_person_needs(project: Project) -> None:
    """A description, a limit of one with a strategy, tags, and a form whose fields say what they mean."""
    known = project.ask("/deployments/filter", {})
    assert known
    for item in known:
        assert item["description"]
        assert "neardup" in item["tags"]
        assert item["global_concurrency_limit"]["limit"] == 1
        assert item["concurrency_options"]["collision_strategy"] in {"CANCEL_NEW", "ENQUEUE"}
        fields = item["parameter_openapi_schema"]["properties"]
        assert [name for name, field in fields.items() if not field.get("description")] == [], item["name"]


def test_promotion_follows_tuning(project: Project) -> None:
    """By itself, once; the verdict is an artifact, and a model that is no better is refused."""
    completed(project, order(project, "tune"))
    wait_until(lambda: runs(project, "promote"))
    completed(project, runs(project, "promote")[0]["id"])
    assert len(runs(project, "promote")) == 1
    assert "dead letter" not in (project.folder / "services" / "logs" / "prefect.log").read_text()
    assert "Challenger: version" in artifacts(project)["promotion"]
    assert "tuned" in {run.info.run_name for run in mlflow_runs(project)}


def test_the_watch_of_another_layout_finds_what_is_new(project: Project, made: MadeArchive) -> None:
    """With the champion, from the registry's server; photos are where the archive's own neardup.toml says."""
    archive, out = project.folder / "another", project.folder / "watched"
    (archive / "scans").mkdir(parents=True)
    for photo in max(made.groups, key=len):
        shutil.copy(made.root / photo, archive / "scans")
    (archive / "neardup.toml").write_text('[prepare]\nphotos = ["scans/**"]\n')
    run = order(project, "watch", archive=str(archive), out=str(out))
    completed(project, run)
    assert f"[prepare] of {archive}/neardup.toml" in log_of(project, run)
    assert "New near-duplicates, run 0001" in artifacts(project)["watch"]
    assert (out / "watch" / "0001" / "gallery.html").is_file()


def test_killed_in_training_with_its_worker_it_goes_on(project: Project, settings: dict[str, Any]) -> None:
    """`kill -9` of both: the run is marked Crashed; started again, it trains from its last epoch.

    That such a training ends with the same weights is shown of the experiment; this one would take minutes.
    """
    longer = {**settings, "train": {"epochs": LONG, "patience": LONG, "batch_size": 8}}
    out = project.folder / "other"  # an experiment that is late still works in `results`
    shutil.copytree(project.folder / "results", out)
    wanted = {"out": str(out), "approach": "fine-tuned", "settings": longer}
    dead = order(project, "finetune", **wanted)
    state = out / ".neardup" / "training" / "fine-tuned" / "state.json"
    wait_until(state.is_file)
    wait_until(lambda: project.lives(dead), 60)
    for process in project.processes("worker").values():
        process.kill()
    assert project.state(dead) == "RUNNING"
    wait_until(lambda: project.state(dead) == "CRASHED")

    project.up()
    again = order(project, "finetune", **wanted)
    wait_until(lambda: "going on after epoch" in log_of(project, again), 180)
