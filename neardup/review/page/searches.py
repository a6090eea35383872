"""The searches of the review page: what was brought, what is like it, and what the machine says of each hit."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neardup.errors import ArchiveError
from neardup.review.found.candidates import Photo
from neardup.review.found.facts import PhotoFacts
from neardup.review.page.desk import Desk
from neardup.review.page.payloads import machine_says
from neardup.review.record.verdicts import Verdict
from neardup.search.nearest import Hit

KEPT = 50
"""Searches whose hits are remembered, so that a person finds them again when they come back from a pair."""


@dataclass(frozen=True)
class FoundPhoto:
    """A hit of a search as its page shows it.

    Attributes:
        photo: the photo.
        similarity: cosine of its vector and that of the query, -1 to 1.
        sentence: what verification says of it and the photo searched for; empty where nothing does.
        probability: that both are the same picture; None where the machine does not say.
        verdicts: those in force on both.
    """

    photo: Photo
    similarity: float
    sentence: str
    probability: float | None
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Search:
    """A photo that somebody brought with its hits, best first."""

    query: Photo
    hits: Sequence[Hit]
    verified: Mapping[str, Mapping[str, Any]]


class Searches:
    """Finds photos like one, or like words."""

    def __init__(self, desk: Desk) -> None:
        """Search what the page works with."""
        self._desk = desk
        self._lock = threading.Lock()
        self._kept = OrderedDict[str, Search]()

    def add(self, data: bytes) -> str:
        """Search for a photo and remember what was found.

        Args:
            data: the bytes of its file; they are not kept.

        Returns:
            Its SHA-256, by which the search is found again.

        Raises:
            UnreadableImageError: they are no image.
            ArchiveError: there are no vectors to search.
        """
        desk = self._desk
        query = desk.pictures.add(data)
        hits = desk.lookup.like_photo(data, desk.max_pixels)
        desk.results.bring(query)
        photo = desk.results.content(query) or Photo(query, "", PhotoFacts("", ""))
        with self._lock:
            self._kept[query] = Search(photo, hits, desk.prove(query, data, hits))
            self._kept.move_to_end(query)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return query

    def of(self, query: str) -> tuple[Photo, list[FoundPhoto]]:
        """The photo that was brought, and its hits, the most probable first, with what was said of them since.

        Raises:
            ArchiveError: it is not remembered.
        """
        search = self._kept.get(query)
        if search is None:
            raise ArchiveError("that search is not remembered: bring the photo again")
        found = self._found(search.hits, query, search.verified)
        return search.query, sorted(found, key=lambda hit: -(hit.probability or 0.0))

    def by_words(self, text: str) -> list[FoundPhoto]:
        """The photos that words describe best; errors as in `Lookup.like_words`."""
        return self._found(self._desk.lookup.like_words(text), "", {})

    def _found(self, hits: Sequence[Hit], query: str, verified: Mapping[str, Mapping[str, Any]]) -> list[FoundPhoto]:
        """The hits whose photos are still where they were when they were encoded."""
        results, answers = self._desk.results, self._desk.queues.answers
        found = []
        for hit in hits:
            if not results.learn(hit.path, hit.photo):
                continue
            photo = Photo(hit.photo, hit.path, results.facts.of(hit.path))
            opinion = verified.get(hit.photo, {})
            if query and None not in {results.photo_of(query), results.photo_of(hit.photo)}:
                opinion = machine_says(results.pair(query, hit.photo))
            verdicts = answers.of(query, hit.photo) if query else []
            sentence, probability = opinion.get("sentence") or "", opinion.get("probability")
            found.append(FoundPhoto(photo, hit.similarity, sentence, probability, verdicts))
        return found
