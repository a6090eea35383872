"""Tune: Optuna searches learning rate, weight decay and more; the best recipe becomes a fifth approach."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.approach import approaches_of
from neardup.errors import TrackingError
from neardup.experiment import provenance, steps_of
from neardup.settings.schema import Settings
from neardup.stages import alone
from neardup.tuning import Tuning, finish_tuning, gain_of_tuning, tell
from tasks.approach import load_base, take
from tasks.deployed import settings_of_run
from tasks.epochs import log_epochs
from tasks.every_flow import EVERY_FLOW
from tasks.publish import begin
from tasks.running import run
from tasks.tracking import tracking_of
from tasks.tuning import publish_study, show_study, show_trial, start_of_study, try_trial


@flow(name="tune", **EVERY_FLOW)
def tune(
    out: Path,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Search the recipe whose model finds near-duplicates best, and compare it with the other approaches.

    Runs weekly or on demand. Needs a prepared and translated folder. A killed study goes on where it was.

    Args:
        out: folder of the results, which an experiment has prepared.
        settings: what neardup.toml would hold.
    """
    log = get_run_logger()
    settings = settings_of_run(settings, out, settings="")
    with alone(out, log.warning):
        tracking = tracking_of(out)
        loaded, base = load_base(tracking, settings)
        tuning = Tuning(out, loaded, base)
        start = run(start_of_study, tuning.start, tuning)["facts"]
        log.info("%s", tuning.expected(start["expected_seconds"]))
        parent = begin(tracking, "tune", tuning.key, []).get("tune")
        study = tuning.open()
        while left := tuning.left(study):
            trials = [tuning.ask(study) for _ in range(min(left, settings.tune.parallel))]
            tried = [try_trial.submit(tuning, trial, trial.number, tracking, parent) for trial in trials]
            for trial, value in zip(trials, tried, strict=True):
                show_trial(tracking, tuning, tell(tuning, study, trial, value.result()), parent)
        best = finish_tuning(tuning, study)

        approaches = [
            approach
            for approach in approaches_of(out, loaded, base)
            if approach.name not in {"fine-tuned-augmented", "adapted"} or approach.checkpoint.done()
        ]
        runs = begin(tracking, "tune", tuning.key, approaches)
        for step in steps_of(approaches, provenance(settings), lambda a: log_epochs(tracking, runs.get(a.name), a)):
            take(step)
        gain = gain_of_tuning(tuning)
        show_study(tuning, best, gain)
        try:
            page = tracking.page(publish_study(tracking, tuning, study, approaches, gain))
        except TrackingError as away:
            log.warning("%s", away)
            page = None
    return {"out": str(out), "mlflow": page, "best": best.params, "validation_ndcg": best.value}
