"""Candidate pairs of `watch`: those with a new photo that `duplicates` would look at as well."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neardup.archive.notice import Sighting
from neardup.arrays import Bools, Vectors
from neardup.detect.pictures import pictures_in
from neardup.detect.verified_pairs import by_content
from neardup.encode.collection import Collection
from neardup.encode.protocol import BATCH, Encoder
from neardup.encode.shards import keys_of
from neardup.search.blocks import search_all
from neardup.search.exact_copies import EQUAL
from neardup.search.pairs import NearPairs
from neardup.verify.candidates import closing_pairs, matches_well
from neardup.verify.store import EvidenceByPair


@dataclass(frozen=True)
class NewCandidates:
    """The candidates of a collection in which some photos are new; photos are sorted by path.

    Attributes:
        contents: SHA-256 of each photo.
        new: bool (n,), which photos are new.
        vectors: float32 (n, d), unit rows, of each photo.
        pairs: all candidates, of two known photos as well, best first. Of photos with equal vectors one stands for
            the others, a new one if there is one.
        equal: pairs of that photo and each of the others.
    """

    contents: tuple[str, ...]
    new: Bools
    vectors: Vectors
    pairs: NearPairs
    equal: NearPairs

    @classmethod
    def search(
        cls,
        archive: Path,
        store: str,
        encoder: Encoder,
        threshold: float,
        seen: Sighting,
        vectors: Vectors,
        most: int | None,
    ) -> "NewCandidates":
        """Search for candidates; what an earlier run of `watch` or `duplicates` compared is not compared again.

        Args:
            archive: folder of the photos.
            store: folder or URL of the vectors.
            encoder: encoder that made the vectors.
            threshold: least similarity of a candidate.
            seen: the photos, and which are new; without new ones, nothing is searched.
            vectors: float32 (n, d), unit rows, of each photo.
            most: nearest photos of each that are candidates; None for all.
        """
        contents, new = tuple(seen.path_of), np.array(seen.new, dtype=bool)
        pairs = equal = NearPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        if new.any():
            # All vectors are in the store, so that nothing is encoded, and device and precision do not matter.
            collection = Collection(archive.resolve(), store, encoder.name, "auto", "fp32", encoder.fingerprint, BATCH)
            rows = np.argsort(~new, kind="stable")  # the first photo of a picture stands for it
            pictures = pictures_in(search_all(collection, threshold, most), keys_of(contents)[rows])
            found, kinds = pictures.of_files()
            pairs = NearPairs(rows[found.left], rows[found.right], found.similarities)
            equal = pairs.take(kinds == EQUAL)
        return cls(contents, new, vectors, pairs, equal)

    @cached_property
    def of_new(self) -> NearPairs:
        """Select the candidates with a new photo, best first; of a new and a known photo, the new one is left."""
        return self._new_first(self.pairs)

    def _new_first(self, pairs: NearPairs) -> NearPairs:
        """Select the pairs with a new photo and put that photo first; if both are new, the lesser row."""
        pairs = pairs.take(self.new[pairs.left] | self.new[pairs.right])
        ends = np.sort(np.stack([pairs.left, pairs.right]), axis=0)
        left, right = np.where(self.new[ends[0]], ends, ends[::-1])
        return NearPairs(left, right, pairs.similarities).sorted()

    def of_matched(self, known: EvidenceByPair) -> list[tuple[str, str]]:
        """Select the candidates, by `evidence.ordered`, of known photos that match new ones well enough to lead on.

        Args:
            known: evidence of the pairs `of_new`.
        """
        leading = {photo for pair, evidence in known.items() if matches_well(evidence) for photo in pair}
        reached = np.array([photo in leading for photo in self.contents], dtype=bool) & ~self.new
        left, right = self.pairs.left, self.pairs.right
        matched = (reached[left] | reached[right]) & ~self.new[left] & ~self.new[right]
        return by_content(self.pairs.take(matched), self.contents)

    def closing(self, known: EvidenceByPair) -> NearPairs:
        """Find the pairs that close triangles, without pairs of two known photos, which are not new; a new photo first.

        Args:
            known: evidence of the pairs `of_new` and `of_matched`.
        """
        row_of = {photo: row for row, photo in enumerate(self.contents)}
        ends = [(row_of[one], row_of[other]) for one, other in closing_pairs(known, known)]
        rows = np.array(ends, dtype=np.int64).reshape(-1, 2)
        rows = rows[self.new[rows].any(axis=1)]
        return self._new_first(NearPairs.between(rows, self.vectors[rows]))
