"""The kinds of checkpoint that encode images: how each is loaded, which part is its vision, and what its vector is."""

import copy
import math
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    SiglipModel,
    SiglipVisionModel,
    VisionTextDualEncoderModel,
)

from neardup.encode.hub import Parts, load_checkpoint
from neardup.encode.onnx import Preparation, bears_on_vectors, fingerprint_of, timm_architecture
from neardup.encode.torchscript import Script, is_torchscript, load_torchscript
from neardup.encode.vision import VisionEncoder, unusual_architecture
from neardup.errors import EncoderError

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which recipes need
    from neardup.settings.schema import Dtype


class ClipEncoder(VisionEncoder):
    """The vision tower of a CLIP, a `CLIPVisionModelWithProjection`: its vector is the projected one."""

    PARTS: ClassVar[Parts] = (CLIPVisionModelWithProjection, CLIPImageProcessor)
    """The vision tower of a CLIP with its projection, and the image processor."""
    WHOLE: ClassVar[Parts] = (CLIPModel, CLIPImageProcessor, CLIPTokenizer)
    """Both towers of a CLIP, the image processor and the tokenizer."""

    @staticmethod
    def vision_of(model: Any) -> nn.Module:
        """The vision tower of a CLIPModel, which shares its weights."""
        config: Any = copy.deepcopy(model.config.vision_config)
        config.projection_dim = model.config.projection_dim
        with torch.device("meta"):  # allocates no memory for weights that are assigned next
            tower: nn.Module = CLIPVisionModelWithProjection(config)
        tower.vision_model, tower.visual_projection = model.vision_model, model.visual_projection
        return tower

    @staticmethod
    def dimension_of(model: Any) -> int:
        """The width of the space that images and texts share."""
        return int(model.config.projection_dim)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Projected vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixel_values=pixels).image_embeds
        return vectors


class ClipVisionEncoder(ClipEncoder):
    """The vision tower of a CLIP that was saved without its text tower."""

    WHOLE: ClassVar[Parts] = ClipEncoder.PARTS
    """The vision tower and its image processor: the checkpoint has no more."""
    vision_of = staticmethod(VisionEncoder.vision_of)


class SiglipEncoder(VisionEncoder):
    """The vision tower of a SigLIP, a `SiglipVisionModel`: its vector is the output of its trained attention head.

    A SigLIP 2 of fixed resolution is of this kind; one of any resolution (NaFlex) has a `model_type` of its own.
    """

    PARTS: ClassVar[Parts] = (SiglipVisionModel, AutoImageProcessor)
    """The vision tower of a SigLIP, and the image processor."""
    WHOLE: ClassVar[Parts] = (SiglipModel, AutoImageProcessor, AutoTokenizer)
    """Both towers of a SigLIP, the image processor and the tokenizer."""

    @staticmethod
    def vision_of(model: Any) -> nn.Module:
        """The vision tower of a SiglipModel."""
        tower: nn.Module = model.vision_model
        return tower

    @staticmethod
    def dimension_of(model: Any) -> int:
        """The width of the vision tower.

        Raises:
            EncoderError: the tower has no head, and thus no vector of a whole picture.
        """
        config = getattr(model, "vision_model", model).config
        if not config.vision_use_head:
            raise EncoderError("this SigLIP tower has no pooling head, as those of chat models: name a whole SigLIP")
        return int(config.hidden_size)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Pooled vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixel_values=pixels).pooler_output
        return vectors


class SiglipVisionEncoder(SiglipEncoder):
    """The vision tower of a SigLIP that was saved without its text tower."""

    WHOLE: ClassVar[Parts] = SiglipEncoder.PARTS
    """The vision tower and its image processor: the checkpoint has no more."""
    vision_of = staticmethod(VisionEncoder.vision_of)


class PooledEncoder(VisionEncoder):
    """A vision model of transformers that has no text tower: DINOv2, DINOv2 with registers, or ViT.

    If a ViT's checkpoint has a trained pooler (a dense layer and tanh above the CLS token), the vector is the pooler's
    output. For all others, including a ViT without a pooler, as after training to classify, it is the CLS token after
    the last layer norm.
    """

    PARTS: ClassVar[Parts] = (AutoModel, AutoImageProcessor)
    """The vision model and its image processor."""
    WHOLE: ClassVar[Parts] = PARTS
    """All that can be trained: the kind has no text tower."""

    @staticmethod
    def dimension_of(model: Any) -> int:
        """The width of the pooler, or of the model where it has none."""
        pooler = getattr(model, "pooler", None)
        return int(pooler.dense.out_features if pooler else model.config.hidden_size)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        outputs = model(pixel_values=pixels)
        vectors: Tensor = outputs.last_hidden_state[:, 0] if outputs.pooler_output is None else outputs.pooler_output
        return vectors


