"""What local features and pixels say of one pair of photos, as one value."""

from dataclasses import dataclass

LEAST_KEYPOINTS = 24
"""Keypoints below which a photo has too little structure (sea, sky, a blank page) for its pairs to be told apart."""
SAME_EXPOSURE = 0.75
"""Correlation of matched tones below which two photos that geometry matches may be two exposures of a scene.

Of 434 press copies one in a hundred lies below 0.81, of 191 exposures of one plate through colour filters one in twenty
below 0.77: most second exposures fit as well as copies do, and this number cannot tell them apart.
"""
FEW_POINTS = 16
"""Matched points up to which a match whose tones fit badly is doubtful: two faces in the same pose have as many.

Among 905 held-out photos and press copies, under 1 % of the true pairs that matched are doubtful, and 81 % of the wrong
ones.
"""

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of a photo, upright and at full size."""
Transform = tuple[float, float, float, float, float, float, float, float, float]
"""A 3 × 3 projective matrix, row by row: (x, y, 1) in pixels of the first photo to those of the second."""


def ordered(photo: str, partner: str) -> tuple[str, str]:
    """Put the SHA-256 of two photos in the order in which evidence and verdicts name them: the lesser first."""
    return (photo, partner) if photo < partner else (partner, photo)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of a pair.

    Where a pair does not match, `transform` is None and every field that follows from it is zero or empty; screens are
    measured in each photo alone.

    Coordinates are pixels of the upright photos (EXIF applied) at full size, whatever size they were decoded at.

    Attributes:
        first: SHA-256 of the first photo's bytes; less than `second`.
        second: SHA-256 of the second photo's bytes.
        width_first: width of the first photo in pixels.
        height_first: height of the first photo in pixels.
        width_second: width of the second photo in pixels.
        height_second: height of the second photo in pixels.
        keypoints_first: number of the first photo's keypoints, sharp and blurred together.
        keypoints_second: number of the second photo's keypoints, sharp and blurred together.
        matches: mutual nearest keypoints that pass the ratio test, in the version and mirroring that matched best.
        inliers: matches of the photos as they are that agree on the transform.
        blurred_inliers: matches of the blurred photos that agree on the transform.
        log_false_alarms: decimal logarithm of the expected number of wrong pairs that would match as well by chance;
            0 where nothing agrees.
        residual: median distance by which the points that agree miss their places, in pixels of the coarser photo at
            the size at which keypoints are found (`median_residual`).
        transform: from the first photo to the second; None where no transform is plausible. It is affine, or projective
            where that is clearly truer (`perspective_of`); mirror, coverage, rotation, scale, squeeze, correlation and
            detail are those of the affine one even then, because the probability of a pair goes by them.
        mirrored: whether the transform turns left into right.
        coverage_first: share of the first photo that the second one shows, 0 to 1.
        coverage_second: share of the second photo that the first one shows, 0 to 1.
        rotation: degrees by which the second photo is turned clockwise against the first, -180 to 180, after mirroring.
        scale: length in the second photo of what is one pixel long in the first.
        squeeze: the lesser of the transform's two singular values as a share of the greater, 0 to 1.
        squeeze_by_chance: how much squeeze the errors of the points may feign, 0 or more; a rotation by half as many
            radians.
        tone_slope: grey levels of the second photo by one of the first; negative where one is a negative of the other.
        reversed_share: share of the structure of both photos that is light in one of them and dark in the other: 0 for
            positives, 1 for a negative, between for a solarised print.
        correlation: of grey levels where the photos overlap, after their tones were matched, -1 to 1.
        detail: correlation of what is left of both photos once the mean tone around each pixel is subtracted, -1 to 1.
        plain_first: greatest share with one tone in the part of the first photo that the second does not show, 0 to 1;
            0 where the second shows nearly all of the first.
        plain_second: greatest share with one tone in the part of the second photo that the first does not show, 0 to 1;
            0 where the first shows nearly all of the second.
        screen_first: period of the first photo's printing screen, in pixels; 0 where it shows none.
        screen_second: period of the second photo's printing screen, in pixels; 0 where it shows none.
        differences: boxes in the first photo where the second one differs, the greatest difference first; none where
            the match is doubtful, for two different pictures differ everywhere.
        picture_first: where the picture lies in the first photo, if a mount, a text or another picture beside it takes
            the place of what the second photo shows; None where nothing does, and where the match is doubtful. The
            coverage includes such things, because the probability of a pair goes by it.
        picture_second: where the picture lies in the second photo, in the same way.
    """

    first: str
    second: str
    width_first: int
    height_first: int
    width_second: int
    height_second: int
    keypoints_first: int
    keypoints_second: int
    matches: int = 0
    inliers: int = 0
    blurred_inliers: int = 0
    log_false_alarms: float = 0.0
    transform: Transform | None = None
    mirrored: bool = False
    coverage_first: float = 0.0
    coverage_second: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    squeeze: float = 0.0
    tone_slope: float = 0.0
    correlation: float = 0.0
    detail: float = 0.0
    plain_first: float = 0.0
    plain_second: float = 0.0
    screen_first: float = 0.0
    screen_second: float = 0.0
    differences: tuple[Box, ...] = ()
    picture_first: Box | None = None
    picture_second: Box | None = None
    reversed_share: float = 0.0
    squeeze_by_chance: float = 0.0
    residual: float = 0.0

    @property
    def pictures(self) -> tuple[Box, Box]:
        """Where the picture lies in each photo: all of it, unless it also shows a mount, a text or another picture."""
        return (
            self.picture_first or (0.0, 0.0, self.width_first, self.height_first),
            self.picture_second or (0.0, 0.0, self.width_second, self.height_second),
        )

    @property
    def matched(self) -> bool:
        """Whether a plausible transform takes one photo to the other."""
        return self.transform is not None

    @property
    def in_perspective(self) -> bool:
        """Whether one photo shows the other as seen from the side, so that the transform is projective, not affine."""
        return self.transform is not None and any(self.transform[6:8])

    @property
    def fits_badly(self) -> bool:
        """Whether the photos match, but their tones fit so badly that they may be two exposures of a scene."""
        return self.matched and self.correlation < SAME_EXPOSURE

    @property
    def doubtful(self) -> bool:
        """Whether so few points agree and tones fit so badly that the match may be a likeness only."""
        return self.fits_badly and self.points <= FEW_POINTS

    @property
    def cannot_tell(self) -> bool:
        """Whether a photo has too few keypoints for the lack of a match to say anything."""
        return not self.matched and min(self.keypoints_first, self.keypoints_second) < LEAST_KEYPOINTS

    @property
    def points(self) -> int:
        """Number of matches that agree in the version, sharp or blurred, that has more; each has its own transform."""
        return max(self.inliers, self.blurred_inliers)

    @property
    def share(self) -> float:
        """Points that agree by the matches of the version that is rarer by chance, which may have fewer; at most 1."""
        return min(1.0, self.points / self.matches) if self.matches else 0.0
