"""What is new in the archive since the last time, and which photos it is a near-duplicate of."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np

from neardup.archive.notice import KINDS, Memory, Noticed, notice, places_of, vanished_since
from neardup.archive.scan import check_folders, scan_archive
from neardup.arrays import Ints
from neardup.decide.group_report import GroupReport
from neardup.decide.groups import near_groups
from neardup.encode.protocol import Encoder
from neardup.encode.store import store_of
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError, ConfigError
from neardup.pages import write_strips
from neardup.proofs import Proofs, Verification, groups_of, prove
from neardup.search.pairs import NearPairs, near_pairs
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, claim, replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table
from neardup.verify.candidates import CANDIDATES
from neardup.verify.evidence import ordered
from neardup.verify.store import EVIDENCE, read_evidence
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
    """A photo of a found group: its path, whether it is new, and its greatest similarity to another of the group."""

    path: str
    new: bool
    similarity: float


@dataclass(frozen=True)
class Watched:
    """What one run of `watch` found: the photos that are new, and their near-duplicates.

    Attributes:
        archive: the archive's folder.
        folder: what was published, or None if nothing was new.
        photos: different photos in the archive.
        noticed: files that were not there before, ordered by path.
        vanished: paths of files that are no longer there and were not moved.
        pairs: new photos with their near-duplicates, best first, ties by path.
        groups: the groups that new photos belong to, that of the best pair first; new photos come first in each.
        threshold: the similarity at or above which a pair is called near-duplicate.
        encoder: its name.
        fingerprint: the encoder's.
        proofs: what verification says of all candidates, of which `pairs` are those worth showing; None without it.
        rows: the photos of each group, as `proofs` counts them, in the order of `groups`.
        reports: why each photo is in its group; none where nothing was decided.
    """

    archive: Path
    folder: Path | None
    photos: int
    noticed: tuple[Noticed, ...]
    vanished: tuple[str, ...]
    pairs: tuple[NearPair, ...]
    groups: tuple[tuple[Member, ...], ...]
    threshold: float
    encoder: str
    fingerprint: str
    proofs: Proofs | None = None
    rows: tuple[tuple[int, ...], ...] = ()
    reports: tuple[GroupReport, ...] = ()

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
                {"links": self.proofs.counts["links"], "to_review": self.proofs.counts["to_review"]}
                if self.proofs
                else {}
            ),
        }

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
        decided = self.proofs is not None and self.proofs.decision is not None
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
        names = ("photo", "partner", "similarity", "partner_is_new", "group", *(VERIFIED if self.proofs else ()))
        rows = [tuple(getattr(pair, name) for name in names) for pair in self.pairs[:SHEET_ROWS]]
        write_table(self.folder / "pairs.xlsx", tuple(name.replace("_", " ") for name in names), rows)
        if self.proofs:
            self.proofs.write(self.folder, self.rows, self.reports)
        save_rows(self.folder / "pairs.csv", NearPair, self.pairs)
        groups = [[member.path for member in group] for group in self.groups]
        write_table(self.folder / "groups.xlsx", (), groups, header=False)
        save_rows(self.folder / "new_photos.csv", Noticed, self.noticed)
        strips = [[(m.path, f"{m.similarity:.3f}", m.new) for m in group] for group in self.groups]
        page, links = self.folder / "gallery.html", LINKS[0 if self.proofs else 1 :]
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
    claim(out / "watch")
    memory_file = out / STATE / "watch" / "seen.json"
    memory = Memory.load(memory_file)
    store = store_of(out, store)
    try:
        watched, places = _find_new(archive, out, store, settings, encoder, float(threshold), memory, say, verification)
        watched.write(settings.max_pixels)
    except FileNotFoundError as error:
        raise ArchiveError(f"{error.filename} went away while the archive was read: watch it again") from error
    write_json(memory_file, asdict(memory.after(places, published=watched.folder is not None)))
    say(f"{watched.summary} See {watched.folder}." if watched.folder else watched.summary)
    return watched


def _find_new(
    root: Path,
    out: Path,
    store: str,
    settings: PrepareSettings,
    encoder: Encoder,
    threshold: float,
    memory: Memory,
    say: Callable[[str], None],
    verification: Verification | None,
) -> tuple[Watched, Mapping[str, Sequence[str]]]:
    """Compare what is in the archive with what was there before; also say where each content lies."""
    archive = scan_archive(root, settings, out / STATE / "watch" / "scan.parquet")
    places = places_of(archive)
    noticed = notice(archive, memory)
    photos = {photo.sha256: places[photo.sha256][0] for photo in archive.photos}
    new = np.array([content not in memory.contents for content in photos], dtype=bool)
    say(f"{counted(len(photos), 'photo')} in {root}, {int(new.sum()):,} of them new; threshold {threshold:g}")
    items = [(path, content) for content, path in photos.items()]
    vectors = embed_photos(items, root, encoder, store=store, max_pixels=settings.max_pixels).vectors
    near = near_pairs(vectors, np.flatnonzero(new), threshold)
    proofs, reports = None, tuple[GroupReport, ...]()
    if verification:
        near = near.nearest(CANDIDATES)
        proofs = _proofs_of(near, photos, root, out, verification, settings.max_pixels)
    if proofs and proofs.decision:
        group_of, reports = groups_of(proofs)
    else:
        group_of = near_groups(near, vectors, threshold)
    pairs, groups, rows, numbers = _pairs_and_groups(near, group_of, tuple(photos.values()), new.tolist(), proofs)
    folder = out / "watch" / f"{memory.runs + 1:04d}" if noticed else None
    vanished = vanished_since(memory, places, noticed)
    watched = Watched(
        root, folder, len(photos), noticed, vanished, pairs, groups, threshold, encoder.name, encoder.fingerprint
    )
    labels = [(int(group_of[report.reference]), report) for report in reports]
    shown_reports = tuple(replace(report, group=numbers[label]) for label, report in labels if label in numbers)
    return replace(watched, proofs=proofs, rows=rows, reports=shown_reports), places


def _proofs_of(
    pairs: NearPairs, photos: Mapping[str, str], root: Path, out: Path, verification: Verification, max_pixels: int
) -> Proofs:
    """Verify pairs of photos, but for those that `duplicates` has verified, and decide them.

    Args:
        pairs: rows of `photos`.
        photos: SHA-256 of each photo → its path.
        root: folder of the photos; it is only read.
        out: the output folder, which keeps evidence and keypoints.
        verification: what decides the pairs.
        max_pixels: larger images are refused.
    """
    contents, ends = tuple(photos), zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    candidates = [ordered(contents[left], contents[right]) for left, right in ends]
    earlier = read_evidence(out / "duplicates" / EVIDENCE, verifier_fingerprint())
    verifier = Verifier.of_folder(root, photos, out / STATE, max_pixels)
    known = verifier.verify(candidates, earlier)
    if verifier.cache:
        verifier.cache.shrink()
    paths = tuple(photos.values())
    return prove(root, paths, contents, pairs, known, verifier, verification.decision, verification.judged)


def _pairs_and_groups(
    near: NearPairs, group_of: Ints, paths: Sequence[str], new: Sequence[bool], proofs: Proofs | None
) -> tuple[tuple[NearPair, ...], tuple[tuple[Member, ...], ...], tuple[tuple[int, ...], ...], dict[int, int]]:
    """Pairs and groups with paths, the groups' rows and numbers, which count from 1 in the order of their best pair."""
    pairs: list[NearPair] = []
    numbers: dict[int, int] = {}
    best: dict[int, dict[int, float]] = {}
    shown = (proofs.shown if proofs else np.ones(len(near.left), dtype=bool)).tolist()
    columns = proofs.columns() if proofs else {}
    for place, (left, right, exact) in enumerate(
        zip(*(side.tolist() for side in (near.left, near.right, near.similarities)), strict=True)
    ):
        if not shown[place]:
            continue
        number, similarity = None, round(exact, 6)
        if group_of[left] == group_of[right] >= 0:
            number = numbers.setdefault(int(group_of[left]), len(numbers) + 1)
            for row in (left, right):
                best.setdefault(number, {}).setdefault(row, similarity)
        proof_columns = {name: columns[name][place] for name in VERIFIED if columns}
        pairs.append(
            NearPair(paths[left], paths[right], similarity, "yes" if new[right] else "no", number, **proof_columns)
        )
    groups = [
        sorted(((Member(paths[row], new[row], value), row) for row, value in members.items()), key=_place)
        for members in best.values()
    ]
    member_groups = tuple(tuple(member for member, _ in group) for group in groups)
    return tuple(pairs), member_groups, tuple(tuple(row for _, row in group) for group in groups), numbers


def _place(entry: tuple[Member, int]) -> tuple[bool, float, str]:
    """What the members of a group are ordered by: new photos first, then the most alike, ties by path."""
    member, _ = entry
    return not member.new, -member.similarity, member.path


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, and a blank one after it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines), ""]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
