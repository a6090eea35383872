"""Decide which photos the sheets mean: resolve names, contradictions and leaks, and count every decision."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from openpyxl.utils.cell import coordinate_to_tuple

from neardup.archive.discrepancies import Discrepancy
from neardup.archive.groundtruth import Mention
from neardup.archive.leaks import Leaks
from neardup.archive.legends import LegendRow, LegendSheet, clean_legend, number_of
from neardup.archive.names import NameMatch, Names, climbs, distinct_names, folded
from neardup.archive.scan import Photo
from neardup.archive.sheets import Cell
from neardup.archive.testset import TestPhoto, TestSet
from neardup.archive.trainingset import TrainingPhoto, TrainingSet
from neardup.archive.walk import composed
from neardup.errors import ConfigError


@dataclass(frozen=True)
class ResolvedGroups:
    """The test set with discrepancies; `counts` holds `listed`, `used` and each reason why a cell is not used."""

    test_set: TestSet
    discrepancies: tuple[Discrepancy, ...]
    counts: Counter[str]


@dataclass(frozen=True)
class ResolvedLegends:
    """The training set with discrepancies; `counts` holds `listed`, `used` and each reason why a row is not used."""

    training_set: TrainingSet
    discrepancies: tuple[Discrepancy, ...]
    counts: Counter[str]


@dataclass(frozen=True)
class _Refusal:
    """Why a cell or a row is not used.

    Attributes:
        kind: one of `neardup.archive.discrepancies.KINDS`.
        detail: what is wrong.
        suggestion: what may be meant or done, or empty.
        reason: name under which it is counted, if that is not the kind.
        cell: the cell at fault; in the ground truth, the only one.
        name: the name that was looked for, if the cell does not hold it.
    """

    kind: str
    detail: str
    suggestion: str = ""
    reason: str = ""
    cell: Cell | None = None
    name: str = ""


def resolve_groups(mentions: Sequence[Mention], names: Names) -> ResolvedGroups:
    """Resolve every cell of the ground truth; a group is a row that keeps at least one photo.

    A cell is used, or counted under the reason why it is not; a photo that stands in two rows is a contradiction and is
    in neither group.
    """
    counts: Counter[str] = Counter({"listed": len(mentions)})
    lines: list[Discrepancy] = []
    resolved: list[tuple[Mention, Photo]] = []
    for mention in mentions:
        resolution = _resolve(mention.cell, names)
        if isinstance(resolution, _Refusal):
            counts[resolution.kind] += 1
            lines.append(_line_of_mention(mention, resolution.kind, resolution.detail, resolution.suggestion))
            continue
        photo, note = resolution
        resolved.append((mention, photo))
        if note:
            lines.append(_line_of_mention(mention, "note", note))
    used = _without_repeats(resolved, counts, lines)
    counts["used"] = len(used)
    rows = {(mention.sheet, mention.row) for mention, _ in resolved}
    if 1 < len(resolved) == len(rows):
        detail = "no row names two photos, so that there is no group to measure by"
        advice = "write all names of a group into one row, or merge the cells of its number over its rows"
        lines.append(Discrepancy("ambiguous", mentions[0].workbook, detail=detail, suggestion=advice))
    return ResolvedGroups(_test_set(used), tuple(lines), counts)


def _line_of_mention(mention: Mention, kind: str, detail: str, suggestion: str = "") -> Discrepancy:
    cell = mention.cell
    row, _ = coordinate_to_tuple(cell.address)
    return Discrepancy(kind, mention.workbook, mention.sheet, row, cell.address, cell.text, detail, suggestion)


def _resolve(cell: Cell, names: Names) -> tuple[Photo, str] | _Refusal:
    """Find the photo that a cell of the ground truth means, with a note if needed; or the reason why it means none."""
    unsafe = _formula(cell, "write the name itself") or _climbing(
        cell, "archive", "write the name of a photo of the archive"
    )
    if unsafe:
        return unsafe
    match = names.find(cell.text)
    photo = _one_photo(match, "write the folder before the name", "replace the file")
    if photo is None and names.listed(cell.text):
        return _Refusal("not found", "the cell holds several names", "write each name into a cell of its own")
    if photo is None:
        near = names.suggest(cell.text)
        return _Refusal("not found", "no photo of that name is in the archive", f"is {near} meant?" if near else "")
    if isinstance(photo, _Refusal):
        return photo
    if len(match.photos) > 1:
        return photo, f"equal bytes in {_places(match)}: one photo"
    namesakes = names.find(PurePosixPath(photo.path).stem).photos
    by_folder = folded(photo.name) != folded(cell.text) and len(namesakes) > 1
    return photo, f"resolved by the folder to {photo.path}" if by_folder else ""


def _formula(cell: Cell, suggestion: str) -> _Refusal | None:
    return _Refusal("unsafe cell", "the cell holds a formula", suggestion, cell=cell) if cell.formula else None


def _climbing(cell: Cell, out_of: str, suggestion: str) -> _Refusal | None:
    detail = f"the cell climbs out of the {out_of}"
    return _Refusal("unsafe cell", detail, suggestion, cell=cell) if climbs(cell.text) else None


def _one_photo(match: NameMatch, if_ambiguous: str = "", if_unreadable: str = "") -> Photo | _Refusal | None:
    """Return the photo that was found, or why it is not a single readable photo; None if nothing was found."""
    if match.ambiguous:
        return _Refusal("ambiguous", f"different photos of that name: {_places(match)}", if_ambiguous)
    if match.photos:
        return match.photos[0]
    if match.unreadable:
        broken = match.unreadable[0]
        return _Refusal("unreadable", f"{broken.path}: {broken.reason}", if_unreadable)
    return None


def _places(match: NameMatch) -> str:
    return ", ".join(photo.path for photo in match.photos)


def _without_repeats(
    resolved: Sequence[tuple[Mention, Photo]], counts: Counter[str], lines: list[Discrepancy]
) -> list[tuple[Mention, Photo]]:
    """Drop the photos that stand in two rows, and the second mention of a photo within a row."""
    rows: defaultdict[str, dict[tuple[str, int], None]] = defaultdict(dict)
    for mention, photo in resolved:
        rows[photo.sha256][mention.sheet, mention.row] = None
    used: list[tuple[Mention, Photo]] = []
    seen: set[str] = set()
    for mention, photo in resolved:
        if len(rows[photo.sha256]) > 1:
            counts["contradiction"] += 1
            places = ", ".join(f"{sheet} row {row}" for sheet, row in rows[photo.sha256])
            detail = f"the photo stands in {places}: it is in no group"
            lines.append(_line_of_mention(mention, "contradiction", detail, "keep it in one row, or join the rows"))
        elif photo.sha256 in seen:
            counts["repeated"] += 1
            detail = f"the row names this photo twice ({photo.path}): it is taken once"
            lines.append(_line_of_mention(mention, "note", detail))
        else:
            seen.add(photo.sha256)
            used.append((mention, photo))
    return used


def _test_set(used: Sequence[tuple[Mention, Photo]]) -> TestSet:
    numbers: dict[tuple[str, int], int] = {}
    names = distinct_names([photo.path for _, photo in used])
    return TestSet(
        tuple(
            TestPhoto(
                name=name,
                path=photo.path,
                sha256=photo.sha256,
                group=numbers.setdefault((mention.sheet, mention.row), len(numbers) + 1),
                row=mention.row,
                sheet=mention.sheet,
            )
            for (mention, photo), name in zip(used, names, strict=True)
        )
    )


def resolve_legends(
    sheets: Sequence[LegendSheet], names: Names, patterns: Mapping[str, str], leaks: Leaks
) -> ResolvedLegends:
    """Resolve every row of the legend sheets; photos that leak the test set are left out, the others are taken once.

    Args:
        sheets: the parsed sheets.
        names: the names of the archive.
        patterns: collection → pattern of the names of its photos.
        leaks: finds photos that are in the test set, or named by the ground truth.

    Raises:
        ConfigError: a pattern has an unknown field.
    """
    counts: Counter[str] = Counter()
    lines: list[Discrepancy] = []
    first: dict[str, tuple[LegendRow, Photo]] = {}
    for sheet in sheets:
        lines += sheet.discrepancies
        counts["listed"] += len(sheet.rows) + sheet.unusable
        if sheet.unusable:
            counts["missing column"] += sheet.unusable
        for row in sheet.rows:
            resolution = _photo_of(row, names, patterns)
            if isinstance(resolution, Photo):
                resolution = _refused_photo(row, resolution, leaks, first) or resolution
            if isinstance(resolution, Photo):
                first[resolution.sha256] = row, resolution
            else:
                counts[resolution.reason or resolution.kind] += 1
                lines.append(_line_of_row(row, resolution))
    counts["used"] = len(first)
    return ResolvedLegends(_training_set(list(first.values()), patterns), tuple(lines), counts)


def _line_of_row(row: LegendRow, refusal: _Refusal) -> Discrepancy:
    cell = refusal.cell or row.photo
    name = refusal.name or cell.text
    return Discrepancy(
        refusal.kind, row.workbook, row.sheet, row.row, cell.address, name, refusal.detail, refusal.suggestion
    )


def _photo_of(row: LegendRow, names: Names, patterns: Mapping[str, str]) -> Photo | _Refusal:
    """Find the photo that a row of a legend sheet means, or the reason why it means none."""
    if refusal := _incomplete(row):
        return refusal
    collection = collection_of(row.workbook, patterns)
    pattern = _pattern_of(collection, patterns)
    if pattern is None:
        detail = f"no pattern says how {collection} names its photos"
        return _Refusal("left out", detail, "set it under [prepare.patterns] in neardup.toml", "no pattern")
    name = photo_name(pattern, collection, row.workbook, number_of(row.page.text), number_of(row.photo.text) or 0)
    if name is None:
        return _Refusal("left out", "the photo's name needs a page number", reason="no page number", cell=row.page)
    folder = PurePosixPath(row.workbook).parent.as_posix()
    photo = _one_photo(names.find(name) if folder == "." else names.find(f"{folder}/{name}", from_root=True))
    if isinstance(photo, Photo):
        return photo
    not_found = _Refusal("not found", f"not below {folder}; legend: {clean_legend(row.legend.text)[:80]}")
    return replace(photo or not_found, name=name)


def _incomplete(row: LegendRow) -> _Refusal | None:
    """Say why a row cannot be used whatever photos exist: an unsafe cell, no legend, no photo number."""
    for cell in (row.page, row.photo, row.legend):
        if refusal := _formula(cell, "write the text itself"):
            return refusal
    for cell in (row.page, row.photo):
        if refusal := _climbing(cell, "folder", "write a number"):
            return refusal
    legend = clean_legend(row.legend.text)
    if not legend:
        return _Refusal("left out", "the row has no legend", reason="no legend")
    if number_of(row.photo.text) is None:
        return _Refusal("left out", f"no photo number, legend: {legend[:80]}", reason="no photo number")
    return None


def _refused_photo(
    row: LegendRow, photo: Photo, leaks: Leaks, first: Mapping[str, tuple[LegendRow, Photo]]
) -> _Refusal | None:
    """Say why the photo of a row is not used: it leaks the test set, or an earlier row has it; None if it is used."""
    if leak := leaks.reason(photo):
        reason, detail = leak
        return _Refusal("left out", detail, reason=reason, name=photo.path)
    if photo.sha256 not in first:
        return None
    earlier = first[photo.sha256][0]
    kept_legend, legend = clean_legend(earlier.legend.text), clean_legend(row.legend.text)
    difference = "the same" if kept_legend == legend else f"another legend ({kept_legend[:80]})"
    detail = (
        f"the photo has {difference} in {earlier.workbook}, sheet {earlier.sheet}, row {earlier.row}, which is kept"
    )
    return _Refusal("note" if kept_legend == legend else "contradiction", detail, reason="repeated", name=photo.path)


def collection_of(workbook: str, patterns: Mapping[str, str]) -> str:
    """Find the folder in a sheet's path that has a pattern, or else the first folder of the path.

    >>> collection_of("presse/surlevif/1911/1911.xlsx", {"surlevif": "{photo}"})
    'surlevif'
    """
    parts = PurePosixPath(workbook).parts
    return next((part for part in parts[:-1] if _pattern_of(part, patterns) is not None), parts[0])


def _pattern_of(collection: str, patterns: Mapping[str, str]) -> str | None:
    """Look up the pattern of a folder, however the accents of both are composed."""
    return next((pattern for name, pattern in patterns.items() if composed(name) == composed(collection)), None)


def photo_name(pattern: str, collection: str, workbook: str, page: int | None, photo: int) -> str | None:
    """Make the name of the photo that a row means; None if the pattern needs a page number that the row lacks.

    Raises:
        ConfigError: the pattern has an unknown field.
    """
    parts = PurePosixPath(workbook).parts
    issue = parts[-2] if len(parts) > 1 else PurePosixPath(workbook).stem
    if page is None and "{page" in pattern:
        return None
    try:
        return pattern.format(
            collection=collection, issue=issue, page=page, photo=photo, sheet=PurePosixPath(workbook).stem
        )
    except (AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError) as error:
        fields = "{collection}, {issue}, {sheet}, {page:02d} and {photo:02d}"
        raise ConfigError(
            f"prepare.patterns: {pattern!r} cannot be filled in ({error}): a pattern may use {fields}"
        ) from None


def _training_set(used: Sequence[tuple[LegendRow, Photo]], patterns: Mapping[str, str]) -> TrainingSet:
    names = distinct_names([photo.path for _, photo in used])
    return TrainingSet(
        tuple(
            TrainingPhoto(
                image_name=name,
                path=photo.path,
                sha256=photo.sha256,
                legend=clean_legend(row.legend.text),
                collection=collection_of(row.workbook, patterns),
                workbook=row.workbook,
                sheet=row.sheet,
                row=row.row,
                page="" if (page := number_of(row.page.text)) is None else str(page),
                photo=row.photo.text,
                phash=photo.phash,
                phash_mirrored=photo.phash_mirrored,
            )
            for (row, photo), name in zip(used, names, strict=True)
        )
    )
