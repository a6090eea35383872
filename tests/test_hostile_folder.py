"""A folder of what no archive should hold ends well: blank pages, specks, strips, noise, and one file many times."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import neardup
from PIL import Image
from test_verify import scene, verified

EQUAL = 500
"""Files of equal bytes."""
BOUND = 120.0
"""Seconds within which the search of the folder must end, on a loaded machine too."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the hostile folder."""
    photos, out = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("out")
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.new("RGB", (600, 800), (250 - number,) * 3).save(photos / f"blank {number}.png")
        Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(photos / f"noise {number}.png")
        Image.new("RGB", (1, 1), (40 * number, 0, 0)).save(photos / f"speck {number}.png")
    Image.fromarray(rng.integers(0, 255, (30, 20_000), dtype=np.uint8)).save(photos / "strip.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (photos / "empty.jpg").write_bytes(b"")
    scene(60).save(photos / "photo.png")
    scene(60).resize((300, 225)).save(photos / "photo smaller.png")
    data = (photos / "photo.png").read_bytes()
    for number in range(EQUAL):
        (photos / f"equal {number:03d}.png").write_bytes(data)
    start = time.monotonic()
    result = neardup("duplicates", photos, "--out", out, "--json", cwd=out)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < BOUND
    (out / "facts.json").write_text(result.stdout, encoding="utf-8")
    return out


def test_a_hostile_folder_ends_well_and_says_what_was_left_out(results: Path) -> None:
    """Broken files are counted, all others are searched, and only the one smaller copy is confirmed."""
    facts = json.loads((results / "facts.json").read_text(encoding="utf-8"))
    assert facts["unreadable"] == 2
    assert facts["photos"] == EQUAL + 21
    assert facts["verification"]["confirmed"] == 1


def test_only_the_photo_and_its_copies_are_links(results: Path) -> None:
    """Blank pages, specks and noise are never linked by what local features say of them."""
    table = pd.read_parquet(results / "duplicates" / "pairs.parquet")
    links = table[table["band"] == "link"]
    named = links["photo"].str.contains("photo|equal") & links["partner"].str.contains("photo|equal")
    assert named.all()
    assert len(links) > 0


def test_a_very_long_strip_is_measured_at_full_size() -> None:
    """It ends, and its size is the file's."""
    strip = Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 20_000), dtype=np.uint8))
    found = verified(strip, scene(61))
    assert (found.width_first, found.height_first, found.matched) == (20_000, 30, False)
