"""Bridges: pairs that alone hold two parts of a group together, so that one wrong pair would join two pictures."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order

from neardup.arrays import Bools, Ints
from neardup.graphs import components

LEAST_SIDE = 2
"""Least photos on the smaller side of a bridge: a single photo that hangs on a group does not endanger the others."""


def bridges(first: Ints, second: Ints, size: int) -> Bools:
    """Mark the edges of a graph whose removal would separate two parts of at least two nodes each.

    Every edge outside a spanning forest gets a random number of 64 bits; an edge of the forest is a bridge where the
    numbers that leave the part below it cancel out (cycle space sampling; Pritchard and Thurimella, ACM Transactions on
    Algorithms 7 (4), 2011). Two numbers cancel by chance once in 1.8e19.

    Args:
        first: int64 (m,), one end of each edge; no two edges join the same nodes.
        second: int64 (m,), the other end.
        size: number of nodes.

    Returns:
        bool (m,); of the path a-b-c-d it is the edge b-c.
    """
    if not len(first):
        return np.zeros(0, dtype=bool)
    nodes, ends = np.unique(np.stack([first, second]), return_inverse=True)
    first, second, count = ends[0], ends[1], min(size, len(nodes))
    parts = components(count, first, second)
    parents, order = _forest(first, second, parts)
    in_forest = (parents[first] == second) | (parents[second] == first)
    numbers = np.random.default_rng(0).integers(1, 2**63, size=len(first), dtype=np.uint64) * ~in_forest
    marks, below = np.zeros(count + 1, dtype=np.uint64), np.ones(count + 1, dtype=np.int64)
    for ends_of in (first, second):
        np.bitwise_xor.at(marks, ends_of, numbers)
    for level in _levels(parents, order):
        np.bitwise_xor.at(marks, parents[level], marks[level])
        np.add.at(below, parents[level], below[level])
    child = np.where(parents[first] == second, first, second)
    sides = np.minimum(below[child], np.bincount(parts)[parts[child]] - below[child])
    return np.asarray(in_forest & (marks[child] == 0) & (sides >= LEAST_SIDE))


def _forest(first: Ints, second: Ints, parts: Ints) -> tuple[Ints, Ints]:
    """Parent of each of n nodes in a spanning forest below one root of number n, and the nodes from the root down.

    Args:
        first: int64 (m,), one end of each edge.
        second: int64 (m,), the other end.
        parts: int64 (n,), the connected component of each node.
    """
    count, roots = len(parts), np.unique(parts, return_index=True)[1]
    rows, columns = np.concatenate([first, np.full(len(roots), count)]), np.concatenate([second, roots])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count + 1, count + 1)).tocsr()
    order, parents = breadth_first_order(graph, count, directed=False)
    return parents.astype(np.int64), order.astype(np.int64)


def _levels(parents: Ints, order: Ints) -> list[Ints]:
    """The nodes below the root, those of one depth together, the deepest first.

    Args:
        parents: int64 (n,), of each node.
        order: int64 (n,), breadth first: the parents of later nodes stand nowhere earlier than those of earlier ones.
    """
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    of_parents = places[parents[order[1:]]]
    levels, begin, end = [], 0, 1
    while begin < end:
        begin, end = (1 + int(place) for place in np.searchsorted(of_parents, (begin, end)))
        levels.append(order[begin:end])
    return levels[-2::-1]
