"""Verdicts: kept for good, by whomever and however many at once, and what follows from them."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from tempfile import mkdtemp

import pytest
from servers import free_port
from sqlalchemy import create_engine, exc, text

from neardup.decide.promises import Audit
from neardup.errors import StorageError, VerdictError
from neardup.review.record.figures import verdict_figures
from neardup.review.record.links import Links, agreements, save_known_pairs
from neardup.review.record.verdicts import (
    CANNOT_TELL,
    DATABASE,
    DIFFERENT,
    SAME,
    SAME_SCENE,
    WITHDRAWN,
    Verdict,
    Verdicts,
    open_verdicts,
)
from neardup.train.batches import KnownPairs

A, B, C, D = (letter * 64 for letter in "abcd")
POSTGRESQL = Path("/usr/lib/postgresql")
"""Where Debian puts PostgreSQL, a folder a version."""


def verdict(photo: str, partner: str, answer: str, who: str = "Ada", queue: str = "review", **more: object) -> Verdict:
    """A verdict that needs no more words."""
    return Verdict.of(photo, partner, answer, who=who, queue=queue, **more)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a real PostgreSQL, which is started for the tests as somebody who is not root."""
    folders = sorted(POSTGRESQL.glob("*/bin"))
    if not folders:
        pytest.skip(f"PostgreSQL is not installed in {POSTGRESQL}")
    # Folders of pytest are closed to all but the one who runs the tests.
    home = Path(mkdtemp(prefix="postgresql-"))
    person: dict[str, object] = {}
    if os.getuid() == 0:
        person = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(home, "postgres", "postgres")
    port, data = free_port(), home / "data"
    subprocess.run(
        [folders[-1] / "initdb", "-D", data, "-U", "neardup", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True, cwd=home, **person,
    )  # fmt: skip
    server = subprocess.Popen(
        [folders[-1] / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", home],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home, **person,
    )  # fmt: skip
    url = f"postgresql+psycopg://neardup@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(home)


def _wait_for(url: str) -> None:
    """Wait until a database answers."""
    engine = create_engine(url)
    for _ in range(100):
        try:
            engine.connect().close()
        except exc.OperationalError:
            time.sleep(0.1)
        else:
            break
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """The folder and the address of an empty database, of each kind."""
    if request.param == "sqlite":
        return tmp_path, ""
    server = request.getfixturevalue("postgresql")
    name = f"v{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return tmp_path, server.removesuffix("postgres") + name


@pytest.fixture
def kept(place: tuple[Path, str]) -> Iterator[Verdicts]:
    """An empty database of verdicts."""
    with open_verdicts(*place) as verdicts:
        yield verdicts


def test_a_verdict_comes_back_as_it_was_given(kept: Verdicts, place: tuple[Path, str]) -> None:
    """Whatever was shown and written, in any script, is read again from another connection."""
    shown = {"probability": 0.4375, "band": "review", "thresholds": [0.2, 0.9], "fingerprints": {"encoder": "e"}}
    given = verdict(
        B, A, SAME, who="Chérau", relation="crop 62 %", note='=1+1 "<b>" 漢字 \U0001f4f7\n', shown=shown, seconds=2.5
    )
    kept.add(given)
    with open_verdicts(*place) as again:
        assert again.current() == [given]


def test_a_pair_is_the_same_in_either_order(kept: Verdicts) -> None:
    """The contents are ordered, and the direction turns with them."""
    kept.add(verdict(B, A, SAME, direction="first"))
    (found,) = kept.of_pair(A, B)
    assert (found.pair, found.direction) == ((A, B), "second")


@pytest.mark.parametrize(
    ("photo", "partner", "answer", "more", "reason"),
    [
        (A, A, SAME, {}, "the same photo twice"),
        (A, "b" * 63, SAME, {}, "is no SHA-256"),
        (A, "B" * 64, SAME, {}, "is no SHA-256"),
        (A, B, "identical", {}, "is no verdict of a verdict"),
        (A, B, SAME, {"queue": "gossip"}, "is no queue"),
        (A, B, SAME, {"direction": "left"}, "is no direction"),
        (A, B, SAME, {"who": " "}, "needs somebody"),
        (A, B, SAME, {"shown": {"probability": float("nan")}}, "cannot be kept"),
        (A, B, SAME, {"id": "x'; DROP TABLE verdicts"}, "is no id"),
        (A, B, WITHDRAWN, {}, "names no verdict"),
    ],
)
def test_what_is_no_verdict_is_refused(
    photo: str, partner: str, answer: str, more: dict[str, str], reason: str
) -> None:
    """A photo against itself, a digest that is none, an unknown word: one sentence each."""
    with pytest.raises(VerdictError, match=reason):
        verdict(photo, partner, answer, **more)


def test_sent_twice_it_is_stored_once(kept: Verdicts) -> None:
    """A client that got no answer sends the same id again, a little later, when another run may show something else."""
    first = verdict(A, B, SAME)
    again = replace(first, time="2030-01-01T00:00:00.000+00:00", shown={"probability": 0.5})
    assert [kept.add(first), kept.add(again), len(kept.history())] == [True, False, 1]


def test_an_id_stands_for_one_verdict(kept: Verdicts) -> None:
    """Another answer under a known id is refused, and the first stays."""
    first = verdict(A, B, SAME)
    kept.add(first)
    with pytest.raises(VerdictError, match="stands for another verdict"):
        kept.add(replace(first, verdict=DIFFERENT))
    assert kept.current() == [first]


def test_several_are_stored_all_or_none(kept: Verdicts) -> None:
    """One that cannot be stored leaves nothing of the others behind."""
    with pytest.raises(VerdictError, match="no verdict 'gone'"):
        kept.add_all([verdict(A, B, SAME), verdict(A, C, SAME, supersedes=("gone",))])
    assert kept.history() == []


def test_each_persons_last_word_counts(kept: Verdicts) -> None:
    """Somebody who answers again has changed their mind; what they said first stays in the history."""
    for answer, who in ((SAME, "Ada"), (SAME, "Ben"), (DIFFERENT, "Ada")):
        kept.add(verdict(A, B, answer, who))
    assert [(v.who, v.verdict) for v in kept.current()] == [("Ben", SAME), ("Ada", DIFFERENT)]
    assert len(kept.history()) == 3


def test_undo_is_a_verdict(kept: Verdicts) -> None:
    """What was withdrawn is no longer in force, and a verdict may be given anew."""
    first = verdict(A, B, SAME)
    kept.add(first)
    undone = kept.withdraw(first.id, "Ada")
    assert (undone.verdict, undone.supersedes, kept.current()) == (WITHDRAWN, (first.id,), [])
    kept.add(verdict(A, B, DIFFERENT))
    assert [v.verdict for v in kept.current()] == [DIFFERENT]


def test_an_undo_brings_back_what_was_said_before(kept: Verdicts) -> None:
    """A changed mind, a settlement, and each of them taken back, the settlement of another person's words too."""
    first, second = verdict(A, B, SAME), verdict(A, B, DIFFERENT)
    other = verdict(A, B, SAME, "Ben")
    settled = verdict(A, B, CANNOT_TELL, "Cyd", supersedes=tuple(sorted((other.id, second.id))))
    kept.add_all([first, second, other, settled])
    assert kept.current() == [settled]
    kept.withdraw(settled.id, "Cyd")
    assert kept.current() == [second, other]
    kept.withdraw(second.id, "Ada")
    assert kept.of_pair(A, B) == kept.current() == [first, other]
    kept.withdraw(first.id, "Ada")
    assert kept.current() == [other]
    assert agreements([first, second, other, kept.withdraw(second.id, "Ada")])[0].agreed == 1


def test_a_database_of_an_older_version_has_the_new_view(tmp_path: Path) -> None:
    """Its view took all earlier answers away with a verdict that was taken back."""
    first, second = verdict(A, B, SAME), verdict(A, B, DIFFERENT)
    with open_verdicts(tmp_path) as kept:
        kept.add_all([first, second])
        kept.withdraw(second.id, "Ada")
    with closing(sqlite3.connect(tmp_path / DATABASE)) as older, older:
        older.execute("DROP VIEW verdicts_in_force")
        older.execute("DROP VIEW verdicts_that_stand")
        older.execute("CREATE VIEW current_verdicts AS SELECT * FROM verdicts WHERE FALSE")
    with open_verdicts(tmp_path) as kept:
        assert kept.current() == [first]
    with closing(sqlite3.connect(tmp_path / DATABASE)) as newer:
        views = newer.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name").fetchall()
    assert views == [("verdicts_in_force",), ("verdicts_that_stand",)]


def test_to_withdraw_anothers_verdict_leaves_ones_own(kept: Verdicts) -> None:
    """Only the verdict that is named goes."""
    kept.add(verdict(A, B, SAME, "Ada"))
    other = verdict(A, B, DIFFERENT, "Ben")
    kept.add(other)
    kept.withdraw(other.id, "Ada")
    assert [v.who for v in kept.current()] == ["Ada"]


def test_a_withdrawal_cannot_be_withdrawn(kept: Verdicts) -> None:
    """It says what to do instead; what it took back stays taken back, and counts in its queue once."""
    kept.add(given := verdict(A, B, SAME))
    undone = kept.withdraw(given.id, "Ada")
    with pytest.raises(VerdictError, match="answer the pair anew"):
        kept.withdraw(undone.id, "Ada")
    assert kept.current() == []
    figures = verdict_figures(kept.history(), Links.of(kept.current()), Audit(0, 0))
    assert (figures["verdicts same"], figures["verdicts of review"]) == (1.0, 1.0)


def test_a_name_is_one_person_however_its_accents_are_composed(kept: Verdicts) -> None:
    """A Mac and a browser send one name in two ways: the last word of both counts, and nobody agrees with herself."""
    kept.add(verdict(A, B, SAME, who=unicodedata.normalize("NFD", "Zoé")))
    kept.add(verdict(A, B, DIFFERENT, who=unicodedata.normalize("NFC", "Zoé")))
    assert [each.verdict for each in kept.current()] == [DIFFERENT]
    assert agreements(kept.history()) == []


def test_whoever_settles_supersedes_both(kept: Verdicts) -> None:
    """A disagreement ends by a verdict that takes the place of all that disagree."""
    given = [verdict(A, B, SAME, "Ada"), verdict(A, B, DIFFERENT, "Ben")]
    kept.add_all(given)
    assert Links.of(kept.current()).must == ()
    kept.add(verdict(A, B, SAME, "Cyd", supersedes=tuple(v.id for v in given)))
    links = Links.of(kept.current())
    assert (links.contradictions, links.must) == ((), ((A, B),))


def test_the_number_of_the_last_tells_of_news(kept: Verdicts) -> None:
    """Whoever remembers it reads only what came after."""
    kept.add(verdict(A, B, SAME))
    before = kept.last()
    news = verdict(A, C, SAME)
    kept.add(news)
    assert kept.history(after=before) == [news]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE verdicts SET verdict = 'different'", "DELETE FROM verdicts", "UPDATE superseded SET id = 'x'",
     "DELETE FROM superseded"],
)  # fmt: skip
def test_nothing_is_changed_or_deleted(kept: Verdicts, statement: str) -> None:
    """Whoever tries it past us is refused by the database itself."""
    first = verdict(A, B, SAME)
    kept.add_all([first, verdict(A, B, DIFFERENT, supersedes=(first.id,))])
    with pytest.raises(exc.DBAPIError, match="never changed or deleted"), kept._engine.begin() as connection:
        connection.execute(text(statement))
    assert [v.verdict for v in kept.history()] == [SAME, DIFFERENT]


