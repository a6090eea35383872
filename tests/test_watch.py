"""Each run publishes what is new since the last one, once, whatever happens to it; the archive is only read."""

import csv
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from test_verify import scene

from neardup.archive.sheets import read_workbook
from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.decide.chosen_decision import SHIPPED
from neardup.decide.complete_linkage import complete_linkage, near_groups
from neardup.decide.constraints import PairVerdicts
from neardup.decide.decision import Decision
from neardup.detect.verified_pairs import Verification
from neardup.detect.watch import watch
from neardup.detect.watched import Watched
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ArchiveError, ConfigError
from neardup.images import MAX_PIXELS, read_image
from neardup.pages import SHOWN_IN_STRIP, SHOWN_STRIPS, write_strips
from neardup.search import all_pairs as nearpairs
from neardup.search.all_pairs import near_pairs
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, digest_file
from neardup.verify.candidates import CANDIDATES
from neardup.verify.evidence import ordered

THRESHOLD = math.cos(math.radians(25))
OUTPUTS = {"pairs.xlsx", "pairs.csv", "groups.xlsx", "new_photos.csv", "gallery.html", "watch.md", "watch.json"}


class Needle:
    """An encoder that can be computed by hand: a photo's red is an angle in degrees."""

    name = "needle"
    dimension = 2

    def __init__(self, fingerprint: str = "needle", *, breaks: bool = False) -> None:
        """Nothing encoded yet; one that `breaks` ends the run as Ctrl-C does."""
        self.fingerprint = fingerprint
        self.breaks = breaks
        self.encoded = 0

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Float32 (n, 2)."""
        if self.breaks:
            raise KeyboardInterrupt
        self.encoded += len(images)
        angles = np.radians([float(np.asarray(image)[0, 0, 0]) for image in images])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Place:
    """An archive and an output folder beside it."""

    root: Path
    out: Path

    def photo(self, name: str, angle: int, other: int = 0) -> Path:
        """Draw a photo that looks in a direction; `other` makes other bytes of the same look."""
        path = self.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (angle, other, 0)).save(path)
        return path

    def watch(self, encoder: Needle | None = None, threshold: float = THRESHOLD) -> Watched:
        """One run."""
        return watch(self.root, self.out, PrepareSettings(), encoder or Needle(), threshold, lambda _: None)

    @property
    def seen(self) -> Path:
        """The memory."""
        return self.out / STATE / "watch" / "seen.json"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Three photos, `a` and `b` alike, `far` alone."""
    made = Place(tmp_path / "archive", tmp_path / "out")
    made.photo("a.png", 0)
    made.photo("b.png", 10)
    made.photo("far.png", 180)
    return made


def kinds(watched: Watched) -> list[tuple[str, str, str]]:
    """Name, kind and the other name of each noticed file."""
    return [(Path(item.path).name, item.kind, Path(item.other).name) for item in watched.noticed]


def named(watched: Watched) -> list[tuple[str, str, str]]:
    """The pairs by name, and whether the partner is new."""
    return [(Path(p.photo).name, Path(p.partner).name, p.partner_is_new) for p in watched.pairs]


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def test_each_image_of_a_plain_folder_is_a_photo(place: Place) -> None:
    """As `duplicates` has it: a folder of photos need not be laid out as an archive, but its pages are none."""
    (place.root / "photos").rename(place.root / "reproductions")
    shutil.copytree(place.root / "reproductions", place.root / "pages")
    assert [Path(item.path).name for item in place.watch().noticed] == ["a.png", "b.png", "far.png"]


def test_the_first_run_takes_every_photo_as_new(place: Place) -> None:
    """And finds the pairs among them."""
    watched = place.watch()
    assert (watched.counts["new"], named(watched)) == (3, [("a.png", "b.png", "yes")])


def test_a_second_run_finds_nothing_and_publishes_nothing(place: Place) -> None:
    """No folder, no pairs, and a sentence that says so."""
    place.watch()
    again = place.watch()
    assert (again.folder, again.pairs, again.summary) == (None, (), "Nothing is new among 3 photos.")
    assert [path.name for path in (place.out / "watch").iterdir()] == ["0001"]


