"""A decision: the fitted probability, its bands, and the encoder and verifier that it belongs to, as one JSON file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.bands import PRECISION, RECALL, Band, Bands, Promise, bands_for
from neardup.decide.features import FEATURES, SIMILARITY
from neardup.decide.logistic import Logistic
from neardup.decide.probability import CandidatePairs, OutOfFold, PairModel, Regression, fit_pairs
from neardup.decide.reliability import Reliability
from neardup.errors import ConfigError
from neardup.settings.schema import EVALUATED
from neardup.stages import digest_of, write_json
from neardup.verify.evidence import Evidence
from neardup.verify.verifier import verifier_fingerprint
from neardup.words import typed

DECISION_STEP = "10"
"""Version of the features and of their fit; raised whenever an older file would give other probabilities or bands."""
AVERAGE = {
    Regression.MATCHED: "an average match",
    Regression.UNMATCHED: "an average candidate without a match",
    Regression.UNTELLABLE: "an average candidate (cannot tell)",
}
"""Regression → title of a waterfall's first term, the intercept: the log-odds of a pair with average features."""
WEAK = "an average candidate (match too weak)"
"""Title of a waterfall's first term where a match is so weak that it counts as none (`PairModel.regression_of`)."""


@dataclass(frozen=True)
class Fingerprints:
    """The encoder and the verifier that a decision belongs to: with others, features would have another meaning.

    Attributes:
        encoder: fingerprint of the encoder.
        verifier: fingerprint of the verifier.
    """

    encoder: str
    verifier: str


@dataclass(frozen=True)
class Decision:
    """How a pair's probability and band follow from its similarity and evidence.

    Attributes:
        model: the regressions, fitted on all candidates of the ground truth.
        bands: thresholds, chosen on out-of-fold probabilities.
        reliability: how well the out-of-fold probabilities are calibrated.
        belongs: the encoder and the verifier that the decision was made for.
        groups: how many groups it rests on, singletons included; for the shipped decision, only groups of
            near-duplicates.
        pairs: how many candidates it was fitted on.
        source: what it was fitted on, as people call it.
        step: `DECISION_STEP` of the version that made it.
    """

    model: PairModel
    bands: Bands
    reliability: Reliability
    belongs: Fingerprints
    groups: int
    pairs: int
    source: str
    step: str = DECISION_STEP

    @property
    def fingerprint(self) -> str:
        """Digest of everything that a probability or a band depends on."""
        model = asdict(self.model)
        if self.model.unmoved is None:
            del model["unmoved"]  # older decisions lack this field and keep their fingerprint
        return digest_of(model, asdict(self.bands), asdict(self.belongs), self.step)

    def probabilities(self, cosines: Floats, evidence: Sequence[Evidence | None]) -> Floats:
        """Compute the probability of each pair, float64 (m,), from cosine similarities, float64 (m,), and evidence."""
        return self.model.probabilities(_pairs(cosines, evidence))

    def judge(self, cosines: Floats, evidence: Sequence[Evidence | None]) -> tuple[Floats, list[Band], Bools]:
        """Compute the probability of each pair, as `probabilities` does, and the band that it falls into.

        Where geometry finds no match that counts, no similarity of vectors makes a link: pictures of noise look alike
        too.

        Returns:
            Probabilities, float64 (m,); bands; and whether geometry finds a match that counts
            (`PairModel.regression_of`), bool (m,).
        """
        pairs = _pairs(cosines, evidence)
        probabilities, counted = self.model.probabilities(pairs), self.model.regression_of(pairs) == Regression.MATCHED
        return probabilities, self.bands.of(probabilities, counted), counted

    def save(self, path: Path) -> Path:
        """Write the decision as JSON, atomically."""
        write_json(path, asdict(self))
        return path

    @classmethod
    def load(cls, path: Path, belongs: Fingerprints | None = None) -> "Decision":
        """Read a decision that `save` wrote.

        Args:
            path: the file.
            belongs: the encoder and verifier in use, which the decision must belong to; None to read any decision.

        Raises:
            ConfigError: the file is not a decision, or it is one of another step version, encoder or verifier.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            step = facts["step"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no decision that can be read ({error}): {_make_anew(path)}") from error
        if step != DECISION_STEP:
            raise ConfigError(
                f"the decision in {path} is of version {step}, and this neardup reads {DECISION_STEP}: {_FIT_ANEW}"
            )
        try:
            decision = _decision(facts)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is no whole decision ({error}): {_make_anew(path)}") from error
        if belongs is not None:
            decision.check(belongs, str(path))
        return decision

    def check(self, belongs: Fingerprints, where: str) -> None:
        """Raise an error if the decision belongs to another encoder or verifier.

        Args:
            belongs: the encoder and verifier in use.
            where: the decision's file or name, for the error's sentence.

        Raises:
            ConfigError: the decision was made for another encoder or verifier.
        """
        for kind, own, used in (
            ("encoder", self.belongs.encoder, belongs.encoder),
            ("verifier", self.belongs.verifier, belongs.verifier),
        ):
            if own != used:
                raise ConfigError(
                    f"the decision in {where} belongs to the {kind} {own[:12]}, but {used[:12]} is in use: {_FIT_ANEW}"
                )

    def waterfall(self, cosine: float, evidence: Evidence | None) -> list[tuple[str, float]]:
        """Explain a pair's probability: what each feature adds, in natural log-odds, the greatest amount first.

        The first term is that of an average pair of the same regression, which its title names; all terms add up to the
        pair's log-odds.

        Args:
            cosine: similarity of the vectors.
            evidence: evidence of the pair; None where it was not verified.
        """
        pair = _pairs(np.array([cosine]), [evidence])
        regression = Regression(int(self.model.regression_of(pair)[0]))
        model = self.model.regressions[regression]
        places = [list(FEATURES).index(name) for name in model.features]
        terms = zip(model.features, model.terms(pair.features[:, places])[0].tolist(), strict=True)
        titled = [(FEATURES[name].title, value) for name, value in terms]
        weak = regression == Regression.UNMATCHED and bool(pair.matched[0])
        return [
            (WEAK if weak else AVERAGE[regression], model.intercept),
            *sorted(titled, key=lambda term: -abs(term[1])),
        ]


def first_decision(paths: Iterable[Path], encoder: str) -> Decision | None:
    """Read the first decision of some files that belongs to an encoder and this verifier; None where none does.

    Args:
        paths: files of decisions; missing ones are skipped.
        encoder: fingerprint of the encoder.

    Raises:
        ConfigError: a file is not a decision, or it is one of another step version.
    """
    belongs = Fingerprints(encoder, verifier_fingerprint())
    decisions = (Decision.load(path) for path in paths if path.is_file())
    return next((decision for decision in decisions if decision.belongs == belongs), None)


_FIT_ANEW = (
    "run `neardup evaluate` to fit one on your ground truth, then `neardup verdicts recalibrate` if people have judged "
    "pairs"
)
"""Advice for a decision that cannot be used, as the end of an error's sentence."""


