"""Import answers from a workbook or a CSV: every fault is reported with its cell, and all or nothing is stored.

With half a table stored, its author would have to find out which answers counted. Reading the same table twice changes
nothing, so that it is safe to correct faults and read it again.
"""

import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from openpyxl.utils import get_column_letter

from neardup.archive.sheets import Cell, Sheet, read_workbook
from neardup.archive.walk import composed
from neardup.errors import ArchiveError, VerdictError
from neardup.review.exchange.workbook import (
    ANSWER,
    DIRECTION,
    FACTS,
    FROM_PARTNER,
    FROM_PHOTO,
    ID,
    KEYS,
    NOTE,
    OPEN,
    PARTNER,
    PHOTO,
    RELATION,
    STATE_OF,
)
from neardup.review.found.candidates import Candidate, id_of
from neardup.review.record.links import Links
from neardup.review.record.verdicts import ANSWERS, Verdict, Verdicts
from neardup.review.texts import LANGUAGES, texts
from neardup.tables import parsed_csv, unguarded
from neardup.verify.evidence import ordered
from neardup.words import counted

_NAMESPACE = uuid5(NAMESPACE_URL, "neardup:answer")
"""Namespace of the ids of imported verdicts, by which the same answer read twice is one verdict."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a table of answers, or worth knowing.

    Attributes:
        kind: `unknown id`, `edited digest`, `missing column`, `two columns`, `unknown word`, `formula`, `outdated`,
            `two answers`, `no answer`; or `contradiction` and `not read`, which keep nothing from being stored.
        sheet: the sheet's name; empty in a CSV.
        row: the row as Excel numbers it.
        cell: the cell's address.
        detail: what is wrong and what to do.
    """

    kind: str
    sheet: str
    row: int
    cell: str
    detail: str

    @property
    def line(self) -> str:
        """The fault as one line."""
        place = f"sheet {self.sheet}, " if self.sheet else ""
        return f"{place}row {self.row}, cell {self.cell}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Imported:
    """The result of reading a table.

    Attributes:
        stored: number of new verdicts.
        unchanged: number of rows whose answer was already known.
        blank: number of rows without an answer.
        cleared: number of blank rows of pairs that the person had answered before the table was made.
        faults: why nothing was stored; empty if all was.
        contradictions: answers that other answers contradict; they are stored and must be settled.
        notes: contents of the table that are not answers and are not read.
    """

    stored: int
    unchanged: int
    blank: int
    cleared: int
    faults: tuple[Fault, ...]
    contradictions: tuple[Fault, ...]
    notes: tuple[Fault, ...] = ()

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        if self.faults:
            return f"nothing was stored: {counted(len(self.faults), 'fault')}; mend what is named and import again"
        known = f"{self.unchanged:,} known already, {counted(self.blank, 'row')} without an answer"
        if self.cleared:
            known += f" ({self.cleared:,} answered before: that stays in force, `neardup verdicts withdraw` ends it)"
        contradictions = counted(len(self.contradictions), "contradiction")
        return f"{counted(self.stored, 'verdict')} stored, {known}, {contradictions} to settle"


@dataclass(frozen=True)
class _Row:
    """One row of a table: its cells by column name, and their addresses."""

    sheet: str
    number: int
    cells: Mapping[str, Cell]
    letters: Mapping[str, str]

    def text(self, name: str) -> str:
        """Text of the cell in a column, or empty."""
        return self.cells[name].text if name in self.cells else ""

    def fault(self, kind: str, name: str, detail: str) -> Fault:
        """Make a fault of the cell in a column."""
        return Fault(kind, self.sheet, self.number, f"{self.letters[name]}{self.number}", detail)


_Answers = dict[tuple[str, str], tuple[_Row, Verdict]]
"""Pair → the row that answers it, and the verdict of that row."""


