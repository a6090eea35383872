"""How many a second, and with how much memory: each method in a process of its own, one after the other."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

PASSES = 3


@dataclass(frozen=True)
class Speed:
    """How many a second: the median of the passes, the slowest and the fastest."""

    median: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Measured:
    """One method at one task.

    Attributes:
        task: what was done, the same text for all methods that are compared.
        method: by what.
        unit: what is counted.
        speed: so many a second.
        peak_mb: the most memory (MB of 10^6 bytes) that its process held, libraries included.
        note: what a reader must know beside it, such as how far the result is from the reference.
    """

    task: str
    method: str
    unit: str
    speed: Speed
    peak_mb: float
    note: str = ""


def clock(work: Callable[[], object], count: int, passes: int = PASSES, *, warm: bool = True) -> Speed:
    """How many of `count` a second, after one pass that is not counted."""
    if warm:
        work()
    rates = []
    for _ in range(passes):
        start = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - start))
    return Speed(median(rates), min(rates), max(rates))


def measured(
    task: str,
    method: str,
    unit: str,
    count: int,
    make: Callable[..., Callable[[], object]],
    *inputs: Any,
    passes: int = PASSES,
    warm: bool = True,
) -> Measured:
    """Clock a method in a fresh process, whose peak memory is then its own.

    Args:
        task: as in `Measured`.
        method: as in `Measured`.
        unit: as in `Measured`.
        count: how many of the unit one pass does.
        make: a module's function that gets the inputs and returns the work; making it is not clocked. Where the work
            returns a text, that of the last pass becomes the note.
        inputs: of `make`; they travel to the process.
        passes: that are clocked.
        warm: do one pass first that is not counted.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        speed, peak, note = pool.submit(_clocked, make, inputs, count, passes, warm).result()
    return Measured(task, method, unit, speed, peak, note)


def _clocked(
    make: Callable[..., Callable[[], object]],
    inputs: tuple[Any, ...],
    count: int,
    passes: int,
    warm: bool,  # noqa: FBT001 - submitted by position
) -> tuple[Speed, float, str]:
    work, said = make(*inputs), [""]

    def noted() -> None:
        result = work()
        if isinstance(result, str):
            said[0] = result

    speed = clock(noted, count, passes, warm=warm)
    return speed, peak_mb(), said[0]


def peak_mb() -> float:
    """The most that this process held; `getrusage` would count what its parent held before it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
