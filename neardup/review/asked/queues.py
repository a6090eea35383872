"""The queues of the review page: what a person is asked, in which order, and how much is left."""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from neardup.arrays import Bools, Ints
from neardup.decide.promises import Audit
from neardup.errors import NeardupError
from neardup.review.asked.again import load_again, still_open
from neardup.review.asked.answers import Answers, Settled
from neardup.review.asked.audit import Draw, draw
from neardup.review.asked.ground_truth import RowQuestions
from neardup.review.asked.question import Question
from neardup.review.found.candidates import ShownPair
from neardup.review.found.contents import Stamp, stamp_of
from neardup.review.found.results import Results
from neardup.review.record.verdicts import Verdict, Verdicts
from neardup.verify.evidence import ordered

REVIEW = "review"
"""Name of the queue of pairs that the machine leaves open or asks again."""
AUDIT = "audit"
"""Name of the queue of links that were drawn at random before anyone looked."""
TRUTH = "ground truth"
"""Name of the queue of pairs on which the machine and the ground truth disagree."""
CONTRADICTIONS = "contradictions"
"""Name of the page of verdicts that cannot all be true, which hands out no pairs."""
LEASE_S = 600.0
"""Seconds for which a pair that was given to one person is given to nobody else."""
Stamps = tuple[Stamp | None, ...]
"""Size and time of the files of a task's photos; None for one that is gone. What cannot be read is tried again once
they have changed, as when its disk is there again."""
CERTAIN = 0.01
"""Doubt below which not even a bridge is asked: a probability over about 0.9975 or under 0.0025."""


@dataclass(frozen=True)
class Progress:
    """Progress of a queue.

    Attributes:
        left: number of pairs that nobody answered.
        links: those of them that are links, asked because a group hangs on them; 0 in other queues than `review`.
        seconds: estimated time for them, by the person's own median; None before the first answer.
        answered: number of answered pairs, in all queues.
        implied: pairs of this run whose answer follows from others, which are not asked.
        audited: result of the audit so far.
        waiting: links of the audit that were answered and do not count yet, for one that was drawn before them is open.
    """

    left: int
    links: int
    seconds: float | None
    answered: int
    implied: int
    audited: Audit
    waiting: int


@dataclass(frozen=True)
class Task:
    """A pair as it is put before a person.

    Attributes:
        number: number by which browser and server name the task: the pair's row among the results, or a number beyond
            these rows if the machine does not propose it; None if the pair is in no queue.
        pair: the pair.
        question: why the pair is asked, if for a specific reason.
        verdicts: verdicts in force on the pair.
    """

    number: int | None
    pair: ShownPair
    question: Question | None = None
    verdicts: tuple[Verdict, ...] = ()


