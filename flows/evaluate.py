"""Measure and compare the approaches that have been trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.experiment import Approach, comparison_stage, made_approaches
from neardup.recipes import APPROACHES, Settings
from tasks.approach import checkpoint, compare, encode, encoder_fingerprint, evaluate
from tasks.publish import tracking_of
from tasks.running import run
from tasks.tracking import resolve_encoder


@flow(name="evaluate")
def evaluate_all(out: Path, settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008 - frozen
    """Measure zero-shot and every approach that `finetune` has finished in `out`, and compare them.

    Runs on demand, after `finetune`. Needs a prepared folder.
    """
    tracking = tracking_of(out)
    encoder = resolve_encoder(settings.encoder, tracking.uri, out / ".neardup" / "models")
    base = encoder_fingerprint(encoder)
    approaches = [Approach(name, out, replace(settings, encoder=encoder), base) for name in APPROACHES]
    made = made_approaches(approaches, get_run_logger().warning)
    for approach in made:
        run(checkpoint, approach.checkpoint, approach, tracking, None)
        run(encode, approach.vectors, approach)
        run(evaluate, approach.evaluation, approach)
    return run(compare, comparison_stage(made), made, {"encoder": encoder})
