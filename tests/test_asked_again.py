"""Answered pairs that are shown again, and why; and all those that never are."""

import pytest

from neardup.review.again import asked_again
from neardup.review.links import Links, Pair
from neardup.review.verdicts import CANNOT_TELL, DIFFERENT, SAME, SAME_SCENE, Verdict

A, B, C, D = (letter * 64 for letter in "abcd")


def links_of(answer: str, probability: float | None = 0.5, decision: str = "old") -> Links:
    """What follows from one answer on A and B, with what was shown."""
    shown = {"decision": decision} | ({} if probability is None else {"probability": probability})
    return Links.of([Verdict.of(A, B, answer, who="Ada", queue="review", shown=shown)])


def again(links: Links, probabilities: dict[Pair, float], groups: dict[str, int] | None = None, *new: str) -> list[str]:
    """Why the pair is shown again."""
    return list(asked_again(links, probabilities, "new", groups or {}, new).values())


@pytest.mark.parametrize(("answer", "probability"), [(DIFFERENT, 0.995), (SAME, 0.004)])
def test_a_new_decision_that_contradicts_strongly_is_shown(answer: str, probability: float) -> None:
    """With who said what, and both probabilities."""
    (why,) = again(links_of(answer), {(A, B): probability})
    assert (
        why == f"Ada says {answer}; a new decision gives it a probability of {probability:.3f}, 0.50 when it was judged"
    )


@pytest.mark.parametrize(
    ("links", "probability"),
    [
        (links_of(DIFFERENT), 0.98),
        (links_of(SAME), 0.02),
        (links_of(SAME), 0.999),
        (links_of(SAME_SCENE), 0.999),
        (links_of(CANNOT_TELL), 0.999),
        (links_of(DIFFERENT, 0.992), 0.999),
        (links_of(DIFFERENT, decision="new"), 0.999),
    ],
    ids=["not sure", "not sure either", "agrees", "scene", "cannot tell", "as sure before", "the same decision"],
)
def test_nobody_is_asked_twice_for_less(links: Links, probability: float) -> None:
    """Weak doubts, answers that no machine can give, and what a person knew when they answered."""
    assert again(links, {(A, B): probability}) == []


def test_a_verdict_from_elsewhere_is_contradicted_too() -> None:
    """A table that was read showed no probability."""
    assert len(again(links_of(DIFFERENT, None, ""), {(A, B): 0.999})) == 1


def test_a_member_that_joins_shows_its_group() -> None:
    """The pair of same photos with the new one's name; not where the new photo is in another group or in none."""
    links = links_of(SAME)
    assert again(links, {}, {A: 1, B: 1, C: 1}, C) == ["cccccccc joined the group of both"]
    assert again(links, {}, {A: 1, B: 1, C: 1, D: 1}, C, D) == ["cccccccc and 1 more joined the group of both"]
    assert again(links, {}, {A: 1, B: 1, C: 2}, C, D) == []
    assert again(links, {}, {A: 1, B: 1, C: 1}) == []


def test_a_photo_that_is_like_two_that_differ_shows_them() -> None:
    """It must be like both: one alone says nothing against the verdict."""
    links = links_of(DIFFERENT)
    like_both = {(A, C): 0.9, (B, C): 0.6}
    assert again(links, like_both, {A: 1, C: 1, B: 2}, C) == [
        "cccccccc looks the same as either, and Ada says that they are different"
    ]
    assert again(links, {(A, C): 0.9, (B, C): 0.4}, {A: 1, C: 1, B: 2}, C) == []
    assert again(links, like_both, {A: 1, C: 1, B: 2}) == []


def test_a_pair_on_which_people_disagree_is_a_contradiction_already() -> None:
    """It is listed elsewhere."""
    given = [Verdict.of(A, B, answer, who=who, queue="review") for answer, who in ((SAME, "Ada"), (DIFFERENT, "Ben"))]
    assert again(Links.of(given), {(A, B): 0.999}) == []
