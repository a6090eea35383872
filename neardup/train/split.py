"""The validation split: photos that share a legend, a look or their bytes stay on one side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neardup.errors import TrainingError

ENOUGH = 2
"""Sets a side where there are enough of them: a contrastive loss over a single one says nothing."""


@dataclass(frozen=True)
class Split:
    """Rows of the examples, ascending; no legend, no look and no photo is on both sides."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    sets: int


class _Sets:
    """Disjoint sets of rows 0 to n - 1 that can be joined."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = row = self._parent[self._parent[row]]
        return row

    def join(self, rows: Iterable[int]) -> None:
        roots = [self.find(row) for row in rows]
        for root in roots:
            self._parent[root] = min(roots)

    def all(self) -> list[list[int]]:
        members: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            members.setdefault(self.find(row), []).append(row)
        return list(members.values())


def inseparable(captions: Sequence[str], photos: Sequence[str], looks: Sequence[str], bits: int) -> list[list[int]]:
    """Rows that must stay together: linked, directly or through others, by caption, bytes or look.

    Args:
        captions: the text of each row.
        photos: the SHA-256 of each row.
        looks: the perceptual hash of each row, 16 hex digits; an empty one is like no other.
        bits: hashes at most so many bits apart look the same.

    Returns:
        Sets of ascending rows, in the order of their first rows; each row is in exactly one.
    """
    sets = _Sets(len(captions))
    for marks in (captions, photos, looks):
        for rows in _equal(marks).values():
            sets.join(rows)
    first = {look: rows[0] for look, rows in _equal(looks).items()}
    rows_of = list(first.values())
    for row, like in zip(rows_of, _look_alikes(list(first), bits), strict=True):
        sets.join([row, *(rows_of[i] for i in like)])
    return sets.all()


def _equal(marks: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, mark in enumerate(marks):
        if mark:
            rows.setdefault(mark, []).append(row)
    return rows


def _look_alikes(looks: Sequence[str], bits: int) -> list[npt.NDArray[np.intp]]:
    """For each hash, the positions of the later ones that are at most `bits` bits away."""
    hashes = np.array([int(look, 16) for look in looks], dtype=np.uint64)
    return [
        row + 1 + np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= bits)
        for row in range(len(hashes))
    ]


def split(sets: Sequence[Sequence[int]], share: float, seed: int) -> Split:
    """Choose whole sets of rows for validation, `share` of the rows or as near as whole sets come.

    Seeded: the sets are shuffled, and each is taken that still fits. Of four sets or more, each side has two at least.

    Raises:
        TrainingError: everything hangs together, so that there is nothing to validate on.
    """
    rows = sum(len(members) for members in sets)
    if len(sets) < ENOUGH:
        raise TrainingError(
            f"the {rows} training photos cannot be split for validation, for all of them share a legend or a look: "
            "training needs photos with at least two different legends",
        )
    least = ENOUGH if len(sets) >= 2 * ENOUGH else 1
    order = np.random.default_rng(seed).permutation(len(sets))
    chosen = _choose([sets[i] for i in order], round(rows * share), least)
    validation = {row for members in chosen for row in members}
    training = tuple(row for row in range(rows) if row not in validation)
    return Split(training, tuple(sorted(validation)), len(sets))


def _choose(sets: Sequence[Sequence[int]], goal: int, least: int) -> list[Sequence[int]]:
    """Sets that fill the goal, in their order; the smallest ones if fewer than `least` do."""
    chosen: list[Sequence[int]] = []
    room = goal
    for members in sets:
        if len(members) <= room and len(sets) - len(chosen) > least:
            chosen.append(members)
            room -= len(members)
    return chosen if len(chosen) >= least else sorted(sets, key=len)[:least]
