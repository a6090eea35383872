"""Answers that go out as a workbook or a CSV and come back: pictures, protection, faults with their cells."""

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from review_results import NAMES, make_results

from neardup.cli import main
from neardup.errors import ArchiveError, VerdictError
from neardup.review.exchange.imported import Imported, import_answers
from neardup.review.exchange.workbook import pictures_of, rows_of, write_answers_csv, write_workbook
from neardup.review.found.candidates import Candidate, Found
from neardup.review.record.verdicts import ANSWERS, DIFFERENT, SAME, Verdict, Verdicts, open_verdicts
from neardup.words import one_line


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """Four pairs of five photos with hostile names."""
    return Found.load(make_results(tmp_path)[1])


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Verdicts]:
    """An empty database."""
    with open_verdicts(tmp_path / "results") as verdicts:
        yield verdicts


def exported(found: Found, kept: Verdicts, name: str = "verdicts.xlsx", who: str = "Ada") -> Path:
    """The pairs as a file beside the results."""
    rows = rows_of(found.candidates, kept.current(), kept.last(), who=who)
    path = found.root.parent / name
    if name.endswith(".csv"):
        return write_answers_csv(path, rows)
    return write_workbook(path, rows, pictures_of(found.root))


def fill(path: Path, cells: Mapping[tuple[int, str], str]) -> Path:
    """Write into cells of a workbook, each by its row and the name of its column, as Excel would."""
    book = openpyxl.load_workbook(path)
    sheet = book["pairs"]
    column = {cell.value: cell.column for cell in sheet[1]}
    for (row, name), value in cells.items():
        sheet.cell(row, column[name]).value = value
    book.save(path)
    return path


def taken(path: Path, found: Found, kept: Verdicts, who: str = "Ada") -> Imported:
    """What came of reading a table."""
    return import_answers(path, kept, found.candidates, who)


def test_answers_come_back(found: Found, kept: Verdicts) -> None:
    """Verdict, direction, relation and note of a row are a verdict with all that was shown."""
    path = fill(
        exported(found, kept),
        {(2, "verdict"): "same", (2, "made from"): "partner from photo", (2, "relation as corrected"): "mirrored",
         (2, "note"): "voilà", (3, "verdict"): "different"},
    )  # fmt: skip
    imported = taken(path, found, kept)
    assert (imported.stored, imported.blank, imported.faults) == (2, 2, ())
    first = next(v for v in kept.current() if v.verdict == SAME)
    candidate = found.candidates[0]
    source = first.first if first.direction == "first" else first.second
    assert (first.who, first.queue, first.relation, first.note) == ("Ada", "import", "mirrored", "voilà")
    assert (first.pair, source, first.shown["probability"]) == (candidate.pair, candidate.photo_sha256, 0.99)


def test_read_twice_is_stored_once(found: Found, kept: Verdicts) -> None:
    """The same table again changes nothing; another answer in it is another verdict that supersedes the first."""
    path = fill(exported(found, kept), {(2, "verdict"): "same"})
    assert [taken(path, found, kept).stored for _ in range(2)] == [1, 0]
    again = fill(exported(found, kept), {(2, "verdict"): "different"})
    assert taken(again, found, kept).stored == 1
    assert ([v.verdict for v in kept.current()], len(kept.history())) == ([DIFFERENT], 2)


def test_own_answers_stand_in_the_next_export(found: Found, kept: Verdicts) -> None:
    """They are not asked again, and those of others are told."""
    taken(fill(exported(found, kept), {(2, "verdict"): "same", (2, "made from"): "photo from partner"}), found, kept)
    mine, others = (rows_of(found.candidates, kept.current(), kept.last(), who=who)[0] for who in ("Ada", "Ben"))
    assert (mine["verdict"], mine["made from"]) == ("same", "photo from partner")
    assert (others["verdict"], others["verdicts so far"]) == (None, "Ada: same")


