"""Pairs that people have decided: those that must be together, those that must stay apart, and contradictions."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from neardup.errors import ConfigError

Node = TypeVar("Node", bound=Hashable)
"""A node of a graph: the row of a photo, or its SHA-256."""

MOST_NAMED = 5
"""Most contradictions that an error's sentence spells out; it gives only the number of the others."""


@dataclass(frozen=True)
class Contradiction:
    """Two photos that must stay apart though a chain of others holds them together.

    Attributes:
        apart: rows of the two photos.
        chain: the shortest chain of pairs that must be together, from one to the other; empty where both are one photo.
    """

    apart: tuple[int, int]
    chain: tuple[tuple[int, int], ...]

    def sentence(self, name: Callable[[int], str] = str) -> str:
        """Write the contradiction in one line; `name` turns a row into its photo's name.

        >>> Contradiction((0, 2), ((0, 1), (1, 2))).sentence()
        '0 = 1, 1 = 2, yet 0 ≠ 2'
        """
        same = ", ".join(f"{name(left)} = {name(right)}" for left, right in self.chain)
        return f"{same}, yet {name(self.apart[0])} ≠ {name(self.apart[1])}"


@dataclass(frozen=True)
class Constraints:
    """Pairs of rows that groups must obey.

    Attributes:
        together: pairs that must share a group.
        apart: pairs that must not share a group.
    """

    together: tuple[tuple[int, int], ...] = ()
    apart: tuple[tuple[int, int], ...] = ()

    def contradictions(self) -> list[Contradiction]:
        """Each pair that must stay apart but is held together, in the order of `apart`."""
        neighbours: defaultdict[int, list[int]] = defaultdict(list)
        for left, right in sorted({(min(pair), max(pair)) for pair in self.together}):
            neighbours[left].append(right)
            neighbours[right].append(left)
        contradictions = []
        for left, right in self.apart:
            path = shortest_path(neighbours, left, right)
            if path:
                contradictions.append(Contradiction((left, right), tuple(pairwise(path))))
        return contradictions

    def check(self, name: Callable[[int], str] = str) -> None:
        """Refuse constraints that cannot all be met.

        Args:
            name: function from a row to its photo's name.

        Raises:
            ConfigError: with the pairs that contradict each other.
        """
        if contradictions := self.contradictions():
            lines = "; ".join(contradiction.sentence(name) for contradiction in contradictions[:MOST_NAMED])
            more = f" and {len(contradictions) - MOST_NAMED} more" if len(contradictions) > MOST_NAMED else ""
            raise ConfigError(f"verdicts contradict each other: {lines}{more}; withdraw one of each")


@dataclass(frozen=True)
class PairVerdicts:
    """What people said of pairs of photos; a pair is both SHA-256, the lesser first.

    Attributes:
        answers: pair → the answer in force.
        together: pairs that are the same picture.
        apart: pairs that are not the same picture.
        chosen: SHA-256 of photos that people chose to stand for their groups, the last choice last.
    """

    answers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    together: Sequence[tuple[str, str]] = ()
    apart: Sequence[tuple[str, str]] = ()
    chosen: Sequence[str] = ()

    @property
    def photos(self) -> list[str]:
        """All photos of pairs that must be together or apart, sorted."""
        return sorted({photo for pair in (*self.together, *self.apart) for photo in pair})

    def constraints(self, photos: Sequence[str], same: Iterable[tuple[int, int]] = ()) -> Constraints:
        """Turn what people said into pairs of rows that groups must keep together or apart.

        Args:
            photos: SHA-256 of each row's photo; of equal ones, the first row stands for all.
            same: pairs of rows that are together anyway, as exact copies are.
        """
        row_of = {photo: row for row, photo in reversed(list(enumerate(photos)))}
        together, apart = (
            [(row_of[a], row_of[b]) for a, b in judged if a in row_of and b in row_of]
            for judged in (self.together, self.apart)
        )
        return Constraints((*same, *together), tuple(apart))


NO_VERDICTS = PairVerdicts()
"""The verdicts where nobody was asked: none."""


def shortest_path(neighbours: Mapping[Node, Iterable[Node]], start: Node, end: Node) -> list[Node]:
    """Find the shortest path from one node of a graph to another, both included; empty where there is none.

    Args:
        neighbours: neighbours of each node, in the order in which they are tried; nodes without any may be missing.
        start: the first node.
        end: the last node.
    """
    predecessor, waiting = {start: start}, deque([start])
    while waiting and end not in predecessor:
        node = waiting.popleft()
        for other in neighbours.get(node, ()):
            if other not in predecessor:
                predecessor[other] = node
                waiting.append(other)
    if end not in predecessor:
        return []
    path = [end]
    while path[-1] != start:
        path.append(predecessor[path[-1]])
    return path[::-1]
