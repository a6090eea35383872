"""The runs of an output folder that was moved: MLflow keeps whole addresses of their files, which then lead nowhere."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns in which MLflow keeps addresses of files."""


def follow_artifacts(database: Path, experiment: str, artifacts: Path) -> None:
    """Make the addresses in a database of runs those of the folder in which their files lie now.

    Nothing changes where only the database was taken along and the files are still in their former folder, or where
    they are in no folder of a machine. A database that cannot be read or written is left to MLflow, which says what is
    wrong with it.

    Args:
        database: MLflow's sqlite file.
        experiment: name of the experiment, whose files lie in `artifacts`.
        artifacts: the folder of files, absolute.
    """
    now = artifacts.as_uri()
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(database)) as connection, connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", [experiment]).fetchone()
        before = found[0] if found else now
        address = urlparse(before)
        left_behind = Path(url2pathname(address.path)).exists() and not artifacts.exists()
        if before == now or address.scheme != "file" or left_behind:
            return
        for table, column in ADDRESSES:
            connection.execute(
                f"UPDATE {table} SET {column} = :now || substr({column}, length(:before) + 1)"  # noqa: S608 - our names
                f" WHERE {column} = :before OR substr({column}, 1, length(:before) + 1) = :before || '/'",
                {"now": now, "before": before},
            )
