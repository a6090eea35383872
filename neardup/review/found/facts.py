"""Facts about a photo: its name, newspaper, date, page, legend, and the legend in English."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from neardup.archive.walk import composed
from neardup.tables import load_rows

MONTHS = ("janv", "févr", "mars", "avr", "mai", "juin", "juil", "août", "sept", "oct", "nov", "déc")
"""Beginnings of the French names of the months, January first, as the names of files write them."""
_DIGITS = re.compile(r"(?<!\d)(1[89]\d\d|20\d\d)(\d\d)(\d\d)(?!\d)")
"""A day as eight digits, year first, from 1800 on: `Aamulehti_19111112`."""
_WORDS = re.compile(rf"(?<!\d)(\d{{1,2}}) ({'|'.join(MONTHS)})\w*\.? (\d{{4}})(?!\d)")
"""A day in French words and small letters: `28 nov 1911`."""
_NEWSPAPER = re.compile(r"^([^\W\d_][^\d_]*)_(?=\d{8})")
"""A newspaper at the beginning of a file's name: letters up to an underscore and a day."""
_PAGE = re.compile(r"_P(\d+)(?=_|\.)")
"""The page in a file's name: `_P9`."""


@dataclass(frozen=True)
class PhotoFacts:
    """Facts about a photo for people; unknown ones are empty.

    Attributes:
        name: name of its file.
        folder: where the file lies, relative to the archive.
        newspaper: whose photo it is: what the file's name begins with before a date, else the collection's folder.
        date: ISO 8601, where the pattern of the path gives one.
        page: number of the page, where the name or the sheet gives one.
        legend: text of the sheet.
        caption: the legend in English, where it was translated.
        language: ISO 639-1 code of the legend's language, where it is known.
        row: sheet and row of the ground truth that names the photo.
    """

    name: str
    folder: str
    newspaper: str = ""
    date: str = ""
    page: str = ""
    legend: str = ""
    caption: str = ""
    language: str = ""
    row: str = ""


def date_of(path: str) -> str:
    """The day that a path names, ISO 8601; nothing where it names none.

    >>> date_of("presse/Aamulehti_19111112_P9_01.jpg"), date_of("1_Chérau_28 nov 1911_Henni (8).jpg"), date_of("a.jpg")
    ('1911-11-12', '1911-11-28', '')
    >>> date_of("Rol, 3 mai 1911/excelsior_19121112_01.jpg")
    '1912-11-12'
    """
    path = composed(path).lower()
    dates = {match.start(): match.groups() for match in _DIGITS.finditer(path)}
    for match in _WORDS.finditer(path):
        day, name, year = match.groups()
        dates[match.start()] = (year, str(MONTHS.index(name) + 1), day)
    for _, (year, month, day) in sorted(dates.items(), reverse=True):  # the file's own name says more than its folders
        try:
            return date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            continue
    return ""


def place_text(sheet: str, row: object) -> str:
    """A row of the ground truth as the page names it, with the sheet where that has a name.

    >>> place_text("Sheet", 17), place_text("", 17)
    ('17 (Sheet)', '17')
    """
    return f"{row} ({sheet})" if sheet else str(row)


@dataclass(frozen=True)
class Archived:
    """Legends and rows of the ground truth, by the paths of the photos.

    Attributes:
        legends: path → row of `training_set.csv`.
        captions: legend → row of `captions.csv`.
        rows: path → sheet and row of the ground truth.
    """

    legends: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    captions: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    rows: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def load(cls, out: Path) -> "Archived":
        """Read what `prepare` and `translate` wrote into an output folder; missing tables are treated as empty."""
        return cls(
            {row["path"]: row for row in _rows(out / "training_set.csv", "path")},
            {row["legend"]: row for row in _rows(out / "captions.csv", "legend")},
            {
                row["path"]: place_text(row.get("sheet", ""), row["row"])
                for row in _rows(out / "test_set.csv", "path", "row")
            },
        )

    def of(self, path: str) -> PhotoFacts:
        """Collect the facts about the photo at a path."""
        place, row = PurePosixPath(path), self.legends.get(path, {})
        legend = row.get("legend", "")
        caption = self.captions.get(legend, {})
        newspaper, page = _NEWSPAPER.search(composed(place.name)), _PAGE.search(place.name)
        collection = row.get("collection") or (place.parts[0] if len(place.parts) > 1 else "")
        english = caption.get("caption", "") if caption.get("translator") not in {"untranslated", "none"} else ""
        return PhotoFacts(
            name=place.name,
            folder="" if len(place.parts) == 1 else place.parent.as_posix(),
            newspaper=newspaper[1] if newspaper else collection,
            date=date_of(path),
            page=page[1] if page else row.get("page", ""),
            legend=legend,
            caption=english,
            language=caption.get("language", ""),
            row=self.rows.get(path, ""),
        )


def _rows(table: Path, *needed: str) -> list[dict[str, str]]:
    """Read a table's rows; none if it is missing, broken or lacks a column, as only words are missing then."""
    try:
        rows = load_rows(table) if table.is_file() else []
    except (AttributeError, ValueError):
        return []
    return [row for row in rows if set(needed) <= row.keys()]
