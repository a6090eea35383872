"""Measure what neardup's speed rests on, each part against its peers and its limit in one run.

python benchmarks/performance.py PHOTOS --out docs/performance.md
"""

import json
import math
import platform
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import encoding
import searching
import torch
import training
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rates import Measured, Speed, Topics, machine
from tqdm import tqdm

from neardup.stages import replacing, write_json

TOPICS: Topics = {**encoding.TOPICS, **searching.TOPICS, **training.TOPICS}
"""Each module lists its topics at its end; the page has them in this order."""
TITLES: Mapping[str, str] = MappingProxyType({"gpu": "GPU"})
"""Headings of the topics whose names do not read as one."""
PACKAGES = (
    *("neardup", "torch", "torchvision", "transformers", "open-clip-torch", "onnxruntime", "numpy", "pillow"),
    *("imagededup", "opencv-python-headless", "albumentations", "faiss-cpu", "scikit-learn", "distributed"),
    *("pyarrow", "pandas", "openpyxl", "xlsxwriter", "python-calamine"),
)
"""Packages whose versions the page states, for the figures depend on them."""
HEAD = """\
# How fast

Made by `make performance`, which runs `python benchmarks/performance.py PHOTOS`: every row in a process of its own, one
after the other, on the machine that the topic names, each the median of its passes (slowest to fastest) after one that
is not counted; of growth, and of all pairs from 100,000 vectors on, one pass alone. Where the table does not say
otherwise a process has one thread. Memory is the most that the process held, with the libraries of all topics: where
photos are encoded 215 to 230 MB more than with neardup's own, 140 in training, 250 in augmentation, 520 for all pairs
and 1,080 for Excel ([measured](log.md) on 2026-11-27). So the rows of a table compare with each other.

![Rates beside those of the peers]({picture})

![Seconds for all pairs by the number of vectors, and for photos by theirs]({growth})
"""
"""What stands above the figures, in Markdown."""
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
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("photos", type=FOLDER)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("docs/performance.md"),
    show_default=True,
    help="The page.",
)
@click.option(
    "--work",
    type=FOLDER,
    default=Path("build/performance"),
    show_default=True,
    help="Folder for what is made on the way.",
)
@click.option(
    "--only",
    type=click.Choice(list(TOPICS)),
    multiple=True,
    help="Measure these again; the others stay as the page has them.",
)
def main(photos: Path, out: Path, work: Path, only: tuple[str, ...]) -> None:
    """Measure speed and memory against peers, in about 2 hours and a half on two cores.

    PHOTOS holds images/; its photographs are made into JPEG files of the sizes that are measured.
    """
    work.mkdir(parents=True, exist_ok=True)
    facts = out.with_suffix(".json")
    kept = json.loads(facts.read_text(encoding="utf-8"))["topics"] if only and facts.is_file() else {}
    for topic in tqdm(only or TOPICS, "measuring", unit="topic", disable=None):
        kept[topic] = {
            "date": _today(),
            "machine": f"{machine()}, {_gpu()}",
            "measured": [asdict(one) for one in TOPICS[topic](photos, work)],
        }
        ordered = {name: kept[name] for name in TOPICS if name in kept}
        write_json(
            facts, {"command": "python benchmarks/performance.py PHOTOS", "versions": _versions(), "topics": ordered}
        )
        _write(out, ordered)
    click.echo(out.read_text(encoding="utf-8"))


def _write(page: Path, topics: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the page, and draw the pictures beside it."""
    measured = {topic: [_measured(row) for row in found["measured"]] for topic, found in topics.items()}
    everything = [one for found in measured.values() for one in found]
    picture, growth = page.with_suffix(".png"), page.with_name(f"{page.stem}_growth.png")
    draw(everything, picture)
    draw_growth(everything, growth)
    lines = [HEAD.format(picture=picture.name, growth=growth.name)]
    for topic, found in measured.items():
        lines += [f"## {TITLES.get(topic, topic.capitalize())}", ""]
        lines += [f"{topics[topic]['machine']}, {topics[topic]['date']}.", ""]
        lines += [] if found else ["Not measured: no GPU on this machine.", ""]
        for task in dict.fromkeys(one.task for one in found):
            lines += [*table([one for one in found if one.task == task]), ""]
    lines += [f"Versions: {', '.join(f'{name} {number}' for name, number in _versions().items())}."]
    with replacing(page) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(**{**row, "speed": Speed(**row["speed"])})


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


def _gpu() -> str:
    """The GPU of this machine, by name."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _today() -> str:
    return datetime.now(tz=UTC).date().isoformat()


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


if __name__ == "__main__":
    main()
