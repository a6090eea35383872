"""Fine-tuning CLIP on photos and captions: one explicit loop, from top to bottom."""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name
from tqdm import tqdm

from neardup.augment import augment
from neardup.encoder import Clip, pick_device
from neardup.errors import TrainingError
from neardup.images import read_image
from neardup.losses import contrastive_loss, targets
from neardup.recipes import Recipe
from neardup.split import components, split
from neardup.stages import STATE, digest_of, write_json
from neardup.testset import save_rows

TOKENS = 77
MAX_LOGIT_SCALE = math.log(100)
CACHE_BYTES = 2 << 30
"""Preprocessed photos are kept in memory up to so much; beyond, they are decoded anew each epoch."""
COLLAPSED = 1e-6
"""Spread (standard deviation) of the similarities of all pairs at which embeddings count as all alike."""


@dataclass(frozen=True)
class Example:
    """A photo to train on: its file, SHA-256, English caption and perceptual hash."""

    image: Path
    photo: str
    caption: str
    look: str


@dataclass(frozen=True)
class EpochResult:
    """One epoch: mean training loss, validation loss, seconds, and the learned logit scale."""

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float
    logit_scale: float


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        checkpoint: folder of the best epoch's CLIP.
        history: every epoch.
        best_epoch: the one with the lowest validation loss.
        stopped_because: `patience` or `epochs`.
        facts: photos, captions cut, steps an epoch, device.
    """

    checkpoint: Path
    history: tuple[EpochResult, ...]
    best_epoch: int
    stopped_because: str
    facts: dict[str, Any]


class Photos:
    """The examples as tensors; what fits into memory is prepared once."""

    def __init__(self, clip: Clip, examples: Sequence[Example], recipe: Recipe) -> None:
        """Take the CLIP whose preprocessing and tokenizer prepare the examples."""
        self.examples = list(examples)
        self._processor, self._tokenizer, self._recipe = clip.image_processor, clip.tokenizer, recipe
        self._cache: dict[tuple[int, int], Tensor] = {}
        self._room = CACHE_BYTES

    def pixels(self, indices: Sequence[int], copy: int = -1) -> Tensor:
        """The photos as they are (`copy` -1) or their copy of that number: float32 (n, 3, side, side)."""
        with ThreadPoolExecutor(2) as pool:
            return torch.stack(list(pool.map(lambda index: self._pixels(index, copy), indices)))

    def _pixels(self, index: int, copy: int) -> Tensor:
        if (index, copy) in self._cache:
            return self._cache[index, copy]
        example = self.examples[index]
        image = read_image(example.image, draft=None if copy >= 0 else 256)
        if copy >= 0:
            image = augment(self._recipe.augmentation, image, example.photo, copy, self._recipe.seed)
        pixels: Tensor = self._processor(image, return_tensors="pt")["pixel_values"][0]
        if self._room >= pixels.nbytes:
            self._room -= pixels.nbytes
            self._cache[index, copy] = pixels
        return pixels

    def tokens(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The captions, truncated at 77 tokens and padded to the longest of these."""
        captions = [self.examples[index].caption for index in indices]
        options = {"padding": True, "truncation": True, "max_length": TOKENS, "return_tensors": "pt"}
        return dict(self._tokenizer(captions, **options))

    def lengths(self) -> list[int]:
        """Tokens of each caption, before truncation."""
        return [len(ids) for ids in self._tokenizer([example.caption for example in self.examples])["input_ids"]]

    def targets(self, indices: Sequence[int]) -> Tensor:
        """Which caption belongs to which photo of a batch; see `neardup.losses.targets`."""
        return targets([self.examples[index].caption for index in indices], shared=self._recipe.shared_legends)


