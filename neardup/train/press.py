"""Simulates what newspapers do to a photograph: each damage by itself, or a random combination of all.

Every damage takes RGB uint8 and a generator, and returns RGB; sizes may change.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from neardup.images import read_image

Damage = Callable[[Image.Image, np.random.Generator], Image.Image]
"""Function that damages a picture by random numbers from a generator."""
JPEG_SIDE = 65_500
"""Pixels of the longest side that a JPEG may have, as libjpeg writes it."""
_PAPER = (236, 230, 214)
"""Colour of newsprint that copies are printed on, RGB, 0 to 255."""
_INK = (28, 26, 24)
"""Colour of printing ink, RGB."""
_LIGHT_SCRATCHES = 0.7
"""Part of the scratches that are light, as those of a print are; those of a negative are dark."""
_WORDS = ("la", "ville", "de", "port", "guerre", "soldats", "arrivent", "le", "camp", "rue", "soir", "navire", "foule")
"""Words of the captions that are drawn below a picture."""


def read_reduced(file: Path, max_pixels: int, side: int) -> Image.Image:
    """Decode a photo to be damaged, its shorter side below four times `side`, whatever its format.

    Dots, blur and scratches have fixed sizes in pixels: on a much larger scan they would vanish when it is encoded. A
    photo whose shorter side is already below four times `side` is not reduced.

    Args:
        file: the photo.
        max_pixels: a larger photo is refused.
        side: pixels of the shorter side that an encoder needs; at least twice as many remain.

    Raises:
        FileNotFoundError: the file is gone.
        UnreadableImageError: the file cannot be read, is no image, or has over `max_pixels` pixels.
    """
    image = read_image(file, max_pixels=max_pixels, draft=side)
    factor = min(image.size) // (2 * side)
    return image.reduce(factor) if factor > 1 else image


def halftone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Print through a rotated screen of dots, 3 to 6 pixels apart."""
    period, angle = rng.uniform(3.0, 6.0), rng.uniform(0.2, 1.3)
    grey = np.asarray(image.convert("L"), dtype=np.float32) / 255
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32) * np.float32(2 * np.pi / period)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    screen = (np.cos(x * cos + y * sin) + np.cos(y * cos - x * sin)) / 4 + 0.5
    printed = 1 / (1 + np.exp(-14 * (grey - screen)))
    return _grey(printed * 255)


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep 70 to 95 % of each side."""
    width, height = image.size
    w, h = (max(8, int(side * rng.uniform(0.7, 0.95))) for side in image.size)
    left, top = (
        int(rng.integers(0, width - w + 1)) if width > w else 0,
        int(rng.integers(0, height - h + 1)) if height > h else 0,
    )
    return image.crop((left, top, min(width, left + w), min(height, top + h)))


def border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put a paper margin with a thin frame around it, 2 to 7 % of the shorter side."""
    margin = max(2, int(min(image.size) * rng.uniform(0.02, 0.07)))
    framed = ImageOps.expand(image, 1, _INK)
    return ImageOps.expand(framed, margin, _PAPER)


def caption_strip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add a strip of paper with a line or two of text below."""
    width, height = image.size
    size = max(8, int(height * 0.045))
    lines = int(rng.integers(1, 3))
    page = Image.new("RGB", (width, height + int(size * 1.5 * lines) + size // 2), _PAPER)
    page.paste(image)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for line in range(lines):
        text = " ".join(rng.choice(_WORDS, int(rng.integers(4, 9)))).capitalize() + "."
        draw.text((int(width * 0.03), height + size // 4 + int(line * size * 1.4)), text, fill=_INK, font=font)
    return page


def tone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Bend the tone curve: gamma .6 to 1.7, contrast .7 to 1.4."""
    ramp = (np.arange(256) / 255) ** rng.uniform(0.6, 1.7)
    ramp = np.clip((ramp - 0.5) * rng.uniform(0.7, 1.4) + 0.5, 0, 1) * 255
    return image.point([int(value) for value in ramp] * 3)


