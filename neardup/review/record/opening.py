"""Open the database of verdicts, for writing or only for reading, and explain failures."""

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, StaticPool, create_engine, event, exc, make_url
from sqlalchemy import text as sql

from neardup.errors import StorageError, VerdictError, install_hint
from neardup.review.record.schema import DIALECTS, create
from neardup.words import reason_of, typed

WAIT_S = 60
"""Most seconds that a writer waits for another one; each holds the database for some milliseconds."""
ADVICE = {
    "malformed": "put its last copy in its place, or have `sqlite3 {file} .recover` write what can be saved of it",
    "not a database": "put its last copy in its place, or move it away and begin anew",
    "unable to open": "ask for the right to read and write it and its folder",
    "readonly": "ask for the right to write it and in its folder",
    "full": "make room there and do the same again",
    "disk I/O": "see that its disk is there and has room",
    "locked": "end the other program that has it open, and do the same again",
}
"""What SQLite says, or a part of it -> what to do; `{file}` stands for the file."""
OTHERWISE = "see that it is one, and yours"
"""What to do about any other refusal of a database."""


def open_database(file: Path, url: str) -> tuple[Engine, str]:
    """Open the database of verdicts, or create it; a file without write permission is only read.

    Args:
        file: of SQLite, where no URL is given.
        url: as SQLAlchemy writes it, or nothing.

    Returns:
        The engine, and what the database is called in sentences, without a password.

    Raises:
        VerdictError: it cannot be opened, or is none of verdicts.
        StorageError: a server refuses the connection, or another program has the file locked.
    """
    try:
        address = make_url(url) if url else URL.create("sqlite", database=str(file))
        # A password may stand in the query, too.
        place = address.set(query={}).render_as_string(hide_password=True) if url else str(file)
        if address.get_backend_name() not in DIALECTS:
            raise VerdictError(f"{place} is neither SQLite nor PostgreSQL: verdicts are kept in one of these")
        fixed = _fixed_file(address)
        engine = _reader(fixed) if fixed else create_engine(address, pool_pre_ping=bool(url))
    except exc.ArgumentError as error:
        raise VerdictError(
            "the address of the verdicts' database is no URL: write postgresql+psycopg://host/name"
        ) from error
    except ModuleNotFoundError as error:
        driver = f"{place} needs a driver that is not installed ({error.name})"
        raise VerdictError(f"{driver}: write postgresql+psycopg://, and {install_hint('postgres')}") from error
    if engine.dialect.name == "sqlite" and not fixed:
        event.listen(engine, "connect", _careful)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                _examine(connection)
            create(connection)
            if fixed:
                connection.exec_driver_sql("PRAGMA query_only = ON")
    except exc.SQLAlchemyError as error:
        engine.dispose()
        away = isinstance(error, exc.OperationalError) and (engine.dialect.name != "sqlite" or "locked" in str(error))
        fault = StorageError if away else VerdictError
        raise fault(refusal(place, error, "cannot be opened as a database of verdicts")) from error
    return engine, place


def file_of(engine: Engine) -> tuple[int, int] | None:
    """Device and inode of the file that lies where a database of SQLite was opened; None for none."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    try:
        status = Path(engine.url.database).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def refusal(place: str, error: Exception, what: str) -> str:
    """The sentence for what a database of verdicts refuses.

    Args:
        place: what the database is called.
        error: of SQLAlchemy.
        what: cannot be done, such as `cannot be read`.
    """
    reason = reason_of(getattr(error, "orig", None) or error)
    advice = next((advice for words, advice in ADVICE.items() if words in reason), OTHERWISE)
    return f"{place} {what} ({reason}): {advice.format(file=typed(place.removeprefix('sqlite:///')))}"


def _fixed_file(address: URL) -> Path | None:
    """The file of SQLite that an address names, there or not, if nobody here can write it; else None."""
    if address.get_backend_name() != "sqlite" or not address.database:
        return None
    file = Path(address.database)
    places = [file.parent, *([file] if file.is_file() else [])]
    return file if file.parent.is_dir() and not all(os.access(place, os.W_OK) for place in places) else None


def _reader(file: Path) -> Engine:
    """What reads a file of SQLite that nobody here can write; an empty database where there is none.

    Readers of a file that is written ahead need to write beside it, unless nobody has it open for writing: then there
    is no log beside it.
    """
    if not file.is_file():
        return create_engine("sqlite://", poolclass=StaticPool)
    unlogged = "" if Path(f"{file}-wal").exists() else "&immutable=1"
    address = f"{file.resolve().as_uri()}?mode=ro{unlogged}"
    connect = partial(sqlite3.connect, address, uri=True, check_same_thread=False)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _examine(connection: Any) -> None:
    """Refuse a file of which a disk has damaged pages, or digests and ids, which stand in its indexes once more."""
    found = connection.execute(sql("PRAGMA integrity_check(1)")).scalar()
    if found != "ok":
        raise exc.DatabaseError("", None, sqlite3.DatabaseError(f"malformed, {str(found).splitlines()[-1]}"))


def _careful(connection: Any, _: object) -> None:
    """Have SQLite write ahead, flush each verdict to the disk, wait for other writers and guard what is replaced."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {WAIT_S * 1000}", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute("PRAGMA recursive_triggers = ON")
    cursor.close()
