"""Progress of long work: a bar on a terminal, nothing in a pipe, or a line of the view that a command shows.

`bar` is tqdm's class with one more place to draw itself; the library uses it as it would use tqdm.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Progress:
    """Progress of one piece of work, as its bar shows it.

    Attributes:
        description: of the work.
        count: units that are done.
        total: units in all; None where nobody knows.
        unit: what is counted: photo, step …
        seconds_left: at the rate so far; None before there is a rate.
        note: a remark of the work, for example the loss.
    """

    description: str
    count: int
    total: int | None
    unit: str
    seconds_left: float | None
    note: str


View = Callable[[Progress | None], None]
"""Function that is called with each step of a bar, and with None at its end."""


class bar(tqdm):  # type: ignore[type-arg]  # noqa: N801 - it is used like a function, as tqdm itself
    """A tqdm bar that a view may draw in its place."""

    view: ClassVar[View | None] = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar; tqdm calls this, some ten times a second at most."""
        if bar.view is None:
            super().display(msg, pos)
        else:
            bar.view(self._progress())

    def close(self) -> None:
        """End the bar, and tell the view that draws it."""
        if self.disable:
            return
        super().close()
        if bar.view is not None:
            bar.view(None)

    def _progress(self) -> Progress:
        facts: Any = self.format_dict
        rate = facts["rate"] or (facts["n"] / facts["elapsed"] if facts["elapsed"] else 0)
        left = (facts["total"] - facts["n"]) / rate if rate and facts["total"] else None
        return Progress(self.desc.rstrip(": "), facts["n"], facts["total"], self.unit, left, str(self.postfix or ""))


@contextmanager
def drawn_by(view: View) -> "Iterator[None]":
    """Hand all bars to a view until the block ends."""
    before, bar.view = bar.view, view
    try:
        yield
    finally:
        bar.view = before
