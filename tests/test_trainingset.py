"""Legend sheets of any make become photos with legends, and no test photo among them."""

import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from neardup.archive.leaks import Leaks, flat
from neardup.archive.legends import Columns, clean_legend, find_columns, number_of, parse_legends
from neardup.archive.names import Names
from neardup.archive.resolve import ResolvedLegends, collection_of, photo_name, resolve_legends
from neardup.archive.scan import Archive, Photo
from neardup.archive.sheets import Sheet
from neardup.archive.testset import TestPhoto, TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.errors import ArchiveError, ConfigError
from neardup.settings.schema import PATTERNS

FOLDER = "surlevif/19111112"
PHASH, MIRRORED, OTHER = "f0e1d2c3b4a59687", "0f1e2d3c4b5a6978", "123456789abcdef0"


def sheet(*rows: list[str]) -> Sheet:
    """A legend sheet."""
    return handmade.sheet("Feuil1", list(rows))


def photo(page: int, number: int, content: str = "", phash: str = OTHER, mirrored: str = "") -> Photo:
    """A photo of the issue."""
    path = f"{FOLDER}/photos/jpg/np_surlevif_19111112_{page:02d}_{number:02d}.jpg"
    return handmade.photo(path, content, phash, mirrored)


def of_the_test_set(path: str = "rol/x.jpg") -> Photo:
    """A photo of the test set."""
    return handmade.photo(path, "tested", PHASH, MIRRORED)


def read(
    *sheets: Sheet,
    photos: tuple[Photo, ...],
    workbook: str = f"{FOLDER}/19111112.xlsx",
    tested: Photo | None = None,
    copied_as: str = "x~rol.jpg",
) -> ResolvedLegends:
    """Read the sheets of a workbook in an archive that holds these photos, and the test set a copy of one other."""
    test_photo = tested or of_the_test_set()
    test_set = TestSet((TestPhoto(copied_as, test_photo.path, test_photo.sha256, 1, 1),))
    leaks = Leaks([test_photo], test_set, 6)
    parsed = [parse_legends(workbook, table) for table in sheets]
    return resolve_legends(parsed, Names(Archive(Path(), photos, (), 0)), PATTERNS, leaks)


HEADER = ["Num page", "Num photo", "Légende"]


@pytest.mark.parametrize(
    "header",
    [
        ["Num page", "Num photo", "Légende"],
        ["num page", "Num Photo", "legendes"],
        ["page", "n° photo", "LEGENDS"],
        ["Numéro page", "Numéro photo", "légendes"],
        ["Pages", "Images", "caption"],
        ["Seite", "Bild", "Bildunterschrift"],
        ["pagina", "foto", "didascalia"],
    ],
)
def test_columns_are_known_by_any_name(header: list[str]) -> None:
    """Accents, case, number and language do not matter."""
    assert find_columns(sheet(header)) == Columns(0, 2, 0, 1)


def test_columns_may_stand_anywhere_below_a_title() -> None:
    """Other columns and a title row do not disturb."""
    table = sheet(["Sur le vif", ""], ["auteur", "legende", "", "num photo", "num page"])
    assert find_columns(table) == Columns(1, 1, 4, 3)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (["Image", "Num page", "Num photo", "Légende"], Columns(0, 3, 1, 2)),
        (["Photo", "Image", "Num page", "N° image", "Légende"], Columns(0, 4, 2, 3)),
        (["Image", "Page", "Photo", "Légende"], Columns(0, 3, 1, 2)),
        (["Page", "Num page", "Photo", "Légende"], Columns(0, 3, 1, 2)),
        (["Num page", "Num photo", "Description", "Caption", "Légende"], Columns(0, 4, 0, 1)),
        (["Num page", "Num photo", "Description", "Caption"], Columns(0, 3, 0, 1)),
        (["Num page", "Num photo", "Légende", "Légende"], Columns(0, 2, 0, 1)),
    ],
)
def test_the_plainest_name_of_a_column_is_taken(header: list[str], columns: Columns) -> None:
    """Where several columns could be meant, a legend goes before a description, a numbered name before a bare one."""
    assert find_columns(sheet(header)) == columns


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("3.0", 3), ("03", 3), ("3.5", None), ("/", None), ("", None), ("x", None), ("9" * 5000, None)],
)
def test_numbers_are_parsed(text: str, number: int | None) -> None:
    """A number in any dress; anything else is none."""
    assert number_of(text) == number


