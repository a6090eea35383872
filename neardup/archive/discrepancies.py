"""The report of what did not fit: one line a fault, with the file, sheet, row and cell, and what may be meant."""

import html
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from neardup.stages import replacing
from neardup.tables import encodable, write_csv, write_table

KINDS = {
    "not found": "no photo of that name is in the archive",
    "ambiguous": "the name stands for different photos in several folders",
    "contradiction": "the sheets say two different things of one photo",
    "unreadable": "the file or the workbook cannot be read",
    "unsafe cell": "a cell holds a formula or climbs out of the folder",
    "missing column": "the sheet lacks a column that is needed",
    "left out": "the photo or the row is not used, and why",
    "note": "all is well, but it is worth knowing",
}
"""The kinds of discrepancy, gravest first, and what they mean."""


@dataclass(frozen=True)
class Discrepancy:
    """One line of the report.

    Attributes:
        kind: one of `KINDS`.
        file: the workbook or image, relative to the archive.
        sheet: the sheet's name, or nothing.
        row: the row as Excel numbers it, or 0.
        cell: the cell's address, or nothing.
        name: what the cell or the file says.
        detail: what is wrong.
        suggestion: what may be meant or done, or nothing.
    """

    kind: str
    file: str
    sheet: str = ""
    row: int = 0
    cell: str = ""
    name: str = ""
    detail: str = ""
    suggestion: str = ""


COLUMNS = tuple(field.name for field in fields(Discrepancy))
"""Columns of the report, in their order."""


def write_discrepancies(out: Path, lines: Sequence[Discrepancy], counts: Sequence[tuple[str, str, int]]) -> list[Path]:
    """Write `discrepancies.xlsx`, `.csv` and `.html`.

    Args:
        out: the folder.
        lines: the discrepancies.
        counts: (block, kind, number): in each block `listed` equals the sum of the other kinds.

    Returns:
        The paths of the three files.
    """
    order = {kind: rank for rank, kind in enumerate(KINDS)}
    ordered = sorted(lines, key=lambda line: (order[line.kind], line.file, line.sheet, line.row, line.cell, line.name))
    paths = [out / f"discrepancies.{suffix}" for suffix in ("xlsx", "csv", "html")]
    write_table(paths[0], COLUMNS, [astuple(line) for line in ordered])
    write_csv(paths[1], COLUMNS, map(astuple, ordered))
    with replacing(paths[2]) as partial:
        partial.write_text(encodable(_page(ordered, counts)), encoding="utf-8")
    return paths


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:75rem;padding:1rem;color:#1c1c1c;background:#fdfcf8}
table{border-collapse:collapse;margin:.5rem 0 2rem}td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;
text-align:left;vertical-align:top}.wide td:not(:nth-child(-n+4):nth-child(n+2)){overflow-wrap:anywhere;min-width:8rem}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}h2 small{font-weight:normal;color:#666}
"""


def _page(lines: Sequence[Discrepancy], counts: Sequence[tuple[str, str, int]]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Discrepancies</title><style>{_STYLE}</style><h1>What did not fit</h1>",
        f"<p>{len(lines)} lines. Nothing in the archive was changed.</p>",
        "<p>Every name that is listed is used or is in one of these lines.</p>",
        "<h2>The counts add up</h2><table><tr><th>of<th>kind<th>number</tr>",
    ]
    parts += [f"<tr><td>{html.escape(of)}<td>{html.escape(kind)}<td class=n>{n}</tr>" for of, kind, n in counts]
    parts.append("</table>")
    for kind, meaning in KINDS.items():
        chosen = [line for line in lines if line.kind == kind]
        if not chosen:
            continue
        parts.append(f"<h2>{kind}: {len(chosen)} <small>{meaning}</small></h2><div class=wide><table><tr>")
        parts += [f"<th>{column}" for column in COLUMNS[1:]]
        for line in chosen:
            parts.append("<tr>" + "".join(f"<td>{html.escape(str(value or ''))}" for value in astuple(line)[1:]))
        parts.append("</table></div>")
    return "\n".join(parts) + "\n"
