"""Tasks that read, before a search, what a server may hold: the encoder that searches, and the verdicts."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from neardup.decide.constraints import PairVerdicts
from neardup.settings.schema import OnnxSettings
from tasks.decisions import chosen_encoder, judged_pairs
from tasks.running import RETRY


@task(name="choose encoder", cache_policy=NO_CACHE, **RETRY)
def choose_encoder(out: Path, name: str | None, onnx: OnnxSettings) -> tuple[str, str]:
    """The name of the encoder that was named, else of the champion, else of the shipped one; and what loads it."""
    return chosen_encoder(out, name, get_run_logger().info, onnx)


@task(name="read verdicts", cache_policy=NO_CACHE, **RETRY)
def read_verdicts(out: Path) -> PairVerdicts:
    """What people said of pairs so far, in the output folder or in a team's database."""
    return judged_pairs(out)
