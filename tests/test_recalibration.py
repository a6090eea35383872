"""A decision fitted again with verdicts: what moves it, what only measures it, and when nothing is done."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_results import write_results
from scipy.special import expit, logit

from neardup.archive.testset import TestPhoto, TestSet
from neardup.decide.bands import Bands, Promise
from neardup.decide.chosen_decision import SHIPPED, decision_for
from neardup.decide.decision import WEAK, Decision
from neardup.decide.probability import CandidatePairs, Regression
from neardup.errors import ArchiveError, VerdictError
from neardup.measure.verified_approaches import SOURCE
from neardup.review.learned.recalibration import (
    LEAST_VERDICTS,
    Run,
    _prepared_photos,
    answers_of,
    drawn_links,
    recalibrate,
    usable_pairs,
)
from neardup.review.learned.refit import (
    MOST_WEIGHT,
    Answered,
    Move,
    Moves,
    asked_weights,
    audited_promise,
    fitted_move,
    moved_bands,
    old_beliefs,
)
from neardup.review.record.draws import random_order
from neardup.review.record.links import Links
from neardup.review.record.verdicts import CANNOT_TELL, DIFFERENT, SAME, SAME_SCENE, Verdict, Verdicts, open_verdicts
from neardup.stages import write_json
from neardup.train.batches import KnownPairs
from neardup.verify.evidence import Evidence

PAIRS = 400
"""Pairs of two photos each that the made run found."""


def photo(number: int, side: int) -> str:
    """A SHA-256 of the made run: the two of a pair in order."""
    return f"{2 * number + side:064x}"


def evidence_of(number: int) -> Evidence:
    """Evidence that agrees more the greater the number is: from nothing to what makes a pair certain."""
    inliers = number // 8
    matched = {"transform": (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)} if inliers else {}
    return Evidence(
        photo(number, 0), photo(number, 1), 300, 200, 300, 200, 300, 300,
        matches=60, inliers=inliers, blurred_inliers=inliers, log_false_alarms=-inliers / 2.0,
        correlation=number / PAIRS, detail=number / PAIRS + 0.1, residual=4 - 3.5 * number / PAIRS,
        coverage_first=number / PAIRS, coverage_second=number / PAIRS, **matched,
    )  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Results of the shipped encoder: pairs from surely different to surely the same."""
    return made_run(tmp_path / "results")


def made_run(out: Path) -> Path:
    """Write such results into a folder."""
    decision = Decision.load(SHIPPED)
    similarity = np.linspace(0.3, 0.95, PAIRS)
    evidence = [evidence_of(number) for number in range(PAIRS)]
    chances = decision.probabilities(similarity, evidence)
    columns = {
        "photo": [f"{number}a.jpg" for number in range(PAIRS)],
        "partner": [f"{number}b.jpg" for number in range(PAIRS)],
        "similarity": similarity.tolist(),
        "kind": ["similar"] * PAIRS,
        "photo_sha256": [photo(number, 0) for number in range(PAIRS)],
        "partner_sha256": [photo(number, 1) for number in range(PAIRS)],
        "probability": chances.tolist(),
        "band": decision.bands.of(chances),
    }
    write_results(out, out, columns, [], evidence, fingerprint=decision.belongs.encoder)
    return out


@pytest.fixture
def kept(out: Path) -> Iterator[Verdicts]:
    """The verdicts of the output folder, none so far."""
    with open_verdicts(out) as verdicts:
        yield verdicts


def said(number: int, answer: str, queue: str = "review", who: str = "Ada") -> Verdict:
    """A verdict on a pair of the run."""
    return Verdict.of(photo(number, 0), photo(number, 1), answer, who=who, queue=queue)


def drawn_in_order(out: Path, *, drawn: int = PAIRS) -> list[int]:
    """The links of the run in the order in which an audit asks them; some are stored as drawn."""
    links = np.flatnonzero(Run.load(out).linked).tolist()
    pairs = [(photo(number, 0), photo(number, 1)) for number in links]
    order = random_order(pairs, "0")
    (out / "review").mkdir(exist_ok=True)
    write_json(
        out / "review" / "audit.json", {"seed": "0", "draws": {"run": {"pairs": [pairs[n] for n in order[:drawn]]}}}
    )
    return [links[place] for place in order]


def doubtful(run: Run, count: int) -> list[int]:
    """The pairs that the review queue asks first."""
    return np.argsort(np.abs(run.log_odds), kind="stable")[:count].tolist()


