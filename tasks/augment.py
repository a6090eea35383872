"""The task that writes augmented copies to disk."""

from pathlib import Path
from typing import Any

from prefect import task

from neardup import experiment
from neardup.settings.schema import Settings
from tasks.running import RETRY


@task(name="augment", **RETRY)
def augment_training_set(out: Path, settings: Settings) -> dict[str, Any]:
    """Write `train_dataset_aug/` and `df_training_aug.xlsx`; copies that are there already are kept."""
    return experiment.augment_training_set(out, settings)
