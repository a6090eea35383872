"""The approaches side by side: each metric's value and interval, and what each approach gains over the first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from neardup.errors import ArchiveError
from neardup.measure.evaluate import Evaluation, Figure, clean, figure
from neardup.measure.metrics import METRICS, NAMES
from neardup.settings.schema import APPROACHES
from neardup.stages import replacing, write_json
from neardup.tables import Value, write_csv, write_table

FILES = ("comparison.xlsx", "comparison.csv", "comparison.md", "comparison.json", "comparison_facts.json")
"""Names of the files in which `Comparison.write` sets the approaches side by side."""
VERIFIED = ", verified"
"""Suffix of an approach's name where its nearest pairs were verified."""


@dataclass(frozen=True)
class VerifiedFigures:
    """An approach whose nearest pairs were verified by local features, and ranked by probability.

    Attributes:
        figures: metric → value and interval.
        gains: metric → gain over its vectors alone, with the interval of the paired resamples.
        summary: what was verified, how reliable probabilities are and where the bands lie, one sentence per line.
    """

    figures: Mapping[str, Figure]
    gains: Mapping[str, Figure]
    summary: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "VerifiedFigures":
        """Read the figures from what `plain` made of them, as `verified.json` holds it."""
        figures, gains = (
            {name: Figure(**figure) for name, figure in facts[part].items()} for part in ("figures", "gains")
        )
        return cls(figures, gains, facts["summary"])

    @property
    def plain(self) -> dict[str, object]:
        """The figures, gains and summary as dicts, numbers and text, for `verified.json` and the comparison's facts."""
        parts = {"figures": self.figures, "gains": self.gains}
        plain_parts = {
            part: {name: asdict(figure) for name, figure in figures.items()} for part, figures in parts.items()
        }
        return {**plain_parts, "summary": self.summary}


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the same test set, the one to compare with first.

    Attributes:
        evaluations: one per approach.
        repeats: approach → its evaluations with further seeds, for approaches trained with several.
        verified: approach → its figures with its nearest pairs verified, for approaches that were verified.
    """

    evaluations: tuple[Evaluation, ...]
    repeats: Mapping[str, tuple[Evaluation, ...]] = field(default_factory=dict)
    verified: Mapping[str, VerifiedFigures] = field(default_factory=dict)

    @property
    def approaches(self) -> list[str]:
        """The names of the approaches, in the order of the columns."""
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

    @cached_property
    def spreads(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Metric → approach → its least and greatest value over the seeds, where there are several."""
        spreads: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in NAMES}
        for first in self.evaluations:
            for name in NAMES if self.repeats.get(first.approach) else ():
                values = [evaluation.metrics[name].value for evaluation in (first, *self.repeats[first.approach])]
                defined = [value for value in values if value is not None]
                if defined:
                    spreads[name][first.approach] = min(defined), max(defined)
        return spreads

    @property
    def seeds(self) -> int:
        """Number of seeds with which approaches were trained."""
        return 1 + max(map(len, self.repeats.values()), default=0)

    def write(self, out: Path, more: Mapping[str, object] = MappingProxyType({})) -> list[Path]:
        """Write the tables `comparison.xlsx`, `.csv` and `.md`, `comparison.json` and `comparison_facts.json`.

        `comparison.json` is metric → approach → {value, low, high}. Gains over the first approach, thresholds and
        counts are in `comparison_facts.json`.

        Args:
            out: the folder to write to.
            more: further facts for `comparison_facts.json`.

        Returns:
            The files.
        """
        columns = self._columns()
        headings = ["metric", *(heading for heading, _ in columns)]
        rows: list[list[Value]] = [[METRICS[name].title, *(value(name) for _, value in columns)] for name in NAMES]
        write_table(out / "comparison.xlsx", headings, rows)
        write_csv(out / "comparison.csv", headings, rows)
        with replacing(out / "comparison.md") as partial:
            partial.write_text(self.markdown(), encoding="utf-8")
        figures = plain(self.figures)
        for approach, verified in self.verified.items():
            for name, shown in verified.figures.items():
                figures[name][f"{approach}{VERIFIED}"] = asdict(shown)
        write_json(out / "comparison.json", figures)
        first = self.evaluations[0]
        facts = {
            "differences": plain(self.differences),
            "threshold": {e.approach: clean(e.threshold) for e in self.evaluations},
            "groups": len(set(first.groups.tolist())),
            "photos": len(first.names),
            "queries": len(first.queries),
            "distractors": len(first.distractors.names),
            "seeds": self.seeds,
            "spreads": {
                name: {approach: {"low": low, "high": high} for approach, (low, high) in row.items()}
                for name, row in self.spreads.items()
                if row
            },
            "verified": {
                approach: {"gains": verified.plain["gains"], "summary": verified.summary}
                for approach, verified in self.verified.items()
            },
            **more,
        }
        write_json(out / "comparison_facts.json", facts)
        return [out / name for name in FILES]

    def _columns(self) -> list[tuple[str, Callable[[str], float | None]]]:
        """Columns of the wide table: heading, and function from a metric's name to the cell's figure in percent."""
        columns = []
        verified = [(a, self.verified[a]) for a in self.approaches if a in self.verified]
        for heading, figures in (
            *((a, {name: self.figures[name][a] for name in NAMES}) for a in self.approaches),
            *((f"{a} gain", {name: self.differences[name][a] for name in NAMES}) for a in self.approaches[1:]),
            *((f"{a}{VERIFIED}", pairs_verified.figures) for a, pairs_verified in verified),
            *((f"{a}{VERIFIED} gain", pairs_verified.gains) for a, pairs_verified in verified),
        ):
            for part, end in (("value", ""), ("low", " low"), ("high", " high")):
                columns.append((f"{heading}{end}", _cell(figures, part)))
        return columns

    def markdown(self) -> str:
        """The tables in percent, with 95 % intervals; a gain whose interval excludes 0 is marked with an asterisk."""
        rows = [["metric (%)", *(APPROACHES.get(a, a) for a in self.approaches)]]
        rows += [[METRICS[name].title, *(self._marked(name, a) for a in self.approaches)] for name in NAMES]
        lines = _table(rows)
        first = APPROACHES.get(self.approaches[0], self.approaches[0])
        lines += ["", f"95 % intervals over groups; * differs from {first} beyond chance (paired interval without 0)."]
        if self.seeds > 1:
            lines.append(f"In square brackets the least and the greatest of {self.seeds} seeds.")
        if count := len(self.evaluations[0].distractors.names):
            among = f"the test set and {count} further photos of the archive; verified, without these"
            lines.append(f"Each query was searched for among {among}.")
        return "\n".join([*lines, *self._verified_lines()]) + "\n"

    def _verified_lines(self) -> list[str]:
        """Make the second table, of approaches whose nearest pairs were verified, with an explanation."""
        names = [a for a in self.approaches if a in self.verified]
        if not names:
            return []
        rows = [["verified (%)", *(APPROACHES.get(a, a) for a in names)]]
        for name in NAMES:
            cells = [(self.verified[a].figures[name], self.verified[a].gains[name]) for a in names]
            rows.append([METRICS[name].title, *(_shown(figure, certain(gain)) for figure, gain in cells)])
        return [
            "",
            *_table(rows),
            "",
            "Ranked by the probability of verified pairs, out of fold; * differs from the vectors alone beyond chance.",
            *(f"{APPROACHES.get(a, a)}: {line}" for a in names for line in self.verified[a].summary.splitlines()),
        ]

    def _marked(self, name: str, approach: str) -> str:
        """Make a cell of the Markdown table: value, asterisk, interval, and the spread over several seeds."""
        shown = self.figures[name][approach]
        differs = approach in self.differences[name] and certain(self.differences[name][approach])
        spread = self.spreads[name].get(approach)
        seeds = f" [{span(*spread)}]" if spread and shown.value is not None else ""
        return f"{_shown(shown, differs)}{seeds}"


