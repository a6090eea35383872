"""Measure and compare the approaches that have been trained."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.experiment import approaches_of, comparison_stage, made_approaches, provenance
from neardup.settings.schema import Settings
from neardup.stages import alone
from tasks.approach import checkpoint, compare, encode, evaluate, load_base
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.running import run
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
        tracking = tracking_of(out)
        loaded, base = load_base(tracking, settings)
        made = made_approaches(approaches_of(out, loaded, base), log.warning)
        for approach in made:
            run(checkpoint, approach.checkpoint, approach, tracking, None)
            run(encode, approach.vectors, approach)
            run(evaluate, approach.evaluation, approach)
        return run(compare, comparison_stage(made), made, provenance(settings))
