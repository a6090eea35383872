"""A folder of any number of photos and their vectors, encoded shard by shard by any number of workers.

A worker's inputs are small and its results go to the store, so that nothing large passes through a scheduler. Memory
grows by 24 bytes per photo, which tell known files and contents from new ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from neardup.archive.scan import EVERY, rule_of, settings_of_folder
from neardup.archive.walk import OnSkip, Skipped, ignore, is_chosen, walk_images
from neardup.arrays import Ints
from neardup.encode.batch import with_batch
from neardup.encode.encoder import loaded_encoder
from neardup.encode.shards import (
    Encoded,
    among,
    content_keys,
    encode_into,
    encoded_files,
    encoded_tables,
    known_files,
    mark_of,
    open_store,
    unreadable_files,
)
from neardup.encode.store import Store, check_store
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS
from neardup.settings.schema import Dtype, PrepareSettings

SHARD = 1024
"""Default number of photos in one file of the store and in one task: the most work that a kill may cost."""
LISTED = 4096
"""Files that are looked up among the known ones at once: enough for the look-up to cost little beside the listing."""
MEASURED = 10_000
"""Photos in a folder from which a new store looks for the fastest batch: three seconds, for 7 % more speed."""


@dataclass(frozen=True)
class Collection:
    """The photos of a folder, the store of their vectors, and the encoder.

    Attributes:
        folder: folder of the photos, the same path for every worker; it is only read.
        store: folder or URL of the vectors, the same for every worker.
        encoder: name or path of the encoder, as `load_encoder` takes it.
        device: `auto`, `cpu` or `cuda`.
        precision: number format that the encoder computes in.
        fingerprint: fingerprint of the encoder, which must be the same for every worker.
        batch: photos in one pass of the encoder.
        max_pixels: larger images are refused.
        photos: globs, relative to the folder, of the files that are photographs.
        pages: globs of files that are not photographs, although one of `photos` matches them.
    """

    folder: Path
    store: str
    encoder: str
    device: str
    precision: Dtype
    fingerprint: str
    batch: int
    max_pixels: int = MAX_PIXELS
    photos: tuple[str, ...] = EVERY
    pages: tuple[str, ...] = ()

    @cached_property
    def vectors(self) -> Store:
        """The store of the encoder's tables."""
        return Store(self.store).under(self.fingerprint)

    @cached_property
    def rule(self) -> str:
        """Which files of the folder are photos, and how many others it has, as one sentence."""
        return rule_of(self.folder, PrepareSettings(photos=self.photos, pages=self.pages))


def open_collection(
    folder: Path,
    store: str,
    encoder: str,
    device: str,
    precision: Dtype,
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008 - frozen
) -> Collection:
    """Load the encoder, to learn its fingerprint, and open its part of the store.

    Args:
        folder: folder of the photos.
        store: folder or URL of the vectors.
        encoder: name or path of the encoder, as `load_encoder` takes it.
        device: `auto`, `cpu` or `cuda`.
        precision: number format that the encoder computes in.
        settings: which files are photographs, as `settings_of_folder` reads them.

    Raises:
        ArchiveError: there is no such folder, or the store lies inside it.
        EncoderError: there is no such encoder.
    """
    check_store(folder, store)
    loaded = loaded_encoder(encoder, device, precision)
    folder = folder.resolve()
    many = next(islice(walk_images(folder), MEASURED - 1, None), None) is not None
    _, batch = open_store(store, loaded, measure=many)
    settings = settings_of_folder(folder, settings)
    return Collection(
        folder,
        store,
        encoder,
        device,
        precision,
        loaded.fingerprint,
        batch,
        settings.max_pixels,
        settings.photos,
        settings.pages,
    )


@dataclass(frozen=True)
class Present:
    """The result of a walk through a folder.

    Attributes:
        marks: int64 (n,), marks of all its photos, sorted.
        skipped: folders that cannot be listed, and entries that have a photo's name but cannot be used.
        pages: number of images that are left out as `[prepare] pages` says.
    """

    marks: Ints
    skipped: tuple[Skipped, ...]
    pages: int = 0


def present(collection: Collection) -> Present:
    """Walk through the folder once and collect the marks of its photos."""
    skipped: list[Skipped] = []
    pages = count()
    listed = _listed(collection, skipped.append, lambda _: next(pages))
    marks = np.unique(np.concatenate([marks for marks, _ in listed]))
    chosen = (item for item in skipped if item.is_folder or is_chosen(item.path, collection.photos, collection.pages))
    return Present(marks, tuple(chosen), next(pages))


def known(collection: Collection) -> Ints:
    """Read the marks of all files that need not be read again, int64 (n,), sorted."""
    return known_files(collection.vectors, collection.max_pixels)


