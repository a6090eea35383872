"""Measure what neardup's speed rests on, each part against its peers and its limit in one run.

python benchmarks/performance.py PHOTOS --out docs/performance.md
"""

import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import click
import encoding
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import searching
import torch
import training
from PIL import Image
from playwright.sync_api import Page
from rates import (
    QUALITY,
    SCAN,
    SMALL,
    Measured,
    Speed,
    Topics,
    clock,
    draw,
    draw_growth,
    machine,
    made_jpegs,
    measured,
    peak_mb,
    run_neardup,
    table,
)
from tqdm import tqdm

from neardup.arrays import Ints
from neardup.builtin.demo import make_archive
from neardup.builtin.pool import read_groups
from neardup.encode.encoder import BUILTIN
from neardup.images import read_image
from neardup.review.found.candidates import SIDES
from neardup.review.page.browser import chromium_page, served
from neardup.stages import STATE, digest_file, digest_of, replacing, write_json
from neardup.train.press import press

PAIRS = (10_000, 100_000)
"""Pairs of the results of the topic review; the aims are 100 ms between two tasks and a second to open."""
GROUPS = 5_000
"""Groups of these results, of two photos each."""
SHOWN = 60
"""Pairs of the topic review that have photos on the disk: those that come first in the queue."""
ANSWERS = 40
"""Number of answers that are timed."""
PAUSE_S = 0.9
"""Seconds between two answers, as a person needs who knows the answer at once."""
COLLECTED = (1000, 10_000)
"""Photos of the topic collection; ten thousand take some seven minutes."""
QUARTER = 256
"""Longest side in pixels of the photos of the topic collection."""
PEOPLE = 1005
"""Photos of the topic commands: a folder as people have them."""
TITLES: Mapping[str, str] = MappingProxyType({"gpu": "GPU", "shipped": "The encoder that neardup ships"})
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
"""Introduction of the page, in Markdown."""
FOLDER = click.Path(path_type=Path, file_okay=False)


