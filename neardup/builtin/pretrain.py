"""Training `builtin:tiny` from nothing: copies of photographs and of drawn pictures, and captions of drawn scenes.

    python -m neardup.builtin.pretrain PHOTOS --out FOLDER

Needs torch, torchvision and transformers only, so that it runs on a borrowed GPU as well as here. Killed, the same
command goes on where it was, to the same weights.
"""

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from neardup.builtin import tiny
from neardup.builtin.pool import DRAWING, PHOTO, SCENE, Pool, subjects_of, training_pool, validation_pool
from neardup.encode.devices import cpu_has_bf16
from neardup.errors import NeardupError, TrainingError
from neardup.progress import bar
from neardup.stages import digest_of, replacing, sync, write_json
from neardup.train.losses import contrastive_loss, copy_loss, koleo_loss, legend_targets
from neardup.train.press_torch import press_copies
from neardup.train.state import TrainingState

PRETRAIN_STEP = 1
"""Version of the training step, bumped when equal inputs would give other weights."""
LARGEST_SCALE = math.log(100)
"""Greatest logarithm of what similarities of images and texts are multiplied by: 100 times, as in CLIP."""
CHUNK = 16
"""Subjects whose pictures are cut out at once, which fit the processor's cache."""


@dataclass(frozen=True)
class Pretraining:
    """Everything that the weights depend on, but for the photographs.

    Attributes:
        steps: how many steps the training has.
        shares: subjects a step of each kind; two copies are made of each.
        scenes: drawn scenes with captions in the pool.
        drawings: other drawn pictures in the pool.
        window: chance that a subject is only a part of its picture, so that a photograph is many subjects.
        blend: chance that another picture shines through, which makes one more subject.
        keep: share of the patches that the model sees, until the last steps.
        whole: share of the steps, the last ones, in which it sees all patches.
        temperature: what the similarities of the copy loss are divided by.
        koleo: weight of the spreading loss.
        captions: weight of the image-text loss.
        muon_lr: learning rate of Muon, for the matrices of the vision layers.
        lr: learning rate of AdamW, for everything else.
        warmup: steps until the full learning rate, which then falls to 0 in a straight line.
        seed: seed of the first weights, the pictures, their order and their copies.
    """

    steps: int = 5400
    shares: dict[str, int] = field(default_factory=lambda: {PHOTO: 40, SCENE: 12, DRAWING: 12})
    scenes: int = 4000
    drawings: int = 6000
    window: float = 0.5
    blend: float = 0.2
    keep: float = 0.5
    whole: float = 0.1
    temperature: float = 0.05
    koleo: float = 0.1
    captions: float = 0.2
    muon_lr: float = 0.02
    lr: float = 1e-3
    warmup: int = 60
    seed: int = 0

    def rate(self, step: int) -> float:
        """Share of the learning rates at a step, counted from 0."""
        return min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)

    def patch_share(self, step: int) -> float:
        """Share of the patches that the model sees at a step, counted from 0."""
        return self.keep if step < self.steps * (1 - self.whole) else 1.0


