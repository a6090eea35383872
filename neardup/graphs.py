"""Connected components of a graph whose nodes are numbered, as photos by their rows."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.arrays import Ints


def components(count: int, left: Ints, right: Ints) -> Ints:
    """Find the connected component of each of `count` nodes.

    Args:
        count: number of nodes.
        left: int64 (m,), one end of each edge; edges may be given twice, and may join a node with itself.
        right: int64 (m,), the other end.

    Returns:
        int64 (count,), numbers of components without gaps, from 0, in the order of their first nodes.
    """
    if not count:
        return np.empty(0, dtype=np.int64)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
