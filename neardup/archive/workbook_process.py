"""Read a workbook in a separate process with limited memory, because its reader trusts the sizes in the file."""

import json
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import python_calamine
from python_calamine import SheetVisibleEnum

MEMORY = 4 << 30
"""Bytes that the reading process may address; a sheet of 20 million cells takes half of them."""


class Values(NamedTuple):
    """The values of one sheet.

    Attributes:
        rows: value of each cell, row by row from cell A1; None or an empty text for blank cells.
        merged: (first row, last row, column), 0-based, of each cell that is merged over several rows.
        hidden: whether Excel does not show the sheet.
    """

    rows: list[list[Any]]
    merged: list[tuple[int, int, int]]
    hidden: bool


def read_apart(path: Path) -> dict[str, Values]:
    """Read the values of each sheet of a workbook, as JSON has them, with dates and times as text.

    A single wrong byte in an old workbook can make calamine ask for more memory than there is, which ends its process
    without an exception.

    Args:
        path: the workbook.

    Raises:
        ValueError: the file is not a workbook, is damaged, or takes more memory than allowed.
    """
    ran = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", __name__, str(path)], capture_output=True, check=False
    )
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(*said if ran.returncode == 1 else ["it asks for more memory than its sheets can need"])
    return {name: Values(*values) for name, values in json.loads(ran.stdout).items()}


def read(path: Path) -> dict[str, Values]:
    """Read the values of each sheet of a workbook in this process.

    Raises:
        ValueError: the workbook is an `.ods` with merged cells, which calamine does not report.
    """
    if path.suffix.lower() == ".ods":
        _refuse_merged(path)
    workbook = python_calamine.CalamineWorkbook.from_path(str(path))
    sheets: dict[str, Values] = {}
    for sheet in workbook.sheets_metadata:
        cells = workbook.get_sheet_by_name(sheet.name)
        ranges = cells.merged_cell_ranges or ()
        merged = sorted((first, last, column) for (first, column), (last, _) in ranges if last > first)
        hidden = sheet.visible != SheetVisibleEnum.Visible
        sheets[sheet.name] = Values(cells.to_python(skip_empty_area=False), merged, hidden)
    return sheets


def _refuse_merged(path: Path) -> None:
    """Raise an error if a cell of an `.ods` is merged over several rows."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as parts:
        if re.search(rb'number-rows-spanned=["\'](?!1["\'])', parts.read("content.xml")):
            raise ValueError("cells are merged over several rows, which is not seen in an .ods")


def _limit_memory() -> None:
    """Limit the memory that this process may address, where the system supports that."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such module; macOS refuses
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _main() -> None:
    _limit_memory()
    try:
        sheets = read(Path(sys.argv[1]))
    except BaseException as error:  # noqa: BLE001 - calamine has one of its own for each format, and panics
        sys.exit(str(error))
    sys.stdout.write(json.dumps(sheets, default=str))


if __name__ == "__main__":
    _main()
