"""By kind of damage: held-out photos are damaged as newspapers do, and each copy is searched among the originals."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from peers import Method, Photos
from PIL import Image
from sift import Sift

from neardup.arrays import Floats, Ints
from neardup.images import read_image
from neardup.measure.bootstrap import weighted
from neardup.measure.evaluate import RESAMPLES, Figure, figure
from neardup.measure.pairs import Pairs, micro_average_precision
from neardup.stages import Stage, digest_file, digest_of
from neardup.train import press

SIFT_QUERIES = 40
"""Photos whose copies SIFT is asked about; all of 233 would take six times as long."""
Copy = Callable[[Image.Image, int], Image.Image]
"""From a photo and a seed to its copy."""


@dataclass(frozen=True)
class Copied:
    """How well damaged copies find the photos that they were made of."""

    top_1: Figure
    micro_ap: Figure


def kinds() -> dict[str, Copy]:
    """Each damage alone, then all of them by chance."""
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
    """Which photos' copies a method is asked about: all, or a seeded sample where it is too slow for all."""
    if isinstance(method, Sift) and count > SIFT_QUERIES:
        return sorted(random.Random(0).sample(range(count), SIFT_QUERIES))
    return list(range(count))


def on_copies(method: Method, made: Photos, originals: Photos) -> Copied:
    """How well a method finds the originals of copies."""
    chosen = queries_of(method, len(originals.items))
    return copied(method.similarities(made.take(chosen), originals), np.array(chosen, dtype=np.int64))


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
    """Per copy, 1 if its original is more alike than every other photo.

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
