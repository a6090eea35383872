"""Options that several commands share, and the settings that they give."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from neardup.encode.vectors import Embeddings
    from neardup.settings.schema import Settings

Command = Callable[..., Any]

FOLDER = click.Path(path_type=Path, file_okay=False)
"""Type of an option that names a folder, whether it exists or not."""

FILE = click.Path(path_type=Path, dir_okay=False)
"""Type of an option that names a file, whether it exists or not."""


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds several options, in the order in which `--help` lists them."""

    def add(command: Command) -> Command:
        """Add the options to one command."""
        for option in reversed(options):
            command = option(command)
        return command

    return add


ARCHIVE = click.argument("archive", type=FOLDER)

OUT = click.option("--out", type=FOLDER, default=Path("results"), show_default=True, help="Folder for the results.")

ARCHIVE_CONFIG = click.option(
    "--config", type=FILE, help="Settings; else neardup.toml here, or [prepare] of the archive's own neardup.toml."
)

ENCODER = click.option(
    "--encoder", help="builtin:tiny, sscd, a hub id, a folder, an ONNX or TorchScript file, an MLflow model."
)

DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="Where the encoder computes: cuda is NVIDIA's GPU, mps Apple's; auto is NVIDIA's, if there is one.",
)

DTYPE = click.option(
    "--precision",
    "dtype",
    type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Numbers that the encoder computes with; lower ones only where `evaluate` measured what they cost.",
)

MEASURED = click.option(
    "--measured",
    type=FOLDER,
    default=Path("results"),
    show_default=True,
    help="With --precision: the results of the experiment that measured its effect.",
)

CHAMPION = options(
    click.option(
        "--encoder",
        help="An MLflow model, a checkpoint of an experiment or any other encoder; else the champion, or builtin:tiny.",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(-1, 1),
        help="Least similarity of a pair. Left out: any, where a decision judges pairs; else the encoder's own.",
    ),
)

VERIFY = click.option(
    "--verify/--no-verify", default=True, help="Verify pairs by local features, or go by vectors alone."
)

TRANSLATOR = click.option("--translator", type=click.Choice(["deepl", "marian", "none"]), help="Who translates.")

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

TRAIN = options(
    click.option("--epochs", type=int, help="At most so many epochs."),
    click.option("--lr", type=float, help="Learning rate."),
    click.option("--weight-decay", type=float, help="Weight decay."),
    click.option("--batch-size", type=int, help="Photos a step."),
    click.option("--seed", type=int, help="Seed of split, order and augmentation."),
    click.option(
        "--prior-project",
        is_flag=True,
        help="Repeat the prior project: equal legends repel, long ones drop out, the loss alone decides.",
    ),
)

ALSO_VERIFIED = click.option(
    "--verify/--no-verify",
    default=None,
    help="Also measure with the nearest photos of each verified, which is on unless neardup.toml says otherwise.",
)

DISTRACTORS = click.option(
    "--distractors",
    type=click.IntRange(0),
    help="Search among so many further photos of the archive, too; they are in neither set.",
)


QUERIES = click.option(
    "--queries",
    type=click.Path(file_okay=False),
    help="Folder of new photos, some copies, some strangers: search for them and their variants by each approach.",
)


def settings_of(config: Path | None, archive: Path | None = None, **values: Any) -> "Settings":
    """The settings of a `neardup.toml`, with the values of the command line on top.

    Args:
        config: the file that `--config` names, if any; else it is looked for.
        archive: the folder that the command works on, if any; of its own file only `[prepare]` is taken.
        values: field → value, where `train__lr` is the field `lr` of the table `[train]`; None leaves it as it is.
    """
    from neardup.settings.file import find_settings, load_settings

    overrides = {name.replace("__", "."): value for name, value in values.items()}
    return load_settings(config, overrides) if config else find_settings(archive, overrides)


def is_store(vectors: str) -> bool:
    """Whether vectors are named as a store (a folder or a URL), not as a Parquet file."""
    return "://" in vectors or Path(vectors).is_dir()


class Searched(NamedTuple):
    """What `neardup duplicates` searched, as its results say.

    Attributes:
        out: the output folder, whose store holds the vectors.
        archive: folder of the photos.
        encoder: name of the encoder.
    """

    out: Path | None = None
    archive: Path | None = None
    encoder: str | None = None


def searched_in(vectors: str) -> Searched:
    """What was searched where vectors are named by an output folder of `neardup duplicates`; nothing otherwise.

    Raises:
        ArchiveError: the run that searched was stopped before it had written all tables.
    """
    from neardup.verify.store import read_facts

    if not is_store(vectors) or not (Path(vectors) / "duplicates").is_dir():
        return Searched()
    facts = read_facts(Path(vectors))
    return Searched(Path(vectors), Path(facts["archive"]), facts["encoder"])


def vectors_with_encoder(vectors: str, chosen: str) -> "tuple[Embeddings | None, str]":
    """Read the vectors of a Parquet file, and choose the encoder of those in a file or a store.

    Args:
        vectors: the file, or the folder or URL of the store.
        chosen: the encoder in the settings.

    Returns:
        The vectors, None of a store; and the shipped encoder if they are its, else the chosen one. Of a store, which
        may hold vectors of several encoders, the shipped one's are taken where the settings name none.
    """
    from neardup.encode.encoder import BUILTIN
    from neardup.encode.shards import SHARDS
    from neardup.encode.store import Store
    from neardup.encode.vectors import Embeddings
    from neardup.settings.schema import Settings

    if not is_store(vectors):
        known = Embeddings.load(Path(vectors))
        return known, BUILTIN if known.fingerprint == _shipped_encoder() else chosen
    is_its = chosen == Settings().encoder and Store(vectors).under(_shipped_encoder()).names(SHARDS)
    return None, BUILTIN if is_its else chosen


def _shipped_encoder() -> str:
    """The fingerprint of the encoder that the project ships, without loading it."""
    from neardup.decide.chosen_decision import SHIPPED
    from neardup.decide.decision import Decision

    return Decision.load(SHIPPED).belongs.encoder


def settings_of_results(config: Path | None, out: Path, **values: Any) -> "Settings":
    """The settings as `settings_of` reads them, for a command that works on what was prepared from an archive.

    Whoever calls such a command from within the archive does not thereby vouch for the archive's file either.
    """
    from neardup.archive.prepare import remembered_root

    return settings_of(config, remembered_root(out), **values)


def training_values(values: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `TRAIN` out of a command's values, and name them as `settings_of` does."""
    from neardup.settings.schema import prior_project

    prior = prior_project()
    names = ("shared_legends", "long_legends", "select_by", "interpolate", "normalise")
    repeated = {name: getattr(prior, name) for name in names}
    recipe = {name: values.pop(name, None) for name in ("epochs", "lr", "weight_decay", "batch_size", "seed")}
    recipe |= repeated if values.pop("prior_project") else {}
    return {f"train__{name}": value for name, value in recipe.items()}
