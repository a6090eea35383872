"""Commands that read the archive and its sheets: prepare, translate, augment."""

from pathlib import Path

import click

from neardup.cli.options import ARCHIVE, CONFIG, FOLDER, JSON, OUT, TRANSLATOR, options, print_result, settings_of
from neardup.errors import NeardupError


@click.command()
@ARCHIVE
@options(OUT, CONFIG, JSON)
def prepare(archive: Path, out: Path, config: Path | None, as_json: bool) -> None:
    """Read sheets and photos; write the test set, the training set and the discrepancy report.

    \b
    Example: neardup prepare ARCHIVE --out results
    """
    from neardup.archive.prepare import prepare as prepare_archive

    settings = settings_of(config, archive)
    prepared = prepare_archive(archive, out, settings.prepare)
    lines = [f"{name:<40} {count:>8}" for name, count in prepared.counts.items()]
    lines.append("unchanged since the last run, nothing was done" if prepared.reused else "")
    print_result(prepared.counts, "\n".join([*lines, f"See {out / 'discrepancies.html'}"]), as_json=as_json)


@click.command()
@options(OUT, CONFIG, TRANSLATOR)
def translate(out: Path, config: Path | None, translator: str | None) -> None:
    """Translate the legends of a prepared training set to English captions.

    The key for DeepL is read from DEEPL_AUTH_KEY, or from the Prefect Secret block `deepl-auth-key`.

    \b
    Example: DEEPL_AUTH_KEY=... neardup translate --out results
    """
    from neardup.archive.captions import translate_training_set
    from tasks.translate import make_translator

    settings = settings_of(config, translate__translator=translator).translate
    translation = translate_training_set(out, settings, make_translator(settings), click.echo)
    if translation.stopped:
        raise NeardupError(translation.stopped)
    click.echo(f"Captions are in {out / 'df_training.xlsx'}")


@click.command()
@options(OUT, CONFIG)
@click.option("--recipe", type=click.Choice(["classic", "press"]), help="The prior project's, or what newspapers do.")
@click.option("--copies", type=int, help="Copies a photo.")
@click.option("--queries", type=FOLDER, help="Instead: write the variants of the photos of this folder as queries.")
def augment(out: Path, config: Path | None, recipe: str | None, copies: int | None, queries: Path | None) -> None:
    """Write augmented copies of the training photos, or variants of new photos to search for.

    \b
    Example: neardup augment --out results --recipe press
             neardup augment --queries new_photos --out results
    """
    from neardup.archive.captions import load_captions
    from neardup.archive.trainingset import TrainingSet
    from neardup.train.augment import make_queries, write_augmented

    settings = settings_of(config, augmentation=recipe, train__copies=copies)
    train, limit = settings.train, settings.prepare.max_pixels
    if queries:
        made = make_queries(queries, out / "queries", limit)
        for path, reason in made.unreadable:
            click.echo(f"left out {path}: {reason}", err=True)
        click.echo(f"{len(made.written)} queries are in {out / 'queries'}")
        return
    training, captions = TrainingSet.load(out), load_captions(out)
    write_augmented(out, training, captions, settings.augmentation, train.copies, train.seed, limit)
    click.echo(f"Copies are in {out / 'train_dataset_aug'}, listed in {out / 'df_training_aug.xlsx'}")
