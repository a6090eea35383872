"""The scan: every image file under the photo folders, read once, with what is known of it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ImageOps
from tqdm import tqdm

from neardup.archive.hashes import photo_hash
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, SUFFIXES, open_image, read_image
from neardup.stages import digest_of, replacing

SAVE_EVERY = 2000
"""Files between two savings of the table: what a kill may cost."""


@dataclass(frozen=True)
class Photo:
    """One image file that decodes.

    Attributes:
        path: where it lies, relative to the archive, with `/`, exactly as on disk.
        sha256: digest of its bytes: the photo's identity.
        size_bytes: length of the file.
        width: pixels, as a person sees it (EXIF orientation applied).
        height: pixels, likewise.
        mode: Pillow's mode in the file: RGB, L, CMYK, I;16 …
        format: what the content is, whatever the name says: JPEG, PNG …
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
        """The file's name."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Unreadable:
    """One file with the name of an image that cannot be decoded, and why."""

    path: str
    sha256: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Archive:
    """What a scan found.

    Attributes:
        root: the archive's folder.
        photos: files that decode, ordered by path.
        unreadable: files that do not, ordered by path.
        read_anew: how many files had to be read; the others were known from the scan before.
    """

    root: Path
    photos: tuple[Photo, ...]
    unreadable: tuple[Unreadable, ...]
    read_anew: int

    @cached_property
    def digest(self) -> str:
        """Digest of every path and content."""
        items: list[Photo | Unreadable] = [*self.photos, *self.unreadable]
        return digest_of([(item.path, item.sha256) for item in items])


def check_folders(root: Path, out: Path) -> None:
    """Refuse what cannot work before anything is done.

    Raises:
        ArchiveError: the archive is not there, or `out` lies inside it.
    """
    if not root.is_dir():
        raise ArchiveError(f"{root} is not a folder: name the folder that holds the photographs")
    if out.resolve().is_relative_to(root.resolve()):
        raise ArchiveError(
            f"{out} lies inside the archive {root}, which is never written to: name another folder with --out"
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
        table: Parquet file that remembers what was found; files of equal size and time are not read again.
        patterns: globs, relative to `root`, of the files that are photographs.
        exclude: globs of files that are not.
        max_pixels: an image of more pixels is listed as unreadable.

    Raises:
        ArchiveError: `root` is not a folder.
    """
    if not root.is_dir():
        raise ArchiveError(f"{root} is not a folder: name the folder that holds the photographs")
    known = _load(table, max_pixels)
    files = {path: _stamp(root / path) for path in find_images(root, patterns, exclude)}
    new = [path for path, stamp in files.items() if path not in known or known[path][0] != stamp]
    found = {path: item for path, (stamp, item) in known.items() if files.get(path) == stamp}
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        results = pool.map(lambda path: _read(root, path, max_pixels), new)
        for count, item in enumerate(
            tqdm(results, "reading photos", len(new), unit="photo", disable=None if new else True), 1
        ):
            found[item.path] = item
            if count % SAVE_EVERY == 0:
                _save(table, files, found, max_pixels)
    if new or len(found) != len(known):
        _save(table, files, found, max_pixels)
    ordered = [found[path] for path in files]
    photos = tuple(item for item in ordered if isinstance(item, Photo))
    return Archive(root, photos, tuple(item for item in ordered if isinstance(item, Unreadable)), len(new))


def find_images(root: Path, patterns: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Paths, relative to `root` and ordered, of files with an image's suffix that a pattern names."""
    return sorted(path for path in walk_images(root) if is_chosen(path, patterns, exclude))


def walk_images(root: Path) -> Iterator[str]:
    """Paths, relative to `root`, of all files with an image's suffix, folder by folder; the same order each time."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(root).as_posix()
        before = "" if inside == "." else f"{inside}/"
        for name in sorted(names):  # a path object for each of a million names would take 20 s
            if not name.startswith((".", "~$")) and os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122
                yield before + name


def is_chosen(path: str, patterns: Sequence[str], exclude: Sequence[str] = ()) -> bool:
    """Whether one of the patterns names a path, relative to the archive, and none of those that exclude does."""
    return any(_matches(path, glob) for glob in patterns) and not any(_matches(path, glob) for glob in exclude)


def _matches(path: str, pattern: str) -> bool:
    """Whether a glob names a path; `**` stands for any number of folders, and a last `**` for all below."""
    return _match(tuple(path.lower().split("/")), _parts(pattern))  # path objects would take ten times as long


@lru_cache
def _parts(pattern: str) -> tuple[str, ...]:
    """The parts of a glob between the slashes, in small letters."""
    return PurePosixPath(pattern.lower()).parts


def _match(parts: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return len(globs) == 1 or any(_match(parts[i:], globs[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _match(parts[1:], globs[1:])


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read(root: Path, path: str, max_pixels: int) -> Photo | Unreadable:
    try:
        data = (root / path).read_bytes()
    except PermissionError:
        return Unreadable(path, "", 0, "no permission to read the file")
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
        phash=photo_hash(image),
        phash_mirrored=photo_hash(ImageOps.mirror(image)),
    )


def _load(table: Path | None, max_pixels: int) -> dict[str, tuple[tuple[int, int], Photo | Unreadable]]:
    if table is None or not table.is_file():
        return {}
    rows = pq.read_table(table)
    if (rows.schema.metadata or {}).get(b"max_pixels") != str(max_pixels).encode():
        return {}
    known: dict[str, tuple[tuple[int, int], Photo | Unreadable]] = {}
    for row in rows.to_pylist():
        stamp = row.pop("size"), row.pop("mtime_ns")
        reason = row.pop("reason")
        item = Photo(**row) if reason is None else Unreadable(row["path"], row["sha256"], row["size_bytes"], reason)
        known[row["path"]] = (stamp, item)
    return known


_COLUMNS = {
    **dict.fromkeys(("path", "sha256", "mode", "format", "phash", "phash_mirrored", "reason"), pa.string()),
    **dict.fromkeys(("size_bytes", "width", "height", "size", "mtime_ns"), pa.int64()),
}


def _save(
    table: Path | None,
    files: dict[str, tuple[int, int]],
    found: dict[str, Photo | Unreadable],
    max_pixels: int,
) -> None:
    if table is None:
        return
    rows = [
        {"reason": None, **asdict(item), "size": files[path][0], "mtime_ns": files[path][1]}
        for path, item in found.items()
    ]
    schema = pa.schema(_COLUMNS, metadata={"max_pixels": str(max_pixels)})
    with replacing(table) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema), partial)
