"""How verdicts improve groups: answers from a ground truth, by keys in a browser, compared with a random order.

`python -m neardup.review.value OUT FOUND …` takes folders of `prepare` and of `duplicates OUT/test_dataset` in turn.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from scipy.special import expit

from neardup.archive.testset import TestSet
from neardup.decide.constraints import Constraints
from neardup.decide.groups import DecidedPairs, group_pairs
from neardup.decide.probability import Regression
from neardup.detect.verified_pairs import UNLIKELY
from neardup.review.asked.queues import REVIEW, Queues
from neardup.review.found.candidates import ShownPair, load_evidence
from neardup.review.found.results import Results
from neardup.review.learned.recalibration import Run, recalibrate
from neardup.review.learned.refit import Moves
from neardup.review.page.browser import chromium_page, pairs_asked, press, served
from neardup.review.record.links import Links, Pair
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict, Verdicts, open_verdicts
from neardup.stages import replacing, write_json

STEPS = (0, 50, 100, 200, 400)
"""Verdicts after which groups are measured; where the queue ends before, its end is the last."""
SEEDS = 5
"""Number of random orders whose figures are averaged, as a single one may be lucky."""
Truth = Mapping[str, str]
"""SHA-256 of each photo → its true group."""
Script = Callable[[Path, Verdicts, Truth], Iterator[None]]
"""Answers the pairs of an output folder from the truth; yields after each answer, when it is stored."""


@dataclass(frozen=True)
class Point:
    """Groups after some verdicts, by pairs of photos: those of one found group against those of one true group.

    Attributes:
        verdicts: how many were given.
        precision: share of the pairs of a found group that are right.
        recall: share of the true pairs that share a found group.
        f1: the harmonic mean of both.
        bound_f1: the same where verdicts bind the groups and the probabilities stay as they were.
    """

    verdicts: float
    precision: float
    recall: float
    f1: float
    bound_f1: float


def curve(found: Path, truth: Truth, script: Script) -> list[Point]:
    """Answer pairs and measure the groups on the way.

    Args:
        found: output folder of `duplicates`; it is only read.
        truth: the true groups.
        script: what answers: `by_page`, `by_queue`, or `at_random` with a seed.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder)
        shutil.copytree(found / "duplicates", out / "duplicates")
        with open_verdicts(out) as kept:
            points = [measured(out, kept, truth)]
            for number, _ in enumerate(script(out, kept, truth), 1):
                if number in STEPS:
                    points.append(measured(out, kept, truth))
                if number == STEPS[-1]:
                    return points
            return [*points, measured(out, kept, truth)]


def answer_of(photo: str, partner: str, truth: Truth) -> str:
    """Answer a pair of contents by the truth."""
    return SAME if truth[photo] == truth[partner] else DIFFERENT


def by_queue(out: Path, kept: Verdicts, truth: Truth) -> Iterator[None]:
    """Answer the pairs of the review queue without a browser, each the first that is left when it is asked."""
    queues = Queues(Results(out), kept)
    while tasks := queues.take(REVIEW, "script", 1):
        _answer(queues, kept, tasks[0].pair, truth)
        yield


def by_page(out: Path, kept: Verdicts, truth: Truth) -> Iterator[None]:  # noqa: ARG001 - the page's server stores them
    """Answer the pairs of the review queue by keys in Chromium, on the page as a person sees it."""
    with served(out) as (address, _), chromium_page() as page:
        page.goto(f"{address}review")
        for photo, partner in pairs_asked(page):
            press(page, answer_of(photo, partner, truth))
            yield


def at_random(seed: int, out: Path, kept: Verdicts, truth: Truth) -> Iterator[None]:
    """Answer the pairs that people are shown in a random order, but for those that follow from earlier answers."""
    queues = Queues(Results(out), kept)
    rows = np.flatnonzero(~(queues.results.probability < UNLIKELY))
    for row in np.random.default_rng(seed).permutation(rows).tolist():
        if not queues.settled[row]:
            _answer(queues, kept, queues.results.candidate(row), truth)
            yield


def _answer(queues: Queues, kept: Verdicts, pair: ShownPair, truth: Truth) -> None:
    """Answer one pair, as the page would store it."""
    ends = pair.photo.sha256, pair.partner.sha256
    kept.add(Verdict.of(*ends, answer_of(*ends, truth), who="ground truth", queue=REVIEW))
    queues.refresh()


