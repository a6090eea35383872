"""What people said of pairs of photos, kept for good: the verdict as one value, and the database that only ever grows.

A verdict belongs to the contents of two photos (SHA-256), not to paths or runs: a photo that moved keeps its verdicts,
one that was replaced does not. Nothing is changed or deleted; whoever errs adds a verdict that supersedes the first.
"""

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row, exc, select
from sqlalchemy import table as named_table
from sqlalchemy.dialects import postgresql, sqlite

from neardup.archive.walk import composed
from neardup.errors import StorageError, VerdictError
from neardup.review.record.opening import file_of, open_database, refusal
from neardup.review.record.schema import IN_FORCE, SUPERSEDED, VERDICTS, one_writer
from neardup.tables import encodable
from neardup.verify.evidence import ordered
from neardup.words import reason_of

SAME = "same"
"""Both photos show one picture: they belong to one group."""
SAME_SCENE = "same scene"
"""The photos are two exposures of one scene: no near-duplicates, and no example of two pictures that differ either."""
DIFFERENT = "different"
"""The photos show two pictures: they never share a group."""
CANNOT_TELL = "cannot tell"
"""A person looked and could not say; it is not asked again, and nothing follows from it."""
WITHDRAWN = "withdrawn"
"""An earlier verdict is taken back: what it took the place of is in force again, or the pair may be asked again."""
ANSWERS = (SAME, SAME_SCENE, DIFFERENT, CANNOT_TELL)
"""What a person may say of a pair."""
QUEUES = ("review", "audit", "search", "import", "ground truth")
"""Where a pair was put before a person: asked by the machine, drawn at random, found by a search, read from a table, or
asked because the machine doubts what the ground truth says of it."""
DIRECTIONS = ("", "first", "second")
"""Which photo of a pair the other one was made from, where somebody knows."""
DATABASE = "verdicts.sqlite"
"""File of the output folder that holds the verdicts, where no other database is named."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 as it is written."""
_OTHER_SIDE = {"": "", "first": "second", "second": "first"}
"""One of `DIRECTIONS` → the same direction, seen from the other photo."""


def pair_of(photo: str, partner: str) -> tuple[str, str]:
    """The two contents of a pair in the order in which verdicts name them.

    Args:
        photo: SHA-256 of one photo's bytes, 64 hex digits.
        partner: SHA-256 of the other's.

    Raises:
        VerdictError: one of them is no SHA-256, or both are equal.
    """
    for digest in (photo, partner):
        if not _DIGEST.fullmatch(digest):
            raise VerdictError(
                f"{digest[:80]!r} is no SHA-256 of a photo (64 digits 0-9 and a-f): name a photo by its own"
            )
    if photo == partner:
        raise VerdictError(f"{photo[:12]}… is the same photo twice: a verdict needs two different contents")
    return ordered(photo, partner)


