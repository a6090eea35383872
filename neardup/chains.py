"""Groups of photos from pairs of them, chain of pairs by chain, so that a million photos need little memory."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.encoder import Vectors
from neardup.metrics import Ints, Pairs, found_groups
from neardup.nearpairs import NearPairs

LARGEST = 5000
"""Photos in one chain whose similarities are held at once: about 1 GB with what complete linkage needs."""


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
        inside = Pairs.of(rows @ rows.T, np.zeros(len(chain), dtype=np.int64))
        found = found_groups(inside, inside.scores - threshold, len(chain))
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
