"""Training on several processes that this one starts."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import Process
from servers import environment
from small_clip import small_clip
from test_train import RECIPE, Stop, make_examples, silent, stop_after

from neardup.errors import DivergedError, TrainingError
from neardup.train.finetune import EpochResult, Training
from neardup.train.launch import Job, train_on

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training of a few moments; each test gives it a folder."""
    folder = tmp_path_factory.mktemp("job")
    small_clip().save(folder / "clip")
    examples, clip = make_examples(folder / "photos"), str(folder / "clip")
    return Job(examples, clip, RECIPE, folder / "out", "cpu", state=None, look_alike_bits=6)


@pytest.fixture(scope="module")
def alone(job: Job) -> Training:
    """What one process gives."""
    return run(1, job)


def run(
    processes: int,
    job: Job,
    on_epoch: Callable[[EpochResult], None] | None = None,
    report: Callable[[str], None] = silent,
) -> Training:
    """Train as a job says."""
    return train_on(processes, job, on_epoch, report)


def losses(training: Training) -> list[float]:
    """The losses of training and of validation, epoch by epoch."""
    return [loss for line in training.history for loss in (line.train_loss, line.validation_loss)]


def test_two_processes_have_the_losses_of_one_and_are_heard(job: Job, alone: Training, tmp_path: Path) -> None:
    """Nothing but the last digits of the losses tells; the callbacks run here, as those of `train` would."""
    epochs: list[EpochResult] = []
    sentences: list[str] = []
    both = run(2, replace(job, folder=tmp_path), epochs.append, sentences.append)
    assert both.facts["processes"] == 2
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
    assert tuple(epochs) == both.history
    assert "on 2 x cpu" in sentences[0]
    assert sentences[-1].startswith("stopped after epoch 3")


def test_a_job_says_which_photos_look_the_same(job: Job, tmp_path: Path) -> None:
    """Where all do, there is nothing to validate on; what was written is read as it was."""
    with pytest.raises(TrainingError, match="share a legend or a look"):
        run(1, replace(job, folder=tmp_path / "out", look_alike_bits=64))
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


def test_stopped_training_goes_on_alone(job: Job, alone: Training, tmp_path: Path) -> None:
    """An error of the callback ends the processes; what they had done is gone on from, here by one."""
    moved = replace(job, folder=tmp_path)
    with pytest.raises(Stop):
        run(2, moved, stop_after(1))
    seen: list[int] = []
    training = run(1, moved, lambda line: seen.append(line.epoch))
    assert seen == [1, 2, 3]
    assert losses(training) == pytest.approx(losses(alone), rel=1e-5)


def train_on_two(job: str, folder: str) -> None:
    """Train as a job's file says on two processes, which a folder's name tells from others; for a `Process`."""
    tempfile.tempdir = folder
    run(2, Job.read(Path(job)), lambda line: (Path(folder) / f"epoch {line.epoch}").touch())


def test_processes_end_with_a_killed_starter(job: Job, tmp_path: Path) -> None:
    """Killed with -9, it leaves none behind."""
    moved = replace(job, folder=tmp_path / "out", recipe=replace(RECIPE, epochs=10_000, patience=10_000))
    path, ended = tmp_path / "job.json", tmp_path / "epoch 1"
    moved.write(path)
    starter = Process(train_on_two, str(path), str(tmp_path), cwd=tmp_path, env=environment())
    while not ended.exists():
        assert starter.poll() is None, starter.said()
        time.sleep(0.05)
    running = _processes(tmp_path)
    starter.kill()
    assert len(running) == 3  # torchrun and its two
    deadline = time.monotonic() + 30
    while _processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _processes(tmp_path) == []


def test_error_of_a_process_is_raised_here(job: Job, tmp_path: Path) -> None:
    """With its own type and its own sentence."""
    clip = small_clip()
    torch.nn.init.constant_(clip.model.visual_projection.weight, float("nan"))
    clip.save(tmp_path / "clip")
    with pytest.raises(DivergedError, match="in epoch 1, for the loss became nan"):
        run(2, replace(job, clip=str(tmp_path / "clip"), folder=tmp_path / "out"))


def _processes(folder: Path) -> list[str]:
    """The processes of this machine that were given a job in a folder."""
    given = f"-m\0neardup.train.launch\0{folder}".encode()
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if given in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""
