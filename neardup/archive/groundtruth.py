"""The historian's workbook of groups, read and written: each row is a group, each cell the name of a photo."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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
        row: the row as Excel counts; the cells of one row of one sheet are a group.
        cell: the cell.
    """

    workbook: str
    sheet: str
    row: int
    cell: Cell


def parse_ground_truth(workbook: str, sheets: Sequence[Sheet]) -> list[Mention]:
    """List the cells of a workbook of groups, sheet by sheet and row by row; every sheet's rows are groups.

    Args:
        workbook: path of the workbook, relative to the archive.
        sheets: its sheets.
    """
    return [
        Mention(workbook, sheet.name, number, cell)
        for sheet in sheets
        for number, row in enumerate(sheet.rows, 1)
        for cell in row
        if cell
    ]


def named_photos(mentions: Sequence[Mention], names: Names) -> list[Photo]:
    """List every photo that a cell of the ground truth means, or may mean if misspelt, in the test set or not.

    A photo that stands in two rows, or whose name is misspelt, is in no group, yet it is a near-duplicate of its row's
    photos.
    """
    cells = dict.fromkeys(mention.cell.text for mention in mentions)
    return [photo for cell in cells for photo in names.find(cell).photos or names.find(names.suggest(cell)).photos]


def ground_truth_rows(test_set: TestSet, names: Names) -> list[list[str]]:
    """Make the cells of `new_IS.xlsx`: a row per group, each photo by the shortest name that means it and no other.

    Read as the ground truth of the same archive, they give the same test set.
    """
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for photo in test_set.photos:
        groups[photo.group].append(names.shortest(photo.path))
    return list(groups.values())
