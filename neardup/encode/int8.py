"""A vision model in 8-bit integers, by ONNX Runtime: quantised once a machine, then read from where models are kept.

Weights take 7 of the 8 bits. A CPU that has AVX2 but no VNNI adds two products in 16 bits, which weights of 8 overflow:
measured there for `builtin:tiny`, the least cosine to float32 was 0.908 with 8 bits and is 0.997 with 7.

A transformer's activations are quantised as they come. A convolutional network's are quantised by scales that were
measured beforehand, for as they come it is neither near nor fast: for EfficientNet-Lite0 with ImageNet's weights and
160 pixels a side, on one core with VNNI, the mean cosine to float32 was 0.66 at 64 ms a photo, and is 0.98 at 3 ms;
torch takes 24 ms in float32.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from neardup.encode.graph import Exported, VectorsOf
from neardup.encode.hub import FOLDER
from neardup.encode.torchscript import Script
from neardup.errors import EncoderError, install_hint
from neardup.stages import digest_of, replacing

BITS = 7
"""Bits of a quantised weight; why not 8, the module's first lines say."""
MEASURED = 16
"""Pictures that the scales of a convolutional network are measured on."""
SIDE = 256
"""Pixels of a side of those pictures."""
FLOAT_CONVOLUTIONS = 6
"""First convolutions that stay in float32: for EfficientNet-Lite0 the mean cosine is 0.982 so, 0.963 with none of them,
and the time the same."""
Ready = Callable[[Image.Image], Tensor]
"""Prepares an RGB image for a model: float32 (1, 3, height, width), normalised."""


class Int8Tower:
    """A vision model whose weights and activations are int8.

    A scale that is taken as activations come is that of a whole input, so that each photo is an input of its own: in a
    batch its vector would depend on its company. Measured for ViT-B/32, photos a second on a core that has VNNI: 27.2
    alone, 30.6 in batches of 16, 10.1 in float32; on one that has not: 13.9 alone, 7.5 in float32.
    """

    def __init__(self, model: nn.Module, vectors_of: VectorsOf, ready: Ready, fingerprint: str) -> None:
        """Quantise a vision model, or read what was quantised of it before.

        Args:
            model: in float32.
            vectors_of: gives its vectors.
            ready: prepares a picture for it.
            fingerprint: that of the encoder.

        Raises:
            EncoderError: what quantises is not installed.
        """
        try:
            import onnx  # noqa: F401, PLC0415 - an optional dependency
        except ImportError as error:
            raise EncoderError(
                f"--precision int8 needs the package onnx: {install_hint('int8')}; or leave --precision out"
            ) from error
        self._path = FOLDER / f"{digest_of(fingerprint, BITS, onnxruntime.__version__, torch.__version__)}.onnx"
        if not self._path.is_file():
            _quantise(model.eval(), vectors_of, ready, self._path)

    @cached_property
    def _session(self) -> Any:
        """Opened at its first use: by then the weights in float32 are gone, and memory holds only one of the two."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # `encode_files` has a thread for each core
        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Vectors of float32 (n, 3, height, width), normalised pixels: float32 (n, d), not normalised."""
        one_by_one = pixels.numpy()[:, None]
        return torch.from_numpy(np.concatenate([self._session.run(None, {"pixels": one})[0] for one in one_by_one]))


def _quantise(model: nn.Module, vectors_of: VectorsOf, ready: Ready, path: Path) -> None:
    """Export for one photo and write with weights of 7 bits, a scale for each output; the same bytes every time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static  # noqa: PLC0415 - optional

    pictures = [ready(picture) for picture in _drawn(MEASURED)]
    exported = _exported(model, vectors_of, pictures[0])
    # Says that shapes are known, which the exporter sees to; without it a warning asks for one more pass.
    exported.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    weights = {"weight_type": QuantType.QInt8, "reduce_range": True, "per_channel": True}
    convolutions = [node.name for node in exported.graph.node if node.op_type == "Conv"]
    products = [node.name for node in exported.graph.node if node.op_type in {"MatMul", "Gemm"}]
    with replacing(path) as partial:
        if len(convolutions) > len(products):
            kept = convolutions[:FLOAT_CONVOLUTIONS]
            inputs, activations = _Inputs(pictures), QuantType.QUInt8
            quantize_static(exported, partial, inputs, **weights, activation_type=activations, nodes_to_exclude=kept)
        else:
            quantize_dynamic(exported, partial, **weights)


def _exported(model: nn.Module, vectors_of: VectorsOf, example: Tensor) -> Any:
    """A model as ONNX that takes `pixels`, shaped as the example, and gives vectors."""
    if not isinstance(model, Script):
        example, wrapped = torch.zeros_like(example), Exported(model, vectors_of).eval()
        program: Any = torch.onnx.export(wrapped, (example,), input_names=["pixels"], verbose=False)
        return program.model_proto
    import onnx  # noqa: PLC0415 - an optional dependency

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what replaces this exporter takes no TorchScript
        torch.onnx.export(model.script, (example,), file, input_names=["pixels"], dynamo=False)  # type: ignore[arg-type]
    return onnx.load_from_string(file.getvalue())


class _Inputs:
    """Pictures one after the other, as ONNX Runtime's calibration asks for them."""

    def __init__(self, pictures: list[Tensor]) -> None:
        self._pictures: Iterator[Tensor] = iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {"pixels": picture.numpy()}


def _drawn(count: int) -> list[Image.Image]:
    """Pictures of noise of all sizes, the coarse strongest, as in photographs; the same every time.

    Measured for EfficientNet-Lite0, they serve as photographs do: mean cosine to float32 0.963 and 0.969.
    """
    draws, total = torch.Generator().manual_seed(0), torch.zeros(count, 3, SIDE, SIDE)
    for power in range(2, SIDE.bit_length()):
        noise = torch.rand((count, 3, 2**power, 2**power), generator=draws) - 0.5
        total += functional.interpolate(noise, (SIDE, SIDE), mode="bilinear") * (SIDE / 2**power) ** 0.5
    pixels = (127.5 + 127.5 * total / total.abs().amax(dim=(1, 2, 3), keepdim=True)).byte()
    return [Image.fromarray(np.ascontiguousarray(one.permute(1, 2, 0).numpy())) for one in pixels]
