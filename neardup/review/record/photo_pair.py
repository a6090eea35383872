"""Two photos of the archive by path and content: the base of candidates, questions, doubts and pairs asked again."""

from dataclasses import dataclass

from neardup.review.record.verdicts import pair_of


@dataclass(frozen=True)
class PhotoPair:
    """Two photos of the archive, each by its path and by the SHA-256 of its bytes.

    Attributes:
        photo: path of one photo, relative to the archive.
        partner: path of the other one.
        photo_sha256: digest of its bytes.
        partner_sha256: digest of the other's.
    """

    photo: str
    partner: str
    photo_sha256: str
    partner_sha256: str

    @property
    def pair(self) -> tuple[str, str]:
        """The two contents, ordered as verdicts order them."""
        return pair_of(self.photo_sha256, self.partner_sha256)

    @property
    def paths(self) -> tuple[str, str]:
        """The path of the photo and of its partner."""
        return self.photo, self.partner

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of the photo and of its partner."""
        return self.photo_sha256, self.partner_sha256