def test_a_new_photo_is_paired_with_old_ones(place: Place) -> None:
    """Old pairs are not told again."""
    place.watch()
    place.photo("0.png", 5)
    watched = place.watch()
    assert kinds(watched) == [("0.png", "new", "")]
    assert named(watched) == [("0.png", "a.png", "no"), ("0.png", "b.png", "no")]
    assert watched.folder == place.out / "watch" / "0002"


def test_a_moved_photo_is_not_new(place: Place) -> None:
    """It is listed with the path where it was, and makes no pair."""
    place.watch()
    (place.root / "photos/a.png").rename(place.root / "photos/z.png")
    watched = place.watch()
    assert (kinds(watched), watched.pairs, watched.vanished) == ([("z.png", "moved", "a.png")], (), ())


def test_a_photo_that_moves_back_is_told_again(place: Place) -> None:
    """Every move is one."""
    here, there = place.root / "photos/a.png", place.root / "photos/z.png"
    place.watch()
    here.rename(there)
    place.watch()
    there.rename(here)
    assert kinds(place.watch()) == [("a.png", "moved", "z.png")]


def test_two_photos_that_change_places_have_moved(place: Place) -> None:
    """Neither is new."""
    place.watch()
    a, b = (place.root / f"photos/{name}.png" for name in "ab")
    first = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(first)
    assert kinds(place.watch()) == [("a.png", "moved", "b.png"), ("b.png", "moved", "a.png")]


def test_a_replaced_photo_is_new(place: Place) -> None:
    """Same path, other bytes."""
    place.watch()
    place.photo("far.png", 20)
    watched = place.watch()
    assert kinds(watched) == [("far.png", "replaced", "")]
    assert named(watched) == [("far.png", "b.png", "no"), ("far.png", "a.png", "no")]


def test_an_exact_copy_is_listed_and_is_no_new_photo(place: Place) -> None:
    """Its bytes are still where they were."""
    place.watch()
    shutil.copyfile(place.root / "photos/b.png", place.root / "photos/z.png")
    watched = place.watch()
    assert (kinds(watched), watched.pairs) == ([("z.png", "exact copy", "b.png")], ())


def test_a_new_photo_at_two_paths_is_one_photo(place: Place) -> None:
    """One is new, the other is its copy, and each pair comes once."""
    place.watch()
    shutil.copyfile(place.photo("y.png", 5), place.root / "photos/z.png")
    watched = place.watch()
    assert kinds(watched) == [("y.png", "new", ""), ("z.png", "exact copy", "y.png")]
    assert [pair[0] for pair in named(watched)] == ["y.png", "y.png"]


def test_a_moved_photo_with_a_further_copy(place: Place) -> None:
    """As many have moved as paths are gone."""
    place.watch()
    data = (place.root / "photos/a.png").read_bytes()
    (place.root / "photos/a.png").unlink()
    for name in ("x.png", "y.png"):
        (place.root / "photos" / name).write_bytes(data)
    assert kinds(place.watch()) == [("x.png", "moved", "a.png"), ("y.png", "exact copy", "x.png")]


def test_a_photo_that_comes_back_is_not_new(place: Place) -> None:
    """While it was away it is told as vanished, once."""
    place.watch()
    data = (place.root / "photos/a.png").read_bytes()
    (place.root / "photos/a.png").unlink()
    gone = place.watch(), place.watch()
    (place.root / "photos/a.png").write_bytes(data)
    back = place.watch()
    assert [run.vanished for run in (*gone, back)] == [("photos/a.png",), (), ()]
    assert "vanished 1 (photos/a.png)" in gone[0].summary
    assert [run.folder for run in (*gone, back)] == [None, None, None]


def test_another_archive_in_the_same_folder_is_said(place: Place, tmp_path: Path) -> None:
    """So is a disk that is missing; one photo that is still there shows that it is the same archive."""
    place.watch()
    said: list[str] = []
    for root, other in ((tmp_path / "other", 1), (place.root, 0)):
        Place(root, place.out).photo("a.png", 0, other)
        watch(root, place.out, PrepareSettings(), Needle(), THRESHOLD, said.append)
        place.watch()
    assert sum("nothing that was seen before is in" in line for line in said) == 1
    rule = "photos are what matches **/photos/**, less those that match **/pages/**"
    assert sum(line.startswith(f"In {place.root} {rule}; [prepare]") for line in said) == 1


