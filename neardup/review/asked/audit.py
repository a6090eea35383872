"""The audit: links drawn at random before anyone looked, whose answers alone measure the precision in the collection.

Every pair has a random number that belongs to its two photos and to the folder's seed; the links with the least numbers
are drawn. A later run with other links draws from these, and every answer that still applies remains useful ("permanent
random numbers", Ohlsson 1995). In this order, answers count up to the first link without one: they are a uniform sample
of that run's links, whatever was asked before and in whatever queue.
"""

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from filelock import FileLock

from neardup.arrays import Ints
from neardup.decide.promises import Audit
from neardup.review.found.results import Results
from neardup.review.record.draws import draws_file, random_order, read_draws
from neardup.stages import write_json
from neardup.verify.evidence import ordered

DRAWN = 400
"""Most links that are drawn: 299 without an error prove a precision of 99 %, or 473 with one error."""
PROMISES = (0.9, 0.95, 0.98, 0.99)
"""Precisions that an audit aims at, one after the other: 29, 59, 149 and 299 answers without an error prove them."""


def next_aim(audit: Audit) -> Audit | None:
    """Return the audit with the next precision to prove as its promise; None once it proves the last one.

    >>> next_aim(Audit(40, 0))
    Audit(seen=40, errors=0, promise=0.95)
    """
    return next((replace(audit, promise=promise) for promise in PROMISES if audit.bound < promise), None)


@dataclass(frozen=True)
class Draw:
    """The links that were drawn, in the order in which they are asked.

    Attributes:
        rows: int64 (n,), their rows in the results.
        links: how many links they were drawn from.
        time: time of the draw, ISO 8601 in UTC.
    """

    rows: Ints
    links: int
    time: str


def draw(results: Results) -> Draw:
    """Draw links of a run, and store the draw, or load an earlier draw of the run.

    Args:
        results: of the run.
    """
    links = np.flatnonzero(results.links)
    names = [_names(results, row) for row in links.tolist()]
    run = hashlib.sha256("\n".join(sorted(map("\0".join, names))).encode("utf-8", "surrogateescape")).hexdigest()
    file = draws_file(results.out)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(file.with_suffix(".lock"))):
        stored = read_draws(results.out) or {"seed": secrets.token_hex(16), "draws": {}}
        rows, draws = _least(links, names, stored["seed"]), stored["draws"]
        if run not in draws:
            pairs = [list(_names(results, row)) for row in rows.tolist()]
            time = datetime.now(UTC).isoformat(timespec="seconds")
            draws[run] = {"time": time, "links": len(links), "pairs": pairs}
            write_json(file, stored)
    return Draw(rows, len(links), draws[run]["time"])


def _names(results: Results, row: int) -> tuple[str, str]:
    """Identify the two photos of each pair in the draw: by contents if all are known, else by paths."""
    if results.digests_known:
        return results.contents(row)
    return ordered(results.path(int(results.first[row])), results.path(int(results.second[row])))


def _least(links: Ints, names: list[tuple[str, str]], seed: str) -> Ints:
    """Choose the links with the least random numbers, in the order of these numbers."""
    return links[np.array(random_order(names, seed)[:DRAWN], dtype=np.int64)]
