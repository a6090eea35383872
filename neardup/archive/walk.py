"""Walk through an archive: paths of its files, and entries that cannot be used, each with its reason."""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath

from neardup.errors import ArchiveError
from neardup.images import SUFFIXES, UNREAD, UNREAD_SUFFIXES, suffix_of
from neardup.stages import left_by_a_system

HIDDEN = (".", "~$")
"""Prefixes of the names of files that do not belong to the archive.

They are hidden files, lock files of office programs (`~$x.xlsx`, `.~lock.x.ods#`), or the resource forks that macOS
keeps beside each file on foreign disks (`._x.jpg`).
"""


LINKED = "it is a link to a folder elsewhere, and such are not followed: copy the folder here if its photos belong here"
"""The reason given for a link that leads out of the folder."""


@dataclass(frozen=True)
class Skipped:
    """One entry of a folder that cannot be used.

    Attributes:
        path: path relative to the folder walked, in characters that can be written to any table.
        reason: why it cannot be used.
        is_folder: whether it is a folder, whose files are then unknown.
    """

    path: str
    reason: str
    is_folder: bool = False


OnSkip = Callable[[Skipped], object]
"""Function that is called with each entry that cannot be used."""


def ignore(skipped: Skipped) -> None:
    """Do nothing about an entry that cannot be used."""


def composed(text: str) -> str:
    """Compose a text's accents (NFC) for comparing names, because disks and sheets disagree about the form."""
    return unicodedata.normalize("NFC", text)


def legible(path: str) -> str:
    r"""Write each byte of a path that is not UTF-8 as `\xe9`, so that it can be written to any table."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(
    root: Path, suffixes: Collection[str], on_skip: OnSkip = ignore, unread: Collection[str] = ()
) -> Iterator[str]:
    """Yield the relative paths of all files with given suffixes, folder by folder, in a fixed order.

    Hidden files and folders are skipped, as are the folders of thumbnails and deleted files that network disks and
    macOS make. Links to folders are not followed, and reported if they lead out of the folder.

    Args:
        root: the folder.
        suffixes: suffixes such as `.jpg`; case and trailing spaces or dots are ignored.
        on_skip: called with each folder that cannot be listed or is a link to one elsewhere, and with each entry of
            such a suffix that is not a readable file.
        unread: suffixes of formats that are not read; `on_skip` is called with such files, too.
    """
    folders, listed = [""], {*suffixes, *unread}
    while folders:
        folder = folders.pop()
        below = []
        for entry in _entries(root, folder, on_skip):
            path = folder + entry.name
            if _is_folder(entry):
                below += [] if left_by_a_system(entry.name) else [f"{path}/"]
            elif entry.is_symlink() and not left_by_a_system(entry.name) and _leads_out(root, entry):
                on_skip(Skipped(f"{legible(path)}/", LINKED, is_folder=True))
            elif not entry.name.startswith(HIDDEN) and (suffix := suffix_of(entry.name)) in listed:
                if fault := _fault(entry, path) or (UNREAD if suffix in unread else ""):
                    on_skip(Skipped(legible(path), fault))
                else:
                    yield path
        folders += reversed(below)


def _entries(root: Path, folder: str, on_skip: OnSkip) -> list["os.DirEntry[str]"]:
    """List the entries of a folder, sorted by name; none where it cannot be listed."""
    try:
        with os.scandir(root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        on_skip(
            Skipped(
                legible(folder) or ".",
                f"the folder cannot be listed ({error.strerror}): see that you may",
                is_folder=True,
            )
        )
        return []


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _leads_out(root: Path, entry: "os.DirEntry[str]") -> bool:
    """Whether a link leads to a folder outside of the one being walked."""
    try:
        return entry.is_dir() and not Path(entry).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a circle of links
        return False


def _fault(entry: "os.DirEntry[str]", path: str) -> str:
    """Say why an entry cannot be read as a file; empty if it can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "the name or a folder above it is not UTF-8: rename it"
    try:
        if entry.is_file():
            return ""
    except OSError as error:
        return f"the file cannot be looked at ({error.strerror})"
    if not entry.is_symlink():
        return "it is no file but a pipe, a socket or a device"
    return "it is a link to a folder" if entry.is_dir() else "it is a link to a file that is not there"


def walk_images(root: Path, on_skip: OnSkip = ignore) -> Iterator[str]:
    """Paths, relative to `root`, of all files with an image's suffix, folder by folder; the same order each time.

    `on_skip` is also told of each image of a format that is not read.
    """
    return walk(root, SUFFIXES, on_skip, UNREAD_SUFFIXES)


def in_pages(pages: Sequence[str]) -> str:
    """Where the images lie that are left out as pages, in words.

    >>> in_pages(["**/pages/**"]), in_pages(["**/full/**", "*_p.tif"])
    ('in folders called pages', 'that match **/full/**, *_p.tif')
    """
    called = [glob.removeprefix("**/").removesuffix("/**") for glob in pages]
    if len(pages) == 1 and pages[0] == f"**/{called[0]}/**" and not set(called[0]) & set("*?[/"):
        return f"in folders called {called[0]}"
    return f"that match {', '.join(pages)}"


def require_images(folder: Path, advice: str, pages: Sequence[str] = ()) -> None:
    """Refuse a folder that holds no image, before anything is written.

    Args:
        folder: which is there.
        advice: what is to be done, as the end of the sentence.
        pages: globs of images that are left out.

    Raises:
        ArchiveError: it holds none; the first file that cannot be read is named with its reason. Or all are left out.
    """
    skipped: list[Skipped] = []
    if next(walk_images(folder, skipped.append), None) is None:
        why = f" ({skipped[0].path}: {skipped[0].reason})" if skipped else ""
        raise ArchiveError(f"{folder} holds no image that can be read{why}: {advice}")
    if pages and all(is_chosen(path, pages) for path in walk_images(folder)):
        raise ArchiveError(
            f"{folder} holds images {in_pages(pages)} alone, and such are left out: {advice}, or say with [prepare] "
            "pages of neardup.toml what is left out"
        )


def find_images(root: Path, patterns: Sequence[str], exclude: Sequence[str], on_skip: OnSkip = ignore) -> list[str]:
    """List the relative paths, sorted, of files with an image's suffix that match a pattern.

    Args:
        root: the folder.
        patterns: globs, relative to `root`, of the wanted files.
        exclude: globs of files that are left out although a pattern matches them.
        on_skip: called with entries that match but cannot be used, and with folders that cannot be listed.
    """

    def skip(skipped: Skipped) -> None:
        if skipped.is_folder or is_chosen(skipped.path, patterns, exclude):
            on_skip(skipped)

    return sorted(path for path in walk_images(root, skip) if is_chosen(path, patterns, exclude))


def is_chosen(path: str, patterns: Sequence[str], exclude: Sequence[str] = ()) -> bool:
    """Whether one of the patterns matches a path, relative to the archive, and none in `exclude` does."""
    return any(_matches(path, glob) for glob in patterns) and not any(_matches(path, glob) for glob in exclude)


def _matches(path: str, pattern: str) -> bool:
    """Whether a glob matches a path; `**` stands for any number of folders, and a final `**` for everything below."""
    return _match(
        tuple(composed(path).lower().split("/")), _parts(pattern)
    )  # Path objects would take ten times as long


@lru_cache
def _parts(pattern: str) -> tuple[str, ...]:
    """Split a glob at its slashes, in lower case and with composed accents."""
    return PurePosixPath(composed(pattern).lower()).parts


def _match(parts: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return len(globs) == 1 or any(_match(parts[i:], globs[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _match(parts[1:], globs[1:])
