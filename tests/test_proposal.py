"""The ground truth as the verdicts would have it, and what the pairs that were found say against it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest
from click.testing import CliRunner

from neardup.archive.groundtruth import Mention, parse_ground_truth
from neardup.archive.names import Names
from neardup.archive.resolve import resolve_groups
from neardup.archive.scan import Archive, Photo
from neardup.archive.sheets import Cell, read_workbook
from neardup.archive.testset import TestSet
from neardup.cli import main
from neardup.review.asked.ground_truth import Doubt, doubts_of, write_doubts
from neardup.review.exchange.proposal import propose, write_proposal
from neardup.review.found.candidates import Candidate, Found
from neardup.review.record.links import Links
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict, open_verdicts

PHOTO = Photo("", "", 1, 4, 4, "RGB", "JPEG", "0" * 16, "0" * 16)
SHA = {letter: letter * 64 for letter in "abcdef"}
ARCHIVE = Archive(
    Path(), tuple(replace(PHOTO, path=f"photos/{letter}.jpg", sha256=digest) for letter, digest in SHA.items()), (), 0
)
"""Six photos, named by one letter each, whose digest is that letter 64 times."""


def mentions(*rows: str) -> list[Mention]:
    """The cells of a ground truth with a word a cell."""
    return [
        Mention("IS.xlsx", "Sheet", number, Cell(f"A{number}", word))
        for number, row in enumerate(rows, 1)
        for word in row.split()
    ]


def links(*words: str) -> Links:
    """What follows from `a=b` and `a!b`."""
    return Links.of(
        Verdict.of(
            SHA[word[0]], SHA[word[2]], SAME if word[1] == "=" else DIFFERENT, who="Ada", queue="review", note="n"
        )
        for word in words
    )


def proposed(rows: Sequence[str], *words: str, **likely: float) -> dict[int, list[tuple[str, str]]]:
    """Row → text and kind of its cells; `ab=0.9` says how likely two photos are the same."""
    probability = {(SHA[name[0]], SHA[name[1]]): chance for name, chance in likely.items()}
    sheets = propose(mentions(*rows), ARCHIVE, links(*words), probability)
    return {row: [(cell.text, cell.kind) for cell in cells] for row, cells in sheets["Sheet"].items()}


def test_without_verdicts_it_is_the_ground_truth() -> None:
    """Names that mean no photo stay, too."""
    assert proposed(["a b", "nobody", "c"]) == {
        1: [("a", "kept"), ("b", "kept")],
        2: [("nobody", "kept")],
        3: [("c", "kept")],
    }


def test_a_photo_of_no_row_joins_the_one_it_is_the_same_as() -> None:
    """It is written by its name on disk."""
    assert proposed(["a b"], "b=c") == {1: [("a", "kept"), ("b", "kept"), ("c.jpg", "new")]}


def test_two_rows_that_are_the_same_become_one() -> None:
    """The later row is left empty, so that the rows below keep their numbers."""
    assert proposed(["a b", "c d", "e"], "a=c") == {
        1: [("a", "kept"), ("b", "kept"), ("c", "moved"), ("d", "moved")],
        2: [("", "left")],
        3: [("e", "kept")],
    }


def test_two_rows_that_share_a_name_stay_two() -> None:
    """Nobody said that their other photos are the same; a row that another verdict empties keeps no name."""
    rows = ["a b", "a c", "a"]
    second = [("a", "kept"), ("c", "kept")]
    assert proposed(rows) == {1: [("a", "kept"), ("b", "kept")], 2: second, 3: [("a", "kept")]}
    assert proposed(rows, "b=d")[2] == second
    joined = proposed(rows, "b=c")
    assert joined[1] == [("a", "kept"), ("b", "kept"), ("c", "moved")]
    assert joined[2] == [("", "left")]
    assert proposed(["a a b"]) == {1: [("a", "kept"), ("a", "kept"), ("b", "kept")]}


def test_a_photo_that_differs_leaves_for_a_row_below() -> None:
    """The row that it left tells where it went."""
    assert proposed(["a b c", "d"], "a!c") == {
        1: [("a", "kept"), ("b", "kept"), ("", "left")],
        2: [("d", "kept")],
        3: [("c", "moved")],
    }


def test_the_rest_of_a_divided_row_goes_with_what_it_is_like() -> None:
    """One verdict divides it, wherever the odd photo stands; the larger part keeps the row."""
    kept, away = [("b", "kept"), ("c", "kept"), ("", "left")], [("a", "moved")]
    assert proposed(["a b c"], "a!b", bc=0.97, ac=0.01) == {1: kept, 2: away}
    assert proposed(["c a b"], "a!b", bc=0.97)[2] == away


def test_photos_of_no_row_get_one_of_their_own() -> None:
    """New groups stand below all others."""
    assert proposed(["a"], "e=f")[2] == [("e.jpg", "new"), ("f.jpg", "new")]


def test_what_must_not_be_together_never_is() -> None:
    """Joining two rows brings no two photos together that differ."""
    rows = proposed(["a b", "c d"], "a=c", "b!d")
    assert [text for text, kind in rows[1]] == ["a", "b", "c"]
    assert ("d", "kept") in rows[2]


def test_each_change_is_coloured_and_explained(tmp_path: Path) -> None:
    """Who said what of which photo, when, and the note; old cells are plain."""
    sheets = propose(mentions("a b c"), ARCHIVE, links("a!c", "b=d"))
    sheet = openpyxl.load_workbook(write_proposal(tmp_path / "proposed_IS.xlsx", sheets))["Sheet"]
    cells = {cell.value: cell for row in sheet for cell in row if cell.value}
    assert cells["a"].fill.fill_type is None
    assert cells["a"].comment is None
    assert cells["d.jpg"].fill.fgColor.rgb == "FFC6EFCE"
    assert "new: same as b.jpg, says Ada on 20" in cells["d.jpg"].comment.text
    assert "moved, was in Sheet row 1: different from a.jpg" in cells["c"].comment.text


def test_the_proposal_is_read_as_a_ground_truth(tmp_path: Path) -> None:
    """Colours and comments are no cells: the groups are those of the verdicts."""
    path = write_proposal(tmp_path / "p.xlsx", propose(mentions("a b", "c", "d e"), ARCHIVE, links("a=f", "d!e")))
    groups = resolve_groups(parse_ground_truth("p.xlsx", read_workbook(path)), Names(ARCHIVE))
    by_group: dict[int, str] = {}
    for photo in groups.test_set.photos:
        by_group[photo.group] = by_group.get(photo.group, "") + photo.sha256[0]
    assert (list(by_group.values()), groups.discrepancies) == (["abf", "c", "d", "e"], ())


def test_names_of_sheets_that_are_too_long_for_excel_are_cut(tmp_path: Path) -> None:
    """LibreOffice writes longer ones, and two may be equal up to there."""
    names = ["x" * 31 + "first", "X" * 31 + "second", "short"]
    cells = [Mention("IS.ods", name, 1, Cell("A1", letter)) for name, letter in zip(names, "abc", strict=True)]
    path = write_proposal(tmp_path / "p.xlsx", propose(cells, ARCHIVE, links()))
    sheets = {sheet.name: sheet.rows[0][0].text for sheet in read_workbook(path)}
    assert sorted(sheets.items()) == [("X" * 31, "b"), ("short", "c"), ("x" * 29 + " 2", "a")]


@pytest.fixture
def truth() -> TestSet:
    """Rows a b, c and d e."""
    return resolve_groups(mentions("a b", "c", "d e"), Names(ARCHIVE)).test_set


def found(*pairs: tuple[str, str, float]) -> Found:
    """What a search found: pairs with their probability."""
    return Found(
        Path(),
        tuple(
            Candidate(
                f"photos/{one}.jpg", f"photos/{other}.jpg", SHA[one], SHA[other], probability=p, sentence="B is a crop."
            )
            for one, other, p in pairs
        ),
        (),
        {},
    )


def test_likely_pairs_of_no_row_are_missing(truth: TestSet) -> None:
    """Two rows that should be one, or a photo of no row; not where people say that it is different."""
    pairs = found(("a", "b", 0.99), ("b", "c", 0.95), ("c", "f", 0.97), ("a", "f", 0.96), ("d", "e", 0.99))
    lines = [line for line in doubts_of(truth, pairs.candidates, links("a!f")) if line.kind == "missing"]
    assert [(line.photo, line.partner, line.photo_row, line.partner_row) for line in lines] == [
        ("photos/c.jpg", "photos/f.jpg", "Sheet row 2", ""),
        ("photos/b.jpg", "photos/c.jpg", "Sheet row 1", "Sheet row 2"),
    ]
    assert lines[0].reason == "one photo is in no row: B is a crop."


def test_a_row_that_nothing_holds_together_is_told_by_its_likeliest_pair(truth: TestSet) -> None:
    """Not where somebody says that its photos belong together."""
    lines = doubts_of(truth, found(("a", "b", 0.05), ("b", "f", 0.5)).candidates, links("d=e"))
    assert [(line.kind, line.photo, line.partner, line.probability) for line in lines] == [
        ("apart", "photos/b.jpg", "photos/a.jpg", 0.05)
    ]


def test_each_part_of_a_row_is_told_once() -> None:
    """By its likeliest pair with the largest part; two parts that a verdict joins are one."""
    truth = resolve_groups(mentions("a b c d e f"), Names(ARCHIVE)).test_set
    pairs = found(("a", "b", 0.99), ("c", "d", 0.8), ("d", "e", 0.9), ("b", "e", 0.04), ("b", "c", 0.02)).candidates
    lines = [(line.photo[7], line.partner[7], line.probability) for line in doubts_of(truth, pairs, links())]
    assert lines == [("f", "c", 0.0), ("b", "e", 0.04)]
    assert [line.photo[7] for line in doubts_of(truth, pairs, links("a=c"))] == ["f"]


def test_without_probabilities_nothing_is_told(truth: TestSet) -> None:
    """A similarity alone accuses nobody."""
    plain = Candidate("x", "y", SHA["a"], SHA["c"], similarity=0.99)
    assert doubts_of(truth, [plain], links()) == []


def test_the_page_escapes_what_names_hold(tmp_path: Path) -> None:
    """A legend or a name with markup is text, and a photo that is gone leaves no hole."""
    doubt = Doubt("<script>.jpg", "=1.jpg", SHA["a"], SHA["b"], "missing", 0.99, "", "", "<b>", "")
    page = write_doubts(tmp_path, [doubt], found())[2].read_text()
    assert "<script>.jpg" not in page
    assert "&lt;script&gt;.jpg" in page
    assert openpyxl.load_workbook(tmp_path / "discrepancies_IS.xlsx").active["E2"].data_type == "s"


def test_the_command_proposes_on_a_prepared_archive(prepared: Path, tmp_path: Path) -> None:
    """Two rows of a real workbook are joined by one verdict, and training gets the pair."""
    out = tmp_path / "results"
    shutil.copytree(prepared, out)
    photos = TestSet.load(out).photos
    one, other = photos[0], next(photo for photo in photos if photo.group != photos[0].group)
    url = f"sqlite:///{tmp_path / 'v.sqlite'}"
    with open_verdicts(out, url) as kept:
        kept.add(Verdict.of(one.sha256, other.sha256, SAME, who="Ada", queue="search"))
    result = CliRunner().invoke(main, ["verdicts", "propose", "--out", str(out), "--database", url])
    assert result.exit_code == 0, result.output
    book = openpyxl.load_workbook(out / "proposed_IS.xlsx")
    comments = [cell.comment.text for sheet in book for row in sheet for cell in row if cell.comment]
    assert any("same as" in text and "says Ada" in text for text in comments)
    assert (out / "known_pairs.csv").read_text().splitlines()[0] == "first,second,same"
