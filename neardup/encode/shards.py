"""The vectors of one encoder in a store: each content once, whatever command encoded it and under whatever path.

A content is named by a photo's SHA-256. Three kinds of tables list known files, which need not be read again: shards
hold a vector for each new content, copies list files whose content has a vector, and the third kind lists unreadable
files.
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
"""Prefix of the names of tables with vectors; their columns are `photo`, `path`, `file` (the mark) and `vector`."""
COPIES = "copies-"
"""Prefix of the names of tables of files whose content was encoded before; columns `photo`, `path`, `file`."""
UNREADABLE = "unreadable-"
"""Prefix of the names of tables of unreadable files; the limit of pixels follows."""
FORMAT = 2
"""Version of this layout, noted in each store, so that stores of other versions are recognised."""
_FORMER_PARTS = "part-"
"""Prefix of tables of vectors in version 1, which had no marks, and passes of `BATCH` photos."""
_FORMER_PAIRS = "pairs-"
"""Prefix of tables of pairs in version 1, which counted each copy as a separate photo."""
_NO_FILE = -1
"""Placeholder for an unknown mark; marks are never negative."""
_UNREADABLE_ROWS = pa.schema({"path": pa.string(), "file": pa.int64(), "reason": pa.string(), "opened": pa.bool_()})
"""Columns of the tables of unreadable files, with types; `opened` is false for a file that is to be tried again."""


@dataclass(frozen=True)
class Encoded:
    """Numbers of a shard's files that have a vector now, and of those that could not be read."""

    photos: int
    unreadable: int


def open_store(url: str, encoder: Encoder, *, measure: bool = False) -> tuple[Store, int]:
    """Open the part of a store that belongs to an encoder; one from an earlier version is updated.

    The batch is fixed once in the life of a store, because vectors of equal pictures are equal to the last bit only in
    passes of one size.

    Args:
        url: folder or URL of the store, which may hold vectors of other encoders as well.
        encoder: the encoder.
        measure: whether to find the fastest batch on this machine for a new store, which takes 3 seconds; else the
            encoder's own batch is used.

    Returns:
        The encoder's tables, and the number of photos in one pass.

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
    """Update a store of version 1: its vectors are kept, its pairs are searched again.

    After a kill, a repeated call continues.

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
    """Hash a file's path, size and times to 63 bits, its mark: among ten million files, none agree by chance.

    Args:
        folder: folder of the photos; paths in tables are relative to it, so that it is part of the mark.
        path: path of the file in the folder.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    status = os.stat(f"{folder}/{path}")  # noqa: PTH116 - a path object for each of a million files would take 15 s
    text = f"{folder}\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}".encode(
        errors="surrogateescape"
    )
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def content_keys(photos: pa.ChunkedArray) -> Ints:
    """Take the first 63 bits of each SHA-256 in a column, int64 (n,): 8 bytes a content instead of 64 letters."""
    digits = "".join(pc.utf8_slice_codeunits(photos, 0, 16).to_pylist())
    return (np.frombuffer(bytes.fromhex(digits), ">u8") >> 1).astype(np.int64)


def keys_of(photos: Sequence[str]) -> Ints:
    """Compute the keys, as `content_keys` does, of photos named by their SHA-256: int64 (n,)."""
    return content_keys(pa.chunked_array([pa.array(photos, pa.string())]))


def among(values: Ints, ordered: Ints) -> Bools:
    """Find which values are among sorted ones: bool (n,)."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[places] == values)


def encoded_tables(store: Store, columns: Sequence[str] = ("photo", "file")) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and `columns` of each table that lists files with a vector; of copies, always `photo` and `file`.

    A copy whose content has lost its vector, because its shard was deleted, does not count as known.
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
    """Read the marks of all files whose content has a vector, int64 (n,), sorted."""
    return _marks(table for _, table in encoded_tables(store, ["file"]))


def unreadable_files(store: Store, max_pixels: int) -> pa.Table:
    """Read which files are unreadable: `path`, `file` (mark), `reason`, and whether they could be `opened` at all."""
    tables = [store.read(name) for name in store.names(f"{UNREADABLE}{max_pixels}-")]
    return pa.concat_tables([_UNREADABLE_ROWS.empty_table(), *tables])


def known_files(store: Store, max_pixels: int) -> Ints:
    """Read the marks of all files that need not be read again, int64 (n,), sorted."""
    broken = unreadable_files(store, max_pixels)
    return np.union1d(encoded_files(store), _marks([broken.filter(broken["opened"])]))


