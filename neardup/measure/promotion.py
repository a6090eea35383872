"""Decide whether a model replaces another: only if it is better beyond chance and not worse than no training."""

from dataclasses import dataclass

from neardup.errors import ConfigError
from neardup.measure.comparison import compare
from neardup.measure.evaluate import Evaluation, Figure
from neardup.measure.metrics import METRICS

MARGIN = 0.005
"""Least gain for a promotion, half a point: less is not worth changing every vector and threshold."""


@dataclass(frozen=True)
class Promotion:
    """Whether a challenger replaces the champion, and why.

    Attributes:
        promoted: whether the challenger becomes champion.
        metric: the metric that was compared.
        gain: challenger minus champion, with its paired 95 % interval.
        over_zero_shot: challenger minus zero-shot, with its paired 95 % interval.
        paragraph: the reasons, for people.
    """

    promoted: bool
    metric: str
    gain: Figure
    over_zero_shot: Figure
    paragraph: str


def decide_promotion(
    challenger: Evaluation, champion: Evaluation, zero_shot: Evaluation, *, metric: str = "ndcg", margin: float = MARGIN
) -> Promotion:
    """Decide whether the challenger replaces the champion.

    It does if the metric gains at least `margin`, the paired 95 % interval over groups lies above 0, and the
    challenger is not worse than zero-shot.

    Args:
        challenger: the model that may become champion; all three must have been measured on the same test set.
        champion: the model in use; may be zero-shot itself.
        zero_shot: the encoder that the challenger was trained from.
        metric: one of `neardup.measure.metrics.METRICS` that a promotion may go by.
        margin: 0 to 1; 0.005 is half a point.

    Raises:
        ConfigError: the margin is outside of 0 to 1.
        ArchiveError: the models were measured on different test sets.
    """
    if not 0 <= margin <= 1:
        raise ConfigError(f"the margin is {margin}, expected 0 to 1: 0.005 is half a point")
    gain = _gain(challenger, champion, metric)
    over_zero_shot = _gain(challenger, zero_shot, metric)
    reasons = _objections(gain, over_zero_shot, margin)
    measured = (
        f"{METRICS[metric].title} of the challenger ({challenger.approach}) is {_share(challenger, metric)}, "
        f"of the champion ({champion.approach}) {_share(champion, metric)}, of zero-shot {_share(zero_shot, metric)}, "
        f"on the same {len(challenger.names)} photos."
    )
    sentences = [
        measured,
        f"The gain over the champion is {points(gain)}; over zero-shot it is {points(over_zero_shot)}.",
        f"Refused, for {' and '.join(reasons)}."
        if reasons
        else f"Promoted: the gain is at least {100 * margin:g} points and its interval lies above 0.",
    ]
    return Promotion(not reasons, metric, gain, over_zero_shot, " ".join(sentences))


def _objections(gain: Figure, over_zero_shot: Figure, margin: float) -> list[str]:
    """List the reasons against a promotion; none if the challenger is to be promoted."""
    if gain.value is None or over_zero_shot.value is None:
        return ["the metric is not defined on this test set"]
    reasons = []
    if gain.value < margin:
        reasons.append(f"the gain is below the margin of {100 * margin:g} points")
    if gain.high is not None and gain.high < 0:
        reasons.append("the interval of the gain lies below 0, so that it is worse beyond chance")
    elif gain.low is None or gain.low <= 0:
        reasons.append("the interval of the gain holds 0, so that chance may explain it")
    if over_zero_shot.value < 0:
        reasons.append("it is worse than zero-shot")
    return reasons


def _gain(model: Evaluation, reference: Evaluation, metric: str) -> Figure:
    """Compute a model's metric minus a reference's, with its paired 95 % interval."""
    return compare([reference, model]).differences[metric][model.approach]


def _share(evaluation: Evaluation, metric: str) -> str:
    """Write a metric of 0 to 1 as a percentage, for people."""
    value = evaluation.metrics[metric].value
    return "undefined" if value is None else f"{100 * value:.2f} %"


def points(gain: Figure) -> str:
    """Write a gain with its interval, for people: `+0.63 points (95 % interval +0.10 to +1.22)`."""
    if gain.value is None:
        return "undefined"
    interval = (
        ""
        if gain.low is None or gain.high is None
        else f" (95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    )
    return f"{100 * gain.value:+.2f} points{interval}"
