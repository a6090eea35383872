"""The features that a probability is computed from: at most eight numbers of a pair, and the table that lists them.

Each feature grows with the chance that a pair is a near-duplicate, is capped where more of it would mean nothing more,
and is zero where nothing was found. To add one, add a line to `_TABLE`, from which the fit, the decision's file, the
waterfall and the tables take its name and title, and raise `decision.DECISION_STEP`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from neardup.arrays import Bools, Floats
from neardup.verify.evidence import Evidence

MOST_INLIERS = 200
"""Inliers above which more of them add nothing: a large scan has thousands, and ten times as many prove no more."""
MOST_DIGITS = 100.0
"""Negative decimal logarithm of the number of false alarms above which more adds nothing: 1e-100 means never."""
CLOSEST = 0.6
"""Residual below which points that agree still more closely prove no more: keypoints are not more exact.

Measured on held-out photographs and copies with 10 to 19 points that agree: the middle half of 157 true matches has 0.5
to 0.9, that of 179 wrong ones, most of them portraits in one pose, 1.7 to 2.5.
"""
LOOSEST = 5.0
"""Residual at which points agree so loosely that it means nothing; hardly any match has as much."""
LIKEST = 1.01
"""Reference value of a correlation: one of 0.99 or more lacks only what grain and a new scan take."""
LEAST_COVERAGE = 0.8
"""Share of a photo below which a smaller share means nothing more: two crops of one original may share any part of it.

Fits see hardly any pair below it, and what they learn from 0.95 against 0.85 must not be extrapolated to 0.3.
"""


@dataclass(frozen=True)
class Feature:
    """One number of a pair, as the fit, the waterfall and every table know it.

    Attributes:
        name: the feature's name in files.
        title: its name for people.
        value: function from a pair's cosine similarity and evidence to the feature; higher is more alike.
    """

    name: str
    title: str
    value: Callable[[float, Evidence], float]


def _count(inliers: int) -> float:
    """Logarithm of one more than a number of inliers, capped: from 5 to 10 counts about as much as from 10 to 20."""
    return math.log1p(min(inliers, MOST_INLIERS))


def _digits(evidence: Evidence) -> float:
    """Logarithm of one more than the negative decimal logarithm of the number of false alarms, capped."""
    return math.log1p(min(MOST_DIGITS, max(0.0, -evidence.log_false_alarms)))


def _closeness(evidence: Evidence) -> float:
    """Logarithm of `LOOSEST` by the residual of the points that agree, at least 0; 0 without a match."""
    return max(0.0, math.log(LOOSEST / max(evidence.residual, CLOSEST))) if evidence.matched else 0.0


def _tones(evidence: Evidence) -> float:
    """Negative logarithm of the share of `LIKEST` that the correlation falls short of; 0 where nothing correlates.

    The step from 0.9 to 0.98 thus counts more than that from 0.5 to 0.6: two objects of one make, photographed alike,
    have 0.95 where a copy has 0.99.
    """
    return -math.log1p(-max(0.0, evidence.correlation) / LIKEST)


def _coverage(evidence: Evidence) -> float:
    """The greater share that one photo of a match shows of the other, at least `LEAST_COVERAGE`; 0 without a match."""
    greater = max(evidence.coverage_first, evidence.coverage_second)
    return max(LEAST_COVERAGE, greater) if evidence.matched else 0.0


_TABLE = (
    Feature("cosine", "similarity of the vectors", lambda cosine, _: cosine),
    Feature("inliers", "points that agree", lambda _, evidence: _count(evidence.points)),
    Feature("closeness", "how closely the points agree", lambda _, evidence: _closeness(evidence)),
    Feature("rarity", "how unlikely the agreement is by chance", lambda _, evidence: _digits(evidence)),
    Feature(
        "share", "share of the matches that agree", lambda _, evidence: evidence.share if evidence.matched else 0.0
    ),
    Feature("correlation", "likeness of the tones where they overlap", lambda _, evidence: _tones(evidence)),
    Feature("detail", "likeness of the details where they overlap", lambda _, evidence: max(0.0, evidence.detail)),
    Feature(
        "coverage",
        "how much of one photo the other shows",
        lambda _, evidence: _coverage(evidence),
    ),
)
"""The features, in the order of every table."""
FEATURES: Mapping[str, Feature] = MappingProxyType({feature.name: feature for feature in _TABLE})
"""All features by name, in the order of every table; at most eight, as a hundred groups support no more."""
SIMILARITY = ("cosine",)
"""Names of the features of a pair that geometry cannot tell: the cosine alone."""


def tellable(evidence: Sequence[Evidence | None]) -> Bools:
    """Find the pairs that geometry can judge, bool (m,): those that were verified and have enough keypoints."""
    return np.array([item is not None and not item.cannot_tell for item in evidence], dtype=bool)


def matched(evidence: Sequence[Evidence | None]) -> Bools:
    """Find the pairs in which geometry finds a match, bool (m,): only these can be links."""
    return np.array([item is not None and item.matched for item in evidence], dtype=bool)


def features_of(cosines: Floats, evidence: Sequence[Evidence | None]) -> Floats:
    """Compute the features of pairs, float64 (m, k), one column per entry of `FEATURES`.

    A pair without evidence, or with too few keypoints, has its cosine and zeros; `tellable` tells such pairs from those
    that were examined and do not match.

    Args:
        cosines: float64 (m,), -1 to 1; higher is more alike.
        evidence: evidence of each pair; None where it was not verified.
    """
    table = np.zeros((len(cosines), len(FEATURES)))
    table[:, list(FEATURES).index("cosine")] = cosines
    for row, (cosine, item) in enumerate(zip(cosines.tolist(), evidence, strict=True)):
        if item is not None and not item.cannot_tell:
            table[row] = [feature.value(cosine, item) for feature in _TABLE]
    return table
