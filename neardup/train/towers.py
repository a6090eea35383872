"""The towers of a model, each divided above its frozen layers, whose outputs can then be cached."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from neardup.encode.graph import Exported
from neardup.encode.kinds import kind_of
from neardup.encode.torchscript import Script
from neardup.errors import TrainingError
from neardup.settings.schema import Recipe
from neardup.train.lora import add_low_rank

ALL = sys.maxsize
"""Number of frozen layers, greater than any tower's, that freezes all."""
BERTS = frozenset({"bert", "camembert", "roberta", "xlm-roberta"})
"""`model_type` of text models that are built as BERT is."""
Reads = Literal["first", "end", "last", "all"]
"""Which states of the last layer represent an input: see the attribute `reads` of `Tower`."""
PLACES: Mapping[Reads, slice] = MappingProxyType(
    {"first": slice(1), "end": slice(-1, None), "last": slice(-1, None), "all": slice(None)}
)
"""Which states of the last layer represent an input → their slice of a single input's states."""


@dataclass(frozen=True)
class Tower:
    """One tower in two halves, `below` and `above`, which together compute what the whole tower does.

    Attributes:
        start: module from inputs to the states of the first layer: one per token or patch, or the channels of a map.
        lower: the frozen layers.
        upper: the layers above the frozen ones.
        reads: which states stand for the input above the last layer: the `first`; that at the `end` of a text, be it
            padded; the `last`, padding or not; or `all`.
        head: module from these states to what is projected.
        projection: module into the space that images and texts share.
        config: the configuration of the tower, as transformers has it; None where a layer takes states alone.
        mask: function that makes the attention mask of padded inputs, as transformers does; None where nothing is
            masked.
        causal: whether a state sees only those before it.
    """

    start: nn.Module
    lower: Sequence[nn.Module]
    upper: Sequence[nn.Module]
    reads: Reads
    head: nn.Module
    projection: nn.Module
    config: Any = None
    mask: Callable[..., Tensor | None] | None = None
    causal: bool = False

    def freeze(self) -> None:
        """Freeze the weights of the lower half."""
        for part in (self.start, *self.lower):
            part.requires_grad_(requires_grad=False)

    def freeze_all(self) -> None:
        """Freeze all weights of the tower."""
        for part in (self.start, *self.lower, *self.upper, self.head, self.projection):
            part.requires_grad_(requires_grad=False)

    @property
    def frozen(self) -> bool:
        """Whether `below` gives equal outputs for equal inputs throughout training."""
        return not any(weight.requires_grad for part in (self.start, *self.lower) for weight in part.parameters())

    def below(self, inputs: Tensor) -> Tensor:
        """Compute the states below the first layer that is trained.

        Args:
            inputs: pixels, float32 (n, 3, height, width), normalised; or tokens, int64 (n, length), none of which is
                padding where layers are frozen.

        Returns:
            (n, length, width); of a convolutional network (n, channels, height, width).
        """
        return self._through(self.lower, self.start(inputs), None)

    @torch.no_grad()
    def states_of(self, single: Tensor) -> Tensor:
        """States of a single input, (1, …), for the cache: those of `below`, or only those that `above` reads.

        A single input gives the same to the last bit whenever it is computed, so that a resumed run agrees.
        """
        states = self.below(single)[0]
        return states if self.upper else states[PLACES[self.reads]]

    def above(self, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute vectors of inputs.

        Args:
            states: (n, …) of `below`, or of `states_of`, padded at their ends.
            lengths: int64 (n,), how much of `length` each text has; None for photos.

        Returns:
            (n, d), not normalised.
        """
        states = self._through(self.upper, states, lengths)
        if self.reads == "end":
            assert lengths is not None, "a text has a length"  # noqa: S101 - our own mistake only
            states = states[torch.arange(len(states)), lengths - 1]
        elif self.reads != "all":
            states = states[:, 0 if self.reads == "first" else -1]
        projected: Tensor = self.projection(self.head(states))
        return projected

    def _through(self, layers: Sequence[nn.Module], states: Tensor, lengths: Tensor | None) -> Tensor:
        """Pass states through layers; shapes stay the same except in convolutional networks."""
        mask = self._padding_mask(states, lengths) if self.mask and layers else None
        for layer in layers:
            states = layer(states) if self.config is None else layer(states, mask, is_causal=self.causal)
        return states

    def _padding_mask(self, states: Tensor, lengths: Tensor | None) -> Tensor | None:
        """The attention mask, as the text model of transformers makes it: of padding, and of what comes later."""
        assert self.mask, "there is something to mask"  # noqa: S101 - our own mistake only
        places = torch.arange(states.shape[1], device=states.device)
        inside = None if lengths is None else (places < lengths[:, None]).long()
        return self.mask(config=self.config, inputs_embeds=states, attention_mask=inside)


def towers_of(model: Any, recipe: Recipe, *, reads: bool = True) -> tuple[Tower, Tower | None]:
    """The vision and the text tower of a model, with weights frozen and low-rank updates added as the recipe says.

    Args:
        model: a model of a kind that `load_trainable` returns.
        recipe: every setting.
        reads: whether the text tower is wanted.

    Raises:
        TrainingError: the recipe asks for layers that this model does not have.
    """
    layers = recipe.frozen_layers
    vision = vision_tower(model, layers)
    text = text_tower(model, ALL if recipe.frozen_text else layers) if reads else None
    towers = [tower for tower in (vision, text) if tower]
    if recipe.lora_rank:
        if not (vision.lower or vision.upper):
            raise TrainingError("lora_rank updates layers, and neardup knows none of this encoder's: leave it at 0")
        if not any(tower.upper for tower in towers):
            raise TrainingError("lora_rank updates the layers that are not frozen, and frozen_layers leaves none")
        draws = torch.Generator().manual_seed(recipe.seed)
        for tower in towers:
            tower.freeze_all()
            for layer in tower.upper:
                add_low_rank(layer, recipe.lora_rank, draws)
    if recipe.frozen_text and text:
        text.freeze_all()
    if layers:
        for tower in towers:
            tower.freeze()
    return vision, text


def width_of(model: Any) -> int:
    """How many numbers the vectors of a model have, be they of images or of texts."""
    return kind_of(model).dimension_of(model)


def logit_scale_of(model: Any) -> nn.Parameter | None:
    """Return a model's logit scale, a logarithm; None for a model that reads no text."""
    return getattr(model, "logit_scale", None)


def vision_tower(model: Any, frozen_layers: int) -> Tower:
    """The vision tower of a model that `load_trainable` gives, cut above its first `frozen_layers` layers.

    The layers of a transformer are its blocks of attention, those of timm's EfficientNets the blocks of all stages,
    from the stem. Other networks' layers are unknown, so that they are trained as a whole.

    Raises:
        TrainingError: layers are to be frozen and none are known, or nothing in the model can learn.
    """
    if isinstance(model, Script):
        if not any(weight.requires_grad for weight in model.parameters()):
            raise TrainingError("this TorchScript file holds no weights that can learn: train another encoder")
        return _whole(model, nn.Identity(), frozen_layers, "a TorchScript file")
    tower, projection = getattr(model, "vision_model", model), getattr(model, "visual_projection", nn.Identity())
    kind = tower.config.model_type
    reads: Reads = "first"
    if kind == "timm_wrapper":
        return _timm_tower(tower, projection, frozen_layers)
    if kind == "clip_vision_model":
        start: nn.Module = nn.Sequential(tower.embeddings, tower.pre_layrnorm)
        layers, head = tower.encoder.layers, tower.post_layernorm
    elif kind == "siglip_vision_model":
        start, layers, reads = tower.embeddings, tower.encoder.layers, "all"
        head = nn.Sequential(tower.post_layernorm, tower.head)
    elif kind == "vit":
        start, layers = tower.embeddings, tower.layers
        head = nn.Sequential(tower.layernorm, *_dense(tower.pooler))
    elif kind in {"dinov2", "dinov2_with_registers"}:
        start, layers, head = tower.embeddings, tower.encoder.layer, tower.layernorm
    else:
        encoder = kind_of(model)
        sees = Exported(encoder.vision_of(model), encoder.vectors_of)
        return _whole(sees, nn.Identity(), frozen_layers, f"a {kind}")
    return Tower(start, layers[:frozen_layers], layers[frozen_layers:], reads, head, projection, tower.config)


def _timm_tower(wrapper: Any, projection: nn.Module, frozen_layers: int) -> Tower:
    """The tower of a `TimmWrapperModel`."""
    from timm.models.efficientnet import EfficientNet  # noqa: PLC0415 - loaded with the model, and takes a second

    model = wrapper.timm_model
    if not isinstance(model, EfficientNet):
        return _whole(model, projection, frozen_layers, wrapper.config.architecture)
    stages: Any = model.blocks
    blocks = [block for stage in stages for block in stage]
    start = nn.Sequential(model.conv_stem, model.bn1)
    head = nn.Sequential(model.conv_head, model.bn2, model.global_pool)
    return Tower(start, blocks[:frozen_layers], blocks[frozen_layers:], "all", head, projection)


def _whole(model: nn.Module, projection: nn.Module, frozen_layers: int, name: str) -> Tower:
    """A tower without layers: the whole network is its start, and gives the vectors that are projected."""
    if frozen_layers:
        raise TrainingError(f"frozen_layers is {frozen_layers}, and neardup knows no layers of {name}: leave it at 0")
    return Tower(model, (), (), "all", nn.Identity(), projection)


def text_tower(model: Any, frozen_layers: int) -> Tower | None:
    """The text tower of a model, cut above its first `frozen_layers` layers; None where it reads no text.

    Raises:
        TrainingError: the kind of its text model is unknown.
    """
    tower = getattr(model, "text_model", None)
    if tower is None:
        return None
    projection, kind = getattr(model, "text_projection", nn.Identity()), tower.config.model_type
    start, causal = tower.embeddings, False
    reads: Reads
    mask: Any = None
    if kind == "clip_text_model":
        layers, reads, head = tower.encoder.layers, "end", tower.final_layer_norm
        mask, causal = partial(create_causal_mask, past_key_values=None), True
    elif kind == "siglip_text_model":
        start, layers = FullLength(tower), tower.encoder.layers
        reads, head = "last", nn.Sequential(tower.final_layer_norm, tower.head)
    elif kind in BERTS:
        layers, reads, head = tower.encoder.layer, "first", nn.Sequential(*_dense(tower.pooler))
        mask = create_bidirectional_mask
    else:
        raise TrainingError(f"a {kind} reads in this model, which neardup cannot train: train another encoder")
    lower, upper = layers[:frozen_layers], layers[frozen_layers:]
    return Tower(start, lower, upper, reads, head, projection, tower.config, mask, causal)


def _dense(pooler: Any) -> list[nn.Module]:
    """The pooler of a ViT or a BERT as layers that take the first state alone; none where there is none."""
    return [pooler.dense, pooler.activation] if pooler else []


class FullLength(nn.Module):
    """The embeddings of a SigLIP's texts: it attends to padding as to words, and always to as many tokens in all."""

    def __init__(self, tower: Any) -> None:
        """Take those of a `SiglipTextModel`."""
        super().__init__()
        self.embeddings, self.config = tower.embeddings, tower.config

    def forward(self, tokens: Tensor) -> Tensor:
        """States, (n, all, width), of tokens, int64 (n, length)."""
        missing = self.config.max_position_embeddings - tokens.shape[1]
        states: Tensor = self.embeddings(nn.functional.pad(tokens, (0, missing), value=self.config.pad_token_id))
        return states
