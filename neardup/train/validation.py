"""What a training is judged by: the search of press copies of the validation photos among the photos themselves.

The copies are those of `press`, made by Pillow, not those of `press_torch` that a model may be trained on.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neardup.arrays import Bools, Floats, Ints
from neardup.encode.vision import shortest_side
from neardup.errors import UnreadableImageError
from neardup.images import read_image
from neardup.measure.metrics import ndcg
from neardup.settings.schema import Recipe
from neardup.train.augment import copy_seed
from neardup.train.batches import WORKERS, Example, KnownPairs, as_bytes, unreadable
from neardup.train.learner import VisionLearner
from neardup.train.press import press
from neardup.train.split import inseparable, labels_of

MOST = 400
"""Validation photos that are searched, at most: each more is four pictures to embed after every epoch."""


DRAWS = 1000
"""Draws that a standard error is taken from: it is then known to within 2 %, and they take some milliseconds."""


@dataclass(frozen=True, eq=False)
class Found:
    """How well near-duplicates are found, by subject, so that it can be said how far chance moves it.

    A subject is a group of photos that show one picture; all searches of its photos and of their copies are its own.

    Attributes:
        gains: float64 (s,), sum of the nDCG of each subject's searches.
        searches: float64 (s,), their number, at least 1.
        right: int64 (p,), the subject of each right pair of a search and a photo, most alike first.
        pairs: float64 (p, s), how many pairs of each subject's searches rank after the right pair before and up to
            this one.
    """

    gains: Floats
    searches: Floats
    right: Ints
    pairs: Floats

    @property
    def ndcg(self) -> float:
        """Mean nDCG over the searches, 0 to 1."""
        return float(self.gains.sum() / self.searches.sum())

    @property
    def micro_ap(self) -> float:
        """Micro average precision over all pairs of a search and a photo, 0 to 1."""
        return float(self.drawn(np.ones((len(self.searches), 1)))[1, 0])

    def drawn(self, times: Floats) -> Floats:
        """The nDCG and µAP of resamples of the subjects, float64 (2, b).

        Args:
            times: float64 (s, b), how often each subject occurs in each resample.
        """
        ndcgs = self.gains @ times / (self.searches @ times)
        right = times[self.right]
        found_by_then, seen = np.cumsum(right, axis=0), np.cumsum(self.pairs @ times, axis=0)
        precisions = found_by_then / np.maximum(seen, 1)  # where none was seen yet, the pair itself weighs nothing
        return np.stack([ndcgs, (right * precisions).sum(axis=0) / right.sum(axis=0)])

    def gain_errors(self, start: "Found") -> tuple[float, float]:
        """Standard errors of what nDCG and µAP are above those of a start: a paired bootstrap over the subjects."""
        subjects = len(self.searches)
        times = np.random.default_rng(0).multinomial(subjects, np.full(subjects, 1 / subjects), DRAWS).T.astype(float)
        ndcg_error, micro_ap_error = (self.drawn(times) - start.drawn(times)).std(axis=1, ddof=1)
        return float(ndcg_error), float(micro_ap_error)


class NearDuplicates:
    """The validation photos and their press copies, as the encoder takes them, and which are of one picture."""

    def __init__(
        self,
        examples: Sequence[Example],
        rows: Sequence[int],
        processor: Any,
        recipe: Recipe,
        known: KnownPairs,
        bits: int,
    ) -> None:
        """Take the validation photos; nothing is read yet.

        Args:
            examples: all photos.
            rows: those to validate on; of more than `MOST` so many are drawn.
            processor: the encoder's image processor.
            recipe: seed and number of copies.
            known: pairs of photos that show the same picture; each is searched for the other, too.
            bits: photos whose perceptual hashes are at most so many bits apart are taken for one picture.
        """
        if len(rows) > MOST:
            rows = np.sort(np.random.default_rng(recipe.seed).choice(np.array(rows), MOST, replace=False)).tolist()
        self._examples = [examples[row] for row in rows]
        self._processor = processor
        self._recipe = recipe
        photos, phashes = [e.photo for e in self._examples], [e.phash for e in self._examples]
        same, _ = known.rows(self._examples)
        blank = [""] * len(photos)
        self.groups: Ints = np.array(labels_of(inseparable(blank, photos, phashes, bits, same)), dtype=np.int64)

    @cached_property
    def _pixels(self) -> Tensor:
        """Photos, then their first copies, their second ones and so on: uint8 (m, 3, height, width)."""
        with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
            versions = list(pool.map(self._versions, self._examples))
        return torch.stack([pictures[i] for i in range(len(versions[0])) for pictures in versions])

    def _versions(self, example: Example) -> list[Tensor]:
        """A photo and its press copies, uint8 (3, height, width) each."""
        try:
            image = read_image(example.image, max_pixels=example.max_pixels, draft=shortest_side(self._processor))
        except (OSError, UnreadableImageError) as error:
            raise unreadable(example, error) from error
        seeds = [copy_seed(example.photo, i, self._recipe.seed) for i in range(self._recipe.validation_copies)]
        return [as_bytes(self._processor, picture) for picture in (image, *(press(image, seed) for seed in seeds))]

    def read(self) -> None:
        """Read the photos and make their copies, unless that is done."""
        _ = self._pixels

    def measure(self, learner: VisionLearner) -> Found:
        """Search with a learner's model as it is now."""
        vectors = learner.vectors(torch.split(self._pixels, learner.recipe.batch_size)).double().numpy()
        return found(vectors[len(self.groups) :], vectors[: len(self.groups)], self.groups)


def found(copies: Floats, photos: Floats, groups: Ints) -> Found:
    """How well copies find their photos, and photos the others of their group.

    A copy is searched among all photos, a photo that has others of its group among all but itself. The photos of the
    group are relevant; of equally similar ones the irrelevant rank first.

    Args:
        copies: float64 (k n, d), unit rows; copy i is of photo i modulo n.
        photos: float64 (n, d), unit rows.
        groups: int64 (n,), numbered from 0 without a gap.
    """
    subjects = int(groups.max()) + 1
    gains, count = np.zeros(subjects), np.zeros(subjects)
    scores, relevance, owners = [], [], []
    for subject, similarities, same in _searches(copies, photos, groups):
        order = np.lexsort((same, -similarities))
        gains[subject] += ndcg(same[order][None])[0]
        count[subject] += 1
        scores.append(similarities)
        relevance.append(same)
        owners.append(np.full(len(same), subject))
    order = np.lexsort((np.concatenate(relevance), -np.concatenate(scores)))
    right, owner = np.concatenate(relevance)[order], np.concatenate(owners)[order]
    above: Ints = np.cumsum(right) - right  # right pairs that rank before each pair
    ranks, before_last = int(right.sum()), above < right.sum()
    pairs = np.bincount(above[before_last] * subjects + owner[before_last], minlength=ranks * subjects)
    return Found(gains, count, owner[right], pairs.reshape(ranks, subjects).astype(float))


def _searches(copies: Floats, photos: Floats, groups: Ints) -> Iterator[tuple[int, Floats, Bools]]:
    """Of each search its subject, the similarities of its gallery, and which photos of it are relevant."""
    for i, similarities in enumerate(copies @ photos.T):
        subject = int(groups[i % len(groups)])
        yield subject, similarities, groups == subject
    alone = np.bincount(groups)[groups] == 1
    for photo in np.flatnonzero(~alone):
        subject = int(groups[photo])
        yield subject, np.delete(photos @ photos[photo], photo), np.delete(groups == subject, photo)
