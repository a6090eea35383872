"""Rates and peak memory of methods, each in a process of its own, the files they are given, tables and pictures."""

import math
import os
import re
import subprocess
import sys
import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from neardup.images import read_image
from neardup.stages import replacing

PASSES = 3
"""Number of timed passes: the least whose median lies between a slowest and a fastest."""
SMALL = (500, 375)
"""Width and height in pixels of a small photo on the web."""
SCAN = (3000, 2000)
"""Width and height in pixels of a scan."""
GRAIN = 4.0
"""Standard deviation of the grain, of 255: without it an enlarged photo would be too smooth to be a scan."""
SHORT_SIDE = 224
"""Shortest side in pixels of the files of `small_jpegs`: what most encoders take in."""
QUALITY = 90
"""JPEG quality of the files, of 100: with the grain it gives a scan 1.3 MB."""


GROWTH = re.compile(r"neardup,(?: to)? ([\d,]+)(?: photos)?")
"""Method of the topic growth, with the number of photos."""
ADDED = re.compile(r"add ([\d,]+) of them")
"""Task of the topic growth that adds photos, with their number."""
ALL_PAIRS = re.compile(r"all pairs at or above \S+ of ([\d,]+) vectors")
"""Task of the topics search and million, with the number of vectors."""
OURS = "#0072b2"
"""Colour of neardup's bars: a blue that colour-blind people can tell from the grey of the peers."""
PEER = "#b8b4a8"
"""Colour of the peers' bars."""


@dataclass(frozen=True)
class Speed:
    """Units a second: median of the passes, slowest and fastest."""

    median: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Measured:
    """One method at one task.

    Attributes:
        task: what was done, the same text for all methods that are compared.
        method: neardup or a peer, as the page names it.
        unit: what is counted.
        speed: units a second.
        peak_mb: the most memory (MB of 10^6 bytes) that its process held, libraries included.
        note: what a reader must know beside it, such as how far the result is from the reference.
    """

    task: str
    method: str
    unit: str
    speed: Speed
    peak_mb: float
    note: str = ""


Topics = Mapping[str, Callable[[Path, Path], Sequence[Measured]]]
"""Topic of `performance.py --only` → the function that measures it, given the folder of photos and the work folder."""


def clock(work: Callable[[], object], count: int, passes: int = PASSES, *, warm: bool = True) -> Speed:
    """Clock work that does `count` units a pass: units a second; if `warm`, one pass goes before and is not counted."""
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
        inputs: arguments of `make`; they travel to the process.
        passes: how many passes are clocked.
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
    work = make(*inputs)
    note = ""

    def noted() -> None:
        nonlocal note
        result = work()
        if isinstance(result, str):
            note = result

    speed = clock(noted, count, passes, warm=warm)
    return speed, peak_mb(), note


@dataclass(frozen=True)
class Run:
    """One run of a whole command, from the start of Python to its end.

    Attributes:
        seconds: it took.
        peak_mb: the most memory that one of its processes held, in MB.
        printed: what it printed to standard output.
    """

    seconds: float
    peak_mb: float
    printed: str

    def speed(self, count: int) -> Speed:
        """Its speed as that of one pass that did `count` units."""
        return Speed(*[count / self.seconds] * 3)


def run_neardup(*arguments: str) -> Run:
    """Run a neardup command as a person does, and clock it.

    Raises:
        CalledProcessError: it failed.
    """
    command, start = [sys.executable, "-m", "neardup", *arguments], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stdout  # noqa: S101 - our own mistake only
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6, printed)


def peak_mb(process: int | str = "self") -> float:
    """The most memory that a process held, in MB; `getrusage` would count what its parent held before it."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def machine() -> str:
    """The cores that this process may use and the instructions that its speed rests on; no name and no path."""
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii")
    has = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f" {name} " in flags]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' * (cores > 1)} ({', '.join(has)})"


def on_cores(cores: int, make: Callable[..., Callable[[], object]], *inputs: Any) -> Callable[[], object]:
    """Restrict this process, and those that it starts, to a number of cores, including a loader's processes."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-cores:]))
    torch.set_num_threads(cores)
    return make(*inputs)


