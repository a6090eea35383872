"""A stage of the work: its outputs on disk first, its manifest last.

A stage is done when its manifest carries the key of its inputs and every output that it lists is there with the bytes
that it had. Readers trust only the manifest, so a run that was killed at any moment starts again at the first
unfinished stage.
"""

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_native_id
from typing import Any
from zipfile import BadZipFile

from filelock import FileLock, Timeout

from neardup.errors import ArchiveError, system_error
from neardup.words import reason_of

STATE = ".neardup"
"""Folder, in the output folder, for manifests, caches and everything else not meant for people."""
TICK = 2_000_000_000
"""Nanoseconds within which two changes of a file may give the same time: FAT counts in steps of two seconds."""
FLUSHES = 8
"""Files that are flushed to the disk at once. Measured for 4,000 on ext4: 0.8 s by eight, 15.7 s one after another."""
UNFLUSHABLE = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES})
"""Errors by which some network file systems say that the names in a folder cannot be flushed from here."""


ABANDONED_S = 86_400
"""Seconds without a write after which a half-written file counts as left by a killed process."""
_PARTIAL = re.compile(r"\..+\.\d+-\d+\.part(\.\w+)?")
"""Names of the files that `replacing` writes to before they get their own name."""
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx"})
"""Names, in small letters, of files and folders that Windows, macOS and network disks leave in any folder they show."""
LONG_NAME = 200
"""Bytes from which a file's name is cut while the file is written: disks allow 255, and the name grows by 30."""


def models_of(out: Path) -> Path:
    """Folder of the encoders that were fetched or prepared for an output folder."""
    return out / STATE / "models"


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_if_readable(path: Path) -> str | None:
    """SHA-256 of a file's bytes, in hex; None where it is gone or cannot be read."""
    try:
        return digest_file(path)
    except OSError:
        return None


