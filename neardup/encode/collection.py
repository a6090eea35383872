"""A folder of any number of photos and their vectors: listed, and encoded shard by shard, by as many workers as needed.

What a worker is told is small and plain, and what it makes goes to the store: nothing large passes through a scheduler.
Memory grows with the number of photos by the 16 bytes that tell the known from the new.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from neardup.archive.walk import Skipped, walk_images
from neardup.arrays import Bools, Ints, Vectors
from neardup.encode.encoder import BatchEncoder, fastest_batch, load_encoder
from neardup.encode.files import encode_files
from neardup.encode.store import Store
from neardup.encode.vectors import Embeddings
from neardup.errors import EncoderError, UnreadableImageError
from neardup.images import MAX_PIXELS
from neardup.settings.schema import Dtype
from neardup.stages import digest_of

SHARD = 1024
"""Photos in one file of the store, and in one task: what a kill may cost."""
LISTED = 4096
"""Files that are looked up among the known ones at once."""
SHARDS, UNREADABLE = "shard-", "unreadable-"
"""What the names of the tables begin with."""
_COLUMNS = pa.schema({"path": pa.string(), "file": pa.int64(), "reason": pa.string(), "opened": pa.bool_()})


@dataclass(frozen=True)
class Encoded:
    """What became of the files of one shard."""

    photos: int
    unreadable: int


@dataclass(frozen=True)
class Collection:
    """Photos of a folder, their vectors in a store, and what encodes them.

    Attributes:
        folder: of the photos, the same path for every worker; it is only read.
        store: folder or URL of the vectors, the same for every worker.
        encoder: what `load_encoder` takes.
        device: `auto`, `cpu` or `cuda`.
        precision: of the encoder.
        fingerprint: of the encoder; every worker's must be the same.
        batch: photos in one pass of the encoder.
        max_pixels: larger images are refused.
    """

    folder: Path
    store: str
    encoder: str
    device: str
    precision: Dtype
    fingerprint: str
    batch: int
    max_pixels: int = MAX_PIXELS

    @cached_property
    def vectors(self) -> Store:
        """Where the encoder's tables lie."""
        return Store(self.store).under(self.fingerprint)


def open_collection(
    folder: Path, store: str, encoder: str, device: str, precision: Dtype, max_pixels: int = MAX_PIXELS
) -> Collection:
    """Load the encoder once, to know its fingerprint and the batch that suits it.

    The batch is measured once in the life of a store: vectors of equal photos are equal to the last bit only in passes
    of one size.

    Raises:
        EncoderError: there is no such encoder.
    """
    loaded = load_encoder(encoder, device, precision)
    vectors = Store(store).under(loaded.fingerprint)
    noted = vectors.noted("batch")
    if noted is None:
        noted = fastest_batch(loaded)
        vectors.note("batch", noted)
    return Collection(folder, store, encoder, device, precision, loaded.fingerprint, int(noted), max_pixels)


def present(collection: Collection) -> Ints:
    """The marks of all image files of the folder, int64 (n,), ordered."""
    return np.unique(np.concatenate([marks for marks, _ in _listed(collection)]))


def encoded(collection: Collection) -> Ints:
    """The marks of all files that were encoded, int64 (n,), ordered."""
    return _marks(collection.vectors.read(name, ["file"]) for name in collection.vectors.names(SHARDS))


def unreadable(collection: Collection) -> pa.Table:
    """Files that were found unreadable: `path`, `file` (mark), `reason`, and whether they could be `opened` at all."""
    tables = [collection.vectors.read(name) for name in collection.vectors.names(UNREADABLE)]
    return pa.concat_tables([_COLUMNS.empty_table(), *tables])


def known(collection: Collection) -> Ints:
    """The marks of all files that need not be read again, int64 (n,), ordered."""
    broken = unreadable(collection)
    return np.union1d(encoded(collection), _marks([broken.filter(broken["opened"])]))


def _marks(tables: Iterable[pa.Table]) -> Ints:
    return np.unique(np.concatenate([np.empty(0, np.int64), *(table["file"].to_numpy() for table in tables)]))


def new_shards(collection: Collection, known: Ints, size: int = SHARD) -> Iterator[tuple[str, ...]]:
    """Paths of files that are not known as they are now, in shards of `size`, the last one smaller."""
    waiting: list[str] = []
    for marks, paths in _listed(collection):
        waiting += [path for path, old in zip(paths, among(marks, known), strict=True) if not old]
        while len(waiting) >= size:
            yield tuple(waiting[:size])
            del waiting[:size]
    if waiting:
        yield tuple(waiting)


