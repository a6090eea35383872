"""Measure the encoder that neardup ships against its peers, by similarity and verified, on three sets, and by speed.

python benchmarks/encoders.py ARCHIVE PHOTOS --out docs/encoders.md
"""

import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import methods as peers
import numpy as np
from encoders_page import Benchmark, Copied, Results, Scored, Told, copied
from methods import ByVector, Method, Photos, Search, Sift
from PIL import Image
from rates import Speed, clock, small_jpegs
from tqdm import tqdm

from neardup.archive.prepare import check_archive, prepare
from neardup.arrays import Floats, Ints
from neardup.builtin.pool import held_out_groups
from neardup.encode.encoder import BUILTIN, Encoder, load_encoder
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError, ConfigError, NeardupError
from neardup.images import read_image
from neardup.measure.comparison import VERIFIED, compare
from neardup.settings.file import find_settings
from neardup.settings.schema import PrepareSettings
from neardup.stages import Stage, digest_file, digest_of
from neardup.train import press
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.frames import box_in_first, inverse
from neardup.verify.relation import Kind, relation_of
from neardup.verify.store import EvidenceByPair

SIFT_QUERIES = 40
"""Photos whose copies SIFT searches; all 233 would take six times as long."""
CLOCKED = 128
"""Photos that each method reads and describes when it is timed: some seconds a pass for the slowest."""
MATCHED = 32
"""Photos whose pairs SIFT compares when it is timed: 1,024 comparisons a pass."""
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
    """Measure an encoder against its peers, alone and verified, in about 25 minutes on two cores.

    ARCHIVE is one that `neardup prepare` takes. PHOTOS holds images/ and photos.csv; only the photographs that
    builtin:tiny was not trained on are used.
    """
    try:
        if out.suffix != ".md":
            raise ConfigError(f"--out {out} is no .md file: name the page, its figures and picture go beside it")
        with nullcontext(work) if work else tempfile.TemporaryDirectory() as folder:
            paths = measure(archive, photos, more, Path(folder), encoder).write(out)
    except NeardupError as error:
        click.echo(f"encoders: {error}", err=True)
        raise SystemExit(1) from None
    click.echo(out.read_text(encoding="utf-8"))
    click.echo(f"Written: {', '.join(path.name for path in paths)}", err=True)


def measure(archive: Path, photos: Path, more: Path | None, work: Path, encoder: str) -> Benchmark:
    """Measure everything.

    Args:
        archive: archive with a ground truth.
        photos: folder with `photos.csv`.
        more: another such folder, of photographs in no groups, or None.
        work: folder for intermediate results, which a second run reuses.
        encoder: name or path of an encoder, as `load_encoder` takes it.

    Raises:
        NeardupError: a folder, the encoder or a package is missing; raised before any long work.
    """
    settings = find_settings(archive).prepare
    check_archive(archive, work, settings)
    originals = originals_of(photos)
    by_vectors, sift = by_vector(encoder, work / "vectors"), Sift(work / "sift")
    methods: list[Method] = [*by_vectors, sift]
    on_plates = partial(on_exposures, work=work)
    results = {
        "archive": on_archive(methods, archive, work, settings),
        "exposures": on_plates(by_vectors, [photos]),
        **({"crowded": on_plates(encoders_of(by_vectors), [photos, more])} if more else {}),
    }
    damaged = {name: copies(originals, work, name, copy) for name, copy in kinds().items()}
    known = proven(by_vectors, damaged, originals, work)
    small = small_jpegs(originals.paths[:CLOCKED], work / "speed")
    return Benchmark(
        encoder=by_vectors[0].name,
        results=results,
        copies=on_damages(methods, damaged, originals, known),
        told=relations(damaged, originals, known),
        originals=len(originals.items),
        sift_queries=len(queries_of(sift, len(originals.items))),
        speeds=speeds(methods, small),
        sift_pairs=pairs_a_second(sift, small[:MATCHED]),
    )


