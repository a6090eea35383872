"""Vectors of photos: made once per photo and encoder, kept in Parquet, never mixed between encoders."""

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neardup.archive.scan import scan
from neardup.archive.testset import TestSet
from neardup.archive.walk import Skipped
from neardup.arrays import Bools, Vectors
from neardup.encode.batch import with_batch
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.shards import SHARDS, encode_into, open_store
from neardup.encode.store import Store, check_store, store_of, vector_column, vectors_of, write_vectors
from neardup.errors import ArchiveError, EncoderError, UnreadableImageError
from neardup.images import MAX_PIXELS
from neardup.progress import bar
from neardup.stages import replacing
from neardup.tables import reading_parquet
from neardup.words import typed

SHARD = 256
"""Photos between two writes to the store: a kill may cost about 20 seconds of ViT-B/32 on two cores."""


@dataclass(frozen=True)
class Embeddings:
    """Photos with their vectors, all of one encoder.

    Attributes:
        photos: SHA-256 of each photo.
        paths: path of each photo, relative to the archive.
        vectors: float32 (n, d), unit rows; a higher dot product is more alike.
        fingerprint: fingerprint of the encoder.
    """

    photos: tuple[str, ...]
    paths: tuple[str, ...]
    vectors: Vectors
    fingerprint: str

    def table(self) -> pa.Table:
        """Make a table of the columns `photo`, `path` and `vector`; the fingerprint is in its metadata."""
        columns = {
            "photo": pa.array(self.photos, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "vector": vector_column(self.vectors),
        }
        return pa.table(columns).replace_schema_metadata({"fingerprint": self.fingerprint})

    @classmethod
    def of(cls, table: pa.Table) -> "Embeddings":
        """Read photos and vectors from a table that `table` made, or from a shard of a store.

        Raises:
            KeyError: the table lacks a column or the fingerprint.
        """
        return cls(
            tuple(table["photo"].to_pylist()),
            tuple(table["path"].to_pylist()),
            vectors_of(table["vector"]),
            (table.schema.metadata or {})[b"fingerprint"].decode(),
        )

    def save(self, path: Path, folder: Path | None = None) -> Path:
        """Write the table as a Parquet file, atomically.

        Args:
            path: the file.
            folder: folder of the photos, to be stored in the file for `folder_of`.
        """
        table = self.table()
        if folder:
            table = table.replace_schema_metadata(
                {**(table.schema.metadata or {}), "folder": os.fsencode(folder.resolve())}
            )
        with replacing(path) as partial:
            write_vectors(table, partial)
        return path

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Read a Parquet file of vectors, as `save` wrote it.

        Raises:
            ArchiveError: the file is missing or holds no vectors.
        """
        if not path.is_file():
            raise ArchiveError(f"{path} does not exist: make it with `neardup embed FOLDER --out {typed(path)}`")
        with _reading(path):
            return cls.of(pq.read_table(path, memory_map=True, partitioning=None, page_checksum_verification=True))

    def require(self, fingerprint: str) -> None:
        """Raise an error if the vectors belong to another encoder.

        Raises:
            EncoderError: `fingerprint` differs from the vectors' own.
        """
        if fingerprint != self.fingerprint:
            raise EncoderError(
                f"these vectors were made by the encoder {self.fingerprint[:12]}, not by {fingerprint[:12]}: "
                "name the encoder that made them with --encoder, or make them anew with `neardup embed`",
            )


def _reading(path: Path) -> AbstractContextManager[None]:
    """Make a context that turns errors of reading a file of vectors into ArchiveError."""
    return reading_parquet(lambda _: f"{path} holds no vectors of neardup: make it anew with `neardup embed`")


def folder_of(path: Path) -> Path | None:
    """Read which folder the photos of a Parquet file of vectors came from; None if it is unknown or gone.

    Raises:
        ArchiveError: the file is not a Parquet file.
    """
    with _reading(path):
        metadata = pq.read_schema(path).metadata
    folder = os.fsdecode((metadata or {}).get(b"folder", b""))
    return Path(folder) if folder and Path(folder).is_dir() else None


def embed(
    folder: Path | str,
    encoder: Encoder | Path | str = BUILTIN,
    store: Path | str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Embeddings:
    """Encode every image of a folder; unreadable files are left out, with a warning that says why.

    Args:
        folder: folder of the photos; it is only read.
        encoder: the encoder, or its name, as `load_encoder` takes it.
        store: folder or URL that keeps the vectors, so that the next call encodes only what is new; None keeps nothing.
        max_pixels: larger images are left out.

    Returns:
        One row per photo, sorted by path.

    Raises:
        ArchiveError: there is no such folder, or the store lies inside it.
        EncoderError: there is no such encoder.
    """
    with ExitStack() as temporary:
        place = temporary.enter_context(TemporaryDirectory()) if store is None else store
        vectors, left_out = _embed(folder, encoder, place, max_pixels)
    for skipped in left_out:
        warnings.warn(f"left out {skipped.path}: {skipped.reason}", stacklevel=2)
    return vectors


def _embed(
    folder: Path | str, encoder: Encoder | Path | str, store: Path | str, max_pixels: int
) -> tuple[Embeddings, list[Skipped]]:
    """Encode every image of a folder, as `embed` does; also returns what is left out."""
    check_store(Path(folder), str(store))
    model = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    archive = scan(Path(folder), patterns=("**",), exclude=(), max_pixels=max_pixels)
    left_out = archive.left_out
    items = [(photo.path, photo.sha256) for photo in archive.photos]
    vectors = embed_photos(items, archive.root, model, store=store, max_pixels=max_pixels, left_out=left_out)
    return vectors, left_out


def embed_photos(
    items: Sequence[tuple[str, str]],
    root: Path,
    encoder: Encoder,
    *,
    store: Path | str,
    max_pixels: int = MAX_PIXELS,
    left_out: list[Skipped] | None = None,
) -> Embeddings:
    """Encode photos, each content once in the life of the store, whatever its path and whatever command encoded it.

    Args:
        items: (path relative to `root`, SHA-256) of each photo.
        root: the folder of the photos.
        encoder: the encoder.
        store: folder or URL of the store; after a kill at any moment, the next call continues.
        max_pixels: larger images are refused.
        left_out: takes the photos that cannot be encoded, with the reasons; without it, they are errors.

    Returns:
        One row per item that was encoded, in their order.

    Raises:
        UnreadableImageError: a photo cannot be read.
        FileNotFoundError: a photo does not exist.
        ArchiveError: a photo's bytes do not have its SHA-256.
    """
    shards, batch = open_store(str(store), encoder)
    in_batches = with_batch(encoder, batch)
    rows = {photo: row for row, (_, photo) in enumerate(items)}
    stored = _StoredVectors(rows, np.empty((len(items), encoder.dimension), np.float32))
    stored.take_all(shards)
    missing = sorted(photo for photo, row in rows.items() if not stored.present[row])
    reasons = dict[str, str]()
    folder = root.resolve()
    with bar(total=len(missing), desc="encoding", unit="photo", disable=None if missing else True) as progress:
        for start in range(0, len(missing), SHARD):
            photos = missing[start : start + SHARD]
            paths = [items[rows[photo]][0] for photo in photos]
            encode_into(shards, in_batches, folder, paths, max_pixels, progress.update)
            stored.take_all(shards)
            for photo, path in zip(photos, paths, strict=True):
                if not stored.present[rows[photo]]:
                    reasons[photo] = _reason(root / path, encoder, max_pixels, refuse=left_out is None)
    if left_out is not None:
        left_out += [Skipped(path, reasons[photo]) for path, photo in items if photo in reasons]
    kept = [item for item in items if item[1] not in reasons]
    whole = len(rows) == len(kept) == len(items)
    chosen = stored.vectors if whole else stored.vectors[[rows[photo] for _, photo in kept]]
    return Embeddings(tuple(photo for _, photo in kept), tuple(path for path, _ in kept), chosen, encoder.fingerprint)


@dataclass
class _StoredVectors:
    """Vectors of wanted contents, read from a store.

    Attributes:
        rows: content → row.
        vectors: float32 (n, d), undefined in rows that are not `present`.
        present: bool (n,), whether the vector of each row was in a shard that was read.
    """

    rows: Mapping[str, int]
    vectors: Vectors
    present: Bools = field(init=False)
    _read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.present = np.zeros(len(self.vectors), dtype=bool)

    def take_all(self, store: Store) -> None:
        """Take the wanted vectors from the shards that were not read yet."""
        for name in store.names(SHARDS):
            if name in self._read:
                continue
            self._read.add(name)
            photos = store.read(name, ["photo"])["photo"].to_pylist()
            rows = np.array([self.rows.get(photo, -1) for photo in photos], dtype=np.int64)
            if (rows >= 0).any():
                self.vectors[rows[rows >= 0]] = vectors_of(store.read(name, ["vector"])["vector"])[rows >= 0]
                self.present[rows[rows >= 0]] = True


def _reason(path: Path, encoder: Encoder, max_pixels: int, *, refuse: bool) -> str:
    """Say why a photo could not be encoded, or raise the error that says so if it is to be refused.

    Raises:
        UnreadableImageError: the photo cannot be read.
        FileNotFoundError: the photo does not exist.
        ArchiveError: the photo can be read, so that its bytes must have changed since its SHA-256 was taken.
    """
    try:
        encoder.read(path, max_pixels)
    except UnreadableImageError as error:
        if refuse:
            raise UnreadableImageError(f"{path}: {error}") from error
        return str(error)
    except FileNotFoundError:
        if refuse:
            raise
        return "the file is gone"
    if refuse:
        raise ArchiveError(f"{path} changed while the folder was read: do it again")
    return "the file changed while the folder was read"


def stored_vectors(store: str, fingerprint: str) -> Embeddings:
    """Read all vectors of one encoder in a store, one row per content, sorted by path, as a gallery for `search`.

    Args:
        store: folder or URL of the store.
        fingerprint: fingerprint of the encoder.

    Raises:
        ArchiveError: the store holds no vectors of this encoder.
    """
    shards = Store(store).under(fingerprint)
    tables = [shards.read(name, ["photo", "path", "vector"]) for name in shards.names(SHARDS)]
    if not tables:
        raise ArchiveError(
            f"{store} holds no vectors of the encoder {fingerprint[:12]}: name the encoder that made them with "
            "--encoder, or make them with `neardup embed`"
        )
    table = pa.concat_tables(tables)
    first = np.unique(np.array(table["photo"].to_pylist()), return_index=True)[1]
    table = table.take(first).sort_by("path")
    return Embeddings.of(table.replace_schema_metadata({"fingerprint": fingerprint}))


def embed_test_set(
    out: Path, test_set: TestSet, encoder: Encoder, max_pixels: int = MAX_PIXELS, store: str | None = None
) -> Embeddings:
    """Encode the photos of a test set, each once in the life of the store; the paths are those in the archive.

    Args:
        out: the experiment's output folder.
        test_set: the test set that `prepare` made there.
        encoder: the encoder.
        max_pixels: larger photos are refused.
        store: folder or URL of the vectors, which other commands may share; None for one in `out`.

    Raises:
        UnreadableImageError: a photo cannot be read.
    """
    items = [(f"test_dataset/{photo.name}", photo.sha256) for photo in test_set.photos]
    embeddings = embed_photos(items, out, encoder, store=store_of(out, store), max_pixels=max_pixels)
    return replace(embeddings, paths=tuple(photo.path for photo in test_set.photos))
