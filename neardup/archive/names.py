"""Which photo a cell of the historian's sheet means."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from rapidfuzz.distance import OSA

from neardup.archive.scan import Archive, Photo, Unreadable
from neardup.images import SUFFIXES

NEAR = 2
"""A name so many letters away, or fewer, is suggested; it is never taken."""


def normal(name: str) -> str:
    """Composed Unicode, single spaces, no image suffix."""
    name = re.sub(r"\s+", " ", unicodedata.normalize("NFC", name)).strip()
    return name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix).lower() in SUFFIXES else name


def folded(name: str) -> str:
    """The name as well without accents and case."""
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
class Found:
    """What a name was found to mean: one photo at one or more places, an unreadable file, or several photos."""

    photos: tuple[Photo, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether the places hold different bytes."""
        return len({photo.sha256 for photo in self.photos}) > 1


class Names:
    """The names of a scanned archive, to be asked for the photo that a cell means."""

    def __init__(self, archive: Archive) -> None:
        """Index the archive by exact and by folded name."""
        self._exact: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        self._folded: defaultdict[str, list[Photo | Unreadable]] = defaultdict(list)
        items: list[Photo | Unreadable] = [*archive.photos, *archive.unreadable]
        for item in items:
            name = PurePosixPath(item.path).name
            self._exact[normal(name)].append(item)
            self._folded[folded(name)].append(item)

    def find(self, cell: str) -> Found:
        """Resolve a cell: by its name as it is, then without accents and case; a folder in it narrows the choice."""
        folder, _, name = cell.replace("\\", "/").rpartition("/")
        items = self._exact.get(normal(name)) or self._folded.get(folded(name)) or []
        items = _suffixed(items, name)
        if folder:
            wanted = folded(folder).strip("/")
            items = [item for item in items if _lies_in(item.path, wanted)]
        return Found(
            tuple(item for item in items if isinstance(item, Photo)),
            tuple(item for item in items if isinstance(item, Unreadable)),
        )

    def suggest(self, cell: str) -> str:
        """The nearest name at most two letters away, or nothing."""
        wanted = folded(cell.rpartition("/")[2])
        near = [(OSA.distance(wanted, name, score_cutoff=NEAR), name) for name in self._folded]
        best = min((pair for pair in near if pair[0] <= NEAR), default=None)
        return normal(PurePosixPath(self._folded[best[1]][0].path).name) if best else ""


def _suffixed(items: Iterable[Photo | Unreadable], name: str) -> list[Photo | Unreadable]:
    """If the cell has a suffix and a file has the same, only such files are meant."""
    suffix = PurePosixPath(name).suffix.lower()
    same = [item for item in items if PurePosixPath(item.path).suffix.lower() == suffix]
    return same or list(items)


def _lies_in(path: str, wanted: str) -> bool:
    folders = [folded(part) for part in PurePosixPath(path).parent.parts]
    asked = wanted.split("/")
    return any(folders[i : i + len(asked)] == asked for i in range(len(folders)))
