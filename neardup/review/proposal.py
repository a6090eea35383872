"""The historian's ground truth as the verdicts would have it: old rows kept, and every change coloured and explained."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xlsxwriter

from neardup.archive.groundtruth import Mention
from neardup.archive.names import Names
from neardup.archive.scan import Archive
from neardup.review.links import Links, Pair
from neardup.review.verdicts import Verdict
from neardup.stages import replacing
from neardup.tables import AS_TEXT, CREATED, encodable

COLOURS = {"kept": "", "new": "#c6efce", "moved": "#ffeb9c", "left": "#f8cbad"}
"""Background of a cell by what happened there: nothing, a photo that was in no row, one of another row, one that left."""
Place = tuple[str, int]
"""Sheet and row of the ground truth, as Excel counts; the cells of one place are a group."""


@dataclass(frozen=True)
class ProposedCell:
    """One cell of the proposal: its text, one of `COLOURS`, and why it is there; a blank one tells why a row is empty."""

    text: str
    kind: str = "kept"
    reason: str = ""


@dataclass
class _Group:
    """A group while it is put together: where its row is, None for a new one, and the photos that belong to it."""

    home: Place | None
    photos: list[str] = field(default_factory=list)


def propose(mentions: Sequence[Mention], archive: Archive, links: Links) -> dict[str, dict[int, list[ProposedCell]]]:
    """Change the rows of the ground truth as the verdicts say.

    A photo that is the same as one of a row joins that row; two rows become one where a photo of each is the same, and
    the later one is left empty, so that all other rows keep their numbers; a photo that differs from one before it in
    its row leaves for a row of its own; and photos of no row that are the same get a new one, below all others. A cell
    that means no photo stays as it is.

    Args:
        mentions: the cells of the ground truth.
        archive: as scanned; photos that are no longer there are not proposed.
        links: what follows from the verdicts.

    Returns:
        Sheet → row → cells; rows without a cell lack.
    """
    names = Names(archive)
    path_of = {photo.sha256: photo.path for photo in reversed(archive.photos)}
    meant = [_photo(mention, names) for mention in mentions]
    rows: defaultdict[Place, list[str]] = defaultdict(list)
    first: dict[str, Mention] = {}
    for mention, photo in zip(mentions, meant, strict=True):
        rows[mention.sheet, mention.row] += [photo] if photo else []
        if photo:
            first.setdefault(photo, mention)
    groups = _groups(rows, links, path_of)
    group_of = {photo: group for group in groups for photo in group.photos}
    explain = _Explained(links, {photo: names.shortest(path) for photo, path in path_of.items()})
    cells: defaultdict[str, defaultdict[int, list[ProposedCell]]] = defaultdict(lambda: defaultdict(list))
    for mention, photo in zip(mentions, meant, strict=True):
        here, stays = (mention.sheet, mention.row), True
        if photo:
            stays = group_of[photo].home == here and first[photo].row == mention.row
        if stays:
            cells[mention.sheet][mention.row].append(ProposedCell(mention.cell.text))
    sheet = mentions[0].sheet if mentions else "Sheet"
    below = max((row for name, row in rows if name == sheet), default=0)
    for group in groups:
        if group.home is None:
            below += 1
        home = group.home or (sheet, below)
        for photo in group.photos:
            before = first.get(photo)
            if before is None or (before.sheet, before.row) != home:
                kind = "moved" if before else "new"
                text = before.cell.text if before else names.shortest(path_of[photo])
                came = f" (was in {before.sheet} row {before.row})" if before else ""
                cells[home[0]][home[1]].append(
                    ProposedCell(text, kind, f"{kind}{came}: {explain.of(photo, group.photos)}")
                )
                if before:
                    reason = f"{before.cell.text} is now in {home[0]} row {home[1]}: {explain.of(photo, rows[before.sheet, before.row])}"
                    cells[before.sheet][before.row].append(ProposedCell("", "left", reason))
    return {name: {row: _tidy(found) for row, found in sorted(by_row.items())} for name, by_row in cells.items()}


def _tidy(cells: Sequence[ProposedCell]) -> list[ProposedCell]:
    """The cells of a row, with all departures told in one blank cell at its end."""
    left = [cell.reason for cell in cells if cell.kind == "left"]
    kept = [cell for cell in cells if cell.kind != "left"]
    return kept + ([ProposedCell("", "left", "\n".join(left))] if left else [])


def _photo(mention: Mention, names: Names) -> str:
    """SHA-256 of the photo that a cell means; nothing where it means none, or nobody knows which."""
    if mention.cell.formula:
        return ""
    found = names.find(mention.cell.text)
    return found.photos[0].sha256 if found.photos and not found.ambiguous else ""


def _groups(rows: Mapping[Place, Sequence[str]], links: Links, path_of: Mapping[str, str]) -> list[_Group]:
    """The groups as the verdicts would have them: those of rows in their order, then new ones."""
    unit_of = _units(links.must, path_of)
    apart: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in links.cannot:
        apart[one].add(other)
        apart[other].add(one)
    groups: list[_Group] = []
    placed: dict[str, _Group] = {}
    for place, photos in rows.items():
        targets = list(dict.fromkeys(id(placed[photo]) for photo in photos if photo in placed))
        possible = [group for number in targets for group in groups if id(group) == number]
        for photo in photos:
            if photo in placed:
                continue
            unit = unit_of.get(photo, [photo])
            group = next((g for g in possible if not any(apart[p] & set(g.photos) for p in unit)), None)
            if group is None:
                group = _Group(None if any(g.home == place for g in groups) else place)
                groups.append(group)
                possible.append(group)
            group.photos += unit
            placed |= dict.fromkeys(unit, group)
    for photo, unit in unit_of.items():
        if photo not in placed:
            group = _Group(None, list(unit))
            groups.append(group)
            placed |= dict.fromkeys(unit, group)
    return groups


def _units(must: Iterable[Pair], path_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Photo → all photos of the archive that are the same by some chain of verdicts, in the order of their paths."""
    unit_of: dict[str, list[str]] = {}
    for one, other in must:
        if one not in path_of or other not in path_of:
            continue
        left, right = unit_of.get(one, [one]), unit_of.get(other, [other])
        joined = left if left is right else sorted(left + right, key=lambda photo: path_of[photo])
        unit_of |= dict.fromkeys(joined, joined)
    return unit_of


