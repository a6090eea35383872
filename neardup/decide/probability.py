"""The calibrated probability that a pair is a near-duplicate: fitted by groups, reported out of fold, ranked by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
"""Least groups with a right match, and pairs of groups with a wrong one, for matches to have their own regression.

From held-out photographs, 10, 26, 40, 60 and 80 groups were drawn: a regression of their matches gave the matches of
all other groups a log loss of 0.54, 0.45, 0.30, 0.12 and 0.08; one of all their verified pairs gave 0.39, 0.29, 0.24,
0.19 and 0.15.
"""
LEAST_WITHOUT_MATCH = 12
"""Least groups with a right pair that has no match, for pairs without a match to have their own regression.

Below it the log-odds by similarity and by the lack of a match are added. Of 12, 24, 48, 80 and 120 groups drawn from
held-out photographs, the µAP of others by a regression of all verified pairs was 98.76, 98.05, 98.09, 97.49 and 97.87,
by the sum 98.89, 98.56, 98.50, 98.20 and 98.24; with 20 in place of 12, the last is 98.13.
"""
LEAST_WRONG = 5
"""Least pairs of groups with a wrong pair as similar, for a further increase to count fully where there is no match.

Two lawns or two crowds are more alike than all that ground truths have of wrong pairs. In a collection with such
photographs, of 39 pairs without a match to which the line drawn on gave 0.3 or more, 38 were wrong; with the
ceiling, none has 0.3. The log loss of held-out groups, which have none, rises from 0.0211 to 0.0213, and the µAP of
exposures falls from 98.58 to 98.51; with ten in place of five, to 98.48.
"""


@dataclass(frozen=True)
class CandidatePairs:
    """The pairs that vectors proposed, with their features.

    Attributes:
        left: int64 (m,), row of each pair's first photo.
        right: int64 (m,), row of each pair's second photo; each unordered pair once.
        features: float64 (m, k), one column per entry of `FEATURES`.
        tellable: bool (m,), whether geometry can judge the pair.
        matched: bool (m,), whether geometry finds a match.
    """

    left: Ints
    right: Ints
    features: Floats
    tellable: Bools
    matched: Bools

    @classmethod
    def of(cls, rows: Ints, cosines: Floats, evidence: Sequence[Evidence | None]) -> "CandidatePairs":
        """Make candidates of pairs of rows, int64 (m, 2), their cosines, float64 (m,), and their evidence."""
        features = features_of(cosines, evidence)
        return cls(rows[:, 0], rows[:, 1], features, tellable(evidence), matched(evidence))

    def take(self, chosen: Ints | Bools) -> "CandidatePairs":
        """Select pairs by their indices or by a mask."""
        ends, features = (self.left[chosen], self.right[chosen]), self.features[chosen]
        return CandidatePairs(*ends, features, self.tellable[chosen], self.matched[chosen])

    @property
    def cosines(self) -> Floats:
        """The similarities of the vectors, as a table of one feature, float64 (m, 1)."""
        return self.features[:, [list(FEATURES).index(name) for name in SIMILARITY]]


class Regression(IntEnum):
    """The regression that a pair goes by: its index in `PairModel.regressions`."""

    MATCHED = 0
    UNMATCHED = 1
    UNTELLABLE = 2


@dataclass(frozen=True)
class PairModel:
    """Three regressions: for pairs with a geometric match, for pairs without, and for those that geometry cannot tell.

    Where there is a match, its strength says far more than the similarity of the vectors; without one, similarity is
    all that there is. A single regression for both would give similarity so much weight that it outweighs the
    difference between strong and weak matches. A pair of two skies has too few keypoints, so that its lack of a match
    says nothing.

    Attributes:
        matched: on all features, fitted on pairs with a match.
        unmatched: on the cosine alone, fitted on pairs without a match that geometry can judge, with a ceiling.
        untellable: on the cosine alone, fitted on all candidates.
        unmoved: `matched` and `unmatched` as first fitted, if verdicts have moved them since; whether a match counts as
            one still goes by these, so that verdicts on other pairs do not change it.
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
        """Choose the `Regression` that each pair goes by, int64 (m,).

        More agreement never speaks against a pair: a match so weak that the pair would be more probable without it
        counts as none. Similarity counts fully here, beyond the ceiling too: two brick walls that look alike match by
        chance. This goes by the regressions as first fitted: verdicts that move them leave each pair with its own.
        """
        with_match, without_match = self.unmoved or (self.matched, self.unmatched)
        line = replace(without_match, ceilings=None)
        stronger = with_match.log_odds(pairs.features) >= line.log_odds(pairs.cosines)
        told = np.where(pairs.matched & stronger, Regression.MATCHED, Regression.UNMATCHED)
        return np.where(pairs.tellable, told, Regression.UNTELLABLE).astype(np.int64)

    def log_odds(self, pairs: CandidatePairs) -> Floats:
        """Compute the log-odds of each pair, float64 (m,)."""
        by_cosine = (model.log_odds(pairs.cosines) for model in (self.unmatched, self.untellable))
        every = (self.matched.log_odds(pairs.features), *by_cosine)
        return np.asarray(np.choose(self.regression_of(pairs), every), dtype=np.float64)

    def probabilities(self, pairs: CandidatePairs) -> Floats:
        """Compute the probability of each pair, float64 (m,); never 0 or 1."""
        return np.asarray(np.clip(expit(self.log_odds(pairs)), CERTAIN, 1 - CERTAIN), dtype=np.float64)


