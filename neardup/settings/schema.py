"""The settings of each stage, as typed values with the defaults that the prior project published.

Each field says in its annotation what it means and within which bounds it may lie. Pydantic checks that where people
type: in `neardup.toml`, on the command line and in the form of a Prefect deployment, which shows the meanings as well.
The command line and the flows import this module without paying for torch or pandas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal, get_type_hints

from pydantic import ConfigDict, Field, with_config
from pydantic.fields import FieldInfo

Metric = Literal["ndcg", "top_1", "top_5", "map", "f1", "micro_ap", "recall_at_90_precision", "nn_f1", "b3_f1"]
"""What a promotion may go by: the metrics that `neardup.measure.metrics` marks so; a test compares the two."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where an encoder computes; `auto` is the GPU where there is one."""
Dtype = Literal["fp32", "bf16", "fp16", "int8"]
"""Number format that an encoder computes in; each has vectors and a threshold of its own."""
Augmentation = Literal["classic", "press"]
"""How photos are varied: as the prior project did, or as newspapers do."""

STRICT = ConfigDict(extra="forbid")
"""Pydantic's configuration of every table: an unknown name is an error."""

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "surlevif": "np_{collection}_{issue}_{page:02d}_{photo:02d}",
        "guerreillustree": "np_{collection}_{issue}_{page:02d}_{photo:02d}",
        "fonds_forbin": "pho_{issue}_{page:02d}_{photo:02d}",
    },
)
"""How a collection names the photo of a sheet's row: collection → pattern, without extension."""


@with_config(STRICT)
@dataclass(frozen=True)
class PrepareSettings:
    """Where the photos and the sheets lie, and which photos look the same."""

    photos: Annotated[
        tuple[str, ...], Field(description="globs, relative to the archive, of files that are photographs.")
    ] = ("**/photos/**",)
    pages: Annotated[
        tuple[str, ...],
        Field(description="globs of files that are no photographs although a photo glob matches them: full pages."),
    ] = ("**/pages/**",)
    ground_truth: Annotated[str, Field(description="the workbook of groups, relative to the archive.")] = (
        "donnees_IS.xlsx"
    )
    max_pixels: Annotated[
        int, Field(ge=1, description="an image of more pixels is taken for a decompression bomb.")
    ] = 200_000_000
    patterns: Annotated[
        Mapping[str, str],
        Field(
            description="collection (a folder above the sheet) → name of the photo that a row means, without "
            "extension; what is set here takes the place of the default."
        ),
    ] = field(default_factory=lambda: dict(PATTERNS))
    look_alike_bits: Annotated[
        int, Field(ge=0, le=32, description="perceptual hashes (64 bits) at most so many bits apart look the same.")
    ] = 6


@with_config(STRICT)
@dataclass(frozen=True)
class TranslateSettings:
    """Who translates, and which languages a legend may be in."""

    translator: Annotated[
        Literal["deepl", "marian", "none"],
        Field(description="`deepl` (needs a key), `marian` (a local model) or `none`."),
    ] = "deepl"
    languages: Annotated[
        tuple[str, ...],
        Field(description="ISO 639-1 codes that detection chooses among; English is left as it is."),
    ] = ("fr", "en", "it", "de")
    glossary: Annotated[str | None, Field(description="a DeepL glossary id, or None.")] = None
    server_url: Annotated[str | None, Field(description="another DeepL address than the public one, or None.")] = None


