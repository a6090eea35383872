"""The files that a search of a whole collection writes: tables of pairs and groups, pages, counts."""

from collections.abc import Container
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa

from neardup.arrays import Floats, Ints
from neardup.decide.chosen_decision import DECISION
from neardup.decide.group_report import COLUMNS, GroupReport, Member
from neardup.detect.duplicates import Duplicates, LeftOut
from neardup.pages import write_strips
from neardup.search.exact_copies import COPY, KINDS
from neardup.search.pairs import NearPairs
from neardup.stages import claim, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_parquet, write_table
from neardup.verify.store import FACTS
from neardup.words import chance_text

LINKED_ROWS = (
    "Each row is a group in which every two photos are near-duplicates; the figure is the photo's greatest similarity "
    "to another one of its group."
)
"""The page's text about groups that were made by similarity."""
DECIDED_ROWS = (
    "Each row is a group, and its first photo stands for it; the figure is the probability of the photo's strongest "
    "link, with the first photo or with the one that is named."
)
"""The page's text about groups that were made by decisions."""

ASKED_AGAIN = "asked_again.csv"
"""File that lists answered pairs to look at again, in the results folders of `watch` and of `duplicates`."""
OPTIONAL = ("explained.html", "group_report.xlsx", "decoys.csv", ASKED_AGAIN, DECISION)
"""Names of the files that some runs write and others do not."""
LINKS = (
    ("explained.html", "What holds each group together"),
    ("pairs.xlsx", "All pairs"),
    ("groups.xlsx", "All groups"),
    ("unreadable.xlsx", "Files that could not be read"),
)
"""Files that the page links to, each with its content; the first one exists only if pairs were verified."""


def write_duplicates(found: Duplicates, folder: Path) -> None:
    """Write tables, groups, pictures and counts into a results folder, where only an earlier run's evidence remains.

    The counts are written last: where they are missing, a run was killed and the tables may be of two runs.
    """
    claim(folder)
    for name in (FACTS, *OPTIONAL):
        (folder / name).unlink(missing_ok=True)
    rmtree(folder / "explained", ignore_errors=True)
    root, limit = found.collection.folder, found.collection.max_pixels
    _write_pairs(found, folder)
    if found.verified:
        found.verified.write(folder, found.groups, found.reports)
    _write_groups(found, folder)
    if found.decoys:
        found.decoys.write(folder)
    save_rows(folder / "unreadable.csv", LeftOut, found.unreadable)
    left_out = ((file.path, file.reason) for file in found.unreadable)
    write_table(folder / "unreadable.xlsx", ("file", "why it could not be read"), left_out)
    note = DECIDED_ROWS if found.reports else LINKED_ROWS
    links = LINKS[0 if found.verified else 1 :]
    write_strips(folder / "gallery.html", "duplicates", root, _strips(found), found.summary, limit, note, links)
    write_json(folder / FACTS, found.facts())


def _strips(found: Duplicates) -> list[list[tuple[str, str, bool]]]:
    """Make the strips of photos for the page: path, label and no mark for each photo of each group."""
    if found.reports:
        ends = (side[found.kinds == COPY].tolist() for side in (found.pairs.left, found.pairs.right))
        copies = {frozenset(pair) for pair in zip(*ends, strict=True)}
        return [
            [(found.paths[member.photo], _why(found, report, member, copies), False) for member in report.members]
            for report in found.reports
        ]
    best = _best(found.pairs, found.group_of)
    return [[(found.paths[row], f"{best[row]:.3f}", False) for row in rows] for rows in found.groups]


def _why(found: Duplicates, report: GroupReport, member: Member, copies: Container[frozenset[int]]) -> str:
    """Say why a photo is in its group, as the label of its picture; `copies` are the pairs of equal files."""
    if member.because is None:
        because = "by a verdict"
    elif frozenset((member.photo, member.because)) in copies:
        because = "exact copy"
    else:
        because = chance_text(member.probability)
    if member.because is not None and report.reference not in {member.because, member.photo}:
        because += f" with {Path(found.paths[member.because]).name}"
    return f"reference, {because}" if member.photo == report.reference else because


