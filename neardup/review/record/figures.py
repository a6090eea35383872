"""Figures on the verdicts so far: how many, in which queue, and how far people agree."""

from collections import Counter
from collections.abc import Sequence

from neardup.decide.promises import Audit
from neardup.review.record.links import Links, agreements
from neardup.review.record.verdicts import ANSWERS, QUEUES, WITHDRAWN, Verdict


def verdict_figures(history: Sequence[Verdict], links: Links, audit: Audit) -> dict[str, float]:
    """Counts of answers and queues, contradictions, audit, and the agreement of the two with most pairs in common.

    Args:
        history: every verdict, as `Verdicts.history` gives them.
        links: what follows from those in force.
        audit: what they say of the links.
    """
    answers = Counter(verdict.verdict for verdict in history)
    queues = Counter(verdict.queue for verdict in history if verdict.verdict != WITHDRAWN)
    figures = {
        **{f"verdicts {answer}": float(answers[answer]) for answer in ANSWERS},
        **{f"verdicts of {queue}": float(queues[queue]) for queue in QUEUES},
        "pairs answered": float(len(links.answered)),
        "contradictions": float(len(links.contradictions)),
        "audited": float(audit.seen),
        "audit errors": float(audit.errors),
        "audit bound": audit.bound,
    }
    agreed = agreements(history)
    if agreed:
        figures |= {"judged by two": float(agreed[0].judged), "agreed": float(agreed[0].agreed)}
        if agreed[0].kappa is not None:
            figures["kappa"] = agreed[0].kappa
    return figures
