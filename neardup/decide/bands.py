"""Link, review, reject: probabilities between two thresholds that keep a promised precision and recall."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.promises import lower_bound, more_without_error, percent
from neardup.words import counted

Band = Literal["link", "review", "reject"]
"""What is done with a pair: it is linked, shown to people, or rejected."""
LINK_THRESHOLDS = (0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
"""Probabilities at or above which pairs may be linked, the lowest first.

They are fixed beforehand, and few: the more thresholds are tried, the likelier one meets a promise by luck. Below 0.7 a
pair is rather to be asked about, even where all links from 0.5 on keep the promise: of 1,404 true pairs of held-out
photographs 13 lie between, and 6 of the 10 wrong ones.
"""
REJECT_THRESHOLDS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Probabilities below which pairs may be rejected, the highest first.

They are fixed beforehand, as `LINK_THRESHOLDS` are; none lies above the lowest of those, so that no pair is in both
bands.
"""
PRECISION = 0.95
"""Share of the links that is promised to be right, unless a setting says otherwise."""
RECALL = 0.98
"""Share of the near-duplicates that is promised not to be rejected, unless a setting says otherwise."""


@dataclass(frozen=True)
class Promise:
    """A promised share, and how far the observations support it at one threshold.

    Attributes:
        share: what is promised, 0 to 1.
        threshold: the probability at which it is kept; None where no threshold keeps it.
        bound: lower bound of the share at 95 % confidence, at `threshold` or, without one, at the best threshold tried.
        groups: how many groups the bound rests on, with one pair of each; where `drawn`, how many links.
        errors: how many of those pairs were wrong.
        missing: how many more groups (links, where `drawn`) without an error would keep the promise; 0 where it is
            kept.
        drawn: whether the bound rests on links that were drawn at random in a collection instead of groups.
    """

    share: float
    threshold: float | None
    bound: float
    groups: int
    errors: int
    missing: int
    drawn: bool = False

    @property
    def rests_on(self) -> str:
        """How many observations carry the promise, in words."""
        return counted(self.groups, "link") + " drawn at random" if self.drawn else counted(self.groups, "group")

    @property
    def by(self) -> str:
        """How the bound was counted, in words."""
        return f"by {self.rests_on}" if self.drawn else f"by one pair of each of {self.rests_on}"


@dataclass(frozen=True)
class Bands:
    """The probability from which pairs are linked and that below which they are rejected; people review the others.

    Attributes:
        precision: the promise of the links, kept at or above its threshold.
        recall: the promise of what is not rejected, kept at or above its threshold.
    """

    precision: Promise
    recall: Promise

    @property
    def link(self) -> float:
        """The probability at or above which a pair is linked; infinity where none is."""
        return math.inf if self.precision.threshold is None else self.precision.threshold

    @property
    def reject(self) -> float:
        """The probability below which a pair is rejected; 0 where none is."""
        return 0.0 if self.recall.threshold is None else self.recall.threshold

    def of(self, probabilities: Floats, linkable: Bools | None = None) -> list[Band]:
        """Put each pair into its band.

        Args:
            probabilities: float64 (m,).
            linkable: bool (m,), whether geometry finds a match in each pair; a pair without one is reviewed instead of
                linked. None where nothing was verified and the vectors alone decide.
        """
        linked, rejected = probabilities >= self.link, probabilities < self.reject
        if linkable is not None:
            linked = linked & linkable
        return [
            "link" if link else "reject" if reject else "review"
            for link, reject in zip(linked.tolist(), rejected.tolist(), strict=True)
        ]

    def sentence(self) -> str:
        """Both bands in words: where they lie, what they rest on, and how many more verdicts are needed."""
        precision, recall = self.precision, self.recall
        if precision.threshold is None:
            text = (
                f"No pair is linked without review: {precision.rests_on} cannot carry a precision of "
                f"{percent(precision.share)} ({percent(precision.bound)} at best); {precision.missing} more without an "
                "error would."
            )
        else:
            text = (
                f"Pairs of a probability of {precision.threshold:g} or more are linked: at least "
                f"{percent(precision.bound)} of them are right at 95 % confidence, {precision.by}."
            )
        if recall.threshold is None:
            return text + (
                f" None is rejected without review: {recall.rests_on} cannot carry a recall of "
                f"{percent(recall.share)} ({percent(recall.bound)} at best); {recall.missing} more without an error "
                "would."
            )
        return text + (
            f" Those below {recall.threshold:g} are rejected: at least {percent(recall.bound)} of the near-duplicates "
            f"are not among them, {recall.by}."
        )


