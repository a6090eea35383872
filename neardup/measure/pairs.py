"""All pairs of a test set's photos, with their similarity and whether the historian put both photos into one group."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of photos.

    Attributes:
        i: int64 (m,), index of the photo that comes first in the test set.
        j: int64 (m,), index of the photo that comes second.
        scores: float64 (m,), similarities; higher is more alike.
        same: bool (m,), whether both photos are of one group.
    """

    i: Ints
    j: Ints
    scores: Floats
    same: Bools

    @classmethod
    def of(cls, similarities: Floats, groups: Ints) -> "Pairs":
        """The n (n - 1) / 2 pairs of n photos, from their similarities, float64 (n, n), and groups, int64 (n,)."""
        i, j = np.triu_indices(len(groups), 1)
        return cls(i.astype(np.int64), j.astype(np.int64), similarities[i, j], groups[i] == groups[j])

    def take(self, chosen: Ints | Bools) -> "Pairs":
        """Some of the pairs, chosen by index or by mask."""
        return Pairs(self.i[chosen], self.j[chosen], self.scores[chosen], self.same[chosen])

    @cached_property
    def order(self) -> Ints:
        """Indices of the pairs, int64 (m,), most alike first; of equal scores the pairs of two groups come first."""
        return np.lexsort((self.same, -self.scores)).astype(np.int64)

    def weights(self, group_of: Ints, times: Floats) -> Floats:
        """How often each pair occurs in a resample of the groups, float64 (m,).

        A pair within a group occurs as often as its group was drawn, a pair of two groups as often as the product.

        Args:
            group_of: int64 (n,), 0-based group of each photo.
            times: float64 (g,), how often each group was drawn.
        """
        left, right = times[group_of[self.i]], times[group_of[self.j]]
        return np.where(self.same, left, left * right)