def test_a_blank_at_the_end_of_a_note_is_no_other_answer(found: Found, kept: Verdicts) -> None:
    """The page keeps it and a workbook does not; a workbook in which nobody wrote changes nothing."""
    kept.add(Verdict.of(*found.candidates[0].pair, SAME, who="Ada", queue="audit", relation=" crop", note="a\nb\n"))
    imported = taken(exported(found, kept), found, kept)
    assert (imported.stored, imported.unchanged) == (0, 1)


def test_only_what_a_person_fills_in_can_be_changed(found: Found, kept: Verdicts) -> None:
    """The sheet is protected, the four columns are free, and the verdict has a drop-down in each row."""
    sheet = openpyxl.load_workbook(exported(found, kept))["pairs"]
    free = {cell.value for cell in sheet[1] if not sheet.cell(2, cell.column).protection.locked}
    assert sheet.protection.sheet
    assert free == {"verdict", "made from", "relation as corrected", "note"}
    rule = next(rule for rule in sheet.data_validations.dataValidation if "same scene" in rule.formula1)
    assert rule.formula1 == f'"{",".join(ANSWERS)}"'
    assert [str(cells) for cells in rule.sqref.ranges] == ["L2:L5"]


def test_each_row_has_both_pictures(found: Found, kept: Verdicts) -> None:
    """A photo that was replaced since the search is told, not shown."""
    (found.root / NAMES[1]).write_bytes(b"another")
    sheet = openpyxl.load_workbook(exported(found, kept))["pairs"]
    places = {(image.anchor._from.row, image.anchor._from.col) for image in sheet._images}
    assert places == {(1, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)}
    assert sheet["B2"].value == "the photo was replaced since the search"


def test_no_name_or_sentence_becomes_a_formula(tmp_path: Path) -> None:
    """Formulas, markup, newlines and lone surrogates of Latin-1 are text in the workbook and guarded in the CSV."""
    names = ("=cmd|' /C calc'!A1", os.fsdecode(b"caf\xe9\n<b>.jpg"))
    candidate = Candidate(*names, "a" * 64, "b" * 64, sentence="@SUM(1)", relation="+1")
    rows = rows_of([candidate], [], 0)
    book = write_workbook(tmp_path / "x.xlsx", rows, pictures_of(tmp_path))
    cells = [cell for cell in openpyxl.load_workbook(book)["pairs"][2] if cell.value is not None]
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert {"=cmd|' /C calc'!A1", "caf\\udce9\n<b>.jpg", "@SUM(1)", "+1"} <= {cell.value for cell in cells}
    with write_answers_csv(tmp_path / "x.csv", rows).open(encoding="utf-8", newline="") as stream:
        values = list(csv.reader(stream))[1]
    assert [value for value in values if value.startswith(("=", "+", "-", "@"))] == []


@pytest.mark.parametrize(
    ("cells", "kind", "cell"),
    [
        ({(3, "id"): "00000000-0000-0000-0000-000000000000"}, "unknown id", "P3"),
        ({(3, "SHA-256 of photo"): "f" * 64}, "edited digest", "Q3"),
        ({(3, "SHA-256 of partner"): "not a digest"}, "edited digest", "R3"),
        ({(3, "verdict"): "identical"}, "unknown word", "L3"),
        ({(3, "made from"): "the left one", (3, "verdict"): "same"}, "unknown word", "M3"),
        ({(3, "verdict"): '="same"'}, "formula", "L3"),
        ({(3, "note"): "=1+1", (3, "verdict"): "same"}, "formula", "O3"),
        ({(3, "note"): "a crop?"}, "no answer", "L3"),
    ],
)
def test_a_tampered_row_is_named_and_nothing_stored(
    found: Found, kept: Verdicts, cells: dict[tuple[int, str], str], kind: str, cell: str
) -> None:
    """Sheet, row and cell of each fault; the good rows wait, too, until all are mended."""
    imported = taken(fill(exported(found, kept), {(2, "verdict"): "same", **cells}), found, kept)
    assert [(f.kind, f.sheet, f.row, f.cell) for f in imported.faults] == [(kind, "pairs", 3, cell)]
    assert kept.history() == []