def _marks(tables: Iterable[pa.Table]) -> Ints:
    """Collect the marks of the files that some tables list, int64 (n,), sorted."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(table["file"].to_numpy() for table in tables)]))


def encode_into(
    store: Store,
    encoder: Encoder,
    folder: Path,
    paths: Sequence[str],
    max_pixels: int,
    report: Callable[[int], object] = lambda _: None,
) -> Encoded:
    """Encode the contents of some files that have no vector in the store, and record the result for each file.

    After a kill, a repeated call encodes what was not written.

    Args:
        store: the encoder's tables, as `open_store` returns them.
        encoder: the encoder, with the store's batch, as `with_batch` makes it.
        folder: folder of the files.
        paths: paths of the files in the folder; missing files are skipped.
        max_pixels: larger images are unreadable.
        report: called with the number of photos encoded since its last call.
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
    """The contents that have a vector in a store: 8 bytes each, read once per process, then only additions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = np.empty(0, np.int64)
        self._names: set[str] = set()
        self._lock = Lock()

    def refresh(self) -> None:
        """Read the shards that were written since the last call."""
        with self._lock:
            names = set(self._store.names(SHARDS))
            if self._names - names:  # shards were deleted
                self._keys, self._names = np.empty(0, np.int64), set()
            fresh = [content_keys(self._store.read(name, ["photo"])["photo"]) for name in sorted(names - self._names)]
            if fresh:
                new = np.setdiff1d(np.concatenate(fresh), self._keys)
                self._keys = np.insert(self._keys, np.searchsorted(self._keys, new), new)
            self._names = names

    def have(self, keys: Ints) -> Bools:
        """Find which contents, given by their keys, have a vector: bool (n,)."""
        return among(keys, self._keys)

    def __contains__(self, photo: str) -> bool:
        """Whether a content, a SHA-256 in hex, has a vector."""
        keys, key = self._keys, int(photo[:16], 16) >> 1
        place = int(np.searchsorted(keys, key))
        return place < len(keys) and int(keys[place]) == key


@lru_cache(maxsize=4)
def _contents(store: Store) -> _Contents:
    """Get the contents of a store, cached for the life of the process."""
    return _Contents(store)


class _Files:
    """Files that are read one after the other, and the result for each; rows number them from 0.

    Attributes:
        marks: int64 (n,), mark of each file as it was read; `_NO_FILE` where it could not be opened or is gone.
        photos: SHA-256 of each file, in hex.
        drawn: rows of the files that were given to the encoder, in order.
        vectors: row → vector, of the contents that were encoded.
        copies: rows of files whose content has a vector or was already given to the encoder.
        faults: row → why the file cannot be read.
        unopened: rows of files that could not be opened, which are tried again in the next run.
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
        """Yield the bytes of each file whose content has no vector yet, each content once."""
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
                if error.__cause__:  # an error of the system, which may let it be opened next time
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
        """Record the encoder's result for a file."""
        if isinstance(result, UnreadableImageError):
            self.faults[row] = str(result)
        else:
            self.vectors[row] = result

    def settle_copies(self) -> None:
        """Mark copies of contents that proved unreadable as unreadable too."""
        reasons = {self.photos[row]: reason for row, reason in self.faults.items() if row not in self.unopened}
        self.faults |= {row: reasons[self.photos[row]] for row in self.copies if self.photos[row] in reasons}
        self.copies = [row for row in self.copies if row not in self.faults]

    def table(self, rows: Iterable[int]) -> pa.Table:
        """Make a table of some files with their contents: `photo`, `path` and `file`."""
        rows = list(rows)
        columns = {
            "photo": pa.array([self.photos[row] for row in rows], pa.string()),
            "path": pa.array([self.paths[row] for row in rows], pa.string()),
            "file": pa.array([self.marks[row] for row in rows], pa.int64()),
        }
        return pa.table(columns)

    def shard(self, fingerprint: str) -> pa.Table:
        """Make the table of the contents that were encoded, with their vectors."""
        vectors = vector_column(np.stack(list(self.vectors.values())))
        table = self.table(self.vectors).append_column("vector", vectors)
        return table.replace_schema_metadata({"fingerprint": fingerprint})

    def unreadable(self) -> pa.Table:
        """Make the table of the files that cannot be read, with reasons."""
        rows = [
            {"path": self.paths[row], "file": self.marks[row], "reason": reason, "opened": row not in self.unopened}
            for row, reason in self.faults.items()
        ]
        return pa.Table.from_pylist(rows, _UNREADABLE_ROWS)
