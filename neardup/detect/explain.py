"""Explanation of two image files: evidence, relation, probability with its terms, one sentence and the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from neardup.decide.bands import Band
from neardup.decide.chosen_decision import decision_for
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, PNG_LEVEL, read_file, read_image
from neardup.stages import digest_file, replacing
from neardup.verify.evidence import Evidence
from neardup.verify.keypoints import LocalFeatures, local_features
from neardup.verify.match import Prepared
from neardup.verify.picture import LEAST_TERM, WIDTH, explain_picture
from neardup.verify.relation import Relation, relation_of
from neardup.verify.verifier import proof_of
from neardup.words import chance_text, one_line

if TYPE_CHECKING:
    from neardup.settings.schema import Dtype


MARK = ("Software", "neardup explain")
"""Key and text in a pair's PNG that mark it as a drawn picture, not a photo."""


@dataclass(frozen=True)
class Explained:
    """How two photos relate to each other, and why.

    Attributes:
        evidence: evidence of the pair; its first photo is the one with the lesser SHA-256, and both are named by their
            paths.
        relation: kind of copy that the evidence shows.
        sentence: the relation in words, with the photos' names.
        similarity: cosine of both vectors, -1 to 1.
        probability: probability that both are near-duplicates; None where no decision belongs to the encoder.
        band: band of that probability.
        terms: what each feature adds to the probability, in natural log-odds.
    """

    evidence: Evidence
    relation: Relation
    sentence: str
    similarity: float
    probability: float | None = None
    band: Band | None = None
    terms: Sequence[tuple[str, float]] = ()

    @property
    def text(self) -> str:
        """The sentence, the probability, and the terms that it consists of, one per line."""
        if self.probability is None:
            return f"{self.sentence}\nNo decision belongs to this encoder, so that there is no probability."
        shown_terms = [(title, value) for title, value in self.terms if abs(value) >= LEAST_TERM]
        terms = ", ".join(f"{title} {value:+.1f}" for title, value in shown_terms)
        chance = f"Probability {chance_text(self.probability)}, {self.band}."
        return f"{self.sentence}\n{chance} What speaks for it (+) and against it (-), in log-odds: {terms}."


def explain_files(
    first: Path,
    second: Path,
    picture: Path,
    max_pixels: int = MAX_PIXELS,
    encoder: str = BUILTIN,
    out: Path | None = None,
    precision: "Dtype" = "fp32",
) -> Explained:
    """Verify two image files, decide whether they are near-duplicates, and draw the picture that explains it.

    As in a search, evidence is measured in the order of the photos' SHA-256, and the picture shows them in that order:
    the answer does not depend on which file is named first.

    Args:
        first: an image file.
        second: another image file.
        picture: the PNG to write.
        max_pixels: larger images are refused.
        encoder: name or path of an encoder, as `load_encoder` takes it.
        out: output folder whose decision is tried first; None for the shipped decision.
        precision: number format that the encoder computes in.

    Raises:
        ArchiveError: the picture's name does not end in `.png`, or it would overwrite a file that was not drawn by
            `neardup explain`.
        EncoderError: there is no such encoder.
        UnreadableImageError: a file is not a readable image.
    """
    if picture.exists() and not _is_ours(picture):
        raise ArchiveError(
            f"{picture} is there and was not drawn by `neardup explain`: name another file with --picture"
        )
    if picture.suffix.lower() != ".png":
        raise ArchiveError(f"{picture} would hold a PNG: name a file that ends in .png with --picture")
    photos = [(path, Prepared.of(_features(path, max_pixels))) for path in (first, second)]
    (one, one_prepared), (other, other_prepared) = sorted(photos, key=lambda photo: digest_file(photo[0]))
    evidence, points = proof_of(one_prepared, other_prepared, (str(one), str(other)))
    files, names = (one, other), (one_line(one.name), one_line(other.name))
    model = load_encoder(encoder, dtype=precision)
    vectors = model.encode([model.read(path, max_pixels) for path in files])
    similarity = float(np.clip(vectors[0] @ vectors[1], -1, 1))
    relation = relation_of(evidence)
    is_one_file = digest_file(one) == digest_file(other)
    equal = "The two files are equal byte by byte. " if is_one_file else ""
    explained = Explained(evidence, relation, equal + relation.sentence(*names), similarity)
    if decision := decision_for(out, model.fingerprint):
        [probability], [band], _ = decision.judge(np.array([similarity]), [evidence])
        terms = decision.waterfall(similarity, evidence)
        explained = replace(explained, probability=float(probability), band=band, terms=terms)
    images = [read_image(path, max_pixels=max_pixels, draft=WIDTH) for path in files]
    image = explain_picture(images[0], images[1], evidence, points, names=names, terms=explained.terms)
    marked = PngInfo()
    marked.add_text(*MARK)
    with replacing(picture) as partial:
        image.save(partial, "PNG", compress_level=PNG_LEVEL, pnginfo=marked)
    return explained


def _is_ours(picture: Path) -> bool:
    """Whether a file is a picture that `explain_files` drew and may thus be overwritten."""
    try:
        with Image.open(picture) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def _features(path: Path, max_pixels: int) -> LocalFeatures:
    """Find the keypoints of a file; an error names the file."""
    try:
        return local_features(read_file(path), max_pixels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path}: {error}") from None
