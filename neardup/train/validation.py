"""The search by which a training is judged: press copies of the validation photos among the photos themselves.

The copies are those of `press`, made by Pillow, not those of `press_torch` that a model may be trained on.
"""

import io
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neardup.arrays import Bools, Floats, Ints, Vectors
from neardup.encode.files import encode_files
from neardup.encode.protocol import BatchEncoder
from neardup.encode.vision import shortest_side
from neardup.errors import UnreadableImageError
from neardup.measure.metrics import ndcg
from neardup.measure.pairs import micro_average_precision
from neardup.measure.scored import similarities_between
from neardup.settings.schema import Recipe
from neardup.train.augment import copy_seed
from neardup.train.batches import WORKERS, Example, KnownPairs, as_bytes, unreadable
from neardup.train.learner import VisionLearner
from neardup.train.press import press, read_reduced
from neardup.train.split import labels_of

PARTS = 20
"""Parts of the pictures that are left out, one at a time, to estimate the error of µAP."""
MOST = 400
"""Most validation photos in the search: each of them and its press copies must be embedded after every epoch."""


@dataclass(frozen=True, order=True)
class SearchScore:
    """How well near-duplicates are found; the greater nDCG is better, and of equal ones the greater µAP.

    Attributes:
        ndcg: mean nDCG over the searches, 0 to 1.
        micro_ap: micro average precision over all pairs of a search and a photo, 0 to 1.
        by_picture: mean nDCG of the searches for each picture, in a fixed order, for paired comparisons.
        micro_ap_without: µAP without each of `PARTS` parts of the pictures, searched and found ones; of fewer pictures,
            without each of them.
    """

    ndcg: float
    micro_ap: float
    by_picture: tuple[float, ...] = field(default=(), compare=False, repr=False)
    micro_ap_without: tuple[float, ...] = field(default=(), compare=False, repr=False)

    def gain_error(self, start: "SearchScore") -> float:
        """Standard error of the gain in nDCG over another result of the same searches, paired by picture.

        With fewer than two pictures to compare it is infinite, so that no gain counts.
        """
        gains = np.subtract(self.by_picture, start.by_picture)
        return float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else math.inf

    def micro_ap_gain_error(self, start: "SearchScore") -> float:
        """Standard error of the gain in µAP over another result of the same searches: a delete-a-group jackknife.

        With one picture alone it is infinite. See Kott (2001), "The delete-a-group jackknife".
        """
        gains = np.subtract(self.micro_ap_without, start.micro_ap_without)
        return float(gains.std() * np.sqrt(len(gains) - 1)) if len(gains) > 1 else math.inf