def unreadable(collection: Collection, present: Present) -> dict[str, str]:
    """Collect the unreadable files that exist and have not changed since: path → reason, sorted.

    Folders that cannot be listed and files whose name cannot be used are among them.
    """
    reasons = {skipped.path: skipped.reason for skipped in present.skipped}
    table = unreadable_files(collection.vectors, collection.max_pixels)
    marks = table["file"].to_numpy()
    table = table.filter(among(marks, present.marks) & ~among(marks, encoded_files(collection.vectors)))
    reasons |= dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return dict(sorted(reasons.items()))


def new_shards(collection: Collection, known: Ints, size: int = SHARD) -> Iterator[tuple[str, ...]]:
    """Yield the paths of photos that are new or have changed, in shards of `size`; the last one may be smaller."""
    waiting: list[str] = []
    for marks, paths in _listed(collection):
        waiting += [path for path, old in zip(paths, among(marks, known), strict=True) if not old]
        while len(waiting) >= size:
            yield tuple(waiting[:size])
            del waiting[:size]
    if waiting:
        yield tuple(waiting)


def _listed(
    collection: Collection, on_skip: OnSkip = ignore, on_page: Callable[[str], object] | None = None
) -> Iterator[tuple[Ints, list[str]]]:
    """Marks and paths of the folder's photos, some thousands at a time.

    `on_skip` is told what cannot be looked at, `on_page` the path of each image that is left out as a page.
    """
    marks: list[int] = []
    paths: list[str] = []
    for path in walk_images(collection.folder, on_skip):
        if not is_chosen(path, collection.photos, collection.pages):
            if on_page and is_chosen(path, collection.photos):
                on_page(path)
            continue
        try:
            marks.append(mark_of(collection.folder, path))
        except FileNotFoundError:
            continue
        except OSError as error:
            on_skip(Skipped(path, f"the file cannot be looked at ({error.strerror})"))
            continue
        paths.append(path)
        if len(paths) == LISTED:
            yield np.array(marks, dtype=np.int64), paths
            marks, paths = [], []
    yield np.array(marks, dtype=np.int64), paths


def encode_shard(collection: Collection, paths: Sequence[str]) -> Encoded:
    """Encode the new contents among the photos of one shard, and record unreadable files with their reasons.

    Raises:
        EncoderError: this worker's encoder differs from the collection's.
    """
    encoder = loaded_encoder(collection.encoder, collection.device, collection.precision)
    if encoder.fingerprint != collection.fingerprint:
        raise EncoderError(
            f"{collection.encoder} is another encoder on this worker ({encoder.fingerprint[:12]}, not "
            f"{collection.fingerprint[:12]}): give every worker the same file"
        )
    in_batches = with_batch(encoder, collection.batch)
    return encode_into(collection.vectors, in_batches, collection.folder, paths, collection.max_pixels)


@dataclass(frozen=True)
class Files:
    """The photos of a folder that have a vector, each with its content; 16 bytes a photo.

    Attributes:
        store: store of the tables.
        contents: int64 (n,), key of each file's content, as `content_keys` gives it.
        tables: names of the tables that list them.
        places: int64 (n,), row of each file, counted over all tables.
        starts: int64 (len(tables) + 1,), the first row of each table, and the end.
    """

    store: Store
    contents: Ints
    tables: tuple[str, ...]
    places: Ints
    starts: Ints

    def paths(self, chosen: Ints) -> list[str]:
        """Read the paths of some files, relative to the folder."""
        return self._column("path", chosen)

    def photos(self, chosen: Ints) -> list[str]:
        """Read the SHA-256 of the contents of some files."""
        return self._column("photo", chosen)

    def _column(self, name: str, chosen: Ints) -> list[str]:
        """Read a column of the tables for some files."""
        places = self.places[chosen]
        order = np.argsort(places, kind="stable")
        ends = np.searchsorted(places[order], self.starts)
        value_of: dict[int, str] = {}
        for table, start, first, last in zip(self.tables, self.starts, ends, ends[1:], strict=False):
            if first < last:
                rows = places[order[first:last]] - start
                values = self.store.read(table, [name])[name].take(pa.array(rows)).to_pylist()
                value_of.update(zip(order[first:last].tolist(), values, strict=True))
        return [value_of[number] for number in range(len(chosen))]


def encoded_photos(collection: Collection, present: Ints) -> Files:
    """Find the files that exist and are unchanged since they were encoded.

    Args:
        collection: the collection of the files.
        present: marks of the files that exist, sorted.
    """
    store = collection.vectors
    names = list[str]()
    marks, contents, places, starts = [present[:0]], [present[:0]], [present[:0]], [0]
    for name, table in encoded_tables(store):
        names.append(name)
        listed = np.flatnonzero(among(table["file"].to_numpy(), present))
        marks.append(table["file"].to_numpy()[listed])
        contents.append(content_keys(table["photo"].take(pa.array(listed))))
        places.append(listed + starts[-1])
        starts.append(starts[-1] + len(table))
    distinct = np.unique(np.concatenate(marks), return_index=True)[1]
    return Files(
        store,
        np.concatenate(contents)[distinct],
        tuple(names),
        np.concatenate(places)[distinct],
        np.array(starts, dtype=np.int64),
    )
