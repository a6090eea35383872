"""The vectors of one encoder in a store: each content once, whatever command encoded it, and from which path.

A content is a photo's SHA-256. Three kinds of tables say what is known, and a file that a row tells of need not be read
again: shards hold a vector for each new content, copies the files whose content has one, and the rest is unreadable.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup.arrays import Bools, Ints, Vectors
from neardup.encode.batch import fastest_batch
from neardup.encode.files import encode_files
from neardup.encode.protocol import BATCH, BatchEncoder, Encoder
from neardup.encode.store import Store, vector_column
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import read_file
from neardup.stages import digest_of

SHARDS = "shard-"
"""What the names of tables with vectors begin with: `photo`, `path`, `file` (the mark) and `vector`."""
COPIES = "copies-"
"""What the names of tables begin with that list files whose content was encoded before: `photo`, `path`, `file`."""
UNREADABLE = "unreadable-"
"""What the names of tables of unreadable files begin with; the number of pixels that was allowed follows."""
FORMAT = 2
"""Version of this layout, noted in each store, so that a store of another version is told from one of this."""
_FORMER_PARTS = "part-"
"""What the names of tables of vectors began with in version 1, which had no marks and passes of `BATCH` photos."""
_FORMER_PAIRS = "pairs-"
"""What the names of tables of pairs began with in version 1, which counted each copy as a photo of its own."""
_NO_FILE = -1
"""Stands for the mark of a file that is not known; marks are not negative."""
_UNREADABLE_ROWS = pa.schema({"path": pa.string(), "file": pa.int64(), "reason": pa.string(), "opened": pa.bool_()})
"""Columns of the tables of unreadable files, and their types; `opened` is false of a file that is to be tried again."""


@dataclass(frozen=True)
class Encoded:
    """How many files of a shard have a vector now, and how many could not be read."""

    photos: int
    unreadable: int


def open_store(url: str, encoder: Encoder, *, measure: bool = False) -> tuple[Store, int]:
    """Open the part of a store that belongs to an encoder; one that a former version wrote is brought up to date.

    The batch is settled once in the life of a store, for vectors of equal pictures are equal to the last bit only in
    passes of one size.

    Args:
        url: folder or URL of the store, which may hold vectors of other encoders as well.
        encoder: what encodes.
        measure: whether a new store's batch is the fastest on this machine, which takes 3 seconds to find; else it is
            the encoder's own.

    Returns:
        The tables of the encoder, and how many photos are one pass.

    Raises:
        ArchiveError: the store cannot be read, or a later version wrote it.
    """
    store = Store(url).under(encoder.fingerprint)
    store.delete_abandoned()
    version = store.noted("format")
    if version not in {None, FORMAT}:
        raise ArchiveError(f"a later version of neardup wrote the store {url}: update neardup, or name another store")
    batch = store.noted("batch")
    if version is None:
        batch = _updated(store, batch)
    if batch is None:
        batch = (
            fastest_batch(encoder)
            if measure and isinstance(encoder, BatchEncoder)
            else getattr(encoder, "batch", BATCH)
        )
    if version is None:
        store.note("batch", batch)
        store.note("format", FORMAT)
    return store, int(batch)


def _updated(store: Store, batch: int | None) -> int | None:
    """Bring a store of version 1 up to date: its vectors are kept, its pairs are searched again.

    Done again after a kill, it goes on.

    Returns:
        The batch of its vectors; None where it held none.
    """
    parts, pairs, shards = (store.names(prefix) for prefix in (_FORMER_PARTS, _FORMER_PAIRS, SHARDS))
    if not (parts or pairs or shards):
        return batch
    usable = batch in {None, BATCH}
    for name in parts:
        if usable:
            table = store.read(name)
            files = pa.array(np.full(len(table), _NO_FILE))
            shard = f"{SHARDS}{len(table):06d}-{name.removeprefix(_FORMER_PARTS)}"
            store.write(shard, table.append_column("file", files))
    for name in (*parts, *pairs, *store.names(UNREADABLE)):
        store.delete(name)
    loss = (
        "" if usable or not parts else f"; {len(parts)} of its tables, made in passes of {BATCH} photos, are made anew"
    )
    warnings.warn(
        f"the store {store.url} is of a former version: its vectors are used, its files are read once more to know "
        f"them again, and its pairs are searched again{loss}",
        stacklevel=4,
    )
    return BATCH if parts and usable else batch


def mark_of(folder: Path, path: str) -> int:
    """63 bits that stand for a file as it is: where it lies, its size and times. Of ten million, none agree by chance.

    Args:
        folder: of the photos; a table's path is relative to it, so that the same file of another folder is another one.
        path: of the file in the folder.

    Raises:
        FileNotFoundError: it is not there.
    """
    status = os.stat(f"{folder}/{path}")  # noqa: PTH116 - a path object for each of a million files would take 15 s
    text = f"{folder}\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}".encode(
        errors="surrogateescape"
    )
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def content_keys(photos: pa.ChunkedArray) -> Ints:
    """The first 63 bits of each SHA-256 of a column, int64 (n,): a content in 8 bytes instead of 64 letters."""
    digits = "".join(pc.utf8_slice_codeunits(photos, 0, 16).to_pylist())
    return (np.frombuffer(bytes.fromhex(digits), ">u8") >> 1).astype(np.int64)


def keys_of(photos: Sequence[str]) -> Ints:
    """The `content_keys` of photos, each named by its SHA-256."""
    return content_keys(pa.chunked_array([pa.array(photos, pa.string())]))


def among(values: Ints, ordered: Ints) -> Bools:
    """Whether each value is one of some ordered ones: bool (n,)."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[places] == values)


