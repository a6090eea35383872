"""The approaches side by side."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neardup.errors import ArchiveError
from neardup.measure.evaluate import Evaluation, Figure, clean, figure
from neardup.measure.metrics import NAMES
from neardup.settings.schema import APPROACHES
from neardup.stages import replacing, write_json
from neardup.tables import Value, write_table

TITLES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "top_1": "top-1",
    "top_5": "top-5",
    "ndcg": "nDCG",
    "map": "mAP",
    "r_precision": "R-precision",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "nn_precision": "nn-precision",
    "nn_recall": "nn-recall",
    "nn_f1": "nn-F1",
    "micro_ap": "µAP",
    "recall_at_90_precision": "recall at 90 % precision",
    "b3_precision": "B³ precision",
    "b3_recall": "B³ recall",
    "b3_f1": "B³ F1",
    "over_merged": "over-merged",
    "over_split": "over-split",
    "false_alarms": "false alarms",
}


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the same test set, the one to compare with first."""

    evaluations: tuple[Evaluation, ...]

    @property
    def approaches(self) -> list[str]:
        """Their names."""
        return [evaluation.approach for evaluation in self.evaluations]

    @cached_property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """Metric → approach → value and interval."""
        return {name: {e.approach: e.metrics[name] for e in self.evaluations} for name in NAMES}

    @cached_property
    def differences(self) -> dict[str, dict[str, Figure]]:
        """Metric → approach → gain over the first, with the interval of the paired resamples."""
        base = self.evaluations[0]
        return {
            name: {
                e.approach: figure(e.values[name] - base.values[name], e.samples[name] - base.samples[name])
                for e in self.evaluations[1:]
            }
            for name in NAMES
        }

    def write(self, out: Path) -> list[Path]:
        """Write `comparison.xlsx`, `.csv`, `.md` and `.json`."""
        columns, rows = self._table()
        write_table(out / "comparison.xlsx", columns, rows)
        with replacing(out / "comparison.csv") as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
        with replacing(out / "comparison.md") as partial:
            partial.write_text(self.markdown(), encoding="utf-8")
        first = self.evaluations[0]
        facts = {
            "metrics": {name: {a: asdict(f) for a, f in row.items()} for name, row in self.figures.items()},
            "differences": {name: {a: asdict(f) for a, f in row.items()} for name, row in self.differences.items()},
            "threshold": {e.approach: clean(e.threshold) for e in self.evaluations},
            "groups": len(set(first.groups.tolist())),
            "photos": len(first.names),
            "queries": len(first.queries),
        }
        write_json(out / "comparison.json", facts)
        return [out / f"comparison.{suffix}" for suffix in ("xlsx", "csv", "md", "json")]

    def _table(self) -> tuple[list[str], list[list[Value]]]:
        """All figures in percent."""
        columns = ["metric"]
        for approach in self.approaches:
            columns += [approach, f"{approach} low", f"{approach} high"]
        for approach in self.approaches[1:]:
            columns += [f"{approach} gain", f"{approach} gain low", f"{approach} gain high"]
        rows: list[list[Value]] = []
        for name in NAMES:
            figures = [self.figures[name][a] for a in self.approaches] + [
                self.differences[name][a] for a in self.approaches[1:]
            ]
            numbers = [percent(number) for f in figures for number in (f.value, f.low, f.high)]
            rows.append([TITLES[name], *numbers])
        return columns, rows

    def markdown(self) -> str:
        """The table in percent, with 95 % intervals; a gain whose interval holds no 0 is marked with an asterisk."""
        rows = [["metric (%)", *(APPROACHES.get(a, a) for a in self.approaches)]]
        rows += [[TITLES[name], *(self._cell(name, approach) for approach in self.approaches)] for name in NAMES]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        first = APPROACHES.get(self.approaches[0], self.approaches[0])
        lines += ["", f"95 % intervals over groups; * differs from {first} beyond chance (paired interval without 0)."]
        return "\n".join(lines) + "\n"

    def _cell(self, name: str, approach: str) -> str:
        found = self.figures[name][approach]
        mark = "*" if approach in self.differences[name] and certain(self.differences[name][approach]) else ""
        if found.value is None:
            return "–"
        interval = (
            f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
            if found.low is not None and found.high is not None
            else ""
        )
        return f"{100 * found.value:.2f}{mark}{interval}"


def certain(difference: Figure) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def percent(value: float | None) -> float | None:
    """A share in percent, to four digits."""
    return None if value is None else round(100 * value, 4)


def compare(evaluations: Sequence[Evaluation]) -> Comparison:
    """Set evaluations side by side.

    Raises:
        ArchiveError: they are not of the same photos and groups, so that a difference would mean nothing.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.names != first.names or not np.array_equal(other.groups, first.groups):
            raise ArchiveError(
                f"{other.approach} and {first.approach} were measured on different test sets: evaluate both anew"
            )
    return Comparison(tuple(evaluations))
