"""All pairs above a threshold, and the k most similar: neardup against the plain product, FAISS and scikit-learn."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import torch
from rates import Measured, measured
from sklearn.neighbors import NearestNeighbors

from neardup.arrays import Vectors
from neardup.encode.vectors import Embeddings
from neardup.search.approximate import Index, build_index
from neardup.search.nearest import nearest
from neardup.search.pairs import near_pairs
from neardup.stages import digest_file

DIMENSION = 512
THRESHOLD = 0.9
TOP = 10
ROWS, COLUMNS = 512, 2048
"""Of the plain product: the fastest of 256 x 1024, 512 x 2048, 1024 x 4096 and 256 x 16384."""
PLANTED = 1000
"""Copies that are searched both ways."""
CHUNK = 65_536
COMMON, SHARED, SCENE = 0.6, 0.3, 20
"""Similarity of any two vectors, share of the rest that a scene's have in common, and vectors in a scene."""
COPIES = 0.05


def made_vectors(path: Path, count: int) -> Path:
    """Unit vectors with the spectrum of an encoder's, kept as .npy; the same each time.

    One direction is common to all, the variance of the others falls as 1 / rank; photos of one scene are alike, and
    each twentieth is a copy of its predecessor, changed by 0.05 to 0.6 times what two photos differ by.
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
    """A random orthogonal matrix: an encoder's axes mean nothing."""
    return np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)


def our_pairs(path: Path, count: int) -> Callable[[], str]:
    """By neardup."""
    vectors = np.load(path, mmap_mode="r")[:count]
    return lambda: f"{len(near_pairs(vectors, np.arange(count), THRESHOLD).left):,} pairs"


def plain_pairs(path: Path, count: int) -> Callable[[], str]:
    """By a float32 product, block by block of the triangle."""
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
    """By range search on a flat index; each pair is found twice, and each photo finds itself."""
    vectors = np.load(path)[:count]
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    return lambda: f"{(int(index.range_search(vectors, THRESHOLD)[0][-1]) - count) // 2:,} pairs"


def sklearn_pairs(path: Path, count: int) -> Callable[[], str]:
    """By a radius: unit vectors of similarity s are (2 - 2 s)^0.5 apart."""
    vectors = np.load(path)[:count]
    index = NearestNeighbors(radius=(2 - 2 * THRESHOLD) ** 0.5, algorithm="brute").fit(vectors)
    return lambda: f"{sum(map(len, index.radius_neighbors(return_distance=False))) // 2:,} pairs"


def imagededup_pairs(path: Path, count: int) -> Callable[[], str]:
    """By imagededup, on the vectors as its `CNN` keeps them; each pair is found twice."""
    from imagededup.methods import CNN  # noqa: PLC0415 - here only, or the memory of the others would count it
    from imagededup.utils import CustomModel  # noqa: PLC0415

    finder = CNN(verbose=False, model_config=CustomModel("vectors", torch.nn.Identity(), torch.nn.Identity()))
    vectors = {f"{row:07}.jpg": vector for row, vector in enumerate(np.load(path)[:count])}

    def work() -> str:
        found = finder.find_duplicates(encoding_map=vectors, min_similarity_threshold=THRESHOLD, num_sim_workers=0)
        return f"{sum(map(len, found.values())) // 2:,} pairs"

    return work


def our_nearest(path: Path, queries: int) -> Callable[[], object]:
    """By neardup."""
    gallery = _gallery(path)
    return lambda: nearest(gallery.vectors[:queries], gallery, TOP, fingerprint="")


def our_approximate(path: Path, queries: int) -> Callable[[], str]:
    """By the index of `neardup search --approximate`; the note says what it misses."""
    gallery = _gallery(path)
    file, digest = path.with_suffix(".hnsw"), digest_file(path)
    index = Index.load(file, digest) or build_index(gallery.vectors, file, digest, top=TOP)
    asked = gallery.vectors[:queries]
    copies = np.arange(1, len(gallery.vectors), round(1 / COPIES))[:PLANTED]
    exact, near = (
        [{hit.path for hit in hits} for hits in found]
        for found in (
            nearest(gallery.vectors[copies], gallery, TOP, fingerprint=""),
            index.hits(gallery.vectors[copies], gallery, TOP),
        )
    )
    originals = [gallery.paths[row - 1] for row in copies]
    there = [number for number, path in enumerate(originals) if path in exact[number]]
    found = sum(originals[number] in near[number] for number in there)

    def work() -> str:
        index.hits(asked, gallery, TOP)
        return f"{index.recall}; finds {found:,} of {len(there):,} planted copies that exact search finds"

    return work


def _gallery(path: Path) -> Embeddings:
    vectors = np.load(path)
    names = tuple(f"{row:07}.jpg" for row in range(len(vectors)))
    return Embeddings(names, names, vectors, "")


def faiss_nearest(path: Path, queries: int) -> Callable[[], object]:
    """By a flat index."""
    vectors = np.load(path)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    return lambda: index.search(vectors[:queries], TOP)


def sklearn_nearest(path: Path, queries: int) -> Callable[[], object]:
    """By brute force, of Euclidean distances, which order unit vectors as similarities do."""
    vectors = np.load(path)
    index = NearestNeighbors(n_neighbors=TOP, algorithm="brute").fit(vectors)
    return lambda: index.kneighbors(vectors[:queries])


def measure_search(photos: Path, work: Path) -> list[Measured]:  # noqa: ARG001 - all topics are called alike
    """All pairs and nearest neighbours at 100,000 vectors, and how all grow; with one thread about 10 minutes."""
    path = made_vectors(work / "vectors-100000.npy", 100_000)
    once = partial(measured, passes=1, warm=False)
    results = []
    methods = {"neardup": our_pairs, "float32 product, NumPy": plain_pairs, "FAISS range_search": faiss_pairs}
    whole = {"scikit-learn radius_neighbors": sklearn_pairs, "imagededup find_duplicates": imagededup_pairs}
    for count, more in ((1000, whole), (10_000, whole), (100_000, {})):
        task = f"all pairs at or above {THRESHOLD} of {count:,} vectors"
        clocked = measured if more else once
        for method, make in {**methods, **more}.items():
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
