"""Answered pairs that are shown again, and why; and all those that never are."""

from pathlib import Path

import numpy as np
import pytest
from made_results import small_results
from review_server import Desk, opened

from neardup.decide.chosen_decision import SHIPPED
from neardup.decide.decision import Decision
from neardup.detect.verified_pairs import VerifiedPairs
from neardup.review.asked.again import Again, ask_about_all, asked_again, load_again, save_again
from neardup.review.record.links import Links, Pair
from neardup.review.record.verdicts import CANNOT_TELL, DIFFERENT, SAME, SAME_SCENE, Verdict, open_verdicts
from neardup.search.pairs import NearPairs
from neardup.stages import digest_file
from neardup.verify.verifier import Verifier

READER = Verifier({}.__getitem__)
"""Verifier without photos."""
A, B, C, D = (letter * 64 for letter in "abcd")


def links_of(answer: str, probability: float | None = 0.5, decision: str = "old") -> Links:
    """What follows from one answer on A and B, with what was shown."""
    shown = {"decision": decision} | ({} if probability is None else {"probability": probability})
    return Links.of([Verdict.of(A, B, answer, who="Ada", queue="review", shown=shown)])


def again(links: Links, probabilities: dict[Pair, float], groups: dict[str, int] | None = None, *new: str) -> list[str]:
    """Why the pair is shown again."""
    return list(
        asked_again(links, probabilities, "new", groups or {}, {photo: f"{photo[0]}.jpg" for photo in new}).values()
    )


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
    assert again(links, {}, {A: 1, B: 1, C: 1}, C) == ["c.jpg joined the group of both"]
    assert again(links, {}, {A: 1, B: 1, C: 1, D: 1}, C, D) == ["c.jpg and 1 more joined the group of both"]
    assert again(links, {}, {A: 1, B: 1, C: 2}, C, D) == []
    assert again(links, {}, {A: 1, B: 1, C: 1}) == []


def test_a_photo_that_is_like_two_that_differ_shows_them() -> None:
    """It must be like both: one alone says nothing against the verdict."""
    links = links_of(DIFFERENT)
    like_both = {(A, C): 0.9, (B, C): 0.6}
    assert again(links, like_both, {A: 1, C: 1, B: 2}, C) == [
        "c.jpg looks the same as either, and Ada says that they are different"
    ]
    assert again(links, {(A, C): 0.9, (B, C): 0.4}, {A: 1, C: 1, B: 2}, C) == []
    assert again(links, like_both, {A: 1, C: 1, B: 2}) == []


def test_two_that_differ_though_each_is_surely_a_third_are_shown_once_more() -> None:
    """One wrong verdict in a chain takes a photo out of its group; whoever repeats it means it."""
    links = links_of(DIFFERENT)
    sure: dict[Pair, float] = {(A, C): 0.995, (B, C): 0.999}
    assert again(links, sure) == ["cccccccc surely is the same as either, and Ada says that they are different"]
    assert again(links, sure | {(B, C): 0.98}) == []
    assert again(links_of(SAME_SCENE), sure) == []
    repeated = Verdict.of(A, B, DIFFERENT, who="Ben", queue="review", supersedes=(links.decided[A, B].id,))
    assert again(Links.of([repeated]), sure) == []


@pytest.mark.parametrize(("answer", "times"), [(SAME, 1), (DIFFERENT, 0), (SAME_SCENE, 0), (CANNOT_TELL, 0)])
def test_what_people_said_of_the_third_photo_counts(answer: str, times: int) -> None:
    """Not what the machine makes of that pair; where people join both to it, the contradiction is listed elsewhere."""
    shown = {"decision": "new"}
    said = [*links_of(DIFFERENT).decided.values(), Verdict.of(B, C, answer, who="Ada", queue="review", shown=shown)]
    assert len(again(Links.of(said), {(A, C): 0.995, (B, C): 0.999})) == times
    both = Links.of([*said, Verdict.of(A, C, SAME, who="Ada", queue="review")])
    assert again(both, {(A, C): 0.995, (B, C): 0.999}) == []