def encoded_tables(store: Store, columns: Sequence[str] = ("photo", "file")) -> Iterator[tuple[str, pa.Table]]:
    """Each table that lists files with a vector, and its name; `columns` are read, of copies always both.

    A copy whose content has no vector any more, for somebody deleted its shard, is no file that is known.
    """
    for name in store.names(SHARDS):
        yield name, store.read(name, list(columns))
    copies, contents = store.names(COPIES), _contents(store)
    if copies:
        contents.refresh()
    for name in copies:
        table = store.read(name, ["photo", "file"])
        marks = np.where(contents.have(content_keys(table["photo"])), table["file"].to_numpy(), _NO_FILE)
        yield name, table.set_column(1, "file", pa.array(marks))


def encoded_files(store: Store) -> Ints:
    """The marks of all files whose content has a vector, int64 (n,), ordered."""
    return _marks(table for _, table in encoded_tables(store, ["file"]))


def unreadable_files(store: Store, max_pixels: int) -> pa.Table:
    """Files that were found unreadable: `path`, `file` (mark), `reason`, and whether they could be `opened` at all."""
    tables = [store.read(name) for name in store.names(f"{UNREADABLE}{max_pixels}-")]
    return pa.concat_tables([_UNREADABLE_ROWS.empty_table(), *tables])


def known_files(store: Store, max_pixels: int) -> Ints:
    """The marks of all files that need not be read again, int64 (n,), ordered."""
    broken = unreadable_files(store, max_pixels)
    return np.union1d(encoded_files(store), _marks([broken.filter(broken["opened"])]))


def _marks(tables: Iterable[pa.Table]) -> Ints:
    """The marks of the files that some tables list, int64 (n,), ordered."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(table["file"].to_numpy() for table in tables)]))


def encode_into(
    store: Store,
    encoder: Encoder,
    folder: Path,
    paths: Sequence[str],
    max_pixels: int,
    report: Callable[[int], object] = lambda _: None,
) -> Encoded:
    """Encode the contents of some files that have no vector in the store, and write down what became of each file.

    Done again after a kill, it encodes what was not written.

    Args:
        store: as `open_store` gave it.
        encoder: what encodes, in passes of the store's batch, as `with_batch` gives it.
        folder: of the files.
        paths: of the files in the folder; one that went away is passed over.
        max_pixels: larger images are unreadable.
        report: is told how many photos were encoded since it was told last.
    """
    contents = _contents(store)
    contents.refresh()
    files = _Files(folder, paths, contents)
    for number, result in encode_files(encoder, files.sources(), max_pixels):
        files.take(files.drawn[number], result)
        report(1)
    files.settle_copies()
    name = digest_of(paths, files.marks)[:16]
    if files.vectors:
        store.write(f"{SHARDS}{len(files.vectors):06d}-{name}", files.shard(encoder.fingerprint))
    if files.copies:
        store.write(f"{COPIES}{name}", files.table(files.copies))
    if files.faults:
        store.write(f"{UNREADABLE}{max_pixels}-{name}", files.unreadable())
    return Encoded(len(files.vectors) + len(files.copies), len(files.faults))


class _Contents:
    """Which contents have a vector in a store; 8 bytes each, read once a process, and then what was added."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = np.empty(0, np.int64)
        self._names: set[str] = set()
        self._lock = Lock()

    def refresh(self) -> None:
        """Read the shards that were written since the last time."""
        with self._lock:
            names = set(self._store.names(SHARDS))
            if self._names - names:  # somebody deleted shards
                self._keys, self._names = np.empty(0, np.int64), set()
            fresh = [content_keys(self._store.read(name, ["photo"])["photo"]) for name in sorted(names - self._names)]
            if fresh:
                new = np.setdiff1d(np.concatenate(fresh), self._keys)
                self._keys = np.insert(self._keys, np.searchsorted(self._keys, new), new)
            self._names = names

    def have(self, keys: Ints) -> Bools:
        """Whether each content, by its key, has a vector: bool (n,)."""
        return among(keys, self._keys)

    def __contains__(self, photo: str) -> bool:
        """Whether a content, a SHA-256 in hex, has a vector."""
        keys, key = self._keys, int(photo[:16], 16) >> 1
        place = int(np.searchsorted(keys, key))
        return place < len(keys) and int(keys[place]) == key


