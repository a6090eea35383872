"""The same work by one process and by two, each a Dask worker on loopback with one thread."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client, LocalCluster, wait
from jpegs import SMALL, made_jpegs
from rates import Measured, clock, peak_mb

from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection
from neardup.encode.encoder import BUILTIN
from neardup.encode.shards import SHARDS
from neardup.encode.vectors import Embeddings
from neardup.search.blocks import open_triangle, search_block

PHOTOS, SHARD = 768, 32
VECTORS, DIMENSIONS, SLAB = 65_536, 512, 8192
THRESHOLD = 0.9


def measure_cluster(photos: Path, work: Path) -> list[Measured]:
    """Encoding and all pairs, by one worker and by two."""
    found: list[Measured] = []
    for workers in (1, 2):
        with LocalCluster(n_workers=workers, threads_per_worker=1) as cluster, Client(cluster) as client:
            name = f"neardup, {workers} Dask worker{'s' * (workers > 1)}"
            found += [_encoding(photos, work, client, name), _searching(work, client, name)]
    return sorted(found, key=lambda one: one.task)


def _encoding(photos: Path, work: Path, client: Client, name: str) -> Measured:
    folder = made_jpegs(photos, work / "jpegs", PHOTOS, SMALL)[0].parent
    collection = open_collection(folder, str(work / "cluster" / "encoded"), BUILTIN, "cpu", "fp32")

    def encode() -> None:
        for done in Path(collection.vectors.url).glob(f"{SHARDS}*"):
            done.unlink()
        _all(client, encode_shard, [(collection, paths) for paths in new_shards(collection, known(collection), SHARD)])

    speed = clock(encode, PHOTOS)
    return Measured(f"encode {SMALL[0]} × {SMALL[1]} JPEGs on a cluster", name, "photos", speed, _peak(client))


def _searching(work: Path, client: Client, name: str) -> Measured:
    collection = _made(work / "cluster" / "vectors")

    def search() -> None:
        for done in Path(collection.vectors.url).glob("near-*"):
            done.unlink()
        triangle = open_triangle(collection, THRESHOLD, SLAB)
        _all(client, search_block, [(collection, THRESHOLD, block) for block in triangle.blocks()])

    speed = clock(search, VECTORS * (VECTORS - 1) // 2)
    return Measured(f"all pairs of {VECTORS:,} × {DIMENSIONS} on a cluster", name, "pairs", speed, _peak(client))


def _made(store: Path) -> Collection:
    """A store of vectors that nobody encoded: unit rows whose components fall off by a power law."""
    collection = Collection(store, str(store), BUILTIN, "cpu", "fp32", "made", 16)
    if len(collection.vectors.names(SHARDS)) * SLAB < VECTORS:
        rng = np.random.default_rng(0)
        scale = np.arange(1, DIMENSIONS + 1) ** -0.6
        for number in range(VECTORS // SLAB):
            rows = (rng.normal(size=(SLAB, DIMENSIONS)) * scale).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            names = tuple(f"{number}-{row}" for row in range(SLAB))
            table = Embeddings(names, names, rows, "made").table()
            table = table.append_column("file", pa.array(np.arange(SLAB), pa.int64()))
            collection.vectors.write(f"{SHARDS}{SLAB:06d}-{number:016d}", table)
    return collection


def _all(client: Client, work: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    futures = [client.submit(work, *call, pure=False) for call in calls]
    wait(futures)
    for future in futures:
        future.result()


def _peak(client: Client) -> float:
    """The most that one worker held."""
    peaks: Mapping[str, float] = client.run(peak_mb)
    return max(peaks.values())
