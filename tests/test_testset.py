"""Groups are rows; every cell is used or counted under the reason why it is not."""

import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

from handmade import photo, sheet
from hypothesis import given
from hypothesis import strategies as st

from neardup.archive.groundtruth import ground_truth_rows, named_photos, parse_ground_truth
from neardup.archive.names import Names, distinct_names
from neardup.archive.resolve import ResolvedGroups, resolve_groups
from neardup.archive.scan import Archive, Photo
from neardup.archive.sheets import Sheet, read_workbook
from neardup.archive.testset import TestSet
from neardup.tables import write_table


def resolve_sheets(sheets: list[Sheet], *photos: Photo) -> ResolvedGroups:
    """Resolve the cells of some sheets against photos."""
    return resolve_groups(parse_ground_truth("donnees_IS.xlsx", sheets), Names(Archive(Path(), photos, (), 0)))


def resolve(rows: list[list[str]], *photos: Photo) -> ResolvedGroups:
    """Resolve the cells of the one sheet that has these rows against photos."""
    return resolve_sheets([sheet("any name", rows)], *photos)


PHOTOS = tuple(photo(f"a/{name}.jpg") for name in ("one", "two", "three", "four"))


def test_a_row_is_a_group() -> None:
    """Ragged rows, blank cells and blank rows: what stands in a row is together."""
    found = resolve([["one", "", "two"], [], ["three"]], *PHOTOS)
    assert [(p.path, p.group, p.row) for p in found.test_set.photos] == [
        ("a/one.jpg", 1, 1),
        ("a/two.jpg", 1, 1),
        ("a/three.jpg", 2, 3),
    ]


def test_a_name_in_two_rows_is_a_contradiction() -> None:
    """Its photo is in neither group, and both cells are reported."""
    found = resolve([["one", "two"], ["two", "three"]], *PHOTOS)
    assert [p.path for p in found.test_set.photos] == ["a/one.jpg", "a/three.jpg"]
    assert [(d.kind, d.cell) for d in found.discrepancies] == [("contradiction", "B1"), ("contradiction", "A2")]


def test_a_second_sheet_has_rows_of_its_own() -> None:
    """Groups go on, rows begin at 1 again, and a photo knows the sheet that names it."""
    found = resolve_sheets([sheet("first", [["one"], [], ["two"]]), sheet("second", [[], ["three", "four"]])], *PHOTOS)
    assert [(p.path, p.group, p.sheet, p.row) for p in found.test_set.photos] == [
        ("a/one.jpg", 1, "first", 1),
        ("a/two.jpg", 2, "first", 3),
        ("a/three.jpg", 3, "second", 2),
        ("a/four.jpg", 3, "second", 2),
    ]


def test_a_contradiction_between_two_sheets_names_both() -> None:
    """Each line has its own sheet, row and cell, and says where the other stands."""
    found = resolve_sheets([sheet("first", [["two"], ["one"]]), sheet("second", [["three", "one"]])], *PHOTOS)
    assert [(d.sheet, d.row, d.cell, d.detail) for d in found.discrepancies] == [
        ("first", 2, "A2", "the photo stands in first row 2, second row 1: it is in no group"),
        ("second", 1, "B1", "the photo stands in first row 2, second row 1: it is in no group"),
    ]


def test_equal_rows_of_two_sheets_are_two_groups() -> None:
    """The first row of one sheet and the first row of another are not one group."""
    found = resolve_sheets([sheet("first", [["one"]]), sheet("second", [["two"]])], *PHOTOS)
    assert [p.group for p in found.test_set.photos] == [1, 2]


def test_a_name_twice_in_a_row_is_taken_once() -> None:
    """It is worth a note, no more."""
    found = resolve([["one", "one.jpg", "two"]], *PHOTOS)
    assert (len(found.test_set.photos), [d.kind for d in found.discrepancies]) == (2, ["note"])