def test_sqlite_replaces_no_row(tmp_path: Path) -> None:
    """INSERT OR REPLACE, which deletes without a trigger, is passed over, from a connection that is not ours too."""
    with open_verdicts(tmp_path) as kept:
        kept.add(verdict(A, B, SAME))
        with closing(sqlite3.connect(tmp_path / DATABASE)) as other, other:
            row = other.execute("SELECT * FROM verdicts").fetchone()
            changed = [DIFFERENT if value == SAME else value for value in row]
            other.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", changed)
        assert [v.verdict for v in kept.history()] == [SAME]


def test_sqlite_writes_ahead_and_flushes(tmp_path: Path) -> None:
    """The journal is a write-ahead log and each commit is flushed, so that a power cut costs no answer.

    Whoever comes while another one writes waits for a minute.
    """
    names = ("journal_mode", "synchronous", "busy_timeout")
    with open_verdicts(tmp_path) as kept, kept._engine.connect() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]
    assert pragmas == ["wal", 2, 60_000]


@pytest.mark.parametrize("name", ["photos?", "photos?mode=ro", "photos#1", "50 %20"])
def test_whatever_a_folder_is_called_it_keeps_its_verdicts(tmp_path: Path, name: str) -> None:
    """Signs that mean something in an address are letters of a folder's name."""
    folder = tmp_path / name / "results"
    with open_verdicts(folder) as kept:
        kept.add(verdict(A, B, SAME))
    assert (folder / DATABASE).is_file()
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "is no URL"),
        ("mysql+mysqldb://me:secret@host/x", "neither SQLite nor PostgreSQL"),
        ("postgresql+asyncpgx://me:secret@host/x", "is no URL"),
        ("postgresql+pg8000://me:secret@host/x", "needs a driver that is not installed"),
        ("sqlite:////nowhere/at/all.sqlite", "cannot be opened"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(tmp_path: Path, url: str, reason: str) -> None:
    """No traceback of a driver, and no password in the sentence."""
    with pytest.raises(VerdictError, match=reason) as refused:
        open_verdicts(tmp_path, url)
    assert "secret" not in str(refused.value)


def test_a_password_in_the_query_of_an_address_is_not_said(tmp_path: Path) -> None:
    """PostgreSQL takes one there, too."""
    with pytest.raises(VerdictError) as refused:
        open_verdicts(tmp_path, f"postgresql+psycopg://u@127.0.0.1:{free_port()}/x?password=hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_database_that_is_locked_or_away_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is another fault than a file that is none, and a task tries again."""
    monkeypatch.setattr("neardup.review.record.opening.WAIT_S", 0)
    open_verdicts(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="locked"):
            open_verdicts(tmp_path)
    with pytest.raises(StorageError, match="cannot be opened"):
        open_verdicts(tmp_path, f"postgresql+psycopg://u@127.0.0.1:{free_port()}/x")
    (tmp_path / DATABASE).write_bytes(b"no database" * 100)
    with pytest.raises(VerdictError) as refused:
        open_verdicts(tmp_path)
    assert not isinstance(refused.value, StorageError)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """What lies there is left as it is."""
    (tmp_path / DATABASE).write_bytes(b"something else, long enough to be no header of a database" * 20)
    with pytest.raises(VerdictError, match="cannot be opened as a database of verdicts"):
        open_verdicts(tmp_path)
    assert (tmp_path / DATABASE).read_bytes().startswith(b"something else")


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b"aaaaaaaaaa", b"aaaaaabaaa"),
        (b"different", b"diffirent"),
        (b'{"band"', b'{|band"'),
        (b"\x0d\x00", b"\x4d\x00"),
    ],
)
def test_a_damaged_verdict_is_one_sentence_and_never_another_verdict(
    tmp_path: Path, written: bytes, damaged: bytes
) -> None:
    """A digest stands in an index too, an answer is one of few words, and a page has its kind."""
    with open_verdicts(tmp_path) as kept:
        kept.add(verdict(A, B, DIFFERENT, shown={"band": "link"}))
    data = (tmp_path / DATABASE).read_bytes()
    place = data.index(written, data.index(b"CREATE TABLE"))
    (tmp_path / DATABASE).write_bytes(data[:place] + damaged + data[place + len(written) :])
    with (
        pytest.raises(VerdictError, match=r"malformed.*put its last copy in its place"),
        open_verdicts(tmp_path) as kept,
    ):
        kept.current()