class TimmImages:
    """Loads the image processor of a timm model, in the interface of transformers' classes."""

    @staticmethod
    def from_pretrained(name: str, *, local_files_only: bool) -> BitImageProcessor:
        """Load the image processor beside the model, or make one from the numbers in timm's own config.json.

        Its steps are timm's, but for the last bit: timm resizes by Pillow, transformers by torchvision.

        Raises:
            EncoderError: the model wants a border around its pictures, or pictures that are no squares.
        """
        try:
            return BitImageProcessor.from_pretrained(name, local_files_only=local_files_only)
        except OSError:  # timm's own checkpoints have no preprocessor_config.json
            return timm_image_processor(AutoConfig.from_pretrained(name, local_files_only=local_files_only))


def timm_image_processor(config: Any) -> BitImageProcessor:
    """Make an image processor of the steps by which timm prepares pictures for a `TimmWrapperModel`.

    Raises:
        EncoderError: the model wants a border around its pictures, or pictures that are no squares.
    """
    from timm import get_pretrained_cfg  # noqa: PLC0415 - takes a second
    from timm.data.config import resolve_data_config  # noqa: PLC0415 - takes a second
    from timm.data.transforms import str_to_pil_interp  # noqa: PLC0415 - takes a second

    registered: Any = get_pretrained_cfg(config.architecture)
    known = getattr(config, "pretrained_cfg", None) or registered.to_dict()
    data = resolve_data_config(config.model_args or {}, pretrained_cfg=known)
    _, height, width = data["input_size"]
    if data["crop_mode"] == "border" or height != width:
        raise EncoderError(
            f"{config.architecture} takes pictures of {height} × {width} pixels, crop mode {data['crop_mode']}; "
            "neardup has only squares that are cropped or squeezed: name another timm model"
        )
    side = math.floor(height / data["crop_pct"])
    return BitImageProcessor(
        size={"height": side, "width": side} if data["crop_mode"] == "squash" else {"shortest_edge": side},
        crop_size={"height": height, "width": width},
        resample=str_to_pil_interp(data["interpolation"]),
        image_mean=list(data["mean"]),
        image_std=list(data["std"]),
    )


class TimmEncoder(VisionEncoder):
    """A timm model, as a `TimmWrapperModel` of transformers: its vector is what the architecture pools.

    For a convolutional network that is the mean of the last feature map, unless `global_pool` in `model_args` of
    config.json says otherwise; for a transformer it is what it was trained with, mostly the CLS token.
    """

    PARTS: ClassVar[Parts] = (AutoModel, TimmImages)
    """The timm model, and an image processor of timm's steps."""
    WHOLE: ClassVar[Parts] = PARTS
    """All that can be trained: the kind has no text tower."""

    @staticmethod
    def architecture_of(model: Any) -> str:
        """Name and arguments of the architecture, because poolings differ without a difference in weights."""
        return timm_architecture(model.config.to_dict())

    @staticmethod
    @torch.inference_mode()
    def dimension_of(model: Any) -> int:
        """The width of a black picture's vector, as timm's models have no common attribute for it."""
        timm_model = model.timm_model
        embedding = getattr(timm_model, "patch_embed", None)
        size = getattr(embedding, "img_size", None) or timm_model.pretrained_cfg["input_size"][-2:]
        return int(timm_model(next(model.parameters()).new_zeros(1, 3, *size)).shape[1])

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Pooled vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixel_values=pixels, do_pooling=True).pooler_output
        return vectors


class DualVision(nn.Module):
    """The vision half of a `VisionTextDualEncoderModel`: its vision model, and the projection of its pooled output."""

    def __init__(self, whole: Any) -> None:
        """Take the vision half of a whole model, sharing its weights."""
        super().__init__()
        self.config = whole.config
        self.vision_model, self.visual_projection = whole.vision_model, whole.visual_projection

    @classmethod
    def from_pretrained(cls, name: str, **arguments: Any) -> tuple[Self, Any]:
        """Load the whole model as transformers does, keep the vision half, and return it with the loading report."""
        loaded: Any = VisionTextDualEncoderModel.from_pretrained(name, **arguments)
        whole, report = loaded
        return cls(whole), report

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)
        return vectors


