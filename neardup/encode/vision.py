"""Vision models of transformers as encoders: from files to unit vectors, with a fingerprint of all that matters."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers.image_processing_backends import TorchvisionBackend

from neardup.arrays import Vectors
from neardup.encode.devices import pick_device, torch_dtype
from neardup.encode.hub import Parts
from neardup.encode.int8 import BITS, Int8Tower
from neardup.encode.protocol import BATCH, require_finite
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS, read_image, require_enlargeable
from neardup.words import reason_of

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype


ARCHITECTURE = ("hidden_act", "layer_norm_eps", "num_attention_heads")
"""Fields of a configuration that change a model's vectors but not the shapes of its weights."""


class VisionEncoder:
    """A vision model with its image processor; each kind of model is a subclass.

    Attributes:
        batch: images in one pass. Every pass has this many, the last one padded: with one shape, a photo's vector is
            the same to the last bit whatever it is encoded together with.
    """

    PARTS: ClassVar[Parts]
    """The classes that load the vision model and its image processor."""
    WHOLE: ClassVar[Parts]
    """The classes that load what can be trained: the model, its image processor and, where it reads text, its
    tokenizer."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        image_processor: Any,
        device: str = "auto",
        dtype: "Dtype" = "fp32",
        *,
        compiled: bool = False,
    ) -> None:
        """Make an encoder of a model of this kind and its image processor.

        Args:
            name: what the user calls it.
            model: the model in float32, on the CPU.
            image_processor: processor that resizes, crops and normalises.
            device: `auto`, `cpu`, `cuda`, `mps`.
            dtype: number format of the computation.
            compiled: compile the model's layers by torch.compile; see `load_encoder`.

        Raises:
            EncoderError: there is no such device, or it cannot compute in the number format; the image processor has
                other steps than resizing, cropping and normalising, or makes pictures that the model does not take.
        """
        if not isinstance(image_processor, TorchvisionBackend):
            raise EncoderError(
                f"{name} prepares pictures by a {type(image_processor).__name__}, whose steps neardup does not have: "
                "save another image processor beside the model"
            )
        self.name = name
        self.device = pick_device(device, dtype)
        self.fingerprint = in_dtype(self.fingerprint_of(model, image_processor), dtype)
        self.dimension = self.dimension_of(model)
        self.size = shortest_side(image_processor)
        self.batch = BATCH
        self._processor: Any = image_processor
        self._dtype = torch_dtype(dtype)
        self._model: Any = model.eval().to(self.device, self._dtype)
        self._try()
        if self._dtype is None:
            self._model = Int8Tower(name, model, self.vectors_of, self._ready, self.fingerprint)
        elif compiled:
            compile_layers(self._model)

    @staticmethod
    def vision_of(model: Any) -> nn.Module:
        """The vision part of a model loaded by `WHOLE`, as if loaded by `PARTS`; it shares the model's weights."""
        vision: nn.Module = model
        return vision

    @staticmethod
    def architecture_of(model: Any) -> str:
        """Facts, for the fingerprint, that change a model's vectors but are not in its weights."""
        return unusual_architecture(model.config)

    @classmethod
    def fingerprint_of(cls, model: Any, image_processor: Any) -> str:
        """Compute the SHA-256 of a model of this kind and its preprocessing; see `fingerprint`."""
        return fingerprint(model, image_processor, cls.architecture_of(model))

    @staticmethod
    def dimension_of(model: Any) -> int:
        """How many numbers a vector of a model of this kind has, whether it was loaded by `PARTS` or by `WHOLE`."""
        raise NotImplementedError

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width), by a model of this kind."""
        raise NotImplementedError

    @torch.inference_mode()
    def _try(self) -> None:
        """Encode a black picture, so that a broken model fails now, not after an hour of other work.

        Raises:
            EncoderError: the model does not take pictures as they are prepared, or its weights are broken.
        """
        try:
            black = self._ready(Image.new("RGB", (self.size, self.size)))
            vectors = self.vectors_of(self._model, black.to(self.device, self._dtype))
        except (RuntimeError, ValueError) as error:
            raise EncoderError(
                f"{self.name} does not take pictures as its preprocessor_config.json prepares them "
                f"({reason_of(error)}): put the one that belongs to the model beside it"
            ) from error
        require_finite(self.name, vectors.float().cpu().numpy())

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Decode an image, a large JPEG at a fraction of its size, and prepare it: uint8 (3, height, width).

        Raises:
            UnreadableImageError: the image cannot be decoded.
        """
        return self.prepare(read_image(source, max_pixels=max_pixels, draft=self.size))

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize and crop an RGB image: uint8 (3, height, width), as the image processor does before it normalises.

        The image processor's steps are called one by one: in 0.3 ms instead of 0.8 for 500 × 375 pixels.
        """
        processor = self._processor
        if processor.size.get("shortest_edge"):
            require_enlargeable(image, self.size)
        pixels: Tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = processor.resize(pixels, processor.size, processor.resample)
        if processor.do_center_crop:
            pixels = processor.center_crop(pixels, processor.crop_size)
        return pixels.contiguous()

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image | Tensor]) -> Vectors:
        """Encode RGB images, or what `read` gives of them.

        Returns:
            float32 (n, d), unit rows; the dot product of two is their similarity, higher is more alike.

        Raises:
            EncoderError: the weights give vectors that are not finite.
        """
        parts = [self._encode_batch(images[start : start + self.batch]) for start in range(0, len(images), self.batch)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def _encode_batch(self, images: Sequence[Image.Image | Tensor]) -> Vectors:
        """Compute unit vectors of at most `batch` images in one pass: float32 (n, d)."""
        pixels = torch.stack([image if isinstance(image, Tensor) else self.prepare(image) for image in images])
        embedded = self._embed(pixels.to(self.device)).float().cpu()
        require_finite(self.name, embedded.numpy())
        return np.asarray(nn.functional.normalize(embedded, dim=-1).numpy(), dtype=np.float32)

    def _embed(self, pixels: Tensor) -> Tensor:
        """Compute vectors, (n, d), not normalised, of uint8 (n, 3, height, width)."""
        if self._dtype is None:
            vectors: Tensor = self._model(self._normalised(pixels))
            return vectors
        filled = torch.cat([pixels, pixels.new_zeros(self.batch - len(pixels), *pixels.shape[1:])])
        return self.vectors_of(self._model, self._normalised(filled).to(self._dtype))[: len(pixels)]

    def _ready(self, image: Image.Image) -> Tensor:
        """Prepare an RGB image for the model: float32 (1, 3, height, width)."""
        return self._normalised(self.prepare(image)[None])

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Rescale and normalise prepared pixels: float32 of uint8, both (n, 3, height, width)."""
        processor = self._processor
        rescales, normalises = bool(processor.do_rescale), bool(processor.do_normalize)
        scaling = rescales, processor.rescale_factor, normalises, processor.image_mean, processor.image_std
        ready: Tensor = processor.rescale_and_normalize(pixels, *scaling)
        return ready


