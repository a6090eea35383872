"""Commands that train, measure and compare: train, evaluate, experiment, tune, demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.flows import echo_mlflow, resolved, run_flow
from neardup.cli.options import (
    ARCHIVE,
    CONFIG,
    DEVICE,
    ENCODER,
    FOLDER,
    JSON,
    OUT,
    TRAIN,
    TRANSLATOR,
    options,
    settings_of,
    training_options,
)

if TYPE_CHECKING:
    from neardup.settings.schema import Precision, Settings


@click.command()
@options(OUT, CONFIG, ENCODER, DEVICE, TRAIN)
@click.option(
    "--augmentation",
    type=click.Choice(["none", "classic", "press"]),
    default="none",
    show_default=True,
    help="Vary the photos on the fly; any recipe makes the third approach.",
)
def train(
    out: Path, config: Path | None, encoder: str | None, device: str | None, augmentation: str, **said: Any
) -> None:
    """Fine-tune the encoder on a prepared training set.

    \b
    Example: neardup train --out results --encoder builtin:tiny --epochs 10 --augmentation classic
    """
    from neardup.experiment import make_checkpoint

    name = "fine-tuned" if augmentation == "none" else "fine-tuned-augmented"
    recipe = None if augmentation == "none" else augmentation
    settings = settings_of(config, encoder=encoder, device=device, augmentation=recipe, **training_options(said))
    approach = next(approach for approach in approaches(out, settings) if approach.name == name)
    if approach.checkpoint.done():
        click.echo("unchanged since the last run, nothing was done")
    else:
        make_checkpoint(approach, click.echo)
    click.echo(f"The checkpoint is {approach.folder / 'checkpoint'}")


@click.command()
@options(OUT, CONFIG, ENCODER, DEVICE, TRAIN, JSON)
@click.option("--augmentation", type=click.Choice(["classic", "press"]), help="Recipe of the third approach.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "int8"]),
    help="Also measure what these numbers cost: then `embed`, `search` and `duplicates` may compute with them.",
)
def evaluate(out: Path, config: Path | None, as_json: bool, precision: "Precision | None", **said: Any) -> None:
    """Measure every approach that has been trained in the folder, and compare them.

    Say the options that `neardup train` was told: what was trained otherwise is left out.

    \b
    Example: neardup evaluate --out results --encoder builtin:tiny
             neardup evaluate --out results --encoder builtin:tiny --precision int8
    """
    from neardup.experiment import (
        compare_approaches,
        comparison_stage,
        encode_test_set,
        evaluate_approach,
        made_approaches,
        make_checkpoint,
        provenance,
    )

    training = training_options(said)
    settings = settings_of(config, **training, **said)
    made = made_approaches(approaches(out, settings), lambda line: click.echo(f"neardup: {line}", err=True))
    for approach in made:
        steps = (
            (approach.checkpoint, make_checkpoint),
            (approach.vectors, encode_test_set),
            (approach.evaluation, evaluate_approach),
        )
        for stage, make in steps:
            stage.read() or make(approach)
    comparison_stage(made).read() or compare_approaches(made, provenance(settings))
    if precision is None:
        print_comparison(out, as_json=as_json)
        return
    from neardup.measure.low_precision import measure

    for approach in made:
        folder = measure(approach.folder, settings.device, precision, settings.prepare.max_pixels)
        print_comparison(folder, as_json=as_json)


@click.command()
@ARCHIVE
@options(OUT, CONFIG, ENCODER, DEVICE, TRANSLATOR, TRAIN, JSON)
@click.option("--augmentation", type=click.Choice(["classic", "press"]), help="Recipe of the third approach.")
@click.option("--write-augmented", is_flag=True, default=None, help="Also write train_dataset_aug/.")
def experiment(archive: Path, out: Path, config: Path | None, as_json: bool, **said: Any) -> None:
    """Run the whole experiment on an archive: prepare, translate, train, evaluate, compare.

    Run it again and only what changed is done again; killed, it goes on where it was.

    \b
    Example: neardup experiment ARCHIVE --out results --encoder builtin:tiny
    """
    training = training_options(said)
    said["translate__translator"] = said.pop("translator")
    settings = settings_of(config, archive, **training, **said)
    run_experiment(archive, out, settings, as_json=as_json)


@click.command()
@options(OUT, CONFIG, ENCODER, DEVICE, TRAIN, JSON)
@click.option("--trials", type=int, help="Trials in all; a study that has fewer goes on.")
@click.option("--trial-epochs", type=int, help="At most so many epochs in a trial.")
@click.option("--parallel", type=int, help="Trials at once.")
def tune(
    out: Path,
    config: Path | None,
    as_json: bool,
    encoder: str | None,
    device: str | None,
    trials: int | None,
    trial_epochs: int | None,
    parallel: int | None,
    **said: Any,
) -> None:
    """Search the learning rate, the weight decay and more; the best recipe becomes the approach `tuned`.

    What is searched, and how far, stands in the table [tune] of neardup.toml. Killed, a study goes on where it was.

    \b
    Example: neardup tune --out results --encoder builtin:tiny --trials 20
    """
    said = training_options(said) | {"tune__trials": trials, "tune__epochs": trial_epochs, "tune__parallel": parallel}
    settings = settings_of(config, encoder=encoder, device=device, **said)
    result = run_flow("tune", out, out.resolve(), settings)
    if as_json:
        click.echo((out / "tuning" / "tuning.json").read_text(encoding="utf-8").rstrip())
        return
    print_comparison(out, as_json=False)
    best = ", ".join(f"{name} = {value}" for name, value in result["best"].items())
    click.echo(f"\n{'Best recipe':<14} {best}")
    click.echo(f"{'Trials':<14} {out / 'tuning' / 'trials.xlsx'}")
    click.echo(f"{'Tuned, default':<14} {out / 'tuning' / 'comparison.md'}")
    echo_mlflow(result["mlflow"])


@click.command()
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="Folder for archive and results.")
@click.option("--groups", type=click.IntRange(4), default=24, show_default=True, help="Groups of similar photos.")
@click.option("--training", type=click.IntRange(16), default=96, show_default=True, help="Training photos.")
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True, help="Epochs of fine-tuning.")
def demo(out: Path, groups: int, training: int, epochs: int) -> None:
    """Draw a small archive, mess and all, and run the experiment on it with the encoder that neardup ships.

    \b
    Example: neardup demo --out demo --groups 40
    """
    from neardup.builtin.demo import make_archive
    from neardup.settings.file import load_settings

    archive = out / "archive"
    click.echo(f"Drawing {groups} groups of similar photos and {training} training photos in {archive}", err=True)
    make_archive(archive, groups=groups, training=training)
    said = {"encoder": "builtin:tiny", "train.epochs": epochs, "train.lr": 1e-4, "train.batch_size": 32}
    run_experiment(archive, out / "results", load_settings(None, said))


def approaches(out: Path, settings: "Settings") -> list[Any]:
    """The approaches that the settings describe, with the fingerprint of the encoder that they start from."""
    from dataclasses import replace

    from neardup.encode.encoder import load_encoder
    from neardup.experiment import approaches_of

    encoder = resolved(settings.encoder, out)
    return approaches_of(out, replace(settings, encoder=encoder), load_encoder(encoder).fingerprint)


def print_comparison(out: Path, *, as_json: bool) -> None:
    """Print the table of a comparison, or its JSON."""
    suffix = "json" if as_json else "md"
    click.echo((out / f"comparison.{suffix}").read_text(encoding="utf-8").rstrip())


def run_experiment(archive: Path, out: Path, settings: "Settings", *, as_json: bool = False) -> None:
    """Check what the user must mend, run the flow, and say what lies where."""
    from neardup.archive.prepare import check_archive
    from neardup.encode.encoder import load_clip, pick_device

    check_archive(archive, out, settings.prepare)
    # What the user must mend is said before any server is started.
    pick_device(settings.device)
    load_clip(resolved(settings.encoder, out))
    result = run_flow("experiment", out, archive.resolve(), out.resolve(), settings)
    print_comparison(out, as_json=as_json)
    if as_json:
        return
    names = {"Report": "report.html", "Test set": "new_IS.xlsx", "Training set": "df_training.xlsx"}
    for title, name in {**names, "Discrepancies": "discrepancies.xlsx", "Table": "comparison.xlsx"}.items():
        click.echo(f"{title:<14} {out / name}")
    echo_mlflow(result["mlflow"])
