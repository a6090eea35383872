"""Encoders that ONNX Runtime computes on the CPU, without torch: an ONNX file, or a checkpoint with a graph beside it.

A checkpoint's graph, `vision.onnx`, holds no weights but takes them by name from `model.safetensors`, so that a
fine-tuned checkpoint can use the graph of the checkpoint that it began from.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError, safe_open

from neardup.arrays import Vectors
from neardup.encode.protocol import require_finite
from neardup.encode.screen import descreened
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS, read_image, require_enlargeable
from neardup.stages import replacing, write_json
from neardup.words import counted, reason_of

GRAPH = "vision.onnx"
"""The vision tower of a checkpoint as a graph without weights; its input is `pixels`, float32 (n, 3, height, width)."""
MODEL = "model.onnx"
"""Name of the ONNX file in an encoder's folder, beside a `preprocessor_config.json`."""
PREPARATION = "preprocessor_config.json"
"""Transformers' file name for a checkpoint's image preparation."""
CONFIG = "config.json"
"""Transformers' file name for the description of a checkpoint's model."""
LAYOUT = "data_format"
"""Transformers' key, in `PREPARATION`, for the order of an image's dimensions: `channels_first` or `channels_last`."""
PASS = 4
"""Images in one pass: measured fastest for EfficientNet-Lite0, one thread a core."""

VISION = ("vision_model.", "visual_projection.")
"""Prefixes of the names of the vision tower's weights in a checkpoint."""
RANK = 4
"""Number of dimensions of a batch of images."""
CHANNELS = 3
"""Number of channels of an image: red, green and blue."""

Weights = Mapping[str, npt.NDArray[np.float32]]
"""Weights by their names."""
Pixels = npt.NDArray[np.uint8]
"""A prepared photo, RGB: uint8 (height, width, 3)."""


