"""The probability of a pair: features, regression, folds by group, ranking, and the decision that is kept of them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from neardup.arrays import Floats, Ints
from neardup.decide.bands import bands_for
from neardup.decide.decision import AVERAGE, DECISION_STEP, WEAK, Decision, Fingerprints, decide, first_decision
from neardup.decide.features import CLOSEST, FEATURES, LOOSEST, MOST_DIGITS, MOST_INLIERS, features_of, tellable
from neardup.decide.folds import dealt_folds, judged_and_outside
from neardup.decide.logistic import BEYOND_CEILING, PENALTY, Logistic, fit_logistic, pair_weights
from neardup.decide.probability import (
    LEAST_TO_LEARN,
    LEAST_WITHOUT_MATCH,
    LEAST_WRONG,
    CandidatePairs,
    PairModel,
    Regression,
    fit_pairs,
    out_of_fold,
    ranking_scores,
    scored_square,
)
from neardup.decide.reliability import Reliability
from neardup.errors import ConfigError
from neardup.verify.evidence import LEAST_KEYPOINTS, Evidence
from neardup.verify.verifier import verifier_fingerprint

FOUND = Evidence(
    *("a", "b"),
    *(300, 200, 300, 200, 90, 90),
    matches=40,
    inliers=12,
    blurred_inliers=30,
    log_false_alarms=-9.0,
    transform=(1, 0, 0, 0, 1, 0, 0, 0, 1),
    coverage_first=0.3,
    coverage_second=0.6,
    correlation=0.5,
    detail=0.4,
    residual=1.25,
)
"""A pair that matches."""
UNLIKE = Evidence("a", "b", 300, 200, 300, 200, 90, 90)
"""A pair that was looked at and does not match."""
UNTOLD = replace(UNLIKE, keypoints_second=LEAST_KEYPOINTS - 1)
"""A pair of which one photo has too few keypoints."""
GROUPS = st.lists(st.integers(0, 11), min_size=1, max_size=60).map(
    lambda drawn: np.unique(drawn, return_inverse=True)[1]
)
"""The group of each of some photos, 0-based and without gaps."""


def candidates(seed: int, groups: int = 40, size: int = 3) -> tuple[CandidatePairs, Ints]:
    """Pairs of groups of photos whose features grow with the chance to be of one group.

    Geometry cannot tell of a tenth of them, and finds a match in most of the others that are of one group, and in some.
    """
    rng = np.random.default_rng(seed)
    group_of = np.repeat(np.arange(groups), size)
    left, right = np.triu_indices(len(group_of), 1)
    same = group_of[left] == group_of[right]
    chosen = same | (rng.random(len(left)) < 0.05)
    left, right, same = left[chosen], right[chosen], same[chosen]
    features = rng.normal(0, 1, (len(left), len(FEATURES))) + 0.8 * same[:, None]
    told = rng.random(len(left)) < 0.9
    matched = told & (rng.random(len(left)) < np.where(same, 0.8, 0.3))
    features[~matched, 1:] = 0
    return CandidatePairs(left, right, features, told, matched), group_of


@pytest.fixture(scope="module")
def decision() -> Decision:
    """A decision on made candidates."""
    pairs, group_of = candidates(0)
    return decide(pairs, group_of, out_of_fold(pairs, group_of, 5, 0), Fingerprints("e" * 64, "v" * 64), "made pairs")


def test_features_are_those_of_the_evidence() -> None:
    """Computed by hand, in the order of the table; at most eight."""
    geometry = ["inliers", "closeness", "rarity", "share", "correlation", "detail", "coverage"]
    assert list(FEATURES) == ["cosine", *geometry]
    expected = [0.8, math.log(31), math.log(4), math.log(10), 30 / 40, math.log(1.01 / 0.51), 0.4, 0.8]
    assert features_of(np.array([0.8]), [FOUND])[0] == pytest.approx(expected)


def test_features_are_capped_where_more_says_nothing_more() -> None:
    """Thousands of points, a chance of 10⁻³⁰⁰, and tones that run against each other."""
    most = replace(FOUND, inliers=5000, residual=0.01, log_false_alarms=-300.0, correlation=-0.9, detail=-0.2)
    row = features_of(np.array([0.8]), [most])[0]
    assert row[1:4] == pytest.approx([math.log1p(MOST_INLIERS), math.log(LOOSEST / CLOSEST), math.log1p(MOST_DIGITS)])
    assert row[5:7].tolist() == [0, 0]
    assert features_of(np.array([0.8]), [replace(FOUND, residual=2 * LOOSEST)])[0, 2] == 0


def test_two_crops_of_one_original_may_share_any_part_of_it() -> None:
    """A partner that shows a third of a photo counts as one that shows four fifths; above that more is more."""
    shares = [(0.1, 0.3), (0.85, 0.2), (1.0, 1.0)]
    found = [replace(FOUND, coverage_first=first, coverage_second=second) for first, second in shares]
    assert features_of(np.full(3, 0.8), found)[:, -1].tolist() == [0.8, 0.85, 1.0]


def test_a_pair_without_a_match_has_no_share() -> None:
    """Points that agree on nothing plausible are no part of a match."""
    row = features_of(np.array([0.8]), [replace(UNLIKE, matches=9, inliers=5)])[0]
    assert row.tolist() == pytest.approx([0.8, math.log(6), 0, 0, 0, 0, 0, 0])


def test_what_was_not_looked_at_has_its_cosine_only_and_is_said_to_be_untold() -> None:
    """No evidence and too few keypoints are one; few keypoints that match all the same are not."""
    matched = replace(FOUND, keypoints_first=5)
    evidence = [None, UNTOLD, UNLIKE, matched]
    assert tellable(evidence).tolist() == [False, False, True, True]
    assert features_of(np.full(4, 0.7), evidence)[:2].tolist() == [[0.7, 0, 0, 0, 0, 0, 0, 0]] * 2


def sample(seed: int, slopes: list[float]) -> tuple[Floats, np.ndarray, Floats]:
    """Features of 300 pairs, whether each is of one group, by these slopes, and weights."""
    rng = np.random.default_rng(seed)
    table = rng.normal(3, 2, (300, len(slopes))) * np.arange(1, len(slopes) + 1)
    odds = ((table - table.mean(axis=0)) / table.std(axis=0)) @ np.array(slopes) - 1
    return table, rng.random(300) < expit(odds), rng.uniform(0.1, 2, 300)


def by_scikit_learn(table: Floats, same: np.ndarray, weights: Floats) -> Floats:
    """Probabilities by scikit-learn's regression, of features that are standardised by the same weights."""
    mean = np.average(table, axis=0, weights=weights)
    scale = np.sqrt(np.average((table - mean) ** 2, axis=0, weights=weights))
    model = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=10_000)
    standard = (table - mean) / scale
    return np.asarray(model.fit(standard, same, sample_weight=weights).predict_proba(standard)[:, 1])


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_that_of_scikit_learn_where_no_bound_matters(seed: int) -> None:
    """With the same penalty, weights and standardisation, where every feature speaks for a pair."""
    table, same, weights = sample(seed, [1.0, 0.8, 1.5])
    found = fit_logistic("abc", table, same, weights)
    assert min(found.coefficients) > 0
    assert found.probabilities(table) == pytest.approx(by_scikit_learn(table, same, weights), abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_feature_that_would_speak_against_a_pair_says_nothing(seed: int) -> None:
    """Its coefficient is zero, and the others are what scikit-learn finds without it."""
    table, same, weights = sample(seed, [1.0, -1.2, 0.8])
    found = fit_logistic("abc", table, same, weights)
    assert found.coefficients[1] == 0
    expected = by_scikit_learn(table[:, [0, 2]], same, weights)
    assert found.probabilities(table) == pytest.approx(expected, abs=1e-4)


def test_a_probability_is_the_sigmoid_of_its_terms() -> None:
    """Computed by hand: 2 · (.6 - .5) / .1 + 1 · (3 - 2) / 4 - 1 = 1.25."""
    model = Logistic(("a", "b"), (0.5, 2.0), (0.1, 4.0), (2.0, 1.0), -1.0)
    table = np.array([[0.6, 3.0]])
    assert model.terms(table)[0] == pytest.approx([2, 0.25])
    assert model.log_odds(table) == pytest.approx([1.25])
    assert model.probabilities(table) == pytest.approx([1 / (1 + math.exp(-1.25))])


def test_pairs_of_one_kind_and_features_of_one_value_teach_nothing() -> None:
    """Coefficients are zero; of three pairs that are the same the odds are 3.5 to .5; without pairs they are even."""
    table = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    alike = fit_logistic("ab", table, np.ones(3, dtype=bool), np.ones(3))
    assert (alike.coefficients, alike.intercept) == ((0, 0), pytest.approx(math.log(7)))
    mixed = fit_logistic("ab", table, np.array([False, True, True]), np.ones(3))
    assert (mixed.scales[1], mixed.coefficients[1]) == (1, 0)
    nothing = fit_logistic("ab", table[:0], np.empty(0, dtype=bool), np.empty(0))
    assert nothing.probabilities(table) == pytest.approx([0.5] * 3)


def test_a_large_group_weighs_as_much_as_a_small_one() -> None:
    """Computed by hand: two pairs of one group, one of another, one between them; three of four are the same."""
    weights = pair_weights(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    assert weights == pytest.approx([0.5625, 0.5625, 1.125, 0.75])


@given(GROUPS, st.integers(0, 999))
def test_weights_add_up_to_the_groups_that_were_seen(group_of: Ints, seed: int) -> None:
    """Groups weigh alike among each other, twos of groups too, and both kinds keep their share of the pairs."""
    rng = np.random.default_rng(seed)
    left, right = (group_of[rng.integers(0, len(group_of), 50)] for _ in range(2))
    weights, same = pair_weights(left, right), left == right
    kinds = list(map(frozenset, zip(left.tolist(), right.tolist(), strict=True)))
    assert weights.sum() == pytest.approx(len(set(kinds)))
    assert weights[same].sum() / weights.sum() == pytest.approx(same.mean())
    for ones in (True, False):
        sums = [weights[[other == kind for other in kinds]].sum() for kind in set(kinds) if (len(kind) == 1) == ones]
        assert sums == pytest.approx([sums[0]] * len(sums) if sums else [])


@given(GROUPS, st.integers(2, 9), st.integers(0, 99))
def test_folds_never_split_a_group_and_are_even(group_of: Ints, folds: int, seed: int) -> None:
    """Each fold has as many groups as any other, but for one, and the largest groups lie in different folds."""
    fold = dealt_folds(group_of, folds, seed)
    count = int(group_of.max()) + 1
    of_group = [set(fold[group_of == group].tolist()) for group in range(count)]
    assert all(len(found) == 1 for found in of_group)
    made = max(3, min(folds, count))
    sizes = np.bincount([found.pop() for found in of_group], minlength=made)
    assert len(sizes) == made
    assert sizes.max() - sizes.min() <= 1
    largest = np.argsort(-np.bincount(group_of), kind="stable")[: min(made, count)]
    least = np.bincount(group_of)[largest[-1]]
    greater = [group for group in largest if np.bincount(group_of)[group] > least]
    assert len({int(fold[group_of == group][0]) for group in greater}) == len(greater)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_each_pair_is_judged_once_by_pairs_of_other_folds(drawn: list[tuple[int, int]]) -> None:
    """A pair across two folds is judged by those outside both, whichever of its photos comes first."""
    left, right = np.array(drawn).T
    judged = np.zeros(len(drawn), dtype=np.int64)
    for chosen, outside in judged_and_outside(left, right):
        judged += chosen
        used = {fold for place in np.flatnonzero(chosen) for fold in drawn[place]}
        assert outside.tolist() == [not used & set(pair) for pair in drawn]
        assert len(used) <= 2
    assert judged.tolist() == [1] * len(drawn)


def test_out_of_fold_probabilities_are_those_of_models_that_saw_none_of_their_groups() -> None:
    """Each is what a fit on the pairs outside its folds gives, made once more for some pairs, one by one."""
    pairs, group_of = candidates(1)
    found = out_of_fold(pairs, group_of, 4, 7)
    fold = dealt_folds(group_of, 4, 7)
    assert found.fold.tolist() == fold.tolist()
    left, right = fold[pairs.left], fold[pairs.right]
    for place in range(0, len(left), 37):
        own = [left[place], right[place]]
        model = fit_pairs(pairs.take(~np.isin(left, own) & ~np.isin(right, own)), group_of)
        one = pairs.take(np.array([place]))
        assert found.probabilities[place] == pytest.approx(model.probabilities(one)[0], abs=1e-9)
        assert found.similarity[place] == pytest.approx(model.untellable.probabilities(one.cosines)[0], abs=1e-9)


def test_no_pair_teaches_its_own_probability() -> None:
    """A group that says the contrary of all others changes the probabilities of others, never its own."""
    pairs, group_of = candidates(2)
    before = out_of_fold(pairs, group_of, 5, 0)
    odd = (group_of[pairs.left] == 0) & (group_of[pairs.right] == 0)
    changed = np.where(odd[:, None], -9 * np.abs(pairs.features), pairs.features)
    model = fit_pairs(replace(pairs, features=changed), group_of)
    assert model.matched != fit_pairs(pairs, group_of).matched
    after = out_of_fold(replace(pairs, features=changed), group_of, 5, 0)
    touched = (before.fold[pairs.left] == before.fold[0]) | (before.fold[pairs.right] == before.fold[0])
    assert np.array_equal(before.probabilities[touched & ~odd], after.probabilities[touched & ~odd])
    assert not np.array_equal(before.probabilities[~touched], after.probabilities[~touched])


def on_all_features(pairs: CandidatePairs, group_of: Ints, chosen: np.ndarray) -> Logistic:
    """A regression that some of the pairs were fitted on."""
    left, right = group_of[pairs.left[chosen]], group_of[pairs.right[chosen]]
    return fit_logistic(tuple(FEATURES), pairs.features[chosen], left == right, pair_weights(left, right))


def test_each_pair_goes_by_the_regression_of_what_geometry_says_of_it() -> None:
    """Matches by their own, fitted on matches alone; all others by their cosine, those without a match by their own."""
    pairs, group_of = candidates(3)
    model = fit_pairs(pairs, group_of)
    left, right = group_of[pairs.left], group_of[pairs.right]

    assert model.matched == on_all_features(pairs, group_of, pairs.matched)
    assert model.untellable == fit_logistic(("cosine",), pairs.cosines, left == right, pair_weights(left, right))
    found, kinds = model.log_odds(pairs), model.regression_of(pairs)
    assert np.array_equal(kinds == Regression.UNTELLABLE, ~pairs.tellable)
    assert (kinds[pairs.tellable & ~pairs.matched] == Regression.UNMATCHED).all()
    matched, unmatched = kinds == Regression.MATCHED, kinds == Regression.UNMATCHED
    assert np.array_equal(found[matched], model.matched.log_odds(pairs.features[matched]))
    assert np.array_equal(found[~pairs.tellable], model.untellable.log_odds(pairs.cosines[~pairs.tellable]))
    others = pairs.take(pairs.tellable & ~pairs.matched)
    left, right = group_of[others.left], group_of[others.right]
    own = fit_logistic(("cosine",), others.cosines, left == right, pair_weights(left, right))
    own = replace(own, ceilings=model.unmatched.ceilings)
    assert np.array_equal(found[unmatched], own.log_odds(pairs.cosines[unmatched]))


def test_similarity_that_no_wrong_pair_was_seen_at_hardly_counts() -> None:
    """Up to the fifth most similar pair of groups the line goes on, beyond it by a tenth; the order of pairs stays."""
    pairs, group_of = candidates(3)
    model = fit_pairs(pairs, group_of)
    known = pairs.take(pairs.tellable & ~pairs.matched)
    best = dict[frozenset[int], float]()
    for left, right, cosine in zip(
        group_of[known.left].tolist(), group_of[known.right].tolist(), known.cosines[:, 0].tolist(), strict=True
    ):
        if left != right:
            best[frozenset((left, right))] = max(cosine, best.get(frozenset((left, right)), -1.0))
    ceiling = sorted(best.values())[-LEAST_WRONG]
    assert (model.unmatched.ceilings, model.matched.ceilings, model.untellable.ceilings) == ((ceiling,), None, None)
    line = replace(model.unmatched, ceilings=None)
    below, above = np.array([[ceiling - 0.3], [ceiling]]), np.array([[ceiling + 0.01], [ceiling + 0.2]])
    assert np.array_equal(model.unmatched.log_odds(below), line.log_odds(below))
    slope = line.coefficients[0] / line.scales[0] * BEYOND_CEILING
    assert model.unmatched.log_odds(above) - line.log_odds(below[1:]) == pytest.approx(slope * np.array([0.01, 0.2]))
    wrong = group_of[pairs.left] != group_of[pairs.right]
    few = np.flatnonzero(wrong & pairs.tellable & ~pairs.matched)[:3]
    fewer = pairs.take(np.sort(np.concatenate([np.flatnonzero(~wrong), few])))
    assert fit_pairs(fewer, group_of).unmatched.ceilings == (float(pairs.cosines[few].min()),)


@pytest.fixture(scope="module")
def doubting(decision: Decision) -> Decision:
    """A decision that doubts matches of few points and makes much of similarity, and that would link every match."""
    zeros, ones = (0.0,) * len(FEATURES), (1.0,) * len(FEATURES)
    matched = Logistic(tuple(FEATURES), zeros, ones, (1.0, 4.0, *zeros[2:]), -12.0)
    alone = Logistic(("cosine",), (0.0,), (1.0,), (10.0,), -8.0)
    linking = replace(decision.bands, precision=replace(decision.bands.precision, threshold=0.0))
    return replace(decision, model=PairModel(matched, alone, alone), bands=linking)


@given(st.floats(-1, 1), st.integers(0, 300), st.integers(0, 300))
def test_a_match_never_speaks_against_a_pair(doubting: Decision, cosine: float, fewer: int, more: int) -> None:
    """More points never make a pair less probable, and none makes it less so than the lack of a match."""
    few, many = sorted((fewer, more))
    matches = [replace(FOUND, inliers=points, blurred_inliers=0) for points in (few, many)]
    chances = doubting.probabilities(np.full(3, cosine), [UNLIKE, *matches])
    assert chances.tolist() == sorted(chances)
    assert 0 < chances[0] <= chances[2] < 1


def test_a_match_that_is_too_weak_counts_as_none(doubting: Decision) -> None:
    """It is for people to judge, as probable as without it, and the waterfall says so."""
    weak = replace(FOUND, inliers=5, blurred_inliers=0)
    (of_weak, of_none, _), bands, _ = doubting.judge(np.full(3, 0.9), [weak, UNLIKE, FOUND])
    assert of_weak == of_none == pytest.approx(expit(1))
    assert bands == ["review", "review", "link"]
    assert doubting.waterfall(0.9, weak) == [(WEAK, -8.0), (FEATURES["cosine"].title, pytest.approx(9.0))]


def test_beyond_the_ceiling_a_match_is_weak_by_the_whole_similarity(doubting: Decision) -> None:
    """Two walls so alike match by chance: what is more than the little that the lack of a match has left is no link."""
    low = replace(doubting.model.unmatched, ceilings=(0.5,))
    capped = replace(doubting, model=replace(doubting.model, unmatched=low))
    weak = replace(FOUND, inliers=8, blurred_inliers=0)
    (of_weak, of_none), bands, _ = capped.judge(np.full(2, 0.9), [weak, UNLIKE])
    assert of_weak == of_none == pytest.approx(expit(-8 + 5 + 4 * BEYOND_CEILING))
    assert bands == ["review", "review"]
    assert capped.waterfall(0.9, weak) == [(WEAK, -8.0), (FEATURES["cosine"].title, pytest.approx(5.4))]


@pytest.mark.parametrize("sure", [-100.0, 100.0])
def test_nothing_is_certain(decision: Decision, sure: float) -> None:
    """However far a pair lies beyond all that was seen, its log-odds are finite."""
    untellable = replace(decision.model.untellable, intercept=sure)
    extreme = replace(decision, model=replace(decision.model, untellable=untellable))
    assert np.isfinite(logit(extreme.probabilities(np.zeros(1), [UNTOLD]))).all()


@pytest.mark.parametrize("wrong", [0, LEAST_TO_LEARN - 1, LEAST_TO_LEARN])
def test_matches_are_learned_from_alone_only_where_enough_are_wrong(wrong: int) -> None:
    """Otherwise the regression of all pairs that were looked at serves for them: it has seen what is not the same."""
    pairs, group_of = candidates(5)
    left, right = group_of[pairs.left], group_of[pairs.right]
    ends = np.stack([np.minimum(left, right), np.maximum(left, right)])
    kept = np.unique(ends[:, pairs.matched & (left != right)], axis=1)[:, :wrong]
    of_kept = (ends[:, :, None] == kept[:, None]).all(axis=0).any(axis=1)
    fewer = replace(pairs, matched=pairs.matched & ((left == right) | of_kept))
    of_looked_at = on_all_features(pairs, group_of, pairs.tellable)
    assert (fit_pairs(fewer, group_of).matched == of_looked_at) == (wrong < LEAST_TO_LEARN)


def test_wrong_matches_of_two_groups_count_once_whichever_photo_comes_first() -> None:
    """One less than enough twos of groups, each with pairs either way round, is not enough."""
    pairs, group_of = candidates(5, groups=12, size=8)
    left, right = group_of[pairs.left], group_of[pairs.right]
    wrong = pairs.matched & (left != right)
    twos, counts = np.unique(np.stack([left, right])[:, wrong], axis=1, return_counts=True)
    kept = twos[:, counts > 1][:, : LEAST_TO_LEARN - 1]
    of_kept = (np.stack([left, right])[:, :, None] == kept[:, None]).all(axis=0).any(axis=1)
    turned = np.cumsum(wrong & of_kept) % 2 == 1
    ends = np.where(turned, pairs.right, pairs.left), np.where(turned, pairs.left, pairs.right)
    fewer = CandidatePairs(*ends, pairs.features, pairs.tellable, pairs.matched & ((left == right) | of_kept))
    assert fit_pairs(fewer, group_of).matched == on_all_features(fewer, group_of, fewer.tellable)


@pytest.mark.parametrize("right", [0, LEAST_WITHOUT_MATCH - 1, LEAST_WITHOUT_MATCH])
def test_what_has_no_match_is_learned_from_alone_only_where_enough_of_it_is_right(right: int) -> None:
    """Otherwise by the similarity of all pairs that were looked at, and by how seldom right pairs lack a match."""
    pairs, group_of = candidates(5)
    left, same = group_of[pairs.left], group_of[pairs.left] == group_of[pairs.right]
    lost = pairs.tellable & ~pairs.matched & same
    kept = np.unique(left[lost])[:right]
    fewer = pairs.take(~lost | np.isin(left, kept))
    unmatched = fit_pairs(fewer, group_of).unmatched
    looked_at = fewer.take(fewer.tellable)
    ends = group_of[looked_at.left], group_of[looked_at.right]
    of_one, weights = ends[0] == ends[1], pair_weights(*ends)
    by_similarity = fit_logistic(("cosine",), looked_at.cosines, of_one, weights)
    lacking = [
        (weights[kind & ~looked_at.matched].sum() + 0.5) / (weights[kind].sum() + 1) for kind in (of_one, ~of_one)
    ]
    added = expit(by_similarity.log_odds(looked_at.cosines) + math.log(lacking[0] / lacking[1]))
    found = replace(unmatched, ceilings=None).probabilities(looked_at.cosines)
    assert bool(np.allclose(found, added)) == (right < LEAST_WITHOUT_MATCH)


@pytest.mark.parametrize("lacking", ["matches", "true pairs without a match", "pairs without a match", "untold pairs"])
def test_a_ground_truth_that_lacks_a_kind_of_pairs_bears_probabilities_all_the_same(lacking: str) -> None:
    """Of ten groups too, for every kind of pair, none of them 0 or 1."""
    pairs, group_of = candidates(8, groups=10)
    same = group_of[pairs.left] == group_of[pairs.right]
    chosen = {
        "matches": ~pairs.matched,
        "true pairs without a match": pairs.matched | ~pairs.tellable | ~same,
        "pairs without a match": pairs.matched | ~pairs.tellable,
        "untold pairs": pairs.tellable,
    }[lacking]
    there = pairs.take(chosen)
    for chances in (
        fit_pairs(there, group_of).probabilities(pairs),
        out_of_fold(there, group_of, 5, 0).probabilities,
    ):
        assert 0 < chances.min() <= chances.max() < 1
        assert len(np.unique(chances)) > len(chances) / 2


@pytest.mark.parametrize("within", [True, False])
def test_one_kind_of_pair_bears_no_probability(within: bool) -> None:  # noqa: FBT001 - what is drawn
    """The sentence says what is there and what is missing."""
    pairs, group_of = candidates(4)
    kind = (group_of[pairs.left] == group_of[pairs.right]) == within
    with pytest.raises(ConfigError, match=r"no probability can be fitted: of \d+ candidates \d+ are of one group"):
        out_of_fold(pairs.take(kind), group_of, 5, 0)


def test_what_is_no_candidate_ranks_below_every_candidate() -> None:
    """By its cosine, whatever that is."""
    rng = np.random.default_rng(5)
    similarities = rng.uniform(-1, 1, (6, 6))
    similarities = (similarities + similarities.T) / 2
    pairs = CandidatePairs(np.array([0, 4]), np.array([1, 2]), np.zeros((2, 7)), *[np.ones(2, dtype=bool)] * 2)
    scores = scored_square(similarities, pairs, np.array([0.02, 0.9]))
    assert np.array_equal(scores, scores.T)
    assert (scores[0, 1], scores[2, 4]) == (0.02, 0.9)
    others = np.ones((6, 6), dtype=bool)
    others[[0, 1, 2, 4], [1, 0, 4, 2]] = False
    assert 0 <= scores[others].min() <= scores[others].max() < 0.02
    assert np.array_equal(np.argsort(scores[others]), np.argsort(similarities[others]))
    assert ranking_scores(np.array([-1.0, 0, 1, 1.1]), 0.8).tolist() == pytest.approx([0, 0.2, 0.4, 0.4])


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (FOUND, Regression.MATCHED),
        (UNLIKE, Regression.UNMATCHED),
        (UNTOLD, Regression.UNTELLABLE),
        (None, Regression.UNTELLABLE),
    ],
)
def test_the_terms_of_a_waterfall_add_up_to_the_log_odds(
    decision: Decision, evidence: Evidence | None, kind: Regression
) -> None:
    """An average pair of its kind first, then what adds or takes most; without a match the similarity alone."""
    terms = decision.waterfall(0.6, evidence)
    chance = decision.probabilities(np.array([0.6]), [evidence])[0]
    assert sum(value for _, value in terms) == pytest.approx(logit(chance))
    assert terms[0][0] == AVERAGE[kind]
    amounts = [abs(value) for _, value in terms[1:]]
    assert amounts == sorted(amounts, reverse=True)
    titles = {feature.title for feature in FEATURES.values()}
    assert {title for title, _ in terms[1:]} == (titles if evidence == FOUND else {FEATURES["cosine"].title})