class NearDuplicates:
    """The validation photos and their press copies, prepared for the encoder, and which of them show one picture.

    Attributes:
        rows: rows of the photos among the examples, ascending.
        groups: int64 (n,), equal numbers for photos of one picture.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rows: Sequence[int],
        recipe: Recipe,
        known: KnownPairs,
        bits: int,
    ) -> None:
        """Choose the validation photos; nothing is read yet.

        Args:
            examples: all photos.
            rows: rows to validate on; of more than `MOST`, a random sample is taken.
            recipe: seed and number of copies.
            known: pairs of photos that show the same picture; each is searched for the other, too.
            bits: photos whose perceptual hashes differ in at most this many bits count as one picture.
        """
        if len(rows) > MOST:
            rows = np.sort(np.random.default_rng(recipe.seed).choice(np.array(rows), MOST, replace=False)).tolist()
        self.rows = tuple(rows)
        self._examples = [examples[row] for row in rows]
        self._recipe = recipe
        self._pixels: Tensor | None = None
        self.groups: Ints = np.array(labels_of(known.pictures(self._examples, bits)), dtype=np.int64)

    def read(self, learner: VisionLearner) -> Tensor:
        """Prepare the photos, then their first copies, their second ones and so on, by the learner's image processor.

        They are read and made once: uint8 (m, 3, height, width).
        """
        if self._pixels is None:
            with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
                versions = list(pool.map(lambda example: self._prepared(example, learner.processor), self._examples))
            self._pixels = torch.stack([pictures[i] for i in range(len(versions[0])) for pictures in versions])
        return self._pixels

    def _prepared(self, example: Example, processor: Any) -> list[Tensor]:
        """A photo and its press copies as an image processor has them, uint8 (3, height, width) each."""
        return [as_bytes(processor, picture) for picture in self._pictures(example, shortest_side(processor))]

    def _pictures(self, example: Example, size: int) -> list[Image.Image]:
        """A photo, reduced to what an encoder of `size` pixels needs, and its press copies."""
        try:
            image = read_reduced(example.image, example.max_pixels, size)
        except (OSError, UnreadableImageError) as error:
            raise unreadable(example, error) from error
        seeds = [copy_seed(example.photo, i, self._recipe.seed) for i in range(self._recipe.validation_copies)]
        return [image, *(press(image, seed) for seed in seeds)]

    def measure(self, learner: VisionLearner) -> SearchScore:
        """Search with a learner's model as it is now."""
        return self.search(learner.vectors(torch.split(self.read(learner), learner.recipe.batch_size)).numpy())

    def encoded(self, encoder: BatchEncoder) -> Vectors:
        """Vectors of the photos, then of their copies, by an encoder of any kind: float32 (m, d), unit rows."""
        files = (as_png(picture) for photo in self._examples for picture in self._pictures(photo, encoder.size))
        # The limit was checked when the photos were read; paper around a copy may make the copy larger.
        encoded = encode_files(encoder, files, sys.maxsize)
        vectors = [vector for _, vector in encoded if not isinstance(vector, UnreadableImageError)]
        by_photo = np.stack(vectors).reshape(len(self._examples), -1, encoder.dimension)
        return by_photo.transpose(1, 0, 2).reshape(-1, encoder.dimension)

    def search(self, vectors: Vectors) -> SearchScore:
        """Search with vectors of the photos and then of their copies, (m, d), unit rows."""
        wide_vectors = vectors.astype(np.float64)
        return search_score(wide_vectors[len(self.groups) :], wide_vectors[: len(self.groups)], self.groups)


def as_png(image: Image.Image) -> bytes:
    """Encode a picture losslessly as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def search_score(copies: Floats, photos: Floats, groups: Ints) -> SearchScore:
    """Score how well copies find their photos, and photos the others of their group.

    A copy is searched among all photos, a photo that has others of its group among all but itself. The photos of the
    group are relevant; of equally similar ones the irrelevant rank first.

    Args:
        copies: float64 (k n, d), unit rows; copy i is of photo i modulo n.
        photos: float64 (n, d), unit rows.
        groups: int64 (n,), the group of each photo.
    """
    gains, scores, searched, found = [], [], [], []
    for similarities, gallery, picture in _searches(copies, photos, groups):
        same = gallery == picture
        gains.append(ndcg(same[np.lexsort((same, -similarities))][None])[0])
        scores.append(similarities)
        searched.append(np.full(len(gallery), picture))
        found.append(gallery)
    of_search, of_hit = np.concatenate(searched), np.concatenate(found)
    order = np.lexsort((of_search == of_hit, -np.concatenate(scores)))
    of_search, of_hit = of_search[order], of_hit[order]
    same = of_search == of_hit
    _, places, counts = np.unique([rows[0] for rows in searched], return_inverse=True, return_counts=True)
    means = np.bincount(places, gains) / counts
    parts = range(min(PARTS, len(counts)) if len(counts) > 1 else 0)
    without = [_micro_ap(same[(of_search % PARTS != part) & (of_hit % PARTS != part)]) for part in parts]
    return SearchScore(float(np.mean(gains)), _micro_ap(same), tuple(means.tolist()), tuple(without))


def _micro_ap(ranked: Bools) -> float:
    """µAP of pairs, the most similar first: which of them are of one picture, bool (n,)."""
    return micro_average_precision(ranked, np.ones(len(ranked)))


def _searches(copies: Floats, photos: Floats, groups: Ints) -> Iterator[tuple[Floats, Ints, int]]:
    """Yield, for each search, its gallery's similarities, the gallery's groups, and the group of the query."""
    for i, similarities in enumerate(similarities_between(copies, photos)):
        yield similarities, groups, int(groups[i % len(groups)])
    alone = np.bincount(groups)[groups] == 1
    for photo in np.flatnonzero(~alone):
        similarities = similarities_between(photos, photos[[photo]])[:, 0]
        yield np.delete(similarities, photo), np.delete(groups, photo), int(groups[photo])
