"""Whether two photos match only in a part that different photographs share: an advertisement, a masthead, a frame."""

from collections.abc import Callable

from neardup.arrays import Vectors
from neardup.verify.differences import Pictures
from neardup.verify.frames import inverse
from neardup.verify.picture_area import LEAST_AGREEING, SIMILAR, STRUCTURED, Agreement, agreeing_share
from neardup.verify.pixels import LaidPair

OPPOSITE = -0.6
"""Agreement of a window down to which its structure is not turned into its negative: a solarised print does that."""
LEAST_COMPARED = 100
"""Windows with structure in both photos below which they say nothing: a hundredth of a small picture."""
LEAST_IN_COMMON = 0.4
"""Share of what has structure in either photo that must have it in both; less is a ground that was painted over."""
MOST_DIFFERING = 0.25
"""Share of what has structure in both photos that may differ far from every matched point."""
LEAST_POINTS = 12
"""Matched points below which photos may lie on each other so loosely that what differs does so by a misfit."""
MANY_POINTS = 30
"""Matched points from which two photos lie on each other so well that what differs does not do so by a misfit."""
MOST_DIFFERING_OF_MANY = 0.2
"""Share of what has structure in both photos that may differ far from every one of `MANY_POINTS` matched points."""
LEAST_FAR = 0.5
"""Share of what has structure in both photos up to which its distance from every matched point says nothing."""
LEAST_IN_PICTURES = 0.55
"""Share of what has structure in both photos that their pictures must hold for what lies around these not to count."""


def is_all_they_share(agreement: Agreement | None, find_pictures: Callable[[], Pictures], points: Vectors) -> bool:
    """Whether two photos match in a part of what both show, and are different photographs in the rest.

    Two clippings with one advertisement, two photos with one agency's mark, above one imprint or in one frame match
    there, and elsewhere the structure of one has nothing to do with that of the other. What only one of them has does
    not count: the rest of a page around a picture, a ground that was painted over. Where a picture takes most of what
    both show, what lies around it does not count either. All of this must be so in the frame of each photo, so that it
    does not depend on which of them is the first.

    Below `LEAST_POINTS` matched points the photos lie on each other too loosely to be compared so; such matches are too
    weak to be links anyway. Where less than `LEAST_AGREEING` of the area among the matched points agrees in the first
    photo's frame, the answer is yes at once.

    Measured on 919 photographs, copies and hard negatives: of 1,046 true matches it refuses 4, one of which was a link;
    of 185 matches of different photographs 89, the ten links among them.

    Args:
        agreement: of both photos in the frame of the first; None where nothing can be compared.
        find_pictures: finds both photos' pictures; called only where more than `agreement` is needed.
        points: float32 (n, 4), matched points in full pixels of both.
    """
    if agreeing_share(agreement, points[:, :2]) < LEAST_AGREEING:
        return True
    if agreement is None or len(points) < LEAST_POINTS:
        return False
    pictures = find_pictures()
    if not _differs(agreement, pictures, points[:, :2]):
        return False
    photos, boxes = pictures.photos, pictures.boxes
    turned = LaidPair(photos.second, photos.first, inverse(photos.transform))
    turned_agreement = Agreement.of(turned)
    return turned_agreement is not None and _differs(
        turned_agreement, Pictures(turned, (boxes[1], boxes[0])), points[:, 2:]
    )


def _differs(agreement: Agreement, pictures: Pictures, points: Vectors) -> bool:
    """Whether `is_all_they_share` holds in the frame of the first photo.

    Args:
        agreement: of both photos.
        pictures: both photos, and where their pictures lie.
        points: float32 (n, 2), matched points in full pixels of the first photo.
    """
    compared = agreement.aligned.overlap & (agreement.both > STRUCTURED)
    either = agreement.weights > STRUCTURED
    if compared.sum() < max(LEAST_COMPARED, LEAST_IN_COMMON * either.sum()):
        return False
    far = compared & ~agreement.near(points)
    differing = far & (agreement.values < SIMILAR) & (agreement.values > OPPOSITE)
    most = MOST_DIFFERING_OF_MANY if len(points) >= MANY_POINTS else MOST_DIFFERING
    if differing.sum() <= most * compared.sum() or far.sum() <= LEAST_FAR * compared.sum():
        return False
    if not any(pictures.boxes):
        return True
    inside = compared & pictures.within(agreement.aligned).overlap
    alike = (differing & inside).sum() <= most / 2 * inside.sum()
    return not (alike and inside.sum() >= LEAST_IN_PICTURES * compared.sum())
