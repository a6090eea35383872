"""Learning from copies of photos alone: continues, on an archive's photos, how the shipped encoder was trained.

At every step, two press copies are made of each photo of a batch, one mild and one of any strength. The copies of a
photo are drawn together and pushed away from all others (InfoNCE with KoLeo, as in Pizzi et al. 2022), while the mild
copies should remain as alike as their photos were to the model before training. No legends are needed.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional

from neardup.encode.trainable import Trainable
from neardup.errors import UnreadableImageError
from neardup.images import read_image
from neardup.settings.schema import Recipe
from neardup.stages import digest_of
from neardup.train.batches import (
    KEEP_BYTES,
    PLAIN,
    Captions,
    Example,
    KnownPairs,
    Photos,
    TensorCache,
    as_bytes,
    parts_of,
    unreadable,
)
from neardup.train.learner import Learner, Validation, VisionLearner, spread_of
from neardup.train.losses import backward_in_parts, copy_loss, koleo_loss, likeness_loss
from neardup.train.press_torch import press_copies, text_pages
from neardup.train.split import inseparable, labels_of

TEMPERATURE = 0.05
"""Temperature that divides similarities in the copies' loss; the shipped encoder was trained with it."""
KOLEO = 2.0
"""Weight of the loss that spreads the vectors evenly; the shipped encoder was trained with it."""
LIKENESS_TEMPERATURE = 0.1
"""Temperature that divides similarities in `likeness_loss`; the shipped encoder was trained with it."""
MILD = 0.4
"""Greatest strength of mild copies; a copy's strength is this times the square of a random number from 0 to 1."""
WEAKEST = 0.2
"""Least strength of the other copy; the greatest is 1."""
FINER = 1.5
"""Side of the pictures that copies are made of, as a multiple of the encoder's, so that crops remain sharp."""
TEXTS = 64
"""Pages of text that are drawn once; each copy gets a random one."""
TEXT_SIDE = 224
"""Pixels of a side of a page of text."""
SIDES = 4
"""Pixels of which the side of a copy is a multiple: copies are drawn at twice their size, and JPEG's blocks take 8."""
WARMUP = 0.1
"""Share of all steps, 0 to 1, over which the learning rate rises to its greatest."""
LARGEST_GRADIENT = 1.0
"""Greatest length of the gradient of all weights; a longer one is shortened to it."""


def copy_strengths(draws: Tensor) -> Tensor:
    """Compute copies' strengths of damage, 0 to 1, float32 (2 n,): the mild ones of n photos, then the others.

    Args:
        draws: numbers drawn from 0 to 1, float32 (2 n,).
    """
    mild, others = draws.chunk(2)
    return torch.cat([MILD * mild.square(), WEAKEST + (1 - WEAKEST) * others])


class Pictures(Photos):
    """Photos as grey squares that copies are made of: uint8 (n, side, side), finer than the encoder's input."""

    def __init__(self, examples: Sequence[Example], processor: Any, recipe: Recipe) -> None:
        """Take the photos in the order in which rows count them."""
        super().__init__(examples, processor, recipe, TensorCache(KEEP_BYTES))
        self.seen = tuple(as_bytes(processor, Image.new("RGB", (64, 64))).shape[-2:])
        self.side = round(FINER * max(self.seen))

    def _decode(self, example: Example, copy: int) -> Tensor:  # noqa: ARG002 - copies are made in batches
        """Decode a photo's grey square, uint8 (side, side): what the encoder sees of it, squeezed to a square."""
        processor = self._processor
        sizes = {
            name: {side: round(FINER * pixels) for side, pixels in dict(size).items()}
            for name in ("size", "crop_size")
            if (size := getattr(processor, name, None))
        }
        try:
            image = read_image(example.image, max_pixels=example.max_pixels, draft=self.side)
        except (OSError, UnreadableImageError) as error:
            raise unreadable(example, error) from error
        grey = as_bytes(processor, image.convert("L").convert("RGB"), **sizes)[:1]
        if grey.shape[-2:] != (self.side, self.side):
            square = functional.interpolate(grey[None].float(), (self.side, self.side), mode="bilinear", antialias=True)
            grey = square[0].round().clamp(0, 255).to(torch.uint8)
        return grey[0]


