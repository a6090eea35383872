"""Everything that the review page works with while its server runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from neardup.detect.hits import verify_hits
from neardup.images import MAX_PIXELS, read_content
from neardup.review.asked.queues import Queues
from neardup.review.found.results import Results
from neardup.review.page.group import Groups
from neardup.review.page.lookup import Lookup
from neardup.review.page.pictures import Pictures
from neardup.review.record.references import References
from neardup.review.record.verdicts import Verdicts
from neardup.search.nearest import Hit
from neardup.stages import STATE

VERIFIED = 12
"""Hits of a search that are verified: a near-duplicate is among the first, and a person waits for them."""


@dataclass(frozen=True)
class Desk:
    """Results, verdicts and what is made of them, as the page asks for them.

    Attributes:
        results: of the run.
        verdicts: where answers are kept.
        who: what the person is called where the browser does not say.
        lookup: the search.
        max_pixels: a larger image is refused.
    """

    results: Results
    verdicts: Verdicts
    who: str
    lookup: Lookup
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Create all cached parts before threads ask for them, as two threads would otherwise each keep their own."""
        _ = self.queues, self.pictures, self.groups

    def renewed(self) -> "Desk":
        """The same over the results that lie in the folder now; errors as where results are opened."""
        results = self.results.reopened()
        return replace(self, results=results, lookup=self.lookup.over(results))

    @cached_property
    def queues(self) -> Queues:
        """What is asked, and in which order."""
        return Queues(self.results, self.verdicts)

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures of the photos."""
        return Pictures(self.results, self.max_pixels)

    @cached_property
    def groups(self) -> Groups:
        """The groups, with what was said of them."""
        return Groups(self.results, self.queues.answers, References(self.results.out))

    def prove(self, query: str, data: bytes, hits: Sequence[Hit]) -> dict[str, dict[str, Any]]:
        """What verification says of a photo that somebody brought and its first hits, by the SHA-256 of each.

        Args:
            query: SHA-256 of the photo.
            data: its bytes.
            hits: of the search, best first; the first `VERIFIED` of them are verified.
        """
        files = {hit.photo: self.results.archive / hit.path for hit in hits}
        names, state = [(query, "The photo you brought")], self.results.out / STATE

        def read(photo: str) -> bytes:
            return data if photo == query else read_content(files[photo], photo)

        verified = verify_hits(names, [hits[:VERIFIED]], read, state, self.results.decision, self.max_pixels)[0]
        return {hit.photo: asdict(seen) for hit, seen in zip(hits, verified, strict=False) if seen}
