"""What a person is asked, and in which order: queues, what settles a pair, and groups, without a server."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import small_results

from neardup.decide.promises import Audit
from neardup.errors import ArchiveError, VerdictError
from neardup.review.asked import audit
from neardup.review.asked import queues as queues_of_pairs
from neardup.review.asked.answers import FEW, Answers
from neardup.review.asked.audit import next_aim
from neardup.review.asked.queues import AUDIT, REVIEW, Queues
from neardup.review.found.bridges import bridges
from neardup.review.found.results import Results
from neardup.review.page.group import Groups
from neardup.review.page.payloads import shown_points, shown_task, shown_with
from neardup.review.page.pictures import Pictures
from neardup.review.record.draws import audit_of, random_order
from neardup.review.record.links import Links
from neardup.review.record.references import References
from neardup.review.record.verdicts import CANNOT_TELL, DIFFERENT, SAME, SAME_SCENE, Verdict, Verdicts, open_verdicts
from neardup.stages import write_json
from neardup.verify.evidence import Evidence

PHOTOS = tuple(f"{number:064x}" for number in range(10))
"""The SHA-256 of ten photos; none of them is ever opened."""
PAIRS = (
    (0, 1, 0.99, "link"),
    (1, 2, 0.98, "link"),
    (2, 3, 0.97, "link"),
    (4, 5, 0.96, "link"),
    (0, 2, 0.60, "review"),
    (4, 6, 0.70, "review"),
    (3, 4, 0.30, "review"),
    (6, 7, 0.005, "review"),
    (8, 9, 0.85, "review"),
    (5, 8, 0.02, "reject"),
)
"""Two photos, probability and band of each pair; of the links 1-2 alone holds 0 and 1 to 2 and 3."""
GROUPS = {1: (0, 1, 2, 3), 2: (4, 5)}
"""Number of each group → its photos; photos 6 to 9 are in none."""


def folder_of_results(
    folder: Path, pairs: Sequence[tuple[int, int, float, str]] = PAIRS, groups: dict[int, tuple[int, ...]] = GROUPS
) -> Path:
    """Write the tables of a search as far as queues read them, and return the output folder."""
    (folder / "archive").mkdir()
    out = folder / "results"
    (out / "duplicates").mkdir(parents=True)
    ends = [[pair[side] for pair in pairs] for side in (0, 1)]
    columns = {
        **{name: [f"{number}.jpg" for number in side] for name, side in zip(("photo", "partner"), ends, strict=True)},
        **{
            name: [PHOTOS[number] for number in side]
            for name, side in zip(("photo_sha256", "partner_sha256"), ends, strict=True)
        },
        "similarity": [1 - pair[2] / 2 for pair in pairs],
        "kind": ["similar"] * len(pairs),
        "probability": [pair[2] for pair in pairs],
        "band": [pair[3] for pair in pairs],
    }
    pq.write_table(pa.table(columns), out / "duplicates" / "pairs.parquet")
    rows = [(number, f"{photo}.jpg") for number, photos in groups.items() for photo in photos]
    table = {"group": [number for number, _ in rows], "photo": [photo for _, photo in rows]}
    pq.write_table(pa.table(table), out / "duplicates" / "groups.parquet")
    facts = {"archive": str(folder / "archive"), "threshold": 0.5, "encoder": "made", "decision": "first"}
    (out / "duplicates" / "duplicates.json").write_text(json.dumps(facts))
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The results of `PAIRS` and `GROUPS`."""
    return folder_of_results(tmp_path)


@pytest.fixture
def kept(out: Path) -> Iterator[Verdicts]:
    """The verdicts on them."""
    with open_verdicts(out) as verdicts:
        yield verdicts


def say(kept: Verdicts, photo: int, partner: int, answer: str, who: str = "Ada", **more: object) -> Verdict:
    """Answer a pair."""
    verdict = Verdict.of(PHOTOS[photo], PHOTOS[partner], answer, who=who, **{"queue": "review", **more})
    kept.add(verdict)
    return verdict


def numbers(queues: Queues, queue: str = REVIEW, session: str = "a", count: int = 9, **more: int) -> list[int]:
    """The rows of `PAIRS` that a person is given."""
    return [number for task in queues.take(queue, session, count, **more) if (number := task.number) is not None]


