"""The bootstrap over groups: a test set in which each group counts as often as a resample drew it.

Groups are drawn, not photos, because photos of one group are not independent. A resample only weights what was scored:
rankings, nearest neighbours, thresholds and found groups remain those of the test set itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Floats
from neardup.measure.pairs import Pairs
from neardup.measure.scored import ScoredTestSet


@dataclass(frozen=True)
class Resample:
    """A scored test set with the number of times that each of its groups was drawn.

    Attributes:
        scored: the test set.
        times: float64 (g,), how often each group was drawn; all ones give the test set itself.
    """

    scored: ScoredTestSet
    times: Floats

    @classmethod
    def whole(cls, scored: ScoredTestSet) -> "Resample":
        """Make the resample that is the test set itself: every group once."""
        return cls(scored, np.ones(scored.group_count))

    @property
    def queries(self) -> Floats:
        """Weight of each query, float64 (q,): that of its group."""
        return self.times[self.scored.group_of[self.scored.queries]]

    @property
    def photos(self) -> Floats:
        """Weight of each photo, float64 (n,): that of its group."""
        return self.times[self.scored.group_of]

    @property
    def gallery_groups(self) -> Floats:
        """Weight of each group, then of each distractor, float64 (g + d,): distractors are not drawn and weigh 1."""
        return np.append(self.times, np.ones(self.scored.distractors.shape[1]))

    def pairs(self, pairs: Pairs) -> Floats:
        """Compute the weights of some pairs of the test set, float64 (m,), by `Pairs.weights`."""
        return pairs.weights(self.scored.group_of, self.times)

    @cached_property
    def pair_counts(self) -> tuple[float, float, float]:
        """Weighted numbers of pairs that are called and of one group, that are called, and that are of one group."""
        pairs, called = self.scored.once(_decided)
        weight = self.pairs(pairs)
        return float(weight[called & pairs.same].sum()), float(weight[called].sum()), float(weight[pairs.same].sum())

    @cached_property
    def ordered_pairs(self) -> Floats:
        """Weight of all pairs in the order of `Pairs.order`, float64 (m,)."""
        return self.pairs(self.scored.once(ordered))


def _decided(scored: ScoredTestSet) -> tuple[Pairs, Bools]:
    """The pairs that are called or of one group, which alone count in precision and recall, and which are called."""
    chosen = scored.called | scored.pairs.same
    return scored.pairs.take(chosen), scored.called[chosen]


def ordered(scored: ScoredTestSet) -> Pairs:
    """List all pairs of a test set, most alike first; of equal scores, pairs of two groups come first."""
    return scored.pairs.take(scored.pairs.order)


def resamples(scored: ScoredTestSet, count: int, seed: int) -> Iterator[Resample]:
    """Resample groups with replacement; equal seeds and groups give equal draws, so that approaches are paired.

    Args:
        scored: the test set.
        count: how many resamples.
        seed: seed of the draws.
    """
    groups = scored.group_count
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), count)
    for times in draws.astype(np.float64):
        yield Resample(scored, times)


def weighted(values: Floats, weights: Floats) -> float:
    """Compute the weighted mean of values, float64 (n,), by weights, float64 (n,); NaN if all weights are 0."""
    total = weights.sum()
    return float(values @ weights / total) if total > 0 else float("nan")
