"""All near-duplicates of a folder: the same in whatever shards, slabs and workers, once, and again with what is new."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ImageOps
from servers import BIN, environment, free_port, prefect_server

from neardup.builtin.scenes import Scene
from neardup.duplicates import Duplicates, duplicates
from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection, present
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ConfigError, EncoderError
from neardup.search.blocks import Triangle, gather, open_triangle, search_block
from neardup.search.pairs import near_pairs
from neardup.settings.schema import ClusterSettings
from tasks.cluster import workers

THRESHOLD = 0.9
SCENES = 12


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


def opened(folder: Path, store: Path) -> Collection:
    """A folder and its store, with the encoder that is shipped."""
    return open_collection(folder, str(store), BUILTIN, "cpu", "fp32")


def searched(collection: Collection, *, shard: int = 1000, slab: int = 1000) -> tuple[Triangle, int]:
    """Encode what is new and search what was not searched; the triangle, and how many blocks that took."""
    for paths in new_shards(collection, known(collection), shard):
        encode_shard(collection, paths)
    triangle = open_triangle(collection, THRESHOLD, slab)
    blocks = triangle.blocks()
    for i, j in blocks:
        search_block(collection, THRESHOLD, len(triangle.slabs), i, j)
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


def test_the_pairs_are_those_of_one_product(photos: Path, tmp_path: Path) -> None:
    """Whatever the shards and the slabs, to the last bit, and the groups too."""
    whole = found(opened(photos, tmp_path / "whole"))
    vectors, paths = gather(searched(opened(photos, tmp_path / "whole"))[0], np.arange(whole.photos))
    exact = near_pairs(vectors, np.arange(len(vectors)), THRESHOLD)
    sides = zip(exact.left, exact.right, exact.similarities, strict=True)
    assert sorted((sorted((paths[i], paths[j])), float(s)) for i, j, s in sides) == pairs_of(whole)
    assert len(pairs_of(whole)) >= SCENES // 3
    small = found(opened(photos, tmp_path / "small"), shard=3, slab=7)
    assert pairs_of(small) == pairs_of(whole)
    assert groups_of(small) == groups_of(whole)


def test_what_was_done_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    """A second run has no shard to encode and no block to search."""
    collection = opened(photos, tmp_path)
    first = found(collection, shard=5, slab=10)
    assert list(new_shards(collection, known(collection))) == []
    triangle, blocks = searched(collection)
    assert blocks == 0
    assert pairs_of(duplicates(triangle, present(collection))) == pairs_of(first)


def test_an_added_photo_is_compared_with_all_and_nothing_else_is(photos: Path, tmp_path: Path) -> None:
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


def test_a_file_that_changed_or_went_away_counts_as_it_is_now(photos: Path, tmp_path: Path) -> None:
    """No pair with a deleted file, none with a picture that was replaced."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    collection = opened(folder, tmp_path / "store")
    found(collection)
    (folder / "issue 0" / "000 mirrored.jpg").unlink()
    Scene.of(99).image.save(folder / "issue 0" / "000 pale.png")
    again = found(collection)
    assert pairs_of(again) == pairs_of(found(opened(folder, tmp_path / "other")))
    assert not {"issue 0/000 mirrored.jpg", "issue 0/000 pale.png"} & set(again.paths)


def test_an_unreadable_file_is_listed_and_not_tried_again(photos: Path, tmp_path: Path) -> None:
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


def test_a_worker_with_another_encoder_is_refused(photos: Path, tmp_path: Path) -> None:
    """Its vectors would not be comparable."""
    collection = replace(opened(photos, tmp_path), fingerprint="0" * 64)
    with pytest.raises(EncoderError, match="is another encoder on this worker"):
        encode_shard(collection, ["issue 0/000.jpg"])


def test_the_batch_is_measured_once(photos: Path, tmp_path: Path) -> None:
    """A store keeps the one that it began with, for equal photos have equal vectors only in passes of one size."""
    collection = opened(photos, tmp_path)
    collection.vectors.note("batch", 3)
    assert opened(photos, tmp_path).batch == 3


def test_a_folder_without_photos_has_no_pairs(tmp_path: Path) -> None:
    """Nothing to encode, nothing to search, and files that say so."""
    (tmp_path / "empty").mkdir()
    result = found(opened(tmp_path / "empty", tmp_path / "store"))
    result.write(tmp_path / "out" / "duplicates")
    assert (result.photos, result.groups) == (0, [])
    assert pd.read_parquet(tmp_path / "out" / "duplicates" / "pairs.parquet").empty


