"""Encoders by name: what is there, and what the rest of neardup takes of them."""

from typing import TYPE_CHECKING

from neardup.encode.batch import fastest_batch
from neardup.encode.devices import cpu_has_bf16, pick_device
from neardup.encode.hub import BUILTIN, CHECKPOINT, load_checkpoint
from neardup.encode.kinds import KINDS, ClipEncoder, TorchScriptEncoder
from neardup.encode.protocol import BATCH, BatchEncoder, Encoder
from neardup.encode.torchscript import is_torchscript, load_torchscript
from neardup.encode.trainable import Trainable, load_trainable
from neardup.encode.vision import VisionEncoder

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype

__all__ = [
    "BATCH",
    "BUILTIN",
    "CHECKPOINT",
    "BatchEncoder",
    "ClipEncoder",
    "Encoder",
    "Trainable",
    "cpu_has_bf16",
    "fastest_batch",
    "load_encoder",
    "load_trainable",
    "pick_device",
]


def load_encoder(name: str, device: str = "auto", dtype: "Dtype" = "fp32", *, compiled: bool = False) -> VisionEncoder:
    """Load an encoder of images; of a checkpoint only what sees is kept.

    Args:
        name: `builtin:tiny`; `sscd`, Meta's model for copies of photographs, which is fetched once; a hub id such as
            `openai/clip-vit-base-patch32` or `facebook/dinov2-small`; a folder with a checkpoint of CLIP, SigLIP,
            DINOv2, ViT, timm or a dual encoder of these; or a TorchScript file (`.pt`). What the vector of each kind
            is, the classes of `neardup.encode.kinds` say.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dtype: number format of the computation; `int8` on CPUs, `fp16` on GPUs, `bf16` on GPUs and on CPUs that have
            AVX512-BF16 or AMX. Measured for ViT-B/32 on one core with AVX512-BF16: 10.1 photos/s, in bf16 19.3, in int8
            27.2.
        compiled: compile the layers by torch.compile in the first pass, which then takes 5 to 30 seconds; those of a
            convolutional network or a TorchScript file are not. Measured on
            one core with AVX512-BF16, for `builtin:tiny` and for ViT-B/32: in fp32 1.19 and 1.16 times as fast, the
            same vectors but for 5e-7; in bf16 slower, 0.82 and 0.88 times, with a cosine of 0.9998 to the vectors
            that were not compiled. int8 is not compiled.

    Raises:
        EncoderError: there is no such checkpoint, it is of no kind that is known, it has no safetensors weights, or the
            device cannot compute in that number format.
    """
    if is_torchscript(name):
        script, processor = load_torchscript(name)
        return TorchScriptEncoder(name, script, processor, device, dtype)
    kind, (model, processor) = load_checkpoint(name, {kind: encoder.PARTS for kind, encoder in KINDS.items()})
    return KINDS[kind](name, model, processor, device, dtype, compiled=compiled)