@dataclass(frozen=True)
class _Explained:
    """Why a photo belongs to others or not, in the words of the verdicts."""

    links: Links
    names: Mapping[str, str]

    def of(self, photo: str, others: Iterable[str]) -> str:
        """The verdicts on a photo and any of some others."""
        pairs = [(min(photo, other), max(photo, other)) for other in others if other != photo]
        found = [self._words(photo, verdict) for pair in pairs if (verdict := self.links.decided.get(pair))]
        return "; ".join(dict.fromkeys(found)) or "it goes with the photos of its row"

    def _words(self, photo: str, verdict: Verdict) -> str:
        other = verdict.second if verdict.first == photo else verdict.first
        note = f" ({verdict.note})" if verdict.note else ""
        relation = f", {verdict.relation}" if verdict.relation else ""
        name = self.names.get(other, other[:12])
        link = "as" if verdict.verdict == "same" else "from" if verdict.verdict == "different" else "with"
        return f"{verdict.verdict} {link} {name}{relation}, says {verdict.who} on {verdict.time[:10]}{note}"


def write_proposal(path: Path, sheets: Mapping[str, Mapping[int, Sequence[ProposedCell]]]) -> Path:
    """Write the proposal in the historian's own format: a row a group; colours and comments tell what is new.

    Args:
        path: the .xlsx file.
        sheets: as `propose` gives them.
    """
    with replacing(path) as partial:
        workbook = xlsxwriter.Workbook(str(partial), dict(AS_TEXT))
        workbook.set_properties({"created": CREATED})
        forms = {kind: workbook.add_format({"bg_color": colour} if colour else {}) for kind, colour in COLOURS.items()}
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for row, cells in rows.items():
                for column, cell in enumerate(cells):
                    if cell.text:
                        sheet.write_string(row - 1, column, encodable(cell.text), forms[cell.kind])
                    else:
                        sheet.write_blank(row - 1, column, None, forms[cell.kind])
                    if cell.reason:
                        options = {"x_scale": 2, "y_scale": 1.5, "author": "neardup"}
                        sheet.write_comment(row - 1, column, encodable(cell.reason)[:1000], options)
            sheet.set_column(0, 15, 34)
        workbook.close()
    return path