def test_duplicates_shows_a_verdict_that_sure_links_contradict(tmp_path: Path) -> None:
    """With the name of the photo that both are linked to, in the file that the review page reads."""
    photos = (A, B, C)
    ends = np.array([0, 0, 1]), np.array([1, 2, 2])
    pairs, bands = NearPairs(*ends, np.full(3, 0.9)), ("link",) * 3
    chances, decision = np.array([0.6, 0.999, 0.999]), Decision.load(SHIPPED)
    found = VerifiedPairs(("a.jpg", "b.jpg", "c.jpg"), pairs, photos, (None,) * 3, chances, bands, READER, decision)
    rows = ask_about_all(tmp_path / "duplicates", found, links_of(DIFFERENT))
    assert [(row.paths, row.why.split(",")[0]) for row in rows] == [
        (("a.jpg", "b.jpg"), "c.jpg surely is the same as either")
    ]
    assert load_again(tmp_path) == rows


def test_a_pair_on_which_people_disagree_is_a_contradiction_already() -> None:
    """It is listed elsewhere."""
    given = [Verdict.of(A, B, answer, who=who, queue="review") for answer, who in ((SAME, "Ada"), (DIFFERENT, "Ben"))]
    assert again(Links.of(given), {(A, B): 0.999}) == []


def review(desk: Desk) -> list[dict[str, object]]:
    """The first tasks of the review queue."""
    return list(desk.get("/api/tasks", queue="review", session="session")["tasks"])


def answered(folder: Path) -> tuple[Path, list[tuple[str, str]], list[Verdict]]:
    """Results of two groups, every pair of which somebody answered; the last pair is one of no row of the results."""
    archive, out = small_results(folder, groups=2)
    files = sorted(archive.rglob("*.jpg"))
    places = [(file.relative_to(archive).as_posix(), digest_file(file)) for file in files]
    pairs = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (0, 3)]
    given = [Verdict.of(places[a][1], places[b][1], DIFFERENT, who="Ada", queue="review") for a, b in pairs]
    with open_verdicts(out) as kept:
        kept.add_all(given)
    return out, places, given


def test_the_page_shows_an_answered_pair_again_with_its_reason(tmp_path: Path) -> None:
    """It comes first, with what was said; whatever is said then, it is gone, and no other answered pair is shown."""
    out, places, given = answered(tmp_path)
    run = out / "watch" / "0002"
    rows = [
        Again(places[a][0], places[b][0], places[a][1], places[b][1], DIFFERENT, why, verdict.id)
        for (a, b), why, verdict in (((0, 2), "c.jpg joined", given[1]), ((0, 3), "a new decision", given[6]))
    ]
    (out / "watch" / "0001").mkdir(parents=True)
    run.mkdir()
    save_again(out / "watch" / "0001", [rows[0]])
    save_again(run, rows)
    assert load_again(out) == [rows[0], *rows]
    with opened(out) as desk:
        shown = review(desk)
        assert [task["reason"]["values"]["why"] for task in shown] == ["c.jpg joined", "a new decision"]
        assert [[one["verdict"] for one in task["said"]] for task in shown] == [[DIFFERENT], [DIFFERENT]]
        assert desk.get("/api/tasks", queue="review", session="session")["progress"]["left"] == 2
        for number, (task, verdict) in enumerate(zip(shown, (DIFFERENT, SAME), strict=True)):
            photos = {side: task[side]["sha256"] for side in ("photo", "partner")}
            earlier = [one["id"] for one in task["said"]]
            body = {"id": f"again-{number}", "verdict": verdict, "who": "Ben", "queue": "review", "supersedes": earlier}
            desk.post("/api/verdict", **body, **photos)
            assert len(review(desk)) == 1 - number
        kept = {verdict.id: verdict for verdict in desk.verdicts}
    assert kept["again-0"].shown["reason"] == "Answered before, and asked again: c.jpg joined."
    assert kept["again-1"].supersedes == (given[6].id,)


def test_without_a_reason_no_answered_pair_is_shown_again(tmp_path: Path) -> None:
    """Neither where nothing was listed nor where the listed answer is no longer in force."""
    out, places, given = answered(tmp_path)
    (out / "watch" / "0001").mkdir(parents=True)
    old = Again(places[0][0], places[1][0], places[0][1], places[1][1], SAME, "c.jpg joined", "an earlier verdict")
    save_again(out / "watch" / "0001", [old])
    (out / "watch" / "0002").mkdir()
    (out / "watch" / "0002" / "asked_again.csv").write_text("photo,partner,verdict,why\na,b,same,of another version\n")
    with opened(out) as desk:
        assert review(desk) == []
    assert len(given) == 7
