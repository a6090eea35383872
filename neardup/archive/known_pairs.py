"""An output folder's table of known pairs: whether both photos show the same picture."""

from dataclasses import dataclass
from pathlib import Path

from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.tables import load_table

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
        ArchiveError: the table has other columns.
    """
    advice = "give it the columns first, second and same (1 or 0), or move it away"
    return load_table(table, KnownPair, advice) if table.is_file() else ()


def known_as_test_photos(out: Path) -> frozenset[str]:
    """Find the photos that an output folder's known pairs call the same as a test photo: their SHA-256.

    Photos that are the same by way of others are included; the test photos themselves are not.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or the table has other columns.
    """
    from scipy.cluster.hierarchy import DisjointSet  # noqa: PLC0415 - SciPy, which not all need

    tested = {photo.sha256 for photo in TestSet.load(out).photos}
    same = [pair for pair in load_known_pairs(out / KNOWN_PAIRS) if pair.same]
    pictures = DisjointSet(tested | {photo for pair in same for photo in (pair.first, pair.second)})
    for pair in same:
        pictures.merge(pair.first, pair.second)
    reached = [picture for picture in pictures.subsets() if picture & tested]
    return frozenset().union(*reached) - tested


def training_photos_also_tested(out: Path) -> list[str]:
    """The photos of the training set, by their SHA-256, that known pairs call the same as a photo of the test set.

    Nothing else tells of them: neither their bytes nor their perceptual hashes do. They must not be trained on.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or the table of known pairs has other columns.
    """
    if not (out / KNOWN_PAIRS).is_file():
        return []
    return sorted(known_as_test_photos(out) & {photo.sha256 for photo in TrainingSet.load(out).photos})
