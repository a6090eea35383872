"""Pictures of nothing, drawn by code: they teach an encoder low- and mid-level vision (Baradad et al. 2021).

Each takes a generator and a side and returns grey, float32 (side, side), 0 black to 1 white.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from neardup.train.press_torch import text

Grey = npt.NDArray[np.float32]
"""A grey picture: float32 (side, side), 0 black to 1 white."""
Drawing = Callable[[np.random.Generator, int], Grey]
"""Draws a picture of a side, all of it by chance."""


def noise(rng: np.random.Generator, side: int) -> Grey:
    """Noise whose power falls with frequency, as that of photographs does, bent to light and dark."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * frequency ** -rng.uniform(0.8, 2.2)
    spectrum[0, 0] = 0
    return _stretched(np.fft.irfft2(spectrum, s=(side, side)))


def dead_leaves(rng: np.random.Generator, side: int) -> Grey:
    """Shapes that cover each other, their sizes by a power law (Lee, Mumford and Huang 2001), some of them textured."""
    page = Image.new("L", (side, side), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(page)
    least = rng.uniform(0.02, 0.06)
    for _ in range(int(rng.integers(40, 200))):
        radius = side * min(0.5, least / rng.random() ** 0.6)
        x, y = rng.uniform(0, side, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
        tone = int(rng.integers(0, 256))
        if rng.random() < 0.5:  # noqa: PLR2004 - one in two
            draw.ellipse((x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius * 0.4), fill=tone)
        else:
            draw.polygon(corners, fill=tone)
    leaves = np.asarray(page, dtype=np.float32) / 255
    return _stretched(leaves + rng.uniform(0, 0.3) * noise(rng, side))


def fractal(rng: np.random.Generator, side: int) -> Grey:
    """The attractor of a few affine maps that shrink (Kataoka et al. 2020), on soft noise."""
    maps = int(rng.integers(2, 6))
    matrices, shifts = rng.uniform(-1, 1, (maps, 2, 2)), rng.uniform(-1, 1, (maps, 2))
    matrices *= (rng.uniform(0.4, 0.85, maps) / np.linalg.norm(matrices, 2, axis=(1, 2)))[:, None, None]
    points = rng.uniform(-1, 1, (4000, 2))
    counts = np.zeros((side, side), dtype=np.float64)
    for step in range(24):
        chosen = rng.integers(0, maps, len(points))
        points = np.einsum("nij,nj->ni", matrices[chosen], points) + shifts[chosen]
        if step > 6:  # noqa: PLR2004 - by then they are on the attractor
            counts += _counted(points, side)
    shape = _stretched(np.log1p(counts))
    return _stretched(shape * rng.uniform(0.5, 1) + noise(rng, side) * rng.uniform(0.1, 0.6))


def engraving(rng: np.random.Generator, side: int) -> Grey:
    """A tone drawn by lines that swell where it is dark and bend with it."""
    tone = noise(rng, side) if rng.random() < 0.5 else dead_leaves(rng, side)  # noqa: PLR2004 - one in two
    y, x = np.mgrid[:side, :side]
    angle = rng.uniform(0, np.pi)
    across = x * np.cos(angle) + y * np.sin(angle) + tone * rng.uniform(0, 12)
    lines = 0.5 + 0.5 * np.cos(across * 2 * np.pi / rng.uniform(3, 9))
    return _stretched(1 / (1 + np.exp(-10 * (tone - lines * rng.uniform(0.5, 1)))))


DRAWINGS: Mapping[str, Drawing] = MappingProxyType(
    {"noise": noise, "dead_leaves": dead_leaves, "fractal": fractal, "engraving": engraving, "text": text},
)
"""The drawings by name."""


def _stretched(values: npt.NDArray[np.floating]) -> Grey:
    """Values stretched to 0 to 1, a hundredth of them clipped at each end."""
    low, high = np.percentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


def _counted(points: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.int64]:
    """How many points lie in each pixel; the attractor fills the picture."""
    low, high = np.percentile(points, (1, 99), axis=0)
    places = ((points - low) / np.maximum(high - low, 1e-6) * (side - 1)).astype(np.int64)
    places = places[((places >= 0) & (places < side)).all(axis=1)]
    counts = np.bincount(places[:, 1] * side + places[:, 0], minlength=side * side)
    return counts.reshape(side, side).astype(np.int64)
