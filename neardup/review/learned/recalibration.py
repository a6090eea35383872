"""The decision of an output folder fitted again with what people said of the pairs that were found there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.special import expit

from neardup.archive.known_pairs import KNOWN_PAIRS
from neardup.archive.testset import TestSet
from neardup.arrays import Bools, Floats, Ints
from neardup.decide.chosen_decision import DECISION, starting_decision
from neardup.decide.decision import Decision, Fingerprints, first_decision
from neardup.decide.probability import CandidatePairs, Regression
from neardup.decide.promises import Audit
from neardup.errors import ArchiveError, VerdictError
from neardup.measure.verified_approaches import SOURCE
from neardup.review.learned.refit import Answered, Moves, asked_weights, moved_bands, old_beliefs
from neardup.review.record.draws import random_order, read_draws
from neardup.review.record.figures import verdict_figures
from neardup.review.record.links import Links, Pair, save_known_pairs
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict, Verdicts, pair_of
from neardup.search.exact_copies import COPY, KINDS
from neardup.stages import Stage, digest_of, write_json
from neardup.verify.store import EVIDENCE, read_evidence, read_facts, read_results
from neardup.words import counted

RECALIBRATE_STEP = 3
"""Version of the step; raised when its result changes for equal verdicts."""
LEARNT_FROM = ("review", "import")
"""Queues whose verdicts a decision is fitted with: what the machine asked, on the page or in a workbook.

Verdicts on the hits of a search are a sample of nothing, and the audit only measures.
"""
LEAST_VERDICTS = 30
"""Least verdicts for fitting two numbers: with fewer, the shift is uncertain by more than one log-odds."""
LEAST_OF_EACH = 5
"""Least verdicts "same", and least verdicts "different", for fitting anything."""
FOLDER = "recalibration"
"""Folder, in the output folder, of the last recalibration's results and decision."""


@dataclass(frozen=True)
class Run:
    """The pairs that `duplicates` found, as a decision is fitted again on them.

    Attributes:
        base: the decision before any verdict: that of the archive's ground truth, or the shipped one.
        row_of: pair → its row in the two columns.
        log_odds: float64 (m,), by `base`.
        regression: int64 (m,), the `Regression` of `base` that each pair goes by.
    """

    base: Decision
    row_of: Mapping[Pair, int]
    log_odds: Floats
    regression: Ints

    @classmethod
    def load(cls, out: Path) -> "Run":
        """Read pairs and evidence of an output folder, and find the decision that they belong to.

        Raises:
            ArchiveError: nothing was found there, or nothing was verified.
            VerdictError: no decision belongs to the encoder.
        """
        folder = out / "duplicates"
        table = folder / "pairs.parquet"
        pairs = read_results(table, out, ["similarity", "kind"], ["photo_sha256", "partner_sha256"])
        if "photo_sha256" not in pairs.column_names:
            raise ArchiveError(f"the pairs in {table} were not verified: run `neardup duplicates` without --no-verify")
        encoder = str(read_facts(out).get("fingerprint", ""))
        base = starting_decision(out, encoder)
        if base is None:
            raise VerdictError(
                f"no decision belongs to the encoder {encoder[:12]} of {folder}: run `neardup duplicates` again, "
                "for the shipped encoder may be another one since, or `neardup evaluate` first, which fits one on your "
                "ground truth"
            )
        similarity: dict[Pair, float] = {}
        for row in pairs.to_pylist():
            if row["kind"] != KINDS[COPY]:
                similarity.setdefault(pair_of(row["photo_sha256"], row["partner_sha256"]), row["similarity"])
        known = read_evidence(folder / EVIDENCE)
        places = np.zeros((len(similarity), 2), dtype=np.int64)
        evidence = [known.get(pair) for pair in similarity]
        pairs = CandidatePairs.of(places, np.array(list(similarity.values()), float), evidence)
        row_of = {pair: row for row, pair in enumerate(similarity)}
        return cls(base, row_of, base.model.log_odds(pairs), base.model.regression_of(pairs))

    @property
    def digest(self) -> str:
        """Digest of the pairs and of their evidence, whatever their order."""
        pairs = sorted(self.row_of)
        rows = [self.row_of[pair] for pair in pairs]
        return digest_of(pairs, self.log_odds[rows].tolist(), self.regression[rows].tolist())

    @property
    def linked(self) -> Bools:
        """The pairs that the decision links, bool (m,)."""
        return np.asarray((self.regression == Regression.MATCHED) & (expit(self.log_odds) >= self.base.bands.link))


