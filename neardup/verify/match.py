"""Match the keypoints of two photos: by descriptor, then by one affine transform that many matches agree on."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from neardup.arrays import Bools, Floats, Ints, Ints32, Vectors
from neardup.verify.evidence import Transform
from neardup.verify.keypoints import MIRRORED, NEGATIVE, LocalFeatures
from neardup.verify.products import products

MATCH_STEP = 3
"""Version of the matching; bumped when the match of equal keypoints changes."""
RATIO = 0.85
"""Greatest distance of a match as a share of the next best one's (Lowe 2004); 0.8 lost pairs of screened copies."""
LEAST_MATCHES = 4
"""Matches that must agree: three always fit an affine transform, so that the fourth is the first evidence."""
TOLERANCE = 0.02
"""Share of the second photo's diagonal by which an inlier may miss its place: prints shrink and bend."""
LEAST_RESIDUAL = 0.35
"""Share of the tolerance to which smaller residuals are raised: a fit closer than a pixel is luck, not evidence."""
SEED_TOLERANCE = 0.04
"""Share of the diagonal by which a match may miss the place that a single other match predicts."""
SEED_DRIFT = 0.05
"""Share of the distance between two matches that is added to `SEED_TOLERANCE`, as angles and sizes are coarse."""
SEED_SCALE = 0.7
"""Greatest difference of the natural logarithms of two matches' scales that agree: a factor of two."""
SEED_ANGLE = 0.6
"""Greatest difference of two matches' rotations that agree, in radians: 34 degrees."""
LEAST_SQUEEZE = 0.5
"""Lesser singular value as a share of the greater, below which a transform squeezes more than any reproduction does."""
GREATEST_SCALE = 12.0
"""Greatest magnification from one photo to the other: beyond it a whole photo would match a speck."""
LEAST_SPREAD = 0.02
"""Least standard deviation of the inliers across their narrowest direction, as a share of the diagonal.

Less is a line of text or a ruled border, which different photos share.
"""
PLAUSIBLE = -2.0
"""Decimal logarithm of the number of false alarms above which a match counts as chance: one in a hundred pairs."""
STRONGEST_OF_NEGATIVE = 100
"""Keypoints of each photo by which a negative is looked for: half of all, at a quarter of the time.

Measured on held-out photos: 100 of 100 negatives are found, and 98 of 100 of their crops at half the size; no wrong
pair of 11,132 matches as a negative, and a pair that does not match takes a quarter longer.
"""
LEAST_RADIUS = 2.0
"""Least tolerance of an inlier in pixels: in a photo of a few dozen pixels `TOLERANCE` would be a fraction of one."""


@dataclass(frozen=True)
class Match:
    """Keypoints of one version, direct or mirrored, that agree on a transform.

    Attributes:
        transform: full pixels of the first photo to those of the second.
        matches: how many mutual nearest keypoints pass the ratio test.
        inliers: how many of the matches agree on the transform.
        log_false_alarms: decimal logarithm of the number of false alarms of the best subset, at most 0.
        points: float32 (inliers, 4), x and y in full pixels of the first photo, x and y in those of the second.
        candidates: float32 (matches, 4), the same coordinates of all matches.
    """

    transform: Transform
    matches: int
    inliers: int
    log_false_alarms: float
    points: Vectors
    candidates: Vectors


@dataclass(frozen=True)
class Version:
    """Keypoints of one version of a photo, sharp or blurred, and what matching derives from the descriptors once.

    Attributes:
        places: float32 (n, 4), as `Keypoints` has them.
        descriptors: uint8 (n, 128), as `Keypoints` has them.
    """

    places: Vectors
    descriptors: npt.NDArray[np.uint8]

    @cached_property
    def with_mirrored(self) -> npt.NDArray[np.uint8]:
        """The descriptors, and below them those of the same keypoints in the mirrored photo: uint8 (2 n, 128)."""
        return np.concatenate([self.descriptors, self.descriptors[:, MIRRORED]])

    @cached_property
    def columns(self) -> npt.NDArray[np.int8]:
        """The descriptors as int8 (128, n)."""
        return np.ascontiguousarray(self.descriptors.T).view(np.int8)

    @cached_property
    def squares(self) -> Ints:
        """Squared lengths of the descriptors, int64 (n,)."""
        wide = self.descriptors.astype(np.int64)
        return np.asarray(np.vecdot(wide, wide))

    def strongest(self, count: int) -> "Version":
        """The keypoints of greatest contrast."""
        return Version(self.places[:count], self.descriptors[:count])

    @property
    def negative(self) -> "Version":
        """The same keypoints in the photo's negative."""
        places = self.places.copy()
        places[:, 3] += 180
        return Version(places, self.descriptors[:, NEGATIVE])


