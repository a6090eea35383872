"""What people said of pairs, on Prefect and MLflow: decisions fitted again, and each export and fit as a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from neardup.decide.chosen_decision import DECISION
from neardup.errors import TrackingError
from neardup.review.learned.recalibration import FOLDER, Recalibration, recalibrate
from neardup.review.record.draws import audit_of
from neardup.review.record.figures import verdict_figures
from neardup.review.record.links import Links
from neardup.review.record.verdicts import Verdicts
from neardup.stages import digest_file, digest_of
from tasks.addresses import reachable
from tasks.decisions import kept_verdicts
from tasks.running import RETRY
from tasks.tracking import Tracking, is_logged, metric_name


@task(name="recalibrate", cache_policy=NO_CACHE, **RETRY)
def fit_again(out: Path) -> Recalibration | None:
    """Fit the decision of an output folder again with its own or a team's verdicts; None if there never were any."""
    kept = kept_verdicts(out)
    if kept is None:
        return None
    with kept:
        return recalibrate(out, kept) if kept.last() else None


def log_recalibration(tracking: Tracking, found: Recalibration, say: Callable[[str], object]) -> None:
    """Log what a recalibration found as a run, with the decision; one that was logged before is not logged again.

    Args:
        tracking: where the runs are.
        found: the recalibration of the output folder, even without new verdicts, as the server may have been
            unreachable before.
        say: called with a sentence if the server is unreachable; the results are on disk.
    """
    folder = tracking.out / FOLDER
    facts = folder / "recalibration.json"
    if not facts.is_file() or (found.missing and found.decision is None):
        return
    tags = {"encoder": found.belongs.encoder, "verifier": found.belongs.verifier, "decision_before": found.base}
    if found.decision:
        tags["decision"] = found.decision.fingerprint
    run = _Run("recalibrate", digest_file(facts), found.metrics(), sorted(folder.iterdir()), tags)
    _log(tracking, run, say)


def log_export(tracking: Tracking, verdicts: Verdicts, written: Path, pairs: int, say: Callable[[str], object]) -> None:
    """Log an export of pairs as a run, with what people had said by then.

    Args:
        tracking: where the runs are.
        verdicts: that were exported.
        written: the file.
        pairs: how many are in it.
        say: called with a sentence if the server is unreachable; the file exists.
    """
    history, links = verdicts.history(), Links.of(verdicts.current())
    figures = verdict_figures(history, links, audit_of(tracking.out, links)) | {"pairs exported": float(pairs)}
    key = digest_of("export", written.name, digest_file(written), verdicts.last())
    decision = tracking.out / "duplicates" / DECISION
    _log(tracking, _Run("export verdicts", key, figures, [decision] if decision.is_file() else []), say)


@dataclass(frozen=True)
class _Run:
    """What a run of MLflow is to hold."""

    name: str
    key: str
    """What the run was made of: a second run of this key is not logged."""
    figures: Mapping[str, float]
    """Title of a metric → its value."""
    files: Sequence[Path]
    tags: Mapping[str, str] = field(default_factory=dict)


def _log(tracking: Tracking, logged: _Run, say: Callable[[str], object]) -> None:
    """Log a finished run, once per key; `say` is called with a sentence if the server is unreachable."""
    from mlflow.entities import Metric, RunTag  # noqa: PLC0415 - takes seconds

    try:
        with reachable(tracking.uri):
            run = tracking.open(logged.name, logged.key)
            if is_logged(run):
                return
            metrics = [Metric(metric_name(title), value, 0, 0) for title, value in logged.figures.items()]
            tracking.client.log_batch(run.info.run_id, metrics, tags=[RunTag(*tag) for tag in logged.tags.items()])
            for file in logged.files:
                tracking.client.log_artifact(run.info.run_id, str(file))
            tracking.finish(run.info.run_id)
    except TrackingError as away:
        say(str(away))