class Pretrainer:
    """An untrained `builtin:tiny` on a device, the pictures that it is trained on, and its optimizers."""

    def __init__(self, recipe: Pretraining, pool: Pool, device: torch.device) -> None:
        """Move the untrained model and the pictures to the device."""
        self.recipe, self.pool, self.device = recipe, pool, device
        model: Any = tiny.untrained(recipe.seed)
        # In bfloat16 on a CPU the gradient of the fused attention is slow: 0.60 s a step of 128 copies, plainly 0.37 s.
        model.set_attn_implementation("eager")
        self.model = model.eval().to(device)  # no dropout in CLIP
        self.pixels = torch.from_numpy(pool.pixels).to(device)
        self.texts = torch.from_numpy(pool.texts).to(device)
        tokenizer: Any = tiny.tokenizer()
        self.tokens = {
            subject: [torch.tensor(ids) for ids in tokenizer(list(captions))["input_ids"]]
            for subject, captions in pool.captions.items()
        }
        self.bf16 = device.type == "cuda" or cpu_has_bf16()
        self.optimizers = _optimizers(self.model, recipe, bf16=self.bf16)
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def embed(self, pictures: Tensor, keep: float = 1.0, rng: Generator | None = None) -> Tensor:
        """Vectors of grey pictures: float32 (n, 1, 112, 112), 0 to 1 → float32 (n, 256), unit rows."""
        vision = self.model.vision_model
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = vision.embeddings((pictures - tiny.MEAN) / tiny.STD)
            if keep < 1:
                hidden = _some_patches(hidden, keep, rng)
            hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
            vectors = self.model.visual_projection(vision.post_layernorm(hidden[:, 0]))
        return functional.normalize(vectors.float(), dim=-1)

    def read(self, captions: Sequence[Tensor]) -> Tensor:
        """Vectors of tokenized captions, float32 (n, 256), unit rows."""
        ids = pad_sequence(list(captions), batch_first=True, padding_value=1).to(self.device)
        mask = pad_sequence([torch.ones_like(c) for c in captions], batch_first=True).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            texts = self.model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(texts.float(), dim=-1)

    def step(self, step: int, subjects: Sequence[Sequence[int]]) -> dict[str, float]:
        """Take a step, counted from 0, on the rows of some subjects; returns the losses by name."""
        rng = Generator(self.device).manual_seed(self.recipe.seed * 1_000_003 + step)
        recipe, n = self.recipe, len(subjects)
        strength = torch.rand(2 * n, generator=rng, device=self.device) * 0.9 + 0.1
        parts = [self._pictures(subjects[start : start + CHUNK], rng) for start in range(0, n, CHUNK)]
        copies = press_copies(torch.cat(parts, dim=1).flatten(0, 1), self.texts, tiny.SIZE, rng, strength)
        vectors = self.embed(copies, recipe.patch_share(step), rng)
        numbers = torch.arange(n, device=self.device).repeat(2)
        losses = {
            "copies": copy_loss(vectors, numbers, recipe.temperature),
            "koleo": koleo_loss(vectors, numbers),
            "captions": self._caption_loss(subjects, vectors, rng),
        }
        self._descend(losses["copies"] + recipe.koleo * losses["koleo"] + recipe.captions * losses["captions"], step)
        return {name: loss.item() for name, loss in losses.items()}

    def _pictures(self, subjects: Sequence[Sequence[int]], rng: Generator) -> Tensor:
        """Two pictures of each subject, uint8 (2, n, 192, 192): the same part, of two exposures where there are two."""
        n = len(subjects)
        rows = torch.tensor([len(rows) for rows in subjects], device=self.device).repeat(2)
        chosen = (torch.rand(2 * n, generator=rng, device=self.device) * rows).long().tolist()
        pictures = self.pixels[[subjects[i % n][k] for i, k in enumerate(chosen)]].float()
        draw = torch.rand((6, n), generator=rng, device=self.device)
        side = torch.where(draw[0] < self.recipe.window, 0.4 + 0.5 * draw[1], 1.0)
        zero = torch.zeros_like(side)
        across, down = (2 * draw[2] - 1) * (1 - side), (2 * draw[3] - 1) * (1 - side)
        theta = torch.stack([torch.stack([side, zero, across], 1), torch.stack([zero, side, down], 1)], 1).repeat(
            2, 1, 1
        )
        grid = functional.affine_grid(theta, [2 * n, 1, *pictures.shape[1:]], align_corners=False)
        pictures = functional.grid_sample(pictures[:, None], grid, align_corners=False)[:, 0]
        others = self.pixels[torch.randint(len(self.pixels), (n,), generator=rng, device=self.device)].float()
        share = torch.where(draw[4] < self.recipe.blend, 0.3 + 0.3 * draw[5], 0.0).repeat(2)[:, None, None]
        blended = pictures + (others.repeat(2, 1, 1) - pictures) * share
        return blended.round().to(torch.uint8).reshape(2, n, *pictures.shape[1:])

    def _caption_loss(self, subjects: Sequence[Sequence[int]], vectors: Tensor, rng: Generator) -> Tensor:
        """The contrastive loss of each scene's two copies and its caption, in a language by chance."""
        scenes = [i for i, rows in enumerate(subjects) if self.pool.subjects[rows[0]] in self.tokens]
        languages = torch.randint(4, (len(scenes),), generator=rng, device=self.device).tolist()
        captions = [self.tokens[self.pool.subjects[subjects[i][0]]][k] for i, k in zip(scenes, languages, strict=True)]
        legends = torch.tensor(list(_numbered([tuple(caption.tolist()) for caption in captions])), device=self.device)
        texts, targets, n = self.read(captions), legend_targets(legends, shared=True), len(subjects)
        halves = (vectors[scenes], vectors[[i + n for i in scenes]])
        return sum(contrastive_loss(half, texts, self.model.logit_scale, targets) for half in halves) / 2  # type: ignore[return-value]

    def _descend(self, loss: Tensor, step: int) -> None:
        """Move the weights along the gradient of a loss, at the learning rates of a step."""
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the loss became {loss.item()} at step {step}: lower the learning rates")
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            optimizer.zero_grad()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.recipe.rate(step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=LARGEST_SCALE)

    @torch.inference_mode()
    def validate(self, held_out: Pool) -> dict[str, float]:
        """Search copies of the photographs held out, damaged at full strength, among the photographs as they are.

        Returns:
            `top_1`, `micro_ap` (as in `neardup.measure.metrics`, ties aside), `caption_top_1`: share of
            the held-out scenes whose French caption is the nearest one or equal to it.
        """
        photos = torch.from_numpy(held_out.pixels[[rows[0] for rows in held_out.members(PHOTO)]]).to(self.device)
        rng = Generator(self.device).manual_seed(0)
        strength = torch.ones(len(photos), device=self.device)
        copies = self.embed(press_copies(photos, self.texts, tiny.SIZE, rng, strength))
        similarities = copies @ self.embed(_small(photos)).T
        right = torch.eye(len(photos), dtype=torch.bool, device=self.device)
        ranked = right.flatten()[similarities.flatten().argsort(descending=True)]
        precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1, device=self.device)
        top_1 = (similarities.argmax(1) == torch.arange(len(photos), device=self.device)).float().mean()
        return {
            "top_1": top_1.item(),
            "micro_ap": precision[ranked].mean().item(),
            "caption_top_1": self._caption_top_1(held_out),
        }

    def _caption_top_1(self, held_out: Pool) -> float:
        """Share of the scenes held out whose French caption is the nearest one or equal to it."""
        rows = [rows[0] for rows in held_out.members(SCENE)]
        captions = [held_out.captions[held_out.subjects[row]][0] for row in rows]
        tokenizer: Any = tiny.tokenizer()
        texts = self.read([torch.tensor(ids) for ids in tokenizer(captions)["input_ids"]])
        scenes = self.embed(_small(torch.from_numpy(held_out.pixels[rows]).to(self.device)))
        nearest = (scenes @ texts.T).argmax(1).tolist()
        right: list[bool] = [captions[i] == captions[k] for i, k in enumerate(nearest)]
        return sum(right) / len(right)