CLOCK = """() => {
  window.clocked = [];
  addEventListener("keydown", () => {
    const start = performance.now(), before = document.body.dataset.shown;
    const look = () => {
      const now = document.body.dataset.shown;
      if (now && now !== before) window.clocked.push(performance.now() - start);
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""
"""Script that times each answer in the browser, from the key press until another pair is drawn."""


def measure_review(photos: Path, work: Path) -> list[Measured]:
    """Topic review: how soon the review page is there, and after an answer the next pair, in a real browser."""
    found = []
    for pairs in PAIRS:
        out = review_results(photos, work / f"review {pairs}", pairs)
        with served(out) as (address, server), chromium_page() as page:
            opened, between = [_opened(page, address) for _ in range(3)], _answered(page)
            peak = peak_mb(server.pid)
        for task, unit, seconds in (
            ("open the review page", "pages", opened),
            ("answer, and see the next pair", "pairs", between),
        ):
            speed = Speed(1 / median(seconds), 1 / max(seconds), 1 / min(seconds))
            note = f"{1000 * median(seconds):.0f} ms in the median, {1000 * max(seconds):.0f} at most"
            found.append(Measured(f"{task}, in Chromium", f"neardup, {pairs:,} pairs", unit, speed, peak, note))
    return sorted(found, key=lambda one: one.task, reverse=True)


def review_results(photos: Path, folder: Path, pairs: int) -> Path:
    """Make a folder as `duplicates` leaves it, with so many pairs to be reviewed and `GROUPS` groups.

    Args:
        photos: folder with images/, of which scans are made.
        folder: where archive and results go.
        pairs: how many; the first `SHOWN` have photos.
    """
    scans = made_jpegs(photos, folder / "archive", 2 * SHOWN, SCAN)
    names = [[f"{side}{row}.jpg" for row in range(pairs)] for side in SIDES]
    digests = [[digest_of(name) for name in side] for side in names]
    for number, scan in enumerate(scans):
        row, side = divmod(number, 2)
        names[side][row], digests[side][row] = scan.name, digest_file(scan)
    # Those with photos come first: they lie across groups, and so will change the groups if they are right.
    chances = np.concatenate([np.linspace(0.85, 0.8, SHOWN), np.linspace(0.79, 0.55, pairs - SHOWN)])
    same: dict[str, object] = {
        "similarity": 0.85,
        "kind": "similar",
        "band": "review",
        "relation": "crop",
        "inliers": 57,
    }
    columns: dict[str, Any] = {
        "photo": names[0],
        "partner": names[1],
        "photo_sha256": digests[0],
        "partner_sha256": digests[1],
    }
    columns |= {name: [value] * pairs for name, value in same.items()}
    out = folder / "results"
    (out / "duplicates").mkdir(parents=True, exist_ok=True)
    (out / "verdicts.sqlite").unlink(missing_ok=True)
    pq.write_table(pa.table(columns | {"probability": chances}), out / "duplicates" / "pairs.parquet")
    members = [name for row in range(pairs - GROUPS, pairs) for name in (names[0][row], names[1][row])]
    groups = {"group": np.repeat(np.arange(1, GROUPS + 1), 2), "photo": members}
    pq.write_table(pa.table(groups), out / "duplicates" / "groups.parquet")
    write_json(out / "duplicates" / "duplicates.json", {"archive": str(folder / "archive"), "threshold": 0.8})
    return out


def _opened(page: Page, address: str) -> float:
    """Seconds from asking for the page until a pair is drawn."""
    start = time.perf_counter()
    page.goto(f"{address}review")
    page.wait_for_function("() => document.body.dataset.shown")
    return time.perf_counter() - start


def _answered(page: Page) -> list[float]:
    """Seconds from the key of an answer until the next pair is drawn, as the browser clocks them."""
    page.evaluate(CLOCK)
    for _ in range(ANSWERS):
        page.wait_for_timeout(1000 * PAUSE_S)
        page.keyboard.press("s")
    page.wait_for_timeout(1000 * PAUSE_S)
    return [ms / 1000 for ms in page.evaluate("window.clocked")]


def measure_commands(photos: Path, work: Path) -> list[Measured]:
    """Topic commands: what a person waits for, from Enter to the prompt, of folders as people have them."""
    folder = work / "commands"
    archive, results = make_archive(folder / "archive", 8, 32).root, folder / "experiment"
    again = ("experiment", str(archive), "--out", str(results), "--encoder", BUILTIN, "--epochs", "1")
    run_neardup(*again, "--translator", "none")
    files, found = made_jpegs(photos, folder / "photos", PEOPLE, SMALL), folder / "results"
    whole = ("duplicates", str(files[0].parent), "--out", str(found))
    by_vectors = ("--encoder", BUILTIN, "--no-verify", "--threshold", "0.5")
    search = ("search", str(files[0]), "--in", str(found / STATE / "vectors"), "--encoder", BUILTIN)
    duplicates = f"find the duplicates of {PEOPLE:,} photos from nothing"
    return [
        commanded("an experiment of which nothing changed", "neardup", *again, "--translator", "none"),
        commanded(duplicates, "neardup, by vectors alone", *whole, *by_vectors, fresh=found),
        commanded(duplicates, "neardup", *whole, fresh=found),
        measured(duplicates, "imagededup, dHash", "commands", 1, by_dhash, files[0].parent, passes=1, warm=False),
        commanded(f"search for one photo among {PEOPLE:,}", "neardup", *search),
    ]


def commanded(task: str, method: str, *arguments: str, fresh: Path | None = None) -> Measured:
    """Clock a neardup command; `fresh` is a folder that each pass begins without."""
    peaks = list[float]()

    def work() -> None:
        if fresh:
            shutil.rmtree(fresh, ignore_errors=True)
        peaks.append(run_neardup(*arguments).peak_mb)

    speed = clock(work, 1, warm=False)
    return Measured(task, method, "commands", speed, max(peaks), f"{1 / speed.median:.1f} s")


def by_dhash(folder: Path) -> Callable[[], str]:
    """The duplicates of a folder by imagededup's perceptual hash, at its own threshold."""
    from imagededup.methods import DHash  # noqa: PLC0415 - here only, or the memory of the others would count it

    def work() -> str:
        start = time.perf_counter()
        DHash(verbose=False).find_duplicates(image_dir=str(folder), max_distance_threshold=10)
        return f"{time.perf_counter() - start:.1f} s, Python and its imports not counted"

    return work


