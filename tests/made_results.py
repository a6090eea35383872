"""A folder of results made by code: drawn photos, pairs and groups as `duplicates` writes them, verified or not."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFilter

from neardup.decide.chosen_decision import SHIPPED
from neardup.verify.evidence import Box, Evidence

UNMOVED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""The transform that leaves every point where it is."""


def drawn_photo(seed: int, size: tuple[int, int] = (900, 640)) -> Image.Image:
    """A grey photograph of hills, houses and a sun, none like another."""
    rng = np.random.default_rng(seed)
    width, height = size
    sky = np.linspace(rng.integers(150, 220), rng.integers(190, 240), height)[:, None] * np.ones((1, width))
    image = Image.fromarray(sky.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    x, y, r = (int(rng.integers(*bounds)) for bounds in ((80, width - 80), (50, height // 3), (18, 46)))
    pen.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(235, 255)))
    for ridge in range(3):
        heights = height * (0.42 + 0.16 * ridge) + np.cumsum(rng.normal(0, 5, width // 6 + 2))
        line = [(6 * step, int(level)) for step, level in enumerate(heights)]
        pen.polygon([(0, height), *line, (width, height)], fill=int(150 - 38 * ridge))
    for _ in range(int(rng.integers(5, 12))):
        left, top = int(rng.integers(0, width - 90)), int(rng.integers(height // 2, height - 110))
        wide, high = int(rng.integers(34, 90)), int(rng.integers(40, 110))
        pen.rectangle((left, top, left + wide, top + high), fill=int(rng.integers(30, 225)), outline=20)
        pen.polygon(
            [(left - 6, top), (left + wide // 2, top - 26), (left + wide + 6, top)], fill=int(rng.integers(15, 90))
        )
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)))
    return Image.fromarray(np.clip(blurred + rng.normal(0, 7, (height, width)), 0, 255).astype(np.uint8))


def save(image: Image.Image, file: Path, mark: bytes = b"") -> str:
    """Write a JPEG, with bytes behind its end that make its content another one; its SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, "JPEG", quality=88)
    file.write_bytes(file.read_bytes() + mark)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_results(
    out: Path,
    archive: Path,
    pairs: dict[str, list[object]],
    groups: list[list[str]],
    evidence: list[Evidence] | None = None,
    **facts: object,
) -> Path:
    """Write what `duplicates` would have written."""
    folder = out / "duplicates"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    numbers = [number for number, group in enumerate(groups, 1) for _ in group]
    photos = [photo for group in groups for photo in group]
    columns = {"group": pa.array(numbers, pa.int64()), "photo": pa.array(photos, pa.string())}
    pq.write_table(pa.table(columns | {"exact_copy_of": pa.nulls(len(photos), pa.string())}), folder / "groups.parquet")
    made = {"archive": str(archive), "threshold": 0.8, "encoder": "builtin:tiny", "fingerprint": "f" * 64, **facts}
    (folder / "duplicates.json").write_text(json.dumps(made), encoding="utf-8")
    if evidence:
        shutil.copy(SHIPPED, folder / "decision.json")
        pq.write_table(pa.Table.from_pylist([asdict(item) for item in evidence]), folder / "evidence.parquet")
    return out


def small_results(folder: Path, groups: int = 8, *, verified: bool = True) -> tuple[Path, Path]:
    """An archive of some groups of an original, a crop of it and a darker print of it, and its results.

    Args:
        folder: where both are made, as `archive` and `results`.
        groups: how many; each has 3 photos and 3 pairs.
        verified: whether there are probabilities, bands, sentences and evidence.

    Returns:
        The archive and the results.
    """
    archive, out = folder / "archive", folder / "results"
    rows, members, evidence = [], [], []
    for number in range(groups):
        image = drawn_photo(number)
        width, height = image.size
        box = (width // 8, height // 8, width * 7 // 8, height * 7 // 8)
        dark = image.point(lambda level: level * 0.7)
        ImageDraw.Draw(dark).rectangle((300, 200, 380, 280), fill=255)
        names = [f"presse/photos/Aamulehti_191111{number + 1:02d}_P{page}_01.jpg" for page in (1, 2, 3)]
        shas = [save(each, archive / name) for each, name in zip((image, image.crop(box), dark), names, strict=True)]
        members.append(names)
        for place, (left, right) in enumerate(((0, 1), (0, 2), (1, 2))):
            chance = (0.97, 0.5 + 0.04 * number, 0.9)[place]
            rows.append(
                {
                    "photo": names[left],
                    "partner": names[right],
                    "similarity": 0.8 + 0.01 * number + 0.05 * place,
                    "kind": "similar",
                    "photo_sha256": shas[left],
                    "partner_sha256": shas[right],
                    "probability": chance,
                    "band": "link" if chance > 0.85 else "review",
                    "relation": ("crop", "retouched", "crop")[place],
                    "sentence": f"B is made from A of group {number}; {100 + number} points agree.",
                    "inliers": 100 + number,
                }
            )
        onto_crop = (1.0, 0, -box[0], 0, 1, -box[1], 0, 0, 1)
        size_of_crop = (box[2] - box[0], box[3] - box[1])
        evidence.append(_evidence(shas[0], shas[1], image.size, size_of_crop, onto_crop, ()))
        evidence.append(_evidence(shas[0], shas[2], image.size, image.size, UNMOVED, ((300.0, 200.0, 80.0, 80.0),)))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if not verified:
        columns = {name: columns[name] for name in ("photo", "partner", "similarity", "kind")}
    write_results(out, archive, columns, members, evidence if verified else None)
    return archive, out


def _evidence(
    photo: str,
    partner: str,
    size: tuple[int, int],
    other: tuple[int, int],
    onto: tuple[float, ...],
    boxes: tuple[Box, ...],
) -> Evidence:
    """The evidence of an original and what was made of it, in the order of their contents."""
    if photo > partner:
        photo, partner, size, other = partner, photo, other, size
        onto = tuple(float(value) for value in np.linalg.inv(np.reshape(onto, (3, 3))).ravel())
    return Evidence(
        photo,
        partner,
        *size,
        *other,
        500,
        500,
        matches=150,
        inliers=120,
        transform=onto,  # type: ignore[arg-type]
        coverage_first=0.9,
        coverage_second=0.9,
        scale=1.0,
        squeeze=1.0,
        correlation=0.95,
        residual=0.5,
        differences=boxes,
    )


def many_results(folder: Path, pairs: int = 10_000, groups: int = 5_000, shown: int = 120) -> tuple[Path, Path]:
    """Results of many pairs, of which only those that come first in the queue have photos on the disk.

    Args:
        folder: where both are made.
        pairs: how many, of two photos each.
        groups: how many of the pairs are groups.
        shown: pairs that have photos.
    """
    archive, out = folder / "archive", folder / "results"
    names = [[f"presse/photos/p{row:06d}{side}.jpg" for row in range(pairs)] for side in "ab"]
    shas = [[hashlib.sha256(name.encode()).hexdigest() for name in side] for side in names]
    bases = [drawn_photo(seed, (1800, 1280)) for seed in range(8)]
    for row in range(min(shown, pairs)):
        for side in (0, 1):
            shas[side][row] = save(bases[(row + side) % 8], archive / names[side][row], f"{row} {side}".encode())
    # Those with photos come first: they lie across groups, and so will change the groups if they are right.
    chance = np.concatenate([np.linspace(0.85, 0.8, min(shown, pairs)), np.linspace(0.79, 0.55, max(0, pairs - shown))])
    columns: dict[str, list[object]] = {
        "photo": list(names[0]),
        "partner": list(names[1]),
        "similarity": [0.85] * pairs,
        "kind": ["similar"] * pairs,
        "photo_sha256": list(shas[0]),
        "partner_sha256": list(shas[1]),
        "probability": chance.tolist(),
        "band": ["review"] * pairs,
        "relation": ["crop"] * pairs,
        "sentence": ["B is a crop of A (62 %)."] * pairs,
        "inliers": [57] * pairs,
    }
    members = [[names[0][row], names[1][row]] for row in range(pairs - groups, pairs)]
    archive.mkdir(parents=True, exist_ok=True)
    return archive, write_results(out, archive, columns, members)
