"""The calibrated chance that a pair is a near-duplicate: fitted by group, reported out of fold, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.special import expit

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.features import FEATURES, SIMILARITY, features_of, matched, tellable
from neardup.decide.folds import dealt_folds, judged_and_outside
from neardup.decide.logistic import Logistic, fit_logistic, pair_weights
from neardup.decide.reliability import CERTAIN
from neardup.errors import ConfigError
from neardup.verify.evidence import Evidence

LEAST_TO_LEARN = 3
"""Groups with a right match, and twos of groups with a wrong one, below which matches have no regression of their own.

Of the held-out photographs 10, 26, 40, 60 and 80 groups were drawn; their own regression gave the matches of all other
groups a log loss of .54, .45, .30, .12 and .08, that of all pairs that were looked at .39, .29, .24, .19 and .15.
"""
LEAST_WITHOUT_MATCH = 12
"""Groups with a right pair without a match below which such pairs have no regression of their own.

Drawn in the same way, among other photographs: below it their own regression was the worse one in 36 of 49 draws, from
it on in 4 of 11.
"""


@dataclass(frozen=True)
class CandidatePairs:
    """The pairs that vectors proposed, with their features.

    Attributes:
        left: int64 (m,), row of each pair's first photo.
        right: int64 (m,), row of each pair's second photo; each unordered pair once.
        features: float64 (m, k), a column a line of `FEATURES`.
        tellable: bool (m,), whether geometry says something of the pair.
        matched: bool (m,), whether it finds a match.
    """

    left: Ints
    right: Ints
    features: Floats
    tellable: Bools
    matched: Bools

    @classmethod
    def of(cls, rows: Ints, cosines: Floats, evidence: Sequence[Evidence | None]) -> "CandidatePairs":
        """Pairs of rows, int64 (m, 2), with the features of their cosines, float64 (m,), and their evidence."""
        features = features_of(cosines, evidence)
        return cls(rows[:, 0], rows[:, 1], features, tellable(evidence), matched(evidence))

    def take(self, chosen: Ints | Bools) -> "CandidatePairs":
        """Some of the pairs, chosen by their places or by a mask."""
        ends, features = (self.left[chosen], self.right[chosen]), self.features[chosen]
        return CandidatePairs(*ends, features, self.tellable[chosen], self.matched[chosen])

    @property
    def cosines(self) -> Floats:
        """The similarities of the vectors, as a table of one feature, float64 (m, 1)."""
        return self.features[:, [list(FEATURES).index(name) for name in SIMILARITY]]


class Regression(IntEnum):
    """The regression that a pair goes by: its place among those of a `PairModel`."""

    MATCHED = 0
    UNMATCHED = 1
    UNTELLABLE = 2


@dataclass(frozen=True)
class PairModel:
    """Three regressions, for pairs that geometry finds a match in, for those without one, and for what it cannot tell.

    Where a match is found, its strength says far more than the similarity of the vectors; where none is, similarity is
    all that there is. One regression for both gives similarity so much weight that it outweighs what strong and weak
    matches show. A pair of two skies has too few keypoints to be told apart, and its lack of a match says nothing.

    Attributes:
        matched: on all features, fitted on pairs that match.
        unmatched: on the cosine alone, fitted on pairs without a match that geometry says something of.
        untellable: on the cosine alone, fitted on all candidates.
        unmoved: `matched` and `unmatched` as they were fitted, if verdicts have moved them since; by these a match is
            still taken for one or for none, so that verdicts on other pairs make a match of none.
    """

    matched: Logistic
    unmatched: Logistic
    untellable: Logistic
    unmoved: tuple[Logistic, Logistic] | None = None

    @property
    def regressions(self) -> tuple[Logistic, Logistic, Logistic]:
        """The regressions in the order of `Regression`."""
        return self.matched, self.unmatched, self.untellable

    def regression_of(self, pairs: CandidatePairs) -> Ints:
        """The `Regression` that each pair goes by, int64 (m,).

        More agreement never speaks against a pair: a match so weak that the pair were more probable without it is taken
        for none. As the regressions were fitted, that is: verdicts that move them leave each pair to its own one.
        """
        with_match, without_match = self.unmoved or (self.matched, self.unmatched)
        stronger = with_match.log_odds(pairs.features) >= without_match.log_odds(pairs.cosines)
        told = np.where(pairs.matched & stronger, Regression.MATCHED, Regression.UNMATCHED)
        return np.where(pairs.tellable, told, Regression.UNTELLABLE).astype(np.int64)

    def log_odds(self, pairs: CandidatePairs) -> Floats:
        """The log-odds of each pair, float64 (m,)."""
        by_cosine = (model.log_odds(pairs.cosines) for model in (self.unmatched, self.untellable))
        every = (self.matched.log_odds(pairs.features), *by_cosine)
        return np.asarray(np.choose(self.regression_of(pairs), every), dtype=np.float64)

    def probabilities(self, pairs: CandidatePairs) -> Floats:
        """The probability of each pair, float64 (m,); never 0 or 1."""
        return np.asarray(np.clip(expit(self.log_odds(pairs)), CERTAIN, 1 - CERTAIN), dtype=np.float64)


def fit_pairs(pairs: CandidatePairs, group_of: Ints) -> PairModel:
    """Fit the regressions on candidates whose groups are known.

    A small ground truth has hardly a wrong match, and matches alone would then teach that all of them are right; and
    hardly a right pair without a match. Below `LEAST_TO_LEARN`, and below `LEAST_WITHOUT_MATCH`, the regression of all
    pairs that geometry says something of serves for them.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo.
    """
    looked_at, matches = pairs.take(pairs.tellable), pairs.take(pairs.matched)
    others = pairs.take(pairs.tellable & ~pairs.matched)
    matched = told = _fitted(tuple(FEATURES), looked_at.features, looked_at, group_of)
    unmatched = told.where_others_are_zero(SIMILARITY)
    if _teach_enough(matches, group_of, LEAST_TO_LEARN):
        matched = _fitted(told.features, matches.features, matches, group_of)
    if _teach_enough(others, group_of, LEAST_WITHOUT_MATCH):
        unmatched = _fitted(SIMILARITY, others.cosines, others, group_of)
    return PairModel(matched, unmatched, _fitted(SIMILARITY, pairs.cosines, pairs, group_of))


def _fitted(names: tuple[str, ...], table: Floats, pairs: CandidatePairs, group_of: Ints) -> Logistic:
    """A regression on some features of candidates, in which groups weigh alike."""
    left, right = group_of[pairs.left], group_of[pairs.right]
    return fit_logistic(names, table, left == right, pair_weights(left, right))


def _teach_enough(pairs: CandidatePairs, group_of: Ints, least: int) -> bool:
    """Whether enough groups have a right pair among these, and enough twos of groups a wrong one."""
    ends = np.sort(np.stack([group_of[pairs.left], group_of[pairs.right]], axis=1), axis=1)
    seen = np.unique(ends, axis=0)
    right = int((seen[:, 0] == seen[:, 1]).sum())
    return min(right, len(seen) - right) >= least


@dataclass(frozen=True)
class OutOfFold:
    """The probabilities of candidates by models that saw none of their groups.

    Attributes:
        probabilities: float64 (m,), of vectors and evidence.
        similarity: float64 (m,), of the cosine alone, to compare with.
        fold: int64 (n,), the fold of each photo.
    """

    probabilities: Floats
    similarity: Floats
    fold: Ints


def out_of_fold(pairs: CandidatePairs, group_of: Ints, folds: int, seed: int) -> OutOfFold:
    """Probabilities of all candidates, each by a model that was fitted on pairs wholly outside its folds.

    The folds are those of the threshold's calibration (`measure.threshold.calibrated_thresholds`), so that a verified
    figure and one of the vectors alone are judged on the same groups.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo, without gaps.
        folds: how many folds, at least 3.
        seed: of the dealing.

    Raises:
        ConfigError: there is no candidate within a group, or none across two.
    """
    same = group_of[pairs.left] == group_of[pairs.right]
    if same.all() or not same.any():
        raise ConfigError(
            f"no probability can be fitted: of {len(same)} candidates {int(same.sum())} are of one group, and both "
            "kinds are needed; add groups to the ground truth or more candidates for each photo"
        )
    fold = dealt_folds(group_of, folds, seed)
    probabilities, similarity = np.empty(len(same)), np.empty(len(same))
    for judged, outside in judged_and_outside(fold[pairs.left], fold[pairs.right]):
        model, held_out = fit_pairs(pairs.take(outside), group_of), pairs.take(judged)
        probabilities[judged] = model.probabilities(held_out)
        similarity[judged] = model.untellable.probabilities(held_out.cosines)
    return OutOfFold(probabilities, similarity, fold)


def ranking_scores(similarities: Floats, floor: float) -> Floats:
    """Scores of photos that are no candidates: below every candidate's probability, in the order of their cosine.

    Args:
        similarities: of any shape, -1 to 1; higher is more alike.
        floor: the least probability of a candidate.

    Returns:
        float64 of the same shape, 0 to half of `floor`.
    """
    return np.asarray(floor / 4 * (1 + np.clip(similarities, -1, 1)), dtype=np.float64)


def scored_square(similarities: Floats, pairs: CandidatePairs, probabilities: Floats) -> Floats:
    """The scores by which metrics rank the photos of a test set: probabilities first, then the rest by cosine.

    Args:
        similarities: float64 (n, n), symmetric; higher is more alike.
        pairs: the candidates.
        probabilities: float64 (m,), of the candidates.

    Returns:
        float64 (n, n), symmetric, 0 to 1. Those of distractors that are no candidates are `ranking_scores` with the
        least of `probabilities`.
    """
    scores = ranking_scores(similarities, float(probabilities.min(initial=1.0)))
    scores[pairs.left, pairs.right] = scores[pairs.right, pairs.left] = probabilities
    return scores
