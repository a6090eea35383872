"""Refit a decision with verdicts: two numbers move each regression, a random draw of links moves the promise.

The pairs that a decision rests on are not available for a shipped one, and otherwise outnumber any evening's verdicts.
The decision itself therefore serves as the prior: its log-odds are shifted and stretched (Platt 1999) by verdicts that
are weighted by the inverse of the chance of being asked. The features' roles and the ranking of pairs within a
regression do not change, and a pair's waterfall still adds up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.bands import LINK_THRESHOLDS, Bands, Promise
from neardup.decide.folds import dealt_folds
from neardup.decide.logistic import Logistic
from neardup.decide.probability import PairModel, Regression
from neardup.decide.promises import Audit, upper_bound
from neardup.decide.reliability import BIN_EDGES, CERTAIN

USUAL_SHIFT = 2.0
"""Standard deviation, in log-odds, of the shift before any verdict: in another collection near-duplicates may be seven
times as frequent among the candidates."""
USUAL_STRETCH = 0.5
"""Standard deviation of the stretch around 1 before any verdict: evidence may count half as much again, or half."""
LEAST_STRETCH = 0.05
"""Least stretch: at 0 all pairs would be alike, and below it their order would be reversed."""
MOST_WEIGHT = 10.0
"""Greatest weight of a verdict as a multiple of the least: a few answers must not stand for thousands of pairs."""
FOLDS = 5
"""Folds in which verdicts are held out, so that a new decision is not judged on what it was fitted with."""


@dataclass(frozen=True)
class Move:
    """How verdicts change the log-odds of a regression: new log-odds = shift + stretch · old log-odds.

    Attributes:
        shift: in log-odds.
        stretch: positive; 1 leaves the evidence as heavy as it was.
    """

    shift: float = 0.0
    stretch: float = 1.0

    def of(self, log_odds: Floats) -> Floats:
        """The new log-odds, float64 (m,), of old ones."""
        return np.asarray(self.shift + self.stretch * log_odds, dtype=np.float64)

    def probability(self, probability: float) -> float:
        """Convert a probability of the old decision to the new one's."""
        return float(expit(self.shift + self.stretch * logit(probability)))

    def regression(self, old: Logistic) -> Logistic:
        """The regression that gives the new log-odds."""
        stretched = tuple(self.stretch * coefficient for coefficient in old.coefficients)
        return replace(old, coefficients=stretched, intercept=self.shift + self.stretch * old.intercept)


@dataclass(frozen=True)
class Moves:
    """The moves of the regressions of a decision, each by verdicts on the pairs that go by it."""

    matched: Move = Move()
    unmatched: Move = Move()
    untellable: Move = Move()

    def model(self, old: PairModel) -> PairModel:
        """The regressions that give the new probabilities; each pair goes by the same one as before."""
        matched, unmatched, untellable = (
            move.regression(regression) for move, regression in zip(self.every, old.regressions, strict=True)
        )
        return PairModel(matched, unmatched, untellable, old.unmoved or (old.matched, old.unmatched))

    @property
    def every(self) -> tuple[Move, Move, Move]:
        """The moves in the order of `Regression`."""
        return self.matched, self.unmatched, self.untellable

    def of(self, log_odds: Floats, regression: Ints) -> Floats:
        """The new log-odds of pairs, float64 (m,), from the old ones and the `Regression` that each pair goes by."""
        return np.asarray(np.choose(regression, [move.of(log_odds) for move in self.every]), dtype=np.float64)


@dataclass(frozen=True)
class Answered:
    """Verdicts to learn from, a row each.

    Attributes:
        log_odds: float64 (n,), by the decision that is fitted again.
        regression: int64 (n,), the `Regression` that each pair goes by.
        same: bool (n,), what people said.
        weights: float64 (n,), as `asked_weights` makes them.
        photos: int64 (n,), number of the set of photos that verdicts connect, without gaps: such pairs are held out
            together.
    """

    log_odds: Floats
    regression: Ints
    same: Bools
    weights: Floats
    photos: Ints

    def take(self, chosen: Bools) -> "Answered":
        """Some of the verdicts."""
        places = self.log_odds[chosen], self.regression[chosen], self.same[chosen]
        return Answered(*places, self.weights[chosen], self.photos[chosen])

    def fit(self, beliefs: "Answered") -> Moves:
        """Fit the moves to these verdicts and to old beliefs, each regression by its own pairs."""
        moves = []
        for kind in Regression:
            parts = self.take(self.regression == kind), beliefs.take(beliefs.regression == kind)
            log_odds, weights = (
                np.concatenate([getattr(part, name) for part in parts]) for name in ("log_odds", "weights")
            )
            moves.append(fitted_move(log_odds, np.concatenate([part.same for part in parts]), weights))
        return Moves(*moves)

    def held_out(self, beliefs: "Answered") -> Floats:
        """New log-odds of each verdict's pair by moves that were fitted without its photos, float64 (n,)."""
        fold = dealt_folds(self.photos, FOLDS, 0) if len(self.photos) else self.photos
        moved = self.log_odds.copy()
        for number in np.unique(fold):
            judged = fold == number
            moved[judged] = self.take(~judged).fit(beliefs).of(self.log_odds[judged], self.regression[judged])
        return moved

    def log_loss(self, log_odds: Floats) -> float:
        """Weighted mean negative logarithm of the probability that was given to what people said; lower is better."""
        probability = np.clip(expit(np.where(self.same, log_odds, -log_odds)), CERTAIN, 1.0)
        return float(-(self.weights @ np.log(probability)) / self.weights.sum())