def test_an_unreadable_file_is_told_once(place: Place) -> None:
    """With its reason."""
    (place.root / "photos/bad.jpg").write_bytes(b"no picture")
    first, second = place.watch(), place.watch()
    assert [(item.path, item.reason) for item in first.unreadable] == [
        ("photos/bad.jpg", "the content is no whole JPEG, PNG, TIFF, BMP, GIF, WebP or JPEG 2000 image")
    ]
    assert second.noticed == ()


def test_a_photo_that_became_empty_is_unreadable(place: Place) -> None:
    """It is called no copy of another empty file, and has not moved from where one was."""
    (place.root / "photos/empty.jpg").write_bytes(b"")
    place.watch()
    (place.root / "photos/a.png").write_bytes(b"")
    assert [(item.path, item.reason) for item in place.watch().unreadable] == [("photos/a.png", "the file is empty")]
    (place.root / "photos/b.png").write_bytes(b"")
    (place.root / "photos/empty.jpg").unlink()
    assert kinds(place.watch()) == [("b.png", "unreadable", "")]


def test_an_unreadable_file_of_other_bytes_is_told_again(place: Place) -> None:
    """It may have been mended, and was not."""
    (place.root / "photos/bad.jpg").write_bytes(b"no picture")
    place.watch()
    (place.root / "photos/bad.jpg").write_bytes(b"still no picture")
    assert kinds(place.watch()) == [("bad.jpg", "unreadable", "")]


def test_a_mended_file_is_a_new_photo(place: Place) -> None:
    """A copy that was half done at the last run is taken when it is whole."""
    bad = place.photo("half.png", 5)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    place.watch()
    bad.write_bytes(whole)
    watched = place.watch()
    assert (kinds(watched), len(watched.pairs)) == ([("half.png", "replaced", "")], 2)


def test_a_photo_that_was_over_the_limit_is_new_when_it_is_read(place: Place) -> None:
    """Same bytes, but it was never compared."""
    low = replace(PrepareSettings(), max_pixels=100)
    Image.new("RGB", (20, 20), (5, 0, 0)).save(place.root / "photos/large.png")
    watch(place.root, place.out, low, Needle(), THRESHOLD, lambda _: None)
    watched = place.watch()
    assert (kinds(watched), len(watched.pairs)) == ([("large.png", "new", "")], 2)


class KilledError(BaseException):
    """What ends a run that has published everything and remembers nothing yet."""


def test_a_run_killed_before_the_memory_is_done_again(place: Place) -> None:
    """Into the same folder, with the same bytes, and what it left half written is gone."""

    def kill(watched: Watched) -> None:
        assert watched.folder
        (watched.folder / "pairs.csv").write_text("half")
        (watched.folder / "explained.html").write_text("of pairs that the next run does not verify")
        raise KilledError

    def killed() -> None:
        with pytest.raises(KilledError):
            watch(place.root, place.out, PrepareSettings(), Needle(), THRESHOLD, lambda _: None, add=kill)

    killed()
    first = place.watch().folder
    place.photo("0.png", 5)
    killed()
    second = place.watch().folder
    assert (first, second) == (place.out / "watch" / "0001", place.out / "watch" / "0002")
    assert second
    assert {path.name for path in second.iterdir()} == OUTPUTS
    assert "0.png" in (second / "pairs.csv").read_text()


@pytest.mark.parametrize("lost", ["all of it", "the last run"])
def test_a_lost_memory_costs_no_results(place: Place, lost: str) -> None:
    """All photos are new to a run that remembers nothing, which takes a folder that none had."""
    place.watch()
    before = place.seen.read_bytes()
    place.photo("0.png", 5)
    place.watch()
    results = listing(place.out / "watch")
    if lost == "all of it":
        place.seen.unlink()
    else:
        place.seen.write_bytes(before)
    assert place.watch().folder == place.out / "watch" / "0003"
    assert results.items() <= listing(place.out / "watch").items()


def test_a_run_killed_while_it_encodes_loses_nothing(place: Place) -> None:
    """Nothing is published, and the next run finds the same."""
    with pytest.raises(KeyboardInterrupt):
        place.watch(Needle(breaks=True))
    assert (list((place.out / "watch").iterdir()), place.seen.exists()) == ([], False)
    assert place.watch().counts["new"] == 3


