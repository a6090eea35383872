"""The settings of each stage, as typed values with the defaults that the prior project published.

Each field says in its annotation what it means and within which bounds it may lie. Pydantic checks that where people
type: in `neardup.toml`, on the command line and in the form of a Prefect deployment, which shows the meanings as well.
The command line and the flows import this module without paying for torch or pandas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal, get_type_hints

from pydantic import Field, with_config
from pydantic.fields import FieldInfo

from neardup.settings.recipe import STRICT, AdaptRecipe, Augmentation, Objective, Recipe, TuneSettings, prior_project

__all__ = [
    "APPROACHES",
    "EVALUATED",
    "TABLES",
    "AdaptRecipe",
    "Augmentation",
    "ClusterSettings",
    "Device",
    "Dtype",
    "Metric",
    "Objective",
    "OnnxSettings",
    "PrepareSettings",
    "Recipe",
    "Settings",
    "TranslateSettings",
    "TuneSettings",
    "meanings",
    "prior_project",
]

Metric = Literal["ndcg", "top_1", "top_5", "map", "f1", "micro_ap", "recall_at_90_precision", "nn_f1", "b3_f1"]
"""What a promotion may go by: the metrics that `neardup.measure.metrics` marks so; a test compares the two."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where an encoder computes; `auto` is the GPU where there is one."""
MODEL_URIS = ("models:/", "runs:/", "mlflow-artifacts:/")
"""How the name of an encoder begins that MLflow holds."""
Dtype = Literal["fp32", "bf16", "fp16", "int8"]
"""Number format that an encoder computes in; each has vectors and a threshold of its own."""
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
class ClusterSettings:
    """Where the tasks of `neardup duplicates` run, and where every command that encodes keeps its vectors (`store`)."""

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
class DecideSettings:
    """What a decision promises, at 95 % confidence; where the ground truth cannot carry it, people review."""

    precision: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the links that are right, of a decision fitted to a ground truth."),
    ] = 0.95
    recall: Annotated[float, Field(gt=0, lt=1, description="share of the near-duplicates that are not rejected.")] = (
        0.98
    )


@with_config(STRICT)
@dataclass(frozen=True)
class OnnxSettings:
    """How photos are prepared for an encoder that is an ONNX file, where the file does not say it, or wrongly."""

    layout: Annotated[
        Literal["nchw", "nhwc"] | None,
        Field(
            description="order of the input's dimensions, `nchw` (photos, channels, height, width) or `nhwc`; else "
            "what the input's shape tells, the file's metadata (`image_layout`), or `nchw`."
        ),
    ] = None
    size: Annotated[
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2, max_length=2)] | None,
        Field(
            description="height and width of the input in pixels, as `[224, 224]`, which photos are squeezed to; else "
            "what the metadata (`image_size`) or the input's shape say."
        ),
    ] = None
    mean: Annotated[
        Annotated[tuple[float, ...], Field(min_length=3, max_length=3)] | None,
        Field(
            description="what is subtracted from red, green and blue, each from 0 to 1; else `image_mean` of the "
            "metadata. An input in uint8 takes none."
        ),
    ] = None
    std: Annotated[
        Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=3, max_length=3)] | None,
        Field(description="the scale: what each is then divided by; else `image_std` of the metadata."),
    ] = None


@with_config(STRICT)
@dataclass(frozen=True)
class Settings:
    """All that an experiment may be set to; what `neardup.toml` holds."""

    encoder: Annotated[
        str,
        Field(
            min_length=1,
            description="`builtin:tiny`; `sscd`, which finds copies; a hub id or a folder of a CLIP, SigLIP, DINOv2, "
            "ViT or timm model; an ONNX file, see `[onnx]`; a TorchScript file; or an MLflow model URI. It is what is "
            "trained and measured, and what `embed` and `search` take; `duplicates` and `watch` take `--encoder`, else "
            "the champion, else `builtin:tiny`.",
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
    seeds: Annotated[
        int,
        Field(
            ge=1,
            le=20,
            description="each trained approach is trained by so many seeds, one after the other from the recipe's own, "
            "and the comparison shows how far its figures spread beside their intervals; each seed costs as much as "
            "the first.",
        ),
    ] = 1
    augmentation: Annotated[
        Augmentation, Field(description="recipe by which `fine-tuned-augmented` varies the photos.")
    ] = "classic"
    distractors: Annotated[
        int,
        Field(
            ge=0,
            description="so many further photos of the archive, in neither set, are added to what each test photo is "
            "searched among; drawn from those that look like none of the sets and that the ground truth does not name. "
            "Verified figures are without them.",
        ),
    ] = 0
    transductive: Annotated[
        bool,
        Field(
            description="the approach `adapted` also learns from copies of the test set's photos, without their "
            "groups, and of the distractors; else from no photo that is in the test set or looks like one of it."
        ),
    ] = False
    queries: Annotated[
        str | None,
        Field(
            description="folder of new photos, relative to this file or absolute: copies of photos of the archive, and "
            "in `strangers/` photos that are not in it. Each and four variants of it are searched for by every "
            "approach. A copy is called as its original, or `queries.csv` there (columns `query` and `photo`) names "
            "its original; a stranger is named there with no photo."
        ),
    ] = None
    verify: Annotated[
        bool,
        Field(
            description="each approach is also measured with the nearest photos of each verified by local features and "
            "ranked by probability, and a decision is fitted to the ground truth."
        ),
    ] = True
    write_augmented: Annotated[bool, Field(description="also write the augmented copies to `train_dataset_aug/`.")] = (
        False
    )
    decide: Annotated[DecideSettings, Field(description="what is promised of links and of rejected pairs.")] = field(
        default_factory=DecideSettings
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
    adapt: Annotated[AdaptRecipe, Field(description="how the approach `adapted` is trained.")] = field(
        default_factory=AdaptRecipe
    )
    tune: Annotated[TuneSettings, Field(description="what `neardup tune` searches.")] = field(
        default_factory=TuneSettings
    )
    cluster: Annotated[
        ClusterSettings,
        Field(description="where `neardup duplicates` runs, and the store of vectors of every command."),
    ] = field(default_factory=ClusterSettings)
    onnx: Annotated[OnnxSettings, Field(description="how photos are prepared for an ONNX file.")] = field(
        default_factory=OnnxSettings
    )


TABLES: Mapping[str, type] = MappingProxyType(
    {
        "": Settings,
        "prepare": PrepareSettings,
        "translate": TranslateSettings,
        "train": Recipe,
        "adapt": AdaptRecipe,
        "tune": TuneSettings,
        "cluster": ClusterSettings,
        "decide": DecideSettings,
        "onnx": OnnxSettings,
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
        "adapted": "adapted",
    },
)
"""The four approaches: folder name → title."""
EVALUATED = (*APPROACHES, "tuned")
"""Folders of an output folder that an evaluation may lie in: those of the approaches, and that of a tuned recipe."""