def made_jpegs(photos: Path, folder: Path, count: int, size: tuple[int, int]) -> Sequence[Path]:
    """Make JPEG files of a chosen size from small photographs: as many bytes and as much detail as scans have.

    Args:
        photos: folder with images/, of which the first `count` are taken.
        folder: where the files go; those that are there are not made again.
        count: how many.
        size: width and height in pixels that the photos are squeezed to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, source in enumerate(sorted((photos / "images").iterdir())[:count]):
        paths.append(folder / f"{number:05d}_{size[0]}x{size[1]}.jpg")
        if not paths[-1].is_file():
            picture = np.asarray(read_image(source).resize(size, Image.Resampling.BICUBIC), np.float32)
            grain = np.random.default_rng(number).normal(0, GRAIN, (*picture.shape[:2], 1)).astype(np.float32)
            Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=QUALITY)
    return paths


def small_jpegs(sources: Sequence[Path], folder: Path) -> list[Path]:
    """JPEG files of photos, their shortest side `SHORT_SIDE` pixels; those that are there are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{source.stem}.jpg" for source in sources]
    for source, path in zip(sources, paths, strict=True):
        if not path.is_file():
            image = read_image(source)
            scale = SHORT_SIDE / min(image.size)
            image.resize((round(image.width * scale), round(image.height * scale))).save(path, quality=QUALITY)
    return paths


def table(found: Sequence[Measured]) -> list[str]:
    """The Markdown table of one task: each method's rate, how many times as fast neardup is, and the memory."""
    first = next((one for one in found if one.method.startswith("neardup")), found[0])
    lines = [
        f"| {first.task} | {first.unit} a second | neardup is so many times as fast | peak memory, MB | |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        speed = f"{show(one.speed.median)} ({show(one.speed.least)} to {show(one.speed.greatest)})"
        times = "" if one is first else f"{first.speed.median / one.speed.median:.2f}"
        lines.append(f"| {one.method} | {speed} | {times} | {one.peak_mb:,.0f} | {one.note} |")
    return lines


def show(rate: float) -> str:
    """A rate as text with three digits.

    >>> [show(rate) for rate in (1.0666, 13.41, 245.2, 1234567.0)]
    ['1.07', '13.4', '245', '1,230,000']
    """
    digits = 2 - math.floor(math.log10(rate)) if rate > 0 else 0
    return f"{round(rate, digits):,.{max(digits, 0)}f}"


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Draw each task's methods as bars, neardup's rate as 1, in two columns."""
    tasks = {one.task: [other for other in measured if other.task == one.task] for one in measured}
    shown = [found for found in tasks.values() if len(found) > 1]
    ends = list(accumulate(len(found) + 2 for found in shown))
    rows = ends[-1] if ends else 0
    cut = bisect(ends, rows / 2)
    picture = Figure(figsize=(18, 2 + 0.21 * rows), layout="constrained")
    FigureCanvasAgg(picture)
    panels = list[Any]()
    for part, column in zip((shown[:cut], shown[cut:]), picture.subfigures(1, 2, squeeze=False)[0], strict=True):
        if part:
            heights = [len(found) + 1 for found in part]
            panels.extend(column.subplots(len(part), 1, height_ratios=heights, squeeze=False)[:, 0])
    for found, axes in zip(shown, panels, strict=True):
        first = next((one for one in found if one.method.startswith("neardup")), found[0])
        shares = [one.speed.median / first.speed.median for one in found]
        colours = [OURS if one.method.startswith("neardup") else PEER for one in found]
        bars = axes.barh([one.method for one in found], shares, color=colours)
        labels = [f" {show(one.speed.median)}/s, {one.peak_mb:,.0f} MB" for one in found]
        axes.bar_label(bars, labels, fontsize=8)
        axes.set_title(first.task, fontsize=10, loc="left")
        axes.set_xlim(0, 1.35 * max(shares))
        axes.invert_yaxis()
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])
    with replacing(path) as partial:
        picture.savefig(partial, dpi=110)


def draw_growth(measured: Sequence[Measured], path: Path) -> None:
    """Draw how long all pairs take, a line a method, and how long photos take to encode."""
    picture = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(picture)
    pairs, photos = picture.subplots(1, 2)
    lines = defaultdict[tuple[Any, str], list[tuple[int, float]]](list)
    for one in measured:
        if sizes := ALL_PAIRS.fullmatch(one.task):
            count = _number(sizes[1])
            lines[pairs, one.method].append((count, count * (count - 1) / 2 / one.speed.median))
        elif (sizes := GROWTH.fullmatch(one.method)) and (new := ADDED.match(one.task)):
            lines[photos, f"neardup, {new[1]} more photos"].append(
                (_number(sizes[1]), _number(new[1]) / one.speed.median)
            )
        elif sizes:
            lines[photos, "neardup, all photos"].append((_number(sizes[1]), _number(sizes[1]) / one.speed.median))
    for (axes, label), points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=label, lw=3 if label.startswith("neardup") else 1)
    pairs.set(xlabel="vectors of 512 numbers", ylabel="seconds for all pairs")
    photos.set(xlabel="photos", ylabel="seconds to encode them")
    for axes in (axes for axes in (pairs, photos) if axes.lines):
        axes.set(xscale="log", yscale="log")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        picture.savefig(partial, dpi=110)


def _number(text: str) -> int:
    return int(text.replace(",", ""))
