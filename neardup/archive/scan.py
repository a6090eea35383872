"""The scan: every image file under the photo folders, read once, with its digest, size and perceptual hashes."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ImageOps

from neardup.archive.hashes import phash_of
from neardup.archive.walk import Skipped, find_images, is_chosen, walk_images
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, open_image, read_file, read_image
from neardup.progress import bar
from neardup.settings.schema import PrepareSettings
from neardup.stages import digest_of
from neardup.tables import write_parquet
from neardup.words import counted

EVERY = ("**",)
"""The pattern of all files of a folder."""
SCAN_STEP = 4
"""Version of the scan's table, raised when equal bytes give another row; one of another version is not taken."""
SAVE_EVERY = 2000
"""Image files that are read before the scan's table is saved for the first time."""
SAVE_AGAIN = 4
"""The table is saved again after reading as many files anew as a quarter of those it holds.

A kill thus costs reading a fifth of the files at most. Saved at fixed intervals, a large archive's tables would take
longer to write than its photos to read.
"""
Stamp = tuple[int, int, int]
"""Size of a file in bytes, and its times of last modification and of last change of metadata, in nanoseconds."""


@dataclass(frozen=True)
class Photo:
    """One image file that decodes.

    Attributes:
        path: path relative to the archive, with `/`, exactly as on disk.
        sha256: digest of its bytes, which identifies the photo.
        size_bytes: length of the file.
        width: pixels from left to right, as a person sees the photo (EXIF orientation applied).
        height: pixels from top to bottom, as a person sees the photo.
        mode: Pillow's mode in the file: RGB, L, CMYK, I;16 …
        format: format of the content, whatever the file's suffix: JPEG, PNG …
        phash: perceptual hash, 16 hex digits.
        phash_mirrored: perceptual hash of its mirror image.
    """

    path: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    mode: str
    format: str
    phash: str
    phash_mirrored: str

    @property
    def name(self) -> str:
        """The name of the photo's file, without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Unreadable:
    r"""One entry with the name of an image that cannot be read or decoded.

    Attributes:
        path: path relative to the archive; bytes that are not UTF-8 are written as `\xe9`.
        sha256: digest of its bytes; empty where they could not be read.
        size_bytes: length of the file, or 0 where it could not be read.
        reason: why it is not a photo.
    """

    path: str
    sha256: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Archive:
    """The photos of an archive and the files that cannot be read, as a scan found them.

    Attributes:
        root: the archive's folder.
        photos: files that decode, sorted by path.
        unreadable: files that do not, sorted by path.
        read_anew: number of files that had to be read; the others were known from an earlier scan.
        unlisted: folders that cannot be listed; photos below them are unknown.
    """

    root: Path
    photos: tuple[Photo, ...]
    unreadable: tuple[Unreadable, ...]
    read_anew: int
    unlisted: tuple[Skipped, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Digest of every path and content, and of the reasons why something could not be read."""
        photos = [(photo.path, photo.sha256) for photo in self.photos]
        faults = [(fault.path, fault.sha256, fault.reason) for fault in self.unreadable]
        return digest_of(photos, faults, [(folder.path, folder.reason) for folder in self.unlisted])

    @property
    def left_out(self) -> list[Skipped]:
        """List every folder that cannot be listed, then every unreadable file."""
        return [*self.unlisted, *(Skipped(fault.path, fault.reason) for fault in self.unreadable)]


def check_archive(root: Path) -> None:
    """Raise an error if the archive does not exist.

    Raises:
        ArchiveError: there is no such folder.
    """
    if not root.is_dir():
        raise ArchiveError(f"{root} is not a folder: name the folder that holds the photographs")


def check_folders(root: Path, out: Path, option: str = "--out") -> None:
    """Raise an error, before anything is done, if an output cannot be written.

    Args:
        root: the archive.
        out: the output, a folder or a file.
        option: option of the command line that names it, for the error.

    Raises:
        ArchiveError: the archive does not exist, or `out` lies inside it.
    """
    check_archive(root)
    refuse_inside(root, out, option)


