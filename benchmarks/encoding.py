"""Topics encode, shipped and growth: encoding JPEG files, compared with peers, and with growing numbers of files."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from rates import (
    SCAN,
    SHORT_SIDE,
    SMALL,
    Measured,
    Topics,
    made_jpegs,
    measured,
    on_cores,
    small_jpegs,
)
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionModelWithProjection

from neardup.arrays import Vectors
from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection
from neardup.encode.devices import cpu_has_bf16
from neardup.encode.encoder import BATCH, BUILTIN, CHECKPOINT, load_encoder
from neardup.encode.files import encode_files
from neardup.images import read_image
from neardup.settings.schema import Dtype

PHOTOS = 64
"""Photos in a pass of the topic encode: four batches, about seven seconds of ViT-B/32 on one core."""
PASSES = 2
"""Timed passes of the topic encode: fewer than elsewhere, as its 40 rows take 20 minutes even so."""
MANY = 96
"""Photos in a pass of the topic shipped, some half a second of the encoder that neardup ships."""
CORES = 2
"""Numbers of cores that are measured: all together, and one alone."""
DTYPES: tuple[Dtype, ...] = ("fp32", *(("bf16",) if cpu_has_bf16() else ()), "int8")
"""Number formats that neardup encodes in on this machine."""
COUNTS = (1000, 10_000, 100_000, 1_000_000)
"""Photos in the store of the topic growth, each ten times the one before; a million take half an hour and more."""
NEW = 1000
"""Photos that the topic growth adds to those of a store."""
SOURCES = 768
"""JPEG files that the photos of the topic growth are copies of, each with its number behind the picture."""
FOLDER = 1000
"""Photos in one folder of the topic growth: a file system is slow with a million names in one."""
SHALLOW = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
"""Configuration of the tower of the topic growth: one thin layer, so that encoding does not hide what grows."""
COLUMNS = 512
"""Length of the vectors of the topic growth, that of ViT-B/32."""
Work = Callable[[], object]
"""Function that is timed; a text that it returns becomes the note."""


class Pictures(Dataset[torch.Tensor]):
    """Files as the documentation of transformers and of open_clip reads them: decoded whole, then prepared."""

    def __init__(self, paths: Sequence[Path], prepare: Callable[[Image.Image], torch.Tensor]) -> None:
        """Keep the paths, and the function that makes of a picture its pixels: float32 (3, height, width)."""
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        """How many photos the data set has."""
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        """The prepared pixels of one photo: float32 (3, height, width)."""
        return self.prepare(Image.open(self.paths[row]).convert("RGB"))


class Processed:
    """An image processor that takes one picture; a class, so that it travels to the loader's processes."""

    def __init__(self, folder: Path) -> None:
        """Read the image processor of a checkpoint."""
        self.processor: Any = CLIPImageProcessor.from_pretrained(folder)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The normalised pixels: float32 (3, height, width)."""
        pixels: torch.Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels


def measure_encoding(photos: Path, work: Path) -> list[Measured]:
    """Measure ViT-B/32 with random weights, in about 18 minutes on two cores.

    Args:
        photos: folder with images/.
        work: folder for what is made on the way, which a second run takes from there.
    """
    folder = random_checkpoint(work / "vit-b-32", CLIPConfig())
    load_encoder(str(folder), "cpu", "int8")  # quantised once and kept, so that no row counts its memory
    results: list[Measured] = []
    for size in (SMALL, SCAN):
        paths = made_jpegs(photos, work / "jpegs", PHOTOS, size)
        reference = decoded_whole(str(folder), paths)
        for cores in range(1, min(CORES, len(os.sched_getaffinity(0))) + 1):
            task = f"ViT-B/32 from JPEG files of {size[0]} × {size[1]}, {cores} core{'s' * (cores > 1)}"
            rate = partial(_rate, task, cores)
            results += [rate(f"neardup, {one}", ours, str(folder), paths, one, reference) for one in DTYPES]
            results += [
                rate("the vision tower alone, its pixels ready", tower, folder),
                rate("transformers, a photo at a time", notebook, folder, paths),
                rate("transformers, DataLoader", batched, folder, paths),
                rate("open_clip, DataLoader", by_open_clip, paths),
                rate("imagededup, the same encoder", by_imagededup, folder, paths),
            ]
    return results


def measure_shipped(photos: Path, work: Path) -> list[Measured]:
    """Measure the encoder that neardup ships, from small files to scans, in more than four minutes."""
    load_encoder(BUILTIN, "cpu", "int8")  # quantised once and kept, so that no row counts its memory
    sources = sorted((photos / "images").iterdir())[:MANY]
    sets: dict[str, Sequence[Path]] = {f"{SHORT_SIDE} on the shorter side": small_jpegs(sources, work / "small")}
    sets |= {f"{size[0]} × {size[1]}": made_jpegs(photos, work / "jpegs", MANY, size) for size in (SMALL, SCAN)}
    results: list[Measured] = []
    for size, paths in sets.items():
        reference = decoded_whole(BUILTIN, paths)
        for cores in range(1, min(CORES, len(os.sched_getaffinity(0))) + 1):
            task = f"{BUILTIN} from JPEG files of {size}, {cores} core{'s' * (cores > 1)}"
            rate = partial(_rate, task, cores, count=len(paths))
            results += [rate(f"neardup, {one}", ours, BUILTIN, paths, one, reference) for one in ("fp32", "int8")]
            results.append(rate("transformers, a photo at a time", notebook, CHECKPOINT, paths))
    return results


def _rate(task: str, cores: int, method: str, make: Callable[..., Work], *inputs: Any, count: int = PHOTOS) -> Measured:
    """Clock one method on so many cores."""
    return measured(task, method, "photos", count, on_cores, cores, make, *inputs, passes=PASSES)


def random_checkpoint(folder: Path, config: CLIPConfig) -> Path:
    """A CLIP with random weights, as `save_pretrained` writes it; its last file says that the folder is complete."""
    if not (folder / "preprocessor_config.json").is_file():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessor().save_pretrained(folder)
    return folder


def decoded_whole(name: str, paths: Sequence[Path]) -> Vectors:
    """The vectors in fp32 of files that are decoded at their full size: float32 (n, d)."""
    return load_encoder(name, "cpu").encode([read_image(path) for path in paths])


def ours(name: str, paths: Sequence[Path], precision: Dtype, reference: Vectors) -> Work:
    """Neardup's pipeline; its note compares the vectors with fp32 vectors of photos that were decoded whole."""
    encoder = load_encoder(name, "cpu", precision)

    def work() -> str:
        vectors = np.stack([vector for _, vector in encode_files(encoder, paths) if isinstance(vector, np.ndarray)])
        least = float((vectors * reference).sum(axis=1).min())
        return f"cosine to fp32 after full decoding: at least {least:.5f}"

    return work


