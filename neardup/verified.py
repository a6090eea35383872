"""Approaches measured once more, with each query's nearest photos verified and ranked by probability, out of fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from neardup.archive.testset import TestSet
from neardup.arrays import Floats
from neardup.decide.decision import Belongs, Decision, decide, first_decision
from neardup.decide.probability import CandidatePairs, out_of_fold, scored_square
from neardup.errors import ArchiveError
from neardup.images import MAX_PIXELS, read_file
from neardup.measure.comparison import Comparison, compare, plain
from neardup.measure.evaluate import FOLDS, Distractors, Evaluation
from neardup.measure.scored import ScoredTestSet
from neardup.settings.schema import APPROACHES
from neardup.stages import STATE, replacing, write_json
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.store import KeypointCache, Known, read_evidence, write_evidence
from neardup.verify.verifier import CANDIDATES, Verifier, candidate_pairs, verifier_fingerprint

DECISION = "decision.json"
"""Name of an approach's decision, beside its `metrics.json`."""
EVIDENCE = "evidence.parquet"
"""Name of the evidence of the test set's pairs, in the output folder's state: it belongs to no encoder."""
SOURCE = "the archive's own ground truth"
"""What such a decision rests on, in words."""


@dataclass(frozen=True)
class VerifiedEvaluation(Evaluation):
    """An approach judged by probability in place of similarity.

    Attributes:
        scores: float64 (n, n), symmetric: probabilities of the candidates out of fold, all others below them.
    """

    scores: Floats = field(kw_only=True)

    @cached_property
    def scored(self) -> ScoredTestSet:
        """Scores, pairs and calibrated thresholds."""
        return ScoredTestSet.of(self.scores, self.groups, FOLDS, self.seed)


@dataclass(frozen=True)
class Verified:
    """An approach with and without verification.

    Attributes:
        comparison: the vectors alone first, then verified.
        decision: fitted on all candidates; its figures are out of fold.
        candidates: pairs that were verified.
        recall: share of the true pairs that are among them.
    """

    comparison: Comparison
    decision: Decision
    candidates: int
    recall: float

    @property
    def summary(self) -> str:
        """Candidates, reliability and bands, as sentences."""
        return (
            f"Of each photo the {CANDIDATES} nearest were verified: {self.candidates:,} pairs, which hold "
            f"{100 * self.recall:.1f} % of the true ones.\n{self.decision.reliability.sentence()}\n"
            f"{self.decision.bands.sentence()}"
        )

    @property
    def text(self) -> str:
        """The table and the summary, for people."""
        return f"{self.comparison.markdown()}\n{self.summary}"

    def facts(self) -> dict[str, object]:
        """The same for machines: metric → approach → figure, and what it rests on."""
        return {
            "figures": plain(self.comparison.figures),
            "candidates": self.candidates,
            "recall": self.recall,
            "summary": self.summary,
        }


def verify_approaches(out: Path, say: Callable[[str], object], max_pixels: int = MAX_PIXELS) -> dict[str, Verified]:
    """Verify the test set's candidates by each evaluated approach, and keep a decision for each.

    Writes `decision.json`, `verified.json` and `verified.md` into each approach's folder; evidence and keypoints are
    kept, so that a further approach or run verifies only what is new.

    Args:
        out: output folder of an experiment, or of `evaluate`.
        say: is told what is done.
        max_pixels: larger images are refused.

    Returns:
        Approach → what was measured.

    Raises:
        ArchiveError: no approach was evaluated there.
        ConfigError: the ground truth bears no probability.
    """
    names = [name for name in (*APPROACHES, "tuned") if (out / name / "evaluation.npz").is_file()]
    if not names:
        raise ArchiveError(f"{out} holds no evaluated approach: run `neardup evaluate --out {out}` first")
    test_set, path = TestSet.load(out), out / STATE / EVIDENCE
    file_of = {photo.sha256: out / "test_dataset" / photo.name for photo in test_set.photos}
    verifier = Verifier(lambda photo: read_file(file_of[photo]), KeypointCache(out / STATE / "keypoints"), max_pixels)
    known = read_evidence(path, verifier_fingerprint())
    found = {}
    for name in names:
        say(f"verifying {name}")
        found[name], known = _verify(out / name, test_set, verifier, known)
        write_evidence(path, known.values(), verifier_fingerprint())
    return found


