"""The model as MLflow keeps it: images in, unit vectors or hits out, the calibrated threshold beside the weights.

MLflow runs this very file when it loads the model (a model from code): the weights are safetensors, nothing is pickled.
"""

import base64
import hashlib
import io
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types.schema import AnyType, ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from PIL import Image

import neardup
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import Embeddings
from neardup.errors import UnreadableImageError
from neardup.search.nearest import mark_itself, nearest

if TYPE_CHECKING:
    from neardup.approach import Approach

REQUIREMENTS = (
    "fsspec",
    "imagehash",
    "mlflow",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "safetensors",
    "timm",
    "torch",
    "torchvision",
    "tqdm",
    "transformers",
    "xlsxwriter",
)
"""Packages that the model needs where it is served; each is pinned to the version that it was logged with."""


class NearDuplicates(PythonModel):
    """An encoder of photographs with the threshold at which two of them are called near-duplicates."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the vision tower, the threshold and, where one was logged, the gallery."""
        self.encoder = load_encoder(context.artifacts["checkpoint"])
        facts = json.loads(Path(context.artifacts["metrics"]).read_text(encoding="utf-8"))
        self.threshold: float | None = facts["threshold"]
        gallery = context.artifacts.get("gallery")
        self.gallery = Embeddings.load(Path(gallery)) if gallery else None

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Encode images, or search the gallery for them.

        Args:
            context: unused.
            model_input: a column `image`: base64 of an image's bytes, or the bytes themselves. Nothing is fetched.
            params: `top`: how many hits to return of each image; 0, the default, returns vectors.

        Returns:
            Vectors: float32 (n, d), unit rows; the dot product of two rows is their similarity, higher is more alike.
            Hits: for each image a list of at most `top`, best first, each with `path`, `photo` (SHA-256), `similarity`,
            `itself`, whether its bytes are those of the image, and `near_duplicate`, whether the similarity reaches the
            threshold.

        Raises:
            MlflowException: a row is no image, or hits are asked for and there is no gallery; a server answers 400.
        """
        images = [self._read(value, row) for row, value in enumerate(model_input["image"], 1)]
        vectors = self.encoder.encode([image for image, _ in images])
        photos = tuple(photo for _, photo in images)
        top = int((params or {}).get("top", 0))
        return vectors if top == 0 else self._hits(Embeddings(photos, photos, vectors, self.encoder.fingerprint), top)

    def _read(self, value: object, row: int) -> tuple[Any, str]:
        """Read the image of a request as the gallery's were read, and its SHA-256; an error names its row.

        Raises:
            MlflowException: it is neither base64 of an image nor its bytes.
        """
        try:
            data = value if isinstance(value, bytes) else base64.b64decode(str(value), validate=True)
            return self.encoder.read(data), hashlib.sha256(data).hexdigest()
        except (ValueError, UnreadableImageError) as error:
            raise MlflowException.invalid_parameter_value(
                f"image {row} is neither base64 of an image nor its bytes ({error}): send a JPEG, PNG, TIFF or the like"
            ) from error

    def _hits(self, queries: Embeddings, top: int) -> list[list[dict[str, Any]]]:
        """Find the photos of the gallery that are most like each query, as `predict` returns them."""
        if top < 0:
            raise MlflowException.invalid_parameter_value(f"top is {top}: ask for 1 hit or more, or 0 for vectors")
        if self.gallery is None:
            raise MlflowException.invalid_parameter_value("this model was logged without a gallery: leave `top` out")
        found = mark_itself(nearest(queries.vectors, self.gallery, top, fingerprint=queries.fingerprint), queries)
        least = float("inf") if self.threshold is None else self.threshold
        return [[{**asdict(hit), "near_duplicate": hit.similarity >= least} for hit in hits] for hits in found]


def log(approach: "Approach") -> None:
    """Log the approach's checkpoint as a model of the active run."""
    from neardup.decide.chosen_decision import DECISION  # noqa: PLC0415 - OpenCV, which a served model does without

    decision = approach.folder / DECISION
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(buffer, "PNG")
    mlflow.pyfunc.log_model(
        name="model",
        python_model=__file__,
        artifacts={
            "checkpoint": str(approach.folder / "checkpoint"),
            "metrics": str(approach.folder / "metrics.json"),
            "gallery": str(approach.folder / "vectors.parquet"),
            **({"decision": str(decision)} if decision.is_file() else {}),
        },
        signature=ModelSignature(
            inputs=Schema([ColSpec(AnyType(), "image")]),  # type: ignore[no-untyped-call]
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
            params=ParamSchema([ParamSpec("top", DataType.long, 0)]),
        ),
        input_example=pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]}),
        code_paths=[str(Path(neardup.__file__).parent)],
        pip_requirements=_pinned(),
    )


def _pinned() -> list[str]:
    """The model's requirements as pip takes them."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


if __name__ != "tasks.pyfunc":
    mlflow.models.set_model(NearDuplicates())
