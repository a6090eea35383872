"""Leaks: training photos that are in the test set too, or that the ground truth names beside test photos."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from neardup.archive.hashes import phash_bits
from neardup.archive.names import folded
from neardup.archive.scan import Photo
from neardup.archive.testset import TestSet

FLAT = 4
"""Least number of bits, of 64, that are set, and of those unset, in a hash that is not an even surface's."""


class Leaks:
    """Finds out whether a training photo is in the test set, or named beside test photos."""

    def __init__(
        self, test_photos: Sequence[Photo], test_set: TestSet, look_alike_bits: int, named: Sequence[Photo] = ()
    ) -> None:
        """Index test photos by name, content and perceptual hash, and other named photos by content and hash.

        Args:
            test_photos: photos of the archive with the content of a test photo.
            test_set: the test set.
            look_alike_bits: photos whose perceptual hashes differ in at most this many bits count as the same.
            named: photos that the ground truth names, or may name, in the test set or not.
        """
        self._names = {folded(photo.name): photo.path for photo in test_set.photos}
        self._names |= {folded(PurePosixPath(photo.path).name): photo.path for photo in test_set.photos}
        self._contents = {photo.sha256: photo.path for photo in test_set.photos}
        untested = [photo for photo in named if photo.sha256 not in self._contents]
        self._named = {photo.sha256: photo.path for photo in untested}
        self._textured = [photo for photo in (*test_photos, *untested) if not flat(photo.phash)]
        self._phashes = phash_bits([photo.phash for photo in self._textured])
        self._limit = look_alike_bits

    def reason(self, photo: Photo) -> tuple[str, str] | None:
        """Say why a photo must not be trained on, as (short, long); None if it may."""
        if photo.sha256 in self._contents:
            return "in the test set by content", f"the same bytes are the test photo {self._contents[photo.sha256]}"
        if folded(photo.name) in self._names:
            return "in the test set by name", f"a test photo has this name: {self._names[folded(photo.name)]}"
        if photo.sha256 in self._named:
            detail = f"a cell of the ground truth means {self._named[photo.sha256]}, or may mean it if misspelt"
            return "named by the ground truth", detail
        return self._look_alike(photo)

    def _look_alike(self, photo: Photo) -> tuple[str, str] | None:
        """Say why a photo that looks like an indexed one, perhaps mirrored, must not be trained on; or return None."""
        if flat(photo.phash) or not self._textured:
            return None
        for phash, how in ((photo.phash, "looks like"), (photo.phash_mirrored, "mirrored, looks like")):
            distances = np.bitwise_count(self._phashes ^ phash_bits([phash]))
            nearest = int(distances.argmin())
            if distances[nearest] <= self._limit:
                like, differ = self._textured[nearest], f"({distances[nearest]} of 64 bits differ)"
                if like.sha256 in self._contents:
                    return "in the test set by looks", f"{how} the test photo {like.path} {differ}"
                return "named by the ground truth", f"{how} {like.path} {differ}, which the ground truth names"
        return None


def flat(phash: str) -> bool:
    """Whether a perceptual hash is an even surface's: such hashes are all alike."""
    ones = int(phash, 16).bit_count()
    return ones < FLAT or ones > 64 - FLAT