@lru_cache(maxsize=4)
def _contents(store: Store) -> _Contents:
    """The contents of a store, kept for the life of the process."""
    return _Contents(store)


class _Files:
    """Files that are read one after the other, and what became of each; their rows count them from 0.

    Attributes:
        marks: int64, of each file as it was read; `_NO_FILE` where it could not be opened or is gone.
        photos: SHA-256 of each file, in hex.
        drawn: rows of the files that were given to the encoder, in order.
        vectors: row → vector, of the contents that were encoded.
        copies: rows of files whose content has a vector, or was given to the encoder already.
        faults: row → why the file cannot be read.
        unopened: rows of the files that could not be opened, whatever is in them: they are tried again.
    """

    def __init__(self, folder: Path, paths: Sequence[str], contents: _Contents) -> None:
        self.folder, self.paths, self.contents = folder, paths, contents
        self.marks = [_NO_FILE] * len(paths)
        self.photos = [""] * len(paths)
        self.drawn: list[int] = []
        self.vectors: dict[int, Vectors] = {}
        self.copies: list[int] = []
        self.faults: dict[int, str] = {}
        self.unopened: set[int] = set()

    def sources(self) -> Iterator[bytes]:
        """The bytes of each file whose content has no vector yet, each content once."""
        seen_photos: set[str] = set()
        for row, path in enumerate(self.paths):
            try:
                self.marks[row] = mark_of(self.folder, path)
                data = read_file(self.folder / path)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.faults[row] = f"the file cannot be looked at ({error.strerror})"
                self.unopened.add(row)
                continue
            except UnreadableImageError as error:
                self.faults[row] = str(error)
                if error.__cause__:  # that of the system, which may let it be opened the next time
                    self.unopened.add(row)
                continue
            self.photos[row] = photo = hashlib.sha256(data).hexdigest()
            if photo in seen_photos or photo in self.contents:
                self.copies.append(row)
                continue
            seen_photos.add(photo)
            self.drawn.append(row)
            yield data

    def take(self, row: int, result: Vectors | UnreadableImageError) -> None:
        """Take what the encoder made of a file."""
        if isinstance(result, UnreadableImageError):
            self.faults[row] = str(result)
        else:
            self.vectors[row] = result

    def settle_copies(self) -> None:
        """Call the copies of what proved to be unreadable unreadable as well."""
        reasons = {self.photos[row]: reason for row, reason in self.faults.items() if row not in self.unopened}
        self.faults |= {row: reasons[self.photos[row]] for row in self.copies if self.photos[row] in reasons}
        self.copies = [row for row in self.copies if row not in self.faults]

    def table(self, rows: Iterable[int]) -> pa.Table:
        """Some files with their contents: `photo`, `path` and `file`."""
        rows = list(rows)
        columns = {
            "photo": pa.array([self.photos[row] for row in rows], pa.string()),
            "path": pa.array([self.paths[row] for row in rows], pa.string()),
            "file": pa.array([self.marks[row] for row in rows], pa.int64()),
        }
        return pa.table(columns)

    def shard(self, fingerprint: str) -> pa.Table:
        """The contents that were encoded, with their vectors."""
        vectors = vector_column(np.stack(list(self.vectors.values())))
        table = self.table(self.vectors).append_column("vector", vectors)
        return table.replace_schema_metadata({"fingerprint": fingerprint})

    def unreadable(self) -> pa.Table:
        """The files that cannot be read, with their reasons."""
        rows = [
            {"path": self.paths[row], "file": self.marks[row], "reason": reason, "opened": row not in self.unopened}
            for row, reason in self.faults.items()
        ]
        return pa.Table.from_pylist(rows, _UNREADABLE_ROWS)