def test_a_database_that_cannot_be_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that can only be read: whoever answers learns what right is missing, and nothing lies beside it."""
    with open_verdicts(tmp_path) as kept:
        kept.add(verdict(A, B, SAME))
    monkeypatch.setattr(os, "access", lambda _path, mode, **_: mode != os.W_OK)
    with open_verdicts(tmp_path) as kept:
        assert [v.verdict for v in kept.current()] == [SAME]
        with pytest.raises(VerdictError, match=r"nothing was stored: .*readonly.*ask for the right to write it"):
            kept.add(verdict(A, C, SAME))
        assert [file.name for file in tmp_path.iterdir()] == [DATABASE]


TWO_WRITERS = """
import sys
from pathlib import Path
from neardup.review.record.verdicts import Verdict, open_verdicts
kept = open_verdicts(Path(sys.argv[1]), sys.argv[2])
for number in range(40):
    for who in (sys.argv[3], "both"):
        name = f"{who}-{number}"
        kept.add(Verdict.of("a" * 64, f"{number:064x}", "same", who=who, queue="review", id=name))
"""
"""A process that gives verdicts, half of them under ids that the other one sends too."""


def test_two_write_at_once(place: tuple[Path, str]) -> None:
    """Nothing is lost and nothing doubled, even where both make the tables and send the same verdicts."""
    names = ("Ada", "Ben")
    writers = [subprocess.Popen([sys.executable, "-c", TWO_WRITERS, *map(str, place), who]) for who in names]
    ends = [writer.wait(60) for writer in writers]
    with open_verdicts(*place) as kept:
        found = sorted(v.id for v in kept.history())
    assert ends == [0, 0]
    assert found == sorted(f"{who}-{number}" for who in ("Ada", "Ben", "both") for number in range(40))


WRITER = """
import sys
from pathlib import Path
from neardup.review.record.verdicts import Verdict, open_verdicts
kept = open_verdicts(Path(sys.argv[1]), sys.argv[2])
for number in range(10**6):
    kept.add(Verdict.of("a" * 64, f"{number:064x}", "same", who="Ada", queue="review", id=f"v{number}"))
    print(number, flush=True)