def test_every_fault_is_listed(found: Found, kept: Verdicts) -> None:
    """Not the first one alone."""
    path = fill(exported(found, kept), {(2, "verdict"): "x", (3, "id"): "y", (4, "verdict"): "z"})
    assert [fault.row for fault in taken(path, found, kept).faults] == [2, 3, 4]


def test_swapped_digests_are_edited_digests(found: Found, kept: Verdicts) -> None:
    """The digest of another photo of the archive is no less wrong."""
    path = fill(exported(found, kept), {(2, "SHA-256 of partner"): found.digests[NAMES[4]], (2, "verdict"): "same"})
    (fault,) = taken(path, found, kept).faults
    assert (fault.kind, fault.cell) == ("edited digest", "R2")


def test_a_photo_against_itself_is_refused(found: Found, kept: Verdicts) -> None:
    """Both digests alike are no pair."""
    digest = found.candidates[0].photo_sha256
    path = fill(exported(found, kept), {(2, "SHA-256 of partner"): digest, (2, "verdict"): "same"})
    assert [fault.kind for fault in taken(path, found, kept).faults] == ["edited digest"]


def test_contradictions_are_named_and_stored(found: Found, kept: Verdicts) -> None:
    """Whoever disagrees with somebody else is heard; the pair waits for somebody who settles it."""
    kept.add(Verdict.of(*found.candidates[0].pair, DIFFERENT, who="Ben", queue="review"))
    imported = taken(fill(exported(found, kept), {(2, "verdict"): "same"}), found, kept)
    assert [(f.kind, f.row, f.cell) for f in imported.contradictions] == [("contradiction", 2, "L2")]
    assert "Ben says different, Ada says same" in imported.contradictions[0].detail
    assert imported.stored == 1


def test_whoever_changes_her_mind_contradicts_nobody(found: Found, kept: Verdicts) -> None:
    """Her former answer on the pair is overruled: it is none of the answers that the new ones are held against."""
    taken(fill(exported(found, kept), {(2, "verdict"): "different", (3, "verdict"): "same"}), found, kept)
    imported = taken(fill(exported(found, kept), {(2, "verdict"): "same"}), found, kept)
    assert (imported.stored, imported.contradictions) == (1, ())


def test_rows_that_contradict_each_other_are_named(found: Found, kept: Verdicts) -> None:
    """A = b and b = c by the workbook, a ≠ c by somebody: both rows are told."""
    ends = found.candidates[0].photo_sha256, found.candidates[1].partner_sha256
    kept.add(Verdict.of(*ends, DIFFERENT, who="Ben", queue="search"))
    imported = taken(fill(exported(found, kept), {(2, "verdict"): "same", (3, "verdict"): "same"}), found, kept)
    assert [fault.row for fault in imported.contradictions] == [2, 3]


def test_an_old_workbook_overrules_no_later_answer(found: Found, kept: Verdicts) -> None:
    """What the same person said after the export counts, and the row is named."""
    path = fill(exported(found, kept), {(2, "verdict"): "same"})
    kept.add(Verdict.of(*found.candidates[0].pair, DIFFERENT, who="Ada", queue="review"))
    assert [(fault.kind, fault.cell) for fault in taken(path, found, kept).faults] == [("outdated", "L2")]


def test_an_answer_that_was_taken_back_can_be_given_again(found: Found, kept: Verdicts) -> None:
    """Read from a later table it is another verdict, whoever took the first one back; read twice it is one."""
    for who in ("Ada", "Ben"):
        taken(fill(exported(found, kept), {(2, "verdict"): "same"}), found, kept)
        (given,) = kept.current()
        kept.withdraw(given.id, who)
        assert kept.current() == []
    path = fill(exported(found, kept), {(2, "verdict"): "same"})
    assert [taken(path, found, kept).stored for _ in range(2)] == [1, 0]
    assert [verdict.verdict for verdict in kept.current()] == [SAME]