def answer_strictly(kept: Verdicts, run: Run, count: int, shift: float = 1.2) -> None:
    """Answer the most doubtful pairs as somebody in whose archive the machine is too sure by a shift of log-odds."""
    answers = {number: SAME if run.log_odds[number] > shift else DIFFERENT for number in doubtful(run, count)}
    kept.add_all(said(number, answer) for number, answer in answers.items())


def test_verdicts_move_the_probabilities_towards_what_they_say(out: Path, kept: Verdicts) -> None:
    """A machine that is too sure becomes less sure; log loss out of fold falls, and each pair keeps its rank."""
    run = Run.load(out)
    answer_strictly(kept, run, 240, shift=3.0)
    found = recalibrate(out, kept)
    assert found.decision is not None
    assert found.log_loss < found.log_loss_before
    after = found.moves.of(run.log_odds, run.regression)
    assert float(expit(after[doubtful(run, 40)]).mean()) < 0.4 < float(expit(run.log_odds[doubtful(run, 40)]).mean())
    for kind in Regression:
        own = run.regression == kind
        assert (np.diff(after[own][np.argsort(run.log_odds[own], kind="stable")]) >= 0).all()


def test_duplicates_and_watch_find_the_new_decision(out: Path, kept: Verdicts) -> None:
    """It lies where they look first, belongs to the same encoder, and says what it rests on."""
    run = Run.load(out)
    before = decision_for(out, run.base.belongs.encoder)
    answer_strictly(kept, run, 120)
    found = recalibrate(out, kept)
    after = decision_for(out, run.base.belongs.encoder)
    assert (before, after) == (run.base, found.decision)
    assert after.source == f"{run.base.source}, fitted again with 120 verdicts"
    first = evidence_of(doubtful(run, 1)[0])
    terms = [value for _, value in after.waterfall(0.7, first)]
    assert sum(terms) == pytest.approx(logit(after.probabilities(np.array([0.7]), [first])[0]))


def test_too_few_verdicts_change_nothing(out: Path, kept: Verdicts) -> None:
    """How many are missing is said, of either answer."""
    run = Run.load(out)
    kept.add_all(said(number, DIFFERENT) for number in doubtful(run, 20))
    found = recalibrate(out, kept)
    assert (found.decision, found.missing) == (None, LEAST_VERDICTS - 20)
    assert "20 verdicts to learn from; 10 more are missing" in found.summary
    kept.add_all(said(number, DIFFERENT) for number in doubtful(run, 40))
    assert recalibrate(out, kept).missing == 5
    assert not (out / "decision.json").exists()


def test_without_news_nothing_is_done(out: Path, kept: Verdicts) -> None:
    """Said so; one more verdict is news, and to fit again counts none twice."""
    run = Run.load(out)
    answer_strictly(kept, run, 100)
    first = recalibrate(out, kept)
    written = (out / "decision.json").stat().st_mtime_ns
    again = recalibrate(out, kept)
    assert (again.new, again.facts()["changed"], again.decision) == (False, False, first.decision)
    assert again.summary == "No verdict and no pair is new since the last recalibration: nothing was changed."
    assert (out / "decision.json").stat().st_mtime_ns == written
    kept.add(said(doubtful(run, 101)[-1], CANNOT_TELL))
    third = recalibrate(out, kept)
    assert (third.new, third.moves) == (True, first.moves)


def test_verdicts_that_are_taken_back_move_nothing(out: Path, kept: Verdicts) -> None:
    """With too few left, the decision from before all verdicts is in force again, and that is said."""
    run = Run.load(out)
    answer_strictly(kept, run, 120)
    assert recalibrate(out, kept).decision is not None
    for verdict in kept.current()[3:]:
        kept.withdraw(verdict.id, "Ada")
    found = recalibrate(out, kept)
    assert (found.decision, found.facts()["changed"], found.missing) == (None, True, 27)
    assert found.summary.endswith("The decision from before all verdicts is in force again.")
    assert decision_for(out, run.base.belongs.encoder) == run.base
    assert recalibrate(out, kept).facts()["changed"] is False


def test_a_decision_that_was_taken_back_hides_no_later_one(out: Path, kept: Verdicts) -> None:
    """What `evaluate` fits on the archive's own ground truth afterwards decides."""
    run = Run.load(out)
    answer_strictly(kept, run, 120)
    recalibrate(out, kept)
    for verdict in kept.current():
        kept.withdraw(verdict.id, "Ada")
    assert recalibrate(out, kept).restored
    own = replace(run.base, source=SOURCE)
    own.save(out / "zero-shot" / "decision.json")
    assert decision_for(out, run.base.belongs.encoder) == own


