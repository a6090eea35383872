"""Photos beside their captions on one device: embedding, loss and gradient of a batch, on one process or several."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from neardup.batches import PLAIN, Captions, Example, Photos, batch_rows, own_rows, parts_of
from neardup.encoder import Clip, pick_device
from neardup.losses import backward_in_parts, contrastive_loss, legend_targets
from neardup.recipes import Recipe


@dataclass(frozen=True)
class Validation:
    """How a model does on the validation photos, as they are.

    Attributes:
        loss: mean contrastive loss over its fixed batches.
        spread: mean cosine distance of two photos, 0 to 2; 0 where all vectors are one.
        load_seconds: time that a photo took to decode.
        embed_seconds: time that a pair took to embed.
    """

    loss: float
    spread: float
    load_seconds: float
    embed_seconds: float


class Pairs:
    """A CLIP, its data and its device: what embeds rows of the examples and says what their loss is."""

    def __init__(
        self, examples: Sequence[Example], clip: Clip, captions: Captions, recipe: Recipe, device: str
    ) -> None:
        """Move the model to its device; rows count the examples."""
        # PartialState is Accelerator without its choice of precision, which could be made once a process only:
        # an experiment trains twice, and tests with several precisions.
        self.processes = PartialState(cpu=device == "cpu")
        several = self.processes.num_processes > 1
        self.device = self.processes.device if several else torch.device(pick_device(device))
        self.bf16 = _bf16(recipe, self.device)
        self.recipe = recipe
        self.captions = captions
        self.photos = Photos(examples, clip.image_processor, recipe)
        # No dropout in CLIP; `eval` keeps it so for a checkpoint that sets one, for its draws would not be resumed.
        model: Any = clip.model
        self.model = model.eval().to(self.device)
        _freeze(self.model, recipe.frozen_layers)
        self.logit_scale: Tensor = self.model.logit_scale

    def own(self, batch: Sequence[int]) -> slice:
        """Which rows of a batch this process embeds."""
        return own_rows(len(batch), self.processes.process_index, self.processes.num_processes)

    def load(self, batches: Sequence[Sequence[int]], copy: int) -> Iterable[tuple[Sequence[int], Tensor]]:
        """Each batch with the pixels of this process's rows of it."""
        return zip(batches, self.photos.batches([batch[self.own(batch)] for batch in batches], copy), strict=True)

    def embed(self, rows: Sequence[int], pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images and texts: float32 (n, d), unit rows."""
        if not rows:
            nothing = torch.zeros((0, self.model.config.projection_dim), device=self.device, requires_grad=True)
            return nothing, nothing
        tokens = {name: tensor.to(self.device) for name, tensor in self.captions(rows).items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), _same_every_time(self.device):
            pixel_values = self.photos.normalise(pixels.to(self.device, non_blocking=True))
            images = self.model.get_image_features(pixel_values=pixel_values).pooler_output
            texts = self.model.get_text_features(**tokens).pooler_output
        return functional.normalize(images.float(), dim=-1), functional.normalize(texts.float(), dim=-1)

    def gather(self, batch: Sequence[int], own: Tensor) -> Tensor:
        """The rows of all processes, (n, d), from those of this one."""
        if self.processes.num_processes == 1:
            return own
        rows = torch.zeros((len(batch), own.shape[1]), device=self.device)
        rows[self.own(batch)] = own
        gathered: Tensor = reduce(rows, "sum")
        return gathered

    def loss(self, batch: Sequence[int], images: Tensor, texts: Tensor) -> Tensor:
        """The contrastive loss of a batch's vectors, by the recipe."""
        legends = self.captions.legends[list(batch)].to(self.device)
        targets = legend_targets(legends, shared=self.recipe.shared_legends)
        return contrastive_loss(images, texts, self.logit_scale, targets)

    def backward(self, batch: Sequence[int], pixels: Tensor) -> float:
        """Loss of a batch; leaves its gradient, the same in every process, on the weights."""
        own = batch[self.own(batch)]
        parts = parts_of(len(own), self.recipe.accumulate)
        loss = backward_in_parts(
            [partial(self.embed, own[part], pixels[part]) for part in parts],
            partial(self.loss, batch),
            partial(self.gather, batch),
            self.own(batch),
        )
        if self.processes.num_processes > 1:
            for parameter in self.model.parameters():
                # The temperature's gradient is whole in every process already.
                if parameter is not self.logit_scale and parameter.requires_grad:
                    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.grad = reduce(grad, "sum")
        return loss

    @torch.no_grad()
    def validate(self, rows: Sequence[int]) -> Validation:
        """Loss and spread over all rows, in batches that are the same in every epoch."""
        batches = batch_rows(rows, self.recipe.batch_size, self.recipe.seed, epoch=0)
        total, embedding, began = 0.0, 0.0, time.perf_counter()
        vectors = []
        for batch, pixels in self.load(batches, PLAIN):
            start = time.perf_counter()
            images, texts = (self.gather(batch, part) for part in self.embed(batch[self.own(batch)], pixels))
            total += self.loss(batch, images, texts).item() * len(batch)
            vectors.append(images.double())
            embedding += time.perf_counter() - start
        waiting = time.perf_counter() - began - embedding
        return Validation(total / len(rows), _spread(torch.cat(vectors)), waiting / len(rows), embedding / len(rows))


def _freeze(model: Any, layers: int) -> None:
    """Keep the weights of the embeddings and of the first `layers` layers of both towers."""
    if layers:
        for tower in (model.vision_model, model.text_model):
            for part in (tower.embeddings, *tower.encoder.layers[:layers]):
                part.requires_grad_(requires_grad=False)


def _bf16(recipe: Recipe, device: torch.device) -> bool:
    if recipe.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return recipe.precision == "bf16"


def _same_every_time(device: torch.device) -> AbstractContextManager[None]:
    """On a GPU, attention whose gradient is not summed in whatever order threads end: a resumed run must agree."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()


def _spread(vectors: Tensor) -> float:
    """Mean of 1 - cosine over unordered pairs of unit rows, (n, d); 0 for a single row."""
    n = len(vectors)
    # The sum of all cosines is the squared length of the sum.
    cosines = float(vectors.sum(dim=0).square().sum() - vectors.square().sum())
    return 1 - cosines / (n * (n - 1)) if n > 1 else 0.0
