"""Groups of photos from pairs of them, by complete linkage, in memory that is bounded whatever the pairs are."""

import hashlib
from collections.abc import Iterator

import numpy as np
from scipy.cluster.hierarchy import DisjointSet, fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import squareform

from neardup.arrays import Floats, Ints, Vectors
from neardup.search.pairs import NearPairs

LARGEST = 5000
"""Nodes of one chain whose similarities are in memory at once: some 800 MB with what complete linkage needs."""
REACH = 4.0
"""Margin, similarity less threshold, at which margins are cut off: any two similarities differ by 2 at most."""


def complete_linkage(margins: Floats) -> Ints:
    """Groups in which every pair is at or above its threshold, so that a ~ b ~ c makes no a ≡ c.

    Args:
        margins: float64 (n, n), symmetric: similarity less threshold, minus infinity where no similarity would do; only
            what is above the diagonal counts.

    Returns:
        int64 (n,), the group of each photo, from 1.
    """
    if len(margins) < 2:  # noqa: PLR2004 - SciPy links no single row
        return np.ones(len(margins), dtype=np.int64)
    distances = np.clip(margins, -REACH, REACH)
    np.subtract(REACH, distances, out=distances)
    condensed = squareform(distances, checks=False)
    del distances
    return np.asarray(fcluster(linkage(condensed, "complete"), REACH, "distance"), dtype=np.int64)


def near_groups(pairs: NearPairs, vectors: Vectors, threshold: float, *, largest: int = LARGEST) -> Ints:
    """Groups of the photos that occur in pairs, by complete linkage: a ~ b ~ c makes no a ≡ c.

    Photos with equal vectors are one node: they are in one group anyhow. Nodes that pairs link, directly or through
    others, are a chain; only nodes of one chain can share a group, so that complete linkage takes one chain after the
    other. Within a chain the similarities of all photos count, those that are in no pair too.

    Memory grows with the pairs and the photos in them, and with `largest` squared: a chain of more nodes is cut into
    parts first. Single linkage, which joins parts by their best pair, makes them: the pairs are taken best first, and a
    pair joins the parts of its two nodes unless they would have more than `largest` nodes together. So a large chain
    may give more groups than complete linkage of the whole would, but in each group every pair reaches the threshold.

    Args:
        pairs: those that count as links, in any order.
        vectors: float32 (n, d), unit rows; may be a memory map.
        threshold: the similarity at or above which every pair of a group is.
        largest: nodes whose similarities to each other are held at once.

    Returns:
        int64 (n,), the group of each photo, from 0; -1 for a photo in no pair.
    """
    groups = np.full(len(vectors), -1, dtype=np.int64)
    if not len(pairs.left):
        return groups
    rows, places = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    nodes, place_of_node = _nodes(vectors, rows, threshold)
    left, right = nodes[places.reshape(2, -1)]
    links = NearPairs(left, right, pairs.similarities)
    group_of_node, count = np.empty(len(place_of_node), dtype=np.int64), 0
    for chain in _chains(links, len(place_of_node), largest):
        chain_vectors = vectors[rows[place_of_node[chain]]].astype(np.float64)
        margins = chain_vectors @ chain_vectors.T
        margins -= threshold
        labels = complete_linkage(margins)
        group_of_node[chain] = count - 1 + labels
        count += int(labels.max())
    groups[rows] = group_of_node[nodes]
    return groups


def _nodes(vectors: Vectors, rows: Ints, threshold: float) -> tuple[Ints, Ints]:
    """Make one node of the rows whose vectors are equal, bit by bit, and similar to themselves by the threshold.

    Returns:
        int64 (len(rows),), the node of each row, numbered as they first occur, and int64, a place in `rows` for each
        node. The second condition matters for a threshold of about 1 only, which equal rows may miss by their rounding.
    """
    numbers: dict[bytes | int, int] = {}
    nodes = np.empty(len(rows), dtype=np.int64)
    for place, row in enumerate(rows.tolist()):
        vector = vectors[row].astype(np.float64)
        alike = float(vector @ vector) >= threshold
        content = hashlib.blake2b(vectors[row].tobytes(), digest_size=16).digest() if alike else row
        nodes[place] = numbers.setdefault(content, len(numbers))
    return nodes, np.unique(nodes, return_index=True)[1]


def _chains(links: NearPairs, count: int, largest: int) -> Iterator[Ints]:
    """The chains of `count` nodes that all have links, each as nodes in order; those above `largest` come in parts."""
    graph = coo_array((np.ones(len(links.left), dtype=bool), (links.left, links.right)), shape=(count, count))
    chains, labels = connected_components(graph, directed=False)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    for label in range(chains):
        if len(members[label]) <= largest:
            yield members[label]
        else:
            yield from _parts(links.take(labels[links.left] == label), members[label], largest)


def _parts(links: NearPairs, chain: Ints, largest: int) -> list[Ints]:
    """Cut a chain into parts of at most `largest` nodes by single linkage, best links first, ties by their nodes.

    Only the links of a minimum spanning tree can join two parts that no better link has joined.
    """
    ends = np.sort(np.searchsorted(chain, np.stack([links.left, links.right])), axis=0)
    order = np.lexsort((ends[1], ends[0], -links.similarities))
    _, best = np.unique(ends[0][order] * len(chain) + ends[1][order], return_index=True)
    best = best[ends[0][order[best]] < ends[1][order[best]]]  # the places in `order` of the best link of two nodes
    ranks = (best + 1).astype(np.float64)
    shape = (len(chain), len(chain))
    tree = minimum_spanning_tree(coo_array((ranks, tuple(ends[:, order[best]])), shape=shape)).tocoo()
    parts = DisjointSet(range(len(chain)))
    first = np.argsort(tree.data)
    for left, right in zip(tree.row[first].tolist(), tree.col[first].tolist(), strict=True):
        if parts.subset_size(left) + parts.subset_size(right) <= largest:
            parts.merge(left, right)
    return [chain[sorted(part)] for part in parts.subsets()]
