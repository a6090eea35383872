"""Groups are rows; every cell is used or counted under the reason why it is not."""

from pathlib import Path

from handmade import photo, sheet
from hypothesis import given
from hypothesis import strategies as st

from neardup.archive.names import Names
from neardup.archive.scan import Archive, Photo
from neardup.archive.testset import ResolvedGroups, TestSet, distinct_names, resolve_groups


def resolve(rows: list[list[str]], *photos: Photo) -> ResolvedGroups:
    """Resolve rows of cells against photos."""
    return resolve_groups([sheet("any name", rows)], Names(Archive(Path(), photos, (), 0)), "donnees_IS.xlsx")


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


def test_a_name_of_its_own_is_kept() -> None:
    """Only namesakes are renamed."""
    assert distinct_names(["a/x.jpg", "b/x.jpg", "b/y.jpg"]) == ["x~a.jpg", "x~b.jpg", "y.jpg"]


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    """What was written is what is read."""
    found = resolve([["one", "two"], ["three"]], *PHOTOS).test_set
    found.save(tmp_path)
    assert TestSet.load(tmp_path) == found
