"""Differences of two photos as people see them: boxes and levels, without mounts, uneven light and lost tones."""

from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from neardup.arrays import Bools, Vectors
from neardup.verify.boxes import inside_box
from neardup.verify.evidence import Box
from neardup.verify.frames import Size, by_centres, inverse, rescaled
from neardup.verify.picture_area import Agreement, picture_box
from neardup.verify.pixels import AlignedPair, LaidPair, Round, align, factors_of, first_rounds, settle, subtract
from neardup.verify.spots import spots_of

SHOWN_STEP = 7
"""Version of what is only shown of a pair (boxes, mounts), not decided by; bumped when it changes for equal photos."""
AWAY = 0.012
"""Share of a photo's longer side that is left out along a picture's edge, which is known only to a pixel or two."""
BLACK = 8.0
"""Grey levels from a print's darkest tone within which it is black, for paper, grain and JPEG."""
LOST = 0.03
"""Share of a picture that must be black, or white, for a print to have lost tones."""
DARK = 0.1
"""Share of the other photo's pixels that may have been lost in addition to the share that is black."""
EXPLAINED = 0.6
"""Share of a box's difference which, if lost tones explain it, keeps the box from being reported as a difference.

Of 209 pairs of 15 photographs, most of them hard, burnt or retouched, 43 have a false box without this rule and without
`tones.relit`, 21 with both; of 89 retouches, 64 are found without and 63 with them.
"""

Boxes = tuple[Box | None, Box | None]
"""Where the picture lies in the first and in the second photo; None where the whole photo is the picture."""


@dataclass(frozen=True)
class Pictures:
    """Two photos, with where their pictures lie.

    Attributes:
        photos: both photos as they lie on each other.
        boxes: in full pixels of each.
    """

    photos: LaidPair
    boxes: Boxes = (None, None)

    @classmethod
    def of(cls, photos: LaidPair, points: Vectors, agreement: Agreement | None) -> Self:
        """Find where the pictures lie in two photos.

        Args:
            photos: both photos as they lie on each other.
            points: float32 (n, 4), matched points in full pixels of both.
            agreement: how far the first photo and the second agree; None where nothing can be compared.
        """
        turned = Agreement.of(LaidPair(photos.second, photos.first, inverse(photos.transform)))
        return cls(photos, (picture_box(agreement, points[:, :2]), picture_box(turned, points[:, 2:])))

    def first_rounds(self) -> tuple[Round, ...]:
        """The first rounds of comparing the two pictures, as `pixels.first_rounds` gives them."""
        return first_rounds(self.within(self.photos.aligned)) if any(self.boxes) else self.photos.first_rounds

    def aligned(self, side: int) -> AlignedPair:
        """Both photos in the frame of the first one, as `pixels.align` does it, compared within both pictures only."""
        return self.within(align(self.photos.first, self.photos.second, self.photos.transform, side))

    def within(self, aligned: AlignedPair) -> AlignedPair:
        """Both photos in the frame of the first one, at any size, compared within both pictures only."""
        overlap = aligned.overlap
        for box, inside in zip(self.boxes, (self._in_first, self._in_second), strict=True):
            overlap = overlap & inside(aligned, box) if box else overlap
        return replace(aligned, overlap=overlap)

    def _in_first(self, aligned: AlignedPair, box: Box) -> Bools:
        height, width = aligned.overlap.shape
        return inside_box((height, width), self.photos.first.size, box, AWAY)

    def _in_second(self, aligned: AlignedPair, box: Box) -> Bools:
        (height, width), size, second = aligned.overlap.shape, self.photos.first.size, self.photos.second
        grey = second.grey
        inside = inside_box((grey.shape[0], grey.shape[1]), second.size, box, AWAY).astype(np.uint8)
        reduced = width / size[0], height / size[1]
        warped = cv2.warpPerspective(
            inside,
            by_centres(rescaled(self.photos.transform, reduced, factors_of(grey, second.size))),
            (width, height),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
        return np.asarray(warped > 0)


def differences_of(pictures: Pictures) -> tuple[Box, ...]:
    """Find where two pictures differ: boxes in full pixels of the first photo, the most significant first."""
    settled = settle(pictures.first_rounds(), shown=True)
    if settled is None:
        return ()
    aligned, difference, size = settled.aligned, settled.difference, pictures.photos.first.size
    return tuple(
        box
        for _, box in spots_of(difference.shifts, difference.levels, aligned.overlap, size)
        if not _is_lost(aligned, difference.levels, box, size)
    )


def _is_lost(aligned: AlignedPair, levels: Vectors, box: Box, size: Size) -> bool:
    """Whether a print may have lost what differs in a box: it is black, or white, and the other dark, or light.

    A print that has lost a tenth of its tones in the shadows is black where the other photo has its darkest tenth.

    Args:
        aligned: the pair.
        levels: float32 (h, w), differences in grey levels.
        box: in full pixels of the first photo.
        size: width and height of the first photo.
    """
    height, width = aligned.overlap.shape
    place = inside_box((height, width), size, box, 0) & aligned.overlap
    weights = np.abs(levels[place])
    first, second = aligned.first, aligned.second
    if aligned.backwards:
        second = 255 - second
    explained = np.zeros(len(weights), dtype=bool)
    for one, print_ in ((first, second), (255 - first, 255 - second), (second, first), (255 - second, 255 - first)):
        darkest = float(np.quantile(print_[aligned.overlap], 0.005))
        black = print_ <= darkest + BLACK
        share = float(black[aligned.overlap].mean())
        others = one[black & aligned.overlap & ~place]
        if share >= LOST and len(others) and np.ptp(np.quantile(others, [0.05, 0.95])) > BLACK:
            limit = np.quantile(one[aligned.overlap], min(1.0, share + DARK))
            near = cv2.dilate(black.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # the blur mixes its edge
            explained |= (near & (one <= limit))[place]
    return bool(weights[explained].sum() > EXPLAINED * weights.sum())


def levels_of(aligned: AlignedPair) -> Vectors | None:
    """Measure how far two photos' grey levels lie apart after their tones were matched, for people to look at.

    Args:
        aligned: the pair, as `Pictures.aligned` gives it.

    Returns:
        float32 (h, w), 0 to 255, uneven light removed, 0 where only one photo shows something; None where too little
        overlaps.
    """
    difference = subtract(aligned, uneven=True)
    return None if difference is None else np.asarray(np.abs(difference.levels), dtype=np.float32)
