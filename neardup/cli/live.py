"""What a person sees of a long run: on a terminal one live view, and in any case the whole log in the results' folder.

On a terminal each task of the flow is a line: what it is, how long it took, what it found last; below them the bar of
what is computed now, with the time that is left. In a pipe, and in CI, Prefect's lines come as they are.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from neardup.progress import Progress, drawn_by
from neardup.words import counted, duration, one_line

ENDED = "Finished in state "
"""Beginning of Prefect's last line of a task run."""
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
"""Format of each line of a log in the results' folder: time, level, logger and message."""
AROUND = 3
"""Lines of the terminal that no step is drawn in: what is left out, the bar, and the cursor below."""
KEPT_LOGS = 20
"""Number of logs of one flow that are kept in the folder; older ones are deleted."""


@dataclass
class Step:
    """One task run: when it began and ended (seconds of the monotonic clock), how, and the last thing that it said."""

    began: float
    ended: float | None = None
    well: bool = True
    fact: str = ""


@dataclass
class LiveView(logging.Handler):
    """A log handler that draws the steps of a flow run, and their bar."""

    console: Console
    steps: dict[str, Step] = field(default_factory=dict)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Set up the handler for all lines from INFO on."""
        logging.Handler.__init__(self, logging.INFO)
        self._spinner = Spinner("dots")

    def __hash__(self) -> int:
        """Hash by identity, as handlers are compared."""
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a line: of a task run, or a warning of anybody's."""
        message = record.getMessage()
        name = getattr(record, "task_run_name", None)
        if record.levelno >= logging.WARNING and ENDED not in message:
            self.console.print(Text("\n".join(map(one_line, message.splitlines())), style="yellow"))
        if name is None:
            return
        step = self.steps.setdefault(_plain(name), Step(time.monotonic()))
        if message.startswith(ENDED):
            step.ended = time.monotonic()
            step.well = step.well and ("Completed" in message or "Cached" in message)  # one line stands for all shards
        elif record.levelno == logging.INFO:
            step.fact = one_line(message.splitlines()[0]) if message else ""

    def show(self, progress: Progress | None) -> None:
        """Draw this bar below the steps; None draws none."""
        self.progress = progress

    def __rich__(self) -> RenderableType:
        """The view as it is now."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        left_out, drawn = self._that_fit()
        table.add_column(no_wrap=True, min_width=max(map(len, drawn), default=0))
        table.add_column(no_wrap=True, min_width=len("1234 s"), justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        if not self.steps:
            table.add_row(self._spinner, "getting ready")
        for name, step in drawn.items():
            seconds = (step.ended or time.monotonic()) - step.began
            sign = self._spinner if step.ended is None else Text("✓", "green") if step.well else Text("✗", "red")
            table.add_row(sign, name, Text(f"{seconds:.0f} s", "dim"), Text(step.fact, "dim"))
        above = [Text(f"  {counted(left_out, 'step')} done", "dim")] if left_out else []
        return Group(*above, table, *([self._bar(self.progress)] if self.progress else []))

    def _that_fit(self) -> tuple[int, dict[str, Step]]:
        """How many steps that ended are left out, and the others: as many as the terminal has lines for, the last ones.

        Those that run are always drawn.
        """
        room, steps = max(self.console.height - AROUND, 1), dict(self.steps)
        ended = [name for name, step in steps.items() if step.ended is not None]
        left_out = set(ended[: max(len(steps) - room, 0)])
        return len(left_out), {name: step for name, step in steps.items() if name not in left_out}

    def _bar(self, progress: Progress) -> RenderableType:
        """Make the bar in one line: description, share, count, time left."""
        row = Table.grid(padding=(0, 1))
        count = f"{progress.count:,} of {progress.total:,}" if progress.total else f"{progress.count:,}"
        left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
        bar = ProgressBar(total=progress.total, completed=progress.count, width=30)
        row.add_row(" ", progress.description, bar, f"{count} {progress.unit}s", left, Text(progress.note, "dim"))
        return row


def _plain(name: str) -> str:
    """Remove the three letters that Prefect appends to a task run's name, as in `prepare-3f1`."""
    stem, _, end = name.rpartition("-")
    return stem if stem and len(end) == 3 and all(letter in "0123456789abcdef" for letter in end) else name  # noqa: PLR2004


@contextmanager
def watched(flow: str, folder: Path) -> Iterator[None]:
    """Show a flow run to a person on a terminal, and keep its whole log in `folder`.

    To be entered when Prefect has set up its logging, which its import does.

    Args:
        flow: its name; the log is called after it and the time.
        folder: for the logs; made where it is not there yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob(f"{flow}-*.log"))[: 1 - KEPT_LOGS]:
        old.unlink(missing_ok=True)
    file = logging.FileHandler(folder / f"{flow}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter(LOG_FORMAT))
    view = LiveView(Console(stderr=True)) if sys.stderr.isatty() else None
    replaced = [(logger, list(logger.handlers)) for logger in _printing_loggers()]
    # On a full disk no line can be written, and Python and Prefect would print a traceback for each.
    raises, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        for logger, handlers in replaced:
            kept = [handler for handler in handlers if view is None or not _prints(handler)]
            logger.handlers = [*kept, file, *([view] if view else [])]
        if view is None:
            yield
            return
        with Live(view, console=view.console, refresh_per_second=8), drawn_by(view.show):
            yield
    finally:
        for logger, handlers in replaced:
            logger.handlers = handlers
        logging.raiseExceptions = raises
        with suppress(OSError):
            file.close()


def _printing_loggers() -> list[logging.Logger]:
    """The loggers whose lines come to the terminal: Prefect's own and those of its flow and task runs."""
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    return [logger for logger in known if any(map(_prints, logger.handlers))]


def _prints(handler: logging.Handler) -> bool:
    """Whether a handler writes to standard error or standard output."""
    return isinstance(handler, logging.StreamHandler) and getattr(handler, "stream", None) in {sys.stderr, sys.stdout}
