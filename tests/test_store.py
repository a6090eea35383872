"""One store, in a folder or on an S3 server: whole tables, listed, read back equal."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from servers import free_port

from neardup.encode.store import Store
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError

ROWS = Embeddings(("aa", "bb"), ("a.jpg", "b é.jpg"), np.eye(2, 4, dtype=np.float32), "f")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a folder in an empty bucket of a local S3 server."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(f"photos-{port}")  # all servers of a process share their buckets
    yield f"s3://photos-{port}/vectors"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of either kind."""
    return Store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket"))


def test_a_table_is_read_back_equal(store: Store) -> None:
    """Photos, paths, vectors to the last bit, and the encoder's fingerprint."""
    store.write("part-1", ROWS.table())
    read = Embeddings.of(store.read("part-1"))
    assert (read.photos, read.paths, read.fingerprint) == (ROWS.photos, ROWS.paths, ROWS.fingerprint)
    assert read.vectors.tobytes() == ROWS.vectors.tobytes()


def test_tables_are_listed_by_what_their_names_begin_with(store: Store) -> None:
    """In order; nothing is there at first, and what was added is seen at once."""
    assert store.names() == []
    for name in ("part-2", "other", "part-1"):
        store.write(name, pa.table({"x": [1]}))
    assert (store.names("part-"), store.names()) == (["part-1", "part-2"], ["other", "part-1", "part-2"])


def test_a_column_is_read_alone(store: Store) -> None:
    """Of a table of vectors the paths, without the vectors."""
    store.write("part-1", ROWS.table())
    assert store.read("part-1", ["path"]).to_pydict() == {"path": ["a.jpg", "b é.jpg"]}


def test_a_table_is_deleted(store: Store) -> None:
    """It is no longer listed, and deleting it again does no harm."""
    store.write("part-1", ROWS.table())
    store.delete("part-1")
    store.delete("part-1")
    assert store.names() == []


def test_a_note_is_kept(store: Store) -> None:
    """Under the same address; none is None."""
    assert store.noted("batch") is None
    store.note("batch", {"photos": 16})
    assert store.noted("batch") == {"photos": 16}


def test_a_table_that_lacks_is_one_sentence(store: Store) -> None:
    """It says which."""
    with pytest.raises(ArchiveError, match=r"holds no part-9\.parquet"):
        store.read("part-9")


def test_a_broken_table_is_one_sentence(tmp_path: Path) -> None:
    """It says which, and what to do."""
    (tmp_path / "part-1.parquet").write_bytes(b"no table")
    with pytest.raises(ArchiveError, match=r"part-1\.parquet of .* is broken"):
        Store(str(tmp_path)).read("part-1")


@pytest.mark.parametrize("place", [None, 20, -60, 500], ids=["vectors", "head", "foot", "page header"])
def test_a_table_of_which_a_disk_changed_some_bytes_is_broken(tmp_path: Path, place: int | None) -> None:
    """Wherever they lie: other vectors would be searched in silence."""
    store = Store(str(tmp_path))
    store.write("part-1", ROWS.table())
    data = bytearray((tmp_path / "part-1.parquet").read_bytes())
    place = data.index(ROWS.vectors.tobytes()) if place is None else place
    data[place : place + 8] = b"\xff" * 8
    (tmp_path / "part-1.parquet").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"part-1\.parquet of .* is broken .*: delete it and run the same command"):
        store.read("part-1")


def test_a_broken_note_is_as_good_as_none(tmp_path: Path) -> None:
    """What it says is found out again."""
    (tmp_path / "batch.json").write_bytes(b"")
    assert Store(str(tmp_path)).noted("batch") is None


def test_a_folder_of_a_latin_1_name_is_one_sentence(tmp_path: Path) -> None:
    """What reads tables takes no such path; the tables would be called broken, to be deleted."""
    store = Store(str(tmp_path / os.fsdecode(b"ch\xe9rau")))
    with pytest.raises(ArchiveError, match=r"ch\\udce9rau: no folder of vectors may have .* not UTF-8") as error:
        store.names()
    str(error.value).encode()


def test_an_unknown_address_is_one_sentence() -> None:
    """It says what is at fault."""
    with pytest.raises(ArchiveError, match="no store can be opened at ftpx://"):
        Store("ftpx://host/store").names()


def test_nothing_half_written_is_a_table(tmp_path: Path) -> None:
    """What a killed writer left does not count."""
    store = Store(str(tmp_path))
    store.write("part-1", ROWS.table())
    (tmp_path / ".part-2.123.part.parquet").write_bytes(b"half")
    assert store.names() == ["part-1"]


def test_a_store_without_credentials_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever error of its own the client of a file system has for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ArchiveError, match=r"s3://nobody/x cannot be read .*: see whether its address is right"):
        Store("s3://nobody/x").names()
