"""Approximate search by a graph of neighbours (HNSW, Malkov and Yashunin 2018), with its measured recall.

Exact search compares a query with every photo and is the better choice up to some hundred thousand photos.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from neardup.arrays import Ints, Vectors
from neardup.encode.vectors import Embeddings
from neardup.errors import EncoderError, install_hint
from neardup.search.nearest import Hit
from neardup.stages import digest_file, read_json, replacing, write_json

NEIGHBOURS = 32
"""Links of a photo in the graph (HNSW's `M`): more links find more and take more memory, here 256 bytes a photo."""
CONSTRUCTION = 200
"""Photos that are compared with a new one to choose its links (HNSW's `efConstruction`)."""
EFFORTS = (32, 64, 128, 256, 512, 1024)
"""Sizes of a search's list of candidates (HNSW's `efSearch`) to try; the least that reaches the recall is taken."""
SAMPLE = 200
"""Photos on which recall is measured: each is searched for exactly and by the graph."""
ADDED = 65_536
"""Vectors that are added to the graph at once, read from a memory map: 134 MB at 512 dimensions."""
DIFFERENCE = 1e-5
"""Greatest difference between FAISS's and NumPy's float32 value of a similarity."""


@dataclass(frozen=True)
class Recall:
    """The recall of an index, measured on a sample of the archive's own photos.

    Attributes:
        top: hits per photo that were searched for, without the photo itself.
        effort: size of a search's list of candidates (HNSW's `efSearch`).
        recall: share of the `top` most similar photos that are found, 0 to 1; higher is better.
        photos: how many photos were searched for.
    """

    top: int
    effort: int
    recall: float
    photos: int

    def __str__(self) -> str:
        """A clause with the recall in per cent and what it was measured on, to follow the words "the index"."""
        return f"finds {self.recall:.1%} of the {self.top} most similar photos, measured on {self.photos} photos"


@dataclass(frozen=True)
class Index:
    """A graph of an archive's vectors, with its measured recall."""

    graph: Any
    recall: Recall

    @classmethod
    def load(cls, path: Path, digest: str, report: Callable[[str], object]) -> "Index | None":
        """Read the index that `build_index` wrote; None if there is none, or it is damaged or of other vectors.

        Args:
            path: the index's file.
            digest: digest of the file of vectors that the index must belong to.
            report: called with a sentence if the index's bytes are not those that were written.

        Raises:
            EncoderError: FAISS is not installed.
        """
        faiss, recorded = _faiss(), read_json(_manifest(path))
        written = recorded.pop("index", None)
        complete = recorded.keys() == {"vectors", *(field.name for field in fields(Recall))}
        if recorded.pop("vectors", None) != digest or not (written and complete and path.is_file()):
            return None
        if digest_file(path) != written:
            report(f"{path} is damaged, its bytes are not those that were written: it is not used")
            return None
        return cls(faiss.read_index(str(path)), Recall(**recorded))

    def search(self, queries: Vectors, top: int) -> tuple[Vectors, Ints]:
        """Find photos that are most like each query, of which some may be missed.

        Args:
            queries: float32 (m, d), unit rows.
            top: hits a query; the recall holds up to as many as it was measured for.

        Returns:
            The similarities, float32 (m, top), best first, and the rows, int64 (m, top), -1 where there is none.
        """
        similarities, rows = self.graph.search(np.ascontiguousarray(queries), top)
        return similarities, rows

    def hits(self, queries: Vectors, gallery: Embeddings, top: int) -> list[list[Hit]]:
        """Find photos that are most like each query, of which some may be missed, as hits, best first.

        Args:
            queries: float32 (m, d), unit rows.
            gallery: the photos whose vectors were indexed.
            top: hits a query; the recall holds up to as many as it was measured for.
        """
        similarities, rows = self.search(queries, min(top, max(1, len(gallery.paths))))
        return [
            [
                Hit(gallery.paths[row], gallery.photos[row], similarity)
                for similarity, row in zip(*hits, strict=True)
                if row >= 0
            ]
            for hits in zip(similarities.tolist(), rows.tolist(), strict=True)
        ]


def opened_index(file: Path, gallery: Embeddings, top: int, report: Callable[[str], object]) -> Index:
    """Open the index beside a file of vectors, or build it if there is none, or only a damaged or outdated one.

    Args:
        file: file that the gallery was loaded from.
        gallery: the file's vectors.
        top: hits a query for which the recall must have been measured.
        report: called with sentences about a damaged index, about building one, and about the measured recall.

    Raises:
        EncoderError: FAISS is not installed, or an index of these vectors misses too much.
    """
    path, digest = file.with_suffix(".hnsw"), digest_file(file)
    index = Index.load(path, digest, report)
    if index is None or index.recall.top < min(top, len(gallery.paths) - 1):
        report(f"building an index of {len(gallery.paths):,} photos in {path}")
        index = build_index(gallery.vectors, path, digest, top=top)
    report(f"approximate: the index {index.recall}")
    return index


def build_index(
    vectors: Vectors, path: Path, digest: str, *, top: int = 10, least: float = 0.99, seed: int = 0
) -> Index:
    """Build an index, with the least search effort that reaches the recall, and write it.

    Args:
        vectors: float32 (n, d), unit rows; may be a memory map.
        path: the index's file; its manifest, with its digest and the recall, is written beside it, last.
        digest: digest of the vectors' file; an index of another file is not used.
        top: hits per photo for which the recall is measured, without the photo itself.
        least: recall that must be reached, 0 to 1.
        seed: seed of the sample on which the recall is measured.

    Raises:
        EncoderError: FAISS is not installed, or the recall is not reached.
    """
    faiss = _faiss()
    graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = CONSTRUCTION
    for start in range(0, len(vectors), ADDED):
        graph.add(np.ascontiguousarray(vectors[start : start + ADDED]))
    measured = measure_recall(graph, vectors, top, least, seed)
    if measured.recall < least:
        raise EncoderError(f"the index {measured}, less than {least:.1%}: search exactly instead")
    _manifest(path).unlink(missing_ok=True)
    with replacing(path) as partial:
        faiss.write_index(graph, str(partial))
    write_json(_manifest(path), {"vectors": digest, "index": digest_file(path), **asdict(measured)})
    return Index(graph, measured)


def measure_recall(graph: Any, vectors: Vectors, top: int, least: float, seed: int) -> Recall:
    """Measure the recall at the least effort that reaches `least`, or at the greatest, and leave the graph set to it.

    Args:
        graph: the FAISS index of the vectors.
        vectors: float32 (n, d), unit rows; may be a memory map.
        top: hits per photo, without the photo itself.
        least: recall that is to be reached, 0 to 1.
        seed: seed of the sample.
    """
    rows = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLE]
    top = min(top, len(vectors) - 1)
    if top <= 0:  # a single photo has no other to find
        return Recall(0, EFFORTS[0], 1.0, len(rows))
    # The least similarity among the `top` others and the photo itself, all of which must be found.
    least_similarity = np.array([np.partition(vectors @ vectors[row], -top - 1)[-top - 1] for row in rows])
    for effort in EFFORTS:
        graph.hnsw.efSearch = max(effort, top + 1)
        similarities, found = graph.search(vectors[rows], top + 1)
        # Of equally similar photos, any counts as found.
        found_others = (
            (found != rows[:, None]) & (found >= 0) & (similarities >= least_similarity[:, None] - DIFFERENCE)
        )
        recall = float(np.minimum(found_others.sum(axis=1), top).mean() / top)
        if recall >= least:
            break
    return Recall(top, graph.hnsw.efSearch, recall, len(rows))


def _manifest(path: Path) -> Path:
    """Path of the JSON file beside an index that holds the digests of its vectors and of itself, and its recall."""
    return path.with_name(path.name + ".json")


def _faiss() -> ModuleType:
    """Import FAISS, which only approximate search needs and is optional.

    Raises:
        EncoderError: FAISS is not installed.
    """
    try:
        import faiss  # noqa: PLC0415 - optional
    except ImportError:
        raise EncoderError(f"an index needs FAISS: {install_hint('index')}; or search exactly") from None
    return faiss
