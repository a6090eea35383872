"""What steps of flows decide by themselves, called as functions: no server runs."""

from pathlib import Path

import pytest
from prefect.states import Failed

from neardup.errors import ArchiveError, TrackingError
from neardup.review.record.links import Links
from neardup.review.record.verdicts import DATABASE, DIFFERENT, SAME, Verdict, open_verdicts
from neardup.words import duration
from tasks.decisions import VERDICTS_URL, judged_pairs, kept_verdicts, links_of
from tasks.duplicates import KEYPOINTS, _efforts, _Progress
from tasks.running import RETRY, outside_fault

A, B, C = (letter * 64 for letter in "abc")


@pytest.mark.parametrize(
    ("fault", "is_tried_again"),
    [
        (OSError(28, "No space left on device"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (TrackingError("MLflow does not answer"), True),
        (FileNotFoundError(), False),
        (FileExistsError(), False),
        (IsADirectoryError(), False),
        (NotADirectoryError(), False),
        (PermissionError(), False),
        (ArchiveError("the ground truth is broken"), False),
        (ValueError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_fault_that_may_pass_is_tried_again(fault: Exception, is_tried_again: bool) -> None:  # noqa: FBT001 - expected
    """A disk that is full, a server that is away; nothing that a person must mend."""
    assert outside_fault(None, None, Failed(data=fault)) == is_tried_again  # type: ignore[arg-type]
    assert {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": outside_fault} == RETRY


def test_verdicts_of_a_team_come_from_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else from the output folder, and where none were given nothing is made."""
    monkeypatch.delenv(VERDICTS_URL, raising=False)
    out, team = tmp_path / "out", tmp_path / "team"
    out.mkdir()
    assert kept_verdicts(out) is None
    assert (links_of(out), list(out.iterdir())) == (Links.of(()), [])
    for folder, answer in ((out, SAME), (team, DIFFERENT)):
        with open_verdicts(folder) as kept:
            kept.add(Verdict.of(A, B, answer, who="Ada", queue="review"))
            kept.add(Verdict.of(B, C, SAME, who="Ada", queue="review"))
    own = judged_pairs(out)
    assert (own.answers, own.together, own.apart) == ({(A, B): SAME, (B, C): SAME}, ((A, B), (B, C)), ())
    monkeypatch.setenv(VERDICTS_URL, f"sqlite:///{team / DATABASE}")
    theirs = judged_pairs(out)
    assert (theirs.together, theirs.apart) == (((B, C),), ((A, B),))


def test_a_long_step_says_how_much_is_done_and_how_long_it_takes() -> None:
    """Not at each part, but once all is done."""
    lines = list[str]()
    progress = _Progress("compared", "pairs", 2_000, lines.append)
    progress.add(500)
    assert lines == []
    progress.began -= 10
    progress.next = progress.began
    progress.add(500)
    assert lines[0].startswith("compared 1,000 of 2,000 pairs, ")
    assert lines[0].endswith(" a second, 10 s left")
    progress.add(1_000)
    assert lines[1].endswith(", 0 s left")
    assert [duration(seconds) for seconds in (59.6, 3599, 7260)] == ["1 min 00 s", "59 min 59 s", "2 h 01 min"]


def test_the_time_left_counts_the_keypoints_that_are_still_to_be_made() -> None:
    """Half of the effort is the first half of the time, however few pairs it was; what is cached takes none."""
    shards = [[("a", "b"), ("c", "d")], [("a", "c"), ("b", "e")], [("a", "d"), ("b", "c")]]
    assert _efforts(shards, {"e"}.__contains__) == [2 + 4 * KEYPOINTS, 2, 2]
    assert _efforts(shards, set[str]().__contains__) == [2 + 4 * KEYPOINTS, 2 + KEYPOINTS, 2]
    lines = list[str]()
    progress = _Progress("verified", "pairs", 4, lines.append, effort=100)
    progress.began -= 10
    progress.next = progress.began
    progress.add(2, 50)
    progress.add(1, 30)
    assert lines == ["verified 2 of 4 pairs, 0.2 a second, 10 s left"]
