"""The user's new photos, and for each the photo of the archive that it is a copy of, where that is known.

New photos are searched for in the test set and the training set. A new photo is a copy, a stranger to the archive, or
of unknown origin.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neardup.archive.names import ROOT, Names
from neardup.archive.scan import Archive, Photo, scan
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.archive.walk import require_images
from neardup.errors import ArchiveError
from neardup.images import MAX_PIXELS
from neardup.stages import STATE
from neardup.tables import parsed_csv

FOLDER = "queries"
"""Folder of the output folder that holds the new photos and their variants."""
TABLE = "queries.csv"
"""Table in the folder of new photos that names their originals."""
STRANGERS = "strangers"
"""Subfolder of the new photos for those that are not in the archive."""
COPY, STRANGER, UNKNOWN = "copy", "stranger", "unknown"
"""Kinds of new photos: a copy of a photo of the archive, a picture that is in none of its photos, or unknown."""


@dataclass(frozen=True)
class SearchedPhoto:
    """One photo of the archive among which new photos are searched for.

    Attributes:
        name: its path in the output folder: `test_dataset/…` or `training_set/…`.
        path: path of the photo in the archive.
        sha256: SHA-256 of its bytes.
        picture: an identifier that photos of one group of the ground truth, prints of one picture, share.
    """

    name: str
    path: str
    sha256: str
    picture: str


def searched_photos(out: Path) -> list[SearchedPhoto]:
    """List the photos of the test set, then those of the training set.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    test = [
        SearchedPhoto(f"test_dataset/{photo.name}", photo.path, photo.sha256, f"group {photo.group}")
        for photo in TestSet.load(out).photos
    ]
    training = [
        SearchedPhoto(f"training_set/{photo.image_name}", photo.path, photo.sha256, photo.sha256)
        for photo in TrainingSet.load(out).photos
    ]
    return test + training


@dataclass(frozen=True)
class Original:
    """What is known of a new photo.

    Attributes:
        kind: `copy`, `stranger` or `unknown`.
        path: path of a copy's original in the archive; else empty.
    """

    kind: str = UNKNOWN
    path: str = ""


def check_queries(folder: Path, out: Path) -> None:
    """Raise an error, before anything is done, if a folder of new photos cannot be used.

    Raises:
        ArchiveError: the folder does not exist, holds no image, or overlaps with the folder of its copies.
    """
    name_another = "name the folder of new photos with --queries or as queries in neardup.toml, or leave it out"
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder: {name_another}")
    new_folder, copies_folder = folder.resolve(), (out / FOLDER).resolve()
    if new_folder.is_relative_to(copies_folder) or copies_folder.is_relative_to(new_folder):
        raise ArchiveError(f"{folder} overlaps with {out / FOLDER}, where the variants go: {name_another}")
    require_images(folder, name_another)


def read_new_photos(folder: Path, out: Path, max_pixels: int = MAX_PIXELS) -> Archive:
    """Scan a folder of new photos, including unreadable files; what was read before is not read again.

    Raises:
        ArchiveError: as in `check_queries`, or no file of the folder can be read.
    """
    check_queries(folder, out)
    table = out / STATE / "queries.scan.parquet"
    archive = scan(folder, table=table, patterns=("**",), exclude=(), max_pixels=max_pixels)
    if not archive.photos:
        first = archive.left_out[0]
        raise ArchiveError(
            f"{folder} holds no photo that can be read ({first.path}: {first.reason}): put new photos there"
        )
    return archive


def read_originals(folder: Path) -> list[tuple[str, str]]:
    """Read `queries.csv` in the folder of new photos: each new photo, and its original or empty for a stranger.

    Commas, semicolons or tabs may separate the columns, as spreadsheets of different countries write them.

    Returns:
        The rows; none where there is no such table.

    Raises:
        ArchiveError: the table cannot be read, or lacks one of the columns `query` and `photo`.
    """
    path = folder / TABLE
    if not path.is_file():
        return []
    try:
        lines = [[cell.strip() for cell in row] for row in parsed_csv(path.read_text(encoding="utf-8-sig"))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArchiveError(f"{path} cannot be read ({error}): save it as a CSV table in UTF-8") from None
    header = [name.casefold() for name in lines[0]] if lines else []
    if not {"query", "photo"} <= set(header):
        raise ArchiveError(f"{path} has the columns {', '.join(header) or 'none'}: it needs query and photo")
    query, photo = header.index("query"), header.index("photo")
    rows = [row + [""] * len(header) for row in lines[1:]]
    return [(row[query], row[photo]) for row in rows]


def find_originals(
    new: Archive, rows: Sequence[tuple[str, str]], searched: Sequence[SearchedPhoto]
) -> tuple[dict[str, Original], list[str]]:
    """Find which photo of the archive each new photo is a copy of.

    The table decides; then the subfolder `strangers/`; then the photo of the same name, whatever its suffix.

    Args:
        new: the new photos.
        rows: rows of `queries.csv`, as `read_originals` gives them.
        searched: the photos of the archive.

    Returns:
        Path of each new photo → its original; and a sentence for each name that means no photo, or several.
    """
    new_names, names, faults = Names(new), Names(_as_archive(new.root, searched)), list[str]()
    originals: dict[str, Original] = {}

    def find(name: str, among: Names, place: str, called: str) -> Sequence[Photo]:
        """Find the photos of a name if all have one content; note a name that means none, or several contents."""
        match = among.find(f"{ROOT}{name}")
        match = match if match.photos else among.find(name)
        if match.ambiguous:
            several = ", ".join(photo.path for photo in match.photos)
            faults.append(f"{place}{name} may be each of {several}: name the one with its folder in {TABLE}")
        elif called and not match.photos and not match.unreadable:
            faults.append(f"{place}no photo is called {name} {called}")
        return () if match.ambiguous else match.photos

    for line, (query, name) in enumerate(rows, 2):
        place = f"{TABLE}, line {line}: "
        named_photos = find(name, names, place, "in the test set and the training set") if name else ()
        original = Original(COPY, named_photos[0].path) if named_photos else Original(UNKNOWN if name else STRANGER)
        for photo in find(query, new_names, place, "among the new photos") if query else ():
            originals[photo.path] = original
    for photo in new.photos:
        pure = PurePosixPath(photo.path)
        if photo.path in originals:
            continue
        if STRANGERS in pure.parts[:-1]:
            originals[photo.path] = Original(STRANGER)
        else:
            named_photos = find(pure.name, names, f"{photo.path}: ", "")
            originals[photo.path] = Original(COPY, named_photos[0].path) if named_photos else Original()
    return originals, faults


def _as_archive(root: Path, searched: Sequence[SearchedPhoto]) -> Archive:
    """Make an archive of searched photos, with names and contents only, for `Names` to index."""
    return Archive(root, tuple(Photo(photo.path, photo.sha256, 0, 0, 0, "", "", "", "") for photo in searched), (), 0)
