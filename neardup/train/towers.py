"""The two towers of a CLIP, each cut above its frozen layers, so that what those give need not be computed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask


@dataclass(frozen=True)
class Tower:
    """One tower in two halves, `below` and `above`; one after the other they give what the whole gives.

    Attributes:
        start: turns inputs into the states of the first layer.
        lower: the frozen layers.
        upper: the layers above the frozen ones.
        norm: the layer norm before the projection.
        projection: maps into the space that images and texts share.
        config: the configuration of this tower, as transformers has it.
        causal: whether a state sees only those before it; the last one then stands for the input, else the first.
    """

    start: nn.Module
    lower: Sequence[nn.Module]
    upper: Sequence[nn.Module]
    norm: nn.Module
    projection: nn.Module
    config: Any
    causal: bool

    def freeze(self) -> None:
        """Freeze the weights of the lower half."""
        for part in (self.start, *self.lower):
            part.requires_grad_(requires_grad=False)

    def freeze_all(self) -> None:
        """Freeze all weights of the tower."""
        for part in (self.start, *self.lower, *self.upper, self.norm, self.projection):
            part.requires_grad_(requires_grad=False)

    @property
    def frozen(self) -> bool:
        """Whether `below` gives the same for the same input as long as training lasts."""
        return not any(weight.requires_grad for part in (self.start, *self.lower) for weight in part.parameters())

    def below(self, inputs: Tensor) -> Tensor:
        """States below the first layer that learns.

        Args:
            inputs: pixels, float32 (n, 3, height, width), normalised; or tokens, int64 (n, length), none of which is
                padding where layers are frozen.

        Returns:
            (n, length, width).
        """
        return self._through(self.lower, self.start(inputs), None)

    @torch.no_grad()
    def states_of(self, one: Tensor) -> Tensor:
        """States of a single input, (1, …), for the cache: (length, width), or (1, width) where no layer is above.

        An input alone gives the same to the last bit whenever it is computed, so that a resumed run agrees.
        """
        states = self.below(one)[0]
        if self.upper:
            return states
        return states[-1:] if self.causal else states[:1]

    def above(self, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors of some inputs.

        Args:
            states: (n, length, width) of `below`, or of `states_of`, padded at their ends.
            lengths: int64 (n,), how much of `length` each text has; None for photos.

        Returns:
            (n, d), not normalised.
        """
        states = self._through(self.upper, states, lengths)
        last = states[:, 0] if lengths is None else states[torch.arange(len(states)), lengths - 1]
        projected: Tensor = self.projection(self.norm(last))
        return projected

    def _through(self, layers: Sequence[nn.Module], states: Tensor, lengths: Tensor | None) -> Tensor:
        """States above some layers of those below them: (n, length, width) both."""
        mask = self._mask(states, lengths) if self.causal and layers else None
        for layer in layers:
            states = layer(states, mask, is_causal=self.causal)
        return states

    def _mask(self, states: Tensor, lengths: Tensor | None) -> Tensor | None:
        """The attention mask, as CLIPTextModel makes it: of padding, and of what comes later."""
        places = torch.arange(states.shape[1], device=states.device)
        inside = None if lengths is None else (places < lengths[:, None]).long()
        mask: Any = create_causal_mask(
            config=self.config, inputs_embeds=states, attention_mask=inside, past_key_values=None
        )
        return mask  # type: ignore[no-any-return]


def vision_tower(model: Any, frozen_layers: int) -> Tower:
    """The vision tower of a CLIPModel, cut above its first `frozen_layers` layers."""
    tower, layers = model.vision_model, model.vision_model.encoder.layers
    start = nn.Sequential(tower.embeddings, tower.pre_layrnorm)
    lower, upper = layers[:frozen_layers], layers[frozen_layers:]
    return Tower(start, lower, upper, tower.post_layernorm, model.visual_projection, tower.config, causal=False)


def text_tower(model: Any, frozen_layers: int) -> Tower:
    """The text tower of a CLIPModel, cut above its first `frozen_layers` layers."""
    tower, layers = model.text_model, model.text_model.encoder.layers
    lower, upper = layers[:frozen_layers], layers[frozen_layers:]
    return Tower(
        tower.embeddings, lower, upper, tower.final_layer_norm, model.text_projection, tower.config, causal=True
    )
