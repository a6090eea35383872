"""The test set: the historian's groups of similar photos, resolved against what is on disk."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from neardup.archive.discrepancies import Discrepancy
from neardup.archive.names import Names, climbs, folded
from neardup.archive.scan import Photo
from neardup.archive.sheets import Cell, Sheet
from neardup.stages import digest_of
from neardup.tables import load_rows, save_rows


@dataclass(frozen=True)
class TestPhoto:
    """One photo of the test set.

    Attributes:
        name: its file name in `test_dataset/`, unique there.
        path: where it lies in the archive.
        sha256: its identity.
        group: number of its group, from 1.
        row: the row of the ground truth that names it, as Excel counts.
    """

    __test__ = False

    name: str
    path: str
    sha256: str
    group: int
    row: int


@dataclass(frozen=True)
class TestSet:
    """Photos with their groups, ordered by group."""

    __test__ = False

    photos: tuple[TestPhoto, ...]

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The group of each photo, int64 (n,)."""
        return np.array([photo.group for photo in self.photos], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """Digest of contents and groups."""
        return digest_of([(photo.sha256, photo.group) for photo in self.photos])

    def rows(self) -> list[list[str]]:
        """Names on disk, a row a group: what `new_IS.xlsx` holds."""
        groups: defaultdict[int, list[str]] = defaultdict(list)
        for photo in self.photos:
            groups[photo.group].append(PurePosixPath(photo.path).name)
        return list(groups.values())

    def save(self, out: Path) -> Path:
        """Write the machine-readable table `test_set.csv`."""
        return save_rows(out / "test_set.csv", TestPhoto, self.photos)

    @classmethod
    def load(cls, out: Path) -> "TestSet":
        """Read what `save` wrote.

        Raises:
            ArchiveError: nothing has been prepared in `out`.
        """
        rows = load_rows(out / "test_set.csv")
        numbered = ({**row, "group": int(row["group"]), "row": int(row["row"])} for row in rows)
        return cls(tuple(TestPhoto(**row) for row in numbered))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Named:
    """A cell that was resolved to one photo."""

    cell: Cell
    row: int
    photo: Photo


@dataclass(frozen=True)
class ResolvedGroups:
    """The test set with what did not fit, and the count of each kind of cell."""

    test_set: TestSet
    discrepancies: tuple[Discrepancy, ...]
    counts: Counter[str]


def resolve_groups(sheets: Sequence[Sheet], names: Names, file: str) -> ResolvedGroups:
    """Resolve every cell of the ground truth; a group is a row that keeps at least one photo.

    A cell is used, or counted under the reason why it is not: a name that stands in two rows contradicts itself, and
    its photo is in neither group.

    Args:
        sheets: the workbook; every sheet's rows are groups.
        names: the names of the archive.
        file: the workbook's name, for the report.
    """
    counts: Counter[str] = Counter()
    lines: list[Discrepancy] = []
    named: list[_Named] = []
    number = 0
    for sheet in sheets:
        for row, cells in enumerate(sheet.rows, 1):
            number += 1
            for cell in filter(None, cells):
                counts["listed"] += 1
                kind, photo, line = _resolve(cell, names)
                if photo is None:
                    counts[kind] += 1
                    lines.append(_placed(line, file, sheet.name, row, cell))
                else:
                    named.append(_Named(cell, number, photo))
                    if line is not None:
                        lines.append(_placed(line, file, sheet.name, row, cell))
    kept = _without_repeats(named, file, counts, lines)
    counts["used"] = len(kept)
    return ResolvedGroups(TestSet(tuple(_photos(kept))), tuple(lines), counts)


def _placed(line: Discrepancy | None, file: str, sheet: str, row: int, cell: Cell) -> Discrepancy:
    kind, detail, suggestion = (line.kind, line.detail, line.suggestion) if line else ("note", "", "")
    return Discrepancy(kind, file, sheet, row, cell.address, cell.text, detail, suggestion)


def _resolve(cell: Cell, names: Names) -> tuple[str, Photo | None, Discrepancy | None]:
    def refuse(kind: str, detail: str, suggestion: str = "") -> tuple[str, None, Discrepancy]:
        return kind, None, Discrepancy(kind, "", detail=detail, suggestion=suggestion)

    if cell.formula:
        return refuse("unsafe cell", "the cell holds a formula", "write the name itself")
    if climbs(cell.text):
        return refuse("unsafe cell", "the cell climbs out of the archive", "write the name of a photo of the archive")
    found = names.find(cell.text)
    if found.ambiguous:
        places = ", ".join(photo.path for photo in found.photos)
        return refuse("ambiguous", f"different photos of that name: {places}", "write the folder before the name")
    if found.photos:
        photo = found.photos[0]
        same = names.find(PurePosixPath(photo.path).stem).photos
        note = None
        if len(found.photos) > 1:
            places = ", ".join(photo.path for photo in found.photos)
            note = Discrepancy("note", "", detail=f"equal bytes in {places}: one photo")
        elif folded(photo.name) != folded(cell.text) and len(same) > 1:
            note = Discrepancy("note", "", detail=f"resolved by the folder to {photo.path}")
        return "used", photo, note
    if found.unreadable:
        return refuse("unreadable", f"{found.unreadable[0].path}: {found.unreadable[0].reason}", "replace the file")
    near = names.suggest(cell.text)
    return refuse("not found", "no photo of that name is in the archive", f"is {near} meant?" if near else "")


def _without_repeats(
    named: Sequence[_Named], file: str, counts: Counter[str], lines: list[Discrepancy]
) -> list[_Named]:
    """Drop the photos that stand in two rows, and the second mention of a photo within a row."""
    rows: defaultdict[str, set[int]] = defaultdict(set)
    for item in named:
        rows[item.photo.sha256].add(item.row)
    kept: list[_Named] = []
    seen: set[str] = set()
    for item in named:
        line = Discrepancy("", file, "", item.row, item.cell.address, item.cell.text)
        others = sorted(rows[item.photo.sha256])
        if len(others) > 1:
            counts["contradiction"] += 1
            detail = f"the photo stands in rows {', '.join(map(str, others))}: it is in no group"
            lines.append(_as(line, "contradiction", detail, "keep it in one row, or join the rows"))
        elif item.photo.sha256 in seen:
            counts["repeated"] += 1
            lines.append(_as(line, "note", f"the row names this photo twice ({item.photo.path}): it is taken once", ""))
        else:
            seen.add(item.photo.sha256)
            kept.append(item)
    return kept


def _as(line: Discrepancy, kind: str, detail: str, suggestion: str) -> Discrepancy:
    return Discrepancy(kind, line.file, line.sheet, line.row, line.cell, line.name, detail, suggestion)


def _photos(kept: Sequence[_Named]) -> list[TestPhoto]:
    groups: dict[int, int] = {}
    names = distinct_names([item.photo.path for item in kept])
    return [
        TestPhoto(name, item.photo.path, item.photo.sha256, groups.setdefault(item.row, len(groups) + 1), item.row)
        for item, name in zip(kept, names, strict=True)
    ]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """A file name for each path, unique also where case does not count: `x.jpg`, and `x~presse.jpg` for a namesake."""
    shared = Counter(PurePosixPath(path).name.casefold() for path in paths)
    taken: set[str] = set()
    names: list[str] = []
    for path in paths:
        pure = PurePosixPath(path)
        name = pure.name
        if shared[name.casefold()] > 1:
            name = f"{pure.stem}~{'~'.join(pure.parent.parts)}{pure.suffix}"
        stem, count = PurePosixPath(name).stem, 2
        while name.casefold() in taken:
            name, count = f"{stem}~{count}{pure.suffix}", count + 1
        taken.add(name.casefold())
        names.append(name)
    return names