def test_a_row_that_was_copied_has_two_answers(found: Found, kept: Verdicts) -> None:
    """One pair with two answers in one table is refused."""
    path = fill(exported(found, kept), {(2, "verdict"): "same"})
    book = openpyxl.load_workbook(path)
    values = [cell.value for cell in book["pairs"][2]]
    book["pairs"].append([DIFFERENT if value == SAME else value for value in values])
    book.save(path)
    assert [(fault.kind, fault.row) for fault in taken(path, found, kept).faults] == [("two answers", 6)]


def test_a_known_answer_and_another_one_are_two_answers(found: Found, kept: Verdicts) -> None:
    """Also where the first row of the two says what the person had said before: neither wins by its place."""
    taken(fill(exported(found, kept), {(2, "verdict"): "same"}), found, kept)
    path = exported(found, kept)
    book = openpyxl.load_workbook(path)
    values = [cell.value for cell in book["pairs"][2]]
    book["pairs"].append([DIFFERENT if value == SAME else value for value in values])
    book.save(path)
    (fault,) = taken(path, found, kept).faults
    assert (fault.kind, fault.detail) == ("two answers", "row 2 has another answer on the same pair: clear one of them")


def test_an_old_workbook_overrules_nothing_where_numbers_have_gaps(found: Found, kept: Verdicts) -> None:
    """A database skips numbers, as PostgreSQL does for what it refused: a verdict's place is not its number."""
    with kept._engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES ('verdicts', 50)")
    kept.add(Verdict.of(*found.candidates[1].pair, SAME, who="Ben", queue="review"))
    test_an_old_workbook_overrules_no_later_answer(found, kept)


@pytest.mark.parametrize("answer", ["SAME  scene", "Same\u00a0scene", "Même scène", "me\u0302me scène"])
def test_an_answer_may_be_written_as_people_write(found: Found, kept: Verdicts, answer: str) -> None:
    """Case and spaces do not count, and the words of the page are known in each of its languages."""
    path = fill(exported(found, kept), {(2, "verdict"): answer, (2, "made from"): "Photo from  partner"})
    assert taken(path, found, kept).stored == 1
    assert [(v.verdict, v.direction != "") for v in kept.current()] == [("same scene", True)]


def test_what_is_not_read_is_said(found: Found, kept: Verdicts) -> None:
    """A column that somebody added is named; the answers are stored."""
    path = exported(found, kept)
    book = openpyxl.load_workbook(path)
    book["pairs"]["T1"], book["pairs"]["T3"], book["pairs"]["U4"] = "Remarques", "voir le dos", "?"
    book.save(path)
    imported = taken(fill(path, {(2, "verdict"): "same"}), found, kept)
    assert [(note.kind, note.cell) for note in imported.notes] == [("not read", "T3"), ("not read", "U4")]
    assert "'Remarques'" in imported.notes[0].detail
    assert imported.stored == 1


def test_an_answer_that_was_cleared_stays_and_that_is_said(found: Found, kept: Verdicts) -> None:
    """An empty cell is no verdict; a row that was empty from the beginning is another thing."""
    taken(fill(exported(found, kept), {(2, "verdict"): "same"}), found, kept)
    path = fill(exported(found, kept), {(2, "verdict"): ""})
    kept.add(Verdict.of(*found.candidates[1].pair, SAME, who="Ada", queue="review"))
    imported = taken(path, found, kept)
    assert (imported.blank, imported.cleared, len(kept.current())) == (4, 1, 2)
    assert "(1 answered before: that stays in force" in imported.summary


def test_two_columns_of_answers_are_refused(found: Found, kept: Verdicts) -> None:
    """One of them would be lost."""
    path = exported(found, kept)
    book = openpyxl.load_workbook(path)
    book["pairs"]["T1"] = "verdict"
    book.save(path)
    assert [fault.kind for fault in taken(fill(path, {(2, "verdict"): "same"}), found, kept).faults] == ["two columns"]


