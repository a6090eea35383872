"""Fine-tune the encoder on a prepared training set."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from neardup.experiment import Approach
from neardup.recipes import Settings
from tasks.approach import checkpoint, encoder_fingerprint
from tasks.publish import tracking_of
from tasks.running import run
from tasks.tracking import resolve_encoder


@flow(name="finetune", flow_run_name="{approach}")
def finetune(
    out: Path,
    approach: Literal["fine-tuned", "fine-tuned-augmented"] = "fine-tuned",
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Make one approach's checkpoint in `out`.

    Runs on demand. Needs a prepared and translated folder. A killed training goes on from its last epoch.
    """
    tracking = tracking_of(out)
    encoder = resolve_encoder(settings.encoder, tracking.uri, out / ".neardup" / "models")
    made = Approach(approach, out, replace(settings, encoder=encoder), encoder_fingerprint(encoder))
    return run(checkpoint, made.checkpoint, made, tracking, None)