def fit_pairs(pairs: CandidatePairs, group_of: Ints) -> PairModel:
    """Fit the regressions on candidates whose groups are known.

    A small ground truth has hardly any wrong match, so that matches alone would teach that all are right: below
    `LEAST_TO_LEARN`, a regression of all pairs that geometry can judge serves instead. And it has hardly any right pair
    without a match: below `LEAST_WITHOUT_MATCH`, what similarity says and what the lack of a match says are added.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo.
    """
    looked_at, matches = pairs.take(pairs.tellable), pairs.take(pairs.matched)
    others = pairs.take(pairs.tellable & ~pairs.matched)
    verified = matches if _teach_enough(matches, group_of, LEAST_TO_LEARN) else looked_at
    matched = _fitted(tuple(FEATURES), verified.features, verified, group_of)
    if _teach_enough(others, group_of, LEAST_WITHOUT_MATCH):
        unmatched = _fitted(SIMILARITY, others.cosines, others, group_of)
    else:
        unmatched = _lacking_a_match(looked_at, group_of)
    untellable = _fitted(SIMILARITY, pairs.cosines, pairs, group_of)
    return PairModel(matched, _up_to(unmatched, others, group_of), untellable)


def _fitted(names: tuple[str, ...], table: Floats, pairs: CandidatePairs, group_of: Ints) -> Logistic:
    """Fit a regression on some features of candidates, with pairs weighted by `pair_weights`."""
    left, right = group_of[pairs.left], group_of[pairs.right]
    return fit_logistic(names, table, left == right, pair_weights(left, right))


def _lacking_a_match(pairs: CandidatePairs, group_of: Ints) -> Logistic:
    """Fit a regression on similarity for pairs without a match, on all that geometry can judge, by Bayes' rule.

    Within right pairs, and within wrong ones, similarity is taken to say nothing about whether there is a match. The
    log-odds by similarity then change by the logarithm of how often right pairs lack a match, by how often wrong ones
    do.
    """
    left, right = group_of[pairs.left], group_of[pairs.right]
    same, weights = left == right, pair_weights(left, right)
    model = fit_logistic(SIMILARITY, pairs.cosines, same, weights)
    of_right, of_wrong = (
        (weights[kind & ~pairs.matched].sum() + 0.5) / (weights[kind].sum() + 1) for kind in (same, ~same)
    )
    return replace(model, intercept=model.intercept + float(np.log(of_right / of_wrong)))


