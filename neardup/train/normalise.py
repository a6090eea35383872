"""Score normalisation of an encoder: fitted on training photos, kept where the validation photos say so."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neardup.encode.background import BACKGROUND, Background
from neardup.encode.encoder import BatchEncoder, load_encoder
from neardup.errors import TrainingError
from neardup.measure.evaluate import clean
from neardup.settings.schema import Recipe
from neardup.train.batches import Example, KnownPairs
from neardup.train.data import TrainingData
from neardup.train.epochs import Share, normalised
from neardup.train.interpolate import BEYOND, gains
from neardup.train.split import labels_of, split
from neardup.train.validation import NearDuplicates, SearchScore

BEYOND_CHANCE = 2.0
"""Standard errors that a gain in µAP must exceed for photos of the archive to replace a background."""
MOST = 2000
"""Most photos in a background, so that no training ends with encoding a whole archive."""


@dataclass(frozen=True)
class Normalisation:
    """The effect of score normalisation on the validation photos.

    Attributes:
        normalised: whether the normalisation is kept.
        background_photos: number of training photos that it was fitted on.
        plain_ndcg: nDCG of the search among the validation photos without it, 0 to 1.
        plain_micro_ap: µAP of that search.
        normalised_ndcg: nDCG with it.
        normalised_micro_ap: µAP with it.
        normalised_ndcg_error: standard error of the gain in nDCG, paired by picture.
    """

    normalised: bool
    background_photos: int
    plain_ndcg: float
    plain_micro_ap: float
    normalised_ndcg: float
    normalised_micro_ap: float
    normalised_ndcg_error: float

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for `training.json`; if normalisation is kept, its figures become those of the kept model."""
        kept = {"validation_ndcg": self.normalised_ndcg, "validation_micro_ap": self.normalised_micro_ap}
        error = {"normalised_ndcg_error": clean(self.normalised_ndcg_error)}
        return asdict(self) | error | (kept if self.normalised else {})


