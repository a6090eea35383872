"""Read a workbook in a separate process with limited memory, because its reader trusts the sizes in the file."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import python_calamine

MEMORY = 4 << 30
"""Bytes that the reading process may address; a sheet of 20 million cells takes half of them."""


def read_apart(path: Path) -> dict[str, list[list[Any]]]:
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
    sheets: dict[str, list[list[Any]]] = json.loads(ran.stdout)
    return sheets


def read(path: Path) -> dict[str, list[list[Any]]]:
    """Read the values of each sheet of a workbook in this process, row by row from cell A1; None for blank cells."""
    workbook = python_calamine.CalamineWorkbook.from_path(str(path))
    return {name: workbook.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in workbook.sheet_names}


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
