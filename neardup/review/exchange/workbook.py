"""Pairs of photos as a workbook or a CSV in which somebody answers without neardup; `imported` reads it back."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xlsxwriter

from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_file
from neardup.pages import jpeg, thumbnail
from neardup.review.found.candidates import Candidate
from neardup.review.record.verdicts import ANSWERS, Verdict, by_pair
from neardup.stages import replacing
from neardup.tables import AS_TEXT, CREATED, Value, encodable, write_csv, write_text

SHEET = "pairs"
"""Name of the sheet that holds the pairs."""
ANSWER = "verdict"
"""Column of the answer, one of the words of the drop-down."""
DIRECTION = "made from"
"""Column that says which photo the other one was made from, where the person knows."""
RELATION = "relation as corrected"
"""Column of the kind of copy, where the machine's is wrong."""
NOTE = "note"
"""Column of whatever else the person wants to say."""
ID = "id"
"""Column of the pair's id."""
PHOTO = "SHA-256 of photo"
"""Column of the digest of the photo on the left."""
PARTNER = "SHA-256 of partner"
"""Column of the digest of the photo on the right."""
STATE_OF = "answered until"
"""Column of the number of the last verdict at the export: a later one of the same person is not overruled."""
FROM_PHOTO = "partner from photo"
"""Word for a partner that was made from the photo."""
FROM_PARTNER = "photo from partner"
"""Word for a photo that was made from its partner."""
OPEN = (ANSWER, DIRECTION, RELATION, NOTE)
"""Columns that a person fills in; in a workbook all others are protected."""
KEYS = (ID, PHOTO, PARTNER, STATE_OF)
"""Columns that identify a row and must not be changed."""
FACTS = ("photo", "partner", "similarity", "probability", "band", "relation", "sentence", "inliers", "verdicts so far")
"""Columns of what the machine and other people say."""
SIDE = 160
"""Pixels of the longer side of a picture in the workbook: two of them and the questions fit on a screen's width."""
_WIDTHS = {"photo": 30, "partner": 30, "sentence": 40, "verdicts so far": 24, RELATION: 24, NOTE: 30}
"""Column → its width in characters, where the width of the others does not fit."""


def rows_of(
    candidates: Sequence[Candidate], current: Sequence[Verdict], number: int, *, who: str = ""
) -> list[dict[str, Value]]:
    """Make the rows of the table, by column name, with the answers that the person has given before.

    Args:
        candidates: the pairs.
        current: the verdicts in force.
        number: number of the verdict that was stored last.
        who: the person that the table is for; their own answers are filled in, those of others are shown.
    """
    verdicts_of = by_pair(current)
    rows: list[dict[str, Value]] = []
    for candidate in candidates:
        verdicts = verdicts_of.get(candidate.pair, [])
        own = next((verdict for verdict in reversed(verdicts) if verdict.who == who), None)
        facts: dict[str, Value] = {name: getattr(candidate, name) for name in FACTS[:-1]}
        facts["verdicts so far"] = "; ".join(f"{verdict.who}: {verdict.verdict}" for verdict in verdicts) or None
        keys: dict[str, Value] = dict(
            zip(KEYS, (candidate.id, candidate.photo_sha256, candidate.partner_sha256, number), strict=True)
        )
        rows.append(facts | _own(own, candidate) | keys)
    return rows


def _own(verdict: Verdict | None, candidate: Candidate) -> dict[str, Value]:
    """The columns that a person fills in, as this one has filled them in before."""
    if verdict is None:
        return dict.fromkeys(OPEN)
    first = "photo" if candidate.photo_sha256 == verdict.first else "partner"
    source = {"first": first, "second": "partner" if first == "photo" else "photo"}.get(verdict.direction)
    direction = {"photo": FROM_PHOTO, "partner": FROM_PARTNER, None: None}[source]
    return dict(zip(OPEN, (verdict.verdict, direction, verdict.relation or None, verdict.note or None), strict=True))


def write_answers_csv(path: Path, rows: Sequence[Mapping[str, Value]]) -> Path:
    """Write the pairs as CSV, without pictures; text that a spreadsheet would take for a formula is escaped."""
    columns = (*FACTS, *OPEN, *KEYS)
    return write_csv(path, columns, ([row[name] for name in columns] for row in rows))


