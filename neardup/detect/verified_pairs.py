"""Verified pairs of a collection: evidence, probability and band of each, groups, and pictures for people."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.bands import Band
from neardup.decide.chosen_decision import DECISION
from neardup.decide.constraints import NO_VERDICTS, PairVerdicts
from neardup.decide.decision import Decision
from neardup.decide.group_report import GroupReport
from neardup.decide.groups import DecidedPairs, explain_groups, group_pairs, members_of
from neardup.images import PNG_LEVEL
from neardup.pages import write_page
from neardup.search.pairs import NearPairs
from neardup.stages import replacing
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.relation import relation_of
from neardup.verify.store import EVIDENCE, EvidenceByPair, write_evidence
from neardup.verify.verifier import Verifier, evidence_fingerprint
from neardup.words import chance_text

PICTURES = 24
"""Most pairs that a page draws: one of each of the first groups, then those that a person should look at."""
UNLIKELY = 0.02
"""Probability below which a pair is neither shown nor counted for review, though pairs.parquet has it.

Of a press archive's 22,167 candidates, 228 lie between this probability and that of a link; with half of it, 959 would.
Below either lie four of 867 true pairs.
"""


def by_content(pairs: NearPairs, photos: Sequence[str]) -> list[tuple[str, str]]:
    """Name pairs of rows as evidence and verdicts do: by the SHA-256 of both photos, the lesser first.

    Args:
        pairs: pairs of rows of `photos`.
        photos: SHA-256 of each photo.
    """
    rows = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    return [ordered(photos[left], photos[right]) for left, right in rows]


@dataclass(frozen=True)
class Verification:
    """What decides verified pairs: a decision, if one belongs to the encoder, and what people said."""

    decision: Decision | None
    judged: PairVerdicts = NO_VERDICTS


@dataclass(frozen=True)
class VerifiedPairs:
    """Pairs with the evidence, probability and band of each; sequences of pairs are in the order of `pairs`.

    Attributes:
        paths: paths of the photos that rows of pairs refer to.
        pairs: pairs that were verified or are exact copies.
        photos: SHA-256 of each photo of `paths`.
        evidence: evidence of each pair; None for an exact copy and where a photo cannot be read.
        probabilities: float64 (m,), of each pair; NaN without a decision or evidence.
        bands: band of each pair; empty text without a decision or evidence.
        verifier: verifier of the pairs, which holds keypoints for drawing.
        decision: decision that gave the probabilities; None where none belongs to the encoder.
        judged: what people said of pairs.
        counted: bool (m,), whether geometry finds a match that counts (`PairModel.regression_of`); None where every
            match does.
    """

    paths: tuple[str, ...]
    pairs: NearPairs
    photos: tuple[str, ...]
    evidence: tuple[Evidence | None, ...]
    probabilities: Floats
    bands: tuple[Band | str, ...]
    verifier: Verifier
    decision: Decision | None = None
    judged: PairVerdicts = NO_VERDICTS
    counted: Bools | None = None

    @cached_property
    def shown(self) -> Bools:
        """Which pairs people are shown, bool (m,): all but those that are too unlikely and were judged by nobody."""
        judged = np.array([answer is not None for answer in self.answers], dtype=bool)
        likely: Bools = np.isnan(self.probabilities) | (self.probabilities >= UNLIKELY)
        return np.asarray(likely | judged, dtype=bool)

    @cached_property
    def answers(self) -> list[str | None]:
        """The answer in force for each pair; None where nobody judged it."""
        return [self.judged.answers.get(pair) for pair in by_content(self.pairs, self.photos)]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Numbers of pairs that were verified, confirmed or judged, that are links, to be reviewed or too unlikely."""
        verified = [found for found in self.evidence if found]
        shown = self.shown.tolist()
        to_review = [
            band == "review" and likely and answer is None
            for band, likely, answer in zip(self.bands, shown, self.answers, strict=True)
        ]
        return {
            "verified": len(verified),
            "confirmed": sum(found.matched for found in verified),
            "cannot_tell": sum(found.cannot_tell for found in verified),
            "links": self.bands.count("link"),
            "to_review": sum(to_review),
            "unlikely": len(shown) - sum(shown),
            "judged": sum(answer is not None for answer in self.answers),
        }

    @property
    def summary(self) -> str:
        """The results of verification in plain words."""
        counts = self.counts
        text = (
            f"Of {counts['verified']:,} candidate pairs local features confirm {counts['confirmed']:,} and cannot tell "
            f"of {counts['cannot_tell']:,}"
        )
        if self.decision is None:
            return f"{text}; no decision belongs to this encoder, so that none has a probability."
        bands = self.decision.bands
        audited = "" if bands.precision.drawn else " How many are right here, an audit tells: `neardup review`."
        judged = f", people have judged {counts['judged']:,}" if counts["judged"] else ""
        return (
            f"{text}; {counts['links']:,} are links, {counts['to_review']:,} are to be reviewed{judged}, "
            f"{counts['unlikely']:,} have a probability below {UNLIKELY:.0%} and are in pairs.parquet only.\n"
            f"The probability rests on {self.decision.source}. {bands.sentence()}{audited}"
        )

    def columns(self) -> dict[str, list[Any]]:
        """The columns that verification adds to the table of pairs."""
        relations = [relation_of(found) if found else None for found in self.evidence]
        return {
            "photo_sha256": [self.photos[row] for row in self.pairs.left.tolist()],
            "partner_sha256": [self.photos[row] for row in self.pairs.right.tolist()],
            "probability": [None if np.isnan(value) else value for value in self.probabilities.tolist()],
            "band": [str(band) or None for band in self.bands],
            "verdict": self.answers,
            "relation": [relation and relation.words for relation in relations],
            "sentence": [
                found and relation and relation.sentence(*self._names(place, found))
                for place, (found, relation) in enumerate(zip(self.evidence, relations, strict=True))
            ],
            "inliers": [found and found.points for found in self.evidence],
        }

    def _rows(self, place: int, found: Evidence) -> tuple[int, int]:
        """Rows of a pair's photos, the first photo of its evidence first."""
        left, right = int(self.pairs.left[place]), int(self.pairs.right[place])
        return (left, right) if self.photos[left] == found.first else (right, left)

    def _names(self, place: int, found: Evidence) -> tuple[str, str]:
        """File names of a pair's photos, in the order of its evidence."""
        first, second = (Path(self.paths[row]).name for row in self._rows(place, found))
        return first, second

    def write(self, folder: Path, groups: Sequence[Sequence[int]], reports: Sequence[GroupReport]) -> None:
        """Write `evidence.parquet`, `decision.json`, pictures of pairs in `explained/`, and the page that shows them.

        Args:
            folder: folder of the results, without pictures of an earlier run.
            groups: rows of each group's photos, in the order of the tables.
            reports: reports of the groups, numbered from 1; none where nothing was decided.
        """
        unique = {(found.first, found.second): found for found in self.evidence if found}
        write_evidence(folder / EVIDENCE, unique.values(), evidence_fingerprint())
        if self.decision:
            self.decision.save(folder / DECISION)
        doubtful = self._doubtful()
        most = PICTURES * 2 // 3 if doubtful else PICTURES
        number_of = {row: number for number, group in enumerate(groups, 1) for row in group}
        report_of = {report.group: report for report in reports}
        linked = [
            (place, f"Group {number}", _firmness(report_of.get(number), len(groups[number - 1])))
            for number, place in self._weakest(number_of, report_of, most)
        ]
        to_review = [(place, "", "") for place in doubtful[: PICTURES - len(linked)]]
        with ThreadPoolExecutor(self.verifier.cores) as pool:
            pictures = {
                name: [entry for entry in pool.map(lambda pair: self._entry(folder, *pair), pairs) if entry]
                for name, pairs in (("linked", linked), ("doubtful", to_review))
            }
        numbers = {"groups": len(groups), "in_doubt": len(doubtful)}
        write_page(folder / "explained.html", "explained", **pictures, **numbers, summary=self.summary)

    def _weakest(
        self, number_of: Mapping[int, int], report_of: Mapping[int, GroupReport], most: int
    ) -> list[tuple[int, int]]:
        """Choose a pair to draw of each of the first groups: the weakest that holds it together, or the most alike."""
        links = {
            number: (report.weakest.left, report.weakest.right)
            for number, report in report_of.items()
            if report.weakest
        }
        place_of: dict[int, int] = {}
        for place, (left, right) in enumerate(zip(self.pairs.left.tolist(), self.pairs.right.tolist(), strict=True)):
            number = number_of.get(left)
            if self.evidence[place] is None or number is None or number_of.get(right) != number:
                continue
            if number not in place_of or {left, right} == set(links.get(number, ())):
                place_of[number] = place
        return sorted(place_of.items())[:most]

    def _doubtful(self) -> list[int]:
        """List the pairs that a person should look at, most doubtful first; without a decision, unconfirmed pairs."""
        if self.decision is None:
            return [place for place, found in enumerate(self.evidence) if found and not found.matched]
        doubtful = [
            place
            for place in np.flatnonzero(self.shown).tolist()
            if self.bands[place] == "review" and self.answers[place] is None
        ]
        return sorted(doubtful, key=lambda place: abs(self.probabilities[place] - 0.5))

    def _entry(self, folder: Path, place: int, title: str, note: str) -> dict[str, str] | None:
        """Draw a pair and make its entry on the page; None where a photo can no longer be read."""
        found = self.evidence[place]
        name = f"explained/{place:06d}.png"
        if found is None or not self._draw(place, found, folder / name):
            return None
        photo, partner = (self.paths[row] for row in self._rows(place, found))
        chance = self.probabilities[place]
        probability = "" if np.isnan(chance) else f"probability {chance_text(chance)}, {self.bands[place]}"
        sentence = relation_of(found).sentence(*self._names(place, found))
        facts = {"picture": name, "photo": photo, "partner": partner, "sentence": sentence, "probability": probability}
        return {**facts, "title": title, "note": note}

    def _draw(self, place: int, found: Evidence, path: Path) -> bool:
        """Draw one pair; return False where a photo can no longer be read."""
        similarity = float(self.pairs.similarities[place])
        terms = self.decision.waterfall(similarity, found) if self.decision else ()
        image = self.verifier.picture(found, self._names(place, found), terms)
        if image is None:
            return False
        with replacing(path) as partial:
            image.save(partial, "PNG", compress_level=PNG_LEVEL)
        return True


