"""A study: what it searches, what it is measured on, and that a killed one goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tiny_models import encoder_of

from neardup.approach import approaches_of
from neardup.archive.captions import translate_training_set
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import load_encoder
from neardup.errors import ArchiveError, ConfigError, DivergedError, TrainingError
from neardup.measure.evaluate import evaluate
from neardup.settings.schema import Recipe, Settings, TranslateSettings, TuneSettings
from neardup.train.examples import training_examples
from neardup.train.finetune import EpochResult, train
from neardup.tuning import (
    Tuning,
    _mend,
    best_trial,
    finish_tuning,
    gain_of_tuning,
    make_start,
    tell,
    trial_folder,
    try_recipe,
)

RECIPE = Recipe(batch_size=8, epochs=1, validation=0.3, validation_copies=2)
SEARCHED = TuneSettings(trials=3, epochs=1, batch_sizes=(4, 8))


def silent(_sentence: str) -> None:
    """Takes what a trial reports."""


@pytest.fixture(scope="module")
def tuning(prepared: Path, small_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A study of a small archive, its start measured."""
    out = tmp_path_factory.mktemp("tuning")
    shutil.copytree(prepared, out, dirs_exist_ok=True)
    translate_training_set(out, TranslateSettings(translator="none"), None, silent)
    settings = Settings(encoder=small_encoder, train=RECIPE, tune=SEARCHED)
    made = Tuning(out, settings, load_encoder(small_encoder).fingerprint)
    make_start(made)
    return made


def searched(tuning: Tuning, **changes: object) -> Tuning:
    """A study of the same folder that searches something else."""
    return replace(tuning, settings=replace(tuning.settings, tune=replace(tuning.settings.tune, **changes)))


def copied(tuning: Tuning, out: Path) -> Tuning:
    """A copy of a study's folder, without its trials."""
    shutil.copytree(tuning.out, out)
    copy = replace(tuning, out=out)
    shutil.rmtree(copy.folder, ignore_errors=True)
    return copy


def run(tuning: Tuning, study: optuna.Study, trials: int) -> None:
    """Run so many trials of a study, one after the other."""
    for _ in range(trials):
        trial = tuning.ask(study)
        try:
            value = try_recipe(tuning, trial, silent)
        except optuna.TrialPruned:
            value = None
        tell(tuning, study, trial, value)


@pytest.fixture(scope="module")
def undisturbed(tuning: Tuning) -> optuna.Study:
    """A study of three trials that nobody killed."""
    study = tuning.open()
    run(tuning, study, 3)
    return study


def test_the_encoder_is_measured_before_any_trial(tuning: Tuning) -> None:
    """On photos that the split keeps out of training, with what a trial will take."""
    facts = tuning.start.read()["facts"]
    assert 0 < facts["validation_ndcg_before"] <= 1
    assert facts["training_photos"] + facts["validation_photos"] == len(TrainingSet.load(tuning.out).photos)
    assert facts["expected_seconds"] >= 0


def test_a_study_says_what_it_costs_at_most(tuning: Tuning) -> None:
    """By the time of a trial, the trials, those at once, and the limit where there is one."""
    said = searched(tuning, trials=40, parallel=2, minutes=30.0).expected(120)
    assert said == (
        "expected: at most 2 min 00 s a trial, 40 min 00 s for 40 trials, 2 at once; after 30 min no other trial begins"
    )


def test_a_study_that_has_used_its_time_has_no_trials_left(tuning: Tuning, undisturbed: optuna.Study) -> None:
    """Trials that ended count by their seconds; the limit does not make another study."""
    spent = sum(trial.duration.total_seconds() for trial in undisturbed.trials) / 60
    more = {"trials": 5, "minutes": spent / 2}
    assert searched(tuning, **more).left(undisturbed) == 0
    assert searched(tuning, **{**more, "minutes": spent * 2}).left(undisturbed) == 2
    assert searched(tuning, **{**more, "minutes": spent * 0.75, "parallel": 2}).left(undisturbed) == 2
    assert searched(tuning, **more).key == tuning.key


def test_the_first_trial_is_the_recipe_itself(undisturbed: optuna.Study) -> None:
    """Tuning starts from what would be used without it."""
    assert undisturbed.trials[0].params == {"lr": RECIPE.lr, "weight_decay": RECIPE.weight_decay, "batch_size": 8}


