"""The queue of the ground truth, through the real server: what it asks, why, and what becomes of the answers."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import openpyxl
import pytest
from commands import neardup
from made_results import small_results
from openpyxl import Workbook
from review_server import Desk, asked, opened

from neardup.archive.prepare import prepare
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict, open_verdicts
from neardup.settings.schema import PrepareSettings
from neardup.stages import digest_file

SESSION = "session"
"""The name of a browser."""


def name(group: int, photo: int) -> str:
    """Name of a photo of the made results, as a historian writes it: without extension."""
    return f"Aamulehti_191111{group + 1:02d}_P{photo + 1}_01"


ROWS = (
    [name(0, 0), name(0, 1)],
    [name(0, 2)],
    [name(1, 0), name(1, 1), name(1, 2), name(2, 0)],
    [name(3, 0), name(3, 1), name(3, 2)],
)
"""Two rows that should be one, a row with a photo of another picture, whose copies are in no row, and a right row."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Four groups of three photos, and a ground truth that is wrong three times."""
    archive, out = small_results(tmp_path, groups=4)
    book = Workbook()
    for row in ROWS:
        book.active.append(row)
    book.save(archive / "donnees_IS.xlsx")
    prepare(archive, out, PrepareSettings())
    with opened(out) as found:
        yield found


def asks(desk: Desk) -> list[set[str]]:
    """The names of the photos of the open tasks, pair by pair, in the order of the queue."""
    tasks = desk.get("/api/tasks", queue="ground truth", session=SESSION)["tasks"]
    return [{task[side]["name"].removesuffix(".jpg") for side in ("photo", "partner")} for task in tasks]


def answer(desk: Desk, verdict: str, number: int = 0) -> None:
    """Answer an open task."""
    task = desk.get("/api/tasks", queue="ground truth", session=SESSION)["tasks"][number]
    photos = {side: task[side]["sha256"] for side in ("photo", "partner")}
    desk.post("/api/verdict", id=str(uuid4()), verdict=verdict, who="Ada", queue="ground truth", **photos)


def test_two_rows_and_each_part_of_a_row_are_asked_once(desk: Desk) -> None:
    """The likeliest missing pair first, then the part of a row that nothing holds to the rest; each says why."""
    found = desk.get("/api/tasks", queue="ground truth", session=SESSION)
    assert asks(desk) == [{name(2, 0), name(2, 1)}, {name(0, 1), name(0, 2)}, {name(2, 0), name(1, 0)}]
    assert found["progress"]["left"] == 3
    assert [(task["reason"]["name"], task["reason"]["values"]) for task in found["tasks"]] == [
        ("truth_no_row", {"row": "3 (Sheet)"}),
        ("truth_two_rows", {"row": "1 (Sheet)", "other": "2 (Sheet)"}),
        ("truth_apart", {"row": "3 (Sheet)"}),
    ]
    assert [task["probability"] for task in found["tasks"]] == [0.97, 0.9, None]


def test_a_browser_gets_pairs_for_those_that_it_has_used_up(desk: Desk) -> None:
    """Pairs that it cannot show are no pairs ahead, and one that took an answer back has one more than it needs."""
    query = {"queue": "ground truth", "session": SESSION}
    assert len(desk.get("/api/tasks", **query, but="91,92,93,94")["tasks"]) == 3
    assert desk.get("/api/tasks", **query, but="91,92,93,94,95", held=5)["tasks"] == []


def test_an_answer_is_kept_with_its_reason_and_not_asked_again(desk: Desk) -> None:
    """It says in which queue; taken back, its task is there again; answered elsewhere, it is not asked either."""
    answer(desk, SAME, 1)
    (kept,) = desk.verdicts
    assert (kept.queue, kept.verdict) == ("ground truth", SAME)
    assert kept.shown["reason"] == "Likely one picture, yet in two rows of the ground truth: 1 (Sheet) and 2 (Sheet)."
    assert {name(0, 1), name(0, 2)} not in asks(desk)
    back = desk.post("/api/undo", ids=[kept.id], who="Ada")
    assert back["task"]["reason"]["name"] == "truth_two_rows"
    assert {name(0, 1), name(0, 2)} in asks(desk)
    photos = [desk.out.parent / "archive/presse/photos" / f"{name(0, photo)}.jpg" for photo in (0, 2)]
    with open_verdicts(desk.out) as verdicts:
        verdicts.add(Verdict.of(*map(digest_file, photos), SAME, who="Ben", queue="import"))
    assert len(asks(desk)) == 2


def test_answers_change_the_proposed_ground_truth(desk: Desk) -> None:
    """Rows are joined, a photo joins a row, another leaves for one of its own, and a right row stays as it is."""
    answer(desk, DIFFERENT, 2)
    answer(desk, SAME, 0)
    answer(desk, SAME, 0)
    assert asks(desk) == []
    result = neardup("verdicts", "propose", "--out", desk.out, cwd=desk.out)
    assert result.returncode == 0, result.stderr
    (sheet,) = openpyxl.load_workbook(desk.out / "proposed_IS.xlsx")
    rows = [[cell for cell in row if cell] for row in sheet.iter_rows(values_only=True)]
    assert rows[0] == [name(0, 0), name(0, 1), name(0, 2)]
    assert rows[1] == []
    assert rows[2] == [name(1, 0), name(1, 1), name(1, 2)]
    assert rows[3] == ROWS[3]
    assert rows[4] == [name(2, 0), f"{name(2, 1)}.jpg"]


def test_results_without_a_ground_truth_have_no_such_page(tmp_path: Path) -> None:
    """Nothing leads to it, and it asks nothing."""
    _, out = small_results(tmp_path, groups=2)
    with opened(out) as desk:
        assert 'href="/truth"' not in asked(desk.address, "/review")[1]
        assert asks(desk) == []


def test_the_page_is_there_in_french_too(desk: Desk) -> None:
    """Its name stands between the other queues, and it says what becomes of the answers."""
    text = asked(desk.address, "/truth", Accept_Language="fr")[1]
    assert '<a href="/truth" aria-current="page">Vérité terrain</a>' in text
    assert "proposed_IS.xlsx" in text
