"""Vectors: made once for each photo and encoder, kept in Parquet, never mixed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neardup.archive.scan import scan
from neardup.archive.testset import TestSet
from neardup.arrays import Vectors
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.files import encode_files
from neardup.encode.store import Store, write_parquet
from neardup.errors import ArchiveError, EncoderError, UnreadableImageError
from neardup.images import MAX_PIXELS
from neardup.progress import bar
from neardup.stages import STATE, digest_of, replacing

SHARD = 256
"""Photos in one file of the store: what a kill may cost."""
PART = "part-"
"""What the names of the store's files begin with."""


@dataclass(frozen=True)
class Embeddings:
    """Photos with their vectors, all of one encoder.

    Attributes:
        photos: SHA-256 of each photo.
        paths: where each lies, relative to the archive.
        vectors: float32 (n, d), unit rows; higher dot product is more alike.
        fingerprint: the encoder's.
    """

    photos: tuple[str, ...]
    paths: tuple[str, ...]
    vectors: Vectors
    fingerprint: str

    def table(self) -> pa.Table:
        """Columns `photo`, `path` and `vector`; the fingerprint is in its metadata."""
        columns = {
            "photo": pa.array(self.photos, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), self.vectors.shape[1]),
        }
        return pa.table(columns).replace_schema_metadata({"fingerprint": self.fingerprint})

    @classmethod
    def of(cls, table: pa.Table) -> "Embeddings":
        """What such a table holds.

        Raises:
            KeyError: it lacks a column, or the fingerprint.
        """
        return cls(
            tuple(table["photo"].to_pylist()),
            tuple(table["path"].to_pylist()),
            vectors_of(table["vector"]),
            (table.schema.metadata or {})[b"fingerprint"].decode(),
        )

    def save(self, path: Path) -> Path:
        """Write a Parquet file."""
        with replacing(path) as partial:
            write_parquet(self.table(), partial)
        return path

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Read what `save` wrote.

        Raises:
            ArchiveError: the file is missing or holds no vectors.
        """
        if not path.is_file():
            raise ArchiveError(f"{path} does not exist: make it with `neardup embed FOLDER --out {path}`")
        try:
            return cls.of(pq.read_table(path, memory_map=True))
        except (pa.ArrowInvalid, KeyError) as error:
            raise ArchiveError(f"{path} holds no vectors of neardup: make it anew with `neardup embed`") from error

    def require(self, fingerprint: str) -> None:
        """Refuse to be compared with vectors of another encoder.

        Raises:
            EncoderError: `fingerprint` is another one.
        """
        if fingerprint != self.fingerprint:
            raise EncoderError(
                f"these vectors were made by the encoder {self.fingerprint[:12]}, not by {fingerprint[:12]}: "
                "name the encoder that made them with --encoder, or make them anew with `neardup embed`",
            )


def vectors_of(column: pa.ChunkedArray) -> Vectors:
    """A column of vectors: float32 (n, d)."""
    vectors = column.combine_chunks()
    rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(column), vectors.type.list_size)
    return np.ascontiguousarray(rows, dtype=np.float32)


def embed(
    folder: Path | str,
    encoder: Encoder | str = BUILTIN,
    store: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Embeddings:
    """Encode every image of a folder; what cannot be read is left out, with a warning that says why.

    Args:
        folder: of the photos; it is only read.
        encoder: what encodes, or its name, as `load_encoder` takes it.
        store: folder that keeps the vectors, so that the next call encodes only what is new; else nothing is kept.
        max_pixels: larger images are left out.

    Returns:
        A row a photo, ordered by path.

    Raises:
        ArchiveError: there is no such folder.
        EncoderError: there is no such encoder.
    """
    model = load_encoder(encoder) if isinstance(encoder, str) else encoder
    found = scan(Path(folder), patterns=("**",), exclude=(), max_pixels=max_pixels)
    for path, reason in found.left_out:
        warnings.warn(f"left out {path}: {reason}", stacklevel=2)
    items = [(photo.path, photo.sha256) for photo in found.photos]
    if store is not None:
        return embed_photos(items, found.root, model, store=store, max_pixels=max_pixels)
    with TemporaryDirectory() as forgotten:
        return embed_photos(items, found.root, model, store=Path(forgotten), max_pixels=max_pixels)


def embed_photos(
    items: Sequence[tuple[str, str]],
    root: Path,
    encoder: Encoder,
    *,
    store: Path,
    max_pixels: int = MAX_PIXELS,
) -> Embeddings:
    """Encode photos, each content once in the life of the store.

    Args:
        items: (path relative to `root`, SHA-256) of each photo.
        root: the folder of the photos.
        encoder: what encodes.
        store: folder of the store, one subfolder an encoder; killed at any moment, the next call goes on.
        max_pixels: larger images are refused.

    Returns:
        One row an item, in their order.

    Raises:
        UnreadableImageError: a photo cannot be read.
    """
    kept = Store(str(store)).under(encoder.fingerprint)
    rows = {sha256: row for row, (_, sha256) in enumerate(items)}
    vectors, done = np.empty((len(items), encoder.dimension), np.float32), np.zeros(len(items), dtype=bool)
    for name in kept.names(PART):
        part = Embeddings.of(kept.read(name))
        here = np.array([rows.get(sha256, -1) for sha256 in part.photos], dtype=np.int64)
        vectors[here[here >= 0]] = part.vectors[here >= 0]
        done[here[here >= 0]] = True
    missing = sorted(sha256 for sha256, row in rows.items() if not done[row])
    with bar(total=len(missing), desc="encoding", unit="photo", disable=None if missing else True) as progress:
        for start in range(0, len(missing), SHARD):
            shard = tuple(missing[start : start + SHARD])
            paths = tuple(items[rows[sha256]][0] for sha256 in shard)
            part = Embeddings(shard, paths, _encode(paths, root, encoder, max_pixels, progress), encoder.fingerprint)
            kept.write(f"{PART}{digest_of(shard)[:16]}", part.table())
            vectors[[rows[sha256] for sha256 in shard]] = part.vectors
    chosen = vectors[[rows[sha256] for _, sha256 in items]] if len(rows) < len(items) else vectors
    return Embeddings(tuple(sha for _, sha in items), tuple(path for path, _ in items), chosen, encoder.fingerprint)


def _encode(paths: Sequence[str], root: Path, encoder: Encoder, max_pixels: int, progress: bar) -> Vectors:
    vectors = np.empty((len(paths), encoder.dimension), np.float32)
    for row, result in encode_files(encoder, (root / path for path in paths), max_pixels):
        if isinstance(result, UnreadableImageError):
            raise result
        vectors[row] = result
        progress.update()
    return vectors


def embed_test_set(out: Path, test_set: TestSet, encoder: Encoder, max_pixels: int = MAX_PIXELS) -> Embeddings:
    """Encode the photos of a test set, each once in the life of the folder; the paths are those in the archive.

    Args:
        out: the output folder, prepared.
        test_set: that of the folder.
        encoder: what encodes.
        max_pixels: larger photos are refused.

    Raises:
        UnreadableImageError: a photo cannot be read.
    """
    items = [(f"test_dataset/{photo.name}", photo.sha256) for photo in test_set.photos]
    embeddings = embed_photos(items, out, encoder, store=out / STATE / "vectors", max_pixels=max_pixels)
    return replace(embeddings, paths=tuple(photo.path for photo in test_set.photos))
