"""Resolve names in the historian's sheets to photos, and find names that mean one photo and no other."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from rapidfuzz.distance import OSA

from neardup.archive.scan import Archive, Photo, Unreadable
from neardup.archive.walk import composed
from neardup.images import SUFFIXES, TRAILING, UNREAD_SUFFIXES, suffix_of
from neardup.stages import digest_of

NEAR = 2
"""Letters by which a misspelt name may differ from the name that is suggested for it (but never used instead)."""
LONGEST_NAME = 255
"""Bytes of the longest file name that a disk accepts."""
ROOT = "./"
"""Prefix of a cell that holds the whole path of a photo, from the archive's folder on."""


def normal(name: str) -> str:
    """Normalise a name: composed accents, single spaces, no image suffix."""
    name = re.sub(r"\s+", " ", composed(name)).strip()
    suffix = suffix_of(name)
    return name.rstrip(TRAILING)[: -len(suffix)].strip() if suffix in SUFFIXES | UNREAD_SUFFIXES else name


def folded(name: str) -> str:
    """Normalise a name as `normal` does, and remove accents and case."""
    decomposed = unicodedata.normalize("NFKD", normal(name).casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def climbs(cell: str) -> bool:
    r"""Whether a cell names a place outside the archive: `..`, an absolute path or a drive.

    >>> [climbs(cell) for cell in ("a/../b", "/etc/passwd", r"C:\x", "folder/name", "/")]
    [True, True, True, False, False]
    """
    text = cell.strip().replace("\\", "/")
    if ".." in text.split("/") or re.match(r"[A-Za-z]:/", text):
        return True
    return text.startswith("/") and text.strip("/") != ""  # a lone slash means "none"


@dataclass(frozen=True)
class NameMatch:
    """The files that a name means.

    Attributes:
        photos: photos of that name, sorted by path; if their bytes are equal, they are one photo in several places.
        unreadable: files of that name that cannot be read as photos.
    """

    photos: tuple[Photo, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether the photos of that name have different bytes."""
        return len({photo.sha256 for photo in self.photos}) > 1


class Names:
    """The names of a scanned archive: resolves cells to photos, and photos to cells."""

    def __init__(self, archive: Archive) -> None:
        """Index the archive by path, by name and by folded name."""
        self._exact: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        self._folded: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        items: list[Photo | Unreadable] = [*archive.photos, *archive.unreadable]
        # A workbook's cell has no spaces at its ends; where a path without them exists as well, it is meant.
        self._paths = {composed(item.path).strip(): item for item in items}
        self._paths |= {composed(item.path): item for item in items} | {item.path: item for item in items}
        for item in items:
            name = PurePosixPath(item.path).name
            self._exact[normal(name)].append(item)
            self._folded[folded(name)].append(item)

    def find(self, cell: str, *, from_root: bool = False) -> NameMatch:
        """Resolve a cell by its exact name, else without accents and case; only within a folder if the cell names one.

        A cell that begins with `./` is the whole path of one file.

        Args:
            cell: a name, possibly after folders that lie above it.
            from_root: whether the cell's first folder lies directly in the archive's, instead of anywhere below.
        """
        if cell.startswith(ROOT):
            path = cell.removeprefix(ROOT)
            item = self._paths.get(path) or self._paths.get(composed(path))
            return _match_of([item] if item else [])
        folder, name = _parted(cell)
        wanted = [folded(part) for part in folder.strip("/").split("/")]
        for items in (self._exact.get(normal(name), ()), self._folded.get(folded(name), ())):
            there = [item for item in items if _lies_in(item.path, wanted, from_root=from_root)] if folder else items
            if there:
                return _match_of(_suffixed(there, name))
        return _match_of(())

    def shortest(self, path: str) -> str:
        """Find the shortest cell that means the photo at a path of the archive and no other.

        That is its name; or, where others share it, its name after the nearest folder that tells them apart; or its
        whole path after `./`.
        """
        return next((cell for cell in _cells(path) if not climbs(cell) and self._means(cell, path)), f"{ROOT}{path}")

    def _means(self, cell: str, path: str) -> bool:
        """Whether a cell, trimmed as in a workbook, resolves to the photo at a path."""
        match = self.find(cell.strip())
        return not match.ambiguous and bool(match.photos) and match.photos[0].path == path

    def listed(self, cell: str) -> list[Photo]:
        """List the photos that a cell names one after the other, parted by line breaks, semicolons or commas."""
        parts = re.split(r"[\n;,]+", cell)
        return [photo for part in parts if part.strip() for photo in self.find(part).photos] if len(parts) > 1 else []

    def suggest(self, cell: str) -> str:
        """Suggest the nearest name that differs in at most `NEAR` letters, but not in all; empty if there is none."""
        wanted = folded(_parted(cell)[1])
        near_names = [(OSA.distance(wanted, name, score_cutoff=NEAR), name) for name in self._folded]
        best = min((pair for pair in near_names if pair[0] <= NEAR and pair[0] < len(wanted)), default=None)
        return normal(PurePosixPath(self._folded[best[1]][0].path).name) if best else ""


def _parted(cell: str) -> tuple[str, str]:
    """Split a cell into its folder, if any, and its name, at slashes or, as in Windows, backslashes."""
    folder, _, name = cell.replace("\\", "/").rpartition("/")
    return folder, name


def _cells(path: str) -> Iterator[str]:
    """Yield the cells that may mean a photo: its name alone, then after each of its folders, the nearest first."""
    *folders, name = PurePosixPath(path).parts
    yield name
    for folder in reversed(folders):
        yield f"{folder}/{name}"


def _match_of(items: Iterable[Photo | Unreadable]) -> NameMatch:
    """Separate the files of a name into photos and unreadable files."""
    photos: list[Photo] = []
    unreadable: list[Unreadable] = []
    for item in items:
        if isinstance(item, Photo):
            photos.append(item)
        else:
            unreadable.append(item)
    return NameMatch(tuple(photos), tuple(unreadable))


def _suffixed(items: Iterable[Photo | Unreadable], name: str) -> list[Photo | Unreadable]:
    """Select the files with the suffix of the cell's name; if there is none, return all."""
    suffix = suffix_of(name)
    same = [item for item in items if suffix_of(item.path) == suffix]
    return same or list(items)


def _lies_in(path: str, wanted: Sequence[str], *, from_root: bool) -> bool:
    """Whether folders, by folded names, follow one another in a file's path: anywhere or, `from_root`, at its start."""
    folders = [folded(part) for part in PurePosixPath(path).parent.parts]
    starts = range(1 if from_root else len(folders))
    return any(folders[i : i + len(wanted)] == wanted for i in starts)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Make a distinct file name for each path: `x.jpg`, or `x~presse.jpg` where several files have that name.

    The names also differ on disks that ignore case and the composition of accents.
    """
    shared = Counter(name_on_disk(PurePosixPath(path).name) for path in paths)
    taken: set[str] = set()
    names: list[str] = []
    for path in paths:
        pure = PurePosixPath(path)
        name = pure.name
        if shared[name_on_disk(name)] > 1:
            name = _fitting(f"{pure.stem}~{'~'.join(pure.parent.parts)}", pure.suffix)
        stem, count = PurePosixPath(name).stem, 2
        while name_on_disk(name) in taken:
            name, count = _fitting(f"{stem}~{count}", pure.suffix), count + 1
        taken.add(name_on_disk(name))
        names.append(name)
    return names


def name_on_disk(name: str) -> str:
    """Convert a name to how a disk compares it that ignores case, accents' composition and trailing dots or spaces."""
    return composed(composed(name).casefold()).rstrip(TRAILING)


def _fitting(stem: str, suffix: str) -> str:
    """Join stem and suffix to a file name, with the stem shortened where the name would be too long."""
    return shortened(stem, LONGEST_NAME - len(os.fsencode(suffix))) + suffix


def shortened(stem: str, room: int) -> str:
    """Shorten a stem to at most `room` bytes; eight digits of its digest keep a cut one distinct.

    >>> shortened("abc", 3), shortened("a" * 20, 12)
    ('abc', 'aaa~35d5aabd')
    """
    if len(stem.encode()) <= room:
        return stem
    mark = f"~{digest_of(stem)[:8]}"
    return stem.encode()[: room - len(mark)].decode(errors="ignore") + mark
