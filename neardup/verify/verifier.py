"""Verify pairs on all cores: find keypoints once per photo, match them, and compare matching photos by pixels."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from threading import Thread
from typing import Self

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
from joblib import Parallel, delayed
from PIL import Image

from neardup.arrays import Ints, Vectors
from neardup.encode.devices import no_threads_of_libraries
from neardup.errors import UnreadableImageError
from neardup.images import MAX_PIXELS, read_content, read_image
from neardup.progress import bar
from neardup.stages import digest_of
from neardup.verify.candidates import candidate_pairs, closing_pairs, near_together, with_pairs
from neardup.verify.certainty import median_residual, squeeze_by_chance
from neardup.verify.differences import SHOWN_STEP, Pictures, differences_of
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.frames import frames_of
from neardup.verify.keypoints import KEYPOINTS_STEP, LocalFeatures, local_features, opencv_major
from neardup.verify.match import MATCH_STEP, Match, Prepared, best_matches, better, plausible
from neardup.verify.perspective import perspective_of
from neardup.verify.picture import WIDTH, Terms, explain_picture
from neardup.verify.picture_area import Agreement
from neardup.verify.pixels import Comparison, GreyPhoto, LaidPair, compare
from neardup.verify.shared_part import is_all_they_share
from neardup.verify.store import EvidenceByPair, KeypointCache
from neardup.verify.surroundings import plainness

VERIFY_STEP = 10
"""Version of how matches become evidence that decisions go by; bumped when that changes for equal photos."""
CORES = max(1, cv2.getNumberOfCPUs())
"""Pairs and photos that are worked on at once by default: the number of cores."""
MANY = 2048
"""Number of pairs from which processes are worth the second or two that they take to start."""
BLOCK = 2048
"""Pairs (per core, with processes) whose photos' keypoints are made first, then matched, then forgotten if too many."""
PORTION = 64
"""Pairs that a core is given at a time: handing them out one by one would take a sixth of the time."""
AHEAD = 4
"""Portions of pairs, or photos' bytes, that wait for each core, so that no core is idle."""
IDLE_SECONDS = 30
"""Seconds after which an idle process of the pool ends."""
PARENT_CHECK_SECONDS = 2.0
"""Seconds between a pool process's checks that the process which started it still runs."""
NO_POINTS = np.empty((0, 4), np.float32)
"""The matched points of photos that do not match."""
PREPARED_PHOTOS = 512
"""Photos whose keypoints are kept from block to block, 300 KB each: joblib ends a process that grew by 300 MB."""


def verifier_fingerprint() -> str:
    """Digest of the versions of all steps that decisions go by: equal fingerprints give equal probabilities."""
    return digest_of("verifier", KEYPOINTS_STEP, MATCH_STEP, VERIFY_STEP, opencv_major())


def evidence_fingerprint() -> str:
    """Digest of the versions of all that is kept of a pair: equal fingerprints give equal boxes and sentences too."""
    return digest_of(verifier_fingerprint(), SHOWN_STEP)


def evidence_of(first: Prepared, second: Prepared, photos: tuple[str, str]) -> Evidence:
    """Verify one pair; the arguments are those of `proof_of`."""
    return proof_of(first, second, photos)[0]