def train(
    examples: Sequence[Example],
    clip: Clip,
    recipe: Recipe,
    folder: Path,
    *,
    on_epoch: Callable[[EpochResult], None] | None = None,
    report: Callable[[str], None] = print,
    device: str = "auto",
) -> Training:
    """Fine-tune a CLIP; the epoch with the lowest validation loss wins.

    Killed at any moment and called again with the same arguments, it goes on from the last epoch that ended and comes
    to the same weights. With several processes (`torchrun`, `accelerate launch`) each takes its share of every batch.

    Args:
        examples: photos and captions; photos of one caption, or that look alike, are never divided by the split.
        clip: what is fine-tuned; its weights are changed.
        recipe: learning rate, batch size, epochs …
        folder: where `checkpoint/` and `history.csv` are written.
        on_epoch: called after each epoch.
        report: is told, once, what is about to happen.
        device: `auto`, `cpu`, `cuda`.

    Raises:
        TrainingError: too few photos, a loss that is not finite, or embeddings that became all alike; the best
            checkpoint so far is kept.
    """
    accelerator = Accelerator(mixed_precision=precision(recipe), cpu=pick_device(device) == "cpu")
    photos, facts = _select(examples, clip, recipe)
    chosen = photos.examples
    looks = components([e.caption for e in chosen], [e.photo for e in chosen], [e.look for e in chosen])
    training, validation = split(looks, recipe.validation, recipe.seed)
    batches = epoch_batches(training, recipe, 0)
    torch.manual_seed(recipe.seed)
    model = clip.model.to(accelerator.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    facts |= {"training": len(training), "validation": len(validation), "steps": len(batches), "device": str(accelerator.device)}
    state = _State(folder, digest_of([asdict(e) | {"image": e.image.name} for e in chosen], asdict(recipe), _digest(model)))
    history = state.resume(model, optimizer)
    report(_announcement(facts, recipe, history, _step_seconds(accelerator, model, photos, batches[0], recipe)))

    for epoch in range(len(history), recipe.epochs):
        if history and epoch - _best(history) > recipe.patience:
            break
        began = time.monotonic()
        losses: list[float] = []
        copy = -1 if recipe.augmentation == "none" else epoch % recipe.copies
        batches = epoch_batches(training, recipe, epoch)
        with tqdm(batches, f"epoch {epoch + 1}/{recipe.epochs}", unit="step", leave=False, disable=None) as progress:
            for batch in progress:
                optimizer.zero_grad(set_to_none=True)
                loss = batch_loss(accelerator, model, photos, batch, copy, recipe.accumulate, backward=True)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss is {loss} in epoch {epoch + 1}: lower the learning rate ({recipe.lr:g}); "
                        f"the best checkpoint so far is kept in {folder}",
                    )
                optimizer.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
                losses.append(loss)
                progress.set_postfix(loss=f"{loss:.3f}")
        validation_loss, spread = validate(accelerator, model, photos, validation, recipe)
        if not math.isfinite(validation_loss) or spread < COLLAPSED:
            raise TrainingError(
                f"after epoch {epoch + 1} all photos have the same vector (spread of their similarities {spread:.1e}): "
                f"lower the learning rate ({recipe.lr:g}); the best checkpoint so far is kept in {folder}",
            )
        scale = float(model.logit_scale.detach().exp())
        result = EpochResult(epoch + 1, float(np.mean(losses)), validation_loss, time.monotonic() - began, scale)
        history.append(result)
        if accelerator.is_main_process:
            if _best(history) == len(history) - 1:
                clip.save(folder / "checkpoint")
            state.save(model, optimizer, history)
            if on_epoch is not None:
                on_epoch(result)
        accelerator.wait_for_everyone()

    best = _best(history)
    reason = "patience" if len(history) < recipe.epochs else "epochs"
    return Training(folder / "checkpoint", tuple(history), history[best].epoch, reason, facts)


def precision(recipe: Recipe) -> str:
    """`bf16` where the hardware computes in it, else `no`."""
    if recipe.precision == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    return "bf16" if recipe.precision == "bf16" else "no"


def _select(examples: Sequence[Example], clip: Clip, recipe: Recipe) -> tuple[Photos, dict[str, Any]]:
    """Leave out, or count, what is too long."""
    photos = Photos(clip, examples, recipe)
    lengths = photos.lengths() if examples else []
    long = [length > TOKENS for length in lengths]
    facts: dict[str, Any] = {"truncated": sum(long), "dropped": 0}
    if recipe.long_legends == "drop" and any(long):
        photos = Photos(clip, [e for e, too_long in zip(examples, long, strict=True) if not too_long], recipe)
        facts = {"truncated": 0, "dropped": sum(long)}
    if len(photos.examples) < 4:  # noqa: PLR2004 - two to train on, two to validate
        raise TrainingError(f"{len(photos.examples)} photos with a legend are too few to train on: at least 4 are needed")
    return photos, facts