@dataclass(frozen=True)
class Recalibration:
    """The result of fitting a decision again.

    Attributes:
        decision: the new decision; None where the verdicts change nothing.
        base: fingerprint of the decision before any verdict.
        belongs: the encoder and the verifier that both belong to.
        verdicts: number of verdicts in the fit.
        left_out: reason why verdicts do not count for the fit → how many.
        missing: how many more verdicts a fit needs, including those needed of each kind; 0 if it was fitted.
        moves: how the log-odds were moved.
        log_loss: of the verdicts' pairs by the new decision, out of fold; None where it was not fitted.
        log_loss_before: of the same pairs by the old decision.
        audit: what was said of the links that `base` makes, as far as they are a sample drawn at random.
        figures: counts of all verdicts, agreement and audit, for MLflow.
        bands: of the new decision, in words.
        restored: whether an earlier recalibration moved the decision and this one does not: `base` is in force again.
        new: whether verdicts or pairs have changed since the last time.
    """

    decision: Decision | None
    base: str
    belongs: Fingerprints
    verdicts: int
    left_out: Mapping[str, int]
    missing: int
    moves: Moves
    log_loss: float | None
    log_loss_before: float | None
    audit: Audit
    figures: Mapping[str, float]
    bands: str
    restored: bool = False
    new: bool = True

    @property
    def summary(self) -> str:
        """What was done and why, in plain words."""
        if not self.new:
            return "No verdict and no pair is new since the last recalibration: nothing was changed."
        rest = ", ".join(f"{reason} {count}" for reason, count in self.left_out.items())
        fitted = f"{counted(self.verdicts, 'verdict')} to learn from" + (f" (not counted: {rest})" if rest else "")
        lines = [f"{fitted}; {self.missing} more are missing, of each answer at least {LEAST_OF_EACH}."]
        if not self.missing:
            losses = f"log loss {self.log_loss_before:.4f} before and {self.log_loss:.4f} after, out of fold"
            better = self.log_loss is not None and self.log_loss < (self.log_loss_before or 0)
            taken = (
                "the new probabilities are taken" if better else "the new probabilities are no better, and not taken"
            )
            lines = [f"{fitted}: {losses}; {taken}."]
        if self.audit.seen:
            lines.append(self.audit.sentence())
        unchanged = (
            "The decision from before all verdicts is in force again." if self.restored else "Nothing was changed."
        )
        lines.append(self.bands if self.decision else unchanged)
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """What the summary says, for machines."""
        return {
            "summary": self.summary,
            "new": self.new,
            "changed": self.new and (self.decision is not None or self.restored),
            "decision": self.decision.fingerprint if self.decision else None,
            "before": self.base,
            "belongs": asdict(self.belongs),
            "verdicts": self.verdicts,
            "left_out": dict(self.left_out),
            "missing": self.missing,
            "moves": asdict(self.moves),
            "log_loss": self.log_loss,
            "log_loss_before": self.log_loss_before,
            "audit": asdict(self.audit) | {"bound": self.audit.bound},
            "figures": dict(self.figures),
        }

    def metrics(self) -> dict[str, float]:
        """The figures that MLflow keeps."""
        losses = {"log loss": self.log_loss, "log loss before": self.log_loss_before}
        moves = {"shift": self.moves.matched.shift, "stretch": self.moves.matched.stretch}
        defined = {name: value for name, value in losses.items() if value is not None}
        return {**self.figures, "verdicts fitted": float(self.verdicts), **moves, **defined}


