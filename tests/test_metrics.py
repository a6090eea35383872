"""Every metric against an independent implementation, on made test sets of every shape."""

from typing import get_args

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import composite
from sklearn.metrics import precision_recall_fscore_support

from neardup.arrays import Floats, Ints
from neardup.decide.complete_linkage import complete_linkage
from neardup.measure.bootstrap import Resample
from neardup.measure.metrics import METRICS, NAMES, b_cubed, harmonic
from neardup.measure.pairs import Pairs, recall_at_precision
from neardup.measure.scored import ScoredTestSet
from neardup.measure.threshold import calibrated_threshold, calibrated_thresholds, f1_by_threshold, f1_error
from neardup.settings import schema

RANKING = ("top_1", "top_5", "ndcg", "map", "r_precision", "recall_at_5", "recall_at_10")
NEAREST = ("nn_precision", "nn_recall", "nn_f1")
ANY = 0.5
"""A threshold for tests of metrics that no threshold changes."""


def scored(
    similarities: Floats, groups: Ints, threshold: float | None = None, distractors: Floats | None = None
) -> ScoredTestSet:
    """A test set with its calibrated thresholds or, without the work of calibration, with one for all pairs."""
    if threshold is None:
        return ScoredTestSet.of(similarities, groups, 5, 0, distractors)
    group_of = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    pairs = Pairs.of(similarities, group_of)
    others = np.empty((len(group_of), 0)) if distractors is None else distractors
    return ScoredTestSet(similarities, group_of, pairs, np.full(len(pairs.scores), threshold), others)


def values(of: ScoredTestSet, times: Ints | None = None) -> dict[str, float]:
    """Every metric of a test set, or of a resample in which each group was drawn so many times."""
    drawn = Resample.whole(of) if times is None else Resample(of, times.astype(np.float64))
    return {name: metric.value(drawn) for name, metric in METRICS.items()}


