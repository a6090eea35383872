"""Fine-tuning steps of a ViT-B/32 CLIP with random weights: the usual notebook's loop and neardup's ways."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rates import Measured, measured
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from neardup.builtin import tiny
from neardup.encode.encoder import Clip, cpu_has_bf16
from neardup.settings.schema import Recipe
from neardup.train.batches import PLAIN, Captions, Example
from neardup.train.learner import Learner

BATCH = 32
"""Photos and captions in a step."""
TOKENS = 77
"""Tokens that a caption may have, and that the tutorials pad each to."""
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("neardup, all weights", {}),
    ("neardup, all weights, compiled", {"compiled": True}),
    *((("neardup, all weights, bf16", {"precision": "bf16"}),) if cpu_has_bf16() else ()),
    ("neardup, text tower frozen", {"frozen_text": True}),
    ("neardup, 6 of 12 layers frozen", {"frozen_layers": 6}),
    ("neardup, 10 of 12 layers frozen", {"frozen_layers": 10}),
    ("neardup, LoRA of rank 8", {"lora_rank": 8}),
)
"""Ways to train, and what each changes in the recipe."""
WORDS = (2.73, 0.7)
"""Mean and deviation of the logarithm of a caption's tokens: a median of 15, and a long tail.

Of the press archive that neardup was made for, 56 % of the legends have under 77 characters, some 17 tokens.
"""


def measure_training(photos: Path, _work: Path) -> list[Measured]:
    """One step of 32 photos and captions by one thread, after one that also fills what is kept between epochs.

    The plain loop and those of all weights learn the same: their notes say the loss of the last step, the fourth.
    """
    files = training_files(photos)
    task = f"a step of {BATCH} photos and captions, ViT-B/32, one thread"
    plain = measured(task, "transformers, Adam, captions padded to 77", "photos", BATCH, by_notebook, files)
    ours = [measured(task, name, "photos", BATCH, by_neardup, files, changes) for name, changes in WAYS]
    return [plain, *ours]


def training_files(photos: Path) -> list[Path]:
    """The photos of a step."""
    return list(islice(cycle(sorted(photos.rglob("*.jpg"))), BATCH))


def by_notebook(files: Sequence[Path]) -> Callable[[], object]:
    """The loop of the tutorials: everything learns, the captions have the model's full length."""
    clip = _clip()
    texts = clip.tokenizer(_captions(), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    pixels = clip.image_processor([Image.open(file).convert("RGB") for file in files], return_tensors="pt")
    optimizer = torch.optim.Adam(clip.model.parameters(), lr=Recipe.lr, weight_decay=Recipe.weight_decay)

    def step() -> str:
        optimizer.zero_grad()
        output = clip.model(**texts, **pixels)
        own = torch.arange(BATCH)
        loss = (
            functional.cross_entropy(output.logits_per_image, own)
            + functional.cross_entropy(output.logits_per_text, own)
        ) / 2
        torch.autograd.backward(loss)
        optimizer.step()
        return f"loss {loss.item():.5f}"

    return step


def by_neardup(files: Sequence[Path], changes: dict[str, Any], device: str = "cpu") -> Callable[[], object]:
    """A step of `train` by a recipe with some changes."""
    clip, captions = _clip(), _captions()
    examples = [
        Example(file, sha256(file.read_bytes()).hexdigest(), caption, "")
        for file, caption in zip(files, captions, strict=True)
    ]
    recipe = Recipe(batch_size=BATCH, **changes)
    learner = Learner(examples, clip, Captions(clip.tokenizer, captions, TOKENS), recipe, device)
    optimizer = learner.optimizer()

    def step() -> str:
        for batch, photos in learner.load([range(BATCH)], PLAIN):
            optimizer.zero_grad()
            loss = learner.backward(batch, photos)
            optimizer.step()
        return f"loss {loss:.5f}"

    return step


def _clip() -> Clip:
    """A ViT-B/32 CLIP with random weights and the tokenizer of `builtin:tiny`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = tiny.tokenizer()
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = CLIPModel(CLIPConfig(text_config=ids)).eval()
    return Clip("random", model, tokenizer, CLIPImageProcessor())


def _captions() -> list[str]:
    """Captions of as many tokens as those of a press archive have."""
    draws = np.random.default_rng(0)
    lengths = np.exp(draws.normal(*WORDS, BATCH)).astype(int)
    return [f"{number}" + " war" * length for number, length in enumerate(lengths)]
