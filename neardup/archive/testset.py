"""The test set: the historian's groups of similar photos, as a table on disk."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neardup.stages import digest_of
from neardup.tables import load_table, save_rows


@dataclass(frozen=True)
class TestPhoto:
    """One photo of the test set.

    Attributes:
        name: its file name in `test_dataset/`, unique there.
        path: path of the photo in the archive.
        sha256: digest of its bytes, which identifies the photo.
        group: number of its group, from 1.
        row: the row of the ground truth that names it, as Excel counts.
        sheet: the sheet of the ground truth that has this row.
    """

    __test__ = False

    name: str
    path: str
    sha256: str
    group: int
    row: int
    sheet: str = ""


@dataclass(frozen=True)
class TestSet:
    """Photos with their groups, sorted by group."""

    __test__ = False

    photos: tuple[TestPhoto, ...]

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The group of each photo, int64 (n,)."""
        return np.array([photo.group for photo in self.photos], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """Digest of the photos' contents and groups, but not of names and paths."""
        return digest_of([(photo.sha256, photo.group) for photo in self.photos])

    def save(self, out: Path) -> Path:
        """Write the table `test_set.csv`, which `load` reads."""
        return save_rows(out / "test_set.csv", TestPhoto, self.photos)

    @classmethod
    def load(cls, out: Path) -> "TestSet":
        """Read the test set that `save` wrote.

        Raises:
            ArchiveError: nothing has been prepared in `out`, or another version prepared it.
        """
        return cls(load_table(out / "test_set.csv", TestPhoto))
