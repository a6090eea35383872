"""CLIP: its vision tower as an encoder, and the whole of it for training."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from neardup.encode.hub import Parts, load_checkpoint
from neardup.encode.vision import VisionEncoder
from neardup.errors import EncoderError
from neardup.stages import sync, sync_names

LEAST_VOCABULARY = 16
"""Tokens of the smallest tokenizer that can be one: transformers makes one of two tokens of a folder without any."""


class ClipEncoder(VisionEncoder):
    """The vision tower of a CLIP, a `CLIPVisionModelWithProjection`."""

    PARTS: ClassVar[Parts] = (CLIPVisionModelWithProjection, CLIPImageProcessor)

    @staticmethod
    def dimension_of(model: Any) -> int:
        """Numbers of a vector: the width of the space that images and texts share."""
        return int(model.config.projection_dim)

    @staticmethod
    def vectors_of(model: Any, pixels: Tensor) -> Tensor:
        """Projected vectors, (n, d), not normalised, of normalised pixels, (n, 3, height, width)."""
        vectors: Tensor = model(pixel_values=pixels).image_embeds
        return vectors


@dataclass(frozen=True)
class Clip:
    """A whole CLIP: its two towers, and what prepares their inputs."""

    name: str
    model: CLIPModel
    tokenizer: Any
    image_processor: Any

    def encoder(self, device: str = "auto") -> ClipEncoder:
        """The vision tower as it is now; it shares its weights with this model."""
        config: Any = copy.deepcopy(self.model.config.vision_config)
        config.projection_dim = self.model.config.projection_dim
        with torch.device("meta"):  # nothing is allocated for weights that are put in place next
            tower = CLIPVisionModelWithProjection(config)
        tower.vision_model, tower.visual_projection = self.model.vision_model, self.model.visual_projection
        return ClipEncoder(self.name, tower, self.image_processor, device)

    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` reads, whole or not at all; the weights are safetensors.

        It is on the disk when this returns: what is written afterwards may rely on it even after a power cut.
        """
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.save_pretrained(partial)
        self.tokenizer.save_pretrained(partial)
        self.image_processor.save_pretrained(partial)
        sync(partial, root=partial)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync_names(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def load_clip(name: str) -> Clip:
    """Load a whole CLIP for training; names and errors as in `load_encoder`."""
    parts = CLIPModel, CLIPImageProcessor, CLIPTokenizer
    _, (model, processor, tokenizer) = load_checkpoint(name, {"clip": parts, "clip_vision_model": parts}, "a CLIP")
    known, room = len(tokenizer), model.config.text_config.vocab_size
    if known < LEAST_VOCABULARY:
        raise EncoderError(f"{name} holds no tokenizer, which fine-tuning needs: save it beside the weights")
    if known > room:
        raise EncoderError(f"the tokenizer of {name} has {known} tokens, its model {room}: they do not belong together")
    return Clip(name, model, tokenizer, processor)
