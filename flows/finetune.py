"""Fine-tune the encoder on a prepared training set."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger

from neardup.approach import Approach
from neardup.experiment import checkpoint_step
from neardup.settings.schema import Settings
from neardup.stages import alone
from tasks.approach import load_base, take
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.tracking import tracking_of


@flow(name="finetune", **EVERY_FLOW)
def finetune(
    out: Path,
    approach: Literal["fine-tuned", "fine-tuned-augmented", "adapted"] = "fine-tuned",
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Make one approach's checkpoint in `out`.

    Runs on demand. Needs a prepared folder and, but for `adapted`, a translated one. A killed training goes on from
    its last epoch.

    Args:
        out: folder of the results.
        approach: from captions, with or without augmentation, or from copies of photos alone.
        settings: what neardup.toml would hold.
    """
    settings = settings_of_run(settings, out, settings="")
    with alone(out, get_run_logger().warning):
        return take(checkpoint_step(Approach(approach, out, *load_base(tracking_of(out), settings))))
