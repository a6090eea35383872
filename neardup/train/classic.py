"""The prior project's augmentation as a single warp of a photo, decoded no larger than its copies need.

`TORCHVISION` is the recipe as it was published: four passes over the whole photo. `Reduced.copy` draws the same flip,
angle, colours and crop for the same seed, samples the crop straight from the photo, and changes the colours of the
256 × 256 pixels that are left. Its copies of 60 photographs differ from the recipe's by 0.6 of 255 on average at
500 × 375 pixels, and by 1.2 at 3000 × 2000, which are decoded at a quarter.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import v2

from neardup.images import MAX_PIXELS, open_image, read_file, read_image

SIDE = 256
"""Pixels of a copy's side, as the prior project had them."""
DEGREES = 10.0
"""Greatest rotation of a copy, in degrees, in either direction."""
JITTER = 0.2
"""Greatest relative change of brightness, contrast and saturation, and of the hue as a share of a full turn."""
AREA = (0.8, 1.0)
"""Least and greatest part of a photo's area that a crop keeps."""
RATIO = (3 / 4, 4 / 3)
"""Least and greatest width of a crop over its height."""
TORCHVISION = v2.Compose(
    [
        v2.RandomHorizontalFlip(0.5),
        v2.RandomRotation(DEGREES),
        v2.ColorJitter(JITTER, JITTER, JITTER, JITTER),
        v2.RandomResizedCrop(SIDE, AREA, RATIO, antialias=True),
    ]
)
"""The published recipe, in the order in which it draws.

Flip (p .5), rotation ±10°, colour jitter .2, crop of .8 to 1 of the area to 256 × 256.
"""

SHORTEST = math.ceil(SIDE / math.sqrt(AREA[0] * RATIO[0]))
"""Pixels of a photo's shorter side that suffice: no crop of it is smaller than the copy."""
SAMPLE = 64
"""Pixels per side of the sample from which the mean grey of a whole photo is taken."""
_CHANGES = ("brightness", "contrast", "saturation", "hue")
"""Changes of colour, in the order in which torchvision draws their factors."""
_LOG_RATIO = torch.log(torch.tensor(RATIO)).tolist()
"""Logarithms of `RATIO`, between which torchvision draws; in float32, as it has them."""
Pixels = npt.NDArray[np.uint8]
"""A picture, uint8: RGB (h, w, 3), or grey (h, w)."""
Size = tuple[int, int]
"""Width and height in pixels."""
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


@dataclass(frozen=True)
class Draw:
    """The random choices for one copy.

    Attributes:
        flip: whether left and right are exchanged.
        degrees: by which the photo is rotated about its centre, anticlockwise.
        changes: changes of colour with their factors, in the order in which they are made.
        box: left, top, width and height of the crop.
    """

    flip: bool
    degrees: float
    changes: tuple[tuple[str, float], ...]
    box: Box


def draw(size: Size, seed: int) -> Draw:
    """Draw what `TORCHVISION` draws after `torch.manual_seed(seed)`, for a photo of a given width and height."""
    rng = torch.Generator().manual_seed(seed)
    flip = torch.rand(1, generator=rng).item() < 0.5  # noqa: PLR2004 - even chances
    degrees = _uniform(rng, -DEGREES, DEGREES).item()
    order = torch.randperm(len(_CHANGES), generator=rng).tolist()
    factors = [_uniform(rng, middle - JITTER, middle + JITTER).item() for middle in (1, 1, 1, 0)]
    return Draw(flip, degrees, tuple((_CHANGES[i], factors[i]) for i in order), _box(size, rng))


def _uniform(rng: torch.Generator, low: float, high: float) -> torch.Tensor:
    return torch.empty(1).uniform_(low, high, generator=rng)


def _box(size: Size, rng: torch.Generator) -> Box:
    """Draw the crop's left, top, width and height; if none of ten draws fits, take the largest in the middle."""
    width, height = size
    for _ in range(10):
        area = width * height * _uniform(rng, *AREA).item()
        ratio = torch.exp(_uniform(rng, *_LOG_RATIO)).item()
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,), generator=rng))
            return int(torch.randint(0, width - w + 1, (1,), generator=rng)), top, w, h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


