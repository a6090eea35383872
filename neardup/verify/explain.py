"""Two image files, explained: evidence, relation, one sentence and the picture."""

from dataclasses import dataclass
from pathlib import Path

from neardup.errors import UnreadableImageError
from neardup.images import MAX_PIXELS, read_file, read_image
from neardup.stages import replacing
from neardup.verify.evidence import Evidence
from neardup.verify.keypoints import LocalFeatures, local_features
from neardup.verify.match import Prepared
from neardup.verify.picture import WIDTH, explain_picture
from neardup.verify.relation import Relation, relation_of
from neardup.verify.verifier import proof_of


@dataclass(frozen=True)
class Explained:
    """What two photos have to do with each other.

    Attributes:
        evidence: measured; its first photo is the one that was named first.
        relation: what that means.
        sentence: the relation in words, with the photos' names.
    """

    evidence: Evidence
    relation: Relation
    sentence: str


def explain_files(first: Path, second: Path, picture: Path, max_pixels: int = MAX_PIXELS) -> Explained:
    """Verify two image files and draw the picture that explains what was found.

    Args:
        first: an image file.
        second: another one.
        picture: the PNG to write.
        max_pixels: larger images are refused.

    Raises:
        UnreadableImageError: a file is no image that can be read.
    """
    one, other = (_features(path, max_pixels) for path in (first, second))
    evidence, points = proof_of(Prepared.of(one), Prepared.of(other), (str(first), str(second)))
    names = (first.name, second.name)
    images = [read_image(path, max_pixels=max_pixels, draft=WIDTH) for path in (first, second)]
    drawn = explain_picture(images[0], images[1], evidence, points, names=names)
    with replacing(picture) as partial:
        drawn.save(partial, "PNG")
    relation = relation_of(evidence)
    return Explained(evidence, relation, relation.sentence(*names))


def _features(path: Path, max_pixels: int) -> LocalFeatures:
    """Keypoints of a file; the error names it."""
    try:
        return local_features(read_file(path), max_pixels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path}: {error}") from None
