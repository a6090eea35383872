"""The training data of the shipped encoder: free photographs, and drawn scenes with captions, all in grey."""

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from neardup.builtin.scenes import LANGUAGES, Scene
from neardup.errors import ArchiveError
from neardup.train.press_torch import text

SIDE = 224
"""Pixels of a side of every picture of a pool."""
HELD_OUT = 15
"""Percentage of the groups of exposures that are never trained on, so that the encoder can be judged on them."""
TEXTS = 128
"""Pages of text in a pool, to paste beside and over pictures."""
NEAR_DUPLICATES = Path(__file__).with_name("near_duplicates.csv")
"""Table of photographs that show one picture although the lists separate them, such as a hundred mirrored leopards.

It was found by `neardup duplicates` in both folders: equal files, and links with a probability of 0.999 and a
correlation of tones of 0.98.
"""
Pixels = npt.NDArray[np.uint8]
"""Grey pictures of one size, uint8, 0 black to 255 white."""


@dataclass(frozen=True)
class Pool:
    """Photographs that the shipped encoder is trained on or judged by, grey and small, in memory.

    Attributes:
        pixels: uint8 (n, 224, 224); the sides of a photograph are squeezed to equal length.
        subjects: n numbers from 0, ascending; pictures of one subject are exposures of one plate.
        texts: uint8 (m, 224, 224), pages of text to paste.
        originals: one number a subject; subjects of one number show one picture, as nobody had said: they are no
            negatives of each other.
    """

    pixels: Pixels
    subjects: tuple[int, ...]
    texts: Pixels
    originals: tuple[int, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels, subjects and originals."""
        digest = hashlib.sha256(self.pixels.tobytes())
        digest.update(repr((self.subjects, self.originals)).encode())
        digest.update(self.texts.tobytes())
        return digest.hexdigest()

    @cached_property
    def members(self) -> list[list[int]]:
        """The rows of the pool that show each subject."""
        rows: list[list[int]] = [[] for _ in range(self.subjects[-1] + 1)]
        for row, subject in enumerate(self.subjects):
            rows[subject].append(row)
        return rows


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes: uint8 (n, 224, 224), and the captions of each, one a language."""

    pixels: Pixels
    captions: tuple[tuple[str, ...], ...]


def read_groups(folder: Path) -> list[list[Path]]:
    """Photographs that `photos.csv` lists (columns file, group), in groups of exposures of one plate.

    Raises:
        ArchiveError: the list is not there.
    """
    table = folder / "photos.csv"
    if not table.is_file():
        raise ArchiveError(f"{table} does not exist: name a folder with images/ and photos.csv (columns file, group)")
    groups: dict[str, list[Path]] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            groups.setdefault(row["group"] or row["file"], []).append(folder / "images" / row["file"])
    return [groups[name] for name in sorted(groups)]


def held_out_groups(folders: Sequence[Path]) -> list[list[Path]]:
    """The photographs that are never trained on, in groups of one plate, and of one picture where that is known.

    They are 15 % of the groups that the folders list, by the digest of their names.
    """
    return _merged([group for folder in folders for group in read_groups(folder) if _is_held_out(group)])


def _is_held_out(group: Sequence[Path]) -> bool:
    """Whether a group of exposures is never trained on: the digest of its first name decides."""
    return int(hashlib.sha256(min(path.name for path in group).encode()).hexdigest()[:8], 16) % 100 < HELD_OUT


def training_photographs(folders: Sequence[Path]) -> list[Path]:
    """The photographs that may be trained on."""
    return [path for group in _training_groups(folders) for path in group]


def training_singletons(folders: Sequence[Path]) -> list[Path]:
    """Those of the training photographs of which the folders hold no other exposure, nor another print."""
    return [group[0] for group in _merged(_training_groups(folders)) if len(group) == 1]


def _training_groups(folders: Sequence[Path]) -> list[list[Path]]:
    """The groups of exposures that may be trained on: nothing that shows what a held-out photograph shows."""
    groups = [group for folder in folders for group in read_groups(folder)]
    numbers = _originals(groups)
    unseen = {number for number, group in zip(numbers, groups, strict=True) if _is_held_out(group)}
    return [group for number, group in zip(numbers, groups, strict=True) if number not in unseen]


def _merged(groups: Sequence[Sequence[Path]]) -> list[list[Path]]:
    """The groups, those of one picture joined where that is known."""
    merged: dict[int, list[Path]] = {}
    for number, group in zip(_originals(groups), groups, strict=True):
        merged.setdefault(number, []).extend(group)
    return list(merged.values())


def _originals(groups: Sequence[Sequence[Path]]) -> list[int]:
    """A number for each group, equal where `near_duplicates.csv` says that photographs of both show one picture."""
    with NEAR_DUPLICATES.open(encoding="utf-8", newline="") as stream:
        picture_of = {row["photo"]: row["picture"] for row in csv.DictReader(stream)}
    pictures = [
        next((picture_of[path.name] for path in group if path.name in picture_of), group[0].name) for group in groups
    ]
    numbers = {picture: number for number, picture in enumerate(dict.fromkeys(pictures))}
    return [numbers[picture] for picture in pictures]


def training_pool(folders: Sequence[Path]) -> Pool:
    """The photographs that may be trained on, small and in grey."""
    return _pool(_training_groups(folders))


def validation_pool(folders: Sequence[Path]) -> Pool:
    """The photographs that the training of the shipped encoder holds out, to be judged by."""
    return _pool(held_out_groups(folders))


def _pool(groups: Sequence[Sequence[Path]]) -> Pool:
    """Read photographs and draw pages of text, on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        photos = list(workers.map(_read, [path for group in groups for path in group], chunksize=64))
        texts = list(workers.map(_text, range(TEXTS), chunksize=16))
    subjects = [subject for subject, group in enumerate(groups) for _ in group]
    return Pool(np.stack(photos), tuple(subjects), np.stack(texts), tuple(_originals(groups)))


def drawn_scenes(count: int, seed: int) -> Scenes:
    """So many drawn scenes with their captions, on all cores; those of two seeds have nothing in common."""
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        scenes = list(workers.map(_scene, range(10_000_000 * seed, 10_000_000 * seed + count), chunksize=64))
    pixels, captions = zip(*scenes, strict=True)
    return Scenes(np.stack(pixels), captions)


def _read(path: Path) -> Pixels:
    """Read a photograph in a pool's format, (224, 224)."""
    with Image.open(path) as image:
        return _squeezed(image)


def _squeezed(image: Image.Image) -> Pixels:
    """The whole of a picture in grey, its sides squeezed to equal length, (224, 224)."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _scene(seed: int) -> tuple[Pixels, tuple[str, ...]]:
    """A drawn scene, (224, 224), and its caption in each language."""
    scene = Scene.of(seed)
    return _squeezed(scene.image), tuple(scene.legend(language) for language in LANGUAGES)


def _text(seed: int) -> Pixels:
    """A page of text, (224, 224)."""
    return (text(np.random.default_rng([seed, 1]), SIDE) * 255).astype(np.uint8)


def batches_of(
    neighbours: npt.NDArray[np.int64], anchors: int, near: int, size: int, seed: int, filling: Sequence[int] = ()
) -> Iterator[list[int]]:
    """Yield endless batches of subjects that contain similar pictures, as these are hard to tell apart.

    All subjects come as anchors, in a shuffled order, before one of them does again; each of the first `near` anchors
    of a batch brings four of its neighbours, and subjects drawn by chance fill the batch.

    Args:
        neighbours: int64 (n, k), the subjects that look most like each.
        anchors: of a batch.
        near: anchors that bring neighbours.
        size: subjects of a batch.
        seed: decides everything.
        filling: subjects of which the batch is filled, more than are in it; all by default.

    Yields:
        Different subjects, `size` of them.
    """
    order, rng = _shuffled(len(neighbours), seed), np.random.default_rng([seed, 1])
    fillers = filling or range(len(neighbours))
    while True:
        batch = dict.fromkeys(next(order) for _ in range(anchors))
        for anchor in list(batch)[:near]:
            batch |= dict.fromkeys(rng.permutation(neighbours[anchor])[:4].tolist())
        while len(batch) < size:
            batch[fillers[int(rng.integers(len(fillers)))]] = None
        yield list(batch)[:size]


def _shuffled(count: int, seed: int) -> Iterator[int]:
    """All numbers below a count in a shuffled order, then in another one, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(count).tolist()
