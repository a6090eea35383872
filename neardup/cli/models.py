"""Commands that train, measure and compare: train, evaluate, experiment, tune, demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.flows import echo_mlflow, resolved, run_flow
from neardup.cli.options import (
    ALSO_VERIFIED,
    ARCHIVE,
    ARCHIVE_CONFIG,
    DEVICE,
    DISTRACTORS,
    ENCODER,
    FOLDER,
    JSON,
    OUT,
    QUERIES,
    TRAIN,
    TRANSLATOR,
    options,
    settings_of,
    settings_of_results,
    training_values,
)
from neardup.cli.output import check_prepared, comparison_of, print_result, say, working_in
from neardup.words import typed

if TYPE_CHECKING:
    from neardup.approach import Approach
    from neardup.settings.schema import Dtype, Settings


@click.command()
@options(OUT, ARCHIVE_CONFIG, ENCODER, DEVICE, TRAIN, JSON)
@click.option(
    "--augmentation",
    type=click.Choice(["none", "classic", "press"]),
    default="none",
    show_default=True,
    help="Vary the photos on the fly; any recipe makes the approach fine-tuned-augmented.",
)
@click.option("--adapted", is_flag=True, help="Learn from copies of the archive's photos instead; needs no legend.")
def train(
    out: Path,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    augmentation: str,
    adapted: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Fine-tune the encoder on a prepared training set, or adapt it to the archive's photos without any legend.

    \b
    Example: neardup train --out results --encoder builtin:tiny --epochs 10 --augmentation classic
             neardup train --out results --encoder builtin:tiny --adapted
    """
    from neardup.encode.encoder import limits_of, objectives_of
    from neardup.errors import TrainingError
    from neardup.experiment import checkpoint_step

    name = "adapted" if adapted else "fine-tuned" if augmentation == "none" else "fine-tuned-augmented"
    recipe = None if augmentation == "none" else augmentation
    chosen = {**values, "augmentation": recipe}.items()
    given = [option for option, value in chosen if value is not None and value is not False]
    if adapted and given:
        raise click.UsageError(f"--adapted goes by [adapt] of neardup.toml: set {', '.join(given)} there")
    settings = settings_of_results(
        config, out, encoder=encoder, device=device, augmentation=recipe, **training_values(values)
    )
    check_prepared(out)
    with working_in(out):
        found = [approach for approach in approaches(out, settings) if approach.name == name]
        if not found:
            limits = limits_of(encoder := resolved(settings, out))
            if limits and objectives_of(encoder):
                limits += "; say --adapted"
            raise TrainingError(
                limits or f"no photo of {out} has a legend to learn from: say --adapted, which needs none"
            )
        approach = found[0]
        step = checkpoint_step(approach)
        unchanged = step.stage.done()
        manifest = step.take(say)
    checkpoint = approach.folder / "checkpoint"
    facts = {"approach": name, "checkpoint": checkpoint, "unchanged": unchanged, **manifest["facts"]}
    lines = ["unchanged since the last run, nothing was done"] if unchanged else []
    print_result(facts, "\n".join([*lines, f"The checkpoint is {checkpoint}"]), as_json=as_json)


@click.command()
@options(OUT, ARCHIVE_CONFIG, ENCODER, DEVICE, DISTRACTORS, QUERIES, TRAIN, ALSO_VERIFIED, JSON)
@click.option(
    "--augmentation",
    type=click.Choice(["classic", "press"]),
    help="Recipe by which fine-tuned-augmented varies the photos.",
)
@click.option(
    "--precision",
    "dtype",
    type=click.Choice(["bf16", "fp16", "int8"]),
    help="Also measure what these numbers cost: then `embed`, `search` and `duplicates` may compute with them.",
)
def evaluate(out: Path, config: Path | None, as_json: bool, dtype: "Dtype | None", **values: Any) -> None:
    """Measure every approach that has been trained in the folder, and compare them.

    Say the options that `neardup train` was told: what was trained otherwise is left out.

    \b
    Example: neardup evaluate --out results --encoder builtin:tiny
             neardup evaluate --out results --encoder builtin:tiny --precision int8
    """
    from neardup.approach import trained_approaches
    from neardup.experiment import provenance, steps_of
    from neardup.measure.low_precision import measure

    training = training_values(values)
    settings = settings_of_results(config, out, **training, **values)
    check_prepared(out)
    with working_in(out):
        trained = trained_approaches(approaches(out, settings), lambda line: say(f"neardup: {line}"))
        for step in steps_of(trained, provenance(settings)):
            step.take(say)
        folders = {
            approach.name: measure(
                approach.folder, settings.device, dtype, settings.prepare.max_pixels, settings.cluster.store
            )
            for approach in trained
            if dtype
        }
    if dtype is None:
        print_comparison(out, as_json=as_json)
        return
    compared = {name: comparison_of(folder, as_json=as_json) for name, folder in folders.items()}
    print_result(compared, "\n".join(map(str, compared.values())), as_json=as_json)


