"""`builtin:tiny`: a small CLIP of our own, for the demo, the tests and machines without a model hub.

Vision 4.1 M parameters (128 pixels, patches of 16, width 256, 5 layers), text 1 M (width 128, 4 layers), projected to
256 dimensions. It is a plain transformers CLIP: `CLIPModel.from_pretrained` loads what is saved of it. As long as
`builtin_tiny/` holds no `model.safetensors`, its weights are drawn from a seed, the same on every machine.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

FOLDER = Path(__file__).parent / "builtin_tiny"
SEED = 1911
VOCABULARY = 2048
START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def config(vocabulary: int) -> CLIPConfig:
    """The architecture, for a tokenizer of `vocabulary` tokens."""
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": vocabulary}
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4}
    size = {"image_size": 128, "patch_size": 16}
    return CLIPConfig(
        text_config={**text, **ids, "projection_dim": 256},
        vision_config={**vision, **size, "projection_dim": 256},
        projection_dim=256,
    )


def image_processor() -> CLIPImageProcessor:
    """CLIP's own preprocessing, to 128 pixels."""
    return CLIPImageProcessor(size={"shortest_edge": 128}, crop_size={"height": 128, "width": 128})


def tokenizer() -> CLIPTokenizer:
    """The shipped tokenizer: byte-level BPE as CLIP's, with a vocabulary of its own."""
    bpe = json.loads((FOLDER / "bpe.json").read_text(encoding="utf-8"))
    merges = [tuple(pair) for pair in bpe["merges"]]
    return CLIPTokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=77)  # type: ignore[arg-type]


def model() -> CLIPModel:
    """The shipped weights, or seeded ones as long as none are shipped."""
    if (FOLDER / "model.safetensors").is_file():
        shipped: CLIPModel = CLIPModel.from_pretrained(FOLDER, dtype=torch.float32, use_safetensors=True).eval()
        return shipped
    made = CLIPModel(config(len(tokenizer())))
    made.eval()
    rng = np.random.default_rng(SEED)
    with torch.no_grad():
        for name, parameter in sorted(made.named_parameters()):
            parameter.copy_(torch.from_numpy(_draw(rng, name, tuple(parameter.shape))))
    return made


def _draw(
    rng: np.random.Generator, name: str, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if "logit_scale" in name:
        return np.full(shape, math.log(1 / 0.07), dtype=np.float32)
    if name.endswith("bias"):
        return np.zeros(shape, dtype=np.float32)
    if "norm" in name:
        return np.ones(shape, dtype=np.float32)
    if "embedding" in name and "patch" not in name:
        return rng.normal(0, 0.02, shape).astype(np.float32)
    fan_in = int(np.prod(shape[1:])) or 1
    return rng.normal(0, 1 / math.sqrt(fan_in), shape).astype(np.float32)


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
    bare.train([str(FOLDER / "corpus.txt")], trainer)
    trained = json.loads(bare.to_str())["model"]
    bpe = {"vocab": trained["vocab"], "merges": trained["merges"]}
    (FOLDER / "bpe.json").write_text(json.dumps(bpe, ensure_ascii=False) + "\n", encoding="utf-8")


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
