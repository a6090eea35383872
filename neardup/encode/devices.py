"""Where an encoder computes, and in which numbers: what a device has is asked here alone."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from neardup.errors import EncoderError

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype

TORCH_DTYPES: Mapping["Dtype", torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)
"""Number formats that torch computes in; int8 is computed by ONNX Runtime."""


def cpu_has_bf16() -> bool:
    """Whether the CPU computes in bf16; where it does not, torch takes five to ten times as long as in fp32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch's own compiler asks so


def pick_device(device: str, dtype: "Dtype" = "fp32") -> str:
    """The device to compute on; `auto` is the CUDA GPU if there is one and it computes in that number format.

    Raises:
        EncoderError: a GPU was asked for and there is none, or the device does not compute in that number format.
    """
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
