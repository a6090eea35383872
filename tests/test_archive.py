"""The scan finds every photo, reads each once and writes nothing to the archive."""

import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import handmade
import pyarrow.parquet as pq
import pytest
from PIL import Image

from neardup.archive.names import Names
from neardup.archive.notice import Memory, Sighting
from neardup.archive.scan import Archive, Unreadable, scan
from neardup.archive.walk import LINKED, Skipped, find_images, walk_images
from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.errors import ArchiveError
from neardup.stages import digest_file


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
    """Lock files, hidden folders, thumbnails and deleted files of a network disk and texts are no photos."""
    for name in (
        "a/photos/~$x.jpg",
        "a/photos/.y.jpg",
        "a/photos/._x.JPG",
        "a/photos/notes.txt",
        ".trash/photos/x.jpg",
        "a/photos/@eaDir/x.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/photos/x.jpg",
        "__MACOSX/photos/x.jpg",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert find_images(folder, ("**",), ("**/pages/**",)) == ["a/photos/deep/er/y.png", "a/photos/x.JPG"]


def test_a_photo_of_a_format_that_is_not_read_is_listed(folder: Path) -> None:
    """With what to do about it, where a photo would be; nothing is lost in silence."""
    names = ["z.HEIC", "z.cr2", "z.dng", "z.jxl", "z.pdf", "z.psd"]
    for name in names:
        (folder / "a/photos" / name).write_bytes(b"another format")
        (folder / "a/pages" / name).write_bytes(b"another format")
    archive = scan(folder)
    assert [(fault.path, fault.reason) for fault in archive.unreadable] == [
        (f"a/photos/{name}", "of a format that is not read: convert it to TIFF or JPEG") for name in names
    ]
    assert not Names(archive).find("z").photos
    assert len(Names(archive).find("z").unreadable) == len(names)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JIF", ".jp2", ".j2k"])
def test_every_suffix_of_a_format_that_is_read_is_a_photos(folder: Path, suffix: str) -> None:
    """JPEGs and JPEG 2000s by whatever name."""
    kind = "JPEG2000" if "2" in suffix else "JPEG"
    Scene.of(9).image.save(folder / f"a/photos/z{suffix}", kind)
    assert [(photo.name, photo.format) for photo in scan(folder).photos[2:]] == [(f"z{suffix}", kind)]


@pytest.mark.parametrize("name", ["w.jpg ", "w.JPG.", "w.jpg\n"])
def test_blanks_and_dots_behind_the_suffix_lose_no_photo(folder: Path, name: str) -> None:
    """Some programs leave them there, and nobody sees them in a list of files."""
    (folder / "a/photos/x.JPG").rename(folder / "a/photos" / name)
    archive = scan(folder)
    assert [photo.name for photo in archive.photos] == ["y.png", name]
    cell = Names(archive).shortest(f"a/photos/{name}").strip()
    assert [photo.name for photo in Names(archive).find(cell).photos] == [name]


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


@pytest.mark.parametrize("pattern", ["NFC", "NFD"])
@pytest.mark.parametrize("disk", ["NFC", "NFD"])
def test_accents_of_a_pattern_may_be_composed_or_not(tmp_path: Path, pattern: str, disk: str) -> None:
    """A pattern names a folder whichever way the accents of both are composed, and keeps the name of the disk."""
    path = f"{unicodedata.normalize(disk, 'été')}/x.jpg"  # type: ignore[arg-type]
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_bytes(b"x")
    assert find_images(tmp_path, (unicodedata.normalize(pattern, "été/*"),), ()) == [path]  # type: ignore[arg-type]


def make_dangling(path: Path) -> None:
    """Make a link to a file that is not there."""
    path.symlink_to(path.parent / "gone")


def make_circle(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path)


def make_failing(path: Path) -> None:
    """Make a link to a file that is there, and whose reading is an I/O error."""
    path.symlink_to("/proc/self/mem")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "dangling.jpg": (make_dangling, "it is a link to a file that is not there"),
    "circle.jpg": (make_circle, "the file cannot be looked at (Too many levels of symbolic links)"),
    "failing.jpg": (make_failing, "the file cannot be read (Input/output error)"),
    "pipe.jpg": (os.mkfifo, "it is no file but a pipe, a socket or a device"),
    "caf\udce9.jpg": (Path.touch, "the name or a folder above it is not UTF-8: rename it"),
}
"""Name of a bad entry → what makes it, and the reason that is given for it."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_is_listed_and_the_rest_goes_on(folder: Path, name: str) -> None:
    """A link to nothing, a disk that fails, a pipe, a Latin-1 name: each is one unreadable file with its reason."""
    make, reason = BAD[name]
    make(folder / "a/photos" / name)
    found = scan(folder)
    shown = name.replace("\udce9", r"\xe9")
    assert found.unreadable == (Unreadable(f"a/photos/{shown}", "", 0, reason),)
    assert len(found.photos) == 2


def test_a_file_in_a_folder_of_a_latin_1_name_is_listed(folder: Path) -> None:
    """The folder's name is shown with the foreign byte escaped; a page below it is left out as any page is."""
    for path in ("a/photos/\udce9t\udce9/x.jpg", "a/pages/\udce9t\udce9.jpg"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()
    assert [fault.path for fault in scan(folder).unreadable] == [r"a/photos/\xe9t\xe9/x.jpg"]


def test_a_folder_that_cannot_be_listed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose path is longer than the system takes; the other folders are scanned."""
    monkeypatch.chdir(folder / "a" / "photos")
    for _ in range(20):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    found = scan(folder)
    assert [item.reason for item in found.unlisted] == [
        "the folder cannot be listed (File name too long): see that you may"
    ]
    assert (len(found.photos), found.unreadable, found.digest == scan(folder).digest) == (2, (), True)


def test_a_file_that_could_not_be_opened_is_tried_again(folder: Path, tmp_path: Path) -> None:
    """The table of the scan does not keep it, for neither size nor time change when it may be read again."""
    make_failing(folder / "a/photos/failing.jpg")
    table = tmp_path / "scan.parquet"
    assert [scan(folder, table=table).read_anew for _ in range(2)] == [3, 1]


def test_walking_on_after_a_bad_entry(folder: Path) -> None:
    """Whoever only wants the paths gets those of the files, and may hear of the others."""
    make_dangling(folder / "a/photos/dangling.jpg")
    skipped: list[Skipped] = []
    paths = list(walk_images(folder, skipped.append))
    assert (paths, list(walk_images(folder))) == ([*paths], paths)
    assert ("a/photos/x.JPG" in paths, [item.path for item in skipped]) == (True, ["a/photos/dangling.jpg"])


def test_a_second_scan_reads_nothing(folder: Path, tmp_path: Path) -> None:
    """What has not changed is taken from the table."""
    table = tmp_path / "scan.parquet"
    first = scan(folder, table=table)
    second = scan(folder, table=table)
    assert (first.read_anew, second.read_anew, second.photos) == (2, 0, first.photos)


@pytest.mark.parametrize("broken", [b"", b"PAR1 half of a table"])
def test_a_broken_table_of_a_scan_is_made_anew(folder: Path, tmp_path: Path, broken: bytes) -> None:
    """All files are read again, and then none."""
    table = tmp_path / "scan.parquet"
    first = scan(folder, table=table)
    table.write_bytes(broken)
    again, third = (scan(folder, table=table) for _ in range(2))
    assert (again.photos, again.read_anew, third.read_anew) == (first.photos, first.read_anew, 0)


def test_a_changed_file_is_read_again(folder: Path, tmp_path: Path) -> None:
    """A file of another size or time is read, the others are not."""
    table = tmp_path / "scan.parquet"
    scan(folder, table=table)
    photo = folder / "a/photos/x.JPG"
    Scene.of(9).image.save(photo)
    assert scan(folder, table=table).read_anew == 1
    before = photo.stat()
    photo.write_bytes(photo.read_bytes() + b"more")
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan(folder, table=table).read_anew == 1
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    assert scan(folder, table=table).read_anew == 1


def test_a_file_that_was_replaced_by_one_of_its_size_and_time_is_read_again(folder: Path, tmp_path: Path) -> None:
    """The time of the last change of its entry cannot be set back."""
    table = tmp_path / "scan.parquet"
    scan(folder, table=table)
    photo = folder / "a/photos/x.JPG"
    before = photo.stat()
    photo.write_bytes(bytes(before.st_size))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan(folder, table=table).read_anew == 1


def test_a_table_of_another_version_is_not_taken(folder: Path, tmp_path: Path) -> None:
    """What a version made of equal bytes may not be what this one makes of them."""
    table = tmp_path / "scan.parquet"
    scan(folder, table=table)
    rows = pq.read_table(table)
    pq.write_table(rows.replace_schema_metadata({**rows.schema.metadata, b"step": b"0"}), table)
    assert [scan(folder, table=table).read_anew for _ in range(2)] == [2, 0]


def test_what_lies_in_a_folder_that_cannot_be_listed_has_not_vanished() -> None:
    """It is there again as soon as the folder's disk is."""
    photos = tuple(map(handmade.photo, ("a/x.jpg", "b/y.jpg", "bc/z.jpg")))
    memory = Memory().after(Sighting.of(Archive(Path(), photos, (), 0), Memory()).places, 1)
    away = (Skipped("b/", "the folder cannot be listed (Input/output error)", is_folder=True),)
    seen = Sighting.of(Archive(Path(), photos[:1], (), 0, away), memory)
    assert (seen.vanished, seen.unlisted) == (("bc/z.jpg",), away)


def test_links_to_folders_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """What lies outside the archive is none of it, and a circle of links has no end."""
    (tmp_path / "else/photos").mkdir(parents=True)
    Scene.of(9).image.save(tmp_path / "else/photos/z.png")
    before = scan(folder)
    (folder / "linked").symlink_to(tmp_path / "else")
    (folder / "within").symlink_to(folder / "a")
    (folder / "circle").symlink_to(folder / "circle")
    found = scan(folder)
    assert found.photos == before.photos
    assert [(item.path, item.reason) for item in found.unlisted] == [("linked/", LINKED)]


def test_another_limit_reads_all_again(folder: Path, tmp_path: Path) -> None:
    """What was refused under one limit may be a photo under another."""
    table = tmp_path / "scan.parquet"
    assert len(scan(folder, table=table, max_pixels=100).unreadable) == 2
    assert len(scan(folder, table=table).photos) == 2


def test_another_folder_reads_all_again(tmp_path: Path) -> None:
    """A file of the same name, size and time is another photo there, whatever bytes are in the folder's own name."""
    for name, colour in ((b"box \xe9", "red"), (b"box \xe8", "blue")):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        Image.new("RGB", (9, 9), colour).save(folder / "0001.bmp")
        os.utime(folder / "0001.bmp", (0, 0))
        found, again = (scan(folder, table=tmp_path / "scan.parquet", patterns=("**",)) for _ in range(2))
        assert [photo.sha256 for photo in found.photos] == [digest_file(folder / "0001.bmp")]
        assert (found.read_anew, again.read_anew) == (1, 0)


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


def test_whatever_is_reported_of_an_archive_is_in_its_digest() -> None:
    """Paths and contents, and of what cannot be read the reasons too."""
    photo, fault, folder = (
        handmade.photo("a.jpg"),
        Unreadable("b.jpg", "b", 0, "empty"),
        Skipped("c", "no", is_folder=True),
    )
    archive = Archive(Path(), (photo,), (fault,), 0, (folder,))
    others = (
        replace(archive, photos=(replace(photo, path="d.jpg"),)),
        replace(archive, photos=(replace(photo, sha256="d"),)),
        replace(archive, unreadable=(replace(fault, sha256="d"),)),
        replace(archive, unreadable=(replace(fault, reason="broken"),)),
        replace(archive, unlisted=(replace(folder, reason="broken"),)),
    )
    assert len({one.digest for one in (archive, *others)}) == 1 + len(others)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is not there cannot be scanned."""
    with pytest.raises(ArchiveError, match="is not a folder: name the folder"):
        scan(tmp_path / "no")


def test_a_memory_that_its_disk_changed_is_refused(tmp_path: Path) -> None:
    """One digit of a digest would make a known photo new; a memory of before has no checksum and is read."""
    memory, file = Memory(1, {"ab": ["a.jpg"]}, {}), tmp_path / "seen.json"
    memory.save(file)
    assert Memory.load(file) == memory
    file.write_text(file.read_text().replace("ab", "aa"))
    with pytest.raises(ArchiveError, match=r"seen\.json was changed .*delete it to take all photos as new"):
        Memory.load(file)
    file.write_text('{"runs": 1, "present": {"ab": ["a.jpg"]}, "gone": {}}')
    assert Memory.load(file) == memory
