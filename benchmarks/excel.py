"""Excel sheets of the size of a large archive's tables: read and written by neardup and by what people know."""

from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pandas as pd
from rates import Measured, measured

from neardup.archive.sheets import read_workbook
from neardup.tables import write_table

ROWS = 100_000
COLUMNS = ("image_name", "legend", "caption", "source", "copy")
Row = tuple[str, str, str, str, int]


def rows() -> list[Row]:
    """Rows like those of `df_training_aug.xlsx`: five copies a photo."""
    return [
        (
            f"aug_{i // 5}_{i % 5}.jpg",
            f"Soldats italiens débarquant à Tripoli, {i // 5}",
            f"Italian soldiers landing in Tripoli, {i // 5}",
            f"np_guerreillustree_{i // 5:05d}_01.jpg",
            i % 5,
        )
        for i in range(ROWS)
    ]


def measure_excel(photos: Path, work: Path) -> list[Measured]:
    """Reading and writing one sheet; the photos are not looked at."""
    del photos
    folder = work / "excel"
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "read.xlsx"
    write_table(sheet, COLUMNS, rows())
    size = f"{ROWS:,} × {len(COLUMNS)} cells of an .xlsx file"
    readers: Sequence[tuple[str, Callable[[Path], Callable[[], object]]]] = (
        ("neardup", reading),
        ("pandas with calamine", reading_by_pandas),
        ("openpyxl, read only", reading_by_openpyxl),
    )
    writers = (
        ("neardup", writing),
        ("pandas with XlsxWriter", writing_by_pandas),
        ("openpyxl, write only", writing_by_openpyxl),
    )
    return [
        *(measured(f"read {size}", method, "rows", ROWS, make, sheet) for method, make in readers),
        *(measured(f"write {size}", method, "rows", ROWS, make, folder / "written.xlsx") for method, make in writers),
    ]


def reading(sheet: Path) -> Callable[[], object]:
    """Text, address and formula of every cell."""
    return lambda: read_workbook(sheet)


def reading_by_pandas(sheet: Path) -> Callable[[], object]:
    """Values."""
    return lambda: pd.read_excel(sheet, engine="calamine")


def reading_by_openpyxl(sheet: Path) -> Callable[[], object]:
    """Values."""

    def read() -> None:
        book = openpyxl.load_workbook(sheet, read_only=True)
        list(book.worksheets[0].iter_rows(values_only=True))
        book.close()

    return read


def writing(sheet: Path) -> Callable[[], object]:
    """A header, text as text, columns as wide as their values."""
    table = rows()
    return lambda: write_table(sheet, COLUMNS, table)


def writing_by_pandas(sheet: Path) -> Callable[[], object]:
    """A header and values."""
    table = pd.DataFrame(rows(), columns=list(COLUMNS))
    return lambda: table.to_excel(sheet, index=False, engine="xlsxwriter")


def writing_by_openpyxl(sheet: Path) -> Callable[[], object]:
    """A header and values."""
    table = rows()

    def write() -> None:
        book = openpyxl.Workbook(write_only=True)
        page = book.create_sheet()
        for row in (COLUMNS, *table):
            page.append(row)
        book.save(sheet)

    return write
