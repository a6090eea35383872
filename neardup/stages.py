"""A stage of the work: its outputs on disk first, its manifest last.

A stage is done when its manifest carries the key of its inputs and every output that it lists is there, whole.
Readers trust only the manifest, so a run that was killed at any moment starts again at the first unfinished stage.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from neardup.errors import ArchiveError

STATE = ".neardup"
"""Folder in the output folder that holds manifests, caches and everything else not meant for people."""


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(*parts: object) -> str:
    """SHA-256, in hex, of JSON-able parts; equal parts give equal digests on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` only if the block ends well.

    The written file is flushed to disk and renamed over `path`, so that nobody ever sees half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers choose their format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def alone(out: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Wait until no other process works in an output folder, and keep others out; the lock dies with its process.

    Whatever writes into an output folder, command or flow, runs inside this block. A block inside another one, in the
    same thread, waits for nobody.

    Args:
        out: the output folder; made where it is not there yet.
        say: is told if there is somebody to wait for.
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
        yield
    finally:
        lock.release()


def claim(folder: Path) -> None:
    """Make a folder of an output folder ours, so that we may delete in it what a former run left there.

    Raises:
        ArchiveError: it holds files and was not made by us.
    """
    sign = folder.parent / STATE / f"{folder.name}.ours"
    if not sign.exists() and folder.exists() and any(folder.iterdir()):
        raise ArchiveError(f"{folder} holds files that neardup did not write: name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.touch()


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Stage:
    """One step of the work into one output folder.

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
        """Where the manifest lies."""
        return self.out / STATE / f"{self.name.replace('/', '.')}.json"

    def read(self) -> dict[str, Any] | None:
        """The manifest if this very stage is done and all its outputs are whole, else None."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if manifest.get("key") != self.key:
            return None
        if all(self._whole(path, mark) for path, mark in manifest["outputs"].items()):
            return dict(manifest)
        return None

    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.read() is not None

    def finish(self, outputs: Iterable[Path], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Record the outputs (files, or folders whose files are counted) and a few facts; the last act of a stage."""
        marks = {path.relative_to(self.out).as_posix(): self._mark(path) for path in outputs}
        manifest = {"stage": self.name, "key": self.key, "outputs": marks, "facts": dict(facts or {})}
        write_json(self.manifest, manifest)
        return manifest

    def _mark(self, path: Path) -> str:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            return digest_of([(p.relative_to(path).as_posix(), p.stat().st_size) for p in files])
        return digest_file(path)

    def _whole(self, relative: str, mark: str) -> bool:
        path = self.out / relative
        return path.exists() and self._mark(path) == mark
