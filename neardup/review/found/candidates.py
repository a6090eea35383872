"""Pairs and groups of a results folder as people are asked about them, whichever optional columns the tables have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from neardup.archive.prepare import remembered_root
from neardup.detect.verified_pairs import UNLIKELY
from neardup.errors import ArchiveError, VerdictError
from neardup.images import MAX_PIXELS
from neardup.review.found.facts import PhotoFacts
from neardup.review.record.photo_pair import PhotoPair
from neardup.review.record.references import References
from neardup.review.record.verdicts import pair_of
from neardup.stages import digest_if_readable
from neardup.verify.evidence import Evidence
from neardup.verify.store import EVIDENCE, EvidenceByPair, read_evidence, read_facts, read_results
from neardup.words import typed

_NAMESPACE = uuid5(NAMESPACE_URL, "neardup:pair")
"""Namespace of the ids of pairs, by which two contents have the same id everywhere."""
SIDES = ("photo", "partner")
"""Columns of the table of pairs that hold the paths of both photos."""


@dataclass(frozen=True)
class Opinion:
    """The machine's opinion of a pair; missing parts are None or empty.

    Attributes:
        similarity: cosine of the vectors, -1 to 1.
        probability: that both are the same picture, 0 to 1.
        band: `link`, `review` or `reject`.
        relation: what kind of copy it is, in words.
        sentence: the whole explanation.
        inliers: keypoints that agree.
    """

    similarity: float | None = field(default=None, kw_only=True)
    probability: float | None = field(default=None, kw_only=True)
    band: str = field(default="", kw_only=True)
    relation: str = field(default="", kw_only=True)
    sentence: str = field(default="", kw_only=True)
    inliers: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Candidate(PhotoPair, Opinion):
    """A pair of photos that the machine proposes, with what it says of it."""

    @property
    def id(self) -> str:
        """The id of the pair: it follows from the two contents alone."""
        return id_of(*self.pair)

    @property
    def doubt(self) -> float:
        """Distance of the probability from 0.5, so that 0 is the most doubtful; 1 without a probability."""
        return 1.0 if self.probability is None else abs(self.probability - 0.5)

    @property
    def unlikely(self) -> bool:
        """Whether the probability is too low for the review page to ask about the pair."""
        return self.probability is not None and self.probability < UNLIKELY

    def shown(self) -> dict[str, Any]:
        """The machine's opinion as a person sees it and a verdict keeps it."""
        values = {column.name: getattr(self, column.name) for column in fields(Opinion)}
        return {name: value for name, value in values.items() if value not in {None, ""}}


@dataclass(frozen=True)
class Photo:
    """A photo of the archive: its SHA-256, its path, and facts about it."""

    sha256: str
    path: str
    facts: PhotoFacts


@dataclass(frozen=True)
class ShownPair(Opinion):
    """A pair of photos as it is shown to a person, with the machine's opinion.

    Attributes:
        row: number of the pair among those of the results; None where the machine does not propose it.
        photo: one photo of the pair.
        partner: the other one.
        terms: what the probability is made of, as pairs of a name and its log-odds.
        groups: numbers of the groups of both photos; 0 for none.
        affected: number of photos of these groups, which a wrong answer would join or separate.
        bridge: whether the pair alone holds two parts of a group together.
        evidence: what verification measured, or None.
    """

    row: int | None
    photo: Photo
    partner: Photo
    terms: tuple[tuple[str, float], ...] = ()
    groups: tuple[int, int] = (0, 0)
    affected: int = 2
    bridge: bool = False
    evidence: Evidence | None = None

    def seen_from(self, photo: str) -> "ShownPair":
        """Return the pair with the photo of a SHA-256 first."""
        if photo == self.photo.sha256:
            return self
        return replace(self, photo=self.partner, partner=self.photo, groups=self.groups[::-1])


def id_of(photo: str, partner: str) -> str:
    """Compute the id of two contents in either order, which reveals changes of a digest or of the id."""
    return str(uuid5(_NAMESPACE, "|".join(pair_of(photo, partner))))