def groups_of(verified: VerifiedPairs, copies: Bools | None = None) -> tuple[Ints, tuple[GroupReport, ...]]:
    """Group photos by the probabilities of pairs and by what people said, and explain the groups.

    Ties between pairs are broken by the SHA-256 of their photos, so that groups do not depend on file names.

    Args:
        verified: the decided pairs.
        copies: bool (m,), which pairs are exact copies, which are together in any case; none by default.

    Returns:
        int64 (n,), the group of each photo; and the reports of groups of two or more, numbered from 1 in the order in
        which pairs name them.

    Raises:
        ConfigError: verdicts contradict each other.
    """
    certain = np.zeros(len(verified.probabilities), dtype=bool) if copies is None else copies
    left, right = verified.pairs.left, verified.pairs.right
    probabilities = np.where(certain, 1.0, verified.probabilities)
    order = np.argsort(np.array(verified.photos, dtype=str), kind="stable")
    rank, contents = np.argsort(order), [verified.photos[row] for row in order.tolist()]
    same = zip(rank[left[certain]].tolist(), rank[right[certain]].tolist(), strict=True)
    # A pair with a photo that can no longer be read has no probability, and speaks neither for nor against a group.
    decided = np.flatnonzero(~np.isnan(probabilities))
    evidence = [verified.evidence[place] for place in decided.tolist()]
    photos = dict(enumerate(verified.photos))
    counted = None if verified.counted is None else verified.counted[decided]
    pairs = DecidedPairs(left[decided], right[decided], probabilities[decided], evidence, photos, counted)
    ranked = replace(pairs, left=rank[pairs.left], right=rank[pairs.right], photos=dict(enumerate(contents)))
    labels, lowered = group_pairs(len(order), ranked, verified.judged.constraints(contents, same))
    labels = labels[rank]
    numbers = np.full(len(labels), -1, dtype=np.int64)
    for number, rows in enumerate(members_of(labels, verified.pairs), 1):
        numbers[rows] = number
    reports = explain_groups(numbers, replace(pairs, probabilities=lowered), certain[decided])
    return labels, tuple(_with_chosen_reference(reports, verified.photos, verified.judged.chosen))


