"""The verdicts in force, pair by pair, and what follows from them for pairs that nobody was asked about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.arrays import Bools, Ints
from neardup.review.results import Results
from neardup.review.verdicts import DIFFERENT, SAME, SAME_SCENE, WITHDRAWN, Verdict, Verdicts

LONGEST_S = 120.0
"""Seconds beyond which an answer says that somebody went for coffee, and nothing of how long a pair takes."""


@dataclass(frozen=True)
class Contradiction:
    """Verdicts that cannot all be right.

    Attributes:
        pairs: the pairs of contents that they are on; one pair where people disagree, else "different" first, then the
            chain of "same" that joins its two photos.
    """

    pairs: tuple[tuple[str, str], ...]


class Answers:
    """The verdicts in force of a database, followed as it grows."""

    def __init__(self, verdicts: Verdicts) -> None:
        """Read all verdicts of a database."""
        self._verdicts, self._seen = verdicts, 0
        self._on: dict[tuple[str, str], dict[str, Verdict]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read the verdicts that were added since the last time, by whomever; says whether there were any."""
        last = self._verdicts.last()
        if last == self._seen:
            return False
        for verdict in self._verdicts.history(self._seen):
            for earlier in verdict.supersedes:
                self._drop(earlier)
            if verdict.verdict != WITHDRAWN:
                self._on.setdefault(verdict.pair, {})[verdict.who] = verdict
        self._seen = last
        return True

    def _drop(self, identity: str) -> None:
        """Take a verdict that was superseded out of those in force."""
        superseded = self._verdicts.get(identity)
        said = self._on.get(superseded.pair, {}) if superseded else {}
        if superseded and superseded.who in said and said[superseded.who].id == identity:
            del said[superseded.who]
            if not said:
                del self._on[superseded.pair]

    def __iter__(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Each pair that was answered, with its answer; nothing stands for an answer on which people disagree."""
        for pair, said in self._on.items():
            words = {verdict.verdict for verdict in said.values()}
            yield pair, words.pop() if len(words) == 1 else ""

    def __len__(self) -> int:
        """How many pairs were answered."""
        return len(self._on)

    def of(self, photo: str, partner: str) -> list[Verdict]:
        """The verdicts in force on two contents."""
        first, second = sorted((photo, partner))
        return list(self._on.get((first, second), {}).values())

    def seconds(self, who: str) -> float | None:
        """The median time that a person takes for a pair; None before the first answer."""
        own = [
            verdict.seconds
            for said in self._on.values()
            if (verdict := said.get(who)) and verdict.seconds is not None and verdict.seconds <= LONGEST_S
        ]
        return median(own) if own else None

    def contradictions(self) -> list[Contradiction]:
        """What people disagree on, then every "different" whose two photos a chain of "same" joins."""
        answers = dict(self)
        found = [Contradiction((pair,)) for pair, answer in answers.items() if not answer]
        neighbours: dict[str, list[str]] = {}
        for (first, second), answer in answers.items():
            if answer == SAME:
                neighbours.setdefault(first, []).append(second)
                neighbours.setdefault(second, []).append(first)
        for pair, answer in answers.items():
            chain = _chain(neighbours, *pair) if answer in {DIFFERENT, SAME_SCENE} else []
            if chain:
                found.append(Contradiction((pair, *chain)))
        return found


def _chain(neighbours: dict[str, list[str]], first: str, second: str) -> list[tuple[str, str]]:
    """The shortest chain of pairs that joins two contents, each pair ordered; none where nothing does."""
    before: dict[str, str] = {first: ""}
    level: Sequence[str] = [first]
    while level and second not in before:
        reached = []
        for photo in level:
            for neighbour in neighbours.get(photo, ()):
                if neighbour not in before:
                    before[neighbour] = photo
                    reached.append(neighbour)
        level = reached
    chain, photo = [], second
    while before.get(photo):
        chain.append((min(photo, before[photo]), max(photo, before[photo])))
        photo = before[photo]
    return chain[::-1]


@dataclass(frozen=True)
class Settled:
    """What verdicts say of the pairs of a run.

    Attributes:
        answered: bool (m,), the pairs on which somebody said something.
        implied: bool (m,), the pairs that nobody was asked and whose answer follows: both photos are the same picture
            as a third, or one of them is and the other is not.
    """

    answered: Bools
    implied: Bools

    @classmethod
    def of(cls, results: Results, answers: Answers) -> "Settled":
        """Put verdicts beside the pairs of a run, by the contents of their photos."""
        answered = np.zeros(len(results), dtype=bool)
        same, different = [], []
        for (first, second), answer in answers:
            photos = results.photo_of(first), results.photo_of(second)
            if photos[0] is None or photos[1] is None:
                continue
            row = results.row_of(*photos)  # type: ignore[arg-type]
            if row is not None:
                answered[row] = True
            if answer == SAME:
                same.append(photos)
            elif answer in {DIFFERENT, SAME_SCENE}:
                different.append(photos)
        implied = _implied(results, _ends(same), _ends(different))
        return cls(answered, implied & ~answered)


def _ends(pairs: list[tuple[int | None, int | None]]) -> Ints:
    """Pairs of photos as int64 (2, n)."""
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _implied(results: Results, same: Ints, different: Ints) -> Bools:
    """The pairs within one picture, and those between two pictures that are known to differ."""
    count = len(results.paths)
    graph = coo_array((np.ones(same.shape[1], dtype=bool), (same[0], same[1])), shape=(count, count))
    picture = connected_components(graph, directed=False)[1].astype(np.int64)
    first, second = picture[results.first], picture[results.second]
    apart = np.unique(results.key(picture[different[0]], picture[different[1]]))
    return np.asarray((first == second) | np.isin(results.key(first, second), apart))