@pytest.mark.parametrize(
    ("separator", "encoding"), [(",", "utf-8"), (";", "cp1252"), ("\t", "utf-8-sig"), ("\t", "utf-16")]
)
def test_a_csv_comes_back_as_any_office_saves_it(found: Found, kept: Verdicts, separator: str, encoding: str) -> None:
    """Commas or semicolons, UTF-8 or the code page of Windows, and the guard before a formula taken off again."""
    path = exported(found, kept, "verdicts.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    rows[1][rows[0].index("verdict")], rows[1][rows[0].index("note")] = "same", "'-1 é"
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=separator).writerows(rows)
    assert taken(path, found, kept).stored == 1
    assert kept.current()[0].note == "-1 é"


def test_a_workbook_that_is_none_is_refused(found: Found, kept: Verdicts) -> None:
    """One sentence that names the file."""
    path = found.root.parent / "x.xlsx"
    path.write_bytes(b"no workbook")
    with pytest.raises(ArchiveError, match=r"x\.xlsx: not a workbook that can be read .*: open it in Excel"):
        taken(path, found, kept)


@pytest.mark.parametrize("content", [b"", b"\x00\xff not a table", b"a,b\n1,2\n", b"id,verdict\n"])
def test_a_csv_without_the_columns_is_refused(found: Found, kept: Verdicts, content: bytes) -> None:
    """Whatever stands there, the columns that lack are named."""
    path = found.root.parent / "x.csv"
    path.write_bytes(content)
    assert {fault.kind for fault in taken(path, found, kept).faults} == {"missing column"}


