"""Variants of new photos, as in the prior project's notebooks, for an experiment to search for.

A photo's variants are the same in any run, because they are seeded by the photo's path.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from neardup.archive.names import LONGEST_NAME, name_on_disk, shortened
from neardup.archive.new_photos import (
    FOLDER,
    Original,
    find_originals,
    read_new_photos,
    read_originals,
    searched_photos,
)
from neardup.archive.walk import Skipped, find_images
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_image
from neardup.measure.queries import PHOTO, QUERIES_TABLE, SENTENCES, Query
from neardup.settings.schema import Settings
from neardup.stages import Stage, claim, digest_file, digest_of, replacing
from neardup.tables import save_rows
from neardup.train.augment import as_jpeg, copy_seed
from neardup.train.classic import TORCHVISION
from neardup.words import one_line

STEP = 1
"""Version of the variants, raised when those of equal photos change."""


@dataclass(frozen=True)
class Queries:
    """The new photos and their variants that `make_queries` wrote.

    Attributes:
        written: the photos and their variants, each a file of its own: a photo, then its variants as `VARIANTS` has
            them.
        photos: path of each photo in the folder of new photos, in that order.
        unreadable: (file, reason) of each photo that could not be read.
    """

    written: tuple[Path, ...]
    photos: tuple[str, ...]
    unreadable: tuple[tuple[Path, str], ...]

    @property
    def variants(self) -> list[tuple[Path, str, str]]:
        """List each written file's path, the photo that it shows, and its suffix, such as `_flip`, or empty."""
        variants = [(photo, variant) for photo in self.photos for variant in ("", *VARIANTS)]
        return [(file, photo, variant) for file, (photo, variant) in zip(self.written, variants, strict=True)]


_, _ROTATE, _COLOR, _RESIZE = TORCHVISION.transforms
"""The steps of the published recipe from which three of the variants are made."""
VARIANTS: Mapping[str, Callable[[Image.Image], Image.Image]] = MappingProxyType(
    {"_flip": v2.RandomHorizontalFlip(p=1.0), "_rotate": _ROTATE, "_color": _COLOR, "_resize": _RESIZE},
)
"""Suffix of a variant's name → function that makes the variant of a photo."""


def _variant(make: Callable[[Image.Image], Image.Image], image: Image.Image, seed: int) -> Image.Image:
    """Make a variant by torchvision with torch's global generator, whose state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would also seed the GPU's generator, which is not restored.
        torch.default_generator.manual_seed(seed)
        return make(image)


def make_queries(folder: Path, out: Path, max_pixels: int = MAX_PIXELS) -> Queries:
    """Write each photo of a folder, and its `_flip`, `_rotate`, `_color` and `_resize` beside it, to `out`.

    Where names of two photos or of their variants would coincide, those of the later photo are numbered: `a~2.jpg`,
    `a~2_flip.jpg` …

    Args:
        folder: folder of the photos; it is only read.
        out: folder to write to, with the same subfolders.
        max_pixels: a larger photo is left out, and so is one that is too wide or too high for a JPEG.

    Raises:
        ArchiveError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder: name one that holds the new photos")
    written: list[Path] = []
    photos: list[str] = []
    skipped: list[Skipped] = []
    taken: set[str] = set()
    for path in find_images(folder, ("**",), (), skipped.append):
        try:
            image = read_image(folder / path, max_pixels=max_pixels)
        except UnreadableImageError as error:
            skipped.append(Skipped(path, str(error)))
            continue
        photo = digest_of(path)
        copies = {"": image}
        copies |= {end: _variant(make, image, copy_seed(photo, i, 0)) for i, (end, make) in enumerate(VARIANTS.items())}
        try:
            files = [as_jpeg(copy, 95) for copy in copies.values()]
        except OSError as error:
            skipped.append(Skipped(path, f"no JPEG can have {image.width} x {image.height} pixels ({error})"))
            continue
        for target, file in zip(_query_names(path, taken), files, strict=True):
            with replacing(out / target) as unfinished:
                unfinished.write_bytes(file)
            written.append(out / target)
        photos.append(path)
    return Queries(tuple(written), tuple(photos), tuple((folder / item.path, item.reason) for item in skipped))


def _query_names(path: str, taken: set[str]) -> list[str]:
    """Choose free names, valid on every disk, for a photo and its variants, and add them to `taken`."""
    start = PurePosixPath(path).with_suffix("")
    endings = [f"{ending}.jpg" for ending in ("", *VARIANTS)]
    room = LONGEST_NAME - max(map(len, endings))
    for stem in chain([start.name], (f"{start.name}~{number}" for number in count(2))):
        names = [str(start.with_name(shortened(stem, room) + ending)) for ending in endings]
        marks = {name_on_disk(name) for name in names}
        if not marks & taken:
            taken |= marks
            return names
    raise AssertionError("there is always another number")


def queries_stage(out: Path, settings: Settings) -> Stage:
    """Make the stage that writes new photos and variants to `queries/`; its key covers all photos and originals.

    Args:
        out: the output folder, prepared.
        settings: settings that name the folder of the new photos.

    Raises:
        ArchiveError: the folder or its table cannot be used, or nothing has been prepared in `out`.
    """
    folder, searched = Path(settings.queries or ""), [asdict(photo) for photo in searched_photos(out)]
    new = read_new_photos(folder, out, settings.prepare.max_pixels)
    return Stage(out, FOLDER, digest_of(STEP, new.digest, read_originals(folder), searched))


def write_queries(stage: Stage, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Write new photos and their variants to `queries/`, and a table of what each shows.

    Args:
        stage: the stage that `queries_stage` makes.
        settings: settings that name the folder of the new photos, which is only read.
        say: called with a sentence for each file that is left out, and for each name in `queries.csv` that means no
            photo.

    Returns:
        The manifest; its facts count the photos of each kind.

    Raises:
        ArchiveError: the folder or its table cannot be used, or `queries/` holds files that neardup did not write.
    """
    out, folder, limit = stage.out, Path(settings.queries or ""), settings.prepare.max_pixels
    new = read_new_photos(folder, out, limit)
    originals, sentences = find_originals(new, read_originals(folder), searched_photos(out))
    claim(out / FOLDER)
    shutil.rmtree(out / FOLDER)
    written = make_queries(folder, out / FOLDER, limit)
    queries = []
    for file, photo, variant in written.variants:
        original = originals.get(photo, Original())
        facts = (photo, variant.removeprefix("_") or PHOTO, original.kind, original.path)
        queries.append(Query(file.relative_to(out).as_posix(), digest_file(file), *facts))
    left_out = [f"{path.relative_to(folder)} is left out: {reason}" for path, reason in written.unreadable]
    sentences = list(map(one_line, (*left_out, *sentences)))
    for sentence in sentences:
        say(f"new photos: {sentence}")
    kinds = Counter(query.kind for query in queries if query.variant == PHOTO)
    with replacing(out / SENTENCES) as unfinished:
        unfinished.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    table = save_rows(out / QUERIES_TABLE, Query, queries)
    return stage.finish([out / FOLDER, table, out / SENTENCES], kinds)