def among(marks: Ints, ordered: Ints) -> Bools:
    """Whether each mark is one of some ordered ones: bool (n,)."""
    if not len(ordered):
        return np.zeros(len(marks), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, marks), len(ordered) - 1)
    return np.asarray(ordered[places] == marks)


def _listed(collection: Collection) -> Iterator[tuple[Ints, list[str]]]:
    """Marks and paths of the folder's image files, some thousands at a time; what cannot be looked at is left out."""
    marks: list[int] = []
    paths: list[str] = []
    for path in walk_images(collection.folder, _warn):
        try:
            marks.append(_mark(collection.folder, path))
        except OSError:
            continue
        paths.append(path)
        if len(paths) == LISTED:
            yield np.array(marks, dtype=np.int64), paths
            marks, paths = [], []
    yield np.array(marks, dtype=np.int64), paths


def _warn(skipped: Skipped) -> None:
    warnings.warn(f"left out {skipped.path}: {skipped.reason}", stacklevel=2)


def _mark(folder: Path, path: str) -> int:
    """63 bits that stand for a file as it is: its path, size and time. Of ten million files, none agree by chance."""
    status = os.stat(f"{folder}/{path}")  # noqa: PTH116 - a path object for each of a million files would take 15 s
    text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def encode_shard(collection: Collection, paths: Sequence[str]) -> Encoded:
    """Encode the photos of one shard and write them to the store; what cannot be read is written down with its reason.

    Done again after a kill, it writes the same tables once more.

    Raises:
        EncoderError: this worker's encoder is another one than the collection's.
    """
    encoder = _loaded(collection.encoder, collection.device, collection.precision, collection.batch)
    if encoder.fingerprint != collection.fingerprint:
        raise EncoderError(
            f"{collection.encoder} is another encoder on this worker ({encoder.fingerprint[:12]}, not "
            f"{collection.fingerprint[:12]}): give every worker the same file"
        )
    files = _Files(collection.folder, paths)
    good, vectors, bad = [], [], []
    for row, result in encode_files(encoder, files.sources(), collection.max_pixels):
        if isinstance(result, UnreadableImageError):
            bad += [] if row in files.gone else [(row, str(result))]
        else:
            good.append(row)
            vectors.append(result)
    name = digest_of(paths, files.marks)[:16]
    if bad:
        collection.vectors.write(f"{UNREADABLE}{name}", files.unreadable(bad))
    if good:
        table = files.embeddings(good, np.stack(vectors), collection.fingerprint).table()
        marks = pa.array([files.marks[row] for row in good], pa.int64())
        collection.vectors.write(f"{SHARDS}{len(good):06d}-{name}", table.append_column("file", marks))
    return Encoded(len(good), len(bad))


class _Files:
    """The files of a shard, read one after the other; of what was read the mark and the digest are kept."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self.folder, self.paths = folder, paths
        self.marks = [0] * len(paths)
        self.photos = [""] * len(paths)
        self.closed: dict[int, str] = {}
        self.gone: set[int] = set()

    def sources(self) -> Iterator[bytes]:
        """The bytes of each file; none where it cannot be opened."""
        for row, path in enumerate(self.paths):
            data = b""
            try:
                self.marks[row] = _mark(self.folder, path)
                data = (self.folder / path).read_bytes()
            except FileNotFoundError:
                self.gone.add(row)
            except OSError as error:
                self.closed[row] = f"the file cannot be opened ({error.strerror})"
            self.photos[row] = hashlib.sha256(data).hexdigest()
            yield data

    def unreadable(self, bad: Sequence[tuple[int, str]]) -> pa.Table:
        """Rows that could not be read, with their reasons."""
        rows = [
            {
                "path": self.paths[row],
                "file": self.marks[row],
                "reason": self.closed.get(row, reason),
                "opened": row not in self.closed,
            }
            for row, reason in bad
        ]
        return pa.Table.from_pylist(rows, _COLUMNS)

    def embeddings(self, rows: Sequence[int], vectors: Vectors, fingerprint: str) -> Embeddings:
        """Rows that were encoded, with their vectors."""
        photos, paths = tuple(self.photos[row] for row in rows), tuple(self.paths[row] for row in rows)
        return Embeddings(photos, paths, vectors, fingerprint)


@lru_cache(maxsize=1)
def _loaded(encoder: str, device: str, precision: Dtype, batch: int) -> BatchEncoder:
    """The encoder, loaded once a process."""
    loaded = load_encoder(encoder, device, precision)
    loaded.batch = batch
    return loaded
