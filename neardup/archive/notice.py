"""Find what is new in an archive since the last run: files that were added, moved, replaced or cannot be read."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from neardup.archive.scan import Archive
from neardup.archive.walk import Skipped
from neardup.errors import ArchiveError
from neardup.stages import digest_of, write_json

KINDS = ("new", "replaced", "moved", "exact copy", "unreadable")
"""Kinds of files that were not there before."""
NEW_PHOTOS = KINDS[:2]
"""Kinds whose content no earlier run has seen: moved files and exact copies are not new photos."""
_UNREADABLE = "unreadable "
"""Prefix, in a memory, of the content of an unreadable file; its SHA-256, or else its path, follows."""

CHECKSUM = "checksum"
"""Key, in a memory's file, of the digest of everything else in it."""
_PUT_BACK = "put it back, or delete it to take all photos as new"
"""Advice for a memory's file that cannot be trusted."""


@dataclass(frozen=True)
class Memory:
    """What earlier runs saw; a content is the SHA-256 of a photo, or of an unreadable file with a prefix.

    Attributes:
        runs: number of the last run that published something; 0 where none did.
        present: content → its paths at the last run.
        gone: content → paths where it was last seen, for contents that the last run did not find.
        begun: number of a run that began to publish but did not finish; 0 where all finished.
    """

    runs: int = 0
    present: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gone: Mapping[str, Sequence[str]] = field(default_factory=dict)
    begun: int = 0

    @classmethod
    def load(cls, path: Path) -> "Memory":
        """Read a memory that `save`, or an older version without checksums, wrote; an empty one where there is no file.

        Raises:
            ArchiveError: the file is not a memory, or was damaged.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            checksum = facts.pop(CHECKSUM, None)
            memory = cls(**facts)
        except FileNotFoundError:
            return cls()
        except (AttributeError, TypeError, ValueError) as error:
            raise ArchiveError(f"{path} is not what neardup wrote: {_PUT_BACK}") from error
        if checksum not in {None, memory._checksum}:
            raise ArchiveError(f"{path} was changed since neardup wrote it, by hand or by its disk: {_PUT_BACK}")
        return memory

    def save(self, path: Path) -> None:
        """Write the memory as JSON, atomically."""
        write_json(path, asdict(self) | {CHECKSUM: self._checksum})

    @property
    def _checksum(self) -> str:
        return digest_of(asdict(self))

    @cached_property
    def contents(self) -> Mapping[str, Sequence[str]]:
        """Every content with the paths where it was last seen."""
        return {**self.gone, **self.present}

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every path where something was last seen."""
        return frozenset(path for paths in self.contents.values() for path in paths)

    def after(self, places: Mapping[str, Sequence[str]], run: int) -> "Memory":
        """The memory after a run.

        Args:
            places: content → paths where the run found it.
            run: number of the run, 0 where it published nothing.
        """
        gone = {content: paths for content, paths in self.contents.items() if content not in places}
        return Memory(run or self.runs, places, gone)


@dataclass(frozen=True)
class Noticed:
    """One file that was not there before.

    Attributes:
        path: path of the file in the archive.
        kind: one of `KINDS`.
        other: path where its bytes were before, or are as well; else empty.
        reason: why the file is of that kind.
    """

    path: str
    kind: str
    other: str
    reason: str


@dataclass(frozen=True)
class Sighting:
    """What a run sees in an archive, compared with what earlier runs saw.

    Attributes:
        places: content → its paths, sorted, including unreadable files.
        path_of: SHA-256 of each photo → its first path.
        new: whether each photo of `path_of` has a content that no earlier run saw.
        noticed: every file that was not there before, sorted by path.
        vanished: paths, sorted, of files that no longer exist and were not moved.
        unlisted: folders that cannot be listed; files seen below them do not count as vanished.
    """

    places: Mapping[str, Sequence[str]]
    path_of: Mapping[str, str]
    new: Sequence[bool]
    noticed: tuple[Noticed, ...]
    vanished: tuple[str, ...]
    unlisted: tuple[Skipped, ...] = ()

    @classmethod
    def of(cls, archive: Archive, memory: Memory, left_out: Iterable[str] = ()) -> "Sighting":
        """Compare an archive with what earlier runs saw.

        Args:
            archive: the archive.
            memory: what earlier runs saw.
            left_out: paths of photos that could not be encoded: their contents count as not seen, so that the next
                run tries again, and what lay there before does not count as vanished.
        """
        left_out = frozenset(left_out)
        absent = {photo.sha256 for photo in archive.photos if photo.path in left_out}
        archive = replace(archive, photos=tuple(photo for photo in archive.photos if photo.sha256 not in absent))
        places, noticed = places_of(archive), notice(archive, memory)
        path_of = {photo.sha256: places[photo.sha256][0] for photo in archive.photos}
        new = [content not in memory.contents for content in path_of]
        unknown = (*(folder.path for folder in archive.unlisted), *left_out)
        vanished = [path for path in vanished_since(memory, places, noticed) if not path.startswith(unknown)]
        return cls(places, path_of, new, noticed, tuple(vanished), archive.unlisted)


