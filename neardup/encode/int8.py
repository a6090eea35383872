"""Encoders in 8-bit integers, by ONNX Runtime: quantised once per machine, then read from the cache.

Weights take 7 of the 8 bits. A CPU with AVX2 but without VNNI adds two products in 16 bits, which weights of 8 bits
overflow: measured there for `builtin:tiny`, the least cosine to float32 is 0.908 with 8 bits and 0.997 with 7.

A transformer's activations are quantised dynamically. A convolutional network's are quantised statically, by scales
measured beforehand, because dynamic quantisation is neither exact nor fast there: for EfficientNet-Lite0 with
ImageNet's weights and 160 pixels a side, on one core with VNNI, the mean cosine to float32 is 0.66 at 64 ms a photo
with dynamic scales, and 0.98 at 3 ms with static ones; torch takes 24 ms in float32.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from neardup.encode.graph import Exported, VectorsOf
from neardup.encode.hub import FOLDER
from neardup.encode.onnx import OnnxEncoder, open_graph
from neardup.encode.torchscript import Script
from neardup.errors import EncoderError, NeardupError, install_hint
from neardup.stages import digest_of, replacing
from neardup.words import reason_of

BITS = 7
"""Bits of a quantised weight: with 8, CPUs without VNNI overflow (see the module's docstring)."""
MEASURED = 16
"""Pictures on which the scales of a convolutional network are measured."""
SIDE = 256
"""Pixels of a side of the pictures on which scales are measured."""
FLOAT_CONVOLUTIONS = 6
"""First convolutions that stay in float32.

For EfficientNet-Lite0, the mean cosine is 0.982 with 6 of them and 0.963 with none, in the same time.
"""
OPSET = 13
"""Version of ONNX's operations from which a weight may have one scale per output."""
ADVICE = "leave --precision out"
"""Advice to a user whose model cannot be computed in int8."""
PRODUCTS = ("MatMul", "Gemm")
"""Operations of ONNX, other than convolutions, that multiply by weights."""
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "Integer", "QLinear")
"""Parts of the names of operations by which a model is recognised as quantised."""
Ready = Callable[[Image.Image], Tensor]
"""Function that prepares an RGB image for a model: float32 (1, 3, height, width), normalised."""
Feed = dict[str, npt.NDArray[Any]]
"""A model's inputs for one picture: name → value."""


class Int8Tower:
    """A vision model whose weights and activations are int8.

    A dynamic scale holds for a whole input, so that photos are computed one by one: in a batch, a photo's vector would
    depend on the others. Measured for ViT-B/32 in photos a second, on a core with VNNI: 27.2 one by one, 30.6 in
    batches of 16, 10.1 in float32; on a core without: 13.9 one by one, 7.5 in float32.
    """

    def __init__(self, name: str, model: nn.Module, vectors_of: VectorsOf, ready: Ready, fingerprint: str) -> None:
        """Quantise a vision model, or read the quantised model from the cache.

        Args:
            name: what the user calls it.
            model: the model in float32.
            vectors_of: function that computes its vectors.
            ready: function that prepares a picture for it.
            fingerprint: fingerprint of the encoder.

        Raises:
            EncoderError: what quantises is not installed, or the model is of a kind that cannot be quantised.
        """

        def export() -> tuple[Any, list[Feed]]:
            pictures = [ready(picture) for picture in _drawn(MEASURED)]
            model_proto = _exported(model.eval(), vectors_of, pictures[0])
            # Declares that shapes are known, which the exporter ensures; without it a warning asks for one more pass.
            model_proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
            return model_proto, [{"pixels": picture.numpy()} for picture in pictures]

        self._path = _quantised(name, fingerprint, export)

    @cached_property
    def _session(self) -> Any:
        """The session, opened at its first use: the float32 weights are gone by then, which saves memory."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # `encode_files` has a thread for each core
        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Compute vectors, float32 (n, d), not normalised, of normalised pixels, float32 (n, 3, height, width)."""
        one_by_one = pixels.numpy()[:, None]
        return torch.from_numpy(np.concatenate([self._session.run(None, {"pixels": one})[0] for one in one_by_one]))


def in_int8(encoder: OnnxEncoder) -> OnnxEncoder:
    """Convert the encoder of an ONNX file to int8: photos are computed one by one, as in `Int8Tower`.

    Raises:
        EncoderError: what quantises is not installed, or the model was quantised before, takes several photos at once,
            or is of a kind that cannot be quantised.
    """
    name = encoder.name
    if encoder.together > 1:
        raise EncoderError(
            f"{name} takes {encoder.together} photos at once, int8 needs one: export it anew, or {ADVICE}"
        )
    fingerprint = digest_of(encoder.fingerprint, "int8", BITS)
    model = _quantised(name, fingerprint, lambda: _prepared(encoder)).read_bytes()
    return encoder.by(open_graph(name, model, {}), fingerprint)


