"""The validation split: photos with a common legend, look (also mirrored) or content stay on one side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neardup.arrays import Ints
from neardup.errors import TrainingError
from neardup.graphs import components

LEAST_SETS = 2
"""Least sets on each side, if there are twice as many: a contrastive loss over a single set means nothing."""


@dataclass(frozen=True)
class Split:
    """Rows of the examples, ascending: nothing that must stay together is on both sides.

    Attributes:
        training: rows to train with.
        validation: rows to validate on.
        sets: how many sets of inseparable rows there were.
    """

    training: tuple[int, ...]
    validation: tuple[int, ...]
    sets: int


def inseparable(
    captions: Sequence[str],
    photos: Sequence[str],
    phashes: Sequence[str],
    bits: int,
    known: Sequence[tuple[int, int]] = (),
    mirrored: Sequence[str] = (),
) -> list[list[int]]:
    """Rows that must stay together: linked, directly or through others, by caption, bytes or perceptual hash.

    Args:
        captions: the text of each row; an empty one equals no other.
        photos: the SHA-256 of each row.
        phashes: the perceptual hash of each row, 16 hex digits; an empty one equals no other.
        bits: photos look the same if their hashes differ in at most this many bits.
        known: pairs of rows that are linked besides.
        mirrored: the perceptual hash of each row's mirror image; an empty one equals no other; none by default.

    Returns:
        Sets of ascending rows, in the order of their first rows; each row is in exactly one.
    """
    known_links = np.array(known, dtype=np.int64).reshape(-1, 2)
    equal_links = [_equal(values) for values in (captions, photos, phashes)]
    mirror_links = _mirror_images(phashes, mirrored, bits)
    links = np.concatenate([*equal_links, _look_alikes(phashes, bits), mirror_links, known_links])
    rows_of: dict[int, list[int]] = {}
    for row, label in enumerate(components(len(captions), *links.T).tolist()):
        rows_of.setdefault(label, []).append(row)
    return list(rows_of.values())


def labels_of(sets: Sequence[Sequence[int]]) -> list[int]:
    """Number the sets from 0, and give each row its set's number; every row is in exactly one set."""
    labels = [0] * sum(map(len, sets))
    for number, rows in enumerate(sets):
        for row in rows:
            labels[row] = number
    return labels


def _equal(values: Sequence[str]) -> Ints:
    """Links between equal values, int64 (m, 2): each row with the first that has its value; empty ones equal none."""
    first: dict[str, int] = {}
    links = [(first.setdefault(value, row), row) for row, value in enumerate(values) if value]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _distinct(phashes: Sequence[str]) -> tuple[Ints, npt.NDArray[np.uint64]]:
    """Each hash once, but for empty ones: the first row that has it, int64 (m,), and its bits, uint64 (m,)."""
    first = {phash: row for row, phash in reversed(list(enumerate(phashes))) if phash}
    hashes = np.array([int(phash, 16) for phash in first], dtype=np.uint64)
    return np.array(list(first.values()), dtype=np.int64), hashes


def _look_alikes(phashes: Sequence[str], bits: int) -> Ints:
    """Links between hashes at most `bits` bits apart, int64 (m, 2), rows; each hash is compared once."""
    rows, hashes = _distinct(phashes)
    links = [np.empty((0, 2), dtype=np.int64)]
    for i in range(len(hashes)):
        near = rows[i + 1 :][np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= bits]
        links.append(np.stack([np.full(len(near), rows[i]), near], axis=1))
    return np.concatenate(links)


def _mirror_images(phashes: Sequence[str], mirrored: Sequence[str], bits: int) -> Ints:
    """Links between hashes and those of mirror images at most `bits` bits apart, int64 (m, 2), rows."""
    rows, hashes = _distinct(phashes)
    links = [np.empty((0, 2), dtype=np.int64)]
    for row, phash in enumerate(mirrored):
        if phash:
            near = rows[np.bitwise_count(hashes ^ np.uint64(int(phash, 16))) <= bits]
            links.append(np.stack([np.full(len(near), row), near], axis=1))
    return np.concatenate(links)


def split(sets: Sequence[Sequence[int]], share: float, seed: int) -> Split:
    """Choose whole sets of rows for validation, `share` of the rows or as near as whole sets come.

    The sets are shuffled by the seed, and each set that still fits is taken. Of four sets or more, each side has at
    least two.

    Raises:
        TrainingError: all rows form a single set, so that there is nothing to validate on.
    """
    rows = sum(len(members) for members in sets)
    if len(sets) < LEAST_SETS:
        raise TrainingError(
            f"the {rows} training photos cannot be split for validation, for all of them share a legend or a look: "
            "training needs photos with at least two different legends",
        )
    least = LEAST_SETS if len(sets) >= 2 * LEAST_SETS else 1
    order = np.random.default_rng(seed).permutation(len(sets))
    validation_sets = _choose([sets[i] for i in order], round(rows * share), least)
    validation = {row for members in validation_sets for row in members}
    training = tuple(row for row in range(rows) if row not in validation)
    return Split(training, tuple(sorted(validation)), len(sets))


def _choose(sets: Sequence[Sequence[int]], goal: int, least: int) -> list[Sequence[int]]:
    """Sets that fill the goal, a number of rows, in their order; the smallest ones if fewer than `least` do."""
    chosen_sets: list[Sequence[int]] = []
    room = goal
    for members in sets:
        if len(members) <= room and len(sets) - len(chosen_sets) > least:
            chosen_sets.append(members)
            room -= len(members)
    return chosen_sets if len(chosen_sets) >= least else sorted(sets, key=len)[:least]
