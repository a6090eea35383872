"""Photos as the page shows them: always decoded and re-encoded, once per content and size, never the raw file."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from neardup.errors import ArchiveError, NeardupError, StorageError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_file, read_image
from neardup.review.found.results import Results
from neardup.stages import STATE, replacing
from neardup.verify.keypoints import local_features
from neardup.verify.verifier import matched_points

SMALL, LARGE, FULL = 320, 1600, 4096
"""Pixels of the longer side: of a picture in a group, of one of a pair, and of one that is zoomed into."""
SIDES = (SMALL, LARGE, FULL)
"""The sizes that a picture can be asked for in; a smaller photo is never enlarged."""
QUALITY = 85
"""JPEG quality, 1 to 95; higher than that of small pictures, because people look for small differences in these."""
MOST_POINTS = 40
"""Matched points that a pair shows: more of them hide the photo."""
WORKERS = max(2, (os.cpu_count() or 2) // 2)
"""Threads that make pictures ahead: half the cores, so that the other half serves pictures that a person waits for."""


class Pictures:
    """The pictures of the photos of some results, kept in their folder."""

    def __init__(self, results: Results, max_pixels: int = MAX_PIXELS) -> None:
        """Take the photos of some results.

        Args:
            results: which say where the photo of a SHA-256 lies.
            max_pixels: a larger image is refused.
        """
        self._results, self._limit = results, max_pixels
        self._cache = results.out / STATE / "thumbnails"
        self._pool = ThreadPoolExecutor(WORKERS, "pictures")

    def jpeg(self, sha256: str, side: int) -> Path:
        """The JPEG file of a photo at one of `SIDES`, made where there is none.

        Raises:
            ArchiveError: no photo of the results is known by that SHA-256, its file is gone, was replaced or cannot be
                read.
            UnreadableImageError: it is no image.
        """
        picture = self._place(sha256, side)
        if not picture.is_file():
            self._make(self._content(sha256), sha256, (side,))
        return picture

    def fault(self, *photos: str) -> str:
        """Why a picture of some photos cannot be shown, in a sentence; empty where all can be.

        Raises:
            StorageError: none can be, as `check` says, or a picture cannot be written.
        """
        try:
            for sha256 in photos:
                self.jpeg(sha256, LARGE)
        except StorageError:
            raise
        except NeardupError as error:
            self.check()
            return str(error)
        return ""

    def check(self) -> None:
        """See that the photos are there.

        Raises:
            StorageError: their folder cannot be read, or is empty: their disk is likely away.
        """
        archive = self._results.archive
        try:
            away = next(archive.iterdir(), None) is None
        except OSError:
            away = True
        if away:
            raise StorageError(f"the photos in {archive} cannot be read: is their disk connected?")

    def matched_points(self, first: str, second: str) -> list[tuple[float, float, float, float]]:
        """Points of two photos that agree, some of them, spread over the photo.

        Args:
            first: SHA-256 of the one photo.
            second: SHA-256 of the other one.

        Returns:
            x and y in pixels of the first photo and x and y in pixels of the second, both upright and at full size.

        Raises:
            ArchiveError: no photo of the results is known by that SHA-256, its file is gone, was replaced or cannot be
                read.
            UnreadableImageError: a file is no image.
        """
        one, other = (local_features(self._content(sha256), self._limit) for sha256 in (first, second))
        points = matched_points(one, other)
        chosen = np.linspace(0, len(points) - 1, min(MOST_POINTS, len(points))).astype(int)
        return [(float(a), float(b), float(c), float(d)) for a, b, c, d in points[chosen]]

    def add(self, data: bytes) -> str:
        """Make the pictures of a photo that somebody brought, which may be none of the archive's.

        Args:
            data: the file's bytes; they are not kept.

        Returns:
            Their SHA-256, by which the pictures are found.

        Raises:
            UnreadableImageError: they are no image, or one over the limit.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        self._make(data, sha256, SIDES)
        return sha256

    def warm(self, photos: Iterable[str]) -> None:
        """Begin to make the pictures of photos that are about to be shown."""
        for sha256 in photos:
            if not self._place(sha256, LARGE).is_file():
                with suppress(RuntimeError):  # another run has taken the place of these results
                    self._pool.submit(self._try, sha256)

    def close(self) -> None:
        """Cancel pictures that nobody waits for."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _try(self, sha256: str) -> None:
        with suppress(NeardupError, OSError):  # the error is raised again when the picture is requested
            self.jpeg(sha256, LARGE)

    def _content(self, sha256: str) -> bytes:
        """The bytes of a photo of the results, which have this SHA-256."""
        file = self._results.file_of(sha256)
        if file is None:
            raise ArchiveError("no photo of these results has that SHA-256")
        try:
            data = read_file(file)
        except FileNotFoundError as error:
            raise ArchiveError(f"{file.name} is gone: run `neardup duplicates` again") from error
        except UnreadableImageError as error:
            raise ArchiveError(f"{file.name}: {error}; once that is mended, run `neardup duplicates` again") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArchiveError(f"{file.name} was replaced since: run `neardup duplicates` again")
        return data

    def _place(self, sha256: str, side: int) -> Path:
        return self._cache / str(side) / sha256[:2] / f"{sha256}.jpg"

    def _make(self, data: bytes, sha256: str, sides: Iterable[int]) -> None:
        """Decode a photo and write its pictures, each atomically."""
        sides = sorted(sides, reverse=True)
        image = read_image(data, max_pixels=self._limit, draft=sides[0])
        for side in sides:
            image.thumbnail((side, side))
            picture = self._place(sha256, side)
            try:
                picture.parent.mkdir(parents=True, exist_ok=True)
                with replacing(picture) as partial:
                    image.save(partial, "JPEG", quality=QUALITY)
            except OSError as error:
                raise StorageError(f"the picture of a photo cannot be written ({error}): make room there") from error
