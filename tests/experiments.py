"""Experiments as a user starts them, for the tests that run whole ones, kill them and look at what they leave."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands import Process, start
from servers import BIN, environment

from neardup.settings.schema import APPROACHES

if TYPE_CHECKING:
    from mlflow.entities import Run

EPOCHS = 4
"""Epochs of a training: so many that it can be killed between two of them."""
STEPS = list(range(1, EPOCHS + 1))
"""The steps at which MLflow holds the losses of a training."""
TRAINING = ("--epochs", EPOCHS, "--batch-size", 8)
"""What a user types for such a training."""


@dataclass(frozen=True)
class Experiment:
    """The experiment that a user runs on an archive with an encoder."""

    archive: Path
    encoder: str

    def arguments(self, out: Path, *more: object) -> list[object]:
        """What stands behind `neardup`."""
        options = ("--encoder", self.encoder, *TRAINING, "--translator", "none")
        return ["experiment", self.archive, "--out", out, *options, *more]

    def start(self, out: Path, *more: object, **servers: str) -> Process:
        """Start it beside its folder."""
        return start(*self.arguments(out, *more), cwd=out.parent, **servers)

    def run(self, out: Path, *more: object, **servers: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.start(out, *more, **servers).ended()

    def popen(self, out: Path, log: Path) -> "subprocess.Popen[bytes]":
        """Start it as a shell does, without any server of a team; what it says goes to a log."""
        line = [str(BIN / "neardup"), *map(str, self.arguments(out))]
        with log.open("wb") as file:
            return subprocess.Popen(line, env=environment(), cwd=out.parent, stdout=file, stderr=file)

    def run_undisturbed(self, folder: Path) -> None:
        """Run it as a shell does into `results` of a folder, and copy all but the runs' own files to `untouched`."""
        out, log = folder / "results", folder / "log"
        assert self.popen(out, log).wait() == 0, log.read_text()
        assert "| nDCG" in log.read_text()
        shutil.copytree(out, folder / "untouched", ignore=shutil.ignore_patterns("mlartifacts"))


def without(untouched: Path, out: Path, *approaches: str) -> None:
    """Copy the output of an experiment as if these approaches, the comparison and the runs were still to be made."""
    parts = [name for approach in approaches for name in (approach, f"{approach}.*")]
    left_out = shutil.ignore_patterns(*parts, "comparison*", "report.html", "mlflow.*", "mlartifacts")
    shutil.copytree(untouched, out, ignore=left_out)


def add_approaches(untouched: Path, out: Path, *approaches: str) -> None:
    """Copy approaches of an experiment's output, with the evidence that they have, into another's."""
    shutil.copytree(untouched / ".neardup" / "keypoints", out / ".neardup" / "keypoints")
    shutil.copy(untouched / ".neardup" / "evidence.parquet", out / ".neardup")
    for name in approaches:
        shutil.copytree(untouched / name, out / name)
        for stage in (untouched / ".neardup").glob(f"{name}.*"):
            shutil.copy2(stage, out / ".neardup")


def weights(out: Path) -> dict[str, bytes]:
    """The weights of every approach."""
    return {name: (out / name / "checkpoint" / "model.safetensors").read_bytes() for name in APPROACHES}


def runs_of(out: Path, uri: str) -> list["Run"]:
    """The runs of an output folder that an MLflow server or file holds."""
    from tasks.tracking import Tracking  # noqa: PLC0415 - Prefect, for seconds that most tests need not wait

    tracking = Tracking(uri, out)
    tags = {f"tags.`{name}` = '{value}'" for name, value in tracking._folder_tag.items()}
    neardup = tracking.client.get_experiment_by_name("neardup")
    return list(tracking.client.search_runs([neardup.experiment_id], " and ".join(tags)))


def wait_for(sign: Path, running: "Process | subprocess.Popen[bytes]") -> None:
    """Wait until a running process has written a file; the name may be a glob."""
    while not list(sign.parents[-1].glob(str(sign.relative_to("/")))):
        assert running.poll() is None, f"it ended before {sign.name} was there"
        time.sleep(0.01)
