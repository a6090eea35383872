"""A stage is done when its manifest and its outputs say so, and never before."""

import gc
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from neardup import stages
from neardup.errors import ArchiveError
from neardup.stages import Stage, alone, claim, digest_of, replacing, sync, write_json
from neardup.tables import write_table


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are flushed to the disk, in their order; they are flushed indeed."""
    paths: list[str] = []
    flush = os.fsync

    def recorded(descriptor: int) -> None:
        flush(descriptor)
        paths.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", recorded)
    return paths


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage that made a folder of two files some time ago, and was seen whole since."""
    monkeypatch.setattr(stages, "TICK", 50_000_000)
    stage = Stage(tmp_path / "out", "a", "key")
    for name in ("x", "below/y"):
        path = stage.out / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    stage.finish([stage.out / "folder"])
    wait_until_old(stage.out / "folder")
    assert stage.done()
    return stage


def wait_until_old(folder: Path) -> None:
    """Wait until another change of a file would change its times on any file system."""
    latest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    time.sleep(max(0, latest + stages.TICK - time.time_ns()) / 1e9 + 0.01)


def test_a_stage_is_done_once_finished(tmp_path: Path) -> None:
    """The manifest makes it done."""
    stage = Stage(tmp_path, "a/b", "key")
    (tmp_path / "x").write_text("1")
    assert not stage.done()
    stage.finish([tmp_path / "x"], {"n": 1})
    assert stage.read()["facts"] == {"n": 1}


