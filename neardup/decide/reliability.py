"""How well probabilities are calibrated: log loss, Brier score, and the share of true pairs in each bin."""

from dataclasses import dataclass

import numpy as np

from neardup.arrays import Bools, Floats

BIN_EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Edges of the reliability plot's bins: narrow at both ends, where most candidates lie and where bands begin."""
CERTAIN = 1e-15
"""Least distance of a probability from 0 in the log loss, which would be infinite there."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The candidates whose probability lies between two edges.

    Attributes:
        low: the lower edge, which belongs to the bin.
        high: the upper edge, which belongs to the next bin; 1 belongs to the last.
        pairs: how many candidates lie between the edges.
        predicted: mean probability of these candidates.
        observed: share of these candidates that lie within one group.
    """

    low: float
    high: float
    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Reliability:
    """How well out-of-fold probabilities are calibrated, beside those from the cosine alone; lower is better.

    Attributes:
        log_loss: mean negative logarithm of the probability of what is true; Good 1952.
        brier: mean squared difference of probability and truth; Brier 1950.
        log_loss_of_similarity: log loss of a logistic regression on the cosine alone, out of fold as well.
        brier_of_similarity: Brier score of a logistic regression on the cosine alone, out of fold as well.
    """

    log_loss: float
    brier: float
    log_loss_of_similarity: float
    brier_of_similarity: float

    @classmethod
    def of(cls, probabilities: Floats, similarity: Floats, same: Bools) -> "Reliability":
        """Measure two lists of probabilities, float64 (m,) each, against the truth, bool (m,)."""
        losses = [(log_loss(values, same), brier_score(values, same)) for values in (probabilities, similarity)]
        return cls(*losses[0], *losses[1])

    def sentence(self) -> str:
        """The figures in words, for a report."""
        return (
            f"Log loss {self.log_loss:.4f} and Brier score {self.brier:.4f} out of fold; the similarity of the vectors "
            f"alone has {self.log_loss_of_similarity:.4f} and {self.brier_of_similarity:.4f} (lower is better)."
        )


def log_loss(probabilities: Floats, same: Bools) -> float:
    """Mean negative natural logarithm of the probability given to what is true (Good 1952); lower is better.

    >>> round(log_loss(np.array([0.5, 0.5]), np.array([True, False])), 4)
    0.6931
    """
    of_truth = np.clip(np.where(same, probabilities, 1 - probabilities), CERTAIN, 1.0)
    return float(-np.log(of_truth).mean())


def brier_score(probabilities: Floats, same: Bools) -> float:
    """Mean squared difference of probability and truth (Brier 1950), 0 to 1; lower is better.

    >>> brier_score(np.array([0.5, 0.0]), np.array([True, False]))
    0.125
    """
    return float(((probabilities - same) ** 2).mean())


def reliability_bins(probabilities: Floats, same: Bools) -> tuple[ReliabilityBin, ...]:
    """Compare predicted and observed shares of true pairs in each bin; bins without candidates are left out.

    Args:
        probabilities: float64 (m,), out of fold.
        same: bool (m,), whether each pair lies within one group.
    """
    place = np.minimum(np.searchsorted(BIN_EDGES, probabilities, side="right") - 1, len(BIN_EDGES) - 2)
    bins = []
    for number in np.unique(place).tolist():
        in_bin = place == number
        predicted, observed = float(probabilities[in_bin].mean()), float(same[in_bin].mean())
        bins.append(ReliabilityBin(BIN_EDGES[number], BIN_EDGES[number + 1], int(in_bin.sum()), predicted, observed))
    return tuple(bins)
