"""A vision tower in 8-bit integers, by ONNX Runtime: quantised once a machine, then read from where models are kept.

Weights take 7 of the 8 bits. A CPU that has AVX2 but no VNNI adds two products in 16 bits, which weights of 8 overflow:
measured there for `builtin:tiny`, the least cosine to float32 was 0.908 with 8 bits and is 0.997 with 7.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from neardup.errors import EncoderError, install_hint
from neardup.stages import digest_of, replacing

FOLDER = Path(constants.HF_HOME) / "neardup"
"""Where quantised towers are kept; each can be deleted at any time."""
BITS = 7
"""Bits of a quantised weight; why not 8, the module's first lines say."""
VectorsOf = Callable[[Any, Tensor], Tensor]
"""Gives the vectors, (n, d), of normalised pixels, (n, 3, height, width), by a model."""


class Int8Tower:
    """A vision tower whose weights are int8 and whose activations are quantised as they come.

    Their scale is that of a whole input, so that each photo is an input of its own: in a batch its vector would depend
    on its company. Measured for ViT-B/32, photos a second on a core that has VNNI: 27.2 alone, 30.6 in batches of 16,
    10.1 in float32; on one that has not: 13.9 alone, 7.5 in float32.
    """

    def __init__(self, model: nn.Module, vectors_of: VectorsOf, shape: Sequence[int], fingerprint: str) -> None:
        """Quantise a vision model, or read what was quantised of it before.

        Args:
            model: in float32.
            vectors_of: gives its vectors.
            shape: that of a prepared photo, (3, height, width).
            fingerprint: that of the encoder.

        Raises:
            EncoderError: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise EncoderError(
                f"--precision int8 needs ONNX Runtime: {install_hint('int8')}; or leave --precision out"
            ) from error
        self._runtime = onnxruntime
        self._path = FOLDER / f"{digest_of(fingerprint, BITS, onnxruntime.__version__, torch.__version__)}.onnx"
        if not self._path.is_file():
            _quantise(_Exported(model, vectors_of), shape, self._path)

    @cached_property
    def _session(self) -> Any:
        """Opened at its first use: by then the weights in float32 are gone, and memory holds only one of the two."""
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1  # `encode_files` has a thread for each core
        return self._runtime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Vectors of float32 (n, 3, height, width), normalised pixels: float32 (n, d), not normalised."""
        one_by_one = pixels.numpy()[:, None]
        return torch.from_numpy(np.concatenate([self._session.run(None, {"pixels": one})[0] for one in one_by_one]))


class _Exported(nn.Module):
    """A model that takes and gives one tensor, as the exporter wants it."""

    def __init__(self, tower: nn.Module, vectors_of: VectorsOf) -> None:
        super().__init__()
        self.tower, self.vectors_of = tower, vectors_of

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vectors_of(self.tower, pixels)


def _quantise(model: nn.Module, shape: Sequence[int], path: Path) -> None:
    """Export for one photo and write with weights of 7 bits, a scale for each output; the same bytes every time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - an optional dependency

    program: Any = torch.onnx.export(model.eval(), (torch.zeros(1, *shape),), input_names=["pixels"], verbose=False)
    exported = program.model_proto
    # Says that shapes are known, which the exporter sees to; without it a warning asks for one more pass.
    exported.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with replacing(path) as partial:
        quantize_dynamic(exported, partial, weight_type=QuantType.QInt8, reduce_range=True, per_channel=True)
