"""Tasks that find all near-duplicates of a folder: one encodes a shard of photos, one searches a block of pairs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from neardup.decide.constraints import PairVerdicts
from neardup.decide.decision import Decision
from neardup.detect.decoys import Decoys, search_decoys
from neardup.detect.duplicate_tables import write_duplicates
from neardup.detect.duplicates import Duplicates
from neardup.detect.verified_pairs import Verification, verify_pairs
from neardup.encode.collection import Collection, Present, encode_shard, known, new_shards
from neardup.encode.encoder import loaded_encoder
from neardup.encode.shards import Encoded, among
from neardup.errors import ConfigError
from neardup.measure.evaluate import Evaluation
from neardup.measure.low_precision import effect, measured_folder
from neardup.measure.threshold import calibrated_beside
from neardup.review.asked.again import announced, ask_about_all
from neardup.search.blocks import Block, Triangle, search_block
from neardup.settings.schema import ClusterSettings
from neardup.stages import STATE, claim
from neardup.verify.candidates import closing_pairs, near_together
from neardup.verify.evidence import Evidence
from neardup.verify.store import EVIDENCE, EvidenceByPair, read_evidence, write_evidence
from neardup.verify.verifier import CORES, evidence_fingerprint
from neardup.words import counted, duration
from tasks.cluster import spread
from tasks.decisions import links_of
from tasks.running import RETRY

FAST = 10
"""Things done in a second from which on a line about the progress has whole numbers."""
REPORT_EVERY = 10.0
"""Seconds between two lines of progress: often enough to see that work continues, in a log of hours."""

PAIRS = 8192
"""Candidate pairs per task: some seconds of work, and at most two megabytes of evidence."""
KEYPOINTS = 30
"""Number of pairs verified in the time of making one photo's keypoints, for estimating the time left."""
WRITTEN_EVERY = 60.0
"""Seconds of verification between two writes of the evidence, which a kill may cost, while writing is fast."""
WRITING = 20
"""Least time until the next write as a multiple of the last one's duration, as each writes all evidence."""


@task(name="encode shard", **RETRY)
def encode(collection: Collection, paths: tuple[str, ...]) -> Encoded:
    """Encode the photos of one shard into the store."""
    return encode_shard(collection, paths)


@task(name="search block", task_run_name="search block {block}", **RETRY)
def search(collection: Collection, threshold: float, block: Block, most: int | None = None) -> int:
    """Search one block of the triangle; its pairs go to the store."""
    return search_block(collection, threshold, block, most)


def threshold_of(collection: Collection, out: Path, threshold: float | None) -> float:
    """Choose the given threshold, else the encoder's own; report the measured effect of a lower number format."""
    if collection.precision == "fp32":
        return calibrated_beside(collection.encoder, collection.fingerprint) if threshold is None else threshold
    folder = measured_folder(out, collection.precision, collection.fingerprint)
    get_run_logger().info("%s", effect(folder))
    return Evaluation.load(folder).threshold if threshold is None else threshold


def encode_new(collection: Collection, here: Present, runner: TaskRunner[Any], settings: ClusterSettings) -> None:
    """Encode every file that is here and not known, shard by shard; say how far it is and how long it will take."""
    old = known(collection)
    total = int((~among(here.marks, old)).sum())
    log = get_run_logger()
    log.info("%s photos, %s of them to encode", f"{len(here.marks):,}", f"{total:,}")
    calls = ({"collection": collection, "paths": paths} for paths in new_shards(collection, old, settings.shard))
    progress = _Progress("encoded", "photos", total, log.info)
    for encoded in spread(runner, encode, calls, settings.workers):
        progress.add(encoded.photos + encoded.unreadable)


def search_all(triangle: Triangle, runner: TaskRunner[Any], settings: ClusterSettings) -> None:
    """Search every block that was not searched yet; say how far it is and how long it will take."""
    blocks = triangle.blocks()
    total = sum(block.pairs for block in blocks)
    log = get_run_logger()
    log.info("%s pairs of photos, %s of them to compare", f"{triangle.rows * (triangle.rows - 1) // 2:,}", f"{total:,}")
    progress = _Progress("compared", "pairs", total, log.info)
    common = {"collection": triangle.collection, "threshold": triangle.threshold, "most": triangle.most}
    calls = ({**common, "block": block} for block in blocks)
    for block, _ in zip(blocks, spread(runner, search, calls, settings.workers), strict=True):
        progress.add(block.pairs)


class _Progress:
    """Logs every few seconds how much of some work is done, how fast, and how long the rest will take.

    Where one unit takes longer than another, `effort` says how much there is in all, and how much with each.
    """

    def __init__(
        self, verb: str, unit: str, total: int, log: Callable[[str], object], effort: int | None = None
    ) -> None:
        self.verb, self.unit, self.total, self.log = verb, unit, total, log
        self.effort = total if effort is None else effort
        self.count, self.spent, self.began = 0, 0, time.monotonic()
        self.next = self.began + REPORT_EVERY

    def add(self, more: int, effort: int | None = None) -> None:
        """Count what was done since the last call."""
        self.count += more
        self.spent += more if effort is None else effort
        now = time.monotonic()
        if now < self.next and self.count < self.total:
            return
        self.next = now + REPORT_EVERY
        elapsed = max(now - self.began, 1e-9)
        rate = self.count / elapsed
        seconds = (self.effort - self.spent) * elapsed / self.spent if self.spent else None
        left = f", {duration(seconds)} left" if seconds is not None else ""  # files may have gone away
        self.log(
            f"{self.verb} {self.count:,} of {self.total:,} {self.unit}, {rate:,.{int(0 < rate < FAST)}f} a second{left}"
        )


