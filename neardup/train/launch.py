"""Train on several processes, started from one: `torchrun` runs as a child that reports line by line.

Each line that starts with the record separator of RFC 7464 is a JSON text of the first worker, or of one that failed.
After an epoch the first worker waits for a line on its standard input, so that the callback has returned before the
next epoch begins; where that input is closed, the workers end.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from accelerate import PartialState

from neardup import errors
from neardup.errors import NeardupError, TrainingError
from neardup.settings.schema import Recipe
from neardup.stages import write_json
from neardup.train.finetune import EpochResult, Example, KnownPairs, Training, train

RECORD = "\x1e"
"""First character of a line of standard output for the process that started the workers (RFC 7464)."""


@dataclass(frozen=True)
class Job:
    """The arguments of `train` in a form that can be written to a file: a CLIP by its name, which each worker loads."""

    examples: Sequence[Example]
    clip: str
    recipe: Recipe
    folder: Path
    device: str
    state: Path | None
    look_alike_bits: int
    known: KnownPairs = field(default_factory=KnownPairs)

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read a job that `write` wrote."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        examples = [Example(**{**line, "image": Path(line["image"])}) for line in fields.pop("examples")]
        recipe, folder = Recipe(**fields.pop("recipe")), Path(fields.pop("folder"))
        state = fields.pop("state")
        known = KnownPairs(**{kind: tuple(map(tuple, pairs)) for kind, pairs in fields.pop("known").items()})
        return cls(examples, recipe=recipe, folder=folder, state=Path(state) if state else None, known=known, **fields)

    def write(self, path: Path) -> None:
        """Write the job to a JSON file."""
        paths = {"folder": str(self.folder), "state": str(self.state) if self.state else None}
        examples = [asdict(example) | {"image": str(example.image)} for example in self.examples]
        write_json(path, asdict(self) | paths | {"examples": examples})

    def train(self, on_epoch: Callable[[EpochResult], None] | None, report: Callable[[str], None]) -> Training:
        """Run this training in the calling process, which may be one of several."""
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
            known=self.known,
        )


def train_on(
    processes: int,
    job: Job,
    on_epoch: Callable[[EpochResult], None] | None = None,
    report: Callable[[str], None] = print,
) -> Training:
    """Train as `neardup.train.finetune.train` does, on several processes of this machine that share each batch.

    The processes end with this one, whatever ends it. A later call continues from the last whole epoch, on any number
    of processes.

    Args:
        processes: how many, each on a GPU of its own where there are GPUs; one is this process itself.
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
    # The training is finished; this only loads it.
    return job.train(None, lambda _sentence: None)


@contextmanager
def _workers(processes: int, job: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a child that starts the workers; all of them end with the context."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))  # torchrun's own default is 1
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
    """Pass on the sentences, epochs and errors of the workers until they have ended."""
    assert workers.stdin, "it is a pipe"  # noqa: S101 - our own mistake only
    assert workers.stdout, "it is a pipe"  # noqa: S101 - our own mistake only
    for line in workers.stdout:
        if not line.startswith(RECORD):
            continue
        message = json.loads(line.removeprefix(RECORD))
        if "sentence" in message:
            report(message["sentence"])
        elif "error" in message:
            raise getattr(errors, message["error"])(message["text"])
        else:
            if on_epoch:
                on_epoch(EpochResult(**message["epoch"]))
            workers.stdin.write("\n")
            workers.stdin.flush()
    if status := workers.wait():
        raise TrainingError(f"a process of the training broke down (exit status {status}): its own words are above")


def main(path: Path) -> int:
    """Train as one of the workers, by the job in a file; returns the exit status."""
    lines: SimpleQueue[str] = SimpleQueue()
    if os.environ["RANK"] == "0":
        Thread(target=_read_lines, args=(lines,), daemon=True).start()

    def on_epoch(result: EpochResult) -> None:
        _send(epoch=asdict(result))
        lines.get()

    try:
        Job.read(path).train(on_epoch, lambda sentence: _send(sentence=sentence))
    except NeardupError as error:
        _send(error=type(error).__name__, text=str(error))
        return 1
    # Threads of the group that are left when the interpreter ends abort the process, once in a while.
    PartialState().destroy_process_group()
    return 0


def _send(**message: Any) -> None:
    """Write a message to the process that started the workers."""
    sys.stdout.write(f"{RECORD}{json.dumps(message)}\n")
    sys.stdout.flush()


def _read_lines(lines: "SimpleQueue[str]") -> None:
    """Read lines from the process that started this one; if it is gone, exit, so that `torchrun` ends the others."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