def import_answers(
    path: Path, verdicts: Verdicts, candidates: Sequence[Candidate], who: str, *, dry: bool = False
) -> Imported:
    """Read the answers of a table and store them, all or none.

    Args:
        path: a workbook or a CSV that `neardup verdicts export` wrote and somebody filled in.
        verdicts: database in which they are stored.
        candidates: the pairs of the results; ids of other pairs are accepted if they fit their digests.
        who: the person who answered.
        dry: whether only to report what would be stored.

    Raises:
        ArchiveError: the table cannot be read.
        VerdictError: nobody is named, or the database refuses.
    """
    rows, faults, notes = _read(path)
    current, history = verdicts.current(), verdicts.history()
    known = {candidate.id: candidate.pair for candidate in candidates}
    known |= {id_of(*verdict.pair): verdict.pair for verdict in history}
    by_id = {candidate.id: candidate for candidate in candidates}
    before = {verdict.pair: verdict for verdict in current if verdict.who == who}
    last = {verdict.pair: verdict.id for verdict in history if verdict.who == who}

    @cache
    def answered_after(number: int) -> set[tuple[str, str]]:
        """Find the pairs that the person answered after the verdict with a number."""
        return {verdict.pair for verdict in verdicts.history(number) if verdict.who == who}

    given, answers = _Answers(), _Answers()
    blank = cleared = unchanged = 0
    for row in rows:
        wrong = _faults(row, known)
        faults += wrong
        if wrong:
            continue
        pair = ordered(row.text(PHOTO), row.text(PARTNER))
        if not row.text(ANSWER):
            blank += 1
            cleared += pair in before and pair not in answered_after(_number(row))
            continue
        verdict = _verdict(row, who, by_id.get(row.text(ID)), before.get(pair), last.get(pair, ""))
        other, first = given.setdefault(pair, (row, verdict))
        if _content(first) != _content(verdict):
            detail = f"row {other.number} has another answer on the same pair: clear one of them"
            faults.append(row.fault("two answers", ANSWER, detail))
        elif pair in before and _content(before[pair]) == _content(verdict):
            unchanged += 1
        elif pair in answered_after(_number(row)):
            detail = f"{who} has answered this pair since the table was made: clear the cell, or export again"
            faults.append(row.fault("outdated", ANSWER, detail))
        else:
            answers[pair] = row, verdict
    accepted = [verdict for _, verdict in answers.values()]
    others = [verdict for verdict in current if verdict.pair not in answers or verdict.who != who]
    contradictions = tuple(sorted(_contradictions(answers, others), key=lambda fault: (fault.sheet, fault.row)))
    if faults:
        return Imported(0, unchanged, blank, cleared, tuple(faults), contradictions, tuple(notes))
    stored = len(accepted) if dry else verdicts.add_all(accepted)
    return Imported(stored, unchanged, blank, cleared, (), contradictions, tuple(notes))


def _number(row: _Row) -> int:
    """Read how many verdicts there were when the table was made."""
    text = row.text(STATE_OF)
    return int(text) if text.isdecimal() and len(text) < 19 else 0  # noqa: PLR2004 - digits that a database counts in


def _content(verdict: Verdict) -> tuple[str, ...]:
    """Extract what a person said, without outer spaces, which cells do not keep."""
    return verdict.verdict, verdict.direction, verdict.relation.strip(), verdict.note.strip()


def _verdict(row: _Row, who: str, candidate: Candidate | None, old: Verdict | None, last: str) -> Verdict:
    """The verdict of a row without a fault.

    Args:
        row: the row.
        who: the person.
        candidate: the pair as the results have it.
        old: the person's verdicts in force on the pair, which the new one supersedes.
        last: id of the person's last verdict or withdrawal on the pair, which makes an answer that is repeated after
            its withdrawal a new verdict.
    """
    direction = {FROM_PHOTO: "first", FROM_PARTNER: "second"}.get(_plain(row.text(DIRECTION)), "")
    words = {"relation": row.text(RELATION), "note": row.text(NOTE)}
    shown = candidate.shown() if candidate else {}
    answer = _answer_words()[_plain(row.text(ANSWER))]
    verdict = Verdict.of(
        row.text(PHOTO), row.text(PARTNER), answer, who=who, queue="import", direction=direction, shown=shown, **words
    )
    content = "|".join((*verdict.pair, who, *_content(verdict), last))
    return replace(verdict, id=str(uuid5(_NAMESPACE, content)), supersedes=(old.id,) if old else ())


def _faults(row: _Row, known: Mapping[str, tuple[str, str]]) -> list[Fault]:
    """List what is wrong with one row, the protected cells first."""
    faults = [
        row.fault("formula", name, "the cell holds a formula: write the text itself")
        for name in (*OPEN, *KEYS)
        if name in row.cells and row.cells[name].formula
    ]
    return faults or _faults_of_keys(row, known) or _faults_of_words(row)


def _faults_of_keys(row: _Row, known: Mapping[str, tuple[str, str]]) -> list[Fault]:
    """Check that a row's id and digests belong to one pair."""
    identity, ends = row.text(ID), (row.text(PHOTO), row.text(PARTNER))
    try:
        expected = id_of(*ends)
    except VerdictError as error:
        expected = f"none: {error}"
    if identity == expected:
        return []
    restore = "export the table again, or restore the cell"
    if identity in known:
        name = PHOTO if ends[0] not in known[identity] else PARTNER
        return [row.fault("edited digest", name, f"the digest is not that of this row's pair: {restore}")]
    return [row.fault("unknown id", ID, f"{identity[:80]!r} is the id of no pair of these results: {restore}")]


def _faults_of_words(row: _Row) -> list[Fault]:
    """Check that the person's words are allowed in their columns."""
    faults = []
    answer, direction = row.text(ANSWER), row.text(DIRECTION)
    if answer and _plain(answer) not in _answer_words():
        faults.append(row.fault("unknown word", ANSWER, f"{answer[:80]!r} is none of {', '.join(ANSWERS)}"))
    if direction and _plain(direction) not in {FROM_PHOTO, FROM_PARTNER}:
        faults.append(row.fault("unknown word", DIRECTION, f"{direction[:80]!r}: write {FROM_PHOTO} or {FROM_PARTNER}"))
    if not answer and any(map(row.text, (DIRECTION, RELATION, NOTE))):
        faults.append(row.fault("no answer", ANSWER, "the row has a note and no verdict: choose one"))
    return faults


