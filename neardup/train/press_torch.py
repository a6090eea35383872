"""Press copies of many pictures at once, in torch: the damages of `press` at full strength, fast enough to train on.

Pages are grey, float32 (n, 1, side, side), 0 black to 1 white. All random numbers come from the generator passed in.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor
from torch.nn import functional

FINE = 2
"""Factor by which a page is drawn larger than the copy: a screen of dots must be seen as a scanner sees it."""
CHUNK = 32
"""Pages made at once, which fit the processor's cache: 800 copies a second on two cores, 360 in chunks of 128."""
LETTERS = "etaoinshrdlucmfwygpbvk"
"""The letters that the words of a page of text are made of."""
Damage = Callable[[Tensor, Generator], Tensor]
"""Function that damages pages at random: pages in, pages of the same shape out."""


def text(rng: np.random.Generator, side: int) -> npt.NDArray[np.float32]:
    """Lines of letters, as in a newspaper's column, dark on paper or light on dark: float32 (side, side), 0 to 1."""
    page = Image.new("L", (side, side), int(rng.integers(200, 256)))
    draw = ImageDraw.Draw(page)
    size = int(rng.integers(max(7, side // 24), max(9, side // 7)))
    font, ink = ImageFont.load_default(size), int(rng.integers(0, 80))
    for top in range(int(rng.integers(0, size)), side, int(size * rng.uniform(1.1, 1.7))):
        words = ("".join(rng.choice(list(LETTERS), int(rng.integers(1, 11)))) for _ in range(2 + 3 * side // size // 4))
        draw.text((int(rng.integers(-size, size)), top), " ".join(words), fill=ink, font=font)
    grey = np.asarray(np.asarray(page, dtype=np.float32) / 255, dtype=np.float32)
    return grey if rng.random() < 0.8 else np.asarray(1 - grey, dtype=np.float32)  # noqa: PLR2004 - four in five


@cache
def text_pages(count: int, side: int) -> Tensor:
    """Pages of text to paste beside pictures, the same each time: uint8 (count, side, side), not to be changed."""
    pages = [text(np.random.default_rng([number, 1]), side) * 255 for number in range(count)]
    return torch.from_numpy(np.stack(pages).astype(np.uint8))


def moderate_tones(page: Tensor, rng: Generator) -> Tensor:
    """Change the tones: gamma .5 to 2, contrast .6 to 1.6, brightness ±.12."""
    n = len(page)
    bent = page.clamp(1e-4, 1) ** _over_pixels(torch.exp(_uniform(rng, n, -0.7, 0.7)))
    contrast, brightness = _over_pixels(_uniform(rng, n, 0.6, 1.6)), _over_pixels(_uniform(rng, n, -0.12, 0.12))
    return ((bent - 0.5) * contrast + 0.5 + brightness).clamp_(0, 1)


def hard_tones(page: Tensor, rng: Generator) -> Tensor:
    """Change the tones: gamma .4 to 2.5, contrast .3 to 4 about a tone of .35 to .65, which becomes .5 ± .12."""
    n = len(page)
    bent = page.clamp(1e-4, 1) ** _over_pixels(torch.exp(_uniform(rng, n, -0.9, 0.9)))
    contrast, brightness = (
        _over_pixels(torch.exp(_uniform(rng, n, -1.2, 1.4))),
        _over_pixels(_uniform(rng, n, -0.12, 0.12)),
    )
    return ((bent - _over_pixels(_uniform(rng, n, 0.35, 0.65))) * contrast + 0.5 + brightness).clamp_(0, 1)


def press_copies(
    pictures: Tensor, texts: Tensor, size: int, rng: Generator, strength: Tensor, tones: Damage = hard_tones
) -> Tensor:
    """Make one copy of every picture, each with its own damages.

    Args:
        pictures: uint8 (n, s, s), grey.
        texts: uint8 (m, t, t), pages of text for strips and overlays.
        size: side of the copies.
        rng: draws everything.
        strength: float32 (n,), 0 to 1, factor of the damages' probabilities and of the range of the geometry.
        tones: what changes the tones.

    Returns:
        float32 (n, 1, size, size), 0 to 1.
    """
    return torch.cat(
        [
            _copied(part, texts, size, rng, part_strength, tones)
            for part, part_strength in zip(torch.split(pictures, CHUNK), torch.split(strength, CHUNK), strict=True)
        ]
    )


def _copied(pictures: Tensor, texts: Tensor, size: int, rng: Generator, strength: Tensor, tones: Damage) -> Tensor:
    """One copy of each of a few pictures, as `press_copies` gives them."""
    page = _on_paper(pictures, _chosen_texts(texts, len(pictures), size * FINE, rng), size * FINE, rng, strength)
    for chance, damage in _damages(tones):
        rows = torch.nonzero(_uniform(rng, len(page)) < chance * strength)[:, 0]
        if len(rows):
            page[rows] = damage(page[rows], rng)
    return functional.avg_pool2d(page, FINE).clamp_(0, 1)


def _uniform(rng: Generator, n: int, low: float | Tensor = 0.0, high: float = 1.0) -> Tensor:
    """Numbers drawn evenly from `low` to `high`: float32 (n,)."""
    return torch.rand(n, generator=rng, device=rng.device) * (high - low) + low


def _over_pixels(values: Tensor) -> Tensor:
    """Reshape numbers, (n,), to be broadcast over the pixels of n pages: (n, 1, 1, 1)."""
    return values[:, None, None, None]


def _chosen_texts(texts: Tensor, n: int, side: int, rng: Generator) -> Tensor:
    """Pages of text by chance, float32 (n, 1, side, side)."""
    chosen = torch.randint(len(texts), (n,), generator=rng, device=rng.device)
    pages = texts[chosen, None].float() / 255
    return functional.interpolate(pages, (side, side)) if pages.shape[-1] != side else pages


def _on_paper(pictures: Tensor, texts: Tensor, side: int, rng: Generator, strength: Tensor) -> Tensor:
    """Crop, turn and mirror pictures and lay them on paper, all in one warp: float32 (n, 1, side, side)."""
    n = len(pictures)
    axis = torch.linspace(-1, 1, side, device=pictures.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    askew = _uniform(rng, n, -1, 1) * 0.12 * strength * (_uniform(rng, n) < 0.4)  # noqa: PLR2004 - radians, two in five
    u, v = _turned(x[None], y[None], askew)
    (left, top, right, bottom), strip = _margins(rng, n, strength)
    u = (2 * u - (right - left)) / (2 - left - right)
    v = (2 * v - (bottom - top)) / (2 - top - bottom)
    inside = torch.maximum(u.abs(), v.abs())[:, None]
    grid = _window(u, v, rng, strength)
    warped = functional.grid_sample(pictures[:, None].float() / 255, grid, padding_mode="border", align_corners=False)
    paper = torch.where(_uniform(rng, n) < 0.85, _uniform(rng, n, 0.7, 1), _uniform(rng, n, 0, 0.3))  # noqa: PLR2004
    paper = torch.where(_over_pixels(strip), texts, torch.ones_like(texts)) * _over_pixels(paper)
    frame = _over_pixels(_uniform(rng, n, 1, 1.04) * (_uniform(rng, n) < 0.5))  # noqa: PLR2004 - one in two
    return torch.where(inside <= 1, warped, torch.where(inside < frame, 0.1, paper))


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates turned by an angle a page, in radians."""
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return x * cos + y * sin, y * cos - x * sin


def _margins(rng: Generator, n: int, strength: Tensor) -> tuple[list[Tensor], Tensor]:
    """The width of the paper at each side, in half pages, (n, 1, 1) each, and whether there is text on it, (n,)."""
    bordered, strip = _uniform(rng, n) < 0.35 * strength, _uniform(rng, n) < 0.3 * strength
    even = _uniform(rng, n, 0, 0.2)
    margins = [bordered * (even + _uniform(rng, n, 0, 0.1)) for _ in range(4)]
    margins[3] = margins[3] + strip * _uniform(rng, n, 0.1, 0.5)
    return [margin[:, None, None] for margin in margins], strip


def _window(u: Tensor, v: Tensor, rng: Generator, strength: Tensor) -> Tensor:
    """Map each point of a page to its place in the picture: a part of it, turned, perhaps mirrored."""
    n = len(u)
    scale = torch.where(_uniform(rng, n) < 0.25, 1.0, _uniform(rng, n, 1 - 0.7 * strength, 1).sqrt())  # noqa: PLR2004 - one in four
    aspect = torch.exp(_uniform(rng, n, -0.2, 0.2) * strength)
    half_w, half_h = (scale * aspect).clamp(max=1), (scale / aspect).clamp(max=1)
    centre_x, centre_y = (_uniform(rng, n, -1, 1) * (1 - half) for half in (half_w, half_h))
    turns = (
        torch.randint(1, 4, (n,), generator=rng, device=rng.device)
        * (math.pi / 2)
        * (_uniform(rng, n) < 0.03 * strength)
    )
    angle = turns + _uniform(rng, n, -0.15, 0.15) * (_uniform(rng, n) < 0.3 * strength)
    u, v = _turned(u, v, angle)
    half_w = half_w * torch.where(_uniform(rng, n) < 0.3 * strength, -1.0, 1.0)
    w, h, cx, cy = (value[:, None, None] for value in (half_w, half_h, centre_x, centre_y))
    return torch.stack([cx + w * u, cy + h * v], dim=-1)


def _light(page: Tensor, rng: Generator) -> Tensor:
    """Light the page from one side."""
    n, side = len(page), page.shape[-1]
    axis = torch.linspace(-1, 1, side, device=page.device)
    slope_x, slope_y = _over_pixels(_uniform(rng, n, -0.35, 0.35)), _over_pixels(_uniform(rng, n, -0.35, 0.35))
    return page * (1 + slope_x * axis[None, None, None, :] + slope_y * axis[None, None, :, None])


def _retouch(page: Tensor, rng: Generator) -> Tensor:
    """Paint two soft ellipses in the tone that is there, or in a flat one, as a retoucher does."""
    n, side = len(page), page.shape[-1]
    axis = torch.linspace(-1, 1, side, device=page.device)
    smooth = functional.interpolate(functional.avg_pool2d(page, side // 7), (side, side), mode="bilinear")
    flat = _over_pixels(_uniform(rng, n) * (_uniform(rng, n) < 0.3))  # noqa: PLR2004 - three in ten
    smooth = torch.where(flat > 0, flat, smooth)
    for _ in range(2):
        x = (axis[None, None, None, :] - _over_pixels(_uniform(rng, n, -1, 1))) / _over_pixels(
            _uniform(rng, n, 0.08, 0.4)
        )
        y = (axis[None, None, :, None] - _over_pixels(_uniform(rng, n, -1, 1))) / _over_pixels(
            _uniform(rng, n, 0.08, 0.4)
        )
        page = page + (smooth - page) * torch.sigmoid(8 * (1 - x * x - y * y))
    return page


def _overlay(page: Tensor, rng: Generator) -> Tensor:
    """Paste a block of another page of the batch, with much less contrast, over a part."""
    n, side = len(page), page.shape[-1]
    axis = torch.linspace(-1, 1, side, device=page.device)
    x = (axis[None, None, None, :] - _over_pixels(_uniform(rng, n, -1, 1))).abs() < _over_pixels(
        _uniform(rng, n, 0.1, 0.5)
    )
    y = (axis[None, None, :, None] - _over_pixels(_uniform(rng, n, -1, 1))).abs() < _over_pixels(
        _uniform(rng, n, 0.05, 0.3)
    )
    other = page.roll(1, 0).roll(side // 3, -1)
    return torch.where(x & y, _over_pixels(_uniform(rng, n, 0, 0.8)) + 0.3 * other, page)


def _scratches(page: Tensor, rng: Generator) -> Tensor:
    """Scratch the plate: four thin light or dark lines."""
    n, side = len(page), page.shape[-1]
    axis = torch.linspace(-1, 1, side, device=page.device)
    for _ in range(4):
        angle, width = _uniform(rng, n, 0, math.pi), _uniform(rng, n, 0.002, 0.012)
        across = (
            _over_pixels(torch.cos(angle)) * axis[None, None, None, :]
            + _over_pixels(torch.sin(angle)) * axis[None, None, :, None]
        )
        line = (across - _over_pixels(_uniform(rng, n, -1, 1))).abs() < _over_pixels(width)
        page = torch.where(line, _over_pixels((_uniform(rng, n) < 0.7).float()), page)  # noqa: PLR2004 - mostly light
    return page


def _blur(page: Tensor, rng: Generator) -> Tensor:
    """Blur the page, as out of focus, by .5 to 3.5 of its pixels."""
    n, reach = len(page), 6
    offset = torch.arange(-reach, reach + 1, device=page.device).float()
    kernel = torch.exp(-(offset**2) / (2 * _uniform(rng, n, 0.5, 3.5)[:, None] ** 2))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    rows = functional.pad(page.transpose(0, 1), (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(rows, kernel[:, None, None, :], groups=n)
    return functional.conv2d(rows, kernel[:, None, :, None], groups=n).transpose(0, 1)


def _halftone(page: Tensor, rng: Generator) -> Tensor:
    """Print the page through a turned screen of dots, or of lines, 2.2 to 7 of its pixels apart."""
    n, side = len(page), page.shape[-1]
    axis = torch.arange(side, device=page.device, dtype=torch.float32)
    angle, pitch = _uniform(rng, n, 0, math.pi / 2), 2 * math.pi / _uniform(rng, n, 2.2, 7)
    across, along = _over_pixels(torch.cos(angle) * pitch), _over_pixels(torch.sin(angle) * pitch)
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    dots = _over_pixels((_uniform(rng, n) < 0.85).float())  # noqa: PLR2004 - the others are lines
    screen = (torch.cos(x * across + y * along) + dots * torch.cos(y * across - x * along)) / (2 + 2 * dots) + 0.5
    printed = torch.sigmoid(_over_pixels(_uniform(rng, n, 5, 20)) * (page - screen))
    return page + (printed - page) * _over_pixels(_uniform(rng, n, 0.5, 1.2)).clamp(max=1)


def _grain(page: Tensor, rng: Generator) -> Tensor:
    """Add the noise of the plate and of the scanner."""
    noise = torch.randn(page.shape, generator=rng, device=page.device)
    return page + noise * _over_pixels(_uniform(rng, len(page), 0.01, 0.12))


def _jpeg(page: Tensor, rng: Generator) -> Tensor:
    """Quantise the cosine transform of blocks of eight pixels, as JPEG does, at qualities of about 10 to 75."""
    n, side = len(page), page.shape[-1]
    k = torch.arange(8, device=page.device, dtype=torch.float32)
    cosines = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) * torch.where(k > 0, 0.5, 0.125**0.5)[:, None]
    blocks = page.reshape(n, side // 8, 8, side // 8, 8)
    coefficients = torch.einsum("ua,nhawb,vb->nhuwv", cosines, blocks, cosines)
    step = _uniform(rng, n, 0.03, 0.35)[:, None, None, None, None] * (0.3 + (k[:, None, None] + k) / 7)
    coefficients = torch.round(coefficients / step) * step
    return torch.einsum("ua,nhuwv,vb->nhawb", cosines, coefficients, cosines).reshape(page.shape)


def _damages(tones: Damage) -> tuple[tuple[float, Damage], ...]:
    """Damages with the chance of each, in the order in which they happen on the way from the plate to the scan."""
    return (
        (0.3, _retouch),
        (0.1, _overlay),
        (0.8, tones),
        (0.2, _light),
        (0.35, _blur),
        (0.5, _halftone),
        (0.2, _scratches),
        (0.4, _grain),
        (0.4, _jpeg),
        (0.3, tones),
    )
