"""A whole model for training, with what prepares its inputs, whatever its kind."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neardup.encode.background import Background
from neardup.encode.hub import load_checkpoint
from neardup.encode.kinds import KINDS, kind_of
from neardup.encode.onnx import GRAPH, MODEL, PREPARATION
from neardup.encode.onnx_file import is_onnx, load_onnx
from neardup.encode.protocol import checkpoint_folder
from neardup.encode.torchscript import is_torchscript, load_torchscript
from neardup.encode.vision import VisionEncoder
from neardup.errors import EncoderError
from neardup.stages import sync, sync_names

LEAST_VOCABULARY = 16
"""Least number of a tokenizer's tokens: for a folder without a tokenizer, transformers makes one of two tokens."""


@dataclass(frozen=True)
class Trainable:
    """A whole model, and what prepares its inputs.

    Attributes:
        name: what the user calls it.
        model: a model of transformers of one of `KINDS`, or a `Script`; in float32.
        tokenizer: tokenizer; None where the model reads no text.
        image_processor: processor that resizes, crops and normalises.
        graph: the checkpoint's ONNX graph of the vision tower, without weights; None where it has none.
        background: the checkpoint's background, if any; changed weights need another one, so that `save` leaves it out.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    graph: bytes | None = None
    background: Background | None = None

    def encoder(self, device: str = "auto") -> VisionEncoder:
        """Make an encoder of the model's vision part, which shares the model's weights."""
        kind = kind_of(self.model)
        return kind(self.name, kind.vision_of(self.model), self.image_processor, device)

    def save(self, folder: Path) -> None:
        """Write a folder that `load_encoder` reads, atomically; the weights are safetensors.

        For a model of transformers, `from_pretrained` reads it too. It is flushed to disk when this returns, so that
        files written later may rely on it even after a power cut.
        """
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.save_pretrained(partial)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(partial)
        self.image_processor.save_pretrained(partial)
        if self.graph is not None:
            (partial / GRAPH).write_bytes(self.graph)
        sync(partial, root=partial)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync_names(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def load_trainable(name: str) -> Trainable:
    """Load a whole model for training; names and errors as in `load_encoder`.

    Raises:
        EncoderError: also if it is an ONNX file, which cannot be trained.
    """
    if is_onnx(name):
        raise EncoderError(f"{name} is an ONNX file, which cannot be trained: name the checkpoint that it was made of")
    background = Background.load(checkpoint_folder(name))
    if is_torchscript(name):
        script, processor = load_torchscript(name)
        return Trainable(name, script, None, processor, background=background)
    parts = {kind: encoder.WHOLE for kind, encoder in KINDS.items()}
    kind, (model, processor, *tokenizers) = load_checkpoint(name, parts)
    if not tokenizers:
        return Trainable(name, model, None, processor, background=background)
    [tokenizer] = tokenizers
    token_count, text_config = len(tokenizer), model.config.text_config
    if token_count < LEAST_VOCABULARY:
        raise EncoderError(f"{name} holds no tokenizer, which fine-tuning needs: save it beside the weights")
    if token_count > text_config.vocab_size:
        raise EncoderError(
            f"the tokenizer of {name} has {token_count} tokens, its model {text_config.vocab_size}: they do not belong "
            "together"
        )
    if kind == "siglip":
        # SigLIP attends to padding as to words, and its config.json often names another token for it.
        text_config.pad_token_id = tokenizer.pad_token_id
    path = checkpoint_folder(name) / GRAPH
    graph = path.read_bytes() if path.is_file() else None
    return Trainable(name, model, tokenizer, processor, graph, background)


def save_encoder(name: str, folder: Path) -> None:
    """Write a folder from which `load_encoder` loads the encoder called `name`; errors as in `load_encoder`.

    It holds nothing else afterwards. It may be the folder that `name` names.
    """
    background = Background.load(checkpoint_folder(name))
    if is_onnx(name):
        load_onnx(name).save(folder)
        for path in folder.iterdir():  # what another encoder left that was saved there before
            if path.name not in {MODEL, PREPARATION}:
                path.unlink()
    else:
        load_trainable(name).save(folder)
    if background:
        background.save(folder)