def _with_chosen_reference(
    reports: Iterable[GroupReport], photos: Sequence[str], chosen: Sequence[str]
) -> Iterator[GroupReport]:
    """Yield the groups' reports, with the photo that a person chose last among a group's as its reference, if any.

    Args:
        reports: reports of the groups.
        photos: SHA-256 of each row's photo.
        chosen: SHA-256 of the photos that people chose, the last choice last.
    """
    choice_of = {photo: choice for choice, photo in enumerate(chosen)}
    for report in reports:
        rows = [member.photo for member in report.members if photos[member.photo] in choice_of]
        latest = max(rows, key=lambda row: (choice_of[photos[row]], -row), default=report.reference)
        yield report.represented_by(latest)


def _firmness(report: GroupReport | None, photos: int) -> str:
    """Say how firmly a group holds together, in one sentence."""
    if report is None:
        return f"{photos} photos."
    number = f"{photos} photos, {report.copies} of them exact copies" if report.copies else f"{photos} photos"
    if photos - report.copies <= 2:  # noqa: PLR2004 - its one link is the weakest and a bridge, which tells nothing
        return f"{number}."
    whose = "; of the pairs of the others" if report.copies else ", of their pairs"
    bridges = f", {len(report.bridges)} of them bridges" if report.bridges else ""
    chance = chance_text(report.weakest.probability) if report.weakest else ""
    weakest = f"; the weakest link that it needs has a probability of {chance}" if chance else ""
    return f"{number}{whose} {report.density:.0%} are links{bridges}{weakest}."


