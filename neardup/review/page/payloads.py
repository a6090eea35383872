"""A pair's data for the browser, and the record, kept with a verdict, of what a person saw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from neardup.arrays import Floats
from neardup.review.asked.audit import Draw, next_aim
from neardup.review.asked.queues import AUDIT, Progress, Task
from neardup.review.found.candidates import Photo, ShownPair
from neardup.review.found.results import Results
from neardup.verify.evidence import Box, Evidence
from neardup.verify.picture import LEAST_TERM
from neardup.verify.relation import relation_of

MADE_WITH = ("threshold", "thresholds", "encoder", "fingerprint", "verifier", "decision")
"""Fields of `duplicates.json` that are kept with each verdict to identify the machine's version later."""


@dataclass(frozen=True)
class Alignment:
    """How two photos lie on each other, all places in shares of width and height.

    Attributes:
        onto: takes a place of the partner to the photo, 3 × 3, row by row; None where nothing is known of it.
        back: the other way.
        boxes: places of the photo where they seem to differ: left, top, width, height.
    """

    onto: list[float] | None = None
    back: list[float] | None = None
    boxes: Sequence[Box] = ()

    @classmethod
    def of(cls, pair: ShownPair) -> "Alignment":
        """The alignment that verification measured of a pair, in the order in which the pair is shown."""
        evidence = pair.evidence
        if evidence is None or evidence.transform is None:
            return cls()
        forth = _in_shares(evidence)
        first_onto, second_onto = forth.ravel().tolist(), np.linalg.inv(forth).ravel().tolist()
        size = evidence.width_first, evidence.height_first
        boxes = [_box_in_shares(box, size) for box in relation_of(evidence).retouched]
        if pair.photo.sha256 == evidence.first:
            return cls(second_onto, first_onto, boxes)
        return cls(first_onto, second_onto, [_moved(box, forth) for box in boxes])


def shown_photo(photo: Photo) -> dict[str, Any]:
    """Make a photo's data for the browser: its SHA-256, name and facts, but no path of this machine."""
    return {"sha256": photo.sha256, "path": photo.path, **asdict(photo.facts)}


def shown_task(task: Task, queue: str) -> dict[str, Any]:
    """Make a pair's data for the browser, as plain values; in the audit, without the machine's opinion.

    Args:
        task: the pair, why it is asked, and what was said of it.
        queue: where it is asked.
    """
    candidate, question = task.pair, task.question
    pair: dict[str, Any] = {
        "number": task.number,
        "photo": shown_photo(candidate.photo),
        "partner": shown_photo(candidate.partner),
        "reason": {"name": question.reason, "values": dict(question.values)} if question else None,
    }
    pair["said"] = [{"who": one.who, "verdict": one.verdict, "time": one.time, "id": one.id} for one in task.verdicts]
    if queue == AUDIT:
        for photo in (pair["photo"], pair["partner"]):
            photo["row"] = ""  # the historian's answer is an answer, too
        return pair
    return pair | machine_says(candidate)


@dataclass(frozen=True)
class TaskView:
    """A pair as its template puts it before a person.

    Attributes:
        task: the pair, why it is asked, and what was said of it.
        blind: whether nothing of what the machine and the historian think may be seen.
        turned: whether the pair's partner is seen first, still as photo B.
    """

    task: Task
    blind: bool = False
    turned: bool = False

    @property
    def pair(self) -> ShownPair:
        """The pair with the photo first that is seen first."""
        pair = self.task.pair
        return pair.seen_from(pair.partner.sha256) if self.turned else pair

    @property
    def alignment(self) -> Alignment:
        """How the two photos lie on each other; nothing of it where the machine may not be seen."""
        return Alignment() if self.blind else Alignment.of(self.pair)

    @property
    def waterfall(self) -> list[tuple[str, float, float, float]]:
        """The terms of the probability: name, log-odds, where its bar starts and how wide it is, in percent.

        Each bar starts where the one before ended; right is for one picture, left is against. Terms that add less than
        `LEAST_TERM` have none.
        """
        odds = [value for _, value in self.pair.terms]
        sums = list(accumulate(odds, initial=0.0))
        low, span = min(sums), max(sums) - min(sums) or 1.0
        starts = [100 * (min(ends) - low) / span for ends in pairwise(sums)]
        return [
            (name, value, start, 100 * abs(value) / span)
            for (name, value), start in zip(self.pair.terms, starts, strict=True)
            if abs(value) >= LEAST_TERM
        ]


def machine_says(candidate: ShownPair) -> dict[str, Any]:
    """What the machine says of a pair."""
    names = ("similarity", "probability", "band", "relation", "sentence", "inliers", "terms", "groups", "affected")
    return {name: getattr(candidate, name) for name in (*names, "bridge")}


def shown_with(task: Task, results: Results, queue: str, drawn: Draw | None) -> dict[str, Any]:
    """What is kept with a verdict: all that the machine said, whether the person saw it, and what it was made with."""
    opinion = {name: value for name, value in machine_says(task.pair).items() if name != "terms" and value is not None}
    provenance = {name: results.made_with[name] for name in MADE_WITH if name in results.made_with}
    draw = {"drawn": drawn.time, "drawn_from": drawn.links} if drawn and queue == AUDIT else {}
    reason = {"reason": task.question.sentence} if task.question else {}
    return {**opinion, **provenance, **draw, **reason, "machine_seen": queue != AUDIT}


def shown_progress(progress: Progress) -> dict[str, Any]:
    """Make a queue's progress for the browser."""
    audited, aim = progress.audited, next_aim(progress.audited)
    bought: dict[str, Any] = {"answers": audited.seen, "bound": audited.bound}
    bought |= {"promise": aim and aim.promise, "missing": aim and aim.missing}
    return asdict(progress) | {"audited": bought}


def shown_points(
    points: Sequence[tuple[float, float, float, float]], evidence: Evidence, photo: str
) -> list[tuple[float, ...]]:
    """Matched points in shares of width and height, those of the photo that is shown first before its partner's.

    Args:
        points: x and y in pixels of the evidence's first photo, then of its second.
        evidence: of the pair.
        photo: SHA-256 of the photo that is shown first.
    """
    sizes = (evidence.width_first, evidence.height_first, evidence.width_second, evidence.height_second)
    shares = [tuple(float(place / size) for place, size in zip(point, sizes, strict=True)) for point in points]
    return shares if photo == evidence.first else [(*point[2:], *point[:2]) for point in shares]


def _in_shares(evidence: Evidence) -> Floats:
    """The transform from shares of the first photo's width and height to those of the second, float64 (3, 3)."""
    pixels = np.reshape(np.asarray(evidence.transform, dtype=np.float64), (3, 3))
    first = np.diag([evidence.width_first, evidence.height_first, 1.0])
    second = np.diag([1 / evidence.width_second, 1 / evidence.height_second, 1.0])
    return np.asarray(second @ pixels @ first)


def _box_in_shares(box: Box, size: tuple[int, int]) -> Box:
    left, top, width, height = box
    return left / size[0], top / size[1], width / size[0], height / size[1]


def _moved(box: Box, forth: Floats) -> Box:
    """The upright box around a box of the first photo in the second."""
    left, top, width, height = box
    corners = np.array([[x, y, 1.0] for x in (left, left + width) for y in (top, top + height)])
    moved = corners @ forth.T
    moved = moved[:, :2] / moved[:, 2:]
    low, high = moved.min(axis=0), moved.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
