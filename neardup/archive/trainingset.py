"""The training set: photos with their legends, from the legend sheets of the archive."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from neardup.archive.discrepancies import Discrepancy
from neardup.archive.hashes import bits
from neardup.archive.names import Names, climbs, folded
from neardup.archive.scan import Photo
from neardup.archive.sheets import Cell, Sheet
from neardup.archive.testset import TestSet, distinct_names
from neardup.errors import ConfigError
from neardup.stages import digest_of
from neardup.tables import load_rows, save_rows, write_table

HEADER_ROWS = 10
"""A sheet's column names stand within its first rows."""
FLAT = 4
"""A perceptual hash with fewer bits set than this, or unset, is that of an even surface and says nothing of looks."""

_COLUMNS = {
    "legend": r"l[eé]gend[ea]?s?|legende[ns]?|captions?|didascali[ea]|bildunterschrift(en)?|description",
    "page": r"(num(ero)?|no|nr|n)?\s*(pages?|pagina|pagine|seite)",
    "photo": r"(num(ero)?|no|nr|n)?\s*(photos?|images?|foto|fotos|bild|pictures?)",
}


@dataclass(frozen=True)
class Caption:
    """A legend in English.

    Attributes:
        text: what training uses.
        language: ISO 639-1 code of the legend's language, or nothing if it has no words.
        translator: who translated: `deepl`, a model's name, `none` (English already) or `untranslated`.
    """

    text: str
    language: str
    translator: str


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo with its legend.

    Attributes:
        image_name: its file name in `training_set/`, unique there.
        path: where it lies in the archive.
        sha256: its identity.
        legend: the sheet's text, white space cleaned.
        collection: the folder above the sheet that its pattern is for.
        sheet: the workbook, relative to the archive.
        row: the row as Excel counts.
        page: page number, or nothing.
        photo: photo number.
        phash: perceptual hash, 16 hex digits.
    """

    image_name: str
    path: str
    sha256: str
    legend: str
    collection: str
    sheet: str
    row: int
    page: str
    photo: str
    phash: str


@dataclass(frozen=True)
class TrainingSet:
    """Photos with legends, in the order of the sheets."""

    photos: tuple[TrainingPhoto, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of contents and legends."""
        return digest_of([(photo.sha256, photo.legend) for photo in self.photos])

    def save(self, out: Path) -> Path:
        """Write the machine-readable table `training_set.csv`."""
        return save_rows(out / "training_set.csv", TrainingPhoto, self.photos)

    @classmethod
    def load(cls, out: Path) -> "TrainingSet":
        """Read what `save` wrote.

        Raises:
            ArchiveError: nothing has been prepared in `out`.
        """
        rows = ({**row, "row": int(row["row"])} for row in load_rows(out / "training_set.csv"))
        return cls(tuple(TrainingPhoto(**row) for row in rows))  # type: ignore[arg-type]


def write_training_sheet(out: Path, training: TrainingSet, captions: Mapping[str, Caption]) -> Path:
    """Write `df_training.xlsx`, a row a photo; a legend without a caption stands for itself, marked untranslated."""
    columns = (
        "image_name",
        "legend",
        "caption",
        "language",
        "translator",
        "collection",
        "sheet",
        "row",
        "page",
        "photo",
    )
    rows = []
    for photo in training.photos:
        caption = captions.get(photo.legend, Caption(photo.legend, "", "untranslated"))
        made = (photo.image_name, photo.legend, caption.text, caption.language, caption.translator)
        rows.append((*made, photo.collection, photo.sheet, photo.row, photo.page, photo.photo))
    write_table(out / "df_training.xlsx", columns, rows)
    return out / "df_training.xlsx"


@dataclass(frozen=True)
class LegendRow:
    """One row of a legend sheet that names a photo of the archive and says something of it."""

    photo: Photo
    legend: str
    collection: str
    workbook: str
    sheet: str
    row: int
    page: str
    number: str


@dataclass(frozen=True)
class Columns:
    """Where the columns stand (0-based) and in which row their names are (0-based); -1 where there is none."""

    header: int
    legend: int
    page: int
    photo: int


def find_columns(sheet: Sheet) -> Columns | None:
    """The columns of a legend sheet, whatever their accents, case, number and language; None if it has none of them."""
    best: Columns | None = None
    for index, row in enumerate(sheet.rows[:HEADER_ROWS]):
        found = dict.fromkeys(_COLUMNS, -1)
        for column, cell in enumerate(row):
            name = re.sub(r"[^a-z ]", " ", folded(cell.text)).strip() if cell else ""
            for kind, pattern in _COLUMNS.items():
                if found[kind] < 0 and re.fullmatch(pattern, re.sub(r"\s+", " ", name)):
                    found[kind] = column
        columns = Columns(index, found["legend"], found["page"], found["photo"])
        if _named(columns) > (_named(best) if best else 0):
            best = columns
    return best