def measured(out: Path, kept: Verdicts, truth: Truth) -> Point:
    """The groups by the verdicts so far, with the decision fitted again and without."""
    run, current = Run.load(out), kept.current()
    moves = recalibrate(out, kept).moves
    figures = [_figures(_groups(out, run, Links.of(current), tried), truth) for tried in (moves, Moves())]
    return Point(len(current), *figures[0], bound_f1=figures[1][2])


def _groups(out: Path, run: Run, links: Links, moves: Moves) -> dict[str, int]:
    """Photo → its group, of the photos that are in pairs."""
    photos = sorted({photo for pair in run.row_of for photo in pair})
    number = {photo: row for row, photo in enumerate(photos)}
    left, right = np.array([[number[photo] for photo in pair] for pair in run.row_of], dtype=np.int64).T
    known = load_evidence(out)
    probabilities = expit(moves.of(run.log_odds, run.regression))
    evidence = [known.get(pair) for pair in run.row_of]
    counted = run.regression == Regression.MATCHED
    pairs = DecidedPairs(left, right, probabilities, evidence, dict(enumerate(photos)), counted)
    together, apart = (_rows(pairs_of, number) for pairs_of in (links.must, links.cannot))
    labels, _ = group_pairs(len(photos), pairs, Constraints(together, apart))
    return dict(zip(photos, labels.tolist(), strict=True))


def _rows(pairs: Sequence[Pair], number: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    return tuple((number[first], number[second]) for first, second in pairs)


def _figures(group_of: Mapping[str, int], truth: Truth) -> tuple[float, float, float]:
    """Precision, recall and F1 of the pairs of photos that share a group."""
    found = Counter(group_of.values())
    called = sum(size * (size - 1) // 2 for size in found.values())
    true = sum(size * (size - 1) // 2 for size in Counter(truth.values()).values())
    both = Counter((group, truth[photo]) for photo, group in group_of.items())
    right = sum(size * (size - 1) // 2 for size in both.values())
    precision, recall = right / called if called else 1.0, right / true if true else 1.0
    return precision, recall, 2 * right / (called + true)


def true_groups(out: Path) -> dict[str, str]:
    """SHA-256 → group of the photos of a prepared ground truth."""
    return {photo.sha256: str(photo.group) for photo in TestSet.load(out).photos}


def averaged(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean of several curves, step by step, as far as all of them go."""
    return [
        Point(*np.mean([list(asdict(point).values()) for point in points], axis=0).tolist())
        for points in zip(*curves, strict=False)
    ]


def draw(curves: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> None:
    """Draw F1, precision and recall over the verdicts, a row a ground truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 2.9 * len(curves)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(curves), 3, squeeze=False)
    for row, (title, orders) in zip(axes, curves.items(), strict=True):
        for axis, name in zip(row, ("f1", "precision", "recall"), strict=True):
            for order, points in orders.items():
                values = [getattr(point, name) for point in points]
                axis.plot([point.verdicts for point in points], values, marker="o", label=order)
            axis.set(title=name.replace("f1", "F1"), xlabel="verdicts")
            axis.grid(alpha=0.3)
        row[0].set_ylabel(title)
    axes[0][0].legend()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--title", "titles", multiple=True, help="What each ground truth is called, in the order of the folders.")
@click.option("--docs", type=click.Path(file_okay=False, path_type=Path), default=Path("docs"), show_default=True)
def main(folders: tuple[Path, ...], titles: tuple[str, ...], docs: Path) -> None:
    """Write review_value.json and .png: what verdicts buy on folders of `prepare` and of `duplicates`, in turn.

    The answers of the review queue are keys pressed in Chromium; those at random are given to the library.
    """
    curves = {}
    for place, (out, found) in enumerate(zip(folders[::2], folders[1::2], strict=True)):
        truth = true_groups(out)
        random = averaged([curve(found, truth, partial(at_random, seed)) for seed in range(SEEDS)])
        title = titles[place] if place < len(titles) else out.name
        curves[title] = {"review queue": curve(found, truth, by_page), "at random": random}
        for order, points in curves[title].items():
            for point in points:
                click.echo(f"{title}, {order}: {point}")
    facts = {title: {order: list(map(asdict, c)) for order, c in orders.items()} for title, orders in curves.items()}
    write_json(docs / "review_value.json", facts)
    draw(curves, docs / "review_value.png")


if __name__ == "__main__":
    main()
