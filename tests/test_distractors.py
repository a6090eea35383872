"""Distractors: which photos of an archive may be, which are drawn, and what they change."""

import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from neardup.approach import Approach, approaches_of
from neardup.archive.captions import translate_training_set
from neardup.archive.prepare import copy_photos, prepare
from neardup.archive.scan import Archive, scan
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.builtin.demo import MadeArchive
from neardup.cli import main
from neardup.encode.encoder import load_encoder
from neardup.errors import ArchiveError
from neardup.experiment import compare_approaches, encode_test_set, evaluate_approach, make_checkpoint
from neardup.measure.distractors import candidates, draw, drawing
from neardup.measure.evaluate import Evaluation
from neardup.measure.low_precision import measure
from neardup.settings.schema import PrepareSettings, Settings, TranslateSettings
from neardup.stages import digest_file
from neardup.train.examples import training_examples

SETTINGS = PrepareSettings()


@pytest.fixture(scope="module")
def out(made: MadeArchive, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared and translated folder that these tests may write to; its archive is there."""
    folder = tmp_path_factory.mktemp("distractors") / "results"
    shutil.copytree(prepared, folder)
    translate_training_set(folder, TranslateSettings(translator="none"), None, lambda _: None)
    assert made.root.is_dir()
    return folder


@pytest.fixture(scope="module")
def archive(made: MadeArchive) -> Archive:
    """The scan of the made archive."""
    return scan(made.root, patterns=SETTINGS.photos, exclude=SETTINGS.pages)


@pytest.fixture(scope="module")
def free(archive: Archive, out: Path) -> int:
    """How many photos of the made archive may be distractors."""
    return len(candidates(archive, out, SETTINGS))


def test_no_distractor_is_in_a_set(archive: Archive, out: Path) -> None:
    """Neither in the test set nor in the training set, by content or by name."""
    test, training = TestSet.load(out).photos, TrainingSet.load(out).photos
    found = candidates(archive, out, SETTINGS)
    assert found
    assert not {photo.sha256 for photo in found} & {photo.sha256 for photo in (*test, *training)}
    assert not {photo.name for photo in found} & {Path(photo.path).name for photo in (*test, *training)}


def test_a_photo_that_looks_like_one_of_a_set_is_no_distractor(archive: Archive, out: Path) -> None:
    """It may be a near-duplicate that the historian has not seen."""
    free = candidates(archive, out, SETTINGS)[0]
    test = next(photo for photo in archive.photos if photo.sha256 == TestSet.load(out).photos[0].sha256)
    alike = replace(free, phash=test.phash)
    others = tuple(photo for photo in archive.photos if photo.sha256 != free.sha256)
    assert alike not in candidates(replace(archive, photos=(*others, alike)), out, SETTINGS)


def test_a_photo_that_the_ground_truth_names_is_no_distractor(archive: Archive, out: Path, tmp_path: Path) -> None:
    """A photo that is in no group although the sheet names it, as by a contradiction, may be a near-duplicate."""
    results = tmp_path / "results"
    shutil.copytree(out, results)
    test_set = TestSet.load(results)
    groups = test_set.groups.tolist()
    left_out = next(photo for photo in test_set.photos if groups.count(photo.group) == 1)
    TestSet(tuple(photo for photo in test_set.photos if photo != left_out)).save(results)
    assert left_out.sha256 not in {photo.sha256 for photo in candidates(archive, results, SETTINGS)}


def test_a_ground_truth_is_found_however_its_accents_are_composed(made: MadeArchive, out: Path, tmp_path: Path) -> None:
    """A Mac decomposes them on its disk, and settings have them as they were typed."""
    root = tmp_path / "archive"
    shutil.copytree(made.root, root)
    (root / SETTINGS.ground_truth).rename(root / unicodedata.normalize("NFD", "donn\xe9es.xlsx"))
    settings = replace(SETTINGS, ground_truth="donn\xe9es.xlsx")
    assert candidates(scan(root, patterns=settings.photos, exclude=settings.pages), out, settings)


def test_a_legend_without_a_caption_is_one_sentence(out: Path, tmp_path: Path) -> None:
    """As where sheets have gained one since they were translated."""
    results = tmp_path / "results"
    shutil.copytree(out, results)
    table = (results / "captions.csv").read_text(encoding="utf-8-sig").splitlines(keepends=True)
    (results / "captions.csv").write_text("".join(table[:-1]))
    with pytest.raises(ArchiveError, match=r"captions\.csv lacks 1 legend .*: run `neardup translate --out"):
        training_examples(results)


def test_a_smaller_draw_is_the_beginning_of_a_greater_one(out: Path, free: int) -> None:
    """So that a figure changes by what is added alone; another seed draws others."""
    first, second = draw(out, 1), draw(out, min(3, free))
    assert [photo.sha256 for photo in second][:1] == [photo.sha256 for photo in first]
    assert draw(out, min(3, free)) == second
    assert drawing(out, 3).key != drawing(out, 3, seed=1).key
    assert any(draw(out, 1, seed)[0].sha256 != first[0].sha256 for seed in range(1, 9))


def test_copies_are_whole(out: Path) -> None:
    """Each distractor lies in the output folder under its own name, byte by byte."""
    drawn = draw(out, 2)
    assert len(drawn) == 2
    for photo in drawn:
        assert digest_file(out / photo.name) == photo.sha256


def test_more_than_there_are_is_one_sentence(out: Path, free: int) -> None:
    """It says how many there are."""
    with pytest.raises(ArchiveError, match=f"has only {free} photos .* at most {free} with --distractors"):
        draw(out, free + 1)


def test_an_archive_that_is_gone_is_one_sentence(out: Path, tmp_path: Path) -> None:
    """It names the archive and says what to do."""
    moved = tmp_path / "results"
    shutil.copytree(out, moved)
    facts = json.loads((moved / ".neardup" / "archive.json").read_text())
    (moved / ".neardup" / "archive.json").write_text(json.dumps({**facts, "root": str(tmp_path / "gone")}))
    with pytest.raises(
        ArchiveError, match="gone, which distractors are drawn from, is not there: run `neardup prepare"
    ):
        draw(moved, 1, seed=5)


def test_a_photo_that_is_gone_is_one_sentence(archive: Archive, tmp_path: Path) -> None:
    """A photo that vanishes between scan and copy is named, and what to do."""
    photo = replace(archive.photos[0], path="agence_rol/photos/jpg/gone.jpg")
    with pytest.raises(ArchiveError, match=r"gone\.jpg cannot be copied \(it is gone\): run the same"):
        copy_photos(archive.root, [(photo.path, "gone.jpg", photo.sha256)], tmp_path / "distractors")


def test_a_photo_that_changed_is_one_sentence(archive: Archive, tmp_path: Path) -> None:
    """A photo that holds other bytes than the scan read is no distractor."""
    photo = replace(archive.photos[0], sha256="0" * 64)
    with pytest.raises(ArchiveError, match=r"cannot be copied \(the file has changed since it was found\): run"):
        copy_photos(archive.root, [(photo.path, "a.jpg", photo.sha256)], tmp_path / "distractors")


def test_no_distractors_need_no_archive(tmp_path: Path) -> None:
    """What does not use them does not ask for them."""
    assert draw(tmp_path, 0) == []


def zero_shot(out: Path, encoder: str, distractors: int) -> Approach:
    """The approach without training, with so many distractors."""
    settings = Settings(encoder=encoder, distractors=distractors)
    return approaches_of(out, settings, load_encoder(encoder).fingerprint)[0]


@pytest.fixture(scope="module")
def evaluated(out: Path, free: int, small_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Zero-shot, evaluated and compared without distractors and with all that there are: count → output folder."""
    folders = {}
    for count in (0, free):
        folders[count] = tmp_path_factory.mktemp("evaluated") / "results"
        shutil.copytree(out, folders[count])
        approach = zero_shot(folders[count], small_encoder, count)
        make_checkpoint(approach, lambda _: None)
        encode_test_set(approach)
        evaluate_approach(approach)
        compare_approaches([approach], {})
    return folders


def test_distractors_are_in_the_gallery(evaluated: dict[int, Path], free: int) -> None:
    """They are among the hits of a query, wrong each time, and the number is in every file that has one."""
    out = evaluated[free]
    evaluation = Evaluation.load(out / "zero-shot")
    names = [name for name, _, right in evaluation.hits(evaluation.names[0], 1000) if not right]
    assert set(evaluation.distractors.names) <= set(names)
    assert len(evaluation.distractors.names) == free
    assert json.loads((out / "zero-shot" / "metrics.json").read_text())["distractors"] == free
    assert json.loads((out / "comparison_facts.json").read_text())["distractors"] == free
    assert f"and {free} further photos of the archive" in (out / "comparison.md").read_text()
    assert f"and {free} further photos of the archive" in (out / "report.html").read_text()


def test_distractors_change_ranking_metrics_alone(evaluated: dict[int, Path], free: int) -> None:
    """No ranking metric rises; the threshold and the metrics over pairs stay to the last digit."""
    without, with_all = (Evaluation.load(evaluated[count] / "zero-shot") for count in (0, free))
    for name in ("top_1", "top_5", "ndcg", "map", "r_precision", "recall_at_5", "recall_at_10"):
        assert with_all.values[name] <= without.values[name]
    assert with_all.threshold == without.threshold
    for name in ("precision", "recall", "f1", "micro_ap", "b3_f1", "false_alarms"):
        assert with_all.metrics[name] == without.metrics[name]


def test_the_command_line_and_the_library_mean_the_same_distractors(
    evaluated: dict[int, Path], free: int, small_encoder: str
) -> None:
    """`neardup evaluate --distractors N` takes what the library evaluated, and prints its comparison.json."""
    out = evaluated[free]
    manifest = (out / ".neardup" / "zero-shot.evaluation.json").stat().st_mtime_ns
    options = ["--encoder", small_encoder, "--distractors", str(free), "--json"]
    ran = CliRunner().invoke(main, ["evaluate", "--out", str(out), *options], catch_exceptions=False)
    assert json.loads(ran.stdout) == json.loads((out / "comparison.json").read_text())
    assert set(json.loads(ran.stdout)["ndcg"]) == {"zero-shot"}
    assert (out / ".neardup" / "zero-shot.evaluation.json").stat().st_mtime_ns == manifest


def test_another_number_is_another_evaluation(out: Path, small_encoder: str) -> None:
    """The stages' keys hold it; the checkpoint's does not, for training has no distractors."""
    first, second, none = (zero_shot(out, small_encoder, count) for count in (1, 2, 0))
    assert first.checkpoint.key == second.checkpoint.key
    assert len({a.vectors.key for a in (first, second, none)}) == 3
    assert first.evaluation.key != second.evaluation.key


def test_a_lower_precision_is_measured_with_the_same_distractors(
    evaluated: dict[int, Path], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the difference is that of the precision."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path)
    folder = measure(evaluated[free] / "zero-shot", "cpu", "int8")
    assert Evaluation.load(folder).distractors.names == Evaluation.load(folder.parent).distractors.names


def test_a_folder_remembers_its_archive(made: MadeArchive, out: Path, tmp_path: Path) -> None:
    """Where it lies, also after it was moved and prepared again, and with what settings it was read."""
    moved = tmp_path / "moved"
    shutil.copytree(made.root, moved)
    results = tmp_path / "results"
    shutil.copytree(out, results)
    assert prepare(moved, results, SETTINGS).reused
    facts = json.loads((results / ".neardup" / "archive.json").read_text())
    assert (facts["root"], facts["prepare"]["ground_truth"]) == (str(moved), SETTINGS.ground_truth)
