"""Sheets are read as text with their formulas seen, and written so that no text becomes one."""

import re
import struct
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from openpyxl.worksheet.formula import ArrayFormula
from python_calamine import CalamineWorkbook

from neardup.archive.sheets import as_text, find_workbooks, read_workbook
from neardup.errors import ArchiveError
from neardup.tables import write_table


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (3, "3"), ("03", "03"), ("  a ", "a"), (None, ""), (2.5, "2.5"), (True, "True")]
)
def test_a_cell_is_read_as_a_person_reads_it(value: object, text: str) -> None:
    """A whole number has no decimals, and blanks at the ends do not count."""
    assert as_text(value) == text


def parts_of(workbook: Path) -> dict[str, bytes]:
    """The files that a workbook is made of."""
    with zipfile.ZipFile(workbook) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def write_parts(workbook: Path, contents: dict[str, bytes]) -> None:
    """Make a workbook of such files."""
    with zipfile.ZipFile(workbook, "w") as parts:
        for name, content in contents.items():
            parts.writestr(name, content)


def test_a_formula_is_seen(tmp_path: Path) -> None:
    """The cell says that a formula stands in it, and where."""
    book = openpyxl.Workbook()
    book.active.append(["plain", "=1+1"])
    book.save(tmp_path / "x.xlsx")
    row = read_workbook(tmp_path / "x.xlsx")[0].rows[0]
    assert [(cell.address, cell.text, cell.formula) for cell in row if cell] == [
        ("A1", "plain", False),
        ("B1", "=1+1", True),
    ]


def test_a_formula_of_several_cells_is_its_text(tmp_path: Path) -> None:
    """An array formula is an object to openpyxl, whose place in memory must not get into a report."""
    book = openpyxl.Workbook()
    book.active["A1"] = ArrayFormula("A1:A2", "=B1:B2")
    book.save(tmp_path / "x.xlsx")
    cell = read_workbook(tmp_path / "x.xlsx")[0].rows[0][0]
    assert cell is not None
    assert (cell.text, cell.formula) == ("=B1:B2", True)


def test_a_formula_with_a_prefix_is_seen(tmp_path: Path) -> None:
    """As the Open XML SDK writes the elements of a sheet."""
    book = openpyxl.Workbook()
    book.active.append(["=1+1"])
    book.save(tmp_path / "x.xlsx")
    contents, name = parts_of(tmp_path / "x.xlsx"), "xl/worksheets/sheet1.xml"
    prefixed = re.sub(rb"<(/?)(\w)", rb"<\1x:\2", contents[name]).replace(b"xmlns=", b"xmlns:x=")
    write_parts(tmp_path / "x.xlsx", contents | {name: prefixed})
    cell = read_workbook(tmp_path / "x.xlsx")[0].rows[0][0]
    assert cell is not None
    assert (cell.text, cell.formula) == ("=1+1", True)


@pytest.mark.parametrize("text", ["=1+1", "+49", "-1", "@home", "http://x.org", "007"])
def test_text_never_becomes_a_formula(tmp_path: Path, text: str) -> None:
    """What was text is text, whatever it begins with."""
    write_table(tmp_path / "x.xlsx", ("a",), [[text]])
    cell = openpyxl.load_workbook(tmp_path / "x.xlsx").active["A2"]
    assert (cell.value, cell.data_type, cell.hyperlink) == (text, "s", None)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    """No date of writing makes two runs differ."""
    for name in ("x.xlsx", "y.xlsx"):
        write_table(tmp_path / name, ("a", "b"), [["text", 1], [None, 2.5]])
    assert (tmp_path / "x.xlsx").read_bytes() == (tmp_path / "y.xlsx").read_bytes()


def test_pandas_reads_what_we_write(tmp_path: Path) -> None:
    """Numbers stay numbers, blanks stay blank."""
    write_table(tmp_path / "x.xlsx", ("a", "b"), [["text", 1], [None, 2]])
    table = pd.read_excel(tmp_path / "x.xlsx", engine="openpyxl")
    assert (table["b"].tolist(), table["a"].isna().tolist()) == ([1, 2], [False, True])