def _plain(text: str) -> str:
    """Normalise a word's case and spaces."""
    return " ".join(composed(text).split()).casefold()


@cache
def _answer_words() -> Mapping[str, str]:
    """Map allowed words to `ANSWERS`: the answers themselves, and their names on the review page in any language."""
    words = {_plain(texts(code)[f"key_{answer.replace(' ', '_')}"]): answer for code in LANGUAGES for answer in ANSWERS}
    return words | {answer: answer for answer in ANSWERS}


def _contradictions(answers: _Answers, others: Iterable[Verdict]) -> Iterator[Fault]:
    """Find answers of the table that contradict each other or verdicts in force."""
    rows = {verdict.id: row for row, verdict in answers.values()}
    for contradiction in Links.of([*others, *(verdict for _, verdict in answers.values())]).contradictions:
        for verdict in contradiction.verdicts:
            if verdict.id in rows:
                yield rows[verdict.id].fault("contradiction", ANSWER, contradiction.sentence)


def _read(path: Path) -> tuple[list[_Row], list[Fault], list[Fault]]:
    """The rows of a table, what is wrong with its columns, and which columns are not read.

    Raises:
        ArchiveError: the file is not there or cannot be read.
    """
    if not path.is_file():
        raise ArchiveError(f"{path} is not there: name the workbook or the CSV that was filled in")
    try:
        sheets = [_csv(path)] if path.suffix.lower() == ".csv" else [sheet.spread() for sheet in read_workbook(path)]
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from error
    rows: list[_Row] = []
    faults: list[Fault] = []
    notes: list[Fault] = []
    for sheet in sheets:
        if not any(any(row) for row in sheet.rows):
            continue
        header = {cell.text: number for number, cell in enumerate(sheet.rows[0]) if cell}
        wrong = _faults_of_header(sheet)
        faults += wrong
        if wrong:
            continue
        notes += _not_read(sheet)
        letters = {name: get_column_letter(number + 1) for name, number in header.items()}
        letters |= {name: "A" for name in (*OPEN, *KEYS) if name not in letters}
        for number, row in enumerate(sheet.rows[1:], 2):
            cells = {name: cell for name, place in header.items() if place < len(row) and (cell := row[place])}
            if any(name in cells for name in (*OPEN, *KEYS)):
                rows.append(_Row(sheet.name, number, cells, letters))
    if not rows and not faults:
        faults.append(
            Fault("missing column", "", 1, "A1", "the table holds no row: name one of `neardup verdicts export`")
        )
    return rows, faults, notes


def _faults_of_header(sheet: Sheet) -> list[Fault]:
    """List what is wrong with the names of the columns in the first row."""
    times = Counter(cell.text for cell in sheet.rows[0] if cell)
    restore = "put the row of names first" + (", or delete the sheet if it holds no answers" if sheet.name else "")
    missing = [
        Fault("missing column", sheet.name, 1, "A1", f"no column {name!r}: {restore}, or export again")
        for name in (ANSWER, *KEYS[:3])
        if name not in times
    ]
    return missing + [
        Fault("two columns", sheet.name, 1, "A1", f"{times[name]} columns are called {name!r}: leave one of them")
        for name in (*OPEN, *KEYS)
        if times[name] > 1
    ]


def _not_read(sheet: Sheet) -> Iterator[Fault]:
    """Find columns that no export has but that somebody filled in: they are not part of an answer."""
    names = {"picture of photo", "picture of partner", *FACTS, *OPEN, *KEYS}
    for column in range(max(map(len, sheet.rows))):
        title, *cells = (row[column] if column < len(row) else None for row in sheet.rows)
        written = [cell for cell in cells if cell]
        name = title.text if title else ""
        if name not in names and written:
            detail = f"the column {name!r} is not read: what belongs to an answer goes into {NOTE!r}"
            yield Fault("not read", sheet.name, int(re.sub(r"\D", "", written[0].address)), written[0].address, detail)


def _csv(path: Path) -> Sheet:
    """Read a CSV as a sheet: in UTF-8, UTF-16 or Excel's Windows encoding, with commas, semicolons or tabs."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    try:
        cells = [
            tuple(
                Cell(f"{get_column_letter(column)}{number}", value) if (value := unguarded(raw).strip()) else None
                for column, raw in enumerate(row, 1)
            )
            for number, row in enumerate(parsed_csv(text), 1)
        ]
    except csv.Error as error:
        raise ArchiveError(f"not a CSV that can be read ({error})") from error
    return Sheet("", tuple(cells))