@with_config(STRICT)
@dataclass(frozen=True)
class Recipe:
    """One complete configuration of a fine-tuning; the defaults are the prior project's."""

    lr: Annotated[float, Field(gt=0, lt=1, description="Adam's learning rate.")] = 1e-5
    weight_decay: Annotated[float, Field(ge=0, description="Adam's L2 penalty.")] = 1e-3
    batch_size: Annotated[int, Field(ge=2, description="photos a step, over all processes and accumulated parts.")] = 64
    epochs: Annotated[int, Field(ge=1, description="at most so many passes.")] = 50
    patience: Annotated[int, Field(ge=1, description="stop after so many epochs without a better validation loss.")] = (
        10
    )
    seed: Annotated[int, Field(ge=0, description="number by which split, order and augmentation are drawn.")] = 0
    validation: Annotated[float, Field(gt=0, lt=1, description="share of the training photos kept for validation.")] = (
        0.1
    )
    shared_legends: Annotated[
        bool, Field(description="spread the target over photos of one legend; off repeats the prior project.")
    ] = True
    long_legends: Annotated[
        Literal["truncate", "drop"], Field(description="what happens to a legend of over 77 tokens.")
    ] = "truncate"
    augmentation: Annotated[
        Literal["none", Augmentation],
        Field(
            description="recipe applied on the fly: `classic` is the prior project's, `press` what newspapers do; in "
            "an experiment each approach sets it, the third to what `augmentation` at the top says."
        ),
    ] = "none"
    copies: Annotated[int, Field(ge=1, description="variants a photo; epoch e sees copy e modulo `copies`.")] = 5
    accumulate: Annotated[int, Field(ge=1, description="parts that a batch is cut into, for small memories.")] = 1
    frozen_layers: Annotated[
        int,
        Field(
            ge=0,
            description="so many first layers of both towers, and what is before them, keep their weights; 0 freezes "
            "nothing. What they give is computed once and kept, so that each epoch is faster. Those of an EfficientNet "
            "are its blocks.",
        ),
    ] = 0
    frozen_text: Annotated[
        bool, Field(description="the whole text tower keeps its weights; its vectors are computed once.")
    ] = False
    compiled: Annotated[
        bool,
        Field(
            description="compile the layers by torch.compile in the first step, which then takes a minute more. "
            "Measured for ViT-B/32 on one core: the others are 1.07 times as fast, in bf16 1.15 times."
        ),
    ] = False
    lora_rank: Annotated[
        int,
        Field(
            ge=0,
            description="train updates of this rank of the attention, of an EfficientNet of the convolutions of one "
            "pixel, and else the temperature alone (LoRA); 0 trains the weights themselves.",
        ),
    ] = 0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(
            description="`auto` is bf16 on a GPU that has it, else fp32; a CPU that has it trains faster by `bf16`, "
            "too."
        ),
    ] = "auto"


def prior_project() -> Recipe:
    """The recipe that the published figures come from: equal legends repel each other, long ones drop out."""
    return Recipe(shared_legends=False, long_legends="drop")