def _small(pictures: Tensor) -> Tensor:
    """Pictures as the model takes them: uint8 (n, s, s) → float32 (n, 1, 112, 112), 0 to 1."""
    return functional.interpolate(pictures[:, None].float() / 255, (tiny.SIZE, tiny.SIZE), mode="area")


def _numbered(values: Sequence[object]) -> list[int]:
    """A number for each value, from 0 in the order of their first occurrence; equal values have equal numbers."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _some_patches(hidden: Tensor, keep: float, rng: Generator | None) -> Tensor:
    """The class token and a share of the patches, other ones in each picture (Li et al. 2023, FLIP)."""
    n, patches = len(hidden), hidden.shape[1] - 1
    order = torch.rand((n, patches), generator=rng, device=hidden.device).argsort(dim=1)[:, : int(patches * keep)] + 1
    chosen = torch.cat([torch.zeros_like(order[:, :1]), order], dim=1)
    return hidden.gather(1, chosen[:, :, None].expand(-1, -1, hidden.shape[2]))


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) as `torch.optim.Muon` has it, with its products in float32 instead of bfloat16.

    On a CPU that does not compute in bfloat16 those would take 30 times as long.
    """

    def __init__(self, matrices: Sequence[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        """Take the matrices, the settings being those of `torch.optim.Muon`."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's signature
        """Move each matrix that has a gradient."""
        for group in self.param_groups:
            lr, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
            for matrix in (matrix for matrix in group["params"] if matrix.grad is not None):
                mean = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix.grad))
                mean.lerp_(matrix.grad, 1 - momentum)
                update = _orthogonal(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - lr * decay)
                matrix.add_(update, alpha=-lr * math.sqrt(max(1, len(matrix) / matrix.shape[1])))


def _orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of another one and singular values of about 1.

    It takes five steps of Newton and Schulz, with the coefficients of Jordan et al. (2024).
    """
    a, b, c = 3.4445, -4.775, 2.0315
    rows = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    rows = rows / rows.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = rows @ rows.T
        rows = torch.addmm(rows, torch.addmm(gram, gram, gram, beta=b, alpha=c), rows, beta=a)
    return rows if rows.shape == matrix.shape else rows.T


def _optimizers(model: nn.Module, recipe: Pretraining, *, bf16: bool) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the vision layers, AdamW for the rest: measured better than AdamW alone."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if name.startswith("vision_model.encoder.layers") and p.ndim > 1]
    taken = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        (torch.optim.Muon if bf16 else Muon)(matrices, lr=recipe.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98)),
    ]


