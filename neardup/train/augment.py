"""Augmentation: a photo's i-th copy is the same in any run, in any order and in any thread.

It is also the same on any x86-64 machine with AVX2. Without OpenCV's vector code a third of the values of `classic`
were off by one.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from neardup.archive.trainingset import Caption, TrainingSet
from neardup.images import MAX_PIXELS
from neardup.progress import bar
from neardup.stages import STATE, Stage, claim, digest_contents, digest_of, read_json, replacing
from neardup.tables import write_table
from neardup.train.classic import SIDE, Reduced
from neardup.train.press import press, read_reduced

STEP = 4
"""Version of the recipes, raised when the copies of equal photos change."""

RECIPES: Mapping[str, Callable[[Path, int], Callable[[int], Image.Image]]] = MappingProxyType(
    {
        "classic": lambda file, max_pixels: Reduced.read(file, max_pixels).copy,
        "press": lambda file, max_pixels: partial(press, read_reduced(file, max_pixels, SIDE)),
    }
)
"""Name of a recipe → function from a file and a limit of pixels to a function from a seed to a copy."""


def copy_seed(photo: str, i: int, seed: int) -> int:
    """Derive the seed of a photo's i-th copy, below 2^63, from its SHA-256, the number and the experiment's seed."""
    return int(digest_of(photo, i, seed)[:15], 16)


def augment(
    recipe: str, file: Path, photo: str, copies: Iterable[int], seed: int = 0, max_pixels: int = MAX_PIXELS
) -> list[Image.Image]:
    """Make copies of a photo by a recipe of `RECIPES`; the file is decoded once.

    Args:
        recipe: `classic` or `press`.
        file: the photo.
        photo: its SHA-256.
        copies: their numbers.
        seed: the experiment's seed.
        max_pixels: a larger photo is refused.

    Raises:
        UnreadableImageError: the file is no image, broken or too large.
    """
    copy = RECIPES[recipe](file, max_pixels)
    return [copy(copy_seed(photo, i, seed)) for i in copies]


def write_augmented(
    out: Path,
    training: TrainingSet,
    captions: Mapping[str, Caption],
    recipe: str,
    copies: int,
    seed: int,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Write `train_dataset_aug/aug_<row>_<i>.jpg` and `df_training_aug.xlsx`; rows and copies count from 0.

    Existing copies are kept, so that a killed run continues. If the folder is not as a finished run left it, each copy
    is compared with what it must be.

    Args:
        out: the output folder, prepared.
        training: its training set.
        captions: legend → caption; a legend without one is its own caption.
        recipe: `classic` or `press`.
        copies: number of copies of each photo.
        seed: the experiment's seed.
        max_pixels: a larger photo is refused.

    Returns:
        The facts of the manifest: how many copies there are, their recipe and their seed.

    Raises:
        ArchiveError: the folder of the copies holds files that neardup did not write.
        UnreadableImageError: a photo cannot be read.
    """
    folder = out / "train_dataset_aug"
    texts, names = [c.text for c in captions.values()], [photo.image_name for photo in training.photos]
    stage = Stage(out, "augment", digest_of(STEP, training.digest, recipe, copies, seed, texts, names))
    manifest = stage.read()
    if manifest is not None:
        return dict(manifest["facts"])
    mark = digest_of(STEP, training.digest, recipe, copies, seed)
    _claim(folder, out / STATE / "augment-begun", mark)
    recorded = read_json(stage.manifest).get("outputs", {}).get(folder.name)
    damaged = recorded is not None and recorded != digest_contents(folder)
    copies_of = [[folder / f"aug_{row}_{i}.jpg" for i in range(copies)] for row in range(len(training.photos))]
    files = [out / "training_set" / photo.image_name for photo in training.photos]
    write = partial(_write_copies, recipe=recipe, seed=seed, max_pixels=max_pixels, compare=damaged)
    # The default of four threads more than cores pays: of 4 s for 500 copies, only 1.6 s were computing, the rest
    # files.
    with ThreadPoolExecutor() as pool:
        written = pool.map(write, files, [photo.sha256 for photo in training.photos], copies_of)
        for _ in bar(written, f"augmenting ({recipe})", len(files), unit="photo", disable=None):
            pass
    english = {legend: caption.text for legend, caption in captions.items()}
    rows = [
        (path.name, photo.legend, english.get(photo.legend, photo.legend), photo.image_name, i)
        for photo, paths in zip(training.photos, copies_of, strict=True)
        for i, path in enumerate(paths)
    ]
    columns = ("image_name", "legend", "caption", "source", "copy")
    write_table(out / "df_training_aug.xlsx", columns, rows)
    facts = {"copies": len(rows), "recipe": recipe, "seed": seed}
    stage.finish([folder, out / "df_training_aug.xlsx"], facts)
    return facts


def _write_copies(
    file: Path, photo: str, targets: Sequence[Path], *, recipe: str, seed: int, max_pixels: int, compare: bool
) -> None:
    """Write a photo's copies unless they all exist and, if `compare` is set, have the right bytes."""
    if not compare and all(target.is_file() for target in targets):
        return
    copies = augment(recipe, file, photo, range(len(targets)), seed, max_pixels)
    for target, copy in zip(targets, copies, strict=True):
        data = as_jpeg(copy, 90)
        if target.is_file() and target.read_bytes() == data:
            continue
        with replacing(target) as unfinished:
            unfinished.write_bytes(data)


def as_jpeg(image: Image.Image, quality: int) -> bytes:
    """A picture as the bytes of a JPEG file.

    Raises:
        OSError: the picture is wider or higher than a JPEG can be.
    """
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _claim(folder: Path, sign: Path, mark: str) -> None:
    """Empty the folder unless a run with the same inputs began it."""
    if sign.is_file() and sign.read_text(encoding="utf-8") == mark:
        return
    claim(folder, keep=())
    with replacing(sign) as unfinished:
        unfinished.write_text(mark, encoding="utf-8")
