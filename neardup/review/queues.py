"""What a person is asked, and in which order: the queues of the review page, how much is left, what answers bought."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neardup.arrays import Bools, Ints
from neardup.errors import NeardupError
from neardup.review.answers import Answers, Settled
from neardup.review.audit import Audited, Draw, draw
from neardup.review.results import Results, ShownPair
from neardup.review.verdicts import CANNOT_TELL, SAME, Verdicts

REVIEW, AUDIT, GROUP, CONTRADICTIONS = "review", "audit", "group", "contradictions"
LEASE_S = 600.0
"""Seconds for which a pair that one person was given is given to nobody else."""
CERTAIN = 0.01
"""Doubt below which not even a bridge is asked: a probability over .9975 or under .0025."""


@dataclass(frozen=True)
class Progress:
    """How far a queue is.

    Attributes:
        left: pairs that nobody answered.
        seconds: about how long they take, by the person's own median; None before the first answer.
        answered: pairs that were answered, in whatever queue.
        implied: pairs of this run whose answer follows from others, which are not asked.
        words: verdict → how many pairs have it.
        audited: what the audit says of the links so far.
    """

    left: int
    seconds: float | None
    answered: int
    implied: int
    words: dict[str, int]
    audited: Audited


class Queues:
    """The queues of one folder of results, shared by all who are asked."""

    def __init__(self, results: Results, verdicts: Verdicts) -> None:
        """Put the pairs of a run in order.

        Args:
            results: of the run.
            verdicts: what was said so far, by anybody, in this folder or in a database that several share.
        """
        self.results, self.answers = results, Answers(verdicts)
        self._lock = threading.RLock()
        self._leases: dict[int, tuple[str, float]] = {}
        self._skipped: dict[str, dict[int, None]] = {}
        self._gone: set[int] = set()
        self._settled = Settled.of(results, self.answers)

    @cached_property
    def order(self) -> Ints:
        """The rows to be reviewed: bridges of groups first, then by the photos that an answer is expected to move.

        That is the chance that the answer changes the groups times the photos of both: a pair of probability .3 across
        two groups is worth more than one of .9 within a group, which is as open but will hardly change anything.
        """
        results = self.results
        bridges = results.bridges & (results.doubt >= CERTAIN)
        rows = np.flatnonzero(results.doubtful | bridges)
        weight = results.change[rows] * results.affected[rows]
        return np.asarray(rows[np.lexsort((rows, -weight, ~bridges[rows]))])

    @cached_property
    def drawn(self) -> Draw:
        """The links that were drawn for the audit, before anyone looked."""
        return draw(self.results)

    def refresh(self) -> None:
        """Take in what was said since the last time, here or by another process."""
        with self._lock:
            if self.answers.refresh():
                self._settled = Settled.of(self.results, self.answers)

    def _rows(self, queue: str, group: int) -> Ints:
        """The rows of a queue that nobody answered, in its order."""
        settled = self._settled
        if queue == AUDIT:
            rows = self.drawn.rows
            return rows[~settled.answered[rows]]
        rows = self.order if queue == REVIEW else self._group_rows(group)
        return rows[~(settled.answered | settled.implied)[rows]]

    def _group_rows(self, group: int) -> Ints:
        """The pairs within a group, the most doubtful first."""
        rows = self.results.rows_within(self.results.members(group))
        return rows[np.lexsort((rows, -self.results.doubt[rows], ~self.results.bridges[rows]))]

    def take(self, queue: str, session: str, count: int, *, group: int = 0, but: Iterable[int] = ()) -> list[ShownPair]:
        """The next pairs of a queue for one person: those they were given before first, none that others hold.

        Args:
            queue: `review`, `audit` or `group`.
            session: of the person's browser.
            count: how many at most.
            group: number of the group, where the queue is `group`.
            but: rows that the browser has already.
        """
        taken, now = list[ShownPair](), time.monotonic()
        with self._lock:
            rows = self._rows(queue, group)
            held = {row for row, (owner, until) in self._leases.items() if owner != session and until > now}
            passed = self._skipped.get(session, {})
            unavailable = held | set(but) | self._gone
            waiting = [row for row in passed if row not in unavailable and bool((rows == row).any())]
            for row in (*_without(rows, unavailable | passed.keys()), *waiting):
                if len(taken) == count:
                    break
                candidate = self._candidate(row)
                if candidate:
                    self._leases[row] = session, now + LEASE_S
                    taken.append(candidate)
        return taken

    def _candidate(self, row: int) -> ShownPair | None:
        """A pair that can be shown and that nobody answered; a photo's contents may be known only now."""
        try:
            candidate = self.results.candidate(row)
        except NeardupError:
            self._gone.add(row)
            return None
        if candidate.photo.sha256 == candidate.partner.sha256:
            self._gone.add(row)
            return None
        if self.answers.of(candidate.photo.sha256, candidate.partner.sha256):
            self._settled.answered[row] = True
            return None
        return candidate

    def skip(self, session: str, row: int) -> None:
        """Put a pair behind all others for one person."""
        with self._lock:
            passed = self._skipped.setdefault(session, {})
            passed.pop(row, None)
            passed[row] = None
            self._leases.pop(row, None)

    def progress(self, queue: str, who: str, group: int = 0) -> Progress:
        """How far a queue is, for one person."""
        with self._lock:
            left = len(self.answers.links.contradictions) if queue == CONTRADICTIONS else len(self._rows(queue, group))
            words = Counter(verdict.verdict for verdict in self.answers.links.decided.values())
            own = self.answers.seconds(who)
            return Progress(
                left=left,
                seconds=None if own is None else own * left,
                answered=len(self.answers),
                implied=int(self._settled.implied.sum()),
                words=dict(words),
                audited=self.audited(),
            )

    def audited(self) -> Audited:
        """What was said of the links that were drawn at random, in whatever queue it was asked."""
        rows = self.drawn.rows
        words = list[str]()
        for row in rows[self._settled.answered[rows]].tolist():
            said = self.answers.of(*(self.results.digest(int(side[row])) for side in self._sides))
            words += {verdict.verdict for verdict in said} - {CANNOT_TELL}
        return Audited(words.count(SAME), len(words))

    @property
    def _sides(self) -> Sequence[Ints]:
        return self.results.first, self.results.second

    @property
    def answered(self) -> Bools:
        """The pairs on which somebody said something, bool (m,)."""
        return self._settled.answered

    @property
    def settled(self) -> Bools:
        """The pairs that nobody needs to be asked: answered ones, and those that follow from answers, bool (m,)."""
        return self._settled.answered | self._settled.implied


def _without(rows: Ints, unavailable: set[int]) -> Iterable[int]:
    """Rows one by one, but for some."""
    return (row for row in map(int, rows) if row not in unavailable)
