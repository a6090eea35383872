"""What a person sees of a run on a terminal: a real one, of 100 columns, on which a process draws the live view."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neardup.stages import STATE

COLUMNS = 100
"""Characters in a line of the terminal."""
START = """
import fcntl, logging, signal, sys, termios, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C on this terminal is for this process
from neardup.cli.live import watched
from neardup.progress import bar
logger = logging.getLogger("prefect.task_runs")
logger.setLevel(logging.INFO)
logger.addHandler(logging.StreamHandler(sys.stderr))
seen = Path(sys.argv[2])
say = lambda task, text: logger.info(text, extra={"task_run_name": task})
"""
"""The head of each program: its lines come to standard error, as those of Prefect's task runs do."""
RUN = """
with watched("experiment", Path(sys.argv[1])):
    for number in range(40):
        say("prepare-3f1", f"{number} photos read")
    say("prepare-3f1", "Finished in state Completed()")
    say("encode-0a2", "62 photos to encode")
    for number in bar(range(3), "encoding", 3, unit="photo", mininterval=0):
        while number == 2 and not seen.exists():
            time.sleep(0.01)
    logger.warning("MLflow does not answer")
print("results are in demo/results")
"""
"""A run of two steps with 42 lines and a warning; the second waits at its last photo for a file, and does not end."""
ENDLESS = """
with watched("experiment", Path(sys.argv[1])):
    say("prepare-3f1", "62 photos to read")
    time.sleep(600)
"""
"""A run that only Ctrl-C ends."""
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")
"""What a terminal is sent: a control sequence with its numbers and its letter, the end of a line, or letters."""
UP, ERASE_LINE = "A", "K"
"""Letters of the two control sequences that move what is seen; others give colours, or hide the cursor."""


@dataclass
class Terminal:
    """A terminal on which one process runs; `seen` is the file for which a program may wait."""

    process: subprocess.Popen[bytes]
    master: int
    seen: Path
    sent: str = ""
    _bytes: bytearray = field(default_factory=bytearray)

    def read(self, until: str | None = None) -> str:
        """All that the process has sent, up to a text or, without one, to its end."""
        while until is None or until not in self.sent:
            try:
                self._bytes += os.read(self.master, 65536)
            except OSError:  # so Linux says that nobody writes any more
                break
            self.sent = self._bytes.decode("utf-8", "ignore")
        return self.sent

    @property
    def screen(self) -> list[str]:
        """The lines that are seen, without empty ones."""
        lines, row, column = [""], 0, 0
        for found in CONTROL.finditer(self.sent):
            if found[2] == UP:
                row = max(0, row - int(found[1] or 1))
            elif found[2] == ERASE_LINE:
                lines[row] = ""
            elif found[0] == "\r":
                column = 0
            elif found[0] == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif not found[2]:
                before = lines[row].ljust(column)
                lines[row] = before[:column] + found[0] + before[column + len(found[0]) :]
                column += len(found[0])
        return [line.rstrip() for line in lines if line.strip()]


@contextmanager
def terminal(program: str, logs: Path) -> Iterator[Terminal]:
    """A terminal on which a program runs that keeps its log in a folder."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES", "CI"}}
    seen = logs.parent / "seen"
    process = subprocess.Popen(
        [sys.executable, "-c", START + program, str(logs), str(seen)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=plain | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master, seen)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder of the logs."""
    (tmp_path / STATE).mkdir()
    return tmp_path / STATE / "logs"


def test_a_terminal_shows_one_view_and_the_folder_keeps_all(logs: Path) -> None:
    """A line a step, redrawn in place, with what it said last; a warning above; the last line is the command's own."""
    with terminal(RUN, logs) as shown:
        shown.seen.touch()
        shown.read()
        warning, first, second, last = shown.screen
        assert shown.process.wait() == 0
    assert warning == "MLflow does not answer"
    assert re.fullmatch(r"✓ prepare\s+\d+ s 39 photos read", first)
    assert re.fullmatch(r"\S encode\s+\d+ s 62 photos to encode", second)
    assert last == "results are in demo/results"
    (log,) = logs.glob("experiment-*.log")
    assert len(log.read_text(encoding="utf-8").splitlines()) == 43


def test_the_bar_is_drawn_with_the_time_that_is_left(logs: Path) -> None:
    """While the work goes on, below the steps, and no line is longer than the terminal is wide."""
    with terminal(RUN, logs) as shown:
        shown.read(until="2 of 3 photos")
        assert shown.process.poll() is None
        shown.seen.touch()
        shown.read()
        letters = "".join(found[0] for found in CONTROL.finditer(shown.sent) if not found[2])
        assert re.search(r"2 of 3 photos +\d+ s left", letters)
        assert max(map(len, shown.screen)) <= COLUMNS


def test_ctrl_c_gives_the_terminal_back(logs: Path) -> None:
    """The cursor that the view hides is seen again when a person ends a run."""
    with terminal(ENDLESS, logs) as shown:
        shown.read(until="62 photos to read")
        assert shown.sent.rfind("\x1b[?25l") > shown.sent.rfind("\x1b[?25h")
        os.write(shown.master, b"\x03")
        shown.read()
        assert shown.process.wait() != 0
    assert shown.sent.rfind("\x1b[?25h") > shown.sent.rfind("\x1b[?25l")
