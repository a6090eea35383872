"""What is new in the archive since the last time, and which photos it is a near-duplicate of."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np

from neardup.archive.scan import Archive, check_folders, scan
from neardup.arrays import Ints
from neardup.decide.groups import near_groups
from neardup.encode.encoder import Encoder
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError, ConfigError
from neardup.pages import write_strips
from neardup.search.pairs import NearPairs, near_pairs
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, claim, replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table

KINDS = ("new", "replaced", "moved", "exact copy", "unreadable")
"""What a file may be that was not there before; only the first two are new photos."""
SHOWN_PAIRS = 20
_UNREADABLE = "unreadable "


@dataclass(frozen=True)
class Memory:
    """What former runs saw. A content is the SHA-256 of a photo, or that of an unreadable file marked as such.

    Attributes:
        runs: how many of them published something.
        present: content → paths where it lay at the last run.
        gone: content → paths where it was last seen, of contents that the last run did not find.
    """

    runs: int = 0
    present: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gone: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Memory":
        """Read what `write_json` wrote; nothing was seen where there is no file.

        Raises:
            ArchiveError: the file is not a memory.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (TypeError, ValueError) as error:
            raise ArchiveError(
                f"{path} is not what neardup wrote: put it back, or delete it to take all photos as new"
            ) from error

    @cached_property
    def contents(self) -> Mapping[str, Sequence[str]]:
        """Every content with the paths where it was last seen."""
        return {**self.gone, **self.present}

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every path where something was last seen."""
        return frozenset(path for paths in self.contents.values() for path in paths)

    def after(self, places: Mapping[str, Sequence[str]], *, published: bool) -> "Memory":
        """The memory of a run that found these contents at these paths."""
        gone = {content: paths for content, paths in self.contents.items() if content not in places}
        return Memory(self.runs + published, places, gone)


@dataclass(frozen=True)
class Noticed:
    """One file that was not there before.

    Attributes:
        path: where it lies in the archive.
        kind: one of `KINDS`.
        other: where its bytes were, or lie as well; else nothing.
        reason: why it is of that kind.
    """

    path: str
    kind: str
    other: str
    reason: str


@dataclass(frozen=True, slots=True)
class NearPair:
    """A new photo and another one that are near-duplicates.

    Attributes:
        photo: path of a new photo; of two new ones the lesser path.
        partner: path of the other.
        similarity: -1 to 1, higher is more alike.
        partner_is_new: `yes` or `no`.
        group: number of the group that holds both, from 1, or None.
    """

    photo: str
    partner: str
    similarity: float
    partner_is_new: str
    group: int | None


@dataclass(frozen=True)
class Member:
    """A photo of a found group: its path, whether it is new, and its greatest similarity to another of the group."""

    path: str
    new: bool
    similarity: float


@dataclass(frozen=True)
class Watched:
    """What a run found.

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
        }

    @property
    def unreadable(self) -> tuple[Noticed, ...]:
        """The files that are new and cannot be read."""
        return tuple(item for item in self.noticed if item.kind == "unreadable")

    @property
    def summary(self) -> str:
        """One sentence."""
        kinds = ", ".join(f"{kind} {self.counts[kind]:,}" for kind in KINDS if self.counts[kind])
        gone = f"; vanished {len(self.vanished):,}" if self.vanished else ""
        if not self.noticed:
            return f"Nothing is new among {self.photos:,} photos{gone}."
        found = f"near-duplicate pairs {len(self.pairs):,}, groups {len(self.groups):,}"
        return f"Files that were not there before: {kinds}{gone}; {found}."

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
        for rest in self.folder.glob(".*.part.*"):
            rest.unlink()
        rows = [(p.photo, p.partner, p.similarity, p.partner_is_new, p.group) for p in self.pairs[:SHEET_ROWS]]
        write_table(self.folder / "pairs.xlsx", ("photo", "partner", "similarity", "partner is new", "group"), rows)
        save_rows(self.folder / "pairs.csv", NearPair, self.pairs)
        names = [[member.path for member in group] for group in self.groups]
        write_table(self.folder / "groups.xlsx", (), names, header=False)
        save_rows(self.folder / "new_photos.csv", Noticed, self.noticed)
        shown = [[(m.path, f"{m.similarity:.3f}", m.new) for m in group] for group in self.groups]
        write_strips(self.folder / "gallery.html", "watch", self.archive, shown, self.summary, max_pixels)
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
) -> Watched:
    """Find what is new in the archive and publish its near-duplicates in `out/watch/<run>/`.

    The first run takes every photo as new. What was seen is written down last: a run that was killed is done again,
    into the same folder.

    Args:
        archive: the archive; it is only read.
        out: the output folder, outside the archive.
        settings: which files are photographs.
        encoder: what encodes; another one than last time encodes every photo once, and makes none of them new.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate.
        say: is told what is going on.

    Raises:
        ArchiveError: the archive is not there, `out` lies inside it, or a file went away while it was read.
        ConfigError: the threshold is none.
    """
    check_folders(archive, out)
    if not isinstance(threshold, Real) or not -1 <= threshold <= 1:
        raise ConfigError(f"the threshold must be a similarity from -1 to 1, not {threshold}: take the calibrated one")
    claim(out / "watch")
    seen = out / STATE / "watch" / "seen.json"
    memory = Memory.load(seen)
    try:
        watched, places = _look(archive, out, settings, encoder, float(threshold), memory, say)
        watched.write(settings.max_pixels)
    except FileNotFoundError as error:
        raise ArchiveError(f"{error.filename} went away while the archive was read: watch it again") from error
    write_json(seen, asdict(memory.after(places, published=watched.folder is not None)))
    say(f"{watched.summary} See {watched.folder}." if watched.folder else watched.summary)
    return watched


