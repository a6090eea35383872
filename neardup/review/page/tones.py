"""The partner of a pair in grey with its tones matched to the photo's, so that differences are the picture's."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neardup.review.page.payloads import Alignment
from neardup.review.page.pictures import QUALITY

LEVELS = 256
"""Grey levels of 8 bits."""
SAMPLE = 160
"""Side in pixels of the square whose tones are counted: 25,600 pixels give quantiles to a per cent."""
LEAST_SHARE = 0.01
"""Share of a side that two photos must have in common; where it is less, the tones of the whole photos are compared."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a photo, in shares of its width and height."""


def toned(photo: Image.Image, partner: Image.Image, alignment: Alignment) -> bytes:
    """The partner as a JPEG in grey, each quantile of its tones where both overlap being that of the photo's.

    Args:
        photo: the photo.
        partner: its partner.
        alignment: how they lie on each other.
    """
    grey = partner.convert("L")
    target = _tones(photo.convert("L"), _covered(alignment.onto))
    source = _tones(grey, _covered(alignment.back))
    ranks = np.searchsorted(source, np.arange(LEVELS), side="right") * (len(target) / len(source))
    table = target[np.clip(ranks.astype(int) - 1, 0, len(target) - 1)]
    with BytesIO() as file:
        grey.point(table.tolist()).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()


def _covered(matrix: list[float] | None) -> Box:
    """The part of a photo that the other one covers: left, top, right and bottom in shares, by the other's corners."""
    corners = np.array([[x, y, 1.0] for x in (0, 1) for y in (0, 1)])
    moved = corners @ np.reshape(matrix or np.eye(3).ravel(), (3, 3)).T
    places = np.clip(moved[:, :2] / moved[:, 2:], 0, 1)
    (left, top), (right, bottom) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return (left, top, right, bottom) if min(right - left, bottom - top) > LEAST_SHARE else (0, 0, 1, 1)


def _tones(grey: Image.Image, box: Box) -> NDArray[np.uint8]:
    """The grey levels of a part of an image in order, uint8 (n,), 0 to 255."""
    (left, top, right, bottom), (width, height) = box, grey.size
    pixels = (left * width, top * height, right * width, bottom * height)
    part = grey.resize((SAMPLE, SAMPLE), Image.Resampling.BOX, box=pixels)
    return np.sort(np.asarray(part, dtype=np.uint8), axis=None)
