"""A proposal of the historian's ground truth by the verdicts: old rows are kept, changes coloured and explained."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import xlsxwriter

from neardup.archive.groundtruth import Mention, parse_ground_truth
from neardup.archive.names import Names
from neardup.archive.prepare import check_archive, find_ground_truth
from neardup.archive.scan import Archive, scan_archive
from neardup.archive.sheets import read_workbook
from neardup.measure.distractors import archive_of
from neardup.review.record.links import Links, Pair
from neardup.review.record.verdicts import Verdict
from neardup.stages import STATE, replacing
from neardup.tables import AS_TEXT, CREATED, encodable, write_text
from neardup.verify.evidence import ordered

COLOURS = {"kept": "", "new": "#c6efce", "moved": "#ffeb9c", "left": "#f8cbad"}
"""Background of a cell by what happened: nothing, a photo of no row, one of another row, one that left."""
LONGEST_TITLE = 31
"""Most letters that Excel allows in a sheet's name; no two names may differ by case alone."""
Place = tuple[str, int]
"""Sheet and row of the ground truth, as Excel counts; the cells of one place are a group."""


@dataclass(frozen=True)
class ProposedCell:
    """One cell of the proposal: its text, one of `COLOURS`, and the reason; a blank cell says what left the row."""

    text: str
    kind: str = "kept"
    reason: str = ""


@dataclass
class _Group:
    """A group under construction: its row, None for a new one, and its photos."""

    home: Place | None
    photos: list[str] = field(default_factory=list)


def propose(
    mentions: Sequence[Mention],
    archive: Archive,
    links: Links,
    probability: Mapping[Pair, float] = MappingProxyType({}),
) -> dict[str, dict[int, list[ProposedCell]]]:
    """Change the rows of the ground truth as the verdicts say.

    A photo that is the same as one of a row joins that row. Two rows with photos that are the same are joined, and the
    later one is left empty, so that all other rows keep their numbers. A row of which two photos differ is divided:
    each of its other photos goes with the one that it is likelier the same as, and the smaller part moves to a row of
    its own. Photos in no row that are the same get a new row, below all others. A cell that means no photo is kept, and
    so is the second cell of a photo while its row holds others: sharing a name does not join rows.

    Args:
        mentions: the cells of the ground truth.
        archive: the scanned archive; photos that no longer exist are not proposed.
        links: what follows from the verdicts.
        probability: pair → that it shows one picture, of the pairs that a search found; only divided rows need it.

    Returns:
        Sheet → row → cells; rows without cells are missing.
    """
    names = Names(archive)
    path_of = {photo.sha256: photo.path for photo in reversed(archive.photos)}
    named = [(mention, _photo(mention, names)) for mention in mentions]
    rows: defaultdict[Place, list[str]] = defaultdict(list)
    first: dict[str, Mention] = {}
    for mention, photo in named:
        again = bool(photo) and first.setdefault(photo, mention) is not mention
        rows[mention.sheet, mention.row] += [photo] if photo and not again else []
    groups = _groups(rows, links, path_of, probability)
    home_of = {photo: home for home, photos in _homes(groups, rows) for photo in photos}
    at_home = set(home_of.values())
    proposed = _Cells(rows, first, _Explained(links, {photo: names.shortest(path) for photo, path in path_of.items()}))
    for mention, photo in named:
        here = (mention.sheet, mention.row)
        left = home_of.get(photo) != here if photo in rows[here] else bool(rows[here]) and here not in at_home
        if not photo or not left:
            proposed.keep(mention)
    for home, photos in _homes(groups, rows):
        for photo in photos:
            proposed.place(photo, home, photos)
    sheets: dict[str, dict[int, list[ProposedCell]]] = {}
    for (name, row), row_cells in sorted(proposed.cells.items()):
        sheets.setdefault(name, {})[row] = _tidy(row_cells)
    return sheets