def _look(
    root: Path,
    out: Path,
    settings: PrepareSettings,
    encoder: Encoder,
    threshold: float,
    memory: Memory,
    say: Callable[[str], None],
) -> tuple[Watched, Mapping[str, Sequence[str]]]:
    """What is there now, compared with what was there before, and where each content lies."""
    archive = scan(
        root,
        table=out / STATE / "watch" / "scan.parquet",
        patterns=settings.photos,
        exclude=settings.pages,
        max_pixels=settings.max_pixels,
    )
    places = _places(archive)
    noticed = notice(archive, memory)
    photos = {photo.sha256: places[photo.sha256][0] for photo in archive.photos}
    new = np.array([content not in memory.contents for content in photos], dtype=bool)
    say(f"{len(photos):,} photos in {root}, {int(new.sum()):,} of them new; threshold {threshold:g}")
    items = [(path, content) for content, path in photos.items()]
    vectors = embed_photos(items, root, encoder, store=out / STATE / "vectors", max_pixels=settings.max_pixels).vectors
    found = near_pairs(vectors, np.flatnonzero(new), threshold)
    pairs, groups = _named(found, near_groups(found, vectors, threshold), list(photos.values()), new.tolist())
    folder = out / "watch" / f"{memory.runs + 1:04d}" if noticed else None
    vanished = _vanished(places, memory, noticed)
    watched = Watched(
        root, folder, len(photos), noticed, vanished, pairs, groups, threshold, encoder.name, encoder.fingerprint
    )
    return watched, places


def _places(archive: Archive) -> dict[str, list[str]]:
    """Content → its paths, ordered."""
    places: dict[str, list[str]] = {}
    for photo in archive.photos:
        places.setdefault(photo.sha256, []).append(photo.path)
    for fault in archive.unreadable:
        # What no one may read has no digest: it is known by its path.
        places.setdefault(_UNREADABLE + (fault.sha256 or fault.path), []).append(fault.path)
    return places


def notice(archive: Archive, memory: Memory) -> tuple[Noticed, ...]:
    """Every file that was not there before, ordered by path, with what it is.

    A content that was seen is not new wherever it lies: it moved if a path of it is gone, else it is a further copy.
    """
    reasons = {fault.path: fault.reason for fault in archive.unreadable}
    found: list[Noticed] = []
    for content, paths in _places(archive).items():
        before = memory.contents.get(content)
        if before is not None:
            found += _elsewhere(paths, before)
        elif content.startswith(_UNREADABLE):
            found += [Noticed(path, "unreadable", "", reasons[path]) for path in paths]
        else:
            found.append(_first_seen(content, paths[0], memory))
            found += [_copy(path, paths[0]) for path in paths[1:]]
    return tuple(sorted(found, key=lambda item: item.path))


def _elsewhere(paths: Sequence[str], before: Sequence[str]) -> Iterator[Noticed]:
    left = [path for path in before if path not in paths]
    kept = [path for path in paths if path in before] or paths
    for number, path in enumerate(path for path in paths if path not in before):
        if number < len(left):
            yield Noticed(path, "moved", left[number], "the same bytes were there before")
        else:
            yield _copy(path, kept[0])


def _copy(path: str, other: str) -> Noticed:
    return Noticed(path, "exact copy", other, "the same bytes are there too")


def _first_seen(content: str, path: str, memory: Memory) -> Noticed:
    if _UNREADABLE + content in memory.contents:
        return Noticed(path, "new", "", "could not be read before")
    if path in memory.paths:
        return Noticed(path, "replaced", "", "other bytes than before")
    return Noticed(path, "new", "", "never seen before")


def _vanished(places: Mapping[str, Sequence[str]], memory: Memory, noticed: Sequence[Noticed]) -> tuple[str, ...]:
    there = {path for paths in places.values() for path in paths}
    there |= {item.other for item in noticed}
    return tuple(sorted(path for paths in memory.present.values() for path in paths if path not in there))


def _named(
    found: NearPairs, group_of: Ints, paths: Sequence[str], new: Sequence[bool]
) -> tuple[tuple[NearPair, ...], tuple[tuple[Member, ...], ...]]:
    """Pairs and groups with paths; groups are numbered from 1 in the order of their best pair."""
    pairs: list[NearPair] = []
    numbers: dict[int, int] = {}
    best: dict[int, dict[int, float]] = {}
    for left, right, exact in zip(
        *(side.tolist() for side in (found.left, found.right, found.similarities)), strict=True
    ):
        number, similarity = None, round(exact, 6)
        if group_of[left] == group_of[right] >= 0:
            number = numbers.setdefault(int(group_of[left]), len(numbers) + 1)
            for row in (left, right):
                best.setdefault(number, {}).setdefault(row, similarity)
        pairs.append(NearPair(paths[left], paths[right], similarity, "yes" if new[right] else "no", number))
    groups = [[Member(paths[row], new[row], value) for row, value in members.items()] for members in best.values()]
    return tuple(pairs), tuple(tuple(sorted(group, key=_place)) for group in groups)


def _place(member: Member) -> tuple[bool, float, str]:
    """New photos first, then the most alike, ties by path."""
    return not member.new, -member.similarity, member.path


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines), ""]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
