"""When a model takes another one's place."""

import numpy as np
import pytest
from test_evaluate import GROUPS, made

from neardup.errors import ArchiveError, ConfigError
from neardup.measure.comparison import certain, compare
from neardup.measure.evaluate import Evaluation, Figure
from neardup.measure.promotion import _objections, decide_promotion

BAD, GOOD, BEST = (made(noise, approach=name) for noise, name in ((1.5, "bad"), (0.9, "good"), (0.05, "best")))


def test_a_better_model_is_promoted() -> None:
    """The paragraph says what it gained and on how many photos."""
    promotion = decide_promotion(BEST, BAD, GOOD)
    assert promotion.promoted
    assert promotion.gain.low > 0
    assert f"on the same {len(GROUPS)} photos" in promotion.paragraph
    assert "Promoted: the gain is at least 0.5 points" in promotion.paragraph


def test_a_worse_model_is_refused() -> None:
    """For each reason that there is."""
    promotion = decide_promotion(BAD, BEST, GOOD)
    assert not promotion.promoted
    assert "Refused, for the gain is below the margin of 0.5 points" in promotion.paragraph
    assert "lies below 0, so that it is worse beyond chance" in promotion.paragraph
    assert "worse than zero-shot" in promotion.paragraph


def test_what_is_worse_than_zero_shot_is_refused_although_it_beats_the_champion() -> None:
    """A champion may be bad; no training at all must not be better."""
    promotion = decide_promotion(GOOD, BAD, BEST, margin=0)
    assert (promotion.promoted, promotion.gain.value > 0) == (False, True)
    assert promotion.paragraph.endswith("Refused, for it is worse than zero-shot.")


def test_a_gain_that_chance_may_explain_is_refused() -> None:
    """Its interval holds a loss."""
    other = made(0.9, approach="other", seed=2)
    one, two = sorted((other, GOOD), key=lambda e: e.values["ndcg"])
    promotion = decide_promotion(two, one, BAD, margin=0)
    assert (promotion.promoted, promotion.gain.low < 0) == (False, True)


def test_the_margin_is_asked_for() -> None:
    """A gain that is certain may still be too small to be worth it."""
    gain = decide_promotion(BEST, GOOD, BAD).gain.value
    assert [decide_promotion(BEST, GOOD, BAD, margin=gain + d).promoted for d in (-0.001, 0, 0.001)] == [
        True,
        True,
        False,
    ]


def test_what_is_exactly_enough_is_enough() -> None:
    """A gain of the margin, and no loss against no training; an interval that begins at no change holds it."""
    zero_shot = Figure(0.0, -0.1, 0.1)
    assert _objections(Figure(0.005, 0.0001, 0.01), zero_shot, 0.005) == []
    assert len(_objections(Figure(0.005, 0.0, 0.01), zero_shot, 0.005)) == 1


def test_a_difference_is_certain_on_one_side_of_nothing() -> None:
    """A loss as well as a gain, and not where the interval touches it."""
    ends = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0)]
    assert [certain(Figure(0.0, *pair)) for pair in ends] == [True, True, False, False, False]


def test_the_spread_is_over_all_seeds() -> None:
    """From the least to the greatest value, that of the first seed among them."""
    first, second = made(0.05, approach="best"), made(0.9, approach="best", seed=2)
    found = compare([BAD, first], {"best": [second]})
    assert found.spreads["ndcg"] == {"best": tuple(sorted((first.values["ndcg"], second.values["ndcg"])))}
    assert (found.seeds, compare([BAD, first]).seeds) == (2, 1)


def test_equal_models_are_refused() -> None:
    """There is nothing to gain."""
    assert not decide_promotion(BEST, made(0.05, approach="copy"), BAD).promoted


def test_another_metric_may_decide() -> None:
    """The gain is that metric's, with an interval around it."""
    promotion = decide_promotion(BEST, BAD, BAD, metric="top_1", margin=0)
    assert promotion.gain.value == pytest.approx(BEST.values["top_1"] - BAD.values["top_1"])
    assert promotion.gain.low <= promotion.gain.value <= promotion.gain.high


def test_a_metric_that_is_not_defined_promotes_nobody() -> None:
    """Without a group of two there is no ranking."""
    alone = [Evaluation(n, "f", ("a", "b"), np.array([1, 2]), np.eye(2, dtype=np.float32)) for n in "abc"]
    promotion = decide_promotion(*alone)
    assert not promotion.promoted
    assert "not defined on this test set" in promotion.paragraph


def test_bad_wishes_are_one_sentence() -> None:
    """A margin that is none, another test set."""
    with pytest.raises(ConfigError, match=r"the margin is -0\.1, expected 0 to 1"):
        decide_promotion(BEST, BAD, BAD, margin=-0.1)
    other = Evaluation("other", "f", BEST.names[:-1], GROUPS[:-1], BEST.vectors[:-1])
    with pytest.raises(ArchiveError, match="measured on different test sets"):
        decide_promotion(BEST, other, BAD)
