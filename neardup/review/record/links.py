"""Consequences of verdicts: must-links and cannot-links, contradictions, agreement, and pairs to learn from."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet

from neardup.decide.constraints import shortest_path
from neardup.errors import VerdictError
from neardup.review.record.verdicts import CANNOT_TELL, DIFFERENT, SAME, WITHDRAWN, Verdict, by_pair
from neardup.tables import load_rows, write_csv
from neardup.verify.evidence import ordered

Pair = tuple[str, str]
"""The SHA-256 of two photos, the lesser first."""


@dataclass(frozen=True)
class Contradiction:
    """Verdicts that cannot all be true, until somebody supersedes one of them.

    Attributes:
        apart: the verdicts on one pair; where `chain` is empty, people disagree on it.
        chain: verdicts that its photos are the same, photo by photo, from `apart`'s first photo to its second.
    """

    apart: tuple[Verdict, ...]
    chain: tuple[Verdict, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts that take part."""
        return self.apart + self.chain

    @property
    def sentence(self) -> str:
        """What contradicts what, in words, each photo by the first eight digits of its SHA-256."""
        return self.in_words({})

    def in_words(self, names: Mapping[str, str]) -> str:
        """What contradicts what; `names` are those of photos by SHA-256, of which the others are named by digits."""

        def named(photo: str) -> str:
            return names.get(photo, photo[:8])

        answers = ", ".join(f"{verdict.who} says {verdict.verdict}" for verdict in self.apart)
        first, second = map(named, self.apart[0].pair)
        if not self.chain:
            return f"{first} and {second}: {answers}"
        steps = "; ".join(f"{named(v.first)} = {named(v.second)} ({v.who})" for v in self.chain)
        return f"{first} and {second}: {answers}, yet they are the same by {steps}"


@dataclass(frozen=True)
class Links:
    """Conclusions from the verdicts in force.

    Attributes:
        decided: pair → the latest verdict on it that says more than `cannot tell`, where nobody disagrees.
        answered: every pair on which a verdict is in force, undecided ones too: nobody is asked again.
        contradictions: disagreements first, then contradicting chains; no pair of these is in the two below.
        must: pairs that are the same.
        cannot: pairs that are different, or two exposures of one scene.
    """

    decided: Mapping[Pair, Verdict]
    answered: frozenset[Pair]
    contradictions: tuple[Contradiction, ...]
    must: tuple[Pair, ...]
    cannot: tuple[Pair, ...]

    @classmethod
    def of(cls, current: Iterable[Verdict]) -> "Links":
        """Draw the conclusions of the verdicts in force, oldest first, as `Verdicts.current` gives them."""
        verdicts_of = by_pair(current)
        disagreements, decided = [], {}
        for pair, verdicts in verdicts_of.items():
            definite = [verdict for verdict in verdicts if verdict.verdict != CANNOT_TELL]
            if len({verdict.verdict for verdict in definite}) > 1:
                disagreements.append(Contradiction(tuple(definite)))
            elif definite:
                decided[pair] = definite[-1]
        # Sorted by pair, so that which chains use up a link does not depend on the order of answers.
        in_order = sorted(decided.items())
        same = {pair: verdict for pair, verdict in in_order if verdict.verdict == SAME}
        apart = {pair: verdict for pair, verdict in in_order if verdict.verdict != SAME}
        chains = _contradicting_chains(same, apart)
        doubted = {verdict.pair for chain in chains for verdict in chain.verdicts}
        must, cannot = (tuple(sorted(set(pairs) - doubted)) for pairs in (same, apart))
        return cls(decided, frozenset(verdicts_of), (*disagreements, *chains), must, cannot)

    @property
    def certain(self) -> dict[Pair, bool]:
        """Pair → whether it is the same, of all pairs whose answers contradict nothing."""
        return dict.fromkeys(self.must, True) | dict.fromkeys(self.cannot, False)

    def judged(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, bool | None]]:
        """Pairs as an audit counts them: each with whether it is the same, None where no answer says so for certain.

        Pairs whose only answers are `cannot tell` are skipped.
        """
        disagreed = {verdict.pair for contradiction in self.contradictions for verdict in contradiction.apart}
        certain, untold = self.certain, self.answered - self.decided.keys() - disagreed
        return ((pair, certain.get(pair)) for pair in pairs if pair not in untold)

    def known_pairs(self) -> list[tuple[str, str, int]]:
        """Pairs to learn from, with 1 for the same and 0 for different; two exposures of a scene are neither."""
        different = [pair for pair in self.cannot if self.decided[pair].verdict == DIFFERENT]
        return sorted([(*pair, 1) for pair in self.must] + [(*pair, 0) for pair in different])


