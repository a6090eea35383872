"""The data of a training before its first step: the usable photos, their split, and the learner for them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neardup.encode.trainable import Trainable
from neardup.errors import TrainingError
from neardup.settings.schema import Recipe
from neardup.stages import digest_of
from neardup.train.batches import Captions, Example, KnownPairs, token_limit
from neardup.train.copy_learner import CaptionAndCopyLearner, CopyLearner
from neardup.train.learner import Learner, VisionLearner
from neardup.train.resume import weights_digest
from neardup.train.split import Split, split
from neardup.train.step_version import TRAIN_STEP
from neardup.train.validation import NearDuplicates


@dataclass(frozen=True)
class TrainingData:
    """The photos and captions of a training, split, with their key.

    Attributes:
        examples: the photos, in the order of rows.
        captions: their captions; None where the recipe learns from copies alone.
        dropped: number of examples left out because their captions are too long.
        parts: the split.
        key: digest of everything that the weights depend on.
        limit: most tokens that a caption may have.
        recipe: every setting.
        known: known pairs.
        bits: photos whose perceptual hashes differ in at most this many bits are never split from each other.
    """

    examples: list[Example]
    captions: Captions | None
    dropped: int
    parts: Split
    key: str
    limit: int
    recipe: Recipe
    known: KnownPairs
    bits: int

    @classmethod
    def of(
        cls, examples: Sequence[Example], clip: Trainable, recipe: Recipe, bits: int, known: KnownPairs
    ) -> "TrainingData":
        """Leave out what cannot be trained on, and split the rest."""
        if not examples:
            none = "there are no photos to learn from" + (
                ": the archive has none besides those of the test set"
                if recipe.objective == "copies"
                else ": the legend sheets name none that can be used"
            )
            raise TrainingError(none)
        captions, dropped, limit = None, 0, 0
        if recipe.objective != "copies":
            if clip.tokenizer is None:
                raise TrainingError(
                    f"{clip.name} reads no captions, it has no text tower: say objective = 'copies' in [train] of "
                    "neardup.toml"
                )
            limit = token_limit(clip.model, clip.tokenizer)
            examples, captions, dropped = _fitting(examples, clip.tokenizer, limit, recipe)
        parts = split(known.separable(examples, bits), recipe.validation, recipe.seed)
        data = [(example.photo, example.phash, example.phash_mirrored, example.caption) for example in examples]
        weights = weights_digest(list(clip.model.state_dict().items()))
        processor, pairs = clip.image_processor.to_dict(), asdict(known)
        tokens = captions.tokens if captions else None
        background = clip.background.digest if clip.background else ""
        key = digest_of(TRAIN_STEP, data, tokens, asdict(recipe), bits, weights, processor, pairs, background)
        return cls(list(examples), captions, dropped, parts, key, limit, recipe, known, bits)

    def learner(self, clip: Trainable, device: str) -> VisionLearner:
        """Make the learner: the model on its device, with its data."""
        if self.captions is None:
            return CopyLearner(self.examples, clip, self.recipe, device, self.known, self.bits)
        if self.recipe.objective == "both":
            return CaptionAndCopyLearner(self.examples, clip, self.captions, self.recipe, device, self.known, self.bits)
        return Learner(self.examples, clip, self.captions, self.recipe, device)

    def near_duplicates(self) -> NearDuplicates:
        """Make the search by which the training is judged."""
        return NearDuplicates(self.examples, self.parts.validation, self.recipe, self.known, self.bits)

    def rows(self, learner: VisionLearner) -> list[int]:
        """List the rows that all epochs learn from and the validation rows, ascending."""
        epochs = range(1, self.recipe.epochs + 1)
        batches = [batch for epoch in epochs for batch in learner.batches(self.parts.training, epoch)]
        return sorted({*self.parts.validation, *(row for batch in batches for row in batch)})

    def facts(self, learner: VisionLearner) -> dict[str, Any]:
        """Collect the facts known before the first step, for the log and for `training.json`."""
        same, different = self.known.rows(self.examples)
        return {
            "photos": len(self.examples),
            "training_photos": len(self.parts.training),
            "validation_photos": len(self.parts.validation),
            "captions": len({example.caption for example in self.examples}) if self.captions else 0,
            "inseparable_sets": self.parts.sets,
            "truncated": sum(self.captions.long) if self.captions else 0,
            "dropped": self.dropped,
            "known_pairs": len(same) + len(different),
            "steps_an_epoch": len(learner.batches(self.parts.training, 1)),
            "device": learner.device.type,
            "processes": learner.processes.num_processes,
            "precision": "bf16" if learner.bf16 else "fp32",
        }

    def counts(self, facts: dict[str, Any]) -> str:
        """The sentence on the data, the device and the number format of a training."""
        texts = (
            f"{facts['captions']} distinct captions ({facts['truncated']} photos with one cut at {self.limit} tokens, "
            f"{facts['dropped']} left out for one)"
            if self.captions
            else "copies of the photos alone, without captions"
        )
        return (
            f"{facts['training_photos']} photos to train with, {facts['validation_photos']} to validate, {texts}; "
            f"{facts['steps_an_epoch']} steps an epoch on {facts['processes']} x {facts['device']} in "
            f"{facts['precision']}"
        )


def _fitting(
    examples: Sequence[Example],
    tokenizer: Any,
    limit: int,
    recipe: Recipe,
) -> tuple[list[Example], Captions, int]:
    """Select the examples with captions that fit; return them, the captions, and how many were left out."""
    captions = Captions(tokenizer, [example.caption for example in examples], limit)
    if recipe.long_legends == "truncate" or not any(captions.long):
        return list(examples), captions, 0
    fitting = [example for example, long in zip(examples, captions.long, strict=True) if not long]
    if not fitting:
        raise TrainingError(f"every caption has over {limit} tokens: say long_legends = 'truncate'")
    captions = Captions(tokenizer, [example.caption for example in fitting], limit)
    return fitting, captions, len(examples) - len(fitting)
