"""Commands that work on a folder of photos: embed, search, duplicates, watch."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.flows import resolved, run_flow
from neardup.cli.options import (
    ARCHIVE,
    ARCHIVE_CONFIG,
    CHAMPION,
    DEVICE,
    DTYPE,
    ENCODER,
    FILE,
    FOLDER,
    JSON,
    MEASURED,
    OUT,
    VERIFY,
    is_store,
    options,
    searched_in,
    settings_of,
    vectors_with_encoder,
)
from neardup.cli.output import print_result, say, working_in
from neardup.errors import ArchiveError, ConfigError
from neardup.stages import STATE
from neardup.words import counted, one_line, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neardup.detect.hits import VerifiedHit
    from neardup.encode.vectors import Embeddings
    from neardup.search.nearest import Hit
    from neardup.settings.schema import Dtype, Settings


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="Parquet file to write.")
@options(ARCHIVE_CONFIG, ENCODER, DEVICE, DTYPE, MEASURED, JSON)
def embed(
    folder: Path,
    out: Path,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    dtype: "Dtype",
    measured: Path,
    as_json: bool,
) -> None:
    """Encode every image of a folder into a Parquet file of vectors.

    \b
    Example: neardup embed photos --out results/vectors.parquet --encoder builtin:tiny
    """
    from neardup.archive.scan import check_folders, scan
    from neardup.encode.store import check_store, store_of
    from neardup.encode.vectors import embed_photos

    check_folders(folder, out)
    settings = settings_of(config, folder, encoder=encoder, device=device)
    check_folder_of_photos(folder)
    store = store_of(out.parent, settings.cluster.store)
    check_store(folder, store)
    state, limit = out.parent / STATE, settings.prepare.max_pixels
    with working_in(out.parent):
        model = loaded(resolved(settings, out.parent), settings.device, dtype, measured)
        table = state / f"{out.stem}.scan.parquet"
        photos = scan(folder, table=table, patterns=("**",), exclude=(), max_pixels=limit)
        items = [(photo.path, photo.sha256) for photo in photos.photos]
        left_out = photos.left_out
        vectors = embed_photos(items, folder, model, store=store, max_pixels=limit, left_out=left_out)
        vectors.save(out, folder)
    for skipped in left_out:
        say(f"left out {skipped.path}: {skipped.reason}")
    unreadable = [{"path": skipped.path, "reason": skipped.reason} for skipped in left_out]
    encoded = len(vectors.photos)
    facts = {"photos": encoded, "vectors": out, "fingerprint": vectors.fingerprint, "unreadable": unreadable}
    print_result(facts, f"{out} holds {counted(encoded, 'photo')}, {len(unreadable)} left out", as_json=as_json)


@click.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--in",
    "vectors",
    required=True,
    help="Results of `neardup duplicates`, a Parquet file of `neardup embed`, or the folder or URL of a store.",
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Hits to print.")
@click.option("--page", type=FILE, help="Also show the hits as pictures, in this HTML file.")
@click.option("--photos", type=FOLDER, help="Folder that was embedded, if it is elsewhere now or a store is searched.")
@click.option(
    "--approximate",
    is_flag=True,
    help="Search an index beside the vectors, for over a million photos; says how many hits it misses.",
)
@options(ARCHIVE_CONFIG, ENCODER, DEVICE, DTYPE, MEASURED, JSON, VERIFY)
def search(
    photo: Path,
    vectors: str,
    top: int,
    page: Path | None,
    photos: Path | None,
    approximate: bool,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    dtype: "Dtype",
    measured: Path,
    as_json: bool,
    verify: bool,
) -> None:
    """Print the photos that are most like a photo, or like each photo of a folder, best first.

    The nearest are verified by local features and ordered by how probable it is that they show the same picture; a
    sentence says how one was made of the other. A photo with the bytes of the one that is searched for is "itself".

    \b
    Example: neardup search new.jpg --in results/vectors.parquet --top 10
             neardup search results/queries --in results --page hits.html
    """
    from neardup.encode.store import store_of
    from neardup.encode.vectors import stored_vectors
    from neardup.search.nearest import mark_itself, nearest, read_queries

    file, found = Path(vectors), searched_in(vectors)
    photos = _embedded_folder(vectors, photos or found.archive, page)
    settings = settings_of(config, photos, encoder=encoder, device=device)
    limit = settings.prepare.max_pixels
    vectors = store_of(found.out, settings.cluster.store) if found.out else vectors
    known, its_own = vectors_with_encoder(vectors, found.encoder or settings.encoder)
    home = file.parent if known else found.out
    checkpoint = resolved(replace(settings, encoder=encoder or its_own), home or measured)
    model = loaded(checkpoint, settings.device, dtype, measured)
    gallery = known or stored_vectors(vectors, model.fingerprint)
    most = _verified_of(top) if verify and photos else top
    queries = read_queries(photo, model, say, limit)
    if approximate:
        from neardup.search.approximate import opened_index

        if known is None:
            raise ConfigError("--approximate keeps its index beside a Parquet file: make one with `neardup embed`")
        gallery.require(model.fingerprint)
        with working_in(file.parent):
            hits = opened_index(file, gallery, most, say).hits(queries.vectors, gallery, most)
    else:
        hits = nearest(queries.vectors, gallery, most, fingerprint=model.fingerprint)
    hits, folder, verified = mark_itself(hits, queries), photo if photo.is_dir() else photo.parent, None
    if verify and photos:
        hits, verified = _verified_hits(queries, hits, folder, photos, home, checkpoint, limit, top)
    elif verify:
        say("The hits are not verified: say with --photos which folder was embedded, or --no-verify")
    answers = list(zip(queries.paths, hits, strict=True))
    _print_hits(answers, verified, with_names=photo.is_dir(), as_json=as_json)
    if page and photos:
        _show_hits(page, folder, photos, answers, verified, limit)


def _verified_of(top: int) -> int:
    """How many of a query's nearest are verified: as many as `duplicates` verifies, however few hits are wanted."""
    from neardup.verify.candidates import CANDIDATES

    return max(top, CANDIDATES)


