"""What a command says when something is wrong with the computer, the folder or the user's patience: one sentence."""

import errno
import json
import logging
import os
import shutil
import socket
import sqlite3
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from made_results import small_results
from PIL import Image

from neardup.cli import Commands, main
from neardup.cli.faults import sentence_of
from neardup.cli.output import print_result
from neardup.cli.sections import SECTIONS
from neardup.review.record.verdicts import Verdict, open_verdicts


def neardup(*arguments: object) -> Result:
    """Run the command in this process; what it does not turn into a sentence is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def failing(fault: BaseException) -> Commands:
    """A command line whose only command raises this fault."""

    @click.command()
    def fail() -> None:
        """Raise it."""
        raise fault

    return Commands(commands={"fail": fail}, params=[click.Option(["--debug"], is_flag=True)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one small image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("L", (32, 24), 128).save(folder / "é 1.png")
    return folder


def test_ctrl_c_that_a_library_stumbles_over_is_ctrl_c() -> None:
    """Prefect, interrupted while it makes a task run, raises another error; neither it nor its traceback is shown."""
    error = ValueError("Task run is not set")
    error.__context__ = KeyboardInterrupt()
    ran = CliRunner().invoke(failing(error), ["fail"])
    assert ran.exit_code == 130
    assert ran.stderr.strip() == "neardup: interrupted; run the same command again and it goes on where it was"
    assert CliRunner().invoke(failing(ValueError()), ["fail"]).exit_code == 1
    import_module("tasks.running")
    logger = logging.getLogger("prefect.flow_runs")
    records = [
        logger.makeRecord(logger.name, logging.ERROR, "", 0, "it failed", (), (type(fault), fault, None))
        for fault in (error, ValueError())
    ]
    assert all(map(logger.filter, records))
    assert [record.exc_info is None for record in records] == [True, False]


def test_the_help_lists_each_command_in_one_section() -> None:
    """No command is missing, none is listed twice, and no line is cut off on a narrow terminal."""
    listed = [name for lines in SECTIONS.values() for name in lines]
    assert sorted(listed) == sorted(main.commands)
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert all(line in text for lines in SECTIONS.values() for line in lines.values())


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "out/.x.1-2.part.png"), "out: permission denied; ask"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a"), "out/a: no space left on device; make room"),
        (OSError(errno.EROFS, "Read-only file system", b"out"), "out: read-only file system; it can only be read"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/proc/x"), "/proc/x: no such file or directory; look"),
        (sqlite3.OperationalError("database or disk is full"), "records of the run cannot be written"),
        (
            sqlite3.DatabaseError("file is not a database"),
            "is damaged (file is not a database); if it is mlflow.db, put a",
        ),
        (sqlite3.OperationalError("attempt to write a readonly database"), "(readonly database); ask for the right"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Refused"),
            ": connection refused; see whether the address is right",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), ": name not known; see whether the address is right"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ": no space left on device; make room"),
    ],
)
def test_a_fault_of_the_system_is_one_sentence(fault: Exception, sentence: str) -> None:
    """It says what is wrong, where, and what to do, and the exit status is 1."""
    ran = CliRunner().invoke(failing(fault), ["fail"])
    assert (ran.exit_code, ran.stderr.count("\n")) == (1, 1)
    assert sentence in ran.stderr


def test_a_fault_of_the_system_keeps_its_traceback_with_debug() -> None:
    """Whoever looks for the cause gets the error itself."""
    with pytest.raises(PermissionError):
        CliRunner().invoke(failing(PermissionError(errno.EACCES, "")), ["--debug", "fail"], catch_exceptions=False)


def test_a_mistake_of_ours_is_no_sentence() -> None:
    """An error that no user can mend is not hidden."""
    assert sentence_of(KeyError("x")) is None
    with pytest.raises(KeyError):
        CliRunner().invoke(failing(KeyError("x")), ["fail"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("augment --queries new --recipe press", "--recipe"),
        ("augment --queries new --copies 0", "--copies"),
        ("train --adapted --seed 0", "seed"),
        ("train --adapted --augmentation press", "augmentation"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(command: str, option: str) -> None:
    """Nobody believes that it was heard."""
    ran = CliRunner().invoke(main, command.split())
    assert (ran.exit_code, option in ran.stderr.splitlines()[-1]) == (2, True)


def test_the_limit_on_pixels_is_that_of_the_settings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever raises it, as the sentence of a photo that is too large says, is heard by every command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neardup.toml").write_text("[prepare]\nmax_pixels = 700\n")
    ran = neardup("explain", photos / "é 1.png", photos / "é 1.png")
    assert (ran.exit_code, "32 x 24 pixels are over the limit of 700: raise" in ran.stderr) == (1, True)
    _, out = small_results(tmp_path / "made", groups=1)
    assert neardup("verdicts", "share", "--out", out).exit_code == 0
    assert list(out.rglob("*.jpg")) == []


def test_an_interruption_says_how_to_go_on() -> None:
    """Ctrl-C ends with the shell's status for it and one sentence."""
    ran = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert (ran.exit_code, "run the same command again" in ran.stderr) == (130, True)


