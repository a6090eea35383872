"""Measure the encoder that neardup ships against its peers: on an archive, by kind of damage, and by speed.

python benchmarks/encoders.py ARCHIVE PHOTOS --out docs/encoders.md
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import click
import methods as peers
import numpy as np
from encoders_page import Benchmark, Copied
from methods import ByVector, Method, Photos, Sift
from PIL import Image
from rates import Speed, clock
from tqdm import tqdm

from neardup.archive.prepare import check_archive, prepare
from neardup.archive.testset import TestSet
from neardup.arrays import Floats, Ints
from neardup.builtin.pool import held_out_photographs, read_groups
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError, ConfigError, NeardupError
from neardup.images import read_image
from neardup.measure.bootstrap import weighted
from neardup.measure.comparison import Comparison, compare
from neardup.measure.evaluate import FOLDS, RESAMPLES, Evaluation, figure
from neardup.measure.pairs import Pairs, micro_average_precision
from neardup.measure.scored import ScoredTestSet
from neardup.settings.file import find_settings
from neardup.settings.schema import PrepareSettings
from neardup.stages import Stage, digest_file, digest_of
from neardup.train import press

SIFT_QUERIES = 40
"""Photos whose copies SIFT searches; all 233 would take six times as long."""
CLOCKED = 128
"""Photos that each method reads and describes for the clock: some seconds a pass for the slowest."""
CLOCKED_SIDE = 224
"""Shortest side in pixels of the clocked JPEG files: what ViT-B/32 takes in."""
MATCHED = 32
"""Photos whose pairs SIFT compares for the clock: 1,024 comparisons a pass."""
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
Copy = Callable[[Image.Image, int], Image.Image]
"""A function from a photo and a seed to a damaged copy of the photo."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("archive", type=FOLDER)
@click.argument("photos", type=FOLDER)
@click.option("--out", type=FILE, default=Path("docs/encoders.md"), show_default=True, help="The page, a .md file.")
@click.option("--more", type=FOLDER, help="Further photographs, whose held-out ones make the search harder.")
@click.option("--encoder", default=BUILTIN, show_default=True, help="builtin:tiny, a hub id or a local folder.")
@click.option("--work", type=FOLDER, help="Folder for what is made on the way: a second run takes it from there.")
def main(archive: Path, photos: Path, out: Path, more: Path | None, encoder: str, work: Path | None) -> None:
    """Measure an encoder against its peers, in about 17 minutes on one core.

    ARCHIVE is one that `neardup prepare` takes. PHOTOS holds images/ and photos.csv; only the photographs that
    builtin:tiny was not trained on are used.
    """
    try:
        if out.suffix != ".md":
            raise ConfigError(f"--out {out} is no .md file: name the page, its figures and picture go beside it")
        with _workplace(work) as folder:
            paths = measure(archive, photos, more, folder, encoder).write(out)
    except NeardupError as error:
        click.echo(f"encoders: {error}", err=True)
        raise SystemExit(1) from None
    click.echo(out.read_text(encoding="utf-8"))
    click.echo(f"Written: {', '.join(path.name for path in paths)}", err=True)


@contextmanager
def _workplace(work: Path | None) -> Iterator[Path]:
    if work:
        yield work
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def measure(archive: Path, photos: Path, more: Path | None, work: Path, encoder: str) -> Benchmark:
    """Measure everything.

    Args:
        archive: with a ground truth.
        photos: folder with `photos.csv`.
        more: another such folder, of photographs in no groups, or None.
        work: folder for what is made on the way, which a second run takes from there.
        encoder: as `load_encoder` takes it.

    Raises:
        NeardupError: a folder, the encoder or a package is not there; raised before any long work.
    """
    settings = find_settings(archive).prepare
    check_archive(archive, work, settings)
    originals = originals_of(photos)
    vector_methods, sift = by_vector(encoder, work / "vectors"), Sift(work / "sift")
    methods: list[Method] = [*vector_methods, sift]
    comparison = on_archive(methods, archive, work / "prepared", settings)
    folders = [photos, *([more] if more else [])]
    exposed = on_exposures(vector_methods, folders)
    damaged = on_damages(methods, originals, work)
    small = small_jpegs(originals, work / "speed")
    return Benchmark(
        encoder=vector_methods[0].name,
        comparison=comparison,
        exposures=exposed,
        copies=damaged,
        originals=len(originals.items),
        sift_queries=len(queries_of(sift, len(originals.items))),
        speeds=speeds(methods, small),
        sift_pairs=pairs_a_second(sift, small),
    )


