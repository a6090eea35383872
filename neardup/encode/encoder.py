"""Encoders by name: what is there, and what the rest of neardup takes of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from neardup.encode.batch import fastest_batch
from neardup.encode.clip import Clip, ClipEncoder, load_clip
from neardup.encode.devices import cpu_has_bf16, pick_device
from neardup.encode.hub import BUILTIN, CHECKPOINT, load_checkpoint
from neardup.encode.protocol import BATCH, BatchEncoder, Encoder
from neardup.encode.vision import VisionEncoder

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype

__all__ = [
    "BATCH",
    "BUILTIN",
    "CHECKPOINT",
    "BatchEncoder",
    "Clip",
    "ClipEncoder",
    "Encoder",
    "cpu_has_bf16",
    "fastest_batch",
    "load_clip",
    "load_encoder",
    "pick_device",
]

KINDS: Mapping[str, type[VisionEncoder]] = MappingProxyType({"clip": ClipEncoder, "clip_vision_model": ClipEncoder})
"""`model_type` of a checkpoint's config.json → its encoder. A new kind is a subclass in a module of its own, as
`clip.ClipEncoder` is, and a line here."""
WANTED = "a CLIP"
"""What those kinds are, for the sentence that refuses another one."""


def load_encoder(name: str, device: str = "auto", dtype: "Dtype" = "fp32", *, compiled: bool = False) -> VisionEncoder:
    """Load an encoder of images; only the vision tower of a checkpoint is read.

    Args:
        name: `builtin:tiny`, a hub id such as `openai/clip-vit-base-patch32`, or a folder with a CLIP checkpoint.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dtype: number format of the computation; `int8` on CPUs, `fp16` on GPUs, `bf16` on GPUs and on CPUs that have
            AVX512-BF16 or AMX. Measured for ViT-B/32 on one core with AVX512-BF16: 10.1 photos/s, in bf16 19.3, in int8
            27.2.
        compiled: compile the layers by torch.compile in the first pass, which then takes 5 to 30 seconds. Measured on
            one core with AVX512-BF16, for `builtin:tiny` and for ViT-B/32: in fp32 1.19 and 1.16 times as fast, the
            same vectors but for 5e-7; in bf16 slower, 0.82 and 0.88 times, with a cosine of 0.9998 to the vectors
            that were not compiled. int8 is not compiled.

    Raises:
        EncoderError: there is no such checkpoint, it is no CLIP, it has no safetensors weights, or the device cannot
            compute in that number format.
    """
    kind, (model, processor) = load_checkpoint(name, {kind: encoder.PARTS for kind, encoder in KINDS.items()}, WANTED)
    return KINDS[kind](name, model, processor, device, dtype, compiled=compiled)