def epoch_batches(training: npt.NDArray[np.int64], recipe: Recipe, epoch: int) -> list[list[int]]:
    """The batches of an epoch, the same whatever ran before; a last one too small to contrast joins the one before."""
    order = np.random.default_rng([recipe.seed, epoch]).permutation(training).tolist()
    batches = [order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)]
    if len(batches) > 1 and len(batches[-1]) < 2:  # noqa: PLR2004
        batches[-2] += batches.pop()
    return batches


def batch_loss(
    accelerator: Accelerator,
    model: Any,
    photos: Photos,
    batch: Sequence[int],
    copy: int,
    parts: int = 1,
    *,
    backward: bool = False,
) -> float:
    """The loss of one batch over all processes; with `backward`, its gradients are left in the model.

    The batch is encoded in `parts`. The loss needs every pair of the batch, so with several parts (or processes) the
    vectors are made first without a graph, the loss is differentiated by the vectors, and each part is encoded again
    to carry that gradient into the weights (Gao et al. 2021, GradCache): the result is that of the whole batch.
    """
    mine = list(batch)[accelerator.process_index :: accelerator.num_processes]
    order = [i for rank in range(accelerator.num_processes) for i in list(batch)[rank :: accelerator.num_processes]]
    target = photos.targets(order).to(accelerator.device)
    cuts = [list(part) for part in np.array_split(np.array(mine), min(parts, len(mine))) if len(part)]
    if len(cuts) == 1 and accelerator.num_processes == 1:
        with torch.set_grad_enabled(backward):
            images, texts = encode(accelerator, model, photos, cuts[0], copy)
            loss = contrastive_loss(images, texts, model.logit_scale.exp(), target)
        if backward:
            accelerator.backward(loss)
        return float(loss.detach())
    with torch.no_grad():
        vectors = [encode(accelerator, model, photos, cut, copy) for cut in cuts]
    local = [torch.cat(side) for side in zip(*vectors, strict=True)]
    whole = [_gathered(accelerator, side, len(batch)).detach().requires_grad_(backward) for side in local]
    with torch.set_grad_enabled(backward):
        loss = contrastive_loss(whole[0], whole[1], model.logit_scale.exp(), target)
    if backward:
        accelerator.backward(loss)
        start = sum(len(list(batch)[rank :: accelerator.num_processes]) for rank in range(accelerator.process_index))
        for cut in cuts:
            again = encode(accelerator, model, photos, cut, copy)
            gradients = [side.grad[start : start + len(cut)] for side in whole if side.grad is not None]
            torch.autograd.backward(list(again), gradients)
            start += len(cut)
        _sum_gradients(accelerator, model)
    return float(loss.detach())


def encode(accelerator: Accelerator, model: Any, photos: Photos, indices: Sequence[int], copy: int) -> tuple[Tensor, Tensor]:
    """Unit vectors of photos and captions, float32 (n, d) each."""
    pixels = photos.pixels(indices, copy).to(accelerator.device)
    tokens = {name: value.to(accelerator.device) for name, value in photos.tokens(indices).items()}
    with accelerator.autocast():
        output = model(pixel_values=pixels, **tokens)
    return F.normalize(output.image_embeds.float(), dim=-1), F.normalize(output.text_embeds.float(), dim=-1)


def _gathered(accelerator: Accelerator, side: Tensor, total: int) -> Tensor:
    """The vectors of all processes, in the order of their ranks."""
    if accelerator.num_processes == 1:
        return side
    most = math.ceil(total / accelerator.num_processes)
    padded = F.pad(side, (0, 0, 0, most - len(side)))
    sizes = [len(range(rank, total, accelerator.num_processes)) for rank in range(accelerator.num_processes)]
    return torch.cat([part[:size] for part, size in zip(gather(padded).split(most), sizes, strict=True)])


