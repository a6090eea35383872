"""The k most similar photos of a gallery, exactly."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from neardup.archive.walk import Skipped, find_images
from neardup.arrays import Ints, Vectors
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_file
from neardup.search.int8_products import Rounded, int8_pays, multiply, products_of_pairs

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


def read_queries(
    photo: Path, encoder: Encoder, report: Callable[[str], None], max_pixels: int = MAX_PIXELS
) -> Embeddings:
    """Encode one photo, or every photo of a folder.

    Args:
        photo: a file, which must be an image, or a folder.
        encoder: that of the gallery.
        report: is told of each file of the folder that cannot be read or is no image.
        max_pixels: larger images are refused.

    Returns:
        One row a photo; `paths` are relative to the folder.

    Raises:
        ArchiveError: there is no such file or folder, or the folder holds no photo.
        UnreadableImageError: the file is not an image.
    """
    if not photo.exists():
        raise ArchiveError(f"{photo} does not exist: name a photo, or a folder of photos")

    def left_out(skipped: Skipped) -> None:
        report(f"left out {skipped.path}: {skipped.reason}")

    folder = photo if photo.is_dir() else photo.parent
    images, photos, paths = [], [], []
    for path in find_images(photo, ("**",), (), left_out) if photo.is_dir() else [photo.name]:
        try:
            data = read_file(folder / path)
            images.append(encoder.read(data, max_pixels))
        except UnreadableImageError as error:
            if not photo.is_dir():
                raise UnreadableImageError(f"{photo}: {error}") from None
            left_out(Skipped(path, str(error)))
            continue
        photos.append(hashlib.sha256(data).hexdigest())
        paths.append(path)
    if not images:
        raise ArchiveError(f"{photo} holds no photo that can be read")
    return Embeddings(tuple(photos), tuple(paths), encoder.encode(images), encoder.fingerprint)


def nearest(queries: Vectors, gallery: Embeddings, top: int, *, fingerprint: str) -> list[list[Hit]]:
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
    int8 = len(queries) >= MANY and int8_pays()
    groups = [
        _Group.of(queries[start : start + QUERIES], gallery.vectors, top, int8=int8)
        for start in range(0, len(queries), QUERIES)
    ]
    for start in range(0, len(gallery.vectors), BLOCK):
        block = gallery.vectors[start : start + BLOCK]
        rounded = Rounded.of(block) if int8 else None
        for group in groups:
            group.look_at(start, block, rounded, top)
    return [hits for group in groups for hits in group.hits(gallery, top)]


def search(
    photo: Path | str,
    gallery: Embeddings,
    top: int = 10,
    encoder: Encoder | str = BUILTIN,
    max_pixels: int = MAX_PIXELS,
) -> list[Hit]:
    """Find the photos of a gallery that are most like one photo.

    Args:
        photo: an image file.
        gallery: what `embed` made of a folder.
        top: how many hits, fewer where the gallery is smaller.
        encoder: the one that made the gallery, or its name.
        max_pixels: a larger image is refused.

    Returns:
        The hits, best first; equally similar photos are ordered by path.

    Raises:
        ArchiveError: there is no such file.
        UnreadableImageError: the file is not an image.
        EncoderError: the gallery was made by another encoder.
    """
    model = load_encoder(encoder) if isinstance(encoder, str) else encoder
    queries = read_queries(Path(photo), model, print, max_pixels)
    return nearest(queries.vectors, gallery, top, fingerprint=model.fingerprint)[0]


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


@dataclass
class _Group:
    """A few queries, and what was found for them so far.

    A float32 product of unit rows errs by less than half the slack, by any order of summation: a photo that is among
    the most similar is at most one slack below the last of those that such products call so.

    Attributes:
        queries: float32 (m, d), unit rows.
        rounded: the same as whole numbers; None where products of those do not pay.
        floors: float32 (m,), what a photo must reach.
        likely: a superset of the most similar among the photos that were looked at.
    """

    queries: Vectors
    rounded: Rounded | None
    floors: Vectors
    likely: _Likely

    @classmethod
    def of(cls, queries: Vectors, vectors: Vectors, top: int, *, int8: bool) -> "_Group":
        """With floors by a few photos."""
        group = cls(
            queries,
            Rounded.of(queries) if int8 else None,
            np.full(len(queries), -np.inf, np.float32),
            _Likely(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)),
        )
        if len(vectors) > top:
            head = queries @ vectors[: max(FIRST, top)].T
            group.floors = np.partition(head, -top, axis=1)[:, -top] - np.float32(group.slack)
        return group

    @property
    def slack(self) -> float:
        """Twice what a float32 product errs by, or more."""
        dimension: int = self.queries.shape[1]
        return 2 * (dimension + 8) * float(np.finfo(np.float32).eps)

    def look_at(self, start: int, block: Vectors, rounded: Rounded | None, top: int) -> None:
        """Take what may be among the most similar of a block of photos, the first of which is row `start`."""
        found = self._near_by_int8(self.rounded, block, rounded) if self.rounded and rounded else self._near(block)
        found = replace(found, row=found.row + start)
        self.likely = self.likely.and_those(found).best(self.floors, top, self.slack)

    def _near(self, block: Vectors) -> _Likely:
        """Those that reach the floors."""
        queries = self.queries
        near = np.vecdot(block, queries[0])[:, None] if len(queries) == 1 else block @ queries.T
        row, query = np.divmod(np.flatnonzero(near >= self.floors), len(queries))
        return _Likely(query, row, near[row, query])

    def _near_by_int8(self, asked: Rounded, block: Vectors, rounded: Rounded) -> _Likely:
        """The same; most are ruled out by products of whole numbers, whose error is bounded."""
        limits = asked.least(rounded, self.floors - self.slack)[:, None]
        parts = []
        for start in range(0, len(block), COLUMNS):
            products = np.empty((len(self.queries), min(COLUMNS, len(block) - start)), np.int32)
            multiply(asked.numbers, rounded.numbers[start : start + COLUMNS], products)
            query, row = np.divmod(np.flatnonzero(products >= limits), products.shape[1])
            near = products_of_pairs(self.queries, query, block, row + start)
            parts.append(_Likely(query, row + start, near))
        query, row, near = (np.concatenate(column) for column in zip(*map(astuple, parts), strict=True))
        reached = near >= self.floors[query]
        return _Likely(query[reached], row[reached], near[reached])

    def hits(self, gallery: Embeddings, top: int) -> Iterator[list[Hit]]:
        """The hits of each query, by float64 sums that do not depend on the blocks."""
        for number, query in enumerate(self.queries.astype(np.float64)):
            rows = self.likely.row[self.likely.query == number]
            similarities = (query * gallery.vectors[rows]).sum(axis=1).tolist()
            ranked = sorted(
                zip(similarities, rows.tolist(), strict=True), key=lambda hit: (-hit[0], gallery.paths[hit[1]])
            )
            yield [Hit(gallery.paths[row], gallery.photos[row], similarity) for similarity, row in ranked[:top]]
