"""Topics train, gpu, augment and excel: a step of fine-tuning, the copies that it sees, the sheet that lists them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import pandas as pd
import torch
from encoding import decoded_whole, random_checkpoint
from PIL import Image
from rates import SCAN, SMALL, Measured, Topics, made_jpegs, measured
from torchvision.io import decode_image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from neardup.archive.sheets import read_workbook
from neardup.arrays import Vectors
from neardup.builtin import tiny
from neardup.encode.batch import fastest_batch
from neardup.encode.devices import cpu_has_bf16
from neardup.encode.encoder import load_encoder
from neardup.encode.files import encode_files
from neardup.encode.protocol import BUILTIN
from neardup.encode.trainable import Trainable, load_trainable
from neardup.images import read_image
from neardup.settings.schema import Dtype, Recipe
from neardup.tables import write_table
from neardup.train.augment import augment
from neardup.train.batches import PLAIN, Captions, Example
from neardup.train.classic import AREA, DEGREES, JITTER, RATIO, SIDE, TORCHVISION, Reduced
from neardup.train.learner import Learner

BATCH = 32
"""Photos and captions in a step of training: half of the default, with which the plain loop takes 6.4 GB."""
TOKENS = 77
"""Longest text of CLIP, in tokens."""
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("neardup, all weights", {}),
    ("neardup, all weights, compiled", {"compiled": True}),
    *((("neardup, all weights, bf16", {"precision": "bf16"}),) if cpu_has_bf16() else ()),
    ("neardup, text tower frozen", {"frozen_text": True}),
    ("neardup, 6 of 12 layers frozen", {"frozen_layers": 6}),
    ("neardup, 10 of 12 layers frozen", {"frozen_layers": 10}),
    ("neardup, LoRA of rank 8", {"lora_rank": 8}),
)
"""Settings of each way in which neardup trains, by their names on the page."""
SHIPPED_WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("neardup, all weights", {}),
    ("neardup, text tower frozen", {"frozen_text": True}),
)
"""Settings of each way in which the shipped encoder, which has convolutions, is trained, by names on the page."""
VIT = "ViT-B/32"
"""The encoder of a benchmark that has CLIP's usual size, and random weights."""
GPU_PHOTOS = 1024
"""JPEG files in one pass of encoding on a GPU: a few seconds of it."""
GPU_DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
"""Number formats that a GPU encodes in."""
GPU_WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("neardup, fp32", {"precision": "fp32"}),
    ("neardup, bf16", {"precision": "bf16"}),
    ("neardup, bf16, compiled", {"precision": "bf16", "compiled": True}),
)
"""Settings of each way in which neardup trains on a GPU, by their names on the page."""
CAPTION_LENGTHS = (2.73, 0.7)
"""Mean and deviation of the logarithm of a caption's tokens: a median of 15, and a long tail.

Of the press archive that neardup was made for, 56 % of the legends have under 77 characters, some 17 tokens.
"""
COPIES = 5
"""Copies of each photo, the default of a recipe."""
AUGMENTED = {SMALL: 16, SCAN: 2}
"""Size → photos that are augmented; the peers take seconds for the copies of a scan."""
ROWS = 100_000
"""Rows of the Excel sheet, the size of a large archive's table."""
HEADER = ("image_name", "legend", "caption", "source", "copy")
"""Columns of `df_training_aug.xlsx`, the longest table that neardup writes."""
Row = tuple[str, str, str, str, int]


def measure_training(photos: Path, _work: Path) -> list[Measured]:
    """Clock one step of 32 photos and captions by one thread, after one that also fills what is kept between epochs.

    The plain loop and those of all weights learn the same but for rounding: their notes state the fourth step's loss.
    """
    files, found = training_files(photos), []
    for encoder, ways in ((VIT, WAYS), (BUILTIN, SHIPPED_WAYS)):
        task = f"a step of {BATCH} photos and captions, {encoder}, one thread"
        plain = "transformers, Adam, captions padded to 77"
        found.append(measured(task, plain, "photos", BATCH, by_notebook, files, encoder))
        found += [
            measured(task, name, "photos", BATCH, by_learner, files, encoder, settings) for name, settings in ways
        ]
    return found