def write_workbook(
    path: Path, rows: Sequence[Mapping[str, Value]], picture: Callable[[str, str], tuple[bytes, str]]
) -> Path:
    """Write the pairs as a workbook, with pictures, a drop-down per row, and protected cells.

    Args:
        path: the .xlsx file.
        rows: as `rows_of` gives them.
        picture: function from a photo's path and SHA-256 to a JPEG, or to no bytes and the reason.
    """
    with replacing(path) as partial:
        workbook = xlsxwriter.Workbook(str(partial), {**AS_TEXT, "nan_inf_to_errors": True})
        workbook.set_properties({"created": CREATED})
        sheet = workbook.add_worksheet(SHEET)
        columns = ("picture of photo", "picture of partner", *FACTS, *OPEN, *KEYS)
        place = {name: number for number, name in enumerate(columns)}
        _lay_out(workbook, sheet, columns, len(rows))
        locked = workbook.add_format({"text_wrap": True, "valign": "top"})
        open_cell = workbook.add_format(
            {"locked": False, "bg_color": "#fff8dc", "border": 1, "text_wrap": True, "valign": "top"}
        )
        for number, row in enumerate(rows, 1):
            sheet.set_row_pixels(number, SIDE + 8)
            for column, (name, key) in enumerate((("photo", PHOTO), ("partner", PARTNER))):
                data, reason = picture(str(row[name]), str(row[key]))
                _show(sheet, number, column, data, reason or encodable(str(row[name])))
            for name, value in row.items():
                _write(sheet, number, place[name], value, open_cell if name in OPEN else locked)
        workbook.close()
    return path


def _lay_out(workbook: Any, sheet: Any, columns: Sequence[str], rows: int) -> None:
    """Write the header, protect the sheet, and offer the words that a person may choose from."""
    sheet.write_row(0, 0, columns, workbook.add_format({"bold": True, "text_wrap": True}))
    sheet.freeze_panes(1, 2)
    allowed = dict.fromkeys(("format_columns", "format_rows", "autofilter", "select_locked_cells"), True)
    sheet.protect("", {**allowed, "objects": True})
    for number, name in enumerate(columns):
        if name.startswith("picture"):
            sheet.set_column_pixels(number, number, SIDE + 8)
        else:
            sheet.set_column(number, number, _WIDTHS.get(name, 14))
        words = {ANSWER: ANSWERS, DIRECTION: (FROM_PHOTO, FROM_PARTNER)}.get(name)
        if words and rows:
            rule = {"validate": "list", "source": list(words), "error_title": name}
            sheet.data_validation(1, number, rows, number, {**rule, "error_message": f"Choose {', '.join(words)}."})


def _show(sheet: Any, row: int, column: int, data: bytes, words: str) -> None:
    """Put a picture into a cell, or the reason why there is none."""
    if not data:
        write_text(sheet, row, column, words)
        return
    placement = {"image_data": io.BytesIO(data), "x_offset": 4, "y_offset": 4, "object_position": 1}
    sheet.insert_image(row, column, "photo.jpg", {**placement, "description": words[:250]})


def _write(sheet: Any, row: int, column: int, value: Value, form: Any) -> None:
    """Write a value by its type; text never becomes a formula."""
    if value is None or value == "":
        sheet.write_blank(row, column, None, form)
    elif isinstance(value, str):
        write_text(sheet, row, column, value, form)
    else:
        sheet.write_number(row, column, value, form)


def pictures_of(root: Path, max_pixels: int = MAX_PIXELS, side: int = SIDE) -> Callable[[str, str], tuple[bytes, str]]:
    """Make a function from the path and SHA-256 of an archive's photo to a small JPEG, or to no bytes and the reason.

    Args:
        root: the archive.
        max_pixels: a larger image is not shown.
        side: pixels of the longer side.
    """

    def picture(path: str, sha256: str) -> tuple[bytes, str]:
        """The JPEG of a photo; nothing where it is gone, was replaced, or is no image."""
        try:
            data = read_file(root / path)
            if hashlib.sha256(data).hexdigest() != sha256:
                return b"", "the photo was replaced since the search"
            return jpeg(thumbnail(data, side, max_pixels)), ""
        except FileNotFoundError:
            return b"", "the photo is no longer there"
        except (UnreadableImageError, ArchiveError) as error:
            return b"", str(error)

    return picture
