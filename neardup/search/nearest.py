"""Exact search for the k photos of a gallery that are most like each query."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from pathlib import Path

import numpy as np

from neardup.archive.walk import Skipped, find_images
from neardup.arrays import Floats, Ints, Vectors
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.files import encode_files
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError, ConfigError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_file
from neardup.search.int8_products import Quantized, int8_pays, multiply, products_of_pairs
from neardup.search.pairs import squared_lengths

QUERIES = 1024
"""Queries that are searched for together; with `BLOCK` photos, their float32 similarities take 32 MB."""
BLOCK = 8192
"""Photos of the gallery that are compared with `QUERIES` queries at once; see there for memory."""
MANY = 256
"""Number of queries from which quantising a gallery to int8 costs less than its faster products save."""
COLUMNS = 2048
"""Photos in one int8 product: with `QUERIES` queries, its int32 results take 8 MB."""
SPARE = 2
"""Candidates a hit from which their exact similarities are computed: more than one within rounding are rare."""
CHUNK = 4096
"""Candidates that are in memory at once as float64: 17 MB at 512 dimensions."""
FIRST = 2048
"""Photos at the head of the gallery that set each query's first floor, so that most of the others are pruned."""


@dataclass(frozen=True)
class Hit:
    """A photo of a gallery that is among the most similar to a query.

    Attributes:
        path: path of the photo, relative to the folder that was embedded.
        photo: SHA-256 of its bytes.
        similarity: -1 to 1, higher is more alike.
        itself: whether the query has the same bytes; False where only the query's vector is known.
    """

    path: str
    photo: str
    similarity: float
    itself: bool = False


