"""An experiment that is repeated by further seeds, and what it costs one that is not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neardup.approach import Approach, approaches_of, trained_approaches
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import load_encoder
from neardup.experiment import steps_of
from neardup.settings.schema import AdaptRecipe, Settings

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = replace(AdaptRecipe(), batch_size=8, epochs=1, epoch_steps=1, validation=0.2, validation_copies=1, seed=4)


def approaches(out: Path, encoder: str, seeds: int) -> list[Approach]:
    """Zero-shot and `adapted`, of a prepared folder without legends, measured by vectors alone."""
    return approaches_of(
        out, Settings(encoder=encoder, adapt=QUICK, seeds=seeds, verify=False), load_encoder(encoder).fingerprint
    )


@pytest.fixture(scope="module")
def out(prepared: Path, small_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder without legends, whose experiment was run by two seeds."""
    folder = tmp_path_factory.mktemp("seeds") / "results"
    shutil.copytree(prepared, folder)
    TrainingSet(()).save(folder)
    for step in steps_of(approaches(folder, small_encoder, 2), {}):
        step.take(lambda _: None)
    return folder


def test_each_seed_is_an_approach_of_its_own(out: Path, small_encoder: str) -> None:
    """By default there is none; of three seeds two follow the recipe's own, and zero-shot has none."""
    zero_shot, adapted = approaches(out, small_encoder, 3)
    assert (zero_shot.repeats, approaches(out, small_encoder, 1)[1].repeats) == ([], [])
    assert [repeat.recipe.seed for repeat in (adapted, *adapted.repeats) if repeat.recipe] == [4, 5, 6]
    assert len({repeat.checkpoint.key for repeat in (adapted, *adapted.repeats)}) == 3


def test_the_comparison_has_the_spread(out: Path, small_encoder: str) -> None:
    """Both seeds are trained and measured, and the table and the report say so."""
    repeat = approaches(out, small_encoder, 2)[1].repeats[0]
    assert repeat.folder == out / "adapted" / "seeds" / "1"
    assert (repeat.folder / "metrics.json").is_file()
    facts = json.loads((out / "comparison_facts.json").read_text())
    assert (facts["seeds"], list(facts["spreads"]["ndcg"])) == (2, ["adapted"])
    assert "the least and the greatest figure of 2 trainings" in (out / "report.html").read_text()


def test_evaluate_trains_no_further_seed(out: Path, small_encoder: str) -> None:
    """It measures what there is: all seeds, or the first alone."""
    both, three = (trained_approaches(approaches(out, small_encoder, seeds), print) for seeds in (2, 3))
    assert [len(approach.repeats) for approach in (both[1], three[1])] == [1, 0]


def test_a_changed_checkpoint_is_said_to_be_that(out: Path, small_encoder: str, tmp_path: Path) -> None:
    """Whoever evaluates it learns that training makes it anew, and is not sent to look for other settings."""
    shutil.copytree(out, tmp_path / "out")
    config = tmp_path / "out" / "adapted" / "checkpoint" / "config.json"
    config.write_text(config.read_text() + " ")
    said: list[str] = []
    trained_approaches(approaches(tmp_path / "out", small_encoder, 2), said.append)
    assert [line.partition(": ")[0] for line in said] == ["adapted is left out"]
    assert "not as training left it" in said[0]


def test_to_see_that_nothing_changed_needs_no_torch() -> None:
    """An experiment that is done already is answered without the seconds that torch takes to load."""
    code = "import sys, neardup.experiment; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
