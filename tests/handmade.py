"""Photos and sheets made by hand: what a scan or a workbook would give, without a file."""

from neardup.archive.scan import Photo
from neardup.archive.sheets import Cell, Sheet


def photo(path: str, content: str = "", phash: str = "0" * 16, mirrored: str = "") -> Photo:
    """A photo at a path; equal contents are equal bytes, and without a mirrored hash it is its own mirror image."""
    return Photo(path, (content or path).encode().hex(), 1, 4, 4, "RGB", "JPEG", phash, mirrored or phash)


def sheet(name: str, rows: list[list[str]]) -> Sheet:
    """A sheet of text cells; a text that begins with `=` is a formula, an empty one a blank."""
    cells = tuple(
        tuple(Cell(f"{chr(65 + j)}{i}", text, text.startswith("=")) if text else None for j, text in enumerate(row))
        for i, row in enumerate(rows, 1)
    )
    return Sheet(name, cells)
