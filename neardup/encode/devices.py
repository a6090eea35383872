"""Where an encoder computes and in which number format; only this module asks what a device can do.

torch is imported only where it is needed, which saves a search by ONNX Runtime seconds.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from ctypes.util import find_library
from functools import update_wrapper
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
from threadpoolctl import threadpool_limits

from neardup.errors import EncoderError

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    import torch

    from neardup.settings.schema import Dtype

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Names of the devices, as the settings have them, whose module needs pydantic."""
DTYPES = ("fp32", "bf16", "fp16", "int8")
"""Names of the number formats, as the settings have them."""


def check_computation(device: str, dtype: str) -> None:
    """Raise an error if there is no device or no number format of that name, which would else be taken for another.

    Raises:
        EncoderError: one of them is unknown.
    """
    for kind, name, known in (("device", device, DEVICES), ("number format", dtype, DTYPES)):
        if name not in known:
            raise EncoderError(f"there is no {kind} {name!r}: take one of {', '.join(known)}")


def torch_dtype(dtype: "Dtype") -> "torch.dtype | None":
    """Convert a number format to torch's; None for int8, which ONNX Runtime computes."""
    import torch  # noqa: PLC0415 - see above

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype)


def without_torch(device: str, dtype: "Dtype") -> bool:
    """Whether an encoder is to compute on the CPU in float32, which is found without importing torch.

    `auto` means the CPU where there is no CUDA driver; an Apple GPU is used only if `mps` is asked for.
    """
    return dtype == "fp32" and (device == "cpu" or (device == "auto" and find_library("cuda") is None))


class ProcessSetting(Generic[T]):
    """A context for a process-wide setting that runs in several threads may need at once.

    The first to enter changes the setting, the last to leave restores it; otherwise overlapping runs would restore each
    other's setting instead of the original.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[T]]) -> None:
        """Store the context that changes the setting; nothing else may enter it."""
        self._change, self._changed = change, ExitStack()
        self._lock, self._users = Lock(), 0
        update_wrapper(self, change)

    @contextmanager
    def __call__(self) -> Iterator[T]:
        """Enter the setting; yields what the context yielded to the first to enter."""
        with self._lock:
            if not self._users:
                self._value = self._changed.enter_context(self._change())
            self._users += 1
        try:
            yield self._value
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._changed.close()


@ProcessSetting
@contextmanager
def one_core_a_thread() -> Iterator[tuple[int, Callable[[], None]]]:
    """Let each encoding thread compute on one core: yields the number of threads, and a function that each calls first.

    If torch is loaded, its own number of threads is restored in the end.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield _cores(), lambda: None
        return
    threads = torch.get_num_threads()
    try:
        yield threads, lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(threads)  # with MKL, the 1 that a thread has set holds in all


def _cores() -> int:
    """Threads that OMP_NUM_THREADS allows (of a list, its first number), else the cores that this process may use."""
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if allowed.isdecimal() and int(allowed):
        return int(allowed)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@ProcessSetting
@contextmanager
def no_threads_of_libraries() -> Iterator[None]:
    """Keep OpenCV and NumPy from starting their own threads inside ours, whose work comes in small pieces.

    OpenBLAS takes its limit from one thread as long as that lives: a thread of ours sets and restores it, because the
    last of several runs to leave may be another thread than the first to enter.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(1) as one_thread:
            limit = one_thread.submit(threadpool_limits, limits=1, user_api="blas").result()
            try:
                yield
            finally:
                one_thread.submit(limit.restore_original_limits).result()
    finally:
        cv2.setNumThreads(threads)


def cpu_has_bf16() -> bool:
    """Whether the CPU computes in bf16; if not, torch takes five to ten times as long as in fp32."""
    import torch  # noqa: PLC0415 - see above

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch's own compiler asks so


def pick_device(device: str, dtype: "Dtype" = "fp32") -> str:
    """Choose the device; `auto` is the CUDA GPU if there is one and it computes in the number format, else the CPU.

    Raises:
        EncoderError: a GPU was asked for and there is none, or the device does not compute in that number format.
    """
    import torch  # noqa: PLC0415 - see above

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and dtype != "int8" else "cpu"
    if dtype == "int8" and device != "cpu":
        raise EncoderError(f"int8 is computed by the CPU, not by {device}: say --device cpu, or --precision bf16")
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderError("no CUDA device on this machine: leave --device out, or say --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise EncoderError("no Apple GPU (MPS) on this machine: leave --device out, or say --device cpu")
    if dtype == "fp16" and device == "cpu":
        raise EncoderError("the CPU has no fast fp16: say --precision bf16 or int8")
    if dtype == "bf16" and device == "cpu" and not cpu_has_bf16():
        raise EncoderError("this CPU has no bf16, and would take longer than in fp32: leave the precision out")
    return device
