"""A model with its training data on a device: vectors, loss and gradient of a batch, in one process or several."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence

from neardup.encode.devices import pick_device
from neardup.encode.trainable import Trainable
from neardup.encode.vision import compile_layers
from neardup.settings.schema import Recipe
from neardup.train.batches import (
    KEEP_BYTES,
    PLAIN,
    Captions,
    Example,
    Photos,
    TensorCache,
    batch_rows,
    own_rows,
    parts_of,
)
from neardup.train.losses import backward_in_parts, contrastive_loss, legend_targets
from neardup.train.towers import Tower, logit_scale_of, towers_of, vision_tower, width_of

MAX_LOGIT_SCALE = math.log(100)
"""Greatest logit scale: the logarithm of 100, CLIP's own limit of the factor of similarities."""
WEIGHTS_OF_RATE = 3_000_000
"""Weights of a vision tower up to which `lr_by_size` does not change the learning rate."""
LENGTHS = 4
"""Groups by length into which a batch's captions are sorted on a CPU, where padding takes as long as words.

A GPU uses one group, because there padding costs less than kernel launches.
"""


@dataclass(frozen=True)
class Validation:
    """The loss of a model on the validation photos, none of them augmented, and how long that took.

    Attributes:
        loss: mean contrastive loss over batches that are the same in every epoch.
        spread: mean cosine distance of two photos, 0 to 2; 0 where all vectors are equal.
        load_seconds: seconds that a photo took to decode.
        embed_seconds: seconds that a photo and its caption took to embed.
    """

    loss: float
    spread: float
    load_seconds: float
    embed_seconds: float


class VisionLearner:
    """A model that learns on one device by its vision tower; subclasses define what it learns from.

    The frozen layers' output for a photo or a caption is computed once and cached, instead of the photo's pixels.
    """

    def __init__(
        self, examples: Sequence[Example], clip: Trainable, recipe: Recipe, device: str, *, reads: bool = False
    ) -> None:
        """Move the model to the device, freeze what the recipe freezes, and number the examples as rows.

        Args:
            examples: the photos.
            clip: the model; its weights are changed in place.
            recipe: every setting.
            device: `auto`, `cpu`, `cuda` or `mps`.
            reads: whether the text tower learns, too; else it keeps its weights, if there is one.
        """
        # PartialState is Accelerator without its choice of precision, which could be made once a process only:
        # an experiment trains twice, and tests in several number formats.
        self.processes = PartialState(cpu=device == "cpu")
        several = self.processes.num_processes > 1
        self.device = self.processes.device if several else torch.device(pick_device(device))
        self.bf16 = _bf16(recipe, self.device)
        self.recipe = recipe
        # CLIP has no dropout; `eval` turns off what a checkpoint sets, as a resumed run would draw other numbers.
        model: Any = clip.model
        # A CPU's convolutions take two thirds of the time where the channels of a pixel lie together.
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        weights = _weights(vision_tower(self.model, 0))
        self.size = sum(weight.numel() for weight in weights)
        if not reads:
            self.model.requires_grad_(requires_grad=False)
            for weight in weights:
                weight.requires_grad = True
        self.vision, text = towers_of(self.model, recipe, reads=reads)
        self.towers = [self.vision, *([text] if text else [])]
        if recipe.compiled:
            compile_layers(self.model, dynamic=True)  # captions of any length
        self.cache = TensorCache(KEEP_BYTES)
        pixels = self.cache if reads and not self.vision.frozen else TensorCache(0)
        self.processor = clip.image_processor
        self.photos = Photos(examples, self.processor, recipe, pixels)
        self.width = width_of(self.model)
        self.logit_scale: Tensor | None = logit_scale_of(self.model)

    def optimizer(self) -> torch.optim.Adam:
        """Adam with the recipe's settings, for the weights that learn."""
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        fused = self.device.type in {"cpu", "cuda"}
        return torch.optim.Adam(learning, lr=self.rate, weight_decay=self.recipe.weight_decay, fused=fused)

    @property
    def rate(self) -> float:
        """The learning rate of this model: the recipe's, or less by its size."""
        if not self.recipe.lr_by_size:
            return self.recipe.lr
        return self.recipe.lr * min(1.0, WEIGHTS_OF_RATE / self.size)

    @property
    def temperature(self) -> float | None:
        """Logit scale of photos and captions, a logarithm; None for a model that reads no captions."""
        return None

    def descend(self, optimizer: torch.optim.Optimizer, done: float) -> None:  # noqa: ARG002 - the rate is constant
        """Take a step along the gradient.

        Args:
            optimizer: optimizer made by `optimizer`.
            done: share of all steps done, 0 to 1; unused here, as the rate is constant.
        """
        optimizer.step()
        if self.logit_scale is not None:
            with torch.no_grad():
                self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def batches(self, rows: Sequence[int], epoch: int) -> list[list[int]]:
        """The batches of an epoch, counted from 1, in its order; all rows unless the recipe ends epochs earlier."""
        batches = batch_rows(rows, self.recipe.batch_size, self.recipe.seed, epoch, self.partners)
        return batches[: self.recipe.epoch_steps or None]

    @property
    def partners(self) -> Mapping[int, Sequence[int]]:
        """Row → rows that are to come into one batch with it."""
        return {}

    def begin(self, rows: Sequence[int]) -> None:
        """Prepare with the untrained model; `rows` are the rows that will be learned from."""

    def own(self, batch: Sequence[int]) -> slice:
        """The slice of a batch that this process embeds."""
        return self.share_of(len(batch))

    def share_of(self, count: int) -> slice:
        """Slice of `count` rows that this process embeds."""
        return own_rows(count, self.processes.process_index, self.processes.num_processes)

    def embed_photos(self, states: Tensor) -> Tensor:
        """Unit vectors, float32 (n, d), of normalised pixels, (n, 3, height, width), on the device or on the CPU."""
        if not len(states):
            return torch.zeros((0, self.width), device=self.device, requires_grad=True)
        with self.autocast():
            vectors = self.vision.above(self.vision.below(states.to(self.device, non_blocking=True)))
        return functional.normalize(vectors.float(), dim=-1)

    @torch.no_grad()
    def vectors(self, pixels: Iterable[Tensor]) -> Tensor:
        """Unit vectors of photos, float32 (n, d) on the CPU; the processes share the work.

        Args:
            pixels: batches of photos, uint8 (m, 3, height, width).
        """
        parts = [torch.zeros((0, self.width))]
        for batch in pixels:
            own_photos = self.photos.normalise(batch[self.share_of(len(batch))].to(self.device))
            parts.append(self.gather(len(batch), self.embed_photos(own_photos)).cpu())
        return torch.cat(parts)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in the number format that the recipe asks for, with the same result every time."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), _same_every_time(self.device):
            yield

    def gather(self, count: int, own_vectors: Tensor) -> Tensor:
        """Gather the vectors of `count` rows, (count, d), from all processes into each."""
        if self.processes.num_processes == 1:
            return own_vectors
        rows = torch.zeros((count, own_vectors.shape[1]), device=self.device)
        rows[self.share_of(count)] = own_vectors
        gathered: Tensor = reduce(rows, "sum")
        return gathered

    def share_gradients(self) -> None:
        """Sum the gradients of all processes, so that each has the same."""
        if self.processes.num_processes > 1:
            for parameter in self.model.parameters():
                # The temperature's gradient is already complete in every process.
                if parameter is not self.logit_scale and parameter.requires_grad:
                    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.grad = reduce(grad, "sum")

    def inputs(self, batches: Sequence[Sequence[int]], epoch: int) -> Iterator[tuple[Sequence[int], Any]]:
        """Yield each batch of an epoch with its input to `backward`; the next is read while one is in use."""
        raise NotImplementedError

    def backward(self, batch: Sequence[int], inputs: Any) -> float:
        """Compute the loss of a batch; its gradient, the same in every process, is left on the weights."""
        raise NotImplementedError

    def validate(self, rows: Sequence[int]) -> Validation:
        """Compute loss and spread over all rows, in batches that are the same in every epoch."""
        raise NotImplementedError

    def validation_batches(self, rows: Sequence[int]) -> list[list[int]]:
        """The batches that a validation loss is computed in."""
        return batch_rows(rows, self.recipe.batch_size, self.recipe.seed, epoch=0)