def test_bridges_come_first_then_what_moves_most_photos(out: Path, kept: Verdicts) -> None:
    """Three photos at .7, six at .3, two at .85, four at .4; what is linked, rejected or too unlikely is not asked."""
    assert numbers(Queues(Results(out), kept)) == [1, 5, 6, 8, 4]


def test_what_is_left_says_how_much_of_it_the_machine_left_to_people(out: Path, kept: Verdicts) -> None:
    """Four pairs are to be reviewed, as `duplicates` counts them; the link that is a bridge is asked besides."""
    queues = Queues(Results(out), kept)
    progress = queues.progress(REVIEW, "Ada")
    assert (progress.left, progress.links) == (5, 1)
    assert queues.progress(AUDIT, "Ada").links == 0
    say(kept, 1, 2, SAME)
    queues.refresh()
    assert queues.progress(REVIEW, "Ada").links == 0


def test_a_link_that_alone_holds_two_parts_together_is_asked_first(tmp_path: Path) -> None:
    """The link between two pairs of photos, and not the one by which a single photo hangs on; none that is certain."""
    pairs = ((0, 1, 0.9, "link"), (1, 2, 0.9, "link"), (2, 3, 0.9, "link"), (4, 5, 0.5, "review"))
    out = folder_of_results(tmp_path, pairs, {1: (0, 1, 2, 3)})
    with open_verdicts(out) as kept:
        assert numbers(Queues(Results(out), kept)) == [1, 3]
    certain = tuple((*pair[:2], 0.9999, pair[3]) for pair in pairs[:3])
    (tmp_path / "certain").mkdir()
    out = folder_of_results(tmp_path / "certain", (*certain, pairs[3]), {1: (0, 1, 2, 3)})
    with open_verdicts(out) as kept:
        assert numbers(Queues(Results(out), kept)) == [3]


def test_bridges_are_those_that_a_search_without_each_edge_finds() -> None:
    """Graphs drawn at random, against the definition: without the edge, both sides have two nodes or more."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        nodes = int(generator.integers(4, 12))
        edges = np.argwhere(np.triu(generator.random((nodes, nodes)) < 0.2, 1)).tolist()
        first, second = (np.array([edge[side] for edge in edges], dtype=np.int64) for side in (0, 1))
        expected = [min(map(len, sides_without(edges, edge))) >= 2 for edge in edges]
        assert bridges(first, second, nodes).tolist() == expected


def sides_without(edges: list[list[int]], left_out: list[int]) -> list[set[int]]:
    """What either end reaches without an edge; nothing where it reaches the other end."""
    sides = []
    for start in left_out:
        reached, waiting = {start}, [start]
        while waiting:
            node = waiting.pop()
            for one, other in edges:
                if [one, other] != left_out and node in (one, other) and one + other - node not in reached:
                    reached.add(one + other - node)
                    waiting.append(one + other - node)
        sides.append(set() if set(left_out) <= reached else reached)
    return sides


def test_the_pairs_of_a_group_are_asked_by_doubt(out: Path, kept: Verdicts) -> None:
    """All of one group and none of others, linked or not; a bridge before them."""
    assert numbers(Queues(Results(out), kept), "group", group=1) == [1, 4, 2, 0]
    assert numbers(Queues(Results(out), kept), "group", group=2) == [3]


def test_two_people_are_given_different_pairs(out: Path, kept: Verdicts, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who asks again is given the same, another one what is left, until the time of the first is up."""
    queues = Queues(Results(out), kept)
    assert numbers(queues, count=2) == [1, 5]
    assert numbers(queues, session="b", count=3) == [6, 8, 4]
    assert numbers(queues, count=2) == [1, 5]
    assert numbers(queues, count=2, session="c") == []
    now = queues_of_pairs.time.monotonic() + queues_of_pairs.LEASE_S
    monkeypatch.setattr(queues_of_pairs.time, "monotonic", lambda: now + 1)
    assert numbers(queues, count=2, session="c") == [1, 5]


