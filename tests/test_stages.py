"""A stage is done when its manifest and its outputs say so, and never before."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neardup.stages import Stage, alone, digest_of, replacing


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