def pretrain(
    photos: Path, out: Path, recipe: Pretraining, *, device: str = "cpu", check: int = 250, report: Any = print
) -> Path:
    """Train and write a CLIP that `from_pretrained` reads, in half precision, with `training.json` and `training.csv`.

    Args:
        photos: folder with `images/` and `photos.csv`.
        out: the folder to write to; `out/state` holds what a killed run goes on from.
        recipe: all settings.
        device: `cpu` or `cuda`.
        check: steps between two validations, after each of which the state is kept.
        report: gets a few sentences.

    Raises:
        ArchiveError: the photographs are not there.
        TrainingError: the loss is not finite.
    """
    pool = training_pool(photos, recipe.scenes, recipe.drawings, recipe.seed)
    held_out = validation_pool(photos, scenes=200, drawings=0, seed=recipe.seed)
    pretrainer = Pretrainer(recipe, pool, torch.device(device))
    state = TrainingState(out / "state", digest_of(PRETRAIN_STEP, asdict(recipe), pool.digest, check))
    history: list[dict[str, float]] = []
    if progress := state.read():
        state.restore(pretrainer.model, *pretrainer.optimizers)
        history = progress["history"]
    begin = int(history[-1]["step"]) if history else 0
    report(
        f"{len(pool.members(PHOTO))} subjects in {pool.kinds.count(PHOTO)} photographs, {recipe.scenes} scenes, "
        f"{recipe.drawings} drawings; {tiny.parameters(pretrainer.model) / 1e6:.2f} M parameters on {device}; "
        f"steps {begin} to {recipe.steps}, {2 * sum(recipe.shares.values())} copies a step"
    )
    batches = itertools.islice(subjects_of(pool, recipe.shares, recipe.seed), begin, recipe.steps)
    sums: dict[str, float] = {}
    started = time.perf_counter()
    steps = bar(batches, "training", recipe.steps, unit="step", initial=begin, disable=None)
    for step, subjects in enumerate(steps, begin + 1):
        losses = pretrainer.step(step - 1, subjects)
        sums = {name: sums.get(name, 0.0) + loss for name, loss in losses.items()}
        if step % check == 0 or step == recipe.steps:
            count = step - (int(history[-1]["step"]) if history else 0)
            seconds = (history[-1]["seconds"] if history else 0.0) + time.perf_counter() - started
            means = {name: total / count for name, total in sums.items()}
            history.append({"step": step, "seconds": round(seconds, 1), **means, **pretrainer.validate(held_out)})
            state.write(step, pretrainer.model, pretrainer.optimizers, {"history": history})
            report(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
            sums, started = {}, time.perf_counter()
    _export(pretrainer, pool, history, out)
    state.discard()
    return out


def _export(pretrainer: Pretrainer, pool: Pool, history: Sequence[dict[str, float]], out: Path) -> None:
    """Write the model and its history, and `training.json` last: where it is, all the rest is."""
    partial = out / "state" / "model"
    model: Any = tiny.in_colour(pretrainer.model.cpu()).half()
    tokenizer: Any = tiny.tokenizer()
    for part in (model, tokenizer, tiny.image_processor()):
        part.save_pretrained(partial)
    sync(partial, root=partial)
    for path in partial.iterdir():
        path.replace(out / path.name)
    with replacing(out / "training.csv") as new, new.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    facts = {
        "recipe": asdict(pretrainer.recipe),
        "data": pool.digest,
        "photographs": pool.kinds.count(PHOTO),
        "subjects": {kind: len(pool.members(kind)) for kind in (PHOTO, SCENE, DRAWING)},
        "device": str(pretrainer.device),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "last": history[-1],
    }
    write_json(out / "training.json", facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m neardup.builtin.pretrain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("photos", type=Path, help="folder with images/ and photos.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=Pretraining.steps)
    options = parser.parse_args(arguments)
    try:
        pretrain(options.photos, options.out, replace(Pretraining(), steps=options.steps), device=options.device)
    except NeardupError as error:
        sys.stderr.write(f"neardup: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
