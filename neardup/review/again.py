"""Answered pairs that deserve a second look: a member joined their group, or a new decision contradicts the verdict."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from neardup.decide.geometry import LINKED
from neardup.review.links import Links, Pair
from neardup.review.verdicts import DIFFERENT, SAME, Verdict

STRONG = 0.99
"""Probability from which on a decision contradicts "different" strongly, and one minus it "same": of a hundred such
pairs one is wrong where probabilities are calibrated, so that few are asked again for nothing."""


def asked_again(
    links: Links,
    probabilities: Mapping[Pair, float],
    decision: str,
    group_of: Mapping[str, int],
    new: Collection[str],
) -> dict[Pair, str]:
    """The answered pairs that are shown again, each with the reason in words; all others never are.

    A person who answered against the decision that is still in force, or against one that was as sure, knew it and is
    not asked again. Two exposures of a scene look alike to any machine, and what nobody can tell no machine tells: such
    answers are not contradicted.

    Args:
        links: what the verdicts in force come to.
        probabilities: pair → its probability by the decision in force; pairs that are no candidates may lack.
        decision: fingerprint of that decision.
        group_of: photo → its group now; photos in none may lack.
        new: photos that were not there when an earlier run was looked at.

    Returns:
        Pair → why it is shown again, in the order of the pairs.
    """
    joined: defaultdict[int, list[str]] = defaultdict(list)
    for photo in sorted(new):
        if photo in group_of:
            joined[group_of[photo]].append(photo)
    alike = _alike(probabilities, new)
    found = {}
    for pair, verdict in sorted(links.decided.items()):
        reason = _contradicted(verdict, probabilities.get(pair), decision) or _joined(verdict, group_of, joined, alike)
        if reason:
            found[pair] = reason
    return found


def _alike(probabilities: Mapping[Pair, float], new: Collection[str]) -> dict[str, set[str]]:
    """Photo → the new photos that are more probably than not the same picture."""
    fresh, found = set(new), defaultdict[str, set[str]](set)
    for (first, second), probability in probabilities.items():
        if probability >= LINKED:
            for photo, partner in ((first, second), (second, first)):
                if partner in fresh:
                    found[photo].add(partner)
    return found


def _contradicted(verdict: Verdict, probability: float | None, decision: str) -> str:
    """Why a new decision contradicts a verdict strongly; nothing where it does not."""
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
) -> str:
    """Why a new photo bears on a verdict: it joined the group of both, or is like two that are said to differ."""
    first, second = (group_of.get(photo) for photo in verdict.pair)
    if verdict.verdict == SAME and first is not None and first == second:
        members = [photo for photo in joined.get(first, ()) if photo not in verdict.pair]
        if members:
            return f"{_named(members)} joined the group of both"
    if verdict.verdict == DIFFERENT:
        bridges = sorted(alike.get(verdict.first, set()) & alike.get(verdict.second, set()))
        if bridges:
            return f"{_named(bridges)} looks the same as either, and {verdict.who} says that they are different"
    return ""


def _named(photos: list[str]) -> str:
    """Photos by the first eight digits of their SHA-256, the first of many."""
    more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
    return f"{photos[0][:8]}{more}"
