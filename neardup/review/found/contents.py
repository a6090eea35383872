"""The contents of photos: SHA-256 of files, computed on first use and cached until a file changes."""

import hashlib
import sqlite3
import threading
import weakref
from pathlib import Path

from neardup.errors import ArchiveError
from neardup.images import read_file

Stamp = tuple[int, int]
"""Size of a file in bytes and time of its last change in nanoseconds."""


class Contents:
    """Digests of an archive's files, kept in an SQLite file so that the next start need not read them again."""

    def __init__(self, archive: Path, cache: Path) -> None:
        """Open the memory of digests.

        Args:
            archive: folder of the photos; it is only read.
            cache: SQLite file, which is made where there is none.
        """
        cache.parent.mkdir(parents=True, exist_ok=True)
        self._archive, self._lock = archive, threading.Lock()
        self._database = _opened(cache)
        # Closed on garbage collection too, as Python 3.13 warns of a database that is not.
        self._close = weakref.finalize(self, self._database.close)

    def close(self) -> None:
        """Close the memory of digests."""
        self._close()

    def remembered(self) -> dict[str, str]:
        """Map paths to SHA-256 for every file that was read before and still has the same size and time."""
        with self._lock:
            rows = self._database.execute("SELECT path, size, time, sha256 FROM content").fetchall()
        return {path: sha256 for path, size, time, sha256 in rows if stamp_of(self._archive / path) == (size, time)}

    def digest(self, path: str) -> str:
        """SHA-256 of the photo at a path, relative to the archive.

        Raises:
            ArchiveError: the file is gone.
            UnreadableImageError: it cannot be read.
        """
        stamp = stamp_of(self._archive / path)
        with self._lock:
            query = "SELECT sha256 FROM content WHERE path = ? AND size = ? AND time = ?"
            row = self._database.execute(query, (path, *(stamp or (0, 0)))).fetchone()
        if row:
            return str(row[0])
        try:
            sha256 = hashlib.sha256(read_file(self._archive / path)).hexdigest()
        except FileNotFoundError as error:
            raise ArchiveError(f"{path} is no longer in the archive: run `neardup duplicates` again") from error
        if stamp:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?)", (path, *stamp, sha256))
        return sha256


def stamp_of(file: Path) -> Stamp | None:
    """Size and time of a file, which tell whether it has changed; None where it is gone."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _opened(cache: Path) -> sqlite3.Connection:
    """Open a cache of digests; a damaged one is deleted, as all of it can be computed again."""
    try:
        return _with_table(cache)
    except sqlite3.OperationalError:  # the disk is full, or another program holds it: the file is not damaged
        raise
    except sqlite3.DatabaseError:
        for ending in ("", "-wal", "-shm"):
            Path(f"{cache}{ending}").unlink(missing_ok=True)
        return _with_table(cache)


def _with_table(cache: Path) -> sqlite3.Connection:
    """Open a memory of digests, and make its table where there is none.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    database = sqlite3.connect(cache, timeout=60, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS content (path TEXT PRIMARY KEY, size INTEGER, time INTEGER, sha256 TEXT)"
        )
        if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
    except sqlite3.Error:
        database.close()
        raise
    return database
