"""Explanation of each group: why each photo is in it, how firmly it holds together, and which photo represents it."""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from types import MappingProxyType

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from neardup.arrays import Ints
from neardup.decide.reference import LinkedPairs, reference_of
from neardup.tables import Value


@dataclass(frozen=True)
class Link:
    """A link within a group; `left` is the lesser row."""

    left: int
    right: int
    probability: float


@dataclass(frozen=True)
class Member:
    """Why a photo is in its group.

    Attributes:
        photo: row of the photo.
        because: row of the photo that it is linked to most strongly; None where only a verdict holds it in the group.
        probability: probability of its strongest link; 0 without a link.
        links: number of the group's photos that it is linked to.
        cropped: whether another photo of the group shows all of this one and more.
        content: row of the photo that stands for all of its bytes; its own row, except for an exact copy.
    """

    photo: int
    because: int | None
    probability: float
    links: int
    cropped: bool
    content: int


@dataclass(frozen=True)
class GroupReport:
    """A group of two or more photos.

    Attributes:
        group: number of the group.
        reference: row of the photo that represents the group: the one that a person chose, if any, else the one that
            `reference_of` chooses.
        members: photos of the group, the reference first, then by the strength of their strongest link.
        density: share of the group's pairs that are links, 0 to 1, without exact copies.
        bridges: links without which the group would fall into two, the weakest first; that of an exact copy is none.
        weakest: the link at which the group would first fall apart if a higher probability were required; None where
            verdicts, not links, hold the group together.
    """

    group: int
    reference: int
    members: tuple[Member, ...]
    density: float
    bridges: tuple[Link, ...]
    weakest: Link | None

    @property
    def copies(self) -> int:
        """How many of its photos are exact copies of others."""
        return sum(member.content != member.photo for member in self.members)

    def represented_by(self, photo: int) -> "GroupReport":
        """Copy the report with another of the group's photos, given by its row, as the reference."""
        members = sorted(self.members, key=lambda member: (member.photo != photo, -member.probability, member.photo))
        return replace(self, reference=photo, members=tuple(members))

    def rows(self, names: Sequence[str]) -> list[tuple[Value, ...]]:
        """Make a row of `COLUMNS` for each member, with the photos' names."""
        bridged = {row for link in self.bridges for row in (link.left, link.right)}
        return [
            (
                self.group,
                names[member.photo],
                member.photo == self.reference,
                None if member.because is None else names[member.because],
                member.probability,
                member.links,
                member.cropped,
                member.content in bridged,
                self.density,
                None if self.weakest is None else self.weakest.probability,
            )
            for member in self.members
        ]


COLUMNS = (
    "group",
    "photo",
    "reference",
    "because of",
    "probability",
    "links",
    "cropped",
    "at a bridge",
    "density of the group",
    "weakest link of the group",
)
"""Names of the columns of `GroupReport.rows`."""


def group_reports(
    groups: Ints,
    links: LinkedPairs,
    pixels: Ints,
    screened: Container[int] = frozenset(),
    content_of: Mapping[int, int] = MappingProxyType({}),
) -> list[GroupReport]:
    """Explain each group of two or more photos, in the order of their numbers.

    Args:
        groups: int64 (n,), the group of each photo; negative for a photo without one.
        links: pairs that count as links; those across two groups are left out.
        pixels: int64 (n,), width times height of each photo.
        screened: rows of the photos that show a printing screen.
        content_of: row of each exact copy → that of the photo that stands for its bytes.
    """
    within = (groups[links.left] == groups[links.right]) & (groups[links.left] >= 0)
    links = links.take(np.flatnonzero(within))
    order = np.lexsort((np.maximum(links.left, links.right), np.minimum(links.left, links.right), groups[links.left]))
    links = links.take(order)
    group_of_link = groups[links.left]
    by_group = np.argsort(groups, kind="stable")
    numbers, first, counts = np.unique(groups[by_group], return_index=True, return_counts=True)
    reports = []
    for number, start, count in zip(numbers.tolist(), first.tolist(), counts.tolist(), strict=True):
        if number >= 0 and count > 1:
            low, high = np.searchsorted(group_of_link, [number, number + 1])
            members = by_group[start : start + count].tolist()
            of_group = links.take(np.arange(low, high))
            reports.append(_report(number, members, of_group, pixels, screened, content_of))
    return reports