def digest_contents(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder, in hex."""
    if path.is_dir():
        return digest_of([(file.relative_to(path).as_posix(), digest_file(file)) for file in _files(path)])
    return digest_file(path)


def left_by_a_system(name: str) -> bool:
    """Whether an entry of a folder, by its name, is hidden or was left by an operating system."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def _files(folder: Path) -> list[Path]:
    """All files in a folder and its subfolders, in the order of their paths, but those that a system left there."""
    found = []
    for parent, below, names in os.walk(folder):
        below[:] = [name for name in below if not left_by_a_system(name)]
        found += [Path(parent, name) for name in names if not left_by_a_system(name)]
    return sorted(path for path in found if path.is_file())


def digest_of(*parts: object) -> str:
    """SHA-256, in hex, of JSON-able parts; equal parts give equal digests on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` only if the block ends well.

    The written file is flushed to disk and renamed over `path`, so that nobody ever sees half of it. Two threads or
    processes may write the same path at once: the last one's file stays.

    Raises:
        OSError: the file cannot be written, because the disk is full for example; it names `path` where the writer of
            a format names no file, or raises an error of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers choose their format by it.
    stem = (
        path.stem
        if len(os.fsencode(path.name)) < LONG_NAME
        else hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:16]
    )
    partial = path.with_name(f".{stem}.{os.getpid()}-{get_native_id()}.part{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except Exception as error:
        fault = system_error(error)
        if fault is None or fault.errno is None:
            raise
        if fault is error and fault.filename:
            raise
        raise OSError(fault.errno, os.strerror(fault.errno), fault.filename or str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def delete_abandoned(folder: Path) -> None:
    """Delete the half-written files that processes which were killed left in a folder; subfolders are not looked at."""
    oldest = time.time() - ABANDONED_S
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PARTIAL.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                Path(entry.path).unlink(missing_ok=True)


def sync(*paths: Path, root: Path) -> None:
    """Flush files, and folders with everything in them, to the disk, so that a power cut leaves them whole.

    Args:
        paths: the files and folders.
        root: folder whose entries are flushed too, as are those of all folders between it and a path: a file whose
            entry is lost is lost.
    """
    everything = set(paths)
    for path in paths:
        everything |= set(path.rglob("*")) if path.is_dir() else set()
        everything |= {folder for folder in path.parents if folder.is_relative_to(root)}
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(_flush_either, everything))


def _flush_either(path: Path) -> None:
    """Flush a file or the names in a folder; a link to nowhere has nothing to flush."""
    if path.is_dir():
        sync_names(path)
    elif path.exists():
        _flush(path)


def sync_names(folder: Path) -> None:
    """Flush the names in a folder to the disk: what was renamed, made or deleted there stays so after a power cut.

    Some network file systems cannot do that; there it is left out.
    """
    try:
        _flush(folder)
    except OSError as error:
        if error.errno not in UNFLUSHABLE:
            raise


def _flush(path: Path) -> None:
    """Flush the bytes of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(out: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Wait until no other process works in an output folder, and keep others out; the lock dies with its process.

    Whatever writes into an output folder, command or flow, runs inside this block. A block inside another one, in the
    same thread, waits for nobody.

    Args:
        out: the output folder; made where it is not there yet.
        say: called with a sentence if another process works in the folder.
    """
    (out / STATE).mkdir(parents=True, exist_ok=True)
    # A soft lock, which filelock falls back to where a file system has no locks, would outlive a killed process.
    lock = FileLock((out / STATE / "lock").resolve(), is_singleton=True, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(f"another run works in {out}: waiting until it has ended")
        lock.acquire()
    try:
        for folder in (out, out / STATE):
            delete_abandoned(folder)
        yield
    finally:
        lock.release()


def claim(folder: Path, keep: Container[str] | None = None) -> None:
    """Mark a folder in an output folder as neardup's own, in which it may delete what an earlier run left.

    Args:
        folder: the folder; made where it is not there yet.
        keep: names of the files that stay in it, all others but those of a system are deleted; None deletes none.

    Raises:
        ArchiveError: the folder holds files and was not made by neardup.
    """
    sign = folder.parent / STATE / f"{folder.name}.ours"
    if not sign.exists() and _filled(folder):
        raise ArchiveError(f"{folder} holds files that neardup did not write: name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.touch()
    delete_abandoned(folder)
    if keep is None:
        return
    for path in folder.iterdir():
        if path.name not in keep and not left_by_a_system(path.name) and not path.is_dir():
            path.unlink()


def _filled(folder: Path) -> bool:
    """Whether a folder holds more than what a system left there."""
    return folder.exists() and not all(left_by_a_system(path.name) for path in folder.iterdir())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; it is on disk when this returns."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sync_names(path.parent)


@dataclass(frozen=True)
class Stage:
    """One step of the work into one output folder.

    The manifest holds the digest of each output's contents. To read gigabytes at every start would take minutes, so
    that a second file remembers the sizes and times at which those contents were last seen: while they are the same,
    nothing is read. A copied or moved output folder has other times; it is read once, and remembered again.

    Attributes:
        out: the experiment's output folder.
        name: the stage's name, unique within `out`; may contain `/`.
        key: digest of everything that the result depends on (inputs, encoder fingerprint, step version).
    """

    out: Path
    name: str
    key: str

    @property
    def manifest(self) -> Path:
        """Path of the stage's manifest, in the state folder of the output folder."""
        return self.out / STATE / f"{self.name.replace('/', '.')}.json"

    @property
    def _seen(self) -> Path:
        """Output → its digest and the sizes and times that it was seen with; may be deleted at any time."""
        return self.manifest.with_suffix(".seen")

    def read(self) -> dict[str, Any] | None:
        """The manifest if this very stage is done and all its outputs are as it left them, else None."""
        manifest = read_json(self.manifest)
        if manifest.get("key") != self.key or not {"outputs", "facts"} <= manifest.keys():
            return None
        if not all((self.out / path).exists() for path in manifest["outputs"]):
            return None
        states = {path: _state(self.out / path) for path in manifest["outputs"]}
        seen_states = read_json(self._seen)
        present_states = {path: [digest, states[path]] for path, digest in manifest["outputs"].items()}
        changed = [
            path for path in present_states if states[path] is None or seen_states.get(path) != present_states[path]
        ]
        if any(digest_contents(self.out / path) != manifest["outputs"][path] for path in changed):
            return None
        if any(states[path] for path in changed):
            with suppress(OSError):  # an output folder that cannot be written to can still be read
                write_json(self._seen, present_states)
        return manifest

    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.read() is not None

    def finish(self, outputs: Iterable[Path], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Record the outputs (files, or folders with all their files) and a few facts; the last act of a stage.

        The outputs are on the disk before the manifest says so.
        """
        paths = list(outputs)
        sync(*paths, root=self.out)
        digests = {path.relative_to(self.out).as_posix(): digest_contents(path) for path in paths}
        manifest = {"stage": self.name, "key": self.key, "outputs": digests, "facts": dict(facts or {})}
        write_json(self.manifest, manifest)
        return manifest


@contextmanager
def reading(path: Path, again: str) -> Iterator[None]:
    """Context that turns errors of reading a broken file of neardup's into a sentence with advice.

    Args:
        path: the file.
        again: what the user does to have it made anew.

    Raises:
        ArchiveError: the file is broken or incomplete.
    """
    try:
        yield
    except (AttributeError, BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{path} is damaged ({reason_of(error)}): {again}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if there is no file, or something other than an object."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        return {}


def _state(path: Path) -> str | None:
    """Digest of the name, size and times of a file, or of all files in a folder: an edit gives another one.

    The time of the last metadata change (ctime) counts too, because a program can reset that of the last modification.

    Returns:
        None if a file was changed so lately that another change might go unnoticed.
    """
    states = []
    for file in _files(path) if path.is_dir() else [path]:
        status = file.stat()
        states.append((str(file.relative_to(path)), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    latest = max((max(written, changed) for *_, written, changed in states), default=0)
    return digest_of(states) if latest + TICK < time.time_ns() else None
