"""Commands that read the archive and its sheets: prepare, translate, augment."""

from collections import Counter
from pathlib import Path

import click

from neardup.cli.options import (
    ARCHIVE,
    ARCHIVE_CONFIG,
    FOLDER,
    JSON,
    OUT,
    TRANSLATOR,
    options,
    settings_of,
    settings_of_results,
)
from neardup.cli.output import check_prepared, print_result, say, working_in
from neardup.errors import NeardupError
from neardup.words import counted


@click.command()
@ARCHIVE
@options(OUT, ARCHIVE_CONFIG, JSON)
def prepare(archive: Path, out: Path, config: Path | None, as_json: bool) -> None:
    """Read sheets and photos; write the test set, the training set and the discrepancy report.

    \b
    Example: neardup prepare ARCHIVE --out results
    """
    from neardup.archive.prepare import check_archive
    from neardup.archive.prepare import prepare as prepare_archive

    settings = settings_of(config, archive)
    check_archive(archive, out, settings.prepare)
    with working_in(out):
        prepared = prepare_archive(archive, out, settings.prepare)
    lines = [f"{name:<40} {count:>8}" for name, count in prepared.counts.items()]
    groups = sum(number > 1 for number in Counter(prepared.test_set.groups.tolist()).values())
    lines.append(f"{'groups of two photos or more':<40} {groups:>8}")
    lines.append("unchanged since the last run, nothing was done" if prepared.reused else "")
    print_result(prepared.counts, "\n".join([*lines, f"See {out / 'discrepancies.html'}"]), as_json=as_json)


@click.command()
@options(OUT, ARCHIVE_CONFIG, TRANSLATOR, JSON)
def translate(out: Path, config: Path | None, translator: str | None, as_json: bool) -> None:
    """Translate the legends of a prepared training set to English captions.

    The key for DeepL is read from DEEPL_AUTH_KEY, or from the Prefect Secret block `deepl-auth-key`.

    \b
    Example: DEEPL_AUTH_KEY=... neardup translate --out results
    """
    from tasks.translate import translate as translate_legends

    settings = settings_of_results(config, out, translate__translator=translator)
    check_prepared(out)
    with working_in(out):
        translation = translate_legends(out, settings.translate, say)
    if translation.stopped:
        raise NeardupError(translation.stopped)
    facts = {
        "captions": len(translation.captions),
        "translators": Counter(caption.translator for caption in translation.captions.values()),
        "sent": translation.sent,
        "sheet": out / "df_training.xlsx",
    }
    print_result(facts, f"Captions are in {out / 'df_training.xlsx'}", as_json=as_json)


@click.command()
@options(OUT, ARCHIVE_CONFIG, JSON)
@click.option("--recipe", type=click.Choice(["classic", "press"]), help="The prior project's, or what newspapers do.")
@click.option("--copies", type=int, help="Copies a photo.")
@click.option("--queries", type=FOLDER, help="Instead: write the variants of the photos of this folder as queries.")
def augment(
    out: Path, config: Path | None, as_json: bool, recipe: str | None, copies: int | None, queries: Path | None
) -> None:
    """Write augmented copies of the training photos, or variants of new photos to search for.

    \b
    Example: neardup augment --out results --recipe press
             neardup augment --queries new_photos --out results
    """
    if queries and (recipe or copies is not None):
        raise click.UsageError("--queries writes four variants of each photo: leave --recipe and --copies out")
    settings = settings_of_results(config, out, augmentation=recipe, train__copies=copies)
    if queries:
        _write_queries(queries, out, settings.prepare.max_pixels, as_json=as_json)
        return
    from neardup.experiment import augment_training_set

    check_prepared(out)
    with working_in(out):
        facts = augment_training_set(out, settings)
    folder, sheet = out / "train_dataset_aug", out / "df_training_aug.xlsx"
    line = f"Copies are in {folder}, listed in {sheet}"
    print_result(facts | {"folder": folder, "sheet": sheet}, line, as_json=as_json)


def _write_queries(photos: Path, out: Path, max_pixels: int, *, as_json: bool) -> None:
    """Write the variants of a folder's photos to `queries/`, and say which photos cannot be read."""
    from neardup.stages import claim
    from neardup.train.variants import make_queries

    folder = out / "queries"
    with working_in(out):
        if not folder.exists():
            claim(folder)  # so that an experiment may write there
        queries = make_queries(photos, folder, max_pixels)
    for path, reason in queries.unreadable:
        say(f"left out {path}: {reason}")
    unreadable = [{"path": path, "reason": reason} for path, reason in queries.unreadable]
    facts = {"queries": len(queries.written), "folder": folder, "unreadable": unreadable}
    print_result(facts, f"{folder} holds {counted(len(queries.written), 'query', 'queries')}", as_json=as_json)
