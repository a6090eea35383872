"""What is new in the archive since the last time, and which photos it is a near-duplicate of."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np

from neardup.archive.notice import KINDS, Memory, Noticed, Sighting
from neardup.archive.scan import check_folders, scan_archive
from neardup.arrays import Ints, Vectors
from neardup.decide.complete_linkage import near_groups
from neardup.decide.group_report import GroupReport
from neardup.detect.verified_pairs import Verification, VerifiedPairs, by_content, decide_pairs, groups_of
from neardup.encode.protocol import Encoder
from neardup.encode.store import store_of
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError, ConfigError
from neardup.pages import write_strips
from neardup.search.all_pairs import NearPairs, joined, near_pairs
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, claim, replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table
from neardup.verify.candidates import CANDIDATES, candidate_pairs, closing_pairs, leads_on
from neardup.verify.evidence import ordered
from neardup.verify.store import EVIDENCE, EvidenceByPair, read_evidence
from neardup.verify.verifier import Verifier, verifier_fingerprint
from neardup.words import counted

SHOWN_PAIRS = 20
"""Pairs that `watch.md` and the Prefect UI show: as many as a person reads through; the tables hold all."""
LINKS = (
    ("explained.html", "What holds each group together"),
    ("pairs.xlsx", "All pairs"),
    ("groups.xlsx", "All groups"),
    ("new_photos.csv", "New, moved, copied and unreadable files"),
)
"""Files that the page leads to, each with what is in it; the first one is there where pairs were verified."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """A new photo and another one that are near-duplicates; what nothing verified or decided is None or empty.

    Attributes:
        photo: path of a new photo; of two new ones the lesser path.
        partner: path of the other.
        similarity: -1 to 1, higher is more alike.
        partner_is_new: `yes` or `no`.
        group: number of the group that holds both, from 1, or None.
        probability: of being near-duplicates, 0 to 1.
        band: link or review.
        verdict: what people have said of the pair.
        relation: what kind of copy it is.
        sentence: the whole explanation.
        inliers: keypoints that agree.
    """

    photo: str
    partner: str
    similarity: float
    partner_is_new: str
    group: int | None
    probability: float | None = None
    band: str | None = None
    verdict: str | None = None
    relation: str | None = None
    sentence: str | None = None
    inliers: int | None = None


VERIFIED = ("probability", "band", "verdict", "relation", "sentence", "inliers")
"""Columns of a pair that verification fills."""


@dataclass(frozen=True)
class Member:
    """A photo of a found group.

    Attributes:
        path: where it lies.
        new: whether it is new.
        similarity: its greatest one to another photo of the group.
        row: its place among all photos.
    """

    path: str
    new: bool
    similarity: float
    row: int


@dataclass(frozen=True)
class Watched:
    """What one run of `watch` found: the photos that are new, and their near-duplicates.

    Attributes:
        archive: the archive's folder.
        folder: what was published, or None if nothing was new.
        photos: different photos in the archive.
        noticed: files that were not there before, ordered by path.
        vanished: paths of files that are no longer there and were not moved.
        threshold: the similarity at or above which a pair is called near-duplicate.
        encoder: its name.
        fingerprint: the encoder's.
        pairs: new photos with their near-duplicates, best first, ties by path.
        groups: the groups that new photos belong to, that of the best pair first; new photos come first in each.
        reports: why each photo is in its group; none where nothing was decided.
        verified: what verification says of all candidates, of which `pairs` are those worth showing; None without it.
    """

    archive: Path
    folder: Path | None
    photos: int
    noticed: tuple[Noticed, ...]
    vanished: tuple[str, ...]
    threshold: float
    encoder: str
    fingerprint: str
    pairs: tuple[NearPair, ...]
    groups: tuple[tuple[Member, ...], ...]
    reports: tuple[GroupReport, ...] = ()
    verified: VerifiedPairs | None = None

    @cached_property
    def counts(self) -> dict[str, int]:
        """Photos, files of each kind, vanished ones, pairs and groups."""
        kinds = Counter(item.kind for item in self.noticed)
        return {
            "photos": self.photos,
            **{kind: kinds[kind] for kind in KINDS},
            "vanished": len(self.vanished),
            "pairs": len(self.pairs),
            "groups": len(self.groups),
            **(
                {"links": self.verified.counts["links"], "to_review": self.verified.counts["to_review"]}
                if self.verified
                else {}
            ),
        }

    @property
    def rows(self) -> list[list[int]]:
        """The photos of each group, as `verified` counts them, in the order of `groups`."""
        return [[member.row for member in group] for group in self.groups]

    @property
    def unreadable(self) -> tuple[Noticed, ...]:
        """The files that are new and cannot be read."""
        return tuple(item for item in self.noticed if item.kind == "unreadable")

    @property
    def summary(self) -> str:
        """What the run found, as one sentence."""
        kinds = ", ".join(f"{kind} {self.counts[kind]:,}" for kind in KINDS if self.counts[kind])
        vanished = f"; vanished {len(self.vanished):,}" if self.vanished else ""
        if not self.noticed:
            return f"Nothing is new among {counted(self.photos, 'photo')}{vanished}."
        decided = self.verified is not None and self.verified.decision is not None
        counts_text = "links {links:,}, pairs to review {to_review:,}" if decided else "near-duplicate pairs {pairs:,}"
        results = f"{counts_text.format(**self.counts)}, groups {len(self.groups):,}"
        return f"Files that were not there before: {kinds}{vanished}; {results}."

    def markdown(self) -> str:
        """The counts and the first pairs, for a page or a Prefect artifact."""
        lines = [f"# New near-duplicates{f', run {self.folder.name}' if self.folder else ''}", "", self.summary, ""]
        lines += _table(("what", "number"), self.counts.items())
        lines += [
            f"Threshold {self.threshold:g}, encoder {_plain(self.encoder)}, fingerprint `{self.fingerprint}`.",
            "",
        ]
        if self.pairs:
            lines += [f"## The first {min(SHOWN_PAIRS, len(self.pairs))} of {len(self.pairs):,} pairs", ""]
            lines += _table(
                ("photo", "partner", "similarity", "partner is new", "group"),
                [
                    (pair.photo, pair.partner, f"{pair.similarity:.3f}", pair.partner_is_new, pair.group or "")
                    for pair in self.pairs[:SHOWN_PAIRS]
                ],
            )
        if len(self.pairs) > SHEET_ROWS:
            lines += [f"Excel holds the first {SHEET_ROWS:,} pairs; all are in pairs.csv.", ""]
        return "\n".join(lines)

    def write(self, max_pixels: int) -> None:
        """Write everything into the folder, which may hold what a killed run left."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.part.*"):
            leftover.unlink()
        names = ("photo", "partner", "similarity", "partner_is_new", "group", *(VERIFIED if self.verified else ()))
        rows = [tuple(getattr(pair, name) for name in names) for pair in self.pairs[:SHEET_ROWS]]
        write_table(self.folder / "pairs.xlsx", tuple(name.replace("_", " ") for name in names), rows)
        if self.verified:
            self.verified.write(self.folder, self.rows, self.reports)
        save_rows(self.folder / "pairs.csv", NearPair, self.pairs)
        groups = [[member.path for member in group] for group in self.groups]
        write_table(self.folder / "groups.xlsx", (), groups, header=False)
        save_rows(self.folder / "new_photos.csv", Noticed, self.noticed)
        strips = [[(m.path, f"{m.similarity:.3f}", m.new) for m in group] for group in self.groups]
        page, links = self.folder / "gallery.html", LINKS[0 if self.verified else 1 :]
        write_strips(page, "watch", self.archive, strips, self.summary, max_pixels, links=links)
        with replacing(self.folder / "watch.md") as partial:
            partial.write_text(self.markdown(), encoding="utf-8")
        write_json(self.folder / "watch.json", self.facts())

    def facts(self) -> dict[str, object]:
        """What `watch.md` says, for machines."""
        return {
            "summary": self.summary,
            "counts": self.counts,
            "threshold": self.threshold,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "vanished": list(self.vanished),
            "unreadable": [asdict(item) for item in self.unreadable],
            "pairs": [asdict(pair) for pair in self.pairs[:SHOWN_PAIRS]],
        }