def test_what_the_browser_has_is_not_given_again(out: Path, kept: Verdicts) -> None:
    """It asks for pairs in advance and names those that it holds."""
    assert [task.number for task in Queues(Results(out), kept).take(REVIEW, "a", 2, but=[6, 5])] == [1, 8]


def test_who_has_more_than_enough_is_given_nothing(out: Path, kept: Verdicts) -> None:
    """Nothing is held back from the others for them."""
    queues = Queues(Results(out), kept)
    assert queues.take(REVIEW, "a", -1) == []
    assert numbers(queues, session="b") == [1, 5, 6, 8, 4]


def test_a_pair_that_was_passed_over_comes_last(out: Path, kept: Verdicts) -> None:
    """For the one who passed it over; another one is given it at once."""
    queues = Queues(Results(out), kept)
    numbers(queues, count=1)
    queues.skip("a", 1)
    assert numbers(queues, count=3) == [5, 6, 8]
    assert numbers(queues) == [5, 6, 8, 4, 1]
    queues.skip("a", 1)
    assert numbers(queues, session="b", count=1) == [1]


def test_a_pair_without_pictures_is_given_again_only_to_others(out: Path, kept: Verdicts) -> None:
    """To the browser that could not show it no more, however often that asks; its disk may be the one that is away."""
    queues = Queues(Results(out), kept)
    numbers(queues, count=2)
    queues.skip("a", 1, broken=True)
    assert numbers(queues) == numbers(queues) == [5, 6, 8, 4]
    assert numbers(queues, session="b", count=1) == [1]


def test_a_pair_whose_photos_were_away_is_given_again(out: Path, kept: Verdicts) -> None:
    """As soon as a file of it is another one than when it could not be read."""
    queues = Queues(Results(out), kept)
    for number in numbers(queues):
        queues.skip("a", number, broken=True)
    assert numbers(queues) == []
    assert queues.unreadable(REVIEW, "a") == 5
    (queues.results.archive / "8.jpg").write_bytes(b"there")
    assert numbers(queues) == [8]
    assert queues.unreadable(REVIEW, "a") == 4


def test_what_was_answered_is_not_asked(out: Path, kept: Verdicts) -> None:
    """Whatever the answer was, also by somebody else and in another process, once the queue looked again."""
    queues = Queues(Results(out), kept)
    say(kept, 3, 4, CANNOT_TELL, who="Grace")
    queues.refresh()
    assert numbers(queues) == [1, 5, 8, 4]
    assert queues.settled.tolist() == [number == 6 for number in range(len(PAIRS))]


def test_what_follows_from_answers_is_not_asked(out: Path, kept: Verdicts) -> None:
    """Of one picture, 0-1-2, no pair is open; what one of its photos differs from, the others do."""
    queues = Queues(Results(out), kept)
    say(kept, 0, 1, SAME)
    say(kept, 1, 2, SAME)
    say(kept, 3, 6, SAME)
    say(kept, 4, 3, DIFFERENT)
    queues.refresh()
    assert numbers(queues) == [8]
    progress = queues.progress(REVIEW, "Ada")
    assert (progress.left, progress.answered, progress.implied) == (1, 4, 2)


def test_undo_opens_the_pair_again(out: Path, kept: Verdicts) -> None:
    """A queue that has seen the answer forgets it, and what followed from it."""
    queues = Queues(Results(out), kept)
    verdicts = [say(kept, 0, 1, SAME), say(kept, 1, 2, SAME)]
    queues.refresh()
    assert 4 not in numbers(queues)
    kept.withdraw(verdicts[1].id, "Ada")
    queues.refresh()
    assert 4 in numbers(queues)
    assert queues.answers.of(PHOTOS[2], PHOTOS[1]) == []