def run_disturbed(place: Place, happens: Callable[[], object]) -> tuple[Watched, list[str]]:
    """A run in which something happens once the archive was scanned, and what the run says."""
    said: list[str] = []

    def say(line: str) -> None:
        if not said:
            happens()
        said.append(line)

    return watch(place.root, place.out, PrepareSettings(), Needle(), THRESHOLD, say), said


def test_a_photo_that_goes_away_meanwhile_counts_as_not_seen(place: Place) -> None:
    """The run says so and goes on with the others; when the photo is back, it is new."""
    leaving = place.root / "photos/a.png"
    kept = leaving.read_bytes()
    watched, said = run_disturbed(place, leaving.unlink)
    assert "left out photos/a.png: the file is gone" in said
    assert (watched.photos, kinds(watched)) == (2, [("b.png", "new", ""), ("far.png", "new", "")])
    leaving.write_bytes(kept)
    assert kinds(place.watch()) == [("a.png", "new", "")]


def test_a_photo_that_is_replaced_meanwhile_is_new_next_time(place: Place) -> None:
    """A scanner is still writing: neither its half nor what was there before is told of as lost."""
    place.watch()
    place.photo("a.png", 40)
    watched, said = run_disturbed(place, lambda: place.photo("a.png", 80))
    assert "left out photos/a.png: the file changed while the folder was read" in said
    assert (watched.noticed, watched.vanished, watched.folder) == ((), (), None)
    assert kinds(place.watch()) == [("a.png", "replaced", "")]


def test_a_photo_that_goes_away_after_it_was_encoded_is_found_all_the_same(place: Place) -> None:
    """Its pairs are by its vector; the next run says that it vanished."""
    leaving = place.root / "photos/a.png"

    class Slow(Needle):
        def encode(self, images: Sequence[Image.Image]) -> Vectors:
            leaving.unlink(missing_ok=True)
            return super().encode(images)

    assert named(place.watch(Slow())) == [("a.png", "b.png", "yes")]
    assert place.watch().vanished == ("photos/a.png",)


def test_results_that_go_away_are_no_file_of_the_archive(place: Place) -> None:
    """The folder of the results vanishes while the archive is read: its own path is named."""
    with pytest.raises(FileNotFoundError) as error:
        watch(
            place.root,
            place.out,
            PrepareSettings(),
            Needle(),
            THRESHOLD,
            lambda _: shutil.rmtree(place.out),
            str(place.out.with_name("store")),
        )
    assert Path(str(error.value.filename)).is_relative_to(place.out)


def test_unchanged_files_are_not_read_again(place: Place) -> None:
    """Nor encoded."""
    place.watch()
    (place.root / "photos/0.png").write_bytes(place.photo("x.png", 5).read_bytes())
    encoder = Needle()
    place.watch(encoder)
    assert encoder.encoded == 1


def test_a_new_encoder_encodes_all_and_makes_nothing_new(place: Place) -> None:
    """What was seen does not depend on who looked."""
    place.watch()
    encoder = Needle("another")
    assert (place.watch(encoder).noticed, encoder.encoded) == ((), 3)


def test_a_store_may_lie_elsewhere(place: Place, tmp_path: Path) -> None:
    """What another command encoded there is not encoded again."""
    encoder = Needle()
    for out in ("one", "two"):
        watch(
            place.root, tmp_path / out, PrepareSettings(), encoder, THRESHOLD, lambda _: None, str(tmp_path / "store")
        )
    assert encoder.encoded == 3


def test_thousands_of_copies_are_noticed_in_little_time(place: Place) -> None:
    """Each as a copy of the first, and all as moved when their folder is renamed."""
    data = place.photo("many/0000.png", 99).read_bytes()
    for number in range(1, 5000):
        (place.root / "photos/many" / f"{number:04d}.png").write_bytes(data)
    started = time.process_time()  # of this process alone, however busy the machine is
    assert place.watch().counts["exact copy"] == 4999
    (place.root / "photos/many").rename(place.root / "photos/more")
    assert place.watch().counts["moved"] == 5000
    assert time.process_time() - started < 60


