"""MLflow: a parent run an experiment, a child run an approach, logged from what lies on disk.

Results are written to the output folder first. Logging reads them there, knows by a ledger what a tracking server has
already, and may be repeated: a server that was away gets the run when it is back.
"""

import json
import logging
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

import neardup
from neardup.errors import EncoderError, TrackingError
from neardup.experiment import Approach, read_history
from neardup.measure.comparison import FILES as COMPARISON_FILES
from neardup.stages import STATE, digest_of, replacing, write_json
from neardup.train.finetune import EpochResult
from tasks import pyfunc

# An environment made by uv has no pip, which is no fault: the model's requirements are given, each with its version.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

EXPERIMENT = "neardup"
MODEL_URIS = ("models:/", "runs:/", "mlflow-artifacts:/")


def local_uri(out: Path) -> str:
    """The sqlite file that holds the runs where no tracking server is configured; made where it is not there yet."""
    path = (out / "mlflow.db").resolve()
    if not path.is_file():
        with replacing(path) as partial:  # a run killed while MLflow makes its tables leaves no half of them
            MlflowClient(f"sqlite:///{partial}").search_experiments()
    return f"sqlite:///{path}"


@dataclass(frozen=True)
class Tracking:
    """A place for the runs of one output folder.

    Attributes:
        uri: an MLflow server's address or a sqlite file.
        out: the output folder; its ledger remembers which runs belong to it.
    """

    uri: str
    out: Path

    @property
    def client(self) -> MlflowClient:
        """A client of that place; runs are named by id, never taken from the thread."""
        return MlflowClient(tracking_uri=self.uri)

    def encoder(self, name: str) -> str:
        """What `load_encoder` takes: a model of this place as a local folder, any other name as it is.

        Raises:
            EncoderError: the model does not exist or is none of ours.
            TrackingError: the server cannot be reached.
        """
        return resolve_encoder(name, self.uri, self.out / STATE / "models")

    @property
    def _ledger(self) -> Path:
        return self.out / STATE / "tracking.json"

    def ledger(self) -> dict[str, Any]:
        """What this place has been given already: run name → run id and the keys of what was logged."""
        if not self._ledger.is_file():
            return {}
        return dict(json.loads(self._ledger.read_text(encoding="utf-8")).get(self.uri, {}))

    def remember(self, name: str, entry: Mapping[str, Any]) -> None:
        """Write an entry of the ledger."""
        whole = json.loads(self._ledger.read_text(encoding="utf-8")) if self._ledger.is_file() else {}
        whole.setdefault(self.uri, {})[name] = dict(entry)
        write_json(self._ledger, whole)

    def run_id(self, name: str, key: str, parent: str | None = None) -> str:
        """The run of that name and key: the one that was begun before, or a new one.

        Raises:
            TrackingError: the server cannot be reached.
        """
        with reachable(self.uri):
            entry = self.ledger().get(name, {})
            if entry.get("key") == key and self._alive(entry["run_id"]):
                return str(entry["run_id"])
            tags = {
                "mlflow.source.name": "neardup",
                "neardup.key": key,
                **({"mlflow.parentRunId": parent} if parent else {}),
            }
            run = self.client.create_run(self._experiment_id(), run_name=name, tags={**tags, **code_version()})
            self.remember(name, {"key": key, "run_id": run.info.run_id})
            return str(run.info.run_id)

    def _alive(self, run_id: str) -> bool:
        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        folder = (self.out / "mlartifacts").resolve().as_uri() if self.uri.startswith("sqlite") else None
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=folder))

    def log_folder(self, name: str, key: str, metrics: Mapping[str, float], folder: Path) -> str:
        """Log figures and the files of a folder as a finished run.

        Returns:
            The run's id.

        Raises:
            TrackingError: the server cannot be reached.
        """
        with reachable(self.uri):
            run_id = self.run_id(name, key)
            self.client.log_batch(run_id, [Metric(_allowed(title), value, 0, 0) for title, value in metrics.items()])
            self.client.log_artifacts(run_id, str(folder))
            self.client.set_terminated(run_id)
            return run_id

    def page(self, run_id: str) -> str:
        """Where a person looks at the run: an address, or the command that serves it."""
        if self.uri.startswith("http"):
            experiment_id = self.client.get_run(run_id).info.experiment_id
            return f"{self.uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
        return f"{Path(sys.executable).parent / 'mlflow'} ui --backend-store-uri {self.uri}"


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn what MLflow raises when its server is away into one sentence.

    Raises:
        TrackingError: the server at `uri` cannot be reached, or refuses.
    """
    try:
        yield
    except (MlflowException, OSError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrackingError(
            f"MLflow at {uri} does not answer, or refuses ({message}): results are on disk, "
            "run the same command again when it is back",
        ) from error


def code_version() -> dict[str, str]:
    """The tags that say which code made a run."""
    folder = Path(neardup.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    tags = {"neardup.version": neardup.__version__, "python.version": platform.python_version()}
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def parameters(approach: Approach) -> dict[str, str]:
    """The same parameter names for every approach, so that runs compare side by side; `none` where not trained."""
    recipe = asdict(approach.recipe or approach.settings.train)
    values = {name: value if approach.recipe else "none" for name, value in recipe.items()}
    return {
        "approach": approach.name,
        "encoder": approach.settings.encoder,
        "translator": approach.settings.translate.translator,
        **{name: str(value) for name, value in values.items()},
    }


def sync_history(client: MlflowClient, run_id: str, history: Sequence[Mapping[str, float]]) -> None:
    """Log the epochs that the run does not have yet, each metric with its epoch as the step."""
    logged = {metric.step for metric in client.get_metric_history(run_id, "validation_loss")}
    metrics = [
        Metric(name, float(value), 0, int(row["epoch"]))
        for row in history
        if int(row["epoch"]) not in logged
        for name, value in row.items()
        if name != "epoch"
    ]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def live(tracking: Tracking, run_id: str | None, approach: Approach) -> Callable[[EpochResult], None]:
    """A callback that logs each epoch as it ends, and falls silent for good once the server is away."""
    away = run_id is None

    def on_epoch(_epoch: EpochResult) -> None:
        nonlocal away
        if away or run_id is None:
            return
        try:
            with reachable(tracking.uri):
                sync_history(tracking.client, run_id, read_history(approach))
        except TrackingError:
            away = True  # logged from disk when the approach is done

    return on_epoch


def log_approach(tracking: Tracking, run_id: str, approach: Approach) -> None:
    """Log an evaluated approach from disk: parameters, data set, metrics, tables, pictures and the model.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client = tracking.client
        metrics = json.loads((approach.folder / "metrics.json").read_text(encoding="utf-8"))
        params = [Param(name, value) for name, value in parameters(approach).items()]
        client.log_batch(
            run_id,
            metrics=[
                Metric(f"{name}{suffix}", figure[part], 0, 0)
                for name, figure in metrics["metrics"].items()
                for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
                if figure[part] is not None
            ]
            + ([Metric("threshold", metrics["threshold"], 0, 0)] if metrics["threshold"] is not None else []),
            params=params,
            tags=[RunTag("neardup.fingerprint", metrics["fingerprint"])],
        )
        sync_history(client, run_id, read_history(approach))
        for path in sorted(approach.folder.iterdir()):
            if path.is_file() and path.suffix in {".png", ".csv", ".json", ".npy"}:
                client.log_artifact(run_id, str(path), "pictures" if path.suffix == ".png" else "tables")
        _log_with_fluent(tracking, run_id, approach, metrics)
        client.set_terminated(run_id)