def test_a_folder_of_photos_that_are_not_read_says_so(tmp_path: Path) -> None:
    """One of a format that neardup does not read is named, with what to do."""
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "IMG 1.HEIC").write_bytes(b"a photo of a phone")
    ran = neardup("duplicates", tmp_path / "phone", "--out", tmp_path / "out")
    assert "(IMG 1.HEIC: of a format that is not read: convert it to TIFF or JPEG): name the" in ran.stderr


def test_a_folder_of_pages_alone_says_so(photos: Path, tmp_path: Path) -> None:
    """They are left out, and nothing is left."""
    shutil.copytree(photos, tmp_path / "issue" / "Pages")
    ran = neardup("duplicates", tmp_path / "issue", "--out", tmp_path / "out")
    assert "issue holds images in folders called pages alone, and such are left out: name" in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["duplicates"], ["embed", "--encoder", "builtin:tiny"]])
def test_a_folder_without_images_is_refused_before_anything_is_written(command: list[str], tmp_path: Path) -> None:
    """An empty folder is a mistake of the path more often than a wish."""
    (tmp_path / "empty").mkdir()
    ran = neardup(*command, tmp_path / "empty", "--out", tmp_path / "out" / "x")
    assert (ran.exit_code, "empty holds no image that can be read: name the folder" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        "embed {0} --encoder builtin:tiny --out {0}/new/v.parquet",
        "search x.jpg --in v.parquet --encoder builtin:tiny --photos {0} --page {0}/hits.html",
        "verdicts export --out {1} --to {0}/new/x.xlsx",
        "verdicts share --out {1} --to {0}/new",
    ],
)
def test_no_command_writes_into_the_archive(command: str, tmp_path: Path) -> None:
    """Each refuses a place within it before anything is written."""
    archive, out = small_results(tmp_path, groups=1)
    before = sorted(archive.rglob("*"))
    ran = neardup(*command.format(archive, out).split())
    assert (ran.exit_code, "which is never written to" in ran.stderr) == (1, True)
    assert sorted(archive.rglob("*")) == before


def test_verdicts_go_to_a_workbook_or_a_csv_alone(tmp_path: Path) -> None:
    """A workbook under the name of another format could not be imported again."""
    _, out = small_results(tmp_path, groups=1)
    ran = neardup("verdicts", "export", "--out", out, "--to", tmp_path / "x.ods")
    assert (ran.exit_code, "a name that ends with .xlsx or .csv" in ran.stderr) == (1, True)
    assert not (tmp_path / "x.ods").exists()


def test_vectors_that_are_none_are_one_sentence(photos: Path) -> None:
    """Whoever names a photo in place of the vectors learns what makes them."""
    image = photos / "é 1.png"
    ran = neardup("search", image, "--in", image, "--encoder", "builtin:tiny")
    assert (ran.exit_code, "é 1.png holds no vectors of neardup: make it anew with" in ran.stderr) == (1, True)


