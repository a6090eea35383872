"""The results of one run of `watch`, and the files that it publishes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree

from neardup.archive.notice import KINDS, Noticed
from neardup.decide.group_report import GroupReport
from neardup.detect.verified_pairs import VerifiedPairs
from neardup.pages import write_strips
from neardup.stages import replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table
from neardup.verify.candidates import LEAST_SIMILARITY
from neardup.words import counted, one_line

SHOWN_PAIRS = 20
"""Most pairs that `watch.md` and the Prefect UI show, as many as a person reads through; the tables hold all."""
LINKS = (
    ("explained.html", "What holds each group together"),
    ("pairs.xlsx", "All pairs"),
    ("groups.xlsx", "All groups"),
    ("new_photos.csv", "New, moved, copied and unreadable files"),
)
"""Files that the page links to, each with its content; the first one exists only if pairs were verified."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """A new photo and a near-duplicate of it; fields that nothing verified or decided are None or empty.

    Attributes:
        photo: path of a new photo; of two new ones the lesser path.
        partner: path of the other photo.
        similarity: similarity of the vectors, -1 to 1; higher is more alike.
        partner_is_new: `yes` or `no`.
        group: number of the group that holds both, from 1, or None.
        probability: probability of being near-duplicates, 0 to 1.
        band: link or review.
        verdict: what people said of the pair.
        relation: kind of copy, in words.
        sentence: the whole explanation.
        inliers: number of keypoints that agree on the transform.
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


NAMED = 3
"""Vanished files that the summary names; all are in `watch.json`."""
VERIFIED = ("probability", "band", "verdict", "relation", "sentence", "inliers")
"""Columns of a pair that verification fills."""


@dataclass(frozen=True)
class WatchedPhoto:
    """A photo of a found group.

    Attributes:
        path: path of the photo.
        new: whether the photo is new.
        similarity: greatest similarity to another photo of the group; None where a verdict alone holds it there.
        row: row of the photo among all photos.
    """

    path: str
    new: bool
    similarity: float | None
    row: int

    @property
    def label(self) -> str:
        """Text below the photo's picture: its similarity, or that a verdict holds it in the group."""
        return "by a verdict" if self.similarity is None else f"{self.similarity:.3f}"


@dataclass(frozen=True)
class Watched:
    """The results of one run of `watch`: the new photos and their near-duplicates.

    Attributes:
        archive: the archive's folder.
        folder: folder of the published files; None if nothing was new.
        photos: number of distinct photos in the archive.
        noticed: files that were not there before, sorted by path.
        vanished: paths of files that no longer exist and were not moved.
        threshold: the similarity at or above which a pair is called near-duplicate.
        encoder: name of the encoder.
        fingerprint: fingerprint of the encoder.
        pairs: new photos with their near-duplicates, best first, ties by path.
        groups: the groups that new photos belong to, that of the best pair first; new photos come first in each.
        reports: why each photo is in its group; none where nothing was decided.
        verified: all verified candidates, of which `pairs` are those worth showing; None where nothing was verified.
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
    groups: tuple[tuple[WatchedPhoto, ...], ...]
    reports: tuple[GroupReport, ...] = ()
    verified: VerifiedPairs | None = None

    @cached_property
    def counts(self) -> dict[str, int]:
        """Numbers of photos, files of each kind, vanished files, pairs and groups."""
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
        """Rows of the photos of each group, as `verified` numbers them, in the order of `groups`."""
        return [[member.row for member in group] for group in self.groups]

    @property
    def unreadable(self) -> tuple[Noticed, ...]:
        """The new files that cannot be read."""
        return tuple(item for item in self.noticed if item.kind == "unreadable")

    @property
    def summary(self) -> str:
        """The results in one sentence."""
        kinds = ", ".join(f"{kind} {self.counts[kind]:,}" for kind in KINDS if self.counts[kind])
        names = ", ".join([*map(one_line, self.vanished[:NAMED]), *["…"] * (len(self.vanished) > NAMED)])
        vanished = f"; vanished {len(self.vanished):,} ({names})" if self.vanished else ""
        if not self.noticed:
            return f"Nothing is new among {counted(self.photos, 'photo')}{vanished}."
        decided = self.verified is not None and self.verified.decision is not None
        counts_text = "links {links:,}, pairs to review {to_review:,}" if decided else "near-duplicate pairs {pairs:,}"
        results = f"{counts_text.format(**self.counts)}, groups {len(self.groups):,}"
        return f"Files that were not there before: {kinds}{vanished}; {results}."

    def markdown(self) -> str:
        """The counts and the first pairs, for a page or a Prefect artifact."""
        title = f"# New near-duplicates{f', run {self.folder.name}' if self.folder else ''}"
        lines = [title, "", _plain(self.summary), ""]
        lines += _table(("what", "number"), self.counts.items())
        limit = f"threshold {self.threshold:g}, " if self.threshold > LEAST_SIMILARITY else ""
        lines += [f"By {limit}encoder {_plain(self.encoder)}, fingerprint `{self.fingerprint}`.", ""]
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
        """Write all files into the folder; what a killed run left there is deleted."""
        if self.folder is None:
            return
        rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        names = ("photo", "partner", "similarity", "partner_is_new", "group", *(VERIFIED if self.verified else ()))
        rows = [tuple(getattr(pair, name) for name in names) for pair in self.pairs]
        write_table(self.folder / "pairs.xlsx", tuple(name.replace("_", " ") for name in names), rows)
        if self.verified:
            self.verified.write(self.folder, self.rows, self.reports)
        save_rows(self.folder / "pairs.csv", NearPair, self.pairs)
        groups = [[member.path for member in group] for group in self.groups]
        write_table(self.folder / "groups.xlsx", (), groups, header=False)
        save_rows(self.folder / "new_photos.csv", Noticed, self.noticed)
        strips = [[(member.path, member.label, member.new) for member in group] for group in self.groups]
        page, links = self.folder / "gallery.html", LINKS[0 if self.verified else 1 :]
        write_strips(page, "watch", self.archive, strips, self.summary, max_pixels, links=links)
        with replacing(self.folder / "watch.md") as partial:
            partial.write_text(self.markdown(), encoding="utf-8")
        write_json(self.folder / "watch.json", self.facts())

    def facts(self) -> dict[str, object]:
        """The content of `watch.md` for machines."""
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


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Make the lines of a Markdown table, and a blank line after it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines), ""]


def _plain(text: str) -> str:
    """Escape text so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