def test_every_reader_reads_the_same(tmp_path: Path) -> None:
    """Blanks at the ends, line breaks, markup and signs beyond the first plane come back from openpyxl and calamine."""
    row = ["  a ", "two\nlines", "<&>\"'", "<r>&\n b</r>", "<r></r>", "é\t😀", 0.1, -3, True]
    write_table(tmp_path / "x.xlsx", [str(column) for column in range(len(row))], [row])
    by_openpyxl = [cell.value for cell in openpyxl.load_workbook(tmp_path / "x.xlsx").active[2]]
    by_calamine = CalamineWorkbook.from_path(str(tmp_path / "x.xlsx")).get_sheet_by_index(0).to_python()[1]
    assert (by_openpyxl, by_calamine) == (row, row)


def test_text_is_cut_to_what_a_cell_holds(tmp_path: Path) -> None:
    """Excel refuses a file whose cell holds over 32,767 characters."""
    write_table(tmp_path / "x.xlsx", ("a",), [["x" * 40_000]])
    cells = read_workbook(tmp_path / "x.xlsx")[0].rows[1]
    assert [len(cell.text) for cell in cells if cell] == [32_767]


def test_a_row_that_excel_cannot_hold_says_so(tmp_path: Path) -> None:
    """A group of 16,386 copies of one placeholder has more names than a row has cells."""
    write_table(tmp_path / "x.xlsx", (), [[f"{number}.jpg" for number in range(16_386)]], header=False)
    (row,) = read_workbook(tmp_path / "x.xlsx")[0].rows
    assert [cell.text for cell in row[-2:] if cell] == ["16382.jpg", "… and 3 more"]


