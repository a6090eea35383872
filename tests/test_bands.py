"""What may be promised: exact bounds, link and reject thresholds of one pair a group, false links, reliability."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from neardup.arrays import Floats, Ints
from neardup.decide.bands import LINK_THRESHOLDS, REJECT_THRESHOLDS, Bands, Promise, _promise, bands_for
from neardup.decide.promises import (
    Audit,
    lower_bound,
    more_without_error,
    percent,
    photos_with_false_links,
    upper_bound,
)
from neardup.decide.reliability import BIN_EDGES, CERTAIN, Reliability, brier_score, log_loss, reliability_bins

SEEN = st.integers(0, 400)
"""How many observations a bound rests on."""


def made_pairs(true: list[float], false: list[float]) -> tuple[tuple[Ints, Ints], Floats, Ints]:
    """A pair of two photos of one group for each true probability, and of two singletons for each false one."""
    left = 2 * np.arange(len(true) + len(false))
    group_of = np.repeat(np.arange(len(true) + 2 * len(false)), [2] * len(true) + [1] * (2 * len(false)))
    return (left, left + 1), np.array(true + false), group_of


def meets(right: int, seen: int, share: float) -> bool:
    """Whether an exact binomial test at 5 % says that a share is more than what is promised."""
    return seen > 0 and binomtest(right, seen, share, alternative="greater").pvalue <= 0.05


@given(st.integers(1, 400), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_are_those_of_clopper_and_pearson(seen: int, data: st.DataObject, confidence: float) -> None:
    """Both are scipy's exact ones, whatever was seen."""
    right = data.draw(st.integers(0, seen))
    for found, which, side in ((lower_bound, "low", "greater"), (upper_bound, "high", "less")):
        exact = binomtest(right, seen, alternative=side).proportion_ci(confidence, method="exact")
        assert found(right, seen, confidence) == pytest.approx(getattr(exact, which), abs=1e-9)


@pytest.mark.parametrize(("seen", "errors", "promise"), [(59, 0, 0.95), (93, 1, 0.95), (299, 0, 0.99), (149, 0, 0.98)])
def test_as_many_as_a_promise_needs_and_no_fewer(seen: int, errors: int, promise: float) -> None:
    """59 links without an error are at least 95 % precise, 58 are not known to be; 93 with one error; 299 for 99 %."""
    assert lower_bound(seen - errors, seen) >= promise > lower_bound(seen - 1 - errors, seen - 1)
    assert more_without_error(seen - 1, errors, promise) == 1
    assert more_without_error(seen, errors, promise) == 0


@given(SEEN, st.integers(0, 12), st.sampled_from([0.5, 0.9, 0.95, 0.98]))
def test_what_is_missing_is_the_least_that_meets_the_promise(seen: int, errors: int, promise: float) -> None:
    """Counted one by one up to the first that does."""
    errors = min(errors, seen)
    counted = next(more for more in itertools.count() if lower_bound(seen + more - errors, seen + more) >= promise)
    assert more_without_error(seen, errors, promise) == counted


def test_nothing_seen_promises_nothing() -> None:
    """No observation, and none that is right, bound a share by zero."""
    assert (lower_bound(0, 0), lower_bound(0, 7), upper_bound(7, 7)) == (0, 0, 1)


@given(
    st.integers(0, 10**6),
    st.integers(0, 400),
    st.integers(0, 40),
    st.sampled_from([0.9, 0.95]),
    st.sampled_from([0.9, 0.98]),
)
def test_bands_are_those_that_exact_binomial_tests_allow(
    seed: int, true: int, false: int, precision: float, recall: float
) -> None:
    """The lowest link threshold and the highest reject threshold that a test allows, and none where no test does."""
    rng = np.random.default_rng(seed)
    right, wrong = 1 - rng.beta(0.2, 2, true) ** 2, rng.beta(0.5, 2, false)
    found = bands_for(*made_pairs(right.tolist(), wrong.tolist()), precision, recall)
    called = [(int((right >= least).sum()), int((wrong >= least).sum())) for least in LINK_THRESHOLDS]
    links = [least for least, (a, b) in zip(LINK_THRESHOLDS, called, strict=True) if meets(a, a + b, precision)]
    rejects = [least for least in REJECT_THRESHOLDS if meets(int((right >= least).sum()), true, recall)]
    assert found.link == min(links, default=math.inf)
    assert found.reject == max(rejects, default=0.0)


