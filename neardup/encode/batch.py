"""How many images an encoder takes in one pass: what is set, and what is fastest on this machine."""

import io
import time
from copy import copy

from PIL import Image

from neardup.encode.devices import one_core_a_thread
from neardup.encode.protocol import BATCH, BatchEncoder, Encoder

BATCHES = (BATCH, 32, 64, 8, 4)
"""Numbers of images in one pass that are tried, in this order, the default first."""
SECONDS = 3.0
"""Time that the trial may take, in seconds: a start of the program is not to be felt."""
GAIN = 1.05
"""How many times as fast as `BATCH` another batch must be to be taken: less is noise."""
ROUNDS = 4
"""Passes of each batch at most; the best of four is steady."""


def with_batch(encoder: Encoder, batch: int) -> Encoder:
    """An encoder that shares everything with another but takes so many images in one pass, if it lets that be set."""
    if not isinstance(encoder, BatchEncoder):
        return encoder
    other = copy(encoder)
    other.batch = batch
    return other


def fastest_batch(encoder: BatchEncoder) -> int:
    """The batch with which an encoder is fastest on this machine, found in about 3 seconds or less.

    It is 16 unless another one is clearly faster, each by its best pass, so that noise decides little.
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
    """A black picture as a PNG file: what a picture shows does not change how long it takes."""
    file = io.BytesIO()
    Image.new("RGB", (224, 224)).save(file, "PNG")
    return file.getvalue()