@dataclass(frozen=True)
class Preparation:
    """How a photo becomes a model's input.

    Attributes:
        height: height of the input in pixels.
        width: width of the input in pixels.
        squeeze: whether the whole photo is squeezed to the input's shape; else its shortest side is resized to
            `shortest` and the middle is cropped.
        shortest: shortest side before the crop, in pixels.
        resample: Pillow's number of the filter: 2 bilinear, 3 bicubic.
        mean: numbers that are subtracted from red, green and blue, 0 to 1, after `scale`.
        std: numbers by which red, green and blue are then divided.
        scale: factor by which the levels 0 to 255 are multiplied first.
        descreen: whether the dots of a printing screen are blurred before anything else.
    """

    height: int
    width: int
    squeeze: bool = True
    shortest: int = 0
    resample: int = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1 / 255
    descreen: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Preparation":
        """Read an image processor's configuration, as `save_pretrained` of transformers writes it.

        Raises:
            KeyError: the configuration names no size.
        """
        size, crop = config["size"], config.get("crop_size") if config.get("do_center_crop") else None
        shortest = int(size.get("shortest_edge", 0))
        if crop is None and shortest:
            raise KeyError("crop_size")
        height, width = (int((crop or size)[side]) for side in ("height", "width"))
        normalised = config.get("do_normalize", True)
        return cls(
            height,
            width,
            squeeze=crop is None,
            shortest=shortest or min(height, width),
            resample=int(config.get("resample", Image.Resampling.BICUBIC)),
            mean=tuple(config["image_mean"]) if normalised else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normalised else (1.0, 1.0, 1.0),
            scale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
            descreen=bool(config.get("do_descreen", False)),
        )

    def config(self) -> dict[str, Any]:
        """Make the configuration that `of` reads."""
        sides = {"height": self.height, "width": self.width}
        size = sides if self.squeeze else {"shortest_edge": self.shortest}
        crop = {} if self.squeeze else {"do_center_crop": True, "crop_size": sides}
        normalised = {"image_mean": self.mean, "image_std": self.std, "rescale_factor": self.scale}
        screens = {"do_descreen": True} if self.descreen else {}
        return {"size": size, **crop, "resample": self.resample, **normalised, **screens}

    @property
    def key(self) -> str:
        """All fields as JSON; `descreen` only where it is on, so that vectors from before it existed stay valid."""
        facts = asdict(self)
        return json.dumps({name: fact for name, fact in facts.items() if name != "descreen" or fact}, sort_keys=True)

    @property
    def draft(self) -> int:
        """The shortest side that is needed of a photo, in pixels."""
        return min(self.height, self.width) if self.squeeze else self.shortest

    def pixels(self, image: Image.Image) -> Pixels:
        """Resize and crop an RGB image: uint8 (height, width, 3)."""
        image = descreened(image) if self.descreen else image
        filter_ = Image.Resampling(self.resample)
        if self.squeeze:
            return np.asarray(image.resize((self.width, self.height), filter_))
        require_enlargeable(image, self.shortest)
        ratio = self.shortest / min(image.size)
        width, height = (max(self.shortest, round(side * ratio)) for side in image.size)
        left, top = (width - self.width) // 2, (height - self.height) // 2
        resized = image.resize((width, height), filter_)
        return np.asarray(resized.crop((left, top, left + self.width, top + self.height)))

    def normalised(self, pixels: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Normalise prepared photos for a model of floating-point input: float32 (n, 3, height, width)."""
        std = np.asarray(self.std, np.float32)
        factor, offset = np.float32(self.scale) / std, np.asarray(self.mean, np.float32) / std
        levels = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)
        levels *= factor[:, None, None]
        levels -= offset[:, None, None]
        return levels


@dataclass(frozen=True)
class OpenGraph:
    """An ONNX model that ONNX Runtime has opened.

    Attributes:
        model: bytes of the model's file, without weights that lie elsewhere.
        session: the `onnxruntime.InferenceSession` that computes it.
    """

    model: bytes
    session: Any


class OnnxEncoder:
    """An image encoder that ONNX Runtime computes in float32.

    Attributes:
        name: what the user calls it.
        fingerprint: SHA-256 of all that its vectors depend on.
        dimension: numbers of a vector.
        graph: the ONNX model.
        together: fixed number of images in every pass; 0 where `batch` decides.
        batch: images in one pass. Every pass has this many, the last one padded, or as many as the graph requires: with
            one shape, a photo's vector is the same to the last bit whatever it is encoded together with.
    """

    def __init__(
        self,
        name: str,
        graph: OpenGraph,
        preparation: Preparation,
        fingerprint: str,
        *,
        channels_last: bool | None = None,
        together: int = 0,
    ) -> None:
        """Make an encoder of an open graph.

        Args:
            name: what the user calls it.
            graph: model of one input, images (n, 3, height, width) or (n, height, width, 3); the first of its outputs
                that is a matrix, (n, d), holds the vectors.
            preparation: how a photo becomes that input.
            fingerprint: SHA-256 of graph or weights, and preparation.
            channels_last: whether images are (n, height, width, 3); None to infer it from the input's shape.
            together: fixed number of images in every pass of a graph that takes any number; 0 leaves it to `batch`.

        Raises:
            EncoderError: the model has other inputs or outputs, or does not take pictures as they are prepared.
        """
        self.name, self.fingerprint, self.batch, self.graph = name, fingerprint, PASS, graph.model
        self._preparation, self._session = preparation, graph.session
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape, matrices = inputs[0].shape, [one for one in outputs if len(one.shape) == 2]  # noqa: PLR2004 - (n, d)
        if len(inputs) != 1 or len(shape) != RANK or not matrices:
            raise EncoderError(
                f"{name} is no image encoder: it takes {_shapes(inputs)} and gives {_shapes(outputs)}, where images "
                "(n, 3, height, width) or (n, height, width, 3) go in and vectors (n, d) come out"
            )
        self._input, self._output = inputs[0].name, matrices[0].name
        self._type = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16}.get(inputs[0].type, np.float32)
        self._channels_last = shape[-1] == CHANNELS if channels_last is None else channels_last
        self.together = shape[0] if isinstance(shape[0], int) else together
        self.dimension = self._width()

    def _width(self) -> int:
        """Find the length of a vector by encoding a black picture, so that a broken model fails at once.

        Raises:
            EncoderError: the model does not take pictures as they are prepared, or its weights are broken.
        """
        height, width = self._preparation.height, self._preparation.width
        black = [np.zeros((height, width, CHANNELS), np.uint8)] * (self.together or 1)
        try:
            vectors = self._embed(black)
        except Exception as error:  # ONNX Runtime's errors have no common class of their own
            raise EncoderError(
                f"{self.name} does not take pictures of {height} × {width} pixels ({reason_of(error)}): mend the size"
            ) from error
        if len(vectors) != len(black):
            raise EncoderError(
                f"{self.name} gives {len(vectors)} vectors of {counted(len(black), 'picture')} of {height} × {width} "
                "pixels: mend the size, or name a model that gives one of each"
            )
        require_finite(self.name, vectors)
        return int(vectors.shape[1])

    @property
    def size(self) -> int:
        """The shortest side that is needed of a photo, in pixels."""
        return self._preparation.draft

    def by(self, graph: OpenGraph, fingerprint: str) -> "OnnxEncoder":
        """Make the encoder that another graph, of the same input and output, computes one photo at a time."""
        last = self._channels_last
        return OnnxEncoder(self.name, graph, self._preparation, fingerprint, channels_last=last, together=1)

    def save(self, folder: Path) -> None:
        """Write a folder that `load_encoder` can load, atomically: the graph, and how photos are prepared."""
        folder.mkdir(parents=True, exist_ok=True)
        layout = {LAYOUT: "channels_last"} if self._channels_last else {}
        write_json(folder / PREPARATION, self._preparation.config() | layout)
        with replacing(folder / MODEL) as partial:
            partial.write_bytes(self.graph)

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Decode an image, a large JPEG at a fraction of its size, and prepare it: uint8 (height, width, 3).

        Raises:
            UnreadableImageError: the image cannot be decoded.
        """
        return self.prepare(read_image(source, max_pixels=max_pixels, draft=self.size))

    def prepare(self, image: Image.Image) -> Pixels:
        """Resize and crop an RGB image: uint8 (height, width, 3)."""
        return self._preparation.pixels(image)

    def encode(self, images: Sequence[Image.Image | Pixels]) -> Vectors:
        """Encode RGB images, or what `read` gives of them.

        Returns:
            float32 (n, d), unit rows; the dot product of two is their similarity, higher is more alike.

        Raises:
            EncoderError: the weights give vectors that are not finite.
        """
        size = self.together or self.batch
        vectors = np.empty((len(images), self.dimension), np.float32)
        for start in range(0, len(images), size):
            some = [self.prepare(one) if isinstance(one, Image.Image) else one for one in images[start : start + size]]
            filled = some + [np.zeros_like(some[0])] * (size - len(some))
            vectors[start : start + len(some)] = self._embed(filled)[: len(some)]
        require_finite(self.name, vectors)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors

    def _embed(self, pixels: Sequence[Pixels]) -> Vectors:
        """Compute the vectors of one pass, float32 (n, d), not normalised."""
        vectors: Vectors = self._session.run([self._output], self.feed(pixels))[0]
        return vectors

    def feed(self, pixels: Sequence[Pixels]) -> dict[str, npt.NDArray[Any]]:
        """Make the graph's inputs for prepared photos: its single input by name."""
        if self._type is np.uint8:
            ready: npt.NDArray[Any] = np.stack(pixels).transpose(0, 3, 1, 2)
        else:
            ready = self._preparation.normalised(pixels).astype(self._type, copy=False)
        return {self._input: np.ascontiguousarray(ready.transpose(0, 2, 3, 1) if self._channels_last else ready)}


def _shapes(values: Sequence[Any]) -> str:
    """Write the shapes of a graph's inputs or outputs, for a sentence: `(n, 3, 224, 224) and (n, 4)`."""
    return " and ".join(f"({', '.join(map(str, value.shape))})" for value in values)


def open_graph(name: str, model: bytes, weights: Weights) -> OpenGraph:
    """Open a model in ONNX Runtime with one thread, because `encode_files` has a thread for each core.

    Args:
        name: what the user calls the model.
        model: bytes of the model's file.
        weights: initializers that are stored outside the graph; none where it holds all.

    Raises:
        EncoderError: ONNX Runtime cannot open the model.
    """
    import onnxruntime  # noqa: PLC0415 - a tenth of a second that not every command needs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # fatal: errors are raised anyway, and its optimisations interest nobody
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
        options.add_external_initializers(list(weights), values)
    try:
        return OpenGraph(model, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # its errors have no common class of their own
        raise EncoderError(f"ONNX Runtime cannot open {name} ({reason_of(error)}): export the model anew") from error


def of_checkpoint(name: str, folder: Path) -> OnnxEncoder:
    """Load the encoder of a checkpoint that has its graph beside it.

    Its vectors equal torch's to within 1e-6 in each number, and its fingerprint is the same.

    Args:
        name: what the user calls it.
        folder: folder with `vision.onnx`, `model.safetensors`, `config.json` and `preprocessor_config.json`.

    Raises:
        EncoderError: the weights are not those of the graph, or a file is missing or broken.
    """
    graph, weights = (folder / GRAPH).read_bytes(), vision_weights(folder)
    try:
        config, model = (json.loads((folder / file).read_text(encoding="utf-8")) for file in (PREPARATION, CONFIG))
        preparation, architecture = Preparation.of(config), timm_architecture(model.get("vision_config", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(
            f"{PREPARATION} or {CONFIG} of {name} cannot be read ({reason_of(error)}): copy the whole checkpoint again"
        ) from error
    fingerprint = fingerprint_of(weights, preparation, architecture)
    return OnnxEncoder(name, open_graph(name, graph, weights), preparation, fingerprint)


def vision_weights(folder: Path) -> Weights:
    """Read the weights of a checkpoint's vision tower, in float32, from its `model.safetensors`.

    Raises:
        EncoderError: the file is missing or broken.
    """
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="np") as stored:
            names = [name for name in stored.keys() if name.startswith(VISION) and bears_on_vectors(name)]  # noqa: SIM118
            return {name: np.asarray(stored.get_tensor(name), np.float32) for name in sorted(names)}
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path} cannot be read ({error}): copy the whole checkpoint again") from error


def bears_on_vectors(name: str) -> bool:
    """Whether vectors depend on a checkpoint's tensor: all but position indices and counts of batches."""
    return not name.endswith(("position_ids", "num_batches_tracked"))


def fingerprint_of(weights: Weights, preparation: Preparation, architecture: str = "") -> str:
    """Compute the SHA-256 of a vision tower's weights, its preparation of photos, and what `architecture` adds.

    It is the same for torch and ONNX Runtime.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    digest.update(preparation.key.encode())
    digest.update(architecture.encode())
    return digest.hexdigest()


def timm_architecture(config: Mapping[str, Any]) -> str:
    """Name and arguments of a timm architecture, as JSON; empty for another model's configuration."""
    if config.get("model_type") != "timm_wrapper":
        return ""
    return json.dumps([config["architecture"], config.get("model_args") or {}], sort_keys=True)
