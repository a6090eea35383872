"""All near-duplicates of a collection, as tables, groups and pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from neardup.archive.walk import in_pages
from neardup.arrays import Ints
from neardup.decide.chosen_decision import shipped_decision
from neardup.decide.complete_linkage import near_groups
from neardup.decide.group_report import GroupReport
from neardup.decide.groups import members_of
from neardup.decide.promises import photos_with_false_links
from neardup.detect.decoys import Decoys
from neardup.detect.pictures import pictures_in
from neardup.detect.verified_pairs import Verification, VerifiedPairs, by_content, decide_pairs, groups_of
from neardup.encode.collection import (
    Collection,
    Present,
    encode_shard,
    encoded_photos,
    known,
    new_shards,
    open_collection,
    present,
    unreadable,
)
from neardup.encode.encoder import BUILTIN
from neardup.encode.shards import keys_of
from neardup.errors import ConfigError
from neardup.search.blocks import Triangle, search_all
from neardup.search.exact_copies import COPY, NEAR
from neardup.search.pairs import NearPairs, checked_threshold, joined
from neardup.settings.schema import PrepareSettings
from neardup.verify.candidates import CANDIDATES, LEAST_SIMILARITY
from neardup.verify.store import EvidenceByPair
from neardup.verify.verifier import Verifier
from neardup.words import counted


@dataclass(frozen=True)
class LeftOut:
    """A file that could not be read, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicates:
    """The results of a search of a whole collection.

    Of files with equal bytes, the first by path stands for all in the pairs, and each further file is in one pair, with
    the first; the same holds for contents with equal vectors. Thousands of copies are thus thousands of pairs, not
    millions.

    Attributes:
        triangle: the search that found the pairs.
        photos: files in the folder that could be encoded.
        unreadable: files in the folder that could not be read.
        paths: paths of the photos that are in a pair, sorted; rows of pairs and groups refer to them.
        contents: SHA-256 of each photo of `paths`.
        rows: int64 (len(paths),), row of the triangle that has the vector of each photo.
        pairs: pairs of rows of `paths`, best first.
        kinds: int64 (m,), kind of each pair, an index of `KINDS`.
        group_of: int64 (len(paths),), the group of each photo; a number of its own for a photo in none.
        verified: the verified pairs; None where they were not verified.
        reports: why each photo is in its group, numbered from 1 as `groups` are; none where nothing was decided.
        decoys: results of the search for foreign photographs; None where there was none.
        pages: number of images that were left out as pages.
    """

    triangle: Triangle
    photos: int
    unreadable: tuple[LeftOut, ...]
    paths: tuple[str, ...]
    contents: tuple[str, ...]
    rows: Ints
    pairs: NearPairs
    kinds: Ints
    group_of: Ints
    verified: VerifiedPairs | None = None
    reports: tuple[GroupReport, ...] = ()
    decoys: Decoys | None = None
    pages: int = 0

    @property
    def collection(self) -> Collection:
        """The collection whose photos were searched for duplicates."""
        return self.triangle.collection

    @property
    def threshold(self) -> float:
        """The similarity at or above which a pair is called near-duplicate."""
        return self.triangle.threshold

    @property
    def most(self) -> int | None:
        """How many nearest photos of each are among the pairs; None where all pairs at the threshold are."""
        return self.triangle.most

    @cached_property
    def copies(self) -> int:
        """Number of files with the same bytes as an earlier file."""
        return int(np.count_nonzero(self.kinds == COPY))

    @cached_property
    def groups(self) -> list[list[int]]:
        """Rows of the members of each group of two or more, the group of the best pair first.

        Where pairs were decided, a group's reference comes first; otherwise exact copies come last.
        """
        if self.reports:
            return [[member.photo for member in report.members] for report in self.reports]
        copies = set(self.pairs.right[self.kinds == COPY].tolist())
        return [sorted(rows, key=copies.__contains__) for rows in members_of(self.group_of, self.pairs)]

    @property
    def candidate_rule(self) -> str:
        """Which pairs are candidates (or near-duplicates, where no decision applies), in words."""
        nearest = f"one photo is among the {self.most} nearest of the other" if self.most else ""
        similar = f"similarity {self.threshold:g} or above" if self.threshold > LEAST_SIMILARITY else ""
        closed = ", or both match a third photo" if self.verified else ""
        return " at ".join(filter(None, (nearest, similar))) + closed

    @property
    def summary(self) -> str:
        """The results in plain words."""
        in_groups, pairs = sum(map(len, self.groups)), len(self.pairs.left) - self.copies
        groups = counted(len(self.groups), "group")
        photos = f"{counted(self.photos, 'photo')}, {in_groups:,} of them in {groups} of near-duplicates"
        copies = f"; exact copies {self.copies:,}" if self.copies else ""
        left_out = f"; {counted(len(self.unreadable), 'file')} could not be read" if self.unreadable else ""
        if self.pages:
            left_out += f"; {counted(self.pages, 'image')} {in_pages(self.collection.pages)} left out"
        if self.verified is None:
            return f"{photos}; pairs {pairs:,} at {self.threshold:g} or above{copies}{left_out}."
        counts = self.verified.counts
        decided = (
            f"; links {counts['links']:,}, pairs to review {counts['to_review']:,}" if self.verified.decision else ""
        )
        return (
            f"{photos}{decided}{copies}{left_out}.\n"
            f"Candidates, {pairs:,} in all, are pairs of which {self.candidate_rule}.\n{self.verified.summary}"
            + (f"\n{self._false_links}" if self.verified.decision else "")
        )

    @property
    def _false_links(self) -> str:
        """The bound by decoys on the photos with a false link, in words; without decoys, how to get one."""
        unknown = f"{photos_with_false_links(self.photos, 0, 0).sentence()} Name a folder of such with --decoys."
        return self.decoys.summary if self.decoys else unknown

    def facts(self) -> dict[str, object]:
        """Counts, and what they were made with, for `duplicates.json`."""
        return {
            "summary": self.summary,
            "rule": self.collection.rule,
            "archive": str(self.collection.folder),
            "photos": self.photos,
            "pairs": len(self.pairs.left) - self.copies,
            "exact_copies": self.copies,
            "groups": len(self.groups),
            "unreadable": len(self.unreadable),
            "pages_left_out": self.pages,
            "threshold": self.threshold,
            "nearest": self.most,
            **({"verification": self.verified.counts} if self.verified else {}),
            **({"decision": self.verified.decision.fingerprint} if self.verified and self.verified.decision else {}),
            "false_links": asdict(self.decoys.false_links) if self.decoys else None,
            "encoder": self.collection.encoder,
            "precision": self.collection.precision,
            "fingerprint": self.collection.fingerprint,
        }

    @cached_property
    def path_of(self) -> dict[str, str]:
        """SHA-256 of each photo → its path; the first path of equal files."""
        return dict(zip(reversed(self.contents), reversed(self.paths), strict=True))

    @cached_property
    def candidates(self) -> list[tuple[str, str]]:
        """The pairs to verify, by the SHA-256 of both photos, each once, sorted: pairs of one photo lie together."""
        return sorted(set(by_content(self.pairs.take(self.kinds != COPY), self.contents)))

    def verifier(self, state: Path) -> Verifier:
        """Make the verifier of the pairs, which keeps keypoints in a state folder."""
        return Verifier.of_folder(self.collection.folder, self.path_of, state, self.collection.max_pixels)

    def decided(self, verifier: Verifier, known: EvidenceByPair, verification: Verification) -> "Duplicates":
        """Decide the pairs by their evidence; where there is a decision, its probabilities make the groups.

        Args:
            verifier: verifier that found the evidence and draws the pairs that are shown.
            known: evidence of the pairs; a pair without any is an exact copy or has a photo that cannot be read.
            verification: decision that turns evidence into probabilities, and verdicts, which groups must obey.

        Raises:
            ConfigError: verdicts contradict each other.
        """
        verified = decide_pairs(self.paths, self.contents, self.pairs, known, verifier, verification)
        if verified.decision is None:
            return replace(self, verified=verified)
        group_of, reports = groups_of(verified, self.kinds == COPY)
        return replace(self, verified=verified, group_of=group_of, reports=reports)

    def with_closing(self, closing: Sequence[tuple[str, str]]) -> "Duplicates":
        """Add the pairs that close triangles, given by the SHA-256 of both photos, to the pairs found."""
        row_of = {photo: row for row, photo in reversed(list(enumerate(self.contents)))}
        ends = np.array([sorted((row_of[a], row_of[b])) for a, b in closing], dtype=np.int64).reshape(-1, 2)
        rows, which = np.unique(self.rows[ends], return_inverse=True)
        vectors = self.triangle.vectors(rows)[which.reshape(-1, 2)]
        pairs = joined([self.pairs, NearPairs.between(ends, vectors)])
        kinds, order = np.concatenate([self.kinds, np.full(len(ends), NEAR)]), pairs.order()
        return replace(self, pairs=pairs.take(order), kinds=kinds[order])