def _report(
    number: int,
    photos: list[int],
    pairs: LinkedPairs,
    pixels: Ints,
    screened: Container[int],
    content_of: Mapping[int, int],
) -> GroupReport:
    """Explain one group, from its photos and the links among them, in the order of their rows."""
    columns = (pairs.left.tolist(), pairs.right.tolist(), pairs.probabilities.tolist())
    links = [Link(min(a, b), max(a, b), p) for a, b, p in zip(*columns, strict=True)]
    cropped = pairs.cropped()
    cropped |= {photo for photo in photos if content_of.get(photo) in cropped}
    originals = [photo for photo in photos if content_of.get(photo, photo) == photo] or photos
    reference = reference_of(originals, pairs, pixels, screened)
    by_photo: defaultdict[int, list[Link]] = defaultdict(list)
    for link in links:
        by_photo[link.left].append(link)
        by_photo[link.right].append(link)
    members = [_member(photo, by_photo[photo], photo in cropped, content_of.get(photo, photo)) for photo in photos]
    members.sort(key=lambda member: (member.photo != reference, -member.probability, member.photo))
    tree = _strongest_tree(links)
    copying = {link for link in links if content_of.get(link.left, link.left) == content_of.get(link.right, link.right)}
    bridges = [link for link in _bridges(by_photo, photos) if link not in copying]
    bridges.sort(key=lambda link: (link.probability, link.left, link.right))
    connected = len(tree) == len(photos) - 1
    contents = len({member.content for member in members})
    density = (len(links) - len(copying)) / comb(contents, 2) if contents > 1 else 1.0
    return GroupReport(number, reference, tuple(members), density, tuple(bridges), tree[-1] if connected else None)


def _member(
    photo: int,
    links: list[Link],
    cropped: bool,  # noqa: FBT001 - a fact of the photo, no switch
    content: int,
) -> Member:
    """Why a photo is in its group, from its links there."""
    if not links:
        return Member(photo, None, 0.0, 0, cropped, content)
    best = min(links, key=lambda link: (-link.probability, link.left, link.right))
    return Member(photo, best.left + best.right - photo, best.probability, len(links), cropped, content)


def _strongest_tree(links: list[Link]) -> list[Link]:
    """Find the links of a maximum spanning tree (Kruskal 1956), strongest first, ties by their rows."""
    parts = DisjointSet({row for link in links for row in (link.left, link.right)})
    by_strength = sorted(links, key=lambda link: (-link.probability, link.left, link.right))
    return [link for link in by_strength if parts.merge(link.left, link.right)]


def _bridges(by_photo: dict[int, list[Link]], photos: list[int]) -> list[Link]:
    """Find the links without which their two photos are no longer connected (Tarjan 1974), without recursion."""
    entered: dict[int, int] = {}
    lowest: dict[int, int] = {}
    bridges = []
    for start in photos:
        if start in entered:
            continue
        entered[start] = lowest[start] = len(entered)
        stack: list[tuple[int, Link | None, Iterator[Link]]] = [(start, None, iter(by_photo.get(start, [])))]
        while stack:
            photo, arrival, links = stack[-1]
            for link in links:
                other = link.left + link.right - photo
                if link is arrival:
                    continue
                if other in entered:
                    lowest[photo] = min(lowest[photo], entered[other])
                    continue
                entered[other] = lowest[other] = len(entered)
                stack.append((other, link, iter(by_photo[other])))
                break
            else:
                stack.pop()
                if arrival is not None:
                    parent = stack[-1][0]
                    lowest[parent] = min(lowest[parent], lowest[photo])
                    if lowest[photo] > entered[parent]:
                        bridges.append(arrival)
    return bridges