def proof_of(first: Prepared, second: Prepared, photos: tuple[str, str]) -> tuple[Evidence, Vectors]:
    """Verify one pair, and return which points agree.

    Args:
        first: keypoints of the photo whose SHA-256 is the lesser.
        second: keypoints of the other photo.
        photos: the SHA-256 of both.

    Returns:
        The evidence, and the points that agree: float32 (n, 4), x and y in full pixels of the first photo, then of the
        second; (0, 4) for no match.
    """
    sizes = first.size, second.size
    plain, blurred = best_matches(first, second)
    best = better(plain, blurred)
    evidence = Evidence(
        *photos,
        *sizes[0],
        *sizes[1],
        first.features.count,
        second.features.count,
        matches=best.matches if best else 0,
        inliers=plain.inliers if plain else 0,
        blurred_inliers=blurred.inliers if blurred else 0,
        log_false_alarms=best.log_false_alarms if best else 0.0,
        screen_first=first.features.screen,
        screen_second=second.features.screen,
    )
    if best is None or not plausible(best):
        return evidence, NO_POINTS
    laid, pixels = _laid(first, second, best)
    agreement = Agreement.of(laid)
    # Half of a matched pair's time, and seldom needed where the match is doubtful.
    pictures = cache(partial(Pictures.of, laid, best.points, agreement))
    if is_all_they_share(agreement, pictures, best.points):
        return evidence, NO_POINTS
    plain_first, plain_second = plainness(laid.first, laid.second, laid.transform)
    frames = frames_of(best.transform, *sizes)
    matched = replace(
        evidence,
        residual=median_residual(best.points, laid.transform, frames.scale, *sizes),
        transform=laid.transform,
        **asdict(frames),
        squeeze_by_chance=squeeze_by_chance(best.points, best.transform),
        tone_slope=pixels.tone_slope,
        reversed_share=pixels.reversed_share,
        correlation=pixels.correlation,
        detail=pixels.detail,
        plain_first=plain_first,
        plain_second=plain_second,
    )
    if not matched.doubtful:
        boxes, differences = pictures().boxes, differences_of(pictures())
        matched = replace(matched, differences=differences, picture_first=boxes[0], picture_second=boxes[1])
    return matched, best.points


def _laid(first: Prepared, second: Prepared, match: Match) -> tuple[LaidPair, Comparison]:
    """Lay two photos on each other, in perspective if their pixels confirm it, and compare them by the affine match."""
    greys = [GreyPhoto(photo.features.grey, photo.size, photo.features.screen) for photo in (first, second)]
    laid = LaidPair(greys[0], greys[1], match.transform)
    pixels = compare(laid)
    if perspective := perspective_of(match.candidates, match.transform, first.size, second.size):
        in_perspective = replace(laid, transform=perspective)
        if compare(in_perspective).correlation >= pixels.correlation:  # the pixels, to which it was not fitted
            laid = in_perspective
    return laid, pixels


def matched_points(first: LocalFeatures, second: LocalFeatures) -> Vectors:
    """Find the points that agree in two photos of which `proof_of` found a match: float32 (n, 4), as there."""
    best = better(*best_matches(Prepared.of(first), Prepared.of(second)))
    return NO_POINTS if best is None else best.points


