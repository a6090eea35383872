"""Copies of photos by the prior project's recipe, from JPEG files: neardup's one warp, torchvision, albumentations."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jpegs import SCAN, SMALL, made_jpegs
from rates import Measured, measured
from torchvision.io import decode_image

from neardup.images import read_image
from neardup.train.augment import augment
from neardup.train.classic import AREA, DEGREES, JITTER, RATIO, SIDE, TORCHVISION, Reduced

COPIES = 5
PHOTOS = {SMALL: 16, SCAN: 2}
"""So many photos of each size; the peers take seconds for a scan's copies."""


def measure_augmentation(photos: Path, work: Path) -> list[Measured]:
    """Five copies of each photo from one decode, at both sizes, by one thread."""
    return [one for size in PHOTOS for one in _measured_at(size, photos, work)]


def _measured_at(size: tuple[int, int], photos: Path, work: Path) -> list[Measured]:
    files = made_jpegs(photos, work / "jpegs", PHOTOS[size], size)
    task = f"{COPIES} copies of each {size[0]} × {size[1]} JPEG"
    ours, *peers = (
        measured(task, method, "copies", COPIES * len(files), make, files)
        for method, make in (
            ("neardup", by_neardup),
            ("torchvision v2 on Pillow images", by_torchvision),
            ("torchvision v2 on uint8 tensors", by_torchvision_tensors),
            ("albumentations, colour after the crop", by_albumentations),
        )
    )
    return [replace(ours, note=agreement(files)), *peers]


def agreement(files: Sequence[Path]) -> str:
    """How far neardup's copies are from torchvision's of the same draws."""
    errors = []
    for seed, file in enumerate(files):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = np.asarray(TORCHVISION(read_image(file)), dtype=np.float64)
        errors.append(np.asarray(Reduced.read(file).copy(seed)) - expected)
    psnr = 10 * np.log10(255**2 / np.square(errors).mean())
    return f"mean difference from torchvision's copies {np.abs(errors).mean():.1f} of 255, PSNR {psnr:.0f} dB"


def by_neardup(files: Sequence[Path]) -> Callable[[], object]:
    """The recipe `classic`."""
    _one_thread()
    return lambda: [augment("classic", file, file.name, range(COPIES)) for file in files]


def by_torchvision(files: Sequence[Path]) -> Callable[[], object]:
    """The recipe as the prior project ran it."""
    _one_thread()
    return lambda: [[TORCHVISION(image) for _ in range(COPIES)] for image in map(read_image, files)]


def by_torchvision_tensors(files: Sequence[Path]) -> Callable[[], object]:
    """The recipe on tensors, as torchvision's documentation advises for speed."""
    _one_thread()
    return lambda: [[TORCHVISION(image) for _ in range(COPIES)] for image in map(decode_image, map(str, files))]


def by_albumentations(files: Sequence[Path]) -> Callable[[], object]:
    """The recipe's transforms, the colours last, for they then change a few pixels only."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
    import albumentations  # noqa: PLC0415 - the setting above is read on import

    _one_thread()
    recipe = albumentations.Compose(
        [
            albumentations.HorizontalFlip(0.5),
            albumentations.Rotate(DEGREES, interpolation=cv2.INTER_NEAREST, border_mode=cv2.BORDER_CONSTANT, p=1),
            albumentations.RandomResizedCrop((SIDE, SIDE), AREA, RATIO),
            albumentations.ColorJitter(*3 * [(1 - JITTER, 1 + JITTER)], hue=(-JITTER, JITTER), p=1),
        ]
    )

    def copy() -> None:
        for file in files:
            pixels = np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
            for _ in range(COPIES):
                recipe(image=pixels)

    return copy


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