def test_a_decision_says_what_it_rests_on(decision: Decision) -> None:
    """Groups, candidates, and what people call them."""
    pairs, _ = candidates(0)
    assert (decision.groups, decision.pairs, decision.source) == (40, len(pairs.left), "made pairs")


def test_a_pair_of_which_geometry_says_nothing_is_for_people_to_judge(decision: Decision) -> None:
    """However probable it is: a decision that links every pair links none of these, nor one that does not match."""
    kept = replace(decision.bands.precision, threshold=0.0)
    linking = replace(decision, bands=replace(decision.bands, precision=kept))
    assert linking.judge(np.full(4, 0.9), [FOUND, UNTOLD, None, UNLIKE])[1] == ["link", *["review"] * 3]


def test_bands_of_a_decision_count_what_is_linked(decision: Decision) -> None:
    """Pairs without a match carry no promise of precision, as none of them is ever linked."""
    pairs, group_of = candidates(0)
    untold = replace(pairs, matched=np.zeros(len(pairs.left), dtype=bool))
    held_out = out_of_fold(untold, group_of, 5, 0)
    assert decide(untold, group_of, held_out, decision.belongs, "", 0.5, 0.5).bands.precision.groups == 0


def test_a_match_that_counts_as_none_carries_no_promise(decision: Decision) -> None:
    """No band links a match that is weaker than none, so that neither its right nor its wrong pairs are counted."""
    pairs, group_of = candidates(0)
    held_out = out_of_fold(pairs, group_of, 5, 0)
    assert not held_out.counted[~pairs.matched].any()
    weak = replace(held_out, counted=np.zeros(len(pairs.left), dtype=bool))
    assert decide(pairs, group_of, held_out, decision.belongs, "", 0.5, 0.5).bands.precision.groups > 0
    assert decide(pairs, group_of, weak, decision.belongs, "", 0.5, 0.5).bands.precision.groups == 0


