"""The approach `adapted`: which photos it learns from, what its checkpoint depends on, and what is said of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from neardup.approach import Approach, approaches_of, validation_gain, with_enough_photos
from neardup.archive.known_pairs import KnownPair, known_as_test_photos
from neardup.archive.prepare import prepare
from neardup.archive.scan import scan_archive
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.cli import main
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ArchiveError
from neardup.experiment import make_checkpoint, training_facts
from neardup.measure.distractors import archive_of, candidates, draw, drawing
from neardup.settings.schema import AdaptRecipe, Settings
from neardup.stages import STATE, write_json
from neardup.tables import save_rows, write_table
from neardup.train.examples import archive_examples
from neardup.train.finetune import Training

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = replace(AdaptRecipe(), batch_size=8, epochs=1, epoch_steps=1, validation=0.2, validation_copies=1)
SETTINGS = Settings(encoder=BUILTIN, adapt=QUICK)


def silent(_sentence: str) -> None:
    """Takes what a training reports."""


@pytest.fixture(scope="module")
def out(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder that these tests may write to, without captions."""
    folder = tmp_path_factory.mktemp("adapted") / "results"
    shutil.copytree(prepared, folder)
    (folder / "captions.csv").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def adapted(out: Path) -> Approach:
    """The approach, trained by one step."""
    approach = Approach("adapted", out, SETTINGS, load_encoder(BUILTIN).fingerprint)
    make_checkpoint(approach, silent)
    return approach


def test_no_photo_of_the_test_set_is_learned_from(out: Path) -> None:
    """Each training photo is, and further photos of the archive that no sheet names; no caption is needed."""
    photos = {example.photo for example in archive_examples(out)}
    assert not photos & {photo.sha256 for photo in TestSet.load(out).photos}
    assert photos >= {photo.sha256 for photo in TrainingSet.load(out).photos}
    assert {example.caption for example in archive_examples(out)} == {""}


def test_transductive_takes_every_photo_once(out: Path, made: MadeArchive) -> None:
    """Those of the test set too, and each content once, however often it was filed."""
    scanned = scan_archive(made.root, SETTINGS.prepare, out / STATE / "scan.parquet")
    photos = [example.photo for example in archive_examples(out, transductive=True)]
    assert sorted(photos) == sorted({photo.sha256 for photo in scanned.photos})
    assert set(photos) >= {photo.sha256 for photo in TestSet.load(out).photos}


def test_what_a_known_pair_calls_the_same_as_a_test_photo_is_not_learned_from(out: Path, tmp_path: Path) -> None:
    """Directly or through another photo; nor is it a distractor. A pair of others leaves both in."""
    results = tmp_path / "results"
    shutil.copytree(out, results)
    settings = Settings().prepare
    archive = scan_archive(archive_of(results, "")[0], settings, results / STATE / "scan.parquet")
    tested = TestSet.load(results).photos[0].sha256
    trained = [photo.sha256 for photo in TrainingSet.load(results).photos]
    free = candidates(archive, results, settings)[0].sha256
    before, key = {example.photo for example in archive_examples(results)}, drawing(results, 1).key
    pairs = ((trained[0], tested, 1), (free, trained[0], 1), (trained[1], trained[2], 1), (tested, trained[3], 0))
    save_rows(results / "known_pairs.csv", KnownPair, [KnownPair(*pair) for pair in pairs])
    assert known_as_test_photos(results) == {trained[0], free}
    assert before - {example.photo for example in archive_examples(results)} == {trained[0], free}
    assert free not in {photo.sha256 for photo in candidates(archive, results, settings)}
    assert drawing(results, 1).key != key


def test_distractors_are_not_learned_from(out: Path) -> None:
    """They stand in the gallery that the model is judged on."""
    drawn = {photo.sha256 for photo in draw(out, 1)}
    without = {example.photo for example in archive_examples(out, distractors=1)}
    assert {example.photo for example in archive_examples(out)} - without == drawn


def test_an_archive_that_is_gone_is_one_sentence(out: Path, tmp_path: Path) -> None:
    """It says what to do, and nothing of distractors."""
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    note = moved / STATE / "archive.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"root": str(tmp_path / "gone")}))
    with pytest.raises(ArchiveError, match=r"gone, whose photos `adapted` learns from, is not there: run .* lies now$"):
        archive_examples(moved)


