"""The store of MLflow runs: runs are found by their tags, opened or continued, and ended.

Results are written to the output folder first and logged from there. The tags of a run say what it was made from, in
which folder, and whether it has everything, so that logging may be repeated: a server that was unreachable gets the run
later. MLflow takes two seconds to import, which is deferred until a run is needed.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from prefect.runtime import flow_run

import neardup
from neardup.settings.schema import MODEL_URIS
from neardup.stages import STATE, digest_of, models_of, replacing
from neardup.words import typed
from tasks.addresses import address_without_credentials, reachable
from tasks.empty_databases import begin_database, keep_database
from tasks.moved import follow_artifacts

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "neardup"
"""Name of the MLflow experiment that holds every run."""
KEY = "neardup.key"
"""Tag: digest of everything that the run's result depends on."""
FOLDER = "neardup.folder"
"""Tag: the output folder that the run belongs to; missing where the runs lie in that folder themselves."""
FLOW_RUN = "neardup.flow_run"
"""Tag: id of the Prefect flow run that works, or worked last, on the run; `none` outside of a flow."""
LOGGED = "neardup.logged"
"""Tag: the run has everything that is to be logged; set last."""


def tracking_of(out: Path) -> "Tracking":
    """The configured MLflow server, or a sqlite file in the output folder."""
    return Tracking(os.environ.get("MLFLOW_TRACKING_URI") or local_uri(out), out)


def database_of(out: Path) -> Path:
    """The database of an output folder's own runs, where no tracking server is configured."""
    return (out / "mlflow.db").resolve()


def is_tracked(out: Path) -> bool:
    """Whether runs of an output folder may exist: there is an MLflow server, or the folder's own database."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or database_of(out).is_file()


def local_uri(out: Path) -> str:
    """The sqlite file that holds the runs where no tracking server is configured; made where it is not there yet.

    Where the folder was moved, its runs get the addresses that their files have now.
    """
    path = database_of(out)
    if not path.is_file():
        (out / STATE).mkdir(parents=True, exist_ok=True)
        # Threads and processes that come at once make it one after the other, and only the first does.
        with FileLock(out / STATE / "mlflow.lock"):
            if not path.is_file():
                _make_tables(path)
    follow_artifacts(path, EXPERIMENT, _artifacts_of(out))
    return f"sqlite:///{path}"


def _artifacts_of(out: Path) -> Path:
    """The folder of the files of an output folder's own runs."""
    return (out / "mlartifacts").resolve()


def _make_tables(path: Path) -> None:
    """Copy MLflow's tables, or let it make them; a run that is killed meanwhile leaves no half of them."""
    begin_database(path, "mlflow")
    if path.is_file():
        return
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds

    with replacing(path) as partial:
        MlflowClient(f"sqlite:///{partial}").search_experiments()
    keep_database(path, "mlflow")


