"""What reaches in from the edge where two photos lie on each other: borders, captions, paper, or a retouch."""

import cv2
import numpy as np

from neardup.arrays import Bools, Vectors
from neardup.verify.samples import median_of

EDGE = 0.8
"""Apparent shift in pixels above which what reaches in from the edge is a border, a caption or paper."""
EDGE_OF_MEDIAN = 1.8
"""Multiple of the median apparent shift that an edge must exceed as well."""
INWARD = 0.5
"""Share of the overlap's width and of its height below which what reaches in from the edge may be a retouch."""
LONG = 0.85
"""Share of one side of the overlap below which a retouch that reaches `INWARD` may run along it, where it is shown.

Where `differences_of` looks, mounts and captions have been cut off before. Of 216 patches along half of a side of 24
photographs, 112 are found, and 20 by `INWARD` for both sides; of 299 copies, half of them with a margin, a caption or
a text, 38 have a box with and without it.
"""
THICK = 0.1
"""Least thickness of a retouch at the edge, as a share of the overlap's longer side: frames and strips are thinner."""
FILLED = 0.6
"""Least share of its box that a retouch at the edge fills: the paper around a turned picture is a wedge."""
THICK_AT_CORNER = 0.07
"""Least thickness of what is torn off at a corner, as a share of the overlap's longer side.

Of 30 corners of held-out photographs that were torn off, with a ragged edge, 24 are found with this and
`FILLED_AT_CORNER`, and 5 without them; of 386 copies without a retouch, 23 have a box, and 21 without them.
"""
FILLED_AT_CORNER = 0.42
"""Least share of its box that is torn off at a corner: half of it where the tear is straight."""


def reaching_in(shifts: Vectors, overlap: Bools, *, shown: bool) -> Bools:
    """Find where differences reach in from the edge of the overlap: borders, captions, paper beside a turned picture.

    A compact patch at the edge that is shorter than half of each side is a retouch, not a border. Where people will see
    the differences, it may be longer along one side, and a torn corner is no border either: the paper below it is a
    wedge, but a short one.

    Args:
        shifts: float32 (h, w), apparent shift of each pixel, 0 or more.
        overlap: bool (h, w), where both photos show something.
        shown: whether people will see the differences.
    """
    smooth: Vectors = np.asarray(cv2.GaussianBlur(shifts, (0, 0), 1.5), dtype=np.float32)
    limit = max(EDGE, EDGE_OF_MEDIAN * median_of(smooth[overlap]))
    around = np.pad(~overlap, 1, constant_values=True) | np.pad((smooth > limit) & overlap, 1)
    _, labels = cv2.connectedComponents(around.astype(np.uint8), connectivity=4)
    reaching = ((labels == labels[0, 0])[1:-1, 1:-1] & overlap).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(reaching, connectivity=8)
    x, y, width, height = cv2.boundingRect(overlap.astype(np.uint8))
    for label, (left, top, across, down, area) in enumerate(boxes[1:].tolist(), 1):
        at_side = left <= x + 1 or left + across >= x + width - 1
        at_corner = at_side and (top <= y + 1 or top + down >= y + height - 1)
        reach = sorted((across / width, down / height))
        short, long = reach[1] < INWARD, shown and reach[0] < INWARD and reach[1] < LONG
        thickness, filled = min(across, down) / max(width, height), area / (across * down)
        torn = shown and short and at_corner and thickness > THICK_AT_CORNER and filled > FILLED_AT_CORNER
        if torn or ((short or long) and thickness > THICK and filled > FILLED):
            reaching[labels == label] = 0
    return np.asarray(cv2.dilate(reaching, np.ones((5, 5), np.uint8)) > 0)
