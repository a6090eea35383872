"""Tasks that find all near-duplicates of a folder: one encodes a shard of photos, one searches a block of pairs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import TaskRunner

from neardup.arrays import Ints
from neardup.duplicates import duplicates
from neardup.encode.collection import Collection, Encoded, among, encode_shard, known, new_shards
from neardup.measure.evaluate import Evaluation
from neardup.measure.low_precision import effect, measured
from neardup.measure.threshold import calibrated_beside
from neardup.search.blocks import Triangle, search_block
from neardup.settings.schema import ClusterSettings
from tasks.cluster import spread
from tasks.running import RETRY, outside_fault

TOLD_EVERY = 10.0
"""Seconds between two lines that say how far the work is."""


@task(name="encode shard", retry_condition_fn=outside_fault, **RETRY)
def encode(collection: Collection, paths: tuple[str, ...]) -> Encoded:
    """Encode the photos of one shard into the store."""
    return encode_shard(collection, paths)


@task(name="search block", task_run_name="search block {i}, {j}", retry_condition_fn=outside_fault, **RETRY)
def search(collection: Collection, threshold: float, slabs: int, i: int, j: int) -> int:
    """Search one block of the triangle; its pairs go to the store."""
    return search_block(collection, threshold, slabs, i, j)


def threshold_of(collection: Collection, out: Path, threshold: float | None) -> float:
    """The threshold that was asked for, else the encoder's own; says what a lower precision was measured to cost."""
    if collection.precision == "fp32":
        return calibrated_beside(collection.encoder, collection.fingerprint) if threshold is None else threshold
    folder = measured(out, collection.precision, collection.fingerprint)
    get_run_logger().info("%s", effect(folder))
    return Evaluation.load(folder).threshold if threshold is None else threshold


def encode_new(collection: Collection, here: Ints, runner: TaskRunner[Any], settings: ClusterSettings) -> None:
    """Encode every file that is here and not known, shard by shard; say how far it is and how long it will take."""
    old = known(collection)
    total = int((~among(here, old)).sum())
    log = get_run_logger()
    log.info("%s photos, %s of them to encode", f"{len(here):,}", f"{total:,}")
    calls = ({"collection": collection, "paths": paths} for paths in new_shards(collection, old, settings.shard))
    told = _Told("encoded", "photos", total, log.info)
    for made in spread(runner, encode, calls, settings.workers):
        told.done(made.photos + made.unreadable)


def search_all(triangle: Triangle, runner: TaskRunner[Any], settings: ClusterSettings) -> None:
    """Search every block that was not searched yet; say how far it is and how long it will take."""
    blocks = triangle.blocks()
    sizes = [triangle.pairs(i, j) for i, j in blocks]
    log = get_run_logger()
    log.info("%s pairs of photos, %s of them to compare", f"{triangle.rows**2 // 2:,}", f"{sum(sizes):,}")
    same = {"collection": triangle.collection, "threshold": triangle.threshold, "slabs": len(triangle.slabs)}
    told = _Told("compared", "pairs", sum(sizes), log.info)
    calls = ({**same, "i": i, "j": j} for i, j in blocks)
    for size, _ in zip(sizes, spread(runner, search, calls, settings.workers), strict=True):
        told.done(size)


class _Told:
    """Says every few seconds how much is done, how fast, and how long the rest will take."""

    def __init__(self, what: str, unit: str, total: int, say: Callable[[str], object]) -> None:
        self.what, self.unit, self.total, self.say = what, unit, total, say
        self.count, self.began = 0, time.monotonic()
        self.next = self.began + TOLD_EVERY

    def done(self, more: int) -> None:
        """Count what was done."""
        self.count += more
        now = time.monotonic()
        if now < self.next and self.count < self.total:
            return
        self.next = now + TOLD_EVERY
        rate = self.count / max(now - self.began, 1e-9)
        left = (self.total - self.count) / rate
        self.say(f"{self.what} {self.count:,} of {self.total:,} {self.unit}, {rate:,.0f} a second, {_time(left)} left")


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


@task(name="publish")
def publish(triangle: Triangle, here: Ints, out: Path) -> dict[str, Any]:
    """Write pairs, groups and pictures, and put the counts into the Prefect UI."""
    found = duplicates(triangle, here)
    folder = out / "duplicates"
    found.write(folder)
    create_markdown_artifact(found.summary, key="duplicates", description="All near-duplicates of the folder")
    return {**found.facts(), "folder": str(folder)}
