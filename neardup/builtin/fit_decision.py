"""Fit the decision and the threshold that the project ships with its encoder.

`python -m neardup.builtin.fit_decision PHOTOS` writes both; the threshold serves where nothing is verified.

The near-duplicates are of photographs that the encoder was never trained on: exposures of one plate, and press copies
of them. Most photographs of a collection have no near-duplicates, and among hundreds of portraits some agree by chance
in eyes, nose and mouth: the folder's single photographs are therefore candidates as well, although most of them were
trained on.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from neardup.arrays import Ints, Vectors
from neardup.builtin.pool import held_out_groups, training_singletons
from neardup.decide.chosen_decision import SHIPPED
from neardup.decide.decision import Decision, Fingerprints, decide
from neardup.decide.probability import CandidatePairs, out_of_fold
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.encode.protocol import CHECKPOINT
from neardup.images import read_image
from neardup.measure.evaluate import FOLDS
from neardup.measure.pairs import Pairs
from neardup.measure.threshold import METRICS, calibrated_threshold
from neardup.stages import write_json
from neardup.train.press import press
from neardup.verify.verifier import Verifier, verifier_fingerprint

COPIES = 2
"""Press copies that are made of the first exposure of each plate."""
SOURCE = (
    "exposures of public-domain photographs that the encoder never saw, and press copies made of them, among other "
    "photographs"
)
"""Source of the shipped decision, in words."""


@dataclass(frozen=True)
class Photographs:
    """What the decision is fitted to.

    Attributes:
        files: bytes of each photograph or copy.
        group_of: int64 (n,), equal numbers for near-duplicates.
        groups: how many groups have more than one; they come first.
        vectors: float32 (n, d), by the shipped encoder.
        fingerprint: of that encoder.
    """

    files: list[bytes]
    group_of: Ints
    groups: int
    vectors: Vectors
    fingerprint: str


def photographs(photos: Path) -> Photographs:
    """The held-out photographs of a folder and press copies of them, then those that it has one each of, encoded."""
    groups = held_out_groups([photos])
    files: list[bytes] = []
    group_of: list[int] = []
    for number, group in enumerate(groups):
        original = read_image(group[0])
        copies = [press(original, number * COPIES + copy) for copy in range(COPIES)]
        files += [path.read_bytes() for path in group] + [_png(copy) for copy in copies]
        group_of += [number] * (len(group) + COPIES)
    singletons = training_singletons([photos])
    files += [path.read_bytes() for path in singletons]
    group_of += range(len(groups), len(groups) + len(singletons))
    encoder = load_encoder(BUILTIN)
    vectors = encoder.encode([encoder.read(data) for data in files])
    return Photographs(files, np.array(group_of, dtype=np.int64), len(groups), vectors, encoder.fingerprint)


def fit(known: Photographs) -> Decision:
    """Fit the decision on pairs that the vectors propose and local features verify."""
    vectors, truth = known.vectors, known.group_of
    names = [f"{number:06d}" for number in range(len(known.files))]
    rows, evidence = Verifier(dict(zip(names, known.files, strict=True)).__getitem__).verify_nearest(vectors, names)
    cosines = np.einsum("ij,ij->i", vectors[rows[:, 0]], vectors[rows[:, 1]]).astype(np.float64)
    candidates = CandidatePairs.of(rows, cosines, evidence)
    belongs = Fingerprints(known.fingerprint, verifier_fingerprint())
    decision = decide(candidates, truth, out_of_fold(candidates, truth, FOLDS, 0), belongs, SOURCE)
    # Verdicts are weighed against as many beliefs as groups, and singletons teach nothing about near-duplicates.
    return replace(decision, groups=known.groups)


def save_threshold(known: Photographs) -> float:
    """Calibrate the threshold of the vectors alone on all pairs, and write it where the encoder is looked for."""
    similarities = known.vectors.astype(np.float64) @ known.vectors.T.astype(np.float64)
    threshold = calibrated_threshold(Pairs.of(similarities, known.group_of), known.group_of)
    write_json(CHECKPOINT.parent / METRICS, {"threshold": threshold, "fingerprint": known.fingerprint})
    return threshold


def _png(image: Image.Image) -> bytes:
    """The bytes of a picture's lossless file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(photos: Path) -> None:
    """Fit the shipped decision and threshold anew on the photographs of a folder (with its photos.csv)."""
    known = photographs(photos)
    click.echo(f"By similarity alone pairs are near-duplicates from {save_threshold(known):.4f} on.")
    decision = fit(known)
    decision.save(SHIPPED)
    click.echo(f"{decision.pairs:,} pairs, {decision.groups} groups of near-duplicates.")
    click.echo(decision.reliability.sentence())
    click.echo(decision.bands.sentence())


if __name__ == "__main__":
    main()
