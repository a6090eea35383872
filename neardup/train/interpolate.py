"""Weights between those before training and those after it (WiSE-FT, Wortsman et al. 2022).

Where fine-tuning helps on some photos and harms on others, weights on the way often do better than both ends. As the
start is among the choices, what is kept finds near-duplicates on the validation photos no worse than no training.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from neardup.train.epochs import Share
from neardup.train.validation import SearchScore

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the way, 0 to 1, from the untrained weights to those of the best epoch that are tried."""
BEYOND = 1 + 1e-9
"""Standard errors that a gain must exceed: that of one picture alone is its standard error but for rounding."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights by name, on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def interpolate(model: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> None:
    """Give a model weights that lie `share` of the way from `start` to `end`; 0 and 1 give those to the last bit."""
    for name, weight in model.named_parameters():
        between = start[name] if share == 0 else end[name] if share == 1 else torch.lerp(start[name], end[name], share)
        weight.copy_(between)


def shares_of(start: SearchScore, end: SearchScore, measure: Callable[[float], SearchScore]) -> list[Share]:
    """Measure each of `SHARES`; the figures of both ends are those that are known already."""
    score_of = {share: measure(share) for share in SHARES}
    reported = {**score_of, 0.0: start, 1.0: end}
    errors = {share: score.gain_error(score_of[0.0]) if share else 0.0 for share, score in score_of.items()}
    return [Share(share, reported[share].ndcg, reported[share].micro_ap, errors[share]) for share in SHARES]


def best_share(shares: Sequence[Share]) -> Share:
    """The share with the greatest nDCG, of equal ones that with the greatest µAP, then the one nearest to the start.

    Others than the untrained weights are taken only where their gain in nDCG exceeds its standard error and µAP does
    not fall: of four shares the best gains something by chance alone. Where nDCG is the same for every picture, which
    is so where all are found first, a gain in µAP will do.
    """
    start = next(line for line in shares if line.share == 0)
    better = [line for line in shares if gains(line, start)]
    return max([start, *better], key=lambda line: (line.validation_ndcg, line.validation_micro_ap, -line.share))


def gains(line: Share, start: Share) -> bool:
    """Whether near-duplicates are found better than at the start, by more than chance may and without loss of µAP."""
    gain, error = line.validation_ndcg - start.validation_ndcg, line.validation_ndcg_error
    more = line.validation_micro_ap - start.validation_micro_ap
    return (gain > error * BEYOND and more >= 0) or (gain == error == 0 and more > 0)
