"""Results of which a file is broken: one sentence says which and what makes it anew, whoever reads them."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_results import small_results

from neardup.cli import main
from neardup.errors import ArchiveError
from neardup.review.found.contents import Contents
from neardup.stages import read_json
from neardup.verify.store import read_evidence


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("review --port 0", "pairs.parquet"),
        ("review --port 0", "groups.parquet"),
        ("review --port 0", "duplicates.json"),
        ("verdicts export", "pairs.parquet"),
        ("verdicts share", "evidence.parquet"),
        ("verdicts recalibrate", "pairs.parquet"),
        ("verdicts recalibrate", "duplicates.json"),
    ],
)
def test_a_broken_file_of_the_results_is_named(command: str, name: str, tmp_path: Path) -> None:
    """With the command that writes it again, and without a traceback."""
    _, out = small_results(tmp_path, groups=1)
    (out / "duplicates" / name).write_bytes(b"PAR1\xff\xfe half of a file")
    ran = CliRunner().invoke(main, [*command.split(), "--out", str(out)], catch_exceptions=False)
    assert ran.exit_code == 1
    assert f"{name} {'is damaged' if name.endswith('.json') else 'cannot be read'}" in ran.stderr
    assert "run `neardup duplicates ARCHIVE" in ran.stderr


@pytest.mark.parametrize("command", ["review --port 0", "verdicts export"])
def test_results_whose_writing_was_killed_are_refused(command: str, tmp_path: Path) -> None:
    """The counts are written last: without them pairs and groups may be of two runs."""
    _, out = small_results(tmp_path, groups=1)
    (out / "duplicates" / "duplicates.json").unlink()
    ran = CliRunner().invoke(main, [*command.split(), "--out", str(out)], catch_exceptions=False)
    assert ran.exit_code == 1
    assert "duplicates.json does not exist, for a run was stopped before it had written all tables" in ran.stderr
    assert f"run `neardup duplicates ARCHIVE --out {out}` again" in ran.stderr


def test_evidence_of_a_version_before_is_read(tmp_path: Path) -> None:
    """What it lacks has its default; a table of something else is refused in a sentence."""
    _, out = small_results(tmp_path, groups=1)
    path = out / "duplicates" / "evidence.parquet"
    known = read_evidence(path)
    pq.write_table(pq.read_table(path).drop_columns(["plain_first", "plain_second"]), path)
    unsaid = {pair: replace(evidence, plain_first=0.0, plain_second=0.0) for pair, evidence in known.items()}
    assert read_evidence(path) == unsaid != {}
    pq.write_table(pq.read_table(path).select(["first", "second"]), path)
    with pytest.raises(ArchiveError, match="cannot be read"):
        read_evidence(path)


def test_a_damaged_memory_of_contents_is_made_anew(tmp_path: Path) -> None:
    """It is a cache: the photo is read again."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    cache = tmp_path / "contents.sqlite"
    with closing(Contents(tmp_path, cache)) as contents:
        digest = contents.digest("a.jpg")
    data = cache.read_bytes()
    for damaged in (b"no database" * 100, data[:4096] + bytes(len(data) - 4096)):
        cache.write_bytes(damaged)
        with closing(Contents(tmp_path, cache)) as contents:
            assert contents.digest("a.jpg") == digest


def test_a_memory_of_contents_forgets_what_was_replaced(tmp_path: Path) -> None:
    """Other bytes at a path are another photo: a verdict must not pass to them."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    with closing(Contents(tmp_path, tmp_path / "contents.sqlite")) as contents:
        before = contents.digest("a.jpg")
        assert contents.remembered() == {"a.jpg": before}
        (tmp_path / "a.jpg").write_bytes(b"other")
        assert contents.remembered() == {}
        assert contents.digest("a.jpg") == hashlib.sha256(b"other").hexdigest() != before


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[1]", b"3"])
def test_what_is_no_object_in_json_is_as_if_it_were_not_there(content: bytes, tmp_path: Path) -> None:
    """So a manifest that is broken in whatever way means that its stage is done again."""
    file = tmp_path / "manifest.json"
    file.write_bytes(content)
    assert read_json(file) == {}
