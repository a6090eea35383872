"""The training step of `builtin:tiny`: two press copies of each photograph, with similar photographs in its batch.

The copies of a photograph are drawn together and pushed away from all others (InfoNCE), all vectors are spread evenly
(KoLeo), and the mild copies should remain as alike as their pictures are to the untrained network.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor
from torch.nn import functional

from neardup.builtin import tiny
from neardup.builtin.pool import Pool
from neardup.builtin.recipes import Pretraining
from neardup.errors import TrainingError
from neardup.train.losses import copy_loss, koleo_loss, likeness_loss
from neardup.train.press_torch import hard_tones, moderate_tones, press_copies

PLAIN_SIZE = 160
"""Side in pixels at which the untouched network judges similarity, and of validation."""
NEAREST = 16
"""Most similar photographs of each, of which four at a time join its batch."""
WEIGHTS = "model.safetensors"
"""The file of the weights in the folder of a model."""
WHITENED_BY = 4000
"""Most subjects whose copies the projection is whitened by."""
CHUNK = 10
"""Pictures in one pass of the network, whose states thus fit the processor's cache."""


class Pretrainer:
    """A dual encoder on a device, the photographs that its vision tower is trained on, and the optimizer."""

    def __init__(
        self,
        recipe: Pretraining,
        pool: Pool,
        imagenet: Path | None,
        device: torch.device,
        start: Path | None = None,
        away_from: Path | None = None,
    ) -> None:
        """Move the model, the untouched network and the pictures to the device, and find what looks alike.

        `start` is the folder of a model that is trained further; None begins from ImageNet's weights. `away_from` is
        that of the model from which the share of the way is counted, `start` by default.
        """
        self.recipe, self.pool, self.device = recipe, pool, device
        model: Any = tiny.untrained(recipe.seed, imagenet)
        if start is not None:
            model.load_state_dict(load_file(start / WEIGHTS))
        untouched: Any = tiny.untrained(recipe.seed, imagenet).vision_model
        self.model = model.to(device, memory_format=torch.channels_last)
        self._untouched = untouched.to(device, memory_format=torch.channels_last).requires_grad_(requires_grad=False)
        self.pixels, self.texts = torch.from_numpy(pool.pixels).to(device), torch.from_numpy(pool.texts).to(device)
        cores = torch.get_num_threads() if device.type == "cpu" else 1
        self._workers = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
        self._teacher = deepcopy(self.model).requires_grad_(requires_grad=False) if recipe.own_kept else None
        self._learning = [*model.vision_model.parameters(), model.visual_projection.weight]
        self._first = [parameter.detach().clone() for parameter in self._learning]
        if away_from is not None:
            earlier = load_file(away_from / WEIGHTS)
            learning = {parameter: name for name, parameter in model.named_parameters()}
            self._first = [earlier[learning[parameter]].float().to(device) for parameter in self._learning]
        self.optimizer = _optimizer(model, recipe)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._mean = self._plain(self.pixels[:: max(1, len(self.pixels) // 500)]).mean(dim=0)
        self.neighbours = self._neighbours()
        self.memory = {"vectors": torch.empty((0, tiny.WIDTH)), "originals": torch.empty(0, dtype=torch.int64)}

    def embed(self, pictures: Tensor) -> Tensor:
        """Vectors of grey pictures: float32 (n, 1, s, s), 0 to 1 → float32 (n, 256), unit rows."""
        return self._embedded(self.model, pictures)

    @staticmethod
    def _embedded(model: Any, pictures: Tensor) -> Tensor:
        """Vectors of grey pictures by a model, as `embed` gives them."""
        parts = [model.get_image_features(pixel_values=_input(part)).pooler_output for part in _chunks(pictures)]
        return functional.normalize(torch.cat(parts).float(), dim=-1)

    def _each(self, work: Callable[..., Tensor], *columns: Sequence[Any]) -> list[Tensor]:
        """Do some work on all cores, a thread each: fewer waits than with all cores in each product."""
        return list(self._workers.map(work, *columns))

    @torch.no_grad()
    def _features(self, pictures: Tensor) -> Tensor:
        """Mean features of the untouched network, float32 (n, 1280), of float32 (n, 1, s, s), 0 to 1."""
        small = functional.interpolate(pictures, (PLAIN_SIZE, PLAIN_SIZE), mode="area")
        pooled = [self._untouched(pixel_values=_input(part)).pooler_output for part in _chunks(small)]
        return torch.cat(pooled)[:, : tiny.FEATURES]

    def _plain(self, pictures: Tensor) -> Tensor:
        """Mean features of uint8 (n, s, s)."""
        parts = torch.split(pictures, 64)
        return torch.cat(self._each(lambda part: self._features(part[:, None].float() / 255), parts))

    def _neighbours(self) -> npt.NDArray[np.int64]:
        """The subjects that look most like each, what shows the same picture last: int64 (subjects, at most 16)."""
        firsts = self.pixels[[rows[0] for rows in self.pool.members]]
        if self.recipe.own_likeness:
            features = torch.cat([self.searched_plain(part) for part in torch.split(firsts, 256)])
        else:
            features = functional.normalize(self._plain(firsts) - self._mean, dim=1)
        originals = torch.tensor(self.pool.originals, device=self.device)
        alike = (features @ features.T).masked_fill(originals[:, None] == originals, -2)
        nearest = alike.topk(min(NEAREST, len(firsts) - 1), dim=1).indices
        return np.asarray(nearest.cpu().numpy(), np.int64)

    def step(self, step: int, subjects: Sequence[int]) -> dict[str, float]:
        """Take a step, counted from 0, on some subjects; returns the losses by name."""
        recipe, n = self.recipe, len(subjects)
        rng = Generator(self.device).manual_seed(recipe.seed * 1_000_003 + step)
        size = recipe.sizes[int(torch.randint(len(recipe.sizes), (1,), generator=rng, device=self.device))]
        plain = self._pictures(subjects, rng)
        pieces = self._vectors_of_copies(plain, size, rng)
        leaf = torch.cat([piece.detach() for piece in pieces]).requires_grad_()
        originals = torch.tensor([self.pool.originals[subject] for subject in subjects], device=self.device).repeat(2)
        losses = self._losses(leaf, originals, plain[:n])
        total = losses["copies"] + recipe.koleo * losses["koleo"] + recipe.likeness * losses["likeness"]
        if not math.isfinite(total.item()):
            raise TrainingError(f"the loss became {total.item()} at step {step}: lower the learning rates")
        [gradient] = torch.autograd.grad(total, leaf)
        self._descend(pieces, torch.split(gradient, [len(piece) for piece in pieces]), step)
        self._remember(leaf.detach(), originals)
        return {name: loss.item() for name, loss in losses.items()}

    def _vectors_of_copies(self, pictures: Tensor, size: int, rng: Generator) -> list[Tensor]:
        """Vectors of a copy of each of 2 n pictures, the first n mild: float32 (m, 256), a part for each core."""
        recipe, n = self.recipe, len(pictures) // 2
        u = torch.rand(2 * n, generator=rng, device=self.device)
        strength = torch.cat([recipe.mild * u[:n] ** 2, recipe.low + (1 - recipe.low) * u[n:]])
        parts = [part.tolist() for part in torch.arange(2 * n).chunk(self._workers._max_workers)]  # noqa: SLF001 - its own argument

        def embedded(number: int, rows: list[int]) -> Tensor:
            draws = Generator(self.device).manual_seed(rng.initial_seed() * 64 + number)
            return self.embed(self._copies(pictures[rows].round().to(torch.uint8), size, draws, strength[rows]))

        return self._each(embedded, range(len(parts)), parts)

    def _copies(self, pictures: Tensor, size: int, rng: Generator, strength: Tensor) -> Tensor:
        """A copy of each picture, as `press_copies` makes them, with the tones of the recipe."""
        tones = hard_tones if self.recipe.hard_tones else moderate_tones
        return press_copies(pictures, self.texts, size, rng, strength, tones)

    def _remember(self, vectors: Tensor, originals: Tensor) -> None:
        """Replace the oldest vectors by new ones, with the subjects that they are copies of."""
        if size := self.recipe.memory:
            latest = {"vectors": vectors, "originals": originals}
            self.memory = {name: torch.cat([self._remembered(name), rows])[-size:] for name, rows in latest.items()}

    def _remembered(self, name: str) -> Tensor:
        """What is remembered of the latest copies, on the device."""
        return self.memory[name].to(self.device)

    def _losses(self, vectors: Tensor, originals: Tensor, plain: Tensor) -> dict[str, Tensor]:
        """The losses of a batch: vectors of the mild copies, then of the others, and the undamaged pictures."""
        n = len(plain)
        memory = self._remembered("vectors"), originals[:, None] == self._remembered("originals")
        numbers = torch.arange(n, device=self.device).repeat(2)
        one_picture = (originals[:, None] == originals) & (numbers[:, None] != numbers)
        return {
            "copies": copy_loss(vectors, numbers, self.recipe.temperature, one_picture, memory),
            "koleo": koleo_loss(vectors, originals, memory),
            "likeness": likeness_loss(vectors[:n], self.kept(plain), self.recipe.likeness_temperature),
        }

    def kept(self, plain: Tensor) -> Tensor:
        """Unit rows, by which undamaged pictures, float32 (n, s, s), 0 to 255, are as alike as they are to remain."""
        if self._teacher is None:
            halves = self._each(lambda part: self._features(part[:, None] / 255), plain.chunk(2))
            return functional.normalize(torch.cat(halves) - self._mean, dim=1)
        teacher = self._teacher

        @torch.no_grad()
        def embedded(part: Tensor) -> Tensor:
            small = functional.interpolate(part[:, None] / 255, (tiny.SIZE, tiny.SIZE), mode="area")
            return self._embedded(teacher, small)

        return torch.cat(self._each(embedded, plain.chunk(2)))

    def _pictures(self, subjects: Sequence[int], rng: Generator) -> Tensor:
        """Two pictures of each subject, float32 (2 n, 224, 224): the same part, of two exposures if there are two."""
        n, rows = len(subjects), [self.pool.members[subject] for subject in subjects]
        counts = torch.tensor([len(row_list) for row_list in rows], device=self.device).repeat(2)
        exposures = (torch.rand(2 * n, generator=rng, device=self.device) * counts).long().tolist()
        pictures = self.pixels[[rows[i % n][k] for i, k in enumerate(exposures)]].float()
        draw = torch.rand((4, n), generator=rng, device=self.device)
        side = torch.where(draw[0] < self.recipe.window, 0.4 + 0.5 * draw[1], 1.0)
        zero = torch.zeros_like(side)
        across, down = (2 * draw[2] - 1) * (1 - side), (2 * draw[3] - 1) * (1 - side)
        theta = torch.stack([torch.stack([side, zero, across], 1), torch.stack([zero, side, down], 1)], 1)
        grid = functional.affine_grid(theta.repeat(2, 1, 1), [2 * n, 1, *pictures.shape[1:]], align_corners=False)
        return functional.grid_sample(pictures[:, None], grid, align_corners=False)[:, 0]

    def _descend(self, pieces: Sequence[Tensor], gradients: Sequence[Tensor], step: int) -> None:
        """Move the weights along the gradient of the loss, at the learning rates of a step."""

        def carried(piece: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(piece, self._learning, gradient)

        sums = self._workers.map(carried, pieces, gradients)
        for parameter, *grads in zip(self._learning, *sums, strict=True):
            parameter.grad = torch.stack(grads).sum(dim=0)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.recipe.rate(step)
        torch.nn.utils.clip_grad_norm_(self._learning, 1.0)
        self.optimizer.step()

    @torch.no_grad()
    def keep_share(self) -> None:
        """Go back to the share of the way from the earlier weights that the recipe keeps, once training is over."""
        for parameter, first in zip(self._learning, self._first, strict=True):
            parameter.lerp_(first, 1 - self.recipe.share)

    def whiten(self) -> None:
        """Let the projection weigh less what near-duplicates differ in (Radenović et al. 2018, their first step).

        Half of that is what copies differ in from each other, as a step makes them, at the size at which photos are
        searched; half is what exposures of one plate differ in, undamaged.
        """
        for weight in self._learning:
            weight.requires_grad = False  # in the threads that embed as well, where `no_grad` of this one does not hold
        first = self.recipe.seed * 1_000_003 + self.recipe.steps
        draws = Generator(self.device).manual_seed(first)
        subjects = torch.randperm(len(self.pool.members), generator=draws, device=self.device)[:WHITENED_BY]
        pairs = []
        for number, batch in enumerate(torch.split(subjects, self.recipe.subjects)):
            rng = Generator(self.device).manual_seed(first + number)
            copies = self._vectors_of_copies(self._pictures(batch.tolist(), rng), tiny.SIZE, rng)
            pairs.append(torch.cat(copies).reshape(2, -1, tiny.WIDTH))
        spreads = [_spread(torch.cat(pairs, dim=1))]
        exposures = [pair for rows in self.pool.members for pair in pairwise(rows)]
        if exposures:
            pixels = self.pixels[torch.tensor(exposures, device=self.device).T.flatten()]
            spreads.append(_spread(self.searched_plain(pixels, tiny.SIZE).reshape(2, -1, tiny.WIDTH)))
        variances, axes = torch.linalg.eigh(torch.stack(spreads).mean(dim=0))
        scale = (variances + self.recipe.whitened * variances.max()).rsqrt()
        weight = self.model.visual_projection.weight
        weight.copy_((axes * scale) @ axes.T @ weight)

    @torch.inference_mode()
    def validate(self, held_out: Pool) -> dict[str, float]:
        """Search the held-out photographs, as they are, for copies at full strength and for other exposures.

        Returns:
            `top_1` and `micro_ap` of one copy of each subject's first picture, and `exposures`: the micro average
            precision of all pairs of held-out photographs, which are right if both show one plate.
        """
        pixels = torch.from_numpy(held_out.pixels).to(self.device)
        gallery = self.searched_plain(pixels)
        firsts = [rows[0] for rows in held_out.members][:400]
        rng, strongest = Generator(self.device).manual_seed(0), torch.ones(len(firsts), device=self.device)
        copies = self._copies(pixels[firsts], PLAIN_SIZE, rng, strongest)
        subjects = torch.tensor(held_out.subjects, device=self.device)
        similarities, same = self.searched(copies) @ gallery.T, subjects[firsts][:, None] == subjects
        first, second = torch.triu_indices(len(pixels), len(pixels), 1)
        return {
            "top_1": same[torch.arange(len(firsts)), similarities.argmax(1)].float().mean().item(),
            "micro_ap": _average_precision(similarities.flatten(), same.flatten()),
            "exposures": _average_precision((gallery @ gallery.T)[first, second], subjects[first] == subjects[second]),
        }

    def searched(self, pictures: Tensor) -> Tensor:
        """Vectors of grey pictures on all cores, without gradients."""

        def embedded(part: Tensor) -> Tensor:
            with torch.inference_mode():
                return self.embed(part)

        return torch.cat(self._each(embedded, torch.split(pictures, 64)))

    def searched_plain(self, pixels: Tensor, side: int = PLAIN_SIZE) -> Tensor:
        """Vectors of uint8 (n, s, s), made small, on all cores and without gradients."""
        pictures = pixels[:, None].float() / 255
        return self.searched(functional.interpolate(pictures, (side, side), mode="area"))


def _input(grey: Tensor) -> Tensor:
    """What the network takes of grey pictures, (n, 1, s, s), 0 to 1: three equal channels, float32 (n, 3, s, s)."""
    levels = ((grey - tiny.LEVEL) / tiny.LEVEL).expand(-1, 3, -1, -1)
    return levels.contiguous(memory_format=torch.channels_last)


def _chunks(pictures: Tensor) -> tuple[Tensor, ...]:
    """Pictures in parts that fit a CPU's cache; a GPU takes them all."""
    return torch.split(pictures, CHUNK if pictures.device.type == "cpu" else len(pictures))


def _spread(pairs: Tensor) -> Tensor:
    """What the vectors of two photos of one picture differ in: covariance of trace 1, (d, d), of (2, n, d)."""
    differences = pairs[0] - pairs[1]
    products = differences.T @ differences
    return products / products.trace()


def _average_precision(scores: Tensor, right: Tensor) -> float:
    """Average precision of all scores together, ties in the order of their places."""
    ranked = right[scores.argsort(descending=True, stable=True)]
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1, device=ranked.device)
    return float(precision[ranked].mean())


def _optimizer(model: Any, recipe: Pretraining) -> torch.optim.AdamW:
    """AdamW for the vision tower; the projection, which begins at chance, learns faster."""
    trunk = list(model.vision_model.parameters())
    groups = [
        {"params": [p for p in trunk if p.ndim > 1], "lr": recipe.lr, "weight_decay": recipe.weight_decay},
        {"params": [p for p in trunk if p.ndim <= 1], "lr": recipe.lr, "weight_decay": 0.0},
        {
            "params": [model.visual_projection.weight],
            "lr": recipe.lr * recipe.projection_rate,
            "weight_decay": recipe.weight_decay,
        },
    ]
    return torch.optim.AdamW(groups)
