"""A pair that is put before people for a reason of its own, whether the machine proposes it or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from neardup.review.texts import LANGUAGES, texts
from neardup.review.verdicts import pair_of


@dataclass(frozen=True)
class Question:
    """A pair with the reason why it is asked.

    Attributes:
        photo: path of one photo, relative to the archive.
        partner: path of the other one.
        photo_sha256: digest of its bytes.
        partner_sha256: digest of the other's.
        reason: name of the text of the page that says why.
        values: what stands at the places of that text.
    """

    photo: str
    partner: str
    photo_sha256: str
    partner_sha256: str
    reason: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        """The two contents, ordered as verdicts order them."""
        return pair_of(self.photo_sha256, self.partner_sha256)

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Path and SHA-256 of either photo."""
        return (self.photo, self.photo_sha256), (self.partner, self.partner_sha256)

    @property
    def sentence(self) -> str:
        """The reason in the first of the page's languages, as a verdict keeps it."""
        return texts(LANGUAGES[0])[self.reason].format(**self.values)