def test_photos_that_look_the_same_make_no_more_pairs_than_there_are_photos(place: Place) -> None:
    """Blank pages in different bytes: 40 of them would be 780 pairs if each were held against each."""
    names = [f"blank_{number:02}.png" for number in range(40)]
    for number, name in enumerate(names):
        place.photo(name, 90, other=number)
    watched = place.watch(threshold=0.99)
    assert [pair[:2] for pair in named(watched)] == [(names[0], name) for name in names[1:]]
    group = max(watched.groups, key=len)
    assert sorted(Path(member.path).name for member in group) == names


@pytest.mark.parametrize("name", ["0_new.png", "z_new.png"])
def test_a_new_photo_that_looks_as_known_ones_is_paired_with_what_is_near_them(place: Place, name: str) -> None:
    """Whatever it is called: one of these stands for all, and it is the new one. Its group has all of them."""
    place.photo("a_again.png", 0, other=1)
    place.watch()
    place.photo(name, 0, other=2)
    watched = place.watch()
    assert {pair[:2] for pair in named(watched)} == {(name, "a.png"), (name, "a_again.png"), (name, "b.png")}
    (group,) = watched.groups
    assert {Path(member.path).name for member in group} == {name, "a.png", "a_again.png", "b.png"}


def test_known_photos_that_look_the_same_are_all_in_the_group_of_a_new_one(place: Place) -> None:
    """One of them stands for both in the pair; the news would otherwise lack the other."""
    place.photo("b_again.png", 10, other=1)
    place.watch()
    place.photo("new.png", 5)
    (group,) = place.watch().groups
    assert {Path(member.path).name for member in group} == {"new.png", "a.png", "b.png", "b_again.png"}


def test_groups_do_not_chain(place: Place) -> None:
    """A is like b, b is like c, and a is not like c: the closer two are a group."""
    place.photo("c.png", 30)
    watched = place.watch()
    assert named(watched) == [("a.png", "b.png", "yes"), ("b.png", "c.png", "yes")]
    assert [[Path(member.path).name for member in group] for group in watched.groups] == [["a.png", "b.png"]]
    assert [pair.group for pair in watched.pairs] == [1, None]


def test_a_group_takes_in_old_photos(place: Place) -> None:
    """The new one comes first."""
    place.watch()
    place.photo("z.png", 8)
    groups = [[(Path(m.path).name, m.new) for m in group] for group in place.watch().groups]
    assert groups == [[("z.png", True), ("b.png", False), ("a.png", False)]]


def test_a_group_of_old_photos_alone_is_not_told(place: Place) -> None:
    """It was told before."""
    place.watch()
    place.photo("z.png", 178)
    groups = [[Path(m.path).name for m in group] for group in place.watch().groups]
    assert groups == [["z.png", "far.png"]]


def test_what_is_published(place: Place) -> None:
    """All the files, saying the same."""
    watched = place.watch()
    assert watched.folder
    assert {path.name for path in watched.folder.iterdir()} == OUTPUTS
    (sheet,) = read_workbook(watched.folder / "pairs.xlsx")
    assert [[cell.text if cell else "" for cell in row] for row in sheet.rows] == [
        ["photo", "partner", "similarity", "partner is new", "group"],
        ["photos/a.png", "photos/b.png", "0.984808", "yes", "1"],
    ]
    assert (watched.folder / "pairs.csv").read_text().splitlines() == [
        "photo,partner,similarity,partner_is_new,group,probability,band,verdict,relation,sentence,inliers",
        "photos/a.png,photos/b.png,0.984808,yes,1,,,,,,",
    ]
    (sheet,) = read_workbook(watched.folder / "groups.xlsx")
    assert [[cell.text for cell in row if cell] for row in sheet.rows] == [["photos/a.png", "photos/b.png"]]
    facts = json.loads((watched.folder / "watch.json").read_text())
    assert (facts["counts"], facts["fingerprint"]) == (watched.counts, "needle")
    assert (watched.folder / "watch.md").read_text() == watched.markdown()


def test_the_markdown_shows_names_as_they_are(place: Place) -> None:
    """A name cannot break the table, nor become markup."""
    place.photo("a|<b>.png", 0, 1)
    assert "| photos/a.png | photos/a\\|\\<b\\>.png | 1.000 | yes | 1 |" in place.watch().markdown()


