"""One group as a person sees it: the reference, why each other photo is in the group, and the possible changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup.archive.walk import composed
from neardup.arrays import Ints
from neardup.errors import ArchiveError, NeardupError, VerdictError
from neardup.review.asked.answers import Answers
from neardup.review.found.candidates import Photo, ShownPair
from neardup.review.found.results import Results
from neardup.review.record.references import References
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict
from neardup.stages import digest_of

A_PAGE = 60
"""Photos of a group on one page: more than nearly all groups have, and few enough to be loaded at once."""
GROUPS_A_PAGE = 24
"""Groups on one page of the list of groups."""


@dataclass(frozen=True)
class Member:
    """A photo of a group.

    Attributes:
        photo: the photo.
        link: its strongest pair within the group; None without one, as for exact copies and photos that only verdicts
            hold.
        copy: whether another photo of the group has the same bytes.
        answer: answer on it and the reference; empty without one.
        bridge: whether a pair that it is in alone holds its part of the group.
    """

    photo: Photo
    link: ShownPair | None
    copy: bool
    answer: str
    bridge: bool


@dataclass(frozen=True)
class Group:
    """A group of near-duplicates.

    Attributes:
        number: its number in the results.
        size: how many photos it has; `members` are those of one page.
        members: the reference first, then in the order of the table.
        bridges: pairs that alone hold two parts of the group together.
    """

    number: int
    size: int
    members: tuple[Member, ...]
    bridges: tuple[ShownPair, ...]

    @property
    def reference(self) -> Photo:
        """The photo that stands for the group."""
        return self.members[0].photo


class Groups:
    """The groups of some results, with what people said of them."""

    def __init__(self, results: Results, answers: Answers, references: References) -> None:
        """Put results and answers together."""
        self._results, self._answers, self._references = results, answers, references

    def order(self) -> Ints:
        """The numbers of all groups, those with bridges first, then by their most doubtful pair."""
        results = self._results
        inside = (results.group_of[results.first] == results.group_of[results.second]) & results.links
        of_pair = results.group_of[results.first][inside]
        doubt, bridged = np.zeros(results.groups + 1), np.zeros(results.groups + 1, dtype=bool)
        np.maximum.at(doubt, of_pair, results.doubt[inside])
        np.logical_or.at(bridged, of_pair, results.bridges[inside])
        numbers = np.arange(1, results.groups + 1)
        return numbers[np.lexsort((numbers, -doubt[1:], ~bridged[1:]))]

    @cached_property
    def grouping(self) -> str:
        """Digest of which photo is in which group: while it is the same, a number means the same group."""
        results = self._results
        rows = np.flatnonzero(results.group_of)
        paths = results.paths.take(pa.array(rows)).to_pylist()
        return digest_of(sorted(zip(paths, results.group_of[rows].tolist(), strict=True)))

    @cached_property
    def _composed_paths(self) -> pa.StringArray:
        """The path of each photo with composed accents, cached because there may be a hundred thousand."""
        return pa.array(map(composed, self._results.paths.to_pylist()), pa.string())

    def named(self, name: str) -> Ints:
        """The numbers of the groups that hold a photo with some text in its path, in any case and form of accents."""
        matches = pc.match_substring(self._composed_paths, composed(name), ignore_case=True)
        matches = matches.to_numpy(zero_copy_only=False)
        numbers = np.unique(self._results.group_of[np.flatnonzero(matches)])
        return numbers[numbers > 0]

    def photos(self, number: int) -> list[int]:
        """The photos of a group, its reference first.

        Raises:
            ArchiveError: there is no such group, or a photo is gone.
        """
        photos = self._results.members(number).tolist()
        if not photos:
            raise ArchiveError(f"there is no group {number}: the results have groups 1 to {self._results.groups}")
        chosen = self._references.among([self._results.digest(photo) for photo in photos])
        reference = self._results.photo_of(chosen) if chosen else None
        return sorted(photos, key=lambda photo: photo != reference)

    def group(self, number: int, page: int = 0) -> Group:
        """One group, a page of its photos; errors as in `photos`."""
        photos, results = self.photos(number), self._results
        of_page = photos[:1] + photos[1:][page * A_PAGE : (page + 1) * A_PAGE]
        rows = results.rows_within(photos)
        rows = rows[results.links[rows] | results.doubtful[rows]]
        bridges = rows[results.bridges[rows]]
        at_bridges = set(results.first[bridges].tolist()) | set(results.second[bridges].tolist())
        reference = results.digest(photos[0])
        files = Counter(map(results.digest, photos))
        members = []
        for photo in of_page:
            link = self._strongest(photo, rows)
            verdicts = self._answers.of(reference, results.digest(photo))
            members.append(
                Member(
                    results.photo(photo),
                    None if link is None else results.candidate(link),
                    files[results.digest(photo)] > 1,
                    verdicts[-1].verdict if verdicts else "",
                    photo in at_bridges,
                )
            )
        return Group(number, len(photos), tuple(members), tuple(map(results.candidate, bridges.tolist())))

    def pictures(self, number: int, count: int) -> list[Photo]:
        """The first photos of a group that can be read, for the list of groups."""
        shown = list[Photo]()
        for photo in self._results.members(number).tolist():
            if len(shown) == count:
                break
            try:
                shown.append(self._results.photo(photo))
            except NeardupError:
                continue
        return shown

    def _strongest(self, photo: int, rows: Ints) -> int | None:
        """The row of a photo's likeliest pair among some, by probability where there is one, else by similarity."""
        results = self._results
        own = rows[(results.first[rows] == photo) | (results.second[rows] == photo)]
        if not len(own):
            return None
        return int(own[np.lexsort((results.similarity[own], np.nan_to_num(results.probability[own])))[-1]])

    def take_out(self, number: int, photos: Sequence[str], who: str) -> list[Verdict]:
        """Say that some photos of a group are another picture than the rest: each pair between both parts differs.

        Args:
            number: of the group.
            photos: SHA-256 of those that are to leave.
            who: the person.

        Returns:
            A verdict on each proposed pair between both parts, and on the two photos that stand for them.

        Raises:
            VerdictError: none or all are to leave, or one is no photo of the group.
            ArchiveError: there is no such group, or a photo is gone.
        """
        results, inside = self._results, self.photos(number)
        digests = {results.digest(photo): photo for photo in reversed(inside)}
        if unknown := set(photos) - digests.keys():
            raise VerdictError(f"{min(unknown)[:12]}… is no photo of group {number}: open the group again")
        kept = [digest for digest in map(results.digest, inside) if digest not in set(photos)]
        if not photos or not kept:
            raise VerdictError("choose some photos of the group, and not all of them")
        pairs = {tuple(sorted((kept[0], photos[0])))}
        for row in results.rows_within(inside).tolist():
            pair = results.contents(row)
            if len(set(pair) & set(photos)) == 1:
                pairs.add(pair)
        note = f"taken out of group {number}"
        return [Verdict.of(pair[0], pair[1], DIFFERENT, who=who, queue="review", note=note) for pair in sorted(pairs)]

    def merge(self, number: int, other: int, who: str) -> Verdict:
        """Say that two groups show one picture: the photos that stand for them are the same; errors as in `photos`.

        Raises:
            VerdictError: it is one group.
        """
        if number == other:
            raise VerdictError("a group cannot be merged with itself: name another one")
        ends = [self._results.digest(self.photos(group)[0]) for group in (number, other)]
        note = f"groups {number} and {other} merged"
        return Verdict.of(ends[0], ends[1], SAME, who=who, queue="review", note=note)

    def choose_reference(self, number: int, photo: str, who: str) -> None:
        """Let a photo stand for its group; errors as in `photos`.

        Raises:
            VerdictError: it is no photo of the group.
        """
        digests = list(map(self._results.digest, self.photos(number)))
        if photo not in digests:
            raise VerdictError(f"{photo[:12]}… is no photo of group {number}: open the group again")
        self._references.choose(photo, [digest for digest in digests if digest != photo], who)