@pytest.mark.parametrize("seed", range(5))
def test_link_thresholds_are_those_that_mapie_allows(seed: int) -> None:
    """Learn-then-test of MAPIE, a threshold at a time, where it is installed: ours are exact binomials as its are."""
    control = pytest.importorskip("mapie.risk_control")
    rng = np.random.default_rng(seed)
    right, wrong = 1 - rng.beta(0.3, 2, 300) ** 2, rng.random(40) ** 0.5
    pairs, probabilities, group_of = made_pairs(right.tolist(), wrong.tolist())
    both = np.stack([1 - probabilities, probabilities], axis=1)
    controller = control.BinaryClassificationController(
        lambda _: both, "precision", 0.95, 0.95, list_predict_params=np.array(LINK_THRESHOLDS)
    )
    controller.calibrate(np.zeros((len(both), 1)), np.repeat([1, 0], [300, 40]))
    allowed = np.array(LINK_THRESHOLDS)[controller.p_values.ravel() <= 0.05]
    assert bands_for(pairs, probabilities, group_of).link == allowed.min(initial=math.inf)


def test_a_large_group_counts_as_one_pair() -> None:
    """Four hundred true pairs of one group are one observation of precision and one of recall."""
    left, right = np.triu_indices(30, 1)
    found = bands_for((left, right), np.ones(len(left)), np.zeros(30, dtype=np.int64))
    assert (found.precision.groups, found.precision.errors, found.precision.missing) == (1, 0, 58)
    assert (found.recall.groups, found.recall.errors, found.recall.missing) == (1, 0, 148)


def test_a_false_pair_counts_once_though_two_groups_may_draw_it() -> None:
    """Of 60 sure true pairs and one sure false one 61 are seen, one of them an error: too few for 95 %."""
    found = bands_for(*made_pairs([1.0] * 60, [1.0]))
    assert (found.precision.groups, found.precision.errors, found.precision.threshold) == (61, 1, None)


@pytest.mark.parametrize("photos", [6, 8, 10])
@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
def test_a_false_pair_is_drawn_by_either_of_its_groups(place: int, photos: int) -> None:
    """The group that has no other link draws it, whether its photo comes first in the pair or last."""
    alone = range(photos)[place]
    group_of = (np.arange(photos) == alone).astype(np.int64)
    others = [row for row in range(photos) if row != alone]
    pairs = np.array([*itertools.combinations(others, 2), (others[0], alone)])
    bands = bands_for((pairs[:, 0], pairs[:, 1]), np.full(len(pairs), 0.999), group_of)
    assert bands.precision.errors == 1


def test_each_group_draws_one_pair_of_those_that_are_called() -> None:
    """A group of three whose one pair is called draws that one, at every threshold that calls it."""
    pairs = (np.array([0, 0, 1]), np.array([1, 2, 2]))
    found = bands_for(pairs, np.array([0.2, 0.999, 0.1]), np.zeros(3, dtype=np.int64))
    assert (found.precision.groups, found.precision.errors) == (1, 0)


def test_a_true_pair_that_is_no_candidate_is_lost_at_every_threshold() -> None:
    """Of 300 groups 20 have no candidate: recall cannot be promised, whatever the probabilities of the others are."""
    pairs, probabilities, group_of = made_pairs([1.0] * 300, [])
    kept = slice(20, None)
    found = bands_for((pairs[0][kept], pairs[1][kept]), probabilities[kept], group_of)
    assert (found.recall.groups, found.recall.errors, found.recall.threshold) == (300, 20, None)


