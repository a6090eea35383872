"""Where an encoder computes, and in which numbers: what a device has is asked here alone.

torch is imported by what needs it: seconds that a search by ONNX Runtime need not wait.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from typing import TYPE_CHECKING

from neardup.errors import EncoderError

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    import torch

    from neardup.settings.schema import Dtype


def torch_dtype(dtype: "Dtype") -> "torch.dtype | None":
    """The number format as torch names it; None for int8, which ONNX Runtime computes."""
    import torch  # noqa: PLC0415 - see above

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype)


def without_torch(device: str, dtype: "Dtype") -> bool:
    """Whether an encoder in that number format is to compute on the CPU, in float32; torch is not asked for it.

    `auto` is the CPU where there is neither a CUDA driver nor Apple's graphics.
    """
    return dtype == "fp32" and (device == "cpu" or (device == "auto" and find_library("cuda") is None))


@contextmanager
def one_core_a_thread() -> Iterator[tuple[int, Callable[[], None]]]:
    """Let each thread that encodes compute on one core: yields how many threads, and what each calls first.

    torch has threads of its own where it is loaded; that setting is put back in the end.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1), lambda: None
        return
    threads = torch.get_num_threads()
    try:
        yield threads, lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(threads)  # with MKL, the 1 that one thread has set holds in all


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
