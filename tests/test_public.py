"""What a notebook uses: the public names of `neardup`, loaded when they are first used."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import neardup
from neardup.builtin.demo import MadeArchive
from neardup.cli import main
from neardup.encode.encoder import CHECKPOINT
from neardup.errors import ArchiveError, ConfigError
from neardup.search.nearest import nearest

PHOTOS = Path("agence_rol/photos/jpg")


def test_importing_it_loads_nothing() -> None:
    """No library beside Python's own, so that it costs milliseconds."""
    code = f"import sys; sys.path = {sys.path}; before = set(sys.modules); import neardup"
    code += "; print({name.split('.')[0] for name in set(sys.modules) - before})"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(ran.stdout)) - set(sys.stdlib_module_names)  # noqa: S307 - our own line
    assert loaded == {"neardup"}


@pytest.mark.parametrize("name", neardup.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    """With a docstring, whatever was imported before."""
    assert getattr(neardup, name).__doc__
    assert name in dir(neardup)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        neardup.no_such  # noqa: B018 - the access is what raises


def test_a_folder_is_embedded_searched_and_looked_through(made: MadeArchive) -> None:
    """`search` is the folder of that name too: once its modules are loaded, the call still works."""
    folder = made.root / PHOTOS
    gallery = neardup.embed(folder)
    first = neardup.search(folder / gallery.paths[0], gallery, top=2)[0]
    assert (first.path, round(first.similarity, 4)) == (gallery.paths[0], 1.0)
    found = neardup.find_duplicates(folder, threshold=0.9)
    assert (found.photos, found.threshold) == (len(gallery.paths), 0.9)


def test_vectors_of_the_shipped_encoder_are_searched_without_its_name(made: MadeArchive, tmp_path: Path) -> None:
    """The file says whose they are; nothing is asked of the net, and more hits than photos are all of them."""
    folder, vectors = made.root / PHOTOS, tmp_path / "vectors.parquet"
    gallery = neardup.embed(folder)
    gallery.save(vectors, folder)
    photo = folder / gallery.paths[0]
    found = CliRunner().invoke(main, ["search", str(photo), "--in", str(vectors), "--top", str(10**20), "--no-verify"])
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, len(gallery.photos))
    assert len(neardup.search(photo, gallery, 10**20)) == len(gallery.photos)


def test_a_store_of_the_shipped_encoder_is_searched_without_its_name(
    made: MadeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `duplicates` leaves one, which takes that encoder by itself; the settings may name another one."""
    folder, store = made.root / PHOTOS, tmp_path / "store"
    paths = neardup.embed(folder, store=store).paths
    command = ["search", str(folder / paths[0]), "--in", str(store), "--top", "2", "--no-verify"]
    found = CliRunner().invoke(main, command)
    assert (found.exit_code, found.stdout.count("\n"), "(itself)" in found.stdout) == (0, 2, True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neardup.toml").write_text('encoder = "another.onnx"\n')
    failed = CliRunner().invoke(main, command)
    assert (failed.exit_code, "another.onnx" in str(failed.stderr)) == (1, True)


def test_a_search_for_a_folder_is_refused(made: MadeArchive) -> None:
    """It was answered for the first photo alone."""
    folder = made.root / PHOTOS
    with pytest.raises(ArchiveError, match="jpg is a folder: search for one photo"):
        neardup.search(folder, neardup.embed(folder))


def test_a_store_in_the_folder_of_photos_is_refused(tmp_path: Path) -> None:
    """It is only read."""
    for store in (tmp_path / "store", f"file://{tmp_path}/store"):
        with pytest.raises(ArchiveError, match="lies inside the archive"):
            neardup.find_duplicates(tmp_path, 0.9, store=store)
        with pytest.raises(ArchiveError, match="lies inside the archive"):
            neardup.embed(tmp_path, store=store)
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_name_is_refused(tmp_path: Path) -> None:
    """Its vectors would go into the root of the file system."""
    for call in (neardup.find_duplicates, neardup.embed):
        with pytest.raises(ArchiveError, match="the address of the store of vectors is empty"):
            call(tmp_path, store="")


def test_a_store_elsewhere_is_no_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the photos lie in the folder in which one is."""
    monkeypatch.chdir(tmp_path)
    assert neardup.find_duplicates(".", 0.9, store="memory://store").photos == 0
    with pytest.raises(ArchiveError, match="none is not a folder"):
        neardup.find_duplicates("none", 0.9, store="memory://store")


def test_what_is_found_is_kept_where_a_store_is_named(made: MadeArchive, tmp_path: Path) -> None:
    """The second call encodes nothing and finds the same."""
    first = neardup.find_duplicates(made.root / PHOTOS, 0.8, store=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    second = neardup.find_duplicates(made.root / PHOTOS, 0.8, store=tmp_path)
    assert files
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == files
    assert (second.facts(), second.paths) == (first.facts(), first.paths)


@pytest.mark.parametrize("top", ["3", 2.5, True, 0])
def test_a_number_of_hits_that_is_none_is_one_sentence(top: Any) -> None:
    """It is no error from within."""
    gallery = neardup.Embeddings(("a",), ("a.jpg",), np.eye(1, 3, dtype=np.float32), "f")
    with pytest.raises(ConfigError, match=f"there is no search for {top!r} hits"):
        nearest(gallery.vectors, gallery, top, fingerprint="f")


def test_wrong_types_are_one_sentence_and_paths_may_be_text(tmp_path: Path) -> None:
    """What a notebook hands over."""
    with pytest.raises(ConfigError, match="the threshold must be a similarity from -1 to 1, not True"):
        neardup.find_duplicates(tmp_path, threshold=True)
    with pytest.raises(ArchiveError, match="there are no evaluations to compare"):
        neardup.compare([])
    assert len(neardup.embed(tmp_path, CHECKPOINT).paths) == 0
    (tmp_path / "x.toml").write_text("[prepare]\n", encoding="utf-8")
    assert neardup.load_settings(str(tmp_path / "x.toml")) == neardup.load_settings(tmp_path / "x.toml")
