"""When a model takes another one's place."""

import numpy as np
import pytest
from test_evaluate import GROUPS, made

from neardup.errors import ArchiveError, ConfigError
from neardup.measure.evaluate import Evaluation
from neardup.measure.promotion import judge

BAD, GOOD, BEST = (made(noise, approach=name) for noise, name in ((1.5, "bad"), (0.9, "good"), (0.05, "best")))


def test_a_better_model_is_promoted() -> None:
    """The paragraph says what it gained and on how many photos."""
    verdict = judge(BEST, BAD, GOOD)
    assert verdict.promoted
    assert verdict.gain.low > 0
    assert f"on the same {len(GROUPS)} photos" in verdict.paragraph
    assert "Promoted: the gain is at least 0.5 points" in verdict.paragraph


def test_a_worse_model_is_refused() -> None:
    """For each reason that there is."""
    verdict = judge(BAD, BEST, GOOD)
    assert not verdict.promoted
    assert "Refused, for the gain is below the margin of 0.5 points" in verdict.paragraph
    assert "does not exclude a loss" in verdict.paragraph
    assert "worse than zero-shot" in verdict.paragraph


def test_what_is_worse_than_zero_shot_is_refused_although_it_beats_the_champion() -> None:
    """A champion may be bad; no training at all must not be better."""
    verdict = judge(GOOD, BAD, BEST, margin=0)
    assert (verdict.promoted, verdict.gain.value > 0) == (False, True)
    assert verdict.paragraph.endswith("Refused, for it is worse than zero-shot.")


def test_a_gain_that_chance_may_explain_is_refused() -> None:
    """Its interval holds a loss."""
    other = made(0.9, approach="other", seed=2)
    one, two = sorted((other, GOOD), key=lambda e: e.values["ndcg"])
    verdict = judge(two, one, BAD, margin=0)
    assert (verdict.promoted, verdict.gain.low < 0) == (False, True)


def test_the_margin_is_asked_for() -> None:
    """A gain that is certain may still be too small to be worth it."""
    gain = judge(BEST, GOOD, BAD).gain.value
    assert [judge(BEST, GOOD, BAD, margin=gain + d).promoted for d in (-0.001, 0.001)] == [True, False]


def test_equal_models_are_refused() -> None:
    """There is nothing to gain."""
    assert not judge(BEST, made(0.05, approach="copy"), BAD).promoted


def test_another_metric_may_decide() -> None:
    """The gain is that metric's, with an interval around it."""
    verdict = judge(BEST, BAD, BAD, metric="top_1", margin=0)
    assert verdict.gain.value == pytest.approx(BEST.values["top_1"] - BAD.values["top_1"])
    assert verdict.gain.low <= verdict.gain.value <= verdict.gain.high


def test_a_metric_that_is_not_defined_promotes_nobody() -> None:
    """Without a group of two there is no ranking."""
    alone = [Evaluation(n, "f", ("a", "b"), np.array([1, 2]), np.eye(2, dtype=np.float32)) for n in "abc"]
    verdict = judge(*alone)
    assert not verdict.promoted
    assert "not defined on this test set" in verdict.paragraph


def test_bad_wishes_are_one_sentence() -> None:
    """A margin that is none, another test set."""
    with pytest.raises(ConfigError, match=r"the margin is -0\.1, expected 0 to 1"):
        judge(BEST, BAD, BAD, margin=-0.1)
    other = Evaluation("other", "f", BEST.names[:-1], GROUPS[:-1], BEST.vectors[:-1])
    with pytest.raises(ArchiveError, match="measured on different test sets"):
        judge(BEST, other, BAD)