def test_the_same_bytes_under_two_names_contradict_too() -> None:
    """A photo is its bytes, whatever the file is called."""
    found = resolve([["one"], ["copy"]], photo("a/one.jpg", "x"), photo("b/copy.jpg", "x"))
    assert (found.test_set.photos, found.counts["contradiction"]) == ((), 2)


def test_a_formula_and_a_climbing_cell_are_refused() -> None:
    """Neither is resolved, each has its line with the cell."""
    found = resolve([["=1+1", "../../../etc/passwd", "one"]], *PHOTOS)
    assert [(d.kind, d.cell) for d in found.discrepancies] == [("unsafe cell", "A1"), ("unsafe cell", "B1")]


def test_a_near_miss_is_named_in_the_report() -> None:
    """The line suggests what may be meant, and the photo is not taken."""
    found = resolve([["onne", "two"]], *PHOTOS)
    assert [(d.kind, d.name, d.suggestion) for d in found.discrepancies] == [("not found", "onne", "is one meant?")]


def test_a_cell_with_several_names_says_so() -> None:
    """None of them is taken, and none is trained on."""
    for text in ("one; two", "one\ntwo.jpg", "one,gone"):
        found = resolve([[text, "three"]], *PHOTOS)
        (line,) = (line for line in found.discrepancies if line.cell == "A1")
        assert (line.kind, line.detail, len(found.test_set.photos)) == ("not found", "the cell holds several names", 1)
    mentions = parse_ground_truth("IS.xlsx", [sheet("IS", [["one; two", "three"]])])
    assert [item.path for item in named_photos(mentions, Names(Archive(Path(), PHOTOS, (), 0)))] == [
        "a/one.jpg",
        "a/two.jpg",
        "a/three.jpg",
    ]


def test_a_comma_in_a_name_parts_nothing() -> None:
    """A cell that is a name as a whole is that name."""
    assert len(resolve([["one, two", "three"]], *PHOTOS, photo("a/one, two.jpg")).test_set.photos) == 2


def test_a_number_of_a_group_is_no_misspelt_name() -> None:
    """Where half of a short name differs, nothing is suggested, and no photo is kept from training for it."""
    found = resolve([["1", "ok", "two"]], *PHOTOS, photo("a/12.jpg"))
    assert [line.suggestion for line in found.discrepancies] == ["", ""]


def test_rows_that_name_a_photo_each_are_said_to_be_no_groups() -> None:
    """A table with the number of the group beside each name gives groups of one, of which nothing is measured."""
    found = resolve([["Group", "Photo"], ["1", "one"], ["1", "two"], ["2", "three"]], *PHOTOS)
    assert [line.detail for line in found.discrepancies if line.kind == "ambiguous"] == [
        "no row names two photos, so that there is no group to measure by"
    ]
    assert resolve([["one", "two"], ["three"]], *PHOTOS).discrepancies == ()


@given(st.lists(st.lists(st.sampled_from(["one", "two", "three", "four", "fivve", "=x", "..", "ONE", ""]), max_size=5)))
def test_the_counts_add_up(rows: list[list[str]]) -> None:
    """Listed is used and every kind of left out, whatever the sheet holds."""
    counts = resolve(rows, *PHOTOS).counts
    assert counts["listed"] == sum(n for kind, n in counts.items() if kind != "listed")


@given(
    st.lists(
        st.sampled_from(["a/x.jpg", "b/x.jpg", "a/X.JPG", "a~b/x.jpg", "a/b/x.jpg", "x~a.jpg", "y.jpg"]), unique=True
    )
)
def test_copies_never_overwrite_each_other(paths: list[str]) -> None:
    """Equal names from several folders get distinct ones, also on a disk that knows no case."""
    names = distinct_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)


def test_accents_of_two_forms_are_one_name_on_some_disks() -> None:
    """Copies whose names differ only in how their accents are composed get distinct ones."""
    names = distinct_names([f"a/{unicodedata.normalize('NFC', 'é')}.jpg", f"b/{unicodedata.normalize('NFD', 'é')}.jpg"])
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 2


