"""A stage is done when its manifest and its outputs say so, and never before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neardup.stages import Stage, digest_of, replacing


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
