"""A tiny model of each kind that encodes images, with random weights, the same each time."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    TimmWrapperConfig,
    TimmWrapperModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from neardup.builtin import tiny
from neardup.encode.trainable import Trainable

SIDE = 32
"""Pixels of a side of these models' pictures."""
PROJECTED = 48
"""Numbers of a vector of the ONNX file and of the TorchScript file."""
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SEES = {**SIZES, "image_size": SIDE, "patch_size": 16}
TOKENIZER = tiny.tokenizer()
READS = {**SIZES, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": len(TOKENIZER)}
SQUARE = {"height": SIDE, "width": SIDE}
CROPPING = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}


def clip() -> Trainable:
    """A CLIP of two layers a tower."""
    width = {"projection_dim": 16}
    model = CLIPModel(CLIPConfig(text_config={**READS, **width}, vision_config={**SEES, **width}, **width))
    return Trainable("clip", model.eval(), TOKENIZER, CLIPImageProcessor(**CROPPING))


def siglip() -> Trainable:
    """A SigLIP of two layers a tower, whose texts have 24 tokens."""
    reads = {**READS, "max_position_embeddings": 24, "projection_size": 32}
    model = SiglipModel(SiglipConfig(text_config=reads, vision_config=SEES))
    return Trainable("siglip", model.eval(), TOKENIZER, SiglipImageProcessor(size=SQUARE))


def convnet(architecture: str = "test_efficientnet", pooling: str = "catavgmax") -> TimmWrapperModel:
    """A network of timm whose batch norms have the mean and deviation that noise has there."""
    config = TimmWrapperConfig(architecture=architecture, model_args={"global_pool": pooling})
    model = TimmWrapperModel(config)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, here of one
    with torch.no_grad():
        config.hidden_size = model.train()(torch.rand(16, 3, 64, 64) * 4 - 2).pooler_output.shape[1]
    return model.eval()


def dual(vision: PreTrainedModel, text: PreTrainedModel) -> Trainable:
    """A dual encoder of two models, with the image processor of a CLIP."""
    parts = {"vision_config": vision.config.to_dict(), "text_config": text.config.to_dict()}
    config = VisionTextDualEncoderConfig(**parts, projection_dim=16)
    model = VisionTextDualEncoderModel(config, vision, text)
    processor = CLIPImageProcessor(size=SQUARE, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Trainable("dual", model.eval(), TOKENIZER, processor)


def clip_text() -> CLIPTextModel:
    """The text tower of a CLIP."""
    return CLIPTextModel(CLIPTextConfig(**READS))


def vit(*, pooler: bool = True) -> ViTModel:
    """A ViT with a pooler, or without one."""
    return ViTModel(ViTConfig(**SEES), add_pooling_layer=pooler)


def bert() -> BertModel:
    """A BERT."""
    return BertModel(BertConfig(**READS))


def timm() -> Trainable:
    """A bare model of timm."""
    return Trainable("timm", convnet(), None, BitImageProcessor(**CROPPING))


def dinov2() -> Trainable:
    """A DINOv2."""
    return Trainable("dinov2", Dinov2Model(Dinov2Config(**SEES)).eval(), None, BitImageProcessor(**CROPPING))


def dinov2_with_registers() -> Trainable:
    """A DINOv2 with registers."""
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SEES, num_register_tokens=2))
    return Trainable("registers", model.eval(), None, BitImageProcessor(**CROPPING))


MODELS: dict[str, Callable[[], Trainable]] = {
    "clip": clip,
    "siglip": siglip,
    "dual, EfficientNet": lambda: dual(convnet(), clip_text()),
    "dual, ViT": lambda: dual(vit(), clip_text()),
    "dual, BERT": lambda: dual(vit(), bert()),
    "dinov2": dinov2,
    "dinov2, registers": dinov2_with_registers,
    "vit": lambda: Trainable("vit", vit().eval(), None, ViTImageProcessor(size=SQUARE)),
    "vit, no pooler": lambda: Trainable("vit", vit(pooler=False).eval(), None, ViTImageProcessor(size=SQUARE)),
    "timm": timm,
}
"""Each kind by a name; those with a text tower first."""
READING = [name for name in MODELS if name.startswith(("clip", "siglip", "dual"))]
"""The kinds that have a text tower."""


def pixels_model(path: Path, side: int = 8, *, said: bool = True) -> Path:
    """An ONNX file whose vector is a picture of so many pixels a side, projected at random; it may say its mean."""
    draws, numbers = np.random.default_rng(0), 3 * side * side
    constants = {
        "shape": np.array([-1, numbers], np.int64),
        "weights": draws.standard_normal((numbers, PROJECTED)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["images", "shape"], ["pixels"]),
            helper.make_node("MatMul", ["pixels", "weights"], ["vectors"], name="projection"),
        ],
        "pixels",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", PROJECTED])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for key in ("mean", "std") if said else ():
        model.metadata_props.add(key=f"image_{key}", value="[0.5, 0.5, 0.5]")
    onnx.save(model, path)
    return path


def script(path: Path) -> Path:
    """A TorchScript file: mean colours of the squares of a picture, through a layer that can learn."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(3 * 8 * 8, PROJECTED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(network.eval()), path)
    return path


def encoder_of(kind: str, folder: Path) -> str:
    """The name of an encoder in a folder: `onnx`, `script`, or a name of `MODELS`."""
    torch.manual_seed(0)
    if kind == "onnx":
        return str(pixels_model(folder / "pixels.onnx"))
    if kind == "script":
        return str(script(folder / "colours.torchscript.pt"))
    made(kind).save(folder / "model")
    return str(folder / "model")


def made(name: str) -> Trainable:
    """The model of a kind."""
    torch.manual_seed(0)
    return MODELS[name]()