def test_no_cell_becomes_a_formula(tmp_path: Path) -> None:
    """A path that begins as one is text in the workbook and guarded in the CSV."""
    place = Place(tmp_path / "archive", tmp_path / "out")
    place.photo("x.png", 0)
    (place.root / "photos").rename(place.root / "=photos")
    (place.root / "=photos/y.png").write_bytes(place.photo("y.png", 5).read_bytes())
    (place.root / "photos/y.png").unlink()
    settings = PrepareSettings(photos=("**/*.png",))
    folder = watch(place.root, place.out, settings, Needle(), THRESHOLD, lambda _: None).folder
    assert folder
    for name in ("pairs.xlsx", "groups.xlsx"):
        assert not any(cell.formula for row in read_workbook(folder / name)[0].rows for cell in row if cell)
    for name in ("pairs.csv", "new_photos.csv"):
        with (folder / name).open(newline="") as stream:
            assert {row[0][:9] for row in list(csv.reader(stream))[1:]} == {"'=photos/"}


def test_the_page_needs_no_network_and_marks_the_new(place: Place) -> None:
    """Every picture is in it; names are no markup."""
    place.watch()
    place.photo("<b>.png", 5)
    folder = place.watch().folder
    assert folder
    page = (folder / "gallery.html").read_text()
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    opened = [Path(unquote(urlsplit(link).path)) for link in re.findall(r'href="(file:[^"]+)"', page)]
    assert sorted(opened) == sorted(place.root / "photos" / name for name in ("<b>.png", "a.png", "b.png"))
    assert set(re.findall(r'href="(\w+):', page)) == {"file"}
    assert (page.count("<img"), page.count("<b>new</b>"), "photos/<b>" in page) == (3, 1, False)


def test_the_page_says_what_it_leaves_out(place: Place, tmp_path: Path) -> None:
    """Groups and photos beyond what a browser likes."""
    rows = [[("photos/a.png", "1.000", True)] * (SHOWN_IN_STRIP + 3)] * (SHOWN_STRIPS + 1)
    page = write_strips(tmp_path / "page.html", "watch", place.root, rows, "Many.", MAX_PIXELS).read_text()
    assert f"Shown are the first {SHOWN_STRIPS} of {SHOWN_STRIPS + 1} groups" in page
    assert (page.count("<img"), page.count("and 3 more")) == (SHOWN_STRIPS * SHOWN_IN_STRIP, SHOWN_STRIPS)


def test_the_archive_is_untouched(place: Place) -> None:
    """Not a byte, not a time."""
    (place.root / "photos/bad.jpg").write_bytes(b"no picture")
    before = listing(place.root)
    place.watch()
    place.watch()
    assert listing(place.root) == before


def test_the_built_in_encoder_finds_a_real_near_duplicate(tmp_path: Path) -> None:
    """A drawn scene, and the same one as a small JPEG."""
    photos = tmp_path / "archive" / "photos"
    photos.mkdir(parents=True)
    for number in range(4):
        Scene.of(number).image.save(photos / f"{number}.png")
    Scene.of(2).image.resize((150, 100)).save(photos / "print.jpg", quality=40)
    found = watch(tmp_path / "archive", tmp_path / "out", PrepareSettings(), load_encoder(BUILTIN), 0.0, lambda _: None)
    assert (found.pairs[0].photo, found.pairs[0].partner) == ("photos/2.png", "photos/print.jpg")


def test_an_archive_without_photos_is_no_error(tmp_path: Path) -> None:
    """There is nothing new in it."""
    (tmp_path / "archive").mkdir()
    assert Place(tmp_path / "archive", tmp_path / "out").watch().folder is None


@pytest.mark.parametrize("threshold", [None, math.nan, 1.5, -1.01, math.inf, "0.5"])
def test_a_threshold_that_is_none_is_one_sentence(place: Place, threshold: float) -> None:
    """Nothing is done then."""
    with pytest.raises(ConfigError, match=rf"from -1 to 1, not {threshold}"):
        place.watch(threshold=threshold)
    assert not place.out.exists()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda place: replace(place, root=place.root / "none"), "is not a folder"),
        (lambda place: replace(place, root=place.root / "photos/a.png"), "is not a folder"),
        (lambda place: replace(place, out=place.root / "out"), "lies inside the archive"),
    ],
)
def test_bad_folders_are_one_sentence(place: Place, harm: Callable[[Place], Place], words: str) -> None:
    """They are refused before anything is written."""
    before = listing(place.root)
    with pytest.raises(ArchiveError, match=words):
        harm(place).watch()
    assert listing(place.root) == before


