"""The k most similar photos, and all pairs above a threshold with their groups, exactly."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.archive import find_images
from neardup.encoder import Encoder, Vectors
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.metrics import Bools, Floats, Ints, Pairs, found_groups
from neardup.vectors import Embeddings

BLOCK = 65_536
"""Gallery rows in one product: 64 queries by so many similarities are 16 MB."""
ROWS, COLUMNS = 256, 16_384
"""Sides of one block of the pair search: its similarities are 16 MB."""
CHUNK = 8192
"""Pairs whose similarity is computed at once in float64: 67 MB at 512 dimensions."""
LARGEST = 5000
"""Photos in one chain whose similarities are held at once: about 1 GB with what complete linkage needs."""


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


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows that are at or above a threshold, best first, ties by `left`, then by `right`.

    Attributes:
        left: int64 (m,), a row that was asked about; the lesser one where both were.
        right: int64 (m,), another row.
        similarities: float64 (m,), -1 to 1, higher is more alike.
    """

    left: Ints
    right: Ints
    similarities: Floats

    def take(self, chosen: Ints | Bools) -> "NearPairs":
        """Some of the pairs, by index or by mask."""
        return NearPairs(self.left[chosen], self.right[chosen], self.similarities[chosen])


def near_pairs(
    vectors: Vectors, asked: Ints, threshold: float, *, rows: int = ROWS, columns: int = COLUMNS
) -> NearPairs:
    """Find every pair at or above a threshold of which at least one photo was asked about, each pair once.

    Block by block: memory grows with the pairs that are found, not with n x n.

    Args:
        vectors: float32 (n, d), unit rows.
        asked: int64, rows of `vectors`.
        threshold: a similarity.
        rows: of one block.
        columns: of one block.
    """
    first = np.unique(asked).astype(np.int64)
    order = np.concatenate([first, np.setdiff1d(np.arange(len(vectors)), first)])
    ordered = vectors[order]
    parts = [(np.empty(0, np.int64),) * 2]
    for top in range(0, len(first), rows):
        block = ordered[top : min(top + rows, len(first))]
        for start in range(top, len(order), columns):
            i, j = _candidates(block, ordered[start : start + columns], threshold)
            once = i + top < j + start
            parts.append((order[i[once] + top], order[j[once] + start]))
    left, right = (np.concatenate(side) for side in zip(*parts, strict=True))
    return _judged(vectors, left, right, threshold)


def _candidates(block: Vectors, others: Vectors, threshold: float) -> tuple[Ints, Ints]:
    """Pairs that may be at or above the threshold: a float32 product of unit rows errs by less than the slack."""
    slack = (block.shape[1] + 8) * float(np.finfo(np.float32).eps)
    i, j = np.nonzero(block @ others.T >= threshold - slack)
    return i, j


def _judged(vectors: Vectors, left: Ints, right: Ints, threshold: float) -> NearPairs:
    """The pairs that are at or above the threshold, by a float64 sum that does not depend on the blocks."""
    parts = [np.empty(0)]
    for start in range(0, len(left), CHUNK):
        chunk = slice(start, start + CHUNK)
        parts.append((vectors[left[chunk]].astype(np.float64) * vectors[right[chunk]]).sum(axis=1))
    similarities = np.concatenate(parts)
    order = np.lexsort((right, left, -similarities))
    return NearPairs(left, right, similarities).take(order[similarities[order] >= threshold])


def near_groups(pairs: NearPairs, vectors: Vectors, threshold: float, *, largest: int = LARGEST) -> Ints:
    """Groups of the photos that occur in pairs, by complete linkage: a ~ b ~ c makes no a ≡ c.

    Only photos of one chain of pairs can share a group, so that each chain is looked at by itself; the similarities of
    all its photos to each other count as well.

    Args:
        pairs: those that count as links.
        vectors: float32 (n, d), unit rows.
        threshold: the similarity at or above which every pair of a group is.
        largest: a chain of more photos is taken apart at its weaker pairs first, which may split a group, never join.

    Returns:
        int64 (n,), the group of each photo, from 0; -1 for a photo in no pair.
    """
    groups = np.full(len(vectors), -1, dtype=np.int64)
    for chain in _chains(pairs, largest):
        rows = vectors[chain].astype(np.float64)
        inside = Pairs.of(rows @ rows.T, np.zeros(len(chain), dtype=np.int64))
        groups[chain] = groups.max() + found_groups(inside, inside.scores - threshold, len(chain))
    return groups


def _chains(pairs: NearPairs, largest: int) -> Iterator[Ints]:
    """The connected components of the pairs, each as rows in order."""
    if not len(pairs.left):
        return
    rows, ends = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    left, right = ends.reshape(2, -1)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(rows), len(rows)))
    count, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    for label, chain in enumerate(np.split(rows[order], np.searchsorted(labels[order], np.arange(1, count)))):
        if len(chain) > largest:
            inside = pairs.take(labels[left] == label)
            strong = inside.take(inside.similarities > np.median(inside.similarities))
            if len(strong.left):
                yield from _chains(strong, largest)
                continue
        yield chain