def originals_of(folder: Path) -> Photos:
    """One photo of each group that training never sees.

    Raises:
        ArchiveError: the table or a photo is missing, or fewer than two groups are held out.
    """
    first = [group[0] for group in read_groups(folder) if group[0] in unseen_of(folder)]
    if len(first) < 2:  # noqa: PLR2004
        raise ArchiveError(f"{folder} has {len(first)} groups held out from training, 2 are needed: add photographs")
    missing = [path for path in first if not path.is_file()]
    if missing:
        raise ArchiveError(f"photos.csv lists {missing[0]}, which does not exist: add it, or take its row out")
    return Photos.of(folder, first)


def by_vector(encoder: str, store: Path) -> list[ByVector]:
    """The encoder and its peers that make vectors; a package that is missing raises here, before any long work."""
    peers.needed("cv2")
    # The page shows the name of a local folder, not where it lies.
    name = Path(encoder).name if Path(encoder).is_dir() else encoder
    others: list[Encoder] = [
        *peers.sscd(store.parent / "peers"),
        peers.phash(),
        peers.dhash(),
        peers.pdq(),
        peers.random_clip(),
        peers.colour_histogram(),
    ]
    return [ByVector(load_encoder(encoder, "cpu"), store, name), *(ByVector(e, store, e.name) for e in others)]


@dataclass(frozen=True)
class Scored(Evaluation):
    """An evaluation of similarities, for methods that have no vectors.

    Attributes:
        similarities: float64 (n, n), symmetric; higher is more alike.
    """

    similarities: Floats = field(kw_only=True)

    @cached_property
    def scored(self) -> ScoredTestSet:
        """Similarities, pairs and calibrated thresholds."""
        return ScoredTestSet.of(self.similarities, self.groups, FOLDS, self.seed)


def on_archive(methods: Sequence[Method], archive: Path, out: Path, settings: PrepareSettings) -> Comparison:
    """Compare all methods on the historian's groups."""
    test_set = prepare(archive, out, settings).test_set
    return compare([_scored(method, test_set, out) for method in tqdm(methods, "archive", unit="method", disable=None)])


def _scored(method: Method, test_set: TestSet, folder: Path) -> Scored:
    photos = Photos(folder, tuple((f"test_dataset/{photo.name}", photo.sha256) for photo in test_set.photos))
    return Scored(
        approach=method.name,
        fingerprint="",
        names=tuple(photo.name for photo in test_set.photos),
        groups=test_set.groups,
        vectors=np.empty((len(test_set.photos), 0), np.float32),
        similarities=method.similarities(photos, photos),
    )


def on_exposures(methods: Sequence[ByVector], folders: Sequence[Path]) -> Comparison:
    """Compare methods on natural near-duplicates: exposures of one plate, among all photographs that are held out."""
    groups = [group for folder in folders for group in read_groups(folder) if group[0] in unseen_of(folder)]
    paths, root = [path for group in groups for path in group], Path(os.path.commonpath(folders))
    photos = Photos.of(root, paths)
    numbers = np.array([number for number, group in enumerate(groups) for _ in group], dtype=np.int64)
    scored = [
        Scored(
            approach=method.name,
            fingerprint="",
            names=tuple(path for path, _ in photos.items),
            groups=numbers,
            vectors=np.empty((len(paths), 0), np.float32),
            similarities=method.similarities(photos, photos),
        )
        for method in tqdm(methods, "exposures", unit="method", disable=None)
    ]
    return compare(scored)


@lru_cache
def unseen_of(folder: Path) -> frozenset[Path]:
    """The photographs of a folder that the shipped encoder was never trained on."""
    return frozenset(held_out_photographs(folder))


def on_damages(methods: Sequence[Method], originals: Photos, work: Path) -> Mapping[str, Mapping[str, Copied]]:
    """Measure all methods on each kind of damage: damage → method → figures."""
    figures = {}
    for name, copy in tqdm(kinds().items(), "copies", unit="damage", disable=None):
        damaged = copies(originals, work, name, copy)
        figures[name] = {method.name: on_copies(method, damaged, originals) for method in methods}
    return figures


def kinds() -> dict[str, Copy]:
    """Each damage of the press alone, then all of them by chance: name → what makes a copy."""
    alone = {
        name: partial(_alone, damage=damage, index=index) for index, (name, damage) in enumerate(press.DAMAGES.items())
    }
    return {**alone, "all at once": press.press}


def _alone(image: Image.Image, seed: int, damage: press.Damage, index: int) -> Image.Image:
    return damage(image, np.random.default_rng([seed, index]))