def test_a_store_in_the_archive_is_refused(place: Place) -> None:
    """Before anything is written."""
    store = str(place.root / "vectors")
    with pytest.raises(ArchiveError, match="vectors lies inside the archive"):
        watch(place.root, place.out, PrepareSettings(), Needle(), THRESHOLD, lambda _: None, store)
    assert (Path(store).exists(), place.out.exists()) == (False, False)


def test_a_folder_of_somebody_else_is_not_written_to(place: Place) -> None:
    """It is not ours."""
    (place.out / "watch").mkdir(parents=True)
    (place.out / "watch" / "mine.txt").write_text("mine")
    with pytest.raises(ArchiveError, match="did not write"):
        place.watch()


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"other": 1}'])
def test_a_spoilt_memory_is_one_sentence(place: Place, text: str) -> None:
    """It is not taken for an empty one: everything would be told anew."""
    place.watch()
    place.seen.write_text(text)
    with pytest.raises(ArchiveError, match=r"seen\.json is not what neardup wrote"):
        place.watch()


def test_a_file_that_may_not_be_read_is_told_once(place: Place) -> None:
    """It has no digest, so that its path stands for it."""
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    place.photo("shut.png", 5).chmod(0)
    first, second = place.watch(), place.watch()
    assert ([item.reason for item in first.unreadable], second.noticed) == (["no permission to read the file"], ())