class DualEncoder(VisionEncoder):
    """The vision half of a `VisionTextDualEncoderModel`: its vector is the projected one.

    The vision model's pooled output is projected: for timm models see `TimmEncoder`; for a ViT it is that of its
    pooler, for a DINOv2 or a CLIP the CLS token, for a SigLIP that of its attention head.
    """

    PARTS: ClassVar[Parts] = (DualVision, AutoImageProcessor)
    """The classes of the vision half and of the image processor."""
    WHOLE: ClassVar[Parts] = (VisionTextDualEncoderModel, AutoImageProcessor, AutoTokenizer)
    """Both halves of the dual encoder, the image processor and the tokenizer."""

    @staticmethod
    def vision_of(model: Any) -> nn.Module:
        """The vision half of a `VisionTextDualEncoderModel`, which shares its weights."""
        return DualVision(model)

    @classmethod
    def fingerprint_of(cls, model: Any, image_processor: Any) -> str:
        """The fingerprint, the same as that of ONNX Runtime's encoder of this checkpoint: their vectors are equal."""
        weights = {
            name: weight.detach().float().cpu().numpy()
            for name, weight in model.state_dict().items()
            if bears_on_vectors(name)
        }
        return fingerprint_of(weights, Preparation.of(image_processor.to_dict()), cls.architecture_of(model))

    @cached_property
    def _preparation(self) -> Preparation:
        """The image processor's steps, read once."""
        return Preparation.of(self._processor.to_dict())

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize and crop an RGB image by Pillow, as ONNX Runtime's encoder does: uint8 (3, height, width)."""
        return torch.from_numpy(self._preparation.pixels(image).transpose(2, 0, 1).copy())

    @staticmethod
    def architecture_of(model: Any) -> str:
        """Name and arguments of a timm vision model's architecture; of others, what is unusual in it."""
        config = model.vision_model.config
        return timm_architecture(config.to_dict()) or unusual_architecture(config)

    @staticmethod
    def dimension_of(model: Any) -> int:
        """The width of the space that images and texts share."""
        return int(model.config.projection_dim)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Projected vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixels)
        return vectors


class TorchScriptEncoder(VisionEncoder):
    """A TorchScript module that maps pixels to vectors; see `neardup.encode.torchscript`."""

    @staticmethod
    def architecture_of(model: Any) -> str:
        """SHA-256 of the file that the module's code is in."""
        return str(model.digest)

    @staticmethod
    def dimension_of(model: Any) -> int:
        """How many numbers the module returns for a picture."""
        return int(model.width)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixels)
        return vectors


KINDS: Mapping[str, type[VisionEncoder]] = MappingProxyType(
    {
        "clip": ClipEncoder,
        "clip_vision_model": ClipVisionEncoder,
        "dinov2": PooledEncoder,
        "dinov2_with_registers": PooledEncoder,
        "siglip": SiglipEncoder,
        "siglip_vision_model": SiglipVisionEncoder,
        "timm_wrapper": TimmEncoder,
        "vision-text-dual-encoder": DualEncoder,
        "vit": PooledEncoder,
    }
)
"""`model_type` in a checkpoint's config.json → its encoder: a new kind is a subclass of `VisionEncoder` and a line."""


def kind_of(model: Any) -> type[VisionEncoder]:
    """Find the kind of a model that `load_trainable` returned."""
    return TorchScriptEncoder if isinstance(model, Script) else KINDS[model.config.model_type]


def load_vision(name: str, device: str, dtype: "Dtype", *, compiled: bool) -> VisionEncoder:
    """Load a checkpoint's vision part, to compute by torch or in int8; arguments and errors as in `load_encoder`."""
    if is_torchscript(name):
        script, processor = load_torchscript(name)
        return TorchScriptEncoder(name, script, processor, device, dtype)
    kind, (model, processor) = load_checkpoint(name, {kind: encoder.PARTS for kind, encoder in KINDS.items()})
    return KINDS[kind](name, model, processor, device, dtype, compiled=compiled)
