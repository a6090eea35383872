"""Plain tables: .xlsx and .csv, written so that no text ever becomes a formula, and Parquet with checksums."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import xlsxwriter
from xlsxwriter.format import Format

from neardup.errors import ArchiveError
from neardup.stages import replacing
from neardup.words import LONGEST_REASON, reason_of, typed

if TYPE_CHECKING:
    import pyarrow as pa

CREATED = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""The creation date of every workbook that is written, so that equal content gives equal bytes."""
AS_TEXT = MappingProxyType({f"strings_to_{kind}": False for kind in ("formulas", "urls", "numbers")})
"""Options of every workbook that is written, by which no text becomes anything else."""
SHEET_ROWS = 1_048_575
"""Rows that a sheet of Excel can hold below its header."""
SHEET_COLUMNS = 16_384
"""Cells that a row of a sheet of Excel can hold."""
CELL_LENGTH = 32_767
"""Characters that a cell of Excel can hold; longer text is cut."""

Value = str | float | int | bool | None
"""What a cell of a table may hold; None leaves it blank."""
Row = TypeVar("Row")
"""A dataclass whose instances are the rows of a table."""


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Value]], *, header: bool = True) -> None:
    """Write one sheet; text stays text, also when it begins with `=`, `+`, `-` or `@`. Whole or not at all.

    Rows go to disk as they come. In memory, a table of 100,000 rows took 120 MB and a quarter more time. Of a
    row that is too long for Excel the last cell says how many values are missing, of too many rows the last one.

    Args:
        path: the .xlsx file.
        columns: names of the columns, the first row.
        rows: values; None is a blank cell.
        header: False writes the rows alone.
    """
    with replacing(path) as partial:
        workbook = xlsxwriter.Workbook(str(partial), {**AS_TEXT, "constant_memory": True, "nan_inf_to_errors": True})
        workbook.set_properties({"created": CREATED})
        sheet = workbook.add_worksheet()
        bold = workbook.add_format({"bold": True})
        if header:
            sheet.write_row(0, 0, columns, bold)
            sheet.freeze_panes(1, 0)
        widths, index = [len(name) for name in columns], 0
        for index, row in enumerate(_fitting_rows(rows, SHEET_ROWS + (not header)), int(header)):
            for column, value in enumerate(_fitting(row)):
                if value is None:
                    continue
                if isinstance(value, str):
                    write_text(sheet, index, column, value)
                else:
                    sheet.write(index, column, value)
                if column < len(widths):
                    widths[column] = max(widths[column], len(str(value)))
        for column, width in enumerate(widths):
            sheet.set_column(column, column, min(60, width + 2))
        if header:
            sheet.autofilter(0, 0, index, len(columns) - 1)
        workbook.close()


def _fitting_rows(rows: Iterable[Sequence[Value]], most: int) -> Iterator[Sequence[Value]]:
    """The rows, or as many as Excel holds and one that says how many it does not."""
    left = iter(rows)
    yield from islice(left, most - 1)
    for last in islice(left, 1):
        missing = sum(1 for _ in left)
        yield [f"… and {missing + 1:,} more rows"] if missing else last


def _fitting(row: Sequence[Value]) -> Sequence[Value]:
    """The row, or as much of it as Excel holds and how much it does not."""
    if len(row) <= SHEET_COLUMNS:
        return row
    return [*row[: SHEET_COLUMNS - 1], f"… and {len(row) - SHEET_COLUMNS + 1:,} more"]


def write_text(sheet: Any, row: int, column: int, text: str, form: Format | None = None) -> None:
    """Write text into a cell of one of xlsxwriter's sheets, cut to what a cell holds.

    xlsxwriter copies text from `<r>` to `</r>` into the file without escaping, as its mark-up for several fonts;
    written as text of two equal fonts, it is read back unchanged.
    """
    text = encodable(text)[:CELL_LENGTH]
    if text.startswith("<r>") and text.endswith("</r>"):
        sheet.write_rich_string(row, column, text[0], Format(), text[1:], *([form] if form else ()))
    else:
        sheet.write_string(row, column, text, form)


