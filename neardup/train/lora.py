"""Low-rank updates of layers (LoRA, Hu et al. 2021): few numbers are trained, and the result is a plain model."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The linear layers of attention by the names that CLIP gives them, in the order in which their updates are drawn."""
ATTENTION = ("self_attn", "attention", "attn")
"""Names of a layer's attention in transformers and timm."""


class LowRank(nn.Module):
    """A frozen linear layer, or convolution of one pixel, plus an update of low rank, which is zero at first."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, draws: torch.Generator) -> None:
        """Wrap a layer; the update's first factor is random, the second zero."""
        super().__init__()
        self.layer = layer
        width_out, width_in = layer.weight.shape[:2]
        self.down = nn.Parameter((torch.randn(rank, width_in, generator=draws) / width_in**0.5).to(layer.weight))
        self.up = nn.Parameter(layer.weight.new_zeros(width_out, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output plus that of the update: (…, in) → (…, out), or (n, in, …) → (n, out, …)."""
        result: Tensor = self.layer(inputs)
        if isinstance(self.layer, nn.Linear):
            return result + inputs @ self.down.T @ self.up.T
        return result + functional.conv2d(functional.conv2d(inputs, _pixel(self.down)), _pixel(self.up))

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The layer with its update in its weights, which are changed in place."""
        self.layer.weight += (self.up @ self.down).view_as(self.layer.weight)
        return self.layer


def _pixel(weight: Tensor) -> Tensor:
    """The weights of a linear layer, (out, in), as those of a convolution of one pixel, (out, in, 1, 1)."""
    return weight[:, :, None, None]


def add_low_rank(layer: Any, rank: int, draws: torch.Generator) -> None:
    """Give updates to the attention of a layer, or else to all its linear layers and convolutions of one pixel."""
    part = next((getattr(layer, name) for name in ATTENTION if hasattr(layer, name)), layer)
    names = [name for name, module in part.named_modules() if _is_linear(module)]
    for name in sorted(names, key=lambda name: PROJECTIONS.index(name) if name in PROJECTIONS else len(PROJECTIONS)):
        parent, _, child = name.rpartition(".")
        setattr(part.get_submodule(parent), child, LowRank(part.get_submodule(name), rank, draws))


def _is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies each state, or each pixel, by one matrix."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == module.stride == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def merged(model: Any) -> Any:
    """A copy of a model with its updates in its weights; the model itself where it has none."""
    if not any(isinstance(module, LowRank) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LowRank):
            parent, _, child = name.rpartition(".")
            setattr(plain.get_submodule(parent), child, module.merged())
    return plain