def test_copies_have_names_that_disks_take() -> None:
    """Folders behind a long name would make it too long; names that are cut are still distinct."""
    long = "é" * 120
    names = distinct_names([f"{folder}/{long}.jpg" for folder in ("a", f"{'b' * 99}c", f"{'b' * 99}d")])
    assert len(set(names)) == 3
    assert [(len(name.encode()) <= 255, name[:100], name[-4:]) for name in names] == [(True, "é" * 100, ".jpg")] * 3


def test_a_name_of_its_own_is_kept() -> None:
    """Only namesakes are renamed."""
    assert distinct_names(["a/x.jpg", "b/x.jpg", "b/y.jpg"]) == ["x~a.jpg", "x~b.jpg", "y.jpg"]


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    """What was written is what is read; other groups of the same photos have another digest."""
    found = resolve([["one", "two"], ["three"]], *PHOTOS).test_set
    found.save(tmp_path)
    assert TestSet.load(tmp_path) == found
    assert resolve([["one"], ["two", "three"]], *PHOTOS).test_set.digest != found.digest


FOLDERS = st.sampled_from(["", "rol", "presse", "rol/presse", "presse/rol", "Presse", "été", "e\u0301te\u0301", "a\\b"])
FILES = st.sampled_from(
    ["x.jpg", "X.jpg", "x.JPG", "x.png", "é.jpg", "e\u0301.jpg", "e.jpg", "=x.jpg", "a  b.jpg", " x.jpg"]
)


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[Photo], list[int]]:
    """Photos with few names in few folders, some of equal bytes, and for each the number of its group."""
    places = draw(st.lists(st.tuples(FOLDERS, FILES), unique=True, min_size=1, max_size=12))
    paths = [f"{folder}/{name}" if folder else name for folder, name in places]
    contents = draw(st.lists(st.integers(0, 9), min_size=len(paths), max_size=len(paths)))
    groups = draw(st.lists(st.integers(0, 4), min_size=len(paths), max_size=len(paths)))
    photos = [photo(path, str(content)) for path, content in zip(paths, contents, strict=True)]
    return sorted(photos, key=lambda item: item.path), groups


@given(archives())
def test_new_is_read_back_is_the_same_test_set(made: tuple[list[Photo], list[int]]) -> None:
    """Whatever namesakes the archive holds, what is written as ground truth means the photos that it was made of."""
    photos, groups = made
    rows: list[list[str]] = [[] for _ in range(5)]
    for item, group in zip(photos, groups, strict=True):
        rows[group].append(f"./{item.path}")
    first = resolve(rows, *photos).test_set
    with TemporaryDirectory() as folder:
        path = Path(folder) / "new_IS.xlsx"
        write_table(path, (), ground_truth_rows(first, Names(Archive(Path(), tuple(photos), (), 0))), header=False)
        again = resolve_sheets(read_workbook(path), *photos)
    assert [(p.name, p.path, p.group) for p in again.test_set.photos] == [
        (p.name, p.path, p.group) for p in first.photos
    ]
    assert again.counts["listed"] == again.counts["used"]


def test_a_namesake_is_written_after_the_folder_that_tells_it_apart() -> None:
    """A name of its own stands alone, a namesake follows its nearest folder that no other one lies in."""
    photos = [photo(path) for path in ("rol/jpg/x.jpg", "presse/jpg/x.jpg", "rol/jpg/y.jpg", "a/x.jpg", "b/a/x.jpg")]
    names = Names(Archive(Path(), tuple(photos), (), 0))
    assert [names.shortest(item.path) for item in photos] == [
        "rol/x.jpg",
        "presse/x.jpg",
        "y.jpg",
        "./a/x.jpg",
        "b/x.jpg",
    ]