@pytest.mark.parametrize("harm", [lambda p: p.unlink(), lambda p: p.write_text("2")], ids=["gone", "changed"])
def test_a_harmed_output_undoes_it(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    """A file that is gone or other than it was means the work is to be done again."""
    stage = Stage(tmp_path, "a", "key")
    (tmp_path / "x").write_text("1")
    stage.finish([tmp_path / "x"])
    harm(tmp_path / "x")
    assert not stage.done()


def test_another_key_undoes_it(tmp_path: Path) -> None:
    """Other inputs, other key: the old result does not count."""
    Stage(tmp_path, "a", "key").finish([])
    assert not Stage(tmp_path, "a", "other").done()


@pytest.mark.parametrize("name", ["x", "below/y"])
def test_an_edit_that_keeps_the_size_undoes_a_folder(finished: Stage, name: str) -> None:
    """Other bytes of the same number are noticed, below the folder's subfolders as well."""
    (finished.out / "folder" / name).write_text("2")
    assert not finished.done()


def test_an_edit_whose_time_is_set_back_undoes_a_folder(finished: Stage) -> None:
    """The time of the last writing is not trusted alone."""
    path = finished.out / "folder" / "x"
    before = path.stat()
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not finished.done()


def test_what_is_new_is_not_taken_as_seen(tmp_path: Path) -> None:
    """On a file system whose clock has not ticked since, another edit would leave the same times: it is read again."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("1")
    stage = Stage(tmp_path, "a", "key")
    stage.finish([tmp_path / "folder"])
    assert stage.done()
    assert not stage._seen.exists()


@pytest.mark.parametrize("name", ["x", "z"])
def test_a_file_that_went_or_came_undoes_a_folder(finished: Stage, name: str) -> None:
    """A folder is what it was, no less and no more."""
    path = finished.out / "folder" / name
    if path.exists():
        path.unlink()
    else:
        path.write_text("1")
    assert not finished.done()


@pytest.mark.parametrize("name", [".DS_Store", "._x", "below/Thumbs.db", "@eaDir/x/thumbnail.jpg"])
def test_what_a_system_leaves_in_a_folder_changes_nothing(finished: Stage, name: str) -> None:
    """To open a folder in a file manager is no edit."""
    path = finished.out / "folder" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1")
    assert finished.done()


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2], ids=["new times", "times kept"])
def test_a_copied_output_folder_is_done(finished: Stage, tmp_path: Path, copy: Callable[..., object]) -> None:
    """Its bytes are the same, whatever the times of its files."""
    shutil.copytree(finished.out, tmp_path / "copy", copy_function=copy)
    assert Stage(tmp_path / "copy", "a", "key").done()


def test_a_copied_output_folder_that_was_edited_is_not_done(finished: Stage, tmp_path: Path) -> None:
    """What was seen in the place that it was copied from does not count."""
    shutil.copytree(finished.out, tmp_path / "copy")
    (tmp_path / "copy" / "folder" / "x").write_text("2")
    assert not Stage(tmp_path / "copy", "a", "key").done()


def test_what_was_seen_whole_is_not_read_again(finished: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of gigabytes costs a look at the sizes and times of its files."""
    monkeypatch.setattr(stages, "digest_file", pytest.fail)
    assert finished.done()


def test_a_folder_that_cannot_be_written_to_is_read_each_time(finished: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be remembered, a stage is done all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError

    finished._seen.unlink()
    monkeypatch.setattr(stages, "write_json", refuse)
    assert finished.done()
    assert not finished._seen.exists()


def test_outputs_are_on_the_disk_before_the_manifest(tmp_path: Path, flushed: list[str]) -> None:
    """Each file, and the folders that hold their names up to the output folder, and only then the manifest."""
    (tmp_path / "a" / "folder").mkdir(parents=True)
    (tmp_path / "a" / "folder" / "x").write_text("1")
    stage = Stage(tmp_path, "a", "key")
    stage.finish([tmp_path / "a" / "folder"])
    assert set(flushed[:4]) == {str(tmp_path / path) for path in ("a/folder/x", "a/folder", "a", "")}
    assert flushed[4].endswith(".part.json")
    assert flushed[5:] == [str(stage.manifest.parent)]


def test_a_record_and_its_name_are_on_the_disk(tmp_path: Path, flushed: list[str]) -> None:
    """A power cut after it was written leaves it."""
    write_json(tmp_path / "x.json", {})
    assert [Path(path).suffix for path in flushed] == [".json", ""]
    assert flushed[1] == str(tmp_path)


def test_a_link_to_nowhere_is_no_obstacle(tmp_path: Path, flushed: list[str]) -> None:
    """It has no bytes that could be flushed."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "gone")
    sync(tmp_path / "folder", root=tmp_path)
    assert set(flushed) == {str(tmp_path / "folder"), str(tmp_path)}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A writer that fails leaves the old file as it was, and no rest beside it."""
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {other.name: other.read_text() for other in tmp_path.iterdir()} == {"x.txt": "old"}


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """The operating system refuses to make any file larger than so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
"""A picture that no format can compress."""
WRITERS: dict[str, Callable[[Path], object]] = {
    "x.csv": lambda path: path.write_bytes(NOISE.tobytes()),
    "x.png": Image.fromarray(NOISE).save,
    "x.parquet": lambda path: pq.write_table(pa.table({"a": NOISE.ravel()}), path),
    "x.safetensors": lambda path: save_file({"a": NOISE}, path),
}
"""Name of a file → what writes some kilobytes into it."""


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_refuses_is_said_with_the_name_of_the_file(name: str, tmp_path: Path) -> None:
    """Whatever error the writer of the format raises; nothing is left."""
    with small_files(1000), pytest.raises(OSError, match="File too large") as raised, replacing(tmp_path / name) as to:
        WRITERS[name](to)
    assert raised.value.filename == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_on_a_disk_that_refuses_is_said_with_its_name(tmp_path: Path) -> None:
    """Its writer wraps the error of the operating system in one of its own."""
    with small_files(1000), pytest.raises(OSError, match="File too large") as raised:
        write_table(tmp_path / "x.xlsx", ["a"], [[text] for text in NOISE.ravel().astype(str)])
    assert raised.value.filename == str(tmp_path / "x.xlsx")
    del raised
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the writer leaves the file open that it could not write
        gc.collect()


def test_a_file_may_have_the_longest_name_that_disks_take(tmp_path: Path) -> None:
    """An archive's photos keep their names, and what stands beside it while it is written has a shorter one."""
    path = tmp_path / f"{'é' * 125}.jpg"
    with replacing(path) as partial:
        partial.write_bytes(b"x")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_half_written_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    """A day after the last write, by the next run there; not one that may still be written, and nobody else's file."""
    out = tmp_path / "out"
    claim(out / "tables")
    names = [".pairs.12-34.part.parquet", ".pairs.12-34.part", ".mine.part.csv", "pairs.12-34.part.csv"]
    for folder in (out, out / "tables"):
        for name in names:
            (folder / name).touch()
            os.utime(folder / name, (0, 0))
        (folder / ".groups.12-34.part.parquet").touch()
    with alone(out, print):
        claim(out / "tables")
    left = {".groups.12-34.part.parquet", *names[2:]}
    for folder in (out, out / "tables"):
        assert {path.name for path in folder.iterdir() if path.is_file()} == left


def test_equal_parts_give_equal_digests() -> None:
    """The order of a mapping's keys does not matter."""
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


HOLDER = """
import sys
from pathlib import Path
from neardup.stages import alone

with alone(Path(sys.argv[1]), lambda line: print(line, flush=True)):
    print("in", flush=True)
    sys.stdin.read()
print("out", flush=True)
"""
"""A process that works in a folder until its standard input ends."""


@contextmanager
def holder(out: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start that process, as Python runs without docstrings and assertions, and end it."""
    command = [sys.executable, "-OO", "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def line_of(process: "subprocess.Popen[str]") -> str:
    """The next line that a process prints."""
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_process_waits_and_says_so(tmp_path: Path) -> None:
    """It works in the folder only when the first has ended."""
    with holder(tmp_path) as first:
        assert line_of(first) == "in"
        with holder(tmp_path) as second:
            assert line_of(second) == f"another run works in {tmp_path}: waiting until it has ended"
            first.communicate()
            assert line_of(second) == "in"


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """A process that was killed keeps nobody out."""
    with holder(tmp_path) as first:
        assert line_of(first) == "in"
        first.kill()
        first.wait()
        with holder(tmp_path) as second:
            assert line_of(second) == "in"


def test_a_process_that_works_in_a_folder_may_enter_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever name of the folder, it does not wait for itself; the inner block's end lets nobody in."""
    monkeypatch.chdir(tmp_path)
    with alone(tmp_path, pytest.fail):
        with alone(Path(), pytest.fail):
            pass
        with holder(tmp_path) as other:
            assert "waiting" in line_of(other)


def test_a_folder_of_somebody_else_is_not_claimed(tmp_path: Path) -> None:
    """One that holds files is refused and left as it is; a new one is ours, and stays so when we have written there."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "mine.jpg").write_text("mine")
    for _ in range(2):
        with pytest.raises(ArchiveError, match="holds files that neardup did not write"):
            claim(tmp_path / "theirs")
    claim(tmp_path / "ours")
    (tmp_path / "ours" / "x.jpg").write_text("x")
    claim(tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == ["mine.jpg", "x.jpg"]


def test_a_claimed_folder_keeps_what_is_named_and_what_a_system_left(tmp_path: Path) -> None:
    """Neither a folder of thumbnails nor one that was opened in a file manager stops the work."""
    folder = tmp_path / "ours"
    (folder / "@eaDir").mkdir(parents=True)
    (folder / ".DS_Store").write_text("1")
    claim(folder)
    for name in ("new.jpg", "stale.jpg"):
        (folder / name).write_text("1")
    claim(folder, keep={"new.jpg"})
    assert sorted(path.name for path in folder.iterdir()) == [".DS_Store", "@eaDir", "new.jpg"]


def test_two_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    """Each writes a file of its own; whoever ends last is read, whole."""
    path, both_write = tmp_path / "picture.txt", threading.Barrier(2)

    def write(text: str) -> None:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
            both_write.wait(10)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("first" * 1000, "second" * 1000)))
    assert path.read_text(encoding="utf-8") in {"first" * 1000, "second" * 1000}
    assert [file.name for file in tmp_path.iterdir()] == ["picture.txt"]
