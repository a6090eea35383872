"""Groups of photos from pairs of them: complete linkage, one chain of pairs after the other."""

from collections.abc import Iterator

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from neardup.arrays import Floats, Ints, Vectors
from neardup.search.pairs import NearPairs

LARGEST = 5000
"""Photos in one chain whose similarities are held at once: about 1 GB with what complete linkage needs."""
REACH = 4.0
"""More than any two margins of similarities differ by: a margin of that size means certainty."""


def complete_linkage(margins: Floats) -> Ints:
    """Groups in which every pair is at or above its threshold, so that a ~ b ~ c makes no a ≡ c.

    Args:
        margins: float64 (n, n), symmetric: similarity less threshold; only what is above the diagonal counts.

    Returns:
        int64 (n,), the group of each photo, from 1.
    """
    if len(margins) < 2:  # noqa: PLR2004 - SciPy links no single row
        return np.ones(len(margins), dtype=np.int64)
    distances = squareform(REACH - np.clip(margins, -REACH, REACH), checks=False)
    return np.asarray(fcluster(linkage(distances, "complete"), REACH, "distance"), dtype=np.int64)


def near_groups(pairs: NearPairs, vectors: Vectors, threshold: float, *, largest: int = LARGEST) -> Ints:
    """Groups of the photos that occur in pairs, by complete linkage: a ~ b ~ c makes no a ≡ c.

    Only photos of one chain of pairs can share a group, so that each chain is looked at by itself; the similarities of
    all its photos to each other count as well.

    Args:
        pairs: those that count as links.
        vectors: float32 (n, d), unit rows; may be a memory map.
        threshold: the similarity at or above which every pair of a group is.
        largest: a chain of more photos is taken apart at its weaker pairs first, which may split a group, never join.

    Returns:
        int64 (n,), the group of each photo, from 0; -1 for a photo in no pair.
    """
    groups = np.full(len(vectors), -1, dtype=np.int64)
    count = 0
    for chain in _chains(pairs, largest):
        rows = vectors[chain].astype(np.float64)
        found = complete_linkage(rows @ rows.T - threshold)
        groups[chain] = count - 1 + found
        count += int(found.max())
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
