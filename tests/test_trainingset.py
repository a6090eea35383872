"""Legend sheets of any make become photos with legends, and no test photo among them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from neardup.archive.names import Names
from neardup.archive.scan import Archive, Photo
from neardup.archive.sheets import Sheet
from neardup.archive.testset import TestPhoto, TestSet
from neardup.archive.trainingset import (
    Columns,
    Legends,
    TrainingSet,
    clean_legend,
    find_columns,
    flat,
    number_of,
    photo_name,
)
from neardup.errors import ConfigError
from neardup.settings.schema import PATTERNS

FOLDER = "surlevif/19111112"
LOOK, MIRRORED, OTHER = "f0e1d2c3b4a59687", "0f1e2d3c4b5a6978", "123456789abcdef0"


def sheet(*rows: list[str]) -> Sheet:
    """A legend sheet."""
    return handmade.sheet("Feuil1", list(rows))


def photo(page: int, number: int, content: str = "", look: str = OTHER, mirrored: str = "") -> Photo:
    """A photo of the issue."""
    path = f"{FOLDER}/photos/jpg/np_surlevif_19111112_{page:02d}_{number:02d}.jpg"
    return handmade.photo(path, content, look, mirrored)


def read(table: Sheet, *photos: Photo, workbook: str = f"{FOLDER}/19111112.xlsx") -> Legends:
    """Read one sheet of an archive that holds these photos."""
    legends = Legends(Names(Archive(Path(), photos, (), 0)), PATTERNS, [], [], Counter())
    legends.read(workbook, table)
    return legends


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
    ("text", "number"), [("3", 3), ("3.0", 3), ("03", 3), ("/", None), ("", None), ("x", None), ("12", 12)]
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


def test_a_row_becomes_a_photo_with_its_legend() -> None:
    """The photo is found below the sheet's folder."""
    legends = read(sheet(HEADER, ["1", "2.0", "Le roi"]), photo(1, 2))
    assert [(row.photo.name, row.legend, row.row) for row in legends.rows] == [
        ("np_surlevif_19111112_01_02.jpg", "Le roi", 2)
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["1", "/", "Le roi"], "no photo number"),
        (["/", "1", "Le roi"], "no page number"),
        (["1", "1", ""], "no legend"),
        (["99", "1", "Le roi"], "not found"),
        (["../../..", "1", "Le roi"], "unsafe cell"),
        (["1", "=1+1", "Le roi"], "unsafe cell"),
    ],
)
def test_a_row_that_is_not_used_says_why(row: list[str], reason: str) -> None:
    """It is counted under its reason and has a line with sheet and row."""
    legends = read(sheet(HEADER, row), photo(1, 1))
    assert (legends.counts[reason], [(line.sheet, line.row) for line in legends.lines]) == (1, [("Feuil1", 2)])


def test_a_missing_column_is_a_line_not_a_failure() -> None:
    """The line names the columns that there are, and the rows are counted."""
    legends = read(sheet(["Num page", "Légende"], ["1", "Le roi"]), photo(1, 1))
    assert [(line.kind, line.row) for line in legends.lines] == [("missing column", 1)]
    assert legends.counts == Counter({"listed": 1, "missing column": 1})


def test_a_collection_without_a_pattern_says_where_to_set_it() -> None:
    """The line names the setting."""
    legends = read(sheet(HEADER, ["1", "1", "Le roi"]), photo(1, 1), workbook="new/1/1.xlsx")
    assert legends.lines[0].suggestion == "set it under [prepare.patterns] in neardup.toml"


def a_test_photo(path: str = "rol/x.jpg", content: str = "tested", look: str = LOOK) -> tuple[Photo, TestSet]:
    """A test photo and the test set of it alone."""
    item = handmade.photo(path, content, look, MIRRORED)
    return item, TestSet((TestPhoto(item.name, path, item.sha256, 1, 1),))


@pytest.mark.parametrize(
    ("leaked", "reason"),
    [
        (photo(1, 1, content="tested"), "in the test set by content"),
        (photo(1, 1, look=LOOK), "in the test set by looks"),
        (photo(1, 1, look=MIRRORED, mirrored=LOOK), "in the test set by looks"),
    ],
    ids=["content", "looks", "mirrored"],
)
def test_a_test_photo_is_left_out_of_training(leaked: Photo, reason: str) -> None:
    """By content, by looks, and by looks in the mirror."""
    legends = read(sheet(HEADER, ["1", "1", "Le roi"], ["1", "2", "La reine"]), leaked, photo(1, 2))
    item, test_set = a_test_photo()
    training = legends.training_set([item], test_set, 6)
    assert ([p.legend for p in training.photos], legends.counts[reason]) == (["La reine"], 1)


def test_a_namesake_of_a_test_photo_is_left_out() -> None:
    """The prior project compared names with an extension to names without: here they are equal."""
    legends = read(sheet(HEADER, ["1", "1", "Le roi"]), photo(1, 1))
    item, test_set = a_test_photo(path="rol/NP_surlevif_19111112_01_01.jpeg")
    assert (legends.training_set([item], test_set, 6).photos, legends.counts["in the test set by name"]) == ((), 1)


def test_an_even_surface_looks_like_nothing() -> None:
    """A hash of hardly any bits says nothing of looks."""
    assert [flat(text) for text in ("0" * 16, "8000000000000000", "f" * 16, LOOK)] == [True, True, True, False]


def test_a_photo_with_two_legends_keeps_the_first() -> None:
    """The second is a contradiction that names the first."""
    legends = read(sheet(HEADER, ["1", "1", "Le roi"], ["1", "1", "La reine"], ["1", "1", "Le roi"]), photo(1, 1))
    item, test_set = a_test_photo()
    training = legends.training_set([item], test_set, 6)
    assert [p.legend for p in training.photos] == ["Le roi"]
    assert [(line.kind, line.row) for line in legends.lines] == [("contradiction", 3), ("note", 4)]
    assert legends.counts == Counter({"listed": 3, "used": 1, "repeated": 2})


@pytest.mark.parametrize("legend", ["-1 soldat", "+ 3", "@roi", "'le roi'", "''", "= le roi"])
def test_a_legend_is_no_formula_in_a_csv(legend: str, tmp_path: Path) -> None:
    """A spreadsheet that opens the table sees text; we read what was there."""
    legends = read(sheet(HEADER, ["1", "1", "Le roi"]), photo(1, 1))
    item, test_set = a_test_photo()
    (row,) = legends.training_set([item], test_set, 6).photos
    training = TrainingSet((replace(row, legend=legend),))
    path = training.save(tmp_path)
    assert f",'{legend}," in path.read_text(encoding="utf-8")
    assert TrainingSet.load(tmp_path) == training


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    """What was written is what is read, line breaks and quotes in legends too."""
    legends = read(sheet(HEADER, ["1", "1", 'Le "roi", à Tripoli; 2']), photo(1, 1))
    item, test_set = a_test_photo()
    training = legends.training_set([item], test_set, 6)
    training.save(tmp_path)
    assert TrainingSet.load(tmp_path) == training