def measure_collection(photos: Path, work: Path) -> list[Measured]:
    """Find the duplicates of a thousand photos and of ten thousand, verified, by the command and from nothing.

    The photos are quarters of photographs, and of each quarter a press copy, of the first one two. Photographs are
    those of PHOTOS and of a folder beside it that is called like it with `_more`.
    """
    folders = [folder for folder in (photos, photos.with_name(f"{photos.name}_more")) if folder.is_dir()]
    groups = [group for folder in folders for group in read_groups(folder)]
    plate_of = {path: number for number, group in enumerate(groups) for path in group}
    sources = sorted(plate_of)
    plates = np.array([plate_of[path] for path in sources])
    task = "find the duplicates of a folder, verified, from nothing"
    results = []
    for count in COLLECTED:
        folder = quarters(sources, work / "collection" / f"{count}", count)
        out = work / "collection" / f"{count}-results"
        shutil.rmtree(out, ignore_errors=True)
        run = run_neardup("duplicates", str(folder), "--out", str(out), "--json")
        note = of_copies(folder, out, json.loads(run.printed), plates)
        results.append(Measured(task, f"neardup, {count:,} photos", "photos", run.speed(count), run.peak_mb, note))
    return results


def quarters(sources: Sequence[Path], folder: Path, count: int) -> Path:
    """Make a folder of so many photos, named by what they show and which copy of it they are; none is made twice."""
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_quarter, sources, folder), range(count), chunksize=256))
    return folder


def _quarter(sources: Sequence[Path], folder: Path, number: int) -> None:
    """Make one of nine photos of a photograph: its quarters, a press copy of each, and a second one of the first."""
    photograph, place = divmod(number, 9)
    copy, quarter = divmod(place, 4)
    subject = 4 * photograph + quarter
    path = folder / f"{subject // encoding.FOLDER:06d}" / f"{subject:06d}_{copy}.jpg"
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    image, (below, right) = read_image(sources[photograph]), divmod(quarter, 2)
    width, height = image.width // 2, image.height // 2
    part = image.crop((right * width, below * height, (right + 1) * width, (below + 1) * height))
    scale = QUARTER / max(width, height)
    part = part.resize((round(scale * width), round(scale * height)), Image.Resampling.BICUBIC)
    (press(part, 2 * subject + copy) if copy else part).save(path, quality=QUALITY)


def of_copies(folder: Path, out: Path, facts: Mapping[str, object], plates: Ints) -> str:
    """What the command found in a folder of `quarters`; `plates` has one number for exposures of one plate."""
    pairs = pq.read_table(out / "duplicates" / "pairs.parquet", columns=["photo", "partner", "band"]).to_pandas()
    pairs = pairs[pairs.band == "link"]
    subjects = pairs[["photo", "partner"]].apply(lambda paths: paths.str.slice(-12, -6).astype(int))
    copy = (subjects.photo == subjects.partner).to_numpy()
    plate = plates[subjects.to_numpy() // 4]
    versions = Counter(path.stem[:6] for path in folder.rglob("*.jpg")).values()
    copies = sum(count * (count - 1) // 2 for count in versions)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return (
        f"{facts['pairs']:,} candidates; {copy.sum():,} of {copies:,} pairs of copies linked; of "
        f"{(~copy).sum():,} other links {(plate[:, 0] != plate[:, 1]).sum():,} are no exposures of one plate; "
        f"{size / 1e9:.1f} GB of results"
    )


TOPICS: Topics = {
    **encoding.TOPICS,
    **searching.TOPICS,
    **training.TOPICS,
    "review": measure_review,
    "commands": measure_commands,
    "collection": measure_collection,
}
"""Each module lists its topics at its end; the page has them in this order."""


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


def _gpu() -> str:
    """The GPU of this machine, by name."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _today() -> str:
    return datetime.now(tz=UTC).date().isoformat()


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


if __name__ == "__main__":
    main()