def test_what_a_decision_says_of_itself_is_out_of_fold(decision: Decision) -> None:
    """Bands and figures are those of the probabilities that no pair has taught, each promise by its own share."""
    pairs, group_of = candidates(0)
    held_out = out_of_fold(pairs, group_of, 5, 0)
    found = decide(pairs, group_of, held_out, decision.belongs, "", 0.6, 0.7)
    ends, same = (pairs.left, pairs.right), group_of[pairs.left] == group_of[pairs.right]
    assert found.bands == bands_for(ends, held_out.probabilities, group_of, 0.6, 0.7, linkable=pairs.matched)
    assert found.reliability == Reliability.of(held_out.probabilities, held_out.similarity, same)


def test_a_decision_is_read_as_it_was_written(decision: Decision, tmp_path: Path) -> None:
    """Equal to the last bit, with its fingerprint, and refused by no one whom it belongs to."""
    read = Decision.load(decision.save(tmp_path / "decision.json"), decision.belongs)
    assert read == decision
    assert read.fingerprint == decision.fingerprint


def test_a_fingerprint_changes_with_whatever_changes_a_probability_or_a_band(decision: Decision) -> None:
    """Coefficients, thresholds, encoder, step; not with what the ground truth is called."""
    kept = replace(decision.bands.precision, threshold=0.97)
    others = [
        replace(decision, model=replace(decision.model, untellable=replace(decision.model.untellable, intercept=0.5))),
        replace(decision, bands=replace(decision.bands, precision=kept)),
        replace(decision, belongs=replace(decision.belongs, verifier="w")),
        replace(decision, step="0"),
    ]
    assert len({decision.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert replace(decision, source="another name").fingerprint == decision.fingerprint


@pytest.mark.parametrize("kind", ["encoder", "verifier"])
def test_a_decision_is_refused_for_another(decision: Decision, tmp_path: Path, kind: str) -> None:
    """The sentence names the file, both fingerprints, and what to do."""
    path = decision.save(tmp_path / "decision.json")
    own = getattr(decision.belongs, kind)[:12]
    said = rf"decision\.json belongs to the {kind} {own}, but xxxxxxxxxxxx is in use: run `neardup evaluate`"
    with pytest.raises(ConfigError, match=said):
        Decision.load(path, replace(decision.belongs, **{kind: "x" * 64}))


def test_a_decision_of_an_old_version_is_refused(decision: Decision, tmp_path: Path) -> None:
    """The sentence names both ways to make it anew: the ground truth, and the verdicts that may have moved it."""
    path = replace(decision, step="0").save(tmp_path / "decision.json")
    said = r"is of version 0, and this neardup reads \d+: run `neardup evaluate` .*`neardup verdicts recalibrate`"
    with pytest.raises(ConfigError, match=said):
        Decision.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no decision that can be read"),
        ("[]", "no decision that can be read"),
        ("{}", "no decision that can be read"),
        (json.dumps({"step": DECISION_STEP}), "no whole decision"),
    ],
)
def test_a_file_that_is_no_decision_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Half written, another thing, or without most of its parts."""
    (tmp_path / "decision.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        Decision.load(tmp_path / "decision.json")


def test_who_finds_a_broken_decision_learns_what_makes_it_anew(tmp_path: Path) -> None:
    """That of an approach comes of the ground truth; that of the output folder, of verdicts, may also be left out."""
    for place, said in (
        ("zero-shot", rf"run `neardup verify --out {tmp_path}`, which fits it anew$"),
        (".", rf"delete it, and another .* `neardup verdicts recalibrate --out {tmp_path}` then fits it anew$"),
    ):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "decision.json").write_text("{", encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            Decision.load(tmp_path / place / "decision.json")


def test_a_feature_that_is_not_known_is_refused(decision: Decision, tmp_path: Path) -> None:
    """A file of another version names a number that this one does not measure."""
    path = decision.save(tmp_path / "decision.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["model"]["matched"]["features"][1] = "grain"
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ConfigError, match="not those of this version: cosine, inliers, "):
        Decision.load(path)


def test_the_first_decision_that_belongs_is_taken(decision: Decision, tmp_path: Path) -> None:
    """Files that are not there, and those of another encoder or verifier, are passed over."""
    ours = replace(decision, belongs=Fingerprints("e" * 64, verifier_fingerprint()))
    other = replace(ours, belongs=Fingerprints("f" * 64, verifier_fingerprint()))
    old = replace(ours, belongs=Fingerprints("e" * 64, "v" * 64))
    others = [each.save(tmp_path / f"{number}.json") for number, each in enumerate((other, old))]
    assert first_decision([tmp_path / "none.json", *others, ours.save(tmp_path / "ours.json")], "e" * 64) == ours
    paths = [*others, tmp_path / "ours.json"]
    assert first_decision(paths, "g" * 64) is None