def measure_gpu(photos: Path, work: Path) -> list[Measured]:
    """Clock encoding from files, all cores decoding, and a training step on a GPU; nothing where there is none.

    Args:
        photos: folder with images/.
        work: what is made on the way goes there and is not made again.
    """
    if not torch.cuda.is_available():
        return []
    folder = str(random_checkpoint(work / "vit-b-32", CLIPConfig()))
    paths = made_jpegs(photos, work / "jpegs", GPU_PHOTOS, SMALL)
    reference = decoded_whole(folder, paths)
    task = f"ViT-B/32 on a GPU from JPEG files of {SMALL[0]} × {SMALL[1]}"
    results = []
    for dtype, compiled in product(GPU_DTYPES, (False, True)):
        name = f"neardup, {dtype}{', compiled' * compiled}"
        results.append(
            measured(task, name, "photos", len(paths), encode_on_gpu, folder, paths, dtype, compiled, reference)
        )
    task = f"a step of {BATCH} photos and captions, ViT-B/32, on a GPU"
    files = training_files(photos)
    ways = [measured(task, name, "photos", BATCH, step_on_gpu, files, settings) for name, settings in GPU_WAYS]
    return [*results, *ways]


def encode_on_gpu(
    folder: str,
    paths: Sequence[Path],
    dtype: Dtype,
    compiled: bool,  # noqa: FBT001 - handed on by position
    reference: Vectors,
) -> Callable[[], object]:
    """The pipeline of neardup on the GPU; its note says how near the vectors are to those in fp32 of the CPU."""
    encoder = load_encoder(folder, "cuda", dtype, compiled=compiled)
    encoder.batch = fastest_batch(encoder)

    def work() -> str:
        vectors = np.stack([vector for _, vector in encode_files(encoder, paths) if isinstance(vector, np.ndarray)])
        least = float((vectors * reference).sum(axis=1).min())
        return f"batch {encoder.batch}, cosine to fp32 of the CPU: at least {least:.5f}, {_gpu_memory()}"

    return work


def step_on_gpu(files: Sequence[Path], settings: dict[str, Any]) -> Callable[[], object]:
    """A step of `neardup train` on the GPU."""
    step = by_learner(files, VIT, settings, "cuda")

    def work() -> str:
        note = step()
        torch.cuda.synchronize()
        return f"{note}, {_gpu_memory()}"

    return work


def _gpu_memory() -> str:
    """Say how much GPU memory this process held at most."""
    return f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB on the GPU"


def training_files(photos: Path) -> list[Path]:
    """The photos of a step."""
    return list(islice(cycle(sorted(photos.rglob("*.jpg"))), BATCH))


