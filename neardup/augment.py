"""Augmentation: a photo's i-th copy is the same on any machine, in any order and in any thread."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from PIL import Image
from torchvision.transforms import v2
from tqdm import tqdm

from neardup.archive import find_images
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import read_image
from neardup.press import press
from neardup.sheets import write_table
from neardup.stages import STATE, Stage, claim, digest_of, replacing
from neardup.trainingset import Caption, TrainingSet

SIDE = 256
STEP = 1
_FLIP = v2.RandomHorizontalFlip(p=0.5)
_ROTATE = v2.RandomRotation(10)
_COLOR = v2.ColorJitter(0.2, 0.2, 0.2, 0.2)
_RESIZE = v2.RandomResizedCrop(SIDE, scale=(0.8, 1.0), antialias=True)
_CLASSIC = v2.Compose([_FLIP, _ROTATE, _COLOR, _RESIZE])
_ONE_AT_A_TIME = threading.Lock()
"""torchvision draws from torch's global generator; the lock keeps other threads' draws out."""


def _seeded(transform: Callable[[Image.Image], Image.Image], image: Image.Image, seed: int) -> Image.Image:
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)


def classic(image: Image.Image, seed: int) -> Image.Image:
    """The prior project's recipe: flip (p .5), rotation ±10°, colour jitter .2, resized crop to 256 (.8 to 1)."""
    return _seeded(_CLASSIC, image, seed)


RECIPES: Mapping[str, Callable[[Image.Image, int], Image.Image]] = MappingProxyType(
    {"classic": classic, "press": press}
)


def copy_seed(photo: str, i: int, seed: int) -> int:
    """Seed of a photo's i-th copy, below 2^63: from its SHA-256, the number and the experiment's seed."""
    return int(digest_of(photo, i, seed)[:15], 16)


def augment(recipe: str, image: Image.Image, photo: str, i: int, seed: int = 0) -> Image.Image:
    """A photo's i-th copy by a recipe of `RECIPES`.

    Args:
        recipe: `classic` or `press`.
        image: RGB.
        photo: the photo's SHA-256.
        i: number of the copy.
        seed: the experiment's seed.
    """
    return RECIPES[recipe](image, copy_seed(photo, i, seed))


def write_augmented(
    out: Path,
    training: TrainingSet,
    captions: Mapping[str, Caption],
    recipe: str,
    copies: int,
    seed: int,
) -> None:
    """Write `train_dataset_aug/aug_<row>_<i>.jpg` and `df_training_aug.xlsx`; rows and copies count from 0.

    Copies that are there already are kept, so that a killed run goes on.
    """
    folder = out / "train_dataset_aug"
    stage = Stage(
        out, "augment", digest_of(STEP, training.digest, recipe, copies, seed, [c.text for c in captions.values()])
    )
    if stage.done():
        return
    mark = digest_of(STEP, training.digest, recipe, copies, seed)
    _claim(folder, out / STATE / "augment-begun", mark)
    rows: list[tuple[str, str, str, str, int]] = []
    for row, photo in enumerate(tqdm(training.photos, f"augmenting ({recipe})", unit="photo", disable=None)):
        names = [f"aug_{row}_{i}.jpg" for i in range(copies)]
        if not all((folder / name).is_file() for name in names):
            image = read_image(out / "training_set" / photo.image_name)
            for i, name in enumerate(names):
                with replacing(folder / name) as partial:
                    augment(recipe, image, photo.sha256, i, seed).save(partial, quality=90)
        caption = captions[photo.legend].text if photo.legend in captions else photo.legend
        rows.extend((name, photo.legend, caption, photo.image_name, i) for i, name in enumerate(names))
    columns = ("image_name", "legend", "caption", "source", "copy")
    write_table(out / "df_training_aug.xlsx", columns, rows)
    stage.finish([folder, out / "df_training_aug.xlsx"], {"copies": len(rows), "recipe": recipe, "seed": seed})


def _claim(folder: Path, sign: Path, mark: str) -> None:
    """Empty the folder unless a run with the same inputs began it."""
    if sign.is_file() and sign.read_text(encoding="utf-8") == mark:
        return
    claim(folder)
    for stale in folder.iterdir():
        stale.unlink()
    with replacing(sign) as partial:
        partial.write_text(mark, encoding="utf-8")


@dataclass(frozen=True)
class Queries:
    """Variants that were written, and (file, reason) of the photos that could not be read."""

    written: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]


VARIANTS: Mapping[str, Callable[[Image.Image], Image.Image]] = MappingProxyType(
    {"_flip": v2.RandomHorizontalFlip(p=1.0), "_rotate": _ROTATE, "_color": _COLOR, "_resize": _RESIZE},
)


def make_queries(folder: Path, out: Path) -> Queries:
    """Write each photo of a folder, and its `_flip`, `_rotate`, `_color` and `_resize` beside it, to `out`.

    Raises:
        ArchiveError: the folder is not there.
    """
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder: name one that holds the new photos")
    written: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    for path in find_images(folder, ("**",), ()):
        try:
            image = read_image(folder / path)
        except UnreadableImageError as error:
            unreadable.append((folder / path, str(error)))
            continue
        photo = digest_of(path)
        copies = {"": image}
        copies |= {end: _seeded(make, image, copy_seed(photo, i, 0)) for i, (end, make) in enumerate(VARIANTS.items())}
        for ending, copy in copies.items():
            target = out / Path(path).parent / f"{Path(path).stem}{ending}.jpg"
            with replacing(target) as partial:
                copy.save(partial, quality=95)
            written.append(target)
    return Queries(tuple(written), tuple(unreadable))