def test_pairs_that_came_since_are_news(out: Path, kept: Verdicts) -> None:
    """Answers on pairs that the run did not hold yet count as soon as it does, without any new verdict."""
    run, table = Run.load(out), out / "duplicates" / "pairs.parquet"
    answer_strictly(kept, run, 120)
    whole = table.read_bytes()
    pq.write_table(pq.read_table(table).slice(0, len(run.row_of) // 2), table)
    first = recalibrate(out, kept)
    table.write_bytes(whole)
    second = recalibrate(out, kept)
    assert (second.new, second.verdicts) == (True, 120)
    assert first.verdicts < 120


def test_probabilities_that_are_no_better_are_not_taken(out: Path, kept: Verdicts) -> None:
    """Answers that are drawn by the machine's own probabilities leave the decision as it is, or nearly so."""
    run, rng = Run.load(out), np.random.default_rng(0)
    for number in doubtful(run, 80):
        kept.add(said(number, SAME if rng.random() < expit(run.log_odds[number]) else DIFFERENT))
    found = recalibrate(out, kept)
    assert found.decision is None or abs(found.moves.matched.shift) < 1
    if found.decision is None:
        assert "no better, and not taken" in found.summary


def test_what_is_no_example_is_left_out_with_its_reason(out: Path, kept: Verdicts) -> None:
    """Audit answers, two exposures, doubts, searches, contradictions, pairs of another run, known ground truth."""
    kept.add_all(
        [
            said(0, SAME), said(1, DIFFERENT, "import"), said(2, SAME, "audit"), said(3, SAME_SCENE),
            said(4, CANNOT_TELL), said(5, SAME, "search"), said(6, SAME), said(6, DIFFERENT, who="Ben"),
            said(PAIRS + 1, SAME), said(8, SAME),
        ]
    )  # fmt: skip
    links, drawn = Links.of(kept.current()), drawn_links(out, kept.history())
    known, reasons = usable_pairs(Run.load(out), links, drawn, frozenset({photo(8, 0), photo(8, 1)}))
    assert known == {(photo(0, 0), photo(0, 1)): True, (photo(1, 0), photo(1, 1)): False}
    assert reasons == {
        "drawn for the audit": 1, "same scene": 1, "undecided": 2, "found by search": 1, "of the ground truth": 1,
        "no candidates of this run": 1,
    }  # fmt: skip


def test_the_ground_truth_counts_once_where_the_decision_rests_on_it(out: Path) -> None:
    """Its photos are left out of such a decision alone: the shipped one knows none of them."""
    TestSet((TestPhoto("a.jpg", "photos/a.jpg", photo(0, 0), 1, 2),)).save(out)
    shipped = Decision.load(SHIPPED)
    assert _prepared_photos(out, replace(shipped, source=SOURCE)) == {photo(0, 0)}
    assert _prepared_photos(out, shipped) == frozenset()


def test_a_link_that_was_drawn_only_measures(out: Path, kept: Verdicts) -> None:
    """Whatever queue it was answered in: it counts for the promise and not for the fit."""
    run = Run.load(out)
    links = drawn_in_order(out)
    kept.add_all(said(number, SAME) for number in links[:20])
    found = recalibrate(out, kept)
    assert (found.verdicts, found.left_out, found.audit.seen) == (0, {"drawn for the audit": 20}, 20)
    # Nor does it count among the pairs that could be asked: answers weigh as if it were not there.
    rest = [number for number in range(PAIRS) if number not in links[1:]]
    pairs = {number: (photo(number, 0), photo(number, 1)) for number in range(PAIRS)}
    known = {pairs[links[0]]: True, pairs[doubtful(run, 1)[0]]: False}
    without = Run(
        run.base, {pairs[number]: row for row, number in enumerate(rest)}, run.log_odds[rest], run.regression[rest]
    )
    drawn = answers_of(run, known, frozenset(pairs[number] for number in links[1:]))
    assert drawn.weights.tolist() == answers_of(without, known, frozenset()).weights.tolist()


def test_the_audit_moves_the_promise_without_any_other_verdict(out: Path, kept: Verdicts) -> None:
    """59 links drawn at random and right show 95 %; the promise then rests on them, and says so."""
    links = drawn_in_order(out, drawn=60)
    kept.add_all(said(number, SAME, "audit") for number in links[:60])
    found = recalibrate(out, kept)
    assert found.decision is not None
    promise = found.decision.bands.precision
    shipped = Decision.load(SHIPPED).bands.precision
    assert (promise.drawn, promise.groups, promise.errors, promise.threshold) == (True, 60, 0, shipped.threshold)
    assert "by 60 links drawn at random" in Decision.load(out / "decision.json").bands.sentence()
    drawn_in_order(out, drawn=61)
    assert recalibrate(out, kept).new  # what is drawn since takes no part in the fit


@pytest.mark.parametrize(
    ("chosen", "answer"), [(slice(-61, -1), SAME), (slice(30), DIFFERENT)], ids=["sure", "doubtful"]
)
def test_answers_that_nobody_drew_at_random_promise_nothing(
    out: Path, kept: Verdicts, chosen: slice, answer: str
) -> None:
    """As from a workbook sorted by doubt: of the surest links all but one are right, or the most doubtful are wrong."""
    kept.add_all(said(number, answer, "import") for number in sorted(drawn_in_order(out))[chosen])
    found = recalibrate(out, kept)
    assert found.decision is None
    assert found.audit.seen < 10


def test_answers_of_an_earlier_run_promise_nothing_of_its_successor(out: Path, kept: Verdicts) -> None:
    """60 of an earlier run's fewer links were answered; of those of today others would have been drawn first."""
    links = drawn_in_order(out)
    earlier = [number for number in links if number > np.median(links)]
    kept.add_all(said(number, SAME, "audit") for number in earlier[:60])
    count = next(place for place, number in enumerate(links) if number not in earlier[:60])
    assert recalibrate(out, kept).audit.seen == count < 10


def test_an_audit_that_refutes_the_promise_takes_the_links_away() -> None:
    """With 20 of 60 wrong at every threshold nothing is linked without review; with 5 of 20 one cannot say."""
    promise = Promise(0.95, 0.9, 0.96, 200, 2, 0)
    audited = [(0.999, number % 3 > 0) for number in range(60)]
    assert audited_promise(promise, audited).threshold is None
    assert audited_promise(promise, [(0.999, number > 0) for number in range(10)]) == promise


def test_an_audit_can_raise_the_threshold() -> None:
    """The errors lie low: the lowest threshold above them that the answers carry is taken."""
    audited = [(0.92, False)] * 5 + [(0.96, True)] * 30 + [(0.99, True)] * 40
    found = audited_promise(Promise(0.95, 0.9, 0.96, 200, 2, 0), audited)
    assert (found.threshold, found.groups, found.errors) == (0.95, 70, 0)


def test_each_threshold_has_a_sample_of_its_own() -> None:
    """A link that nobody answered ends the sample of all thresholds below its probability."""
    audited = [(0.92, True), (0.93, None)] + [(0.96, True)] * 59 + [(0.99, None), (0.99, False)]
    found = audited_promise(Promise(0.95, 0.9, 0.96, 200, 2, 0), audited)
    assert (found.threshold, found.groups, found.errors) == (0.95, 59, 0)


def test_verdicts_of_the_queue_make_no_new_links() -> None:
    """A pair is linked where the old decision would and the new probability is as high as promised."""
    bands = Bands(Promise(0.95, 0.9, 0.96, 200, 2, 0), Promise(0.98, 0.02, 0.985, 300, 0, 0))
    surer, doubter = (Moves(*[Move(shift)] * 3) for shift in (2.0, -2.0))
    assert moved_bands(bands, surer, []).link == pytest.approx(expit(logit(0.9) + 2))
    assert moved_bands(bands, doubter, []).link == 0.9
    assert moved_bands(bands, surer, []).reject == 0.02
    assert moved_bands(bands, doubter, []).reject == pytest.approx(expit(logit(0.02) - 2))


def test_verdicts_on_pairs_without_a_match_link_no_weak_match(tmp_path: Path) -> None:
    """Once a match is too weak to count, it stays so, and the saved decision is the one that was fitted."""
    base = Decision.load(SHIPPED)
    evidence = replace(evidence_of(40), coverage_first=0.3, coverage_second=0.3, correlation=0.0, detail=0.0)
    cosine = next(
        cosine for cosine in np.linspace(0.5, 1, 501).tolist() if base.waterfall(cosine, evidence)[0][0] == WEAK
    )
    pair = CandidatePairs.of(np.zeros((1, 2), dtype=np.int64), np.array([cosine]), [evidence])
    moves = Moves(matched=Move(20.0), unmatched=Move(-20.0))
    bands = moved_bands(replace(base.bands, precision=replace(base.bands.precision, threshold=1e-9)), moves, [])
    moved = replace(base, model=moves.model(base.model), bands=bands)
    [probability], [band], _ = moved.judge(np.array([cosine]), [evidence])
    assert band != "link"
    old = base.model.log_odds(pair), base.model.regression_of(pair)
    assert logit(probability) == pytest.approx(moves.of(*old)[0])
    again = replace(moved, model=moves.model(moved.model))
    assert np.array_equal(again.model.regression_of(pair), old[1])
    assert Decision.load(moved.save(tmp_path / "decision.json")) == moved


def test_without_verdicts_nothing_moves() -> None:
    """What is usual is the prior."""
    nothing = np.empty(0)
    assert fitted_move(nothing, nothing.astype(bool), nothing) == Move(0.0, 1.0)


def test_many_verdicts_find_the_true_move() -> None:
    """Of 4,000 answers by a known shift and stretch both come out, as by an unpenalised regression."""
    rng = np.random.default_rng(1)
    log_odds = rng.normal(0, 3, 4000)
    same = rng.random(4000) < expit(-1.0 + 0.6 * log_odds)
    move = fitted_move(log_odds, same, np.ones(4000))
    assert (move.shift, move.stretch) == (pytest.approx(-1.0, abs=0.15), pytest.approx(0.6, abs=0.05))


def test_weights_make_a_queue_an_even_sample() -> None:
    """The doubtful pairs were asked most: weighted, the mean of what was asked is near that of all pairs."""
    rng = np.random.default_rng(2)
    log_odds = rng.uniform(-3, 3, 3000)
    asked = rng.random(3000) < np.where(np.abs(log_odds) < 1, 0.5, 0.15)
    weights = asked_weights(log_odds, asked)
    chance = expit(log_odds)
    assert np.average(chance[asked] * (1 - chance[asked]), weights=weights) == pytest.approx(
        (chance * (1 - chance)).mean(), abs=0.004
    )
    assert (chance[asked] * (1 - chance[asked])).mean() > (chance * (1 - chance)).mean() + 0.01
    assert weights.sum() < asked.sum()
    one_of_each = asked_weights(np.repeat([0.0, 3.0], [1000, 2]), np.isin(np.arange(1002), (0, 1000)))
    assert one_of_each[0] == pytest.approx(MOST_WEIGHT * one_of_each[1])


def test_held_out_probabilities_know_nothing_of_their_photos() -> None:
    """Pairs that share photos are held out together: what contradicts the rest cannot teach its own number."""
    log_odds, same = np.full(40, 0.1), np.array([True] * 20 + [False] * 20)
    told = np.full(40, Regression.MATCHED)
    answered = Answered(log_odds, told, same, np.ones(40), np.array([0] * 20 + [1] * 20))
    nothing = old_beliefs(np.empty(0), np.empty(0, dtype=np.int64), 100)
    assert (answered.held_out(nothing)[:20] < -1).all()
    assert (answered.held_out(nothing)[20:] > 1).all()


def test_where_nobody_was_asked_the_decision_stays() -> None:
    """Doubtful pairs that all are different take no sure link away."""
    log_odds, told = np.repeat([-5.0, 0.0, 5.0], 100), np.full(300, Regression.MATCHED)
    asked = Answered(np.zeros(60), told[:60], np.zeros(60, dtype=bool), np.ones(60), np.arange(60))
    held = asked.fit(old_beliefs(log_odds, told, 200)).matched
    alone = asked.fit(old_beliefs(np.empty(0), np.empty(0, dtype=np.int64), 200)).matched
    assert held.probability(0.5) < 0.35
    assert held.probability(0.993) > 0.97
    assert alone.probability(0.993) < 0.9


def test_verdicts_teach_training(out: Path, kept: Verdicts) -> None:
    """The pairs that a fit takes, and those of audit and search too, are known pairs of `adapted`."""
    run = Run.load(out)
    answer_strictly(kept, run, 60)
    kept.add(said(399, SAME, "audit"))
    recalibrate(out, kept)
    known = KnownPairs.load(out / "known_pairs.csv")
    assert len(known.same) + len(known.different) == 61
    assert (photo(399, 0), photo(399, 1)) in known.same


def test_results_without_verification_are_refused(out: Path, kept: Verdicts) -> None:
    """In a sentence that says what to run; and so is another encoder's run."""
    table = out / "duplicates" / "pairs.parquet"
    whole = pq.read_table(table)
    pq.write_table(whole.select(["photo", "partner", "similarity", "kind"]), table)
    with pytest.raises(ArchiveError, match="without --no-verify"):
        recalibrate(out, kept)
    pq.write_table(whole, table)
    (out / "duplicates" / "duplicates.json").write_text(json.dumps({"fingerprint": "a" * 64}))
    with pytest.raises(VerdictError, match="no decision belongs to the encoder aaaaaaaaaaaa"):
        recalibrate(out, kept)