def watch(
    archive: Path,
    out: Path,
    settings: PrepareSettings,
    encoder: Encoder,
    threshold: float,
    say: Callable[[str], None] = print,
    store: str | None = None,
    verification: Verification | None = None,
) -> Watched:
    """Find what is new in the archive and publish its near-duplicates in `out/watch/<run>/`.

    The first run takes every photo as new. What was seen is written down last: a run that was killed is done again,
    into the same folder.

    Args:
        archive: the archive; it is only read.
        out: the output folder, outside the archive.
        settings: which files are photographs.
        encoder: what encodes; another one than last time encodes every photo once, and makes none of them new.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate, or is verified.
        say: is told what is going on.
        store: folder or URL of the vectors, which other commands may share; else in `out`.
        verification: what decides the verified pairs; None where the vectors alone do.

    Raises:
        ArchiveError: the archive is not there, `out` lies inside it, or a file went away while it was read.
        ConfigError: the threshold is none.
    """
    check_folders(archive, out)
    if not isinstance(threshold, Real) or not -1 <= threshold <= 1:
        raise ConfigError(f"the threshold must be a similarity from -1 to 1, not {threshold}: take the calibrated one")
    threshold = float(threshold)
    claim(out / "watch")
    state, store = out / STATE / "watch", store_of(out, store)
    memory = Memory.load(state / "seen.json")
    try:
        seen = Sighting.of(scan_archive(archive, settings, state / "scan.parquet"), memory)
        items = [(path, content) for content, path in seen.path_of.items()]
        say(f"{counted(len(items), 'photo')} in {archive}, {sum(seen.new):,} of them new; threshold {threshold:g}")
        vectors = embed_photos(items, archive, encoder, store=store, max_pixels=settings.max_pixels).vectors
        near = near_pairs(vectors, np.flatnonzero(seen.new), threshold)
        verified = None
        if verification:
            verifier = Verifier.of_folder(archive, seen.path_of, out / STATE, settings.max_pixels)
            searched = _Searched(seen, vectors, threshold)
            verified = _verified(near.nearest(CANDIDATES), searched, verifier, out, verification)
            near = verified.pairs
        decided = groups_of(verified) if verified and verified.decision else None
        group_of, reports = decided or (near_groups(near, vectors, threshold), ())
        folder = out / "watch" / f"{memory.runs + 1:04d}" if seen.noticed else None
        found = _pairs_and_groups(near, group_of, seen, verified, reports)
        facts = threshold, encoder.name, encoder.fingerprint
        watched = Watched(archive, folder, len(items), seen.noticed, seen.vanished, *facts, *found, verified)
        watched.write(settings.max_pixels)
    except FileNotFoundError as error:
        raise ArchiveError(f"{error.filename} went away while the archive was read: watch it again") from error
    memory.after(seen.places, published=watched.folder is not None).save(state / "seen.json")
    say(f"{watched.summary} See {watched.folder}." if watched.folder else watched.summary)
    return watched