"""
"""A process that says which verdict was stored, for as long as it lives."""


def test_killed_it_loses_nothing_that_was_answered(place: tuple[Path, str]) -> None:
    """After kill -9 in the middle, every verdict that was acknowledged is there, whole."""
    command = [sys.executable, "-c", WRITER, *map(str, place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        lines = [writer.stdout.readline() for _ in range(50)]
        writer.kill()
        acknowledged = len(lines + writer.stdout.readlines())
    with open_verdicts(*place) as kept:
        found = [v.id for v in kept.history()]
        assert kept.add(verdict(B, C, SAME))
    assert found[:acknowledged] == [f"v{number}" for number in range(acknowledged)]
    assert len(found) <= acknowledged + 1


def test_same_and_different_are_links() -> None:
    """Another exposure of a scene is no near-duplicate either; who cannot tell says nothing."""
    links = Links.of(
        [verdict(A, B, SAME), verdict(A, C, DIFFERENT), verdict(B, C, SAME_SCENE), verdict(A, D, CANNOT_TELL)]
    )
    assert (links.must, links.cannot) == (((A, B),), ((A, C), (B, C)))
    assert links.answered == {(A, B), (A, C), (B, C), (A, D)}


def test_two_who_disagree_are_listed() -> None:
    """The pair is no link until somebody settles it; whoever cannot tell disagrees with nobody."""
    links = Links.of([verdict(A, B, SAME, "Ada"), verdict(A, B, DIFFERENT, "Ben"), verdict(A, B, CANNOT_TELL, "Cyd")])
    (found,) = links.contradictions
    assert [v.who for v in found.verdicts] == ["Ada", "Ben"]
    assert found.sentence == "aaaaaaaa and bbbbbbbb: Ada says same, Ben says different"
    assert (links.must, links.cannot) == ((), ())


def test_a_chain_that_contradicts_itself_is_listed() -> None:
    """Of a = b and b = c and a ≠ c all three wait, a link elsewhere does not."""
    links = Links.of([verdict(A, B, SAME), verdict(B, C, SAME), verdict(A, C, DIFFERENT), verdict(C, D, SAME)])
    (found,) = links.contradictions
    assert ([v.pair for v in found.apart], [v.pair for v in found.chain]) == ([(A, C)], [(A, B), (B, C)])
    assert (links.must, links.cannot) == (((C, D),), ())
    assert found.sentence.endswith("yet they are the same by aaaaaaaa = bbbbbbbb (Ada); bbbbbbbb = cccccccc (Ada)")


def test_every_chain_between_two_is_listed() -> None:
    """What is left as links contradicts nothing, however many ways lead from one photo to the other."""
    ways = [verdict(A, B, SAME), verdict(B, C, SAME), verdict(A, D, SAME), verdict(C, D, SAME)]
    links = Links.of([*ways, verdict(A, C, DIFFERENT)])
    assert [len(found.chain) for found in links.contradictions] == [2, 2]
    assert links.must == ()


def test_what_binds_is_the_same_in_whatever_order_it_was_said() -> None:
    """Of a = b = c = d with a ≠ c and b ≠ d one chain uses up the other's links: by pair, and not by time."""
    given = [verdict(A, B, SAME), verdict(B, C, SAME), verdict(C, D, SAME)]
    given += [verdict(A, C, DIFFERENT), verdict(B, D, DIFFERENT)]
    found = [Links.of(order) for order in permutations(given)]
    assert {(links.must, links.cannot) for links in found} == {(((C, D),), ((B, D),))}