def test_the_files_say_the_same(photos: Path, tmp_path: Path) -> None:
    """Parquet, Excel, JSON and the page hold the pairs and groups that were found."""
    result = found(opened(photos, tmp_path / "store"))
    folder = tmp_path / "out" / "duplicates"
    result.write(folder)
    table, sheet = pd.read_parquet(folder / "pairs.parquet"), pd.read_excel(folder / "pairs.xlsx", engine="openpyxl")
    assert table[["photo", "partner"]].to_numpy().tolist() == sheet[["photo", "partner"]].to_numpy().tolist()
    assert len(table) == len(pairs_of(result))
    groups = pd.read_excel(folder / "groups.xlsx", header=None, engine="openpyxl")
    assert sorted(sorted(row.dropna()) for _, row in groups.iterrows()) == groups_of(result)
    assert json.loads((folder / "duplicates.json").read_text())["groups"] == len(result.groups)
    assert (folder / "gallery.html").read_text().count("<h2>") == len(result.groups)
    assert pd.read_csv(folder / "unreadable.csv")["path"].tolist() == ["issue 0/broken.jpg"]


def test_a_scheduler_needs_dask() -> None:
    """Threads have none: one sentence says what to do."""
    asked = ClusterSettings(scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match="say runner = dask"), workers(asked):
        pass


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The command that a user types, at a threshold of its own."""
    encoder = ("--encoder", BUILTIN, "--threshold", str(THRESHOLD))
    return [str(BIN / "neardup"), "duplicates", str(folder), "--out", str(out), *encoder, *more]


def run(folder: Path, out: Path, *more: str, **servers: str) -> dict[str, object]:
    """Run it to its end; its JSON."""
    ran = subprocess.run(
        command(folder, out, "--json", *more), env=environment(**servers), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def shards(out: Path) -> dict[str, int]:
    """The shards of a folder of results, with the time at which each was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.rglob("shard-*.parquet")}


def killed(folder: Path, out: Path, *more: str, **servers: str) -> dict[str, int]:
    """Begin it and kill it when some shards are written; these."""
    silent = subprocess.DEVNULL
    begun = subprocess.Popen(command(folder, out, *more), env=environment(**servers), stdout=silent, stderr=silent)
    while len(shards(out)) < 2 and begun.poll() is None:
        time.sleep(0.02)
    begun.kill()
    begun.wait()
    return shards(out)


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
def dask_cluster(folder: Path, **servers: str) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A scheduler and two workers of one thread, each a process, on loopback."""
    address = f"tcp://127.0.0.1:{free_port()}"
    # Loaded before they answer: on a busy machine the imports take longer than a connection waits.
    dask, quiet = str(BIN / "dask"), ["--no-dashboard", "--preload", "tasks.duplicates"]
    commands = [[dask, "scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], *quiet]]
    commands += [[dask, "worker", address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", *quiet]] * 2
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with ExitStack() as stack, (folder / "dask.log").open("w") as log:
        processes = [
            stack.enter_context(
                subprocess.Popen(line, env=environment(**one_core, **servers), stdout=log, stderr=log, cwd=folder)
            )
            for line in commands
        ]
        for process in processes:
            stack.callback(process.kill)
        yield address, processes[1:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_dask_workers_one_of_them_killed_give_what_one_thread_gives(tmp_path: Path) -> None:
    """The same vectors and pairs to the last bit, nothing lost, nothing twice; the one thread was killed once, too.

    The last bits depend on the batch, which each store measures for itself: the cluster's begins with the other's.
    """
    folder = draw(tmp_path / "photos", 60)
    (tmp_path / "neardup.toml").write_text("[cluster]\nshard = 4\nslab = 32\n")
    config = ("--config", str(tmp_path / "neardup.toml"))
    with prefect_server(tmp_path) as api:
        servers = {"PREFECT_API_URL": api}
        vectors = tmp_path / "alone" / ".neardup" / "vectors"
        before = killed(folder, tmp_path / "alone", *config, **servers)
        alone = run(folder, tmp_path / "alone", *config, **servers)
        store = tmp_path / "store"
        shutil.copytree(vectors, store, ignore=shutil.ignore_patterns("*.parquet", "slabs.json"))
        with dask_cluster(tmp_path, **servers) as (address, running):
            cluster = ("--runner", "dask", "--scheduler", address, "--workers", "2", "--store", str(store))
            asked = subprocess.Popen(
                command(folder, tmp_path / "many", "--json", *config, *cluster),
                env=environment(**servers),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            while len(shards(store)) < 2 and asked.poll() is None:
                time.sleep(0.05)
            running[0].send_signal(signal.SIGKILL)
            said, errors = asked.communicate()
    assert before.items() <= shards(tmp_path / "alone").items()
    assert asked.returncode == 0, errors
    assert {**json.loads(said), "folder": alone["folder"]} == alone
    assert rows(store) == rows(vectors)
    tables = [(tmp_path / out / "duplicates" / "pairs.parquet") for out in ("alone", "many")]
    one, many = (pd.read_parquet(table).sort_values(["photo", "partner"], ignore_index=True) for table in tables)
    pd.testing.assert_frame_equal(one, many, check_exact=True)


def test_the_encoder_of_the_fixture_is_the_shipped_one(photos: Path, tmp_path: Path) -> None:
    """A collection's fingerprint is its encoder's."""
    assert opened(photos, tmp_path).fingerprint == load_encoder(BUILTIN).fingerprint