def read_queries(
    photo: Path, encoder: Encoder, report: Callable[[str], None], max_pixels: int = MAX_PIXELS
) -> Embeddings:
    """Encode one photo, or every photo of a folder, with a few batches in memory at a time.

    Args:
        photo: a file, which must be an image, or a folder.
        encoder: encoder of the gallery.
        report: called with a sentence for each file of the folder that cannot be read or is not an image.
        max_pixels: larger images are refused.

    Returns:
        One row a photo; `paths` are relative to the folder.

    Raises:
        ArchiveError: there is no such file or folder, or the folder holds no readable photo.
        UnreadableImageError: the file is not an image.
    """
    if photo.is_dir():
        return _read_folder(photo, encoder, report, max_pixels)
    if not photo.exists():
        raise ArchiveError(f"{photo} does not exist: name a photo, or a folder of photos")
    try:
        data = read_file(photo)
        image = encoder.read(data, max_pixels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{photo}: {error}") from None
    return Embeddings((_sha256(data),), (photo.name,), encoder.encode([image]), encoder.fingerprint)


def _read_folder(folder: Path, encoder: Encoder, report: Callable[[str], None], max_pixels: int) -> Embeddings:
    """Encode every photo of a folder, as `read_queries` does."""
    hashes, paths, vectors = list[str](), list[str](), list[Vectors]()

    def leave_out(skipped: Skipped) -> None:
        report(f"left out {skipped.path}: {skipped.reason}")

    def contents() -> Iterator[bytes]:
        for path in find_images(folder, ("**",), (), leave_out):
            try:
                data = read_file(folder / path)
            except UnreadableImageError as error:
                leave_out(Skipped(path, str(error)))
                continue
            paths.append(path)
            hashes.append(_sha256(data))
            yield data

    readable = list[int]()
    for row, result in encode_files(encoder, contents(), max_pixels):
        if isinstance(result, UnreadableImageError):
            leave_out(Skipped(paths[row], str(result)))
        else:
            readable.append(row)
            vectors.append(result)
    if not readable:
        raise ArchiveError(f"{folder} holds no photo that can be read")
    photos = tuple(hashes[row] for row in readable)
    return Embeddings(photos, tuple(paths[row] for row in readable), np.stack(vectors), encoder.fingerprint)


def _sha256(data: bytes) -> str:
    """SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def nearest(queries: Vectors, gallery: Embeddings, top: int, *, fingerprint: str) -> list[list[Hit]]:
    """Find the `top` photos of the gallery that are most like each query, exactly.

    Args:
        queries: float32 (m, d), unit rows.
        gallery: the photos to search.
        top: hits per query, fewer where the gallery is smaller.
        fingerprint: fingerprint of the encoder that made the queries.

    Returns:
        For each query its hits, best first; equally similar photos are ordered by path.

    Raises:
        EncoderError: the gallery was made by another encoder, or a vector is no unit vector.
        ConfigError: fewer than one hit is asked for.
    """
    gallery.require(fingerprint)
    if not isinstance(top, Integral) or isinstance(top, bool) or top < 1:
        raise ConfigError(f"there is no search for {top!r} hits: ask for one or more, as a whole number")
    top = min(top, max(1, len(gallery.photos)))
    paths, photos = gallery.paths, gallery.photos

    def by_path(rows: Ints) -> Ints:
        distinct, numbers = np.unique(rows, return_inverse=True)
        order = sorted(range(len(distinct)), key=lambda number: paths[distinct[number]])
        return np.argsort(np.array(order, np.int64))[numbers]

    ranked = _ranked(queries, gallery.vectors, top, by_path)
    return [[Hit(paths[row], photos[row], similarity) for row, similarity in hits] for hits in ranked]


def nearest_rows(queries: Vectors, vectors: Vectors, top: int) -> Iterator[list[tuple[int, float]]]:
    """Find the `top` vectors that are most like each query, exactly.

    Args:
        queries: float32 (m, d), unit rows.
        vectors: float32 (n, d), unit rows, the vectors to search.
        top: hits per query, fewer where there are fewer vectors.

    Yields:
        For each query, rows of `vectors` with their similarities, best first, ties by row.

    Raises:
        EncoderError: a vector is no unit vector.
    """
    return _ranked(queries, vectors, top, lambda rows: rows)


def _ranked(
    queries: Vectors, vectors: Vectors, top: int, tie: Callable[[Ints], Ints]
) -> Iterator[list[tuple[int, float]]]:
    """Yield the most similar rows of each query with their similarities; ties by the least of what `tie` gives rows."""
    squared_lengths(queries, np.arange(len(queries)))
    int8 = len(queries) >= MANY and int8_pays()
    searches = [
        _Search.of(queries[start : start + QUERIES], vectors, top, tie, int8=int8)
        for start in range(0, len(queries), QUERIES)
    ]
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        squared_lengths(block, np.arange(start, start + len(block)))
        quantized = Quantized.to_int8(block) if int8 else None
        for search in searches:
            search.add_block(start, block, quantized)
    for search in searches:
        yield from search.hits()


def mark_itself(hits: Sequence[Sequence[Hit]], queries: Embeddings) -> list[list[Hit]]:
    """Mark the hits whose bytes are those of the query itself, as they say nothing about other photos like it.

    Args:
        hits: hits of each query.
        queries: the queries, as `read_queries` made them.
    """
    return [
        [replace(hit, itself=hit.photo == photo) for hit in hits_of_query]
        for photo, hits_of_query in zip(queries.photos, hits, strict=True)
    ]


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
        gallery: the vectors of a folder, as `embed` makes them.
        top: number of hits, fewer where the gallery is smaller.
        encoder: the encoder that made the gallery, or its name.
        max_pixels: a larger image is refused.

    Returns:
        The hits, best first; equally similar photos are ordered by path. If the gallery holds the photo itself, it is
        among them, marked by `itself`.

    Raises:
        ArchiveError: there is no such file, or it is a folder.
        UnreadableImageError: the file is not an image.
        EncoderError: the gallery was made by another encoder.
        ConfigError: fewer than one hit is asked for.
    """
    if Path(photo).is_dir():
        raise ArchiveError(f"{photo} is a folder: search for one photo of it at a time")
    model = load_encoder(encoder) if isinstance(encoder, str) else encoder
    queries = read_queries(Path(photo), model, print, max_pixels)
    return mark_itself(nearest(queries.vectors, gallery, top, fingerprint=model.fingerprint), queries)[0]


@dataclass(frozen=True)
class _Candidates:
    """Photos that may be among the most similar to a query.

    Attributes:
        query: int64 (m,), number of the query.
        row: int64 (m,), row of the gallery.
        rough: float32 (m,), similarity to the query, with the error of a float32 product.
    """

    query: Ints
    row: Ints
    rough: Vectors

    @classmethod
    def joined(cls, parts: Sequence["_Candidates"]) -> "_Candidates":
        """Join the candidates of all parts, at least one."""
        columns = zip(*((part.query, part.row, part.rough) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    def best(self, floors: Vectors, top: int, slack: float) -> "_Candidates":
        """Keep the candidates that may be among the `top` of their query; raise `floors` to what others must reach."""
        order = np.lexsort((-self.rough, self.query))
        query, rough = self.query[order], self.rough[order]
        last = np.searchsorted(query, query) + top - 1 == np.arange(len(query))
        floors[query[last]] = rough[last] - slack
        reaching = rough >= floors[query]
        return _Candidates(query[reaching], self.row[order][reaching], rough[reaching])


@dataclass
class _Search:
    """A search for the photos most similar to some queries, to which the gallery is added block by block.

    A float32 product of unit rows errs by less than half the slack, in any order of summation. A photo that truly is
    among the `top` most similar thus has a rough similarity at most one slack below the `top`-th greatest rough one.

    Attributes:
        queries: float32 (m, d), unit rows.
        vectors: float32 (n, d), unit rows, the whole gallery.
        quantized: the queries as int8 codes; None where int8 products do not pay.
        top: hits a query.
        tie: function from rows of the gallery to int64 numbers, the least of which comes first of equal similarities.
        floors: float32 (m,), the rough similarity that a photo must reach.
        candidates: a superset of the most similar photos among those that were added.
    """

    queries: Vectors
    vectors: Vectors
    quantized: Quantized | None
    top: int
    tie: Callable[[Ints], Ints]
    floors: Vectors
    candidates: _Candidates

    @classmethod
    def of(cls, queries: Vectors, vectors: Vectors, top: int, tie: Callable[[Ints], Ints], *, int8: bool) -> "_Search":
        """Begin a search, with floors set by the head of the gallery's vectors."""
        search = cls(
            queries,
            vectors,
            Quantized.to_int8(queries) if int8 else None,
            top,
            tie,
            np.full(len(queries), -np.inf, np.float32),
            _Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)),
        )
        if len(vectors) > top:
            head = queries @ vectors[: max(FIRST, top)].T
            search.floors = np.partition(head, -top, axis=1)[:, -top] - np.float32(search.slack)
        return search

    @property
    def slack(self) -> float:
        """A similarity that is more than twice the error of any float32 product of two unit rows."""
        dimension: int = self.queries.shape[1]
        return 2 * (dimension + 8) * float(np.finfo(np.float32).eps)

    def add_block(self, start: int, block: Vectors, quantized: Quantized | None) -> None:
        """Compare the queries with a block of the gallery, the first photo of which is row `start`."""
        if self.quantized and quantized:
            reaching = self._by_int8(self.quantized, block, quantized)
        else:
            reaching = self._by_float32(block)
        reaching = replace(reaching, row=reaching.row + start)
        self.candidates = _Candidates.joined([self.candidates, reaching]).best(self.floors, self.top, self.slack)
        if len(self.candidates.row) > SPARE * self.top * len(self.queries):  # many vectors are equal, or nearly
            self.candidates = self.ranked()[0]

    def _by_float32(self, block: Vectors) -> _Candidates:
        """Find the photos of a block whose float32 similarity reaches the floors."""
        queries = self.queries
        rough = np.vecdot(block, queries[0])[:, None] if len(queries) == 1 else block @ queries.T
        row, query = np.divmod(np.flatnonzero(rough >= self.floors), len(queries))
        return _Candidates(query, row, rough[row, query])

    def _by_int8(self, queries: Quantized, block: Vectors, quantized: Quantized) -> _Candidates:
        """Find the photos of a block that reach the floors; int8 products, with bounded error, prune most others."""
        limits = queries.limits(quantized, self.floors - self.slack)[:, None]
        parts = []
        for start in range(0, len(block), COLUMNS):
            products = np.empty((len(self.queries), min(COLUMNS, len(block) - start)), np.int32)
            multiply(queries.codes, quantized.codes[start : start + COLUMNS], products)
            query, row = np.divmod(np.flatnonzero(products >= limits), products.shape[1])
            rough = products_of_pairs(self.queries, query, block, row + start)
            reached = rough >= self.floors[query]
            parts.append(_Candidates(query[reached], row[reached] + start, rough[reached]))
        return _Candidates.joined(parts)

    def ranked(self) -> tuple[_Candidates, Floats]:
        """Rank the candidates of each query, at most `top`, by float64 sums that do not depend on how blocks are cut.

        Returns:
            The candidates, query by query, best first, ties by `tie`; and their similarities, float64 (m,).
        """
        found = self.candidates
        queries, exact = self.queries.astype(np.float64), np.empty(len(found.row))
        for start in range(0, len(exact), CHUNK):
            chunk = slice(start, start + CHUNK)
            exact[chunk] = (queries[found.query[chunk]] * self.vectors[found.row[chunk]]).sum(axis=1)
        order = np.lexsort((self.tie(found.row), -exact, found.query))
        query = found.query[order]
        order = order[np.arange(len(order)) - np.searchsorted(query, query) < self.top]
        return _Candidates(found.query[order], found.row[order], found.rough[order]), exact[order]

    def hits(self) -> Iterator[list[tuple[int, float]]]:
        """Yield the hits of each query, rows with their similarities, best first."""
        found, exact = self.ranked()
        ends = np.searchsorted(found.query, np.arange(len(self.queries) + 1)).tolist()
        ranked = list(zip(found.row.tolist(), exact.tolist(), strict=True))
        for start, end in pairwise(ends):
            yield ranked[start:end]
