"""Pairs verified: keypoints made once a photo, matched, compared pixel by pixel where they match, by all cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from neardup.arrays import Ints, Vectors
from neardup.errors import UnreadableImageError
from neardup.images import MAX_PIXELS
from neardup.progress import bar
from neardup.search.nearest import nearest_rows
from neardup.stages import digest_of
from neardup.verify.evidence import Evidence
from neardup.verify.frames import frames_of
from neardup.verify.keypoints import KEYPOINTS_STEP, LocalFeatures, local_features
from neardup.verify.match import MATCH_STEP, Prepared, best_matches, better, plausible
from neardup.verify.pixels import compare
from neardup.verify.store import KeypointCache, Known

VERIFY_STEP = 2
"""Version of the evidence; bumped when it changes for equal photos, beside those of keypoints and matches."""
CANDIDATES = 20
"""Nearest photos of each that are verified: they hold 99.9 % of the true pairs of a press archive of 462 photos."""
THREADS = max(1, cv2.getNumberOfCPUs())
"""Pairs and photos that are worked on at once; OpenCV and NumPy let go of the interpreter meanwhile."""

BLOCK = 2048
"""Pairs between two looks at the memory: their photos' keypoints are at hand together."""
PORTION = 64
"""Pairs that one thread takes at a time: one by one, handing them out takes a sixth of the time."""
HELD = 4096
"""Photos whose keypoints are held at once, about 500 KB each."""


def verifier_fingerprint() -> str:
    """Digest of the versions of all steps of verification: equal fingerprints give equal evidence."""
    return digest_of("verifier", KEYPOINTS_STEP, MATCH_STEP, VERIFY_STEP, cv2.__version__.split(".")[0])


def evidence_of(first: Prepared, second: Prepared, names: tuple[str, str]) -> Evidence:
    """Verify one pair; the arguments are those of `proof_of`."""
    return proof_of(first, second, names)[0]


def proof_of(first: Prepared, second: Prepared, names: tuple[str, str]) -> tuple[Evidence, Vectors]:
    """Verify one pair, and tell which points agree.

    Args:
        first: keypoints of the photo whose SHA-256 is the lesser.
        second: keypoints of the other photo.
        names: the SHA-256 of both.

    Returns:
        The evidence, and float32 (n, 4), x and y in the first and in the second photo; (0, 4) for no match.
    """
    one, other = first.features, second.features
    sizes = first.size, second.size
    plain, blurred = best_matches(first, second)
    best = better(plain, blurred)
    evidence = Evidence(
        *names,
        *sizes[0],
        *sizes[1],
        one.count,
        other.count,
        matches=best.matches if best else 0,
        inliers=plain.inliers if plain else 0,
        blurred_inliers=blurred.inliers if blurred else 0,
        log_false_alarms=best.log_false_alarms if best else 0.0,
        screen_first=one.screen,
        screen_second=other.screen,
    )
    if best is None or not plausible(best):
        return evidence, np.empty((0, 4), np.float32)
    frames = frames_of(best.transform, *sizes)
    pixels = compare(one.grey, other.grey, best.transform, *sizes, first_screen=one.screen, second_screen=other.screen)
    matched = replace(
        evidence,
        transform=best.transform,
        mirrored=frames.mirrored,
        coverage_first=frames.coverage_first,
        coverage_second=frames.coverage_second,
        rotation=frames.rotation,
        scale=frames.scale,
        squeeze=frames.squeeze,
        tone_slope=pixels.tone_slope,
        correlation=pixels.correlation,
        differences=pixels.differences,
    )
    return matched, best.points


def matched_points(first: LocalFeatures, second: LocalFeatures) -> Vectors:
    """Points of both photos that agree, float32 (n, 4): x and y in the first and in the second; (0, 4) for no match."""
    best = better(*best_matches(Prepared.of(first), Prepared.of(second)))
    return best.points if best and plausible(best) else np.empty((0, 4), np.float32)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep OpenCV and NumPy from starting threads of their own below ours: the work comes in small pieces."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(threads)


