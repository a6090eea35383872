"""How commands use tasks and flows: models of the registry, flows on a Prefect server, lines about MLflow."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.output import say, working_in
from neardup.errors import ArchiveError, NeardupError
from neardup.stages import STATE, models_of

if TYPE_CHECKING:
    from neardup.settings.schema import Settings


def resolved(settings: "Settings", folder: Path) -> str:
    """The encoder's name as `load_encoder` takes it.

    A model of MLflow is fetched into the folder's state; what `[onnx]` says of an ONNX file is kept there beside it.
    """
    from neardup.settings.schema import MODEL_URIS

    encoder = settings.encoder
    if encoder.startswith(MODEL_URIS):
        from tasks.tracking import tracking_of

        with working_in(folder):
            return tracking_of(folder).encoder(encoder)
    from neardup.encode.onnx_file import prepared

    return prepared(encoder, settings.onnx, models_of(folder), lambda line: say(f"neardup: {line}"))


LEAST_FREE = 50_000_000
"""Bytes that must be free for a run's results: Prefect's and MLflow's records of 60 photos alone take 12 million."""
FULL = 1_000_000
"""Free bytes below which any failed run is reported as having filled its disk.

Prefect's server then answers with an error of its own, which does not mention the disk.
"""


def run_flow(name: str, out: Path, *arguments: Any, check: Callable[[], object] | None = None) -> Any:
    """Run a flow on the configured Prefect server, or on a temporary one.

    Args:
        name: the flow's and its module's.
        out: folder of the results; made where it is not there yet.
        arguments: the flow's.
        check: refuses what the user must mend, while a temporary server starts.

    Raises:
        ArchiveError: the results cannot be written to, or their disk is all but full, or was filled by the run.
    """
    _check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    _isolate(out)
    import tasks.running
    from neardup.cli.live import watched

    def prepare() -> None:
        if check:
            check()
        import_module(f"flows.{name}")

    try:
        with watched(name, out / STATE / "logs"), tasks.running.server(meanwhile=prepare):
            return getattr(import_module(f"flows.{name}"), name)(*arguments)
    except (NeardupError, OSError):
        raise
    except Exception as error:
        if disk_usage(out).free >= FULL:
            raise
        raise ArchiveError(
            f"the disk of {out} is full: make room there and run the same command again: it goes on where it was"
        ) from error


def _check_place(out: Path) -> None:
    """Raise an error, before anything is made, if a run could not write to the folder of results.

    Raises:
        ArchiveError: it, or the folder in which it would be made, is not ours to write to or on a disk that is full.
    """
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        raise ArchiveError(
            f"nothing can be written in {place}: ask for the right to, or name another folder with --out"
        )
    if (free := disk_usage(place).free) < LEAST_FREE:
        raise ArchiveError(
            f"only {free / 1e6:.0f} MB are free on the disk of {out}, and a run wants {LEAST_FREE / 1e6:.0f}: "
            "make room there, or name a folder on another disk with --out"
        )


def _isolate(out: Path) -> None:
    """Keep Prefect's state beside the results instead of in the home folder, unless the user has a Prefect server."""
    if "PREFECT_API_URL" in os.environ or (Path.home() / ".prefect" / "profiles.toml").is_file():
        return
    home = (out / STATE / "prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home))


def echo_mlflow(page: str | None) -> None:
    """Print where a person looks at the run, or that it could not be logged."""
    place = page or "not logged: the server is away; run the same command again"
    click.echo(f"{'MLflow':<14} {place}")
