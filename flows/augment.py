"""Write augmented copies of the training photos to disk."""

from pathlib import Path

from prefect import flow

from neardup.recipes import Settings
from tasks.augment import augment_training_set


@flow(name="augment")
def augment(out: Path, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
    """Write `train_dataset_aug/` in `out`.

    Runs on demand, for people who want the copies as files; training makes its own as it goes. Needs a prepared folder.
    """
    augment_training_set(out, settings)
