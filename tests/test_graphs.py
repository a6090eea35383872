"""Connected components against a slow, readable search."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neardup.graphs import components


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """A number of nodes and edges between them, some of them given twice or from a node to itself."""
    count = draw(st.integers(0, 12))
    nodes = st.integers(0, max(0, count - 1))
    return count, draw(st.lists(st.tuples(nodes, nodes), max_size=14)) if count else []


@given(graphs())
def test_components_are_numbered_in_the_order_of_their_first_nodes(graph: tuple[int, list[tuple[int, int]]]) -> None:
    """Whatever the order and the direction of the edges."""
    count, edges = graph
    expected = list(range(count))
    for _ in range(count):
        for left, right in edges:
            expected[left] = expected[right] = min(expected[left], expected[right])
    numbers = {first: number for number, first in enumerate(sorted(set(expected)))}
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    found = components(count, ends[:, 1], ends[:, 0])
    assert found.dtype == np.int64
    assert found.tolist() == [numbers[first] for first in expected]
