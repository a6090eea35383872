"""How many photos a second each method takes in, from files."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from peers import ByVector, Method, Photos
from rates import Speed, clock
from sift import Sift
from tqdm import tqdm

from neardup.encode.vectors import embed_photos
from neardup.images import read_image

PHOTOS = 128
SIDE = 224
MATCHED = 32
"""Photos whose pairs are matched by SIFT for the clock."""


def small_jpegs(originals: Photos, folder: Path) -> Photos:
    """JPEG files whose shortest side is `SIDE`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in originals.paths[:PHOTOS]:
        image = read_image(source)
        scale = SIDE / min(image.size)
        paths.append(folder / f"{source.stem}.jpg")
        image.resize((round(image.width * scale), round(image.height * scale))).save(paths[-1], quality=90)
    return Photos.of(folder, paths)


def speeds(methods: Sequence[Method], photos: Photos) -> Mapping[str, Speed]:
    """Photos a second of each method; of the first one also through `embed`, which is how users get vectors."""
    clocked: dict[str, Speed] = {}
    for method in tqdm(methods, "speed", unit="method", disable=None):
        if isinstance(method, ByVector) and not clocked:
            clocked[f"{method.name} by neardup.vectors.embed"] = clock(
                partial(_embed, method, photos), len(photos.items)
            )
        clocked[method.name] = clock(partial(method.describe, photos.paths), len(photos.items))
    return clocked


def _embed(method: ByVector, photos: Photos) -> None:
    with tempfile.TemporaryDirectory() as store:
        embed_photos(photos.items, photos.root, method.encoder, store=Path(store))


def pairs_a_second(sift: Sift, photos: Photos) -> float:
    """How many pairs of photos SIFT compares, each directly and mirrored."""
    seen = sift.describe(photos.paths[:MATCHED])
    rate = clock(lambda: [sift.inliers(a, b) for a in seen for b in seen], len(seen) ** 2)
    return rate.median / 2
