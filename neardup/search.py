"""The k most similar photos of a gallery, exactly."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neardup.archive import find_images
from neardup.encoder import Encoder, Vectors
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.metrics import Ints
from neardup.vectors import Embeddings

QUERIES, BLOCK = 128, 8192
"""Sides of one block of the search: its similarities are 4 MB."""
FIRST = 2048
"""Photos that say roughly, before all others are looked at, how similar the best of a query are."""


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
    """Find the `top` photos of the gallery that are most like each query, exactly.

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
    return [
        hits
        for start in range(0, len(queries), QUERIES)
        for hits in _hits(queries[start : start + QUERIES], gallery, top)
    ]


def _hits(queries: Vectors, gallery: Embeddings, top: int) -> Iterator[list[Hit]]:
    """The hits of each of a few queries, by float64 sums that do not depend on the blocks."""
    likely = _likely(queries, gallery.vectors, top)
    for number, query in enumerate(queries.astype(np.float64)):
        rows = likely.row[likely.query == number]
        similarities = (query * gallery.vectors[rows]).sum(axis=1).tolist()
        ranked = sorted(zip(similarities, rows.tolist(), strict=True), key=lambda hit: (-hit[0], gallery.paths[hit[1]]))
        yield [Hit(gallery.paths[row], gallery.photos[row], similarity) for similarity, row in ranked[:top]]


@dataclass(frozen=True)
class _Likely:
    """Photos that may be among the most similar of a query.

    Attributes:
        query: int64 (m,), number of the query.
        row: int64 (m,), of the gallery.
        near: float32 (m,), their similarity, roughly.
    """

    query: Ints
    row: Ints
    near: Vectors

    def and_those(self, other: "_Likely") -> "_Likely":
        """Both."""
        return _Likely(
            np.concatenate([self.query, other.query]),
            np.concatenate([self.row, other.row]),
            np.concatenate([self.near, other.near]),
        )

    def best(self, floors: Vectors, top: int, slack: float) -> "_Likely":
        """Those that may be among the `top` of all; the floors rise to what a further one must reach."""
        order = np.lexsort((-self.near, self.query))
        query, near = self.query[order], self.near[order]
        last = np.searchsorted(query, query) + top - 1 == np.arange(len(query))
        floors[query[last]] = near[last] - slack
        kept = near >= floors[query]
        return _Likely(query[kept], self.row[order][kept], near[kept])


def _likely(queries: Vectors, vectors: Vectors, top: int) -> _Likely:
    """A superset of the most similar.

    A float32 product of unit rows errs by less than half the slack, by any order of summation: a photo that is among
    the most similar is at most one slack below the last of those that such products call so.
    """
    slack = 2 * (queries.shape[1] + 8) * float(np.finfo(np.float32).eps)
    likely = _Likely(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    floors = np.full(len(queries), -np.inf, np.float32)
    for start in range(0, len(vectors), BLOCK):
        near = queries @ vectors[start : start + BLOCK].T
        if not start and near.shape[1] > top:
            head = near[:, : max(FIRST, top)]
            floors = np.partition(head, -top, axis=1)[:, -top] - np.float32(slack)
        query, row = np.divmod(np.flatnonzero(near >= floors[:, None]), near.shape[1])
        likely = likely.and_those(_Likely(query, row + start, near[query, row])).best(floors, top, slack)
    return likely
