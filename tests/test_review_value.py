"""What verdicts buy: groups measured on the way, by answers from a ground truth."""

from functools import partial
from pathlib import Path

import pytest
from test_recalibration import PAIRS, made_run, photo

from neardup.review.value import Point, Script, at_random, averaged, by_queue, curve


def truth_from(least: int) -> dict[str, str]:
    """The true groups of the made run: both photos of a pair from a number on show one picture."""
    return {photo(n, side): f"{n}" if n >= least else f"{n} {side}" for n in range(PAIRS) for side in (0, 1)}


@pytest.mark.parametrize("script", [by_queue, partial(at_random, 0)], ids=["queue", "random"])
def test_answers_mend_the_groups(tmp_path: Path, script: Script) -> None:
    """A machine that is too sure is put right, pair by pair; the results themselves are only read."""
    out = made_run(tmp_path / "results")
    points = curve(out, truth_from(220), script)
    assert [point.verdicts for point in points][:3] == [0, 50, 100]
    assert points[0].recall == 1 > points[0].precision
    assert points[-1].f1 > points[0].f1
    assert [file.name for file in out.iterdir()] == ["duplicates"]


def test_orders_are_averaged_step_by_step() -> None:
    """As far as all of them go."""
    one, other = Point(0, 1, 0, 0, 0), Point(0, 0, 1, 0, 1)
    assert averaged([[one, one], [other]]) == [Point(0, 0.5, 0.5, 0, 0.5)]