def refuse_inside(root: Path, out: Path, option: str) -> None:
    """Raise an error if `out` lies inside the archive, which need not exist; arguments as in `check_folders`."""
    if out.resolve().is_relative_to(root.resolve()):
        raise ArchiveError(
            f"{out} lies inside the archive {root}, which is never written to: name another folder with {option}"
        )


def scan(
    root: Path,
    *,
    table: Path | None = None,
    patterns: Sequence[str] = ("**/photos/**",),
    exclude: Sequence[str] = ("**/pages/**",),
    max_pixels: int = MAX_PIXELS,
) -> Archive:
    """Read every image file of the archive once.

    Args:
        root: the archive; it is only read.
        table: Parquet file that keeps the results for this folder; files with unchanged size and times are not read
            again.
        patterns: globs, relative to `root`, of the files that are photographs.
        exclude: globs of files that are not photographs.
        max_pixels: an image of more pixels is listed as unreadable.

    Raises:
        ArchiveError: `root` is not a folder.
    """
    check_archive(root)
    skipped: list[Skipped] = []
    files = _stamps(root, find_images(root, patterns, exclude, skipped.append), skipped)
    unlisted = tuple(item for item in skipped if item.is_folder)
    if any(item.path == "." for item in unlisted):
        raise ArchiveError(f"{root}: {unlisted[0].reason}")
    known_by = _metadata(root, max_pixels)
    remembered = _load(table, known_by)
    new = [path for path, stamp in files.items() if path not in remembered or remembered[path][0] != stamp]
    result_of = {path: item for path, (stamp, item) in remembered.items() if files.get(path) == stamp}
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        results = pool.map(lambda path: _read(root, path, max_pixels), new)
        saved = len(result_of)
        for item in bar(results, "reading photos", len(new), unit="photo", disable=None if new else True):
            result_of[item.path] = item
            if len(result_of) - saved >= max(SAVE_EVERY, saved // SAVE_AGAIN):
                _save(table, files, result_of, known_by)
                saved = len(result_of)
    if new or len(result_of) != len(remembered):
        _save(table, files, result_of, known_by)
    in_order = [result_of[path] for path in files]
    photos = tuple(item for item in in_order if isinstance(item, Photo))
    unreadable = [item for item in in_order if isinstance(item, Unreadable)]
    unreadable += [Unreadable(item.path, "", 0, item.reason) for item in skipped if not item.is_folder]
    return Archive(root, photos, tuple(sorted(unreadable, key=lambda item: item.path)), len(new), unlisted)


def scan_archive(root: Path, settings: PrepareSettings, table: Path) -> Archive:
    """Read every photo of an archive once, where `[prepare]` in the settings says which files are photos.

    Args:
        root: the archive; it is only read.
        settings: which files are photographs, and how large they may be.
        table: Parquet file that keeps the results.

    Raises:
        ArchiveError: `root` is not a folder.
    """
    limit = settings.max_pixels
    return scan(root, table=table, patterns=settings.photos, exclude=settings.pages, max_pixels=limit)


def _stamps(root: Path, paths: Sequence[str], skipped: list[Skipped]) -> dict[str, Stamp]:
    """Read each file's size and times, which show whether it has changed: path → stamp; others are `skipped`."""
    stamps = {}
    for path in paths:
        try:
            status = (root / path).stat()
        except OSError as error:
            skipped.append(Skipped(path, f"the file cannot be looked at ({error.strerror})"))
        else:
            stamps[path] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return stamps


def _read(root: Path, path: str, max_pixels: int) -> Photo | Unreadable:
    try:
        data = read_file(root / path)
    except FileNotFoundError:
        return Unreadable(path, "", 0, "the file went away while the archive was read")
    except UnreadableImageError as error:
        return Unreadable(path, "", 0, str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        header = open_image(data, max_pixels=max_pixels)
        image = read_image(data, max_pixels=max_pixels)
    except UnreadableImageError as error:
        return Unreadable(path, sha256, len(data), str(error))
    return Photo(
        path=path,
        sha256=sha256,
        size_bytes=len(data),
        width=image.width,
        height=image.height,
        mode=header.mode,
        format=header.format or "",
        phash=phash_of(image),
        phash_mirrored=phash_of(ImageOps.mirror(image)),
    )


def _load(table: Path | None, known_by: Mapping[bytes, bytes]) -> dict[str, tuple[Stamp, Photo | Unreadable]]:
    """Load the results of an earlier scan of the same version, folder and limit: path → stamp and result."""
    if table is None or not table.is_file():
        return {}
    try:
        rows = pq.read_table(table, page_checksum_verification=True)
        if not known_by.items() <= (rows.schema.metadata or {}).items():
            return {}
        return dict(map(_remembered, rows.to_pylist()))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):  # a broken table: read all files again
        return {}


def _metadata(root: Path, max_pixels: int) -> dict[bytes, bytes]:
    """Make the scan table's metadata; a table is used only if its metadata are the same."""
    numbers = {b"step": str(SCAN_STEP).encode(), b"max_pixels": str(max_pixels).encode()}
    return numbers | {b"folder": os.fsencode(root.resolve())}


def _remembered(row: dict[str, Any]) -> tuple[str, tuple[Stamp, Photo | Unreadable]]:
    """Read a file's path, stamp and result from its row of the table."""
    stamp, reason = (row.pop("size"), row.pop("mtime_ns"), row.pop("ctime_ns")), row.pop("reason")
    item = Photo(**row) if reason is None else Unreadable(row["path"], row["sha256"], row["size_bytes"], reason)
    return row["path"], (stamp, item)


_COLUMNS = {
    **dict.fromkeys(("path", "sha256", "mode", "format", "phash", "phash_mirrored", "reason"), pa.string()),
    **dict.fromkeys(("size_bytes", "width", "height", "size", "mtime_ns", "ctime_ns"), pa.int64()),
}
"""Columns of the Parquet table that keeps a scan, and their types."""


def _save(
    table: Path | None,
    files: dict[str, Stamp],
    result_of: dict[str, Photo | Unreadable],
    known_by: Mapping[bytes, bytes],
) -> None:
    """Write the scan's table, without files that could not be opened, as the next scan may be able to."""
    if table is None:
        return
    rows = [
        {"reason": None, **asdict(item), **dict(zip(("size", "mtime_ns", "ctime_ns"), files[path], strict=True))}
        for path, item in result_of.items()
        if item.sha256
    ]
    schema = pa.schema(_COLUMNS, metadata=known_by)
    write_parquet(table, pa.Table.from_pylist(rows, schema))


def settings_of_folder(folder: Path, settings: PrepareSettings) -> PrepareSettings:
    """Adapt the settings to a folder: in a plain folder of photos, every image is a photo.

    A folder is plain if the patterns of photos are the default ones, and match none of its files.
    """
    named = settings.photos != PrepareSettings().photos
    if named or any(is_chosen(path, settings.photos) for path in walk_images(folder)):
        return settings
    return replace(settings, photos=EVERY)


def rule_of(folder: Path, settings: PrepareSettings) -> str:
    """Say which files of a folder are photos, and how many others there are, as one sentence without a full stop."""
    everything = settings.photos == EVERY
    which = "photos are all images" if everything else f"photos are what matches {', '.join(settings.photos)}"
    less = f", less those that match {', '.join(settings.pages)}" if settings.pages else ""
    others = sum(not is_chosen(path, settings.photos, settings.pages) for path in walk_images(folder))
    left = f", and {counted(others, 'other image is', 'other images are')} left out" if others else ""
    return f"In {folder} {which}{less}{left}; [prepare] photos and pages of neardup.toml choose others"
