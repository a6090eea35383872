"""The historian's workbook of groups, read and written: each row is a group, each cell the name of a photo."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neardup.archive.discrepancies import Discrepancy, hidden_sheet
from neardup.archive.names import Names
from neardup.archive.scan import Photo
from neardup.archive.sheets import Cell, Sheet
from neardup.archive.testset import TestSet


@dataclass(frozen=True)
class Mention:
    """One cell of the ground truth that is not blank.

    Attributes:
        workbook: the workbook, relative to the archive.
        sheet: the sheet's name.
        row: the row as Excel counts, or the first of the rows that a merged cell joins; the cells of one row of one
            sheet are a group.
        cell: the cell.
    """

    workbook: str
    sheet: str
    row: int
    cell: Cell


def parse_ground_truth(workbook: str, sheets: Sequence[Sheet]) -> list[Mention]:
    """List the cells of a workbook of groups, sheet by sheet and row by row; the rows of every shown sheet are groups.

    Rows that a merged cell joins are one group where none of them has more than one other cell: its number or its
    first photo then stands beside the names, one below the other. `notes_on_sheets` says what was joined.

    Args:
        workbook: path of the workbook, relative to the archive.
        sheets: its sheets.
    """
    return [
        Mention(workbook, sheet.name, group_row, cell)
        for sheet in sheets
        if not sheet.hidden
        for group_row, row in zip(_group_rows(sheet), sheet.rows, strict=True)
        for cell in row
        if cell
    ]


def notes_on_sheets(workbook: str, sheets: Sequence[Sheet]) -> list[Discrepancy]:
    """Say which sheets of a workbook of groups are not read, and what cells that are merged over rows were taken for.

    Args:
        workbook: path of the workbook, relative to the archive.
        sheets: its sheets.
    """
    notes = [hidden_sheet(workbook, sheet.name) for sheet in sheets if sheet.hidden]
    for sheet in sheets:
        for cell, rows, joined in () if sheet.hidden else _merged_rows(sheet):
            place = (workbook, sheet.name, rows[0] + 1, cell.address, cell.text)
            text = f"{rows[0] + 1} to {rows[-1] + 1}"
            if joined:
                notes.append(Discrepancy("note", *place, f"rows {text} are one group: this cell is merged over them"))
            else:
                detail = f"the cell is merged over rows {text}, which have several other cells: each row is a group"
                advice = "if they are one group, write all its names into one row"
                notes.append(Discrepancy("ambiguous", *place, detail, advice))
    return notes


def _merged_rows(sheet: Sheet) -> Iterator[tuple[Cell, range, bool]]:
    """Yield each cell that is merged over rows with other cells, the rows' indices, and whether they are one group."""
    merged = list(sheet.merged_cells())
    spanning = {cell for cell, _, _ in merged}
    for cell, rows, _ in merged:
        others = [sum(other is not None and other not in spanning for other in sheet.rows[row]) for row in rows]
        if sum(map(bool, others)) > 1:
            yield cell, rows, max(others) == 1


def _group_rows(sheet: Sheet) -> list[int]:
    """The row of the group of each row of a sheet, as Excel counts: its own, or the first that a merged cell joins."""
    group_rows = list(range(1, len(sheet.rows) + 1))
    for _, rows, joined in _merged_rows(sheet):
        if joined:
            group_rows[rows.start : rows.stop] = [group_rows[rows.start]] * len(rows)
    return group_rows


def named_photos(mentions: Sequence[Mention], names: Names) -> list[Photo]:
    """List every photo that a cell of the ground truth means, or may mean if misspelt, in the test set or not.

    A photo that stands in two rows, shares a cell with others, or whose name is misspelt, is in no group, yet it is a
    near-duplicate of its row's photos.
    """
    return [
        photo
        for cell in dict.fromkeys(mention.cell.text for mention in mentions)
        for photo in names.find(cell).photos or names.listed(cell) or names.find(names.suggest(cell)).photos
    ]


def ground_truth_rows(test_set: TestSet, names: Names) -> list[list[str]]:
    """Make the cells of `new_IS.xlsx`: a row per group, each photo by the shortest name that means it and no other.

    Read as the ground truth of the same archive, they give the same test set.
    """
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for photo in test_set.photos:
        groups[photo.group].append(names.shortest(photo.path))
    return list(groups.values())