def test_trials_that_are_drawn_at_random_differ(tuning: Tuning, tmp_path: Path) -> None:
    """The sampler starts anew at each trial, and yet draws another one; with the same seed it draws the same again."""
    studies = [copied(tuning, tmp_path / name) for name in "ab"]
    one, same = ([study.ask(opened).params for _ in range(4)] for study in studies for opened in [study.open()])
    assert one == same
    assert len({params["lr"] for params in one}) == 4


def test_a_recipe_outside_the_ranges_is_no_trial(tuning: Tuning) -> None:
    """Where the recipe's own values lie outside the ranges, the first trial is drawn from them."""
    study = searched(tuning, lr_low=1e-3, lr_high=1e-2).open()
    assert study.trials == []


def test_the_only_choice_of_a_list_is_taken(tuning: Tuning) -> None:
    """By every trial, and by the measurement of what one takes; another choice is another study."""
    four, own = searched(tuning, batch_sizes=(4,)), searched(tuning, batch_sizes=())
    assert [study.recipe({"lr": 1e-5}).batch_size for study in (four, own)] == [4, RECIPE.batch_size]
    assert "batch_size" not in four.space
    assert four.key != own.key
    assert four.start.key != own.start.key == searched(tuning, batch_sizes=(4, 8)).start.key


def test_an_optional_dimension_needs_two_choices(tuning: Tuning) -> None:
    """A list with one choice is no dimension of the search."""
    lists = {"augmentations": ("none", "press"), "frozen_layers": (2,), "objectives": ("captions", "both")}
    other = searched(tuning, batch_sizes=(), captions_weights=(0.1, 0.5), likenesses=(1.0,), **lists)
    assert list(other.space) == ["lr", "weight_decay", "augmentation", "objective", "captions_weight"]


def test_an_empty_range_is_one_sentence(tuning: Tuning) -> None:
    """The sentence names both ends of the range."""
    with pytest.raises(ConfigError, match=r"tune.lr_low = 0.01 is not below tune.lr_high = 0.0001"):
        searched(tuning, lr_low=1e-2).open()


def test_a_study_whose_process_died_goes_on_to_the_same_end(
    tuning: Tuning, undisturbed: optuna.Study, tmp_path: Path
) -> None:
    """The trial that died is failed and tried again; all others are those of the study that nobody killed."""
    killed = copied(tuning, tmp_path / "out")
    study = killed.open()
    run(killed, study, 1)
    died = killed.ask(study)
    again = killed.open()
    run(killed, again, killed.left(again))
    assert again.trials[died.number].state == TrialState.FAIL
    ended = [trial for trial in again.trials if trial.state != TrialState.FAIL]
    assert [(t.params, t.value) for t in ended] == [(t.params, t.value) for t in undisturbed.trials]
    assert ended[1].user_attrs["again"] == died.number


def test_an_epoch_that_a_kill_left_unmeasured_is_measured(
    tuning: Tuning, undisturbed: optuna.Study, tmp_path: Path
) -> None:
    """The second attempt measures the weights that lie on disk before it trains on."""
    killed = copied(tuning, tmp_path / "out")
    study = killed.open()
    trial = killed.ask(study)

    def kill(_epoch: EpochResult) -> None:
        raise KeyboardInterrupt

    folder = trial_folder(killed, trial)
    bits = killed.settings.prepare.look_alike_bits
    with pytest.raises(KeyboardInterrupt):
        train(
            training_examples(killed.out),
            killed.settings.encoder,
            killed.recipe(trial.params),
            folder,
            kill,
            report=silent,
            look_alike_bits=bits,
        )
    again = killed.open()
    run(killed, again, 1)
    first, expected = again.trials[1], undisturbed.trials[0]
    assert (first.value, first.intermediate_values) == (expected.value, expected.intermediate_values)


def test_a_trial_that_died_after_its_training_is_reported_whole(
    tuning: Tuning, undisturbed: optuna.Study, tmp_path: Path
) -> None:
    """The second attempt trains nothing, and its epochs stand in the study as if it had."""
    killed = copied(tuning, tmp_path / "out")
    trial = killed.ask(killed.open())
    value = try_recipe(killed, trial, silent)
    again = killed.open()
    second = killed.ask(again)
    assert try_recipe(killed, second, silent) == value
    expected, found = undisturbed.trials[0], again.trials[second.number]
    assert found.intermediate_values == expected.intermediate_values != {}
    assert found.user_attrs["validation_losses"] == expected.user_attrs["validation_losses"]


