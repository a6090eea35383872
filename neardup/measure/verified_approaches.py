"""Measure approaches again, with each query's nearest photos verified and ranked by out-of-fold probability."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from neardup.archive.testset import TestSet
from neardup.arrays import Bools, Floats, Ints
from neardup.decide.bands import PRECISION, RECALL
from neardup.decide.chosen_decision import DECISION
from neardup.decide.decision import Decision, Fingerprints, decide
from neardup.decide.groups import DecidedPairs, group_pairs
from neardup.decide.probability import CandidatePairs, out_of_fold, scored_square
from neardup.decide.reliability import ReliabilityBin, reliability_bins
from neardup.errors import ArchiveError
from neardup.graphs import components
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import VERIFIED, Comparison, VerifiedFigures, compare
from neardup.measure.evaluate import FOLDS, Distractors, Evaluation
from neardup.measure.metrics import b_cubed, harmonic
from neardup.measure.plots import reliability
from neardup.measure.scored import ScoredTestSet
from neardup.pages import QUALITY
from neardup.settings.schema import EVALUATED
from neardup.stages import STATE, replacing, write_json
from neardup.verify.candidates import CANDIDATES
from neardup.verify.evidence import Evidence
from neardup.verify.store import EVIDENCE, EvidenceByPair, read_evidence, write_evidence
from neardup.verify.verifier import Verifier, evidence_fingerprint, verifier_fingerprint
from neardup.words import typed

FIGURES = "verified.json"
"""Name of an approach's figures with its nearest pairs verified."""
FILES = (DECISION, FIGURES, "verified.md", "reliability.png")
"""Names of the files that are written for every verified approach."""
SOURCE = "the archive's own ground truth"
"""The source of an experiment's decision, in words."""
PROMISES = PRECISION, RECALL
"""Default promises, 0 to 1: precision of links, and recall of pairs that are not rejected."""
TELLING = {True: 4, False: 2}
"""Whether pairs are of one group → how many pairs that show what verification changes are drawn."""
UNKNOWN_FALSE_LINKS = (
    "How many photos of a whole collection have a false link is not known from a test set: `neardup duplicates "
    "--decoys FOLDER` bounds it by photographs that surely are not in it, and the audit of `neardup review` by answers."
)
"""What the ground truth cannot show, in words."""


@dataclass(frozen=True)
class VerifiedEvaluation(Evaluation):
    """An approach judged by probability in place of similarity.

    Attributes:
        scores: float64 (n, n), symmetric: out-of-fold probabilities of the candidates, with all other pairs below them.
    """

    scores: Floats = field(kw_only=True)

    @cached_property
    def scored(self) -> ScoredTestSet:
        """The test set with the probabilities of its pairs and the thresholds calibrated on them."""
        return ScoredTestSet.of(self.scores, self.groups, FOLDS, self.seed)


@dataclass(frozen=True)
class Verified:
    """An approach with and without verification.

    Attributes:
        comparison: the vectors alone first, then verified.
        decision: decision fitted on all candidates; its figures are out of fold.
        candidates: number of pairs that were verified.
        recall: share of the true pairs that are among the candidates.
        bins: reliability of the candidates' probabilities, and of those from the vectors alone.
        telling: evidence of pairs that show what verification changes.
        groups: method of grouping → B³ F1, and the shares of photos that are over-merged and over-split.
    """

    comparison: Comparison
    decision: Decision
    candidates: int
    recall: float
    bins: tuple[tuple[ReliabilityBin, ...], tuple[ReliabilityBin, ...]]
    telling: tuple[Evidence, ...]
    groups: Mapping[str, tuple[float, float, float]]

    @property
    def summary(self) -> str:
        """Candidates, reliability, bands, and what they do not show of the collection, one sentence per line."""
        by_probability = self.comparison.evaluations[1]
        called, threshold = "none is", by_probability.threshold
        if np.isfinite(threshold):
            called = f"those of a probability of {math.floor(10_000 * threshold) / 100:g} % or more are"
        return (
            f"Of each photo the {CANDIDATES} nearest were verified, and what matches the same photo: "
            f"{self.candidates:,} pairs, which hold {100 * self.recall:.1f} % of the true ones; "
            f"{called} called near-duplicates.\n"
            f"{self.decision.reliability.sentence()}\n{self.decision.bands.sentence()}\n{self._of_groups}\n"
            f"{UNKNOWN_FALSE_LINKS}"
        )

    @property
    def _of_groups(self) -> str:
        """Say in words how good the groups are."""
        ways = "; ".join(
            f"{way} {100 * f1:.2f} % ({100 * merged:.2f}, {100 * split:.2f})"
            for way, (f1, merged, split) in self.groups.items()
        )
        return f"B³ F1 of the groups, and in brackets the photos over-merged and over-split: {ways}."

    @property
    def figures(self) -> VerifiedFigures:
        """Figures, gains and summary of the verified approach, as the comparison of several approaches shows them."""
        name = self.comparison.approaches[1]
        figures = {metric: row[name] for metric, row in self.comparison.figures.items()}
        gains = {metric: row[name] for metric, row in self.comparison.differences.items()}
        return VerifiedFigures(figures, gains, self.summary)

    @property
    def text(self) -> str:
        """The table and the summary, for people."""
        return f"{self.comparison.markdown()}\n{self.summary}"

    def facts(self) -> dict[str, object]:
        """The figures after verification as dicts and numbers, for machines."""
        names = ("b3_f1", "over_merged", "over_split")
        groups = {way: dict(zip(names, figures, strict=True)) for way, figures in self.groups.items()}
        return {**self.figures.plain, "candidates": self.candidates, "recall": self.recall, "groups": groups}


