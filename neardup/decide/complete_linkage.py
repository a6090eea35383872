"""Groups of photos by complete linkage of their near pairs, in bounded memory."""

import hashlib
from collections.abc import Iterator

import numpy as np
from scipy.cluster.hierarchy import DisjointSet, fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import squareform

from neardup.arrays import Floats, Ints, Vectors
from neardup.graphs import components
from neardup.search.pairs import NearPairs

LARGEST = 5000
"""Most nodes of one chain whose similarities are in memory at once: complete linkage then takes about 800 MB."""
REACH = 4.0
"""Limit to which margins (similarity less threshold) are clipped: any two similarities differ by 2 at most."""


def complete_linkage(margins: Floats) -> Ints:
    """Make groups in which every pair reaches its threshold: a ~ b and b ~ c do not put a and c into one group.

    Args:
        margins: float64 (n, n), symmetric: similarity less threshold, minus infinity where no similarity would suffice;
            only the part above the diagonal is read.

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
    """Group the photos that occur in pairs by complete linkage: a ~ b and b ~ c do not put a and c into one group.

    Photos with equal vectors are one node, as they are in one group anyway. Nodes that pairs link, directly or through
    others, form a chain; only nodes of one chain can share a group, so that complete linkage takes one chain at a time.
    Within a chain all similarities count, including those that are not among the pairs.

    Memory grows with the pairs and the photos in them, and with `largest` squared: a chain of more nodes is cut into
    parts first, by single linkage. The pairs are taken best first, and a pair joins the parts of its two nodes unless
    they would have more than `largest` nodes together. A large chain may thus give more groups than complete linkage of
    the whole would, but in each group every pair reaches the threshold.

    Args:
        pairs: the pairs that count as links, in any order.
        vectors: float32 (n, d), unit rows; may be a memory map.
        threshold: the similarity that every pair of a group reaches.
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
    """Make one node of rows with bitwise equal vectors, if their similarity to themselves reaches the threshold.

    Returns:
        int64 (len(rows),), the node of each row, numbered as they first occur, and int64, an index into `rows` for each
        node. The condition on the threshold matters only near 1, which equal rows may miss by rounding.
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
    """Yield the chains of `count` nodes, which all have links: sorted nodes; chains above `largest` come in parts."""
    labels = components(count, links.left, links.right)
    for label, chain in enumerate(np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])):
        if len(chain) <= largest:
            yield chain
        else:
            yield from _parts(links.take(labels[links.left] == label), chain, largest)


def _parts(links: NearPairs, chain: Ints, largest: int) -> list[Ints]:
    """Cut a chain into parts of at most `largest` nodes by single linkage, best links first, ties by their nodes.

    Only the links of a minimum spanning tree can join two parts that no better link has joined.
    """
    ends = np.sort(np.searchsorted(chain, np.stack([links.left, links.right])), axis=0)
    order = np.lexsort((ends[1], ends[0], -links.similarities))
    _, best = np.unique(ends[0][order] * len(chain) + ends[1][order], return_index=True)
    best = best[ends[0][order[best]] < ends[1][order[best]]]  # indices into `order` of the best link of two nodes
    ranks = (best + 1).astype(np.float64)
    shape = (len(chain), len(chain))
    tree = minimum_spanning_tree(coo_array((ranks, tuple(ends[:, order[best]])), shape=shape)).tocoo()
    parts = DisjointSet(range(len(chain)))
    first = np.argsort(tree.data)
    for left, right in zip(tree.row[first].tolist(), tree.col[first].tolist(), strict=True):
        if parts.subset_size(left) + parts.subset_size(right) <= largest:
            parts.merge(left, right)
    return [chain[sorted(part)] for part in parts.subsets()]