def duplicates(
    triangle: Triangle, present: Present, judged_photos: Sequence[str] = (), *, grouped: bool = True
) -> Duplicates:
    """Join the pairs of all blocks, for the files that are still there, and make groups of them.

    Args:
        triangle: the completed search.
        present: what a walk through the folder found.
        judged_photos: SHA-256 of photos that people judged; they get a row even if they are in no pair.
        grouped: whether similarity makes the groups; else each photo is its own group until pairs are decided.
    """
    collection = triangle.collection
    files = encoded_photos(collection, present.marks)
    pictures = pictures_in(triangle, files.contents)
    judged = np.isin(files.contents, keys_of(judged_photos))
    chosen = np.flatnonzero(pictures.related() | judged)
    paths = files.paths(chosen)
    # Sorted by path, so that nothing depends on how the photos were cut into shards.
    order = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
    chosen = chosen[order]
    pictures = pictures.take(chosen)
    first, near = pictures.first_files
    group_of = _groups(triangle, pictures.rows, near)[first] if grouped else np.arange(len(chosen))
    pairs, kinds = pictures.of_files()
    left_out = tuple(LeftOut(path, reason) for path, reason in unreadable(collection, present).items())
    names = tuple(paths[row] for row in order.tolist())
    digests = tuple(files.photos(chosen))
    facts = len(files.contents), left_out, names, digests, pictures.rows, pairs, kinds, group_of
    return Duplicates(triangle, *facts, pages=present.pages)


