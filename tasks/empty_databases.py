"""New SQLite databases of Prefect and MLflow as copies of empty ones, because their migrations take seconds."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from neardup.stages import replacing

Package = Literal["prefect", "mlflow"]
"""Whose database it is."""
PREFECT_DATABASE = "prefect.db"
"""Name that Prefect gives to its database in PREFECT_HOME, unless another one is configured."""


@dataclass(frozen=True)
class _Schema:
    """What must be known of a package's database to copy an empty one.

    Attributes:
        used: a table that has no rows as long as nobody has used the database.
        placed: tables whose first rows name the database's own folder: a copy has none, and gets its own.
        private: whether only the user may read it, as the package itself has it.
    """

    used: str
    placed: tuple[str, ...]
    private: bool


_SCHEMAS: Mapping[Package, _Schema] = MappingProxyType(
    {"prefect": _Schema("flow", (), private=True), "mlflow": _Schema("runs", ("experiments",), private=False)}
)


def begin_database(path: Path, package: Package) -> None:
    """Create a database, if there is none, as a copy of an empty one that was made before.

    Prefect would run all its migrations on a new one, some nine seconds of its first start; MLflow three.
    """
    if not path.exists():
        with suppress(OSError, sqlite3.Error):
            _copy_database(_empty_database(package), path, package)


def keep_database(path: Path, package: Package) -> None:
    """Keep a copy of a database that has just been made, for `begin_database`."""
    if not (kept := _empty_database(package)).exists():
        with suppress(OSError, sqlite3.Error):
            _copy_database(path, kept, package)


def _empty_database(package: Package) -> Path:
    """Where the database of this version of a package is kept; the file may be deleted at any time."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "neardup" / f"{package}-{version(package)}.db"


def _copy_database(source: Path, target: Path, package: Package) -> None:
    """Copy an SQLite database that may be in use, atomically, if it has the schema and was never used.

    Raises:
        OSError: the copy cannot be written.
        sqlite3.Error: there is no such database, it is broken, or has been used.
    """
    schema = _SCHEMAS[package]
    with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as database:
        used = database.execute(f"SELECT count(*) FROM alembic_version, {schema.used}").fetchone()[0]  # noqa: S608
        if used or database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError(f"{source} is no empty database of {package}")
        with replacing(target) as partial:
            with closing(sqlite3.connect(partial)) as copy:
                database.backup(copy)
                for table in schema.placed:
                    copy.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from above
                copy.commit()
                copy.execute("PRAGMA journal_mode = DELETE")  # so that no reader leaves files of its own beside it
            if schema.private:
                partial.chmod(0o600)
