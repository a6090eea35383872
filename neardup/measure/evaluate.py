"""Measure an encoder's vectors against the historian's groups."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neardup.arrays import Floats, Ints, Vectors
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError
from neardup.measure.bootstrap import Resample, resamples
from neardup.measure.metrics import METRICS, NAMES, average_precision, ndcg
from neardup.measure.scored import ScoredTestSet, similarities_between
from neardup.measure.threshold import calibrated_threshold
from neardup.stages import reading, replacing, write_json
from neardup.tables import save_rows
from neardup.words import typed

FOLDS = 5
"""Folds of groups in the cross-validation that calibrates the thresholds."""
RESAMPLES = 1000
"""Resamples of the groups in the bootstrap: the ends of a 95 % interval then vary by about a tenth of its width."""
SQUARE_PHOTOS = 2000
"""Most photos of a test set for which `similarity.npy` is written: with this many, it takes 16 MB."""


@dataclass(frozen=True)
class Figure:
    """A metric's value with its 95 % interval over resampled groups; None where undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class QueryRow:
    """One query of the table `queries.csv`.

    Attributes:
        photo: the query's name.
        group: its group's number.
        relevant: how many other photos its group has.
        first_relevant_rank: rank of the first relevant photo, from 1.
        top_1: 1 if a relevant photo is the first hit, else 0.
        top_5: 1 if a relevant photo is among the first five hits, else 0.
        ndcg: 0 to 1.
        average_precision: 0 to 1.
        nearest: name of the nearest photo, or distractor.
        similarity: cosine similarity of the nearest photo.
        right: 1 if the nearest photo is of the query's group, else 0.
    """

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
class Distractors:
    """Photos of the archive, in no group, that are in the gallery of every query.

    Attributes:
        names: names of the distractors, which differ from all names of the test set.
        vectors: float32 (m, d), unit rows, by the encoder that is measured.
    """

    names: tuple[str, ...] = ()
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @classmethod
    def of(cls, embeddings: Embeddings) -> "Distractors":
        """Make distractors of embeddings whose paths are the distractors' names."""
        return cls(embeddings.paths, embeddings.vectors)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one approach, which answers further questions without encoding again.

    Attributes:
        approach: name of the approach.
        fingerprint: fingerprint of the encoder.
        names: names of the photos.
        groups: int64 (n,), the group of each photo.
        vectors: float32 (n, d), unit rows.
        seed: seed of folds and resamples; approaches with the same groups and seed are paired.
        distractors: further photos in every query's gallery; see `ScoredTestSet` for the metrics in which they count.
    """

    approach: str
    fingerprint: str
    names: tuple[str, ...]
    groups: Ints
    vectors: Vectors
    seed: int = 0
    distractors: Distractors = field(default_factory=Distractors)

    @cached_property
    def scored(self) -> ScoredTestSet:
        """The test set with its similarities, pairs and calibrated thresholds, from which all metrics are computed."""
        vectors = self.vectors.astype(np.float64)
        distractors = None
        if self.distractors.names:
            distractors = similarities_between(vectors, self.distractors.vectors.astype(np.float64))
        return ScoredTestSet.of(similarities_between(vectors, vectors), self.groups, FOLDS, self.seed, distractors)

    @cached_property
    def threshold(self) -> float:
        """The threshold calibrated on all pairs, for use on new photos."""
        return calibrated_threshold(self.scored.pairs, self.scored.group_of)

    @cached_property
    def values(self) -> Mapping[str, float]:
        """Each metric's value by name; NaN where it is not defined."""
        return _values(Resample.whole(self.scored), NAMES)

    @cached_property
    def samples(self) -> Mapping[str, Floats]:
        """Each metric in every resample of the groups, float64 (RESAMPLES,)."""
        rows = [_values(resample, NAMES) for resample in resamples(self.scored, RESAMPLES, self.seed)]
        return {name: np.array([row[name] for row in rows]) for name in NAMES}

    @cached_property
    def metrics(self) -> dict[str, Figure]:
        """Each metric by name, with its value and its bootstrap interval."""
        return {name: figure(self.values[name], self.samples[name]) for name in NAMES}

    def at(self, threshold: float) -> dict[str, float]:
        """Compute precision, recall and F1 over pairs at a single threshold."""
        pairs, count = self.scored.pairs, len(self.scored.pairs.scores)
        at_threshold = ScoredTestSet(
            self.scored.similarities, self.scored.group_of, pairs, np.full(count, threshold), self.scored.distractors
        )
        return _values(Resample.whole(at_threshold), ("precision", "recall", "f1"))

    @cached_property
    def queries(self) -> list[QueryRow]:
        """One row per query, the worst first."""
        scored, nearest = self.scored, self.scored.nearest
        gallery = (*self.names, *self.distractors.names)
        scores = np.concatenate([scored.similarities, scored.distractors], axis=1)
        rows = [
            QueryRow(
                photo=self.names[i],
                group=int(self.groups[i]),
                relevant=int(row.sum()),
                first_relevant_rank=int(row.argmax()) + 1,
                top_1=int(row[0]),
                top_5=int(row[:5].any()),
                ndcg=float(ndcg(row[None])[0]),
                average_precision=float(average_precision(row[None])[0]),
                nearest=gallery[nearest[i]],
                similarity=float(scores[i, nearest[i]]),
                right=int(scored.gallery_group_of[nearest[i]] == scored.group_of[i]),
            )
            for i, row in zip(scored.queries, scored.relevance, strict=True)
        ]
        return sorted(rows, key=lambda row: (row.ndcg, row.photo))

    def worst(self, count: int) -> list[str]:
        """List the photos whose search went worst, one per group, the worst first."""
        return _one_a_group(self.queries, count)

    def best(self, count: int) -> list[str]:
        """List the photos whose search went best, one per group, those of large groups first, as these are harder."""
        return _one_a_group(
            sorted(self.queries, key=lambda row: (-round(row.ndcg, 9), -row.relevant, row.photo)), count
        )

    def hits(self, photo: str, top: int = 5) -> list[tuple[str, float, bool]]:
        """List the first hits of a photo, distractors included: name, similarity, whether it is of the same group."""
        index, gallery = self.names.index(photo), (*self.names, *self.distractors.names)
        scores = np.append(self.scored.similarities[index], self.scored.distractors[index])
        same = self.scored.gallery_group_of == self.scored.group_of[index]
        order = [int(i) for i in np.lexsort((same, -scores)) if i != index][:top]
        return [(gallery[i], float(scores[i]), bool(same[i])) for i in order]

    def save(self, folder: Path) -> list[Path]:
        """Write `metrics.json`, `queries.csv`, `evaluation.npz` and, while it is small, `similarity.npy`.

        Returns:
            The files.
        """
        facts: dict[str, Any] = {
            "approach": self.approach,
            "fingerprint": self.fingerprint,
            "threshold": clean(self.threshold),
            "photos": len(self.names),
            "groups": len(set(self.groups.tolist())),
            "queries": len(self.queries),
            "distractors": len(self.distractors.names),
            "seed": self.seed,
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
        }
        write_json(folder / "metrics.json", facts)
        paths = [folder / "metrics.json", save_rows(folder / "queries.csv", QueryRow, self.queries)]
        arrays = {
            "names": np.array(self.names),
            "groups": self.groups,
            "vectors": self.vectors,
            "distractors": np.array(self.distractors.names, dtype=np.str_),
            "distractor_vectors": self.distractors.vectors,
            **{f"sample_{name}": values for name, values in self.samples.items()},
        }
        with replacing(folder / "evaluation.npz") as partial:
            np.savez(partial, **arrays)  # type: ignore[arg-type]
        paths.append(folder / "evaluation.npz")
        if len(self.names) <= SQUARE_PHOTOS:
            with replacing(folder / "similarity.npy") as partial:
                np.save(partial, self.scored.similarities.astype(np.float32))
            paths.append(folder / "similarity.npy")
        return paths

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read an evaluation that `save` wrote.

        Raises:
            ArchiveError: nothing has been evaluated in `folder`.
        """
        if not (folder / "evaluation.npz").is_file():
            raise ArchiveError(
                f"{folder} holds no evaluation: run `neardup evaluate --out {typed(folder.parent)}` first"
            )
        again = f"delete {folder / 'metrics.json'} and run `neardup evaluate --out {typed(folder.parent)}` again"
        with reading(folder, again):
            return cls._load(folder)

    @classmethod
    def _load(cls, folder: Path) -> "Evaluation":
        """Read an evaluation that `save` wrote; errors of broken files are not converted."""
        facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        with np.load(folder / "evaluation.npz", allow_pickle=False) as arrays:
            evaluation = cls(
                facts["approach"],
                facts["fingerprint"],
                tuple(str(name) for name in arrays["names"]),
                arrays["groups"],
                arrays["vectors"],
                facts["seed"],
                Distractors(tuple(str(name) for name in arrays["distractors"]), arrays["distractor_vectors"]),
            )
            # Resampling took most of the time and is not repeated.
            evaluation.__dict__["samples"] = {name: arrays[f"sample_{name}"] for name in NAMES}
        return evaluation


def evaluate(
    vectors: Vectors,
    groups: Ints,
    photos: Sequence[str],
    *,
    approach: str,
    fingerprint: str,
    seed: int = 0,
    distractors: Distractors | None = None,
) -> Evaluation:
    """Measure how well an encoder's vectors tell the historian's groups apart.

    Args:
        vectors: float32 (n, d), unit rows.
        groups: int64 (n,), the group of each photo.
        photos: names of the photos.
        approach: name of the approach.
        fingerprint: fingerprint of the encoder.
        seed: seed of folds and resamples.
        distractors: further photos in every query's gallery; none by default.

    Raises:
        ArchiveError: there are fewer than two photos, so that nothing can be measured.
    """
    if len(photos) < 2:  # noqa: PLR2004
        raise ArchiveError(
            f"the test set has {len(photos)} photos, at least 2 are needed: see discrepancies.html for why"
        )
    return Evaluation(approach, fingerprint, tuple(photos), groups, vectors, seed, distractors or Distractors())


def _one_a_group(rows: Sequence[QueryRow], count: int) -> list[str]:
    """List the names of the first queries, at most one of each group."""
    first: dict[int, str] = {}
    for row in rows:
        first.setdefault(row.group, row.photo)
    return list(first.values())[:count]


def figure(value: float, samples: Floats) -> Figure:
    """Combine a value and its 95 % interval: the 2.5 and 97.5 percentiles of its defined resamples, float64 (r,)."""
    defined = samples[~np.isnan(samples)]
    if math.isnan(value) or not len(defined):
        return Figure(clean(value), None, None)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Figure(clean(value), clean(float(low)), clean(float(high)))


def clean(value: float) -> float | None:
    """Return a number that JSON can hold; None for NaN and infinity."""
    return None if math.isnan(value) or math.isinf(value) else float(value)


def _values(resample: Resample, names: Sequence[str]) -> dict[str, float]:
    """Compute some metrics of a resample, by name."""
    return {name: METRICS[name].value(resample) for name in names}
