"""All near-duplicates of a folder: the same in whatever shards, slabs and workers, once, and again with what is new."""

import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Process, dask, neardup, start
from PIL import Image, ImageOps
from servers import environment, free_port

from neardup.builtin.scenes import Scene
from neardup.detect.duplicate_tables import write_duplicates
from neardup.detect.duplicates import Duplicates, duplicates
from neardup.detect.watch import watch
from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection, present, unreadable
from neardup.encode.encoder import load_encoder
from neardup.encode.shards import SHARDS
from neardup.encode.vectors import embed
from neardup.errors import ConfigError, EncoderError
from neardup.search.all_pairs import near_pairs
from neardup.search.blocks import Triangle, open_triangle, search_block
from neardup.search.exact_copies import KINDS, NEAR
from neardup.settings.schema import ClusterSettings, PrepareSettings, Settings
from neardup.verify.evidence import ordered
from neardup.verify.store import EVIDENCE
from tasks import duplicates as steps
from tasks.cluster import AHEAD, spread, workers
from tasks.duplicates import threshold_of
from tasks.watch import look_for_new

THRESHOLD = 0.9
SCENES = 12
Opened = Callable[[Path, Path], Collection]
"""What opens a folder of photos and its store."""


def draw(folder: Path, scenes: int) -> Path:
    """Scenes, each with a mirrored copy of every third one and a paler copy of every second one, and a broken file."""
    for number in range(scenes):
        at = folder / f"issue {number % 3}"
        at.mkdir(parents=True, exist_ok=True)
        scene = Scene.of(number).image
        scene.save(at / f"{number:03d}.jpg", quality=92)
        if number % 3 == 0:
            ImageOps.mirror(scene).save(at / f"{number:03d} mirrored.jpg")
        if number % 2 == 0:
            scene.point(lambda value: 40 + value * 3 // 4).save(at / f"{number:03d} pale.png")
    (folder / "issue 0" / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, six to twelve of them copies."""
    return draw(tmp_path_factory.mktemp("photos"), SCENES)


@pytest.fixture(scope="module")
def opened(small_encoder: str) -> Opened:
    """What opens a folder and its store."""
    return lambda folder, store: open_collection(folder, str(store), small_encoder, "cpu", "fp32")


def searched(collection: Collection, *, shard: int = 1000, slab: int = 1000) -> tuple[Triangle, int]:
    """Encode what is new and search what was not searched; the triangle, and how many blocks that took."""
    for paths in new_shards(collection, known(collection), shard):
        encode_shard(collection, paths)
    triangle = open_triangle(collection, THRESHOLD, slab)
    blocks = triangle.blocks()
    for block in blocks:
        search_block(collection, THRESHOLD, block)
    return triangle, len(blocks)


def found(collection: Collection, **cut: int) -> Duplicates:
    """What a search gives in the end."""
    return duplicates(searched(collection, **cut)[0], present(collection))


def pairs_of(result: Duplicates) -> list[tuple[list[str], float]]:
    """Pairs by their paths, with the similarity to the last bit."""
    sides = zip(result.pairs.left, result.pairs.right, result.pairs.similarities, strict=True)
    return sorted((sorted((result.paths[i], result.paths[j])), float(s)) for i, j, s in sides)


def groups_of(result: Duplicates) -> list[list[str]]:
    """Groups by their paths."""
    return sorted(sorted(result.paths[row] for row in rows) for rows in result.groups)


def test_the_pairs_are_those_of_one_product(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Whatever the shards and the slabs, to the last bit, and the groups too."""
    whole = found(opened(photos, tmp_path / "whole"))
    triangle, _ = searched(opened(photos, tmp_path / "whole"))
    vectors = triangle.vectors(np.arange(whole.photos))
    paths = [path for name in triangle.shards for path in whole.collection.vectors.read(name)["path"].to_pylist()]
    exact = near_pairs(vectors, np.arange(len(vectors)), THRESHOLD)
    sides = zip(exact.left, exact.right, exact.similarities, strict=True)
    assert sorted((sorted((paths[i], paths[j])), float(s)) for i, j, s in sides) == pairs_of(whole)
    assert len(pairs_of(whole)) >= SCENES // 3
    small = found(opened(photos, tmp_path / "small"), shard=3, slab=7)
    assert pairs_of(small) == pairs_of(whole)
    assert groups_of(small) == groups_of(whole)


def test_of_the_nearest_those_of_the_whole_collection_stay(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Each block gives those that are nearest in it, which are more."""
    collection = opened(photos, tmp_path / "store")
    searched(collection, shard=3)

    def near(most: int | None) -> Duplicates:
        triangle = open_triangle(collection, -1.0, 7, most)
        for block in triangle.blocks():
            search_block(collection, -1.0, block, most)
        result = duplicates(triangle, present(collection), grouped=False)
        return replace(result, pairs=result.pairs.take(result.kinds == NEAR))

    whole = near(None)
    nearest = whole.pairs.nearest(1)
    assert pairs_of(near(1)) == pairs_of(replace(whole, pairs=nearest))
    assert 0 < len(nearest.left) < len(whole.pairs.left)


def test_what_was_done_is_not_done_again(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """A second run has no shard to encode and no block to search."""
    collection = opened(photos, tmp_path)
    first = found(collection, shard=5, slab=10)
    assert list(new_shards(collection, known(collection))) == []
    triangle, blocks = searched(collection)
    assert blocks == 0
    assert pairs_of(duplicates(triangle, present(collection))) == pairs_of(first)


def test_an_added_photo_is_compared_with_all_and_nothing_else_is(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """One more shard and its blocks; the result is that of a search from nothing."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    collection = opened(folder, tmp_path / "store")
    old, _ = searched(collection, shard=5, slab=10)
    Scene.of(1).image.convert("L").save(folder / "added.png")
    assert list(new_shards(collection, known(collection))) == [("added.png",)]
    new, blocks = searched(collection, shard=5, slab=10)
    assert blocks == len(new.slabs) == len(old.slabs) + 1
    again = duplicates(new, present(collection))
    assert pairs_of(again) == pairs_of(found(opened(folder, tmp_path / "other")))
    assert "added.png" in again.paths


def test_a_file_that_changed_or_went_away_counts_as_it_is_now(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """No pair with a deleted file, none with a picture that was replaced."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    collection = opened(folder, tmp_path / "store")
    found(collection)
    (folder / "issue 0" / "000 mirrored.jpg").unlink()
    Scene.of(99).image.save(folder / "issue 0" / "000 pale.png")
    again = found(collection)
    assert pairs_of(again) == pairs_of(found(opened(folder, tmp_path / "other")))
    assert not {"issue 0/000 mirrored.jpg", "issue 0/000 pale.png"} & set(again.paths)


def test_an_unreadable_file_is_listed_and_not_tried_again(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """With its reason; once mended it is a photo."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    collection = opened(folder, tmp_path / "store")
    (broken,) = found(collection).unreadable
    assert broken.path == "issue 0/broken.jpg"
    assert "image" in broken.reason
    assert list(new_shards(collection, known(collection))) == []
    Scene.of(50).image.save(folder / "issue 0" / "broken.jpg")
    mended = found(collection)
    assert (mended.unreadable, mended.photos) == ((), found(opened(photos, tmp_path / "other")).photos + 1)


def test_images_that_are_left_out_as_pages_are_counted(small_encoder: str, photos: Path, tmp_path: Path) -> None:
    """Whoever calls the folder of photographs so has lost none without a word."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "issue 0").rename(folder / "pages")
    number = len(list((folder / "pages").iterdir()))
    result = found(open_collection(folder, str(tmp_path / "store"), small_encoder, "cpu", "fp32", PrepareSettings()))
    assert f"; {number} images in folders called pages left out" in result.summary
    assert result.facts()["pages_left_out"] == number


def test_a_file_whose_name_is_not_utf8_is_listed_as_unreadable(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """The search goes on without it and warns nobody in the words of a programmer."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(folder / "issue 0" / "000.jpg", os.fsencode(folder) + b"/\xe9.jpg")
    collection = opened(folder, tmp_path / "store")
    here, (triangle, _) = present(collection), searched(collection)
    shutil.rmtree(folder)  # which need not be walked through again
    reasons = {entry.path: entry.reason for entry in duplicates(triangle, here).unreadable}
    assert list(reasons) == ["\\xe9.jpg", "issue 0/broken.jpg"]
    assert "not UTF-8" in reasons["\\xe9.jpg"]


def test_a_file_that_cannot_be_looked_at_is_listed(
    opened: Opened, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is longer than the system takes, though its folder can be listed."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(folder)
    while (room := 4090 - len(os.fsencode(Path.cwd())) - 1) > 0:
        name = "d" * (250 if room > 500 else room if room <= 250 else 200)
        Path(name).mkdir()
        os.chdir(name)
    Path("photo.png").touch()
    collection = opened(folder, tmp_path / "store")
    reasons = {path[-9:]: reason for path, reason in unreadable(collection, present(collection)).items()}
    assert reasons == {"photo.png": "the file cannot be looked at (File name too long)"}


def test_a_photo_that_changes_in_place_is_encoded_again(opened: Opened, tmp_path: Path) -> None:
    """Also where its size stays the same: its time tells."""
    folder = tmp_path / "photos"
    folder.mkdir()
    first, second = (Scene.of(seed).image.resize((300, 200)) for seed in (1, 2))
    for name in ("a.bmp", "b.bmp"):
        first.save(folder / name)
    collection = opened(folder, tmp_path / "store")
    assert len(pairs_of(found(collection))) == 1
    before = (folder / "b.bmp").stat()
    second.save(folder / "b.bmp")
    os.utime(folder / "b.bmp", ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    assert (folder / "b.bmp").stat().st_size == before.st_size
    assert list(new_shards(collection, known(collection))) == [("b.bmp",)]
    assert pairs_of(found(collection)) == []


def archive_of(folder: Path, *paths: str) -> Path:
    """A folder with one scene at all of these paths."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Scene.of(1).image.save(folder / path)
    return folder


@pytest.mark.parametrize(
    ("paths", "settings", "photos", "rule"),
    [
        (["x/photos/a.png", "x/pages/b.png", "c.png"], PrepareSettings(), {"x/photos/a.png"}, "matches **/photos/**"),
        (["a.png", "x/b.png", "x/pages/c.png"], PrepareSettings(), {"a.png", "x/b.png"}, "photos are all images"),
        (["a.png", "x/b.png"], PrepareSettings(photos=("x/*",)), {"x/b.png"}, "matches x/*"),
        (["a.png", "x/b.png"], PrepareSettings(photos=("y/*",)), set(), "matches y/*"),
        (["x/photos/pages/a.png", "b.png"], PrepareSettings(), set(), "matches **/photos/**"),
    ],
)
def test_the_settings_say_what_a_photo_is(
    small_encoder: str, tmp_path: Path, paths: list[str], settings: PrepareSettings, photos: set[str], rule: str
) -> None:
    """Pages never are; in a plain folder, for which nothing was set, every other image is; one line says which."""
    folder = archive_of(tmp_path / "photos", *paths)
    collection = open_collection(folder, str(tmp_path / "store"), small_encoder, "cpu", "fp32", settings)
    assert {path for shard in new_shards(collection, known(collection)) for path in shard} == photos
    others = {1: ", and 1 other image is left out;", 2: ", and 2 other images are left out;"}.get(
        len(paths) - len(photos), ""
    )
    assert rule in collection.rule
    assert others in collection.rule
    assert ("left out" in collection.rule) == bool(others)
    assert "\n" not in collection.rule


def every_pair(result: Duplicates) -> set[frozenset[str]]:
    """All pairs of files: those that stand for others are put in their place."""
    stands_for = {path: {path} for path in result.paths}
    sides = zip(result.pairs.left.tolist(), result.pairs.right.tolist(), result.kinds.tolist(), strict=True)
    named = [(result.paths[i], result.paths[j], KINDS[kind]) for i, j, kind in sides]
    for kind in ("exact copy", "equal vectors"):
        for left, right, what in named:
            if what == kind:
                stands_for[left] |= stands_for[right]
    return {frozenset(pair) for files in stands_for.values() for pair in combinations(files, 2)} | {
        frozenset((a, b)) for left, right, _ in named for a in stands_for[left] for b in stands_for[right] if a != b
    }


def test_copies_stand_for_all_that_brute_force_finds(
    opened: Opened, small_encoder: str, photos: Path, tmp_path: Path
) -> None:
    """Equal bytes and equal pixels in other bytes, in whatever shards; a group holds all files of its pictures."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    for number in range(5):
        shutil.copy(folder / "issue 0" / "000.jpg", folder / f"copy {number}.jpg")
        Scene.of(20).image.save(folder / f"level {number}.png", compress_level=number)
        shutil.copy(folder / f"level {number}.png", folder / "issue 1" / f"level {number}.png")
    whole = found(opened(folder, tmp_path / "whole"))
    with pytest.warns(UserWarning, match="left out issue 0/broken.jpg"):
        gallery = embed(folder, small_encoder, store=tmp_path / "whole")
    wide = gallery.vectors.astype(np.float64)
    near = np.argwhere(np.triu(wide @ wide.T >= THRESHOLD, 1))
    assert every_pair(whole) == {frozenset((gallery.paths[i], gallery.paths[j])) for i, j in near.tolist()}
    assert (whole.copies, whole.facts()["exact_copies"]) == (10, 10)
    assert "exact copies 10" in whole.summary
    small = found(opened(folder, tmp_path / "small"), shard=3, slab=7)
    assert (pairs_of(small), groups_of(small)) == (pairs_of(whole), groups_of(whole))
    levels = {f"{at}level {number}.png" for at in ("", "issue 1/") for number in range(5)}
    assert [levels & set(group) for group in groups_of(whole) if levels & set(group)] == [levels]


def test_pairs_that_close_triangles_take_their_place(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """With the similarity of their vectors; of equal files the first one stands for all."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(folder / "issue 0" / "000.jpg", folder / "zz copy.jpg")
    result = found(opened(folder, tmp_path / "store"))
    ends = [result.paths.index(path) for path in ("issue 0/000.jpg", "issue 1/004.jpg")]
    assert result.path_of[result.contents[ends[0]]] == "issue 0/000.jpg"
    more = result.with_closing([ordered(*(result.contents[end] for end in ends))])
    one, other = result.triangle.vectors(result.rows[np.array(ends)]).astype(np.float64)
    before = {
        tuple(pair): kind for *pair, kind in zip(result.pairs.left, result.pairs.right, result.kinds, strict=True)
    }
    after = {tuple(pair): kind for *pair, kind in zip(more.pairs.left, more.pairs.right, more.kinds, strict=True)}
    assert after == before | {tuple(ends): NEAR}
    (place,) = np.flatnonzero((more.pairs.left == ends[0]) & (more.pairs.right == ends[1]))
    assert more.pairs.similarities[place] == pytest.approx(one @ other, abs=1e-6)
    assert np.array_equal(more.pairs.order(), np.arange(len(after)))


def test_a_group_begins_with_what_is_no_copy(opened: Opened, tmp_path: Path) -> None:
    """Exact copies come last, whatever they are called, and are not counted among the pairs that are near."""
    folder = archive_of(tmp_path / "photos", "b.png")
    shutil.copy(folder / "b.png", folder / "a.png")
    shutil.copy(folder / "b.png", folder / "c.png")
    Scene.of(1).image.save(folder / "d.png", compress_level=0)
    result = found(opened(folder, tmp_path / "store"))
    assert [[result.paths[row] for row in group] for group in result.groups] == [["a.png", "d.png", "b.png", "c.png"]]
    assert (result.facts()["pairs"], result.facts()["exact_copies"]) == (1, 2)


def test_thousands_of_copies_take_as_many_rows(opened: Opened, tmp_path: Path) -> None:
    """One vector, one row a copy, in the tables and in memory; the page says how many more there are."""
    folder = archive_of(tmp_path / "photos", "a.png", "b.png")
    Image.new("RGB", (8, 8), "grey").save(folder / "missing 0.png")
    data = (folder / "missing 0.png").read_bytes()
    for number in range(1, 5_000):
        (folder / f"missing {number}.png").write_bytes(data)
    tracemalloc.start()
    result = found(opened(folder, tmp_path / "store"))
    write_duplicates(result, tmp_path / "out" / "duplicates")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.photos, result.copies, len(result.groups), len(result.pairs.left)) == (5_002, 5_000, 2, 5_000)
    assert peak < 100e6  # all pairs of them alone would take 200 MB
    table = pd.read_parquet(tmp_path / "out" / "duplicates" / "pairs.parquet")
    assert table["kind"].value_counts().to_dict() == {"exact copy": 5_000}
    groups = pd.read_parquet(tmp_path / "out" / "duplicates" / "groups.parquet")
    assert groups["exact_copy_of"].value_counts().to_dict() == {"missing 0.png": 4_999, "a.png": 1}


def test_a_content_that_two_workers_encoded_is_one(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Each wrote it into a shard of its own before it knew of the other's."""
    collection = opened(photos, tmp_path / "store")
    expected = found(collection)
    other = opened(shutil.copytree(photos, tmp_path / "photos"), tmp_path / "other")
    for paths in new_shards(other, known(other), 4):
        encode_shard(other, paths)
    for name in other.vectors.names(SHARDS):
        collection.vectors.write(name, other.vectors.read(name))
    assert len(collection.vectors.names(SHARDS)) > 1
    again = found(collection)
    assert (pairs_of(again), groups_of(again), again.facts()) == (
        pairs_of(expected),
        groups_of(expected),
        expected.facts(),
    )


@pytest.mark.parametrize("first_is_gone", [False, True])
def test_photos_of_a_shard_that_was_deleted_are_encoded_again(
    opened: Opened, tmp_path: Path, *, first_is_gone: bool
) -> None:
    """As the sentence about a broken shard advises; a copy, which no shard lists, has no other photo's vector."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Scene.of(number).image.save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "4 copy of 0.png")
    Scene.of(0).image.convert("L").save(folder / "5 grey.png")
    collection = opened(folder, tmp_path / "store")
    found(collection, shard=2)
    vectors = collection.vectors
    (shard,) = (name for name in vectors.names(SHARDS) if "0.png" in vectors.read(name)["path"].to_pylist())
    vectors.delete(shard)
    if first_is_gone:
        (folder / "0.png").unlink()
    again = found(collection)
    assert pairs_of(again) == pairs_of(found(opened(folder, tmp_path / "anew")))
    assert again.photos == len(list(folder.iterdir()))
    assert list(new_shards(collection, known(collection))) == []


def test_what_other_commands_encoded_is_not_encoded_again(
    opened: Opened, small_encoder: str, photos: Path, tmp_path: Path
) -> None:
    """`embed` and `watch` fill the store that this one searches, from other paths as well."""
    archive = tmp_path / "archive"
    shutil.copytree(photos, archive / "photos")
    watch(archive, tmp_path / "out", PrepareSettings(), load_encoder(small_encoder, "cpu"), THRESHOLD, lambda _: None)
    store = tmp_path / "out" / ".neardup" / "vectors"
    before = shards(store)
    with pytest.warns(UserWarning, match="left out issue 0/broken.jpg"):
        embed(archive / "photos", small_encoder, store=store)
    result = found(opened(archive, store))
    assert before
    assert shards(store) == before
    assert pairs_of(result) == [
        ([f"photos/{name}" for name in names], similarity)
        for names, similarity in pairs_of(found(opened(photos, store)))
    ]


def test_an_image_over_the_limit_is_tried_again_under_a_higher_one(
    opened: Opened, small_encoder: str, photos: Path, tmp_path: Path
) -> None:
    """It was unreadable for a setting, and not for itself."""
    low = PrepareSettings(max_pixels=10)
    small = open_collection(photos, str(tmp_path), small_encoder, "cpu", "fp32", low)
    assert found(small).photos == 0
    assert list(new_shards(small, known(small))) == []
    assert len(found(opened(photos, tmp_path)).unreadable) == 1


def test_a_copy_of_what_is_unreadable_is_listed_too(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """With the same reason."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(folder / "issue 0" / "broken.jpg", folder / "copy.jpg")
    one, other = found(opened(folder, tmp_path / "store")).unreadable
    assert (one.path, other.path, one.reason) == ("copy.jpg", "issue 0/broken.jpg", other.reason)


@pytest.mark.parametrize("fingerprint", ["0" * 64, None])
def test_the_threshold_is_that_of_the_very_encoder(small_encoder: str, tmp_path: Path, fingerprint: str | None) -> None:
    """What was measured with another model is refused, by both flows."""
    checkpoint = shutil.copytree(small_encoder, tmp_path / "tuned" / "checkpoint")
    ours = load_encoder(str(checkpoint), "cpu").fingerprint
    measured = {"threshold": 0.75, "fingerprint": fingerprint or ours}
    (checkpoint.parent / "metrics.json").write_text(json.dumps(measured))
    (tmp_path / "photos").mkdir()
    collection = open_collection(tmp_path / "photos", str(tmp_path / "store"), str(checkpoint), "cpu", "fp32")
    if fingerprint is None:
        assert threshold_of(collection, tmp_path, None) == 0.75
        return
    with pytest.raises(ConfigError, match=r"threshold|model|encoder"):
        threshold_of(collection, tmp_path, None)
    with pytest.raises(ConfigError, match=r"threshold|model|encoder"):
        look_for_new.fn(
            tmp_path / "photos", tmp_path / "out", Settings(device="cpu"), "tuned", str(checkpoint), None, verify=True
        )


def test_a_worker_with_another_encoder_is_refused(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Its vectors would not be comparable."""
    collection = replace(opened(photos, tmp_path), fingerprint="0" * 64)
    with pytest.raises(EncoderError, match="is another encoder on this worker"):
        encode_shard(collection, ["issue 0/000.jpg"])


def test_the_batch_is_measured_once(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """A store keeps the one that it began with, for equal photos have equal vectors only in passes of one size."""
    collection = opened(photos, tmp_path)
    collection.vectors.note("batch", 3)
    assert opened(photos, tmp_path).batch == 3


def test_a_folder_without_photos_has_no_pairs(opened: Opened, tmp_path: Path) -> None:
    """Nothing to encode, nothing to search, and files that say so."""
    (tmp_path / "empty").mkdir()
    result = found(opened(tmp_path / "empty", tmp_path / "store"))
    write_duplicates(result, tmp_path / "out" / "duplicates")
    assert (result.photos, result.groups) == (0, [])
    assert pd.read_parquet(tmp_path / "out" / "duplicates" / "pairs.parquet").empty


def test_results_are_of_one_run(opened: Opened, tmp_path: Path) -> None:
    """What a run that verified left is gone after one that did not; the evidence stays for the next that does."""
    (tmp_path / "empty").mkdir()
    result, folder = found(opened(tmp_path / "empty", tmp_path / "store")), tmp_path / "out" / "duplicates"
    write_duplicates(result, folder)
    names = {path.name for path in folder.iterdir()}
    (folder / "explained").mkdir()
    for name in (
        "explained.html",
        "explained/000000.png",
        "group_report.xlsx",
        "decoys.csv",
        "decision.json",
        EVIDENCE,
    ):
        (folder / name).write_text("of a former run")
    write_duplicates(result, folder)
    assert {path.name for path in folder.iterdir()} == {*names, EVIDENCE}


def test_a_killed_run_leaves_no_counts_of_the_former_one(opened: Opened, tmp_path: Path) -> None:
    """Tables of two runs are not taken for one result: what they were made with is told last."""
    (tmp_path / "empty").mkdir()
    result, folder = found(opened(tmp_path / "empty", tmp_path / "store")), tmp_path / "out" / "duplicates"
    write_duplicates(result, folder)
    with pytest.raises(TypeError):
        write_duplicates(replace(result, unreadable=None), folder)  # type: ignore[arg-type]
    assert (folder / "pairs.parquet").exists()
    assert not (folder / "duplicates.json").exists()


def test_the_files_say_the_same(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Parquet, Excel, JSON and the page hold the pairs and groups that were found."""
    result = found(opened(photos, tmp_path / "store"))
    folder = tmp_path / "out" / "duplicates"
    write_duplicates(result, folder)
    table, sheet = pd.read_parquet(folder / "pairs.parquet"), pd.read_excel(folder / "pairs.xlsx", engine="openpyxl")
    assert table[["photo", "partner"]].to_numpy().tolist() == sheet[["photo", "partner"]].to_numpy().tolist()
    assert len(table) == len(pairs_of(result))
    assert table["kind"].tolist() == sheet["kind"].tolist() == [KINDS[kind] for kind in result.kinds]
    rows = pd.read_parquet(folder / "groups.parquet")
    number_of = dict(zip(rows["photo"], rows["group"], strict=True))
    ends = [[number_of.get(photo, 0) for photo in pair] for pair in table[["photo", "partner"]].to_numpy().tolist()]
    shared = [left if left == right else 0 for left, right in ends]
    assert table["group"].fillna(0).tolist() == sheet["group"].fillna(0).tolist() == shared
    assert sorted(sorted(group["photo"]) for _, group in rows.groupby("group")) == groups_of(result)
    groups = pd.read_excel(folder / "groups.xlsx", header=None, engine="openpyxl")
    assert sorted(sorted(row.dropna()) for _, row in groups.iterrows()) == groups_of(result)
    assert json.loads((folder / "duplicates.json").read_text())["groups"] == len(result.groups)
    assert (folder / "gallery.html").read_text().count("<h2>") == len(result.groups)
    assert pd.read_csv(folder / "unreadable.csv")["path"].tolist() == ["issue 0/broken.jpg"]
    assert pd.read_excel(folder / "unreadable.xlsx", engine="openpyxl")["file"].tolist() == ["issue 0/broken.jpg"]


def test_a_photo_that_went_away_since_the_search_has_no_picture(opened: Opened, photos: Path, tmp_path: Path) -> None:
    """Deleted or broken before the results are written, it is in them all the same, by its name and label alone."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    result = found(opened(folder, tmp_path / "store"))
    gone, broken, *_ = (result.paths[row] for group in result.groups for row in group)
    (folder / gone).unlink()
    (folder / broken).write_bytes(b"no photo")
    write_duplicates(result, tmp_path / "out" / "duplicates")
    assert json.loads((tmp_path / "out" / "duplicates" / "duplicates.json").read_text())["groups"] == len(result.groups)
    page = (tmp_path / "out" / "duplicates" / "gallery.html").read_text()
    assert (page.count(", no picture"), page.count('src=""')) == (2, 2)
    assert {gone, broken} <= set(pd.read_parquet(tmp_path / "out" / "duplicates" / "groups.parquet")["photo"])


def test_progress_is_told_where_nothing_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of a shard may have gone away since they were listed: nobody knows then how long the rest will take."""
    monkeypatch.setattr(steps, "REPORT_EVERY", 0.0)
    lines: list[str] = []
    steps._Progress("encoded", "photos", 3, lines.append).add(0)
    assert lines == ["encoded 0 of 3 photos, 0 a second"]


def test_calls_are_drawn_as_there_is_room_for_them() -> None:
    """A collection of millions is not held as calls: a few wait for each that runs, and results come in order."""

    class AtOnce:
        """What runs a task when it is submitted, and hands its result out later."""

        def submit(self, task: Callable[..., int], call: dict[str, int]) -> "Future[int]":
            """Run it."""
            done = Future[int]()
            done.set_result(task(**call))
            return done

    drawn: list[int] = []
    calls = ({"number": number} for number in range(100) if not drawn.append(number))
    results = spread(AtOnce(), lambda number: number, calls, 2)  # type: ignore[arg-type]
    assert (next(results), len(drawn), list(results)) == (0, 2 * AHEAD, list(range(1, 100)))


def test_a_scheduler_needs_dask() -> None:
    """Threads have none: one sentence says what to do."""
    asked = ClusterSettings(scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match="say runner = dask"), workers(asked):
        pass


def arguments(folder: Path, out: Path, encoder: str, *more: object) -> list[object]:
    """What a user types behind `neardup`, with a threshold of its own."""
    return ["duplicates", folder, "--out", out, "--encoder", encoder, "--threshold", THRESHOLD, *more]


def shards(out: Path) -> dict[str, int]:
    """The shards of a folder of results, with the time at which each was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.rglob("shard-*.parquet")}


def begun(store: Path, running: Process) -> dict[str, int]:
    """Wait until a command has written two shards into a store; these."""
    while len(shards(store)) < 2 and running.poll() is None:
        time.sleep(0.02)
    return shards(store)


def rows(store: Path) -> dict[str, bytes]:
    """Each photo's vector as it lies in the store; a photo that lies there twice is an error."""
    seen: dict[str, bytes] = {}
    for path in store.rglob("shard-*.parquet"):
        table = pd.read_parquet(path)
        for name, vector in zip(table["path"], table["vector"], strict=True):
            assert name not in seen, f"{name} was encoded twice"
            seen[name] = np.asarray(vector, np.float32).tobytes()
    return seen


@contextmanager
def dask_cluster(folder: Path, **servers: str) -> Iterator[tuple[str, list[Process]]]:
    """A scheduler and two workers of one thread, each a process, on loopback."""
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    here = ("--host", "127.0.0.1", "--no-dashboard")
    commands = [("scheduler", "--port", port, *here)]
    commands += [("worker", address, "--nthreads", "1", "--no-nanny", *here)] * 2
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = environment(**one_core, **servers)
    processes = [Process(dask, *command, cwd=folder, env=env) for command in commands]
    try:
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_two_dask_workers_one_of_them_killed_give_what_one_thread_gives(
    small_encoder: str, team: dict[str, str], tmp_path: Path
) -> None:
    """The same vectors and pairs to the last bit, nothing lost, nothing twice; the one thread was killed once, too.

    The last bits depend on the batch, which each store measures for itself: the cluster's begins with the other's.
    """
    folder = draw(tmp_path / "photos", 40)
    (tmp_path / "neardup.toml").write_text("[cluster]\nshard = 4\nslab = 32\n")
    common = (small_encoder, "--config", tmp_path / "neardup.toml", "--json")
    on_one, on_many = (arguments(folder, tmp_path / out, *common) for out in ("alone", "many"))
    vectors = tmp_path / "alone" / ".neardup" / "vectors"
    dying = start(*on_one, cwd=tmp_path, **team)
    before = begun(vectors, dying)
    dying.kill()
    alone = neardup(*on_one, cwd=tmp_path, **team)
    assert alone.returncode == 0, alone.stderr
    store = tmp_path / "store"
    shutil.copytree(vectors, store, ignore=shutil.ignore_patterns("*.parquet", "slabs-*"))
    with dask_cluster(tmp_path, **team) as (address, workers):
        cluster = ("--runner", "dask", "--scheduler", address, "--workers", 2, "--store", store)
        running = start(*on_many, *cluster, cwd=tmp_path, **team)
        begun(store, running)
        workers[0].kill()
        many = running.ended()
    assert before.items() <= shards(tmp_path / "alone").items()
    assert many.returncode == 0, many.stderr
    facts, expected = json.loads(many.stdout), json.loads(alone.stdout)
    assert {**facts, "folder": expected["folder"]} == expected
    assert rows(store) == rows(vectors)
    tables = [(tmp_path / out / "duplicates" / "pairs.parquet") for out in ("alone", "many")]
    one, many_pairs = (pd.read_parquet(table).sort_values(["photo", "partner"], ignore_index=True) for table in tables)
    pd.testing.assert_frame_equal(one, many_pairs, check_exact=True)


def test_the_fingerprint_of_a_collection_is_its_encoders(
    opened: Opened, small_encoder: str, photos: Path, tmp_path: Path
) -> None:
    """Whatever the folder and the store."""
    assert opened(photos, tmp_path).fingerprint == load_encoder(small_encoder).fingerprint
