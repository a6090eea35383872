"""What people have said so far, as figures: how much, in which queue, and how far they agree."""

from collections import Counter
from collections.abc import Sequence

from neardup.decide.promises import lower_bound
from neardup.review.links import Links, agreements, audit_counts
from neardup.review.verdicts import ANSWERS, QUEUES, Verdict


def verdict_figures(history: Sequence[Verdict], links: Links) -> dict[str, float]:
    """Counts of answers and queues, contradictions, audit, and the agreement of the two with most pairs in common.

    Args:
        history: every verdict, as `Verdicts.history` gives them.
        links: what follows from those in force.
    """
    answers = Counter(verdict.verdict for verdict in history)
    queues = Counter(verdict.queue for verdict in history)
    audited = audit_counts(history, links)
    seen = audited.right + audited.wrong
    figures = {
        **{f"verdicts {answer}": float(answers[answer]) for answer in ANSWERS},
        **{f"verdicts of {queue}": float(queues[queue]) for queue in QUEUES},
        "pairs answered": float(len(links.answered)),
        "contradictions": float(len(links.contradictions)),
        "audited": float(seen),
        "audit errors": float(audited.wrong),
        "audit bound": lower_bound(audited.right, seen),
    }
    agreed = agreements(history)
    if agreed:
        figures |= {"judged by two": float(agreed[0].judged), "agreed": float(agreed[0].agreed)}
        if agreed[0].kappa is not None:
            figures["kappa"] = agreed[0].kappa
    return figures