def bands_for(
    pairs: tuple[Ints, Ints],
    probabilities: Floats,
    group_of: Ints,
    precision: float = PRECISION,
    recall: float = RECALL,
    *,
    linkable: Bools | None = None,
) -> Bands:
    """Choose both thresholds on a ground truth, by one pair of each group.

    The link threshold is the lowest whose lower bound of precision meets its promise, the reject threshold the highest
    whose lower bound of recall meets its own. A true pair that is not a candidate counts as rejected. A pair without a
    match is never a link (`Bands.of`), so that it does not count for the links' precision.

    Args:
        pairs: rows of the first and of the second photo of each candidate, int64 (m,) each.
        probabilities: float64 (m,), out of fold.
        group_of: int64 (n,), 0-based group of each photo.
        precision: promised share of right pairs among the links.
        recall: promised share of near-duplicates that are not rejected.
        linkable: bool (m,), whether geometry finds a match in each candidate; in all by default.
    """
    left, right = np.minimum(*pairs), np.maximum(*pairs)
    by_pair = np.lexsort((right, left))
    left, right, probabilities = left[by_pair], right[by_pair], probabilities[by_pair]
    linkable = np.ones(len(left), dtype=bool) if linkable is None else linkable[by_pair]
    same = group_of[left] == group_of[right]
    drawn_links = (
        _one_link_a_group(group_of[left], group_of[right], linkable & (probabilities >= threshold))
        for threshold in LINK_THRESHOLDS
    )
    right_links = [(int(same[drawn].sum()), len(drawn)) for drawn in drawn_links]
    true_pairs = _one_true_pair_a_group(left[same], right[same], probabilities[same], group_of)
    not_rejected = [(int((true_pairs >= threshold).sum()), len(true_pairs)) for threshold in REJECT_THRESHOLDS]
    return Bands(_promise(precision, LINK_THRESHOLDS, right_links), _promise(recall, REJECT_THRESHOLDS, not_rejected))


def _promise(share: float, thresholds: tuple[float, ...], counts: Iterable[tuple[int, int]]) -> Promise:
    """Find the first threshold that keeps a promise, or else the one that misses it by the fewest observations.

    Args:
        share: the promised share, 0 to 1.
        thresholds: the thresholds to try, the most useful first.
        counts: for each threshold, the number of right observations and of all observations.
    """
    best: Promise | None = None
    for threshold, (right, observations) in zip(thresholds, counts, strict=True):
        bound, missing = lower_bound(right, observations), more_without_error(observations, observations - right, share)
        promise = Promise(share, threshold if not missing else None, bound, observations, observations - right, missing)
        if not missing:
            return promise
        best = promise if best is None or missing < best.missing else best
    assert best is not None  # noqa: S101 - there are always thresholds
    return best


def _one_link_a_group(left: Ints, right: Ints, linked: Bools) -> Ints:
    """Draw one link at random for each group that has any; a link that two groups draw counts once.

    A false pair can be drawn by either of its two groups, a true one only by its own, so that the share of right links
    is no better than that among random links of random groups. Each pair's random number is the same at every threshold
    and in every run.

    Args:
        left: int64 (m,), group of the first photo, of pairs in the order of their rows.
        right: int64 (m,), group of the second photo.
        linked: bool (m,), which pairs are links.

    Returns:
        int64 (k,), indices of the drawn pairs, each once.
    """
    shuffled = np.random.default_rng(0).permutation(len(left))
    shuffled = shuffled[linked[shuffled]]
    groups = np.stack([left[shuffled], right[shuffled]], axis=1).ravel()
    first = np.unique(groups, return_index=True)[1] // 2
    return np.unique(shuffled[first]).astype(np.int64)


def _one_true_pair_a_group(left: Ints, right: Ints, probabilities: Floats, group_of: Ints) -> Floats:
    """Draw a true pair of each group of two or more: its probability, 0 where the pair is not a candidate.

    Args:
        left: int64 (t,), the lesser row of each candidate within a group.
        right: int64 (t,), its greater row.
        probabilities: float64 (t,).
        group_of: int64 (n,), 0-based group of each photo.
    """
    probability_of = dict(zip(zip(left.tolist(), right.tolist(), strict=True), probabilities.tolist(), strict=True))
    by_group = np.argsort(group_of, kind="stable")
    members = np.split(by_group, np.flatnonzero(np.diff(group_of[by_group])) + 1)
    generator = np.random.default_rng(0)
    pairs = [np.sort(generator.choice(group, 2, replace=False)) for group in members if len(group) > 1]
    return np.array([probability_of.get((int(first), int(second)), 0.0) for first, second in pairs])
