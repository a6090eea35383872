"""Prefect's database in a new state folder: a copy of an empty one, for its migrations take nine seconds."""

import os
import sqlite3
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

from neardup.stages import replacing

DATABASE = "prefect.db"
"""Name that Prefect gives to its database in PREFECT_HOME, unless another one is configured."""


def begin_database(home: Path) -> None:
    """Give a PREFECT_HOME without a database a copy of an empty one that a former server made.

    Prefect would run all its migrations on a new one, some nine seconds of its first start.
    """
    if not (home / DATABASE).exists():
        with suppress(OSError, sqlite3.Error):
            _copy_database(_empty_database(), home / DATABASE)


def keep_database(home: Path) -> None:
    """Keep a copy of the database of a server that has just started for the first time, for `begin_database`."""
    if not (kept := _empty_database()).exists():
        with suppress(OSError, sqlite3.Error):
            _copy_database(home / DATABASE, kept)


def _empty_database() -> Path:
    """Where the database of this version of Prefect is kept; the file may be deleted at any time."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "neardup" / f"prefect-{version('prefect')}.db"


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database that may be in use, whole or not at all, if it has the schema and no runs.

    Raises:
        OSError: the copy cannot be written.
        sqlite3.Error: there is no such database, it is broken, or holds runs.
    """
    with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as database:
        runs = database.execute("SELECT count(*) FROM alembic_version, flow").fetchone()[0]
        if runs or database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError(f"{source} is no empty database of Prefect")
        with replacing(target) as partial:
            with closing(sqlite3.connect(partial)) as copy:
                database.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # so that no reader leaves files of its own beside it
            partial.chmod(0o600)
