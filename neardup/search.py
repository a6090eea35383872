"""The k most similar photos, exactly."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neardup.archive import find_images
from neardup.encoder import Encoder, Vectors
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.vectors import Embeddings

BLOCK = 65_536
"""Gallery rows in one product: 64 queries by so many similarities are 16 MB."""


@dataclass(frozen=True)
class Hit:
    """One answer: where the photo lies, its SHA-256, and its similarity (-1 to 1, higher is more alike)."""

    path: str
    photo: str
    similarity: float


def read_queries(photo: Path, encoder: Encoder, report: Callable[[str], None]) -> Embeddings:
    """Encode one photo, or every photo of a folder.

    Args:
        photo: a file, which must be an image, or a folder.
        encoder: that of the gallery.
        report: is told of each file of the folder that is no image.

    Returns:
        One row a photo; `paths` are relative to the folder.

    Raises:
        ArchiveError: there is no such file or folder, or the folder holds no photo.
        UnreadableImageError: the file is not an image.
    """
    if not photo.exists():
        raise ArchiveError(f"{photo} does not exist: name a photo, or a folder of photos")
    folder = photo if photo.is_dir() else photo.parent
    images, photos, paths = [], [], []
    for path in find_images(photo, ("**",), ()) if photo.is_dir() else [photo.name]:
        data = (folder / path).read_bytes()
        try:
            images.append(encoder.read(data))
        except UnreadableImageError as error:
            if not photo.is_dir():
                raise UnreadableImageError(f"{photo}: {error}") from None
            report(f"left out {path}: {error}")
            continue
        photos.append(hashlib.sha256(data).hexdigest())
        paths.append(path)
    if not images:
        raise ArchiveError(f"{photo} holds no photo that can be read")
    return Embeddings(tuple(photos), tuple(paths), encoder.encode(images), encoder.fingerprint)


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
