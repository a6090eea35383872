"""The drawn archive: the same for the same seed, with legends that are true."""

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
        make_archive(tmp_path / name / "archive", groups=4, training=16, seed=seed)
    first, second, third = (contents(tmp_path / name / "archive") for name in "abc")
    assert (first == second, first == third) == (True, False)


def test_an_archive_is_drawn_once(tmp_path: Path) -> None:
    """Called again it leaves the files as they are and tells the same."""
    first = make_archive(tmp_path / "archive", groups=4, training=16)
    times = {path: path.stat().st_mtime_ns for path in first.root.rglob("*")}
    assert make_archive(tmp_path / "archive", groups=4, training=16) == first
    assert {path: path.stat().st_mtime_ns for path in first.root.rglob("*")} == times


def test_it_grows(tmp_path: Path) -> None:
    """Other numbers replace the archive by a larger one."""
    make_archive(tmp_path / "archive", groups=4, training=16)
    larger = make_archive(tmp_path / "archive", groups=8, training=20)
    assert (len(larger.groups), len(larger.training)) == (10, 20)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """What was not drawn by us is not drawn over."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "mine.txt").write_text("mine")
    with pytest.raises(ArchiveError, match="not drawn by neardup"):
        make_archive(tmp_path / "archive")
    assert (tmp_path / "archive" / "mine.txt").read_text() == "mine"


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
