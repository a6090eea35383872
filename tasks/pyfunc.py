"""The model as MLflow keeps it: images in, unit vectors out, the calibrated threshold beside the weights.

MLflow runs this very file when it loads the model (a model from code): the weights are safetensors, nothing is pickled.
"""

import base64
import binascii
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types.schema import ColSpec, Schema, TensorSpec
from PIL import Image

import neardup
from neardup.encoder import load_encoder
from neardup.errors import UnreadableImageError
from neardup.images import read_image

if TYPE_CHECKING:
    from neardup.experiment import Approach

REQUIREMENTS = (
    "imagehash",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "torch",
    "torchvision",
    "transformers",
)


class NearDuplicates(PythonModel):
    """An encoder of photographs with the threshold at which two of them are called near-duplicates."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the vision tower and the threshold."""
        self.encoder = load_encoder(context.artifacts["checkpoint"])
        facts = json.loads(Path(context.artifacts["metrics"]).read_text(encoding="utf-8"))
        self.threshold = facts["threshold"]

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - the interface's
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - the interface's
    ) -> npt.NDArray[np.float32]:
        """Encode images.

        Args:
            context: unused.
            model_input: a column `image`: base64 of an image's bytes, or the path of a file.
            params: unused.

        Returns:
            float32 (n, d), unit rows; the dot product of two rows is their similarity, higher is more alike.

        Raises:
            UnreadableImageError: a row is neither base64 of an image nor the path of one.
        """
        return self.encoder.encode([read(str(text)) for text in model_input["image"]])


def read(text: str) -> Image.Image:
    """An image from base64 or from a path.

    Raises:
        UnreadableImageError: it is neither.
    """
    try:
        return read_image(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnreadableImageError):
        path = Path(text)
        if len(text) < 4096 and path.is_file():  # noqa: PLR2004 - the longest path there is
            return read_image(path)
        raise UnreadableImageError("expected base64 of an image or the path of one, found neither") from None


def log(approach: "Approach") -> None:
    """Log the approach's checkpoint as a model of the active run."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(buffer, "PNG")
    mlflow.pyfunc.log_model(
        name="model",
        python_model=__file__,
        artifacts={
            "checkpoint": str(approach.folder / "checkpoint"),
            "metrics": str(approach.folder / "metrics.json"),
        },
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", "image")]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
        ),
        input_example=pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]}),
        code_paths=[str(Path(neardup.__file__).parent)],
        pip_requirements=_pinned(),
    )


def _pinned() -> list[str]:
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


if __name__ != "tasks.pyfunc":
    mlflow.models.set_model(NearDuplicates())