class Verifier:
    """Verifies pairs of a collection's photos by all cores, and remembers the keypoints of the photos used last.

    Attributes:
        read: the bytes of a photo, by its SHA-256; raises `UnreadableImageError` or `OSError` where they are gone.
        cache: where keypoints are kept from one run to the next; None to keep none.
        max_pixels: larger images are refused.
    """

    def __init__(
        self, read: Callable[[str], bytes], cache: KeypointCache | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        """Make nothing yet."""
        self.read, self.cache, self.max_pixels = read, cache, max_pixels
        self._prepared: dict[str, Prepared | None] = {}

    def verify(self, pairs: Sequence[tuple[str, str]], known: Known | None = None) -> Known:
        """Evidence of each pair that is not known yet; keypoints are made only for photos of such pairs.

        Args:
            pairs: the SHA-256 of both photos, in the order of `evidence.ordered`.
            known: evidence of earlier runs.

        Returns:
            Evidence by pair, the known one too; a pair of which a photo cannot be read any more has none, and neither
            has a pair of equal contents, of which there is nothing to prove.
        """
        found = {pair: known[pair] for pair in pairs if known and pair in known}
        new = sorted({pair for pair in pairs if pair not in found and pair[0] != pair[1]})
        with (
            _one_thread_each(),
            ThreadPoolExecutor(THREADS) as pool,
            bar(total=len(new), desc="verifying", unit="pair", disable=None) as progress,
        ):
            for start in range(0, len(new), BLOCK):
                block = new[start : start + BLOCK]
                photos = sorted({photo for pair in block for photo in pair} - self._prepared.keys())
                self._prepared.update(zip(photos, pool.map(self._features, photos), strict=True))
                portions = [block[place : place + PORTION] for place in range(0, len(block), PORTION)]
                for evidence in chain.from_iterable(pool.map(self._evidence, portions)):
                    found[evidence.first, evidence.second] = evidence
                progress.update(len(block))
                self._forget({photo for pair in block for photo in pair})
        if self.cache and new:
            self.cache.shrink()
        return found

    def features(self, photo: str) -> LocalFeatures | None:
        """Keypoints of a photo; None where it cannot be read."""
        prepared = self._prepared.get(photo) or self._features(photo)
        return prepared.features if prepared else None

    def _features(self, photo: str) -> Prepared | None:
        """A photo's keypoints, from the cache or made now."""
        features = self.cache.get(photo) if self.cache else None
        if features is None:
            try:
                features = local_features(self.read(photo), self.max_pixels)
            except (UnreadableImageError, OSError):
                return None
            if self.cache:
                self.cache.put(photo, features)
        return Prepared.of(features)

    def _evidence(self, pairs: Sequence[tuple[str, str]]) -> list[Evidence]:
        """Evidence of those pairs whose photos can be read, their keypoints at hand."""
        prepared = ((self._prepared[first], self._prepared[second], (first, second)) for first, second in pairs)
        return [evidence_of(first, second, pair) for first, second, pair in prepared if first and second]

    def _forget(self, latest: set[str]) -> None:
        """Let go of keypoints that were not used last, once there are too many."""
        if len(self._prepared) > HELD:
            self._prepared = {photo: self._prepared[photo] for photo in latest}


def candidate_pairs(vectors: Vectors, loosest: float, most: int = CANDIDATES) -> Ints:
    """The pairs of which one photo is among the nearest of the other: int64 (m, 2), rows, the lesser first, ordered.

    Args:
        vectors: float32 (n, d), unit rows.
        loosest: least similarity of a candidate.
        most: nearest photos of each.
    """
    found = [
        (min(row, other), max(row, other))
        for row, nearest in enumerate(nearest_rows(vectors, vectors, most + 1))
        for other, similarity in [hit for hit in nearest if hit[0] != row][:most]
        if similarity >= loosest
    ]
    return np.unique(np.array(found, dtype=np.int64).reshape(-1, 2), axis=0)