class Verifier:
    """Verifies pairs of a collection's photos on all cores, and remembers the keypoints of the photos used last.

    As a context manager it spans a run over a collection, at whose end the cache of keypoints is shrunk to its limit.

    Attributes:
        read: function from a photo's SHA-256 to its bytes; raises `UnreadableImageError` or `OSError` where they are
            gone.
        cache: cache that keeps keypoints from one run to the next; None to keep none.
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
        """Make a verifier; no photo is read before its first pair."""
        self.read, self.cache, self.max_pixels, self.cores = read, cache, max_pixels, cores
        self._prepared: dict[str, Prepared | None] = {}

    @classmethod
    def of_folder(
        cls, root: Path, path_of: Mapping[str, str], state: Path, max_pixels: int = MAX_PIXELS, cores: int = CORES
    ) -> "Verifier":
        """Make a verifier of a folder's photos.

        Args:
            root: folder of the photos; it is only read.
            path_of: SHA-256 of each photo → its path.
            state: state folder, whose cache keeps keypoints.
            max_pixels: larger images are refused.
            cores: pairs and photos that are worked on at once.
        """
        return cls(
            lambda photo: read_content(root / path_of[photo], photo), KeypointCache.in_state(state), max_pixels, cores
        )

    def __enter__(self) -> Self:
        """Begin a run."""
        return self

    def __exit__(self, *_: object) -> None:
        """End a run: shrink the cache of keypoints, if there is one."""
        if self.cache:
            self.cache.shrink()

    def verify(self, pairs: Sequence[tuple[str, str]], known: EvidenceByPair | None = None) -> EvidenceByPair:
        """Verify each pair whose evidence is not known yet; keypoints are made only for photos of such pairs.

        Args:
            pairs: the SHA-256 of both photos, in the order of `evidence.ordered`.
            known: evidence of earlier runs.

        Returns:
            Evidence by pair, including the known evidence; a pair has none if one of its photos can no longer be read,
            or if both have the same content, so that there is nothing to prove.
        """
        known = {pair: known[pair] for pair in pairs if known and pair in known}
        new = {pair for pair in pairs if pair not in known and pair[0] != pair[1]}
        return known | self.verify_in_order(near_together(new))

    def verify_in_order(self, pairs: Sequence[tuple[str, str]]) -> EvidenceByPair:
        """Verify pairs in the given order, which should keep those of a photo together: `candidates.near_together`.

        Args:
            pairs: the SHA-256 of both photos, as `evidence.ordered` orders them; each pair once, never a photo with
                itself.

        Returns:
            Evidence by pair; a pair has none if one of its photos can no longer be read.
        """
        verified: EvidenceByPair = {}
        with bar(total=len(pairs), desc="verifying", unit="pair", disable=None) as progress:
            for method in (self._by_processes, self._by_threads):
                for portion in method([pair for pair in pairs if pair not in verified]):
                    verified |= {(evidence.first, evidence.second): evidence for evidence in portion}
                    progress.update(len(portion))
        return verified

    def verify_closed(
        self, pairs: Sequence[tuple[str, str]], known: EvidenceByPair | None = None
    ) -> tuple[EvidenceByPair, list[tuple[str, str]]]:
        """Verify pairs, as `verify` does, and then the pairs that close triangles with them.

        Returns:
            The evidence of all, and the closing pairs, as `candidates.closing_pairs` gives them.
        """
        evidence = self.verify(pairs, known)
        closing = closing_pairs(evidence, pairs)
        return evidence | self.verify(closing, known), closing

    def verify_nearest(
        self, vectors: Vectors, photos: Sequence[str], known: EvidenceByPair | None = None
    ) -> tuple[Ints, list[Evidence | None]]:
        """Verify each photo with its `CANDIDATES` nearest, and then the pairs that close triangles with those.

        Args:
            vectors: float32 (n, d), unit rows.
            photos: SHA-256 of the photo of each row.
            known: evidence of earlier runs.

        Returns:
            Rows of each pair, int64 (m, 2), the lesser first, sorted; and its evidence, None where a photo can no
            longer be read.
        """

        def pairs_of(rows: Ints) -> list[tuple[str, str]]:
            return [ordered(photos[left], photos[right]) for left, right in rows.tolist()]

        rows, row_of = candidate_pairs(vectors), {photo: row for row, photo in enumerate(photos)}
        evidence, closing = self.verify_closed(pairs_of(rows), known)
        rows = with_pairs(rows, ((row_of[photo], row_of[partner]) for photo, partner in closing))
        return rows, [evidence.get(pair) for pair in pairs_of(rows)]

    def _by_threads(self, pairs: Sequence[tuple[str, str]]) -> Iterator[list[Evidence]]:
        """Verify pairs in threads of this process, which start at once but share the interpreter's lock."""
        with no_threads_of_libraries(), ThreadPoolExecutor(self.cores) as pool:
            for block in _parts(pairs, BLOCK):
                photos = sorted({photo for pair in block for photo in pair} - self._prepared.keys())
                self._prepared.update(zip(photos, pool.map(self._features, photos), strict=True))
                yield from pool.map(self._evidence, _parts(block, PORTION))
                self._forget({photo for pair in block for photo in pair})

    def _by_processes(self, pairs: Sequence[tuple[str, str]]) -> Iterator[list[Evidence]]:
        """Verify many pairs in processes that share the cache of keypoints; few pairs, or without a cache, none.

        A photo's bytes are read here and sent, so that a process need not know where photos are. What a killed process
        leaves undone is left to the threads.
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
            idle_worker_timeout=IDLE_SECONDS,
            initializer=_begin_worker,
            initargs=(os.getpid(),),
        )
        with suppress(BrokenExecutor):
            for block in _parts(pairs, BLOCK * self.cores):
                photos = sorted({photo for pair in block for photo in pair})
                uncached = self._uncached(photos)
                for _ in pool(delayed(cache_features)(folder, *photo, self.max_pixels) for photo in uncached):
                    pass
                yield from pool(delayed(evidence_by_cache)(folder, portion) for portion in _parts(block, PORTION))

    def _uncached(self, photos: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Read the photos whose keypoints the cache lacks: SHA-256 and bytes; unreadable ones are left out."""
        assert self.cache  # noqa: S101 - only with a cache
        for photo in photos:
            if not self.cache.has(photo):
                with suppress(UnreadableImageError, OSError):
                    yield photo, self.read(photo)

    def features(self, photo: str) -> LocalFeatures | None:
        """Get the keypoints of a photo by its SHA-256; None where it cannot be read."""
        prepared = self._prepared.get(photo) or self._features(photo)
        return prepared.features if prepared else None

    def picture(self, evidence: Evidence, names: tuple[str, str], terms: Terms = ()) -> Image.Image | None:
        """Draw the picture that explains a pair; None where a photo can no longer be read.

        Args:
            evidence: what was measured of the pair.
            names: what the first and the second photo are called.
            terms: terms that add up to the log-odds of the pair's probability; none where nothing was decided.
        """
        photos = evidence.first, evidence.second
        try:
            images = [read_image(self.read(photo), max_pixels=self.max_pixels, draft=WIDTH) for photo in photos]
        except (UnreadableImageError, OSError):
            return None
        first, second = (self.features(photo) for photo in photos)
        if first is None or second is None:
            return None
        points = matched_points(first, second) if evidence.matched else NO_POINTS
        return explain_picture(images[0], images[1], evidence, points, names=names, terms=terms)

    def _features(self, photo: str) -> Prepared | None:
        """Get a photo's keypoints from the cache, or make them; None where the photo cannot be read."""
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
        """Verify those pairs whose photos could be read; the keypoints of all are in memory."""
        return _evidence_of_all(pairs, self._prepared.__getitem__)

    def _forget(self, latest: set[str]) -> None:
        """Drop all keypoints but those of the latest photos, once more than `PREPARED_PHOTOS` are in memory."""
        if len(self._prepared) > PREPARED_PHOTOS:
            self._prepared = {photo: self._prepared[photo] for photo in latest}


