"""The report of discrepancies: one line per fault, with file, sheet, row and cell, and what may be meant."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from neardup.pages import write_page
from neardup.tables import write_csv, write_table

KINDS = {
    "not found": "no photo of that name is in the archive",
    "ambiguous": "the name stands for different photos in several folders, or it is not clear which rows are one group",
    "contradiction": "the sheets say two different things of one photo",
    "unreadable": "the file or the workbook cannot be read",
    "unsafe cell": "a cell holds a formula or climbs out of the folder",
    "missing column": "the sheet lacks a column that is needed",
    "left out": "the photo or the row is not used, and why",
    "note": "all is well, but it is worth knowing",
}
"""The kinds of discrepancy, gravest first, and their meanings."""


@dataclass(frozen=True)
class Discrepancy:
    """One line of the report of discrepancies.

    Attributes:
        kind: one of `KINDS`.
        file: the workbook or image, relative to the archive.
        sheet: the sheet's name, or empty.
        row: the row as Excel numbers it, or 0.
        cell: the cell's address, or empty.
        name: text of the cell, or name of the file.
        detail: what is wrong.
        suggestion: what may be meant or done, or empty.
    """

    kind: str
    file: str
    sheet: str = ""
    row: int = 0
    cell: str = ""
    name: str = ""
    detail: str = ""
    suggestion: str = ""


COLUMNS = tuple(field.name for field in fields(Discrepancy))
"""Columns of the report, in their order."""


def hidden_sheet(workbook: str, sheet: str) -> Discrepancy:
    """Make the line of a sheet that is not read because Excel does not show it."""
    detail, advice = "the sheet is hidden: it is not read", "if it counts, show it (right-click a sheet's tab, Unhide)"
    return Discrepancy("left out", workbook, sheet, detail=detail, suggestion=advice)


def write_discrepancies(out: Path, lines: Sequence[Discrepancy], counts: Sequence[tuple[str, str, int]]) -> list[Path]:
    """Write the report of discrepancies as `discrepancies.xlsx`, `.csv` and `.html`.

    Args:
        out: the folder.
        lines: the discrepancies.
        counts: (block, kind, number): in each block `listed` equals the sum of the other kinds.

    Returns:
        The paths of the three files.
    """
    order = {kind: rank for rank, kind in enumerate(KINDS)}
    ordered = sorted(lines, key=lambda line: (order[line.kind], line.file, line.sheet, line.row, line.cell, line.name))
    paths = [out / f"discrepancies.{suffix}" for suffix in ("xlsx", "csv", "html")]
    write_table(paths[0], COLUMNS, [astuple(line) for line in ordered])
    write_csv(paths[1], COLUMNS, map(astuple, ordered))
    write_page(paths[2], "discrepancies", lines=ordered, counts=counts, kinds=KINDS, columns=COLUMNS[1:])
    return paths