class Queues:
    """The queues of one folder of results, shared by all who are asked."""

    def __init__(self, results: Results, verdicts: Verdicts) -> None:
        """Order the pairs of a run.

        Args:
            results: of the run.
            verdicts: what was said so far, by anybody, in this folder or in a database that several share.
        """
        self.results, self.answers = results, Answers(verdicts)
        self._lock = threading.RLock()
        self._leases: dict[int, tuple[str, float]] = {}
        self._skipped: dict[str, dict[int, None]] = {}
        self._broken: dict[str, dict[int, Stamps]] = {}
        self._gone: dict[int, Stamps] = {}
        self._again = load_again(results.out)
        self._beyond: dict[tuple[str, str], int] = {}
        self._questions: dict[str, Mapping[int, Question]] = {}
        self._settled = Settled.of(results, self.answers)

    @cached_property
    def order(self) -> Ints:
        """The rows to review: bridges of groups first, then by the expected number of photos that an answer moves.

        That number is the chance that the answer changes the groups times the photos of both groups: a pair of
        probability 0.3 across two groups is worth more than one of 0.9 within a group, which will hardly change
        anything. Pairs of which geometry cannot tell come last: the backs of prints are alike by the dozen.
        """
        results = self.results
        bridges = results.bridges & (results.doubt >= CERTAIN)
        rows = np.flatnonzero(results.doubtful | bridges)
        weight = results.change[rows] * results.affected[rows]
        return np.asarray(rows[np.lexsort((rows, -weight, results.cannot_tell[rows], ~bridges[rows]))])

    @cached_property
    def truth(self) -> RowQuestions | None:
        """Questions about the ground truth; None where the results have none."""
        return RowQuestions.of(self.results)

    @cached_property
    def drawn(self) -> Draw:
        """The links that were drawn for the audit, before anyone looked."""
        return draw(self.results)

    def refresh(self) -> None:
        """Read the verdicts given since the last call, here or by another process."""
        with self._lock:
            if self.answers.refresh():
                self._settled = Settled.of(self.results, self.answers)
                self._questions.clear()

    def questions(self, queue: str) -> Mapping[int, Question]:
        """List the open tasks of a queue that have a specific reason, in order."""
        with self._lock:
            if queue not in self._questions:
                questions, links = list[Question](), self.answers.links
                if queue == TRUTH and self.truth:
                    questions = self.truth.still_open(links)
                elif queue == REVIEW:
                    questions = still_open(self._again, links)
                numbered = [(self._number(question), question) for question in questions]
                self._questions[queue] = {number: question for number, question in numbered if number is not None}
            return self._questions[queue]

    def _number(self, question: Question) -> int | None:
        """Number a task; None if one of its photos is no longer at its path."""
        row = self.results.row_of_contents(*question.pair)
        if row is not None:
            return row
        if not all(map(self.results.learn, question.paths, question.digests)):
            return None
        return self._beyond.setdefault(question.pair, len(self.results) + len(self._beyond))

    def _rows(self, queue: str, group: int) -> Ints:
        """Yield the numbers of a queue's open tasks, in order; those that are asked again come first."""
        questions = np.array(list(self.questions(queue)), dtype=np.int64)
        if queue == TRUTH:
            return questions
        settled = self._settled
        if queue == AUDIT:
            rows = self.drawn.rows
            return rows[~settled.answered[rows]]
        rows = self.order if queue == REVIEW else self._group_rows(group)
        return np.concatenate([questions, rows[~(settled.answered | settled.implied)[rows]]])

    def _group_rows(self, group: int) -> Ints:
        """The pairs within a group, the most doubtful first."""
        rows = self.results.rows_within(self.results.members(group))
        return rows[np.lexsort((rows, -self.results.doubt[rows], ~self.results.bridges[rows]))]

    def take(self, queue: str, session: str, count: int, *, group: int = 0, but: Iterable[int] = ()) -> list[Task]:
        """Choose the next tasks of a queue for one person: first those given to them before, none that others hold.

        Args:
            queue: `review`, `audit`, `group` or `ground truth`.
            session: session of the person's browser.
            count: greatest number of tasks; none if not above 0.
            group: number of the group, if the queue is `group`.
            but: numbers of the tasks that the browser already has.
        """
        tasks, now = list[Task](), time.monotonic()
        with self._lock:
            rows, questions = self._rows(queue, group), self.questions(queue)
            held = {row for row, (owner, until) in self._leases.items() if owner != session and until > now}
            passed = self._skipped.get(session, {})
            unavailable = held | set(but) | self._unreadable(session)
            waiting = [row for row in passed if row not in unavailable and bool((rows == row).any())]
            for row in chain(_without(rows, unavailable | passed.keys()), waiting):
                if len(tasks) >= count:
                    break
                task = self._task(row, questions.get(row))
                if task:
                    self._leases[row] = session, now + LEASE_S
                    tasks.append(task)
        return tasks

    def _task(self, number: int, question: Question | None) -> Task | None:
        """A task that can be shown and that nobody answered; a photo's contents may be known only now."""
        try:
            pair = self.results.pair(*question.pair) if question else self.results.candidate(number)
        except NeardupError:
            self._gone[number] = self._stamps(number)
            return None
        if pair.photo.sha256 == pair.partner.sha256:
            self._gone[number] = self._stamps(number)
            return None
        verdicts = tuple(self.answers.of(pair.photo.sha256, pair.partner.sha256))
        if verdicts and not question:
            self._settled.answered[number] = True
            return None
        return Task(number, pair, question, verdicts)

    def _stamps(self, number: int) -> Stamps:
        """What the files of a task's two photos are at the moment."""
        results = self.results
        if number < len(results):
            paths = [results.path(int(side[number])) for side in (results.first, results.second)]
            return tuple(stamp_of(results.archive / path) for path in paths)
        pair = next((pair for pair, beyond in self._beyond.items() if beyond == number), ())
        return tuple(stamp_of(file) if file else None for file in map(results.file_of, pair))

    def _unreadable(self, session: str) -> set[int]:
        """The tasks whose photos could not be read for one person, and are as they were then."""
        found = self._gone | self._broken.get(session, {})
        return {number for number, stamps in found.items() if self._stamps(number) == stamps}

    def unreadable(self, queue: str, session: str, group: int = 0) -> int:
        """How many open tasks of a queue one person is not given because their photos cannot be read."""
        with self._lock:
            return len(self._unreadable(session).intersection(self._rows(queue, group).tolist()))

    def task_of(self, photo: str, partner: str, queue: str) -> Task:
        """The task of a queue that is about two contents, or one of no queue.

        Raises:
            ArchiveError: one of them is no photo of the results.
        """
        pair = self.results.pair(photo, partner)
        number, question = next(
            ((number, one) for number, one in self.questions(queue).items() if one.pair == ordered(photo, partner)),
            (pair.row, None),
        )
        return Task(number, pair, question, tuple(self.answers.of(photo, partner)))

    def skip(self, session: str, number: int, *, broken: bool = False) -> None:
        """Put a task behind all others for one person, or away where its photos cannot be read as they are now."""
        with self._lock:
            if broken:
                self._broken.setdefault(session, {})[number] = self._stamps(number)
            passed = self._skipped.setdefault(session, {})
            passed.pop(number, None)
            passed[number] = None
            self._leases.pop(number, None)

    def leave(self, session: str) -> None:
        """Take back the tasks that were given to one person, whose window was closed: others may have them at once."""
        with self._lock:
            self._leases = {number: lease for number, lease in self._leases.items() if lease[0] != session}

    def progress(self, queue: str, who: str, group: int = 0) -> Progress:
        """Compute the progress of a queue for one person."""
        with self._lock:
            left = len(self.answers.links.contradictions) if queue == CONTRADICTIONS else len(self._rows(queue, group))
            own = self.answers.seconds(who)
            return Progress(
                left=left,
                links=self._links_to_review() if queue == REVIEW else 0,
                seconds=None if own is None else own * left,
                answered=len(self.answers),
                implied=int(self._settled.implied.sum()),
                audited=self.audited(),
                waiting=self._waiting(),
            )

    def _links_to_review(self) -> int:
        """Count the open pairs of the review queue that are links, asked because they are bridges."""
        rows = self._rows(REVIEW, 0)
        rows = rows[~np.isin(rows, list(self.questions(REVIEW)))]
        return int((~self.results.doubtful[rows]).sum())

    def audited(self) -> Audit:
        """Count the audit: what people agree on about the links drawn first, whatever queue asked about them."""
        drawn = map(self.results.contents, self.drawn.rows.tolist())
        return Audit.of(right for _, right in self.answers.links.judged(drawn))

    def _waiting(self) -> int:
        """Drawn links that were answered after the first one that is open."""
        answered = self._settled.answered[self.drawn.rows]
        return 0 if answered.all() else int(answered[int(np.argmin(answered)) :].sum())

    @property
    def settled(self) -> Bools:
        """The pairs that need not be asked, bool (m,): answered ones, and those that follow from answers."""
        return self._settled.answered | self._settled.implied


def _without(rows: Ints, unavailable: set[int]) -> Iterable[int]:
    """Rows one by one, but for some."""
    return (row for row in map(int, rows) if row not in unavailable)
