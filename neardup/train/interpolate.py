"""Weights between those before training and those after it (WiSE-FT, Wortsman et al. 2022).

Where fine-tuning helps on some photos and harms on others, weights on the way often do better than both ends. As the
start is among the choices, what is kept finds near-duplicates on the validation photos no worse than no training.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from neardup.train.epochs import Share
from neardup.train.validation import Found

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the start to the kept epoch that are tried."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights by name, on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def interpolate(model: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> None:
    """Give a model weights that lie `share` of the way from `start` to `end`; 0 and 1 give those to the last bit."""
    for name, weight in model.named_parameters():
        between = start[name] if share == 0 else end[name] if share == 1 else torch.lerp(start[name], end[name], share)
        weight.copy_(between)


def shares_of(start: Found, end: Found, measure: Callable[[float], Found]) -> list[Share]:
    """Measure each of `SHARES`, of which both ends are known already."""
    found = {0.0: start, 1.0: end}
    lines = [(share, found[share] if share in found else measure(share)) for share in SHARES]
    return [Share(share, at.ndcg, at.micro_ap) for share, at in lines]


def best_share(shares: Sequence[Share]) -> Share:
    """The share with the greatest nDCG, of equal ones that with the greatest µAP, then the one nearest to the start."""
    return max(shares, key=lambda line: (line.validation_ndcg, line.validation_micro_ap, -line.share))
