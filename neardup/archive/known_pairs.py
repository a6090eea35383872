"""An output folder's table of known pairs: whether both photos show the same picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.errors import ArchiveError
from neardup.tables import load_table

if TYPE_CHECKING:
    from scipy.cluster.hierarchy import DisjointSet

KNOWN_PAIRS = "known_pairs.csv"
"""Optional table in the output folder (columns first, second, same) of pairs of photos for the approach `adapted`."""


@dataclass(frozen=True)
class KnownPair:
    """One row of a table of known pairs.

    Attributes:
        first: SHA-256 of one photo.
        second: SHA-256 of the other.
        same: 1 where both show the same picture, else 0.
    """

    first: str
    second: str
    same: int


def load_known_pairs(table: Path) -> tuple[KnownPair, ...]:
    """Read the rows of a table of known pairs; none where there is no table.

    Raises:
        ArchiveError: the table has other columns, or says of two photos, perhaps by way of others, that they are the
            same and that they are not.
    """
    if not table.is_file():
        return ()
    pairs = load_table(table, KnownPair, "give it the columns first, second and same (1 or 0), or move it away")
    pictures = _pictures(pairs)
    for line, pair in enumerate(pairs, 2):
        if pair.same not in {0, 1}:
            raise ArchiveError(f"{table}, line {line}: same is {pair.same}, expected 1 or 0: mend the line")
        if not pair.same and pictures.connected(pair.first, pair.second):
            raise ArchiveError(
                f"{table}, line {line}: {pair.first[:12]} and {pair.second[:12]} are different there, but one photo or "
                "the same by other lines, perhaps by way of other photos: delete the line that is wrong"
            )
    return pairs


def known_as_test_photos(out: Path) -> frozenset[str]:
    """Find the photos that an output folder's known pairs call the same as a test photo: their SHA-256.

    Photos that are the same by way of others are included; the test photos themselves are not.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or the table cannot be used; see `load_known_pairs`.
    """
    tested = {photo.sha256 for photo in TestSet.load(out).photos}
    reached = [picture for picture in _pictures(load_known_pairs(out / KNOWN_PAIRS)).subsets() if picture & tested]
    return frozenset().union(*reached) - tested


def _pictures(pairs: Sequence[KnownPair]) -> "DisjointSet[str]":
    """Join the photos of pairs, by their SHA-256, that are the same, directly or by way of others."""
    from scipy.cluster.hierarchy import DisjointSet  # noqa: PLC0415 - SciPy, which not all need

    pictures: DisjointSet[str] = DisjointSet(photo for pair in pairs for photo in (pair.first, pair.second))
    for pair in pairs:
        if pair.same:
            pictures.merge(pair.first, pair.second)
    return pictures


def training_photos_also_tested(out: Path) -> list[str]:
    """The photos of the training set, by their SHA-256, that known pairs call the same as a photo of the test set.

    Nothing else tells of them: neither their bytes nor their perceptual hashes do. They must not be trained on.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or the table cannot be used; see `load_known_pairs`.
    """
    if not (out / KNOWN_PAIRS).is_file():
        return []
    return sorted(known_as_test_photos(out) & {photo.sha256 for photo in TrainingSet.load(out).photos})