def test_a_kill_while_a_dead_trial_is_enqueued_loses_no_trial(
    tuning: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two lines was written, it is tried again, and once."""
    killed = copied(tuning, tmp_path / "out")
    died = killed.ask(killed.open())

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("enqueue_trial", "tell"):
        with monkeypatch.context() as patched:
            patched.setattr(optuna.Study, name, kill)
            with pytest.raises(KeyboardInterrupt):
                killed.open()
    trials = killed.open().trials
    assert trials[died.number].state == TrialState.FAIL
    assert [trial.user_attrs for trial in trials if trial.state == TrialState.WAITING] == [{"again": died.number}]


def test_what_changes_the_pace_is_measured_before_the_first_trial(tuning: Tuning) -> None:
    """Another device makes no other study, but other seconds."""
    elsewhere = replace(tuning, settings=replace(tuning.settings, device="cuda"))
    assert elsewhere.key == tuning.key
    assert len({each.start.key for each in (tuning, elsewhere, searched(tuning, epochs=7))}) == 3


def test_equal_trials_at_once_do_not_share_a_folder(tuning: Tuning, tmp_path: Path) -> None:
    """The first one to end would delete the other's checkpoint; a trial that is tried again goes on in its own."""
    equal = copied(tuning, tmp_path / "out")
    study = equal.open()
    study.enqueue_trial({"lr": 1e-5, "weight_decay": 1e-3, "batch_size": 4})
    study.enqueue_trial({"lr": 1e-5, "weight_decay": 1e-3, "batch_size": 4})
    _, first, second = [equal.ask(study) for _ in range(3)]
    trial_folder(equal, second).mkdir()
    tell(equal, study, first, 0.5)
    assert first.params == second.params
    assert trial_folder(equal, second).is_dir()
    for _ in range(2):  # killed twice
        study = equal.open()
        again = [equal.ask(study) for _ in range(2)]
    assert trial_folder(equal, again[1]) == trial_folder(equal, second)


def test_half_a_line_of_the_journal_is_taken_off(tuning: Tuning, tmp_path: Path) -> None:
    """A study whose journal ends in the middle of a line, and is locked by nobody, as after a power cut, goes on."""
    cut = copied(tuning, tmp_path / "out")
    cut.ask(cut.open())
    with (cut.folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker')
    lock = cut.folder / "journal.log.lock"
    lock.symlink_to(cut.folder / "journal.log")  # the way in which Optuna takes it
    _mend(cut.folder / "journal.log")
    assert not lock.is_symlink()  # Optuna would wait for half a minute
    assert [trial.state.name for trial in cut.open().trials] == ["FAIL", "WAITING"]
    assert [trial.state.name for trial in cut.open().trials] == ["FAIL", "WAITING"]


def test_a_damaged_journal_is_one_sentence(tuning: Tuning, tmp_path: Path) -> None:
    """No trial of it is forgotten without a word."""
    damaged = copied(tuning, tmp_path / "out")
    damaged.ask(damaged.open())
    journal = damaged.folder / "journal.log"
    journal.write_bytes(journal.read_bytes().replace(b'"op_code"', b'"op_c\xefde"', 1))
    with pytest.raises(ArchiveError, match=r"journal\.log is damaged .*: move it away, and the study begins anew"):
        damaged.open()


def test_a_study_that_has_enough_trials_has_none_left(tuning: Tuning, undisturbed: optuna.Study) -> None:
    """Trials that ended count when more are asked for later."""
    assert (tuning.left(undisturbed), searched(tuning, trials=5).left(undisturbed)) == (0, 2)
    assert searched(tuning, trials=5, parallel=2).key == tuning.key


def test_other_captions_are_another_study(tuning: Tuning) -> None:
    """A study of other captions has a key of its own, for its trials say nothing of these."""
    captions = tuning.out / "captions.csv"
    before, kept = tuning.start.key, captions.read_bytes()
    captions.write_bytes(kept + b"\n")
    assert tuning.start.key != before
    captions.write_bytes(kept)


def test_a_trial_that_ended_leaves_no_weights(tuning: Tuning, undisturbed: optuna.Study) -> None:
    """A study of forty would fill the disk; the best one is trained anew."""
    assert not any(trial_folder(tuning, trial).exists() for trial in undisturbed.trials)


def test_of_equally_good_trials_the_first_is_the_best() -> None:
    """The recipe's own values are the first trial: they stay where nothing is better."""
    study = optuna.create_study(direction="maximize")
    for value in (0.5, 0.7, 0.7, 0.6):
        study.tell(study.ask(), value)
    assert best_trial(study).number == 1


def test_the_best_recipe_becomes_an_approach(tuning: Tuning, undisturbed: optuna.Study) -> None:
    """The approach `tuned` is trained as the best trial was, and only for the encoder that it was found for."""
    best = finish_tuning(tuning, undisturbed)
    tuned = approaches_of(tuning.out, tuning.settings, tuning.base)[-1]
    assert (tuned.name, tuned.recipe) == ("tuned", replace(RECIPE, epochs=SEARCHED.epochs, **best.params))
    assert [a.name for a in approaches_of(tuning.out, tuning.settings, "another")][-1] == "adapted"


def test_table_and_pictures_are_written(tuning: Tuning, undisturbed: optuna.Study) -> None:
    """A study leaves a table and pictures for people, and the same facts as JSON."""
    finish_tuning(tuning, undisturbed)
    facts = json.loads((tuning.results / "tuning.json").read_text())
    assert [trial["trial"] for trial in facts["trials"]] == [0, 1, 2]
    assert {"trials.xlsx", "history.png", "slice.png"} <= {path.name for path in tuning.results.iterdir()}


def test_a_trial_that_breaks_down_is_pruned(tuning: Tuning) -> None:
    """A study in which every trial breaks down says what to change."""
    broken = searched(tuning, batch_sizes=(), epochs=2)
    study = broken.open()
    trial = broken.ask(study)

    def break_down(_epoch: EpochResult) -> None:
        raise DivergedError("the loss became nan")

    with pytest.raises(optuna.TrialPruned, match="the loss became nan"):
        try_recipe(broken, trial, silent, break_down)
    tell(broken, study, trial, None)
    with pytest.raises(TrainingError, match=r"none of 1 trials was trained to its end: lower tune\.lr_high"):
        best_trial(study)


def test_a_hopeless_trial_is_pruned(tuning: Tuning) -> None:
    """A trial is pruned when its nDCG is below the median of the trials before it at the same epoch."""
    patient = searched(tuning, epochs=4, batch_sizes=(), lr_high=1e-2)
    study = patient.open()
    space = patient.space
    for _ in range(5):
        good = dict.fromkeys(range(1, 5), 1.5)
        study.add_trial(
            optuna.trial.create_trial(
                params={"lr": 1e-5, "weight_decay": 1e-3},
                distributions=space,
                value=0.9,
                intermediate_values=good,
            )
        )
    trial = patient.ask(study)
    with pytest.raises(optuna.TrialPruned, match=r"after epoch 2, .*, is below the median"):
        try_recipe(patient, trial, silent)


def test_what_reads_no_text_is_compared_with_zero_shot(tuning: Tuning, tmp_path: Path) -> None:
    """Its approaches hold no `fine-tuned` by the default recipe, though another encoder's may lie in the folder."""
    copy = copied(tuning, tmp_path / "results")
    encoder = encoder_of("vit", tmp_path / "encoder")
    wordless = Tuning(copy.out, replace(copy.settings, encoder=encoder), load_encoder(encoder).fingerprint)
    groups, nothing = np.repeat(np.arange(4), 2), np.eye(8, dtype=np.float32)
    for name, vectors in (("zero-shot", nothing), ("fine-tuned", nothing[::-1]), ("tuned", nothing[groups])):
        evaluation = evaluate(vectors, groups, [f"{i}.jpg" for i in range(8)], approach=name, fingerprint="f")
        evaluation.save(copy.out / name)
    gain = gain_of_tuning(wordless)
    assert (wordless.reference, copy.reference) == ("zero-shot", "fine-tuned")
    assert gain.value is not None
    assert gain.value > 0
    assert json.loads((wordless.results / "comparison.json").read_text(encoding="utf-8"))["ndcg"].keys() == {
        "zero-shot",
        "tuned",
    }
