"""Score normalisation: how unlike all other photographs a photo is, as one more number of its vector.

Photos that resemble many others are nearer to strangers than photos that resemble none. Their similarities are
corrected by a background: photographs that are none of those that are searched. The vector gets one more number, gamma
times (1 - mean similarity to its nearest photos of the background), and is normalised again, so that a dot product
still is the whole similarity, and whatever searches vectors needs to know nothing of it. After the score normalisation
of SSCD (Pizzi et al. 2022), which subtracts that mean from the scores of a query.
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
"""The background of an encoder, in its checkpoint."""
NEIGHBOURS = 3
"""Photos of the background that a photo's mean similarity is taken of: of one alone it depends too much on chance."""
GAMMA = 1.0
"""Weight of the appended number; the background that neardup ships for its encoder has one of its own."""


@dataclass(frozen=True)
class Background:
    """What similarities are normalised by.

    Attributes:
        vectors: float16 (m, d), unit rows, of the photographs in the background.
        neighbours: how many of them, the nearest, count for a photo.
        gamma: weight of the appended number.
    """

    vectors: npt.NDArray[np.float16]
    neighbours: int = NEIGHBOURS
    gamma: float = GAMMA

    @classmethod
    def of(cls, vectors: Vectors) -> "Background":
        """The background of photographs, float32 (m, d), unit rows."""
        return cls(vectors.astype(np.float16), min(NEIGHBOURS, len(vectors)))

    @classmethod
    def fitted(
        cls, encoder: Encoder, sources: Sequence[Source], most: int, seed: int, max_pixels: int = MAX_PIXELS
    ) -> "Background":
        """The background of image files, but for those that cannot be read.

        Args:
            encoder: what encodes them, without a background of its own.
            sources: the files.
            most: files that are encoded; where there are more, so many are drawn.
            seed: number by which they are drawn.
            max_pixels: larger images are left out.
        """
        rows = np.sort(np.random.default_rng(seed).choice(len(sources), min(most, len(sources)), replace=False))
        encoded = encode_files(encoder, (sources[row] for row in rows), max_pixels)
        return cls.of(np.stack([vector for _, vector in encoded if not isinstance(vector, UnreadableImageError)]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that an appended number depends on besides the vector."""
        contents = hashlib.sha256(np.ascontiguousarray(self.vectors).tobytes()).hexdigest()
        return digest_of(contents, list(self.vectors.shape), self.neighbours, self.gamma)

    @cached_property
    def _wide(self) -> Vectors:
        return self.vectors.astype(np.float32)

    def appended(self, vectors: Vectors, left_out: Bools | None = None) -> Vectors:
        """Vectors with the appended number: float32 (n, d + 1), unit rows, of float32 (n, d), unit rows.

        Each row is computed by itself, so that it is the same to the last bit in whatever company; and without BLAS,
        whose threads would wait, computing, for the next row on the cores of the other threads that encode.

        Args:
            vectors: of the photos.
            left_out: bool (n, m), which photos of the background do not count for which photo, as those that show the
                same picture where the background holds the photos themselves; at least `neighbours` must be left.

        Example: with neighbours at cosine .6, a gamma of 1 and a vector (1, 0), it is (1, 0, .4) / 1.077.
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
        """Write the background into the folder of a checkpoint, whole or not at all."""
        facts = {"neighbours": str(self.neighbours), "gamma": repr(self.gamma)}
        with replacing(folder / BACKGROUND) as partial:
            save_file({"vectors": np.ascontiguousarray(self.vectors)}, partial, facts)

    @classmethod
    def load(cls, folder: Path) -> "Background | None":
        """Read the background in the folder of a checkpoint; None where it has none.

        Raises:
            EncoderError: its file is broken.
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
    """An encoder whose vectors have one more number, by which a background normalises similarities.

    Attributes:
        name: what the user calls it.
        fingerprint: SHA-256 of that of the encoder and of the background.
        dimension: numbers of a vector, one more than the encoder's.
    """

    def __init__(self, encoder: BatchEncoder, background: Background) -> None:
        """Take both.

        Raises:
            EncoderError: the background is of vectors of another length.
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
        self._encoder = copy(self._encoder)  # whoever else has it keeps its batch
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
