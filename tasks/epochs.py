"""The epochs of a training in MLflow, logged as they end."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from neardup.approach import Approach
from neardup.errors import TrackingError
from neardup.experiment import read_history
from neardup.train.epochs import EpochResult
from tasks.addresses import reachable
from tasks.tracking import Tracking

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BATCH = 1000
"""Most metrics in one request to MLflow."""


def sync_history(client: "MlflowClient", run_id: str, history: Sequence[Mapping[str, float]]) -> None:
    """Log the epochs that the run does not have yet, each metric with its epoch as the step."""
    from mlflow.entities import Metric  # noqa: PLC0415 - takes seconds

    logged = {metric.step for metric in client.get_metric_history(run_id, "validation_loss")}
    metrics = [
        Metric(name, float(value), 0, int(row["epoch"]))
        for row in history
        if int(row["epoch"]) not in logged
        for name, value in row.items()
        if name != "epoch"
    ]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def log_shares(client: "MlflowClient", run_id: str, shares: Sequence[Mapping[str, float]]) -> None:
    """Log how interpolated weights did, each share in percent as the step, unless the run has that already."""
    from mlflow.entities import Metric  # noqa: PLC0415 - takes seconds

    if shares and not client.get_metric_history(run_id, "share_validation_ndcg"):
        names = ("validation_ndcg", "validation_micro_ap")
        metrics = [Metric(f"share_{name}", row[name], 0, round(100 * row["share"])) for row in shares for name in names]
        client.log_batch(run_id, metrics=metrics)


def log_epochs(tracking: Tracking, run_id: str | None, approach: Approach) -> Callable[[EpochResult], None]:
    """Make a callback that logs each epoch as it ends, and stops for good once the server is unreachable."""
    away = run_id is None

    def on_epoch(_epoch: EpochResult) -> None:
        nonlocal away
        if away or run_id is None:
            return
        try:
            with reachable(tracking.uri):
                sync_history(tracking.client, run_id, read_history(approach))
        except TrackingError:
            away = True  # what is missing is logged from disk when the approach is done

    return on_epoch