def test_rows_that_excel_cannot_hold_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last row of the sheet says how many are missing; what just fits is whole."""
    monkeypatch.setattr("neardup.tables.SHEET_ROWS", 3)
    for count, last in ((3, "2"), (4, "… and 2 more rows")):
        write_table(tmp_path / "x.xlsx", ("a",), [[str(number)] for number in range(count)])
        rows = read_workbook(tmp_path / "x.xlsx")[0].rows
        assert (len(rows), rows[-1][0].text if rows[-1][0] else "") == (4, last)


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    """The sentence says so."""
    (tmp_path / "x.xlsx").write_bytes(b"this is no workbook")
    with pytest.raises(ArchiveError, match=r"not a workbook .* without a password"):
        read_workbook(tmp_path / "x.xlsx")


def compound_file(*sectors: bytes) -> bytes:
    """An OLE file of sectors of 512 bytes, of which the first is the table of sectors, the second the directory."""
    header = bytearray(b"\xff" * 512)
    header[:8] = bytes.fromhex("d0cf11e0a1b11ae1")
    struct.pack_into("<5H6x7I", header, 24, 62, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0)
    struct.pack_into("<3I", header, 68, 0xFFFFFFFE, 0, 0)
    return bytes(header) + b"".join(sectors)


def test_an_old_workbook_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    """Calamine panics on an `.xls` that ends within a sector, which is no exception as others are."""
    table = struct.pack("<2I", 0xFFFFFFFD, 0xFFFFFFFE) + b"\xff" * 504
    (tmp_path / "x.xls").write_bytes(compound_file(table, bytes(100)))
    with pytest.raises(ArchiveError, match="not a workbook that can be read"):
        read_workbook(tmp_path / "x.xls")


def old_workbook(rows: int, columns: int, cells: dict[tuple[int, int], str]) -> bytes:
    """An `.xls` of one sheet, IS, that says to have so many rows and columns (Excel 97, BIFF8)."""

    def record(kind: int, content: bytes = b"") -> bytes:
        return struct.pack("<2H", kind, len(content)) + content

    def begin(kind: int) -> bytes:
        return record(0x809, struct.pack("<4H2I", 0x600, kind, 0, 1997, 0, 6))

    sheet = begin(0x10) + record(0x200, struct.pack("<2I3H", 0, rows, 0, columns, 0))
    for (row, column), text in cells.items():
        sheet += record(0x204, struct.pack("<4HB", row, column, 0, len(text), 0) + text.encode("latin-1"))
    at = len(begin(5)) + 4 + 10 + 4
    book = begin(5) + record(0x85, struct.pack("<I4B", at, 0, 0, 2, 0) + b"IS") + record(0x0A) + sheet + record(0x0A)
    stream = book.ljust(4096, b"\0")  # a shorter one lies elsewhere in the file

    def entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
        none = 0xFFFFFFFF
        place = struct.pack("<H2B3I", 2 * len(name) + 2, kind, 1, none, none, child) + bytes(36)
        return name.encode("utf-16-le").ljust(64, b"\0") + place + struct.pack("<IQ", start, size)

    table = struct.pack("<10I", 0xFFFFFFFD, 0xFFFFFFFE, *range(3, 10), 0xFFFFFFFE).ljust(512, b"\xff")
    root, workbook = entry("Root Entry", 5, 1, 0xFFFFFFFE, 0), entry("Workbook", 2, 0xFFFFFFFF, 2, 4096)
    return compound_file(table, (root + workbook).ljust(512, b"\0"), stream)


def test_an_old_workbook_is_read(tmp_path: Path) -> None:
    """The cells of an `.xls` have their addresses, blank rows and columns counted."""
    (tmp_path / "x.xls").write_bytes(old_workbook(3, 2, {(0, 0): "caf\xe9.jpg", (2, 1): "b.jpg"}))
    (sheet,) = read_workbook(tmp_path / "x.xls")
    cells = [(cell.address, cell.text) for row in sheet.rows for cell in row if cell]
    assert (sheet.name, cells) == ("IS", [("A1", "caf\xe9.jpg"), ("B3", "b.jpg")])


@pytest.mark.parametrize(
    ("rows", "column", "said"),
    [(0x0B000001, 200, "asks for more memory"), (1, 30_000, "more than the 16,384 columns")],
)
def test_an_old_workbook_that_says_to_be_huge_is_refused(tmp_path: Path, rows: int, column: int, said: str) -> None:
    """Calamine makes room for what the file says to hold, and ends the process that has no such room."""
    (tmp_path / "x.xls").write_bytes(old_workbook(rows, column + 1, {(0, column): "a.jpg"}))
    with pytest.raises(ArchiveError, match=said):
        read_workbook(tmp_path / "x.xls")


def write_ods(path: Path, rows: str) -> None:
    """Make an `.ods` of one sheet, IS, of the XML of its rows."""
    names = {part: f"urn:oasis:names:tc:opendocument:xmlns:{part}:1.0" for part in ("office", "table", "text")}
    spaces = " ".join(f'xmlns:{part}="{name}"' for part, name in names.items())
    body = f'<office:spreadsheet><table:table table:name="IS">{rows}</table:table></office:spreadsheet>'
    content = f"<office:document-content {spaces}><office:body>{body}</office:body></office:document-content>"
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = b'<manifest xmlns="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    write_parts(path, {"mimetype": kind.encode(), "META-INF/manifest.xml": manifest, "content.xml": content.encode()})


def test_merged_cells_of_libreoffice_are_said(tmp_path: Path) -> None:
    """The reader does not see that they are, so that what they join would fall apart."""
    cell = '<table:table-cell {} office:value-type="string"><text:p>a.jpg</text:p></table:table-cell>'
    row = f"<table:table-row>{cell}</table:table-row>"
    wide = 'table:number-columns-spanned="2" table:number-rows-spanned="1"'
    write_ods(tmp_path / "x.ods", row.format(wide))
    assert len(read_workbook(tmp_path / "x.ods")) == 1
    write_ods(tmp_path / "x.ods", row.format(wide.replace('"1"', '"12"')))
    with pytest.raises(ArchiveError, match=r"merged over several rows.*save it as \.xlsx"):
        read_workbook(tmp_path / "x.ods")


def test_a_sheet_of_libreoffice_is_read(tmp_path: Path) -> None:
    """Rows and columns that an `.ods` has many times over count as often."""
    gap = '<table:table-row table:number-rows-repeated="3"><table:table-cell/></table:table-row>'
    cell = '<table:table-cell office:value-type="string"><text:p>a.jpg</text:p></table:table-cell>'
    row = f'<table:table-row><table:table-cell table:number-columns-repeated="2"/>{cell}</table:table-row>'
    write_ods(tmp_path / "x.ods", gap + row)
    (sheet,) = read_workbook(tmp_path / "x.ods")
    assert [(cell.address, cell.text) for row in sheet.rows for cell in row if cell] == [("C4", "a.jpg")]


def test_a_formula_behind_a_sheet_of_text_is_seen(tmp_path: Path) -> None:
    """It does not matter which of the sheets holds one."""
    book = openpyxl.Workbook()
    book.active.append(["=1+1"])
    book.create_sheet().append(["plain"])
    book.save(tmp_path / "x.xlsx")
    cell = read_workbook(tmp_path / "x.xlsx")[0].rows[0][0]
    assert cell is not None
    assert cell.formula


def test_rows_keep_their_numbers(tmp_path: Path) -> None:
    """Blank rows before the first and between count, so that a report names the row that Excel shows."""
    book = openpyxl.Workbook()
    book.active["B3"] = "here"
    book.active["A6"] = "there"
    book.save(tmp_path / "x.xlsx")
    cells = [cell for row in read_workbook(tmp_path / "x.xlsx")[0].rows for cell in row if cell]
    assert [(cell.address, cell.text) for cell in cells] == [("B3", "here"), ("A6", "there")]


@pytest.mark.parametrize("name", ["~$x.xlsx", ".~lock.x.ods#", "._x.xlsx", "a/._x.xlsx", ".trash/x.xlsx", "x.csv"])
def test_what_stands_beside_a_workbook_is_none(tmp_path: Path, name: str) -> None:
    """Lock files of Excel and LibreOffice, the resource forks of macOS, what was thrown away and other files."""
    for path in (name, "a/x.xlsx", "b.ODS"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"\x00\x05\x16\x07")
    assert find_workbooks(tmp_path) == ["a/x.xlsx", "b.ODS"]


def large_workbook(path: Path, size: int) -> None:
    """Write a workbook whose sheet has so many bytes of blanks, which compress to nearly nothing."""
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path) as parts:
        contents = {name: parts.read(name) for name in parts.namelist()}
    contents["xl/worksheets/sheet1.xml"] += b" " * size
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, content in contents.items():
            parts.writestr(name, content)


def test_a_workbook_that_is_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    """By the sizes in its list of parts, with the limit in the sentence."""
    large_workbook(tmp_path / "x.xlsx", 2_000_000)
    with pytest.raises(ArchiveError, match=r"2,0\d\d,\d{3} bytes when it is unpacked, over the limit of 2,000,000"):
        read_workbook(tmp_path / "x.xlsx", max_unpacked=2_000_000)
    assert len(read_workbook(tmp_path / "x.xlsx")) == 1


def test_a_zip_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    """A part that goes on after the size that the list of parts has is refused there."""
    large_workbook(tmp_path / "x.xlsx", 2_000_000)
    with zipfile.ZipFile(tmp_path / "x.xlsx") as parts:
        size = parts.getinfo("xl/worksheets/sheet1.xml").file_size
    data = (tmp_path / "x.xlsx").read_bytes()
    (tmp_path / "x.xlsx").write_bytes(data.replace(struct.pack("<L", size), struct.pack("<L", 1000)))
    with pytest.raises(ArchiveError, match="larger than its declared uncompressed size"):
        read_workbook(tmp_path / "x.xlsx")


def test_a_stray_cell_at_the_end_of_a_sheet_is_said(tmp_path: Path) -> None:
    """Its blank cells would fill the memory, whatever prefix and quotes the tags have; a long sheet is read."""
    book = openpyxl.Workbook()
    book.active["A20000"] = "a.jpg"
    book.save(tmp_path / "long.xlsx")
    assert len(read_workbook(tmp_path / "long.xlsx")[0].rows) == 20_000
    book.active["XFD1"] = "b.jpg"
    book.save(tmp_path / "wide.xlsx")
    contents = parts_of(tmp_path / "wide.xlsx")
    sheet = contents["xl/worksheets/sheet1.xml"].decode()
    prefixed = re.sub(r"<(/?)(\w)", r"<\1x:\2", sheet).replace("xmlns=", "xmlns:x=")
    write_parts(tmp_path / "prefixed.xlsx", contents | {"xl/worksheets/sheet1.xml": prefixed.encode()})
    write_parts(tmp_path / "quoted.xlsx", contents | {"xl/worksheets/sheet1.xml": sheet.replace('"', "'").encode()})
    for name in ("wide.xlsx", "prefixed.xlsx", "quoted.xlsx"):
        with pytest.raises(ArchiveError, match="row 20,000 and column XFD, 327,680,000 cells: delete what strayed"):
            read_workbook(tmp_path / name)


def test_a_formula_that_openpyxl_cannot_read_is_no_crash(tmp_path: Path) -> None:
    """A workbook that only one of the two readers takes is refused in a sentence."""
    book = openpyxl.Workbook()
    book.active.append(["=1+1"])
    book.save(tmp_path / "x.xlsx")
    contents = parts_of(tmp_path / "x.xlsx")
    del contents["[Content_Types].xml"]
    write_parts(tmp_path / "x.xlsx", contents)
    with pytest.raises(ArchiveError, match="not a workbook that can be read"):
        read_workbook(tmp_path / "x.xlsx")
