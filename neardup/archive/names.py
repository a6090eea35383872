"""Which photo a name in the historian's sheet means, and which name means a photo and no other."""

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
"""Letters by which a misspelt name may differ from that of a photo that is suggested for it, and never taken."""
LONGEST_NAME = 255
"""Bytes of the longest name that a disk takes for a file."""
ROOT = "./"
"""Beginning of a cell that holds the whole path of a photo, from the archive's folder on."""


def normal(name: str) -> str:
    """The name with composed accents and single spaces, without the suffix of an image."""
    name = re.sub(r"\s+", " ", composed(name)).strip()
    suffix = suffix_of(name)
    return name.rstrip(TRAILING)[: -len(suffix)].strip() if suffix in SUFFIXES | UNREAD_SUFFIXES else name


def folded(name: str) -> str:
    """The name as `normal` has it, and without accents and case."""
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
    """What a name was found to mean.

    Attributes:
        photos: the photos of that name, ordered by path; of equal bytes they are one photo at several places.
        unreadable: the files of that name that are no photos.
    """

    photos: tuple[Photo, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether the places hold different bytes."""
        return len({photo.sha256 for photo in self.photos}) > 1


class Names:
    """The names of a scanned archive: which photo a cell means, and which cell means a photo."""

    def __init__(self, archive: Archive) -> None:
        """Index the archive by path, by name and by folded name."""
        self._exact: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        self._folded: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        items: list[Photo | Unreadable] = [*archive.photos, *archive.unreadable]
        # A workbook's cell has no blanks at its ends; where a path without them is there as well, it is that one.
        self._paths = {composed(item.path).strip(): item for item in items}
        self._paths |= {composed(item.path): item for item in items} | {item.path: item for item in items}
        for item in items:
            name = PurePosixPath(item.path).name
            self._exact[normal(name)].append(item)
            self._folded[folded(name)].append(item)

    def find(self, cell: str, *, from_root: bool = False) -> NameMatch:
        """Resolve a cell: by its name as it is, then without accents and case; in its folder alone where it names one.

        A cell that begins with `./` is the whole path of one file.

        Args:
            cell: a name, or the folders that stand above it and a name.
            from_root: the first of the cell's folders lies in the archive's own, and not anywhere on the way.
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
        """The shortest cell that means the photo at a path of the archive and no other.

        That is its name; or, where others have that name, its name after the nearest of its folders that tells them
        apart; or its whole path after `./`.
        """
        return next((cell for cell in _cells(path) if not climbs(cell) and self._means(cell, path)), f"{ROOT}{path}")

    def _means(self, cell: str, path: str) -> bool:
        """Whether a cell that a workbook has trimmed is resolved to the photo at a path."""
        match = self.find(cell.strip())
        return not match.ambiguous and bool(match.photos) and match.photos[0].path == path

    def suggest(self, cell: str) -> str:
        """The nearest name at most two letters away, or nothing."""
        wanted = folded(_parted(cell)[1])
        near_names = [(OSA.distance(wanted, name, score_cutoff=NEAR), name) for name in self._folded]
        best = min((pair for pair in near_names if pair[0] <= NEAR), default=None)
        return normal(PurePosixPath(self._folded[best[1]][0].path).name) if best else ""


def _parted(cell: str) -> tuple[str, str]:
    """The folder that a cell names, if any, parted from the name by slashes or, as in Windows, by backslashes."""
    folder, _, name = cell.replace("\\", "/").rpartition("/")
    return folder, name


def _cells(path: str) -> Iterator[str]:
    """What may stand in a cell for a photo: its name alone, then after each of its folders, the nearest first."""
    *folders, name = PurePosixPath(path).parts
    yield name
    for folder in reversed(folders):
        yield f"{folder}/{name}"


def _match_of(items: Iterable[Photo | Unreadable]) -> NameMatch:
    """The files of a name, parted into photos and files that cannot be read."""
    photos: list[Photo] = []
    unreadable: list[Unreadable] = []
    for item in items:
        if isinstance(item, Photo):
            photos.append(item)
        else:
            unreadable.append(item)
    return NameMatch(tuple(photos), tuple(unreadable))


def _suffixed(items: Iterable[Photo | Unreadable], name: str) -> list[Photo | Unreadable]:
    """The files that have the suffix of the cell's name; where none has, all of them."""
    suffix = suffix_of(name)
    same = [item for item in items if suffix_of(item.path) == suffix]
    return same or list(items)


def _lies_in(path: str, wanted: Sequence[str], *, from_root: bool) -> bool:
    """Whether some folders, by their folded names, stand one after the other on the way to a file, or at its start."""
    folders = [folded(part) for part in PurePosixPath(path).parent.parts]
    starts = range(1 if from_root else len(folders))
    return any(folders[i : i + len(wanted)] == wanted for i in starts)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """A file name for each path: `x.jpg`, and `x~presse.jpg` where several files are called so.

    The names are distinct also on a disk that knows no case and takes composed and decomposed accents for one.
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
    """The name as a disk compares it that knows no case, composes accents and drops dots and spaces at its end."""
    return composed(composed(name).casefold()).rstrip(TRAILING)


def _fitting(stem: str, suffix: str) -> str:
    """A file name of this stem and suffix, the stem shortened where a disk would not take it."""
    return shortened(stem, LONGEST_NAME - len(os.fsencode(suffix))) + suffix


def shortened(stem: str, room: int) -> str:
    """A stem of at most so many bytes: a longer one is cut, and eight digits of its digest keep it apart from others.

    >>> shortened("abc", 3), shortened("a" * 20, 12)
    ('abc', 'aaa~35d5aabd')
    """
    if len(stem.encode()) <= room:
        return stem
    mark = f"~{digest_of(stem)[:8]}"
    return stem.encode()[: room - len(mark)].decode(errors="ignore") + mark