def _evidence_of_all(pairs: Sequence[tuple[str, str]], prepared: Callable[[str], Prepared | None]) -> list[Evidence]:
    """Verify those pairs whose photos both have keypoints."""
    prepared_pairs = ((prepared(first), prepared(second), (first, second)) for first, second in pairs)
    return [evidence_of(first, second, pair) for first, second, pair in prepared_pairs if first and second]


def cache_features(folder: Path, photo: str, data: bytes, max_pixels: int) -> None:
    """Make a photo's keypoints and write them into the cache's folder; skip what cannot be read or written."""
    with suppress(UnreadableImageError, OSError):
        KeypointCache(folder).put(photo, local_features(data, max_pixels))


def evidence_by_cache(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[Evidence]:
    """Verify those pairs for which the cache's folder holds the keypoints of both photos."""
    return _evidence_of_all(pairs, partial(_cached, folder))


def _begin_worker(parent: int) -> None:
    """Make this process of a pool compute in one thread, and end by itself once the pool's owner was killed."""

    def watch() -> None:
        while psutil.pid_exists(parent):
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    cv2.setNumThreads(1)
    Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=PREPARED_PHOTOS)
def _cached(folder: Path, photo: str) -> Prepared | None:
    """Get a photo's keypoints from the cache's folder; each process keeps the ones it used last in memory."""
    features = KeypointCache(folder).get(photo)
    return Prepared.of(features) if features else None


def _parts(pairs: Sequence[tuple[str, str]], size: int) -> list[Sequence[tuple[str, str]]]:
    """Split pairs into parts of a size; the last one may be shorter."""
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]