def _prepared(encoder: OnnxEncoder) -> tuple[Any, list[Feed]]:
    """Prepare the model of an ONNX file for quantisation, with its inputs for drawn pictures.

    Raises:
        EncoderError: the model was quantised before.
    """
    import onnx  # noqa: PLC0415 - an optional dependency
    from onnx.version_converter import convert_version  # noqa: PLC0415 - an optional dependency
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - optional

    model = onnx.load_from_string(encoder.graph)
    if _is_quantised(model):
        raise EncoderError(f"{encoder.name} was quantised before it was exported: {ADVICE}")
    if any(opset.domain == "" and opset.version < OPSET for opset in model.opset_import):
        model = convert_version(model, OPSET)
    with TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.onnx")
        onnx.save(model, file)
        quant_pre_process(file, file, skip_symbolic_shape=True)  # which would need another package
        return onnx.load(file), [encoder.feed([encoder.prepare(picture)]) for picture in _drawn(MEASURED)]


def _is_quantised(model: Any) -> bool:
    """Whether operations of a model compute in integers."""
    return any(part in node.op_type for node in model.graph.node for part in QUANTISED)


def _quantised(name: str, fingerprint: str, export: Callable[[], tuple[Any, list[Feed]]]) -> Path:
    """Path of a model's int8 file, which is made if it is not in the cache.

    Args:
        name: what the user calls the model.
        fingerprint: fingerprint of the encoder in int8.
        export: function that gives the model in float32, and its inputs for the pictures on which scales are measured.

    Raises:
        EncoderError: what quantises is not installed, or the model is of a kind that cannot be quantised.
    """
    path = FOLDER / f"{digest_of(fingerprint, BITS, onnxruntime.__version__, torch.__version__)}.onnx"
    if path.is_file():
        return path
    try:
        _quantise(*export(), path)
    except ImportError as error:
        raise EncoderError(f"--precision int8 needs the package onnx: {install_hint('int8')}; or {ADVICE}") from error
    except (NeardupError, OSError):
        raise
    except Exception as error:  # errors of torch's exporter, ONNX and ONNX Runtime have no common class
        raise EncoderError(f"{name} cannot be computed in int8 ({reason_of(error)}): {ADVICE}") from error
    return path


def _quantise(model: Any, feeds: list[Feed], path: Path) -> None:
    """Write a model with weights of 7 bits, with one scale per output; the bytes are the same every time.

    Raises:
        ValueError: there is nothing to quantise. ONNX Runtime may raise other errors.
    """
    import onnx  # noqa: PLC0415 - an optional dependency
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static  # noqa: PLC0415 - optional

    weights = {"weight_type": QuantType.QInt8, "reduce_range": True, "per_channel": True}
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    with replacing(path) as partial:
        if len(convolutions) > len(products):
            kept = convolutions[:FLOAT_CONVOLUTIONS]
            inputs, activations = _Inputs(feeds), QuantType.QUInt8
            quantize_static(model, partial, inputs, **weights, activation_type=activations, nodes_to_exclude=kept)
        else:
            quantize_dynamic(model, partial, **weights)
        if not _is_quantised(onnx.load(partial)):
            raise ValueError("it has no weights in float32 to quantise")
        onnxruntime.InferenceSession(partial, providers=["CPUExecutionProvider"])  # keep only what can be opened


def _exported(model: nn.Module, vectors_of: VectorsOf, example: Tensor) -> Any:
    """Export a model to ONNX, from `pixels` in the shape of the example to vectors."""
    if not isinstance(model, Script):
        example, wrapped = torch.zeros_like(example), Exported(model, vectors_of).eval()
        program: Any = torch.onnx.export(wrapped, (example,), input_names=["pixels"], verbose=False)
        return program.model_proto
    import onnx  # noqa: PLC0415 - an optional dependency

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter's successor takes no TorchScript
        torch.onnx.export(model.script, (example,), file, input_names=["pixels"], dynamo=False)  # type: ignore[arg-type]
    return onnx.load_from_string(file.getvalue())


class _Inputs:
    """Inputs for pictures, one after the other, in the interface of ONNX Runtime's calibration."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _drawn(count: int) -> list[Image.Image]:
    """Draw pictures of noise at all scales, the coarse strongest, as in photographs; the same every time.

    Measured for EfficientNet-Lite0, they serve about as well as photographs: mean cosine to float32 0.963 against
    0.969.
    """
    draws, total = torch.Generator().manual_seed(0), torch.zeros(count, 3, SIDE, SIDE)
    for power in range(2, SIDE.bit_length()):
        noise = torch.rand((count, 3, 2**power, 2**power), generator=draws) - 0.5
        total += functional.interpolate(noise, (SIDE, SIDE), mode="bilinear") * (SIDE / 2**power) ** 0.5
    pixels = (127.5 + 127.5 * total / total.abs().amax(dim=(1, 2, 3), keepdim=True)).byte()
    return [Image.fromarray(np.ascontiguousarray(one.permute(1, 2, 0).numpy())) for one in pixels]