@click.command()
@ARCHIVE
@options(OUT, ARCHIVE_CONFIG, ENCODER, DEVICE, TRANSLATOR, DISTRACTORS, QUERIES, TRAIN, ALSO_VERIFIED, JSON)
@click.option(
    "--augmentation",
    type=click.Choice(["classic", "press"]),
    help="Recipe by which fine-tuned-augmented varies the photos.",
)
@click.option("--write-augmented", is_flag=True, default=None, help="Also write train_dataset_aug/.")
def experiment(
    archive: Path, out: Path, config: Path | None, translator: str | None, as_json: bool, **values: Any
) -> None:
    """Run the whole experiment on an archive: prepare, translate, train, evaluate, compare.

    Run it again and only what changed is done again; killed, it goes on where it was.

    \b
    Example: neardup experiment ARCHIVE --out results --encoder builtin:tiny
    """
    training = training_values(values)
    settings = settings_of(config, archive, translate__translator=translator, **training, **values)
    run_experiment(archive, out, settings, as_json=as_json)


@click.command()
@options(OUT, ARCHIVE_CONFIG, ENCODER, DEVICE, TRAIN, JSON)
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
    **values: Any,
) -> None:
    """Search the learning rate, the weight decay and more; the best recipe becomes the approach `tuned`.

    What is searched, and how far, stands in the table [tune] of neardup.toml. Killed, a study goes on where it was.

    \b
    Example: neardup tune --out results --encoder builtin:tiny --trials 20
    """
    study: dict[str, Any] = {"tune__trials": trials, "tune__epochs": trial_epochs, "tune__parallel": parallel}
    settings = settings_of_results(config, out, encoder=encoder, device=device, **training_values(values), **study)
    check_prepared(out)
    result = run_flow("tune", out, out.resolve(), settings, check=lambda: check_tunable(settings, out))
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

    Then all its near-duplicates are searched, and it says how to open the page on which they are judged.

    \b
    Example: neardup demo --out demo --groups 40
    """
    from neardup.builtin.demo import make_archive, make_new_photos
    from neardup.settings.file import load_settings

    archive, queries = out / "archive", out / "queries"
    values = {"encoder": "builtin:tiny", "train.epochs": epochs, "train.lr": 1e-4, "train.batch_size": 32}
    values["queries"] = str(queries)
    with working_in(out):
        say(f"Drawing {groups} groups of similar photos and {training} training photos in {archive}")
        say(f"Drawing new photos to search for, copies and strangers, in {queries}")
        make_new_photos(queries, make_archive(archive, groups=groups, training=training))
        results = out / "results"
        run_experiment(archive, results, load_settings(None, values))
    found = run_flow("duplicates", results, archive.resolve(), results.resolve(), values["encoder"])
    pages = {"Near-duplicates": found["summary"].splitlines()[0], "Gallery": results / "duplicates" / "gallery.html"}
    for title, value in {**pages, "To decide": f"neardup review --out {typed(results)}"}.items():
        click.echo(f"{title:<16} {value}")


def approaches(out: Path, settings: "Settings") -> "list[Approach]":
    """The approaches that the settings describe, with the fingerprint of the encoder that they start from."""
    from dataclasses import replace

    from neardup.approach import approaches_of
    from neardup.encode.encoder import load_encoder

    encoder = resolved(settings, out)
    return approaches_of(out, replace(settings, encoder=encoder), load_encoder(encoder).fingerprint)


def print_comparison(out: Path, *, as_json: bool) -> None:
    """Print the comparison that lies in a folder, as JSON or as a table."""
    comparison = comparison_of(out, as_json=as_json)
    print_result(comparison, str(comparison), as_json=as_json)


def check_trainable(settings: "Settings", out: Path) -> None:
    """Refuse a device or an encoder that is not there, before a run begins, and say what the encoder cannot be taught.

    Raises:
        EncoderError: it is such a one.
    """
    from neardup.encode.devices import pick_device
    from neardup.encode.encoder import check_encoder, limits_of

    if settings.device not in {"auto", "cpu"}:
        pick_device(settings.device)
    encoder = resolved(settings, out)
    check_encoder(encoder)
    if limits := limits_of(encoder):
        say(f"neardup: {limits}")


def check_tunable(settings: "Settings", out: Path) -> None:
    """Refuse a study that trains with an objective of which the encoder can learn nothing, before it begins.

    Raises:
        EncoderError: it is such a one, or `check_trainable` refuses it.
    """
    from neardup.encode.encoder import limits_of, objectives_of
    from neardup.errors import EncoderError

    encoder, chosen = resolved(settings, out), settings.tune.objectives
    can = objectives_of(encoder)
    if "captions" not in can and not can.issuperset(chosen or (settings.train.objective,)):
        place = "objectives = ['copies'] in [tune]" if chosen else "objective = 'copies' in [train]"
        raise EncoderError(limits_of(encoder) + (f"; say {place} of neardup.toml" if can else ""))
    check_trainable(settings, out)


def run_experiment(archive: Path, out: Path, settings: "Settings", *, as_json: bool = False) -> None:
    """Check what the user must mend, run the flow, and say what lies where."""
    from neardup.archive.new_photos import check_queries
    from neardup.archive.scan import check_folders

    def check() -> None:
        from neardup.archive.prepare import check_archive

        check_archive(archive, out, settings.prepare)
        check_trainable(settings, out)

    check_folders(archive, out)
    if settings.queries:
        check_queries(Path(settings.queries), out)
    result = run_flow("experiment", out, archive.resolve(), out.resolve(), settings, check=check)
    print_comparison(out, as_json=as_json)
    if as_json:
        return
    names = {"Report": "report.html", "Test set": "new_IS.xlsx", "Training set": "df_training.xlsx"}
    for title, name in {**names, "Discrepancies": "discrepancies.xlsx", "Table": "comparison.xlsx"}.items():
        click.echo(f"{title:<14} {out / name}")
    echo_mlflow(result["mlflow"])