def test_a_name_with_a_line_break_stays_on_its_line(photos: Path, tmp_path: Path) -> None:
    """Each hit is one line, in which the name's foreign signs are written out."""
    (photos / "é 1.png").rename(photos / "two\nlines\t.png")
    (photos / "bad\n.png").write_bytes(b"no picture")
    vectors = tmp_path / "v.parquet"
    ran = neardup("embed", photos, "--out", vectors, "--encoder", "builtin:tiny")
    assert r"left out bad\n.png: " in ran.stderr
    ran = neardup("search", photos, "--in", vectors, "--encoder", "builtin:tiny", "--no-verify")
    assert ran.stdout.splitlines() == [r"two\nlines\t.png", r"  1  1.0000  two\nlines\t.png  (itself)"]
    named = photos / "two\nlines\t.png"
    ran = neardup("explain", named, named, "--picture", tmp_path / "x.png")
    assert (ran.stdout.splitlines()[0].count(r"two\nlines\t.png"), len(ran.stdout.splitlines())) == (2, 2)
    ran = neardup("explain", photos / "no\n.png", named)
    assert (ran.exit_code, ran.stderr.count("\n"), r"no\n.png is not there" in ran.stderr) == (1, 1, True)


def test_a_decision_of_a_folder_that_is_not_there_is_refused(photos: Path, tmp_path: Path) -> None:
    """The shipped one never stands in for the one that was meant."""
    image = photos / "é 1.png"
    ran = neardup("explain", image, image, "--in", tmp_path / "no", "--picture", tmp_path / "x.png")
    assert (ran.exit_code, "no is not there: name with --in" in ran.stderr) == (1, True)


def test_two_photos_are_explained_by_the_encoder_of_their_results(
    photos: Path, small_encoder: str, tmp_path: Path
) -> None:
    """As their pair was found; another one is asked only where it is named."""
    image, out = photos / "é 1.png", tmp_path / "results"
    (out / "duplicates").mkdir(parents=True)
    made_with = {"encoder": small_encoder, "archive": str(photos)}
    (out / "duplicates" / "duplicates.json").write_text(json.dumps(made_with))
    explain = ("explain", image, image, "--in", out, "--picture", tmp_path / "x.png")
    assert "No decision belongs to this encoder" in neardup(*explain).stdout
    assert "Probability" in neardup(*explain, "--encoder", "builtin:tiny").stdout
    assert "which is never written to" in neardup(*explain[:-1], photos / "new.png").stderr


def test_a_result_with_a_name_that_is_not_utf8_is_printed() -> None:
    """Its bytes are escaped, and JSON stays what every program reads."""

    @click.command()
    def show() -> None:
        """Print it."""
        print_result({"photo": "\udce9.jpg"}, "", as_json=True)

    assert json.loads(CliRunner().invoke(show, catch_exceptions=False).stdout) == {"photo": "\udce9.jpg"}


