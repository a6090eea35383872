"""Vectors: made once for each photo and encoder, kept in Parquet, never mixed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from neardup.encoder import Encoder, Vectors
from neardup.errors import ArchiveError, EncoderError
from neardup.images import MAX_PIXELS
from neardup.stages import digest_of, replacing

SHARD = 256
"""Photos in one file of the store: what a kill may cost."""


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

    def save(self, path: Path) -> Path:
        """Write a Parquet file with columns `photo`, `path` and `vector`; the fingerprint is in its metadata."""
        columns = {
            "photo": pa.array(self.photos, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), self.vectors.shape[1]),
        }
        table = pa.table(columns).replace_schema_metadata({"fingerprint": self.fingerprint})
        with replacing(path) as partial:
            pq.write_table(table, partial)
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
            table = pq.read_table(path)
            fingerprint = (table.schema.metadata or {})[b"fingerprint"].decode()
            vectors = table["vector"].combine_chunks()
        except (pa.ArrowInvalid, KeyError) as error:
            raise ArchiveError(f"{path} holds no vectors of neardup: make it anew with `neardup embed`") from error
        rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), vectors.type.list_size)
        return cls(
            tuple(table["photo"].to_pylist()),
            tuple(table["path"].to_pylist()),
            np.ascontiguousarray(rows, dtype=np.float32),
            fingerprint,
        )

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


def embed(
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
        store: folder of Parquet files, one subfolder an encoder; killed at any moment, the next call goes on.
        max_pixels: larger images are refused.

    Returns:
        One row an item, in their order.
    """
    folder = store / encoder.fingerprint
    known = _load_store(folder)
    first = {sha256: path for path, sha256 in reversed(items)}
    missing = sorted(sha256 for sha256 in first if sha256 not in known)
    with tqdm(total=len(missing), desc="encoding", unit="photo", disable=None if missing else True) as progress:
        for start in range(0, len(missing), SHARD):
            shard = missing[start : start + SHARD]
            vectors = np.concatenate(
                [encoder.encode(images) for images in _batches(shard, first, root, encoder, max_pixels, progress)],
            )
            rows = Embeddings(tuple(shard), tuple(first[sha256] for sha256 in shard), vectors, encoder.fingerprint)
            rows.save(folder / f"part-{digest_of(shard)[:16]}.parquet")
            known |= dict(zip(shard, vectors, strict=True))
    vectors = (
        np.stack([known[sha256] for _, sha256 in items]) if items else np.empty((0, encoder.dimension), np.float32)
    )
    return Embeddings(tuple(sha for _, sha in items), tuple(path for path, _ in items), vectors, encoder.fingerprint)


def _load_store(folder: Path) -> dict[str, Vectors]:
    known: dict[str, Vectors] = {}
    for path in sorted(folder.glob("part-*.parquet")):
        part = Embeddings.load(path)
        known |= dict(zip(part.photos, part.vectors, strict=True))
    return known


def _batches(
    shard: Sequence[str],
    paths: dict[str, str],
    root: Path,
    encoder: Encoder,
    max_pixels: int,
    progress: "tqdm[Any]",
    size: int = 64,
) -> Iterator[list[Image.Image]]:
    """Images of a shard, decoded by two threads."""
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(shard), size):
            batch = shard[start : start + size]
            yield list(pool.map(lambda sha256: encoder.read(root / paths[sha256], max_pixels), batch))
            progress.update(len(batch))
