"""The calibrated chance that a pair is a near-duplicate: fitted by group, reported out of fold, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.features import FEATURES, SIMILARITY, features_of, matched, tellable
from neardup.decide.folds import dealt_folds, judged_and_outside
from neardup.decide.logistic import Logistic, fit_logistic, pair_weights
from neardup.errors import ConfigError
from neardup.verify.evidence import Evidence


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


@dataclass(frozen=True)
class PairModel:
    """Two regressions: one for pairs that were verified, one for those of which only the vectors say something.

    A pair of two skies has too few keypoints to be told apart. One regression would take its lack of inliers for that
    of a pair that was looked at and does not match.

    Attributes:
        verified: on all features, fitted on the pairs that geometry says something of.
        similarity: on the cosine alone, fitted on all pairs.
    """

    verified: Logistic
    similarity: Logistic

    def probabilities(self, pairs: CandidatePairs) -> Floats:
        """The probability of each pair, float64 (m,)."""
        verified = self.verified.probabilities(pairs.features)
        return np.where(pairs.tellable, verified, self.similarity.probabilities(pairs.cosines))


def fit_pairs(pairs: CandidatePairs, group_of: Ints) -> PairModel:
    """Fit both regressions on candidates whose groups are known.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo.
    """
    left, right = group_of[pairs.left], group_of[pairs.right]
    same, chosen = left == right, pairs.tellable
    weights = pair_weights(left[chosen], right[chosen])
    verified = fit_logistic(tuple(FEATURES), pairs.features[chosen], same[chosen], weights)
    return PairModel(verified, fit_logistic(SIMILARITY, pairs.cosines, same, pair_weights(left, right)))


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
        similarity[judged] = model.similarity.probabilities(held_out.cosines)
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


def chance_text(probability: float) -> str:
    """A probability in per cent, never rounded to certainty.

    >>> chance_text(0.98765), chance_text(0.99999), chance_text(0.00001)
    ('98.8 %', 'over 99.9 %', 'under 0.1 %')
    """
    if probability < 0.0005:  # noqa: PLR2004
        return "under 0.1 %"
    return "over 99.9 %" if probability > 0.9995 else f"{100 * probability:.1f} %"  # noqa: PLR2004