def _up_to(model: Logistic, pairs: CandidatePairs, group_of: Ints) -> Logistic:
    """Give a regression on similarity the ceiling of some candidates: what `LEAST_WRONG` pairs of groups reach."""
    ends, cosines = _groups_of(pairs, group_of), pairs.cosines[:, 0]
    order = np.argsort(-cosines, kind="stable")
    order = order[ends[order, 0] != ends[order, 1]]
    first = np.sort(np.unique(ends[order], axis=0, return_index=True)[1])  # the most similar pair of each two groups
    reached = cosines[order[first[:LEAST_WRONG]]]
    return replace(model, ceilings=(float(reached[-1]),)) if len(reached) else model


def _teach_enough(pairs: CandidatePairs, group_of: Ints, least: int) -> bool:
    """Whether at least `least` groups have a right pair among these, and as many pairs of groups a wrong one."""
    seen = np.unique(_groups_of(pairs, group_of), axis=0)
    right = int((seen[:, 0] == seen[:, 1]).sum())
    return min(right, len(seen) - right) >= least


def _groups_of(pairs: CandidatePairs, group_of: Ints) -> Ints:
    """The groups of both photos of each pair, int64 (m, 2), the lesser first; equal for a right pair."""
    return np.sort(np.stack([group_of[pairs.left], group_of[pairs.right]], axis=1), axis=1)


@dataclass(frozen=True)
class OutOfFold:
    """The probabilities of candidates by models that saw none of their groups.

    Attributes:
        probabilities: float64 (m,), from vectors and evidence.
        similarity: float64 (m,), probabilities from the cosine alone, for comparison.
        counted: bool (m,), whether geometry finds a match that counts (`PairModel.regression_of`).
        fold: int64 (n,), the fold of each photo.
    """

    probabilities: Floats
    similarity: Floats
    counted: Bools
    fold: Ints


def out_of_fold(pairs: CandidatePairs, group_of: Ints, folds: int, seed: int) -> OutOfFold:
    """Compute the probability of each candidate by a model that was fitted on pairs wholly outside its folds.

    The folds are those of the threshold's calibration (`measure.threshold.calibrated_thresholds`), so that a verified
    figure and one from vectors alone are judged on the same groups.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo, without gaps.
        folds: how many folds, at least 3.
        seed: seed by which groups are dealt into folds.

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
    counted = np.zeros(len(same), dtype=bool)
    for judged, outside in judged_and_outside(fold[pairs.left], fold[pairs.right]):
        model, held_out = fit_pairs(pairs.take(outside), group_of), pairs.take(judged)
        probabilities[judged] = model.probabilities(held_out)
        similarity[judged] = model.untellable.probabilities(held_out.cosines)
        counted[judged] = model.regression_of(held_out) == Regression.MATCHED
    return OutOfFold(probabilities, similarity, counted, fold)


def ranking_scores(similarities: Floats, floor: float) -> Floats:
    """Score pairs that are not candidates: below every candidate's probability, in the order of their cosine.

    Args:
        similarities: of any shape, -1 to 1; higher is more alike.
        floor: the least probability of a candidate.

    Returns:
        float64 of the same shape, 0 to half of `floor`.
    """
    return np.asarray(floor / 4 * (1 + np.clip(similarities, -1, 1)), dtype=np.float64)


def scored_square(similarities: Floats, pairs: CandidatePairs, probabilities: Floats) -> Floats:
    """Compute the scores by which metrics rank the photos of a test set: candidates by probability, the rest by cosine.

    Args:
        similarities: float64 (n, n), symmetric; higher is more alike.
        pairs: the candidates.
        probabilities: float64 (m,), the candidates' probabilities.

    Returns:
        float64 (n, n), symmetric, 0 to 1. Distractors, which are not candidates, are to be scored by `ranking_scores`
        with the least of `probabilities`.
    """
    scores = ranking_scores(similarities, float(probabilities.min(initial=1.0)))
    scores[pairs.left, pairs.right] = scores[pairs.right, pairs.left] = probabilities
    return scores