def tower(folder: Path) -> Work:
    """The upper limit of encoding: prepared batches go through the vision tower, and nothing else is done."""
    model: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = torch.randn(BATCH, 3, 224, 224)

    @torch.inference_mode()
    def work() -> None:
        for _ in range(PHOTOS // BATCH):
            model(pixel_values=pixels)

    return work


def notebook(folder: Path, paths: Sequence[Path]) -> Work:
    """One photo after the other, as the model card of CLIP does it."""
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    pictures = Pictures(paths, Processed(folder))

    @torch.inference_mode()
    def work() -> None:
        for row in range(len(pictures)):
            model.get_image_features(pixel_values=pictures[row][None])

    return work


def batched(folder: Path, paths: Sequence[Path]) -> Work:
    """Batches of a DataLoader whose processes, one a core, decode beside the model."""
    model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return _over(Pictures(paths, Processed(folder)), lambda pixels: model.get_image_features(pixel_values=pixels))


def by_open_clip(paths: Sequence[Path]) -> Work:
    """The DataLoader of open_clip with its own transform, as its documentation has it; its weights are random too."""
    import open_clip  # noqa: PLC0415 - here only, or the memory of the others would count it

    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    return _over(Pictures(paths, transform), model.eval().encode_image)


def by_imagededup(folder: Path, paths: Sequence[Path]) -> Work:
    """Imagededup on a folder; its encoder, which is a download, is replaced by ours as its documentation says."""
    from imagededup.methods import CNN  # noqa: PLC0415 - here only, or the memory of the others would count it
    from imagededup.utils import CustomModel  # noqa: PLC0415 - here only, or the memory of the others would count it

    model: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    holding = TemporaryDirectory()
    for path in paths:
        (Path(holding.name) / path.name).symlink_to(path.resolve())
    finder = CNN(verbose=False, model_config=CustomModel("ViT-B/32", _Features(model), Processed(folder)))

    def work() -> None:
        finder.encode_images(holding.name)

    return work


class _Features(torch.nn.Module):
    """A model that gives the vectors alone, as imagededup takes them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model(pixel_values=pixels).image_embeds
        return vectors


def _over(pictures: Pictures, encode: Callable[[torch.Tensor], object]) -> Work:
    # The processes of the loader live on from the pass that is not counted.
    loader = DataLoader(pictures, batch_size=BATCH, num_workers=torch.get_num_threads(), persistent_workers=True)

    @torch.inference_mode()
    def work() -> None:
        for pixels in loader:
            encode(pixels)

    return work


def measure_growth(photos: Path, work: Path) -> list[Measured]:
    """A thousand photos to a million, and a thousand more; with one thread about an hour.

    A photo is one of 768 JPEG files with its number behind the picture, so that no two have equal bytes, of which one
    would be encoded. Files are read from the page cache as far as memory allows. The encoder has one thin layer: an
    encoder's cost per photo does not grow, and would hide what does.
    """
    sources = made_jpegs(photos, work / "jpegs", SOURCES, SMALL)
    config = CLIPConfig(text_config=SHALLOW, vision_config=SHALLOW, projection_dim=COLUMNS)
    encoder = random_checkpoint(work / "shallow", config)
    task = f"encode JPEG files of {SMALL[0]} × {SMALL[1]} into a store, by a CLIP of one thin layer"
    once = partial(measured, passes=1, warm=False)
    encode, add = partial(once, task), partial(once, f"add {NEW:,} of them")
    results: list[Measured] = []
    for count in COUNTS:
        folder = named(sources, work / "growth" / f"{count}", count)
        store = str(work / "growth" / f"{count}-store")
        results += [
            encode(f"neardup, {count:,} photos", "photos", count, on_cores, 1, encoded, encoder, folder, store),
            add(f"neardup, to {count:,}", "photos", NEW, on_cores, 1, added, encoder, sources, folder, store),
        ]
    results.append(encode(f"the encoder alone, {NEW:,} photos", "photos", NEW, on_cores, 1, alone, encoder, sources))
    return sorted(results, key=lambda one: one.task != task)


def named(sources: Sequence[Path], folder: Path, count: int) -> Path:
    """Make a folder with so many photos in subfolders; an older one is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    _name(sources, folder, range(count))
    return folder


def _name(sources: Sequence[Path], folder: Path, numbers: range) -> None:
    for number in numbers:
        inside = folder / f"{number // FOLDER:06d}"
        inside.mkdir(parents=True, exist_ok=True)
        picture = sources[number % len(sources)].read_bytes()
        (inside / f"{number:09d}.jpg").write_bytes(picture + number.to_bytes(8, "big"))


def encoded(encoder: Path, folder: Path, store: str) -> Callable[[], object]:
    """Encode all photos of a folder into an empty store."""
    shutil.rmtree(store, ignore_errors=True)
    collection = _open(encoder, folder, store)
    return lambda: _encode(collection)


def added(encoder: Path, sources: Sequence[Path], folder: Path, store: str) -> Callable[[], str]:
    """Encode new photos among known ones; the note says how long it took to find which they are."""
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
    """The upper limit of growth: files are encoded, but nothing is listed, looked up or stored."""
    encoder = load_encoder(str(checkpoint), "cpu")
    paths = [sources[number % len(sources)] for number in range(NEW)]
    return lambda: list(encode_files(encoder, paths))


def _open(encoder: Path, folder: Path, store: str) -> Collection:
    collection = open_collection(folder, store, str(encoder), "cpu", "fp32")
    encode_shard(collection, ())  # loads the encoder, which is not clocked
    return collection


def _new(collection: Collection) -> Iterator[tuple[str, ...]]:
    return new_shards(collection, known(collection))


def _encode(collection: Collection) -> None:
    for paths in tqdm(_new(collection), "shards", unit="shard", disable=None):
        encode_shard(collection, paths)


TOPICS: Topics = {
    "encode": measure_encoding,
    "shipped": measure_shipped,
    "growth": measure_growth,
}