@dataclass(frozen=True)
class Found:
    """What a search of a folder found, for people to look at.

    Attributes:
        root: the archive's folder; it is only read.
        candidates: pairs of different contents, in the order of the table.
        groups: paths of each group's photos, the first stands for the group.
        digests: path → SHA-256 of the photos of pairs and groups that could be told.
        facts: what was found with which encoder and decision.
        max_pixels: a larger image is not shown.
    """

    root: Path
    candidates: tuple[Candidate, ...]
    groups: tuple[tuple[str, ...], ...]
    digests: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS

    @cached_property
    def paths(self) -> dict[str, str]:
        """SHA-256 → the first path that has these bytes."""
        return {digest: path for path, digest in reversed(list(self.digests.items()))}

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], Candidate]:
        """Pair → the first candidate of these two contents, in the order of the table."""
        by_pair: dict[tuple[str, str], Candidate] = {}
        for candidate in self.candidates:
            by_pair.setdefault(candidate.pair, candidate)
        return by_pair

    @classmethod
    def load(cls, out: Path, root: Path | None = None) -> "Found":
        """Read what `neardup duplicates` wrote into an output folder.

        For tables of versions without SHA-256, the photos are read once to compute them.

        Args:
            out: the output folder.
            root: the archive; None for the one that the output folder records.

        Raises:
            ArchiveError: there are no results, or the archive is no longer at its path.
        """
        folder = out / "duplicates"
        pairs: list[dict[str, Any]] = read_results(folder / "pairs.parquet", out).to_pylist()
        groups: list[dict[str, Any]] = read_results(folder / "groups.parquet", out).to_pylist()
        facts = read_facts(out)
        home = root_of(out, root, facts)
        digests = digests_in(pairs)
        for path in [row[name] for row in pairs for name in SIDES] + [row["photo"] for row in groups]:
            if path not in digests and (digest := digest_if_readable(home / path)):
                digests[path] = digest
        members: dict[int, list[str]] = {}
        for row in groups:
            members.setdefault(row["group"], []).append(row["photo"])
        references = References(out)
        grouped = tuple(_reference_first(paths, digests, references) for paths in members.values())
        return cls(home, tuple(candidates_in(pairs, digests)), grouped, digests, facts)


def _reference_first(paths: Sequence[str], digests: Mapping[str, str], references: References) -> tuple[str, ...]:
    """The photos of a group, the one that a person chose to stand for it first, if any did."""
    chosen = references.among([digests[path] for path in paths if path in digests])
    return tuple(sorted(paths, key=lambda path: digests.get(path) != chosen)) if chosen else tuple(paths)


def digests_in(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Path → SHA-256 of the photos of rows of the table, as far as it names them."""
    return {row[name]: digest for row in rows for name in SIDES if (digest := row.get(f"{name}_sha256"))}


def candidates_in(
    rows: Sequence[Mapping[str, Any]], digests: Mapping[str, str] = MappingProxyType({})
) -> list[Candidate]:
    """The rows of the table of pairs that are pairs of two contents which are known.

    Args:
        rows: of the table, by the names of its columns.
        digests: path → SHA-256 of photos that the rows do not name by it.
    """
    columns = [name for name in Candidate.__dataclass_fields__ if rows and name in rows[0]]
    candidates = []
    for row in rows:
        ends = {f"{name}_sha256": row.get(f"{name}_sha256") or digests.get(row[name], "") for name in SIDES}
        if all(ends.values()) and len(set(ends.values())) > 1:
            values = {name: row[name] for name in columns if row[name] is not None}
            candidates.append(Candidate(**values | ends))
    return candidates


def root_of(out: Path, root: Path | None, facts: Mapping[str, Any]) -> Path:
    """Choose the archive: the folder given, else the one that was searched, else the one that was prepared."""
    remembered = facts.get("archive") or remembered_root(out)
    if root is None and remembered is None:
        raise ArchiveError(
            f"{out} does not remember which photos it is about: run `neardup duplicates ARCHIVE --out {typed(out)}` "
            "again, or name their folder with --archive"
        )
    home = root or Path(str(remembered))
    if not home.is_dir():
        raise ArchiveError(f"{home} is no folder: name the one that holds the photographs with --archive")
    return home


def load_evidence(out: Path) -> EvidenceByPair:
    """Pair → what verification measured, from `duplicates/evidence.parquet` of an output folder; empty without it."""
    return read_evidence(out / "duplicates" / EVIDENCE)


def require_results(found: Found) -> None:
    """Raise an error if there is no pair to answer.

    Raises:
        VerdictError: the search found no pair of different contents, or none of its photos is there.
    """
    if not found.candidates:
        raise VerdictError("no pair of two different photos is in the results: there is nothing to ask anybody")