def _contradicting_chains(same: Mapping[Pair, Verdict], apart: Mapping[Pair, Verdict]) -> list[Contradiction]:
    """Chains of same photos whose ends are said to differ, each the shortest one, until none is left."""
    neighbours: defaultdict[str, dict[str, Verdict]] = defaultdict(dict)
    for (first, second), verdict in same.items():
        neighbours[first][second] = neighbours[second][first] = verdict
    together = DisjointSet(neighbours)
    for first, second in same:
        together.merge(first, second)
    chains = []
    for (first, second), verdict in apart.items():
        if first not in together or second not in together or not together.connected(first, second):
            continue
        while path := shortest_path(neighbours, first, second):
            chain = tuple(neighbours[photo][partner] for photo, partner in pairwise(path))
            chains.append(Contradiction((verdict,), chain))
            for link in chain:
                neighbours[link.first].pop(link.second, None)
                neighbours[link.second].pop(link.first, None)
    return chains


@dataclass(frozen=True)
class Agreement:
    """Agreement of two people who judged the same pairs, each by their own last answer.

    Attributes:
        people: the two, in the order of the alphabet.
        judged: pairs on which both answered.
        agreed: pairs on which both answered alike.
        kappa: Cohen's kappa, 1 for full agreement and 0 for that of chance; None where both gave one answer only,
            always the same, so that chance alone would agree fully.
    """

    people: tuple[str, str]
    judged: int
    agreed: int
    kappa: float | None


def agreements(history: Iterable[Verdict]) -> list[Agreement]:
    """Cohen's kappa of every two people who judged the same pairs (Cohen, 1960), the pair with most in common first.

    A verdict that supersedes somebody else's was given in knowledge of it, and does not count, nor does one that was
    taken back.

    Args:
        history: every verdict, oldest first.
    """
    history, author = list(history), dict[str, str]()
    taken_back = {earlier for verdict in history if verdict.verdict == WITHDRAWN for earlier in verdict.supersedes}
    answers: defaultdict[str, dict[Pair, str]] = defaultdict(dict)
    for verdict in history:
        author[verdict.id] = verdict.who
        knowing = any(author.get(earlier) != verdict.who for earlier in verdict.supersedes)
        if verdict.verdict != WITHDRAWN and verdict.id not in taken_back and not knowing:
            answers[verdict.who][verdict.pair] = verdict.verdict
    two = combinations(sorted(answers), 2)
    agreed = [_agreement((one, other), answers[one], answers[other]) for one, other in two]
    return sorted((one for one in agreed if one.judged), key=lambda one: (-one.judged, one.people))


def _agreement(people: tuple[str, str], one: Mapping[Pair, str], other: Mapping[Pair, str]) -> Agreement:
    """How far two people agree, from what each last answered to each pair."""
    both = sorted(one.keys() & other.keys())
    agreed = sum(one[pair] == other[pair] for pair in both)
    if not both:
        return Agreement(people, 0, 0, None)
    left, right = ([answers[pair] for pair in both] for answers in (one, other))
    if len({*left, *right}) < 2:  # noqa: PLR2004 - one answer only
        return Agreement(people, len(both), agreed, None)
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415 - takes a second

    return Agreement(people, len(both), agreed, float(cohen_kappa_score(left, right)))


def save_known_pairs(table: Path, history: Iterable[Verdict], links: Links) -> list[tuple[str, str, int]]:
    """Write the pairs that training may learn from; rows on pairs that nobody ever judged are kept as they are.

    Args:
        table: `known_pairs.csv` of an output folder, with the columns first, second and same.
        history: every verdict.
        links: what follows from those in force.

    Returns:
        All rows of the table.

    Raises:
        VerdictError: the table that is there has other columns.
    """
    judged = {verdict.pair for verdict in history}
    columns = ("first", "second", "same")
    try:
        before = [tuple(row[name] for name in columns) for row in (load_rows(table) if table.is_file() else [])]
        kept = [(first, second, int(same)) for first, second, same in before]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VerdictError(f"{table} has no columns {', '.join(columns)} of pairs ({error}): move it away") from error
    kept = [row for row in kept if ordered(*row[:2]) not in judged]
    rows = [*kept, *links.known_pairs()]
    write_csv(table, columns, rows)
    return rows