def shortest_side(image_processor: Any) -> int:
    """Read the shortest side, in pixels, to which an image processor resizes before it crops."""
    size = image_processor.size
    return int(size.get("shortest_edge") or min(size["height"], size["width"]))


def compile_layers(model: nn.Module, *, dynamic: bool | None = None) -> None:
    """Compile each layer of a model's stacks at its first use, in place: one compilation serves all layers of a stack.

    Stacks are those of transformers (`nn.ModuleList`). A convolutional network has none, because no two of its layers
    are alike, and is not compiled.

    Args:
        model: the model; its weights keep their names.
        dynamic: compile once for inputs of any length; by default, only when a second length occurs.
    """
    for stack in model.modules():
        if isinstance(stack, nn.ModuleList):
            for layer in stack:
                layer.compile(dynamic=dynamic)


def unusual_architecture(config: Any) -> str:
    """Fields of `ARCHITECTURE` in which a configuration differs from its class's defaults, as JSON; else empty."""
    usual = type(config)()
    unusual = {
        field: getattr(config, field)
        for field in ARCHITECTURE
        if getattr(config, field, None) != getattr(usual, field, None)
    }
    return json.dumps(unusual, sort_keys=True) if unusual else ""


def fingerprint(model: nn.Module, image_processor: Any, architecture: str = "") -> str:
    """Compute the SHA-256 of a vision model's weights, the preprocessing, and what `architecture` adds.

    Vectors of equal fingerprints may be compared, whatever the device, the batch and the compiler.
    """
    digest = hashlib.sha256()
    weights = model.state_dict()
    for name in sorted(weights):
        if not name.endswith("position_ids"):
            digest.update(name.encode())
            digest.update(weights[name].detach().float().cpu().contiguous().numpy().tobytes())
    fields = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_center_crop")
    preprocessing = {field: str(getattr(image_processor, field, None)) for field in fields}
    # Included only where they are off, so that older vectors stay valid.
    off = (field for field in ("do_rescale", "do_normalize") if getattr(image_processor, field, True) is False)
    preprocessing |= dict.fromkeys(off, "False")
    digest.update(json.dumps(preprocessing, sort_keys=True).encode())
    digest.update(architecture.encode())
    return digest.hexdigest()


def in_dtype(fingerprint: str, dtype: "Dtype") -> str:
    """Turn an encoder's float32 fingerprint into that of the encoder in another number format."""
    if dtype == "fp32":
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {dtype} {BITS if dtype == 'int8' else ''}".encode()).hexdigest()
