"""Groups of a collection from its decided pairs, geometry and people's verdicts, and the reasons for each photo's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.constraints import Constraints
from neardup.decide.correlation_clustering import UNLISTED, WeightedPairs, correlation_clusters, pair_log_odds
from neardup.decide.features import matched
from neardup.decide.geometry import LINKED, Placements, disjoint_pairs, lowered_by_triangles, transform_of
from neardup.decide.group_report import GroupReport, group_reports
from neardup.decide.reference import LinkedPairs, Looks
from neardup.search.pairs import NearPairs
from neardup.verify.evidence import Evidence

MOST_WITHOUT_MATCH = LINKED - 1e-9
"""Greatest probability that a pair without a match that counts has in grouping: just below that of a link."""


@dataclass(frozen=True)
class DecidedPairs:
    """Pairs of a collection with their evidence and probabilities.

    Attributes:
        left: int64 (m,), row of each pair's one photo.
        right: int64 (m,), row of its other photo; each unordered pair once.
        probabilities: float64 (m,), of being near-duplicates.
        evidence: evidence of each pair; None where it was not verified.
        photos: row → SHA-256, for the photos that evidence names.
        counted: bool (m,), whether geometry finds a match that counts (`PairModel.regression_of`); None where every
            match does.
    """

    left: Ints
    right: Ints
    probabilities: Floats
    evidence: Sequence[Evidence | None]
    photos: Mapping[int, str]
    counted: Bools | None = None

    @property
    def unmatched(self) -> Bools:
        """Whether geometry was asked about each pair and finds no match that counts, bool (m,)."""
        verified, matches = np.array([item is not None for item in self.evidence], dtype=bool), matched(self.evidence)
        return verified & ~(matches if self.counted is None else matches & self.counted)

    @property
    def _row_of(self) -> dict[str, int]:
        """SHA-256 → row of the photo; the first row of equal contents."""
        return {photo: row for row, photo in sorted(self.photos.items(), reverse=True)}

    def placements(self, count: int) -> Placements:
        """Collect how the photos of `count` rows lie in one another, by the matches that count."""
        rows = self.left.tolist()
        transforms = np.array(
            [transform_of(item, self.photos.get(row, "")) for row, item in zip(rows, self.evidence, strict=True)]
        ).reshape(-1, 3, 3)
        transforms[self.unmatched] = np.nan
        return Placements(self.left, self.right, self.probabilities, transforms, self.sizes(count))

    def sizes(self, count: int) -> Floats:
        """Width and height of each photo, float64 (count, 2); 1 where no evidence has them, as for further copies."""
        sizes, rows = np.ones((count, 2)), self._row_of
        for item in self.evidence:
            if item:
                sizes[rows[item.first]] = item.width_first, item.height_first
                sizes[rows[item.second]] = item.width_second, item.height_second
        return sizes

    def coverage(self) -> tuple[Floats, Floats]:
        """Shares of each pair's left photo that the right one shows, and the other way round: float64 (m,) each."""
        shares = np.zeros((2, len(self.left)))
        for place, (row, item) in enumerate(zip(self.left.tolist(), self.evidence, strict=True)):
            if item:
                coverages = item.coverage_first, item.coverage_second
                shares[:, place] = coverages if self.photos[row] == item.first else coverages[::-1]
        return shares[0], shares[1]

    def looks(self, place: int) -> Looks | None:
        """Read from a pair's evidence how its photos look; None where nothing is certain."""
        left, right, item = int(self.left[place]), int(self.right[place]), self.evidence[place]
        rows = (left, right) if item is None or self.photos[left] == item.first else (right, left)
        return Looks.of(item, *rows)

    def screened(self) -> set[int]:
        """Find the rows of the photos that show a printing screen."""
        rows = self._row_of
        return {
            rows[photo]
            for item in self.evidence
            if item
            for photo, period in ((item.first, item.screen_first), (item.second, item.screen_second))
            if period > 0
        }


def group_pairs(count: int, pairs: DecidedPairs, constraints: Constraints | None = None) -> tuple[Ints, Floats]:
    """Group photos by their decided pairs.

    A verified pair without a match that counts joins nothing by itself, however similar its vectors are, whether
    geometry says no or cannot tell: it weighs at most 0. If geometry cannot tell, it parts nothing either: it weighs no
    less than a pair that was not compared. A link that contradicts the transforms of a triangle is lowered. A pair
    whose photos lie side by side in a third weighs nothing, whether it is listed or not.

    Args:
        count: number of photos.
        pairs: the decided pairs with their probabilities.
        constraints: pairs that must be together or stay apart; none by default.

    Returns:
        int64 (count,), the group of each photo, numbered from 0 in the order of their first photos; and float64 (m,),
        the probabilities after the triangles lowered some.

    Raises:
        ConfigError: the constraints contradict each other.
    """
    most = np.where(pairs.unmatched, MOST_WITHOUT_MATCH, 1.0)
    placements = replace(pairs, probabilities=np.minimum(pairs.probabilities, most)).placements(count)
    lowered = lowered_by_triangles(placements)
    starts, ends = disjoint_pairs(placements)
    apart = starts * count + ends
    keys = np.minimum(pairs.left, pairs.right) * count + np.maximum(pairs.left, pairs.right)
    untold = np.array([item is not None and item.cannot_tell for item in pairs.evidence], dtype=bool)
    weights = pair_log_odds(lowered, np.isin(keys, apart))
    weights = np.where(untold, np.maximum(weights, UNLISTED), weights)
    unlisted = ~np.isin(apart, keys)
    weighted = WeightedPairs(
        np.concatenate([pairs.left, starts[unlisted]]),
        np.concatenate([pairs.right, ends[unlisted]]),
        np.concatenate([weights, np.zeros(int(unlisted.sum()))]),
    )
    return correlation_clusters(count, weighted, constraints), lowered


def explain_groups(groups: Ints, pairs: DecidedPairs, copies: Bools) -> list[GroupReport]:
    """Explain why each photo is in its group: a report for each group of two or more photos.

    Args:
        groups: int64 (n,), the group of each photo.
        pairs: the decided pairs, with the probabilities that `group_pairs` returned.
        copies: bool (m,), the pairs of equal bytes, whose photos show all of each other; the left one stands for them.
    """
    linked = np.flatnonzero(pairs.probabilities >= LINKED)
    left, right = (np.where(copies, 1.0, shares)[linked] for shares in pairs.coverage())
    ends = pairs.left[linked], pairs.right[linked]
    looks = [pairs.looks(place) for place in linked.tolist()]
    links = LinkedPairs(*ends, pairs.probabilities[linked], left, right, looks)
    pixels = pairs.sizes(len(groups)).prod(axis=1).astype(np.int64)
    content_of = dict(zip(pairs.right[copies].tolist(), pairs.left[copies].tolist(), strict=True))
    return group_reports(groups, links, pixels, pairs.screened(), content_of)


def members_of(groups: Ints, pairs: NearPairs) -> list[list[int]]:
    """List the rows of each group of two or more, in the order in which the pairs name them; rows in no pair come last.

    Args:
        groups: int64 (n,), the group of each photo.
        pairs: pairs of rows, best first.
    """
    in_order = np.concatenate([np.stack([pairs.left, pairs.right], axis=1).ravel(), np.arange(len(groups))])
    rows, places = np.unique(in_order, return_index=True)
    members: dict[int, list[int]] = {}
    for row in rows[np.argsort(places)].tolist():
        members.setdefault(int(groups[row]), []).append(row)
    return [rows_of_group for rows_of_group in members.values() if len(rows_of_group) > 1]