@dataclass(frozen=True)
class Prepared:
    """A photo's keypoints, ready to be matched with those of any other photo.

    Attributes:
        features: the photo's keypoints, size and grey picture.
        versions: keypoints of the photo as it is, and blurred.
    """

    features: LocalFeatures
    versions: tuple[Version, ...]

    @classmethod
    def of(cls, features: LocalFeatures) -> "Prepared":
        """Prepare both versions of a photo's keypoints, so that what matching derives from them is computed once."""
        versions = (Version(points.places, points.descriptors) for points in (features.plain, features.blurred))
        return cls(features, tuple(versions))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo in pixels."""
        return self.features.width, self.features.height

    @cached_property
    def strongest(self) -> Version:
        """The strongest keypoints of the photo as it is, by which a negative is recognised."""
        return self.versions[0].strongest(STRONGEST_OF_NEGATIVE)

    @cached_property
    def strongest_of_negative(self) -> Version:
        """The strongest keypoints of the photo's negative."""
        return self.strongest.negative


def best_matches(first: Prepared, second: Prepared) -> tuple[Match | None, Match | None]:
    """Find the best match of the sharp photos, and of the blurred ones, direct or mirrored; None where there is none.

    Where no match is plausible, the first photo's negative is tried too: with few keypoints, then with all if the few
    agree.
    """
    sizes = first.size, second.size
    matches = [_direct_or_mirrored(*pair, *sizes) for pair in zip(first.versions, second.versions, strict=True)]
    if not plausible(better(*matches)):
        match_of_negative = _direct_or_mirrored(first.strongest_of_negative, second.strongest, *sizes)
        if plausible(match_of_negative):
            pairs = zip(first.versions, second.versions, strict=True)
            matches = [
                _direct_or_mirrored(first_version.negative, second_version, *sizes)
                for first_version, second_version in pairs
            ]
    plain, blurred = matches
    return plain, blurred


def plausible(match: Match | None) -> bool:
    """Whether there is a match, and its number of false alarms is too low for it to be chance."""
    return match is not None and match.log_false_alarms <= PLAUSIBLE


def _direct_or_mirrored(
    first: Version, second: Version, first_size: tuple[int, int], second_size: tuple[int, int]
) -> Match | None:
    """Find the better match of one version of two photos, direct or mirrored; None where there is none."""
    if min(len(first.places), len(second.places)) < LEAST_MATCHES:
        return None
    direct, mirrored = likenesses(first, second)
    return better(
        _matched(first, second, first_size, second_size, direct, mirrored=False),
        _matched(first, second, first_size, second_size, mirrored, mirrored=True),
    )


def likenesses(first: Version, second: Version) -> Ints32:
    """Inner products of the descriptors of two photos: int32 (2, n, m), of the first photo as it is and mirrored."""
    direct_and_mirrored = products(first.with_mirrored, second.columns)
    return direct_and_mirrored.reshape(2, len(first.places), len(second.places))


def better(one: Match | None, other: Match | None) -> Match | None:
    """Choose the match that is less likely by chance, `one` of equally likely ones; None where both are None."""
    return min(filter(None, (one, other)), key=lambda match: match.log_false_alarms, default=None)


def _matched(
    first: Version,
    second: Version,
    first_size: tuple[int, int],
    second_size: tuple[int, int],
    likeness: Ints32,
    *,
    mirrored: bool,
) -> Match | None:
    """Match one version of two photos by the products of their descriptors, the first photo mirrored or not."""
    rows, columns = mutual_nearest(likeness, first.squares, second.squares)
    if len(rows) < LEAST_MATCHES:
        return None
    source, target = first.places[rows].astype(np.float64), second.places[columns].astype(np.float64)
    if mirrored:
        source[:, 0] = first_size[0] - source[:, 0]
        source[:, 3] = 180 - source[:, 3]
    diagonal = float(np.hypot(*second_size))
    radius = max(LEAST_RADIUS, TOLERANCE * diagonal)
    agreeing = _agreeing(source, target, diagonal)
    affine = None if agreeing is None else _affine(source[agreeing, :2], target[agreeing, :2], radius)
    if affine is None:
        return None
    residuals = np.hypot(*(source[:, :2] @ affine[:, :2].T + affine[:, 2] - target[:, :2]).T)
    inliers = residuals < radius
    sides = ((source, float(np.hypot(*first_size))), (target, diagonal))
    if not all(_spread_out(places[inliers, :2], length) for places, length in sides):
        return None
    chance = log_false_alarms(residuals, second_size[0] * second_size[1], LEAST_RESIDUAL * radius)
    if mirrored:
        affine = affine @ np.array([[-1.0, 0, first_size[0]], [0, 1, 0], [0, 0, 1]])
    places = np.concatenate([first.places[rows, :2], target[:, :2]], axis=1, dtype=np.float32)
    transform: Transform = tuple(np.vstack([affine, [0.0, 0.0, 1.0]]).ravel().tolist())
    return Match(transform, len(rows), int(inliers.sum()), chance, places[inliers], places)