def _embedded_folder(vectors: str, photos: Path | None, page: Path | None) -> Path | None:
    """Choose the folder of `--photos`, else the one recorded in a file of vectors, if it still exists; check `page`."""
    from neardup.archive.scan import check_folders
    from neardup.encode.vectors import folder_of

    if photos and not photos.is_dir():
        raise ConfigError(f"{photos} is not a folder: name with --photos the folder that was embedded")
    if not photos and not is_store(vectors) and Path(vectors).is_file():
        photos = folder_of(Path(vectors))
    if page and not photos:
        raise ConfigError("--page shows pictures: say with --photos which folder was embedded")
    if page and photos:
        check_folders(photos, page, "--page")
    return photos


def _verified_hits(
    queries: "Embeddings",
    hits: "Sequence[Sequence[Hit]]",
    folder: Path,
    photos: Path,
    out: Path | None,
    checkpoint: str,
    max_pixels: int,
    top: int,
) -> "tuple[list[list[Hit]], list[list[VerifiedHit | None]]]":
    """Verify the hits, with the decision that belongs to the encoder, if one does, and keep the best of each query."""
    from neardup.decide.chosen_decision import decision_for
    from neardup.detect.hits import best_first, verify_hits
    from neardup.images import read_content

    files = {hit.photo: photos / hit.path for found in hits for hit in found}
    files |= {photo: folder / path for photo, path in zip(queries.photos, queries.paths, strict=True)}
    decision, state = decision_for(out, queries.fingerprint, checkpoint, say), out / STATE if out else None
    names = [(photo, Path(path).name) for photo, path in zip(queries.photos, queries.paths, strict=True)]
    found = verify_hits(names, hits, lambda photo: read_content(files[photo], photo), state, decision, max_pixels)
    best_hits, verified = best_first(hits, found, top)
    others = [hit.photo != photo for (photo, _), best in zip(names, best_hits, strict=True) for hit in best]
    proofs = [proof for best in verified for proof in best]
    if unread := sum(other and proof is None for other, proof in zip(others, proofs, strict=True)):
        say(
            f"{counted(unread, 'hit')} of {len(proofs):,} could not be verified, for {photos} does not hold their "
            "photos as they were embedded: name their folder with --photos"
        )
    return best_hits, verified


def _print_hits(
    answers: "Sequence[tuple[str, Sequence[Hit]]]",
    verified: "Sequence[Sequence[VerifiedHit | None]] | None",
    *,
    with_names: bool,
    as_json: bool,
) -> None:
    """Print the hits of each query, one per line, below the query's name where there are several queries."""
    from dataclasses import asdict

    lines, facts = [], []
    for number, (query, best) in enumerate(answers):
        lines += [one_line(query)] if with_names else []
        of_query = verified[number] if verified else [None] * len(best)
        shown = []
        for rank, (hit, proof) in enumerate(zip(best, of_query, strict=True), 1):
            remark = "  (itself)" if hit.itself else f"  {proof.text}" if proof else ""
            lines.append(one_line(f"{rank:>3}  {hit.similarity:.4f}  {hit.path}{remark}"))
            shown.append(asdict(hit) | (asdict(proof) if proof else {}))
        facts.append({"query": query, "hits": shown})
    print_result(facts, "\n".join(lines), as_json=as_json)


def _show_hits(
    page: Path,
    queries: Path,
    photos: Path,
    answers: "Sequence[tuple[str, Sequence[Hit]]]",
    verified: "Sequence[Sequence[VerifiedHit | None]] | None",
    max_pixels: int,
) -> None:
    """Write the page that shows each query with its hits."""
    from neardup.pages import write_hits

    rows = []
    for number, (query, best) in enumerate(answers):
        of_query = verified[number] if verified else [None] * len(best)
        labels = [
            f"{hit.similarity:.3f}" + ", itself" * hit.itself + (f", {proof.text}" if proof and not hit.itself else "")
            for hit, proof in zip(best, of_query, strict=True)
        ]
        rows.append((query, [(hit.path, label) for hit, label in zip(best, labels, strict=True)]))
    write_hits(page, queries, photos, rows, max_pixels)
    say(f"Look at {page}")


