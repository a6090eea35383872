"""Commands that work on a folder of photos: embed, search, duplicates, watch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.flows import resolved, run_flow
from neardup.cli.options import (
    ARCHIVE,
    CHAMPION,
    CONFIG,
    DEVICE,
    ENCODER,
    FILE,
    FOLDER,
    JSON,
    MEASURED,
    OUT,
    PRECISION,
    options,
    print_result,
    settings_of,
)
from neardup.errors import ConfigError

if TYPE_CHECKING:
    from neardup.settings.schema import Precision, Settings


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="Parquet file to write.")
@options(CONFIG, ENCODER, DEVICE, PRECISION, MEASURED)
def embed(
    folder: Path,
    out: Path,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    precision: "Precision",
    measured: Path,
) -> None:
    """Encode every image of a folder into a Parquet file of vectors.

    \b
    Example: neardup embed photos --out vectors.parquet --encoder builtin:tiny
    """
    from neardup.archive.scan import scan
    from neardup.encode.vectors import embed_photos

    settings = settings_of(config, folder, encoder=encoder, device=device)
    model = loaded(settings, out.parent, precision, measured)
    state = out.parent / ".neardup"
    limit = settings.prepare.max_pixels
    photos = scan(folder, table=state / f"{out.stem}.scan.parquet", patterns=("**",), exclude=(), max_pixels=limit)
    items = [(photo.path, photo.sha256) for photo in photos.photos]
    embed_photos(items, folder, model, store=settings.cluster.store or state / "vectors").save(out)
    for fault in photos.unreadable:
        click.echo(f"left out {fault.path}: {fault.reason}", err=True)
    click.echo(f"{len(items)} photos are in {out}, {len(photos.unreadable)} left out")


@click.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--in", "vectors", type=FILE, required=True, help="Parquet file of `neardup embed`.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Hits to print.")
@click.option("--page", type=FILE, help="Also show the hits as pictures, in this HTML file.")
@click.option("--photos", type=FOLDER, help="With --page: the folder that was embedded.")
@click.option(
    "--approximate", is_flag=True, help="Search an index beside the vectors, for over a million; says what it misses."
)
@options(CONFIG, ENCODER, DEVICE, PRECISION, MEASURED, JSON)
def search(
    photo: Path,
    vectors: Path,
    top: int,
    page: Path | None,
    photos: Path | None,
    approximate: bool,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    precision: "Precision",
    measured: Path,
    as_json: bool,
) -> None:
    """Print the photos that are most like a photo, or like each photo of a folder, best first.

    \b
    Example: neardup search new.jpg --in vectors.parquet --top 10 --encoder builtin:tiny
             neardup search results/queries --in vectors.parquet --photos ARCHIVE --page hits.html
    """
    from dataclasses import asdict

    from neardup.encode.vectors import Embeddings
    from neardup.search.nearest import nearest, read_queries

    if page and not photos:
        raise ConfigError("--page shows pictures: say with --photos which folder was embedded")
    gallery = Embeddings.load(vectors)
    settings = settings_of(config, encoder=encoder, device=device)
    model = loaded(settings, vectors.parent, precision, measured)
    queries = read_queries(photo, model, lambda line: click.echo(line, err=True))
    if approximate:
        from neardup.search.approximate import opened_index

        gallery.require(model.fingerprint)
        index = opened_index(vectors, gallery, top, lambda line: click.echo(line, err=True))
        hits = index.hits(queries.vectors, gallery, top)
    else:
        hits = nearest(queries.vectors, gallery, top, fingerprint=model.fingerprint)
    found = list(zip(queries.paths, hits, strict=True))
    lines = []
    for query, answers in found:
        lines += [query] if photo.is_dir() else []
        lines += [f"{rank:>3}  {hit.similarity:.4f}  {hit.path}" for rank, hit in enumerate(answers, 1)]
    facts = [{"query": query, "hits": [asdict(hit) for hit in answers]} for query, answers in found]
    print_result(facts, "\n".join(lines), as_json=as_json)
    if page and photos:
        from neardup.pages import write_hits

        shown = [(query, [(hit.path, f"{hit.similarity:.3f}") for hit in answers]) for query, answers in found]
        write_hits(page, photo if photo.is_dir() else photo.parent, photos, shown)
        click.echo(f"Look at {page}", err=True)


@click.command()
@ARCHIVE
@options(OUT, CONFIG, DEVICE, PRECISION, JSON, CHAMPION)
@click.option("--runner", type=click.Choice(["threads", "dask"]), help="Threads of this process, or Dask's workers.")
@click.option("--workers", type=int, help="Tasks at once; with dask so many processes are started here.")
@click.option("--scheduler", help="With dask: address of a scheduler that runs already.")
@click.option("--store", help="Folder or URL of the vectors, the same for every worker; else beside the results.")
def duplicates(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    precision: str,
    encoder: str,
    threshold: float | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Find all near-duplicates among the photos of a folder, ten thousand or ten million.

    Killed, it goes on where it was; run again, it encodes and compares only what is new.

    \b
    Example: neardup duplicates photos --out results --encoder builtin:tiny --threshold 0.9
             neardup duplicates photos --out results --runner dask --workers 8
    """
    from neardup.archive.scan import check_folders

    check_folders(archive, out)
    settings = settings_of(
        config, archive, device=device, **{f"cluster__{name}": value for name, value in said.items()}
    )
    where = archive.resolve(), out.resolve()
    how = settings.device, precision, settings.prepare, settings.cluster
    result = run_flow("duplicates", out, *where, encoder, threshold, *how)
    folder = Path(result["folder"])
    seen = f"Look at {folder / 'gallery.html'}, {folder / 'pairs.xlsx'}, {folder / 'groups.xlsx'}"
    print_result(result, f"{result['rule']}.\n{result['summary']}\n{seen}", as_json=as_json)


@click.command()
@ARCHIVE
@options(OUT, CONFIG, DEVICE, JSON, CHAMPION)
def watch(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    encoder: str,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Find the photos that are new since the last time, and what they are near-duplicates of.

    A photo that only moved is not new, one that was replaced is. The first run takes every photo as new.

    \b
    Example: neardup watch ARCHIVE --out results
    """
    from neardup.archive.scan import check_folders

    check_folders(archive, out)
    settings = settings_of(config, archive, device=device)
    where = archive.resolve(), out.resolve()
    how = settings.prepare, encoder, threshold, settings.device, settings.cluster.store
    result = run_flow("watch", out, *where, *how)
    folder = Path(result["folder"]) if result["folder"] else None
    seen = f"\nLook at {folder / 'gallery.html'}, {folder / 'pairs.xlsx'}" if folder else ""
    print_result(result, f"{result['summary']}{seen}", as_json=as_json)


def loaded(settings: "Settings", folder: Path, precision: "Precision", results: Path) -> Any:
    """The encoder at a precision; what a lower one was measured to cost is said, or it is refused."""
    from neardup.encode.encoder import load_encoder
    from neardup.measure.low_precision import effect, measured

    model = load_encoder(resolved(settings.encoder, folder), settings.device, precision)
    if precision != "fp32":
        click.echo(effect(measured(results, precision, model.fingerprint)), err=True)
    return model
