"""The approaches that an experiment compares: the recipe of each, and the stages of its folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neardup.archive.known_pairs import KNOWN_PAIRS, training_photos_also_tested
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.encoder import objectives_of
from neardup.errors import ArchiveError
from neardup.measure.distractors import drawing, prepared_key
from neardup.measure.queries import SEARCH_STEP
from neardup.settings.schema import APPROACHES, Recipe, Settings
from neardup.stages import Stage, digest_file, digest_of, read_json, reading
from neardup.train.step_version import TRAIN_STEP
from neardup.words import typed

if TYPE_CHECKING:
    from neardup.train.batches import Example, KnownPairs

VECTORS_STEP = 1
"""Version of the step that encodes the test set; bumped when its result changes for equal inputs."""
EVALUATE_STEP = 5
"""Version of the step that measures an approach; bumped when its result changes for equal inputs."""
VERIFIED_STEP = 5
"""Version of the step that measures an approach verified; bumped when its result changes for equal inputs."""

WITHOUT_LEGENDS = frozenset({"zero-shot", "adapted"})
"""Approaches that need no legends: they learn from all photos of the archive that are unrelated to the test set."""


@dataclass(frozen=True)
class Approach:
    """One of the compared approaches, in one output folder.

    Attributes:
        name: `zero-shot`, `fine-tuned`, `fine-tuned-augmented`, `adapted` or `tuned`; also its folder's name.
        out: the experiment's output folder.
        settings: settings of the experiment.
        base: fingerprint of the encoder that it starts from.
        repeat: how many seeds after the recipe's own it is trained with; 0 for the approach itself.
    """

    name: str
    out: Path
    settings: Settings
    base: str
    repeat: int = 0

    @property
    def place(self) -> str:
        """The approach's folder within the output folder, by which its stages are named, too."""
        return f"{self.name}/seeds/{self.repeat}" if self.repeat else self.name

    @property
    def folder(self) -> Path:
        """The folder of the approach's checkpoint, vectors, tables and pictures."""
        return self.out / self.place

    @property
    def repeats(self) -> "list[Approach]":
        """The approach with each further seed that the settings ask for; none of zero-shot, which draws nothing."""
        further = range(1, self.settings.seeds) if self.recipe and not self.repeat else ()
        return [replace(self, repeat=repeat) for repeat in further]

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the approach is trained by; None for zero-shot."""
        recipe = self._recipe
        return replace(recipe, seed=recipe.seed + self.repeat) if recipe else None

    @property
    def _recipe(self) -> Recipe | None:
        """The approach's recipe with the seed of the settings, whichever repeat this is."""
        if self.name == "zero-shot":
            return None
        if self.name == "adapted":
            adapt = self.settings.adapt
            # A background must hold no photo of the test set.
            return replace(adapt, normalise=False) if self.settings.transductive else adapt
        if self.name == "tuned":
            return self.settings.train
        augmentation = self.settings.augmentation if self.name == "fine-tuned-augmented" else "none"
        return replace(self.settings.train, augmentation=augmentation)

    @property
    def normalisation(self) -> Recipe | None:
        """The recipe by which the similarities of the untrained encoder are normalised; None where they are not."""
        adapt = replace(self, name="adapted").recipe
        return adapt if self.name == "zero-shot" and adapt and adapt.normalise else None

    @property
    def checkpoint(self) -> Stage:
        """The stage that makes the checkpoint; its key holds all that training depends on, legends and captions too."""
        recipe: tuple[object, ...] | None = (TRAIN_STEP, asdict(self.recipe)) if self.recipe else None
        inputs: list[object] = []
        if untrained := self.normalisation:
            recipe = TRAIN_STEP, untrained.seed, untrained.validation, untrained.validation_copies
        if self.name == "adapted" or untrained:
            known_pairs = self.out / KNOWN_PAIRS
            pairs = digest_file(known_pairs) if known_pairs.is_file() else ""
            inputs = [prepared_key(self.out), self.settings.distractors, self.settings.transductive, pairs]
        elif recipe:
            inputs = [table_digest(self.out, table) for table in ("training_set.csv", "captions.csv")]
            inputs += training_photos_also_tested(self.out)
        bits = self.settings.prepare.look_alike_bits
        key = digest_of(self.base, self.settings.encoder, recipe, bits, inputs)
        return Stage(self.out, f"{self.place}/checkpoint", key)

    @property
    def vectors(self) -> Stage:
        """The stage that encodes the test set, and the distractors where there are any."""
        inputs = [VECTORS_STEP, self.checkpoint.key, table_digest(self.out, "test_set.csv")]
        if self.settings.distractors:
            inputs.append(drawing(self.out, self.settings.distractors).key)
        return Stage(self.out, f"{self.place}/vectors", digest_of(*inputs))

    @property
    def evaluation(self) -> Stage:
        """The stage that measures the vectors."""
        return Stage(self.out, f"{self.place}/evaluation", digest_of(EVALUATE_STEP, self.vectors.key))

    @property
    def verification(self) -> Stage | None:
        """The stage that verifies the nearest pairs; None where the settings leave it out, and of further seeds."""
        if not self.settings.verify or self.repeat:
            return None
        from neardup.decide.decision import DECISION_STEP  # noqa: PLC0415 - OpenCV, which not all need
        from neardup.verify.verifier import evidence_fingerprint  # noqa: PLC0415 - OpenCV, which not all need

        promises = self.settings.decide.precision, self.settings.decide.recall
        key = digest_of(VERIFIED_STEP, DECISION_STEP, self.evaluation.key, evidence_fingerprint(), promises)
        return Stage(self.out, f"{self.place}/verified", key)

    @property
    def measured(self) -> Stage:
        """The last stage that gives figures."""
        return self.verification or self.evaluation

    @property
    def queries(self) -> Stage | None:
        """The stage that writes the new photos and their variants, the same for all approaches; None without any."""
        if not self.settings.queries:
            return None
        from neardup.train.variants import queries_stage  # noqa: PLC0415 - torchvision, for seconds

        return queries_stage(self.out, self.settings)

    def search(self, queries: Stage) -> Stage:
        """The stage that searches for the new photos."""
        return Stage(self.out, f"{self.name}/queries", digest_of(SEARCH_STEP, queries.key, self.evaluation.key))


