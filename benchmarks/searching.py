"""Topics search, verify, million and cluster: near pairs and nearest vectors beside the peers, pairs verified, Dask."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import torch
from distributed import Client, LocalCluster, wait
from rates import SMALL, Measured, Topics, clock, made_jpegs, measured, on_cores, peak_mb
from sklearn.neighbors import NearestNeighbors

from neardup.arrays import Vectors
from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.encode.shards import SHARDS
from neardup.encode.vectors import Embeddings
from neardup.images import read_image
from neardup.search.all_pairs import near_pairs
from neardup.search.approximate import Index, build_index
from neardup.search.blocks import open_triangle, search_block
from neardup.search.nearest import nearest
from neardup.stages import digest_file, digest_of
from neardup.train.press import press
from neardup.verify.candidates import CANDIDATES, candidate_pairs
from neardup.verify.keypoints import local_features
from neardup.verify.match import Prepared
from neardup.verify.store import KeypointCache
from neardup.verify.verifier import CORES, Verifier, evidence_of

DIMENSION = 512
"""Length of the vectors, that of ViT-B/32."""
THRESHOLD = 0.9
"""Least similarity of a near pair; of the made vectors one in twenty has a partner at or above it."""
TOP = 10
"""Hits of a query."""
ROWS = 512
"""Rows of a block of the plain product; of 256 x 1024, 512 x 2048, 1024 x 4096 and 256 x 16384 this is the fastest."""
COLUMNS = 2048
"""Columns of a block of the plain product, chosen with `ROWS`."""
PLANTED = 1000
"""Copies that are searched exactly and by the index, to count those that only exact search finds."""
CHUNK = 65_536
"""Vectors that are made at once: 134 MB."""
COMMON = 0.6
"""Similarity of any two of the made vectors, before scenes and copies."""
SHARED = 0.3
"""Share of the variance beside `COMMON` that the vectors of one scene have in common."""
SCENE = 20
"""Vectors of one scene in the mean."""
COPIES = 0.05
"""Share of the made vectors that are changed copies of their predecessors."""
VERIFIED = 256
"""Photos of the topic verify: with the 20 nearest of each some 4,000 pairs, of which a pass takes seconds."""
PRINTS = 8
"""Press copies of each: 2,048 pairs, from which on neardup verifies by processes."""
SLOWER = 8
"""The plain loop takes one pair of this many, as matching pairs would otherwise need a minute a pass."""
WORKERS = (1, 2)
"""Dask workers of the topic cluster, one thread each."""
ENCODED = 768
"""Photos that the topic cluster encodes."""
SHARD = 32
"""Photos in one task of the topic cluster: 24 tasks, so that two workers end at nearly the same time."""
CLUSTER_VECTORS = 65_536
"""Vectors of which the topic cluster compares all pairs."""
Pairs = Sequence[tuple[str, str]]
"""Names of the two photos of each pair to verify."""
SLAB = 8192
"""Vectors in one side of a block of the topic cluster: 36 blocks for two workers."""


def made_vectors(path: Path, count: int) -> Path:
    """Unit vectors with the spectrum of an encoder's, kept as .npy; the same each time.

    One direction is common to all, the variance of the others falls as 1 / rank; photos of one scene are alike, and
    every twentieth is a copy of its predecessor, changed by 0.05 to 0.6 times the difference of two photos.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scales = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.5
    scales *= ((1 - COMMON) / (scales * scales).sum()) ** 0.5
    common, turn = np.full(DIMENSION, (COMMON / DIMENSION) ** 0.5, np.float32), _turn(rng)
    scenes = rng.standard_normal((count // SCENE + 1, DIMENSION), np.float32)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSION))
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        rows = SHARED**0.5 * scenes[rng.integers(0, len(scenes), size)]
        rows += (1 - SHARED) ** 0.5 * rng.standard_normal((size, DIMENSION), np.float32)
        copies = np.arange(1, size, round(1 / COPIES))
        changes = rng.uniform(0.05, 0.6, (len(copies), 1)).astype(np.float32)
        rows[copies] = rows[copies - 1] + changes * rng.standard_normal((len(copies), DIMENSION), np.float32)
        rows = (rows * scales + common) @ turn
        vectors[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    vectors.flush()
    return path


def _turn(rng: np.random.Generator) -> Vectors:
    """Make a random orthogonal matrix, as the axes of an encoder's space have no meaning."""
    return np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)


def our_pairs(path: Path, count: int) -> Callable[[], str]:
    """All pairs by `near_pairs` of neardup."""
    vectors = np.load(path, mmap_mode="r")[:count]
    return lambda: f"{len(near_pairs(vectors, np.arange(count), THRESHOLD).left):,} pairs"


def plain_pairs(path: Path, count: int) -> Callable[[], str]:
    """All pairs by a float32 product, block by block of the triangle."""
    vectors = np.load(path)[:count]

    def work() -> str:
        found = 0
        for top in range(0, count, ROWS):
            for start in range(top, count, COLUMNS):
                i, j = np.nonzero(vectors[top : top + ROWS] @ vectors[start : start + COLUMNS].T >= THRESHOLD)
                found += int(np.count_nonzero(i + top < j + start))
        return f"{found:,} pairs"

    return work


def faiss_pairs(path: Path, count: int) -> Callable[[], str]:
    """All pairs by range search on a flat FAISS index; it finds each pair twice, and each vector itself."""
    vectors = np.load(path)[:count]
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    return lambda: f"{(int(index.range_search(vectors, THRESHOLD)[0][-1]) - count) // 2:,} pairs"


def sklearn_pairs(path: Path, count: int) -> Callable[[], str]:
    """All pairs by scikit-learn, within a radius: unit vectors of similarity s are (2 - 2 s)^0.5 apart."""
    vectors = np.load(path)[:count]
    index = NearestNeighbors(radius=(2 - 2 * THRESHOLD) ** 0.5, algorithm="brute").fit(vectors)
    return lambda: f"{sum(map(len, index.radius_neighbors(return_distance=False))) // 2:,} pairs"


def imagededup_pairs(path: Path, count: int) -> Callable[[], str]:
    """All pairs by imagededup, on the vectors as its `CNN` keeps them; it finds each pair twice."""
    from imagededup.methods import CNN  # noqa: PLC0415 - here only, or the memory of the others would count it
    from imagededup.utils import CustomModel  # noqa: PLC0415 - here only, or the memory of the others would count it

    finder = CNN(verbose=False, model_config=CustomModel("vectors", torch.nn.Identity(), torch.nn.Identity()))
    vectors = {f"{row:07}.jpg": vector for row, vector in enumerate(np.load(path)[:count])}

    def work() -> str:
        found = finder.find_duplicates(encoding_map=vectors, min_similarity_threshold=THRESHOLD, num_sim_workers=0)
        return f"{sum(map(len, found.values())) // 2:,} pairs"

    return work


def our_nearest(path: Path, queries: int) -> Callable[[], object]:
    """The nearest vectors by `nearest` of neardup."""
    gallery = _gallery(path)
    return lambda: nearest(gallery.vectors[:queries], gallery, TOP, fingerprint="")


def our_approximate(path: Path, queries: int) -> Callable[[], str]:
    """The nearest vectors by the index of `neardup search --approximate`; the note says what it misses."""
    gallery = _gallery(path)
    file, digest = path.with_suffix(".hnsw"), digest_file(path)
    index = Index.load(file, digest, print) or build_index(gallery.vectors, file, digest, top=TOP)
    query_vectors = gallery.vectors[:queries]
    copies = np.arange(1, len(gallery.vectors), round(1 / COPIES))[:PLANTED]
    exact, near = (
        [{hit.path for hit in hits} for hits in found]
        for found in (
            nearest(gallery.vectors[copies], gallery, TOP, fingerprint=""),
            index.hits(gallery.vectors[copies], gallery, TOP),
        )
    )
    originals = [gallery.paths[row - 1] for row in copies]
    reachable = [number for number, path in enumerate(originals) if path in exact[number]]
    found = sum(originals[number] in near[number] for number in reachable)

    def work() -> str:
        index.hits(query_vectors, gallery, TOP)
        return f"{index.recall}; finds {found:,} of {len(reachable):,} planted copies that exact search finds"

    return work


def _gallery(path: Path) -> Embeddings:
    vectors = np.load(path)
    names = tuple(f"{row:07}.jpg" for row in range(len(vectors)))
    return Embeddings(names, names, vectors, "")


def faiss_nearest(path: Path, queries: int) -> Callable[[], object]:
    """The nearest vectors by a flat FAISS index."""
    vectors = np.load(path)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    return lambda: index.search(vectors[:queries], TOP)


def sklearn_nearest(path: Path, queries: int) -> Callable[[], object]:
    """The nearest vectors by scikit-learn's brute force; Euclidean distances order unit vectors as similarities do."""
    vectors = np.load(path)
    index = NearestNeighbors(n_neighbors=TOP, algorithm="brute").fit(vectors)
    return lambda: index.kneighbors(vectors[:queries])


def measure_search(photos: Path, work: Path) -> list[Measured]:  # noqa: ARG001 - all topics are called alike
    """All pairs and nearest neighbours at 100,000 vectors, and how all grow; with one thread about 10 minutes."""
    path = made_vectors(work / "vectors-100000.npy", 100_000)
    once = partial(measured, passes=1, warm=False)
    results = []
    quick = {"neardup": our_pairs, "float32 product, NumPy": plain_pairs, "FAISS range_search": faiss_pairs}
    slow_peers = {"scikit-learn radius_neighbors": sklearn_pairs, "imagededup find_duplicates": imagededup_pairs}
    for count, more in ((1000, slow_peers), (10_000, slow_peers), (100_000, {})):
        task = f"all pairs at or above {THRESHOLD} of {count:,} vectors"
        clocked = measured if more else once
        for method, make in {**quick, **more}.items():
            results.append(clocked(task, method, "pairs of vectors", count * (count - 1) // 2, make, path, count))
    peers: Mapping[str, Callable[[Path, int], Callable[[], object]]] = {
        "neardup": our_nearest,
        "neardup, approximate": our_approximate,
        "FAISS flat": faiss_nearest,
        "scikit-learn brute": sklearn_nearest,
    }
    for queries in (1, 100, 1000):
        task = f"the {TOP} most similar of 100,000 vectors, {queries:,} at once"
        results += [measured(task, name, "queries", queries, make, path, queries) for name, make in peers.items()]
    return results


def measure_million(photos: Path, work: Path) -> list[Measured]:  # noqa: ARG001 - all topics are called alike
    """All pairs of a million vectors, 2 GB of them in a memory map; with one thread about 15 minutes."""
    count = 1_000_000
    path = made_vectors(work / f"vectors-{count}.npy", count)
    task = f"all pairs at or above {THRESHOLD} of {count:,} vectors"
    pairs = count * (count - 1) // 2
    return [measured(task, "neardup", "pairs of vectors", pairs, our_pairs, path, count, passes=1, warm=False)]


def measure_cluster(photos: Path, work: Path) -> list[Measured]:
    """The same work by one process and by two, each a Dask worker on loopback with one thread: photos and all pairs."""
    results: list[Measured] = []
    for workers in WORKERS:
        with LocalCluster(n_workers=workers, threads_per_worker=1) as cluster, Client(cluster) as client:
            name = f"neardup, {workers} Dask worker{'s' * (workers > 1)}"
            results += [_encoding(photos, work, client, name), _searching(work, client, name)]
    return sorted(results, key=lambda one: one.task)


def _encoding(photos: Path, work: Path, client: Client, name: str) -> Measured:
    folder = made_jpegs(photos, work / "jpegs", ENCODED, SMALL)[0].parent
    collection = open_collection(folder, str(work / "cluster" / "encoded"), BUILTIN, "cpu", "fp32")

    def encode() -> None:
        for done in Path(collection.vectors.url).glob(f"{SHARDS}*"):
            done.unlink()
        shards = new_shards(collection, known(collection), SHARD)
        _run_all(client, encode_shard, [(collection, paths) for paths in shards])

    speed = clock(encode, ENCODED)
    return Measured(f"encode {SMALL[0]} × {SMALL[1]} JPEGs on a cluster", name, "photos", speed, _peak(client))


def _searching(work: Path, client: Client, name: str) -> Measured:
    collection = _made_store(work / "cluster" / "vectors")

    def search() -> None:
        for done in Path(collection.vectors.url).glob("near-*"):
            done.unlink()
        triangle = open_triangle(collection, THRESHOLD, SLAB)
        _run_all(client, search_block, [(collection, THRESHOLD, block) for block in triangle.blocks()])

    speed = clock(search, CLUSTER_VECTORS * (CLUSTER_VECTORS - 1) // 2)
    return Measured(f"all pairs of {CLUSTER_VECTORS:,} × {DIMENSION} on a cluster", name, "pairs", speed, _peak(client))


def _made_store(store: Path) -> Collection:
    """A store of made vectors: unit rows whose components fall off by a power law."""
    collection = Collection(store, str(store), BUILTIN, "cpu", "fp32", "made", 16)
    if len(collection.vectors.names(SHARDS)) * SLAB < CLUSTER_VECTORS:
        rng = np.random.default_rng(0)
        scale = np.arange(1, DIMENSION + 1) ** -0.6
        for number in range(CLUSTER_VECTORS // SLAB):
            rows = (rng.normal(size=(SLAB, DIMENSION)) * scale).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            names = tuple(f"{number}-{row}" for row in range(SLAB))
            table = Embeddings(names, names, rows, "made").table()
            table = table.append_column("file", pa.array(np.arange(SLAB), pa.int64()))
            collection.vectors.write(f"{SHARDS}{SLAB:06d}-{number:016d}", table)
    return collection


def _run_all(client: Client, work: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    futures = [client.submit(work, *call, pure=False) for call in calls]
    wait(futures)
    for future in futures:
        future.result()


def _peak(client: Client) -> float:
    """The most memory in MB that one worker held."""
    peaks: Mapping[str, float] = client.run(peak_mb)
    return max(peaks.values())


def measure_verification(photos: Path, work: Path) -> list[Measured]:
    """Keypoints and verified pairs by all cores, and by a plain loop on one: about two minutes."""
    paths = made_jpegs(photos, work / "jpegs", VERIFIED, SMALL)
    encoder = load_encoder(BUILTIN, "cpu")
    vectors = encoder.encode([encoder.read(path) for path in paths])
    names = [path.stem for path in paths]
    near = [(names[left], names[right]) for left, right in candidate_pairs(vectors).tolist()]
    files = dict(zip(names, paths, strict=True))
    prints = [(name, f"{name}-{seed}") for name in names for seed in range(PRINTS)]
    files |= {copy: press_copy(files[name], work / "press" / f"{copy}.jpg") for name, copy in prints}
    two_and_two = list(zip(names[::2], names[1::2], strict=True))
    proof = verifying, verifying_alone
    ways = (
        (f"keypoints in JPEG files of {SMALL[0]} × {SMALL[1]}", (finding, finding_alone), two_and_two, "photos"),
        (f"photos with the {CANDIDATES} nearest of each, keypoints at hand", proof, near, "pairs"),
        (f"photos with {PRINTS} press copies of each, keypoints at hand", proof, prints, "pairs"),
    )
    results = []
    for task, (together, alone), pairs, unit in ways:
        each = 2 if unit == "photos" else 1
        few = pairs[::SLOWER]
        results += [
            measured(f"verify: {task}", f"neardup, {CORES} cores", unit, each * len(pairs), together, files, pairs),
            measured(
                f"verify: {task}", "a plain loop, one core", unit, each * len(few), on_cores, 1, alone, files, few
            ),
        ]
    return results


def press_copy(path: Path, copy: Path) -> Path:
    """A copy of a photo as a newspaper would print it, drawn by its name; one that is there is not made again."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.is_file():
        press(read_image(path), int(digest_of(copy.name)[:8], 16)).save(copy, quality=90)
    return copy


def finding(files: Mapping[str, Path], pairs: Pairs) -> Callable[[], object]:
    """Find the keypoints of all photos of pairs by a verifier that knows none, which verifies each pair, too."""
    return lambda: Verifier(lambda name: files[name].read_bytes()).verify(pairs)


def finding_alone(files: Mapping[str, Path], pairs: Pairs) -> Callable[[], object]:
    """Find the keypoints of all photos of pairs one after the other, and verify each pair."""
    return lambda: [evidence_of(prepared(files[one]), prepared(files[two]), (one, two)) for one, two in pairs]


def verifying(files: Mapping[str, Path], pairs: Pairs) -> Callable[[], object]:
    """Verify pairs by a verifier whose keypoints are kept, in the work folder, by the pass that is not counted."""
    kept = KeypointCache.in_state(files[pairs[0][0]].parents[1])
    return lambda: Verifier(lambda name: files[name].read_bytes(), kept).verify(pairs)


def verifying_alone(files: Mapping[str, Path], pairs: Pairs) -> Callable[[], object]:
    """Verify pairs one after the other."""
    of = {name: prepared(files[name]) for pair in pairs for name in pair}
    return lambda: [evidence_of(of[first], of[second], (first, second)) for first, second in pairs]


def prepared(path: Path) -> Prepared:
    """The keypoints of a file as they are matched."""
    return Prepared.of(local_features(path.read_bytes()))


TOPICS: Topics = {
    "search": measure_search,
    "verify": measure_verification,
    "million": measure_million,
    "cluster": measure_cluster,
}
