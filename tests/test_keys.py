"""Keys of stages: what a result depends on is in its key, so that a change is never overlooked."""

import csv
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neardup.approach import Approach
from neardup.archive.captions import translate_training_set
from neardup.archive.known_pairs import KNOWN_PAIRS, KnownPair
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import load_encoder
from neardup.encode.trainable import load_trainable
from neardup.experiment import comparison_stage, steps_of
from neardup.measure.distractors import drawing
from neardup.settings.schema import Recipe, Settings, TranslateSettings
from neardup.stages import STATE, Stage, write_json
from neardup.tables import save_rows
from neardup.train.examples import training_examples
from neardup.train.finetune import Example, train
from neardup.tuning import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Settings()


def silent(_sentence: str) -> None:
    """Takes what a stage reports."""


@pytest.fixture(scope="module")
def translated(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared and translated folder that these tests may write to."""
    out = tmp_path_factory.mktemp("keys") / "results"
    shutil.copytree(prepared, out)
    translate_training_set(out, TranslateSettings(translator="none"), None, silent)
    return out


def edit(table: Path, column: str) -> None:
    """Add a word to the first cell of a column."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][column] += " again"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(("table", "column"), [("training_set.csv", "legend"), ("captions.csv", "caption")])
@pytest.mark.parametrize("name", ["fine-tuned", "fine-tuned-augmented"])
def test_another_legend_or_caption_is_another_checkpoint(
    translated: Path, tmp_path: Path, table: str, column: str, name: str
) -> None:
    """A word that changes in one cell makes the key of the training another one."""
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    before = Approach(name, out, SETTINGS, "base").checkpoint.key
    edit(out / table, column)
    assert Approach(name, out, SETTINGS, "base").checkpoint.key != before


def test_a_legend_of_what_a_known_pair_calls_a_test_photo_is_not_learned_from(translated: Path, tmp_path: Path) -> None:
    """It is left out and said, and what was learned with it is learned again; a pair of two others changes nothing."""
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    tested, *trained = (TestSet.load(out).photos[0].sha256, *(photo.sha256 for photo in TrainingSet.load(out).photos))
    approach, examples = Approach("fine-tuned", out, SETTINGS, "base"), training_examples(out)
    keys = [approach.checkpoint.key, Tuning(out, SETTINGS, "base").key]
    save_rows(out / KNOWN_PAIRS, KnownPair, [KnownPair(tested, trained[0], 0), KnownPair(trained[0], trained[1], 1)])
    assert [approach.checkpoint.key, Tuning(out, SETTINGS, "base").key] == keys
    save_rows(out / KNOWN_PAIRS, KnownPair, [KnownPair(trained[0], tested, 1)])
    assert training_examples(out) == [example for example in examples if example.photo != trained[0]]
    assert len(examples) == len(trained)
    assert approach.checkpoint.key != keys[0]
    assert Tuning(out, SETTINGS, "base").key != keys[1]


def test_zero_shot_depends_on_no_legend(translated: Path, tmp_path: Path) -> None:
    """Its checkpoint is the encoder as it came: other captions make no other one."""
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    before = Approach("zero-shot", out, SETTINGS, "base").checkpoint.key
    edit(out / "captions.csv", "caption")
    assert Approach("zero-shot", out, SETTINGS, "base").checkpoint.key == before


def test_another_base_or_recipe_is_another_checkpoint(translated: Path) -> None:
    """The fingerprint of the encoder and every field of the recipe are in the key."""
    approach = Approach("fine-tuned", translated, SETTINGS, "base")
    slower = replace(SETTINGS, train=replace(SETTINGS.train, lr=1e-6))
    others = [replace(approach, base="another"), replace(approach, settings=slower)]
    assert len({a.checkpoint.key for a in (approach, *others)}) == 3


def test_another_archive_or_limit_of_looks_is_another_checkpoint(translated: Path, tmp_path: Path) -> None:
    """What is learned from depends on every photo and sheet of the archive, and on which photos look the same."""
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    approach = Approach("adapted", out, SETTINGS, "base")
    keys = [approach.checkpoint.key, drawing(out, 3).key]
    other_limit = replace(SETTINGS, prepare=replace(SETTINGS.prepare, look_alike_bits=1))
    assert replace(approach, settings=other_limit).checkpoint.key != keys[0]
    write_json(out / STATE / "prepare.json", {"key": "another"})
    assert approach.checkpoint.key != keys[0]
    assert drawing(out, 3).key != keys[1]


def keys_of(approach: Approach) -> list[str]:
    """The keys of an approach's stages after its checkpoint: vectors, figures, search, verification and comparison."""
    assert approach.verification
    search = approach.search(Stage(approach.out, "queries", "queries"))
    stages = (approach.vectors, approach.evaluation, search, approach.verification, comparison_stage([approach]))
    return [stage.key for stage in stages]


def test_each_stage_is_done_again_for_what_it_depends_on(
    translated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distractors, test set: all; promises, verifier, decision: verified and compared; the report's lines: the last.

    Further seeds change the comparison alone.
    """
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    approach = Approach("adapted", out, SETTINGS, "base")
    before = keys_of(approach)

    def changed(settings: Settings = SETTINGS) -> list[bool]:
        return [key != old for key, old in zip(keys_of(replace(approach, settings=settings)), before, strict=True)]

    promised = replace(SETTINGS, decide=replace(SETTINGS.decide, recall=0.5))
    assert changed(promised) == [False, False, False, True, True]
    assert changed(replace(SETTINGS, seeds=2)) == [False, False, False, False, True]
    # Zero-shot's checkpoint depends on no distractor.
    untrained = replace(
        approach, name="zero-shot", settings=replace(SETTINGS, adapt=replace(SETTINGS.adapt, normalise=False))
    )
    with_distractors = replace(untrained, settings=replace(untrained.settings, distractors=3))
    assert not set(keys_of(untrained)) & set(keys_of(with_distractors))
    for name, other in (
        ("verify.verifier.verifier_fingerprint", lambda: "another"),
        ("decide.decision.DECISION_STEP", ""),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"neardup.{name}", other)
            assert changed() == [False, False, False, True, True]
    edit(out / "discrepancies.csv", "detail")
    assert changed() == [False, False, False, False, True]
    edit(out / "test_set.csv", "name")
    assert changed() == [True] * 5


def test_another_base_is_trained_anew(small_encoder: str, tmp_path: Path) -> None:
    """A finished training of the same photos and recipe is not taken for one that starts from other weights."""
    rng = np.random.default_rng(0)
    examples = []
    for i in range(8):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
        look = f"{int(rng.integers(0, 2**63)):016x}"
        examples.append(Example(path, sha256(path.read_bytes()).hexdigest(), f"regiment {i}", look))
    recipe = Recipe(batch_size=4, epochs=1, validation=0.3)
    reports: list[str] = []
    train(examples, small_encoder, recipe, tmp_path / "out", report=silent)
    train(examples, small_encoder, recipe, tmp_path / "out", report=reports.append)
    assert "training is done already" in reports[-1]
    other = load_trainable(small_encoder)
    next(iter(other.model.text_model.parameters())).data += 0.01
    again = train(examples, other, recipe, tmp_path / "out", report=reports.append)
    assert "training is done already" not in reports[-1]
    assert len(again.history) == 1


def test_a_caption_edited_while_training_goes_on_is_trained_with_the_next_time(
    translated: Path, small_encoder: str, tmp_path: Path
) -> None:
    """What was learned from the former captions is recorded, encoded and measured under their keys, to the report."""
    out = tmp_path / "results"
    shutil.copytree(translated, out)
    recipe = Recipe(batch_size=8, epochs=1, epoch_steps=1, validation=0.3, validation_copies=1)
    settings = Settings(encoder=small_encoder, train=recipe, verify=False)
    approach = Approach("fine-tuned", out, settings, load_encoder(small_encoder).fingerprint)
    steps = steps_of([approach], {}, lambda _: lambda _: edit(out / "captions.csv", "caption"))
    for step in steps:
        step.take(silent)
    assert [step.stage.done() for step in steps] == [True] * 4
    assert [step.stage.done() for step in steps_of([approach], {})] == [False] * 4
