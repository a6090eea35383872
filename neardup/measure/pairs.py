"""Pairs of photos with their similarity and whether they are of one group, and measures of a ranking of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of photos with their similarity, and whether both are of one group.

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
        """Make the n (n - 1) / 2 pairs of n photos from their similarities, float64 (n, n), and groups, int64 (n,)."""
        i, j = np.triu_indices(len(groups), 1)
        return cls(i.astype(np.int64), j.astype(np.int64), similarities[i, j], groups[i] == groups[j])

    def take(self, chosen: Ints | Bools) -> "Pairs":
        """Select pairs by their indices or by a mask."""
        return Pairs(self.i[chosen], self.j[chosen], self.scores[chosen], self.same[chosen])

    @cached_property
    def order(self) -> Ints:
        """Indices of the pairs, int64 (m,), most alike first; of equal scores the pairs of two groups come first."""
        return np.lexsort((self.same, -self.scores)).astype(np.int64)

    def weights(self, group_of: Ints, times: Floats) -> Floats:
        """Count how often each pair occurs in a resample of the groups, float64 (m,).

        A pair within a group occurs as often as its group was drawn, a pair of two groups as often as the product of
        both numbers.

        Args:
            group_of: int64 (n,), 0-based group of each photo.
            times: float64 (g,), how often each group was drawn.
        """
        left, right = times[group_of[self.i]], times[group_of[self.j]]
        return np.where(self.same, left, left * right)


def precision_recall(same: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Compute precision and recall after each of the ordered pairs, float64 (m,) each.

    Args:
        same: bool (m,), whether each pair is of one group, in the order of `Pairs.order`.
        weights: float64 (m,), how often each pair counts.
    """
    hits = np.cumsum(weights * same)
    called = np.cumsum(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / called, hits / hits[-1]


def micro_average_precision(same: Bools, weights: Floats) -> float:
    """µAP of ordered pairs: the sum of precision times gain in recall, over all pairs of all queries in one ranking.

    Image copy detection's usual measure (Douze et al. 2021).
    Ties: `Pairs.order` puts the pairs of two groups first among equal scores. Singletons: their pairs are wrong ones.

    Args:
        same: bool (m,), whether each pair is of one group, in the order of `Pairs.order`.
        weights: float64 (m,), how often each pair counts.

    >>> micro_average_precision(np.array([True, False, True]), np.ones(3)).__round__(4)
    0.8333
    """
    precise, recalled = precision_recall(same, weights)
    return float(np.nansum(precise * np.diff(recalled, prepend=0.0)))


def recall_at_precision(same: Bools, weights: Floats, ends: Bools, least: float) -> float:
    """Compute the greatest recall over pairs at a threshold of at least a given precision; 0 if there is none.

    Ties: equally similar pairs are called together, as a threshold cannot tell them apart. Singletons: their pairs are
    wrong ones.

    Args:
        same: bool (m,), whether each pair is of one group, in the order of `Pairs.order`.
        weights: float64 (m,), how often each pair counts.
        ends: bool (m,), True at the last pair of each score: only there can a threshold lie.
        least: the required precision, 0 to 1.
    """
    precise, recalled = precision_recall(same, weights)
    return float(np.max(recalled[ends & (precise >= least)], initial=0.0))
