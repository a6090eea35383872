"""Parse sheets of legends: find their columns and, in each row, the page, the photo and the legend."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from openpyxl.utils import get_column_letter

from neardup.archive.discrepancies import Discrepancy, hidden_sheet
from neardup.archive.names import folded
from neardup.archive.sheets import Cell, Sheet

HEADER_ROWS = 10
"""Rows at the top of a sheet in which its column names are looked for: titles may stand above them."""

_NUMBER = r"(num(ero)?|no|nr|n)\s*"
"""Beginning of the name of a column of numbers, as a regular expression."""
_COLUMNS = {
    "legend": (r"legend[ea]?s?|legende[ns]?", r"captions?|didascali[ea]|bildunterschrift(en)?", r"description"),
    "page": (rf"{_NUMBER}(pages?|pagina|pagine|seite)", r"pages?|pagina|pagine|seite"),
    "photo": (
        rf"{_NUMBER}(photos?|images?|foto|fotos|bild|pictures?)",
        r"photos?|foto|fotos|bild",
        r"images?|pictures?",
    ),
}
"""Content of a column → regular expressions of its names, without accents and in lower case, the surest first.

A sheet may have a picture's file or a description beside the numbers and the legends.
"""


@dataclass(frozen=True)
class LegendRow:
    """One row of a sheet of legends; a blank cell has an empty text.

    Attributes:
        workbook: the workbook, relative to the archive.
        sheet: the sheet's name.
        row: the row as Excel counts.
        page: the cell of the page number.
        photo: the cell of the photo number.
        legend: the cell of the legend.
    """

    workbook: str
    sheet: str
    row: int
    page: Cell
    photo: Cell
    legend: Cell


@dataclass(frozen=True)
class LegendSheet:
    """The rows of one sheet of legends, and what was wrong with it.

    Attributes:
        rows: rows that are not blank; none where a column is missing.
        unusable: number of rows that are not blank but unusable because the sheet lacks a column.
        discrepancies: what is wrong with the sheet as a whole.
    """

    rows: tuple[LegendRow, ...] = ()
    unusable: int = 0
    discrepancies: tuple[Discrepancy, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Positions (0-based) of the columns, and of the row of their names; -1 for a missing column."""

    header: int
    legend: int
    page: int
    photo: int


def parse_legends(workbook: str, sheet: Sheet) -> LegendSheet:
    """Parse the rows of a sheet of legends, or say why it has none; a merged cell holds for each of its rows.

    Args:
        workbook: path of the workbook, relative to the archive.
        sheet: one of its sheets.
    """
    if sheet.hidden:
        return LegendSheet(discrepancies=(hidden_sheet(workbook, sheet.name),))
    sheet = sheet.spread()
    columns = find_columns(sheet)
    if columns is None:
        detail = "no column of a legend sheet: the sheet is not read"
        note = Discrepancy("note", workbook, sheet.name, detail=detail)
        return LegendSheet(discrepancies=(note,) if any(map(any, sheet.rows)) else ())
    blank = {None, *sheet.rows[columns.header]}  # names of columns that are merged over several rows are no row
    filled_rows = [
        (number, row)
        for number, row in enumerate(sheet.rows, 1)
        if number > columns.header + 1 and not blank.issuperset(row)
    ]
    missing = [kind for kind in ("legend", "photo") if getattr(columns, kind) < 0]
    if missing:
        column_names = ", ".join(cell.text for cell in sheet.rows[columns.header] if cell)
        detail = f"no column for {' and '.join(missing)}; the columns are: {column_names}"
        line = Discrepancy("missing column", workbook, sheet.name, columns.header + 1, detail=detail)
        return LegendSheet(unusable=len(filled_rows), discrepancies=(line,))
    places = (columns.page, columns.photo, columns.legend)
    return LegendSheet(
        tuple(
            LegendRow(workbook, sheet.name, number, *(_cell(row, number, place) for place in places))
            for number, row in filled_rows
        )
    )


def _cell(row: Sequence[Cell | None], number: int, column: int) -> Cell:
    """Get the cell of a row in a 0-based column; an empty one where it is blank or there is no such column."""
    if column < 0:
        return Cell("", "")
    return (row[column] if column < len(row) else None) or Cell(f"{get_column_letter(column + 1)}{number}", "")


def find_columns(sheet: Sheet) -> Columns | None:
    """Find the columns of a legend sheet, whatever their accents, case, number and language; None if it has none.

    Where several columns fit, the one with the surest name is taken, and of equally sure ones the first.
    """
    best: Columns | None = None
    for index, row in enumerate(sheet.rows[:HEADER_ROWS]):
        names = [re.sub(r"[^a-z]+", " ", folded(cell.text)).strip() if cell else "" for cell in row]
        legend, page, photo = (_column(names, patterns) for patterns in _COLUMNS.values())
        columns = Columns(index, legend, page, photo)
        if _count(columns) > (_count(best) if best else 0):
            best = columns
    return best


def _column(names: Sequence[str], patterns: Sequence[str]) -> int:
    """Find the first column (0-based) with the surest name; -1 where there is none."""
    return next((i for pattern in patterns for i, name in enumerate(names) if re.fullmatch(pattern, name)), -1)


def _count(columns: Columns) -> int:
    """Count how many of the three columns were found."""
    return sum(column >= 0 for column in (columns.legend, columns.page, columns.photo))


def number_of(text: str) -> int | None:
    """Parse a page or photo number: `3`, `3.0`, `03`; None for `/`, blanks, words and too many digits.

    >>> [number_of(text) for text in ("3", "3.0", "03", "/", "")]
    [3, 3, 3, None, None]
    """
    match = re.fullmatch(r"\s*0*(\d{1,18})(?:[.,]0*)?\s*", text)
    return int(match[1]) if match else None


def clean_legend(text: str) -> str:
    """Put a legend into one line: line breaks and runs of spaces become one space, accents are composed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()