@dataclass(frozen=True)
class Verdict:
    """What one person said of one pair of photos, once; `Verdict.of` makes one of photos in any order.

    Attributes:
        first: SHA-256 of one photo's bytes; less than `second`.
        second: SHA-256 of the other photo's bytes.
        verdict: one of `ANSWERS`, or `WITHDRAWN`.
        who: the person, as they call themselves; not empty.
        queue: one of `QUEUES`.
        relation: what kind of copy it is, where the person corrected what was shown; else empty.
        direction: which photo the other was made from, one of `DIRECTIONS`.
        note: what the person wrote beside it; may be empty.
        shown: all that the person saw (probability, band, thresholds, similarity, inliers, fingerprints of `encoder`,
            `verifier` and `decision`), as values of JSON.
        seconds: that the answer took; None where nobody measured.
        supersedes: ids of earlier verdicts on this pair or, to settle a contradiction, others, which end by this one.
        id: a UUID that the one who asks may choose, so that an answer that is sent twice is stored once.
        time: when it was said, ISO 8601 in UTC.
    """

    first: str
    second: str
    verdict: str
    who: str
    queue: str
    relation: str = ""
    direction: str = ""
    note: str = ""
    shown: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    seconds: float | None = None
    supersedes: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: str(uuid4()))
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    def __post_init__(self) -> None:
        """Refuse what no verdict can be.

        Raises:
            VerdictError: a photo against itself, an unknown word, nobody's verdict, or numbers that JSON has not.
        """
        # Browsers and keyboards compose accents in two ways; either way it is one person.
        object.__setattr__(self, "who", composed(self.who))
        if (self.first, self.second) != pair_of(self.first, self.second):
            raise VerdictError("the two contents of a verdict are out of order: make it with Verdict.of")
        for name, words in (("verdict", (*ANSWERS, WITHDRAWN)), ("queue", QUEUES), ("direction", DIRECTIONS)):
            if getattr(self, name) not in words:
                allowed = ", ".join(word or "nothing" for word in words)
                raise VerdictError(f"{getattr(self, name)!r} is no {name} of a verdict: it is one of {allowed}")
        if self.verdict == WITHDRAWN and not self.supersedes:
            raise VerdictError("a withdrawal names no verdict that it takes back: say which in supersedes")
        if not self.who.strip():
            raise VerdictError("a verdict needs somebody who says it: give your name or initials")
        if not re.fullmatch(r"[\w.:-]{1,64}", self.id, re.ASCII):
            raise VerdictError(
                f"{self.id[:80]!r} is no id of a verdict: it has 1 to 64 letters, digits, `-`, `.` or `:`"
            )
        self.shown_json()

    @classmethod
    def of(
        cls, photo: str, partner: str, verdict: str, *, who: str, queue: str, direction: str = "", **more: Any
    ) -> "Verdict":
        """A verdict on two photos in the order in which somebody saw them.

        Args:
            photo: SHA-256 of the photo that was shown first.
            partner: SHA-256 of the other one.
            verdict: one of `ANSWERS`.
            who: the person.
            queue: one of `QUEUES`.
            direction: `first` where `partner` was made from `photo`, `second` the other way round.
            more: further fields, by name.
        """
        first, second = pair_of(photo, partner)
        turned = direction if first == photo else _OTHER_SIDE.get(direction, direction)
        return cls(first, second, verdict, who, queue, direction=turned, **more)

    @property
    def pair(self) -> tuple[str, str]:
        """The two contents, ordered."""
        return self.first, self.second

    def shown_json(self) -> str:
        """What was shown, as JSON.

        Raises:
            VerdictError: it holds something that is no JSON.
        """
        try:
            return json.dumps(dict(self.shown), allow_nan=False, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise VerdictError(f"what was shown of a pair cannot be kept ({error}): give values of JSON") from error

    def says_what(self, other: "Verdict") -> bool:
        """Whether another one is this very verdict, sent again; its time, the seconds and what was shown may differ."""
        mine, others = (replace(one, time="", seconds=None, shown=MappingProxyType({})) for one in (self, other))
        return mine == others


def by_pair(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Pair → the verdicts on it, in the order in which they come."""
    found: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        found[verdict.pair].append(verdict)
    return dict(found)


class Verdicts:
    """The database of verdicts: opened by many at once, added to, never changed.

    A verdict is on the disk when `add` returns; a process that is killed, at whatever moment, loses none.
    """

    def __init__(self, engine: Engine, place: str) -> None:
        """Take a database that `open_verdicts` opened.

        Args:
            engine: of SQLAlchemy.
            place: what the database is called in errors, without a password.
        """
        self._engine = engine
        self.place = place
        self._opened = file_of(engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Open for the length of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close at the end of the block."""
        self.close()

    def _check_place(self) -> None:
        """See that the file is the one that was opened: what a deleted or replaced one takes is lost."""
        if file_of(self._engine) != self._opened:
            raise StorageError(f"{self.place} was deleted or replaced while it was open: start `neardup review` again")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Read the database.

        Raises:
            StorageError: it refuses, or another file is in its place.
            VerdictError: a row was damaged since it was stored.
        """
        self._check_place()
        try:
            with self._engine.connect() as connection:
                yield connection
        except exc.DBAPIError as error:
            raise StorageError(refusal(self.place, error, "cannot be read")) from error
        except (VerdictError, TypeError, ValueError) as error:
            damage = sqlite3.DatabaseError(f"a row is malformed, {reason_of(error)}")
            raise VerdictError(refusal(self.place, damage, "cannot be read")) from error

    def add(self, verdict: Verdict) -> bool:
        """Keep a verdict for good.

        Returns:
            Whether it is new; False where this very verdict was stored before.

        Raises:
            VerdictError: its id stands for another verdict, or it supersedes one that there is not.
            StorageError: the database does not take it at present.
        """
        return self.add_all([verdict]) == 1

    def add_all(self, verdicts: Iterable[Verdict]) -> int:
        """Keep several verdicts for good, all or none.

        Returns:
            How many are new.

        Raises:
            VerdictError: an id stands for another verdict, or one supersedes a verdict that there is not.
            StorageError: the database does not take them at present.
        """
        self._check_place()
        try:
            with self._engine.begin() as connection:
                one_writer(connection)
                return sum(self._insert(connection, verdict) for verdict in verdicts)
        except exc.DBAPIError as error:
            raise StorageError(f"nothing was stored: {refusal(self.place, error, 'takes no verdict')}") from error

    def _insert(self, connection: Connection, verdict: Verdict) -> bool:
        """Add one verdict within a transaction; one that is there already is compared."""
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        names = ("id", "time", "who", "queue", "first", "second", "verdict", "relation", "direction", "note", "seconds")
        values = {name: _storable(getattr(verdict, name)) for name in names} | {"shown": verdict.shown_json()}
        insertion = dialect.insert(VERDICTS).values(values).on_conflict_do_nothing().returning(VERDICTS.c.id)
        if connection.execute(insertion).first() is None:
            (before,) = _read(connection, VERDICTS, VERDICTS.c.id == verdict.id)
            if not before.says_what(_stored(verdict)):
                raise VerdictError(
                    f"the id {verdict.id} stands for another verdict: send this one with an id of its own"
                )
            return False
        for earlier in verdict.supersedes:
            if connection.execute(select(VERDICTS.c.id).where(VERDICTS.c.id == earlier)).first() is None:
                raise VerdictError(
                    f"there is no verdict {earlier[:80]!r} that could be superseded: ask for the list again"
                )
            connection.execute(SUPERSEDED.insert().values(id=verdict.id, earlier=earlier))
        return True

    def withdraw(self, identity: str, who: str) -> Verdict:
        """Take a verdict back: the pair is as if it had not been given, and what was said stays in the history.

        So what it took the place of is in force again.

        Args:
            identity: id of the verdict.
            who: the person who takes it back.

        Returns:
            The verdict that says so.

        Raises:
            VerdictError: there is no such verdict, or it is itself one that takes another back.
            StorageError: the database does not take it at present.
        """
        earlier = self.get(identity)
        if earlier is None:
            raise VerdictError(f"there is no verdict {identity[:80]!r} that could be withdrawn: ask for the list again")
        if earlier.verdict == WITHDRAWN:
            raise VerdictError(f"{identity} takes a verdict back, which cannot be withdrawn: answer the pair anew")
        undone = Verdict(earlier.first, earlier.second, WITHDRAWN, who, earlier.queue, supersedes=(identity,))
        self.add(undone)
        return undone

    def get(self, identity: str) -> Verdict | None:
        """The verdict of an id, whether it is in force or not."""
        with self._reading() as connection:
            return next(iter(_read(connection, VERDICTS, VERDICTS.c.id == identity)), None)

    def current(self) -> list[Verdict]:
        """The verdicts in force, oldest first: each person's last one on each pair, if not withdrawn or superseded."""
        with self._reading() as connection:
            return _read(connection, _CURRENT)

    def of_pair(self, photo: str, partner: str) -> list[Verdict]:
        """The verdicts in force on two photos, oldest first."""
        first, second = pair_of(photo, partner)
        with self._reading() as connection:
            return _read(connection, _CURRENT, _CURRENT.c.first == first, _CURRENT.c.second == second)

    def history(self, after: int = 0) -> list[Verdict]:
        """Every verdict ever given, oldest first.

        Args:
            after: number, as `last` gives it, after which verdicts are read; they are numbered from 1 in the order of
                storing.
        """
        with self._reading() as connection:
            return _read(connection, VERDICTS, VERDICTS.c.number > after)

    def last(self) -> int:
        """Number of the verdict that was stored last, 0 where there is none: a change of it means news."""
        with self._reading() as connection:
            newest = select(VERDICTS.c.number).order_by(VERDICTS.c.number.desc()).limit(1)
            return int(connection.execute(newest).scalar() or 0)


_CURRENT = named_table(IN_FORCE, *(column._copy() for column in VERDICTS.columns))  # noqa: SLF001
"""The view of the verdicts in force, with the columns of their table."""


def open_verdicts(out: Path, url: str = "") -> Verdicts:
    """Open the verdicts of an output folder, and make the database where there is none.

    Where they cannot be written, they can still be read.

    Args:
        out: the output folder, where `verdicts.sqlite` lies.
        url: another database, as SQLAlchemy writes it: `postgresql+psycopg://user@host/name` or `sqlite:///path`.

    Raises:
        VerdictError: the database cannot be opened or is none of verdicts.
    """
    if not url:
        out.mkdir(parents=True, exist_ok=True)
    return Verdicts(*open_database(out / DATABASE, url))


def _storable(value: Any) -> Any:
    """Text as any database takes it: lone surrogates escaped, no NUL."""
    return encodable(value).replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _stored(verdict: Verdict) -> Verdict:
    """A verdict as the database gives it back."""
    texts = {name: _storable(getattr(verdict, name)) for name in ("who", "relation", "note")}
    return replace(
        verdict, **texts, shown=json.loads(verdict.shown_json()), supersedes=tuple(sorted(verdict.supersedes))
    )


def _read(connection: Connection, source: Any, *conditions: Any) -> list[Verdict]:
    """The verdicts of a table or view that meet some conditions, oldest first."""
    rows = connection.execute(select(source).where(*conditions).order_by(source.c.number)).all()
    chosen = select(SUPERSEDED).join(source, source.c.id == SUPERSEDED.c.id).where(*conditions)
    earlier: defaultdict[str, list[str]] = defaultdict(list)
    for row in connection.execute(chosen):
        earlier[row.id].append(row.earlier)
    return [_verdict(row, sorted(earlier[row.id])) for row in rows]


def _verdict(row: Row[Any], supersedes: Sequence[str]) -> Verdict:
    """One verdict from its row."""
    values = row._asdict()
    del values["number"]
    return Verdict(**values | {"shown": json.loads(values["shown"]), "supersedes": tuple(supersedes)})
