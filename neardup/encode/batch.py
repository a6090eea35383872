"""How many images an encoder takes in one pass: set by the user, or the fastest on this machine."""

import io
import time
from copy import copy

from PIL import Image

from neardup.encode.devices import one_core_a_thread
from neardup.encode.protocol import BATCH, BatchEncoder, Encoder

BATCHES = (BATCH, 32, 64, 8, 4)
"""Numbers of images per pass to try, in this order, the default first."""
SECONDS = 3.0
"""Seconds that the trial may take, so that the program's start does not feel slow."""
GAIN = 1.05
"""Least speed of another batch, as a multiple of that of `BATCH`, for it to be chosen: a smaller gain is noise."""
ROUNDS = 4
"""Most passes of each batch: the best of four is a stable figure."""


def with_batch(encoder: Encoder, batch: int) -> Encoder:
    """Copy an encoder, sharing all its parts, with `batch` images per pass, if the encoder allows that to be set."""
    if not isinstance(encoder, BatchEncoder):
        return encoder
    other = copy(encoder)
    other.batch = batch
    return other


def fastest_batch(encoder: BatchEncoder) -> int:
    """Find the batch with which an encoder is fastest on this machine, in at most about 3 seconds.

    It is 16 unless another one is clearly faster; each is judged by its best pass, so that noise matters little.
    """
    original_batch, end = encoder.batch, time.perf_counter() + SECONDS
    black = encoder.read(_black())
    rates: dict[int, float] = {}
    with one_core_a_thread() as (_, settle):
        settle()
        for batch in BATCHES * ROUNDS:
            passes = 1 if batch in rates else 2  # the first pass of a shape is slower
            if rates and time.perf_counter() + passes * batch / max(rates.values()) > end:
                continue
            encoder.batch = batch
            for _ in range(passes):
                start = time.perf_counter()
                encoder.encode([black] * batch)
            rates[batch] = max(rates.get(batch, 0), batch / (time.perf_counter() - start))
    encoder.batch = original_batch
    fastest = max(rates, key=lambda batch: rates[batch])
    return fastest if rates[fastest] > GAIN * rates[BATCH] else BATCH


def _black() -> bytes:
    """Make a black picture as a PNG file: encoding takes as long whatever a picture shows."""
    file = io.BytesIO()
    Image.new("RGB", (224, 224)).save(file, "PNG")
    return file.getvalue()
