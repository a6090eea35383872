"""An encoder's vectors measured against the historian's groups."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neardup.arrays import Floats, Ints
from neardup.errors import ArchiveError
from neardup.measure.bootstrap import Judged
from neardup.measure.metrics import NAMES, ndcg
from neardup.measure.metrics import average_precision as ap
from neardup.measure.threshold import calibrated_threshold
from neardup.stages import replacing, write_json
from neardup.tables import save_rows

FOLDS = 5
RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A metric's value with its 95 % interval over resampled groups; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class QueryRow:
    """One query of the table `queries.csv`."""

    photo: str
    group: int
    relevant: int
    first_relevant_rank: int
    top_1: int
    top_5: int
    ndcg: float
    average_precision: float
    nearest: str
    similarity: float
    right: int


@dataclass(frozen=True)
class Evaluation:
    """What was measured for one approach; it can be asked more without encoding again.

    Attributes:
        approach: its name.
        fingerprint: of the encoder.
        names: of the photos.
        groups: int64 (n,).
        vectors: float32 (n, d), unit rows.
        seed: of folds and resamples; approaches with the same groups and seed are paired.
    """

    approach: str
    fingerprint: str
    names: tuple[str, ...]
    groups: Ints
    vectors: npt.NDArray[np.float32]
    seed: int = 0

    @cached_property
    def judged(self) -> Judged:
        """Similarities, pairs and calibrated thresholds."""
        wide = self.vectors.astype(np.float64)
        return Judged.of(wide @ wide.T, self.groups, FOLDS, self.seed)

    @cached_property
    def threshold(self) -> float:
        """The threshold calibrated on all pairs: the one to use on photos that are in no group yet."""
        return calibrated_threshold(self.judged.pairs, self.judged.group_of)

    @cached_property
    def values(self) -> Mapping[str, float]:
        """Each metric's value."""
        ones = np.ones(int(self.judged.group_of.max()) + 1)
        return _ordered([statistic(ones) for statistic in self.judged.statistics().values()])

    @cached_property
    def samples(self) -> Mapping[str, Floats]:
        """Each metric in every resample of the groups, float64 (RESAMPLES,)."""
        count = int(self.judged.group_of.max()) + 1
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
        statistics = list(self.judged.statistics().values())
        rows = [_ordered([statistic(weights) for statistic in statistics]) for weights in drawn]
        return {name: np.array([row[name] for row in rows]) for name in NAMES}

    @cached_property
    def metrics(self) -> dict[str, Figure]:
        """Each metric with its interval."""
        return {name: figure(self.values[name], self.samples[name]) for name in NAMES}

    def at(self, threshold: float) -> dict[str, float]:
        """Precision, recall and F1 over pairs at one threshold for all."""
        judged = self.judged
        other = Judged(judged.similarities, judged.group_of, judged.pairs, np.full(len(judged.thresholds), threshold))
        return other.statistics()["pairs"](np.ones(int(judged.group_of.max()) + 1))

    @cached_property
    def queries(self) -> list[QueryRow]:
        """One row a query, the worst first."""
        indices, relevance = self.judged.ranked
        nearest = self.judged.nearest()
        rows = [
            QueryRow(
                photo=self.names[i],
                group=int(self.groups[i]),
                relevant=int(row.sum()),
                first_relevant_rank=int(row.argmax()) + 1,
                top_1=int(row[0]),
                top_5=int(row[:5].any()),
                ndcg=float(ndcg(row[None])[0]),
                average_precision=float(ap(row[None])[0]),
                nearest=self.names[nearest[i]],
                similarity=float(self.judged.similarities[i, nearest[i]]),
                right=int(self.groups[nearest[i]] == self.groups[i]),
            )
            for i, row in zip(indices, relevance, strict=True)
        ]
        return sorted(rows, key=lambda row: (row.ndcg, row.photo))

    def worst(self, count: int) -> list[str]:
        """The photos whose search went worst, one a group, the worst first."""
        return _one_a_group(self.queries, count)

    def best(self, count: int) -> list[str]:
        """The photos whose search went best, one a group: those of large groups first, for they are the harder ones."""
        return _one_a_group(
            sorted(self.queries, key=lambda row: (-round(row.ndcg, 9), -row.relevant, row.photo)), count
        )

    def hits(self, photo: str, top: int = 5) -> list[tuple[str, float, bool]]:
        """The first hits of a photo: name, similarity, whether it is of the same group."""
        index = self.names.index(photo)
        scores = self.judged.similarities[index]
        same = self.groups == self.groups[index]
        order = [int(i) for i in np.lexsort((same, -scores)) if i != index][:top]
        return [(self.names[i], float(scores[i]), bool(same[i])) for i in order]

    def save(self, folder: Path) -> list[Path]:
        """Write `metrics.json`, `queries.csv`, `bootstrap.npz`, `groups.csv` and, while small, `similarity.npy`."""
        facts: dict[str, Any] = {
            "approach": self.approach,
            "fingerprint": self.fingerprint,
            "threshold": clean(self.threshold),
            "photos": len(self.names),
            "groups": len(set(self.groups.tolist())),
            "queries": len(self.queries),
            "seed": self.seed,
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
        }
        write_json(folder / "metrics.json", facts)
        paths = [folder / "metrics.json", save_rows(folder / "queries.csv", QueryRow, self.queries)]
        arrays = {
            "names": np.array(self.names),
            "groups": self.groups,
            "vectors": self.vectors,
            **{f"sample_{name}": values for name, values in self.samples.items()},
        }
        with replacing(folder / "evaluation.npz") as partial:
            np.savez(partial, **arrays)  # type: ignore[arg-type]
        paths.append(folder / "evaluation.npz")
        if len(self.names) <= 2000:  # noqa: PLR2004 - 16 MB
            with replacing(folder / "similarity.npy") as partial:
                np.save(partial, self.judged.similarities.astype(np.float32))
            paths.append(folder / "similarity.npy")
        return paths

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises:
            ArchiveError: nothing has been evaluated in `folder`.
        """
        if not (folder / "evaluation.npz").is_file():
            raise ArchiveError(f"{folder} holds no evaluation: run `neardup evaluate --out {folder.parent}` first")
        facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        with np.load(folder / "evaluation.npz", allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["names"])
            made = cls(
                facts["approach"], facts["fingerprint"], names, arrays["groups"], arrays["vectors"], facts["seed"]
            )
            # The resamples took most of the time; they are not drawn anew.
            made.__dict__["samples"] = {name: arrays[f"sample_{name}"] for name in NAMES}
        return made


def evaluate(
    vectors: npt.NDArray[np.float32],
    groups: Ints,
    photos: Sequence[str],
    *,
    approach: str,
    fingerprint: str,
    seed: int = 0,
) -> Evaluation:
    """Measure vectors against groups.

    Args:
        vectors: float32 (n, d), unit rows.
        groups: int64 (n,).
        photos: names.
        approach: the approach's name.
        fingerprint: the encoder's.
        seed: of folds and resamples.

    Raises:
        ArchiveError: fewer than two photos, so that nothing can be measured.
    """
    if len(photos) < 2:  # noqa: PLR2004
        raise ArchiveError(
            f"the test set has {len(photos)} photos, at least 2 are needed: see discrepancies.html for why"
        )
    return Evaluation(approach, fingerprint, tuple(photos), groups, vectors, seed)


def _one_a_group(rows: Sequence[QueryRow], count: int) -> list[str]:
    first: dict[int, str] = {}
    for row in rows:
        first.setdefault(row.group, row.photo)
    return list(first.values())[:count]


def figure(value: float, samples: Floats) -> Figure:
    """A value with the 2.5 and 97.5 percentiles of its resamples."""
    defined = samples[~np.isnan(samples)]
    if math.isnan(value) or not len(defined):
        return Figure(clean(value), None, None)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Figure(clean(value), clean(float(low)), clean(float(high)))


def clean(value: float) -> float | None:
    """A number that JSON has, or None."""
    return None if math.isnan(value) or math.isinf(value) else float(value)


def _ordered(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    merged = {name: value for part in parts for name, value in part.items()}
    return {name: merged[name] for name in NAMES}