csv.field_size_limit(2**31 - 1)  # else cells of over 131,072 letters, which tables of ours may have, are refused


def write_parquet(path: Path, table: "pa.Table") -> Path:
    """Write a table as Parquet, atomically, with checksums that reveal bytes that a disk changed."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - workbooks are written without it

    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    return path


@contextmanager
def reading_parquet(sentence: Callable[[str], str]) -> Iterator[None]:
    """Context that turns errors of reading a broken or incomplete Parquet file into a sentence with advice.

    Errors of the disk or the network are not the file's fault and are raised unchanged.

    Args:
        sentence: what to say, given the reason in the words of the library.

    Raises:
        ArchiveError: with that sentence.
    """
    import pyarrow as pa  # noqa: PLC0415 - workbooks are read without it

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        reason = str(error).partition("\n")[0].rpartition("': ")[2]  # without the path, which the sentence names
        raise ArchiveError(sentence(reason[:LONGEST_REASON])) from error


def encodable(text: str) -> str:
    r"""Text that can be written as UTF-8: a lone surrogate, as a file name of other bytes has them, is escaped.

    >>> print(encodable("caf\udce9"))
    caf\udce9
    """
    return text.encode("utf-8", "backslashreplace").decode()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> Path:
    """Write a table as CSV in UTF-8, atomically; text that a spreadsheet would take for a formula is escaped."""
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        table = csv.writer(stream)
        table.writerow(columns)
        table.writerows(map(guarded, row) for row in rows)
    return path


def guarded(value: Value) -> Value:
    """Escape a value for a CSV: text that a spreadsheet would take for a formula gets a leading apostrophe.

    >>> [guarded(value) for value in ("=1+1", "-1", "a", "'a", -1)]
    ["'=1+1", "'-1", 'a', "''a", -1]
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "'", "\t", "\r")) else value


def parsed_csv(text: str) -> list[list[str]]:
    """Parse a CSV that somebody saved, separated by commas, semicolons or tabs: whichever its header has most of.

    Raises:
        csv.Error: it is no CSV.

    >>> parsed_csv("a;b,c;d")
    [['a', 'b,c', 'd']]
    """
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def unguarded(text: str) -> str:
    """Undo `guarded`: return the original text."""
    return text.removeprefix("'")


def save_rows(path: Path, kind: type, rows: Iterable[object]) -> Path:
    """Write dataclass instances as CSV, one column per field; `load_table` reads them back."""
    columns = [field.name for field in fields(kind)]
    return write_csv(path, columns, ([getattr(row, column) for column in columns] for row in rows))


def load_rows(path: Path, advice: str = "") -> list[dict[str, str]]:
    """Read a CSV of an output folder as one dict a row, all values as text; Excel may have saved it, with a mark first.

    Args:
        path: the CSV.
        advice: what to do where it is missing; else to prepare the archive, which writes it.

    Raises:
        ArchiveError: the file is not there.
    """
    if not path.is_file():
        advice = advice or f"run `neardup prepare ARCHIVE --out {typed(path.parent)}` first"
        raise ArchiveError(f"{path} does not exist: {advice}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return [{name: unguarded(text) for name, text in row.items()} for row in csv.DictReader(stream)]


def load_table(path: Path, kind: type[Row], advice: str = "") -> tuple[Row, ...]:
    """Read dataclass instances that `save_rows` wrote, whose fields are text or whole numbers.

    Args:
        path: the CSV.
        kind: the dataclass.
        advice: what to do about a table that is missing or cannot be read; else to prepare the archive again, which
            writes it anew.

    Raises:
        ArchiveError: the file is not there, or its columns are not the fields of the kind.
    """
    types = get_type_hints(kind)
    try:
        return tuple(kind(**{name: types[name](text) for name, text in row.items()}) for row in load_rows(path, advice))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(
            f"{path} was written by another version of neardup or changed since ({reason_of(error)}): "
            + (advice or f"run `neardup prepare ARCHIVE --out {typed(path.parent)}` again")
        ) from error
