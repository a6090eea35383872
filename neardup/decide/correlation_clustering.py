"""Groups of photos by correlation clustering: groups are joined where more evidence speaks for it than against it.

Greedy additive edge contraction (Keuper et al., ICCV 2015): the two groups with the greatest sum of weights between
them are joined, as long as that sum is positive. A single false link between two groups is outvoted by the pairs that
it would bring together; two crops of one original without a common part are held together by the original.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.constraints import Constraints
from neardup.graphs import components

MOST_LOG_ODDS = 7.0
"""Greatest weight of a pair, for or against, in natural log-odds: those of 0.999; no pair outvotes two such others."""
UNLISTED = -0.1
"""Weight, in natural log-odds, of a pair that is not a candidate.

It is small, because a true pair may be missing from the candidates where both photos are joined to a third: a link of
0.999 outweighs 69 such pairs. It is not 0, or chains and single false links would join any groups.
"""
UNITS = 2**20
"""Steps in one unit of natural log-odds: weights are added as integers, so that no sum depends on the terms' order."""
CERTAIN = 1e-12
"""Least distance of a probability from 0 and 1 when its log-odds are taken, which would be infinite there."""


def pair_log_odds(probabilities: Floats, disjoint: Bools | None = None) -> Floats:
    """Weigh each pair by the log-odds of its probability, capped; 0 where the photos share no part of the scene.

    Args:
        probabilities: float64 (m,).
        disjoint: bool (m,), whether geometry says that the two photos do not overlap; none by default.

    Returns:
        float64 (m,), -`MOST_LOG_ODDS` to `MOST_LOG_ODDS`; positive speaks for one group.
    """
    weights = np.clip(logit(np.clip(probabilities, CERTAIN, 1 - CERTAIN)), -MOST_LOG_ODDS, MOST_LOG_ODDS)
    return np.where(disjoint, 0.0, weights) if disjoint is not None else np.asarray(weights, dtype=np.float64)


@dataclass(frozen=True)
class WeightedPairs:
    """Pairs of photos and their weights; pairs that are not listed weigh `UNLISTED`.

    Attributes:
        left: int64 (m,), row of each pair's one photo.
        right: int64 (m,), row of its other photo; each unordered pair once.
        weights: float64 (m,), natural log-odds; positive speaks for one group.
    """

    left: Ints
    right: Ints
    weights: Floats


def correlation_clusters(
    count: int,
    pairs: WeightedPairs,
    constraints: Constraints | None = None,
    *,
    unlisted: float = UNLISTED,
) -> Ints:
    """Group photos by greedy contraction of the heaviest edge, in memory that grows with the pairs.

    Photos that must be together are one node from the start. Then, again and again, the two nodes with the greatest
    positive sum of weights between them are joined, unless a pair of theirs must stay apart. Of equal sums, the one of
    the lower rows comes first: the groups do not depend on the order of the pairs nor, with rows sorted by the photos'
    contents, on the order of the photos. Measured: a million pairs of 100,000 photos in 14 s.

    Args:
        count: number of photos.
        pairs: the candidates and their weights.
        constraints: pairs that must be together or stay apart; none by default.
        unlisted: weight of each pair that is not listed, at most 0.

    Returns:
        int64 (count,), the group of each photo, numbered from 0 in the order of their first photos; a photo that is
        joined to none is a group of its own.

    Raises:
        ConfigError: photos that must stay apart are held together by pairs that must be together.
        ValueError: a pair is listed twice, or unlisted pairs weigh more than 0.
    """
    if unlisted > 0:
        raise ValueError(f"unlisted pairs weigh {unlisted}, which is more than 0")
    rules = constraints or Constraints()
    rules.check()
    node_of = components(count, *_columns(rules.together))
    sizes = np.bincount(node_of, minlength=1)
    left, right, sums, listed = _between_nodes(pairs, node_of)
    part_of = components(len(sizes), left[sums > 0], right[sums > 0])
    within = part_of[left] == part_of[right]
    left, right, sums, listed = (column[within] for column in (left, right, sums, listed))
    order = np.argsort(part_of[left], kind="stable")
    ends = np.flatnonzero(np.diff(part_of[left][order])) + 1
    forbidden = _neighbours(node_of, rules.apart)
    joined = np.arange(len(sizes))
    for part in np.split(order, ends) if len(order) else []:
        columns = (column[part].tolist() for column in (left, right, sums, listed))
        graph = _Graph(zip(*columns, strict=True), sizes, forbidden, round(unlisted * UNITS))
        graph.contract()
        for node, into in graph.joins:
            joined[node] = into
    while (joined[joined] != joined).any():
        joined = joined[joined]
    return _numbered(joined[node_of])


