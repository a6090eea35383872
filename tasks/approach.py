"""Tasks that take the steps of an experiment: make, encode, measure and compare the approaches."""

from dataclasses import replace
from typing import Any

from prefect import get_run_logger, task

from neardup.encode.encoder import load_encoder
from neardup.encode.onnx_file import prepared
from neardup.experiment import Step
from neardup.settings.schema import Settings
from neardup.stages import Stage
from tasks.running import RETRY, run
from tasks.tracking import Tracking


@task(name="fingerprint", **RETRY)
def encoder_fingerprint(name: str) -> str:
    """Compute the fingerprint of the encoder that all approaches start from; fails if it cannot be loaded."""
    return load_encoder(name).fingerprint


def load_base(tracking: Tracking, settings: Settings) -> tuple[Settings, str]:
    """The settings with the name of an encoder that can be loaded from here, and its fingerprint."""
    name = prepared(settings.encoder, settings.onnx, tracking.models, get_run_logger().warning)
    encoder = tracking.encoder(name)
    return replace(settings, encoder=encoder), encoder_fingerprint(encoder)


@task(name="step", task_run_name="{step.title}", **RETRY)
def step_task(stage: Stage, step: Step) -> dict[str, Any]:  # noqa: ARG001 - `run` hands each task its stage
    """Take a step; a killed training goes on from its last epoch."""
    return step.take(get_run_logger().info)


def take(step: Step) -> dict[str, Any]:
    """Take a step as a task; one that is whole on disk is answered from Prefect's cache.

    Returns:
        The step's manifest.
    """
    return run(step_task, step.stage, step)