def table_digest(out: Path, table: str) -> str:
    """SHA-256 of a table of the prepared folder.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    if not (out / table).is_file():
        first = f"run `neardup prepare ARCHIVE --out {typed(out)}`, then `neardup translate --out {typed(out)}`"
        raise ArchiveError(f"{out / table} does not exist: {first}")
    return digest_file(out / table)


def approaches_of(out: Path, settings: Settings, base: str) -> list[Approach]:
    """The four approaches, and the tuned one where `neardup tune` has found a recipe for this very encoder.

    Those that learn from captions are left out where no photo has a legend or the encoder reads none, and all that
    learn where it cannot.
    """
    can = objectives_of(settings.encoder)
    captions = "captions" in can and bool(TrainingSet.load(out).photos)
    possible = {"zero-shot": True, "adapted": "copies" in can}
    names = [name for name in APPROACHES if possible.get(name, captions)]
    approaches = [Approach(name, out, settings, base) for name in names]
    path = out / "tuned" / "recipe.json"
    if path.is_file():
        with reading(path, f"run `neardup tune --out {typed(out)}` again, or delete it to leave the approach out"):
            tuned = json.loads(path.read_text(encoding="utf-8"))
            recipe = replace(settings.train, **tuned["recipe"]) if tuned["base"] == base else None
        if recipe and (captions or recipe.objective == "copies"):
            approaches.append(Approach("tuned", out, replace(settings, train=recipe), base))
    return approaches


def trained_approaches(approaches: Sequence[Approach], say: Callable[[str], None]) -> list[Approach]:
    """Select zero-shot, each approach that was trained with these very settings, and further seeds if all were trained.

    Args:
        approaches: all possible approaches.
        say: called with a sentence for each approach that is left out because it was trained with other settings.
    """
    trained = []
    for approach in approaches:
        if approach.recipe is None or approach.checkpoint.done():
            all_seeds_trained = all(repeat.checkpoint.done() for repeat in approach.repeats)
            trained.append(
                approach if all_seeds_trained else replace(approach, settings=replace(approach.settings, seeds=1))
            )
        elif read_json(approach.checkpoint.manifest).get("key") == approach.checkpoint.key:
            again = f"run `neardup train --out {typed(approach.out)}` again with the same options"
            say(f"{approach.name} is left out: its checkpoint is not as training left it, gone or damaged: {again}")
        elif (approach.folder / "checkpoint").is_dir():
            say(f"{approach.name} is left out: it was trained with other settings than these; say the same ones again")
    return trained


def validation_gain(approach: Approach) -> tuple[float, float]:
    """Compute an approach's gains in nDCG and µAP on its validation photos over the untrained encoder.

    If no weight has changed, it is the gain by another background.
    """
    facts = (approach.checkpoint.read() or {"facts": {}})["facts"]
    names = ("validation_ndcg", "validation_micro_ap")
    ndcg, micro_ap = (facts[name] - facts[f"{name}_before"] if name in facts else 0.0 for name in names)
    if facts.get("background_taken"):
        ndcg += facts["background_ndcg"] - facts["background_ndcg_before"]
        micro_ap += facts["background_micro_ap"] - facts["background_micro_ap_before"]
    return ndcg, micro_ap


def with_enough_photos(approaches: Sequence[Approach], say: Callable[[str], None]) -> list[Approach]:
    """Drop the approaches that are not trained yet and have too few photos for it, and report each of them.

    Raises:
        ArchiveError: nothing has been translated, or the archive is gone.
    """
    from neardup.train.split import LEAST_SETS  # noqa: PLC0415 - SciPy, which not all need

    enough = []
    for approach in approaches:
        if approach.recipe and not approach.checkpoint.done():
            bits = approach.settings.prepare.look_alike_bits
            sets = len(known_pairs_of(approach).separable(examples_of(approach), bits))
            if sets < LEAST_SETS:
                say(f"{approach.name} is left out: {LEAST_SETS} different photos are needed to learn from, not {sets}")
                continue
        enough.append(approach)
    return enough


def examples_of(approach: Approach) -> "list[Example]":
    """The photos that an approach is trained on, or of zero-shot those that may normalise its similarities."""
    from neardup.train.examples import archive_examples, training_examples  # noqa: PLC0415 - torch, for seconds

    settings = approach.settings
    if approach.name not in WITHOUT_LEGENDS:
        return training_examples(approach.out, settings.prepare.max_pixels)
    return archive_examples(
        approach.out,
        distractors=settings.distractors,
        transductive=settings.transductive,
        max_pixels=settings.prepare.max_pixels,
    )


def known_pairs_of(approach: Approach) -> "KnownPairs":
    """Load the known pairs of these photos, without those of the test set, whose groups must not be learned from."""
    from neardup.train.batches import KnownPairs  # noqa: PLC0415 - torch, for seconds

    if approach.name not in WITHOUT_LEGENDS:
        return KnownPairs()
    tested = {photo.sha256 for photo in TestSet.load(approach.out).photos}
    return KnownPairs.load(approach.out / KNOWN_PAIRS).without(tested)