@dataclass(frozen=True)
class _Searched:
    """The photos that were seen, as their nearest are searched for.

    Attributes:
        seen: the photos, and which are new.
        vectors: float32 (n, d), unit rows, of all of them.
        threshold: similarity at or above which a photo's nearest are its partners.
    """

    seen: Sighting
    vectors: Vectors
    threshold: float

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """The SHA-256 of each photo."""
        return tuple(self.seen.path_of)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """SHA-256 → row."""
        return {photo: row for row, photo in enumerate(self.contents)}

    def partners_of_known(self, known: EvidenceByPair) -> list[tuple[str, str]]:
        """The known photos that lead on from new ones, each with its nearest: by SHA-256, as `ordered` has them."""
        reached = {self.row_of[photo] for pair, evidence in known.items() if leads_on(evidence) for photo in pair}
        searched = np.array(sorted(row for row in reached if not self.seen.new[row]), dtype=np.int64)
        partners = candidate_pairs(self.vectors, self.threshold, searched=searched).tolist()
        return [ordered(self.contents[row], self.contents[partner]) for row, partner in partners]

    def closing(self, known: EvidenceByPair) -> NearPairs:
        """The pairs that close triangles, but for those of two known photos, which are no news; a new photo first."""
        ends = [sorted((self.row_of[one], self.row_of[other])) for one, other in closing_pairs(known, known)]
        new = self.seen.new
        kept = [pair if new[pair[0]] else pair[::-1] for pair in ends if new[pair[0]] or new[pair[1]]]
        rows = np.array(kept, dtype=np.int64).reshape(-1, 2)
        return NearPairs.between(rows, self.vectors[rows])