@composite
def groupings(draw: st.DrawFn, *, ties: bool = False) -> tuple[Floats, Ints]:
    """Symmetric similarities and groups, with at least one group of two; distinct scores unless `ties`."""
    n = draw(st.integers(3, 12))
    groups = np.array([0, 0, *draw(st.lists(st.integers(0, 4), min_size=n - 2, max_size=n - 2))], dtype=np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = n * (n - 1) // 2
    scores = rng.integers(0, 4, count) / 4 if ties else rng.permutation(count) / count
    similarities = np.eye(n)
    similarities[np.triu_indices(n, 1)] = scores
    similarities = np.maximum(similarities, similarities.T)
    return similarities, np.unique(groups, return_inverse=True)[1].astype(np.int64)


@given(groupings(ties=True))
def test_ranking_metrics_with_ties_against_us(test_set: tuple[Floats, Ints]) -> None:
    """Top-k, recall@k and R-precision equal their definitions, ties included."""
    found = values(scored(*test_set, ANY))
    expected = {
        "top_1": oracles.top(*test_set, 1),
        "top_5": oracles.top(*test_set, 5),
        "recall_at_5": oracles.recall_at(*test_set, 5),
        "recall_at_10": oracles.recall_at(*test_set, 10),
        "r_precision": oracles.r_precision(*test_set),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@given(groupings())
def test_ndcg_and_average_precision_equal_scikit_learn(test_set: tuple[Floats, Ints]) -> None:
    """nDCG, mAP and µAP equal scikit-learn's on scores without ties."""
    found = values(scored(*test_set, ANY))
    expected = {
        "ndcg": oracles.ndcg(*test_set),
        "map": oracles.mean_average_precision(*test_set),
        "micro_ap": oracles.micro_average_precision(*test_set),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@given(groupings(ties=True))
def test_ndcg_and_average_precision_resolve_ties_against_us(test_set: tuple[Floats, Ints]) -> None:
    """Equal their definitions where the irrelevant one of two equally similar photos, or pairs, comes first."""
    found = values(scored(*test_set, ANY))
    expected = {
        "ndcg": oracles.ndcg_against_us(*test_set),
        "map": oracles.mean_average_precision_against_us(*test_set),
        "micro_ap": oracles.micro_average_precision_against_us(*test_set),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@composite
def resampled(draw: st.DrawFn, *, ties: bool = False) -> tuple[Floats, Ints, Ints]:
    """A made test set, and how often each of its groups was drawn: 0 to 3 times, one group of two at least once."""
    similarities, groups = draw(groupings(ties=ties))
    count = int(groups.max()) + 1
    times = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), dtype=np.int64)
    times[groups[0]] = max(1, times[groups[0]])
    return similarities, groups, times


@given(resampled(ties=True), st.sampled_from([0.0, 0.25, 0.5, 0.75, 2.0]))
def test_a_resample_weighs_pair_metrics(test_set: tuple[Floats, Ints, Ints], threshold: float) -> None:
    """Precision, recall and F1 equal scikit-learn's on a list in which each pair stands as often as it was drawn."""
    similarities, groups, times = test_set
    found = values(scored(similarities, groups, threshold), times)
    expected = oracles.resampled_pair_scores(similarities, groups, times, threshold)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)


@given(resampled())
def test_a_resample_weighs_micro_average_precision(test_set: tuple[Floats, Ints, Ints]) -> None:
    """µAP equals scikit-learn's on a list in which each pair stands as often as it was drawn."""
    found = values(scored(*test_set[:2], ANY), test_set[2])["micro_ap"]
    assert found == pytest.approx(oracles.resampled_micro_average_precision(*test_set))


@given(resampled(ties=True))
def test_a_resample_weighs_recall_at_90_percent_precision(test_set: tuple[Floats, Ints, Ints]) -> None:
    """It is the greatest recall at any threshold, over pairs that stand as often as they were drawn."""
    similarities, groups, times = test_set
    found = values(scored(similarities, groups, ANY), times)["recall_at_90_precision"]
    candidates = [
        oracles.resampled_pair_scores(similarities, groups, times, score) for score in np.unique(similarities)
    ]
    assert found == pytest.approx(max((r for p, r, _ in candidates if p >= 0.9), default=0.0))


@given(resampled(ties=True))
def test_a_resample_weighs_ranking_metrics_by_the_group_of_the_query(test_set: tuple[Floats, Ints, Ints]) -> None:
    """Each metric is the mean over queries that stand as often as their group was drawn."""
    similarities, groups, times = test_set
    found = values(scored(similarities, groups, ANY), times)
    expected = {
        "top_1": oracles.resampled_mean(similarities, groups, times, lambda row: float(row[0])),
        "recall_at_5": oracles.resampled_mean(similarities, groups, times, lambda row: sum(row[:5]) / sum(row)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@given(resampled(ties=True))
def test_a_resample_weighs_nearest_neighbours_by_their_group(test_set: tuple[Floats, Ints, Ints]) -> None:
    """The mean over the groups that occur takes each as often as it was drawn."""
    similarities, groups, times = test_set
    of = scored(similarities, groups, ANY)
    true, predicted = groups[of.queries], groups[of.nearest[of.queries]]
    occurring = np.union1d(true, predicted)
    by_group = precision_recall_fscore_support(true, predicted, labels=occurring, zero_division=0)[:2]
    found, expected = values(of, times), [np.average(part, weights=times[occurring]) for part in by_group]
    assert (found["nn_precision"], found["nn_recall"]) == pytest.approx(tuple(expected))


@given(resampled(ties=True), st.floats(0, 1))
def test_a_resample_weighs_found_groups_by_photo(test_set: tuple[Floats, Ints, Ints], threshold: float) -> None:
    """B³, over-merged, over-split and false alarms are means over photos that stand as often as their group."""
    similarities, groups, times = test_set
    of = scored(similarities, groups, threshold)
    found = values(of, times)
    expected = oracles.resampled_found(similarities, groups, times, of.found_groups, threshold)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_the_settings_know_what_a_promotion_may_go_by() -> None:
    """The choices of the form and of the command line are the metrics that the table marks so, all higher-is-better."""
    chosen = {name for name, metric in METRICS.items() if metric.promotes}
    assert set(get_args(schema.Metric)) == chosen
    assert all(METRICS[name].higher_is_better for name in chosen)


@given(groupings(ties=True), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.6, 2.0]))
def test_pair_metrics_equal_scikit_learn(test_set: tuple[Floats, Ints], threshold: float) -> None:
    """Precision, recall and F1 at a threshold equal scikit-learn's; a pair at the threshold is called."""
    found = values(scored(*test_set, threshold))
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(
        oracles.pair_scores(*test_set, threshold)
    )


@given(groupings(ties=True))
def test_nearest_neighbour_metrics_equal_scikit_learn(test_set: tuple[Floats, Ints]) -> None:
    """Macro precision and recall of the predicted groups equal scikit-learn's, over the groups that occur."""
    similarities, groups = test_set
    found = values(scored(*test_set, ANY))
    # Of several foreign photos that are equally near, scikit-learn's answer depends on which is taken.
    others = [[similarities[q, i] for i in range(len(groups)) if i != q] for q in oracles.queries(groups)]
    if any(row.count(max(row)) > 1 for row in others):
        assert found["nn_recall"] == pytest.approx(_recall_only(similarities, groups))
    else:
        assert (found["nn_precision"], found["nn_recall"]) == pytest.approx(oracles.nearest_neighbour(*test_set))


def _recall_only(similarities: Floats, groups: Ints) -> float:
    """Macro recall over the groups that occur, with the foreign photo that the library takes of equally near ones."""
    of = scored(similarities, groups, ANY)
    queries = oracles.queries(groups)
    right = [bool(groups[oracles.ranking(similarities, groups, q)[0]] == groups[q]) for q in queries]
    occur = {int(groups[q]) for q in queries} | {int(groups[of.nearest[q]]) for q in queries}
    return sum(
        np.mean([r for q, r in zip(queries, right, strict=True) if groups[q] == g] or [0.0]) for g in occur
    ) / len(occur)


def best_threshold(pairs: Pairs) -> float:
    """The threshold of the greatest F1, the highest of equally good ones; infinity without a pair of one group."""
    thresholds, f1 = f1_by_threshold(pairs.scores, pairs.same)
    return float(thresholds[np.argmax(f1)]) if pairs.same.any() else float("inf")


@given(groupings(ties=True))
def test_f1_is_known_at_every_threshold(test_set: tuple[Floats, Ints]) -> None:
    """The greatest one is found, and each is that of the pairs at or above its threshold."""
    similarities, groups = test_set
    pairs = Pairs.of(similarities, groups)
    assert oracles.pair_scores(similarities, groups, best_threshold(pairs))[2] == pytest.approx(
        oracles.best_f1(*test_set)
    )
    for threshold, f1 in zip(*f1_by_threshold(pairs.scores, pairs.same), strict=True):
        if pairs.same.any():
            assert f1 == pytest.approx(oracles.pair_scores(similarities, groups, threshold)[2])


@settings(max_examples=30)
@given(groupings(ties=True))
def test_the_calibrated_threshold_is_the_strictest_that_is_as_good(test_set: tuple[Floats, Ints]) -> None:
    """Its F1 is within the standard error of the greatest, and that of no higher threshold is."""
    similarities, groups = test_set
    group_of = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    pairs = Pairs.of(similarities, group_of)
    best = best_threshold(pairs)
    least = oracles.best_f1(*test_set) - oracles.f1_error(similarities, group_of, best)
    threshold = calibrated_threshold(pairs, group_of)
    assert threshold >= best
    assert oracles.pair_scores(similarities, groups, threshold)[2] >= least - 1e-9
    higher = pairs.scores[pairs.scores > min(pairs.scores[pairs.scores >= threshold])]
    assert all(oracles.pair_scores(similarities, groups, score)[2] < least + 1e-9 for score in higher)


def test_groups_without_pairs_are_not_drawn() -> None:
    """The error of a threshold is that of the groups that it is chosen on, whatever others there are."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 2)
    similarities = rng.random((12, 12))
    pairs = Pairs.of(np.maximum(similarities, similarities.T), groups)
    error = f1_error(pairs, groups, 0.5)
    assert 0 < error == pytest.approx(oracles.f1_error(np.maximum(similarities, similarities.T), groups, 0.5))
    assert f1_error(pairs, np.append(groups, 6 + np.arange(30)), 0.5) == error


def test_there_is_no_error_where_nothing_overlaps() -> None:
    """Where groups are apart, the calibrated threshold is the best one, however groups are drawn."""
    groups = np.array([0, 0, 1, 1, 2])
    similarities = np.where(groups[:, None] == groups[None, :], 0.9, 0.1)
    pairs = Pairs.of(similarities, groups)
    assert calibrated_threshold(pairs, groups) == best_threshold(pairs) == pytest.approx(0.5)


@given(groupings(ties=True))
def test_recall_at_90_percent_precision(test_set: tuple[Floats, Ints]) -> None:
    """It is the greatest recall that any threshold of such precision reaches."""
    found = values(scored(*test_set, ANY))["recall_at_90_precision"]
    assert found == pytest.approx(oracles.recall_at_precision(*test_set, 0.9))


def test_a_precision_of_just_what_is_asked_for_is_enough() -> None:
    """Nine right pairs of ten have a precision of .9, and all of the recall."""
    same = np.array([*[True] * 8, False, True])
    assert recall_at_precision(same, np.ones(10), np.ones(10, dtype=bool), 0.9) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_b_cubed(labels: list[tuple[int, int]]) -> None:
    """B³ precision and recall equal those of sets, photo by photo."""
    found, true = (np.array(column, dtype=np.int64) for column in zip(*labels, strict=True))
    precision, recall = b_cubed(found, true)
    assert (precision.mean(), recall.mean()) == pytest.approx(oracles.b_cubed(found, true))


@given(groupings(ties=True), st.floats(0, 1))
def test_found_groups_do_not_chain(test_set: tuple[Floats, Ints], threshold: float) -> None:
    """Every two photos of a found group are at or above the threshold."""
    similarities, groups = test_set
    pairs = Pairs.of(similarities, groups)
    found = complete_linkage(similarities - threshold)
    together = found[pairs.i] == found[pairs.j]
    assert (pairs.scores[together] >= threshold - 1e-9).all()


def test_a_chain_is_cut() -> None:
    """`a` like `b` and `b` like `c` make no group of three where `a` is unlike `c`; exactly the threshold is enough."""
    similarities = np.array([[1, 0.9, 0.1], [0.9, 1, 0.8], [0.1, 0.8, 1]])
    found = complete_linkage(similarities - 0.5)
    assert (found[0] == found[1], found[1] == found[2]) == (True, False)
    assert len(set(complete_linkage(similarities - 0.8)[1:].tolist())) == 2
    assert len(set(complete_linkage(similarities[:2, :2] - 0.9).tolist())) == 1


@settings(max_examples=30)
@given(groupings(), st.integers(0, 100))
def test_order_does_not_matter(test_set: tuple[Floats, Ints], seed: int) -> None:
    """Photos in another order give the same figures, where neither ties nor folds depend on it."""
    similarities, groups = test_set
    order = np.random.default_rng(seed).permutation(len(groups))
    first = values(scored(similarities, groups, 0.5))
    second = values(scored(similarities[np.ix_(order, order)], groups[order], 0.5))
    assert second == pytest.approx(first, nan_ok=True)


@composite
def with_distractors(draw: st.DrawFn) -> tuple[Floats, Ints, Floats]:
    """A made test set with ties, and the similarity of its photos to one to three distractors."""
    similarities, groups = draw(groupings(ties=True))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return similarities, groups, rng.integers(0, 5, (len(groups), draw(st.integers(1, 3)))) / 4


@given(with_distractors())
def test_distractors_rank_as_singletons_of_the_test_set_do(test_set: tuple[Floats, Ints, Floats]) -> None:
    """Ranking and nearest-neighbour metrics are those of a test set in which each distractor is a photo on its own."""
    similarities, groups, likeness = test_set
    whole, numbers = oracles.with_singletons(similarities, groups, likeness)
    found, expected = values(scored(similarities, groups, 0.5, likeness)), values(scored(whole, numbers, 0.5))
    names = (*RANKING, *NEAREST)
    assert {name: found[name] for name in names} == pytest.approx({name: expected[name] for name in names})


@given(with_distractors())
def test_ranking_metrics_with_distractors_equal_their_definitions(test_set: tuple[Floats, Ints, Floats]) -> None:
    """Each is what the slow definition gives on a gallery that holds the distractors, ties against us."""
    similarities, groups, likeness = test_set
    whole = oracles.with_singletons(similarities, groups, likeness)
    found = values(scored(similarities, groups, 0.5, likeness))
    expected = {
        "top_1": oracles.top(*whole, 1),
        "top_5": oracles.top(*whole, 5),
        "recall_at_5": oracles.recall_at(*whole, 5),
        "r_precision": oracles.r_precision(*whole),
        "ndcg": oracles.ndcg_against_us(*whole),
        "map": oracles.mean_average_precision_against_us(*whole),
        "nn_recall": _recall_only(*whole),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@given(with_distractors())
def test_a_distractor_never_raises_a_ranking_metric(test_set: tuple[Floats, Ints, Floats]) -> None:
    """Recall@k least of all: one more photo in the gallery can only push relevant ones back."""
    similarities, groups, likeness = test_set
    before = values(scored(similarities, groups, 0.5, likeness[:, 1:]))
    after = values(scored(similarities, groups, 0.5, likeness))
    assert all(after[name] <= before[name] + 1e-12 for name in RANKING)


@given(with_distractors())
def test_distractors_are_in_no_pair(test_set: tuple[Floats, Ints, Floats]) -> None:
    """Thresholds, pair metrics, found groups and false alarms stay to the last digit."""
    similarities, groups, likeness = test_set
    before, after = values(scored(similarities, groups)), values(scored(similarities, groups, None, likeness))
    same = [name for name in NAMES if name not in {*RANKING, *NEAREST}]
    np.testing.assert_equal({name: after[name] for name in same}, {name: before[name] for name in same})


@given(groupings(ties=True))
def test_no_distractors_change_nothing(test_set: tuple[Floats, Ints]) -> None:
    """Every metric stays to the last digit."""
    np.testing.assert_equal(values(scored(*test_set, None, np.empty((len(test_set[1]), 0)))), values(scored(*test_set)))


def test_a_distractor_that_is_nearest_is_a_wrong_prediction() -> None:
    """It is a group of its own with precision and recall 0, and is there once however often groups are drawn."""
    groups = np.array([0, 0, 1, 1])
    similarities = np.where(groups[:, None] == groups[None, :], 0.9, 0.1)
    of = scored(similarities, groups, 0.5, np.array([[1.0], [1.0], [0.0], [0.0]]))
    found, drawn_twice = values(of), values(of, np.array([2, 2]))
    assert (found["nn_precision"], found["nn_recall"]) == pytest.approx((1 / 3, 1 / 3))
    assert (drawn_twice["nn_precision"], drawn_twice["nn_recall"]) == pytest.approx((2 / 5, 2 / 5))


@settings(max_examples=30)
@given(groupings(ties=True), st.floats(0, 1))
def test_a_singleton_never_helps(test_set: tuple[Floats, Ints], likeness: float) -> None:
    """One more singleton in the test set never raises a ranking metric."""
    similarities, groups = test_set
    n = len(groups)
    more = np.full((n + 1, n + 1), likeness)
    more[:n, :n] = similarities
    before = values(scored(similarities, groups, 0.5))
    after = values(scored(more, np.append(groups, groups.max() + 1), 0.5))
    for name in RANKING:
        assert after[name] <= before[name] + 1e-12


def test_a_photo_never_finds_itself() -> None:
    """The similarity of a photo with itself plays no part."""
    similarities = np.array([[5.0, 0.1, 0.2], [0.1, 5.0, 0.3], [0.2, 0.3, 5.0]])
    assert values(scored(similarities, np.array([0, 0, 1])))["top_1"] == 0.0


def test_a_perfect_encoder_is_perfect() -> None:
    """All of a group equal, all others opposite: every figure is as good as it can be."""
    groups = np.repeat(np.arange(8), 3)
    found = values(scored(np.where(groups[:, None] == groups[None, :], 0.9, 0.1), groups))
    worst = {"over_merged", "over_split", "false_alarms"}
    perfect = {name: 0.0 if name in worst else 1.0 for name in NAMES} | {"false_alarms": np.nan}
    assert found == pytest.approx(perfect, nan_ok=True)


def test_singletons_are_gallery_and_never_query() -> None:
    """With singletons alone the ranking metrics are not defined, and false alarms are."""
    found = values(scored(np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]]), np.arange(3), 0.5))
    assert (np.isnan(found["top_1"]), np.isnan(found["recall"]), found["false_alarms"]) == (
        True,
        True,
        pytest.approx(2 / 3),
    )


@given(st.integers(3, 40), st.integers(0, 1000))
def test_no_group_sets_its_own_threshold(count: int, seed: int) -> None:
    """A group's photos may change as they like: the thresholds by which they are judged stay."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, max(3, count // 2), count))
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    similarities = rng.random((count, count))
    similarities = (similarities + similarities.T) / 2
    pairs = Pairs.of(similarities, groups)
    before = calibrated_thresholds(pairs, groups, 5, 0)
    chosen = int(groups[0])
    own = (groups[pairs.i] == chosen) | (groups[pairs.j] == chosen)
    changed = Pairs(pairs.i, pairs.j, np.where(own, rng.random(len(pairs.scores)), pairs.scores), pairs.same)
    after = calibrated_thresholds(changed, groups, 5, 0)
    assert after[own].tolist() == before[own].tolist()


def test_every_pair_has_a_threshold() -> None:
    """Each pair gets a threshold even where there are hardly any groups."""
    groups = np.array([0, 0, 1])
    thresholds = calibrated_thresholds(Pairs.of(np.eye(3), groups), groups, 5, 0)
    assert (len(thresholds), np.isnan(thresholds).any()) == (3, False)


@pytest.mark.parametrize(("a", "b", "mean"), [(0.5, 1.0, 2 / 3), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
def test_harmonic_mean(a: float, b: float, mean: float) -> None:
    """The harmonic mean of two zeros is zero."""
    assert harmonic(a, b) == pytest.approx(mean)