def by_notebook(files: Sequence[Path], encoder: str) -> Callable[[], object]:
    """A step of the tutorials' loop: all weights learn, the captions have the model's full length."""
    clip = _clip(encoder)
    texts = clip.tokenizer(_captions(), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    pixels = clip.image_processor([Image.open(file).convert("RGB") for file in files], return_tensors="pt")
    optimizer = torch.optim.Adam(clip.model.parameters(), lr=Recipe.lr, weight_decay=Recipe.weight_decay)

    def step() -> str:
        optimizer.zero_grad()
        loss = clip.model(**texts, **pixels, return_loss=True).loss
        torch.autograd.backward(loss)
        optimizer.step()
        return f"loss {loss.item():.5f}"

    return step


def by_learner(
    files: Sequence[Path], encoder: str, settings: dict[str, Any], device: str = "cpu"
) -> Callable[[], object]:
    """A step of `neardup train` with these settings of its recipe."""
    clip, captions = _clip(encoder), _captions()
    examples = [
        Example(file, sha256(file.read_bytes()).hexdigest(), caption, "")
        for file, caption in zip(files, captions, strict=True)
    ]
    recipe = Recipe(batch_size=BATCH, **settings)
    learner = Learner(examples, clip, Captions(clip.tokenizer, captions, TOKENS), recipe, device)
    optimizer = learner.optimizer()

    def step() -> str:
        for batch, photos in learner.load([range(BATCH)], PLAIN):
            optimizer.zero_grad()
            loss = learner.backward(batch, photos)
            optimizer.step()
        return f"loss {loss:.5f}"

    return step


def _clip(encoder: str) -> Trainable:
    """An encoder by its name, or a ViT-B/32 CLIP with random weights and the tokenizer of `builtin:tiny`."""
    torch.set_num_threads(1)
    if encoder != VIT:
        return load_trainable(encoder)
    torch.manual_seed(0)
    tokenizer = tiny.tokenizer()
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = CLIPModel(CLIPConfig(text_config=ids)).eval()
    return Trainable("random", model, tokenizer, CLIPImageProcessor())


def _captions() -> list[str]:
    """Captions of as many tokens as those of a press archive have."""
    draws = np.random.default_rng(0)
    lengths = np.exp(draws.normal(*CAPTION_LENGTHS, BATCH)).astype(int)
    return [f"{number}" + " war" * length for number, length in enumerate(lengths)]


def measure_augmentation(photos: Path, work: Path) -> list[Measured]:
    """Clock five copies of each photo from one decoding, at both sizes, by one thread."""
    return [one for size in AUGMENTED for one in _measured_at(size, photos, work)]


def _measured_at(size: tuple[int, int], photos: Path, work: Path) -> list[Measured]:
    files = made_jpegs(photos, work / "jpegs", AUGMENTED[size], size)
    task = f"{COPIES} copies of each {size[0]} × {size[1]} JPEG"
    ours, *peers = (
        measured(task, method, "copies", COPIES * len(files), make, files)
        for method, make in (
            ("neardup", by_augment),
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


def by_augment(files: Sequence[Path]) -> Callable[[], object]:
    """Copies by neardup's recipe `classic`, one warp a copy."""
    _one_thread()
    return lambda: [augment("classic", file, file.name, range(COPIES)) for file in files]


def by_torchvision(files: Sequence[Path]) -> Callable[[], object]:
    """Copies by torchvision on Pillow images, as the prior project made them."""
    _one_thread()
    return lambda: [[TORCHVISION(image) for _ in range(COPIES)] for image in map(read_image, files)]


def by_torchvision_tensors(files: Sequence[Path]) -> Callable[[], object]:
    """Copies by torchvision on tensors, as its documentation advises for speed."""
    _one_thread()
    return lambda: [[TORCHVISION(image) for _ in range(COPIES)] for image in map(decode_image, map(str, files))]


def by_albumentations(files: Sequence[Path]) -> Callable[[], object]:
    """Copies by albumentations, the colours last, for they then change fewer pixels."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # albumentations would ask the network for a newer version
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


def measure_excel(photos: Path, work: Path) -> list[Measured]:
    """Clock reading and writing one sheet; the photos are not looked at."""
    del photos
    folder = work / "excel"
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "read.xlsx"
    write_table(sheet, HEADER, rows())
    size = f"{ROWS:,} × {len(HEADER)} cells of an .xlsx file"
    readers: Sequence[tuple[str, Callable[[Path], Callable[[], object]]]] = (
        ("neardup", reading),
        ("pandas with calamine", reading_by_pandas),
        ("openpyxl, read only", reading_by_openpyxl),
    )
    writers = (
        ("neardup", writing),
        ("pandas with XlsxWriter", writing_by_pandas),
        ("openpyxl, write only", writing_by_openpyxl),
    )
    return [
        *(measured(f"read {size}", method, "rows", ROWS, make, sheet) for method, make in readers),
        *(measured(f"write {size}", method, "rows", ROWS, make, folder / "written.xlsx") for method, make in writers),
    ]


def reading(sheet: Path) -> Callable[[], object]:
    """Read text, address and formula of every cell by neardup."""
    return lambda: read_workbook(sheet)


def reading_by_pandas(sheet: Path) -> Callable[[], object]:
    """Read the values of the cells by pandas."""
    return lambda: pd.read_excel(sheet, engine="calamine")


def reading_by_openpyxl(sheet: Path) -> Callable[[], object]:
    """Read the values of the cells by openpyxl."""

    def read() -> None:
        book = openpyxl.load_workbook(sheet, read_only=True)
        list(book.worksheets[0].iter_rows(values_only=True))
        book.close()

    return read


def writing(sheet: Path) -> Callable[[], object]:
    """Write header and rows by neardup, text as text, columns as wide as their values."""
    table = rows()
    return lambda: write_table(sheet, HEADER, table)


def writing_by_pandas(sheet: Path) -> Callable[[], object]:
    """Write header and values by pandas."""
    table = pd.DataFrame(rows(), columns=list(HEADER))
    return lambda: table.to_excel(sheet, index=False, engine="xlsxwriter")


def writing_by_openpyxl(sheet: Path) -> Callable[[], object]:
    """Write header and values by openpyxl."""
    table = rows()

    def write() -> None:
        book = openpyxl.Workbook(write_only=True)
        page = book.create_sheet()
        for row in (HEADER, *table):
            page.append(row)
        book.save(sheet)

    return write


def rows() -> list[Row]:
    """Rows like those of `df_training_aug.xlsx`, five copies a photo."""
    return [
        (
            f"aug_{i // 5}_{i % 5}.jpg",
            f"Soldats italiens débarquant à Tripoli, {i // 5}",
            f"Italian soldiers landing in Tripoli, {i // 5}",
            f"np_guerreillustree_{i // 5:05d}_01.jpg",
            i % 5,
        )
        for i in range(ROWS)
    ]


TOPICS: Topics = {
    "train": measure_training,
    "gpu": measure_gpu,
    "augment": measure_augmentation,
    "excel": measure_excel,
}
