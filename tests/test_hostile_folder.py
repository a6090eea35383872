"""A folder of what no archive should hold ends well: blank pages, specks, strips, noise, and one file many times."""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Process
from PIL import Image
from servers import environment
from test_verify import scene, verified

EQUAL = 5000
"""Files of equal bytes."""
BOUND = 240.0
"""Seconds of a core that the search of the folder may take, however busy the machine is: two minutes of two cores."""
MEMORY = 5.0
"""Gigabytes that the search may hold at most; 3.4 were measured on two cores, with a picture of 180 million pixels."""


@pytest.fixture(scope="module")
def results(team: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the hostile folder."""
    photos, out = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("out")
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.new("RGB", (600, 800), (250 - number,) * 3).save(photos / f"blank {number}.png")
        Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(photos / f"noise {number}.png")
        Image.new("RGB", (1, 1), (40 * number, 0, 0)).save(photos / f"speck {number}.png")
    Image.fromarray(rng.integers(0, 255, (30, 20_000), dtype=np.uint8)).save(photos / "strip.png")
    Image.new("L", (20_000, 9_000), 128).save(photos / "large.png")
    Image.new("L", (20_000, 20_000), 128).save(photos / "too large.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (photos / "empty.jpg").write_bytes(b"")
    scene(60).save(photos / "photo.png")
    scene(60).resize((300, 225)).save(photos / "photo smaller.png")
    for number in range(EQUAL):
        (photos / f"equal {number:04d}.png").hardlink_to(photos / "photo.png")
    command = ("duplicates", str(photos), "--out", str(out), "--json")
    result = Process(_measured, out / "use.json", *command, cwd=out, env=environment(**team)).ended()
    assert result.returncode == 0, result.stderr
    (out / "facts.json").write_text(result.stdout, encoding="utf-8")
    return out


def _measured(use: Path, *command: str) -> None:
    """Run a command, and write the bytes that its process held at most, and the seconds of a core that it took."""
    from neardup.cli import main  # noqa: PLC0415 - loaded already where this runs

    sys.argv = ["neardup", *command]
    try:
        main(command)
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        most = max(each.ru_maxrss for each in used) * (1 if sys.platform == "darwin" else 1024)
        seconds = sum(each.ru_utime + each.ru_stime for each in used)
        use.write_text(json.dumps({"bytes": most, "seconds": seconds}), encoding="utf-8")


def test_a_hostile_folder_ends_well_and_says_what_was_left_out(results: Path) -> None:
    """Broken files are counted, all others are searched, and only the one smaller copy is confirmed."""
    facts = json.loads((results / "facts.json").read_text(encoding="utf-8"))
    assert facts["unreadable"] == 3
    assert facts["photos"] == EQUAL + 22
    assert facts["verification"]["confirmed"] == 1


def test_a_hostile_folder_takes_bounded_memory_and_time(results: Path) -> None:
    """Neither thousands of equal files nor a picture of 180 million pixels takes more than a few gigabytes at once."""
    use = json.loads((results / "use.json").read_text(encoding="utf-8"))
    assert use["bytes"] < MEMORY * 2**30
    assert use["seconds"] < BOUND


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
