"""Tables are written so that every reader reads them and no text becomes a formula."""

import csv
from pathlib import Path

import openpyxl
import pytest

from neardup.archive.discrepancies import Discrepancy, write_discrepancies
from neardup.archive.testset import TestPhoto, TestSet
from neardup.tables import guarded, load_rows, unguarded, write_csv, write_table

FORMULAS = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "'=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_is_no_formula_in_a_csv(text: str, tmp_path: Path) -> None:
    """An apostrophe stands before whatever a spreadsheet would take for a formula, and comes off again."""
    path = write_csv(tmp_path / "x.csv", ["a"], [[text]])
    with path.open(encoding="utf-8", newline="") as stream:
        (_, (written,)) = csv.reader(stream)
    assert (written, unguarded(written), guarded("a=1")) == (f"'{text}", text, "a=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_the_report_of_discrepancies_holds_no_formula(text: str, tmp_path: Path) -> None:
    """Whatever column it stands in: a file, a sheet, a name, a detail or a suggestion."""
    line = Discrepancy("note", text, text, 1, "A1", text, text, text)
    _, path, _ = write_discrepancies(tmp_path, [line], [])
    with path.open(encoding="utf-8", newline="") as stream:
        (_, row) = csv.reader(stream)
    assert row == ["note", f"'{text}", f"'{text}", "1", "A1", *[f"'{text}"] * 3]


@pytest.mark.parametrize("text", FORMULAS)
def test_the_test_set_holds_no_formula(text: str, tmp_path: Path) -> None:
    """Names, paths and sheets that begin like one are text, and are read back as they were."""
    test_set = TestSet((TestPhoto(text, text, "00", 1, 2, text),))
    with test_set.save(tmp_path).open(encoding="utf-8", newline="") as stream:
        (_, row) = csv.reader(stream)
    assert (row, TestSet.load(tmp_path)) == ([f"'{text}", f"'{text}", "00", "1", "2", f"'{text}"], test_set)


def test_a_csv_that_excel_saved_is_read(tmp_path: Path) -> None:
    """Excel writes a mark of three bytes before the first name of a column."""
    test_set = TestSet((TestPhoto("a.jpg", "photos/a.jpg", "00", 1, 2, "Sheet"),))
    path = test_set.save(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert TestSet.load(tmp_path) == test_set


def test_a_long_cell_is_read_back(tmp_path: Path) -> None:
    """LibreOffice's cells may be longer than those that Python's reader takes by itself."""
    write_csv(tmp_path / "t.csv", ["legend"], [["x" * 200_000]])
    assert load_rows(tmp_path / "t.csv") == [{"legend": "x" * 200_000}]


def test_a_name_that_is_not_utf_8_can_be_written(tmp_path: Path) -> None:
    """Workbook, CSV and page show its foreign bytes escaped."""
    name = "caf\udce9.jpg"
    write_table(tmp_path / "x.xlsx", ["a"], [[name]])
    workbook, table, page = write_discrepancies(tmp_path, [Discrepancy("note", name)], [])
    assert openpyxl.load_workbook(tmp_path / "x.xlsx").active["A2"].value == r"caf\udce9.jpg"
    assert openpyxl.load_workbook(workbook).active["B2"].value == r"caf\udce9.jpg"
    assert [r"caf\udce9.jpg" in path.read_text(encoding="utf-8") for path in (table, page)] == [True, True]


@pytest.mark.parametrize(("rows", "area"), [([[1, "x"], [2, "y"]], "A1:B3"), ([], "A1:B1")])
def test_a_table_can_be_filtered_by_its_columns(rows: list[list[int | str]], area: str, tmp_path: Path) -> None:
    """In Excel each column's name has an arrow; a sheet without names has none."""
    write_table(tmp_path / "named.xlsx", ["group", "photo"], rows)
    write_table(tmp_path / "plain.xlsx", [], rows, header=False)
    refs = {
        path.stem: sheet.auto_filter.ref
        for path in tmp_path.glob("*.xlsx")
        for sheet in openpyxl.load_workbook(path).worksheets
    }
    assert refs == {"named": area, "plain": None}
