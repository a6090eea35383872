"""What verdicts buy: groups measured on the way, by answers from a ground truth."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from made_results import small_results
from test_recalibration import PAIRS, made_run, photo

from neardup.detect.verified_pairs import UNLIKELY
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.review.page.browser import CHROMIUM
from neardup.review.value import Point, Script, at_random, averaged, by_page, by_queue, curve
from neardup.stages import digest_file
from neardup.verify.store import read_results


def truth_from(least: int) -> dict[str, str]:
    """The true groups of the made run: both photos of a pair from a number on show one picture."""
    return {photo(n, side): f"{n}" if n >= least else f"{n} {side}" for n in range(PAIRS) for side in (0, 1)}


@pytest.mark.parametrize(
    ("script", "bands"),
    [(by_queue, {"review"}), (partial(at_random, 0), {"review", "link"})],
    ids=["queue", "random"],
)
def test_answers_mend_the_groups(tmp_path: Path, script: Script, bands: set[str]) -> None:
    """A machine that is too sure is put right, pair by pair; the results themselves are only read.

    The queue ends with the last of the pairs that are in doubt.
    """
    out = made_run(tmp_path / "results")
    points = curve(out, truth_from(330), script)
    pairs = read_results(out / "duplicates" / "pairs.parquet", out, ["band", "probability"]).to_pandas()
    asked = int((pairs.band.isin(bands) & (pairs.probability >= UNLIKELY)).sum())
    assert [points[place].verdicts for place in (0, 1, -1)] == [0, 50, asked]
    assert points[0].recall == 1 > points[0].precision
    assert points[-1].f1 > points[0].f1
    assert [file.name for file in out.iterdir()] == ["duplicates"]


@pytest.mark.skipif(not any(map(shutil.which, CHROMIUM)), reason="no Chromium on this machine: apt install chromium")
def test_a_script_in_the_browser_buys_what_the_library_says(tmp_path: Path) -> None:
    """Answers from a ground truth, key by key, give the groups that the same answers through the library give."""
    archive, out = small_results(tmp_path)
    facts = out / "duplicates" / "duplicates.json"
    made = json.loads(facts.read_text()) | {"fingerprint": load_encoder(BUILTIN).fingerprint}
    facts.write_text(json.dumps(made))
    # The dark prints of odd groups are said to be other pictures.
    files = sorted(archive.rglob("*.jpg"))
    truth = {digest_file(file): f"{number // 3} {number % 6 == 5}" for number, file in enumerate(files)}

    points = curve(out, truth, by_page)
    assert points == curve(out, truth, by_queue)
    assert points[-1].verdicts > 5
    assert points[-1].precision > points[0].precision


def test_orders_are_averaged_step_by_step() -> None:
    """As far as all of them go."""
    one, other = Point(0, 1, 0, 0, 0), Point(0, 0, 1, 0, 1)
    assert averaged([[one, one], [other]]) == [Point(0, 0.5, 0.5, 0, 0.5)]