def _homes(groups: Sequence["_Group"], rows: Mapping[Place, Sequence[str]]) -> list[tuple[Place, list[str]]]:
    """Where each group's row is; new groups stand below all rows of the first sheet."""
    sheet = next(iter(rows), ("Sheet", 0))[0]
    below = max((row for name, row in rows if name == sheet), default=0)
    homes = []
    for group in groups:
        below += group.home is None
        homes.append((group.home or (sheet, below), group.photos))
    return homes


def _tidy(cells: Sequence[ProposedCell]) -> list[ProposedCell]:
    """Combine all departures from a row in one blank cell at its end."""
    left = [cell.reason for cell in cells if cell.kind == "left"]
    kept = [cell for cell in cells if cell.kind != "left"]
    return kept + ([ProposedCell("", "left", "\n".join(left))] if left else [])


def _photo(mention: Mention, names: Names) -> str:
    """Find the SHA-256 of the photo that a cell means; empty if it means none, or several."""
    if mention.cell.formula:
        return ""
    found = names.find(mention.cell.text)
    return found.photos[0].sha256 if found.photos and not found.ambiguous else ""


def _groups(
    rows: Mapping[Place, Sequence[str]], links: Links, path_of: Mapping[str, str], probability: Mapping[Pair, float]
) -> list[_Group]:
    """The groups as the verdicts would have them: those of rows in their order, then new ones.

    Of a row that is divided, the photos that are known to differ come first, so that each other one finds its part.
    """
    unit_of = _units(links.must, path_of)
    apart: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in links.cannot:
        apart[one].add(other)
        apart[other].add(one)
    groups: list[_Group] = []
    placed: dict[str, _Group] = {}
    for place, photos in rows.items():
        possible = list({id(placed[photo]): placed[photo] for photo in photos if photo in placed}.values())
        there = len(possible)
        for photo in sorted(photos, key=lambda photo: not apart[photo] & set(photos)):
            if photo in placed:
                continue
            unit = unit_of.get(photo, [photo])
            fitting = [group for group in possible if not any(apart[one] & set(group.photos) for one in unit)]
            if not fitting:
                fitting = [_Group(None)]
                groups += fitting
                possible += fitting
            group = max(fitting, key=partial(_likeliest, unit, probability))
            group.photos += unit
            placed |= dict.fromkeys(unit, group)
        if added := possible[there:]:
            max(added, key=lambda group: len(set(group.photos) & set(photos))).home = place
    for photo, unit in unit_of.items():
        if photo not in placed:
            group = _Group(None, list(unit))
            groups.append(group)
            placed |= dict.fromkeys(unit, group)
    return groups


def _likeliest(unit: Sequence[str], probability: Mapping[Pair, float], group: _Group) -> float:
    """The greatest probability that a photo of a unit and one of a group show one picture; 0 where none is known."""
    return max((probability.get(ordered(one, other), 0.0) for one in unit for other in group.photos), default=0.0)


