"""Find the printing screen of a photo: halftone dots repeat in two directions at a right angle, as its spectrum shows.

Blurred until the dots are grey (descreened), a print is encoded like the photograph that it was made of.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from neardup.arrays import Bools, Vectors

TILE = 256
"""Side in pixels of the parts whose spectra are added: the resolution is then 1 / 256 cycle per pixel."""
PEAK = 82.0
"""Least power of a screen's peak as a multiple of what is around it.

Drawn screens of 3 to 6 pixels were found on 100 of 100 held-out photographs, 97 with a period within 8 %; scans of
printed portraits had 250 to 11,000.
"""
LONGEST_PERIOD = 9.0
"""Pixels between dots above which a regular structure counts as part of the subject."""
SHORTEST_PERIOD = 2.08
"""Pixels between dots below which a picture cannot hold a screen."""
UPRIGHT = 5.0
"""Degrees around the axes in which peaks do not count: JPEG's blocks, columns, windows and text repeat there."""
AROUND = 21
"""Side, in bins of the spectrum, of the area whose mean a peak is compared with: far more than a peak's width."""
LEAST_SIDE = 48
"""Pixels of a photo's shorter side below which its spectrum says nothing."""

BLUR = 0.4
"""Standard deviation of the blur that makes dots grey, as a share of the distance between them.

Measured for `builtin:tiny` with .3, .4 and .6: see docs/log.md; with .6 the picture suffers.
"""

Grey = npt.NDArray[np.uint8]
"""A grey picture, uint8 (h, w), 0 black to 255 white."""


def screen_period(grey: Grey) -> float:
    """Measure the distance between a screen's dots, by two peaks of the spectrum at a right angle and equal frequency.

    Fences and facades have peaks in one direction, or along the axes, or of unequal periods, and do not count.

    Args:
        grey: uint8 (h, w), at a size at which the dots are still there: a picture that was reduced until they lie under
            two pixels apart has lost them.

    Returns:
        Pixels of `grey` from one line of dots to the next; 0 where the picture shows no screen.
    """
    pairs = pairs_of_peaks(grey)
    if pairs is None:
        return 0.0
    row, column = divmod(int(pairs.prominence.argmax()), TILE)
    return float(TILE / np.hypot(row - TILE // 2, column - TILE // 2))


@dataclass(frozen=True)
class PairsOfPeaks:
    """For each wave of a picture, the weaker of it and the wave at a right angle, in the order of `_log_spectrum`.

    Attributes:
        prominence: float32 (TILE, TILE), logarithm of the power as a multiple of what is around it, the lesser of the
            two waves'; minus infinity where no screen can be.
        spectrum: float32 (TILE, TILE), as `_log_spectrum` gives it.
    """

    prominence: Vectors
    spectrum: Vectors

    @cached_property
    def power(self) -> Vectors:
        """Logarithm of the power, the lesser of the two waves': float32 (TILE, TILE)."""
        return _with_right_angle(self.spectrum)


def pairs_of_peaks(grey: Grey) -> PairsOfPeaks | None:
    """Find where a picture's spectrum, of uint8 (h, w), may show a screen; None where no peak stands out by `PEAK`."""
    if min(grey.shape) < LEAST_SIDE:
        return None
    spectrum = _log_spectrum(grey)
    prominence = _with_right_angle(spectrum - cv2.blur(spectrum, (AROUND, AROUND)))
    prominence = np.where(_search_mask(), prominence, -np.inf)
    return PairsOfPeaks(prominence, spectrum) if prominence.max() >= np.log(PEAK) else None


def _with_right_angle(values: Vectors) -> Vectors:
    """Take the lesser of each wave's value and the perpendicular wave's, one bin more or less: (TILE, TILE)."""
    dilated = cv2.dilate(values, np.ones((3, 3), np.uint8))
    return np.asarray(np.minimum(values, dilated.T[:, -np.arange(TILE) % TILE]), dtype=np.float32)


def descreened(image: Image.Image) -> Image.Image:
    """Blur the dots of a picture's printing screen to grey; a picture without a screen is returned unchanged.

    Args:
        image: RGB, at a size at which the dots are still there.
    """
    period = screen_period(np.asarray(image.convert("L")))
    if not period:
        return image
    return Image.fromarray(np.asarray(cv2.GaussianBlur(np.asarray(image), (0, 0), BLUR * period), dtype=np.uint8))


def _log_spectrum(grey: Grey) -> Vectors:
    """Logarithm of the power of a picture's parts, added up: float32 (TILE, TILE), the mean in the middle."""
    half = np.zeros((TILE, TILE // 2 + 1), dtype=np.float32)
    for part in _parts(grey):
        height, width = part.shape
        padded = np.zeros((TILE, TILE), dtype=np.float32)
        padded[:height, :width] = (part - np.float32(part.mean())) * _window(width, height)
        spectrum = np.fft.rfft2(padded)
        half += spectrum.real**2 + spectrum.imag**2
    half = np.log(half + np.float32(1e-3))
    mirrored = half[-np.arange(TILE) % TILE, TILE // 2 - 1 : 0 : -1]  # the spectrum of real numbers is symmetric
    return np.asarray(np.fft.fftshift(np.concatenate([half, mirrored], axis=1)), dtype=np.float32)


@lru_cache
def _window(width: int, height: int) -> Vectors:
    """Make the window that keeps a part's borders out of its spectrum: float32 (height, width)."""
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), dtype=np.float32)


def _parts(grey: Grey) -> list[Grey]:
    """Cut up to four parts out of a picture, around the middles of its quarters, where its subject is."""
    rows, columns = (_starts(side) for side in grey.shape)
    return [grey[top : top + TILE, left : left + TILE] for top in rows for left in columns]


def _starts(side: int) -> list[int]:
    """Choose where parts begin along a side: two around its quarters, or one in its middle if two nearly coincide."""
    if side < TILE * 3 // 2:
        return [max(0, (side - TILE) // 2)]
    return sorted({min(max(0, side * quarter // 4 - TILE // 2), side - TILE) for quarter in (1, 3)})


@lru_cache(maxsize=1)
def _search_mask() -> Bools:
    """Mask where peaks are looked for: half of the spectrum, off the axes, between the longest and shortest period."""
    axis = (np.arange(TILE) - TILE // 2) / TILE
    y, x = np.meshgrid(axis, axis, indexing="ij")
    frequency, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 90
    in_band = (frequency > 1 / LONGEST_PERIOD) & (frequency < 1 / SHORTEST_PERIOD)
    return np.asarray(in_band & (y >= 0) & (np.minimum(angle, 90 - angle) > UPRIGHT))
