"""What verification says of the pairs that a search of a collection called: evidence, probability, pictures."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from neardup.arrays import Floats
from neardup.decide.bands import Band
from neardup.decide.decision import Decision
from neardup.decide.features import tellable
from neardup.errors import UnreadableImageError
from neardup.images import read_file, read_image
from neardup.pages import write_page
from neardup.search.pairs import NearPairs
from neardup.stages import digest_if_readable, replacing
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.picture import WIDTH, explain_picture
from neardup.verify.relation import relation_of
from neardup.verify.store import KeypointCache, read_evidence, write_evidence
from neardup.verify.verifier import Verifier, matched_points, verifier_fingerprint

PICTURES = 24
"""Pairs that are drawn: one of each of the first groups, then those that a person should look at."""


@dataclass(frozen=True)
class Proofs:
    """Evidence of pairs, in the order of the pairs.

    Attributes:
        root: folder of the photos.
        paths: of the photos that pairs count.
        pairs: that were verified or are exact copies.
        photos: SHA-256 of each photo, by its row; rows in exact copies only have none.
        evidence: of each pair; None for an exact copy and where a photo cannot be read.
        probabilities: float64 (m,), of each pair; NaN without a decision or evidence.
        bands: of each pair; empty text without a decision or evidence.
        verifier: what verified, which has their keypoints at hand.
    """

    root: Path
    paths: tuple[str, ...]
    pairs: NearPairs
    photos: dict[int, str]
    evidence: tuple[Evidence | None, ...]
    probabilities: Floats
    bands: tuple[Band | str, ...]
    verifier: Verifier

    @property
    def summary(self) -> str:
        """What verification found, as one sentence."""
        looked = [found for found in self.evidence if found]
        matched = sum(found.matched for found in looked)
        untold = sum(found.cannot_tell for found in looked)
        banded = {band: self.bands.count(band) for band in ("link", "review", "reject")}
        decided = (
            f"; by probability {banded['link']:,} are links, {banded['review']:,} are to be reviewed, "
            f"{banded['reject']:,} are rejected"
            if any(self.bands)
            else ""
        )
        return (
            f"Of {len(looked):,} pairs local features confirm {matched:,}, find no common picture in "
            f"{len(looked) - matched - untold:,} and cannot tell of {untold:,}{decided}."
        )

    def columns(self) -> dict[str, list[Any]]:
        """The columns of the table of pairs that verification adds."""
        return {
            "photo_sha256": [self.photos.get(row) for row in self.pairs.left.tolist()],
            "partner_sha256": [self.photos.get(row) for row in self.pairs.right.tolist()],
            "probability": [None if np.isnan(value) else value for value in self.probabilities.tolist()],
            "band": [str(band) or None for band in self.bands],
            "relation": [found and str(relation_of(found).kind) for found in self.evidence],
            "sentence": [found and self._sentence(place, found) for place, found in enumerate(self.evidence)],
            "inliers": [found and max(found.inliers, found.blurred_inliers) for found in self.evidence],
        }

    def _rows(self, place: int, found: Evidence) -> tuple[int, int]:
        """Rows of a pair's photos, the one that its evidence calls the first one first."""
        left, right = int(self.pairs.left[place]), int(self.pairs.right[place])
        return (left, right) if self.photos[left] == found.first else (right, left)

    def _names(self, place: int, found: Evidence) -> tuple[str, str]:
        """File names of a pair's photos, in the order of its evidence."""
        first, second = (Path(self.paths[row]).name for row in self._rows(place, found))
        return first, second

    def _sentence(self, place: int, found: Evidence) -> str:
        """A pair's relation with its photos' names."""
        return relation_of(found).sentence(*self._names(place, found))

    def write(self, folder: Path, group_of: Sequence[int], max_pixels: int) -> None:
        """Write `evidence.parquet`, pictures of pairs in `explained/`, and the page that shows them.

        Args:
            folder: of the results.
            group_of: the group of each photo, by its row.
            max_pixels: larger images are refused.
        """
        unique = {(found.first, found.second): found for found in self.evidence if found}
        write_evidence(folder / "evidence.parquet", unique.values(), verifier_fingerprint())
        rmtree(folder / "explained", ignore_errors=True)
        shown = []
        for number, (place, found) in enumerate(self._worth_showing(group_of), 1):
            name = f"explained/{number:03d}.png"
            if self._draw(place, found, folder / name, max_pixels):
                photo, partner = (self.paths[int(side[place])] for side in (self.pairs.left, self.pairs.right))
                shown.append((name, photo, partner, self._sentence(place, found), str(self.bands[place])))
        write_page(folder / "explained.html", "explained", shown=shown, summary=self.summary)

    def _worth_showing(self, group_of: Sequence[int]) -> list[tuple[int, Evidence]]:
        """The pairs to draw: the best of each group first, then those that a person should look at."""
        best: dict[int, tuple[int, Evidence]] = {}
        doubtful = []
        for place, found in enumerate(self.evidence):
            if found is None:
                continue
            if found.matched and self.bands[place] in {"link", ""}:
                best.setdefault(group_of[int(self.pairs.left[place])], (place, found))
            else:
                doubtful.append((place, found))
        groups = list(best.values())[: PICTURES * 2 // 3 if doubtful else PICTURES]
        return [*groups, *doubtful[: PICTURES - len(groups)]]

    def _draw(self, place: int, found: Evidence, path: Path, max_pixels: int) -> bool:
        """Draw one pair; False where a photo cannot be read any more."""
        rows = self._rows(place, found)
        try:
            images = [read_image(self.root / self.paths[row], max_pixels=max_pixels, draft=WIDTH) for row in rows]
        except (UnreadableImageError, OSError):
            return False
        first, second = (self.verifier.features(self.photos[row]) for row in rows)
        if first is None or second is None:
            return False
        points = matched_points(first, second)
        drawn = explain_picture(images[0], images[1], found, points, names=self._names(place, found))
        with replacing(path) as partial:
            drawn.save(partial, "PNG")
        return True


def prove(
    root: Path,
    paths: tuple[str, ...],
    pairs: NearPairs,
    wanted: Sequence[bool],
    state: Path,
    earlier: Path,
    decision: Decision | None,
    max_pixels: int,
) -> Proofs:
    """Verify pairs of a collection; what an earlier run verified is not verified again.

    Args:
        root: folder of the photos; it is only read.
        paths: of the photos that pairs count.
        pairs: rows of `paths`.
        wanted: of each pair whether it is to be verified; an exact copy needs no proof.
        state: folder that keeps keypoints.
        earlier: the `evidence.parquet` of an earlier run, if any.
        decision: what turns evidence into a probability; None where none belongs to the encoder.
        max_pixels: larger images are refused.
    """
    places = [place for place, chosen in enumerate(wanted) if chosen]
    rows = sorted({row for place in places for row in (int(pairs.left[place]), int(pairs.right[place]))})
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda row: digest_if_readable(root / paths[row]), rows)
        photos = {row: digest for row, digest in zip(rows, digests, strict=True) if digest}
    path_of = {digest: paths[row] for row, digest in photos.items()}
    verifier = Verifier(lambda photo: read_file(root / path_of[photo]), KeypointCache(state / "keypoints"), max_pixels)
    named = dict[int, tuple[str, str]]()
    for place in places:
        left, right = (photos.get(int(side[place])) for side in (pairs.left, pairs.right))
        if left and right:
            named[place] = ordered(left, right)
    known = verifier.verify(list(named.values()), read_evidence(earlier, verifier_fingerprint()))
    evidence = tuple(known.get(named[place]) if place in named else None for place in range(len(wanted)))
    probabilities, bands = np.full(len(wanted), np.nan), [""] * len(wanted)
    looked = np.array([place for place, found in enumerate(evidence) if found], dtype=np.int64)
    if decision and len(looked):
        found = [evidence[place] for place in looked]
        probabilities[looked] = decision.probabilities(pairs.similarities[looked].astype(np.float64), found)
        for place, band in zip(looked.tolist(), decision.bands.of(probabilities[looked], tellable(found)), strict=True):
            bands[place] = band
    return Proofs(root, paths, pairs, photos, evidence, probabilities, tuple(bands), verifier)
