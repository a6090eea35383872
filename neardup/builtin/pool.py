"""What `builtin:tiny` is trained on: photographs that anybody may use, and pictures drawn by code, all grey."""

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

from neardup.builtin.procedural import DRAWINGS
from neardup.builtin.scenes import LANGUAGES, Scene
from neardup.errors import ArchiveError
from neardup.train.press_torch import text

SIDE = 192
"""Pixels of a side of every picture of a pool."""
HELD_OUT = 15
"""Percent of the photographs, whole groups of exposures, that are never trained on."""
PHOTO = "photo"
"""The kind of picture that is a photograph."""
SCENE = "scene"
"""The kind of picture that is a drawn scene with captions."""
DRAWING = "drawing"
"""The kind of picture that is any other drawing."""
Pixels = npt.NDArray[np.uint8]
"""Grey pictures of one size, uint8, 0 black to 255 white."""


@dataclass(frozen=True)
class Pool:
    """Grey pictures in memory.

    Attributes:
        pixels: uint8 (n, 192, 192); the sides of a photograph are squeezed to equal length.
        subjects: n numbers; pictures of one subject are copies of each other.
        kinds: n of `photo`, `scene`, `drawing`.
        captions: subject → one caption a language, for scenes.
        texts: uint8 (m, 224, 224), pages of text to paste.
    """

    pixels: Pixels
    subjects: tuple[int, ...]
    kinds: tuple[str, ...]
    captions: dict[int, tuple[str, ...]]
    texts: Pixels

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels, subjects and captions."""
        digest = hashlib.sha256(self.pixels.tobytes())
        digest.update(repr((self.subjects, self.kinds, sorted(self.captions.items()))).encode())
        digest.update(self.texts.tobytes())
        return digest.hexdigest()

    def members(self, kind: str) -> list[list[int]]:
        """The rows of each subject of a kind."""
        rows: dict[int, list[int]] = {}
        for row, (subject, its_kind) in enumerate(zip(self.subjects, self.kinds, strict=True)):
            if its_kind == kind:
                rows.setdefault(subject, []).append(row)
        return list(rows.values())


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


def held_out_photographs(folder: Path) -> list[Path]:
    """The photographs that are never trained on: 15 % of the groups, by the digest of their names."""
    return [path for group in read_groups(folder) if _is_held_out(group) for path in group]


def _is_held_out(group: Sequence[Path]) -> bool:
    """Whether a group of exposures is never trained on: the digest of its first name decides."""
    return int(hashlib.sha256(min(path.name for path in group).encode()).hexdigest()[:8], 16) % 100 < HELD_OUT


def training_pool(folder: Path, scenes: int, drawings: int, seed: int) -> Pool:
    """The photographs that may be trained on, and so many drawn scenes and other drawings."""
    groups = [group for group in read_groups(folder) if not _is_held_out(group)]
    return _pool(groups, scenes, drawings, seed)


def validation_pool(folder: Path, scenes: int, drawings: int, seed: int) -> Pool:
    """The photographs held out, and so many scenes and drawings of other seeds than those to train on."""
    groups = [group for group in read_groups(folder) if _is_held_out(group)]
    return _pool(groups, scenes, drawings, seed + 1)


def _pool(groups: Sequence[Sequence[Path]], scenes: int, drawings: int, seed: int) -> Pool:
    """Read the photographs and draw the rest, on all cores."""
    seeds = range(10_000_000 * (seed + 1), 10_000_000 * (seed + 2))
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        photos = list(workers.map(_read, [path for group in groups for path in group], chunksize=64))
        drawn_scenes = list(workers.map(_scene, seeds[:scenes], chunksize=64))
        drawn = list(workers.map(_draw, seeds[:drawings], chunksize=64))
        texts = list(workers.map(_text, seeds[:256], chunksize=64))
    subjects = [subject for subject, group in enumerate(groups) for _ in group]
    subjects += range(len(groups), len(groups) + scenes + drawings)
    captions = {len(groups) + i: captions for i, (_, captions) in enumerate(drawn_scenes)}
    pictures = [*photos, *(pixels for pixels, _ in drawn_scenes), *drawn]
    kinds = [PHOTO] * len(photos) + [SCENE] * scenes + [DRAWING] * drawings
    return Pool(np.stack(pictures), tuple(subjects), tuple(kinds), captions, np.stack(texts))


def _read(path: Path) -> Pixels:
    """A photograph as a pool has it, (192, 192)."""
    with Image.open(path) as image:
        return _squeezed(image)


def _squeezed(image: Image.Image) -> Pixels:
    """The whole of a picture in grey, its sides squeezed to equal length, (192, 192)."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _scene(seed: int) -> tuple[Pixels, tuple[str, ...]]:
    """A drawn scene, (192, 192), and its caption in each language."""
    scene = Scene.of(seed)
    return _squeezed(scene.image), tuple(scene.legend(language) for language in LANGUAGES)


def _draw(seed: int) -> Pixels:
    """A drawing, (192, 192); the kinds take turns by the seed."""
    rng = np.random.default_rng(seed)
    drawing = list(DRAWINGS.values())[seed % len(DRAWINGS)]
    return (drawing(rng, SIDE) * 255).astype(np.uint8)


def _text(seed: int) -> Pixels:
    """A page of text, (224, 224)."""
    return (text(np.random.default_rng([seed, 1]), 224) * 255).astype(np.uint8)


def subjects_of(pool: Pool, shares: dict[str, int], seed: int) -> Iterator[list[list[int]]]:
    """Endless batches of subjects; all subjects of a kind come, in a shuffled order, before one of them comes again.

    Args:
        pool: the pictures.
        shares: kind → subjects of a batch.
        seed: decides the orders.

    Yields:
        The rows of each subject of a batch.
    """
    streams = {kind: _shuffled(pool.members(kind), [seed, number]) for number, kind in enumerate(sorted(shares))}
    while True:
        yield [next(streams[kind]) for kind in sorted(shares) for _ in range(shares[kind])]


def _shuffled(members: Sequence[list[int]], seed: list[int]) -> Iterator[list[int]]:
    """All members in a shuffled order, then in another one, without end."""
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(members)):
            yield members[i]
