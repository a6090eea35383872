"""Train the text tower of the shipped encoder on the captions of drawn scenes, with a frozen vision tower.

The vision tower's knowledge of copies is thus unchanged (LiT, Zhai et al. 2022).
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from neardup.builtin import tiny
from neardup.builtin.pool import Scenes
from neardup.builtin.recipes import Pretraining
from neardup.progress import bar
from neardup.train.losses import contrastive_loss, legend_targets

LARGEST_SCALE = 4.6052
"""Greatest natural logarithm of the factor of similarities of images and texts: ln 100, as in CLIP."""


@lru_cache
def _tokenizer() -> Any:
    """The shipped tokenizer, made once: each step reads captions."""
    return tiny.tokenizer()


def read_captions(model: Any, captions: list[str]) -> Tensor:
    """Vectors of captions: float32 (n, 256), unit rows."""
    tokenizer = _tokenizer()
    ids = [torch.tensor(tokens) for tokens in tokenizer(captions)["input_ids"]]
    padded = pad_sequence(ids, batch_first=True, padding_value=1).to(model.device)
    mask = pad_sequence([torch.ones_like(tokens) for tokens in ids], batch_first=True).to(model.device)
    texts: Tensor = model.get_text_features(input_ids=padded, attention_mask=mask).pooler_output
    return functional.normalize(texts.float(), dim=-1)


def learn_captions(model: Any, scenes: Scenes, vectors: Tensor, recipe: Pretraining) -> float:
    """Train the text tower by CLIP's loss on scenes with a caption each, in a language by chance.

    Args:
        model: the dual encoder; its text tower, text projection and temperature learn.
        scenes: with their captions.
        vectors: of the scenes, float32 (n, 256), unit rows.
        recipe: steps of AdamW, whose learning rate falls to 0 in a straight line, scenes of a step, and the seed that
            draws scenes and languages.

    Returns:
        The loss of the last step.
    """
    learning = [*model.text_model.parameters(), model.text_projection.weight, model.logit_scale]
    optimizer = torch.optim.AdamW(learning, lr=recipe.text_lr, weight_decay=0.01)
    loss = torch.zeros(())
    for step in bar(range(recipe.text_steps), "captions", recipe.text_steps, unit="step", leave=False, disable=None):
        rng = Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randperm(len(vectors), generator=rng)[: recipe.text_batch].tolist()
        languages = torch.randint(len(scenes.captions[0]), (len(rows),), generator=rng).tolist()
        captions = [scenes.captions[row][language] for row, language in zip(rows, languages, strict=True)]
        numbers: dict[str, int] = {}
        legends = torch.tensor([numbers.setdefault(caption, len(numbers)) for caption in captions])
        targets = legend_targets(legends.to(model.device), shared=True)
        loss = contrastive_loss(vectors[rows], read_captions(model, captions), model.logit_scale, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = recipe.text_lr * (1 - step / recipe.text_steps)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=LARGEST_SCALE)
    return float(loss.detach())


@torch.inference_mode()
def caption_top_1(model: Any, scenes: Scenes, vectors: Tensor) -> float:
    """Share of some scenes whose own French caption, or one equal to it, is the nearest of all."""
    captions = [languages[0] for languages in scenes.captions]
    nearest: list[int] = (vectors @ read_captions(model, captions).T).argmax(dim=1).tolist()
    return sum(captions[i] == captions[k] for i, k in enumerate(nearest)) / len(captions)
