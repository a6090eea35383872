"""JPEG files of a chosen size, made of small photographs: as many bytes and as much detail as scans have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from neardup.images import read_image

SMALL, SCAN = (500, 375), (3000, 2000)
"""Width and height of a small photo on the web, and of a scan."""
GRAIN = 4.0
"""Standard deviation of the grain, of 255: without it an enlarged photo would be too smooth to be a scan."""
QUALITY = 90


def made_jpegs(photos: Path, folder: Path, count: int, size: tuple[int, int]) -> Sequence[Path]:
    """The first `count` photos of a folder, squeezed to a size, with grain; those that are there are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, source in enumerate(sorted((photos / "images").iterdir())[:count]):
        paths.append(folder / f"{number:05d}_{size[0]}x{size[1]}.jpg")
        if not paths[-1].is_file():
            picture = np.asarray(read_image(source).resize(size, Image.Resampling.BICUBIC), np.float32)
            grain = np.random.default_rng(number).normal(0, GRAIN, (*picture.shape[:2], 1)).astype(np.float32)
            Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=QUALITY)
    return paths
