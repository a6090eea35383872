"""The view of a long run: steps and a bar on a terminal, the whole log in the folder, plain lines in a pipe."""

import io
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from neardup.cli.live import KEPT_LOGS, LiveView, Step, watched
from neardup.progress import Progress, bar, drawn_by


def shown(view: LiveView) -> str:
    """What a terminal of 100 columns shows."""
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(message: str, level: int = logging.INFO, task: str | None = "prepare-3f1") -> logging.LogRecord:
    """A line of a task run, as Prefect's loggers make it."""
    record = logging.LogRecord("prefect.task_runs", level, __file__, 1, message, None, None)
    record.task_run_name = task
    return record


@pytest.fixture
def view() -> LiveView:
    """A view that has shown nothing yet."""
    return LiveView(Console(file=io.StringIO(), width=100))


def test_a_step_is_a_line_with_what_it_found_last(view: LiveView) -> None:
    """Without the letters that Prefect puts behind a task's name."""
    for message in ("62 files read anew", "58 photos in all"):
        view.emit(line(message))
    assert shown(view).split() == ["⠋", "prepare", "0", "s", "58", "photos", "in", "all"]


def test_a_step_says_the_first_line_of_what_it_found(view: LiveView) -> None:
    """What is for whoever looks for a fault is not for the view, and a warning is no finding."""
    view.emit(line("58 \x1bphotos\n3 left out"))
    view.emit(line("asked the server", logging.DEBUG))
    view.emit(line("a page lacks its legend", logging.WARNING))
    assert shown(view).split() == ["⠋", "prepare", "0", "s", "58", r"\x1bphotos"]


@pytest.mark.parametrize(
    ("task", "name"), [("prepare-3f1", "prepare"), ("log-study", "log-study"), ("make-facade", "make-facade")]
)
def test_a_step_has_the_name_of_its_task(view: LiveView, task: str, name: str) -> None:
    """Only the three letters that Prefect puts behind it go: what else stands behind a hyphen is part of the name."""
    view.emit(line("58 photos", task=task))
    assert list(view.steps) == [name]


def test_the_clock_of_a_step_that_ended_stands_still(view: LiveView) -> None:
    """It says how long the step took."""
    view.steps["prepare"] = Step(began=10.0, ended=72.0)
    assert shown(view).split() == ["✓", "prepare", "62", "s"]


@pytest.mark.parametrize(
    ("state", "sign"), [("Completed()", "✓"), ("Cached(type=COMPLETED)", "✓"), ("Failed('x')", "✗")]
)
def test_a_step_that_ended_is_ticked_or_crossed(view: LiveView, state: str, sign: str) -> None:
    """As Prefect's own last line of a task run says."""
    view.emit(line(f"Finished in state {state}"))
    assert shown(view).split()[0] == sign


def test_what_runs_is_drawn_where_there_are_more_steps_than_lines(view: LiveView) -> None:
    """In place of the first that are done; the bar and the cursor have room below."""
    view.console.height = 10
    view.steps["long"] = Step(began=10.0)
    view.steps |= {f"step {number}": Step(began=10.0, ended=12.0) for number in range(1, 10)}
    view.steps["last"] = Step(began=10.0)
    view.show(Progress("epoch 4", 3, 10, "step", 12.0, ""))
    lines = shown(view).splitlines()
    assert lines[0].split() == ["4", "steps", "done"]
    assert [text[2:8].strip() for text in lines[1:-1]] == ["long", *(f"step {n}" for n in range(5, 10)), "last"]
    assert (len(lines), "epoch 4" in lines[-1]) == (9, True)


def test_a_warning_is_printed_above(view: LiveView) -> None:
    """Of whoever gives it: it must not be lost."""
    view.emit(line("MLflow does not answer", logging.WARNING, task=None))
    assert isinstance(view.console.file, io.StringIO)
    assert "MLflow does not answer" in view.console.file.getvalue()


