"""Log an experiment to MLflow, from disk: a parent run for the whole, and a child run for each approach."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from neardup.approach import Approach
from neardup.decide.chosen_decision import DECISION
from neardup.decide.decision import Decision
from neardup.experiment import read_history, read_shares
from neardup.measure.comparison import FILES as COMPARISON_FILES
from neardup.measure.queries import FILES as ANSWER_FILES
from neardup.stages import digest_of
from tasks import pyfunc
from tasks.addresses import reachable
from tasks.epochs import log_shares, sync_history
from tasks.tracking import Tracking, metric_name

# An environment made by uv has no pip, which is no fault: the model's requirements are given, each with its version.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def parameters(approach: Approach) -> dict[str, str]:
    """The same parameter names for every approach, so that runs compare side by side; `none` where not trained."""
    recipe = asdict(approach.recipe or approach.settings.train)
    values = {name: value if approach.recipe else "none" for name, value in recipe.items()}
    return {
        "approach": approach.name,
        "encoder": approach.settings.encoder,
        "translator": approach.settings.translate.translator,
        "distractors": str(approach.settings.distractors),
        "transductive": str(approach.settings.transductive),
        **{name: str(value) for name, value in values.items()},
    }


def log_approach(tracking: Tracking, run_id: str, approach: Approach) -> None:
    """Log an evaluated approach from disk: parameters, data set, metrics, tables, pictures and the model.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client = tracking.client
        metrics = json.loads((approach.folder / "metrics.json").read_text(encoding="utf-8"))
        tags = {"fingerprint": metrics["fingerprint"], **decided(approach)}
        params = [Param(name, value) for name, value in parameters(approach).items()]
        client.log_batch(
            run_id,
            metrics=[
                Metric(f"{name}{suffix}", figure[part], 0, 0)
                for name, figure in metrics["metrics"].items()
                for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
                if figure[part] is not None
            ]
            + ([Metric("threshold", metrics["threshold"], 0, 0)] if metrics["threshold"] is not None else [])
            + [Metric(f"verified_{name}", value, 0, 0) for name, value in verified_values(approach).items()],
            params=params,
            tags=[RunTag(f"neardup.{name}", value) for name, value in tags.items()],
        )
        sync_history(client, run_id, read_history(approach))
        log_shares(client, run_id, read_shares(approach))
        for path in sorted(approach.folder.iterdir()):
            if path.is_file() and path.suffix in {".png", ".jpg", ".csv", ".json", ".npy"}:
                client.log_artifact(run_id, str(path), "pictures" if path.suffix in {".png", ".jpg"} else "tables")
        _log_with_fluent(tracking, run_id, approach, metrics)
        tracking.finish(run_id)


def verified_values(approach: Approach) -> dict[str, float]:
    """Metric → value of an approach with its nearest pairs verified; nothing where they were not."""
    manifest = approach.verification.read() if approach.verification else None
    values = {} if manifest is None or "left_out" in manifest["facts"] else manifest["facts"]
    return {name: value for name, value in values.items() if value is not None}


def decided(approach: Approach) -> dict[str, str]:
    """What tells one decision from another, as tags: its own fingerprint and the verifier's; nothing without one."""
    if not verified_values(approach):
        return {}
    decision = Decision.load(approach.folder / DECISION)
    return {"decision": decision.fingerprint, "verifier": decision.belongs.verifier}


def _log_with_fluent(tracking: Tracking, run_id: str, approach: Approach, metrics: Mapping[str, Any]) -> None:
    """What only MLflow's fluent interface logs: data sets, the metric table and the model.

    Logging twice would extend the table and duplicate the model, which a run that was killed in between may already
    have.
    """
    client = tracking.client
    tables = {item.path for item in client.list_artifacts(run_id)}
    mlflow.set_tracking_uri(tracking.uri)
    with mlflow.start_run(run_id=run_id):
        for name, context in (("test_set", "test"), ("training_set", "training")):
            table = pd.read_csv(approach.out / f"{name}.csv", dtype=str, keep_default_na=False)
            digest = digest_of(table.to_dict("list"))[:36]
            mlflow.log_input(from_pandas(table, name=name, digest=digest), context=context)
        if "metrics.json" not in tables:
            figures = pd.DataFrame([{"metric": name, **figure} for name, figure in metrics["metrics"].items()])
            mlflow.log_table(figures, "metrics.json")
        if ready_model(client, run_id) is None:
            pyfunc.log(approach)


def ready_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The run's model, if it was logged to its end."""
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    return next((model for model in models if model.status == LoggedModelStatus.READY), None)


def log_comparison(
    tracking: Tracking, run_id: str, approaches: Sequence[Approach], counts: Mapping[str, float]
) -> None:
    """Log what belongs to the whole experiment: counts, comparison, report, Excel files, discrepancies, new photos.

    Raises:
        TrackingError: the server cannot be reached.
    """
    out = tracking.out
    with reachable(tracking.uri):
        client = tracking.client
        settings = approaches[0].settings
        new_photos = json.loads((out / "comparison_facts.json").read_text(encoding="utf-8")).get("new_photos", {})
        figures = {f"new_photos/{a}/{name}": value for a, of in new_photos.items() for name, value in of.items()}
        client.log_batch(
            run_id,
            metrics=[Metric(metric_name(name), float(value), 0, 0) for name, value in {**counts, **figures}.items()],
            params=[Param("encoder", settings.encoder), Param("approaches", ", ".join(a.name for a in approaches))],
        )
        for name in (*COMPARISON_FILES, "report.html"):
            client.log_artifact(run_id, str(out / name))
        for name in ("new_IS.xlsx", "df_training.xlsx", "discrepancies.xlsx", "discrepancies.html", "test_set.csv"):
            client.log_artifact(run_id, str(out / name), "data")
        for name in new_photos:
            client.log_artifact(run_id, str(out / name / ANSWER_FILES[0]), f"new_photos/{name}")
        tracking.finish(run_id)
