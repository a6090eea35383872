"""Measure and compare the approaches that have been trained."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.approach import approaches_of, trained_approaches
from neardup.experiment import provenance, steps_of
from neardup.settings.schema import Settings
from neardup.stages import alone
from tasks.approach import load_base, take
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.tracking import tracking_of


@flow(name="evaluate", **EVERY_FLOW)
def evaluate_all(out: Path, settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008 - frozen
    """Measure zero-shot and every approach that `finetune` has finished in `out`, and compare them.

    Runs on demand, after `finetune`. Needs a prepared folder.

    Args:
        out: folder of the results.
        settings: what neardup.toml would hold.
    """
    log = get_run_logger()
    settings = settings_of_run(settings, out, settings="")
    with alone(out, log.warning):
        loaded, base = load_base(tracking_of(out), settings)
        trained = trained_approaches(approaches_of(out, loaded, base), log.warning)
        manifests = [take(step) for step in steps_of(trained, provenance(settings))]
        return manifests[-1]
