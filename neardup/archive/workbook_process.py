"""A workbook read by a process of its own, with a limit on its memory: its reader believes the sizes in the file."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import python_calamine

MEMORY = 4 << 30
"""Bytes that such a process may address; a sheet of 20 million cells takes half of it."""


def read_apart(path: Path) -> dict[str, list[list[Any]]]:
    """The values of each sheet of a workbook, as JSON has them; dates and times are text.

    One byte that is wrong in an old workbook can make calamine ask for more memory than there is, and that ends its
    process: no handler of Python's sees it.

    Args:
        path: the workbook.

    Raises:
        ValueError: it is none, is damaged, or takes more memory than it may.
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
    """The values of each sheet of a workbook in this process, row by row, from cell A1 on; None where one is blank."""
    workbook = python_calamine.CalamineWorkbook.from_path(str(path))
    return {name: workbook.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in workbook.sheet_names}


def _limit_memory() -> None:
    """Limit what this process may address, where the system can do that."""
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
