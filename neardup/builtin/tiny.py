"""`builtin:tiny`: the small CLIP that neardup ships, as it is before it is trained.

Vision 5 M parameters (112 pixels, patches of 16, width 256, 6 layers of 8 heads), text 0.8 M (width 128, 3 layers),
projected to 256 dimensions. What is trained lies in `checkpoint/`, a plain transformers CLIP; how, in `pretrain`.
"""

import json

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from neardup.encode.hub import CHECKPOINT

VOCABULARY = 2048
"""Tokens of the vocabulary at most; the corpus gives 1,470."""
START = "<|startoftext|>"
"""The token that begins a text."""
END = "<|endoftext|>"
"""The token that ends a text, pads it, and stands for what is unknown."""
SIZE = 112
"""Pixels of a side of the picture that the vision tower takes."""
PATCH = 16
"""Pixels of a side of a patch."""
WIDTH = 256
"""Numbers of a state of the vision tower."""
HEADS = 8
"""Attention heads of a vision layer."""
MEAN = 0.45
"""Mean of a pixel, 0 to 1, that the image processor subtracts."""
STD = 0.27
"""Standard deviation of a pixel that the image processor divides by."""
PLACE = 64
"""Channels of the vision tower that hold a patch's place at first; the others hold what is in it."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the luminance (ITU-R BT.601)."""
SHARPNESS = 1.5
"""Scale of the first queries and keys: a head then gives half to nearly all of its attention to one neighbour."""
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What a word of a text is, as CLIP's tokenizer splits them."""
_NEIGHBOURS = tuple((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0))
"""Steps to the eight patches around one."""


def config(vocabulary: int, channels: int = 3) -> CLIPConfig:
    """The architecture, for a tokenizer of `vocabulary` tokens and images of 1 or 3 channels."""
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": vocabulary}
    vision = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 6, "hidden_act": "gelu"}
    size = {"image_size": SIZE, "patch_size": PATCH, "num_channels": channels, "num_attention_heads": HEADS}
    return CLIPConfig(
        text_config={**text, **ids, "projection_dim": 256},
        vision_config={**vision, **size, "projection_dim": 256},
        projection_dim=256,
    )


def image_processor() -> CLIPImageProcessor:
    """The whole picture, its sides squeezed to 112 pixels: a crop in the middle would lose what copies share."""
    size = {"height": SIZE, "width": SIZE}
    return CLIPImageProcessor(size=size, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[STD] * 3)


def tokenizer() -> CLIPTokenizer:
    """The shipped tokenizer: byte-level BPE as CLIP's, with a vocabulary of its own."""
    bpe = json.loads((CHECKPOINT / "bpe.json").read_text(encoding="utf-8"))
    merges = [tuple(pair) for pair in bpe["merges"]]
    return CLIPTokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=77)  # type: ignore[arg-type]


def untrained(seed: int) -> CLIPModel:
    """A CLIP of one grey channel whose vision tower begins as a convolutional network does.

    Patches begin as their cosine transform, lowest frequencies first; positions as sines and cosines, in channels of
    their own; each head looks at one neighbour of its patch, one patch away in the first three layers, two in the
    others (after Zheng, Cai and Lucey 2024). Measured in `docs/log.md`: as good after 150 steps as without after 200.
    """
    torch.manual_seed(seed)
    model = CLIPModel(config(len(tokenizer()), channels=1))
    vision, rng = model.vision_model, np.random.default_rng(seed)
    with torch.no_grad():
        patches = torch.from_numpy(_cosines()).float()[:, None] * 0.3
        patches[WIDTH - PLACE :] = 0
        vision.embeddings.patch_embedding.weight.copy_(patches)
        positions = vision.embeddings.position_embedding.weight
        positions.zero_()
        positions[1:, WIDTH - PLACE :] = torch.from_numpy(_places()).float()
        for depth, layer in enumerate(vision.encoder.layers):
            reach = 1 if depth < 3 else 2  # noqa: PLR2004 - the first half
            for head, neighbour in enumerate(rng.permutation(_NEIGHBOURS)):
                queries, keys = _looking(neighbour * reach, rng)
                rows = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                layer.self_attn.q_proj.weight[rows] = queries
                layer.self_attn.k_proj.weight[rows] = keys
    return model


def _cosines() -> npt.NDArray[np.float64]:
    """The cosine transform of a patch, float64 (256, 16, 16), lowest frequencies first."""
    k = np.arange(PATCH)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * PATCH)) * np.sqrt(2 / PATCH)
    basis[0] /= np.sqrt(2)
    both = np.einsum("ua,vb->uvab", basis, basis).reshape(-1, PATCH, PATCH)
    return np.asarray(both[np.argsort((k[:, None] ** 2 + k[None] ** 2).ravel(), kind="stable")])


def _frequencies() -> npt.NDArray[np.float64]:
    """Frequencies of the waves that stand for a patch's place, in radians a patch: float64 (16,)."""
    count = PLACE // 4
    return np.asarray(3.0 ** (-1.5 * np.arange(count) / count))


def _places() -> npt.NDArray[np.float64]:
    """The position of each patch, float64 (49, 64): cosines and sines across, then down."""
    down, across = np.mgrid[: SIZE // PATCH, : SIZE // PATCH].reshape(2, -1, 1) * _frequencies()
    return np.concatenate([np.cos(across), np.sin(across), np.cos(down), np.sin(down)], axis=1)


def _looking(offset: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys, float32 (32, 256) each, whose product is greatest at an offset of so many patches."""
    turned = np.zeros((PLACE, PLACE))
    half = PLACE // 2
    for start, shift in zip((0, half), offset, strict=True):
        angle = shift * _frequencies()
        cos, sin = np.diag(np.cos(angle)), np.diag(np.sin(angle))
        turned[start : start + half, start : start + half] = np.block([[cos, -sin], [sin, cos]])
    mixed = np.linalg.qr(rng.normal(size=(PLACE, PLACE)))[0][:, : WIDTH // HEADS].T * SHARPNESS
    blind = np.zeros((WIDTH // HEADS, WIDTH - PLACE))
    queries, keys = (np.concatenate([blind, rows], axis=1) for rows in (mixed @ turned, mixed))
    return torch.from_numpy(queries).float(), torch.from_numpy(keys).float()


def in_colour(grey: CLIPModel) -> CLIPModel:
    """The same CLIP for RGB, of which it sees the luminance: every tint of a photo has the same vector."""
    colour: CLIPModel = CLIPModel(config(len(tokenizer()))).eval()
    weights = grey.state_dict()
    patches = "vision_model.embeddings.patch_embedding.weight"
    weights[patches] = weights[patches] * torch.tensor(LUMINANCE)[None, :, None, None]
    colour.load_state_dict(weights)
    return colour


def train_tokenizer() -> None:
    """Make `bpe.json` from `corpus.txt`, which are both shipped."""
    bare = Tokenizer(BPE(unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bare.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()],
    )
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ],
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END, *alphabet, *(f"{letter}</w>" for letter in alphabet)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare.train([str(CHECKPOINT / "corpus.txt")], trainer)
    trained = json.loads(bare.to_str())["model"]
    bpe = {"vocab": trained["vocab"], "merges": trained["merges"]}
    (CHECKPOINT / "bpe.json").write_text(json.dumps(bpe, ensure_ascii=False) + "\n", encoding="utf-8")


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
