"""Write the vision tower of a checkpoint as an ONNX graph without weights; this needs torch, using it does not."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neardup.encode.onnx import bears_on_vectors
from neardup.stages import replacing

logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its warnings tell of optimisations that it leaves out

SMALL = 64
"""Most numbers in a constant that is folded when a graph is written; weights have more."""
VectorsOf = Callable[[Any, Tensor], Tensor]
"""Function from a model and normalised pixels, (n, 3, height, width), to vectors, (n, d)."""


class Exported(nn.Module):
    """A model from one tensor to one tensor, as the exporter needs it."""

    def __init__(self, tower: nn.Module, vectors_of: VectorsOf) -> None:
        """Combine a model and the function that computes its vectors."""
        super().__init__()
        self.tower, self.vectors_of = tower, vectors_of

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute vectors, (n, d), of normalised pixels, (n, 3, height, width)."""
        return self.vectors_of(self.tower, pixels)


def write_graph(tower: nn.Module, vectors_of: VectorsOf, shape: Sequence[int], path: Path) -> None:
    """Write the graph of a vision tower without its weights, which come from the checkpoint by name.

    Args:
        tower: the vision tower in float32, on the CPU.
        vectors_of: function that computes its vectors.
        shape: shape of a prepared photo, (3, height, width).
        path: the file.
    """
    from onnx import TensorProto  # noqa: PLC0415 - an optional dependency
    from onnxscript import optimizer  # noqa: PLC0415 - an optional dependency

    images = torch.zeros(2, *shape)  # from a batch of one, the exporter infers that every batch is
    program: Any = torch.onnx.export(
        Exported(tower, vectors_of).eval(),
        (images,),
        input_names=["pixels"],
        output_names=["vectors"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
        verbose=False,
        optimize=False,  # it would fold batch norms into weights that no checkpoint has
    )
    # Constants without weights are folded, so that ONNX Runtime fuses convolution, batch norm and activation when it
    # reads the weights: measured for EfficientNet-Lite0, 11 ms a photo instead of 33.
    optimizer.inline(program.model)
    optimizer.fold_constants(program.model, onnx_shape_inference=True, input_size_limit=SMALL)
    optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    weights = {f"tower.{name}": name for name in tower.state_dict() if bears_on_vectors(name)}
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            initializer.name = weights[initializer.name]
            initializer.ClearField("raw_data")
            initializer.data_location = TensorProto.EXTERNAL
            initializer.external_data.add(key="location", value="model.safetensors")
    for node in model.graph.node:
        node.input[:] = [weights.get(name, name) for name in node.input]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")  # where in the source the exporter found each operation
    model.graph.ClearField("value_info")
    with replacing(path) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
