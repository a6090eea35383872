"""The scan finds every photo, reads each once and writes nothing to the archive."""

from pathlib import Path

import pytest

from neardup.archive.scan import Unreadable, scan
from neardup.archive.walk import find_images
from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.errors import ArchiveError


def stamps(root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of everything below a folder."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, of which one lies among full pages."""
    for i, path in enumerate(("a/photos/x.JPG", "a/photos/deep/er/y.png", "a/pages/photos/z.jpg")):
        (tmp_path / "archive" / path).parent.mkdir(parents=True, exist_ok=True)
        Scene.of(i).image.save(tmp_path / "archive" / path)
    return tmp_path / "archive"


def test_pages_are_no_photos(folder: Path) -> None:
    """What a page pattern names is left out, although a photo pattern names it."""
    assert [photo.path for photo in scan(folder).photos] == ["a/photos/deep/er/y.png", "a/photos/x.JPG"]


def test_hidden_files_and_other_suffixes_are_not_listed(folder: Path) -> None:
    """Lock files, hidden folders and texts are no photos."""
    for name in ("a/photos/~$x.jpg", "a/photos/.y.jpg", "a/photos/notes.txt", ".trash/photos/x.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert find_images(folder, ("**",), ("**/pages/**",)) == ["a/photos/deep/er/y.png", "a/photos/x.JPG"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/photos/**", ["a/photos/deep/er/y.png", "a/photos/x.JPG"]),
        ("a/photos/*", ["a/photos/x.JPG"]),
        ("**/*.png", ["a/photos/deep/er/y.png"]),
        ("b/**", []),
    ],
)
def test_patterns_are_globs(folder: Path, pattern: str, found: list[str]) -> None:
    """`*` is a name, `**` any number of folders."""
    assert find_images(folder, (pattern,), ("**/pages/**",)) == found


def test_a_second_scan_reads_nothing(folder: Path, tmp_path: Path) -> None:
    """What has not changed is taken from the table."""
    table = tmp_path / "scan.parquet"
    first = scan(folder, table=table)
    second = scan(folder, table=table)
    assert (first.read_anew, second.read_anew, second.photos) == (2, 0, first.photos)


def test_a_changed_file_is_read_again(folder: Path, tmp_path: Path) -> None:
    """A file of another size or time is read, the others are not."""
    table = tmp_path / "scan.parquet"
    scan(folder, table=table)
    Scene.of(9).image.save(folder / "a/photos/x.JPG")
    assert scan(folder, table=table).read_anew == 1


def test_another_limit_reads_all_again(folder: Path, tmp_path: Path) -> None:
    """What was refused under one limit may be a photo under another."""
    table = tmp_path / "scan.parquet"
    assert len(scan(folder, table=table, max_pixels=100).unreadable) == 2
    assert len(scan(folder, table=table).photos) == 2


def test_faults_are_listed_never_fatal(made: MadeArchive) -> None:
    """Truncated, empty, a text and a bomb: each is listed with its reason."""
    found = {item.path for item in scan(made.root).unreadable}
    assert found == {path for path in made.faults["unreadable"] if not path.endswith(".xlsx")}


def test_the_archive_is_never_written_to(made: MadeArchive, tmp_path: Path) -> None:
    """Not a byte, not a time of it changes."""
    before = stamps(made.root)
    scan(made.root, table=tmp_path / "scan.parquet")
    assert stamps(made.root) == before


def test_an_unreadable_file_says_why(folder: Path) -> None:
    """The reason is kept beside path and digest."""
    (folder / "a/photos/bad.jpg").write_bytes(b"")
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert scan(folder).unreadable == (Unreadable("a/photos/bad.jpg", digest, 0, "the file is empty"),)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is not there cannot be scanned."""
    with pytest.raises(ArchiveError, match="is not a folder: name the folder"):
        scan(tmp_path / "no")
