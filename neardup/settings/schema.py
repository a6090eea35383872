"""The settings of each stage, as typed values with the defaults that the prior project published.

Light on purpose: the command line and the flows import it without paying for torch or pandas. The bounds are checked
by Pydantic where people type: in `neardup.toml`, on the command line and in the form of a Prefect deployment.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Literal, get_type_hints

from pydantic import ConfigDict, Field, with_config

PositiveInt = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
LearningRate = Annotated[float, Field(gt=0, lt=1)]
BatchSize = Annotated[int, Field(ge=2)]
Metric = Literal["ndcg", "top_1", "top_5", "map", "f1", "micro_ap", "recall_at_90_precision", "nn_f1", "b3_f1"]
"""What a promotion may go by; higher is better."""
Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["fp32", "bf16", "fp16", "int8"]
"""Numbers that an encoder computes with; each has vectors and a threshold of its own."""

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
        frozen_layers: so many first layers of both towers, and what is before them, keep their weights; 0 freezes
            nothing. What they give is computed once and kept, so that each epoch is faster.
        frozen_text: the whole text tower keeps its weights; its vectors are computed once.
        compiled: compile the layers by torch.compile in the first step, which then takes a minute more. Measured for
            ViT-B/32 on one core: the others are 1.07 times as fast, in bf16 1.15 times, the losses within 0.02 %.
        lora_rank: train updates of this rank of the attention, and else the temperature alone (LoRA); 0 trains the
            weights themselves.
        precision: `auto` is bf16 on a GPU that has it, else fp32; a CPU that has it trains faster by `bf16`, too.
    """

    lr: LearningRate = 1e-5
    weight_decay: NotNegative = 1e-3
    batch_size: BatchSize = 64
    epochs: PositiveInt = 50
    patience: PositiveInt = 10
    seed: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    shared_legends: bool = True
    long_legends: Literal["truncate", "drop"] = "truncate"
    augmentation: Literal["none", "classic", "press"] = "none"
    copies: PositiveInt = 5
    accumulate: PositiveInt = 1
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    frozen_text: bool = False
    compiled: bool = False
    lora_rank: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"


def prior_project() -> Recipe:
    """The recipe that the published figures come from, equal legends repel each other, long ones drop out."""
    return Recipe(shared_legends=False, long_legends="drop")


@dataclass(frozen=True)
class TuneSettings:
    """What Optuna searches, and for how long.

    The ranges are searched on a logarithmic scale. A list with fewer than two choices is no dimension of the search:
    the recipe's own value is used.

    Attributes:
        trials: trials that end, pruned ones included; a study that has fewer goes on.
        epochs: at most so many passes in a trial; part of the recipe that is found, for more of them may do harm.
        lr_low: least learning rate.
        lr_high: greatest learning rate.
        weight_decay_low: least weight decay.
        weight_decay_high: greatest weight decay.
        batch_sizes: batch sizes to choose among.
        augmentations: augmentation recipes to choose among.
        frozen_layers: numbers of frozen layers to choose among.
        copies: press copies of each validation photo, which the search among near-duplicates is measured on.
        parallel: trials at once, each a thread of this process.
        seed: of the sampler and of the copies.
    """

    trials: PositiveInt = 20
    epochs: PositiveInt = 10
    lr_low: LearningRate = 1e-7
    lr_high: LearningRate = 1e-4
    weight_decay_low: Positive = 1e-5
    weight_decay_high: Positive = 1e-1
    batch_sizes: tuple[BatchSize, ...] = ()
    augmentations: tuple[Literal["none", "classic", "press"], ...] = ()
    frozen_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    copies: PositiveInt = 3
    parallel: Annotated[int, Field(ge=1, le=64)] = 1
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class ClusterSettings:
    """Where the tasks of `neardup duplicates` run: the photos of a folder, however many, and all their pairs.

    Attributes:
        runner: `threads` of this process, each task with all cores, or `dask` for processes here or on other machines.
        workers: tasks at once; with `dask` and no scheduler so many processes are started here, a core each.
        scheduler: address of a Dask scheduler that runs already, as `tcp://host:8786`.
        store: folder or URL (`s3://…`) of the vectors, the same for every worker; else beside the results.
        shard: photos in one task and in one file of the store; what a kill may cost.
        slab: vectors in one side of a block of pairs; a task holds two sides in memory.
    """

    runner: Literal["threads", "dask"] = "threads"
    workers: PositiveInt = 1
    scheduler: str | None = None
    store: str | None = None
    shard: PositiveInt = 1024
    slab: PositiveInt = 65_536


@dataclass(frozen=True)
class Settings:
    """Everything that an experiment may be told; what `neardup.toml` holds.

    Attributes:
        encoder: `builtin:tiny`, a hub id, a local folder or an MLflow model URI.
        device: `auto`, `cpu`, `cuda`.
        processes: so many processes share a training, each with a GPU of its own where there are GPUs.
        augmentation: recipe of the third approach.
        write_augmented: also write the augmented copies to `train_dataset_aug/`.
        prepare: how the archive is read.
        translate: who translates.
        train: how both fine-tuned approaches are trained.
        tune: what `neardup tune` searches.
        cluster: where `neardup duplicates` runs.
    """

    encoder: str = "openai/clip-vit-base-patch32"
    device: Device = "auto"
    processes: PositiveInt = 1
    augmentation: Literal["classic", "press"] = "classic"
    write_augmented: bool = False
    prepare: PrepareSettings = field(default_factory=PrepareSettings)
    translate: TranslateSettings = field(default_factory=TranslateSettings)
    train: Recipe = field(default_factory=Recipe)
    tune: TuneSettings = field(default_factory=TuneSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


TABLES: Mapping[str, type] = MappingProxyType(
    {
        "": Settings,
        "prepare": PrepareSettings,
        "translate": TranslateSettings,
        "train": Recipe,
        "tune": TuneSettings,
        "cluster": ClusterSettings,
    }
)
"""The tables of `neardup.toml` by name."""


def meanings(table: type) -> dict[str, str]:
    """What the docstring of a table says of each field."""
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", str(inspect.getdoc(table)), re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


for _table in TABLES.values():
    # Unknown names are refused, and the form of a deployment says what each field means.
    with_config(ConfigDict(extra="forbid"))(_table)
    _hints = get_type_hints(_table, include_extras=True)
    for _field in fields(_table):
        _field.type = Annotated[_hints[_field.name], Field(description=meanings(_table)[_field.name])]


APPROACHES: Mapping[str, str] = MappingProxyType(
    {
        "zero-shot": "zero-shot",
        "fine-tuned": "fine-tuned",
        "fine-tuned-augmented": "fine-tuned + augmentation",
    },
)
"""The three approaches: folder name → title."""