def places_of(archive: Archive) -> dict[str, list[str]]:
    """List the paths of each content of an archive: content → its paths, sorted."""
    places: dict[str, list[str]] = {}
    for photo in archive.photos:
        places.setdefault(photo.sha256, []).append(photo.path)
    for fault in archive.unreadable:
        # A file without read permission has no digest and is identified by its path.
        places.setdefault(_UNREADABLE + (fault.sha256 or fault.path), []).append(fault.path)
    return places


def notice(archive: Archive, memory: Memory) -> tuple[Noticed, ...]:
    """List every file that was not there before, sorted by path, with its kind.

    A content that was seen before is not new wherever it lies: it moved if one of its paths is gone, else it is a
    further copy. An unreadable file is never a copy of a photo: if it was not there before, it is listed with its
    reason.
    """
    reasons = {fault.path: fault.reason for fault in archive.unreadable}
    files: list[Noticed] = []
    for content, paths in places_of(archive).items():
        former_paths = memory.contents.get(content)
        if content.startswith(_UNREADABLE):
            files += _unreadable(paths, former_paths or (), memory, reasons)
        elif former_paths is not None:
            files += _elsewhere(paths, former_paths)
        else:
            files.append(_first_seen(content, paths[0], memory))
            files += [_copy(path, paths[0]) for path in paths[1:]]
    return tuple(sorted(files, key=lambda item: item.path))


def _elsewhere(paths: Sequence[str], former: Sequence[str]) -> Iterator[Noticed]:
    """Yield the files of a content seen before that lie at new paths."""
    former_paths, present_paths = frozenset(former), frozenset(paths)
    gone = [path for path in former if path not in present_paths]
    staying = [path for path in paths if path in former_paths] or paths
    for number, path in enumerate(path for path in paths if path not in former_paths):
        if number < len(gone):
            yield Noticed(path, "moved", gone[number], "the same bytes were there before")
        else:
            yield _copy(path, staying[0])


def _unreadable(
    paths: Sequence[str], former: Sequence[str], memory: Memory, reasons: Mapping[str, str]
) -> Iterator[Noticed]:
    """Yield the unreadable files of a content that lie at new paths; one that took a photo's place has not moved."""
    for item in _elsewhere(paths, former):
        moved = item.kind == "moved" and item.path not in memory.paths
        yield item if moved else Noticed(item.path, "unreadable", "", reasons[item.path])


def _copy(path: str, other: str) -> Noticed:
    """Make the entry of a file whose bytes lie at another path as well."""
    return Noticed(path, "exact copy", other, "the same bytes are there too")


def _first_seen(content: str, path: str, memory: Memory) -> Noticed:
    """Make the entry of the first file of a content that no run has seen."""
    if _UNREADABLE + content in memory.contents:
        return Noticed(path, "new", "", "could not be read before")
    if path in memory.paths:
        return Noticed(path, "replaced", "", "other bytes than before")
    return Noticed(path, "new", "", "never seen before")


def vanished_since(memory: Memory, places: Mapping[str, Sequence[str]], noticed: Sequence[Noticed]) -> tuple[str, ...]:
    """List the paths, sorted, that existed at the last run and no longer do, without those of moved files."""
    accounted = {path for paths in places.values() for path in paths}
    accounted |= {item.other for item in noticed}
    return tuple(sorted(path for paths in memory.present.values() for path in paths if path not in accounted))