def _make_anew(path: Path) -> str:
    """Advice for a broken file, as the end of an error's sentence: its folder shows which command made the decision."""
    folder = path.parent
    if folder.name in EVALUATED:
        return f"run `neardup verify --out {typed(folder.parent)}`, which fits it anew"
    return (
        f"delete it, and another decision takes its place; if people have judged pairs, `neardup verdicts recalibrate "
        f"--out {typed(folder)}` then fits it anew"
    )


def _pairs(cosines: Floats, evidence: Sequence[Evidence | None]) -> CandidatePairs:
    """Candidates as the model takes them, with made-up rows: probabilities do not depend on rows."""
    return CandidatePairs.of(np.zeros((len(cosines), 2), dtype=np.int64), cosines, evidence)


def _decision(facts: dict[str, Any]) -> Decision:
    """Build a decision from its file's JSON; KeyError, TypeError or ValueError where something is missing."""
    matched, unmatched, untellable = (
        _logistic(facts["model"][name]) for name in ("matched", "unmatched", "untellable")
    )
    model = PairModel(matched, unmatched, untellable, _unmoved(facts["model"].get("unmoved")))
    used = (*model.regressions, *(model.unmoved or ()))
    if not {each.features for each in used} <= {tuple(FEATURES), SIMILARITY}:
        raise ValueError(f"its features are not those of this version: {', '.join(FEATURES)}")
    return Decision(
        model,
        Bands(Promise(**facts["bands"]["precision"]), Promise(**facts["bands"]["recall"])),
        Reliability(**facts["reliability"]),
        Fingerprints(**facts["belongs"]),
        int(facts["groups"]),
        int(facts["pairs"]),
        str(facts["source"]),
        facts["step"],
    )


def _unmoved(facts: list[dict[str, Any]] | None) -> tuple[Logistic, Logistic] | None:
    """Build `PairModel.unmoved` from a file's JSON; None where verdicts have moved nothing."""
    if facts is None:
        return None
    matched, unmatched = map(_logistic, facts)
    return matched, unmatched


def _logistic(facts: dict[str, Any]) -> Logistic:
    """Build a regression from a file's JSON."""
    means, scales, coefficients = (tuple(map(float, facts[name])) for name in ("means", "scales", "coefficients"))
    ceilings = None if facts["ceilings"] is None else tuple(map(float, facts["ceilings"]))
    return Logistic(tuple(facts["features"]), means, scales, coefficients, float(facts["intercept"]), ceilings)


def decide(
    pairs: CandidatePairs,
    group_of: Ints,
    held_out: OutOfFold,
    belongs: Fingerprints,
    source: str,
    precision: float = PRECISION,
    recall: float = RECALL,
) -> Decision:
    """Fit a decision on a ground truth; its bands and its reliability come from the out-of-fold probabilities.

    Args:
        pairs: the candidates.
        group_of: int64 (n,), 0-based group of each photo, without gaps.
        held_out: the candidates' out-of-fold probabilities (`probability.out_of_fold`).
        belongs: the encoder and verifier that gave the features.
        source: what the ground truth is called.
        precision: promised share of right pairs among the links.
        recall: promised share of near-duplicates that are not rejected.
    """
    same = group_of[pairs.left] == group_of[pairs.right]
    ends = (pairs.left, pairs.right)
    bands = bands_for(ends, held_out.probabilities, group_of, precision, recall, linkable=held_out.counted)
    figures = Reliability.of(held_out.probabilities, held_out.similarity, same)
    groups = int(group_of.max()) + 1
    return Decision(fit_pairs(pairs, group_of), bands, figures, belongs, groups, len(same), source)
