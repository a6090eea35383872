"""The settings of each stage, as typed values with the defaults that the prior project published.

Light on purpose: the command line and the flows import it without paying for torch or pandas. The bounds are checked
by Pydantic where people type: in `neardup.toml`, on the command line and in the form of a Prefect deployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

PositiveInt = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]

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
        patterns: collection (a folder above the sheet) → name of the photo that a row means, without extension; what is
            set here takes the place of the default.
        look_alike_bits: perceptual hashes (64 bits) at most so many bits apart look the same.
    """

    photos: tuple[str, ...] = ("**/photos/**",)
    pages: tuple[str, ...] = ("**/pages/**",)
    ground_truth: str = "donnees_IS.xlsx"
    max_pixels: PositiveInt = 200_000_000
    patterns: Mapping[str, str] = field(default_factory=lambda: dict(PATTERNS))
    look_alike_bits: Annotated[int, Field(ge=0, le=32)] = 6


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
        augmentation: recipe applied on the fly: `classic` is the prior project's, `press` what newspapers do; in an
            experiment each approach sets it, the third to what `augmentation` at the top says.
        copies: variants a photo; epoch e sees copy e modulo `copies`.
        accumulate: parts that a batch is cut into, for small memories.
        precision: `auto` is bf16 where the hardware has it.
    """

    lr: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    weight_decay: NotNegative = 1e-3
    batch_size: Annotated[int, Field(ge=2)] = 64
    epochs: PositiveInt = 50
    patience: PositiveInt = 10
    seed: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    shared_legends: bool = True
    long_legends: Literal["truncate", "drop"] = "truncate"
    augmentation: Literal["none", "classic", "press"] = "none"
    copies: PositiveInt = 5
    accumulate: PositiveInt = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"


def prior_project() -> Recipe:
    """The recipe that the published figures come from, equal legends repel each other, long ones drop out."""
    return Recipe(shared_legends=False, long_legends="drop")


@dataclass(frozen=True)
class Settings:
    """Everything that an experiment may be told; what `neardup.toml` holds.

    Attributes:
        encoder: `builtin:tiny`, a hub id, a local folder or an MLflow model URI.
        device: `auto`, `cpu`, `cuda`.
        augmentation: recipe of the third approach.
        write_augmented: also write the augmented copies to `train_dataset_aug/`.
        prepare: how the archive is read.
        translate: who translates.
        train: how both fine-tuned approaches are trained.
    """

    encoder: str = "openai/clip-vit-base-patch32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    augmentation: Literal["classic", "press"] = "classic"
    write_augmented: bool = False
    prepare: PrepareSettings = field(default_factory=PrepareSettings)
    translate: TranslateSettings = field(default_factory=TranslateSettings)
    train: Recipe = field(default_factory=Recipe)


APPROACHES: Mapping[str, str] = MappingProxyType(
    {
        "zero-shot": "zero-shot",
        "fine-tuned": "fine-tuned",
        "fine-tuned-augmented": "fine-tuned + augmentation",
    },
)
"""The three approaches: folder name → title."""
