"""Logistic regression whose coefficients are never negative, so that more agreement never speaks against a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from neardup.arrays import Bools, Floats, Ints

PENALTY = 1.0
"""L2 penalty: half of it times the sum of squared coefficients is added to the loss, about as much as one observation.

The features are standardised first, and the weights add up to the number of groups seen, not of pairs.
"""
SMALLEST_SCALE = 1e-6
"""Standard deviation below which a feature counts as constant: it is centred but not scaled."""
BEYOND_CEILING = 0.1
"""Share of its usual weight that a feature's increase has above the regression's ceiling: enough to order pairs."""


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression; log-odds = intercept + sum of coefficient · (feature - mean) / scale.

    Attributes:
        features: names of the features.
        means: mean of each feature over the pairs of the fit.
        scales: standard deviation of each feature over the pairs of the fit.
        coefficients: coefficient of each standardised feature; never negative.
        intercept: log-odds of a pair whose features are all average.
        ceilings: value of each feature above which an increase hardly counts (`BEYOND_CEILING`), because the fit has
            too few wrong pairs there to learn from; None where every increase counts fully.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    ceilings: tuple[float, ...] | None = None

    def terms(self, table: Floats) -> Floats:
        """Compute what each feature adds to the log-odds, float64 (m, k), from features, float64 (m, k)."""
        if self.ceilings is not None:
            table = table - (1 - BEYOND_CEILING) * np.maximum(table - self.ceilings, 0.0)
        return np.asarray((table - self.means) / self.scales * self.coefficients, dtype=np.float64)

    def log_odds(self, table: Floats) -> Floats:
        """Compute the log-odds of pairs, float64 (m,), from features, float64 (m, k)."""
        return np.asarray(self.intercept + self.terms(table).sum(axis=1), dtype=np.float64)

    def probabilities(self, table: Floats) -> Floats:
        """Compute the probabilities of pairs, float64 (m,), from features, float64 (m, k)."""
        return np.asarray(expit(self.log_odds(table)), dtype=np.float64)


def pair_weights(left_group: Ints, right_group: Ints) -> Floats:
    """Weigh pairs so that a large group does not drown out the small ones.

    The pairs within one group share a weight of 1, and so do the pairs between the same two groups. Then all pairs
    within groups, and all pairs across groups, are scaled to keep their shares among all pairs: otherwise the
    probabilities would be those of another mixture. The weights add up to the number of observations: groups, and pairs
    of groups, that have candidates.

    Args:
        left_group: int64 (m,), group of each pair's first photo.
        right_group: int64 (m,), group of each pair's second photo.

    Returns:
        float64 (m,), positive.
    """
    low, high = np.minimum(left_group, right_group), np.maximum(left_group, right_group)
    _, kind, counts = np.unique(low * (int(high.max(initial=0)) + 1) + high, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[kind]
    total, same = weights.sum(), low == high
    for chosen in (same, ~same):
        if chosen.any():
            weights[chosen] *= chosen.mean() * total / weights[chosen].sum()
    return np.asarray(weights, dtype=np.float64)


def fit_logistic(names: Sequence[str], table: Floats, same: Bools, weights: Floats) -> Logistic:
    """Fit an L2 logistic regression with coefficients that are not negative, by L-BFGS-B.

    scikit-learn's logistic regression has no bounds; where bounds do not matter, both find the same minimum, as a test
    checks. Where all pairs are of one kind, nothing can be learned from the features, and their coefficients are zero.

    Args:
        names: name of the feature in each column of `table`.
        table: float64 (m, k), the features of each pair.
        same: bool (m,), whether each pair lies within one group.
        weights: float64 (m,), how much each pair counts.
    """
    shares = weights / weights.sum() if len(weights) else weights
    means = shares @ table if len(weights) else np.zeros(len(names))
    deviations = np.sqrt(shares @ (table - means) ** 2) if len(weights) else np.zeros(len(names))
    scales = np.where(deviations < SMALLEST_SCALE, 1.0, deviations)
    standard, signs = (table - means) / scales, np.where(same, 1.0, -1.0)
    weight_of_same, weight_of_different = weights[same].sum() + 0.5, weights[~same].sum() + 0.5
    start = np.append(np.zeros(len(names)), np.log(weight_of_same / weight_of_different))
    solution = start
    if same.any() and not same.all():

        def loss(parameters: Floats) -> tuple[float, Floats]:
            """Compute the weighted log loss with the penalty, and its gradient."""
            margins = signs * (standard @ parameters[:-1] + parameters[-1])
            slopes = -weights * signs * expit(-margins)
            gradient = np.append(standard.T @ slopes + PENALTY * parameters[:-1], slopes.sum())
            return float(-weights @ log_expit(margins) + PENALTY / 2 * parameters[:-1] @ parameters[:-1]), gradient

        bounds = [(0.0, None)] * len(names) + [(None, None)]
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return Logistic(
        tuple(names), tuple(means.tolist()), tuple(scales.tolist()), tuple(solution[:-1].tolist()), float(solution[-1])
    )
