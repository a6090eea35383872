"""The verdicts in force, pair by pair, and what follows from them for pairs that nobody was asked about."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np

from neardup.archive.walk import composed
from neardup.arrays import Bools, Ints
from neardup.graphs import components
from neardup.review.found.results import Results
from neardup.review.record.links import Links, Pair
from neardup.review.record.verdicts import Verdict, Verdicts, by_pair

LONGEST_S = 120.0
"""Seconds beyond which an answer's time does not count: the person was probably interrupted."""
FEW = 100
"""New verdicts up to which their pairs are read one by one; for more, as after an import, reading all is faster."""


class Answers:
    """The verdicts in force of a database, followed as it grows.

    Attributes:
        links: conclusions from the verdicts: answered pairs, decisions, contradictions, must-links and cannot-links.
    """

    def __init__(self, verdicts: Verdicts) -> None:
        """Read all verdicts of a database."""
        self._verdicts, self._seen = verdicts, 0
        self._on: dict[Pair, list[Verdict]] = {}
        self.links = Links.of(())
        self.refresh()

    def refresh(self) -> bool:
        """Read the verdicts that anybody added since the last call; return whether there were any."""
        last = self._verdicts.last()
        if last == self._seen:
            return False
        if last - self._seen > FEW:
            self._on = by_pair(self._verdicts.current())
        else:
            news = self._verdicts.history(self._seen)
            # Each pair once, in the order of the verdicts, which is also that of contradictions.
            for pair in dict.fromkeys(pair for verdict in news for pair in self._touched(verdict)):
                self._on.pop(pair, None)
                if in_force := self._verdicts.of_pair(*pair):
                    self._on[pair] = in_force
        self._seen = last
        self.links = Links.of(verdict for in_force in self._on.values() for verdict in in_force)
        return True

    def _touched(self, verdict: Verdict) -> list[Pair]:
        """Find the pairs whose verdicts in force may change with new verdicts: a withdrawal restores earlier ones."""
        superseded = [earlier for name in verdict.supersedes if (earlier := self._verdicts.get(name))]
        before = [earlier for late in superseded for name in late.supersedes if (earlier := self._verdicts.get(name))]
        return [touched.pair for touched in (verdict, *superseded, *before)]

    def __len__(self) -> int:
        """How many pairs were answered."""
        return len(self._on)

    def of(self, photo: str, partner: str) -> list[Verdict]:
        """The verdicts in force on two contents."""
        first, second = sorted((photo, partner))
        return list(self._on.get((first, second), []))

    def seconds(self, who: str) -> float | None:
        """The median time that a person takes for a pair; None before the first answer."""
        person = composed(who)
        own = [
            verdict.seconds
            for in_force in self._on.values()
            for verdict in in_force
            if verdict.who == person and verdict.seconds is not None and verdict.seconds <= LONGEST_S
        ]
        return median(own) if own else None


@dataclass(frozen=True)
class Settled:
    """What verdicts say of the pairs of a run.

    Attributes:
        answered: bool (m,), the pairs that somebody answered.
        implied: bool (m,), the pairs that nobody was asked and whose answer follows: both photos are the same picture
            as a third, or one of them is and the other is not.
    """

    answered: Bools
    implied: Bools

    @classmethod
    def of(cls, results: Results, answers: Answers) -> "Settled":
        """Match verdicts with the pairs of a run, by the contents of their photos."""
        links = answers.links
        answered = np.zeros(len(results), dtype=bool)
        rows = [results.row_of(*photos) for photos in _numbered(results, links.answered)]
        answered[[row for row in rows if row is not None]] = True
        implied = _implied(results, _ends(results, links.must), _ends(results, links.cannot))
        return cls(answered, implied & ~answered)


def _numbered(results: Results, pairs: Iterable[Pair]) -> list[tuple[int, int]]:
    """The numbers of the photos of pairs of contents, as far as both are of this run."""
    numbers = [(results.photo_of(first), results.photo_of(second)) for first, second in pairs]
    return [(first, second) for first, second in numbers if first is not None and second is not None]


def _ends(results: Results, pairs: Iterable[Pair]) -> Ints:
    """Pairs of contents as int64 (2, n)."""
    return np.array(_numbered(results, pairs), dtype=np.int64).reshape(-1, 2).T


def _implied(results: Results, same: Ints, different: Ints) -> Bools:
    """The pairs within one picture, and those between two pictures that are known to differ."""
    picture = components(len(results.paths), *same)
    first, second = picture[results.first], picture[results.second]
    apart = np.unique(results.key(picture[different[0]], picture[different[1]]))
    return np.asarray((first == second) | np.isin(results.key(first, second), apart))
