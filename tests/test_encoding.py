"""From files to vectors: each file gets its own, in whatever arrangement of threads, or the reason why it has none."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.encode import devices
from neardup.encode.batch import BATCHES, fastest_batch
from neardup.encode.devices import no_threads_of_libraries, one_core_a_thread, without_torch
from neardup.encode.encoder import load_encoder
from neardup.encode.files import encode_files
from neardup.errors import UnreadableImageError
from neardup.images import MAX_PIXELS, read_image


def jpeg(image: Image.Image) -> bytes:
    """An image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@cache
def files() -> list[bytes]:
    """Twenty-one drawn scenes as JPEG files, for whoever of the test processes runs these tests."""
    return [jpeg(Scene.of(seed).image) for seed in range(21)]


class Means:
    """An encoder that is computed by hand, and that has no batch: the mean red, green and blue, as a unit vector."""

    name, fingerprint, dimension = "means", "means", 3

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Mean colours."""
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads for torch, and for `encode_files`."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_file_has_the_vector_that_it_has_alone(threads: int, small_encoder: str) -> None:
    """In order and to the last bit, with one thread and with three."""
    encoder = load_encoder(small_encoder, "cpu")
    encoder.batch = 4
    results = list(encode_files(encoder, files()))
    alone = [encoder.encode([encoder.read(data)])[0].tobytes() for data in files()]
    assert [row for row, _ in results] == list(range(len(files())))
    assert [vector.tobytes() for _, vector in results if isinstance(vector, np.ndarray)] == alone
    assert torch.get_num_threads() == threads


def test_an_unreadable_file_is_reported_in_its_place(small_encoder: str) -> None:
    """The others have their vectors."""
    results = dict(encode_files(load_encoder(small_encoder, "cpu"), [files()[0], b"", files()[1], files()[2][:4000]]))
    assert [isinstance(results[row], UnreadableImageError) for row in range(4)] == [False, True, False, True]
    assert "the file is empty" in str(results[1])


def test_an_image_over_the_limit_is_reported(small_encoder: str) -> None:
    """The limit reaches the reader."""
    [(_, result)] = encode_files(load_encoder(small_encoder, "cpu"), files()[:1], max_pixels=99)
    assert "over the limit of 99" in str(result)


def test_no_files_give_nothing() -> None:
    """An empty folder is no error."""
    assert list(encode_files(Means(), [])) == []


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """It is no unreadable image: the caller said that it is there."""
    with pytest.raises(FileNotFoundError):
        list(encode_files(Means(), [tmp_path / "gone.jpg"]))


def test_a_hand_written_encoder_needs_no_batch() -> None:
    """Paths and bytes are both read, 16 to a pass."""
    expected = Means().encode([read_image(data) for data in files()])
    found = np.stack([vector for _, vector in encode_files(Means(), files()) if isinstance(vector, np.ndarray)])
    assert found.tobytes() == expected.tobytes()


def test_sources_are_drawn_as_they_are_needed(threads: int) -> None:
    """Before the first result a batch for each thread and one more is drawn, by the thread that asks for it."""
    drawn: list[str] = []

    def sources() -> Iterator[bytes]:
        for _ in range(1000):
            drawn.append(threading.current_thread().name)
            yield files()[0]

    results = encode_files(Means(), sources())
    next(results)
    assert drawn == [threading.current_thread().name] * 16 * (threads + 1)
    results.close()


def test_calibration_takes_a_batch_that_it_tried(small_encoder: str) -> None:
    """It leaves the encoder as it was."""
    encoder = load_encoder(small_encoder, "cpu")
    encoder.batch = 5
    assert fastest_batch(encoder) in BATCHES
    assert encoder.batch == 5


@pytest.mark.parametrize(("allowed", "count"), [("3", 3), ("4,2", 4), ("0", None), ("", None), ("many", None)])
def test_threads_are_those_that_the_environment_allows(
    allowed: str, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a list, one number a level of nesting, the first; else a thread for each core that this process may use."""
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    monkeypatch.delitem(sys.modules, "torch")
    with one_core_a_thread() as (threads, _):
        assert threads == (count or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("driver", "expected"), [(None, True), ("libcuda.so.1", False)])
def test_where_there_is_a_gpu_torch_computes(
    driver: str | None, monkeypatch: pytest.MonkeyPatch, *, expected: bool
) -> None:
    """Unless the CPU is asked for."""
    monkeypatch.setattr(devices, "find_library", {"cuda": driver}.get)
    assert [without_torch(device, "fp32") for device in ("auto", "cpu", "cuda")] == [expected, True, False]


@contextmanager
def threads_of_libraries(number: int) -> Iterator[None]:
    """So many threads for torch and for OpenCV, and in the end as many as before."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(number)
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_runs_that_overlap_leave_the_process_its_threads(order: tuple[int, int]) -> None:
    """Whichever ends first: none takes the other's setting for the one to put back."""
    with threads_of_libraries(2):
        runs = [ExitStack(), ExitStack()]
        for run in runs:
            _, settle = run.enter_context(one_core_a_thread())
            settle()
            run.enter_context(no_threads_of_libraries())
        for number in order:
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
            runs[number].close()
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)


OVERLAPPING = """
from threading import Event, Thread

import numpy
from threadpoolctl import threadpool_info

from neardup.encode.devices import no_threads_of_libraries

def threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

def first():
    with no_threads_of_libraries():
        entered.set()
        other.wait()
    left.set()
    end.wait()

print(threads())
entered, other, left, end = Event(), Event(), Event(), Event()
thread = Thread(target=first)
thread.start()
entered.wait()
with no_threads_of_libraries():
    other.set()
    left.wait()
    print(threads())
print(threads())
end.set()
thread.join()
"""
"""Two runs in threads, of which the first to enter is the first to leave, and lives on."""


def test_runs_that_overlap_in_threads_leave_numpy_its_threads() -> None:
    """The thread that was the first to enter, as a server's or a notebook's, goes on after the last has left."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", OVERLAPPING], env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout.split("\n") == ["{2}", "{1}", "{2}", ""]