def test_libreoffice_keeps_the_answers(found: Found, kept: Verdicts, tmp_path: Path) -> None:
    """A workbook that LibreOffice opened and saved again is read as the one that was sent out."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not on this machine")
    path = fill(exported(found, kept), {(2, "verdict"): "same", (3, "verdict"): "cannot tell"})
    profile = f"-env:UserInstallation={(tmp_path / 'office').as_uri()}"
    kind, to = "xlsx:Calc MS Excel 2007 XML", tmp_path / "o"
    subprocess.run(
        [office, profile, "--headless", "--convert-to", kind, "--outdir", to, path],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert taken(tmp_path / "o" / path.name, found, kept).stored == 2


def test_results_without_digests_and_probabilities_are_read(tmp_path: Path) -> None:
    """The photos are read once to tell their digests."""
    archive, out = make_results(tmp_path, verified=False)
    (archive / NAMES[4]).unlink()
    plain = Found.load(out)
    assert [(c.photo, c.probability, c.band) for c in plain.candidates] == [(name, None, "") for name in NAMES[:3]]
    ran = CliRunner().invoke(main, ["verdicts", "export", "--out", str(out), "--to", str(tmp_path / "x.csv")])
    assert ran.exit_code == 0
    with (tmp_path / "x.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [float(row["similarity"]) for row in csv.DictReader(file)] == [0.97, 0.93, 0.91]  # as in the table


def test_commands_export_and_import(tmp_path: Path) -> None:
    """A workbook out, answers in, the list says so; a fault ends with status 1 and its cell."""
    _, out = make_results(tmp_path)
    run = CliRunner().invoke
    first = run(main, ["verdicts", "export", "--out", str(out), "--who", "Ada"])
    assert (first.exit_code, first.stdout) == (0, f"{out / 'verdicts.xlsx'} holds 3 pairs\n")
    fill(out / "verdicts.xlsx", {(2, "verdict"): "same"})
    arguments = ["verdicts", "import", str(out / "verdicts.xlsx"), "--out", str(out), "--who", "Ada"]
    assert "1 verdict stored" in run(main, [*arguments, "--dry-run"]).output
    assert "1 verdict stored" in run(main, arguments).output
    assert "0 verdicts stored" in run(main, [*arguments[:-1], " Ada "]).output  # nobody else's
    listed = run(main, ["verdicts", "list", "--out", str(out)])
    assert "1 verdict, 1 in force, 1 same, 0 not" in listed.output
    assert any(f"{one} and {other}  same" in listed.output for one, other in permutations(map(one_line, NAMES[2:4])))
    fill(out / "verdicts.xlsx", {(3, "verdict"): "perhaps"})
    refused = run(main, arguments)
    assert refused.exit_code == 1
    assert "sheet pairs, row 3, cell L3: unknown word" in refused.output


@pytest.mark.parametrize("chance", [0.019, 0.0])
def test_what_the_page_does_not_ask_is_in_no_workbook_either(chance: float, tmp_path: Path) -> None:
    """A pair below 2 % is written only where all are wanted."""
    _, out = make_results(tmp_path)
    table = pq.read_table(out / "duplicates" / "pairs.parquet")
    chances = pa.array([chance, *table["probability"].to_pylist()[1:]])
    table = table.set_column(table.schema.get_field_index("probability"), "probability", chances)
    pq.write_table(table, out / "duplicates" / "pairs.parquet")
    for pairs, count in (("open", 2), ("all", 4)):
        ran = CliRunner().invoke(
            main, ["verdicts", "export", "--out", str(out), "--pairs", pairs, "--to", str(tmp_path / "x.csv")]
        )
        assert ran.stdout == f"{tmp_path / 'x.csv'} holds {count} pairs\n"


def test_an_answer_that_is_merged_over_rows_holds_for_each(tmp_path: Path) -> None:
    """As somebody sees it who merged the cells of three pairs."""
    _, out = make_results(tmp_path)
    run = CliRunner().invoke
    table = out / "verdicts.xlsx"
    assert run(main, ["verdicts", "export", "--out", str(out), "--pairs", "all"]).exit_code == 0
    book = openpyxl.load_workbook(table)
    column = next(cell.column for cell in book.active[1] if cell.value == "verdict")
    book.active.cell(2, column).value = "different"
    book.active.merge_cells(start_row=2, end_row=4, start_column=column, end_column=column)
    book.save(table)
    imported = run(main, ["verdicts", "import", str(table), "--out", str(out), "--who", "Ada"])
    assert "3 verdicts stored" in imported.output


def test_the_pairs_to_review_are_those_that_a_search_counts(tmp_path: Path) -> None:
    """Nobody has answered them, and they have 2 % or more."""
    _, out = make_results(tmp_path)
    table = pq.read_table(out / "duplicates" / "pairs.parquet")
    for name, values in (("band", ["review", "review", "review", "link"]), ("probability", [0.55, 0.019, 0.3, 0.9])):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, out / "duplicates" / "pairs.parquet")
    export = ["verdicts", "export", "--out", str(out), "--pairs", "review", "--to", str(tmp_path / "x.csv")]
    assert CliRunner().invoke(main, export).stdout == f"{tmp_path / 'x.csv'} holds 2 pairs\n"
    with open_verdicts(out) as kept:
        first = table.to_pylist()[0]
        kept.add(Verdict.of(first["photo_sha256"], first["partner_sha256"], "same", who="Ada", queue="review"))
    assert CliRunner().invoke(main, export).stdout == f"{tmp_path / 'x.csv'} holds 1 pair\n"


def test_a_list_without_results_names_photos_by_their_digests(kept: Verdicts, tmp_path: Path) -> None:
    """What people said outlives the tables; who disagrees is named in the same way."""
    for who, verdict in (("Ada", "same"), ("Bea", "different")):
        kept.add(Verdict.of("a" * 64, "b" * 64, verdict, who=who, queue="review"))
    listed = CliRunner().invoke(main, ["verdicts", "list", "--out", str(tmp_path / "results")])
    assert f"{'a' * 12} and {'b' * 12}  same" in listed.output
    assert f"to settle: {'a' * 8} and {'b' * 8}: Ada says same" in listed.output


def test_nothing_to_ask_is_said(tmp_path: Path) -> None:
    """A search that found nothing gives no empty workbook."""
    archive, out = make_results(tmp_path, verified=False)
    shutil.rmtree(archive / "presse")
    failed = CliRunner().invoke(main, ["verdicts", "export", "--out", str(out)])
    assert failed.exit_code == 1
    with pytest.raises(VerdictError, match="nothing to ask"):
        CliRunner().invoke(main, ["--debug", "verdicts", "export", "--out", str(out)], catch_exceptions=False)
