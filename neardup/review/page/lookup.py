"""The search of the review page for an uploaded photo, or for words, among the vectors of the results."""

import hashlib
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neardup.arrays import Vectors
from neardup.encode.encoder import BUILTIN, BatchEncoder, load_encoder, objectives_of
from neardup.encode.vectors import Embeddings, stored_vectors
from neardup.errors import EncoderError, NeardupError
from neardup.images import MAX_PIXELS
from neardup.review.found.results import Results
from neardup.search.nearest import Hit, nearest
from neardup.stages import STATE

if TYPE_CHECKING:  # loads torch
    from neardup.encode.trainable import Trainable

HITS = 24
"""Photos that a search shows, as many as people look through: near-duplicates are among the first."""


class Lookup:
    """What finds the photos of the results that are like a photo or like words; all is loaded when first asked for."""

    def __init__(self, results: Results, encoder: str = "", store: str = "", device: str = "auto") -> None:
        """Say what is searched, and by which encoder.

        Args:
            results: whose photos are searched.
            encoder: what `load_encoder` takes; else the one that the results were made by.
            store: folder or URL of the vectors; else the one beside the results.
            device: where the encoder computes.
        """
        facts = results.made_with
        self._given = encoder, store, device
        self._name = encoder or str(facts.get("encoder", BUILTIN))
        self._store = store or str(facts.get("store") or results.out / STATE / "vectors")
        self._device, self._precision = device, facts.get("precision", "fp32")
        self._lock = threading.Lock()

    def over(self, results: Results) -> "Lookup":
        """The search of other results, by what was named for this one."""
        return Lookup(results, *self._given)

    @cached_property
    def knows_words(self) -> bool:
        """Whether the encoder reads text and has learned more words than those of drawn scenes."""
        try:
            return self._name != BUILTIN and Path(self._name).is_dir() and "captions" in objectives_of(self._name)
        except NeardupError:
            return False

    @cached_property
    def _encoder(self) -> BatchEncoder:
        return load_encoder(self._name, self._device, self._precision)

    @cached_property
    def _gallery(self) -> Embeddings:
        return stored_vectors(self._store, self._encoder.fingerprint)

    def like_photo(self, data: bytes, max_pixels: int = MAX_PIXELS) -> list[Hit]:
        """The photos that are most like one, best first; the photo itself is left out.

        Args:
            data: the bytes of the photo's file.
            max_pixels: a larger image is refused.

        Raises:
            UnreadableImageError: they are no image.
            EncoderError: there is no such encoder.
            ArchiveError: there are no vectors of it.
        """
        with self._lock:
            return self._hits(
                self._encoder.encode([self._encoder.read(data, max_pixels)]), hashlib.sha256(data).hexdigest()
            )

    def like_words(self, text: str) -> list[Hit]:
        """The photos that words describe best, best first.

        Raises:
            EncoderError: the encoder knows no words.
        """
        if not self.knows_words:
            raise EncoderError(f"the encoder {self._name} reads no text: search with a photo")
        with self._lock:
            vector = _vector_of(self._reader, text)
            normalised = self._encoder.dimension - vector.shape[1]  # what is appended to a photo's vector is 0 of words
            return self._hits(np.pad(vector, ((0, 0), (0, normalised))), "")

    @cached_property
    def _reader(self) -> "Trainable":
        """The model with its text tower, which takes seconds to load."""
        from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - loads torch

        return load_trainable(self._name)

    def _hits(self, queries: Vectors, itself: str) -> list[Hit]:
        hits = nearest(queries, self._gallery, HITS + 1, fingerprint=self._encoder.fingerprint)[0]
        return [hit for hit in hits if hit.photo != itself][:HITS]


def _vector_of(trained: "Trainable", text: str) -> Vectors:
    """The vector of a text: float32 (1, d), a unit row."""
    import torch  # noqa: PLC0415 - torch, for seconds that a search by a photo does not need

    tokens = trained.tokenizer([text], truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        features = trained.model.eval().get_text_features(**tokens)
    vector = getattr(features, "pooler_output", features).float().numpy()
    return np.asarray(vector / np.linalg.norm(vector, axis=1, keepdims=True), dtype=np.float32)
