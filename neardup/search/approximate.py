"""Approximate search by a graph of neighbours (HNSW, Malkov and Yashunin 2018), and the recall that was measured.

Exact search looks at every photo, so that it is the better one up to some hundred thousand photos.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from neardup.arrays import Ints, Vectors
from neardup.encode.vectors import Embeddings
from neardup.errors import EncoderError, install_hint
from neardup.search.nearest import Hit
from neardup.stages import digest_file, write_json

NEIGHBOURS, CONSTRUCTION = 32, 200
"""Links of a photo, and photos that are looked at to find them."""
EFFORTS = (32, 64, 128, 256, 512, 1024)
"""Photos that a search looks at (`efSearch`), tried from the least."""
SAMPLE = 200
"""Photos whose neighbours are searched both ways."""


@dataclass(frozen=True)
class Recall:
    """What was measured on a sample of the archive's own photos.

    Attributes:
        top: hits a photo, itself left out.
        effort: photos that a search looks at.
        recall: share of the `top` most similar photos that are found, 0 to 1; higher is better.
        photos: in the sample.
    """

    top: int
    effort: int
    recall: float
    photos: int

    def __str__(self) -> str:
        """For whoever prints it."""
        return f"finds {self.recall:.1%} of the {self.top} most similar photos, measured on {self.photos} photos"


@dataclass(frozen=True)
class Index:
    """A graph of an archive's vectors, with its measured recall."""

    graph: Any
    recall: Recall

    @classmethod
    def load(cls, path: Path, digest: str) -> "Index | None":
        """Read what `build_index` wrote; None if there is nothing, or it is of other vectors.

        Raises:
            EncoderError: FAISS is not installed.
        """
        faiss, manifest = _faiss(), _manifest(path)
        facts = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
        if facts.pop("vectors", None) != digest:
            return None
        index = cls(faiss.read_index(str(path)), Recall(**facts))
        index.graph.hnsw.efSearch = index.recall.effort
        return index

    def search(self, queries: Vectors, top: int) -> tuple[Vectors, Ints]:
        """Find photos that are most like each query, of which some may be missed.

        Args:
            queries: float32 (m, d), unit rows.
            top: hits a query; the recall holds up to as many as it was measured for.

        Returns:
            float32 (m, top), similarities, best first, and int64 (m, top), rows; -1 where there is none.
        """
        similarities, rows = self.graph.search(np.ascontiguousarray(queries), top)
        return similarities, rows

    def hits(self, queries: Vectors, gallery: Embeddings, top: int) -> list[list[Hit]]:
        """The same, as `neardup.search.nearest.search` gives them; the gallery is the one that was indexed."""
        found = zip(*(side.tolist() for side in self.search(queries, top)), strict=True)
        return [
            [
                Hit(gallery.paths[row], gallery.photos[row], near)
                for near, row in zip(nears, rows, strict=True)
                if row >= 0
            ]
            for nears, rows in found
        ]


def opened_index(file: Path, gallery: Embeddings, top: int, say: Callable[[str], object]) -> Index:
    """The index beside a file of vectors, built if there is none of these; its measured recall is said.

    Raises:
        EncoderError: FAISS is not installed, or an index of these vectors misses too much.
    """
    path, digest = file.with_suffix(".hnsw"), digest_file(file)
    index = Index.load(path, digest)
    if index is None or index.recall.top < min(top, len(gallery.paths) - 1):
        say(f"building an index of {len(gallery.paths):,} photos in {path}")
        index = build_index(gallery.vectors, path, digest, top=top)
    say(f"approximate: the index {index.recall}")
    return index


def build_index(
    vectors: Vectors, path: Path, digest: str, *, top: int = 10, least: float = 0.99, seed: int = 0
) -> Index:
    """Build an index and search it as hard as its recall asks for.

    Args:
        vectors: float32 (n, d), unit rows; may be a memory map.
        path: of the file; what was measured is written beside it, last.
        digest: of the vectors; an index of others is not used.
        top: hits a photo for which the recall is measured.
        least: recall that must be reached.
        seed: of the sample.

    Raises:
        EncoderError: FAISS is not installed, or the recall is not reached.
    """
    faiss = _faiss()
    graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = CONSTRUCTION
    for start in range(0, len(vectors), 65_536):
        graph.add(np.ascontiguousarray(vectors[start : start + 65_536]))
    measured = measure_recall(graph, vectors, top, least, seed)
    if measured.recall < least:
        raise EncoderError(f"the index {measured}, less than {least:.1%}: search exactly instead")
    _manifest(path).unlink(missing_ok=True)
    faiss.write_index(graph, str(path))
    write_json(_manifest(path), {"vectors": digest, **asdict(measured)})
    return Index(graph, measured)


def measure_recall(graph: Any, vectors: Vectors, top: int, least: float, seed: int) -> Recall:
    """The recall at the least effort that reaches it, or at the greatest; the graph is left at that effort."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLE]
    top = min(top, len(vectors) - 1)
    last = np.array([np.partition(vectors @ vectors[row], -top - 1)[-top - 1] for row in rows])
    for effort in EFFORTS:
        graph.hnsw.efSearch = max(effort, top + 1)
        similarities, found = graph.search(vectors[rows], top + 1)
        # Equally similar photos count alike; a product by FAISS may differ from NumPy's in its last digits.
        others = (found != rows[:, None]) & (found >= 0) & (similarities >= last[:, None] - 1e-5)
        recall = float(np.minimum(others.sum(axis=1), top).mean() / max(top, 1))
        if recall >= least:
            break
    return Recall(top, graph.hnsw.efSearch, recall, len(rows))


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _faiss() -> ModuleType:
    """FAISS, which is optional.

    Raises:
        EncoderError: it is not installed.
    """
    try:
        import faiss  # noqa: PLC0415 - optional
    except ImportError:
        raise EncoderError(f"an index needs FAISS: {install_hint('index')}; or search exactly") from None
    return faiss
