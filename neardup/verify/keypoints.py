"""RootSIFT keypoints of a photo, sharp and blurred, and what else verification needs of its pixels.

The blurred version is needed because the dots of a printing screen have the greatest contrast of all: the strongest
keypoints of a screened photo are dots and leave no room for the picture. Blurred, the dots are grey.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from neardup.arrays import Vectors
from neardup.encode.screen import Grey
from neardup.images import MAX_PIXELS, open_image, read_image
from neardup.verify.borders import without_borders
from neardup.verify.products import GREATEST
from neardup.verify.screens import certain_screen_period

KEYPOINTS_STEP = 6
"""Version of what is kept of a photo; bumped when it changes for equal bytes."""
SIDE = 256
"""Pixels of the longer side at which keypoints of the sharp photo are found; OpenCV doubles it for the first octave.

Measured on held-out photos: 288 pixels and 1.5 times as many keypoints find no more pairs and take 1.5 times as long.
"""
STRONGEST = 200
"""Keypoints kept of the sharp photo, and as many of the blurred one: those of greatest contrast.

With 300 of them, and 288 pixels, no more pairs were found; see `SIDE`.
"""
BLURRED_SIDE = 320
"""Pixels of the longer side at which the photo is blurred before it is halved: a blurred picture loses nothing by that.

Measured on held-out photos: 400 pixels find no more pairs (96 % of press copies) and take twice as long.
"""
BLUR = 1.84
"""Standard deviation in pixels, at `BLURRED_SIDE`, of the blur that makes the dots of a printing screen grey.

It equals about 1.5 at 256 pixels, with which the top-1 of screened copies rose from 30 to 100 %.
"""
TAILS = 0.005
"""Share of the darkest pixels, and of the lightest, that may be cut off where tones are stretched."""
MOST_STRETCHED = 4.0
"""Greatest factor by which tones are stretched before keypoints are found, which SIFT wants of some contrast.

Of 40 photographs reduced to the tones 0 to 64, 180 to 240 or 100 to 150, without it 22, 19 and 5 match their original,
with it all; blank paper and clouds get no more than 5 keypoints by it.
"""
KEPT_SIDE = 256
"""Pixels of the longer side of the grey picture that is kept, on which matched pairs are compared."""
LARGEST_SIDE = 4096
"""Pixels of the longer side to which a larger photo is reduced first: its borders are then found in little memory."""
SCREEN_SIDE = 1024
"""Pixels of the longer side at which a printing screen is looked for: a finer one is grey at any smaller size."""
SCALE = 255
"""Factor from a component of a RootSIFT descriptor, 0 to 1, to the whole number that is kept of it.

Components hardly ever exceed one half, so that hardly any is cut off at `GREATEST`.
"""
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, (8 - np.arange(8)) % 8].ravel()
"""Indices that turn a keypoint's descriptor into that of the same keypoint in the mirrored photo."""
NEGATIVE = np.arange(128).reshape(4, 4, 8)[::-1, ::-1].ravel()
"""Indices that turn a keypoint's descriptor into that of the same keypoint in the photo's negative.

In a negative every gradient points the other way, and so does the keypoint's orientation: its cells are counted from
the opposite corner while the directions within a cell stay.
"""


