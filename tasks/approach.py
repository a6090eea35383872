"""Tasks that make, encode, measure and compare the approaches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect import get_run_logger, task

from neardup.encode.encoder import load_encoder
from neardup.experiment import Approach, compare_approaches, encode_test_set, evaluate_approach, make_checkpoint
from neardup.settings.schema import Settings
from neardup.stages import Stage
from tasks.running import RETRY, outside_fault
from tasks.tracking import Tracking, live


@task(name="fingerprint", retry_condition_fn=outside_fault, **RETRY)
def encoder_fingerprint(name: str) -> str:
    """The fingerprint of the encoder that all approaches start from; says at once when it cannot be loaded."""
    return load_encoder(name).fingerprint


def load_base(tracking: Tracking, settings: Settings) -> tuple[Settings, str]:
    """The settings with the name of an encoder that can be loaded from here, and its fingerprint."""
    encoder = tracking.encoder(settings.encoder)
    return replace(settings, encoder=encoder), encoder_fingerprint(encoder)


@task(name="checkpoint", task_run_name="{approach.name}: checkpoint", retry_condition_fn=outside_fault, **RETRY)
def checkpoint(stage: Stage, approach: Approach, tracking: Tracking, run_id: str | None) -> dict[str, Any]:
    """Fine-tune by the approach's recipe, or keep the base encoder; a killed training goes on from its last epoch."""
    return stage.read() or make_checkpoint(approach, get_run_logger().info, live(tracking, run_id, approach))


@task(name="encode", task_run_name="{approach.name}: encode", retry_condition_fn=outside_fault, **RETRY)
def encode(stage: Stage, approach: Approach) -> dict[str, Any]:
    """Encode the test set, and the distractors where there are any, with the approach's checkpoint."""
    return stage.read() or encode_test_set(approach)


@task(name="evaluate", task_run_name="{approach.name}: evaluate")
def evaluate(stage: Stage, approach: Approach) -> dict[str, Any]:
    """Measure the approach against the groups."""
    return stage.read() or evaluate_approach(approach)


@task(name="compare")
def compare(stage: Stage, approaches: Sequence[Approach], facts: Mapping[str, str]) -> dict[str, Any]:
    """Set the approaches side by side and write the report."""
    return stage.read() or compare_approaches(approaches, facts)