def verify_pairs(
    root: Path, paths: Mapping[str, str], pairs: Sequence[tuple[str, str]], state: Path, max_pixels: int, cores: int
) -> list[Evidence]:
    """Verify some pairs of a collection, on any machine: the evidence depends on the photos alone.

    Args:
        root: folder of the photos; it is only read.
        paths: SHA-256 of each photo of the pairs → its path.
        pairs: SHA-256 of both photos, ordered by `evidence.ordered`; pairs in the order of `candidates.near_together`.
        state: state folder, whose cache keeps keypoints.
        max_pixels: larger images are refused.
        cores: pairs and photos that are worked on at once.

    Returns:
        The evidence of each pair whose photos can be read, in the order of the pairs.
    """
    known = Verifier.of_folder(root, paths, state, max_pixels, cores).verify_in_order(pairs)
    return [known[pair] for pair in pairs if pair in known]


def decide_pairs(
    paths: tuple[str, ...],
    photos: tuple[str, ...],
    pairs: NearPairs,
    known: EvidenceByPair,
    verifier: Verifier,
    verification: Verification,
) -> VerifiedPairs:
    """Decide pairs of a collection by their evidence.

    Args:
        paths: paths of the photos that rows of pairs refer to.
        photos: SHA-256 of each photo of `paths`.
        pairs: pairs of rows of `paths`.
        known: evidence of the pairs; exact copies have and need none.
        verifier: verifier that found the evidence and draws the pairs that are shown.
        verification: decision that turns evidence into probabilities, and verdicts.
    """
    decision, judged = verification.decision, verification.judged
    evidence = tuple(known.get(pair) for pair in by_content(pairs, photos))
    probabilities, bands = np.full(len(evidence), np.nan), [""] * len(evidence)
    counted = np.zeros(len(evidence), dtype=bool)
    verified = np.array([place for place, item in enumerate(evidence) if item], dtype=np.int64)
    if decision and len(verified):
        similarities = pairs.similarities[verified].astype(np.float64)
        judgement = decision.judge(similarities, [evidence[place] for place in verified])
        probabilities[verified], judged_bands, counted[verified] = judgement
        for place, band in zip(verified.tolist(), judged_bands, strict=True):
            bands[place] = band
    found = evidence, probabilities, tuple(bands)
    return VerifiedPairs(paths, pairs, photos, *found, verifier, decision, judged, counted)
