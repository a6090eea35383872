"""How the cost of photos grows with their number: encoded into a store from nothing, and a thousand new ones added."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from encoding import on_cores, random_checkpoint
from jpegs import SMALL, made_jpegs
from rates import Measured, measured
from tqdm import tqdm
from transformers import CLIPConfig

from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection
from neardup.encode.encoder import load_encoder
from neardup.encode.files import encode_files

COUNTS = (1000, 10_000, 100_000, 1_000_000)
NEW = 1000
SOURCES = 768
FOLDER = 1000
"""Photos in one folder."""
SHALLOW = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
COLUMNS = 512


def measure_growth(photos: Path, work: Path) -> list[Measured]:
    """A thousand photos to a million, and a thousand more; with one thread about an hour.

    A photo is another name (hard link) of one of 768 JPEG files, so that reading comes from memory, and neither disk
    nor network is measured. The encoder has vectors of the usual length and one thin layer: what it costs does not
    depend on how many photos there are, and would hide what does.
    """
    sources = made_jpegs(photos, work / "jpegs", SOURCES, SMALL)
    config = CLIPConfig(text_config=SHALLOW, vision_config=SHALLOW, projection_dim=COLUMNS)
    encoder = random_checkpoint(work / "shallow", config)
    task = f"encode JPEG files of {SMALL[0]} × {SMALL[1]} into a store, by a CLIP of one thin layer"
    once = partial(measured, passes=1, warm=False)
    encode, add = partial(once, task), partial(once, f"add {NEW:,} of them")
    found = []
    for count in COUNTS:
        folder = named(sources, work / "growth" / f"{count}", count)
        store = str(work / "growth" / f"{count}-store")
        found += [
            encode(f"neardup, {count:,} photos", "photos", count, on_cores, 1, encoded, encoder, folder, store),
            add(f"neardup, to {count:,}", "photos", NEW, on_cores, 1, added, encoder, sources, folder, store),
        ]
    found.append(encode(f"the encoder alone, {NEW:,} photos", "photos", NEW, on_cores, 1, alone, encoder, sources))
    return sorted(found, key=lambda one: one.task != task)


def named(sources: Sequence[Path], folder: Path, count: int) -> Path:
    """A folder with so many photos in subfolders, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    _name(sources, folder, range(count))
    return folder


def _name(sources: Sequence[Path], folder: Path, numbers: range) -> None:
    for number in numbers:
        inside = folder / f"{number // FOLDER:06d}"
        inside.mkdir(parents=True, exist_ok=True)
        os.link(sources[number % len(sources)], inside / f"{number:09d}.jpg")


def encoded(encoder: Path, folder: Path, store: str) -> Callable[[], object]:
    """All photos, from an empty store."""
    shutil.rmtree(store, ignore_errors=True)
    collection = _open(encoder, folder, store)
    return lambda: _encode(collection)


def added(encoder: Path, sources: Sequence[Path], folder: Path, store: str) -> Callable[[], str]:
    """New photos among known ones; the note says how long it took to tell which they are."""
    collection, count = _open(encoder, folder, store), sum(1 for _ in folder.rglob("*.jpg"))
    _name(sources, folder, range(count, count + NEW))

    def work() -> str:
        start = time.perf_counter()
        shards = list(_new(collection))
        seconds = time.perf_counter() - start
        for paths in shards:
            encode_shard(collection, paths)
        return f"{seconds:.1f} s to find them, {time.perf_counter() - start:.1f} s in all"

    return work


def alone(checkpoint: Path, sources: Sequence[Path]) -> Callable[[], object]:
    """The limit: files become vectors, nothing is listed, looked up or kept."""
    encoder = load_encoder(str(checkpoint), "cpu")
    paths = [sources[number % len(sources)] for number in range(NEW)]
    return lambda: list(encode_files(encoder, paths))


def _open(encoder: Path, folder: Path, store: str) -> Collection:
    collection = open_collection(folder, store, str(encoder), "cpu", "fp32")
    encode_shard(collection, ())  # it loads the encoder, which is not clocked
    return collection


def _new(collection: Collection) -> Iterator[tuple[str, ...]]:
    return new_shards(collection, known(collection))


def _encode(collection: Collection) -> None:
    for paths in tqdm(_new(collection), "shards", unit="shard", disable=None):
        encode_shard(collection, paths)