def test_decoys_that_are_not_there_are_refused_before_a_run(photos: Path, tmp_path: Path) -> None:
    """Nobody waits for a search to learn that a path was misspelt."""
    ran = neardup("duplicates", photos, "--out", tmp_path / "out", "--decoys", tmp_path / "no")
    assert (ran.exit_code, "no is not a folder" in ran.stderr) == (1, True)
    ran = neardup("duplicates", photos, "--out", tmp_path / "out", "--decoys", tmp_path, "--no-verify")
    assert (ran.exit_code, "with --no-verify nothing is linked" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_is_not_there_is_one_line(photos: Path, tmp_path: Path) -> None:
    """It is refused before the run begins, so that the sentence does not stand among the lines of a log."""
    ran = neardup("duplicates", photos, "--out", tmp_path / "out", "--encoder", "./no")
    assert (ran.exit_code, ran.stderr.count("\n")) == (1, 1)
    assert "there is no folder ./no" in ran.stderr


def test_a_disk_that_is_all_but_full_is_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of a run would not fit, and their database says so less plainly."""
    monkeypatch.setattr("neardup.cli.flows.LEAST_FREE", 10**18)
    ran = neardup("duplicates", photos, "--out", tmp_path / "out")
    assert (ran.exit_code, "are free on the disk of" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made in it, and with the name of the folder, not of a file in it that nobody knows."""
    monkeypatch.setattr(os, "access", lambda _path, mode, **_: mode != os.W_OK)
    ran = neardup("duplicates", photos, "--out", tmp_path / "out")
    assert (ran.exit_code, f"nothing can be written in {tmp_path}: ask" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


def test_results_that_can_only_be_read_are_exported_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may only read them learns what to do instead, before anything is done."""
    _, out = small_results(tmp_path / "theirs", groups=1)
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK or "theirs" not in str(path))
    before = sorted(out.rglob("*"))
    for command, advice in (("verdicts export", "name another file with --to"), ("review", "review a copy of it")):
        ran = neardup(*command.split(), "--out", out)
        assert (ran.exit_code, f"nothing can be written in {out}: ask for the right to, or {advice}" in ran.stderr) == (
            1,
            True,
        )
    assert neardup("verdicts", "export", "--out", out, "--to", tmp_path / "x.csv").exit_code == 0
    assert sorted(out.rglob("*")) == before


def test_a_name_that_no_answer_could_bear_is_refused(tmp_path: Path) -> None:
    """Before the page is opened on which each answer would be refused."""
    _, out = small_results(tmp_path, groups=1)
    ran = neardup("review", "--out", out, "--who", "A" * 81, "--port", 0)
    assert (ran.exit_code, "--who has 81 letters: write a name of at most 80" in ran.stderr) == (1, True)


def test_answers_that_later_runs_would_not_see_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database was typed and the environment names none, or another one; its address is not said."""
    monkeypatch.delenv("NEARDUP_VERDICTS", raising=False)
    url = f"sqlite:///{tmp_path / 'team.sqlite'}"
    with open_verdicts(tmp_path, url) as kept:
        given = [Verdict.of("a" * 64, digit * 64, "same", who="Ada", queue="review") for digit in "bcd"]
        kept.add_all(given)
    commands = [("verdicts", "withdraw", verdict.id, "--database", url, "--who", "Ada") for verdict in given]
    ran = neardup(*commands[0])
    assert (ran.exit_code, "only if NEARDUP_VERDICTS holds" in ran.stderr, "team" in ran.stderr) == (0, True, False)
    monkeypatch.setenv("NEARDUP_VERDICTS", url)
    assert [neardup(*command).stderr for command in (commands[1], (*commands[2][:3], "--who", "Ada"))] == ["", ""]


def test_listing_verdicts_where_nobody_judged_makes_no_database(tmp_path: Path) -> None:
    """Looking changes nothing, and a misspelt folder is not taken for one without verdicts."""
    ran = neardup("verdicts", "list", "--out", tmp_path)
    assert (ran.exit_code, "nobody has judged a pair" in ran.stderr, list(tmp_path.iterdir())) == (1, True, [])


@pytest.mark.parametrize("command", [["rollback"], ["verdicts", "recalibrate"], ["verdicts", "propose"]])
def test_a_misspelt_folder_of_results_is_not_made(command: list[str], tmp_path: Path) -> None:
    """Commands that only go on with results refuse a folder that is not there."""
    ran = neardup(*command, "--out", tmp_path / "no")
    assert (ran.exit_code, "no is not there: name with --out" in ran.stderr) == (1, True)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("command", ["promote", "tune"])
def test_a_run_on_a_folder_that_was_not_prepared_is_refused_before_it_begins(command: str, tmp_path: Path) -> None:
    """One sentence, without the lines of a run that had to fail."""
    ran = neardup(command, "--out", tmp_path / "no")
    assert (ran.exit_code, ran.stderr.count("\n"), "neardup prepare ARCHIVE" in ran.stderr) == (1, 1, True)
    assert not (tmp_path / "no").exists()