def recalibrate(out: Path, verdicts: Verdicts) -> Recalibration:
    """Fit the decision of an output folder again with the verdicts, if there are new ones.

    The fit always starts from the decision before any verdict and uses all verdicts in force, so that none counts
    twice. Verdicts of the review queue and of workbooks move the probabilities, weighted for how they were chosen, if
    this improves the out-of-fold log loss. Links that the audit drew take no part in the fit: they alone determine what
    may be promised of the links. Where the decision rests on the archive's ground truth, verdicts on two of its photos
    are left out, because the decision was fitted on these pairs.

    Writes `decision.json`, which `duplicates`, `watch` and `search` take before any other of the encoder, the folder
    `recalibration`, and the pairs that training learns from.

    Args:
        out: output folder of `neardup duplicates`.
        verdicts: of that folder, or of a team.

    Raises:
        ArchiveError: nothing was found there, or nothing was verified.
        VerdictError: no decision belongs to the encoder.
    """
    run, current, history = Run.load(out), verdicts.current(), verdicts.history()
    drawn, links, seed = drawn_links(out, history), Links.of(current), read_draws(out).get("seed", "")
    answers = [(verdict.id, verdict.verdict) for verdict in current]
    prepared, moved = _prepared_photos(out, run.base), (out / DECISION).is_file()
    key = digest_of(RECALIBRATE_STEP, run.base.fingerprint, run.digest, answers, sorted(drawn), seed, sorted(prepared))
    stage = Stage(out, FOLDER, key)
    fitted = _fitted(run, links, history, drawn, prepared, seed)
    if stage.done():
        return replace(fitted, new=False)
    if history:
        save_known_pairs(out / KNOWN_PAIRS, history, links)
    if fitted.decision is None and not moved and fitted.missing:
        return fitted
    restored = fitted.decision is None and moved and _differs(out / DECISION, run.base)
    fitted = replace(fitted, restored=restored)
    written = [out / FOLDER / "recalibration.json"]
    decisions = out / FOLDER / DECISION, out / DECISION
    if fitted.decision:
        written += [fitted.decision.save(path) for path in decisions]
    else:  # a copy of the starting decision would hide one that is fitted on a ground truth later
        for path in decisions:
            path.unlink(missing_ok=True)
    write_json(written[0], fitted.facts())
    stage.finish(written)
    return fitted


def _differs(path: Path, base: Decision) -> bool:
    """Whether a file holds another decision than the one before any verdict."""
    kept = first_decision([path], base.belongs.encoder)
    return kept is None or kept.fingerprint != base.fingerprint


def _fitted(
    run: Run, links: Links, history: Sequence[Verdict], drawn: frozenset[Pair], prepared: frozenset[str], seed: str
) -> Recalibration:
    """Fit a run's decision again, without writing anything."""
    known, reasons = usable_pairs(run, links, drawn, prepared)
    answered = answers_of(run, known, drawn)
    kinds = [int(answered.same.sum()), int((~answered.same).sum())]
    missing = max(LEAST_VERDICTS - sum(kinds), sum(max(0, LEAST_OF_EACH - kind) for kind in kinds), 0)
    moves, before, after = Moves(), None, None
    if not missing:
        beliefs = old_beliefs(run.log_odds, run.regression, run.base.groups)
        before, after = answered.log_loss(answered.log_odds), answered.log_loss(answered.held_out(beliefs))
        moves = answered.fit(beliefs) if after < before else moves
    audited = audited_links(run, links, seed)
    chances = [(float(expit(moves.matched.of(run.log_odds[[row]])[0])), right) for row, right in audited]
    base = run.base
    bands = moved_bands(base.bands, moves, chances)
    decision = None
    if (moves, bands) != (Moves(), base.bands):
        source = f"{base.source}, fitted again with {len(known)} verdicts"
        decision = replace(base, model=moves.model(base.model), bands=bands, source=source)
    audit = Audit.of((right for _, right in audited), base.bands.precision.share)
    figures = verdict_figures(history, links, audit)
    fits = base.fingerprint, base.belongs, len(known), reasons, missing, moves, after, before
    return Recalibration(decision, *fits, audit, figures, bands.sentence())