def _shown(figure: Figure, differs: bool) -> str:  # noqa: FBT001 - a fact of the figure, no switch
    """Write a figure in percent with its interval, and an asterisk where it differs from another one beyond chance."""
    if figure.value is None:
        return "–"
    interval = f" ({span(figure.low, figure.high)})" if figure.low is not None and figure.high is not None else ""
    return f"{100 * figure.value:.2f}{'*' * differs}{interval}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Make the lines of a Markdown table with aligned columns; the first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def plain(table: dict[str, dict[str, Figure]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Convert a table to JSON's types: metric → approach → {value, low, high}."""
    return {name: {approach: asdict(shown) for approach, shown in row.items()} for name, row in table.items()}


def _cell(figures: Mapping[str, Figure], part: str) -> Callable[[str], float | None]:
    """Make a function from a metric's name to one part of its figure (value, low or high) in percent."""
    return lambda name: percent(getattr(figures[name], part))


def certain(difference: Figure) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def span(low: float, high: float) -> str:
    """Write the range between two shares in percent, for people."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def percent(value: float | None) -> float | None:
    """Convert a share, 0 to 1, to percent, rounded to four decimals."""
    return None if value is None else round(100 * value, 4)


def compare(
    evaluations: Sequence[Evaluation],
    repeats: Mapping[str, Sequence[Evaluation]] = MappingProxyType({}),
    verified: Mapping[str, VerifiedFigures] = MappingProxyType({}),
) -> Comparison:
    """Set the evaluations of several approaches side by side, with the gain of each over the first.

    Args:
        evaluations: one per approach, the one to compare with first.
        repeats: approach → its evaluations by further seeds.
        verified: approach → its figures with its nearest pairs verified.

    Raises:
        ArchiveError: there are no evaluations, or they have different photos, groups, distractors or seeds of
            resampling, so that differences would mean nothing.
    """
    if not evaluations:
        raise ArchiveError("there are no evaluations to compare: name one or more")
    first = evaluations[0]
    for other in (*evaluations[1:], *(repeat for several in repeats.values() for repeat in several)):
        if other.names != first.names or not np.array_equal(other.groups, first.groups):
            raise ArchiveError(
                f"{other.approach} and {first.approach} were measured on different test sets: evaluate both anew"
            )
        if other.distractors.names != first.distractors.names:
            raise ArchiveError(
                f"{other.approach} and {first.approach} were measured with different distractors: evaluate both anew"
            )
        if other.seed != first.seed:
            raise ArchiveError(
                f"{other.approach} and {first.approach} were resampled with different seeds: evaluate both with one"
            )
    seeds = {name: tuple(several) for name, several in repeats.items() if several}
    return Comparison(tuple(evaluations), seeds, dict(verified))
