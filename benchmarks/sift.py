"""SIFT, the slow and strong peer: it compares two photos at a time and gives no vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peers import SIDE, Photos, needed
from PIL import Image, ImageOps
from tqdm import tqdm

from neardup.arrays import Floats
from neardup.images import read_image
from neardup.stages import digest_of, replacing

STEP = 1
"""Bumped when the similarities of equal photos change."""
FEATURES = 500
LONG_SIDE = 400
RATIO = 0.8
"""Lowe's: the nearest keypoint must be nearer than this share of the second nearest's distance."""
LEAST_MATCHES = 4
"""A homography has eight unknowns, and a match gives two."""
INLIER_PIXELS = 5.0


@dataclass(frozen=True)
class Keypoints:
    """What SIFT sees in a photo.

    Attributes:
        places: float32 (k, 2), in pixels.
        descriptors: float32 (k, 128), unit rows.
    """

    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


@dataclass
class Sift:
    """SIFT keypoints that one homography carries from photo to photo, the query also mirrored: slow and strong.

    Attributes:
        store: folder of similarities, kept between runs.
        name: shown to people.
    """

    store: Path
    name: str = "SIFT"

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g), inliers as a share of `FEATURES`."""
        path = self.store / f"sift-{digest_of(STEP, queries.items, gallery.items)[:16]}.npy"
        if not path.is_file():
            with replacing(path) as partial:
                np.save(partial, self._counts(queries, gallery) / FEATURES)
        return np.asarray(np.load(path), dtype=np.float64)

    def describe(self, paths: Sequence[Path]) -> list[Keypoints]:
        """Read and find keypoints."""
        return [self.keypoints(read_image(path, draft=SIDE)) for path in paths]

    def keypoints(self, image: Image.Image) -> Keypoints:
        """The strongest keypoints, with RootSIFT descriptors (Arandjelović and Zisserman 2012)."""
        grey = image.convert("L")
        grey.thumbnail((LONG_SIDE, LONG_SIDE))
        found, raw = self._detector.detectAndCompute(np.asarray(grey), None)
        if raw is None:
            return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
        shares = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)
        return Keypoints(np.array([point.pt for point in found], np.float32), np.sqrt(shares, dtype=np.float32))

    def inliers(self, query: Keypoints, photo: Keypoints) -> int:
        """How many matches agree on one homography."""
        if min(len(query.places), len(photo.places)) < LEAST_MATCHES:
            return 0
        here, there = matches(query.descriptors, photo.descriptors)
        if len(here) < LEAST_MATCHES:
            return 0
        method = self._cv2.USAC_MAGSAC
        _, mask = self._cv2.findHomography(query.places[here], photo.places[there], method, INLIER_PIXELS)
        return 0 if mask is None else int(mask.sum())

    @cached_property
    def _cv2(self) -> ModuleType:
        cv2 = needed("cv2")
        cv2.setNumThreads(torch.get_num_threads())
        return cv2

    @cached_property
    def _detector(self) -> Any:
        return self._cv2.SIFT_create(nfeatures=FEATURES)

    def _counts(self, queries: Photos, gallery: Photos) -> Floats:
        there = self.describe(gallery.paths)
        mirrored = [self.keypoints(ImageOps.mirror(read_image(path, draft=SIDE))) for path in queries.paths]
        within = queries == gallery
        here = there if within else self.describe(queries.paths)
        counts = np.zeros((len(here), len(there)))
        for q in tqdm(range(len(here)), "matching SIFT", unit="photo", disable=None):
            # Within one set a pair is compared once: mirroring either photo of it comes to the same.
            for g in range(q + 1 if within else 0, len(there)):
                counts[q, g] = max(self.inliers(here[q], there[g]), self.inliers(mirrored[q], there[g]))
        return counts + counts.T if within else counts


def matches(query: npt.NDArray[np.float32], photo: npt.NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Keypoints that are each other's by Lowe's ratio test.

    Args:
        query: float32 (a, 128), unit rows.
        photo: float32 (b, 128), unit rows, b at least 2.

    Returns:
        Indices into `query` and into `photo`; none occurs twice, for many matches on one point would agree on a
        homography that shrinks the picture to that point.
    """
    likeness = query @ photo.T
    rows = np.arange(len(query))
    nearest = likeness.argmax(axis=1)
    first = likeness[rows, nearest]
    likeness[rows, nearest] = -1
    # Of unit vectors the squared distance is 2 - 2 × likeness.
    passing = np.flatnonzero(1 - first < RATIO**2 * (1 - likeness.max(axis=1)))
    strongest = passing[np.argsort(-first[passing], kind="stable")]
    there, order = np.unique(nearest[strongest], return_index=True)
    return strongest[order].tolist(), there.tolist()