def mutual_nearest(likeness: Ints32, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Find the rows and columns that are each other's nearest and pass the ratio test: two arrays int64 (k,).

    Args:
        likeness: int32 (n, m), products of descriptors whose lengths are about equal, m at least 2; higher is more
            alike.
        first: int64 (n,), squared lengths of the descriptors of the rows.
        second: int64 (m,), squared lengths of the descriptors of the columns.
    """
    nearest = likeness.argmax(axis=1)
    rows = np.flatnonzero(likeness.argmax(axis=0)[nearest] == np.arange(len(nearest)))
    columns = nearest[rows]
    competitors, numbers = likeness[rows], np.arange(len(rows))
    best = competitors[numbers, columns]
    competitors[numbers, columns] = -1
    next_best = competitors.argmax(axis=1)
    distance = first[rows] + second[columns] - 2 * best
    next_distance = first[rows] + second[next_best] - 2 * competitors[numbers, next_best]
    passing = distance < RATIO**2 * next_distance
    return rows[passing], columns[passing]


def _agreeing(source: Floats, target: Floats, diagonal: float) -> Bools | None:
    """The most matches that agree with the similarity transform of one of them; None for fewer than `LEAST_MATCHES`.

    A keypoint has a place, a size and an orientation, so that each match alone predicts where all others lie (Philbin
    et al. 2007). All of them are tried, which takes less time than sampling triples and is deterministic.
    """
    # Places and turns as complex numbers: a similarity transform is one product and one sum.
    start, end = (side[:, 0] + 1j * side[:, 1] for side in (source, target))
    scale, turn = target[:, 2] / source[:, 2], np.exp(1j * np.deg2rad(target[:, 3] - source[:, 3]))
    steps = start - start[:, None]
    misses = np.abs((scale * turn)[:, None] * steps + end[:, None] - end)
    reach = SEED_TOLERANCE * diagonal + SEED_DRIFT * scale[:, None] * np.abs(steps)
    log_scale = np.log(scale)
    turned_alike = (turn * turn.conj()[:, None]).real > np.cos(SEED_ANGLE)
    agree = (misses < reach) & (np.abs(log_scale - log_scale[:, None]) < SEED_SCALE) & turned_alike
    best: Bools = agree[agree.sum(axis=1).argmax()]
    if best.sum() < LEAST_MATCHES:
        return None
    places = [len(set(map(tuple, side[best, :2].round().tolist()))) for side in (source, target)]
    return best if min(places) >= LEAST_MATCHES else None


def _affine(source: Floats, target: Floats, radius: float) -> Floats | None:
    """Fit an affine transform, float64 (2, 3), by MAGSAC++ (Barath et al. 2020); None for an implausible one."""
    affine, _ = cv2.estimateAffine2D(
        source, target, method=cv2.USAC_MAGSAC, ransacReprojThreshold=radius, maxIters=1000, confidence=0.999
    )
    if affine is None or not np.isfinite(affine).all() or np.linalg.det(affine[:, :2]) <= 0:
        return None
    greater, lesser = np.linalg.svd(affine[:, :2], compute_uv=False)
    if lesser < LEAST_SQUEEZE * greater or greater > GREATEST_SCALE or lesser < 1 / GREATEST_SCALE:
        return None
    return np.asarray(affine, dtype=np.float64)


def _spread_out(points: Floats, diagonal: float) -> bool:
    """Whether there are at least `LEAST_MATCHES` points, float64 (n, 2), and they do not all lie near one line."""
    if len(points) < LEAST_MATCHES:
        return False
    centred = points - points.mean(axis=0)
    narrowest = np.linalg.eigvalsh(centred.T @ centred / len(points))[0]
    return bool(np.sqrt(max(0.0, float(narrowest))) >= LEAST_SPREAD * diagonal)


def log_false_alarms(residuals: Floats, area: float, floor: float) -> float:
    """Decimal logarithm of the number of false alarms of an affine transform, at most 0 (Moisan et al., IPOL 2012).

    Of n matches, k agree within r by chance as often as (n - 3) C(n, k) C(k, 3) (π r² / area)^(k - 3); the least over
    all k is taken.

    Args:
        residuals: float64 (n,), by how many pixels each match misses its place.
        area: area of the second photo in square pixels.
        floor: residual in pixels to which smaller ones are raised.
    """
    count = len(residuals)
    agreeing = np.arange(LEAST_MATCHES, count + 1)
    if not len(agreeing):
        return 0.0
    radii = np.maximum(np.sort(residuals), floor)[LEAST_MATCHES - 1 :]
    chances = np.minimum(1.0, np.pi * radii**2 / area)
    subsets = gammaln(count + 1) - gammaln(agreeing + 1) - gammaln(count - agreeing + 1)
    triples = gammaln(agreeing + 1) - gammaln(4) - gammaln(agreeing - 2)
    values = np.log10(count - 3) + (subsets + triples) / np.log(10) + (agreeing - 3) * np.log10(chances)
    return float(min(0.0, values.min()))
