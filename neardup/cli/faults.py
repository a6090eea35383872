"""Sentences for errors of the operating system: a full disk, a folder without write permission."""

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from neardup.errors import NeardupError, system_error

ADVICE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOSPC: "make room there and run the same command again: it goes on where it was",
        errno.EDQUOT: "make room there and run the same command again: it goes on where it was",
        errno.EACCES: "ask for the right to read and write it, or name another folder",
        errno.EPERM: "ask for the right to read and write it, or name another folder",
        errno.EROFS: "it can only be read, so name another folder for what is to be written",
        errno.ENAMETOOLONG: "choose a shorter name",
        **dict.fromkeys(
            (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, socket.EAI_NONAME),
            "see whether the address is right and its server runs, and run the same command again",
        ),
        errno.EMFILE: "allow more open files with `ulimit -n 4096` and run the same command again",
    }
)
"""Number of an operating system's error → advice."""
SEE_WHERE = (
    "look whether the path is right and its disk is there; `neardup --debug` before the command shows where it arose"
)
"""Advice on an error of the operating system that is not in `ADVICE`."""
OF_SQLITE: Mapping[str, int] = MappingProxyType(
    {
        "database or disk is full": errno.ENOSPC,
        "disk I/O error": errno.ENOSPC,
        "unable to open database file": errno.EACCES,
        "readonly database": errno.EACCES,
    }
)
"""SQLite's message when its disk refuses → equivalent error number (Prefect and MLflow keep records in SQLite)."""
DAMAGED = ("database disk image is malformed", "file is not a database")
"""SQLite's messages about a damaged file."""


def sentence_of(error: BaseException) -> str | None:
    """One sentence for a fault that the user can mend: what is wrong, where, what to do; None for any other fault.

    >>> sentence_of(PermissionError(errno.EACCES, "Permission denied", "results"))
    'results: permission denied; ask for the right to read and write it, or name another folder'
    """
    if isinstance(error, NeardupError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is too little memory: end other programs and run the same command again, it goes on where it was"
    fault = system_error(error)
    if fault and fault.errno is not None:
        # An address that does not resolve has a number that is none of the system's.
        what = os.strerror(fault.errno) if fault.errno > 0 else fault.strerror or str(fault)
        return f"{_place(fault.filename)}{what[:1].lower()}{what[1:]}; {ADVICE.get(fault.errno, SEE_WHERE)}"
    if said := next((text for text in DAMAGED if text in str(error)), None):
        return (
            f"a database of the records of runs is damaged ({said}); if it is mlflow.db, put a backup in its place, "
            "for it holds models and runs; .neardup/prefect of the output folder may be moved away, and is made anew"
        )
    said = next((text for text in OF_SQLITE if text in str(error)), None)
    return said and f"the records of the run cannot be written ({said}); {ADVICE[OF_SQLITE[said]]}"


def _place(name: object) -> str:
    """Path that the system's error names, as the beginning of a sentence; for a partial file, its folder."""
    if not isinstance(name, str | bytes | os.PathLike):
        return ""
    path = Path(os.fsdecode(name))
    return f"{path.parent if path.name.startswith('.') and '.part' in path.name else path}: "