def _groups(triangle: Triangle, rows: Ints, near: NearPairs) -> Ints:
    """Group the files that stand for pictures: int64 (n,); a file in no pair has a group of its own.

    Args:
        triangle: the search, which holds the vectors.
        rows: int64 (n,), row of the triangle that has each file's vector.
        near: pairs of files that stand for pictures.
    """
    groups = np.arange(len(rows)) + len(rows)
    paired = np.unique(np.concatenate([near.left, near.right]))
    places, which = np.unique(rows[paired], return_inverse=True)
    vectors = triangle.vectors(places)[which]
    ends = np.searchsorted(paired, np.stack([near.left, near.right]))
    groups[paired] = near_groups(NearPairs(ends[0], ends[1], near.similarities), vectors, triangle.threshold)
    return groups


def find_duplicates(
    folder: Path | str,
    threshold: float | None = None,
    encoder: str = BUILTIN,
    store: Path | str | None = None,
    device: str = "auto",
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008 - frozen
) -> Duplicates:
    """Find all near-duplicates among the photos of a folder.

    Without a threshold, the nearest photos of each are verified by local features and decided by the decision that the
    project ships for its encoder; with a threshold, the vectors alone decide.

    Args:
        folder: folder of the photos; it is only read.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate; it belongs to the encoder.
        encoder: name or path of an encoder, as `load_encoder` takes it.
        store: folder or URL that keeps vectors and pairs, so that the next call does only what is new; None keeps
            nothing.
        device: `auto`, `cpu`, `cuda` or `mps`.
        settings: settings that say which files are photographs; in a folder that is laid out otherwise, every image is
            one.

    Raises:
        ArchiveError: there is no such folder.
        ConfigError: there is neither a threshold nor a decision for the encoder, or the threshold is not a similarity.
        EncoderError: there is no such encoder.
    """
    with TemporaryDirectory() as temporary:
        place = str(temporary if store is None else store)
        collection = open_collection(Path(folder), place, encoder, device, "fp32", settings)
        threshold = None if threshold is None else checked_threshold(threshold)
        decision = None if threshold is not None else shipped_decision(collection.fingerprint)
        if threshold is None and decision is None:
            raise ConfigError(f"no decision is shipped for {encoder}: give a threshold, which belongs to the encoder")
        here = present(collection)
        for paths in new_shards(collection, known(collection)):
            encode_shard(collection, paths)
        least, most = (LEAST_SIMILARITY, CANDIDATES) if decision else (threshold, None)
        assert least is not None  # noqa: S101 - one of the two is there
        found = duplicates(search_all(collection, least, most), here, grouped=decision is None)
        if decision is None:
            return found
        verifier = found.verifier(Path(temporary))
        evidence, closing = verifier.verify_closed(found.candidates)
        return found.with_closing(closing).decided(verifier, evidence, Verification(decision))
