"""The things in drawn scenes: each is drawn standing at `x`, `y`, about `s` high, with random variation."""

from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

INK = (38, 34, 32)
"""Colour of outlines and dark parts, RGB."""
LIGHT = (226, 218, 200)
"""The colour of sails, tents and walls in the light, RGB."""
Brush = Callable[[ImageDraw.ImageDraw, float, float, float, np.random.Generator], None]
"""Function that draws a thing: of the picture, `x`, `y` and the height `s` in pixels, and a random generator."""


def _toned(tone: tuple[int, int, int], rng: np.random.Generator, low: float, high: float) -> tuple[int, int, int]:
    """Make a colour randomly lighter or darker."""
    factor = rng.uniform(low, high)
    return int(tone[0] * factor), int(tone[1] * factor), int(tone[2] * factor)


def _figure(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A standing man with a cap."""
    tone = _toned((70, 66, 58), rng, 0.8, 1.5)
    lean = s * rng.uniform(-0.05, 0.05)
    draw.line([(x - s * 0.1, y), (x, y - s * 0.45), (x + s * 0.1, y)], fill=INK, width=max(2, int(s * 0.09)))
    draw.rounded_rectangle((x - s * 0.14, y - s * 0.8, x + s * 0.14, y - s * 0.4), s * 0.06, fill=tone)
    draw.ellipse((x - s * 0.09 + lean, y - s, x + s * 0.09 + lean, y - s * 0.8), fill=(190, 170, 150))
    draw.pieslice((x - s * 0.13 + lean, y - s * 1.06, x + s * 0.13 + lean, y - s * 0.84), 180, 360, fill=INK)


def soldier(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A man with a rifle on his shoulder."""
    _figure(draw, x, y, s, rng)
    draw.line([(x + s * 0.18, y - s * 0.4), (x + s * 0.3, y - s * 1.2)], fill=INK, width=max(2, int(s * 0.04)))


def _beast(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, tone: tuple[int, int, int]) -> None:
    """Four legs, a body, a neck and a head."""
    for leg in (-0.38, -0.28, 0.28, 0.38):
        draw.line([(x + s * leg, y - s * 0.4), (x + s * leg * 1.05, y)], fill=tone, width=max(2, int(s * 0.06)))
    draw.ellipse((x - s * 0.48, y - s * 0.68, x + s * 0.48, y - s * 0.34), fill=tone)
    draw.polygon(
        [(x + s * 0.34, y - s * 0.5), (x + s * 0.5, y - s), (x + s * 0.62, y - s * 0.94), (x + s * 0.47, y - s * 0.42)],
        fill=tone,
    )
    draw.ellipse((x + s * 0.46, y - s * 1.05, x + s * 0.76, y - s * 0.9), fill=tone)


def camel(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A camel, seen from the side."""
    tone = _toned((140, 112, 78), rng, 0.8, 1.15)
    _beast(draw, x, y, s, tone)
    draw.ellipse((x - s * 0.22, y - s * 0.9, x + s * 0.18, y - s * 0.5), fill=tone)


def rider(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """Draw a man on a horse."""
    _figure(draw, x, y - s * 0.36, s * 0.75, rng)
    _beast(draw, x, y, s, _toned((80, 60, 46), rng, 0.6, 1.4))


def ship(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A steamship with two funnels, two masts and its smoke."""
    hull = _toned((56, 58, 64), rng, 0.6, 1.4)
    draw.polygon([(x - s, y - s * 0.3), (x + s * 1.05, y - s * 0.36), (x + s * 0.85, y), (x - s * 0.85, y)], fill=hull)
    draw.rectangle((x - s * 0.5, y - s * 0.52, x + s * 0.5, y - s * 0.32), fill=LIGHT)
    for funnel in (-0.22, 0.12):
        draw.rectangle((x + s * funnel, y - s * 0.9, x + s * (funnel + 0.12), y - s * 0.5), fill=INK)
    for puff in range(5):
        r, px, py = s * (0.09 + 0.05 * puff), x + s * (0.18 + 0.22 * puff), y - s * (1.0 + 0.1 * puff)
        draw.ellipse((px - r, py - r, px + r, py + r), fill=(120, 116, 112))
    for mast in (-0.75, 0.72):
        draw.line([(x + s * mast, y - s * 0.3), (x + s * mast, y - s * 1.15)], fill=INK, width=max(2, int(s * 0.03)))


def tent(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A bell tent, one side in the shade."""
    tone = _toned((222, 212, 190), rng, 0.85, 1.05)
    draw.polygon([(x - s * 0.6, y), (x, y - s * 0.85), (x + s * 0.6, y)], fill=tone)
    draw.polygon([(x, y - s * 0.85), (x + s * 0.6, y), (x + s * 0.25, y)], fill=(150, 142, 126))
    draw.polygon([(x - s * 0.12, y), (x, y - s * 0.45), (x + s * 0.12, y)], fill=INK)


def house(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A house with a gable, two windows and a door."""
    wall = _toned((214, 204, 188), rng, 0.8, 1.0)
    draw.rectangle((x - s * 0.45, y - s * 0.6, x + s * 0.45, y), fill=wall)
    draw.polygon(
        [(x - s * 0.55, y - s * 0.6), (x, y - s * rng.uniform(0.85, 1.1)), (x + s * 0.55, y - s * 0.6)],
        fill=(112, 74, 62),
    )
    for window in (-0.28, 0.1):
        draw.rectangle((x + s * window, y - s * 0.45, x + s * (window + 0.16), y - s * 0.25), fill=INK)
    draw.rectangle((x - s * 0.08, y - s * 0.2, x + s * 0.08, y), fill=(70, 50, 40))


def tower(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A minaret with a gallery and a dome."""
    w = s * rng.uniform(0.12, 0.2)
    draw.rectangle((x - w, y - s * 1.3, x + w, y), fill=(206, 196, 176))
    draw.rectangle((x - w * 1.5, y - s * 1.36, x + w * 1.5, y - s * 1.26), fill=(168, 156, 138))
    draw.pieslice((x - w * 1.2, y - s * 1.65, x + w * 1.2, y - s * 1.05), 180, 360, fill=(120, 112, 104))
    for step in range(3):
        top = y - s * (1.1 - 0.35 * step)
        draw.rectangle((x - w * 0.25, top, x + w * 0.25, top + s * 0.14), fill=INK)


def cannon(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A field gun on its wheel, its barrel raised."""
    rise = rng.uniform(0.25, 0.6)
    draw.line(
        [(x - s * 0.5, y - s * 0.1), (x, y - s * 0.35), (x + s * 0.8, y - s * (0.35 + rise))],
        fill=INK,
        width=max(3, int(s * 0.13)),
    )
    r = s * 0.32
    draw.ellipse((x - r, y - 2 * r, x + r, y), outline=(70, 56, 44), width=max(3, int(s * 0.07)))
    for spoke in range(6):
        angle = np.pi * spoke / 6
        dx, dy = r * np.cos(angle), r * np.sin(angle)
        draw.line([(x - dx, y - r - dy), (x + dx, y - r + dy)], fill=(70, 56, 44), width=max(1, int(s * 0.03)))


def plane(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A biplane, in the air above its place."""
    y -= s * rng.uniform(1.0, 2.2)
    for wing in (0.0, 0.28):
        draw.polygon(
            [
                (x - s * 0.7, y - s * wing),
                (x + s * 0.5, y - s * (wing + 0.06)),
                (x + s * 0.5, y - s * wing),
                (x - s * 0.7, y + s * (0.06 - wing)),
            ],
            fill=LIGHT,
        )
    for strut in (-0.5, -0.1, 0.3):
        draw.line([(x + s * strut, y), (x + s * strut, y - s * 0.3)], fill=INK, width=max(1, int(s * 0.03)))
    draw.polygon(
        [(x - s * 0.2, y - s * 0.05), (x + s * 1.2, y - s * 0.16), (x - s * 0.2, y + s * 0.12)], fill=(90, 80, 70)
    )
    draw.polygon(
        [(x + s * 1.05, y - s * 0.4), (x + s * 1.25, y - s * 0.4), (x + s * 1.2, y - s * 0.1), (x + s, y - s * 0.14)],
        fill=LIGHT,
    )
    draw.line([(x - s * 0.24, y - s * 0.2), (x - s * 0.24, y + s * 0.26)], fill=INK, width=max(1, int(s * 0.03)))


def palm(draw: ImageDraw.ImageDraw, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    """A palm tree with nine leaves."""
    top = (x + s * rng.uniform(-0.2, 0.2), y - s * 1.3)
    draw.line([(x, y), ((x + top[0]) / 2 + s * 0.05, y - s * 0.6), top], fill=(92, 76, 60), width=max(3, int(s * 0.09)))
    for angle in np.linspace(-0.4, np.pi + 0.4, 9) + rng.uniform(-0.1, 0.1):
        dx, dy = s * 0.55 * np.cos(angle), -s * 0.35 * np.sin(angle)
        leaf = [top, (top[0] + dx * 0.6, top[1] + dy - s * 0.05), (top[0] + dx, top[1] + dy + s * 0.14)]
        draw.line(leaf, fill=(52, 66, 44), width=max(2, int(s * 0.07)), joint="curve")