def test_answers_taken_in_bit_by_bit_are_those_in_force(kept: Verdicts) -> None:
    """Second thoughts, a settlement of two people's answers, and one that supersedes what was superseded before."""
    answers = Answers(kept)
    first = say(kept, 0, 1, SAME)
    answers.refresh()
    other = say(kept, 0, 1, DIFFERENT, who="Grace")
    second = say(kept, 0, 1, SAME_SCENE)
    answers.refresh()
    say(kept, 2, 3, SAME)
    say(kept, 0, 1, DIFFERENT, who="Lovelace", supersedes=(first.id, other.id))
    answers.refresh()
    assert sorted(found.id for found in answers.of(PHOTOS[0], PHOTOS[1])) == sorted(
        found.id for found in kept.of_pair(PHOTOS[0], PHOTOS[1])
    )
    assert second.id in {found.id for found in answers.of(PHOTOS[1], PHOTOS[0])}
    assert len(answers) == 2
    assert not answers.refresh()
    kept.withdraw(second.id, "Ada")
    settled = kept.of_pair(PHOTOS[0], PHOTOS[1])[-1]
    kept.withdraw(settled.id, "Lovelace")
    answers.refresh()
    in_force = answers.of(PHOTOS[0], PHOTOS[1])
    assert in_force == kept.of_pair(PHOTOS[0], PHOTOS[1])
    assert {found.id for found in in_force} == {first.id, other.id}


def test_what_is_superseded_and_taken_back_on_another_pair_is_followed(kept: Verdicts) -> None:
    """A verdict may take the place of one on another pair, and give it free again."""
    far = say(kept, 5, 6, SAME)
    answers = Answers(kept)
    late = say(kept, 0, 1, SAME, supersedes=(far.id,))
    answers.refresh()
    assert answers.of(PHOTOS[5], PHOTOS[6]) == []
    kept.withdraw(late.id, "Ada")
    answers.refresh()
    assert answers.of(PHOTOS[5], PHOTOS[6]) == [far]


def test_what_geometry_cannot_tell_is_asked_last(tmp_path: Path) -> None:
    """However probable vectors make it: blank backs of prints would come before all else."""
    out = folder_of_results(tmp_path)
    file = out / "duplicates" / "pairs.parquet"
    pairs = pq.read_table(file)
    relations = ["cannot tell" if chance == 0.85 else "same frame" for chance in pairs["probability"].to_pylist()]
    with open_verdicts(out) as kept:
        order = Queues(Results(out), kept).order.tolist()
        pq.write_table(pairs.append_column("relation", pa.array(relations)), file)
        changed = Queues(Results(out), kept).order.tolist()
    assert changed == [row for row in order if row != 8] + [8]
    assert order != changed


def test_contradictions_that_come_at_once_are_in_the_order_of_the_answers(kept: Verdicts) -> None:
    """As they would be in a process that begins anew."""
    answers = Answers(kept)
    for first, second, *_ in PAIRS[::-1]:
        say(kept, first, second, SAME)
        say(kept, first, second, DIFFERENT, who="Grace")
    answers.refresh()
    assert len(answers.links.contradictions) == len(PAIRS)
    assert answers.links == Links.of(kept.current())


def test_many_answers_taken_in_at_once_are_those_in_force(kept: Verdicts) -> None:
    """As after an import."""
    answers = Answers(kept)
    for queue in ("import", "review"):
        kept.add_all(
            Verdict.of(f"{number:064x}", f"{number + 1:064x}", SAME, who="Ada", queue=queue)
            for number in range(FEW + 1)
        )
        answers.refresh()
        assert len(answers) == FEW + 1
        assert answers.of(f"{1:064x}", f"{2:064x}") == kept.of_pair(f"{1:064x}", f"{2:064x}")


def test_of_agreeing_answers_the_latest_decides(kept: Verdicts) -> None:
    """Also where somebody who was the first to answer answers once more."""
    answers = Answers(kept)
    say(kept, 0, 1, SAME)
    say(kept, 0, 1, SAME, who="Grace")
    last = say(kept, 0, 1, SAME, note="once more")
    answers.refresh()
    assert answers.of(PHOTOS[0], PHOTOS[1]) == kept.of_pair(PHOTOS[0], PHOTOS[1])
    assert answers.links.decided[last.pair] == last


def test_the_time_that_is_left_is_by_a_persons_own_median(out: Path, kept: Verdicts) -> None:
    """Answers of others do not count, nor does one that a lunch came between."""
    queues = Queues(Results(out), kept)
    assert queues.progress(REVIEW, "Ada").seconds is None
    for partner, seconds in ((1, 4.0), (4, 5.0), (9, 6.0), (5, 4000.0)):
        say(kept, 0 if partner == 1 else 7, partner, CANNOT_TELL, seconds=seconds)
    say(kept, 8, 9, CANNOT_TELL, who="Grace", seconds=60.0)
    queues.refresh()
    progress = queues.progress(REVIEW, "Ada")
    assert progress.seconds == 5.0 * progress.left