def sepia(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn yellow like old paper, half to fully."""
    grey = ImageOps.grayscale(image)
    brown = ImageOps.colorize(grey, (36, 22, 12), (246, 230, 198))
    return Image.blend(grey.convert("RGB"), brown, float(rng.uniform(0.5, 1)))


def retouch(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paint over one or two soft patches in the tone that is there."""
    damaged = image.copy()
    for _ in range(int(rng.integers(1, 3))):
        w, h = (max(6, int(side * rng.uniform(0.08, 0.25))) for side in image.size)
        left, top = (int(rng.uniform(0, max(1, side - s))) for side, s in zip(image.size, (w, h), strict=True))
        patch = image.crop((left, top, left + w, top + h)).filter(ImageFilter.GaussianBlur(max(w, h) / 5))
        mask = Image.new("L", (w, h), 0)
        ImageDraw.Draw(mask).ellipse((1, 1, w - 2, h - 2), fill=255)
        damaged.paste(patch, (left, top), mask.filter(ImageFilter.GaussianBlur(2)))
    return damaged


def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn by up to 4°, as if askew on the scanner's glass, on paper."""
    return image.rotate(float(rng.uniform(-4, 4)), Image.Resampling.BILINEAR, expand=True, fillcolor=_PAPER)


def mirror(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001 - a damage like the others
    """Mirror left and right, as if the plate was printed the wrong way round."""
    return ImageOps.mirror(image)


def scratches(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw 2 to 9 thin light or dark lines."""
    damaged = image.copy()
    draw = ImageDraw.Draw(damaged)
    width, height = image.size
    for _ in range(int(rng.integers(2, 10))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        end = (x + rng.normal(0, width / 12), y + rng.normal(0, height / 2))
        draw.line(
            [(x, y), end],
            fill=(245, 243, 238) if rng.random() < _LIGHT_SCRATCHES else _INK,
            width=int(rng.integers(1, 3)),
        )
    return damaged


def blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lose focus, by .4 to 1.6 pixels."""
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.6))))


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Compress as a JPEG of quality 25 to 75; a picture too wide or too high for a JPEG is unchanged."""
    if max(image.size) > JPEG_SIDE:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(25, 76)))
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")


def fade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lose colour, wholly three times in four."""
    return ImageEnhance.Color(image).enhance(0.0 if rng.random() < 0.75 else float(rng.uniform(0.2, 0.8)))  # noqa: PLR2004


DAMAGES: Mapping[str, Damage] = MappingProxyType(
    {
        "mirror": mirror,
        "crop": crop,
        "retouch": retouch,
        "fade": fade,
        "tone": tone,
        "sepia": sepia,
        "blur": blur,
        "halftone": halftone,
        "scratches": scratches,
        "border": border,
        "caption_strip": caption_strip,
        "rotate": rotate,
        "jpeg": jpeg,
    },
)
"""Every damage by name, in the order in which they happen on the way from the plate to the scan."""
_CHANCE: Mapping[str, float] = MappingProxyType(
    {
        "mirror": 0.15,
        "crop": 0.7,
        "retouch": 0.25,
        "fade": 0.9,
        "tone": 0.8,
        "sepia": 0.3,
        "blur": 0.3,
        "halftone": 0.5,
        "scratches": 0.25,
        "border": 0.35,
        "caption_strip": 0.3,
        "rotate": 0.4,
        "jpeg": 0.8,
    },
)
"""Probability of each damage, 0 to 1, for a copy."""


def press(image: Image.Image, seed: int) -> Image.Image:
    """Reproduce a photo as a newspaper would: each damage with its own chance; equal seeds give equal copies."""
    rng = np.random.default_rng(seed)
    for name, damage in DAMAGES.items():
        if rng.random() < _CHANCE[name]:
            image = damage(image, rng)
    return image


def _grey(values: npt.NDArray[np.float32]) -> Image.Image:
    """Grey values, 0 to 255, as an RGB picture."""
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