def verify_approaches(
    out: Path, say: Callable[[str], object], max_pixels: int = MAX_PIXELS, promises: tuple[float, float] = PROMISES
) -> dict[str, Verified]:
    """Verify the test set's candidates by each evaluated approach, and keep a decision for each.

    Args:
        out: output folder of an experiment, or of `evaluate`.
        say: called with sentences about the progress.
        max_pixels: larger images are refused.
        promises: precision of links, and recall of pairs that are not rejected.

    Returns:
        Approach → its results.

    Raises:
        ArchiveError: no approach was evaluated there.
        ConfigError: the ground truth is too small to fit a probability.
    """
    names = [name for name in EVALUATED if (out / name / "evaluation.npz").is_file()]
    if not names:
        raise ArchiveError(f"{out} holds no evaluated approach: run `neardup evaluate --out {typed(out)}` first")
    verified = {}
    for name in names:
        say(f"verifying {name}")
        verified[name] = verify_folder(out, out / name, max_pixels, promises)
    return verified


def verify_folder(out: Path, folder: Path, max_pixels: int, promises: tuple[float, float] = PROMISES) -> Verified:
    """Verify the test set's candidates by one evaluated approach.

    Writes the `FILES` and some pictures into the approach's folder; evidence and keypoints are kept in the output
    folder, so that a further approach or run verifies only what is new.

    Args:
        out: output folder, which holds the test set.
        folder: folder of the approach.
        max_pixels: larger images are refused.
        promises: precision of links, and recall of pairs that are not rejected.

    Raises:
        ArchiveError: the approach was evaluated with another test set.
        ConfigError: the ground truth is too small to fit a probability.
    """
    test_set, path = TestSet.load(out), out / STATE / EVIDENCE
    name_of = {photo.sha256: photo.name for photo in test_set.photos}
    verifier = Verifier.of_folder(out / "test_dataset", name_of, out / STATE, max_pixels)
    with verifier:
        verified, known = _verify(folder, test_set, verifier, read_evidence(path, evidence_fingerprint()), promises)
    write_evidence(path, known.values(), evidence_fingerprint())
    _write(folder, verified)
    for number, evidence in enumerate(verified.telling, 1):
        if picture := verifier.picture(evidence, (name_of[evidence.first], name_of[evidence.second])):
            with replacing(folder / f"explained_{number}.jpg") as partial:
                picture.convert("RGB").save(partial, "JPEG", quality=QUALITY)
    return verified


def _verify(
    folder: Path, test_set: TestSet, verifier: Verifier, known: EvidenceByPair, promises: tuple[float, float]
) -> tuple[Verified, EvidenceByPair]:
    """Verify one approach; return its results, and all evidence known by then."""
    by_vectors = Evaluation.load(folder)
    if by_vectors.distractors.names:
        # Distractors are not verified and could never outrank a candidate, so that both columns leave them out.
        by_vectors = replace(by_vectors, distractors=Distractors())
    sha_of = {photo.name: photo.sha256 for photo in test_set.photos}
    if unknown := [name for name in by_vectors.names if name not in sha_of]:
        raise ArchiveError(f"{folder} was evaluated with {unknown[0]}, which test_set.csv lacks: evaluate anew")
    photos = [sha_of[name] for name in by_vectors.names]
    rows, evidence = verifier.verify_nearest(by_vectors.vectors, photos, known)
    known = known | {(found.first, found.second): found for found in evidence if found}
    similarities, group_of = by_vectors.scored.similarities, by_vectors.scored.group_of
    pairs = CandidatePairs.of(rows, similarities[rows[:, 0], rows[:, 1]], evidence)
    held_out = out_of_fold(pairs, group_of, FOLDS, by_vectors.seed)
    belongs = Fingerprints(by_vectors.fingerprint, verifier_fingerprint())
    decision = decide(pairs, group_of, held_out, belongs, SOURCE, *promises)
    by_probability = VerifiedEvaluation(
        f"{by_vectors.approach}{VERIFIED}",
        by_vectors.fingerprint,
        by_vectors.names,
        by_vectors.groups,
        by_vectors.vectors,
        by_vectors.seed,
        scores=scored_square(similarities, pairs, by_cosine(pairs, held_out.probabilities, held_out.counted)),
    )
    same = group_of[pairs.left] == group_of[pairs.right]
    recall = float(same.sum() / max(1, by_vectors.scored.pairs.same.sum()))
    bins = reliability_bins(held_out.probabilities, same), reliability_bins(held_out.similarity, same)
    telling = _telling(pairs.cosines[:, 0], evidence, same, group_of[pairs.left])
    names = dict(enumerate(photos))
    decided = DecidedPairs(pairs.left, pairs.right, held_out.probabilities, evidence, names, held_out.counted)
    groups = _grouped_by(by_probability.scored, decided)
    return Verified(compare([by_vectors, by_probability]), decision, len(rows), recall, bins, telling, groups), known