@dataclass(frozen=True)
class Tracking:
    """A place for the runs of one output folder.

    Attributes:
        uri: an MLflow server's address or that of a database; it may hold a password, so that `shown` is what is shown.
        out: the output folder.
    """

    uri: str = field(repr=False)
    out: Path

    @property
    def shown(self) -> str:
        """The address without user and password, for logs, errors and artifacts."""
        return address_without_credentials(self.uri)

    @property
    def client(self) -> "MlflowClient":
        """A client of that place; runs are named by id, never taken from the thread."""
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds

        return MlflowClient(tracking_uri=self.uri)

    @property
    def models(self) -> Path:
        """Folder of the encoders that were fetched or prepared for this output folder."""
        return models_of(self.out)

    def encoder(self, name: str) -> str:
        """What `load_encoder` takes: a model of this place as a local folder, any other name as it is.

        Raises:
            EncoderError: the model does not exist or is none of ours.
            TrackingError: the server cannot be reached.
        """
        if not name.startswith(MODEL_URIS):
            return name
        from tasks.models import fetch_encoder  # noqa: PLC0415 - MLflow takes seconds

        return fetch_encoder(name, self.uri, self.models)

    @property
    def _folder_tag(self) -> dict[str, str]:
        """The tag that keeps runs of other folders apart; a folder that holds its own runs may be moved with them."""
        if self.uri == f"sqlite:///{database_of(self.out)}":
            return {}
        return {FOLDER: digest_of(platform.node(), str(self.out.resolve()))[:16]}

    def find(self, name: str, key: str) -> "Run | None":
        """The newest run of that name and key that belongs to the output folder, or None."""
        tags = {KEY: key, **self._folder_tag}
        found = self.client.search_runs(
            [self._experiment_id()],
            " and ".join([f"attributes.run_name = '{name}'", *(f"tags.`{tag}` = '{tags[tag]}'" for tag in tags)]),
            max_results=1,
        )
        return found[0] if found else None

    def open(self, name: str, key: str, parent: str | None = None) -> "Run":
        """The run of that name and key: one that was begun before, or a new one.

        One that lacks something is marked as running, and as worked on by this flow run.

        Raises:
            TrackingError: the server cannot be reached.
        """
        with reachable(self.uri):
            client, worker = self.client, flow_run.get_id() or "none"
            run = self.find(name, key)
            if run is None:
                tags = {
                    "mlflow.source.name": "neardup",
                    KEY: key,
                    FLOW_RUN: worker,
                    **self._folder_tag,
                    **({"mlflow.parentRunId": parent} if parent else {}),
                    **code_version(),
                }
                return client.create_run(self._experiment_id(), run_name=name, tags=tags)
            if not is_logged(run) and (run.data.tags.get(FLOW_RUN), run.info.status) != (worker, "RUNNING"):
                client.set_tag(run.info.run_id, FLOW_RUN, worker)
                client.update_run(run.info.run_id, status="RUNNING")
            return run

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run that has everything; it is not logged again."""
        self.client.set_terminated(run_id, status)
        self.client.set_tag(run_id, LOGGED, "yes")

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds

        known = self.client.get_experiment_by_name(EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        folder = _artifacts_of(self.out).as_uri() if self.uri.startswith("sqlite") else None
        try:
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=folder))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment_id()  # another run made it at the same moment

    def log_folder(self, name: str, key: str, metrics: Mapping[str, float], folder: Path) -> str:
        """Log figures and the files of a folder as a finished run.

        Returns:
            The run's id.

        Raises:
            TrackingError: the server cannot be reached.
        """
        from mlflow.entities import Metric  # noqa: PLC0415 - takes seconds

        with reachable(self.uri):
            run = self.open(name, key)
            run_id = str(run.info.run_id)
            if not is_logged(run):
                self.client.log_batch(
                    run_id, [Metric(metric_name(title), value, 0, 0) for title, value in metrics.items()]
                )
                self.client.log_artifacts(run_id, str(folder))
                self.finish(run_id)
            return run_id

    def fail_abandoned(self) -> None:
        """Mark the folder's runs that another flow run has left open as failed; `open` goes on with those of its key.

        Only within `neardup.stages.alone`, where no other flow run works in the folder.

        Raises:
            TrackingError: the server cannot be reached.
        """
        with reachable(self.uri):
            client, worker = self.client, flow_run.get_id() or "none"
            tags = (f"tags.`{tag}` = '{value}'" for tag, value in self._folder_tag.items())
            left_open = " and ".join(["attributes.status = 'RUNNING'", f"tags.`{FLOW_RUN}` != '{worker}'", *tags])
            for run in client.search_runs([self._experiment_id()], left_open):
                client.set_terminated(run.info.run_id, "FAILED")

    def fail_runs(self, worker: str) -> None:
        """Mark the runs that one flow run has left open as failed; the next flow run goes on with them.

        Args:
            worker: id of the Prefect flow run; runs that others work on are left alone.

        Raises:
            TrackingError: the server cannot be reached.
        """
        with reachable(self.uri):
            client = self.client
            left_open = f"tags.`{FLOW_RUN}` = '{worker}' and attributes.status = 'RUNNING'"
            for run in client.search_runs([self._experiment_id()], left_open):
                client.set_terminated(run.info.run_id, "FAILED")

    def page(self, run_id: str) -> str:
        """Where a person looks at the run: an address, or the command that serves it."""
        if self.uri.startswith("http"):
            experiment_id = self.client.get_run(run_id).info.experiment_id
            return f"{self.shown.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
        return f"{typed(Path(sys.executable).parent / 'mlflow')} ui --backend-store-uri {typed(self.shown)}"


def is_logged(run: "Run") -> bool:
    """Whether a run has everything that is to be logged."""
    return LOGGED in run.data.tags


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


def metric_name(title: str) -> str:
    """A metric's title with only the characters that MLflow allows in a name."""
    return re.sub(r"[^\w\-. :/]", "", title)