def test_the_bar_says_how_much_and_how_long(view: LiveView) -> None:
    """In words that a person reads."""
    view.show(Progress("encoding", 1200, 4800, "photo", 125.0, "loss=0.3"))
    assert "encoding" in shown(view)
    assert "1,200 of 4,800 photos 2 min 05 s left loss=0.3" in " ".join(shown(view).split())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8.4, "8 s left"), (65.0, "1 min 05 s left"), (3599.6, "1 h 00 min left"), (11405.0, "3 h 10 min left")],
)
def test_a_long_time_is_said_in_hours(view: LiveView, seconds: float, words: str) -> None:
    """Nobody reads seconds of a night."""
    view.show(Progress("encoding", 1, 2, "photo", seconds, ""))
    assert words in shown(view)


def test_the_time_left_is_that_of_what_is_left() -> None:
    """At the rate so far: six of eight photos in a minute leave twenty seconds."""
    seen: list[Progress | None] = []
    with drawn_by(seen.append), bar(total=8, desc="reading", unit="photo", mininterval=0) as work:
        work.start_t -= 60
        work.last_print_t -= 60
        work.update(6)
    (left,) = {round(progress.seconds_left or 0) for progress in seen if progress and progress.count == 6}
    assert 20 <= left < 30


def test_a_view_draws_bars_only_within_its_block() -> None:
    """Then the one that drew before draws again."""
    outer: list[Progress | None] = []
    inner: list[Progress | None] = []
    with drawn_by(outer.append):
        with drawn_by(inner.append):
            list(bar(range(1)))
        assert (bool(inner), outer) == (True, [])
        list(bar(range(1)))
    assert (bool(outer), bar.view) == (True, None)


def test_bars_of_the_library_are_drawn_by_the_view() -> None:
    """From the first unit to the last; then the bar is gone."""
    seen: list[Progress | None] = []
    with drawn_by(seen.append):
        for _ in bar(range(3), "reading", 3, unit="photo", mininterval=0):
            time.sleep(0.001)
    counts = [progress.count for progress in seen if progress]
    assert (counts[0], counts[-1], seen[-1]) == (0, 3, None)


@pytest.fixture
def prints() -> Iterator[logging.Logger]:
    """A logger whose lines a test sends where it wants to have them."""
    logger, handler = logging.getLogger("neardup.test.live"), logging.StreamHandler()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_in_a_pipe_lines_come_as_they_are_and_are_kept(
    tmp_path: Path, prints: logging.Logger, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    """On whichever of the two they come; handlers are put back afterwards."""
    prints.handlers[0].stream = getattr(sys, stream)  # type: ignore[attr-defined]
    before = list(prints.handlers)
    with watched("experiment", tmp_path):
        prints.info("58 photos")
    (log,) = tmp_path.glob("experiment-*.log")
    assert getattr(capsys.readouterr(), stream.removeprefix("std")) == "58 photos\n"
    assert "58 photos" in log.read_text(encoding="utf-8")
    assert prints.handlers == before


def test_a_log_that_cannot_be_kept_prints_nothing(
    tmp_path: Path, prints: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the disk is full, Python would print a traceback for each line."""
    prints.handlers[0].stream = sys.stderr  # type: ignore[attr-defined]
    with watched("experiment", tmp_path):
        (file,) = (each for each in prints.handlers if isinstance(each, logging.FileHandler))
        file.close()
        file.stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - `watched` closes it
        prints.info("58 photos")
    assert "Traceback" not in "".join(capsys.readouterr())
    assert logging.raiseExceptions


def test_old_logs_make_room(tmp_path: Path) -> None:
    """The newest are kept, and those of other flows."""
    for number in range(KEPT_LOGS + 5):
        (tmp_path / f"tune-2026{number:04}.log").touch()
    (tmp_path / "watch-1.log").touch()
    with watched("tune", tmp_path):
        pass
    names = sorted(path.name for path in tmp_path.glob("tune-*.log"))
    assert (len(names), names[0], (tmp_path / "watch-1.log").exists()) == (KEPT_LOGS, "tune-20260006.log", True)