def test_known_pairs_are_read_by_training(tmp_path: Path) -> None:
    """Same and different are what `adapted` learns from; rows that no verdict is about stay."""
    table = tmp_path / "known_pairs.csv"
    table.write_text(f"first,second,same\n{C},{D},1\n{A},{B},0\n")
    given = [verdict(A, B, SAME), verdict(A, C, DIFFERENT), verdict(B, D, SAME_SCENE)]
    save_known_pairs(table, given, Links.of(given))
    assert KnownPairs.load(table) == KnownPairs(same=((C, D), (A, B)), different=((A, C),))


def test_a_withdrawn_verdict_teaches_nothing(tmp_path: Path) -> None:
    """A pair leaves the table when its verdict is taken back."""
    table = tmp_path / "known_pairs.csv"
    with open_verdicts(tmp_path) as kept:
        given = verdict(A, B, SAME)
        kept.add(given)
        save_known_pairs(table, kept.history(), Links.of(kept.current()))
        assert KnownPairs.load(table).same == ((A, B),)
        kept.withdraw(given.id, "Ada")
        save_known_pairs(table, kept.history(), Links.of(kept.current()))
    assert KnownPairs.load(table) == KnownPairs()


def test_agreement_is_cohens_kappa() -> None:
    """20 yes, 15 no of 50 in common, 5 and 10 apart: kappa is .4 (the usual worked example)."""
    answers = [(SAME, SAME)] * 20 + [(SAME, DIFFERENT)] * 5 + [(DIFFERENT, SAME)] * 10 + [(DIFFERENT, DIFFERENT)] * 15
    given = [
        verdict(A, f"{number:064x}", answer, who)
        for number, pair in enumerate(answers)
        for who, answer in zip(("Ada", "Ben"), pair, strict=True)
    ]
    (found,) = agreements(given)
    assert (found.people, found.judged, found.agreed) == (("Ada", "Ben"), 50, 35)
    assert found.kappa == pytest.approx(0.4)


def test_whoever_settles_is_no_second_opinion() -> None:
    """A verdict that takes another's place was given in knowledge of it."""
    first = verdict(A, B, SAME, "Ada")
    assert agreements([first, verdict(A, B, SAME, "Ben", supersedes=(first.id,))]) == []


def test_agreement_is_undefined_where_all_say_one_thing() -> None:
    """Chance alone would agree fully."""
    (found,) = agreements([verdict(A, B, SAME, "Ada"), verdict(A, B, SAME, "Ben")])
    assert (found.agreed, found.kappa) == (1, None)