def _units(must: Iterable[Pair], path_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Map each photo to all photos of the archive that are the same by a chain of verdicts, sorted by path."""
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
    """Explanations of why a photo belongs to others or not, from the verdicts."""

    links: Links
    names: Mapping[str, str]

    def of(self, photo: str, others: Iterable[str]) -> str:
        """The verdicts on a photo and any of some others."""
        pairs = [ordered(photo, other) for other in others if other != photo]
        sentences = [self._words(photo, verdict) for pair in pairs if (verdict := self.links.decided.get(pair))]
        return "; ".join(dict.fromkeys(sentences)) or "it goes with the photos of its row"

    def _words(self, photo: str, verdict: Verdict) -> str:
        """Say what a verdict says about a photo and its partner, who said it and when."""
        other = verdict.second if verdict.first == photo else verdict.first
        note = f" ({verdict.note})" if verdict.note else ""
        relation = f", {verdict.relation}" if verdict.relation else ""
        name = self.names.get(other, other[:12])
        link = "as" if verdict.verdict == "same" else "from" if verdict.verdict == "different" else "with"
        return f"{verdict.verdict} {link} {name}{relation}, says {verdict.who} on {verdict.time[:10]}{note}"


@dataclass(frozen=True)
class _Cells:
    """The cells of the proposal under construction."""

    rows: Mapping[Place, Sequence[str]]
    """Row of the ground truth → the photos that it is the first to name."""
    first: Mapping[str, Mention]
    """Photo → the first cell of the ground truth that means it."""
    explain: _Explained
    cells: defaultdict[Place, list[ProposedCell]] = field(default_factory=lambda: defaultdict(list))
    """Row of the proposal → its cells."""

    def keep(self, mention: Mention) -> None:
        """Write a cell of the ground truth to its old row."""
        self.cells[mention.sheet, mention.row].append(ProposedCell(mention.cell.text))

    def place(self, photo: str, home: Place, photos: Sequence[str]) -> None:
        """Write a photo into its new row, and the reason for its leaving into the old one.

        Args:
            photo: SHA-256; one that was in this row before needs no new cell.
            home: the row.
            photos: all photos of the row.
        """
        before = self.first.get(photo)
        if before is None:
            reason = f"new: {self.explain.of(photo, photos)}"
            self.cells[home].append(ProposedCell(self.explain.names[photo], "new", reason))
            return
        old = before.sheet, before.row
        if old == home:
            return
        joined = set(photos) - {photo} - set(self.rows[old])
        why = self.explain.of(photo, photos if joined else self.rows[old])
        text = before.cell.text
        self.cells[home].append(ProposedCell(text, "moved", f"moved, was in {before.sheet} row {before.row}: {why}"))
        self.cells[old].append(ProposedCell("", "left", f"{text} is now in {home[0]} row {home[1]}: {why}"))


def write_proposal(path: Path, sheets: Mapping[str, Mapping[int, Sequence[ProposedCell]]]) -> Path:
    """Write the proposal in the historian's own format, one row per group, with colours and comments for changes.

    Args:
        path: the .xlsx file.
        sheets: as `propose` gives them.
    """
    with replacing(path) as partial:
        workbook = xlsxwriter.Workbook(str(partial), dict(AS_TEXT))
        workbook.set_properties({"created": CREATED})
        forms = {kind: workbook.add_format({"bg_color": colour} if colour else {}) for kind, colour in COLOURS.items()}
        for name, rows in zip(_titles(sheets), sheets.values(), strict=True):
            sheet = workbook.add_worksheet(name)
            for row, cells in rows.items():
                for column, cell in enumerate(cells):
                    if cell.text:
                        write_text(sheet, row - 1, column, cell.text, forms[cell.kind])
                    else:
                        sheet.write_blank(row - 1, column, None, forms[cell.kind])
                    if cell.reason:
                        options = {"x_scale": 2, "y_scale": 1.5, "author": "neardup"}
                        sheet.write_comment(row - 1, column, encodable(cell.reason)[:1000], options)
            sheet.set_column(0, 15, 34)
        workbook.close()
    return path


def _titles(names: Iterable[str]) -> list[str]:
    """Names of sheets as Excel takes them: LibreOffice allows more letters than Excel does."""
    titles: list[str] = []
    for name in names:
        title, number = name[:LONGEST_TITLE], 1
        while title.casefold() in map(str.casefold, titles):
            number += 1
            title = f"{name[: LONGEST_TITLE - 1 - len(str(number))]} {number}"
        titles.append(title)
    return titles


def propose_rows(
    out: Path, links: Links, probability: Mapping[Pair, float] = MappingProxyType({})
) -> dict[str, dict[int, list[ProposedCell]]]:
    """Change the ground truth of the archive that was prepared into an output folder, as the verdicts say.

    Args:
        out: the output folder, which remembers the archive and how it was read.
        links: what follows from the verdicts.
        probability: as in `propose`.

    Raises:
        ArchiveError: nothing was prepared there, or the archive or its ground truth is gone.
    """
    root, settings = archive_of(out, "whose ground truth is to be changed")
    check_archive(root, out, settings)
    archive = scan_archive(root, settings, out / STATE / "scan.parquet")
    workbook = find_ground_truth(root, settings)
    return propose(parse_ground_truth(workbook, read_workbook(root / workbook)), archive, links, probability)
