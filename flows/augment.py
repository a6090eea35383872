"""Write augmented copies of the training photos to disk."""

from pathlib import Path

from prefect import flow, get_run_logger

from neardup.settings.schema import Settings
from neardup.stages import alone
from tasks.augment import augment_training_set
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW


@flow(name="augment", **EVERY_FLOW)
def augment(out: Path, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
    """Write `train_dataset_aug/` in `out`.

    Runs on demand, for people who want the copies as files; training makes its own as it goes. Needs a prepared folder.

    Args:
        out: folder of the results.
        settings: what neardup.toml would hold.
    """
    settings = settings_of_run(settings, out, settings="")
    with alone(out, get_run_logger().warning):
        augment_training_set(out, settings)