def test_its_checkpoint_depends_on_no_caption(out: Path) -> None:
    """But on its own recipe, on what it may learn from, and on the pairs that are known."""
    approach = Approach("adapted", out, SETTINGS, "base")
    keys = {approach.checkpoint.key}
    for changes in (
        {"adapt": replace(QUICK, likeness=0.5)},
        {"transductive": True},
        {"distractors": 1},
    ):
        keys.add(replace(approach, settings=replace(SETTINGS, **changes)).checkpoint.key)
    table = save_rows(out / "known_pairs.csv", KnownPair, [KnownPair("a", "b", 1)])
    keys.add(approach.checkpoint.key)
    table.unlink()
    (out / "captions.csv").write_text("legend,caption\n")
    assert approach.checkpoint.key in keys
    (out / "captions.csv").unlink()
    assert len(keys) == 5


def test_it_is_trained_without_captions(adapted: Approach) -> None:
    """Its checkpoint is never worse on the validation photos, and the report says what it learned from."""
    assert adapted.checkpoint.done()
    gain = validation_gain(adapted)
    assert gain >= (0.0, -1.0)
    assert training_facts([adapted])["adapted learned from"].endswith("the photos of the test set not among them")
    assert (adapted.folder / "shares.csv").is_file()


def test_known_pairs_reach_the_training(adapted: Approach, tmp_path: Path) -> None:
    """A table of the output folder is read; what it says of the test set's photos is never trained on."""
    out = tmp_path / "results"
    shutil.copytree(adapted.out, out)
    photos = [example.photo for example in archive_examples(out)]
    tested = [photo.sha256 for photo in TestSet.load(out).photos]
    pairs = ((photos[0], photos[1], 0), ("gone", photos[2], 1), (tested[0], tested[1], 1), (tested[0], photos[3], 0))
    save_rows(out / "known_pairs.csv", KnownPair, [KnownPair(*pair) for pair in pairs])
    told = replace(adapted, out=out, settings=replace(adapted.settings, transductive=True))
    make_checkpoint(told, silent)
    assert Training.load(told.folder).facts["known_pairs"] == 1


def test_without_legends_the_captions_have_no_approach(out: Path, tmp_path: Path) -> None:
    """What is left is compared: zero-shot and adapted; `neardup train` says what to say instead."""
    bare = tmp_path / "results"
    shutil.copytree(out, bare)
    TrainingSet(()).save(bare)
    write_json(bare / "tuned" / "recipe.json", {"base": "another", "recipe": {}})  # which says nothing of this encoder
    assert [approach.name for approach in approaches_of(bare, SETTINGS, "base")] == ["zero-shot", "adapted"]
    ran = CliRunner().invoke(main, ["train", "--out", str(bare), "--encoder", BUILTIN])
    assert "has a legend to learn from: say --adapted, which needs none" in ran.output


def test_an_approach_with_too_few_photos_is_left_out(tmp_path: Path) -> None:
    """An archive whose photos are all in the ground truth but one is measured all the same; the log says why."""
    photos = tmp_path / "archive" / "photos"
    photos.mkdir(parents=True)
    for number in range(3):
        Scene.of(number).image.save(photos / f"{number}.png")
    write_table(tmp_path / "archive" / "donnees_IS.xlsx", (), [["0.png"], ["1.png"]], header=False)
    prepare(tmp_path / "archive", tmp_path / "out", SETTINGS.prepare)
    approaches, said = approaches_of(tmp_path / "out", SETTINGS, "base"), list[str]()
    assert [approach.name for approach in approaches] == ["zero-shot", "adapted"]
    assert [approach.name for approach in with_enough_photos(approaches, said.append)] == ["zero-shot"]
    assert said == ["adapted is left out: 2 different photos are needed to learn from, not 1"]


def test_options_of_the_captions_are_refused(out: Path) -> None:
    """`evaluate` would not find what was trained with them."""
    ran = CliRunner().invoke(main, ["train", "--out", str(out), "--adapted", "--epochs", "2"])
    assert ran.exit_code == 2
    assert "--adapted goes by [adapt] of neardup.toml: set epochs there" in ran.output