def _verified(
    near: NearPairs, searched: _Searched, verifier: Verifier, out: Path, verification: Verification
) -> VerifiedPairs:
    """Verify the pairs of which a photo is new, but for those that `duplicates` has verified in `out`, and decide them.

    Those that close a triangle join them, as in `duplicates`: a new photo is held against what the known photos that it
    matches match.
    """
    contents, earlier = searched.contents, read_evidence(out / "duplicates" / EVIDENCE, verifier_fingerprint())
    with verifier:
        known = verifier.verify(by_content(near, contents), earlier)
        known |= verifier.verify(searched.partners_of_known(known), earlier)
        near = joined([near, searched.closing(known)]).sorted()
        known |= verifier.verify(by_content(near, contents), earlier | known)
    return decide_pairs(tuple(searched.seen.path_of.values()), contents, near, known, verifier, verification)


def _pairs_and_groups(
    near: NearPairs, group_of: Ints, seen: Sighting, verified: VerifiedPairs | None, reports: Sequence[GroupReport]
) -> tuple[tuple[NearPair, ...], tuple[tuple[Member, ...], ...], tuple[GroupReport, ...]]:
    """The pairs that people are shown, with paths, the groups that new photos belong to, and the reports of these.

    Args:
        near: pairs as rows of the photos that were seen, best first.
        group_of: int64 (n,), the group of each photo.
        seen: the photos, and which are new.
        verified: what verification says of the pairs, if they were verified.
        reports: of all groups, if pairs were decided.

    Returns:
        Pairs, groups and reports; groups are numbered from 1 in the order of their best pair.
    """
    paths, pairs, best = tuple(seen.path_of.values()), list[NearPair](), dict[int, dict[int, float]]()
    shown = (verified.shown if verified else np.ones(len(near.left), dtype=bool)).tolist()
    columns = verified.columns() if verified else {}
    numbers: dict[int, int] = {}
    for place, (left, right, exact) in enumerate(
        zip(*(side.tolist() for side in (near.left, near.right, near.similarities)), strict=True)
    ):
        if not shown[place]:
            continue
        number, similarity, label = None, round(exact, 6), int(group_of[left])
        if label == group_of[right] >= 0:
            number = numbers.setdefault(label, len(numbers) + 1)
            for row in (left, right):
                best.setdefault(number, {}).setdefault(row, similarity)
        partner_is_new = "yes" if seen.new[right] else "no"
        verified_columns = {name: columns[name][place] for name in VERIFIED if columns}
        pairs.append(NearPair(paths[left], paths[right], similarity, partner_is_new, number, **verified_columns))
    groups = [[Member(paths[row], seen.new[row], value, row) for row, value in rows.items()] for rows in best.values()]
    shown_reports = (
        replace(report, group=numbers[label])
        for report in reports
        if (label := int(group_of[report.reference])) in numbers
    )
    return tuple(pairs), tuple(tuple(sorted(group, key=_place)) for group in groups), tuple(shown_reports)


def _place(member: Member) -> tuple[bool, float, str]:
    """What the members of a group are ordered by: new photos first, then the most alike, ties by path."""
    return not member.new, -member.similarity, member.path


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, and a blank one after it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines), ""]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