class Copies:
    """The loss of the copies of photos, for a learner that has the model.

    Attributes:
        partners: row → rows in known pairs with it, which are put into its batch.
    """

    def __init__(self, learner: VisionLearner, examples: Sequence[Example], known: KnownPairs, bits: int) -> None:
        """Number the subjects, and record which photos may be copies of each other although that is not known.

        Args:
            learner: learner that embeds the copies.
            examples: the photos, in the order in which rows count them.
            known: pairs that are known to show the same picture, or not to.
            bits: photos whose perceptual hashes differ in at most this many bits may be copies of each other.
        """
        self._learner = learner
        self._pictures = Pictures(examples, learner.processor, learner.recipe)
        self._texts = text_pages(TEXTS, TEXT_SIDE).to(learner.device)
        same, different = known.rows(examples)
        blank, numbers = [""] * len(examples), [str(row) for row in range(len(examples))]
        self._subjects = torch.tensor(labels_of(inseparable(blank, numbers, blank, 0, same)), device=learner.device)
        self._suspects = torch.tensor(labels_of(known.pictures(examples, bits)), device=learner.device)
        self._different = {frozenset(pair) for pair in different}
        self.partners: dict[int, list[int]] = {}
        for first, second in (*same, *different):
            self.partners.setdefault(first, []).append(second)
            self.partners.setdefault(second, []).append(first)
        self._start = torch.zeros((len(examples), learner.width))
        self._mean = torch.zeros(learner.width, device=learner.device)

    def keep_likenesses(self, rows: Sequence[int]) -> None:
        """Embed the undamaged photos by the model before training, as the reference of `likeness_loss`."""
        if not self._learner.recipe.likeness:
            return
        size = self._learner.recipe.batch_size
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        vectors = self._learner.vectors(self._learner.photos.batches(batches, PLAIN))
        mean = vectors.mean(dim=0)
        self._start[list(rows)] = functional.normalize(vectors - mean, dim=1)
        self._mean = mean.to(self._learner.device)

    def load(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Yield the grey squares of each batch, uint8 (n, side, side)."""
        return self._pictures.batches(batches, PLAIN)

    def make_copies(self, batch: Sequence[int], pictures: Tensor, epoch: int) -> Tensor:
        """Make two copies of each photo of a batch, the mild ones first: float32 (2 n, 3, height, width), normalised.

        Equal seeds, batches and epochs give equal copies.
        """
        learner, n = self._learner, len(batch)
        seed = int(digest_of("copies", learner.recipe.seed, epoch, list(batch))[:15], 16)
        rng = Generator(learner.device).manual_seed(seed)
        draws = torch.rand(2 * n, generator=rng, device=learner.device)
        side = math.ceil(max(self._pictures.seen) / SIDES) * SIDES
        twice = pictures.to(learner.device).repeat(2, 1, 1)
        copies = press_copies(twice, self._texts, side, rng, copy_strengths(draws))
        if (side, side) != self._pictures.seen:
            copies = functional.interpolate(copies, self._pictures.seen, mode="bilinear", antialias=True)
        return learner.photos.normalise((copies * 255).expand(-1, 3, -1, -1))

    def loss(self, batch: Sequence[int], vectors: Tensor) -> Tensor:
        """The loss of the vectors of a batch's copies, (2 n, d), the mild ones first."""
        rows, n = list(batch) * 2, len(batch)
        subjects, suspects = self._subjects[rows], self._suspects[rows]
        doubtful = (suspects[:, None] == suspects[None, :]) & (subjects[:, None] != subjects[None, :])
        if self._different:
            different = [[frozenset((first, second)) in self._different for second in rows] for first in rows]
            doubtful &= ~torch.tensor(different, device=doubtful.device)
        loss = copy_loss(vectors, subjects, TEMPERATURE, doubtful) + KOLEO * koleo_loss(vectors, suspects)
        if self._learner.recipe.likeness and n > 1:
            mild = functional.normalize(vectors[:n] - self._mean, dim=1)
            start = self._start[list(batch)].to(mild.device)
            loss = loss + self._learner.recipe.likeness * likeness_loss(mild, start, LIKENESS_TEMPERATURE)
        return loss

    def backward(self, batch: Sequence[int], pictures: Tensor, epoch: int) -> float:
        """Compute the loss of a batch; this process's part of the gradient is added to the weights."""
        learner = self._learner
        pixels, own = self.make_copies(batch, pictures, epoch), learner.share_of(2 * len(batch))
        own_pixels = pixels[own]

        def embed(part: slice) -> tuple[Tensor]:
            return (learner.embed_photos(own_pixels[part]),)

        return backward_in_parts(
            [partial(embed, part) for part in parts_of(len(own_pixels), learner.recipe.accumulate)],
            partial(self.loss, batch),
            partial(learner.gather, 2 * len(batch)),
            own,
        )

    @torch.no_grad()
    def validate(self, batches: Sequence[Sequence[int]]) -> Validation:
        """Compute loss and spread over all rows of some batches, whose copies are the same each time."""
        learner, total, embedding, vectors = self._learner, 0.0, 0.0, []
        began = time.perf_counter()
        for batch, pictures in zip(batches, self.load(batches), strict=True):
            start = time.perf_counter()
            pixels = self.make_copies(batch, pictures, epoch=0)
            own = learner.embed_photos(pixels[learner.share_of(len(pixels))])
            embedded = learner.gather(len(pixels), own)
            total += self.loss(batch, embedded).item() * len(batch)
            vectors.append(embedded[: len(batch)].double())
            embedding += time.perf_counter() - start
        rows = sum(map(len, batches))
        waiting = time.perf_counter() - began - embedding
        return Validation(total / rows, spread_of(torch.cat(vectors)), waiting / rows, embedding / rows)


def descend(learner: VisionLearner, optimizer: torch.optim.Optimizer, done: float) -> None:
    """Clip the gradient, and set the learning rate by the share of all steps that are done: up, then down to 0.

    The rate rises linearly over the first tenth and then falls along half a cosine.
    """
    learning = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
    falling = (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
    share = falling if done >= WARMUP else (done + WARMUP / 10) / (WARMUP + WARMUP / 10)
    for group in optimizer.param_groups:
        group["lr"] = learner.rate * share


class CopyBasedLearner(VisionLearner):
    """Base of the learners that learn from copies of photos, with captions or without."""

    copies: Copies

    @property
    def partners(self) -> Mapping[int, Sequence[int]]:
        """Row → rows in known pairs with it."""
        return self.copies.partners

    def begin(self, rows: Sequence[int]) -> None:
        """Store the likenesses that the model sees before training."""
        self.copies.keep_likenesses(rows)

    def descend(self, optimizer: torch.optim.Optimizer, done: float) -> None:
        """Take a step along the gradient, with a rate that rises and falls."""
        descend(self, optimizer, done)
        super().descend(optimizer, done)


class CopyLearner(CopyBasedLearner):
    """A model that learns from copies of photos alone; it needs no text tower."""

    def __init__(
        self, examples: Sequence[Example], clip: Trainable, recipe: Recipe, device: str, known: KnownPairs, bits: int
    ) -> None:
        """Take the photos, and what is known of pairs of them; `bits` as in `Copies`."""
        super().__init__(examples, clip, recipe, device)
        self.copies = Copies(self, examples, known, bits)

    def inputs(self, batches: Sequence[Sequence[int]], epoch: int) -> Iterator[tuple[Sequence[int], Any]]:
        """Yield each batch with its pictures and the epoch, which seeds its copies."""
        for batch, pictures in zip(batches, self.copies.load(batches), strict=True):
            yield batch, (pictures, epoch)

    def backward(self, batch: Sequence[int], inputs: Any) -> float:
        """Compute the loss of a batch; its gradient, the same in every process, is left on the weights."""
        loss = self.copies.backward(batch, *inputs)
        self.share_gradients()
        return loss

    def validate(self, rows: Sequence[int]) -> Validation:
        """Compute loss and spread over all rows, with copies that are the same in every epoch."""
        return self.copies.validate(self.validation_batches(rows))


class CaptionAndCopyLearner(CopyBasedLearner, Learner):
    """A CLIP that learns from photos with captions and from copies of the photos: the weighted sum of both losses."""

    def __init__(
        self,
        examples: Sequence[Example],
        clip: Trainable,
        captions: Captions,
        recipe: Recipe,
        device: str,
        known: KnownPairs,
        bits: int,
    ) -> None:
        """Take the examples, their captions, and what is known of pairs of photos; `bits` as in `Copies`."""
        super().__init__(examples, clip, captions, recipe, device)
        self.copies = Copies(self, examples, known, bits)

    def inputs(self, batches: Sequence[Sequence[int]], epoch: int) -> Iterator[tuple[Sequence[int], Any]]:
        """Each batch with its photos, its pictures and the epoch."""
        for (batch, photos), pictures in zip(super().inputs(batches, epoch), self.copies.load(batches), strict=True):
            yield batch, (photos, pictures, epoch)

    def loss(self, batch: Sequence[int], images: Tensor, texts: Tensor) -> Tensor:
        """The contrastive loss of a batch's captions, weighted."""
        return self.recipe.captions_weight * super().loss(batch, images, texts)

    def backward(self, batch: Sequence[int], inputs: Any) -> float:
        """Compute the loss of a batch; its gradient, the same in every process, is left on the weights."""
        photos, pictures, epoch = inputs
        loss = self.backward_captions(batch, photos) + self.copies.backward(batch, pictures, epoch)
        self.share_gradients()
        return loss

    def validate(self, rows: Sequence[int]) -> Validation:
        """Compute loss and spread over all rows, in batches and with copies that are the same in every epoch."""
        captions, copies = super().validate(rows), self.copies.validate(self.validation_batches(rows))
        return Validation(
            captions.loss + copies.loss,
            captions.spread,
            captions.load_seconds + copies.load_seconds,
            captions.embed_seconds + copies.embed_seconds,
        )