def old_beliefs(log_odds: Floats, regression: Ints, groups: int) -> Answered:
    """Turn a decision's own beliefs about a run into pseudo-verdicts that hold it in place where nobody was asked.

    The queue asks about doubtful pairs. Two numbers fitted on these alone would be extrapolated to links and rejected
    pairs that nobody was asked about: measured on a drawn archive, 400 verdicts then removed half of the right links.
    The decision itself therefore gives as many answers as it has seen groups, in equal parts for the bins of
    `BIN_EDGES` that have pairs, each "same" with its own probability.

    Args:
        log_odds: float64 (m,), of the pairs of a run.
        regression: int64 (m,), the `Regression` that each pair goes by.
        groups: how many groups the decision rests on.
    """
    rows: list[tuple[float, int, bool, float]] = []
    for kind in Regression:
        own = log_odds[regression == kind]
        place = np.searchsorted(BIN_EDGES[1:-1], expit(own), side="right")
        bins = [float(own[place == number].mean()) for number in np.unique(place)]
        for middle in bins:
            chance = float(expit(middle))
            rows += [(middle, kind, True, chance / len(bins)), (middle, kind, False, (1 - chance) / len(bins))]
    odds, kinds, same, weights = (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.empty(0)] * 4
    nowhere = np.zeros(len(odds), dtype=np.int64)
    return Answered(odds, kinds.astype(np.int64), same.astype(bool), groups * weights, nowhere)


def asked_weights(log_odds: Floats, asked: Bools) -> Floats:
    """The inverse of the chance of being asked, estimated among pairs of about the same probability.

    The queue asks what is most doubtful and what affects most photos, so that its answers are no random sample. In each
    bin of `BIN_EDGES` the share of the run's pairs that were answered is that chance. Weights over `MOST_WEIGHT` times
    the least are cut there. Their sum is the number of verdicts that an even sample would need to say as much (Kish
    1965), so that uneven weights do not pretend to more than was answered.

    Args:
        log_odds: float64 (m,), of all pairs that could be asked.
        asked: bool (m,), which of them were answered.

    Returns:
        float64, a weight for each pair that was answered.
    """
    place = np.searchsorted(BIN_EDGES[1:-1], expit(log_odds), side="right")
    there, answered = (np.bincount(place[chosen], minlength=len(BIN_EDGES) - 1) for chosen in (slice(None), asked))
    weights: Floats = (there / np.maximum(answered, 1))[place[asked]].astype(np.float64)
    if not len(weights):
        return weights
    weights = np.minimum(weights, MOST_WEIGHT * weights.min())
    return np.asarray(weights * weights.sum() / (weights**2).sum(), dtype=np.float64)


def fitted_move(log_odds: Floats, same: Bools, weights: Floats) -> Move:
    """Find the most probable shift and stretch, given verdicts and the prior; without verdicts nothing moves.

    Args:
        log_odds: float64 (n,), of the old decision.
        same: bool (n,), what people said.
        weights: float64 (n,), how much each verdict counts.
    """
    signs = np.where(same, 1.0, -1.0)

    def loss(move: Floats) -> tuple[float, Floats]:
        """Compute the weighted log loss plus the prior's penalty, and its gradient."""
        margins = signs * (move[0] + move[1] * log_odds)
        slopes = -weights * signs * expit(-margins)
        unusual = np.array([move[0] / USUAL_SHIFT, (move[1] - 1) / USUAL_STRETCH])
        gradient = np.array([slopes.sum(), slopes @ log_odds]) + unusual / (USUAL_SHIFT, USUAL_STRETCH)
        return float(-weights @ log_expit(margins) + unusual @ unusual / 2), gradient

    bounds = [(None, None), (LEAST_STRETCH, None)]
    shift, stretch = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Move(float(shift), float(stretch))


def moved_bands(bands: Bands, moves: Moves, audited: Sequence[tuple[float, bool | None]]) -> Bands:
    """The bands of a decision whose log-odds were moved.

    Verdicts of the queue make no new link: a pair is linked only where the old decision would link it and the new
    probability is as high as was promised; likewise it is rejected only where both would. The audit alone, whose links
    were drawn at random, moves the promise: where it shows the promised precision at one of the thresholds from there
    on, this one is taken with what the audit shows; where it shows that the precision is missed and no threshold helps,
    nothing is linked without review.

    Args:
        bands: of the old decision.
        moves: of its log-odds.
        audited: all links as `audited_promise` takes them, by their new probabilities.
    """
    links, rest = bands.precision, bands.recall
    if links.threshold is not None:
        least = max(links.threshold, moves.matched.probability(links.threshold))
        links = audited_promise(replace(links, threshold=least), audited)
    if rest.threshold is not None:
        moved = (move.probability(rest.threshold) for move in moves.every)
        rest = replace(rest, threshold=min(rest.threshold, *moved))
    return Bands(links, rest)


def audited_promise(links: Promise, audited: Sequence[tuple[float, bool | None]]) -> Promise:
    """Update the promise of the links by their audit, if the audit proves or refutes it.

    At each threshold the links of that probability or more are a collection of their own: of these, the answers count
    up to the first link that has none.

    Args:
        links: what was promised, with a threshold.
        audited: all links in the order of their random numbers: probability, and whether it is right; None where no
            answer says so for certain.
    """
    assert links.threshold is not None  # noqa: S101 - our own mistake only
    best = links
    for threshold in (links.threshold, *(other for other in LINK_THRESHOLDS if other > links.threshold)):
        audit = Audit.of((right for probability, right in audited if probability >= threshold), links.share)
        promise = Promise(links.share, threshold, audit.bound, audit.seen, audit.errors, audit.missing, drawn=True)
        if not audit.missing:
            return promise
        if threshold == links.threshold:
            best = promise
    if best.groups and upper_bound(best.groups - best.errors, best.groups) < links.share:
        return replace(best, threshold=None)
    return links