class Learner(VisionLearner):
    """A CLIP that learns from photos with captions."""

    def __init__(
        self, examples: Sequence[Example], clip: Trainable, captions: Captions, recipe: Recipe, device: str
    ) -> None:
        """Take the examples and their captions, row by row."""
        super().__init__(examples, clip, recipe, device, reads=True)
        self.captions = captions
        self.text = self.towers[1]
        self.scale: Tensor = self.model.logit_scale

    @property
    def temperature(self) -> float | None:
        """Logit scale, a logarithm."""
        return self.scale.item()

    def inputs(self, batches: Sequence[Sequence[int]], epoch: int) -> Iterator[tuple[Sequence[int], Any]]:
        """Each batch with its photos, as `load` gives them; each epoch has its own augmented copies."""
        return self.load(batches, self.photos.copy(epoch))

    def load(self, batches: Sequence[Sequence[int]], copy: int) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Each batch with the input of this process's rows: pixels, uint8, or cached states, (n, length, width).

        Args:
            batches: the rows of each; none occurs twice.
            copy: which augmented copy of the photos, or `PLAIN`.
        """
        own_batches = [batch[self.own(batch)] for batch in batches]
        if not self.vision.frozen:
            yield from zip(batches, self.photos.batches(own_batches, copy), strict=True)
            return
        missing = [[row for row in rows if ("photo", row, copy) not in self.cache] for rows in own_batches]
        for batch, rows, new, pixels in zip(
            batches, own_batches, missing, self.photos.batches(missing, copy), strict=True
        ):
            decoded = dict(zip(new, pixels, strict=True))
            compute = {row: partial(self._photo_states, decoded.get(row)) for row in rows}
            states = [self.cache.get(("photo", row, copy), compute[row]) for row in rows]
            yield batch, torch.stack(states) if states else torch.empty(0)

    def embed(self, rows: Sequence[int], photos: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of rows and of their captions, float32 (n, d) each, unit rows; `load` gives `photos`, their input."""
        if not rows:
            nothing = torch.zeros((0, self.width), device=self.device, requires_grad=True)
            return nothing, nothing
        with self.autocast():
            states = photos.to(self.device, non_blocking=True)
            if not self.vision.frozen:
                states = self.vision.below(self.photos.normalise(states))
            images = self.vision.above(states)
            texts = self._texts(rows)
        return functional.normalize(images.float(), dim=-1), functional.normalize(texts.float(), dim=-1)

    def _texts(self, rows: Sequence[int]) -> Tensor:
        """Vectors of the rows' captions, (n, d), not normalised.

        Captions of similar length are computed together, because padding takes as long as words.
        """
        order = sorted(range(len(rows)), key=lambda place: len(self.captions.tokens[rows[place]]))
        parts = parts_of(len(rows), LENGTHS if self.device.type == "cpu" else 1)
        texts = [self.text.above(*self._text_states([rows[place] for place in order[part]])) for part in parts]
        return torch.cat(texts)[torch.tensor(order, device=self.device).argsort()]

    def _text_states(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States of the rows' captions, (n, longest, width), below the layers that learn, and lengths, int64 (n,)."""
        if not self.text.frozen:
            tokens = {name: tensor.to(self.device) for name, tensor in self.captions(rows).items()}
            return self.text.below(tokens["input_ids"]), tokens["attention_mask"].sum(dim=1)
        states = [
            self.cache.get(("caption", int(self.captions.legends[row])), partial(self._caption_states, row))
            for row in rows
        ]
        lengths = torch.tensor([len(state) for state in states], device=self.device)
        return pad_sequence(states, batch_first=True).to(self.device), lengths

    def _caption_states(self, row: int) -> Tensor:
        """Compute the frozen layers' output for a row's caption: (length, width), on the CPU."""
        with self.autocast():
            return self.text.states_of(self.captions([row])["input_ids"].to(self.device)).cpu()

    def _photo_states(self, pixels: Any) -> Tensor:
        """Compute the frozen layers' output for a photo: (length, width), on the CPU."""
        with self.autocast():
            return self.vision.states_of(self.photos.normalise(pixels[None].to(self.device))).cpu()

    def loss(self, batch: Sequence[int], images: Tensor, texts: Tensor) -> Tensor:
        """The contrastive loss of a batch's vectors, by the recipe."""
        legends = self.captions.legends[list(batch)].to(self.device)
        targets = legend_targets(legends, shared=self.recipe.shared_legends)
        return contrastive_loss(images, texts, self.scale, targets)

    def backward(self, batch: Sequence[int], inputs: Any) -> float:
        """Compute the loss of a batch; its gradient, the same in every process, is left on the weights."""
        loss = self.backward_captions(batch, inputs)
        self.share_gradients()
        return loss

    def backward_captions(self, batch: Sequence[int], photos: Tensor) -> float:
        """Compute the loss of a batch; this process's part of the gradient is added to the weights."""
        own_batch = batch[self.own(batch)]
        parts = parts_of(len(own_batch), self.recipe.accumulate)
        return backward_in_parts(
            [partial(self.embed, own_batch[part], photos[part]) for part in parts],
            partial(self.loss, batch),
            partial(self.gather, len(batch)),
            self.own(batch),
        )

    @torch.no_grad()
    def validate(self, rows: Sequence[int]) -> Validation:
        """Compute loss and spread over all rows, in batches that are the same in every epoch."""
        batches = self.validation_batches(rows)
        total, embedding, began = 0.0, 0.0, time.perf_counter()
        vectors = []
        for batch, photos in self.load(batches, PLAIN):
            start = time.perf_counter()
            images, texts = (self.gather(len(batch), part) for part in self.embed(batch[self.own(batch)], photos))
            total += self.loss(batch, images, texts).item() * len(batch)
            vectors.append(images.double())
            embedding += time.perf_counter() - start
        waiting = time.perf_counter() - began - embedding
        return Validation(total / len(rows), spread_of(torch.cat(vectors)), waiting / len(rows), embedding / len(rows))


def _weights(tower: Tower) -> list[torch.nn.Parameter]:
    """All weights of a tower."""
    parts = (tower.start, *tower.lower, *tower.upper, tower.head, tower.projection)
    return [weight for part in parts for weight in part.parameters()]


def _bf16(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compute in bf16: if the recipe says so or, by default, if a GPU supports it."""
    if recipe.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    pick_device(device.type, recipe.precision)
    return recipe.precision == "bf16"


def _same_every_time(device: torch.device) -> AbstractContextManager[None]:
    """Select an attention with deterministic gradients on a GPU, as a resumed run must agree to the last bit."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()


def spread_of(vectors: Tensor) -> float:
    """Mean of 1 - cosine over unordered pairs of unit rows, (n, d); 0 for a single row."""
    n = len(vectors)
    # The sum of all cosines is the squared length of the sum.
    cosines = float(vectors.sum(dim=0).square().sum() - vectors.square().sum())
    return 1 - cosines / (n * (n - 1)) if n > 1 else 0.0