def test_the_order_of_pairs_and_of_their_photos_changes_nothing() -> None:
    """The draw goes by rows, not by the order in which candidates come."""
    rng = np.random.default_rng(3)
    left, right = np.triu_indices(60, 1)
    group_of, probabilities = rng.integers(0, 25, 60), rng.random(len(left))
    probabilities[group_of[left] == group_of[right]] **= 0.05
    group_of = np.unique(group_of, return_inverse=True)[1]
    order, turned = rng.permutation(len(left)), rng.random(len(left)) < 0.5
    ends = np.where(turned, right, left)[order], np.where(turned, left, right)[order]
    for linkable in (np.ones(len(left), dtype=bool), left % 2 == 0):
        expected = bands_for((left, right), probabilities, group_of, 0.5, 0.5, linkable=linkable)
        assert bands_for(ends, probabilities[order], group_of, 0.5, 0.5, linkable=linkable[order]) == expected


def test_what_geometry_cannot_tell_carries_no_promise_of_links() -> None:
    """It is never linked, so that it says nothing of the links' precision, good or bad."""
    pairs, probabilities, group_of = made_pairs([1.0] * 70, [1.0] * 5)
    told = np.repeat([True, False], [65, 10])
    found = bands_for(pairs, probabilities, group_of, linkable=told)
    assert (found.precision.groups, found.precision.errors, found.precision.threshold) == (65, 0, 0.7)
    assert (found.recall.groups, found.recall.errors) == (70, 0)


def test_the_reject_band_is_the_highest_that_loses_few_enough() -> None:
    """Four of 400 near-duplicates at .15 are too many to lose at 98 %, so that rejecting begins below them."""
    found = bands_for(*made_pairs([0.9] * 396 + [0.15] * 4, []))
    assert (found.reject, found.recall.errors, found.recall.groups) == (0.1, 0, 400)


@pytest.mark.parametrize(("groups", "reject"), [(148, 0.0), (149, 0.5)])
def test_there_is_a_reject_band_from_149_groups_on(groups: int, reject: float) -> None:
    """Fewer cannot carry a recall of 98 % even without an error: then nothing is rejected without review."""
    found = bands_for(*made_pairs([1.0] * groups, []))
    assert found.reject == reject
    assert found.of(np.array([0.0])) == ["reject" if reject else "review"]


def promise(share: float, threshold: float | None) -> Promise:
    """A promise that is kept from a threshold on, or not at all."""
    kept = threshold is not None
    return Promise(share, threshold, share if kept else 0.912345, 80, 0, 0 if kept else 17)


def test_a_threshold_belongs_to_the_better_band() -> None:
    """A pair at the link threshold is linked, one at the reject threshold is reviewed."""
    bands = Bands(promise(0.95, 0.9), promise(0.98, 0.1))
    values = np.array([1.0, 0.9, 0.8999, 0.1, 0.0999, 0.0])
    assert bands.of(values) == ["link", "link", "review", "review", "reject", "reject"]


