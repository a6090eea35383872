"""What an audit has shown so far: the precision of the links that it bounds from below, and what more answers buy."""

from dataclasses import dataclass

from scipy.stats import beta

CONFIDENCE = 0.95
"""Share of audits whose bound holds: the confidence at which every bound of precision is given."""
PROMISES = (0.9, 0.95, 0.98, 0.99)
"""Precisions that an audit aims at, one after the other; 29, 59, 149 and 299 answers without an error show them."""


def lower_bound(right: int, answers: int, confidence: float = CONFIDENCE) -> float:
    """The precision that a sample shows at least, one-sided, by Clopper and Pearson (Biometrika 26, 1934).

    >>> round(lower_bound(59, 59), 3), round(lower_bound(92, 93), 3), lower_bound(0, 5)
    (0.95, 0.95, 0.0)

    Args:
        right: answers that say the link is right.
        answers: all answers, of links drawn at random.
        confidence: how surely the bound holds, 0 to 1.
    """
    return float(beta.ppf(1 - confidence, right, answers - right + 1)) if right else 0.0


@dataclass(frozen=True)
class Audited:
    """The answers to links that were drawn at random.

    Attributes:
        right: answers that say "same".
        answers: all that say something; "cannot tell" says nothing of a link.
    """

    right: int
    answers: int

    @property
    def bound(self) -> float:
        """Precision of the links at least, at the usual confidence."""
        return lower_bound(self.right, self.answers)

    def next_promise(self) -> tuple[float, int] | None:
        """The next precision to reach, and how many more answers without an error show it; None past the last one."""
        for promise in PROMISES:
            if self.bound < promise:
                return promise, self._missing(promise)
        return None

    def _missing(self, promise: float) -> int:
        """Further right answers until the bound reaches a precision, by doubling and halving."""
        most = 1
        while lower_bound(self.right + most, self.answers + most) < promise:
            most *= 2
        least = most // 2
        while most - least > 1:
            middle = (least + most) // 2
            reached = lower_bound(self.right + middle, self.answers + middle) >= promise
            least, most = (least, middle) if reached else (middle, most)
        return most