def opencv_major() -> str:
    """The major version of OpenCV, which caches of keypoints and matches carry: minor versions find the same."""
    return cv2.__version__.partition(".")[0]


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one version of a photo, those of greatest contrast first.

    Attributes:
        places: float32 (n, 4), x, y and diameter in full pixels of the upright photo, and degrees of orientation; the
            photo's left upper corner is (0, 0) and a pixel's centre lies at halves, as in `frames_of`.
        descriptors: uint8 (n, 128), RootSIFT (Arandjelović and Zisserman 2012), each component times `SCALE`, at most
            `GREATEST`.
    """

    places: Vectors
    descriptors: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LocalFeatures:
    """What verification keeps of a photo, so that verifying a further pair of it does not read the file again.

    Attributes:
        width: pixels of the upright photo.
        height: pixels of the upright photo.
        plain: keypoints of the photo as it is.
        blurred: keypoints of the blurred photo.
        grey: uint8 (h, w), the whole photo, its longer side at most `KEPT_SIDE`.
        screen: period of its printing screen in full pixels, 0 where it shows none.
    """

    width: int
    height: int
    plain: Keypoints
    blurred: Keypoints
    grey: Grey
    screen: float

    @property
    def count(self) -> int:
        """Number of keypoints, sharp and blurred together."""
        return len(self.plain.places) + len(self.blurred.places)


def local_features(data: bytes, max_pixels: int = MAX_PIXELS) -> LocalFeatures:
    """Read a photo and find its keypoints.

    Args:
        data: bytes of the image file.
        max_pixels: larger images are refused.

    Raises:
        UnreadableImageError: the bytes are no image that can be read.
    """
    image = read_image(data, max_pixels=max_pixels, draft=SCREEN_SIDE // 2)
    width, height = open_image(data, max_pixels=max_pixels).size
    # EXIF may turn the picture by a quarter, and a draft has a fraction of the full size: only the ratio shows a turn.
    if (width > height) != (image.width > image.height) and image.width != image.height:
        width, height = height, width
    return features_of_image(image, (width, height))


def features_of_image(image: Image.Image, size: tuple[int, int]) -> LocalFeatures:
    """Find the keypoints of a decoded photo.

    Args:
        image: upright, at full size or smaller.
        size: width and height of the photo at full size.
    """
    grey = _resized(np.asarray(image.convert("L")), LARGEST_SIDE)
    period = certain_screen_period(_resized(grey, SCREEN_SIDE)) * max(size) / min(max(grey.shape), SCREEN_SIDE)
    left, top, right, bottom = without_borders(grey)
    content = _stretched(np.ascontiguousarray(grey[top:bottom, left:right]))
    factor, corner = size[0] / grey.shape[1], (left, top)
    blurred = np.asarray(cv2.GaussianBlur(_enlarged(content, BLURRED_SIDE), (0, 0), BLUR), dtype=np.uint8)
    return LocalFeatures(
        *size,
        _keypoints(_enlarged(content, SIDE), content, corner, factor),
        _keypoints(_enlarged(blurred, BLURRED_SIDE // 2), content, corner, factor),
        _resized(grey, KEPT_SIDE),
        float(period),
    )


def _keypoints(version: Grey, content: Grey, corner: tuple[int, int], factor: float) -> Keypoints:
    """The strongest keypoints of a version, at their places in the full photo.

    Args:
        version: uint8 (h, w), the content at the size at which keypoints are found.
        content: uint8, the decoded photo without its borders.
        corner: left and top of the content in the decoded photo.
        factor: full pixels of one decoded pixel.
    """
    # Without the precise upscale, OpenCV's places lie a quarter of a pixel too far right and too far down.
    sift: Any = cv2.SIFT.create(nfeatures=STRONGEST, enable_precise_upscale=True)
    points, descriptors = sift.detectAndCompute(version, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8))
    strongest = sorted(range(len(points)), key=lambda row: -points[row].response)[:STRONGEST]
    points, descriptors = [points[row] for row in strongest], descriptors[strongest]
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)
    places = np.array([(*point.pt, point.size, point.angle) for point in points], np.float32)
    places[:, :2] += 0.5  # OpenCV counts from the first pixel's centre.
    across, down = (full / reduced for full, reduced in zip(content.shape[::-1], version.shape[::-1], strict=True))
    places[:, :3] *= across, down, (across * down) ** 0.5
    places[:, :2] += corner
    places[:, :3] *= factor
    return Keypoints(places, np.clip(np.sqrt(shares) * SCALE, 0, GREATEST).round().astype(np.uint8))


def _stretched(grey: Grey) -> Grey:
    """Stretch the tones of a dark or faded picture over all grey levels, by at most `MOST_STRETCHED`."""
    up_to = np.cumsum(np.bincount(grey.ravel(), minlength=256))
    darkest, lightest = np.searchsorted(up_to, np.array([TAILS, 1 - TAILS]) * grey.size).tolist()
    factor = min(255 / max(1, lightest - darkest), MOST_STRETCHED)
    levels = (np.arange(256) - (darkest + lightest) / 2) * factor + 127.5
    return np.asarray(cv2.LUT(grey, levels.clip(0, 255).round().astype(np.uint8)), dtype=np.uint8)


def _enlarged(grey: Grey, side: int) -> Grey:
    """Resize a picture to a longer side of `side` pixels, even if it was smaller."""
    factor = side / max(grey.shape)
    size = (max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=method), dtype=np.uint8)


def _resized(grey: Grey, side: int) -> Grey:
    """Reduce a picture to a longer side of at most `side` pixels."""
    return _enlarged(grey, side) if max(grey.shape) > side else grey
