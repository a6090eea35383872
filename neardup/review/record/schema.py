"""The tables of the verdicts' database, which only ever grow: triggers refuse every change and every deletion."""

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
)
from sqlalchemy import text as sql

METADATA = MetaData()
"""The tables of the database."""

VERDICTS = Table(
    "verdicts",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("time", String(32), nullable=False),
    Column("who", Text, nullable=False),
    Column("queue", String(16), nullable=False),
    Column("first", String(64), nullable=False),
    Column("second", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("relation", Text, nullable=False),
    Column("direction", String(8), nullable=False),
    Column("note", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("seconds", Float),
    Index("verdicts_pair", "first", "second"),
    sqlite_autoincrement=True,
)
"""One row a verdict, in the order in which they were stored."""

SUPERSEDED = Table(
    "superseded",
    METADATA,
    Column("id", String(64), ForeignKey("verdicts.id"), primary_key=True),
    Column("earlier", String(64), ForeignKey("verdicts.id"), primary_key=True),
    Index("superseded_earlier", "earlier"),
)
"""One row for each earlier verdict that a verdict takes the place of."""

IN_FORCE = "verdicts_in_force"
"""The view of the verdicts in force."""
_VIEWS = (
    """CREATE VIEW verdicts_that_stand AS SELECT v.* FROM verdicts v
    WHERE v.verdict <> 'withdrawn'
      AND NOT EXISTS (SELECT 1 FROM superseded s JOIN verdicts w ON w.id = s.id
                      WHERE s.earlier = v.id AND w.verdict = 'withdrawn')""",
    """CREATE VIEW verdicts_in_force AS SELECT v.* FROM verdicts_that_stand v
    WHERE NOT EXISTS (SELECT 1 FROM superseded s JOIN verdicts_that_stand w ON w.id = s.id WHERE s.earlier = v.id)
      AND NOT EXISTS (SELECT 1 FROM verdicts_that_stand w
                      WHERE w.first = v.first AND w.second = v.second AND w.who = v.who AND w.number > v.number)""",
)
"""Make the views: of what was not taken back, and of the last verdict of each person on each pair, if not superseded.

So what a person said before a verdict that is taken back is in force again.
"""
_FORMER_VIEW = "DROP VIEW IF EXISTS current_verdicts"
"""Takes away the view of older databases, for which a verdict that was taken back took the earlier ones with it."""

_REFUSAL = "verdicts are never changed or deleted: add one that supersedes"
"""The database's message on an attempt to change or delete a verdict."""

_SQLITE = [
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{event.lower()} BEFORE {event} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for table in ("verdicts", "superseded")
        for event in ("UPDATE", "DELETE")
    ),
    # INSERT OR REPLACE deletes what it replaces without asking the trigger above, so a known id is passed over here.
    """CREATE TRIGGER IF NOT EXISTS verdicts_once BEFORE INSERT ON verdicts
    WHEN EXISTS (SELECT 1 FROM verdicts WHERE id = NEW.id OR number = NEW.number) BEGIN SELECT RAISE(IGNORE); END""",
    _FORMER_VIEW,
    *_VIEWS,
]
"""What makes the triggers and the view in SQLite; the view comes last, so that where it is there, all is."""
_POSTGRESQL = [
    f"""CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$""",
    *(
        f"CREATE OR REPLACE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        for table in ("verdicts", "superseded")
    ),
    _FORMER_VIEW,
    *_VIEWS,
]
"""What makes the triggers and the view in PostgreSQL; the view comes last, so that where it is there, all is."""
_STATEMENTS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
"""Dialect → the statements that follow the making of the tables."""
DIALECTS = tuple(_STATEMENTS)
"""The databases that verdicts can be kept in."""
_LOCK = 5_417_286_031
"""Number of the PostgreSQL lock that writers take: they are numbered by it in the order in which others see them."""


def one_writer(connection: Connection) -> None:
    """Begin a transaction as the only writer, and wait for another one until it has ended."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def create(connection: Connection) -> None:
    """Make the tables, the view and the triggers where they are not there yet; several processes may do so at once."""
    if inspect(connection).has_table(IN_FORCE):
        return
    one_writer(connection)
    if inspect(connection).has_table(IN_FORCE):
        return
    METADATA.create_all(connection)
    for statement in _STATEMENTS[connection.dialect.name]:
        connection.execute(sql(statement))
