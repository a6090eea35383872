"""What commands print, and the folder that they write into."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from neardup.errors import ArchiveError
from neardup.words import one_line, typed


def say(line: str) -> None:
    """Tell a person one line on standard error, foreign signs in it written out; standard output is for results."""
    click.echo(one_line(line), err=True)


def print_result(value: Any, lines: str, *, as_json: bool) -> None:
    """Print a value as JSON, or the lines that tell a person the same; bytes that are not UTF-8 are escaped."""
    from neardup.tables import encodable

    click.echo(encodable(json.dumps(value, ensure_ascii=False, indent=2, default=str) if as_json else lines))


def comparison_of(folder: Path, *, as_json: bool) -> Any:
    """The comparison that lies in a folder: the object for machines, or the table for people."""
    text = (folder / f"comparison.{'json' if as_json else 'md'}").read_text(encoding="utf-8")
    return json.loads(text) if as_json else text.rstrip()


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """Keep other commands and runs of flows out of an output folder, and wait for one that is at work there.

    Each command that writes into a folder does so in this block, or runs a flow, which keeps others out by itself. A
    folder that cannot be written to, such as a shared one with vectors to search, needs no lock.
    """
    from neardup.stages import alone

    if out.is_dir() and not os.access(out, os.W_OK):
        yield
        return
    with alone(out, lambda line: say(f"neardup: {line}")):
        yield


def check_writable(folder: Path, instead: str) -> None:
    """Refuse a folder that nothing can be written to, before anything is done; one that is not there yet is fine.

    Args:
        folder: that is to be written to.
        instead: what can be done without the right to write there.

    Raises:
        ArchiveError: it is such a folder.
    """
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise ArchiveError(f"nothing can be written in {folder}: ask for the right to, or {instead}")


def check_there(out: Path) -> None:
    """Refuse a folder of results that is not there, before it is made.

    Raises:
        ArchiveError: `out` is no folder.
    """
    if not out.is_dir():
        raise ArchiveError(f"{out} is not there: name with --out the folder that holds the results")


def check_prepared(out: Path) -> None:
    """Refuse an output folder that holds no training set, before anything is written there.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    table = out / "training_set.csv"
    if not table.is_file():
        raise ArchiveError(f"{table} does not exist: run `neardup prepare ARCHIVE --out {typed(out)}` first")
