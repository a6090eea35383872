"""Low-rank updates of attention (LoRA, Hu et al. 2021): few numbers learn, and a plain CLIP comes out."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The linear layers of attention that get an update, by the names that transformers gives them."""


class LowRank(nn.Module):
    """A frozen linear layer plus an update of low rank, which is zero at first."""

    def __init__(self, linear: nn.Linear, rank: int, draws: torch.Generator) -> None:
        """Take the layer's place; the first factor is drawn, the second is zero."""
        super().__init__()
        self.linear = linear
        down = torch.randn(rank, linear.in_features, generator=draws) / linear.in_features**0.5
        self.down = nn.Parameter(down.to(linear.weight))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output plus that of the update: (…, in) → (…, out)."""
        result: Tensor = self.linear(inputs) + inputs @ self.down.T @ self.up.T
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer with its update in its weights, which are changed in place."""
        self.linear.weight += self.up @ self.down
        return self.linear


def add_low_rank(layer: Any, rank: int, draws: torch.Generator) -> None:
    """Give the attention of a CLIP layer updates that learn."""
    for name in PROJECTIONS:
        setattr(layer.self_attn, name, LowRank(getattr(layer.self_attn, name), rank, draws))


def merged(model: Any) -> Any:
    """A copy of a CLIP with its updates in its weights; the model itself where it has none."""
    if not any(isinstance(module, LowRank) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for attention in [module for module in plain.modules() if hasattr(module, "out_proj")]:
        for name in PROJECTIONS:
            if isinstance(update := getattr(attention, name), LowRank):
                setattr(attention, name, update.merged())
    return plain