def _verify(folder: Path, test_set: TestSet, verifier: Verifier, known: Known) -> tuple[Verified, Known]:
    """Verify one approach; returns what was measured, and all evidence that is known by then."""
    alone = Evaluation.load(folder)
    if alone.distractors.names:
        # A distractor that is not verified could outrank no candidate: both columns do without them.
        alone = replace(alone, distractors=Distractors())
    sha_of = {photo.name: photo.sha256 for photo in test_set.photos}
    if unknown := [name for name in alone.names if name not in sha_of]:
        raise ArchiveError(f"{folder} was evaluated with {unknown[0]}, which test_set.csv lacks: evaluate anew")
    photos = [sha_of[name] for name in alone.names]
    rows = candidate_pairs(alone.vectors, -1.0)
    asked = [ordered(photos[left], photos[right]) for left, right in rows.tolist()]
    known = known | verifier.verify(asked, known)
    evidence = [known.get(pair) for pair in asked]
    similarities, group_of = alone.scored.similarities, alone.scored.group_of
    pairs = CandidatePairs.of(rows, similarities[rows[:, 0], rows[:, 1]], evidence)
    held_out = out_of_fold(pairs, group_of, FOLDS, alone.seed)
    decision = decide(pairs, group_of, held_out, Belongs(alone.fingerprint, verifier_fingerprint()), SOURCE)
    judged = VerifiedEvaluation(
        f"{alone.approach}, verified",
        alone.fingerprint,
        alone.names,
        alone.groups,
        alone.vectors,
        alone.seed,
        scores=scored_square(similarities, pairs, by_cosine(pairs, held_out.probabilities, evidence)),
    )
    same = group_of[pairs.left] == group_of[pairs.right]
    recall = float(same.sum() / max(1, alone.scored.pairs.same.sum()))
    verified = Verified(compare([alone, judged]), decision, len(rows), recall)
    _write(folder, verified)
    return verified, known


def by_cosine(pairs: CandidatePairs, probabilities: Floats, evidence: Sequence[Evidence | None]) -> Floats:
    """Probabilities out of fold with those of unconfirmed pairs in the order of their cosine.

    A pair without a match has nothing but its cosine, and each fold's model turns that into a slightly other number: of
    two such pairs in two folds the less similar one could rank first. Their numbers stay, and are dealt out anew.

    Args:
        pairs: the candidates.
        probabilities: float64 (m,).
        evidence: of each pair.
    """
    ranked = probabilities.copy()
    matched = np.array([found is not None and found.matched for found in evidence], dtype=bool)
    for kind in (pairs.tellable, ~pairs.tellable):
        places = np.flatnonzero(~matched & kind)
        order = np.argsort(pairs.cosines[places, 0], kind="stable")
        ranked[places[order]] = np.sort(probabilities[places])
    return ranked


def _write(folder: Path, verified: Verified) -> None:
    """Write an approach's decision, figures and table."""
    verified.decision.save(folder / DECISION)
    with replacing(folder / "verified.md") as partial:
        partial.write_text(f"{verified.text}\n", encoding="utf-8")
    write_json(folder / "verified.json", verified.facts())


def own_decision(out: Path, encoder: str) -> Decision | None:
    """The decision of an output folder's own ground truth that belongs to an encoder and this verifier, if any.

    Args:
        out: output folder of an experiment.
        encoder: fingerprint of the encoder.
    """
    return first_decision(sorted(out.glob(f"*/{DECISION}")), encoder)
