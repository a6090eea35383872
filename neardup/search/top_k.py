"""The nearest of each row during a search for pairs, by which farther pairs are left out early."""

import numpy as np

from neardup.arrays import Bools, Floats, Ints


class RunningTopK:
    """The k greatest similarities of each row among the pairs found so far.

    A pair below the k-th greatest similarity of both its rows is among the k nearest of neither, whatever is found
    later, so that it need be neither computed exactly nor kept. If partners come in random order, a row has k (1 + ln(n
    / k)) pairs that must be examined: 180 of 65,536 at k = 20, where a loose threshold alone would let through
    thousands.
    """

    def __init__(self, rows: int, k: int, threshold: float) -> None:
        """Begin with nothing found.

        Args:
            rows: number of rows that are searched.
            k: how many nearest of each row are wanted.
            threshold: similarity, -1 to 1, that a pair must reach in any case.
        """
        self._greatest = np.full((rows, k), threshold)
        self.floors: Floats = self._greatest.min(axis=1)
        """float64 (rows,), the similarity that a pair must reach for a row; it only rises, and is never too great."""

    def reached(self, left: Ints, right: Ints, similarities: Floats) -> Bools:
        """Find the pairs, bool (m,), that can still be among the k nearest of one of their rows, ties included."""
        return similarities >= np.minimum(self.floors[left], self.floors[right])

    def add(self, left: Ints, right: Ints, similarities: Floats) -> None:
        """Record pairs that were found, each once, for both of its rows."""
        ends, both = np.concatenate([left, right]), np.tile(similarities, 2)
        rises = both > self.floors[ends]
        ends, both = ends[rises], both[rises]
        order = np.lexsort((-both, ends))
        ends, both = ends[order], both[order]
        rows, starts, counts = np.unique(ends, return_index=True, return_counts=True)
        k = self._greatest.shape[1]
        ranks = np.arange(len(ends)) - np.repeat(starts, counts)
        kept, which = ranks < k, np.repeat(np.arange(len(rows)), counts)
        merged = np.full((len(rows), 2 * k), -np.inf)
        merged[:, :k] = self._greatest[rows]
        merged[which[kept], k + ranks[kept]] = both[kept]
        greatest = np.partition(merged, k, axis=1)[:, k:]
        self._greatest[rows], self.floors[rows] = greatest, greatest.min(axis=1)