def originals_of(folder: Path) -> Photos:
    """Choose one photo of each group that training never sees.

    Raises:
        ArchiveError: the table or a photo is missing, or fewer than two groups are held out.
    """
    first = [group[0] for group in held_out_groups([folder])]
    if len(first) < 2:  # noqa: PLR2004
        raise ArchiveError(f"{folder} has {len(first)} groups held out from training, 2 are needed: add photographs")
    missing = [path for path in first if not path.is_file()]
    if missing:
        raise ArchiveError(f"photos.csv lists {missing[0]}, which does not exist: add it, or take its row out")
    return Photos.of(folder, first)


def by_vector(encoder: str, store: Path) -> list[ByVector]:
    """The encoder and its peers that make vectors; a package that is missing raises here, before any long work."""
    # The page shows the name of a local folder, not its path.
    name = Path(encoder).name if Path(encoder).is_dir() else encoder
    proposing: list[Encoder] = [*peers.sscd(store.parent / "peers"), peers.dhash(), peers.pdq()]
    return [
        ByVector(load_encoder(encoder, "cpu"), store, name),
        *(ByVector(peer, store, peer.name) for peer in proposing),
        *(ByVector(peer, store, peer.name, proposes=False) for peer in (peers.phash(), peers.colour_histogram())),
    ]


def on_archive(methods: Sequence[Method], archive: Path, work: Path, settings: PrepareSettings) -> Results:
    """Compare all methods on the historian's groups."""
    out = work / "prepared"
    test_set = prepare(archive, out, settings).test_set
    photos = Photos(out, tuple((f"test_dataset/{photo.name}", photo.sha256) for photo in test_set.photos))
    return on_set("archive", methods, photos, test_set.groups, work)


def on_exposures(methods: Sequence[Method], folders: Sequence[Path], work: Path) -> Results:
    """Compare methods on natural near-duplicates: exposures of one plate, among all photographs that are held out."""
    groups = held_out_groups(folders)
    photos = Photos.of(Path(os.path.commonpath(folders)), [path for group in groups for path in group])
    numbers = np.array([number for number, group in enumerate(groups) for _ in group], dtype=np.int64)
    return on_set("exposures", methods, photos, numbers, work)


def on_set(name: str, methods: Sequence[Method], photos: Photos, groups: Ints, work: Path) -> Results:
    """Compare methods on photos whose groups, int64 (n,), are known, by similarity and by verified pairs.

    What is made on the way lies in `work`, the evidence by the set's name.
    """
    alone = {m.name: m.similarities(photos, photos) for m in tqdm(methods, name, unit="method", disable=None)}
    search, path = Search(photos, photos, groups, groups), work / "evidence" / f"{name}.parquet"
    rows = {method: search.candidates(alone[method]) for method in proposers(methods)}
    known = search.evidence(rows.values(), path)
    rows = {method: search.closed(some, known) for method, some in rows.items()}
    known = search.evidence(rows.values(), path)
    verified = {f"{method}{VERIFIED}": search.verified(alone[method], some, known) for method, some in rows.items()}
    names = tuple(path for path, _ in photos.items)

    def scored(method: str, similarities: Floats) -> Scored:
        no_vectors = np.empty((len(names), 0), np.float32)
        return Scored(method, "", names, groups, no_vectors, similarities=similarities, store=work / "resamples")

    first, second = (compare([scored(*found) for found in some.items()]) for some in (alone, verified))
    fixed = {e.approach: e.at(peers.SSCD_THRESHOLD) for e in first.evaluations if e.approach in peers.SSCD.values()}
    return Results(first, second, fixed)


def encoders_of(methods: Sequence[ByVector]) -> list[ByVector]:
    """Select the learned methods: the larger set takes a minute per method, and hashes fail on it."""
    return [method for method in methods if not isinstance(method.encoder, peers.Peer)]


def proposers(methods: Sequence[Method]) -> list[str]:
    """The names of the methods whose nearest photos are verified."""
    return [method.name for method in methods if isinstance(method, ByVector) and method.proposes]


