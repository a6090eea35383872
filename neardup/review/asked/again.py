"""Answered pairs that deserve a second look: new photos, a new decision or sure links speak against the verdict."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from neardup.archive.notice import NEW_PHOTOS
from neardup.decide.geometry import LINKED
from neardup.detect.duplicate_tables import ASKED_AGAIN
from neardup.detect.verified_pairs import by_content
from neardup.errors import ArchiveError
from neardup.review.asked.question import Question
from neardup.review.record.links import Links, Pair
from neardup.review.record.photo_pair import PhotoPair
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict
from neardup.tables import load_table, save_rows
from neardup.words import counted

if TYPE_CHECKING:
    from neardup.decide.decision import Decision
    from neardup.detect.verified_pairs import VerifiedPairs
    from neardup.detect.watched import Watched

STRONG = 0.99
"""Probability from which on a decision contradicts "different" strongly, and one minus it "same": of a hundred such
pairs one is wrong where probabilities are calibrated, so that few are asked again for nothing."""


@dataclass(frozen=True)
class Again(PhotoPair):
    """An answered pair that is to be looked at again.

    Attributes:
        verdict: the answer in force.
        why: what has changed since the answer.
        verdict_id: id of the answer; once another one is in force, the pair has been looked at.
    """

    verdict: str
    why: str
    verdict_id: str


def save_again(run: Path, rows: Iterable[Again]) -> Path:
    """Write the pairs that are asked again into the folder of a run of `watch`, or of `duplicates`."""
    return save_rows(run / ASKED_AGAIN, Again, rows)


def load_again(out: Path) -> list[Again]:
    """What `duplicates` and all runs of `watch` into an output folder asked again, the oldest run first."""
    rows: list[Again] = []
    for table in [*(out / "duplicates").glob(ASKED_AGAIN), *sorted((out / "watch").glob(f"*/{ASKED_AGAIN}"))]:
        with suppress(ArchiveError):  # a table of another version does not say which answers it is about
            rows += load_table(table, Again)
    return rows


def announced(rows: Sequence[Again]) -> str:
    """Write the sentence on how many pairs are asked again."""
    return f"{counted(len(rows), 'answered pair')} to look at again: {ASKED_AGAIN} says which and why"


def still_open(rows: Iterable[Again], links: Links) -> list[Question]:
    """Select the pairs asked again whose doubted answer is still in force, each with the last of several reasons.

    Args:
        rows: as `load_again` gives them.
        links: what the verdicts in force come to.
    """
    questions = {}
    for row in rows:
        question = Question(*row.paths, *row.digests, "asked_again", {"why": row.why})
        verdict = links.decided.get(question.pair)
        if verdict and verdict.id == row.verdict_id:
            questions[question.pair] = question
    return list(questions.values())


def ask_about(watched: "Watched", links: Links) -> list[Again]:
    """Write which answered pairs a run of `watch` asks again; nothing if it published or decided nothing.

    Args:
        watched: what the run found.
        links: what the verdicts in force come to.
    """
    verified = watched.verified
    if watched.folder is None or verified is None or verified.decision is None:
        return []
    photos = verified.photos
    group_of = {photos[row]: number for number, rows in enumerate(watched.rows, 1) for row in rows}
    arrived = {file.path for file in watched.noticed if file.kind in NEW_PHOTOS}
    new = {photo: path for photo, path in zip(photos, verified.paths, strict=True) if path in arrived}
    rows = _asked(verified, verified.decision, links, group_of, new)
    save_again(watched.folder, rows)
    return rows


def ask_about_all(folder: Path, verified: "VerifiedPairs", links: Links) -> list[Again]:
    """Write which answered pairs of a whole collection a new decision, or sure links with a third photo, contradict.

    Args:
        folder: folder of the tables of `duplicates`; a file is written to it if anything is asked.
        verified: the pairs of the collection.
        links: what the verdicts in force come to.
    """
    rows = _asked(verified, verified.decision, links, {}, {}) if verified.decision else []
    if rows:
        save_again(folder, rows)
    return rows


def _asked(
    verified: "VerifiedPairs", decision: "Decision", links: Links, group_of: Mapping[str, int], new: Mapping[str, str]
) -> list[Again]:
    """Choose the pairs to ask again; arguments as in `asked_again`."""
    photos, deciding = verified.photos, links.decided
    chances = zip(by_content(verified.pairs, photos), verified.probabilities.tolist(), strict=True)
    probabilities = {pair: chance for pair, chance in chances if not isnan(chance)}
    path_of = dict(zip(reversed(photos), reversed(verified.paths), strict=True))
    return [
        Again(path_of[pair[0]], path_of[pair[1]], *pair, deciding[pair].verdict, why, deciding[pair].id)
        for pair, why in asked_again(links, probabilities, decision.fingerprint, group_of, new, path_of).items()
        if path_of.keys() >= set(pair)
    ]


def asked_again(
    links: Links,
    probabilities: Mapping[Pair, float],
    decision: str,
    group_of: Mapping[str, int],
    new: Mapping[str, str],
    names: Mapping[str, str] = MappingProxyType({}),
) -> dict[Pair, str]:
    """Choose the answered pairs that are shown again, each with the reason in words; all others never are.

    A person who answered against the decision that is still in force, or against one that was as sure, did so knowingly
    and is not asked again. Answers `same scene` and `cannot tell` are not contradicted: exposures of a scene look alike
    to any machine, and a machine cannot tell what people cannot. Two photos that are said to differ though each is
    surely the same as a third are shown once more: such a verdict takes one of them out of its group.

    Args:
        links: what the verdicts in force come to.
        probabilities: pair → its probability by the decision in force; pairs that are not candidates may be missing.
        decision: fingerprint of the decision in force.
        group_of: photo → its present group; photos without one may be missing.
        new: photos that did not exist in earlier runs → their names.
        names: names of the other photos; photos without one are named by the first digits of their SHA-256.

    Returns:
        Pair → why it is shown again, in the order of the pairs.
    """
    joined: defaultdict[int, list[str]] = defaultdict(list)
    for photo in sorted(new, key=new.__getitem__):
        if photo in group_of:
            joined[group_of[photo]].append(photo)
    alike, surely = _alike(probabilities, new), _surely_alike(probabilities, links)
    reasons, certain = {}, links.certain
    for pair, verdict in sorted(links.decided.items()):
        reason = _contradicted(verdict, probabilities.get(pair), decision)
        if not reason:
            photos, words = _joined(verdict, group_of, joined, alike)
            reason = f"{_first_of([new[photo] for photo in photos])} {words}" if photos else ""
        if not reason and verdict.verdict == DIFFERENT and not verdict.supersedes and pair in certain:
            third = sorted(names.get(photo, photo[:8]) for photo in surely[pair[0]] & surely[pair[1]])
            reason = f"{_first_of(third)} {_bridging(verdict, surely=True)}" if third else ""
        if reason:
            reasons[pair] = reason
    return reasons


def _alike(probabilities: Mapping[Pair, float], new: Collection[str]) -> dict[str, set[str]]:
    """Photo → the new photos that are more probably than not the same picture."""
    arrived, partners = set(new), defaultdict[str, set[str]](set)
    for (first, second), probability in probabilities.items():
        if probability >= LINKED:
            for photo, partner in ((first, second), (second, first)):
                if partner in arrived:
                    partners[photo].add(partner)
    return partners


def _surely_alike(probabilities: Mapping[Pair, float], links: Links) -> defaultdict[str, set[str]]:
    """Photo → those that are the same picture, for certain by a verdict, or by a machine that nobody contradicted."""
    partners = defaultdict[str, set[str]](set)
    likely = (pair for pair, chance in probabilities.items() if _surely_same(chance) and pair not in links.answered)
    for first, second in (*links.must, *likely):
        partners[first].add(second)
        partners[second].add(first)
    return partners


def _contradicted(verdict: Verdict, probability: float | None, decision: str) -> str:
    """Say why a new decision strongly contradicts a verdict; empty if it does not."""
    if probability is None or verdict.shown.get("decision") == decision:
        return ""
    before = verdict.shown.get("probability")
    for answer, contradicts in ((DIFFERENT, _surely_same), (SAME, _surely_different)):
        if verdict.verdict == answer and contradicts(probability) and not (before is not None and contradicts(before)):
            was = f", {before:.2f} when it was judged" if before is not None else ""
            return f"{verdict.who} says {answer}; a new decision gives it a probability of {probability:.3f}{was}"
    return ""


def _surely_same(probability: float) -> bool:
    return probability >= STRONG


def _surely_different(probability: float) -> bool:
    return probability <= 1 - STRONG


def _joined(
    verdict: Verdict,
    group_of: Mapping[str, int],
    joined: Mapping[int, list[str]],
    alike: Mapping[str, set[str]],
) -> tuple[list[str], str]:
    """Say which new photos bear on a verdict, and how: they joined its group, or are like two photos that differ."""
    first, second = (group_of.get(photo) for photo in verdict.pair)
    if verdict.verdict == SAME and first is not None and first == second:
        members = [photo for photo in joined.get(first, ()) if photo not in verdict.pair]
        if members:
            return members, "joined the group of both"
    if verdict.verdict == DIFFERENT:
        bridges = sorted(alike.get(verdict.first, set()) & alike.get(verdict.second, set()))
        if bridges:
            return bridges, _bridging(verdict)
    return [], ""


def _bridging(verdict: Verdict, *, surely: bool = False) -> str:
    """Say that a photo, whose name comes before, is like two that a verdict says are different."""
    return f"{'surely is' if surely else 'looks'} the same as either, and {verdict.who} says that they are different"


def _first_of(photo_names: list[str]) -> str:
    """Write the name of the first of some photos, and how many more there are."""
    more = f" and {len(photo_names) - 1} more" if len(photo_names) > 1 else ""
    return f"{photo_names[0]}{more}"
