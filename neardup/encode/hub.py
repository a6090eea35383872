"""Load models by name: the checkpoint that neardup ships, a folder, or an id of the model hub."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
import transformers
from huggingface_hub import constants, get_token, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig

from neardup.encode.protocol import BUILTIN, CHECKPOINT
from neardup.errors import EncoderError
from neardup.words import reason_of

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

FOLDER = Path(constants.HF_HOME) / "neardup"
"""Cache folder of quantised towers and of files that neardup downloads; each can be deleted at any time."""
TIMEOUT = 10
"""Seconds in which the hub must answer: its own client would retry for minutes."""

KNOWN = "CLIP, SigLIP (also SigLIP 2 of one resolution), DINOv2, ViT, a timm model, or a dual encoder of these"
"""The models that neardup can load, for the sentence of an error."""
POOLER = "pooler."
"""Prefix of the weights that a vision model's checkpoint may lack, as many were trained without a pooler."""

BROKEN = (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, AttributeError)
"""Errors that transformers raises for a broken checkpoint: it has no class of its own for that."""

Parts = Sequence[Any]
"""Classes of transformers that load a checkpoint: the model's first, then those that prepare its inputs."""


def load_checkpoint(name: str, kinds: Mapping[str, Parts]) -> tuple[str, list[Any]]:
    """Load a model in float32, and what prepares its inputs; only files that are not on this machine are downloaded.

    Args:
        name: `builtin:tiny`, a hub id such as `openai/clip-vit-base-patch32`, or a folder that `save_pretrained` wrote.
        kinds: `model_type` of a checkpoint's config.json → the classes that load it.

    Returns:
        The model's kind, and an instance of each of the kind's classes.

    Raises:
        EncoderError: there is no such checkpoint, its kind is not among `kinds`, or it lacks safetensors weights.
    """
    if name == BUILTIN:
        return _loaded(str(CHECKPOINT), kinds, local=True)
    if name.startswith("builtin:"):
        raise EncoderError(f"there is no {name}: the encoder that neardup ships is {BUILTIN}")
    if _is_folder(name):
        return _loaded(name, kinds, local=True)
    try:
        return _loaded(name, kinds, local=True)  # a model that is in the cache needs no network
    except EncoderError as fault:
        # For a model that is here but broken, its fault says more than an unreachable hub.
        here = isinstance(try_to_load_from_cache(name, "config.json"), str)
        _reach_hub(name, fault if here else None)
        return _loaded(name, kinds, local=False)


def _is_folder(name: str) -> bool:
    """Whether a name is a folder of this machine; otherwise it is an id of the hub."""
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise EncoderError(f"the folder {name} holds no config.json: name a folder that save_pretrained wrote")
        return True
    if Path(name).is_file():
        raise EncoderError(
            f"{name} is a file, and no model that neardup can load: name an ONNX file (.onnx), a TorchScript file "
            f"(.pt), a folder with a checkpoint, a hub id, or {BUILTIN}"
        )
    try:
        try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        sentence = f"there is no folder {name}: name a folder with a checkpoint, a hub id, or {BUILTIN}"
        raise EncoderError(sentence) from None
    return False


def _loaded(name: str, kinds: Mapping[str, Parts], *, local: bool) -> tuple[str, list[Any]]:
    """Load a checkpoint's kind and parts, from this machine alone if `local`."""
    try:
        kind = AutoConfig.from_pretrained(name, local_files_only=local).model_type
        if kind not in kinds:
            raise EncoderError(f"{name} is a {kind} model, which neardup cannot encode by: name {KNOWN}")
        model, *others = kinds[kind]
        arguments = {"local_files_only": local, "use_safetensors": True, "dtype": torch.float32}
        loaded, report = model.from_pretrained(name, **arguments, output_loading_info=True)
        missing = sorted(report["missing_keys"])
        if missing and all(key.startswith(POOLER) for key in missing):
            loaded.pooler = None  # its weights would be random
        elif missing:
            raise EncoderError(f"{name} lacks the weights {missing[:3]}: it is not the whole of a {kind} model")
        return kind, [loaded.eval(), *(other.from_pretrained(name, local_files_only=local) for other in others)]
    except (*BROKEN, SafetensorError, StrictDataclassError) as error:
        if isinstance(error.__cause__, RepositoryNotFoundError) and not local:  # a gated model is one of these
            raise EncoderError(_closed(name)) from error
        raise EncoderError(_fault_of(name, error)) from error


def _fault_of(name: str, error: Exception) -> str:
    """Turn an error of transformers' loading into a sentence: what is wrong and what to do."""
    text = str(error)
    if isinstance(error, SafetensorError) or "ignore_mismatched_sizes" in text:
        reason = "other shapes than its config.json says" if "mismatched" in text else reason_of(error)
        return f"the weights of {name} cannot be read ({reason}): copy the whole checkpoint again"
    if isinstance(error, OSError) and "safetensors" in text:
        return f"{name} has no model.safetensors: save it again with safe_serialization=True"
    if "image processor" in text:
        return (
            f"{name} has no preprocessor_config.json, which says how photos are prepared for it: save the image "
            "processor of the model beside its weights, with save_pretrained"
        )
    if "does not recognize this architecture" in text:
        return (
            f"{name} is of a kind that transformers {transformers.__version__} does not know: update transformers, or "
            f"name {KNOWN}"
        )
    if "your version of timm" in text:
        return f"{name} cannot be loaded ({reason_of(error)}): update timm, or name {KNOWN}"
    return f"{name} cannot be loaded ({reason_of(error)}); {_advice(name)}"


def _advice(name: str) -> str:
    """Say what the user can do about a checkpoint that cannot be loaded."""
    if Path(name).is_dir():
        return "save model, image processor and tokenizer there with save_pretrained"
    return (
        f"get it on a machine with network with `hf download {name} --local-dir FOLDER` and say --encoder FOLDER, "
        f"or say --encoder {BUILTIN}, which needs nothing"
    )


def _closed(name: str) -> str:
    """Make the sentence for a model that the hub denies; it gives the same answer for one that does not exist."""
    token = "the token that is set may not read it" if get_token() else "no token is set"
    return (
        f"the model hub does not give {name} to this machine: it is private or gated, or there is none of that name, "
        f"and {token}; check the name, set HF_TOKEN to a token that may read it, or say --encoder {BUILTIN}"
    )


def _reach_hub(name: str, fault: EncoderError | None) -> None:
    """Raise an error within seconds if the hub is unreachable, has no such model, or denies it.

    Args:
        name: id of the model.
        fault: error of the copy on this machine, if any, to be raised if the hub is unreachable.
    """
    if constants.HF_HUB_OFFLINE:
        raise fault or EncoderError(f"{name} is not on this machine and HF_HUB_OFFLINE is set; {_advice(name)}")
    request = Request(f"{constants.ENDPOINT}/api/models/{name}", method="HEAD")  # noqa: S310 - the hub's own address
    if token := get_token():
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # no other server is to see it
    try:
        urlopen(request, timeout=TIMEOUT).close()  # noqa: S310 - the hub's own address
    except HTTPError as error:
        error.close()  # it holds the connection
        if error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise EncoderError(_closed(name)) from error
        if error.code == HTTPStatus.NOT_FOUND:
            raise EncoderError(f"the model hub has no {name}: check the name, or say --encoder {BUILTIN}") from error
    except (URLError, OSError) as error:
        raise fault or EncoderError(
            f"{name} is not on this machine and the model hub cannot be reached; {_advice(name)}"
        ) from error
