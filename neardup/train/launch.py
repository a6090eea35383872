"""A training on several processes, started from inside one: `torchrun` as a child that reports line by line.

Each line that starts with the record separator of RFC 7464 is a JSON text of the first worker, or of the one that
failed. After an epoch the first worker waits for a line, so that no epoch is missed; where there is nobody to write
it any more, the workers end.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from accelerate import PartialState

from neardup import errors
from neardup.errors import NeardupError, TrainingError
from neardup.settings.schema import Recipe
from neardup.stages import write_json
from neardup.train.finetune import EpochResult, Example, Training, train

RECORD = "\x1e"


@dataclass(frozen=True)
class Job:
    """What each worker is told: the arguments of `train`, with the name of a CLIP, for each loads its own."""

    examples: Sequence[Example]
    clip: str
    recipe: Recipe
    folder: Path
    device: str
    state: Path | None
    look_alike_bits: int

    @classmethod
    def read(cls, path: Path) -> "Job":
        """The job of a file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        examples = [Example(**{**line, "image": Path(line["image"])}) for line in found.pop("examples")]
        recipe, folder = Recipe(**found.pop("recipe")), Path(found.pop("folder"))
        state = found.pop("state")
        return cls(examples, recipe=recipe, folder=folder, state=Path(state) if state else None, **found)

    def write(self, path: Path) -> None:
        """Write it to a file."""
        paths = {"folder": str(self.folder), "state": str(self.state) if self.state else None}
        examples = [asdict(example) | {"image": str(example.image)} for example in self.examples]
        write_json(path, asdict(self) | paths | {"examples": examples})

    def train(self, on_epoch: Callable[[EpochResult], None] | None, report: Callable[[str], None]) -> Training:
        """Do it in this process."""
        return train(
            self.examples,
            self.clip,
            self.recipe,
            self.folder,
            on_epoch,
            report=report,
            device=self.device,
            state=self.state,
            look_alike_bits=self.look_alike_bits,
        )


def train_on(
    processes: int,
    job: Job,
    on_epoch: Callable[[EpochResult], None] | None = None,
    report: Callable[[str], None] = print,
) -> Training:
    """Train as `neardup.train.finetune.train` does, on so many processes of this machine that share each batch.

    The processes end with this one, whatever ends it, and whoever calls again goes on from the last whole epoch, on as
    many processes as then are asked for.

    Args:
        processes: each on a GPU of its own where there are GPUs; one is this process itself.
        job: the other arguments of `train`; its batch size is that of all processes together.
        on_epoch: called in this process; the next epoch begins when it has returned.
        report: called in this process.

    Raises:
        TrainingError: as in `train`, with the sentence of the process that failed.
    """
    if processes == 1:
        return job.train(on_epoch, report)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "job.json"
        job.write(path)
        with _workers(processes, path) as workers:
            _listen(workers, on_epoch, report)
    # It is finished, so that nothing is left but to read it.
    return job.train(None, lambda _sentence: None)


@contextmanager
def _workers(processes: int, job: Path) -> Iterator["subprocess.Popen[str]"]:
    """The child that starts the workers and ends with this block."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))  # torchrun would say 1
    with subprocess.Popen(  # noqa: S603 - our own module
        [*command, "-m", "neardup.train.launch", str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={"OMP_NUM_THREADS": threads, **os.environ},
    ) as workers:
        try:
            yield workers
        finally:
            workers.terminate()


def _listen(
    workers: "subprocess.Popen[str]",
    on_epoch: Callable[[EpochResult], None] | None,
    report: Callable[[str], None],
) -> None:
    """Pass on what the workers say until they have ended."""
    assert workers.stdin, "it is a pipe"  # noqa: S101 - our own mistake only
    assert workers.stdout, "it is a pipe"  # noqa: S101 - our own mistake only
    for line in workers.stdout:
        if not line.startswith(RECORD):
            continue
        said = json.loads(line.removeprefix(RECORD))
        if "sentence" in said:
            report(said["sentence"])
        elif "error" in said:
            raise getattr(errors, said["error"])(said["text"])
        else:
            if on_epoch:
                on_epoch(EpochResult(**said["epoch"]))
            workers.stdin.write("\n")
            workers.stdin.flush()
    if status := workers.wait():
        raise TrainingError(f"a process of the training broke down (exit status {status}): its own words are above")


def main(path: Path) -> int:
    """Be one of the workers; what it gives back is the exit status."""
    answers: SimpleQueue[str] = SimpleQueue()
    if os.environ["RANK"] == "0":
        Thread(target=_answers, args=(answers,), daemon=True).start()

    def on_epoch(result: EpochResult) -> None:
        _say(epoch=asdict(result))
        answers.get()

    try:
        Job.read(path).train(on_epoch, lambda sentence: _say(sentence=sentence))
    except NeardupError as error:
        _say(error=type(error).__name__, text=str(error))
        return 1
    # Threads of the group that are left when the interpreter ends abort the process, once in a while.
    PartialState().destroy_process_group()
    return 0


def _say(**said: Any) -> None:
    sys.stdout.write(f"{RECORD}{json.dumps(said)}\n")
    sys.stdout.flush()


def _answers(answers: "SimpleQueue[str]") -> None:
    """Take the lines of the process that started us; where it is gone, end, and `torchrun` ends the others."""
    for line in sys.stdin:
        answers.put(line)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
