"""Score normalisation of a trained model: fitted on its training photos, kept where the validation photos say so."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neardup.encode.background import BACKGROUND, Background
from neardup.encode.files import encode_files
from neardup.encode.trainable import load_trainable
from neardup.errors import UnreadableImageError
from neardup.train.data import TrainingData
from neardup.train.epochs import Share, normalised
from neardup.train.interpolate import gains
from neardup.train.validation import NearDuplicates

MOST = 1000
"""Photos in a background, at most, so that no training ends with the encoding of a whole archive."""


@dataclass(frozen=True)
class Normalisation:
    """What score normalisation gains on the validation photos.

    Attributes:
        normalised: whether it is kept.
        background_photos: training photos that it was fitted on.
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
        """For `training.json`; where it is kept, what was measured with it is what was kept."""
        kept = {"validation_ndcg": self.normalised_ndcg, "validation_micro_ap": self.normalised_micro_ap}
        return asdict(self) | (kept if self.normalised else {})


def normalise(
    checkpoint: Path, data: TrainingData, near: NearDuplicates, device: str, say: Callable[[str], object]
) -> dict[str, Any]:
    """Fit and keep what normalises similarities, if the recipe asks for it and validation says so.

    Args:
        checkpoint: folder of the trained model.
        data: its photos and its recipe.
        near: the search among the validation photos.
        device: `auto`, `cpu`, `cuda` or `mps`.
        say: gets a sentence on what was gained and whether it is kept.

    Returns:
        The facts of the training that this adds or changes; none where the recipe leaves it out.
    """
    if not data.recipe.normalise:
        return {}
    facts = fit(checkpoint, data, near, device).facts
    say(normalised(facts))
    return facts


def fit(checkpoint: Path, data: TrainingData, near: NearDuplicates, device: str) -> Normalisation:
    """Fit a background on training photos, and write it into the checkpoint if near-duplicates are found better by it.

    Args:
        checkpoint: folder of the trained model.
        data: its photos; those that are validated on, and the test set's, are never in the background.
        near: the search among the validation photos.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """
    encoder = load_trainable(str(checkpoint)).encoder(device)
    rows = np.array(data.parts.training)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(data.recipe.seed).choice(rows, MOST, replace=False))
    photos = [data.examples[row] for row in rows]
    encoded = encode_files(encoder, (photo.image for photo in photos), max(photo.max_pixels for photo in photos))
    vectors = [vector for _, vector in encoded if not isinstance(vector, UnreadableImageError)]
    background = Background.of(np.stack(vectors))
    pictures = near.encoded(encoder)
    plain, wide = near.search(pictures), near.search(background.appended(pictures))
    start = Share(0.0, plain.ndcg, plain.micro_ap)
    end = Share(1.0, wide.ndcg, wide.micro_ap, wide.gain_error(plain))
    kept = gains(end, start)
    if kept:
        background.save(checkpoint)
    else:
        (checkpoint / BACKGROUND).unlink(missing_ok=True)
    figures = plain.ndcg, plain.micro_ap, wide.ndcg, wide.micro_ap, end.validation_ndcg_error
    return Normalisation(kept, len(vectors), *figures)