class _Graph:
    """Nodes and the sums of the weights between them; `contract` joins nodes."""

    def __init__(
        self,
        edges: "zip[tuple[int, ...]]",
        sizes: Ints,
        forbidden: dict[int, set[int]],
        unlisted: int,
    ) -> None:
        """Build the graph from its edges and what is known of its nodes.

        Args:
            edges: node, other node, sum of the weights of the listed pairs between them, number of these pairs.
            sizes: int64, photos in each node.
            forbidden: for each node, the nodes that it must never be joined to.
            unlisted: weight of each pair that is not listed, in `UNITS`.
        """
        self.sums: defaultdict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        for left, right, weight, listed in edges:
            self.sums[left][right] = self.sums[right][left] = (weight, listed)
        self.sizes = {node: int(sizes[node]) for node in self.sums}
        self.apart = {node: forbidden[node] & self.sums.keys() for node in self.sums if node in forbidden}
        self.unlisted = unlisted
        self.joins: list[tuple[int, int]] = []

    def contract(self) -> None:
        """Join the two nodes with the greatest sum between them until no sum is positive.

        A sum may have fallen since it was put on the heap, because its nodes grew; it then goes back with its present
        value. It cannot have risen: where two sums are merged, the new one is put on the heap at once.
        """
        heap = [entry for node in self.sums for entry in self._entries(node, self.sums[node]) if entry[1] == node]
        heapq.heapify(heap)
        while heap:
            value, left, right = heapq.heappop(heap)
            if right not in self.sums.get(left, ()) or right in self.apart.get(left, ()):
                continue
            current = self._value(left, right)
            if current == -value:
                survivor, changed = self._join(left, right)
                for entry in self._entries(survivor, changed):
                    heapq.heappush(heap, entry)
            elif 0 < current < -value:
                heapq.heappush(heap, (-current, left, right))

    def _value(self, left: int, right: int) -> int:
        """Sum of the weights of all pairs between two nodes, listed and unlisted."""
        weight, listed = self.sums[left][right]
        return weight + self.unlisted * (self.sizes[left] * self.sizes[right] - listed)

    def _entries(self, node: int, others: "dict[int, tuple[int, int]] | list[int]") -> list[tuple[int, int, int]]:
        """Make heap entries of a node with others: positive sums, negated, and both nodes, the lesser first."""
        entries = ((-self._value(node, other), min(node, other), max(node, other)) for other in others)
        return [entry for entry in entries if entry[0] < 0]

    def _join(self, left: int, right: int) -> tuple[int, list[int]]:
        """Join two nodes into the one with more neighbours; return it and the neighbours whose sums may have risen."""
        survivor, absorbed = (left, right) if len(self.sums[left]) >= len(self.sums[right]) else (right, left)
        self.joins.append((absorbed, survivor))
        self.sizes[survivor] += self.sizes.pop(absorbed)
        moved = self.sums.pop(absorbed)
        del moved[survivor], self.sums[survivor][absorbed]
        for other, (weight, listed) in moved.items():
            before = self.sums[survivor].get(other, (0, 0))
            total = (before[0] + weight, before[1] + listed)
            self.sums[survivor][other] = self.sums[other][survivor] = total
            del self.sums[other][absorbed]
        if absorbed in self.apart:
            forbidden = self.apart.pop(absorbed)
            self.apart[survivor] = self.apart.get(survivor, set()) | forbidden
            for other_node in forbidden:
                self.apart[other_node].discard(absorbed)
                self.apart[other_node].add(survivor)
        return survivor, list(moved)


def _between_nodes(pairs: WeightedPairs, node_of: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Sum the pairs between different nodes, sorted by nodes: lesser node, greater node, sum, number of pairs."""
    ends = np.stack([pairs.left, pairs.right]).astype(np.int64)
    keys = ends.min(axis=0) * len(node_of) + ends.max(axis=0)
    if len(np.unique(keys)) < len(keys):
        raise ValueError("a pair of photos is listed twice")
    nodes = node_of[ends]
    between = nodes[0] != nodes[1]
    nodes, weights = nodes[:, between], np.rint(pairs.weights[between] * UNITS).astype(np.int64)
    keys, place = np.unique(nodes.min(axis=0) * len(node_of) + nodes.max(axis=0), return_inverse=True)
    sums = np.zeros(len(keys), dtype=np.int64)
    np.add.at(sums, place, weights)
    low, high = np.divmod(keys, len(node_of))
    return low, high, sums, np.bincount(place, minlength=len(keys)).astype(np.int64)


def _neighbours(node_of: Ints, pairs: Sequence[tuple[int, int]]) -> dict[int, set[int]]:
    """The nodes that each node must stay apart from; nodes without any are missing."""
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for left, right in pairs:
        neighbours[int(node_of[left])].add(int(node_of[right]))
        neighbours[int(node_of[right])].add(int(node_of[left]))
    return dict(neighbours)


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Pairs as two arrays, int64 (k,) each."""
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _numbered(labels: Ints) -> Ints:
    """Number groups anew from 0, in the order of their first photos: int64 (n,)."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label].astype(np.int64)
