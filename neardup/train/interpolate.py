"""Weights between those before training and those after it (WiSE-FT, Wortsman et al. 2022).

Where fine-tuning helps on some photos and harms on others, weights on the way often do better than both ends. As the
start is among the choices, what is kept finds near-duplicates on the validation photos no worse than no training; and
as luck is no learning, other weights must do so by more than chance explains.
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


def shares_of(start: Found | None, end: Found | None, measure: Callable[[float], Found]) -> list[Share]:
    """Measure each of `SHARES`, of which the ends may be known already: that of no training and the whole way."""
    known = {share: found for share, found in ((0.0, start), (1.0, end)) if found is not None}
    measured = {share: known[share] if share in known else measure(share) for share in SHARES}
    before = measured[0.0]
    return [
        Share(share, found.ndcg, found.micro_ap, *(found.gain_errors(before) if share else (0.0, 0.0)))
        for share, found in measured.items()
    ]


def best_share(shares: Sequence[Share]) -> Share:
    """The share with the greatest nDCG among those that are better than share 0 beyond chance; else share 0.

    Better means that nDCG rises by more than the standard error of the rise, and that µAP does not fall by more than
    that of the fall: without the first, the greatest of five draws of the same luck is taken for learning. Of equal
    ones it is that with the greatest µAP, then the one nearest to the start.
    """
    start = shares[0]
    better = [line for line in shares[1:] if _rise(line, start) > line.ndcg_error and not _harms(line, start)]
    return max(better, key=lambda line: (line.validation_ndcg, line.validation_micro_ap, -line.share), default=start)


def untrained_because(shares: Sequence[Share]) -> str:
    """Why share 0 is kept, in words; empty where another one is, or none was measured."""
    if not shares or best_share(shares).share:
        return ""
    start = shares[0]
    best = max(shares[1:], key=lambda line: line.validation_ndcg)
    if _rise(best, start) <= 0:
        return "the training is not used, for no weights on the way find the validation photos better"
    beyond = [line for line in shares[1:] if _rise(line, start) > line.ndcg_error]
    if not beyond:
        return (
            f"the training is not used, for the greatest rise of nDCG, {100 * _rise(best, start):.2f} at "
            f"{best.share:.0%} of the way, is within its standard error of {100 * best.ndcg_error:.2f}"
        )
    harm = max(beyond, key=lambda line: line.validation_ndcg)
    fall = 100 * (start.validation_micro_ap - harm.validation_micro_ap)
    return (
        "the training is not used, for where nDCG rises by more than its standard error, at "
        f"{harm.share:.0%} of the way, µAP falls by {fall:.2f}, more than its own of {100 * harm.micro_ap_error:.2f}"
    )


def _rise(line: Share, start: Share) -> float:
    """What the nDCG of a share is above that of share 0."""
    return line.validation_ndcg - start.validation_ndcg


def _harms(line: Share, start: Share) -> bool:
    """Whether the µAP of a share lies below that of share 0 by more than the standard error."""
    return start.validation_micro_ap - line.validation_micro_ap > line.micro_ap_error
