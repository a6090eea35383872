"""The k most similar photos of a gallery, exactly."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from neardup.archive import find_images
from neardup.encoder import Encoder, Vectors
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.metrics import Ints
from neardup.rounded import Rounded, int8_pays, multiply, products_of_pairs
from neardup.vectors import Embeddings

QUERIES, BLOCK = 1024, 8192
"""Sides of one block of the search: its similarities are 32 MB."""
MANY, COLUMNS = 256, 2048
"""Queries from which on rounding a gallery to int8 costs less than it saves, and photos of one of its products."""
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
    if len(vectors) > top:
        head = queries @ vectors[: max(FIRST, top)].T
        floors = np.partition(head, -top, axis=1)[:, -top] - np.float32(slack)
    asked = Rounded.of(queries) if len(queries) >= MANY and int8_pays() else None
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        found = _near_by_int8(queries, asked, block, floors, slack) if asked else _near(queries, block, floors)
        likely = likely.and_those(replace(found, row=found.row + start)).best(floors, top, slack)
    return likely


def _near(queries: Vectors, block: Vectors, floors: Vectors) -> _Likely:
    """Those of a block that reach the floors of the queries."""
    near = np.vecdot(block, queries[0])[:, None] if len(queries) == 1 else block @ queries.T
    row, query = np.divmod(np.flatnonzero(near >= floors), len(queries))
    return _Likely(query, row, near[row, query])


def _near_by_int8(queries: Vectors, asked: Rounded, block: Vectors, floors: Vectors, slack: float) -> _Likely:
    """The same; most are ruled out by products of whole numbers, whose error is bounded."""
    among = Rounded.of(block)
    limits = asked.least(among, floors - slack)[:, None]
    parts = []
    for start in range(0, len(block), COLUMNS):
        products = np.empty((len(queries), min(COLUMNS, len(block) - start)), np.int32)
        multiply(asked.numbers, among.numbers[start : start + COLUMNS], products)
        query, row = np.divmod(np.flatnonzero(products >= limits), products.shape[1])
        parts.append(_Likely(query, row + start, products_of_pairs(queries, query, block, row + start)))
    query, row, near = (np.concatenate(column) for column in zip(*map(astuple, parts), strict=True))
    reached = near >= floors[query]
    return _Likely(query[reached], row[reached], near[reached])
