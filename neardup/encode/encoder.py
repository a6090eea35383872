"""Encoders by name: loading and checking them, and the names that the rest of neardup imports."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neardup.encode.background import Background, NormalisedEncoder
from neardup.encode.devices import check_computation, without_torch
from neardup.encode.onnx import CONFIG, GRAPH, OnnxEncoder, of_checkpoint
from neardup.encode.onnx_file import is_onnx, load_onnx
from neardup.encode.protocol import BATCH, BUILTIN, CHECKPOINT, BatchEncoder, Encoder, checkpoint_folder
from neardup.errors import EncoderError
from neardup.stages import read_json

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype

__all__ = [
    "BATCH",
    "BUILTIN",
    "CHECKPOINT",
    "BatchEncoder",
    "Encoder",
    "check_encoder",
    "load_encoder",
    "loaded_encoder",
]


def load_encoder(
    name: str | Path,
    device: str = "auto",
    dtype: "Dtype" = "fp32",
    *,
    compiled: bool = False,
    onnx: Mapping[str, Any] | None = None,
) -> BatchEncoder:
    """Load an encoder of images; of a checkpoint, only the vision part is kept.

    Args:
        name: `builtin:tiny`; `sscd`, Meta's model for copies of photographs, which is fetched once; a hub id such as
            `openai/clip-vit-base-patch32` or `facebook/dinov2-small`; a folder with a checkpoint of CLIP, SigLIP,
            DINOv2, ViT, timm or a dual encoder of these; a TorchScript file (`.pt`); or an ONNX file (`.onnx`). The
            classes of `neardup.encode.kinds` describe each kind's vector; if the checkpoint holds
            `background.safetensors`, similarities are normalised as described in `neardup.encode.background`. On the
            CPU, in fp32, ONNX files and checkpoints with a graph, such as `builtin:tiny`, are computed by ONNX Runtime
            without torch.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dtype: number format of the computation; `int8` on CPUs, `fp16` on GPUs, `bf16` on GPUs and on CPUs that have
            AVX512-BF16 or AMX. Measured for ViT-B/32 on one core with AVX512-BF16: 10.1 photos/s in fp32, 19.3 in bf16,
            27.2 in int8.
        compiled: compile the layers by torch.compile in the first pass, which then takes 5 to 30 seconds; convolutional
            networks, TorchScript files and int8 are not compiled. Measured on one core with AVX512-BF16, for
            `builtin:tiny` and for ViT-B/32: in fp32 1.19 and 1.16 times as fast, with the same vectors to within 5e-7;
            in bf16 slower, 0.82 and 0.88 times as fast, at a cosine of 0.9998 to vectors without compilation.
        onnx: for an ONNX file, what it lacks or gets wrong: `layout` (`nchw` or `nhwc`), `size` (height, width), `mean`
            and `std` (three numbers each, of levels 0 to 1).

    Raises:
        EncoderError: there is no such checkpoint, its kind is unknown, it has no safetensors weights, the device or the
            number format is unknown, or the device cannot compute in the number format.
    """
    name = str(name)
    check_computation(device, dtype)
    if is_onnx(name):
        encoder: BatchEncoder = _of_onnx_file(name, device, dtype, onnx)
    elif without_torch(device, dtype) and not compiled and (checkpoint_folder(name) / GRAPH).is_file():
        encoder = of_checkpoint(name, checkpoint_folder(name))
    else:
        from neardup.encode.kinds import load_vision  # noqa: PLC0415 - torch, for seconds that ONNX Runtime saves

        encoder = load_vision(name, device, dtype, compiled=compiled)
    background = Background.load(checkpoint_folder(name))
    return NormalisedEncoder(encoder, background) if background else encoder


def loaded_encoder(name: str, device: str = "auto", dtype: "Dtype" = "fp32") -> BatchEncoder:
    """Load an encoder as `load_encoder` does, once per process, and again if a file of its folder changed.

    All steps of a run, and the check before it, share the encoder that was loaded last. Beside an ONNX file lie its
    preparation and its external weights, under any name.
    """
    path = checkpoint_folder(name)
    folder = path.parent if path.is_file() else path
    files: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    states = ((str(file), file.stat()) for file in files if file.is_file())
    return _loaded(name, device, dtype, frozenset((file, state.st_mtime_ns, state.st_size) for file, state in states))


@lru_cache(maxsize=1)
def _loaded(name: str, device: str, dtype: "Dtype", _files: frozenset[tuple[str, int, int]]) -> BatchEncoder:
    """Load an encoder, or reuse the last one; `_files` are path, mtime and size of each file of its checkpoint."""
    return load_encoder(name, device, dtype)


def _of_onnx_file(name: str, device: str, dtype: "Dtype", onnx: Mapping[str, Any] | None) -> OnnxEncoder:
    """Load the encoder in an ONNX file, as exported or in int8; arguments and errors as in `load_encoder`."""
    if device not in {"auto", "cpu"}:
        raise EncoderError(f"{name} is an ONNX file, which the CPU computes: leave --device out")
    if dtype not in {"fp32", "int8"}:
        raise EncoderError(
            f"{name} is an ONNX file, computed as it was exported or in int8: leave --precision {dtype} out"
        )
    encoder = load_onnx(name, onnx)
    if dtype == "fp32":
        return encoder
    from neardup.encode.int8 import in_int8  # noqa: PLC0415 - torch, for seconds

    return in_int8(encoder)


def check_encoder(name: str) -> None:
    """Raise an error, before an experiment begins, if an encoder cannot be loaded whole; errors as in `load_encoder`.

    The shipped encoder needs no check, and an ONNX file has only a vision part.
    """
    if is_onnx(name):
        load_onnx(name)
    elif name != BUILTIN:
        from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - torch, for seconds

        load_trainable(name).encoder("cpu")


def objectives_of(name: str) -> frozenset[str]:
    """List the objectives that a model can be trained with: `captions` if it reads text, `copies` unless an ONNX file.

    Errors are those of `load_encoder`.
    """
    if is_onnx(name):
        return frozenset()
    # A tower that was saved alone may have the tokenizer of the whole model beside it.
    reads = (Path(name) / "tokenizer_config.json").is_file() and "text_config" in read_json(Path(name) / CONFIG)
    if name == BUILTIN or reads:
        return frozenset({"captions", "copies"})
    from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - torch, for seconds

    return frozenset({"copies"} if load_trainable(name).tokenizer is None else {"captions", "copies"})


def limits_of(name: str) -> str:
    """Say what an experiment leaves out with an encoder, or nothing; errors as in `load_encoder`."""
    can = objectives_of(name)
    if not can:
        return "the encoder is an ONNX file, which cannot be trained: it is measured as it is"
    return "" if "captions" in can else "the encoder has no text tower: it is fine-tuned on copies alone"