def test_a_promise_counts_pairs_at_its_threshold() -> None:
    """As the bands do: 200 true pairs at .7 are linked, the least at which any are, and none at .5 is lost there."""
    pairs = np.arange(400).reshape(200, 2)
    at_link, at_reject = (
        bands_for((pairs[:, 0], pairs[:, 1]), np.full(200, chance), np.arange(400) // 2) for chance in (0.7, 0.5)
    )
    assert (at_link.link, at_link.precision.groups) == (0.7, 200)
    assert (at_reject.link, at_reject.reject, at_reject.recall.errors) == (math.inf, 0.5, 0)


def test_a_pair_that_geometry_cannot_tell_is_never_linked() -> None:
    """It is reviewed, however alike the vectors are, and rejected as any other."""
    bands = Bands(promise(0.95, 0.9), promise(0.98, 0.1))
    assert bands.of(np.array([1.0, 1.0, 0.05]), np.array([True, False, False])) == ["link", "review", "reject"]


def test_without_a_threshold_everything_is_review() -> None:
    """No probability is high or low enough."""
    bands = Bands(promise(0.95, None), promise(0.98, None))
    assert (bands.link, bands.reject) == (math.inf, 0.0)
    assert bands.of(np.array([1.0, 0.5, 0.0])) == ["review"] * 3


def test_of_thresholds_that_miss_as_little_the_most_useful_is_told() -> None:
    """Ten right of ten and 43 right of 44 lack 49 more without an error alike."""
    assert more_without_error(10, 0, 0.95) == more_without_error(44, 1, 0.95) == 49
    assert _promise(0.95, (0.5, 0.6), [(10, 10), (43, 44)]).groups == 10


def test_both_bands_are_said_in_words() -> None:
    """Where they lie, what they rest on, and how many groups are missing where none passes."""
    kept, missed = Bands(promise(0.95, 0.9), promise(0.98, 0.1)), Bands(promise(0.95, None), promise(0.98, None))
    assert kept.sentence() == (
        "Pairs of a probability of 0.9 or more are linked: at least 95 % of them are right at 95 % confidence, by one "
        "pair of each of 80 groups. Those below 0.1 are rejected: at least 98 % of the near-duplicates are not among "
        "them, by one pair of each of 80 groups."
    )
    assert missed.sentence() == (
        "No pair is linked without review: 80 groups cannot carry a precision of 95 % (91.2 % at best); 17 more without"
        " an error would. None is rejected without review: 80 groups cannot carry a recall of 98 % (91.2 % at best); "
        "17 more without an error would."
    )
    alone = replace(promise(0.95, None), groups=1)
    assert Bands(alone, alone).sentence().count(": 1 group cannot carry") == 2
    assert (replace(alone, drawn=True).by, alone.by) == ("by 1 link drawn at random", "by one pair of each of 1 group")


def test_thresholds_are_at_most_ten_and_bands_never_cross() -> None:
    """The more are tried, the likelier is one that meets a promise by luck."""
    assert max(len(LINK_THRESHOLDS), len(REJECT_THRESHOLDS)) <= 10
    assert sorted(LINK_THRESHOLDS) == list(LINK_THRESHOLDS)
    assert sorted(REJECT_THRESHOLDS, reverse=True) == list(REJECT_THRESHOLDS)
    assert max(REJECT_THRESHOLDS) <= min(LINK_THRESHOLDS)


def test_an_audit_says_what_it_has_bought() -> None:
    """Twenty without an error are 86 %, and 39 more make them 95 %; 59 are that."""
    assert Audit(20, 0).sentence() == (
        "Links: at least 86 % precise at 95 % confidence, by 20 that were drawn at random; 39 more without an error "
        "make it 95 %."
    )
    assert (Audit(59, 0).missing, Audit(92, 1).missing, Audit(0, 0, 0.99).missing) == (0, 1, 299)
    assert Audit(59, 0).sentence().endswith("drawn at random.")
    assert "by 1 that was drawn at random; 58 more" in Audit(1, 0).sentence()
    assert Audit(60, 1).bound == lower_bound(59, 60) < lower_bound(60, 60)


def test_decoys_bound_the_false_links_of_a_collection() -> None:
    """3,145 decoys and none accepted: 9.5, 95 and 950 photos with a false link among 10⁴, 10⁵ and 10⁶."""
    expected = [photos_with_false_links(photos, 3145, 0).expected_photos for photos in (10**4, 10**5, 10**6)]
    assert [float(f"{value:.2g}") for value in expected] == [9.5, 95, 950]
    assert expected == pytest.approx([photos * (1 - 0.05 ** (1 / 3145)) for photos in (10**4, 10**5, 10**6)])


@given(st.integers(1, 10**6), st.integers(1, 5000), st.data())
def test_more_linked_decoys_never_lower_the_bound(photos: int, decoys: int, data: st.DataObject) -> None:
    """And it is never below what was seen: the share of linked decoys, times the photos."""
    linked = data.draw(st.integers(0, decoys))
    found = photos_with_false_links(photos, decoys, linked).expected_photos
    assert photos * linked / decoys <= found * (1 + 1e-9)
    assert found <= photos_with_false_links(photos, decoys, min(decoys, linked + 1)).expected_photos


def test_the_bound_by_decoys_is_said_with_what_it_rests_on() -> None:
    """Rounded up, with what decoys cannot tell; without decoys nothing is known."""
    assert photos_with_false_links(10_000, 3145, 0).sentence() == (
        "At most 10 photos with a false link can be expected among 10,000 (95 % confidence): 3,145 foreign photographs "
        "were searched for in them, and none of them was linked. What recurs in this collection alone, as a stamp, a "
        "form or a mount does, foreign photographs do not have: the audit of `neardup review` counts false links by "
        "it, too."
    )
    assert "1 foreign photograph was searched for in them, and 1 of them was linked." in (
        photos_with_false_links(10_000, 1, 1).sentence()
    )
    assert "and 2 of them were linked." in photos_with_false_links(10_000, 3145, 2).sentence()
    assert "is not known: no decoys" in photos_with_false_links(10_000, 0, 0).sentence()
    assert photos_with_false_links(10_000, 0, 0).expected_photos == 10_000


def test_no_share_reads_as_a_promise_that_it_does_not_meet() -> None:
    """It is rounded down."""
    assert [percent(share) for share in (0.9999, 0.95, 0.94999, 0.29, 0.0)] == [
        "99.9 %",
        "95 %",
        "94.9 %",
        "29 %",
        "0 %",
    ]


CHANCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)
"""Probabilities, and whether each came true."""