@task(name="verify pairs", **RETRY)
def verify(
    root: Path, paths: dict[str, str], pairs: list[tuple[str, str]], state: Path, max_pixels: int, cores: int
) -> list[Evidence]:
    """Verify one shard of pairs; a worker makes the keypoints that nobody has kept."""
    return verify_pairs(root, paths, pairs, state, max_pixels, cores)


def verify_all(
    found: Duplicates, out: Path, runner: TaskRunner[Any], settings: ClusterSettings
) -> tuple[Duplicates, EvidenceByPair]:
    """Verify every candidate that no former run has, then the pairs that close triangles; say how far it is.

    Returns:
        What was found, with the closing pairs, and all evidence that is known by then.
    """
    known = read_evidence(out / "duplicates" / EVIDENCE, evidence_fingerprint())
    candidates = found.candidates
    with found.verifier(out / STATE) as verifier:  # the workers' keypoints lie in its cache
        has = verifier.cache.has if verifier.cache else lambda _: False
        _verify_new(found, candidates, known, has, out, runner, settings)
        closing = closing_pairs(known, candidates)
        _verify_new(found, closing, known, has, out, runner, settings)
    return found.with_closing(closing), known


def _verify_new(
    found: Duplicates,
    pairs: Sequence[tuple[str, str]],
    known: EvidenceByPair,
    has_keypoints: Callable[[str], bool],
    out: Path,
    runner: TaskRunner[Any],
    settings: ClusterSettings,
) -> None:
    """Verify those pairs of which nothing is known yet, shard by shard, and add the evidence to what is known.

    On this machine, all cores verify one shard at a time; of Dask's workers, each verifies one. The evidence is written
    every few shards, so that a killed run continues from there.
    """
    new = near_together(pair for pair in pairs if pair not in known)
    log = get_run_logger()
    log.info("%s candidate pairs, %s of them to verify", f"{len(pairs):,}", f"{len(new):,}")
    if not new:
        return
    claim(out / "duplicates")
    file, fingerprint = out / "duplicates" / EVIDENCE, evidence_fingerprint()
    here = settings.runner == "threads"
    common: dict[str, Any] = {"root": found.collection.folder, "max_pixels": found.collection.max_pixels}
    common |= {"state": out.resolve() / STATE, "cores": CORES if here else 1}
    shards = [new[start : start + PAIRS] for start in range(0, len(new), PAIRS)]
    calls = (
        {**common, "pairs": shard, "paths": {photo: found.path_of[photo] for pair in shard for photo in pair}}
        for shard in shards
    )
    results = (verify(**call) for call in calls) if here else spread(runner, verify, calls, settings.workers)
    efforts = _efforts(shards, has_keypoints)
    progress, due = _Progress("verified", "pairs", len(new), log.info, sum(efforts)), time.monotonic() + WRITTEN_EVERY
    for shard, effort, evidence in zip(shards, efforts, results, strict=True):
        known |= {(one.first, one.second): one for one in evidence}
        progress.add(len(shard), effort)
        if (start := time.monotonic()) > due:
            write_evidence(file, known.values(), fingerprint)
            due = (now := time.monotonic()) + max(WRITTEN_EVERY, WRITING * (now - start))
    write_evidence(file, known.values(), fingerprint)


def _efforts(shards: Sequence[Sequence[tuple[str, str]]], has_keypoints: Callable[[str], bool]) -> list[int]:
    """What each shard takes, counted in pairs: its own, and the keypoints of the photos that no shard before it has."""
    seen, efforts = set[str](), list[int]()
    for shard in shards:
        fresh = {photo for pair in shard for photo in pair} - seen
        efforts.append(len(shard) + KEYPOINTS * sum(not has_keypoints(photo) for photo in fresh))
        seen |= fresh
    return efforts


def require_decision(decision: Decision | None) -> None:
    """Raise an error, before anything is encoded, if decoys are given but no decision decides the pairs.

    Raises:
        ConfigError: there is no decision.
    """
    if decision is None:
        raise ConfigError(
            "decoys say how many photos have a false link, and nothing links pairs here: leave out --no-verify, or "
            "name an encoder to which a decision belongs"
        )


@task(name="decoys", cache_policy=NO_CACHE, **RETRY)
def look_for_decoys(triangle: Triangle, here: Present, folder: Path, decision: Decision, out: Path) -> Decoys:
    """Search for foreign photographs in the collection, to bound how many photos have a false link."""
    collection = triangle.collection
    encoder = loaded_encoder(collection.encoder, collection.device, collection.precision)
    return search_decoys(triangle, here, folder, encoder, decision, out / STATE)


@task(name="publish", cache_policy=NO_CACHE)
def publish(
    found: Duplicates,
    out: Path,
    decision: Decision | None,
    *,
    evidence: EvidenceByPair | None,
    judged: PairVerdicts,
    decoys: Decoys | None = None,
) -> dict[str, Any]:
    """Decide the pairs, write them with groups and pictures, and put the counts into the Prefect UI.

    `evidence` is what verification found; None where pairs were not verified.
    """
    folder = out / "duplicates"
    if evidence is not None:
        found = found.decided(found.verifier(out / STATE), evidence, Verification(decision, judged))
    elif judged.answers:
        left_aside = counted(len(judged.answers), "answered pair")
        get_run_logger().warning(f"{left_aside} left aside: nothing was verified, and groups go by likeness alone")
    found = replace(found, decoys=decoys)
    write_duplicates(found, folder)
    if found.verified and (again := ask_about_all(folder, found.verified, links_of(out))):
        get_run_logger().info(announced(again))
    create_markdown_artifact(found.summary, key="duplicates", description="All near-duplicates of the folder")
    return {**found.facts(), "verified": evidence is not None, "folder": str(folder)}