def usable_pairs(
    run: Run, links: Links, drawn: frozenset[Pair], prepared: frozenset[str]
) -> tuple[dict[Pair, bool], dict[str, int]]:
    """Select the pairs to learn from, with whether they are the same, and count the others by reason.

    Args:
        run: the pairs that were found.
        links: what the verdicts in force come to.
        drawn: links that the audit drew.
        prepared: photos of the ground truth that the decision rests on.
    """
    certain = links.certain
    known, reasons = dict[Pair, bool](), Counter[str]()
    for pair in sorted(links.answered):
        verdict = links.decided.get(pair)
        if verdict is None or pair not in certain:
            reasons["undecided"] += 1
        elif verdict.verdict not in {SAME, DIFFERENT}:
            reasons[verdict.verdict] += 1
        elif pair in drawn:
            reasons["drawn for the audit"] += 1
        elif verdict.queue not in LEARNT_FROM:
            reasons[f"found by {verdict.queue}"] += 1
        elif prepared.issuperset(pair):
            reasons["of the ground truth"] += 1
        elif pair not in run.row_of:
            reasons["no candidates of this run"] += 1
        else:
            known[pair] = verdict.verdict == SAME
    return known, dict(reasons)


def answers_of(run: Run, known: Mapping[Pair, bool], drawn: frozenset[Pair]) -> Answered:
    """The verdicts as a fit takes them, weighted among all pairs of the run that the audit did not draw."""
    open_to_ask = np.ones(len(run.log_odds), dtype=bool)
    open_to_ask[[run.row_of[pair] for pair in drawn if pair in run.row_of]] = False
    rows = np.array([run.row_of[pair] for pair in known], dtype=np.int64)
    judged = np.zeros(len(run.log_odds), dtype=bool)
    judged[rows] = True
    weights = np.zeros(len(run.log_odds))
    weights[judged] = asked_weights(run.log_odds[open_to_ask], judged[open_to_ask])
    same = np.array(list(known.values()), dtype=bool)
    return Answered(run.log_odds[rows], run.regression[rows], same, weights[rows], _connected(list(known)))


def _connected(pairs: Sequence[Pair]) -> Ints:
    """The number of the set of photos that each pair belongs to, int64 (n,): pairs that share a photo share it."""
    sets = DisjointSet([photo for pair in pairs for photo in pair])
    for first, second in pairs:
        sets.merge(first, second)
    _, numbers = np.unique([sets[first] for first, _ in pairs], return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def drawn_links(out: Path, history: Sequence[Verdict]) -> frozenset[Pair]:
    """All links that an audit of the output folder ever drew or asked, whatever was said of them."""
    draws = read_draws(out).get("draws", {}).values()
    listed = {(first, second) for draw in draws for first, second in draw["pairs"]}
    return frozenset(listed | {verdict.pair for verdict in history if verdict.queue == "audit"})


def audited_links(run: Run, links: Links, seed: str) -> list[tuple[int, bool | None]]:
    """All links of a run but those that nobody can tell, by their random numbers: the row, and whether it is right.

    Args:
        run: the pairs that were found.
        links: what the verdicts in force come to; a link of which they are not certain has None.
        seed: of the folder's audit; where it is empty nothing was ever drawn, and no link is given.
    """
    linked = run.linked
    pairs = [pair for pair, row in run.row_of.items() if linked[row]] if seed else []
    in_order = (pairs[place] for place in random_order(pairs, seed))
    return [(run.row_of[pair], right) for pair, right in links.judged(in_order)]


def _prepared_photos(out: Path, base: Decision) -> frozenset[str]:
    """The photos of the ground truth that a decision rests on; none where it rests on others."""
    if base.source != SOURCE or not (out / "test_set.csv").is_file():
        return frozenset()
    return frozenset(photo.sha256 for photo in TestSet.load(out).photos)
