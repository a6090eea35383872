"""The k most similar photos, exactly."""

from dataclasses import dataclass

import numpy as np

from neardup.encoder import Vectors
from neardup.vectors import Embeddings

BLOCK = 65_536
"""Gallery rows in one product: 64 queries by so many similarities are 16 MB."""


@dataclass(frozen=True)
class Hit:
    """One answer: where the photo lies, its SHA-256, and its similarity (-1 to 1, higher is more alike)."""

    path: str
    photo: str
    similarity: float


def search(queries: Vectors, gallery: Embeddings, top: int, *, fingerprint: str) -> list[list[Hit]]:
    """Find the `top` photos of the gallery that are most like each query.

    Args:
        queries: float32 (m, d), unit rows.
        gallery: what is searched.
        top: hits a query, fewer where the gallery is smaller.
        fingerprint: of the encoder that made the queries.

    Returns:
        For each query its hits, best first; equally similar photos are ordered by path.

    Raises:
        EncoderError: the gallery was made by another encoder.
    """
    gallery.require(fingerprint)
    order = np.argsort(np.array(gallery.paths, dtype=object))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    found = []
    for query in queries:
        similarities = np.concatenate(
            [gallery.vectors[start : start + BLOCK] @ query for start in range(0, len(gallery.paths), BLOCK)]
            or [np.empty(0, np.float32)],
        )
        best = np.lexsort((rank, -similarities))[:top]
        found.append([Hit(gallery.paths[i], gallery.photos[i], float(similarities[i])) for i in best])
    return found
