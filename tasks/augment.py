"""Tasks that write augmented copies to disk."""

from pathlib import Path

from prefect import task

from neardup.archive.captions import load_captions
from neardup.archive.trainingset import TrainingSet
from neardup.settings.schema import Settings
from neardup.train.augment import write_augmented
from tasks.running import RETRY, outside_fault


@task(name="augment", retry_condition_fn=outside_fault, **RETRY)
def augment_training_set(out: Path, settings: Settings) -> None:
    """Write `train_dataset_aug/` and `df_training_aug.xlsx`; copies that are there already are kept."""
    training, captions, recipe = TrainingSet.load(out), load_captions(out), settings.train
    limit = settings.prepare.max_pixels
    write_augmented(out, training, captions, settings.augmentation, recipe.copies, recipe.seed, limit)
