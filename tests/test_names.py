"""What a cell of the historian's sheet means, and what it does not."""

import unicodedata
from pathlib import Path

import pytest
from handmade import photo

from neardup.archive.names import Names
from neardup.archive.scan import Archive, Photo, Unreadable


def names(*photos: Photo, unreadable: tuple[Unreadable, ...] = ()) -> Names:
    """The names of an archive that holds these."""
    return Names(Archive(Path(), photos, unreadable, 0))


REPORTER = "1_Chérau_28 nov 1911_Henni_atrocités turco-arabes (8)"


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("cell", ["NFC", "NFD"])
def test_accents_may_be_composed_or_not(disk: str, cell: str) -> None:
    """Both forms of an accent are one name, on either side."""
    known = names(photo(f"a/{unicodedata.normalize(disk, REPORTER)}.jpg"))  # type: ignore[arg-type]
    assert len(known.find(unicodedata.normalize(cell, REPORTER)).photos) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("cell", ["NFC", "NFD"])
def test_accents_are_compared_composed_before_they_are_dropped(disk: str, cell: str) -> None:
    """With a namesake that lacks the accent the name still means its own photo, in either form."""
    path = f"a/{unicodedata.normalize(disk, 'scène')}.jpg"  # type: ignore[arg-type]
    known = names(photo(path), photo("b/scene.jpg"))
    for text in ("scène", "scène.jpg", "./a/scène.jpg"):
        assert [p.path for p in known.find(unicodedata.normalize(cell, text)).photos] == [path]  # type: ignore[arg-type]


def test_a_path_from_the_root_means_one_file() -> None:
    """After `./` stands the whole path: neither a namesake in a folder below nor one of another case is meant."""
    known = names(photo("a/x.jpg"), photo("b/a/x.jpg"), photo("a/x.JPG"))
    assert [[p.path for p in known.find(cell).photos] for cell in ("./a/x.jpg", "./a/x.JPG", "./b/x.jpg")] == [
        ["a/x.jpg"],
        ["a/x.JPG"],
        [],
    ]


@pytest.mark.parametrize("cell", ["scene", "Scène", "SCÈNE.JPG", "scène.jpg", " scène "])
def test_case_accents_and_extension_do_not_matter(cell: str) -> None:
    """A name that lost them is still found."""
    assert [p.path for p in names(photo("a/Scène.jpg")).find(cell).photos] == ["a/Scène.jpg"]


def test_a_blank_before_the_suffix_does_not_matter() -> None:
    """Nobody sees it, and a cell has none at its end."""
    assert len(names(photo("a/foo .jpg")).find("foo").photos) == 1


@pytest.mark.parametrize("folder", ["surlevif /12", "surlevif/12 ", "a.tif/12", "12/a.tif"])
def test_a_folder_may_have_a_blank_at_its_end_or_a_suffix(folder: str) -> None:
    """The cell's folder and the disk's are compared part by part."""
    assert len(names(photo(f"{folder}/photos/x.jpg"), photo("else/x.jpg")).find(f"{folder}/photos/x").photos) == 1
    assert len(names(photo(f"{folder}/x.jpg"), photo("else/x.jpg")).find(f"{folder}/x").photos) == 1


def test_an_exact_name_beats_a_folded_one() -> None:
    """With accents there is one photo, without another: each name means its own."""
    known = names(photo("a/scene.jpg"), photo("b/scène.jpg"))
    assert [[p.path for p in known.find(cell).photos] for cell in ("scene", "scène")] == [
        ["a/scene.jpg"],
        ["b/scène.jpg"],
    ]


@pytest.mark.parametrize(
    ("cell", "near"),
    [("scane", "scene"), ("scn", "scene"), (r"presse\scane", "scene"), ("presse/scane", "scene"), ("other", "")],
)
def test_a_near_miss_is_suggested_never_taken(cell: str, near: str) -> None:
    """One or two letters off is a suggestion; more is nothing."""
    known = names(photo("a/scene.jpg"))
    assert (known.find(cell).photos, known.suggest(cell)) == ((), near)


def test_equal_bytes_in_two_folders_are_one_photo() -> None:
    """Two places, one content: not ambiguous."""
    found = names(photo("a/x.jpg", "same"), photo("b/x.jpg", "same")).find("x")
    assert (len(found.photos), found.ambiguous) == (2, False)


def test_different_bytes_are_ambiguous_unless_the_folder_is_said() -> None:
    """The cell's folder decides, and nothing else does."""
    known = names(photo("rol/photos/x.jpg"), photo("presse/photos/x.jpg"))
    assert known.find("x").ambiguous
    assert [p.path for p in known.find("presse/x").photos] == ["presse/photos/x.jpg"]


@pytest.mark.parametrize("elsewhere", ["rol/scene.jpg", "rol/Scène.jpg"])
def test_a_name_of_another_folder_hides_none_of_the_folder_that_is_said(elsewhere: str) -> None:
    """Neither by its accents nor by its extension is it nearer than one that lies where the cell says."""
    known = names(photo("presse/Scène.png"), photo(elsewhere))
    assert [p.path for p in known.find("presse/scene.jpg").photos] == ["presse/Scène.png"]


def test_an_extension_tells_two_files_apart() -> None:
    """`x.png` means the PNG, `x` both."""
    known = names(photo("a/x.jpg"), photo("a/x.png"))
    assert ([p.path for p in known.find("x.png").photos], known.find("x").ambiguous) == (["a/x.png"], True)


def test_an_unreadable_file_is_found_as_such() -> None:
    """The name exists, but stands for no photo."""
    broken = Unreadable("a/x.jpg", "", 0, "the file is empty")
    found = names(unreadable=(broken,)).find("x")
    assert (found.photos, found.unreadable) == ((), (broken,))