def test_the_audit_asks_links_that_nobody_has_answered(out: Path, kept: Verdicts) -> None:
    """Also one that follows from other answers: what is left out is no draw. Answers of every queue count."""
    links = [(PHOTOS[first], PHOTOS[second]) for first, second, _, band in PAIRS if band == "link"]
    seed = next(str(number) for number in count() if random_order(links, str(number)) == [0, 2, 1, 3])
    write_json(out / "review" / "audit.json", {"seed": seed})
    queues = Queues(Results(out), kept)
    assert sorted(numbers(queues, AUDIT)) == [0, 1, 2, 3]
    say(kept, 0, 1, SAME, queue="audit")
    say(kept, 0, 2, SAME)
    say(kept, 2, 3, DIFFERENT)
    say(kept, 4, 5, CANNOT_TELL, queue="audit")
    queues.refresh()
    assert numbers(queues, AUDIT) == [1]
    assert queues.audited() == Audit(2, 1)


def test_answers_beyond_the_first_open_link_of_a_draw_do_not_count(out: Path, kept: Verdicts) -> None:
    """They were given for other reasons; what nobody can tell is passed over. The export counts as the page does."""
    queues = Queues(Results(out), kept)
    rows = queues.drawn.rows.tolist()
    for row in rows[1:]:
        say(kept, *PAIRS[row][:2], DIFFERENT)
    queues.refresh()
    assert queues.audited() == audit_of(out, Links.of(kept.current())) == Audit(0, 0)
    assert queues.progress(AUDIT, "Ada").waiting == 3
    say(kept, *PAIRS[rows[0]][:2], SAME, queue="audit")
    queues.refresh()
    assert queues.audited() == audit_of(out, Links.of(kept.current())) == Audit(4, 3)
    assert queues.progress(AUDIT, "Ada").waiting == 0
    say(kept, *PAIRS[rows[2]][:2], CANNOT_TELL)
    queues.refresh()
    assert queues.audited() == audit_of(out, Links.of(kept.current())) == Audit(3, 2)
    say(kept, *PAIRS[rows[1]][:2], SAME, who="Grace")
    queues.refresh()  # which contradicts what was said, and is open until that is settled
    assert queues.audited() == audit_of(out, Links.of(kept.current())) == Audit(1, 0)


def test_links_are_drawn_once_for_all(out: Path) -> None:
    """Another process draws the same ones in the same order; of more links than are drawn, the least numbers."""
    drawn = Results(out)
    with open_verdicts(out) as kept:
        assert Queues(drawn, kept).drawn.rows.tolist() == Queues(Results(out), kept).drawn.rows.tolist()
    facts = json.loads((out / "review" / "audit.json").read_text())
    (draw,) = facts["draws"].values()
    assert draw["links"] == 4
    assert {tuple(pair) for pair in draw["pairs"]} == {
        (PHOTOS[a], PHOTOS[b]) for a, b in ((0, 1), (1, 2), (2, 3), (4, 5))
    }