def copies(originals: Photos, work: Path, name: str, copy: Copy) -> Photos:
    """The copies of all photos, in the same order, lossless; those that are there already are not made again."""
    folder = work / "copies" / name
    stage = Stage(work, f"copies/{name}", digest_of(originals.items, digest_file(Path(press.__file__))))
    paths = [folder / f"{Path(path).stem}.png" for path, _ in originals.items]
    if not stage.done():
        folder.mkdir(parents=True, exist_ok=True)
        for source, (_, sha256), path in zip(originals.paths, originals.items, paths, strict=True):
            copy(read_image(source), int(sha256[:8], 16)).save(path, compress_level=1)
        stage.finish([folder])
    return Photos.of(folder, paths)


def queries_of(method: Method, count: int) -> list[int]:
    """Which photos' copies a method searches: all, or a seeded sample where it is too slow for all."""
    if isinstance(method, Sift) and count > SIFT_QUERIES:
        return sorted(random.Random(0).sample(range(count), SIFT_QUERIES))
    return list(range(count))


def on_copies(method: Method, damaged: Photos, originals: Photos) -> Copied:
    """How well a method finds the originals of copies."""
    chosen = queries_of(method, len(originals.items))
    return copied(method.similarities(damaged.take(chosen), originals), np.array(chosen, dtype=np.int64))


def copied(similarities: Floats, own: Ints, seed: int = 0) -> Copied:
    """Top-1 and µAP of copies, each with its interval over resampled photos; ties are resolved against us.

    Args:
        similarities: float64 (q, g), of copies to originals.
        own: int64 (q,), the original of each copy.
        seed: of the resamples; methods with the same originals and seed are paired.
    """
    count = similarities.shape[1]
    hits, pairs = first_hits(similarities, own), _ranked(similarities, own)

    def values(weights: Floats) -> tuple[float, float]:
        weight = pairs.weights(np.arange(count), weights)
        ap = micro_average_precision(pairs.same, weight) if (weight * pairs.same).any() else float("nan")
        return weighted(hits, weights[own]), ap

    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    samples = np.array([values(weights) for weights in drawn])
    top_1, ap = values(np.ones(count))
    return Copied(figure(top_1, samples[:, 0]), figure(ap, samples[:, 1]))


def first_hits(similarities: Floats, own: Ints) -> Floats:
    """For each copy 1 if its original is more alike than every other photo, else 0: float64 (q,).

    >>> first_hits(np.array([[0.9, 0.2], [0.5, 0.5]]), np.array([0, 1])).tolist()
    [1.0, 0.0]
    """
    rows = np.arange(len(own))
    others = similarities.copy()
    others[rows, own] = -np.inf
    return np.asarray(similarities[rows, own] > others.max(axis=1), dtype=np.float64)


def _ranked(similarities: Floats, own: Ints) -> Pairs:
    """Pairs of copy and original, best first, down to the last right one: what follows it changes no precision."""
    gallery = np.arange(similarities.shape[1])
    i, j = np.repeat(own, len(gallery)), np.tile(gallery, len(own))
    pairs = Pairs(i, j, similarities.ravel(), i == j)
    ranked = pairs.take(pairs.order)
    return ranked.take(np.arange(np.flatnonzero(ranked.same)[-1] + 1))


def small_jpegs(originals: Photos, folder: Path) -> Photos:
    """JPEG files of the first `CLOCKED` photos, whose shortest side is `CLOCKED_SIDE`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in originals.paths[:CLOCKED]:
        image = read_image(source)
        scale = CLOCKED_SIDE / min(image.size)
        paths.append(folder / f"{source.stem}.jpg")
        image.resize((round(image.width * scale), round(image.height * scale))).save(paths[-1], quality=90)
    return Photos.of(folder, paths)


def speeds(methods: Sequence[Method], photos: Photos) -> Mapping[str, Speed]:
    """Photos a second of each method; the first one is also clocked through `embed`, which is how users get vectors."""
    clocked: dict[str, Speed] = {}
    for method in tqdm(methods, "speed", unit="method", disable=None):
        if isinstance(method, ByVector) and not clocked:
            clocked[f"{method.name} by neardup.embed"] = clock(partial(_embed, method, photos), len(photos.items))
        clocked[method.name] = clock(partial(method.describe, photos.paths), len(photos.items))
    return clocked


def _embed(method: ByVector, photos: Photos) -> None:
    with tempfile.TemporaryDirectory() as store:
        embed_photos(photos.items, photos.root, method.encoder, store=Path(store))


def pairs_a_second(sift: Sift, photos: Photos) -> float:
    """How many pairs of photos SIFT compares, each directly and mirrored."""
    keypoints = sift.describe(photos.paths[:MATCHED])
    rate = clock(lambda: [sift.inliers(a, b) for a in keypoints for b in keypoints], len(keypoints) ** 2)
    return rate.median / 2


if __name__ == "__main__":
    main()