def proven(methods: Sequence[ByVector], damaged: Mapping[str, Photos], originals: Photos, work: Path) -> EvidenceByPair:
    """Evidence of each copy with its own original and with the nearest ones by each method that proposes."""
    known: EvidenceByPair = {}
    own = np.repeat(np.arange(len(originals.items))[:, None], 2, axis=1)
    for damage, photos in tqdm(damaged.items(), "proofs", unit="damage", disable=None):
        search = Search(photos, originals, own[:, 0], own[:, 0])
        rows = [search.candidates(m.similarities(photos, originals)) for m in methods if m.proposes]
        known |= search.evidence([own, *rows], work / "evidence" / f"{damage}.parquet")
    return known


def on_damages(
    methods: Sequence[Method], damaged: Mapping[str, Photos], originals: Photos, known: EvidenceByPair
) -> Mapping[str, Mapping[str, Copied]]:
    """Measure all methods on each kind of damage, then the proposing ones again, verified.

    One fit serves all damages of a method, because in practice nobody knows a photo's damage.

    Args:
        methods: the methods to compare.
        damaged: damage → copies, in the order of their originals.
        originals: photos among which they are searched.
        known: evidence of all candidates.

    Returns:
        Damage → method → figures.
    """
    figures: dict[str, dict[str, Copied]] = {damage: {} for damage in damaged}
    own = np.arange(len(originals.items))
    contents = Photos(Path(), tuple(item for photos in damaged.values() for item in photos.items))
    search = Search(contents, originals, np.tile(own, len(damaged)), own)
    for method in tqdm(methods, "copies", unit="method", disable=None):
        chosen = queries_of(method, len(own))
        found = [method.similarities(photos.take(chosen), originals) for photos in damaged.values()]
        for damage, some in zip(damaged, found, strict=True):
            figures[damage][method.name] = copied(some, np.array(chosen, dtype=np.int64))
        if proposers([method]):
            stacked = np.concatenate(found)
            scores = search.verified(stacked, search.candidates(stacked), known)
            for damage, some in zip(damaged, np.split(scores, len(damaged)), strict=True):
                figures[damage][f"{method.name}{VERIFIED}"] = copied(some, own)
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


class Noting(np.random.Generator):
    """A generator that notes what it draws, so that it is known what a damage did."""

    def __init__(self, seed: Sequence[int]) -> None:
        """Draw what `numpy.random.default_rng` draws by this seed."""
        super().__init__(np.random.PCG64(seed))
        self.drawn: list[float] = []

    def uniform(self, *bounds: Any, **more: Any) -> Any:
        """Draw, and note it."""
        self.drawn.append(super().uniform(*bounds, **more))
        return self.drawn[-1]

    def integers(self, *bounds: Any, **more: Any) -> Any:
        """Draw, and note it."""
        self.drawn.append(super().integers(*bounds, **more))
        return self.drawn[-1]


def drawn_by(damage: str, originals: Photos) -> Floats:
    """What a damage drew for each photo, float64 (n, k), in its order: the cut, the angle, the screen."""
    rows = []
    for path, (_, sha256) in zip(originals.paths, originals.items, strict=True):
        noting = Noting([int(sha256[:8], 16), list(press.DAMAGES).index(damage)])
        press.DAMAGES[damage](read_image(path), noting)
        rows.append(noting.drawn)
    return np.array(rows, dtype=np.float64)


def relations(damaged: Mapping[str, Photos], originals: Photos, known: EvidenceByPair) -> list[Told]:
    """Compare what verification says of photos and copies with the truth; a missing match counts as entirely wrong.

    Args:
        damaged: damage → copies, in the order of their originals.
        originals: undamaged.
        known: evidence of each copy with its original.
    """
    wholes = [sha256 for _, sha256 in originals.items]

    def found(damage: str) -> list[Evidence | None]:
        copied = [sha256 for _, sha256 in damaged[damage].items]
        return [known.get(ordered(*pair)) for pair in zip(wholes, copied, strict=True)]

    def right(damage: str) -> list[bool]:
        return [bool(e and e.matched and e.mirrored == (damage == "mirror")) for e in found(damage)]

    def told(damage: str, measure: Callable[[Evidence, bool, Sequence[float]], float], worst: float) -> Floats:
        """What is measured of each copy, given its evidence, whether the original comes first, and what was drawn."""
        rows = zip(found(damage), wholes, drawn_by(damage, originals), strict=True)
        return np.array([measure(e, e.first == whole, drawn) if e else worst for e, whole, drawn in rows], np.float64)

    unmirrored = np.mean([right(damage) for damage in press.DAMAGES if damage != "mirror"], axis=0)
    periods = told("halftone", period_error, 1.0)
    return [
        Told.of("mirror", "called mirrored", "%", np.array(right("mirror"), float)),
        Told.of("any other", "matched and not called mirrored", "%", unmirrored),
        Told.of("crop", "called a crop of the whole", "%", told("crop", is_crop, 0.0)),
        Told.of("crop", "overlap of its place with the true one (IoU)", "", told("crop", overlap, 0.0)),
        Told.of("rotate", "error of the angle", "°", told("rotate", angle_error, 180.0)),
        Told.of("halftone", "screen seen", "%", (periods < 1).astype(np.float64)),
        Told.of("halftone", "error of the screen's period", "% of it", 100 * periods),
    ]


