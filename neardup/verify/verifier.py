"""Pairs verified: keypoints made once a photo, matched, compared pixel by pixel where they match, by all cores."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
from joblib import Parallel, delayed
from PIL import Image
from threadpoolctl import threadpool_limits

from neardup.arrays import Ints, Vectors
from neardup.errors import UnreadableImageError
from neardup.images import MAX_PIXELS, read_file, read_image
from neardup.progress import bar
from neardup.stages import digest_of
from neardup.verify.candidates import candidate_pairs, closing_pairs, near_together, with_pairs
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.frames import frames_of
from neardup.verify.keypoints import KEYPOINTS_STEP, LocalFeatures, local_features
from neardup.verify.match import MATCH_STEP, Prepared, best_matches, better, plausible
from neardup.verify.picture import WIDTH, Terms, explain_picture
from neardup.verify.pixels import compare
from neardup.verify.store import KeypointCache, Known

VERIFY_STEP = 2
"""Version of the evidence; bumped when it changes for equal photos, beside those of keypoints and matches."""
CORES = max(1, cv2.getNumberOfCPUs())
"""Pairs and photos that are worked on at once."""
MANY = 2048
"""Pairs from which on processes are worth the second or two that they take to begin."""
BLOCK = 2048
"""Pairs a core between two looks at the memory, whose photos' keypoints are made first."""
PORTION = 64
"""Pairs that are taken at a time: one by one, handing them out takes a sixth of the time."""
AHEAD = 4
"""Portions, or photos in bytes, that wait for each core."""
IDLE = 30
"""Seconds after which a process that has nothing to do ends."""
LOOKS = 2.0
"""Seconds between two looks of a process whether the one that started it is still there."""
HELD = 512
"""Photos whose keypoints are held at once, about 300 KB each; a pool ends a process that has grown by 300 MB."""


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
        cores: pairs and photos that are worked on at once.
    """

    def __init__(
        self,
        read: Callable[[str], bytes],
        cache: KeypointCache | None = None,
        max_pixels: int = MAX_PIXELS,
        cores: int = CORES,
    ) -> None:
        """Make nothing yet."""
        self.read, self.cache, self.max_pixels, self.cores = read, cache, max_pixels, cores
        self._prepared: dict[str, Prepared | None] = {}

    @classmethod
    def of_folder(
        cls, root: Path, path_of: Mapping[str, str], state: Path, max_pixels: int = MAX_PIXELS, cores: int = CORES
    ) -> "Verifier":
        """What verifies pairs of a folder's photos.

        Args:
            root: folder of the photos; it is only read.
            path_of: SHA-256 of each photo → its path.
            state: folder that keeps keypoints.
            max_pixels: larger images are refused.
            cores: pairs and photos that are worked on at once.
        """
        return cls(
            lambda photo: read_file(root / path_of[photo]), KeypointCache(state / "keypoints"), max_pixels, cores
        )

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
        new = near_together({pair for pair in pairs if pair not in found and pair[0] != pair[1]})
        with bar(total=len(new), desc="verifying", unit="pair", disable=None) as progress:
            for way in (self._by_processes, self._by_threads):
                for evidence in way([pair for pair in new if pair not in found]):
                    found |= {(one.first, one.second): one for one in evidence}
                    progress.update(len(evidence))
        return found

    def verify_closed(
        self, pairs: Sequence[tuple[str, str]], known: Known | None = None
    ) -> tuple[Known, list[tuple[str, str]]]:
        """Evidence of pairs, as `verify` gives it, and of the pairs that close them: `closing_pairs`.

        The cache of keypoints is shrunk to its limit in the end.

        Returns:
            The evidence of all, and the closing pairs.
        """
        found = self.verify(pairs, known)
        closing = closing_pairs(found, pairs)
        found |= self.verify(closing, known)
        if self.cache:
            self.cache.shrink()
        return found, closing

    def verify_nearest(
        self, vectors: Vectors, photos: Sequence[str], known: Known | None = None
    ) -> tuple[Ints, list[Evidence | None]]:
        """Verify each photo's nearest ones, and the pairs that close them.

        Args:
            vectors: float32 (n, d), unit rows.
            photos: SHA-256 of the photo of each row.
            known: evidence of earlier runs.

        Returns:
            int64 (m, 2), rows of each pair, the lesser first, ordered; and the evidence of each.
        """

        def pairs_of(rows: Ints) -> list[tuple[str, str]]:
            return [ordered(photos[left], photos[right]) for left, right in rows.tolist()]

        rows, row_of = candidate_pairs(vectors, -1.0), {photo: row for row, photo in enumerate(photos)}
        found, closing = self.verify_closed(pairs_of(rows), known)
        rows = with_pairs(rows, ((row_of[one], row_of[other]) for one, other in closing))
        return rows, [found.get(pair) for pair in pairs_of(rows)]

    def _by_threads(self, pairs: Sequence[tuple[str, str]]) -> Iterator[list[Evidence]]:
        """Evidence of pairs, by threads of this process: they begin at once, and share the interpreter's lock."""
        with _one_thread_each(), ThreadPoolExecutor(self.cores) as pool:
            for block in _in_parts(pairs, BLOCK):
                photos = sorted({photo for pair in block for photo in pair} - self._prepared.keys())
                self._prepared.update(zip(photos, pool.map(self._features, photos), strict=True))
                yield from pool.map(self._evidence, _in_parts(block, PORTION))
                self._forget({photo for pair in block for photo in pair})

    def _by_processes(self, pairs: Sequence[tuple[str, str]]) -> Iterator[list[Evidence]]:
        """Evidence of many pairs, by processes that share the kept keypoints; of few pairs, or without a cache, none.

        The bytes of a photo are read here and sent, so that a process need not know where photos are. What a process
        that was killed leaves undone is left to the threads.
        """
        if self.cache is None or self.cores == 1 or len(pairs) < MANY:
            return
        folder = self.cache.folder
        pool = Parallel(
            self.cores,
            "loky",
            return_as="generator",
            pre_dispatch=AHEAD * self.cores,
            batch_size=1,
            idle_worker_timeout=IDLE,
            initializer=_in_a_pool,
            initargs=(os.getpid(),),
        )
        with suppress(BrokenExecutor):
            for block in _in_parts(pairs, BLOCK * self.cores):
                photos = sorted({photo for pair in block for photo in pair})
                for _ in pool(delayed(keep_features)(folder, *sent, self.max_pixels) for sent in self._unkept(photos)):
                    pass
                yield from pool(delayed(kept_evidence)(folder, portion) for portion in _in_parts(block, PORTION))

    def _unkept(self, photos: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Photos whose keypoints are not kept, and their bytes; those that cannot be read are left out."""
        assert self.cache  # noqa: S101 - only with a cache
        for photo in photos:
            if not self.cache.has(photo):
                with suppress(UnreadableImageError, OSError):
                    yield photo, self.read(photo)

    def features(self, photo: str) -> LocalFeatures | None:
        """Keypoints of a photo; None where it cannot be read."""
        prepared = self._prepared.get(photo) or self._features(photo)
        return prepared.features if prepared else None

    def picture(self, found: Evidence, names: tuple[str, str], terms: Terms = ()) -> Image.Image | None:
        """The picture that explains a pair; None where a photo cannot be read any more.

        Args:
            found: evidence of the pair.
            names: what its photos are called, the first one first.
            terms: what adds up to the log-odds of its probability; none where nothing was decided.
        """
        photos = found.first, found.second
        try:
            images = [read_image(self.read(photo), max_pixels=self.max_pixels, draft=WIDTH) for photo in photos]
        except (UnreadableImageError, OSError):
            return None
        first, second = (self.features(photo) for photo in photos)
        if first is None or second is None:
            return None
        points = matched_points(first, second)
        return explain_picture(images[0], images[1], found, points, names=names, terms=terms)

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
        return _evidence_of_all(pairs, self._prepared.__getitem__)

    def _forget(self, latest: set[str]) -> None:
        """Let go of keypoints that were not used last, once there are too many."""
        if len(self._prepared) > HELD:
            self._prepared = {photo: self._prepared[photo] for photo in latest}


def _evidence_of_all(pairs: Sequence[tuple[str, str]], prepared: Callable[[str], Prepared | None]) -> list[Evidence]:
    """Evidence of those pairs of which both photos have keypoints."""
    found = ((prepared(first), prepared(second), (first, second)) for first, second in pairs)
    return [evidence_of(first, second, pair) for first, second, pair in found if first and second]


def keep_features(folder: Path, photo: str, data: bytes, max_pixels: int) -> None:
    """Make the keypoints of a photo and keep them in the cache's folder; those of an unreadable one are not kept."""
    with suppress(UnreadableImageError, OSError):
        KeypointCache(folder).put(photo, local_features(data, max_pixels))


def kept_evidence(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[Evidence]:
    """Evidence of those pairs of which the keypoints of both photos are kept in the cache's folder."""
    return _evidence_of_all(pairs, partial(_kept, folder))


def _in_a_pool(parent: int) -> None:
    """Let this process of a pool compute in one thread, and end once the process that started it is gone.

    A pool ends with the process that owns it, but for one that is killed: its processes would stay for good.
    """

    def watch() -> None:
        while psutil.pid_exists(parent):
            time.sleep(LOOKS)
        os._exit(1)

    cv2.setNumThreads(1)
    Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=HELD)
def _kept(folder: Path, photo: str) -> Prepared | None:
    """The kept keypoints of a photo, those used last at hand in each process."""
    features = KeypointCache(folder).get(photo)
    return Prepared.of(features) if features else None


def _in_parts(pairs: Sequence[tuple[str, str]], size: int) -> list[Sequence[tuple[str, str]]]:
    """The pairs in parts of a size, the last one shorter."""
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]
