"""Find what is new in the archive since the last run, and which photos it is a near-duplicate of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neardup.archive.notice import Memory, Sighting
from neardup.archive.scan import check_folders, rule_of, scan_archive, settings_of_folder
from neardup.archive.walk import Skipped
from neardup.arrays import Ints, Vectors
from neardup.decide.complete_linkage import near_groups
from neardup.decide.group_report import GroupReport
from neardup.detect.new_candidates import NewCandidates
from neardup.detect.verified_pairs import Verification, VerifiedPairs, by_content, decide_pairs, groups_of
from neardup.detect.watched import VERIFIED, NearPair, Watched, WatchedPhoto
from neardup.encode.protocol import Encoder
from neardup.encode.store import check_store, store_of
from neardup.encode.vectors import embed_photos
from neardup.search.pairs import NearPairs, checked_threshold, joined
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, claim
from neardup.verify.candidates import CANDIDATES, LEAST_SIMILARITY
from neardup.verify.store import EVIDENCE, read_evidence
from neardup.verify.verifier import Verifier, evidence_fingerprint
from neardup.words import counted


def watch(
    archive: Path,
    out: Path,
    settings: PrepareSettings,
    encoder: Encoder,
    threshold: float,
    say: Callable[[str], None] = print,
    store: str | None = None,
    verification: Verification | None = None,
    add: Callable[[Watched], object] = lambda _: None,
) -> Watched:
    """Find what is new in the archive and publish its near-duplicates in `out/watch/<run>/`.

    The first run takes every photo as new. What was seen is recorded last: a run that was killed is repeated, into the
    same folder. A photo that cannot be encoded, or that changes or goes away before it is, counts as not seen.

    Args:
        archive: the archive; it is only read.
        out: the output folder, outside the archive.
        settings: which files are photographs, as `settings_of_folder` reads them.
        encoder: encoder to use; if it is another one than last time, every photo is encoded anew, but none counts as
            new.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate, or is verified.
        say: called with sentences about the progress.
        store: folder or URL of the vectors, which other commands may share; None for a folder in `out`.
        verification: what decides the verified pairs; None where the vectors alone decide.
        add: called with the results before they are recorded as seen; it may add files to their folder.

    Raises:
        ArchiveError: the archive does not exist, or `out` or the store lies inside it.
        ConfigError: the threshold is not a similarity.
    """
    state, store = out / STATE / "watch", store_of(out, store)
    check_folders(archive, out)
    check_store(archive, store)
    threshold, settings = checked_threshold(threshold), settings_of_folder(archive, settings)
    claim(out / "watch")
    memory = Memory.load(state / "seen.json")
    scanned, limit = scan_archive(archive, settings, state / "scan.parquet"), settings.max_pixels
    seen = Sighting.of(scanned, memory)
    _say_what_is_seen(archive, memory, seen, threshold, say)
    say(f"{rule_of(archive, settings)}.")
    vectors, left_out = _encoded(archive, seen, encoder, store, limit, say)
    seen = Sighting.of(scanned, memory, left_out) if left_out else seen
    most = CANDIDATES if verification else None
    candidates = NewCandidates.search(archive, store, encoder, threshold, seen, vectors, most)
    verified = _verified(candidates, seen, archive, out, limit, verification) if verification else None
    near = verified.pairs if verified else candidates.of_new
    linked = joined([near, candidates.equal])  # what looks like a photo of a pair belongs to its group
    found = _pairs_and_groups(near, seen, verified, *_groups(linked, vectors, threshold, verified))
    run = _number(out, memory) if seen.noticed else 0
    folder = out / "watch" / f"{run:04d}" if run else None
    facts = threshold, encoder.name, encoder.fingerprint
    watched = Watched(archive, folder, len(seen.path_of), seen.noticed, seen.vanished, *facts, *found, verified)
    replace(memory, begun=run).save(state / "seen.json")
    watched.write(limit)
    add(watched)
    memory.after(seen.places, run).save(state / "seen.json")
    say(f"{watched.summary} See {watched.folder}." if watched.folder else watched.summary)
    return watched


def _say_what_is_seen(
    archive: Path, memory: Memory, seen: Sighting, threshold: float, say: Callable[[str], None]
) -> None:
    """Report how many photos there are, which folders cannot be listed, and whether everything known is gone."""
    photos = counted(len(seen.path_of), "photo")
    limit = f"; threshold {threshold:g}" if threshold > LEAST_SIMILARITY else ""
    say(f"{photos} in {archive}, {sum(seen.new):,} of them new{limit}")
    _say_left_out(seen.unlisted, say)
    if memory.present and memory.present.keys().isdisjoint(seen.places):
        say(
            f"nothing that was seen before is in {archive} any more: if it is another archive, name a folder of its "
            "own with --out; if its disk is missing, mount it and watch again"
        )


def _say_left_out(skipped: Iterable[Skipped], say: Callable[[str], None]) -> None:
    for place in skipped:
        say(f"left out {place.path}: {place.reason}")


def _encoded(
    archive: Path, seen: Sighting, encoder: Encoder, store: str, max_pixels: int, say: Callable[[str], None]
) -> tuple[Vectors, list[str]]:
    """Encode the photos that are seen, and say which cannot be, or changed meanwhile.

    Returns:
        The vectors of the others, float32 (n, d), in the order of `seen`, and the paths of those left out.
    """
    items, left_out = [(path, content) for content, path in seen.path_of.items()], list[Skipped]()
    found = embed_photos(items, archive, encoder, store=store, max_pixels=max_pixels, left_out=left_out)
    _say_left_out(left_out, say)
    return found.vectors, [photo.path for photo in left_out]


def _number(out: Path, memory: Memory) -> int:
    """Choose the run's number: that of a run that was killed while publishing, else one that no run ever had.

    Even if the memory was lost, or an older one was restored, a run does not overwrite the folder of an earlier run.
    """
    taken = [int(folder.name) for folder in (out / "watch").iterdir() if folder.name.isdecimal()]
    return memory.begun or max([memory.runs, *taken]) + 1


def _verified(
    candidates: NewCandidates, seen: Sighting, archive: Path, out: Path, max_pixels: int, verification: Verification
) -> VerifiedPairs:
    """Verify and decide the candidates with a new photo; evidence that `duplicates` left in `out` is reused.

    Only the evidence of photos of such candidates is read: without new photos, none is. Pairs that close triangles are
    added, as in `duplicates`: a new photo is compared with the photos that its known matches match.
    """
    contents, file = candidates.contents, out / "duplicates" / EVIDENCE
    with Verifier.of_folder(archive, seen.path_of, out / STATE, max_pixels) as verifier:
        new_pairs = by_content(candidates.of_new, contents)
        earlier = read_evidence(file, evidence_fingerprint(), {photo for pair in new_pairs for photo in pair})
        known = verifier.verify(new_pairs, earlier)
        known |= verifier.verify(candidates.of_matched(known), earlier)
        near = joined([candidates.of_new, candidates.closing(known)]).sorted()
        known |= verifier.verify(by_content(near, contents), earlier | known)
    return decide_pairs(tuple(seen.path_of.values()), contents, near, known, verifier, verification)


def _groups(
    near: NearPairs, vectors: Vectors, threshold: float, verified: VerifiedPairs | None
) -> tuple[Ints, Sequence[GroupReport]]:
    """Group photos, int64 (n,), by decisions if there are any, else by similarity; report on groups by decisions."""
    if verified and verified.decision:
        return groups_of(verified)
    return near_groups(near, vectors, threshold), ()


def _pairs_and_groups(
    near: NearPairs, seen: Sighting, verified: VerifiedPairs | None, group_of: Ints, reports: Sequence[GroupReport]
) -> tuple[tuple[NearPair, ...], tuple[tuple[WatchedPhoto, ...], ...], tuple[GroupReport, ...]]:
    """Select the pairs that people are shown, with paths, the groups with new photos, and these groups' reports.

    Args:
        near: pairs of rows of the photos that were seen, best first.
        seen: the photos, and which are new.
        verified: the verified pairs; None where they were not verified.
        group_of: int64 (n,), the group of each photo; every photo of a pair has one. A photo in no pair belongs to a
            group where verdicts say so.
        reports: reports of all groups; none where nothing was decided.

    Returns:
        Pairs, groups and reports; groups are numbered from 1 in the order of their best pair.
    """
    paths, pairs, best = tuple(seen.path_of.values()), list[NearPair](), dict[int, float]()
    shown = (verified.shown if verified else np.ones(len(near.left), dtype=bool)).tolist()
    columns = verified.columns() if verified else {}
    numbers: dict[int, int] = {}
    for place, (left, right, exact) in enumerate(
        zip(*(side.tolist() for side in (near.left, near.right, near.similarities)), strict=True)
    ):
        number, similarity, label = None, round(exact, 6), int(group_of[left])
        if label == group_of[right]:
            for row in (left, right):
                best.setdefault(row, similarity)
        if not shown[place]:
            continue
        if label == group_of[right]:
            number = numbers.setdefault(label, len(numbers) + 1)
        partner_is_new = "yes" if seen.new[right] else "no"
        verified_columns = {name: columns[name][place] for name in VERIFIED if columns}
        pairs.append(NearPair(paths[left], paths[right], similarity, partner_is_new, number, **verified_columns))
    groups: dict[int, list[WatchedPhoto]] = {label: [] for label in numbers}
    for row, label in enumerate(group_of.tolist()):
        if label in groups:
            groups[label].append(WatchedPhoto(paths[row], seen.new[row], best.get(row), row))
    shown_reports = (
        replace(report, group=numbers[label])
        for report in reports
        if (label := int(group_of[report.reference])) in numbers
    )
    return tuple(pairs), tuple(tuple(sorted(group, key=_place)) for group in groups.values()), tuple(shown_reports)


def _place(member: WatchedPhoto) -> tuple[bool, bool, float, str]:
    """Sort key of a group's members: new photos first, then the most alike, ties by path."""
    return not member.new, member.similarity is None, -(member.similarity or 0.0), member.path
