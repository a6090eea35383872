"""Where an encoder computes, and in which numbers: what a device has is asked here alone.

torch is imported by what needs it: seconds that a search by ONNX Runtime need not wait.
"""

import os
import sys
from collections.abc import Callable, Iterator
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


def torch_dtype(dtype: "Dtype") -> "torch.dtype | None":
    """The number format as torch names it; None for int8, which ONNX Runtime computes."""
    import torch  # noqa: PLC0415 - see above

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype)


def without_torch(device: str, dtype: "Dtype") -> bool:
    """Whether an encoder in that number format is to compute on the CPU, in float32; torch is not asked for it.

    `auto` is the CPU where there is no CUDA driver; Apple's graphics compute only where `mps` is asked for.
    """
    return dtype == "fp32" and (device == "cpu" or (device == "auto" and find_library("cuda") is None))


class ProcessSetting(Generic[T]):
    """A setting of the whole process that runs in several threads may need at once, as a context.

    The first one to enter changes it, the last one to leave puts it back; runs that overlap would otherwise take each
    other's setting for the one to put back.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[T]]) -> None:
        """Take the context that changes the setting; it is entered by nobody else."""
        self._change, self._changed = change, ExitStack()
        self._lock, self._users = Lock(), 0
        update_wrapper(self, change)

    @contextmanager
    def __call__(self) -> Iterator[T]:
        """Yield what the context yielded to the first one to enter."""
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
    """Let each thread that encodes compute on one core: yields how many threads, and what each calls first.

    torch has threads of its own where it is loaded; that setting is put back in the end.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield _cores(), lambda: None
        return
    threads = torch.get_num_threads()
    try:
        yield threads, lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(threads)  # with MKL, the 1 that one thread has set holds in all


def _cores() -> int:
    """The threads that OMP_NUM_THREADS allows, of a list the first number; else the cores that this process may use."""
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if allowed.isdecimal() and int(allowed):
        return int(allowed)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@ProcessSetting
@contextmanager
def no_threads_of_libraries() -> Iterator[None]:
    """Keep OpenCV and NumPy from starting threads of their own below ours, whose work comes in small pieces."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(threads)


def cpu_has_bf16() -> bool:
    """Whether the CPU computes in bf16; where it does not, torch takes five to ten times as long as in fp32."""
    import torch  # noqa: PLC0415 - see above

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch's own compiler asks so


def pick_device(device: str, dtype: "Dtype" = "fp32") -> str:
    """The device to compute on; `auto` is the CUDA GPU if there is one and it computes in that number format.

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