def _sum_gradients(accelerator: Accelerator, model: Any) -> None:
    """Every process carried back its own share; the scale's gradient, which all have whole, is averaged."""
    if accelerator.num_processes == 1:
        return
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean" if name == "logit_scale" else "sum")


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    model: Any,
    photos: Photos,
    validation: npt.NDArray[np.int64],
    recipe: Recipe,
) -> tuple[float, float]:
    """Mean loss over fixed batches of the validation photos as they are, and the spread of their similarities."""
    model.eval()
    images, texts = [], []
    for start in range(0, len(validation), recipe.batch_size):
        indices = [int(i) for i in validation[start : start + recipe.batch_size]]
        made = encode(accelerator, model, photos, indices, -1)
        images.append(made[0])
        texts.append(made[1])
    model.train()
    total = 0.0
    for start, image, text in zip(range(0, len(validation), recipe.batch_size), images, texts, strict=True):
        indices = [int(i) for i in validation[start : start + recipe.batch_size]]
        target = photos.targets(indices).to(accelerator.device)
        total += float(contrastive_loss(image, text, model.logit_scale.exp(), target)) * len(indices)
    vectors = torch.cat(images)
    pairs = torch.triu_indices(len(vectors), len(vectors), 1)
    spread = float((vectors @ vectors.T)[pairs[0], pairs[1]].std()) if len(vectors) > 2 else 1.0  # noqa: PLR2004
    return total / len(validation), spread


def _best(history: Sequence[EpochResult]) -> int:
    return min(range(len(history)), key=lambda i: (history[i].validation_loss, i))


def _step_seconds(accelerator: Accelerator, model: Any, photos: Photos, batch: Sequence[int], recipe: Recipe) -> float:
    """Seconds that a step takes, from one that changes nothing."""
    small = list(batch)[:8]
    batch_loss(accelerator, model, photos, small, -1)
    began = time.monotonic()
    batch_loss(accelerator, model, photos, small, -1, backward=True)
    model.zero_grad(set_to_none=True)
    return (time.monotonic() - began) * min(recipe.batch_size, len(batch)) / len(small)


def _announcement(facts: dict[str, Any], recipe: Recipe, history: Sequence[EpochResult], step: float) -> str:
    left = recipe.epochs - len(history)
    minutes = step * facts["steps"] * left / 60
    resumed = f", going on after epoch {len(history)}" if history else ""
    cut = f"{facts['truncated']} captions cut at {TOKENS} tokens, {facts['dropped']} dropped"
    return (
        f"training on {facts['training']} photos, validating on {facts['validation']} ({cut}); "
        f"{facts['steps']} steps an epoch, at most {left} epochs{resumed}; device {facts['device']}, "
        f"augmentation {recipe.augmentation}; about {step * facts['steps']:.0f} s an epoch, at most {minutes:.0f} minutes"
    )


def _digest(model: Any) -> str:
    total = [(name, float(value.double().sum()), float(value.double().abs().sum())) for name, value in model.state_dict().items()]
    return digest_of(total)


def forget(folder: Path) -> None:
    """Delete what a killed training in `folder` would go on from; called once the result is safely recorded."""
    shutil.rmtree(folder / STATE, ignore_errors=True)


class _State:
    """What a killed training goes on from: weights and Adam's moments as safetensors, the rest as JSON, no pickle."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._state = folder / STATE
        self._pointer = self._state / "state.json"
        self._key = key

    def resume(self, model: Any, optimizer: torch.optim.Optimizer) -> list[EpochResult]:
        """Load the last whole state of the same training, if there is one."""
        try:
            pointer = json.loads(self._pointer.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            pointer = {}
        if pointer.get("key") != self._key:
            forget(self._folder)
            return []
        tensors = load_file(self._state / pointer["file"])
        model.load_state_dict({name[2:]: value for name, value in tensors.items() if name.startswith("m.")}, strict=False)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("o."):
                _, index, field = name.split(".", 2)
                moments.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return [EpochResult(**epoch) for epoch in pointer["history"]]

    def save(self, model: Any, optimizer: torch.optim.Optimizer, history: Sequence[EpochResult]) -> None:
        """Write the state of an epoch: the tensors first, then the pointer that makes them count."""
        self._state.mkdir(parents=True, exist_ok=True)
        tensors = {f"m.{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"o.{index}.{field}": torch.as_tensor(value).detach().cpu() for field, value in moments.items()}
        file = f"epoch-{len(history)}.safetensors"
        save_file(tensors, self._state / file)
        write_json(self._pointer, {"key": self._key, "file": file, "history": [asdict(epoch) for epoch in history]})
        for old in self._state.glob("epoch-*.safetensors"):
            if old.name != file:
                old.unlink()
        save_rows(self._folder / "history.csv", EpochResult, history)
