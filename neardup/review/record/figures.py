"""What people have said so far, as figures: how much, in which queue, and how far they agree."""

from collections import Counter
from collections.abc import Sequence

from neardup.decide.promises import Audit
from neardup.review.record.links import Links, agreements, audit_of
from neardup.review.record.verdicts import ANSWERS, QUEUES, WITHDRAWN, Verdict


def verdict_figures(history: Sequence[Verdict], links: Links) -> dict[str, float]:
    """Counts of answers and queues, contradictions, audit, and the agreement of the two with most pairs in common.

    Args:
        history: every verdict, as `Verdicts.history` gives them.
        links: what follows from those in force.
    """
    answers = Counter(verdict.verdict for verdict in history)
    queues = Counter(verdict.queue for verdict in history if verdict.verdict != WITHDRAWN)
    figures = {
        **{f"verdicts {answer}": float(answers[answer]) for answer in ANSWERS},
        **{f"verdicts of {queue}": float(queues[queue]) for queue in QUEUES},
        "pairs answered": float(len(links.answered)),
        "contradictions": float(len(links.contradictions)),
        **audit_figures(audit_of(history, links)),
    }
    agreed = agreements(history)
    if agreed:
        figures |= {"judged by two": float(agreed[0].judged), "agreed": float(agreed[0].agreed)}
        if agreed[0].kappa is not None:
            figures["kappa"] = agreed[0].kappa
    return figures


def audit_figures(audit: Audit) -> dict[str, float]:
    """How many links an audit saw, how many were wrong, and the precision that it shows."""
    return {"audited": float(audit.seen), "audit errors": float(audit.errors), "audit bound": audit.bound}
