"""Score normalisation: how unlike other photographs a photo is, as an additional number of its vector.

Photos that resemble many others are more similar to unrelated photos than photos that resemble none. A background,
photographs that are not among those searched, corrects their similarities. The vector gets one more number, gamma times
(1 - mean similarity to its nearest photos of the background), and is normalised again, so that a dot product still is
the whole similarity and searches need not know of it. This follows the score normalisation of SSCD (Pizzi et al. 2022),
which subtracts that mean from the scores of a query.
"""

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from neardup.arrays import Bools, Vectors
from neardup.encode.files import Source, encode_files
from neardup.encode.protocol import BatchEncoder, Encoder
from neardup.errors import EncoderError, UnreadableImageError
from neardup.images import MAX_PIXELS
from neardup.stages import digest_of, replacing

BACKGROUND = "background.safetensors"
"""File name of an encoder's background in its checkpoint."""
NEIGHBOURS = 3
"""Nearest photos of the background whose similarities are averaged: a single one depends too much on chance."""
GAMMA = 1.0
"""Default weight of the appended number; the background of neardup's own encoder has another one."""


@dataclass(frozen=True)
class Background:
    """Photographs by which similarities are normalised.

    Attributes:
        vectors: float16 (m, d), unit rows, of the photographs in the background.
        neighbours: how many nearest photographs count for a photo.
        gamma: weight of the appended number.
    """

    vectors: npt.NDArray[np.float16]
    neighbours: int = NEIGHBOURS
    gamma: float = GAMMA

    @classmethod
    def of(cls, vectors: Vectors) -> "Background":
        """Make a background of the vectors of photographs, float32 (m, d), unit rows."""
        return cls(vectors.astype(np.float16), min(NEIGHBOURS, len(vectors)))

    @classmethod
    def fitted(
        cls, encoder: Encoder, sources: Sequence[Source], most: int, seed: int, max_pixels: int = MAX_PIXELS
    ) -> "Background":
        """Make a background of image files; unreadable ones are left out.

        Args:
            encoder: encoder of the files, without a background of its own.
            sources: the files.
            most: most files to encode; of more, a random sample is drawn.
            seed: seed of the sample.
            max_pixels: larger images are left out.
        """
        rows = np.sort(np.random.default_rng(seed).choice(len(sources), min(most, len(sources)), replace=False))
        encoded = encode_files(encoder, (sources[row] for row in rows), max_pixels)
        return cls.of(np.stack([vector for _, vector in encoded if not isinstance(vector, UnreadableImageError)]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the vector that an appended number depends on."""
        contents = hashlib.sha256(np.ascontiguousarray(self.vectors).tobytes()).hexdigest()
        return digest_of(contents, list(self.vectors.shape), self.neighbours, self.gamma)

    @cached_property
    def _wide(self) -> Vectors:
        return self.vectors.astype(np.float32)

    def appended(self, vectors: Vectors, left_out: Bools | None = None) -> Vectors:
        """Append the number to vectors: float32 (n, d), unit rows, become float32 (n, d + 1), unit rows.

        Each row is computed by itself, so that it is the same to the last bit whatever the other rows are; and without
        BLAS, whose threads would spin between rows on the cores of the other encoding threads.

        Args:
            vectors: vectors of the photos.
            left_out: bool (n, m), which photos of the background do not count for which photo, such as those of the
                same picture where the background consists of the photos themselves; at least `neighbours` must remain.

        Example: with neighbours at cosine 0.6 and a gamma of 1, the vector (1, 0) becomes (1, 0, 0.4) / 1.077.
        """
        wide = np.empty((len(vectors), vectors.shape[1] + 1), np.float32)
        for row, vector in enumerate(vectors):
            similarities = np.vecdot(self._wide, vector)
            if left_out is not None:
                similarities[left_out[row]] = -np.inf
            nearest = np.partition(similarities, -self.neighbours)[-self.neighbours :]
            wide[row, :-1], wide[row, -1] = vector, self.gamma * (1 - np.sort(nearest).mean())
            wide[row] /= np.linalg.norm(wide[row])
        return wide

    def save(self, folder: Path) -> None:
        """Write the background into a checkpoint's folder, atomically."""
        facts = {"neighbours": str(self.neighbours), "gamma": repr(self.gamma)}
        with replacing(folder / BACKGROUND) as partial:
            save_file({"vectors": np.ascontiguousarray(self.vectors)}, partial, facts)

    @classmethod
    def load(cls, folder: Path) -> "Background | None":
        """Read the background in a checkpoint's folder; None where there is none.

        Raises:
            EncoderError: the background's file is broken.
        """
        path = folder / BACKGROUND
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as stored:
                facts = stored.metadata()
                vectors = stored.get_tensor("vectors")
                return cls(vectors.astype(np.float16), int(facts["neighbours"]), float(facts["gamma"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise EncoderError(f"{path} cannot be read ({error}): copy the whole checkpoint again") from error


class NormalisedEncoder:
    """An encoder whose vectors have an additional number, by which a background normalises similarities.

    Attributes:
        name: what the user calls it.
        fingerprint: SHA-256 of the encoder's fingerprint and the background.
        dimension: numbers of a vector, one more than the encoder's.
    """

    def __init__(self, encoder: BatchEncoder, background: Background) -> None:
        """Combine an encoder and a background.

        Raises:
            EncoderError: the background's vectors have another length than the encoder's.
        """
        if background.vectors.shape[1] != encoder.dimension:
            raise EncoderError(
                f"{BACKGROUND} of {encoder.name} is of another encoder (its vectors have {background.vectors.shape[1]} "
                f"numbers, not {encoder.dimension}): copy the whole checkpoint again, or delete that file"
            )
        self.name, self.dimension = encoder.name, encoder.dimension + 1
        self.fingerprint = digest_of(encoder.fingerprint, background.digest)
        self._encoder, self._background = encoder, background

    @property
    def batch(self) -> int:
        """Images in one pass."""
        return self._encoder.batch

    @batch.setter
    def batch(self, batch: int) -> None:
        self._encoder = copy(self._encoder)  # other users of the encoder keep their batch
        self._encoder.batch = batch

    @property
    def size(self) -> int:
        """The shortest side that is needed of a photo, in pixels."""
        return self._encoder.size

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Any:
        """Decode an image to what `encode` takes; errors as those of the encoder."""
        return self._encoder.read(source, max_pixels)

    def encode(self, images: Sequence[Any]) -> Vectors:
        """Encode RGB images, or what `read` gives of them; errors as those of the encoder.

        Returns:
            float32 (n, d + 1), unit rows; the dot product of two is their normalised similarity.
        """
        return self._background.appended(self._encoder.encode(images))
