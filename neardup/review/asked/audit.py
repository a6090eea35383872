"""The audit: links drawn at random before anyone looked, whose answers alone measure the precision in the collection.

Every pair has a random number that belongs to its two photos and to the folder's seed; the links with the least numbers
are drawn. A later run whose links are others draws from those, and keeps every answer that is still of use ("permanent
random numbers", Ohlsson 1995). Answers count up to the first link of that order that has none: they are a uniform
sample of the links of that run, whatever was asked before and in whatever queue.
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
"""Links that are drawn at most: 299 without an error show a precision of 99 %, 473 with one error; few go on."""
PROMISES = (0.9, 0.95, 0.98, 0.99)
"""Precisions that an audit aims at, one after the other; 29, 59, 149 and 299 answers without an error show them."""


def next_aim(audit: Audit) -> Audit | None:
    """The same audit with the next precision to reach as its promise; None where it shows the last one.

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
        time: when, ISO 8601 in UTC.
    """

    rows: Ints
    links: int
    time: str


def draw(results: Results) -> Draw:
    """Draw links of a run, or take up what was drawn of it before; the draw is stored the first time.

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
    """What stands for the two photos of a pair in the draw: contents where all are known, else paths."""
    if results.digests_known:
        return results.contents(row)
    return ordered(results.path(int(results.first[row])), results.path(int(results.second[row])))


def _least(links: Ints, names: list[tuple[str, str]], seed: str) -> Ints:
    """The links whose random numbers are the least, in the order of these numbers."""
    return links[np.array(random_order(names, seed)[:DRAWN], dtype=np.int64)]