def test_legends_are_cleaned() -> None:
    """Line breaks and runs of spaces go, accents are composed."""
    assert clean_legend("  L'arrive\u0301e\n du  roi\t ") == "L'arrivée du roi"


@pytest.mark.parametrize(
    ("collection", "name"),
    [
        ("surlevif", "np_surlevif_7_03_04"),
        ("guerreillustree", "np_guerreillustree_7_03_04"),
        ("fonds_forbin", "pho_7_03_04"),
    ],
)
def test_the_collections_pattern_makes_the_name(collection: str, name: str) -> None:
    """As the facts of the archive have it."""
    assert photo_name(PATTERNS[collection], collection, f"{collection}/7/7.xlsx", 3, 4) == name


def test_a_pattern_of_another_field_is_an_error() -> None:
    """The sentence names the fields that there are."""
    with pytest.raises(ConfigError, match=r"cannot be filled in .* a pattern may use \{collection\}"):
        photo_name("{year}_{photo}", "a", "a/b/b.xlsx", 1, 2)


def test_accents_of_a_collection_may_be_composed_or_not() -> None:
    """A folder with decomposed accents has the pattern that is set for its name with composed ones, and vice versa."""
    forms = [unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")]
    found = [collection_of(f"presse/{there}/1/1.xlsx", {here: "{photo}"}) for there in forms for here in forms]
    assert found == [forms[0], forms[0], forms[1], forms[1]]


def test_a_row_becomes_a_photo_with_its_legend() -> None:
    """The photo is found below the sheet's folder, and knows where its legend stands."""
    found = read(sheet(["Sur le vif"], HEADER, ["1", "2.0", "Le roi"]), photos=(photo(1, 2),))
    assert [
        (p.image_name, p.legend, p.collection, p.workbook, p.sheet, p.row, p.page, p.photo)
        for p in found.training_set.photos
    ] == [
        (
            "np_surlevif_19111112_01_02.jpg",
            "Le roi",
            "surlevif",
            f"{FOLDER}/19111112.xlsx",
            "Feuil1",
            3,
            "1",
            "2.0",
        )
    ]


def test_the_photo_lies_below_the_sheets_own_folder() -> None:
    """Not below a folder of that name elsewhere in the archive, where another collection keeps its photos."""
    elsewhere = handmade.photo(f"illustration/{photo(1, 2).path}")
    found = read(sheet(HEADER, ["1", "1", "Le roi"], ["1", "2", "La reine"]), photos=(photo(1, 1), elsewhere))
    assert ([p.legend for p in found.training_set.photos], found.counts["not found"]) == (["Le roi"], 1)


def test_page_0_is_a_page() -> None:
    """A cover may be counted so; it is not taken for a row without a page."""
    found = read(sheet(HEADER, ["0", "1", "Le roi"]), photos=(photo(0, 1),))
    assert [p.page for p in found.training_set.photos] == ["0"]


@pytest.mark.parametrize(
    ("row", "reason", "cell"),
    [
        (["1", "/", "Le roi"], "no photo number", "B2"),
        (["1", "", "Le roi"], "no photo number", "B2"),
        (["/", "1", "Le roi"], "no page number", "A2"),
        (["1", "1", ""], "no legend", "B2"),
        (["99", "1", "Le roi"], "not found", "B2"),
        (["../../..", "1", "Le roi"], "unsafe cell", "A2"),
        (["1", "=1+1", "Le roi"], "unsafe cell", "B2"),
        (["1", "1", "=1+1"], "unsafe cell", "C2"),
    ],
)
def test_a_row_that_is_not_used_says_why(row: list[str], reason: str, cell: str) -> None:
    """It is counted under its reason and has a line with sheet, row and cell."""
    found = read(sheet(HEADER, row), photos=(photo(1, 1),))
    assert found.counts == Counter({"listed": 1, reason: 1, "used": 0})
    assert [(line.sheet, line.row, line.cell) for line in found.discrepancies] == [("Feuil1", 2, cell)]


def test_a_missing_column_is_a_line_not_a_failure() -> None:
    """The line names the columns that there are, and the rows are counted."""
    found = read(sheet(["Num page", "Légende"], ["1", "Le roi"]), photos=(photo(1, 1),))
    assert [(line.kind, line.row) for line in found.discrepancies] == [("missing column", 1)]
    assert found.counts == Counter({"listed": 1, "missing column": 1, "used": 0})


def test_a_sheet_of_something_else_is_a_note() -> None:
    """It has none of the columns, and its rows are not counted."""
    found = read(sheet(["auteur"], ["Branger"]), sheet(), photos=(photo(1, 1),))
    assert ([line.kind for line in found.discrepancies], found.counts["listed"]) == (["note"], 0)


def test_a_collection_without_a_pattern_says_where_to_set_it() -> None:
    """The line names the setting."""
    found = read(sheet(HEADER, ["1", "1", "Le roi"]), photos=(photo(1, 1),), workbook="new/1/1.xlsx")
    assert found.discrepancies[0].suggestion == "set it under [prepare.patterns] in neardup.toml"


@pytest.mark.parametrize(
    ("leaked", "reason"),
    [
        (photo(1, 1, content="tested"), "in the test set by content"),
        (photo(1, 1, phash=PHASH), "in the test set by looks"),
        (photo(1, 1, phash=MIRRORED, mirrored=PHASH), "in the test set by looks"),
    ],
    ids=["content", "looks", "mirrored"],
)
def test_a_test_photo_is_left_out_of_training(leaked: Photo, reason: str) -> None:
    """By content, by its perceptual hash, and by that of its mirror image; the line has sheet, row and cell."""
    table = sheet(HEADER, ["1", "2", "La reine"], ["1", "1", "Le roi"])
    found = read(table, photos=(leaked, photo(1, 2)))
    assert ([p.legend for p in found.training_set.photos], found.counts[reason]) == (["La reine"], 1)
    assert [(line.sheet, line.row, line.cell) for line in found.discrepancies] == [("Feuil1", 3, "B3")]


@pytest.mark.parametrize("name", ["NP_surlevif_19111112_01_01", "np_surlevif_19111112_01_01"])
def test_a_namesake_of_a_test_photo_is_left_out(name: str) -> None:
    """The prior project compared names with an extension to names without: here they are equal.

    It is a namesake by the name in the archive, and by that of the copy in the test set.
    """
    table = sheet(HEADER, ["1", "1", "Le roi"])
    for found in (
        read(table, photos=(photo(1, 1),), tested=of_the_test_set(path=f"rol/{name}.jpeg")),
        read(table, photos=(photo(1, 1),), copied_as=f"{name}.jpeg"),
    ):
        assert (found.training_set.photos, found.counts["in the test set by name"]) == ((), 1)


def test_a_photo_like_one_that_the_ground_truth_names_is_left_out() -> None:
    """The one it names, here as the mirror image, stands in two rows: in no group, yet a near-duplicate of two."""
    named = handmade.photo("rol/named.jpg", phash=MIRRORED, mirrored=PHASH)
    leaks = Leaks([], TestSet(()), 6, [named])
    alike = photo(1, 1, phash=PHASH, mirrored=MIRRORED)
    assert leaks.reason(named) == (
        "named by the ground truth",
        "a cell of the ground truth means rol/named.jpg, or may mean it if misspelt",
    )
    assert leaks.reason(alike) == (
        "named by the ground truth",
        "mirrored, looks like rol/named.jpg (0 of 64 bits differ), which the ground truth names",
    )
    assert leaks.reason(photo(1, 1)) is None


def test_an_even_surface_looks_like_nothing() -> None:
    """A hash of hardly any bits says nothing of looks."""
    assert [flat(text) for text in ("0" * 16, "8000000000000000", "f" * 16, PHASH)] == [True, True, True, False]
    tested = replace(of_the_test_set(), phash="f" + "0" * 15)
    table = sheet(HEADER, ["1", "1", "Le roi"])
    for phash, used in (("7" + "0" * 15, 1), ("f8" + "0" * 14, 0)):
        assert read(table, photos=(photo(1, 1, phash=phash),), tested=tested).counts["used"] == used


@pytest.mark.parametrize(("bits", "used"), [(6, 0), (7, 1)])
def test_a_photo_looks_like_a_test_photo_up_to_the_limit(bits: int, used: int) -> None:
    """Six bits of 64 by default."""
    phash = f"{int(PHASH, 16) ^ (1 << bits) - 1:016x}"
    found = read(sheet(HEADER, ["1", "1", "Le roi"]), photos=(photo(1, 1, phash=phash),))
    assert (found.counts["used"], found.counts["in the test set by looks"]) == (used, 1 - used)


def test_a_photo_with_two_legends_keeps_the_first() -> None:
    """The second is a contradiction that names workbook, sheet and row of the first."""
    table = sheet(HEADER, ["1", "1", "Le roi"], ["1", "1", "La reine"], ["1", "1", "Le roi"])
    found = read(table, photos=(photo(1, 1),))
    assert [p.legend for p in found.training_set.photos] == ["Le roi"]
    assert [(line.kind, line.row, line.cell) for line in found.discrepancies] == [
        ("contradiction", 3, "B3"),
        ("note", 4, "B4"),
    ]
    place = f"in {FOLDER}/19111112.xlsx, sheet Feuil1, row 2, which is kept"
    assert all(line.detail.endswith(place) for line in found.discrepancies)
    assert found.counts == Counter({"listed": 3, "used": 1, "repeated": 2})


def test_legends_that_differ_in_how_accents_are_composed_are_one() -> None:
    """The second is no contradiction."""
    forms = [unicodedata.normalize(form, "L'été") for form in ("NFC", "NFD")]
    found = read(sheet(HEADER, *(["1", "1", legend] for legend in forms)), photos=(photo(1, 1),))
    assert [line.kind for line in found.discrepancies] == ["note"]


def test_a_second_sheet_has_rows_of_its_own() -> None:
    """A line of the second sheet has its name, its row and its cell."""
    second = replace(sheet(HEADER, ["1", "1", "La reine"]), name="Feuil2")
    found = read(sheet(HEADER, [], [], ["1", "1", "Le roi"]), second, photos=(photo(1, 1),))
    assert [(line.sheet, line.row, line.cell) for line in found.discrepancies] == [("Feuil2", 2, "B2")]
    assert "sheet Feuil1, row 4" in found.discrepancies[0].detail


@pytest.mark.parametrize("legend", ["-1 soldat", "+ 3", "@roi", "'le roi'", "''", "= le roi"])
def test_a_legend_is_no_formula_in_a_csv(legend: str, tmp_path: Path) -> None:
    """A spreadsheet that opens the table sees text; we read what was there."""
    (row,) = read(sheet(HEADER, ["1", "1", "Le roi"]), photos=(photo(1, 1),)).training_set.photos
    training = TrainingSet((replace(row, legend=legend),))
    path = training.save(tmp_path)
    assert f",'{legend}," in path.read_text(encoding="utf-8")
    assert TrainingSet.load(tmp_path) == training


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    """What was written is what is read, line breaks and quotes in legends too; another legend has another digest."""
    training = read(sheet(HEADER, ["1", "1", 'Le "roi", à Tripoli; 2']), photos=(photo(1, 1),)).training_set
    training.save(tmp_path)
    assert TrainingSet.load(tmp_path) == training
    assert TrainingSet((replace(training.photos[0], legend="La reine"),)).digest != training.digest


@pytest.mark.parametrize("columns", ["image_name,path,sheet,row", "image_name"])
def test_a_table_of_another_version_is_one_sentence(columns: str, tmp_path: Path) -> None:
    """A table whose columns are not ours says what to run, in place of a traceback."""
    (tmp_path / "training_set.csv").write_text(f"{columns}\na,b,c,2\n")
    with pytest.raises(
        ArchiveError, match=r"another version of neardup or changed since.*run `neardup prepare ARCHIVE"
    ):
        TrainingSet.load(tmp_path)
