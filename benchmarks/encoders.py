"""Measure the encoder that neardup ships against its peers: on an archive, by kind of damage, and by speed.

python benchmarks/encoders.py ARCHIVE PHOTOS --out docs/encoders.md
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click
import numpy as np
import peers
from damages import Copied, copies, kinds, on_copies, queries_of
from page import Benchmark
from peers import ByVector, Method, Photos
from sift import Sift
from speed import pairs_a_second, small_jpegs, speeds
from tqdm import tqdm

from neardup.archive.prepare import check_archive, prepare
from neardup.archive.testset import TestSet
from neardup.arrays import Floats
from neardup.builtin.pool import held_out_photographs, read_groups
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.errors import ArchiveError, ConfigError, NeardupError
from neardup.measure.comparison import Comparison, compare
from neardup.measure.evaluate import FOLDS, Evaluation
from neardup.measure.scored import ScoredTestSet
from neardup.settings.file import find_settings
from neardup.settings.schema import PrepareSettings

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


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


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("archive", type=FOLDER)
@click.argument("photos", type=FOLDER)
@click.option("--out", type=FILE, default=Path("docs/encoders.md"), show_default=True, help="The page, a .md file.")
@click.option("--encoder", default=BUILTIN, show_default=True, help="builtin:tiny, a hub id or a local folder.")
@click.option("--work", type=FOLDER, help="Folder for what is made on the way: a second run takes it from there.")
def main(archive: Path, photos: Path, out: Path, encoder: str, work: Path | None) -> None:
    """Measure an encoder against its peers, in about 17 minutes on one core.

    ARCHIVE is one that `neardup prepare` takes. PHOTOS holds images/ and photos.csv; only the photographs that
    builtin:tiny was not trained on are used.
    """
    try:
        if out.suffix != ".md":
            raise ConfigError(f"--out {out} is no .md file: name the page, its figures and picture go beside it")
        with _workplace(work) as folder:
            paths = measure(archive, photos, folder, encoder).write(out)
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


def measure(archive: Path, photos: Path, work: Path, encoder: str) -> Benchmark:
    """Measure everything.

    Args:
        archive: with a ground truth.
        photos: folder with `photos.csv`.
        work: what is made on the way goes there and is not made again.
        encoder: as `load_encoder` takes it.

    Raises:
        NeardupError: a folder, the encoder or a package is not there; said before any long work.
    """
    settings = find_settings(archive).prepare
    check_archive(archive, work, settings)
    originals = originals_of(photos)
    methods, sift = by_vector(encoder, work / "vectors"), Sift(work / "sift")
    comparison = on_archive([*methods, sift], archive, work / "prepared", settings)
    damaged = on_damages([*methods, sift], originals, work)
    small = small_jpegs(originals, work / "speed")
    return Benchmark(
        encoder=methods[0].name,
        comparison=comparison,
        copies=damaged,
        originals=len(originals.items),
        sift_queries=len(queries_of(sift, len(originals.items))),
        speeds=speeds([*methods, sift], small),
        sift_pairs=pairs_a_second(sift, small),
    )


def originals_of(folder: Path) -> Photos:
    """One photo of each group that training never sees.

    Raises:
        ArchiveError: the table or a photo is missing, or fewer than two groups are held out.
    """
    unseen = set(held_out_photographs(folder))
    first = [group[0] for group in read_groups(folder) if group[0] in unseen]
    if len(first) < 2:  # noqa: PLR2004
        raise ArchiveError(f"{folder} has {len(first)} groups held out from training, 2 are needed: add photographs")
    missing = [path for path in first if not path.is_file()]
    if missing:
        raise ArchiveError(f"photos.csv lists {missing[0]}, which does not exist: add it, or take its row out")
    return Photos.of(folder, first)


def by_vector(encoder: str, store: Path) -> list[ByVector]:
    """The encoder and its peers that make vectors; a package that is missing is said here."""
    peers.needed("cv2")
    # Of a local folder the page shows the name, not where it lies.
    shown = Path(encoder).name if Path(encoder).is_dir() else encoder
    others: list[Encoder] = [peers.phash(), peers.dhash(), peers.pdq(), peers.random_clip(), peers.colour_histogram()]
    return [ByVector(load_encoder(encoder, "cpu"), store, shown), *(ByVector(e, store, e.name) for e in others)]


def on_archive(methods: Sequence[Method], archive: Path, out: Path, settings: PrepareSettings) -> Comparison:
    """All methods on the historian's groups."""
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


def on_damages(methods: Sequence[Method], originals: Photos, work: Path) -> Mapping[str, Mapping[str, Copied]]:
    """All methods on each kind of damage: damage → method → figures."""
    measured = {}
    for name, copy in tqdm(kinds().items(), "copies", unit="damage", disable=None):
        made = copies(originals, work, name, copy)
        measured[name] = {method.name: on_copies(method, made, originals) for method in methods}
    return measured


if __name__ == "__main__":
    main()
