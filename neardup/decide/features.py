"""What a probability is made of: at most eight numbers of a pair, and the table that lists them.

Each feature grows with the chance that a pair is a near-duplicate, is capped where more of it says nothing more, and is
zero where nothing was found. To add one, write a line of `_TABLE`: the fit, the decision's file, the waterfall and
the tables take its name and its words from there.
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
"""Decimal digits of the number of false alarms above which more add nothing: 1e-100 is as good as never."""
LIKEST = 1.01
"""What a correlation is held against: one of .99 or more lacks only what grain and a new scan take."""
LEAST_COVERAGE = 0.8
"""Share of a photo from which less of it says nothing more: two crops of one original may share any part of it.

Fits see hardly a pair below, and what they conclude from .95 against .85 must not be carried on to .3.
"""


@dataclass(frozen=True)
class Feature:
    """One number of a pair, as the fit, the waterfall and every table know it.

    Attributes:
        name: in files.
        title: what people read.
        value: gives the feature of a pair from its cosine similarity and evidence; more of it is more alike.
    """

    name: str
    title: str
    value: Callable[[float, Evidence], float]


def _count(inliers: int) -> float:
    """Logarithm of one more than a number of inliers, capped: the step from 5 to 10 says as much as that to 20."""
    return math.log1p(min(inliers, MOST_INLIERS))


def _digits(evidence: Evidence) -> float:
    """Logarithm of one more than the digits after the point of the number of false alarms, capped."""
    return math.log1p(min(MOST_DIGITS, max(0.0, -evidence.log_false_alarms)))


def _tones(evidence: Evidence) -> float:
    """Negative logarithm of what the correlation lacks of `LIKEST`, as a share of it; 0 where nothing correlates.

    So the step from .9 to .98 says more than that from .5 to .6: two things of one make, photographed alike, have .95
    where a copy has .99.
    """
    return -math.log1p(-max(0.0, evidence.correlation) / LIKEST)


def _coverage(evidence: Evidence) -> float:
    """The greater share that one photo of a match shows of the other, at least `LEAST_COVERAGE`; 0 without a match."""
    greater = max(evidence.coverage_first, evidence.coverage_second)
    return max(LEAST_COVERAGE, greater) if evidence.matched else 0.0


_TABLE = (
    Feature("cosine", "similarity of the vectors", lambda cosine, _: cosine),
    Feature("inliers", "points that agree", lambda _, evidence: _count(evidence.points)),
    Feature(
        "both_versions",
        "points that agree both sharp and blurred",
        lambda _, evidence: _count(min(evidence.inliers, evidence.blurred_inliers)),
    ),
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
"""The features, in the order of every table; a new one is a line here."""
FEATURES: Mapping[str, Feature] = MappingProxyType({feature.name: feature for feature in _TABLE})
"""All features by name, in the order of every table; at most eight, for a hundred groups bear no more."""
SIMILARITY = ("cosine",)
"""Names of the features of a pair of which geometry says nothing: the cosine alone."""


def tellable(evidence: Sequence[Evidence | None]) -> Bools:
    """Which pairs geometry says something of, bool (m,): those that were verified and had enough keypoints for it."""
    return np.array([item is not None and not item.cannot_tell for item in evidence], dtype=bool)


def matched(evidence: Sequence[Evidence | None]) -> Bools:
    """Which pairs geometry finds a match in, bool (m,): only these can be links."""
    return np.array([item is not None and item.matched for item in evidence], dtype=bool)


def features_of(cosines: Floats, evidence: Sequence[Evidence | None]) -> Floats:
    """The features of pairs, float64 (m, k), a column a line of `FEATURES`.

    A pair without evidence, or with too few keypoints, has its cosine and zeros; `tellable` says which those are, so
    that none of them is taken for a pair that was looked at and does not match.

    Args:
        cosines: float64 (m,), -1 to 1; higher is more alike.
        evidence: of each pair, or None where it was not verified.
    """
    table = np.zeros((len(cosines), len(FEATURES)))
    table[:, list(FEATURES).index("cosine")] = cosines
    for row, (cosine, item) in enumerate(zip(cosines.tolist(), evidence, strict=True)):
        if item is not None and not item.cannot_tell:
            table[row] = [feature.value(cosine, item) for feature in _TABLE]
    return table