def normalise(
    checkpoint: Path,
    data: TrainingData,
    near: NearDuplicates,
    start: Background | None,
    share: float,
    device: str,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Normalise the similarities of a trained model, if its recipe or its original encoder has a background.

    An encoder's own background is fitted anew if its weights have changed; otherwise photos of the archive replace it
    if validation favours them. An encoder without a background gets one if the recipe asks for it and validation
    favours it.

    Args:
        checkpoint: folder of the trained model.
        data: its photos and its recipe.
        near: the search among the validation photos.
        start: the background that the encoder came with, if any.
        share: how far the kept weights lie from the original ones, 0 to 1.
        device: `auto`, `cpu`, `cuda` or `mps`.
        say: called with a sentence on what was fitted, what was gained, and whether it is kept.

    Returns:
        The facts of the training that this adds or changes; none where nothing is fitted.
    """
    if data.recipe.normalise is False or not (start or data.recipe.normalise):
        if start and not share:
            start.save(checkpoint)
        return {}
    photos = [data.examples[row] for row in data.parts.training]
    facts: dict[str, Any]
    if start and not share:
        facts = choose_background(checkpoint, data, start, device)
    elif start:
        background = _fitted(load_encoder(str(checkpoint), device), photos, data.recipe.seed)
        background.save(checkpoint)
        facts = {"background_photos": len(background.vectors)}
    else:
        facts = fit(checkpoint, photos, near, data.recipe.seed, device).facts
    say(normalised(facts))
    return facts


def choose_background(checkpoint: Path, data: TrainingData, start: Background, device: str) -> dict[str, Any]:
    """Give an untrained encoder the better background: its own, or photos of the archive.

    As the weights have seen no photo of the archive, all photos serve for both fitting and validation: copies of each
    are searched among all, and every photo and copy is normalised by a background without its own picture. Photos of
    the archive are chosen if µAP, which compares the similarities of all searches with one another, gains more than
    `BEYOND_CHANCE` of its standard errors, and nDCG loses at most one. Measured on a press archive, this gained with
    each draw of photos, whereas the tenth of them on which a training is validated was too few to decide.

    Args:
        checkpoint: folder of the encoder; gets the background.
        data: the photos and the recipe of the training.
        start: the background that the encoder came with.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Returns:
        Whether the archive's photos are taken, how many they are, and what was measured with either.

    Raises:
        TrainingError: a photo can no longer be read.
    """
    (checkpoint / BACKGROUND).unlink(missing_ok=True)
    encoder, recipe, photos = load_encoder(str(checkpoint), device), data.recipe, data.examples
    near = NearDuplicates(photos, range(len(photos)), recipe, data.known, data.bits)
    drawn = np.random.default_rng(recipe.seed).permutation(len(photos))[:MOST]
    limit = max(photo.max_pixels for photo in photos)
    archives = Background.fitted(encoder, [photos[row].image for row in drawn], MOST, recipe.seed, limit)
    if len(archives.vectors) < len(drawn):
        raise TrainingError("a photo of the archive cannot be read any more: mount its disk and run again")
    archives = replace(archives, neighbours=min(start.neighbours, len(drawn)), gamma=start.gamma)
    pictures = np.array(labels_of(data.known.pictures(photos, data.bits)))
    shown = np.tile(pictures[list(near.rows)], 1 + recipe.validation_copies)
    vectors, left_out = near.encoded(encoder), shown[:, None] == pictures[drawn]
    before = after = near.search(start.appended(vectors))
    if (~left_out).sum(axis=1).min() >= archives.neighbours:
        after = near.search(archives.appended(vectors, left_out))
    taken = is_better_background(after, before)
    (archives if taken else start).save(checkpoint)
    return {
        "background_photos": len(drawn),
        "background_taken": taken,
        "background_ndcg_before": before.ndcg,
        "background_micro_ap_before": before.micro_ap,
        "background_ndcg": after.ndcg,
        "background_micro_ap": after.micro_ap,
    }


def is_better_background(after: SearchScore, before: SearchScore) -> bool:
    """Whether a background improves a search: µAP gains beyond chance, and nDCG loses no more than by chance.

    Args:
        after: the search with the background.
        before: the same search with the background that it would replace.
    """
    gained = after.micro_ap - before.micro_ap > BEYOND_CHANCE * after.micro_ap_gain_error(before)
    return gained and before.ndcg - after.ndcg <= after.gain_error(before) * BEYOND


def normalise_untrained(
    checkpoint: Path,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    known: KnownPairs,
    bits: int,
    device: str,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Fit a background for an untrained encoder, and keep it if validation favours it.

    The photos are split as a training by the recipe splits them, so that both are judged by the same copies.

    Args:
        checkpoint: folder of the encoder, of any kind.
        examples: photos that are not the test set's.
        recipe: seed, share of the photos that are validated on, and number of their copies.
        known: pairs of photos that are known to show the same picture, or not to.
        bits: photos whose perceptual hashes differ in at most this many bits are never split from each other.
        device: `auto`, `cpu`, `cuda` or `mps`.
        say: called with a sentence on what was gained and whether it is kept, or why nothing was fitted.

    Returns:
        The facts of `Normalisation`, and the figures before it, by the names of a training's; none where nothing was
        fitted.
    """
    if (checkpoint / BACKGROUND).is_file():
        say("similarities are normalised by the background that the encoder came with")
        return {}
    try:
        parts = split(known.pictures(examples, bits), recipe.validation, recipe.seed)
    except TrainingError:
        say(f"similarities are not normalised: the archive has {len(examples)} photos that look unlike the test set's")
        return {}
    near = NearDuplicates(examples, parts.validation, recipe, known, bits)
    found = fit(checkpoint, [examples[row] for row in parts.training], near, recipe.seed, device)
    say(normalised(found.facts))
    before = {"validation_ndcg_before": found.plain_ndcg, "validation_micro_ap_before": found.plain_micro_ap}
    return before | found.facts


def fit(checkpoint: Path, photos: Sequence[Example], near: NearDuplicates, seed: int, device: str) -> Normalisation:
    """Fit a background on training photos, and write it into the checkpoint if it improves the search.

    Args:
        checkpoint: folder of the encoder, of any kind; an existing background is replaced.
        photos: photos to fit on, without validation and test photos.
        near: the search among the validation photos.
        seed: seed by which `MOST` of the photos are drawn, if there are more.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """
    (checkpoint / BACKGROUND).unlink(missing_ok=True)
    encoder = load_encoder(str(checkpoint), device)
    background = _fitted(encoder, photos, seed)
    pictures = near.encoded(encoder)
    plain, wide = near.search(pictures), near.search(background.appended(pictures))
    start = Share(0.0, plain.ndcg, plain.micro_ap)
    end = Share(1.0, wide.ndcg, wide.micro_ap, wide.gain_error(plain))
    kept = gains(end, start)
    if kept:
        background.save(checkpoint)
    figures = plain.ndcg, plain.micro_ap, wide.ndcg, wide.micro_ap, end.validation_ndcg_error
    return Normalisation(kept, len(background.vectors), *figures)


def _fitted(encoder: BatchEncoder, photos: Sequence[Example], seed: int) -> Background:
    """Make a background of training photos."""
    limit = max(photo.max_pixels for photo in photos)
    return Background.fitted(encoder, [photo.image for photo in photos], MOST, seed, limit)