def test_a_draw_is_by_chance_and_keeps_its_order_among_fewer_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each link is drawn first by some seed; a later run without one of them asks the others as before."""
    rows = np.array([3, 5, 6, 8])
    names = [(f"{row}a.jpg", f"{row}b.jpg") for row in rows.tolist()]
    draws = [audit._least(rows, names, str(seed)).tolist() for seed in range(40)]
    assert {drawn[0] for drawn in draws} == set(rows.tolist())
    fewer = [audit._least(rows[1:], names[1:], str(seed)).tolist() for seed in range(40)]
    assert fewer == [[row for row in drawn if row != 3] for drawn in draws]
    monkeypatch.setattr(audit, "DRAWN", 2)
    assert [audit._least(rows, names, str(seed)).tolist() for seed in range(40)] == [drawn[:2] for drawn in draws]


def test_a_damaged_draw_is_one_sentence(out: Path, kept: Verdicts) -> None:
    """Another draw would make two samples of one audit: whoever wants that says so."""
    (out / "review").mkdir(exist_ok=True)
    (out / "review" / "audit.json").write_text('{"seed": "0", "dra')
    with pytest.raises(ArchiveError, match=r"audit\.json is damaged .*delete it to have the audit drawn anew"):
        _ = Queues(Results(out), kept).drawn


def test_the_next_aim_is_the_least_promise_that_is_not_yet_met() -> None:
    """Fifty-nine right ones are 95 % precise."""
    assert [aim and aim.promise for aim in (next_aim(Audit(seen, 0)) for seen in (0, 58, 59, 299))] == [
        0.9,
        0.95,
        0.98,
        None,
    ]


def test_an_audit_is_blind_and_says_so(out: Path, kept: Verdicts) -> None:
    """Neither a probability nor a band is shown; what is kept with the answer says that the machine was not seen."""
    queues = Queues(Results(out), kept)
    (task,) = queues.take(AUDIT, "a", 1)
    assert shown_task(task, AUDIT).keys().isdisjoint({"probability", "band", "similarity", "sentence", "terms"})
    assert shown_task(task, REVIEW)["band"] == "link"
    with_audit = shown_with(task, queues.results, AUDIT, queues.drawn)
    assert (with_audit["machine_seen"], with_audit["drawn_from"], with_audit["decision"]) == (False, 4, "first")
    with_review = shown_with(task, queues.results, REVIEW, None)
    assert with_review["machine_seen"]
    assert "drawn" not in with_review


def test_what_two_disagree_about_is_a_contradiction(out: Path, kept: Verdicts) -> None:
    """It is counted in the list of contradictions, and binds nobody."""
    queues = Queues(Results(out), kept)
    say(kept, 0, 1, SAME)
    say(kept, 0, 1, DIFFERENT, who="Grace")
    queues.refresh()
    assert queues.progress("contradictions", "Ada").left == 1
    assert queues.answers.links.must == queues.answers.links.cannot == ()


def test_points_belong_to_the_photo_that_they_are_of() -> None:
    """As shares of the sides of either photo, whichever is shown on the left."""
    evidence = Evidence(PHOTOS[0], PHOTOS[1], 400, 200, 100, 50, 90, 90)
    assert shown_points([(100.0, 100.0, 10.0, 40.0)], evidence, PHOTOS[0]) == [(0.25, 0.5, 0.1, 0.8)]
    assert shown_points([(100.0, 100.0, 10.0, 40.0)], evidence, PHOTOS[1]) == [(0.1, 0.8, 0.25, 0.5)]


@pytest.fixture
def groups(out: Path, kept: Verdicts) -> Groups:
    """The groups of the results."""
    return Groups(Results(out), Answers(kept), References(out))


def test_what_is_taken_out_differs_from_what_stays(groups: Groups) -> None:
    """Photo 3 from its one pair in the group and from the reference; no pair within what is taken out is touched."""
    out = groups.take_out(1, [PHOTOS[2], PHOTOS[3]], "Ada")
    assert {verdict.pair for verdict in out} == {(PHOTOS[0], PHOTOS[2]), (PHOTOS[1], PHOTOS[2])}
    assert {verdict.verdict for verdict in out} == {DIFFERENT}
    for photos in ([], [PHOTOS[number] for number in range(4)], [PHOTOS[5]]):
        with pytest.raises(VerdictError, match=r"choose some|no photo of group 1"):
            groups.take_out(1, photos, "Ada")


def test_two_groups_are_merged_by_their_references(groups: Groups) -> None:
    """One verdict is enough; a group is not merged with itself."""
    merged = groups.merge(1, 2, "Ada")
    assert (merged.pair, merged.verdict) == ((PHOTOS[0], PHOTOS[4]), SAME)
    with pytest.raises(VerdictError, match="itself"):
        groups.merge(2, 2, "Ada")


def test_a_chosen_reference_comes_first(groups: Groups, out: Path) -> None:
    """The last choice counts, also for who opens the folder later; a line that a kill cut short is passed over."""
    groups.choose_reference(1, PHOTOS[2], "Ada")
    groups.choose_reference(1, PHOTOS[3], "Grace")
    groups.choose_reference(2, PHOTOS[5], "Grace")
    file = out / "review" / "references.jsonl"
    file.write_text(file.read_text() + '{"photo": "')
    later = References(out)
    assert later.among([PHOTOS[number] for number in range(4)]) == PHOTOS[3]
    later.choose(PHOTOS[1], [], "Ada")
    assert References(out).among([PHOTOS[1], PHOTOS[3]]) == PHOTOS[1]
    assert groups.photos(2) == [groups._results.photo_of(PHOTOS[number]) for number in (5, 4)]
    with pytest.raises(VerdictError, match="no photo of group 1"):
        groups.choose_reference(1, PHOTOS[4], "Ada")


def test_a_group_says_what_holds_each_photo_and_what_was_answered(groups: Groups, kept: Verdicts) -> None:
    """The strongest pair within the group, an answer on it and the reference, and whether it is at a bridge."""
    say(kept, 0, 1, SAME)
    groups._answers.refresh()
    members = groups.group(1).members
    assert [member.photo.sha256 for member in members] == list(PHOTOS[:4])
    assert [member.link and member.link.row for member in members] == [0, 0, 1, 2]
    assert [member.answer for member in members] == ["", SAME, "", ""]
    assert [member.bridge for member in members] == [False, True, True, False]


def test_a_large_group_has_several_pages(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference stands first on each, and every other photo on one of them."""
    monkeypatch.setattr("neardup.review.page.group.A_PAGE", 2)
    pages = [[member.photo.sha256 for member in groups.group(1, page).members] for page in (0, 1, 2)]
    assert pages == [list(PHOTOS[:3]), [PHOTOS[0], PHOTOS[3]], [PHOTOS[0]]]