@click.command()
@ARCHIVE
@options(OUT, ARCHIVE_CONFIG, DEVICE, DTYPE, JSON, CHAMPION)
@click.option("--runner", type=click.Choice(["threads", "dask"]), help="Threads of this process, or Dask's workers.")
@click.option("--workers", type=int, help="Tasks at once; with dask so many processes are started here.")
@click.option("--scheduler", help="With dask: address of a scheduler that runs already.")
@click.option(
    "--decoys", type=FOLDER, help="Photographs that surely are not among them: their links bound the false ones."
)
@click.option("--store", help="Folder or URL of the vectors, the same for every worker; else beside the results.")
@VERIFY
def duplicates(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    dtype: "Dtype",
    encoder: str | None,
    threshold: float | None,
    as_json: bool,
    verify: bool,
    decoys: Path | None,
    **cluster: Any,
) -> None:
    """Find all near-duplicates among the photos of a folder, ten or a million.

    The nearest photos of each are verified by local features and decided by probability. Killed, it goes on where it
    was; run again, it encodes, compares and verifies only what is new.

    \b
    Example: neardup duplicates photos --out results
             neardup duplicates photos --out results --encoder builtin:tiny --threshold 0.9 --no-verify
             neardup duplicates photos --out results --decoys other_photos
             neardup duplicates photos --out results --runner dask --workers 8
    """
    from neardup.archive.scan import check_folders

    check_folders(archive, out)
    places = {f"cluster__{name}": value for name, value in cluster.items()}
    settings = settings_of(config, archive, device=device, **places)
    check_folder_of_photos(archive, settings.prepare.pages)
    if decoys:
        check_folder_of_photos(decoys)
    if decoys and not verify:
        raise ConfigError("--decoys bounds false links, and with --no-verify nothing is linked: leave out one of both")
    foreign = decoys.resolve() if decoys else None
    computing = settings.device, dtype, settings.prepare, settings.cluster, verify, foreign, settings.onnx
    given = archive.resolve(), out.resolve(), encoder, threshold, *computing
    result = run_flow("duplicates", out, *given, check=lambda: check_named(encoder, settings, out, dtype))
    folder = Path(result["folder"])
    shown = ("gallery.html", *(("explained.html",) if verify else ()), "pairs.xlsx", "groups.xlsx")
    first, *rest = result["summary"].splitlines()
    next_step = f"To decide what is in doubt: neardup review --out {typed(out)}"
    pages = f"Look at {', '.join(str(folder / name) for name in shown)}\n{next_step}"
    print_result(result, "\n".join([first, f"{result['rule']}.", *rest, pages]), as_json=as_json)


@click.command()
@ARCHIVE
@options(OUT, ARCHIVE_CONFIG, DEVICE, JSON, CHAMPION, VERIFY)
def watch(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    encoder: str | None,
    threshold: float | None,
    verify: bool,
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
    folders = archive.resolve(), out.resolve()
    reading = settings.prepare, encoder, threshold, settings.device, settings.cluster.store, verify, settings.onnx
    result = run_flow("watch", out, *folders, *reading, check=lambda: check_named(encoder, settings, out))
    folder = Path(result["folder"]) if result["folder"] else None
    explained = f", {folder / 'explained.html'}" if folder and verify else ""
    pages = f"\nLook at {folder / 'gallery.html'}, {folder / 'pairs.xlsx'}{explained}" if folder else ""
    print_result(result, f"{result['summary']}{pages}", as_json=as_json)


def check_folder_of_photos(folder: Path, pages: "Sequence[str]" = ()) -> None:
    """Refuse a folder that is not there or holds no image but those of pages, before anything is written.

    Raises:
        ArchiveError: it is such a folder.
    """
    from neardup.archive.walk import require_images

    if not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder: name the folder that holds the photographs")
    require_images(folder, "name the folder of the photographs", pages)


def check_named(encoder: str | None, settings: "Settings", out: Path, dtype: "Dtype" = "fp32") -> None:
    """Refuse an encoder that was named and cannot be loaded, before a run begins, which then has it loaded.

    Of a model of MLflow the run itself asks.

    Raises:
        EncoderError: it cannot be loaded.
    """
    from neardup.encode.encoder import loaded_encoder
    from neardup.settings.schema import MODEL_URIS

    if encoder and not encoder.startswith(MODEL_URIS):
        loaded_encoder(resolved(replace(settings, encoder=encoder), out), settings.device, dtype)


def loaded(checkpoint: str, device: str, dtype: "Dtype", results: Path) -> Any:
    """The encoder in a number format; what a lower one was measured to cost is printed, or it is refused.

    Args:
        checkpoint: what `load_encoder` takes.
        device: `auto`, `cpu`, `cuda` or `mps`.
        dtype: the number format.
        results: output folder of the experiment that measured a lower one.
    """
    from neardup.encode.encoder import load_encoder
    from neardup.measure.low_precision import effect, measured_folder

    model = load_encoder(checkpoint, device, dtype)
    if dtype != "fp32":
        say(effect(measured_folder(results, dtype, model.fingerprint)))
    return model
