"""Groups of a collection from its decided pairs, geometry and what people said; and why each photo is in its group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.clusters import WeightedPairs, correlation_clusters, pair_log_odds
from neardup.decide.constraints import Constraints
from neardup.decide.geometry import LINKED, Placements, disjoint_pairs, lowered_by_triangles, transform_of
from neardup.decide.group_report import GroupReport, LinkedPairs, group_reports
from neardup.search.pairs import NearPairs
from neardup.verify.evidence import Evidence

UNTOLD = LINKED - 1e-9
"""The greatest probability that a pair has for its group where geometry cannot tell; it is no link."""


@dataclass(frozen=True)
class DecidedPairs:
    """Pairs of a collection with what was found of them.

    Attributes:
        left: int64 (m,), row of each pair's one photo.
        right: int64 (m,), row of its other photo; each unordered pair once.
        probabilities: float64 (m,), of being near-duplicates.
        evidence: of each pair; None where it was not verified.
        photos: row → SHA-256 of the photos that evidence names.
    """

    left: Ints
    right: Ints
    probabilities: Floats
    evidence: Sequence[Evidence | None]
    photos: Mapping[int, str]

    def placements(self, count: int) -> Placements:
        """How the photos of `count` rows lie in one another."""
        rows = self.left.tolist()
        transforms = np.array(
            [transform_of(found, self.photos.get(row, "")) for row, found in zip(rows, self.evidence, strict=True)]
        ).reshape(-1, 3, 3)
        return Placements(self.left, self.right, self.probabilities, transforms, self.sizes(count))

    def sizes(self, count: int) -> Floats:
        """Width and height of each photo, float64 (count, 2); 1 where no evidence says them."""
        sizes = np.ones((count, 2))
        rows = {photo: row for row, photo in self.photos.items()}
        for found in self.evidence:
            if found:
                sizes[rows[found.first]] = found.width_first, found.height_first
                sizes[rows[found.second]] = found.width_second, found.height_second
        return sizes

    def coverage(self) -> tuple[Floats, Floats]:
        """Share of each pair's left photo that the right one shows, and of its right photo, float64 (m,) each."""
        shares = np.zeros((2, len(self.left)))
        for place, (row, found) in enumerate(zip(self.left.tolist(), self.evidence, strict=True)):
            if found:
                both = found.coverage_first, found.coverage_second
                shares[:, place] = both if self.photos[row] == found.first else both[::-1]
        return shares[0], shares[1]


def group_pairs(count: int, pairs: DecidedPairs, constraints: Constraints | None = None) -> tuple[Ints, Floats]:
    """Group photos by their decided pairs.

    A pair of which geometry cannot tell joins nothing by itself: it weighs at most 0. A link that contradicts the
    transforms of a triangle is lowered; two photos that lie side by side in a third weigh nothing for or against each
    other, whether they are listed or not.

    Args:
        count: number of photos.
        pairs: with their probabilities.
        constraints: pairs that must be together or stay apart.

    Returns:
        int64 (count,), the group of each photo, numbered from 0 in the order of their first photos, and float64 (m,),
        the probabilities after that.

    Raises:
        ConfigError: the constraints contradict each other.
    """
    untold = np.array([found is not None and found.cannot_tell for found in pairs.evidence], dtype=bool)
    told = np.where(untold, np.minimum(pairs.probabilities, UNTOLD), pairs.probabilities)
    placements = replace(pairs, probabilities=told).placements(count)
    lowered = lowered_by_triangles(placements)
    starts, ends = disjoint_pairs(placements)
    apart = starts * count + ends
    keys = np.minimum(pairs.left, pairs.right) * count + np.maximum(pairs.left, pairs.right)
    weights = pair_log_odds(lowered, np.isin(keys, apart))
    unlisted = ~np.isin(apart, keys)
    weighted = WeightedPairs(
        np.concatenate([pairs.left, starts[unlisted]]),
        np.concatenate([pairs.right, ends[unlisted]]),
        np.concatenate([weights, np.zeros(int(unlisted.sum()))]),
    )
    return correlation_clusters(count, weighted, constraints), lowered


def explain_groups(groups: Ints, pairs: DecidedPairs, copies: Bools) -> list[GroupReport]:
    """Why each photo is in its group: the report of each group of two or more photos.

    Args:
        groups: int64 (n,), the group of each photo.
        pairs: with their probabilities after the triangles.
        copies: bool (m,), which pairs are of equal bytes, and so show all of each other.
    """
    linked = pairs.probabilities >= LINKED
    left, right = (np.where(copies, 1.0, shares) for shares in pairs.coverage())
    links = LinkedPairs(pairs.left, pairs.right, pairs.probabilities, left, right).take(linked)
    pixels = pairs.sizes(len(groups)).prod(axis=1).astype(np.int64)
    return group_reports(groups, links, pixels)


def members_of(groups: Ints, pairs: NearPairs) -> list[list[int]]:
    """Rows of each group of two or more, groups and rows in the order in which pairs name them, others after these.

    Args:
        groups: int64 (n,), the group of each photo.
        pairs: of rows, best first.
    """
    both = np.concatenate([np.stack([pairs.left, pairs.right], axis=1).ravel(), np.arange(len(groups))])
    rows, places = np.unique(both, return_index=True)
    members: dict[int, list[int]] = {}
    for row in rows[np.argsort(places)].tolist():
        members.setdefault(int(groups[row]), []).append(row)
    return [found for found in members.values() if len(found) > 1]