def _named(columns: Columns) -> int:
    return sum(column >= 0 for column in (columns.legend, columns.page, columns.photo))


def number_of(text: str) -> int | None:
    """A page or photo number: `3`, `3.0`, `03`; None for `/`, blank and words.

    >>> [number_of(text) for text in ("3", "3.0", "03", "/", "")]
    [3, 3, 3, None, None]
    """
    match = re.fullmatch(r"\s*0*(\d+)(?:[.,]0*)?\s*", text)
    return int(match[1]) if match else None


def clean_legend(text: str) -> str:
    """The legend in one line: line breaks and runs of spaces become one space, accents are composed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


@dataclass
class Legends:
    """Reads legend sheets row by row and keeps the books: what was listed, used and left out, and why."""

    names: Names
    patterns: Mapping[str, str]
    rows: list[LegendRow]
    lines: list[Discrepancy]
    counts: Counter[str]

    def read(self, workbook: str, sheet: Sheet) -> None:
        """Read one sheet of the workbook at `workbook` (relative to the archive)."""
        columns = find_columns(sheet)
        if columns is None:
            if any(any(row) for row in sheet.rows):
                self._say("note", workbook, sheet.name, detail="no column of a legend sheet: the sheet is not read")
            return
        missing = [kind for kind in ("legend", "photo") if getattr(columns, kind) < 0]
        header = sheet.rows[columns.header]
        if missing:
            there = ", ".join(cell.text for cell in header if cell)
            detail = f"no column for {' and '.join(missing)}; the columns are: {there}"
            self._say("missing column", workbook, sheet.name, row=columns.header + 1, detail=detail)
        for index, row in enumerate(sheet.rows[columns.header + 1 :], columns.header + 2):
            if not any(row):
                continue
            self.counts["listed"] += 1
            if missing:
                self.counts["missing column"] += 1
            else:
                self._row(workbook, sheet.name, index, row, columns)

    def _row(self, workbook: str, sheet: str, index: int, row: Sequence[Cell | None], columns: Columns) -> None:
        def at(column: int) -> Cell:
            return (row[column] if 0 <= column < len(row) else None) or Cell("", "")

        def leave(kind: str, count: str, detail: str, cell: Cell, suggestion: str = "", name: str = "") -> None:
            self.counts[count] += 1
            self._say(kind, workbook, sheet, index, cell.address, name or cell.text, detail, suggestion)

        page, number, legend = at(columns.page), at(columns.photo), at(columns.legend)
        for cell in (page, number, legend):
            if cell.formula:
                return leave("unsafe cell", "unsafe cell", "the cell holds a formula", cell, "write the text itself")
        for cell in (page, number):
            if climbs(cell.text):
                return leave("unsafe cell", "unsafe cell", "the cell climbs out of the folder", cell, "write a number")
        text = clean_legend(legend.text)
        if not text:
            return leave("left out", "no legend", "the row has no legend", number)
        if number_of(number.text) is None:
            return leave("left out", "no photo number", f"no photo number, legend: {text[:80]}", number)
        return self._named(workbook, sheet, index, (page, number), text, leave)

    def _named(
        self, workbook: str, sheet: str, index: int, cells: tuple[Cell, Cell], legend: str, leave: Callable[..., None]
    ) -> None:
        page, number = cells
        collection = collection_of(workbook, self.patterns)
        pattern = self.patterns.get(collection)
        if pattern is None:
            hint = "set it under [prepare.patterns] in neardup.toml"
            return leave("left out", "no pattern", f"no pattern says how {collection} names its photos", number, hint)
        name = photo_name(pattern, collection, workbook, number_of(page.text), number_of(number.text) or 0)
        if name is None:
            return leave("left out", "no page number", "the photo's name needs a page number", page)
        folder = PurePosixPath(workbook).parent.as_posix()
        found = self.names.find(f"{folder}/{name}" if folder != "." else name)
        if found.photos and not found.ambiguous:
            place = (collection, workbook, sheet, index, str(number_of(page.text) or ""), number.text)
            self.rows.append(LegendRow(found.photos[0], legend, *place))
            return None
        if found.ambiguous:
            places = ", ".join(photo.path for photo in found.photos)
            return leave("ambiguous", "ambiguous", f"different photos of that name: {places}", number, name=name)
        if found.unreadable:
            broken = found.unreadable[0]
            return leave("unreadable", "unreadable", f"{broken.path}: {broken.reason}", number, name=name)
        return leave("not found", "not found", f"not below {folder}; legend: {legend[:80]}", number, name=name)

    def _say(
        self,
        kind: str,
        file: str,
        sheet: str,
        row: int = 0,
        cell: str = "",
        name: str = "",
        detail: str = "",
        suggestion: str = "",
    ) -> None:
        self.lines.append(Discrepancy(kind, file, sheet, row, cell, name, detail, suggestion))

    def training_set(self, test_photos: Sequence[Photo], test_set: TestSet, look_alike_bits: int) -> TrainingSet:
        """The rows whose photo is not in the test set by name, content or looks, each photo once."""
        leak = Leaks(test_photos, test_set, look_alike_bits)
        legends: dict[str, LegendRow] = {}
        for row in self.rows:
            reason = leak.reason(row.photo)
            first = legends.get(row.photo.sha256)
            if reason:
                self.counts[reason[0]] += 1
                self._leave(row, "left out", reason[1])
            elif first is not None:
                self.counts["repeated"] += 1
                kind = "note" if first.legend == row.legend else "contradiction"
                other = f"{first.workbook} row {first.row}"
                said = "the same" if kind == "note" else f"another legend ({first.legend[:80]})"
                self._leave(row, kind, f"the photo has {said} in {other}, which is kept")
            else:
                legends[row.photo.sha256] = row
        self.counts["used"] = len(legends)
        return TrainingSet(tuple(_training_photos(list(legends.values()))))

    def _leave(self, row: LegendRow, kind: str, detail: str) -> None:
        self._say(kind, row.workbook, row.sheet, row.row, "", row.photo.path, detail)


class Leaks:
    """Finds out whether a training photo is in the test set."""

    def __init__(self, test_photos: Sequence[Photo], test_set: TestSet, look_alike_bits: int) -> None:
        """Index the test photos by name, content and looks."""
        self._names = {folded(photo.name): photo.path for photo in test_set.photos}
        self._names |= {folded(PurePosixPath(photo.path).name): photo.path for photo in test_set.photos}
        self._contents = {photo.sha256: photo.path for photo in test_set.photos}
        looks = [photo for photo in test_photos if not flat(photo.phash)]
        self._hashes = bits([photo.phash for photo in looks])
        self._paths = [photo.path for photo in looks]
        self._limit = look_alike_bits

    def reason(self, photo: Photo) -> tuple[str, str] | None:
        """Why the photo must not be trained on, as (short, long), or None."""
        if photo.sha256 in self._contents:
            return "in the test set by content", f"the same bytes are the test photo {self._contents[photo.sha256]}"
        if folded(photo.name) in self._names:
            return "in the test set by name", f"a test photo has this name: {self._names[folded(photo.name)]}"
        if flat(photo.phash) or not len(self._hashes):
            return None
        for look, how in ((photo.phash, "looks like"), (photo.phash_mirrored, "mirrored, looks like")):
            distances = np.bitwise_count(self._hashes ^ bits([look]))
            nearest = int(distances.argmin())
            if distances[nearest] <= self._limit:
                detail = f"{how} the test photo {self._paths[nearest]} ({distances[nearest]} of 64 bits differ)"
                return "in the test set by looks", detail
        return None


def flat(phash: str) -> bool:
    """Whether a perceptual hash is that of an even surface, which looks like every other."""
    ones = int(phash, 16).bit_count()
    return ones < FLAT or ones > 64 - FLAT


def collection_of(workbook: str, patterns: Mapping[str, str]) -> str:
    """The folder on the way to the sheet that has a pattern, else the first folder of its path.

    >>> collection_of("presse/surlevif/1911/1911.xlsx", {"surlevif": "{photo}"})
    'surlevif'
    """
    parts = PurePosixPath(workbook).parts
    return next((part for part in parts[:-1] if part in patterns), parts[0])


def photo_name(pattern: str, collection: str, workbook: str, page: int | None, photo: int) -> str | None:
    """The name of the photo that a row means, or None if the pattern needs the page number that the row lacks.

    Raises:
        ConfigError: the pattern has a field that there is not.
    """
    parts = PurePosixPath(workbook).parts
    issue = parts[-2] if len(parts) > 1 else PurePosixPath(workbook).stem
    if page is None and "{page" in pattern:
        return None
    try:
        return pattern.format(
            collection=collection, issue=issue, page=page, photo=photo, sheet=PurePosixPath(workbook).stem
        )
    except (KeyError, IndexError, ValueError) as error:
        fields = "{collection}, {issue}, {sheet}, {page:02d} and {photo:02d}"
        raise ConfigError(
            f"prepare.patterns: {pattern!r} cannot be filled in ({error}): a pattern may use {fields}"
        ) from None


def _training_photos(rows: Sequence[LegendRow]) -> list[TrainingPhoto]:
    names = distinct_names([row.photo.path for row in rows])
    return [
        TrainingPhoto(
            image_name=name,
            path=row.photo.path,
            sha256=row.photo.sha256,
            legend=row.legend,
            collection=row.collection,
            sheet=row.workbook,
            row=row.row,
            page=row.page,
            photo=row.number,
            phash=row.photo.phash,
        )
        for row, name in zip(rows, names, strict=True)
    ]
