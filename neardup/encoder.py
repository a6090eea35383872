"""Encoders: pixels → one unit vector, with a fingerprint that vectors and thresholds carry."""

import copy
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from torch import nn
from transformers import AutoConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from neardup import tiny
from neardup.errors import EncoderError
from neardup.images import MAX_PIXELS, read_image

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

BUILTIN = "builtin:tiny"
LEAST_VOCABULARY = 16
"""A tokenizer that knows fewer tokens was read from nothing: transformers makes one of two tokens then."""
CHUNK = 16
"""Images in one pass. Every pass has this many, the last one filled up: with one shape, a photo's vector is the same to
the last bit whatever it is encoded together with."""

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """What turns photos into vectors."""

    name: str
    fingerprint: str
    dimension: int

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image as large as the encoder needs it."""

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Encode RGB images: float32 (n, d), unit rows; the dot product is the similarity, higher is more alike."""


@dataclass(frozen=True)
class Clip:
    """A whole CLIP: both towers, and what prepares their inputs."""

    name: str
    model: CLIPModel
    tokenizer: Any
    image_processor: Any

    def encoder(self, device: str = "auto") -> "ClipEncoder":
        """The vision tower as it is now; it shares its weights with this model."""
        config: Any = copy.deepcopy(self.model.config.vision_config)
        config.projection_dim = self.model.config.projection_dim
        with torch.device("meta"):  # nothing is allocated for weights that are put in place next
            tower = CLIPVisionModelWithProjection(config)
        tower.vision_model, tower.visual_projection = self.model.vision_model, self.model.visual_projection
        return ClipEncoder(self.name, tower, self.image_processor, device)

    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` reads, whole or not at all; the weights are safetensors."""
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.save_pretrained(partial)
        self.tokenizer.save_pretrained(partial)
        self.image_processor.save_pretrained(partial)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


class ClipEncoder:
    """The vision tower of a CLIP."""

    def __init__(self, name: str, model: nn.Module, image_processor: Any, device: str = "auto") -> None:
        """Take a `CLIPVisionModelWithProjection` and its image processor; vectors come out of `device`."""
        self.name = name
        self.device = pick_device(device)
        self.fingerprint = fingerprint(model, image_processor)
        self._model = model.eval().to(self.device)
        self._processor = image_processor
        self.dimension = int(model.config.projection_dim)  # type: ignore[union-attr, arg-type]
        self.size = _side(image_processor)

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image, a large JPEG at a fraction of its size.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        return read_image(source, max_pixels=max_pixels, draft=self.size)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Encode RGB images.

        Returns:
            float32 (n, d), unit rows; the dot product of two is their similarity, higher is more alike.

        Raises:
            EncoderError: the weights give vectors that are not finite.
        """
        parts = [self._pass(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def _pass(self, images: Sequence[Image.Image]) -> Vectors:
        pixels = torch.stack([self._processor(image, return_tensors="pt")["pixel_values"][0] for image in images])
        padded = torch.zeros((CHUNK, *pixels.shape[1:]))
        padded[: len(images)] = pixels
        embedded = self._model(pixel_values=padded.to(self.device)).image_embeds.float().cpu()[: len(images)]
        if not torch.isfinite(embedded).all():
            raise EncoderError(
                f"{self.name} gives vectors that are not finite: its weights are broken, take another one"
            )
        return np.asarray(nn.functional.normalize(embedded, dim=-1).numpy(), dtype=np.float32)


def pick_device(device: str) -> str:
    """`auto` is the GPU if there is one.

    Raises:
        EncoderError: a GPU was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderError("no CUDA device on this machine: leave --device out, or say --device cpu")
    return device


def _side(image_processor: Any) -> int:
    size = image_processor.size
    return int(size.get("shortest_edge") or min(size["height"], size["width"]))


def fingerprint(model: nn.Module, image_processor: Any) -> str:
    """SHA-256 of the vision tower's weights and of the preprocessing: equal only if the vectors are comparable."""
    digest = hashlib.sha256()
    tower = {
        name: value for name, value in model.state_dict().items() if name.startswith(("vision_model", "visual_proj"))
    }
    for name in sorted(tower):
        if not name.endswith("position_ids"):
            digest.update(name.encode())
            digest.update(tower[name].detach().float().cpu().contiguous().numpy().tobytes())
    fields = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_center_crop")
    preprocessing = {field: str(getattr(image_processor, field, None)) for field in fields}
    digest.update(json.dumps(preprocessing, sort_keys=True).encode())
    return digest.hexdigest()


def load_encoder(name: str, device: str = "auto") -> ClipEncoder:
    """Load an encoder of images; only the vision tower of a checkpoint is read.

    Args:
        name: `builtin:tiny`, a hub id such as `openai/clip-vit-base-patch32`, or a folder with a CLIP checkpoint.
        device: `auto`, `cpu`, `cuda`.

    Raises:
        EncoderError: there is no such checkpoint, it is no CLIP, or it has no safetensors weights.
    """
    model, processor = _load(name, CLIPVisionModelWithProjection, CLIPImageProcessor)
    return ClipEncoder(name, model, processor, device)


def load_clip(name: str) -> Clip:
    """Load a whole CLIP for training; names and errors as in `load_encoder`."""
    model, processor, tokenizer = _load(name, CLIPModel, CLIPImageProcessor, CLIPTokenizer)
    known, room = len(tokenizer), model.config.text_config.vocab_size
    if known < LEAST_VOCABULARY:
        raise EncoderError(f"{name} holds no tokenizer, which fine-tuning needs: save it beside the weights")
    if known > room:
        raise EncoderError(f"the tokenizer of {name} has {known} tokens, its model {room}: they do not belong together")
    return Clip(name, model, tokenizer, processor)


def _load(name: str, model: Any, *others: Any) -> list[Any]:
    if name == BUILTIN:
        return _from(str(tiny.FOLDER), model, others, local=True)
    if name.startswith("builtin:"):
        raise EncoderError(f"there is no {name}: the encoder that neardup ships is {BUILTIN}")
    if _is_folder(name):
        return _from(name, model, others, local=True)
    try:
        return _from(name, model, others, local=True)  # a model that is in the cache needs no network
    except EncoderError:
        _reach_hub(name)
        return _from(name, model, others, local=False)


def _is_folder(name: str) -> bool:
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise EncoderError(f"the folder {name} holds no config.json: name a folder that save_pretrained wrote")
        return True
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EncoderError(f"there is no folder {name}: name a folder with a CLIP checkpoint, a hub id, or {BUILTIN}")
    return False


def _from(name: str, model: Any, others: Sequence[Any], *, local: bool) -> list[Any]:
    try:
        kind = AutoConfig.from_pretrained(name, local_files_only=local).model_type
        if kind not in {"clip", "clip_vision_model"}:
            raise EncoderError(f"{name} is a {kind} model, not a CLIP: name a CLIP checkpoint")
        options = {"local_files_only": local, "use_safetensors": True, "dtype": torch.float32}
        loaded, report = model.from_pretrained(name, **options, output_loading_info=True)
        if report["missing_keys"]:
            raise EncoderError(f"{name} lacks the weights {sorted(report['missing_keys'])[:3]}: it is no whole CLIP")
        return [loaded.eval(), *(other.from_pretrained(name, local_files_only=local) for other in others)]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, OSError) and "safetensors" in str(error):
            raise EncoderError(
                f"{name} has no model.safetensors: save it again with safe_serialization=True"
            ) from error
        raise EncoderError(f"{name} cannot be loaded ({str(error).splitlines()[0][:200]}); {_advice(name)}") from error


def _advice(name: str) -> str:
    if Path(name).is_dir():
        return "save model, image processor and tokenizer there with save_pretrained"
    return (
        f"get it on a machine with network with `hf download {name} --local-dir FOLDER` and say --encoder FOLDER, "
        f"or say --encoder {BUILTIN}, which needs nothing"
    )


def _reach_hub(name: str) -> None:
    """Fail in seconds where the hub is away; its own client would go on trying for minutes."""
    address = f"{constants.ENDPOINT}/api/models/{name}"
    try:
        if constants.HF_HUB_OFFLINE:
            raise EncoderError(f"{name} is not on this machine and HF_HUB_OFFLINE is set; {_advice(name)}")
        urlopen(Request(address, method="HEAD"), timeout=10).close()  # noqa: S310 - the hub's own https address
    except HTTPError as error:
        if error.code in {401, 404}:
            raise EncoderError(f"the model hub has no {name}: check the name, or say --encoder {BUILTIN}") from error
    except (URLError, OSError) as error:
        raise EncoderError(
            f"{name} is not on this machine and the model hub cannot be reached; {_advice(name)}"
        ) from error