def test_groups_with_bridges_come_first_then_the_most_doubtful(tmp_path: Path) -> None:
    """Group 3 is the one that a single link holds together; the second is held by the weaker link."""
    pairs = (
        *((0, 1, 0.99, "link"), (2, 3, 0.7, "link")),
        *((4, 5, 0.99, "link"), (5, 6, 0.99, "link"), (6, 7, 0.99, "link"), (1, 2, 0.5, "review")),
    )
    out = folder_of_results(tmp_path, pairs, {1: (0, 1), 2: (2, 3), 3: (4, 5, 6, 7)})
    with open_verdicts(out) as kept:
        groups = Groups(Results(out), Answers(kept), References(out))
        assert groups.order().tolist() == [3, 2, 1]
        assert groups.named("5.JPG").tolist() == [3]


def test_two_equal_files_are_no_question(tmp_path: Path) -> None:
    """Results that name no contents may propose them as a pair; no answer to that could be stored."""
    archive, out = small_results(tmp_path, groups=1, verified=False)
    results = Results(out)
    (archive / results.path(1)).write_bytes((archive / results.path(0)).read_bytes())
    with open_verdicts(out) as kept:
        asked = [results.contents(number) for number in numbers(Queues(results, kept))]
    assert len(asked) == 2
    assert all(photo != partner for photo, partner in asked)


def test_a_photo_that_was_replaced_is_shown_to_nobody(tmp_path: Path) -> None:
    """Its picture is that of other bytes than the verdict would be about."""
    archive, out = small_results(tmp_path)
    results = Results(out)
    pictures = Pictures(results)
    photo = results.digest(0)
    file = archive / results.path(0)
    file.write_bytes((archive / results.path(1)).read_bytes())
    with pytest.raises(ArchiveError, match="was replaced"):
        pictures.jpeg(photo, 320)
    with pytest.raises(ArchiveError, match="was replaced"):
        pictures.matched_points(results.digest(1), photo)
    file.unlink()
    with pytest.raises(ArchiveError, match=f"{file.name} is gone: run `neardup duplicates` again"):
        pictures.matched_points(results.digest(1), photo)
    file.mkdir()
    with pytest.raises(ArchiveError, match=f"{file.name}: the file cannot be read .*run `neardup duplicates` again"):
        pictures.jpeg(photo, 320)
    pictures.close()