def _log_with_fluent(tracking: Tracking, run_id: str, approach: Approach, metrics: Mapping[str, Any]) -> None:
    """What only MLflow's fluent interface logs: data sets, the metric table and the model.

    The table would grow by each logging, and the model come twice: a run that was killed in between has them already.
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
    """Log what belongs to the whole experiment: counts, comparison, report, Excel files and discrepancies.

    Raises:
        TrackingError: the server cannot be reached.
    """
    out = tracking.out
    with reachable(tracking.uri):
        client = tracking.client
        settings = approaches[0].settings
        client.log_batch(
            run_id,
            metrics=[Metric(_allowed(name), float(value), 0, 0) for name, value in counts.items()],
            params=[Param("encoder", settings.encoder), Param("approaches", ", ".join(a.name for a in approaches))],
        )
        for name in (*COMPARISON_FILES, "report.html"):
            client.log_artifact(run_id, str(out / name))
        for name in ("new_IS.xlsx", "df_training.xlsx", "discrepancies.xlsx", "discrepancies.html", "test_set.csv"):
            client.log_artifact(run_id, str(out / name), "data")
        client.set_terminated(run_id)


def _allowed(name: str) -> str:
    """A metric's name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "", name)


def resolve_encoder(name: str, uri: str, cache: Path) -> str:
    """Turn an MLflow model URI into a local folder; any other name is returned as it is.

    An alias is looked up each time; the weights of a version are fetched once.

    Raises:
        EncoderError: the model does not exist or is none of ours.
        TrackingError: the server cannot be reached.
    """
    if not name.startswith(MODEL_URIS):
        return name
    mlflow.set_tracking_uri(uri)
    with reachable(uri):
        try:
            source = _source(MlflowClient(uri), name)
            folder = cache / digest_of(uri, source)[:16]
            if not folder.is_dir():
                _fetch(source, folder)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
                raise
            raise EncoderError(
                f"no model {name} at {uri} ({error.message}): see the models in the MLflow UI"
            ) from error
    checkpoint = next(iter(sorted(folder.rglob("model.safetensors"))), None)
    if checkpoint is None:
        raise EncoderError(f"the MLflow model {name} holds no CLIP checkpoint: name a model that neardup logged")
    return str(checkpoint.parent)


def _source(client: MlflowClient, name: str) -> str:
    """What an alias, or a version, of a registered model stands for now; any other URI as it is."""
    model, at, alias = name.removeprefix("models:/").partition("@")
    if not name.startswith("models:/") or not at:
        return name
    return f"models:/{model}/{client.get_model_version_by_alias(model, alias).version}"


def _fetch(source: str, folder: Path) -> None:
    """Download a model, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as partial:
        model = Path(partial) / "model"
        model.mkdir()
        mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(model))
        model.rename(folder)
