"""A new state folder begins with a copy of Prefect's empty database, a new output folder with one of MLflow's."""

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from tasks.empty_databases import PREFECT_DATABASE, begin_database, keep_database
from tasks.tracking import Tracking, local_uri


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the empty database is kept, in a cache that nobody else uses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "neardup" / f"prefect-{version('prefect')}.db"


def made_database(home: Path, runs: int = 0) -> Path:
    """A database with the two tables that are looked at, as Prefect opens it."""
    home.mkdir()
    path = home / PREFECT_DATABASE
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('a3b9')")
        database.execute("CREATE TABLE flow (name TEXT)")
        database.executemany("INSERT INTO flow VALUES (?)", [("duplicates",)] * runs)
        database.commit()
    return path


def test_a_new_folder_begins_with_what_a_former_server_made(tmp_path: Path, kept: Path) -> None:
    """The schema is there, nobody else may read it, and nothing lies beside the kept file."""
    keep_database(made_database(tmp_path / "first"), "prefect")
    begin_database(tmp_path / "second" / PREFECT_DATABASE, "prefect")
    with closing(sqlite3.connect(tmp_path / "second" / PREFECT_DATABASE)) as database:
        assert database.execute("SELECT * FROM alembic_version").fetchall() == [("a3b9",)]
    assert (tmp_path / "second" / PREFECT_DATABASE).stat().st_mode & 0o777 == 0o600
    assert list(kept.parent.iterdir()) == [kept]


def test_a_database_with_runs_is_never_kept(tmp_path: Path, kept: Path) -> None:
    """What a user ran does not reach another folder."""
    keep_database(made_database(tmp_path / "used", runs=2), "prefect")
    assert not kept.exists()


def test_a_folder_with_a_database_keeps_its_own(tmp_path: Path) -> None:
    """A copy never takes the place of what a server knows."""
    keep_database(made_database(tmp_path / "first"), "prefect")
    used = made_database(tmp_path / "used", runs=2)
    before = used.read_bytes()
    begin_database(used, "prefect")
    assert used.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0 and then nothing"])
def test_a_damaged_copy_is_passed_over(tmp_path: Path, kept: Path, damage: bytes) -> None:
    """Prefect then makes its database by itself."""
    kept.parent.mkdir(parents=True)
    kept.write_bytes(damage)
    begin_database(tmp_path / "new" / PREFECT_DATABASE, "prefect")
    assert not (tmp_path / "new" / PREFECT_DATABASE).exists()


@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_a_new_output_folder_begins_with_mlflows_tables_and_nothing_of_another_folder(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow made them once; what was logged in one folder is in no other, and each has places of its own."""
    clients = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        clients.append(Tracking(local_uri(tmp_path / name), tmp_path / name).client)
        clients[-1].create_experiment(name)
    assert (kept.parent / f"mlflow-{version('mlflow')}.db").is_file()
    for client, name in zip(clients, ("first", "second"), strict=True):
        found = {each.name: each.artifact_location for each in client.search_experiments()}
        assert sorted(found) == ["Default", name]
        assert all(str(tmp_path / name) in place for place in found.values())