@given(CHANCES)
def test_log_loss_and_brier_score_are_those_of_scikit_learn(drawn: list[tuple[float, bool]]) -> None:
    """Where a probability is not so near to 0 or 1 that each cuts it off elsewhere."""
    values = np.clip([value for value, _ in drawn], 1e-9, 1 - 1e-9)
    same = np.array([came for _, came in drawn])
    assert log_loss(values, same) == pytest.approx(sklearn_log_loss(same, values, labels=[False, True]))
    assert brier_score(values, same) == pytest.approx(brier_score_loss(same, values, labels=[False, True]))


def test_a_certain_error_is_dear_and_not_infinite() -> None:
    """A probability of 0 that came true costs what the least probability costs."""
    assert log_loss(np.array([0.0, 1.0]), np.array([True, False])) == pytest.approx(-math.log(CERTAIN))
    assert log_loss(np.array([1.0, 0.0]), np.array([True, False])) == 0


@given(CHANCES)
def test_bins_hold_every_pair_once_between_their_edges(drawn: list[tuple[float, bool]]) -> None:
    """And say its mean probability and the share that came true, counted one by one."""
    values, same = np.array([value for value, _ in drawn]), np.array([came for _, came in drawn])
    bins = reliability_bins(values, same)
    assert sum(each.pairs for each in bins) == len(drawn)
    for each in bins:
        inside = [(v, s) for v, s in drawn if each.low <= v < each.high or (v == each.high == 1)]
        assert len(inside) == each.pairs
        assert each.predicted == pytest.approx(np.mean([v for v, _ in inside]))
        assert each.observed == pytest.approx(np.mean([s for _, s in inside]))
        assert (each.low, each.high) in itertools.pairwise(BIN_EDGES)


def test_a_bin_begins_with_its_lower_edge() -> None:
    """One hundredth is in the second bin, and one in the last."""
    bins = reliability_bins(np.array([0.0, 0.01, 0.99, 1.0]), np.array([False, True, True, True]))
    assert [(each.low, each.pairs, each.observed) for each in bins] == [(0.0, 1, 0.0), (0.01, 1, 1.0), (0.99, 2, 1.0)]


def test_reliability_is_said_against_the_vectors_alone() -> None:
    """The figures of the verified probabilities come first."""
    found = Reliability.of(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([True, False]))
    assert found.sentence() == (
        "Log loss 0.1054 and Brier score 0.0100 out of fold; the similarity of the vectors alone has 0.6931 and 0.2500 "
        "(lower is better)."
    )