def _grouped_by(scored: ScoredTestSet, pairs: DecidedPairs) -> dict[str, tuple[float, float, float]]:
    """Compute B³ F1 and the shares of over-merged and over-split photos for three methods of grouping.

    Correlation clustering weighs all pairs and their geometry. Complete linkage joins photos of which every pair
    reaches the calibrated threshold, connected components photos linked by any such pairs.
    """
    count = len(scored.group_of)
    ends = scored.pairs.i[scored.called], scored.pairs.j[scored.called]
    ways = {
        "correlation clustering": group_pairs(count, pairs)[0],
        "complete linkage": scored.found_groups,
        "connected components": components(count, *ends),
    }
    shares = {way: b_cubed(np.asarray(groups, dtype=np.int64), scored.group_of) for way, groups in ways.items()}
    return {
        way: (
            harmonic(float(precision.mean()), float(recall.mean())),
            float((precision < 1).mean()),
            float((recall < 1).mean()),
        )
        for way, (precision, recall) in shares.items()
    }


def _telling(cosines: Floats, evidence: Sequence[Evidence | None], same: Bools, group_of: Ints) -> tuple[Evidence, ...]:
    """Choose pairs that show what verification changes: true ones that look unlike, and false ones that look alike.

    Args:
        cosines: float64 (m,), cosine of each candidate.
        evidence: evidence of each candidate.
        same: bool (m,), whether each is of one group.
        group_of: int64 (m,), group of a photo of each; one pair per group is taken.
    """
    pairs: list[Evidence] = []
    for true_pairs, matched, order in ((True, True, cosines), (False, False, -cosines)):
        seen_groups: set[int] = set()
        for place in np.argsort(order, kind="stable").tolist():
            item, group = evidence[place], int(group_of[place])
            if item is None or bool(same[place]) != true_pairs or item.matched != matched or group in seen_groups:
                continue
            seen_groups.add(group)
            pairs.append(item)
            if len(seen_groups) == TELLING[true_pairs]:
                break
    return tuple(pairs)


def by_cosine(pairs: CandidatePairs, probabilities: Floats, counted: Bools) -> Floats:
    """Reorder the out-of-fold probabilities of unconfirmed pairs by their cosine.

    A pair without a match that counts has only its cosine, which each fold's model turns into a slightly different
    number, so that of two such pairs in two folds the less similar one could rank first. The same numbers are assigned
    anew.

    Args:
        pairs: the candidates.
        probabilities: float64 (m,), out of fold.
        counted: bool (m,), whether geometry finds a match that counts.
    """
    ranked = probabilities.copy()
    for kind in (pairs.tellable, ~pairs.tellable):
        places = np.flatnonzero(~counted & kind)
        order = np.argsort(pairs.cosines[places, 0], kind="stable")
        ranked[places[order]] = np.sort(probabilities[places])
    return ranked


def _write(folder: Path, verified: Verified) -> None:
    """Write an approach's decision, figures, table and reliability plot."""
    verified.decision.save(folder / DECISION)
    with replacing(folder / "verified.md") as partial:
        partial.write_text(f"{verified.text}\n", encoding="utf-8")
    write_json(folder / FIGURES, verified.facts())
    reliability(*verified.bins, folder / "reliability.png")
    for former in folder.glob("explained_*.jpg"):
        former.unlink()


def verified_figures(folder: Path) -> VerifiedFigures | None:
    """Read the figures of a verified approach from its folder; None where there are none."""
    path = folder / FIGURES
    return VerifiedFigures.of(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
