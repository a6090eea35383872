"""The recipes of a fine-tuning, with the defaults that the prior project published, and what a study searches."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config

Objective = Literal["captions", "copies", "both"]
"""What a training learns from: photos with captions, copies of photos alone, or the weighted sum of both losses."""
Augmentation = Literal["classic", "press"]
"""How photos are varied: as the prior project did, or as newspapers do."""

STRICT = ConfigDict(extra="forbid")
"""Pydantic's configuration of every table: an unknown name is an error."""


@with_config(STRICT)
@dataclass(frozen=True)
class Recipe:
    """One complete configuration of a fine-tuning; what is trained by default is what the prior project trained."""

    objective: Annotated[
        Objective,
        Field(
            description="`captions`: each photo is near its caption; `copies`: two copies of a photo, as newspapers "
            "print it, are near each other and far from all others, which needs no legend, so that what is said of "
            "captions, legends and `augmentation` has no effect; `both`."
        ),
    ] = "captions"
    captions_weight: Annotated[
        float, Field(ge=0, description="of the loss of the captions in `both`; that of the copies weighs 1.")
    ] = 0.2
    likeness: Annotated[
        float,
        Field(
            ge=0,
            description="weight, beside the copies, of keeping how alike photos were before training; it is what keeps "
            "the encoder from forgetting.",
        ),
    ] = 1.0
    lr: Annotated[float, Field(gt=0, lt=1, description="Adam's learning rate.")] = 1e-5
    lr_by_size: Annotated[
        bool,
        Field(
            description="divide `lr` by how many times the vision tower has more than 3 million weights: the larger an "
            "encoder, the smaller the steps that it bears."
        ),
    ] = False
    weight_decay: Annotated[float, Field(ge=0, description="Adam's L2 penalty.")] = 1e-3
    batch_size: Annotated[int, Field(ge=2, description="photos a step, over all processes and accumulated parts.")] = 64
    epochs: Annotated[int, Field(ge=1, description="at most so many passes.")] = 50
    epoch_steps: Annotated[
        int,
        Field(
            ge=0,
            description="an epoch ends after so many steps, and the next one draws other photos; 0: after all photos.",
        ),
    ] = 0
    minutes: Annotated[
        float | None, Field(gt=0, description="no epoch begins that would not end within so many; none: no limit.")
    ] = None
    select_by: Annotated[
        Literal["near_duplicates", "loss"],
        Field(
            description="what the kept epoch and the end of training go by: the search of press copies of the "
            "validation photos among the photos themselves (nDCG, then µAP), or the validation loss."
        ),
    ] = "near_duplicates"
    interpolate: Annotated[
        bool,
        Field(
            description="keep the weights that lie 0, 25, 50, 75 or 100 % of the way from the encoder as it came to "
            "the kept epoch, whichever find near-duplicates best on the validation photos; others than those of the "
            "encoder as it came only where they gain more in nDCG than its standard error and lose no µAP, or gain "
            "µAP where the nDCG of every photo is the same."
        ),
    ] = True
    normalise: Annotated[
        bool | None,
        Field(
            description="score normalisation of the kept model, fitted to training photos, as one more number of each "
            "vector. Left out, an encoder that comes with it has it, fitted anew where its weights have changed, or "
            "where copies of the training photos are found better so, by more µAP than two of its standard errors; "
            "true fits it to every encoder, and keeps what an encoder did not come with where it gains more in nDCG on "
            "the validation photos than its standard error and loses no µAP. Not done where `transductive` trains on "
            "the test set's photos."
        ),
    ] = None
    validation_copies: Annotated[
        int, Field(ge=1, description="press copies of each validation photo, which near-duplicates are searched by.")
    ] = 3
    patience: Annotated[int, Field(ge=1, description="stop after so many epochs without a better validation.")] = 10
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
            "an experiment each approach sets it, `fine-tuned-augmented` to what `augmentation` at the top says."
        ),
    ] = "none"
    copies: Annotated[int, Field(ge=1, description="variants a photo; epoch e sees copy e modulo `copies`.")] = 5
    accumulate: Annotated[int, Field(ge=1, description="parts that a batch is cut into, for small memories.")] = 1
    frozen_layers: Annotated[
        int,
        Field(
            ge=0,
            description="so many first layers of both towers, and what is before them, keep their weights; 0 freezes "
            "nothing. With captions alone, what they give is computed once and kept, so that each epoch is faster. "
            "Those of an EfficientNet are its blocks.",
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
    return Recipe(shared_legends=False, long_legends="drop", select_by="loss", interpolate=False, normalise=False)


@with_config(STRICT)
@dataclass(frozen=True)
class AdaptRecipe(Recipe):
    """The recipe of the approach `adapted`: what the shipped encoder was trained by, continued on the archive's photos.

    80 steps of 64 copies are at most 5 minutes on two cores for an encoder of 0.4 GFLOP a photo, and a small archive
    has fewer steps in an epoch. 3e-4 was measured good for 3 million weights, 1e-5 for the 88 million of ViT-B/32:
    the rule of `lr_by_size` gives both.
    """

    objective: Annotated[
        Literal["copies"],
        Field(
            description="nothing else: the photos need no legend, and what is said of captions, legends, "
            "`augmentation` and `frozen_text` has no effect here."
        ),
    ] = "copies"
    lr: Annotated[float, Field(gt=0, lt=1, description="Adam's learning rate; see `lr_by_size`.")] = 3e-4
    lr_by_size: Annotated[
        bool, Field(description="divide `lr` by how many times the vision tower has more than 3 million weights.")
    ] = True
    normalise: Annotated[
        bool | None,
        Field(
            description="score normalisation fitted to photos that are not the test set's, as one more number of each "
            "vector. Left out, `adapted` has it where the encoder comes with it, fitted anew where its weights have "
            "changed, or where copies of the training photos are found better so, by more µAP than two of its standard "
            "errors; true fits it to every encoder, also to the untrained one (zero-shot), of whatever kind, an ONNX "
            "file too, and keeps what an encoder did not come with where it gains more in nDCG on validation photos "
            "than its standard error and loses no µAP. Not done where `transductive` trains on the test set's photos."
        ),
    ] = None
    weight_decay: Annotated[float, Field(ge=0, description="Adam's L2 penalty.")] = 0.0
    batch_size: Annotated[int, Field(ge=2, description="photos a step; of each two copies are made.")] = 32
    epochs: Annotated[
        int, Field(ge=1, description="at most so many passes, or parts of passes: see `epoch_steps`.")
    ] = 4
    epoch_steps: Annotated[
        int,
        Field(
            ge=0,
            description="an epoch ends after so many steps, and the next one draws other photos; 0: after all photos.",
        ),
    ] = 20


@with_config(STRICT)
@dataclass(frozen=True)
class TuneSettings:
    """What Optuna searches, and for how long.

    The ranges are searched on a logarithmic scale. A list with one choice takes the place of the recipe's own value, an
    empty one leaves it as it is.
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
    objectives: Annotated[tuple[Objective, ...], Field(description="objectives to choose among.")] = ()
    captions_weights: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], Field(description="weights of the captions to choose among.")
    ] = ()
    likenesses: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], Field(description="weights of the likenesses to choose among.")
    ] = ()
    minutes: Annotated[
        float | None,
        Field(gt=0, description="no trial begins after so many minutes of trials; none: no limit."),
    ] = None
    parallel: Annotated[int, Field(ge=1, le=64, description="trials at once, each a thread of this process.")] = 1
    seed: Annotated[int, Field(ge=0, description="number by which recipes and copies are drawn.")] = 0