@with_config(STRICT)
@dataclass(frozen=True)
class TuneSettings:
    """What Optuna searches, and for how long.

    The ranges are searched on a logarithmic scale. A list with fewer than two choices is no dimension of the search:
    the recipe's own value is used.
    """

    trials: Annotated[
        int, Field(ge=1, description="trials that end, pruned ones included; a study that has fewer goes on.")
    ] = 20
    epochs: Annotated[
        int,
        Field(
            ge=1,
            description="at most so many passes in a trial; part of the recipe that is found, for more of them may do "
            "harm.",
        ),
    ] = 10
    lr_low: Annotated[float, Field(gt=0, lt=1, description="least learning rate.")] = 1e-7
    lr_high: Annotated[float, Field(gt=0, lt=1, description="greatest learning rate.")] = 1e-4
    weight_decay_low: Annotated[float, Field(gt=0, description="least weight decay.")] = 1e-5
    weight_decay_high: Annotated[float, Field(gt=0, description="greatest weight decay.")] = 1e-1
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=2)], ...], Field(description="batch sizes to choose among.")
    ] = ()
    augmentations: Annotated[
        tuple[Literal["none", Augmentation], ...], Field(description="augmentation recipes to choose among.")
    ] = ()
    frozen_layers: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(description="numbers of frozen layers to choose among.")
    ] = ()
    copies: Annotated[
        int,
        Field(
            ge=1,
            description="press copies of each validation photo, which the search among near-duplicates is measured on.",
        ),
    ] = 3
    parallel: Annotated[int, Field(ge=1, le=64, description="trials at once, each a thread of this process.")] = 1
    seed: Annotated[int, Field(ge=0, description="number by which recipes and copies are drawn.")] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class ClusterSettings:
    """Where the tasks of `neardup duplicates` run: the photos of a folder, however many, and all their pairs."""

    runner: Annotated[
        Literal["threads", "dask"],
        Field(
            description="`threads` of this process, each task with all cores, or `dask` for processes here or on other "
            "machines."
        ),
    ] = "threads"
    workers: Annotated[
        int,
        Field(
            ge=1,
            description="tasks at once; with `dask` and no scheduler so many processes are started here, a core each.",
        ),
    ] = 1
    scheduler: Annotated[
        str | None, Field(description="address of a Dask scheduler that runs already, as `tcp://host:8786`.")
    ] = None
    store: Annotated[
        str | None,
        Field(
            description="folder or URL (`s3://…`) of the vectors, the same for every worker; else beside the results."
        ),
    ] = None
    shard: Annotated[
        int, Field(ge=1, description="photos in one task and in one file of the store; what a kill may cost.")
    ] = 1024
    slab: Annotated[
        int,
        Field(ge=1, description="vectors in one side of a block of pairs; a task holds two sides in memory."),
    ] = 65_536


@with_config(STRICT)
@dataclass(frozen=True)
class Settings:
    """All that an experiment may be set to; what `neardup.toml` holds."""

    encoder: Annotated[
        str,
        Field(
            description="`builtin:tiny`; `sscd`, which finds copies; a hub id or a folder of a CLIP, SigLIP, DINOv2, "
            "ViT or timm model; a TorchScript file; or an MLflow model URI."
        ),
    ] = "openai/clip-vit-base-patch32"
    device: Annotated[Device, Field(description="`auto`, `cpu`, `cuda` or `mps`.")] = "auto"
    processes: Annotated[
        int,
        Field(
            ge=1,
            description="so many processes share a training, each with a GPU of its own where there are GPUs.",
        ),
    ] = 1
    augmentation: Annotated[Augmentation, Field(description="recipe of the third approach.")] = "classic"
    distractors: Annotated[
        int,
        Field(
            ge=0,
            description="so many further photos of the archive, in neither set, are added to what each test photo is "
            "searched among; drawn from those that look like none of the sets and that the ground truth does not name.",
        ),
    ] = 0
    write_augmented: Annotated[bool, Field(description="also write the augmented copies to `train_dataset_aug/`.")] = (
        False
    )
    prepare: Annotated[PrepareSettings, Field(description="how the archive is read.")] = field(
        default_factory=PrepareSettings
    )
    translate: Annotated[TranslateSettings, Field(description="who translates.")] = field(
        default_factory=TranslateSettings
    )
    train: Annotated[Recipe, Field(description="how both fine-tuned approaches are trained.")] = field(
        default_factory=Recipe
    )
    tune: Annotated[TuneSettings, Field(description="what `neardup tune` searches.")] = field(
        default_factory=TuneSettings
    )
    cluster: Annotated[ClusterSettings, Field(description="where `neardup duplicates` runs.")] = field(
        default_factory=ClusterSettings
    )


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
"""The tables of `neardup.toml` by name; the top of the file has no name."""


def meanings(table: type) -> dict[str, str]:
    """Field → what it means, of a table of `TABLES`."""
    hints = get_type_hints(table, include_extras=True)
    return {name: FieldInfo.from_annotation(hint).description or "" for name, hint in hints.items()}


APPROACHES: Mapping[str, str] = MappingProxyType(
    {
        "zero-shot": "zero-shot",
        "fine-tuned": "fine-tuned",
        "fine-tuned-augmented": "fine-tuned + augmentation",
    },
)
"""The three approaches: folder name → title."""
