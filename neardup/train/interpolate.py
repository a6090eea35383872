"""Weights between those before training and those after it (WiSE-FT, Wortsman et al. 2022).

Where fine-tuning helps on some photos and harms on others, weights in between often do better than both ends. As the
start is among the choices, the kept weights find near-duplicates among the validation photos no worse than untrained.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from neardup.train.epochs import Share
from neardup.train.validation import SearchScore

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the way, 0 to 1, from the untrained weights to the best epoch's, that are tried."""
BEYOND = 1 + 1e-9
"""Standard errors that a gain must exceed: with one picture alone, gain and error are equal but for rounding."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy all weights to the CPU, by name."""
    return {name: weight.detach().cpu().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def interpolate(model: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> None:
    """Set a model's weights to `share` of the way from `start` to `end`; 0 and 1 give the ends to the last bit."""
    for name, weight in model.named_parameters():
        between = start[name] if share == 0 else end[name] if share == 1 else torch.lerp(start[name], end[name], share)
        weight.copy_(between)


def shares_of(start: SearchScore, end: SearchScore, measure: Callable[[float], SearchScore]) -> list[Share]:
    """Measure each of `SHARES`, reusing the known figures of both ends."""
    score_of = {share: measure(share) for share in SHARES}
    reported = {**score_of, 0.0: start, 1.0: end}
    errors = {share: score.gain_error(score_of[0.0]) if share else 0.0 for share, score in score_of.items()}
    return [Share(share, reported[share].ndcg, reported[share].micro_ap, errors[share]) for share in SHARES]


def best_share(shares: Sequence[Share]) -> Share:
    """Choose the share with the greatest nDCG, then with the greatest µAP, then the nearest to the start.

    A share other than the untrained weights is chosen only if its gain in nDCG exceeds the gain's standard error and
    µAP does not fall, because the best of four shares gains something by chance alone. If nDCG is the same for every
    picture, as when all are found first, a gain in µAP suffices.
    """
    start = next(line for line in shares if line.share == 0)
    better = [line for line in shares if gains(line, start)]
    return max([start, *better], key=lambda line: (line.validation_ndcg, line.validation_micro_ap, -line.share))


def gains(line: Share, start: Share) -> bool:
    """Whether near-duplicates are found better than at the start, by more than chance may and without loss of µAP."""
    gain, error = line.validation_ndcg - start.validation_ndcg, line.validation_ndcg_error
    more = line.validation_micro_ap - start.validation_micro_ap
    return (gain > error * BEYOND and more >= 0) or (gain == error == 0 and more > 0)