def brute_force(vectors: Vectors, asked: Sequence[int], threshold: float) -> list[tuple[int, int, float]]:
    """Every pair by itself, in float64."""
    found = []
    for i, j in combinations(range(len(vectors)), 2):
        similarity = float((vectors[i].astype(np.float64) * vectors[j]).sum())
        if similarity >= threshold and (i in asked or j in asked):
            found.append((i, j, similarity) if i in asked else (j, i, similarity))
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def units(rng: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Unit rows, some of them equal."""
    vectors = rng.normal(size=(count, dimension))[rng.integers(0, count, count)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 40), st.integers(1, 20), st.floats(-1, 1), st.integers(1, 9), st.integers(0, 1000))
def test_blocked_pairs_are_exact(count: int, dimension: int, threshold: float, block: int, seed: int) -> None:
    """Equal to the last bit to looking at every pair, whatever the blocks."""
    rng = np.random.default_rng(seed)
    vectors, asked = units(rng, count, dimension), np.flatnonzero(rng.random(count) < 0.4)
    expected = brute_force(vectors, set(asked.tolist()), threshold)
    for few in (0, nearpairs.FEW):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nearpairs, "FEW", few)
            found = near_pairs(vectors, asked, threshold, rows=block, columns=2 * block + 1)
        assert (
            list(zip(found.left.tolist(), found.right.tolist(), found.similarities.tolist(), strict=True)) == expected
        )


@given(st.integers(2, 30), st.floats(0, 0.95), st.integers(0, 1000))
def test_groups_are_those_of_complete_linkage(count: int, threshold: float, seed: int) -> None:
    """Where all photos are new, chain by chain gives what all at once gives."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    groups = near_groups(near_pairs(vectors, np.arange(count), threshold), vectors, threshold)
    wide = vectors.astype(np.float64)
    whole = complete_linkage(wide @ wide.T - threshold)
    together = {(i, j) for i, j in combinations(range(count), 2) if groups[i] == groups[j] >= 0}
    assert together == {(i, j) for i, j in combinations(range(count), 2) if whole[i] == whole[j]}


@given(st.integers(0, 1000))
def test_a_chain_that_is_taken_apart_joins_nothing_wrongly(seed: int) -> None:
    """Every pair of a group is still at or above the threshold."""
    vectors = units(np.random.default_rng(seed), 40, 3)
    groups = near_groups(near_pairs(vectors, np.arange(40), 0.5), vectors, 0.5, largest=6)
    for i, j in combinations(range(40), 2):
        if groups[i] == groups[j] >= 0:
            assert float(vectors[i] @ vectors[j]) >= 0.5 - 1e-6


def test_what_a_known_photo_matches_is_held_against_a_new_one(tmp_path: Path) -> None:
    """Two parts of a print are too unlike to be candidates; the second one that comes meets the first by the print."""
    whole = scene(1)
    parts = {"left.png": whole.crop((0, 0, 290, 360)), "right.png": whole.crop((190, 0, 480, 360)), "whole.png": whole}
    encoder = load_encoder(BUILTIN, "cpu")
    vectors = encoder.encode(list(parts.values()))
    alike = sorted((float(vectors[a] @ vectors[b]), a, b) for a, b in combinations(range(3), 2))
    threshold = (alike[0][0] + alike[1][0]) / 2
    names = list(parts)
    new, old = names[alike[0][1]], names[alike[0][2]]
    between = next(name for name in names if name not in {new, old})
    archive, out = tmp_path / "archive", tmp_path / "out"
    photos = archive / "photos"
    photos.mkdir(parents=True)
    seen: list[Watched] = []
    for saved in ((old, between), (new,)):
        for name in saved:
            parts[name].save(photos / name)
        verification = Verification(None)
        seen.append(
            watch(archive, out, PrepareSettings(), encoder, threshold, lambda _: None, verification=verification)
        )
    first, second = seen
    assert {frozenset(pair[:2]) for pair in named(first)} == {frozenset({old, between})}
    assert named(second) == [(new, between, "no"), (new, old, "no")]
    assert [pair.inliers is not None and pair.inliers > 20 for pair in second.pairs] == [True, True]


def test_a_photo_that_a_verdict_holds_in_a_group_is_told_with_it(tmp_path: Path) -> None:
    """It is no near-duplicate of the new photo, and a person said that it belongs to one of the others."""
    archive, encoder, decision = tmp_path / "archive", load_encoder(BUILTIN), Decision.load(SHIPPED)
    photos = archive / "photos"
    photos.mkdir(parents=True)
    scene(1).save(photos / "a.png")
    Image.new("L", (480, 360), 128).save(photos / "held.png")
    judged = PairVerdicts(together=[ordered(digest_file(photos / "a.png"), digest_file(photos / "held.png"))])
    verification = Verification(decision, judged)
    for _ in range(2):
        places = archive, tmp_path / "out", PrepareSettings()
        watched = watch(*places, encoder, 0.5, lambda _: None, verification=verification)
        ImageOps.mirror(scene(1)).save(photos / "new.png")
    names = ["photos/new.png", "photos/a.png", "photos/held.png"]
    (group,), (report,) = watched.groups, watched.reports
    assert ([member.path for member in group], group[2].similarity) == (names, None)
    assert {member.photo for member in report.members} == {member.row for member in group}
    assert watched.folder
    (sheet,) = read_workbook(watched.folder / "groups.xlsx")
    assert [[cell.text for cell in row if cell] for row in sheet.rows] == [names]
    assert "by a verdict" in (watched.folder / "gallery.html").read_text()


def test_the_candidates_of_new_photos_are_those_of_a_search_of_all(place: Place) -> None:
    """A known photo is held against a new one only where no twenty others are nearer, known ones among them."""
    names = [f"{number:02}.png" for number in range(32)]
    for path in (place.root / "photos").iterdir():
        path.unlink()
    late = names[4::9]
    for part in (set(names) - set(late), late):
        for name in part:
            place.photo(name, 5 * int(name[:2]))
        verification = Verification(None)
        watched = watch(
            place.root, place.out, PrepareSettings(), Needle(), -1.0, lambda _: None, verification=verification
        )
    encoder = Needle()
    vectors = encoder.encode([encoder.read(place.root / "photos" / name) for name in names])
    nearest = near_pairs(vectors, np.arange(len(names)), -1.0).nearest(CANDIDATES)
    pairs = zip(nearest.left.tolist(), nearest.right.tolist(), strict=True)
    expected = {frozenset((names[a], names[b])) for a, b in pairs if {names[a], names[b]} & set(late)}
    assert watched.verified
    assert len(watched.pairs) == watched.verified.counts["verified"] == len(expected)
    assert {frozenset(pair[:2]) for pair in named(watched)} == expected
    assert {pair[0] for pair in named(watched)} == set(late)
