"""What a number of observations allows to promise: exact bounds of a share, and what they mean for a collection."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from scipy.special import betaincinv

from neardup.words import counted

CONFIDENCE = 0.95
"""Confidence of every bound, 0 to 1: of a hundred bounds at 0.95, about five are wrong."""
MOST_OBSERVATIONS = 1_000_000
"""Upper end of the search for a sufficient number of observations: nobody judges a million pairs by hand."""


def lower_bound(right: int, seen: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided lower bound of a share, where `right` of `seen` observations were right.

    >>> round(lower_bound(59, 59), 4), lower_bound(0, 5)
    (0.9505, 0.0)
    """
    return float(betaincinv(right, seen - right + 1, 1 - confidence)) if right else 0.0


def upper_bound(wrong: int, seen: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided upper bound of the share of wrong ones, where `wrong` of `seen` were wrong.

    With none wrong it is near 3 / seen, the rule of three.

    >>> round(upper_bound(0, 3000) * 1000, 2)
    1.0
    """
    return 1 - lower_bound(seen - wrong, seen, confidence)


def more_without_error(seen: int, errors: int, promise: float, confidence: float = CONFIDENCE) -> int:
    """Count how many more observations, all right, would lift the lower bound to a promised share.

    Args:
        seen: observations so far.
        errors: how many of them were wrong.
        promise: the share that is promised, less than 1.
        confidence: confidence of the bound, 0 to 1.

    >>> more_without_error(0, 0, 0.95), more_without_error(60, 1, 0.95), more_without_error(0, 0, 0.99)
    (59, 33, 299)
    """
    low, high = 0, 1
    while lower_bound(seen + high - errors, seen + high, confidence) < promise and high < MOST_OBSERVATIONS:
        low, high = high, 2 * high
    if lower_bound(seen - errors, seen, confidence) >= promise:
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        met = lower_bound(seen + middle - errors, seen + middle, confidence) >= promise
        low, high = (low, middle) if met else (middle, high)
    return high


@dataclass(frozen=True)
class Audit:
    """Verdicts on links that were drawn at random before anybody looked at them.

    Attributes:
        seen: how many links were judged.
        errors: how many of them were not near-duplicates.
        promise: the precision that is promised.
    """

    seen: int
    errors: int
    promise: float = 0.95

    @classmethod
    def of(cls, answers: Iterable[bool | None], promise: float = 0.95) -> "Audit":
        """Count the answers on links up to the first link without one: these are a random sample.

        Later answers were given for another reason, such as doubt, and say nothing about all links.

        Args:
            answers: for every link whose precision is wanted, in the order of their random numbers, whether it is
                right; None where nobody answered or people contradict each other. Leave out links that nobody can tell:
                the precision is that of the others.
            promise: the precision that is promised.

        >>> Audit.of([True, False, True, None, True])
        Audit(seen=3, errors=1, promise=0.95)
        """
        sample = list(takewhile(lambda answer: answer is not None, answers))
        return cls(len(sample), sample.count(False), promise)

    @property
    def bound(self) -> float:
        """Lower bound of the links' precision at 95 % confidence."""
        return lower_bound(self.seen - self.errors, self.seen)

    @property
    def missing(self) -> int:
        """How many more links without an error would meet the promise; 0 where it is met."""
        return more_without_error(self.seen, self.errors, self.promise)

    def sentence(self) -> str:
        """What the verdicts prove, and how many more are needed, in words."""
        drawn = f"by {counted(self.seen, 'that was', 'that were')} drawn at random"
        start = f"Links: at least {percent(self.bound)} precise at 95 % confidence, {drawn}"
        if not self.missing:
            return f"{start}."
        return f"{start}; {self.missing} more without an error make it {percent(self.promise)}."


@dataclass(frozen=True)
class FalseLinks:
    """How many photos of a collection may have a false link, by decoys: photographs that surely are not in it.

    Attributes:
        photos: how many photos the collection has.
        decoys: how many foreign photographs were searched for.
        linked: how many of the decoys got a link.
        expected_photos: upper bound at 95 % confidence of the expected number of photos with a false link. A photo may
            have several, and each link has two ends: decoys say nothing about the number of links.
    """

    photos: int
    decoys: int
    linked: int
    expected_photos: float

    def sentence(self) -> str:
        """The bound in words, with the numbers that it rests on."""
        if not self.decoys:
            return f"How many of {self.photos:,} photos have a false link is not known: no decoys were searched for."
        how = counted(self.linked, "of them was", "of them were") if self.linked else "none of them was"
        foreign = counted(self.decoys, "foreign photograph was", "foreign photographs were")
        return (
            f"At most {counted(math.ceil(self.expected_photos), 'photo')} with a false link can be expected among "
            f"{self.photos:,} (95 % confidence): {foreign} searched for in them, and {how} linked. What recurs in this "
            "collection alone, as a stamp, a form or a mount does, foreign photographs do not have: the audit of "
            "`neardup review` counts false links by it, too."
        )


def photos_with_false_links(photos: int, decoys: int, linked: int) -> FalseLinks:
    """Bound the photos of a collection with a false link by decoys, foreign photographs that were searched for in it.

    A photo is assumed to get a false link at most as often as a decoy does, by Clopper and Pearson's upper bound.

    Args:
        photos: how many photos the collection has.
        decoys: how many foreign photographs were searched for.
        linked: how many of the decoys got at least one link.

    >>> [round(photos_with_false_links(n, 3145, 0).expected_photos) for n in (10_000, 100_000, 1_000_000)]
    [10, 95, 952]
    """
    rate = upper_bound(linked, decoys) if decoys else 1.0
    return FalseLinks(photos, decoys, linked, photos * rate)


def percent(share: float) -> str:
    """Write a share as a percentage, rounded down to a tenth, lest a bound read as a promise that it does not meet.

    >>> percent(0.95), percent(0.9499)
    ('95 %', '94.9 %')
    """
    return f"{math.floor(share * 1000 + 1e-9) / 10:g} %"