def is_crop(found: Evidence, whole_first: bool, _drawn: Sequence[float]) -> float:  # noqa: FBT001 - a fact
    """Return 1 if verification calls the copy a crop of the whole, else 0."""
    relation = relation_of(found)
    return float(relation.kind is Kind.CROP and relation.crop == ("second" if whole_first else "first"))


def overlap(found: Evidence, whole_first: bool, drawn: Sequence[float]) -> float:  # noqa: FBT001 - a fact
    """Intersection over union of the box in the whole that was cut out and the one that the transform says."""
    if found.transform is None:
        return 0.0
    sizes = (found.width_first, found.height_first), (found.width_second, found.height_second)
    whole, copy = sizes if whole_first else sizes[::-1]
    box = box_in_first(found.transform if whole_first else inverse(found.transform), whole, copy)
    if box is None:
        return 0.0
    corner, size, cut, cut_size = (np.array(part, np.float64) for part in (box[:2], box[2:], drawn[-2:], copy))
    sides = np.minimum(corner + size, cut + cut_size) - np.maximum(corner, cut)
    common = float(np.prod(np.maximum(0, sides)))
    return common / float(np.prod(size) + np.prod(cut_size) - common)


def angle_error(found: Evidence, whole_first: bool, drawn: Sequence[float]) -> float:  # noqa: FBT001 - a fact
    """Measure the degrees between the rotation that was drawn and the one that verification reports."""
    if not found.matched:
        return 180.0
    # Pillow turns anticlockwise, evidence counts clockwise from the first photo to the second.
    turned = found.rotation if whole_first else -found.rotation
    return abs((turned + drawn[0] + 180) % 360 - 180)


def period_error(found: Evidence, whole_first: bool, drawn: Sequence[float]) -> float:  # noqa: FBT001 - a fact
    """Difference of the screen's period from the one that was drawn, as a share of that; 1 where none is seen."""
    period = found.screen_second if whole_first else found.screen_first
    return abs(period / drawn[0] - 1)


def speeds(methods: Sequence[Method], paths: Sequence[Path]) -> Mapping[str, Speed]:
    """Photos a second of each method; the first one is also clocked through `embed`, which is how users get vectors."""
    first, photos = methods[0], Photos.of(paths[0].parent, paths)
    clocked = {}
    if isinstance(first, ByVector):
        clocked[f"{first.name} by neardup.embed"] = clock(partial(_embed, first.encoder, photos), len(paths))
    return clocked | {
        method.name: clock(partial(method.describe, paths), len(paths))
        for method in tqdm(methods, "speed", unit="method", disable=None)
    }


def _embed(encoder: Encoder, photos: Photos) -> None:
    with tempfile.TemporaryDirectory() as store:
        embed_photos(photos.items, photos.root, encoder, store=Path(store))


def pairs_a_second(sift: Sift, paths: Sequence[Path]) -> float:
    """How many pairs of photos SIFT compares, each directly and mirrored."""
    keypoints = sift.describe(paths)
    rate = clock(lambda: [sift.inliers(a, b) for a in keypoints for b in keypoints], len(keypoints) ** 2)
    return rate.median / 2


if __name__ == "__main__":
    main()
