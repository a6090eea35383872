"""A pair that people are asked about for a specific reason, whether the machine proposes it or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from neardup.review.record.photo_pair import PhotoPair
from neardup.review.texts import LANGUAGES, texts


@dataclass(frozen=True)
class Question(PhotoPair):
    """A pair with the reason why it is asked.

    Attributes:
        reason: name of the text of the page that says why.
        values: values for the placeholders of that text.
    """

    reason: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The reason in the first of the page's languages, as a verdict keeps it."""
        return texts(LANGUAGES[0])[self.reason].format(**self.values)
