"""Options and settings that several commands share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from neardup.settings.schema import Settings

FOLDER = click.Path(path_type=Path, file_okay=False)


FILE = click.Path(path_type=Path, dir_okay=False)


Command = Callable[..., Any]


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds several options, in the order in which `--help` lists them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


ARCHIVE = click.argument("archive", type=FOLDER)


OUT = click.option("--out", type=FOLDER, default=Path("results"), show_default=True, help="Folder for the results.")


CONFIG = click.option("--config", type=FILE, help="Settings; else neardup.toml here or in the archive.")


ENCODER = click.option("--encoder", help="builtin:tiny, a hub id, a local folder or an MLflow model URI.")


DEVICE = click.option("--device", help="auto, cpu or cuda.")


PRECISION = click.option(
    "--precision",
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
        default="models:/near-duplicates@champion",
        show_default=True,
        help="An MLflow model, or a checkpoint of an experiment; with --threshold any encoder.",
    ),
    click.option(
        "--threshold", type=click.FloatRange(-1, 1), help="Similarity of a near-duplicate; else the encoder's own."
    ),
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
        "--prior-project", is_flag=True, help="Repeat the prior project: equal legends repel, long ones drop out."
    ),
)


DISTRACTORS = click.option(
    "--distractors",
    type=click.IntRange(0),
    help="Search among so many further photos of the archive, too; they are in neither set.",
)


def settings_of(config: Path | None, archive: Path | None = None, **said: Any) -> "Settings":
    """The settings of `neardup.toml`, with what was said on the command line on top; `__` stands for a dot."""
    from neardup.settings.file import find_config, load_settings

    return load_settings(
        config or find_config(archive), {name.replace("__", "."): value for name, value in said.items()}
    )


def training_options(said: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `TRAIN` out of `said` and give them the names that `settings_of` knows."""
    from neardup.settings.schema import prior_project

    prior = prior_project()
    repeated = {"shared_legends": prior.shared_legends, "long_legends": prior.long_legends}
    values = {name: said.pop(name, None) for name in ("epochs", "lr", "weight_decay", "batch_size", "seed")}
    values |= repeated if said.pop("prior_project") else {}
    return {f"train__{name}": value for name, value in values.items()}


def print_result(value: Any, lines: str, *, as_json: bool) -> None:
    """Print a value as JSON, or the lines that say the same to a person."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str) if as_json else lines)