def _write_pairs(found: Duplicates, folder: Path) -> None:
    """Write every pair as Parquet, and the pairs that people are shown as a workbook, as many as Excel holds.

    Exact copies, which are certain, come first, then the other pairs by probability. In the workbook, the columns that
    people read come first and the digests, by which verdicts identify photos, last.
    """
    columns: dict[str, list[Any]] = {
        "photo": [found.paths[row] for row in found.pairs.left.tolist()],
        "partner": [found.paths[row] for row in found.pairs.right.tolist()],
        "group": _groups_of_pairs(found),
        "similarity": found.pairs.similarities.tolist(),
        "kind": [KINDS[kind] for kind in found.kinds.tolist()],
        **(found.verified.columns() if found.verified else {}),
    }
    order = np.arange(len(found.kinds))
    if found.verified:
        certain = np.nan_to_num(found.verified.probabilities, nan=np.inf)
        order = np.lexsort((order, -certain))
    numbers = pa.array(columns["group"], pa.int64())  # where no pair has one, too
    write_parquet(folder / "pairs.parquet", pa.table(columns | {"group": numbers}).take(pa.array(order)))
    listed = order[found.verified.shown[order]] if found.verified else order
    chosen = listed[:SHEET_ROWS].tolist()
    names = sorted(columns, key=lambda name: (name.endswith("sha256"), name in {"similarity", "kind", "inliers"}))
    sheet = {name: [columns[name][place] for place in chosen] for name in names}
    sheet["similarity"] = np.round(sheet["similarity"], 6).tolist()
    write_table(folder / "pairs.xlsx", tuple(sheet), zip(*sheet.values(), strict=True))


def _groups_of_pairs(found: Duplicates) -> list[int | None]:
    """Number of the group that holds both photos of each pair, as `_write_groups` counts them; None where none does."""
    numbers = np.zeros(len(found.paths), np.int64)
    for number, group in enumerate(found.groups, 1):
        numbers[group] = number
    left, right = numbers[found.pairs.left], numbers[found.pairs.right]
    return [number or None for number in np.where(left == right, left, 0).tolist()]


def _write_groups(found: Duplicates, folder: Path) -> None:
    """Write one row per photo as Parquet, and one row per group as a workbook, as many as Excel holds."""
    rows = [(number, row) for number, group in enumerate(found.groups, 1) for row in group]
    first = dict(
        zip(*(side[found.kinds == COPY].tolist() for side in (found.pairs.right, found.pairs.left)), strict=True)
    )
    columns = {
        "group": pa.array([number for number, _ in rows], pa.int64()),
        "photo": pa.array([found.paths[row] for _, row in rows], pa.string()),
        "exact_copy_of": pa.array([found.paths[first[row]] if row in first else None for _, row in rows], pa.string()),
    }
    reported = [row for report in found.reports for row in report.rows(found.paths)]
    for place, name in enumerate(COLUMNS[2:] if reported else (), 2):
        columns[name.replace(" ", "_")] = pa.array([row[place] for row in reported])
    write_parquet(folder / "groups.parquet", pa.table(columns))
    if reported:
        write_table(folder / "group_report.xlsx", COLUMNS, reported)
    names = [[found.paths[row] for row in group] for group in found.groups]
    write_table(folder / "groups.xlsx", (), names, header=False)


def _best(pairs: NearPairs, group_of: Ints) -> Floats:
    """Compute each row's greatest similarity to another row of its group, float64 (n,); 0 where there is none."""
    inside = pairs.take(group_of[pairs.left] == group_of[pairs.right])
    best = np.zeros(len(group_of))
    for side in (inside.left, inside.right):
        np.maximum.at(best, side, inside.similarities)
    return best