@dataclass(frozen=True)
class Reduced:
    """A photo to be copied.

    Attributes:
        pixels: uint8 RGB (h, w, 3), one for `reduction` × `reduction` of the photo.
        size: width and height of the photo, upright.
    """

    pixels: Pixels
    size: Size

    @classmethod
    def read(cls, file: Path, max_pixels: int = MAX_PIXELS) -> "Reduced":
        """Decode a photo once for all its copies, as small as they allow.

        Raises:
            UnreadableImageError: the file cannot be read, is no image, or has over `max_pixels` pixels.
        """
        data = read_file(file)
        image = read_image(data, max_pixels=max_pixels, draft=-(-SHORTEST // 2))
        size = _upright_size(open_image(data, max_pixels=max_pixels).size, image.size)
        return cls(np.asarray(image.reduce(max(1, min(image.size) // SHORTEST))), size)

    @property
    def reduction(self) -> int:
        """How many of the photo's pixels one pixel stands for in either direction; a last one for fewer."""
        longer: int = max(self.pixels.shape[:2])
        return round(max(self.size) / longer)

    def copy(self, seed: int) -> Image.Image:
        """Make nearly the copy that `TORCHVISION` makes after `torch.manual_seed(seed)`: RGB, 256 × 256."""
        draws = draw(self.size, seed)
        _, _, width, height = draws.box
        shape = (max(1, round(width / self.reduction)), max(1, round(height / self.reduction)))
        copy = _resized(self._warped(draws, draws.box, shape))
        whole = self._warped(draws, (0, 0, *self.size), (SAMPLE, SAMPLE))
        for change, factor in draws.changes:
            copy, whole = (_changed(pixels, change, factor, whole) for pixels in (copy, whole))
        return Image.fromarray(copy)

    def _warped(self, draws: Draw, box: Box, shape: Size) -> Pixels:
        """Sample a box of the flipped and rotated photo: uint8 (rows, columns, 3), black where the photo is not.

        Args:
            draws: how to flip and rotate.
            box: left, top, width and height, in pixels of the whole photo.
            shape: columns and rows.
        """
        left, top, width, height = box
        cos, sin = math.cos(math.radians(draws.degrees)), math.sin(math.radians(draws.degrees))
        turn = np.diag([-1 if draws.flip else 1, 1]) @ [[cos, -sin], [sin, cos]]
        centre = np.array(self.size) / 2
        corner = (centre + turn @ ([left, top] - centre)) / self.reduction
        step = turn @ np.diag([width / shape[0], height / shape[1]]) / self.reduction
        # OpenCV counts from the centre of the first pixel, Pillow and `corner` from its corner.
        start = corner + step @ [0.5, 0.5] - 0.5
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(self.pixels, np.column_stack([step, start]), shape, flags=flags), np.uint8)


def _upright_size(header: Size, decoded: Size) -> Size:
    """Width and height of a photo as a person sees it.

    Args:
        header: size in the file's header, upright or not depending on the format.
        decoded: size of the decoded upright photo, possibly reduced.
    """
    turned = (header[0] - header[1]) * (decoded[0] - decoded[1]) < 0
    return header[::-1] if turned else header


def _resized(pixels: Pixels) -> Pixels:
    """Resize as Pillow's bilinear filter does, uint8 (256, 256, 3), in a quarter of its time."""
    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = interpolate(planes, (SIDE, SIDE), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def _changed(pixels: Pixels, change: str, factor: float, whole: Pixels) -> Pixels:
    """Change colours as Pillow's enhancers do.

    Args:
        pixels: uint8 RGB (h, w, 3).
        change: one of `_CHANGES`.
        factor: 1 changes nothing; of hue, the part of a full turn.
        whole: uint8 RGB (h, w, 3), the photo before the change: contrast is about its mean grey.
    """
    if change == "hue":
        return _turned(pixels, factor)
    if change == "saturation":
        base = cv2.cvtColor(_grey(pixels), cv2.COLOR_GRAY2RGB)
    else:
        base = np.full_like(pixels, int(_grey(whole).mean() + 0.5) if change == "contrast" else 0)
    # Pillow truncates where OpenCV rounds: adding -0.499 truncates too, while -0.5 would lower whole numbers as well.
    return np.asarray(cv2.addWeighted(pixels, factor, base, 1 - factor, -0.499), np.uint8)


def _grey(pixels: Pixels) -> Pixels:
    """Convert RGB pixels to grey, uint8 (h, w)."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _turned(pixels: Pixels, part: float) -> Pixels:
    """Turn the hue by a share of a full turn: OpenCV counts 256 steps of it, and uint8 wraps around."""
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    colours[..., 0] += np.uint8(int(part * 255) % 256)
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB_FULL), np.uint8)
