"""The drawn archive: the same for the same seed, with legends that are true."""

import shutil
from pathlib import Path

import pytest

from neardup.archive.captions import detect_language
from neardup.builtin.demo import make_archive
from neardup.builtin.scenes import KINDS, LANGUAGES, Scene
from neardup.errors import ArchiveError
from neardup.stages import digest_file


def contents(root: Path) -> dict[str, str]:
    """Digest of every image and text; a workbook's bytes hold the time of its making."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".xlsx"]
    return {path.relative_to(root).as_posix(): digest_file(path) for path in files}


def test_a_seed_is_an_archive(tmp_path: Path) -> None:
    """Equal arguments draw equal photos, another seed others."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_archive(tmp_path / name / "archive", groups=2, training=4, seed=seed)
    first, second, third = (contents(tmp_path / name / "archive") for name in "abc")
    assert (first == second, first == third) == (True, False)


def test_an_archive_is_drawn_once(tmp_path: Path) -> None:
    """Called again it leaves the files as they are and tells the same."""
    first = make_archive(tmp_path / "archive", groups=2, training=4)
    times = {path: path.stat().st_mtime_ns for path in first.root.rglob("*")}
    assert make_archive(tmp_path / "archive", groups=2, training=4) == first
    assert {path: path.stat().st_mtime_ns for path in first.root.rglob("*")} == times


def test_an_archive_that_was_deleted_is_drawn_again(tmp_path: Path) -> None:
    """The note beside it is not believed where a file is gone."""
    first = make_archive(tmp_path / "archive", groups=2, training=4)
    before = contents(first.root)
    shutil.rmtree(first.root / "presse")
    assert make_archive(tmp_path / "archive", groups=2, training=4) == first
    assert contents(first.root) == before


def test_it_grows(tmp_path: Path) -> None:
    """Other numbers replace the archive by a larger one."""
    make_archive(tmp_path / "archive", groups=2, training=4)
    larger = make_archive(tmp_path / "archive", groups=4, training=8)
    assert (len(larger.groups), len(larger.training)) == (6, 8)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """What was not drawn by us is not drawn over."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "mine.txt").write_text("mine")
    with pytest.raises(ArchiveError, match="not drawn by neardup"):
        make_archive(tmp_path / "archive")
    assert (tmp_path / "archive" / "mine.txt").read_text() == "mine"


def test_a_file_of_somebody_else_is_never_deleted(tmp_path: Path) -> None:
    """What the user put into the archive, or changed there, is there when it is drawn anew with other numbers."""
    first = make_archive(tmp_path / "archive", groups=4, training=4)
    changed = first.root / next(iter(first.training))
    mine = first.root / "presse/photos/jpg/mine.jpg"
    for path in (mine, changed):
        path.write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="was changed since: move it away"):
        make_archive(tmp_path / "archive", groups=2, training=4)
    assert (mine.read_bytes(), changed.read_bytes()) == (b"mine", b"mine")
    changed.unlink()
    second = make_archive(tmp_path / "archive", groups=2, training=4)
    drawn = {path.relative_to(second.root).as_posix() for path in second.root.rglob("*.jpg")}
    assert drawn - {path for group in second.groups for path in group} - set(second.training) >= {
        "presse/photos/jpg/mine.jpg"
    }
    assert not set(first.groups[2]) & drawn


def test_folders_that_are_empty_go_with_what_was_drawn(tmp_path: Path) -> None:
    """Fewer photos leave no empty folder behind, and no file of the larger archive."""
    make_archive(tmp_path / "a/archive", groups=4, training=14)
    make_archive(tmp_path / "a/archive", groups=2, training=4)
    make_archive(tmp_path / "b/archive", groups=2, training=4)
    first, second = (sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in "ab")
    assert first == second


def test_an_archive_without_its_list_is_not_drawn_over(tmp_path: Path) -> None:
    """An archive of a former version, which kept no list of what it drew, is left as it is."""
    first = make_archive(tmp_path / "archive", groups=2, training=4)
    (tmp_path / ".archive.sha256").unlink()
    before = contents(first.root)
    with pytest.raises(ArchiveError, match="move it away, or name another folder with --out"):
        make_archive(tmp_path / "archive", groups=4, training=4)
    assert contents(first.root) == before


def test_a_legend_says_what_is_seen() -> None:
    """Kind, number, place and weather, in each language."""
    scene = Scene(1, "camels", 3, "desert", "night")
    assert [scene.legend(language) for language in LANGUAGES] == [
        "Trois chameaux dans le désert, pendant la nuit.",
        "Tre cammelli nel deserto, durante la notte.",
        "Drei Kamele in der Wüste, in der Nacht.",
        "Three camels in the desert, at night.",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_language_of_most_legends_is_recognised(language: str) -> None:
    """The detector, which knows nothing of the drawing, agrees nine times in ten."""
    found = [detect_language(Scene.of(seed).legend(language), LANGUAGES) for seed in range(100)]
    assert found.count(language) >= 90


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_drawn(kind: str) -> None:
    """One to five of them, wherever they may stand, in any weather."""
    sizes = {
        max(Scene(seed, kind, 1 + seed % 5, place, weather).image.size)
        for seed, (place, weather) in enumerate(
            (place, weather) for place in KINDS[kind].places for weather in ("clear", "cloudy", "night", "evening")
        )
    }
    assert sizes == {420}
