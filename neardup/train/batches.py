"""The inputs of training: photos with their captions, as batches of pixels and tokens."""

import os
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from neardup.archive.known_pairs import load_known_pairs
from neardup.encode.screen import descreened
from neardup.encode.vision import shortest_side
from neardup.errors import TrainingError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_image
from neardup.settings.schema import Recipe
from neardup.train.augment import augment
from neardup.train.split import inseparable

KEEP_BYTES = 4 * 2**30
"""Most bytes kept in memory between epochs: 26,000 photos of 224 pixels, or as many states of ViT-B/32."""
WORKERS = 8
"""Most threads that decode photos: with eight, decoding keeps up with a step on the CPU."""
PLAIN = -1
"""Number, in place of a copy's, of the photo itself, without augmentation."""


@dataclass(frozen=True)
class Example:
    """One photo that a training learns from, with its caption.

    Attributes:
        image: the file.
        photo: the SHA-256 of its bytes.
        caption: the English text that it is trained with; empty where only copies of the photo are learned from.
        phash: its perceptual hash, 16 hex digits.
        phash_mirrored: perceptual hash of its mirror image; empty if no photo is to count as its mirror image.
        max_pixels: the photo is refused if it has more.
    """

    image: Path
    photo: str
    caption: str
    phash: str
    phash_mirrored: str = ""
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class KnownPairs:
    """Pairs of photos known to show the same picture or different ones, each photo by the SHA-256 of its bytes.

    Attributes:
        same: pairs of near-duplicates: groups, exposures of one plate, verdicts.
        different: pairs that may look alike but are not near-duplicates.
    """

    same: tuple[tuple[str, str], ...] = ()
    different: tuple[tuple[str, str], ...] = ()

    @classmethod
    def load(cls, table: Path) -> "KnownPairs":
        """Read a table with the columns `first`, `second` and `same` (1 or 0); empty where there is no table.

        Raises:
            ArchiveError: the table has other columns.
        """
        rows = load_known_pairs(table)
        same, different = (tuple((r.first, r.second) for r in rows if bool(r.same) == kind) for kind in (True, False))
        return cls(same, different)

    def without(self, photos: Container[str]) -> "KnownPairs":
        """Select the pairs without any of some photos, given by their SHA-256."""
        same, different = (
            tuple(pair for pair in pairs if pair[0] not in photos and pair[1] not in photos)
            for pairs in (self.same, self.different)
        )
        return KnownPairs(same, different)

    def rows(self, examples: Sequence[Example]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Select the pairs whose photos are both among some examples, as rows of these: same, different."""
        row_of = {example.photo: row for row, example in reversed(list(enumerate(examples)))}
        same, different = (
            [(row_of[first], row_of[second]) for first, second in pairs if first in row_of and second in row_of]
            for pairs in (self.same, self.different)
        )
        return same, different

    def pictures(self, examples: Sequence[Example], bits: int) -> list[list[int]]:
        """Rows of examples that show one picture: equal bytes, look-alikes, mirrored or not, or known to be the same.

        Args:
            examples: photos; their captions do not count.
            bits: photos look the same if their perceptual hashes differ in at most this many bits.

        Returns:
            Sets of rows, as `inseparable` gives them.
        """
        return self._sets(examples, bits, [""] * len(examples))

    def separable(self, examples: Sequence[Example], bits: int) -> list[list[int]]:
        """Group rows of examples that stay on one side of a split: of one picture (`pictures`) or of one caption."""
        return self._sets(examples, bits, [example.caption for example in examples])

    def _sets(self, examples: Sequence[Example], bits: int, captions: Sequence[str]) -> list[list[int]]:
        """Group rows that are linked by caption, bytes, look or known pairs."""
        return inseparable(
            captions,
            [example.photo for example in examples],
            [example.phash for example in examples],
            bits,
            self.rows(examples)[0],
            [example.phash_mirrored for example in examples],
        )


def token_limit(model: Any, tokenizer: Any) -> int:
    """Return the most tokens that a text may have, start and end included: 77 for CLIP.

    Raises:
        TrainingError: the model reads no text.
    """
    if tokenizer is None:
        raise TrainingError(
            "this encoder has no text tower, so that captions cannot train it: name a CLIP, a SigLIP or a dual encoder"
        )
    return min(int(tokenizer.model_max_length), int(model.config.text_config.max_position_embeddings))


class TensorCache:
    """Cache of tensors up to a number of bytes; tensors that do not fit are computed at each use."""

    def __init__(self, room: int) -> None:
        """Hold at most `room` bytes."""
        self._room = room
        self._tensors: dict[Hashable, Tensor] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether the tensor of a key need not be computed."""
        return key in self._tensors

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Get the tensor of a key, computing it if it is not cached."""
        if key in self._tensors:
            return self._tensors[key]
        tensor = compute()
        if tensor.nbytes <= self._room:
            self._tensors[key] = tensor
            self._room -= tensor.nbytes
        return tensor


class Captions:
    """Tokenized captions: each padded only to the longest of its batch."""

    def __init__(self, tokenizer: Any, captions: Sequence[str], limit: int) -> None:
        """Tokenize once; texts of over `limit` tokens are truncated and counted."""
        distinct = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
        whole = tokenizer(list(distinct), padding=False, truncation=False, verbose=False)["input_ids"]
        cut = tokenizer(list(distinct), padding=False, truncation=True, max_length=limit)["input_ids"]
        self.legends = torch.tensor([distinct[caption] for caption in captions])
        self.tokens = [cut[number] for number in self.legends.tolist()]
        self.long = [len(whole[number]) > limit for number in self.legends.tolist()]
        self._pad = int(tokenizer.pad_token_id)

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` of some rows: int64 (n, longest)."""
        tokens = [torch.tensor(self.tokens[row]) for row in rows]
        mask = [torch.ones_like(row) for row in tokens]
        return {
            "input_ids": pad_sequence(tokens, batch_first=True, padding_value=self._pad),
            "attention_mask": pad_sequence(mask, batch_first=True),
        }


def unreadable(example: Example, error: Exception) -> TrainingError:
    """Make the error for a photo that cannot be read."""
    return TrainingError(f"{example.image} cannot be read ({error}): run `neardup prepare` again")


def as_bytes(processor: Any, image: Image.Image, **sizes: Mapping[str, int]) -> Tensor:
    """Prepare an RGB image as the encoder does, without normalising: uint8 (3, height, width).

    Args:
        processor: image processor of the encoder.
        image: the image.
        sizes: `size` and `crop_size` in place of the processor's own.
    """
    if getattr(processor, "do_descreen", False):
        image = descreened(image)
    ready = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt", **sizes)
    pixels: Tensor = ready["pixel_values"][0]
    return pixels


class Photos:
    """Decoded photos, resized and cropped for the encoder, and their seeded copies."""

    def __init__(self, examples: Sequence[Example], image_processor: Any, recipe: Recipe, cache: TensorCache) -> None:
        """Store the photos, in the order of rows, and a cache for decoded ones."""
        self._examples = examples
        self._processor = image_processor
        self._recipe = recipe
        self._cache = cache

    def copy(self, epoch: int) -> int:
        """Number of the copy that an epoch, counted from 1, uses of every photo."""
        return PLAIN if self._recipe.augmentation == "none" else (epoch - 1) % self._recipe.copies

    def batches(self, batches: Sequence[Sequence[int]], copy: int) -> Iterator[Tensor]:
        """Yield the pixels of each batch, uint8 (n, 3, height, width); the next is decoded while one is in use."""
        with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
            ahead = [pool.submit(self._pixels, row, copy) for row in batches[0]] if batches else []
            for following in [*batches[1:], []]:
                current = ahead
                ahead = [pool.submit(self._pixels, row, copy) for row in following]
                yield self._stack(current)

    def _stack(self, decoded: Sequence["Future[Tensor]"]) -> Tensor:
        """Wait for the pixels of a batch and stack them; without photos, the tensor is empty."""
        return torch.stack([photo.result() for photo in decoded]) if decoded else torch.empty(0, dtype=torch.uint8)

    def _pixels(self, row: int, copy: int) -> Tensor:
        """A photo's pixels, uint8 (3, height, width), from the cache or from its file."""
        return self._cache.get(("pixels", row, copy), partial(self._decode, self._examples[row], copy))

    def _decode(self, example: Example, copy: int) -> Tensor:
        """A photo's pixels, uint8 (3, height, width), from its file."""
        recipe = self._recipe
        try:
            if copy == PLAIN:
                draft = shortest_side(self._processor)
                image = read_image(example.image, max_pixels=example.max_pixels, draft=draft)
            else:
                [image] = augment(
                    recipe.augmentation, example.image, example.photo, [copy], recipe.seed, example.max_pixels
                )
        except (OSError, UnreadableImageError) as error:
            raise unreadable(example, error) from error
        return as_bytes(self._processor, image)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Rescale and normalise pixels as the encoder does, on their device: float32."""
        processor = self._processor
        levels = pixels.float() * (processor.rescale_factor if processor.do_rescale else 1.0)
        if not processor.do_normalize:
            return levels
        mean, std = (
            torch.tensor(v, device=pixels.device)[:, None, None] for v in (processor.image_mean, processor.image_std)
        )
        ready: Tensor = (levels - mean) / std
        return ready


def batch_rows(
    rows: Sequence[int], size: int, seed: int, epoch: int, partners: Mapping[int, Sequence[int]] = MappingProxyType({})
) -> list[list[int]]:
    """Rows in the order of an epoch, in batches of `size`; a last single row joins the batch before it.

    The order depends on seed and epoch alone, so that a resumed run sees what an uninterrupted one sees.

    Args:
        rows: the rows, each once.
        size: rows per batch.
        seed: seed of the order.
        epoch: number of the epoch; each has another order.
        partners: row → rows that are to come right after it, in its batch unless that is full.
    """
    order = [rows[i] for i in np.random.default_rng([seed, epoch]).permutation(len(rows))]
    if partners:
        inside = set(rows)
        order = list(
            dict.fromkeys(other for row in order for other in (row, *partners.get(row, ())) if other in inside)
        )
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        alone = batches.pop()
        batches[-1].extend(alone)
    return batches


def own_rows(rows: int, process: int, processes: int) -> slice:
    """Slice of a batch's rows that one of several processes embeds; slices differ by at most one row."""
    return slice(rows * process // processes, rows * (process + 1) // processes)


def parts_of(rows: int, parts: int) -> list[slice]:
    """Divide rows into at most `parts` consecutive slices; none is empty unless there are no rows."""
    count = max(1, min(parts, rows))
    return [own_rows(rows, part, count) for part in range(count)]
