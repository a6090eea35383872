"""The settings of each stage, as typed values with the defaults that the prior project published.

Light on purpose: the command line and the flows import it without paying for torch or pandas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "surlevif": "np_{collection}_{issue}_{page:02d}_{photo:02d}",
        "guerreillustree": "np_{collection}_{issue}_{page:02d}_{photo:02d}",
        "fonds_forbin": "pho_{issue}_{page:02d}_{photo:02d}",
    },
)
"""How a collection names the photo of a sheet's row: collection → pattern, without extension."""


@dataclass(frozen=True)
class PrepareSettings:
    """Where the photos and the sheets lie, and what counts as the same look.

    Attributes:
        photos: globs, relative to the archive, of files that are photographs.
        pages: globs of files that are not, although a photo glob matches them: full pages.
        ground_truth: the workbook of groups, relative to the archive.
        max_pixels: an image of more pixels is taken for a decompression bomb.
        patterns: collection (first folder) → name of the photo that a row means, without extension.
        look_alike_bits: perceptual hashes (64 bits) at most so many bits apart look the same.
    """

    photos: tuple[str, ...] = ("**/photos/**",)
    pages: tuple[str, ...] = ("**/pages/**",)
    ground_truth: str = "donnees_IS.xlsx"
    max_pixels: int = 200_000_000
    patterns: Mapping[str, str] = field(default_factory=lambda: PATTERNS)
    look_alike_bits: int = 6


@dataclass(frozen=True)
class TranslateSettings:
    """Who translates, and which languages a legend may be in.

    Attributes:
        translator: `deepl` (needs a key), `marian` (a local model) or `none`.
        languages: ISO 639-1 codes that detection chooses among; English is left as it is.
        glossary: a DeepL glossary id, or None.
        server_url: another DeepL address than the public one, or None.
    """

    translator: Literal["deepl", "marian", "none"] = "deepl"
    languages: tuple[str, ...] = ("fr", "en", "it", "de")
    glossary: str | None = None
    server_url: str | None = None


@dataclass(frozen=True)
class Recipe:
    """One complete configuration of a fine-tuning; the defaults are the prior project's.

    Attributes:
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: photos a step, over all processes and accumulated parts.
        epochs: at most so many passes.
        patience: stop after so many epochs without a better validation loss.
        seed: of the split, the order and the augmentation.
        validation: share of the training photos kept for validation.
        shared_legends: spread the target over photos of one legend; off repeats the prior project.
        long_legends: what happens to a legend of over 77 tokens.
        augmentation: recipe applied on the fly: `classic` is the prior project's, `press` what newspapers do.
        copies: variants a photo; epoch e sees copy e modulo `copies`.
        accumulate: parts that a batch is cut into, for small memories.
        precision: `auto` is bf16 where the hardware has it.
    """

    lr: float = 1e-5
    weight_decay: float = 1e-3
    batch_size: int = 64
    epochs: int = 50
    patience: int = 10
    seed: int = 0
    validation: float = 0.1
    shared_legends: bool = True
    long_legends: Literal["truncate", "drop"] = "truncate"
    augmentation: Literal["none", "classic", "press"] = "none"
    copies: int = 5
    accumulate: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"


APPROACHES: Mapping[str, str] = MappingProxyType(
    {
        "zero-shot": "zero-shot",
        "fine-tuned": "fine-tuned",
        "fine-tuned-augmented": "fine-tuned + augmentation",
    },
)
"""The three approaches: folder name → title."""
