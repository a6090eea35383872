"""The results of `duplicates` as the review page asks for them: pairs and groups by number, columns read at once.

Opening a folder makes arrays, not one object per row: of 100,000 pairs, only those about to be shown become objects.
Columns that verification adds are used if they exist.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup.arrays import Bools, Floats, Ints
from neardup.decide.chosen_decision import DECISION
from neardup.decide.decision import Decision
from neardup.detect.verified_pairs import UNLIKELY
from neardup.errors import ArchiveError, ConfigError, NeardupError
from neardup.review.found.bridges import bridges
from neardup.review.found.candidates import Candidate, Photo, ShownPair, candidates_in, root_of
from neardup.review.found.contents import Contents, stamp_of
from neardup.review.found.facts import Archived, PhotoFacts
from neardup.search.exact_copies import COPY, KINDS
from neardup.stages import STATE, digest_of
from neardup.verify.evidence import Evidence, ordered
from neardup.verify.relation import Kind
from neardup.verify.store import EVIDENCE, FACTS, evidence_in, evidence_table, read_facts, read_results

SLOPE = 40.0
"""Log-odds by which a similarity of 1 above the threshold raises a pair that was not verified. Such pairs get no
probability, and by this number they are only put in order: those nearest the threshold first."""


class Results:
    """Pairs and groups of one run of `duplicates`; photos are numbered by their paths, pairs by their rows.

    Attributes:
        out: the output folder.
        archive: folder of the photos.
        made_with: what `duplicates.json` says: threshold, encoder, fingerprints.
        paths: path of each photo.
        first: int64 (m,), one photo of each pair.
        second: int64 (m,), the other one.
        similarity: float64 (m,).
        probability: float64 (m,), NaN where a pair was not verified.
        group_of: int64 (n,), the group of each photo, 0 for none.
    """

    def __init__(self, out: Path, archive: Path | None = None) -> None:
        """Open the results in a folder; all tables are read, no photo is.

        Args:
            out: output folder of `neardup duplicates`.
            archive: folder of the photos; else the one that the results name.

        Raises:
            ArchiveError: there are no results, or nobody knows where the photos are.
        """
        folder = out / "duplicates"
        self.out, self._folder, self._lock = out, folder, threading.Lock()
        self._named, self._published = archive, stamp_of(folder / FACTS)
        pairs = read_results(folder / "pairs.parquet", out)
        self.made_with = read_facts(out)
        self.archive = root_of(out, archive, self.made_with).resolve()
        self._pairs = pairs.filter(pc.not_equal(pairs["kind"], KINDS[COPY])).combine_chunks()
        self.paths, (self.first, self.second) = _coded(self._pairs["photo"], self._pairs["partner"])
        self.similarity: Floats = self._pairs["similarity"].to_numpy().astype(np.float64)
        self.probability = self._numbers("probability")
        self._contents = Contents(self.archive, out / STATE / "review" / "contents.sqlite")
        self._digests, self._photo_of = self._known_digests()
        self._others: dict[str, str] = {}
        self._read_groups(read_results(folder / "groups.parquet", out, ["group", "photo"]))

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.first)

    @property
    def outdated(self) -> bool:
        """Whether another run of `duplicates` has published its results here since these were opened."""
        return stamp_of(self._folder / FACTS) not in {None, self._published}

    @property
    def run(self) -> str:
        """What tells these results from those of another run."""
        return digest_of(self._published)

    def reopened(self) -> "Results":
        """The results that lie in the folder now; errors as where they are opened."""
        return Results(self.out, self._named)

    @property
    def verified(self) -> bool:
        """Whether the pairs were verified and put into bands."""
        return "band" in self._pairs.column_names

    @property
    def digests_known(self) -> bool:
        """Whether the results themselves name the contents of their photos."""
        return "photo_sha256" in self._pairs.column_names

    @cached_property
    def decision(self) -> Decision | None:
        """The decision that gave the probabilities; None if there is none, or one of another version."""
        try:
            return Decision.load(self._folder / DECISION)
        except ConfigError:
            return None

    @cached_property
    def facts(self) -> Archived:
        """Legends, captions and rows of the ground truth, read when the first photo is shown."""
        return Archived.load(self.out)

    @cached_property
    def links(self) -> Bools:
        """The pairs that the machine takes for near-duplicates by itself, bool (m,); all where none was verified."""
        return self._banded("link")

    @cached_property
    def doubtful(self) -> Bools:
        """The pairs that the machine leaves to a person, bool (m,); all where none was verified.

        Pairs that are too unlikely are not asked: there are ten of them per photo, and hardly any is right.
        """
        return self._banded("review") & ~(self.probability < UNLIKELY)

    @cached_property
    def cannot_tell(self) -> Bools:
        """The pairs of which geometry cannot tell, bool (m,); none where nothing was verified."""
        if "relation" not in self._pairs.column_names:
            return np.zeros(len(self), dtype=bool)
        cannot_tell = pc.equal(self._pairs["relation"], str(Kind.CANNOT_TELL)).fill_null(False)  # noqa: FBT003 - a value
        return np.asarray(cannot_tell.to_numpy())

    @cached_property
    def bridges(self) -> Bools:
        """The links that alone hold two parts of a group together, bool (m,)."""
        rows = np.flatnonzero(self.links & self._together)
        marked = np.zeros(len(self), dtype=bool)
        marked[rows] = bridges(self.first[rows], self.second[rows], len(self.paths))
        return marked

    @cached_property
    def affected(self) -> Ints:
        """Photos that each pair's answer joins or parts, int64 (m,)."""
        sizes = np.bincount(self.group_of, minlength=1)
        sizes[0] = 1
        of_first, of_second = self.group_of[self.first], self.group_of[self.second]
        return np.asarray(sizes[of_first] + np.where(self._together, 0, sizes[of_second]))

    @cached_property
    def _together(self) -> Bools:
        """The pairs of which both photos are in one group, bool (m,)."""
        of_first = self.group_of[self.first]
        return np.asarray((of_first == self.group_of[self.second]) & (of_first > 0))

    @cached_property
    def _chance(self) -> Floats:
        """The probability of each pair, float64 (m,); guessed from its similarity where it was not verified."""
        guessed = 1 / (1 + np.exp(-SLOPE * (self.similarity - float(self.made_with.get("threshold", 0)))))
        return np.where(np.isnan(self.probability), guessed, self.probability)

    @cached_property
    def doubt(self) -> Floats:
        """How uncertain each pair is, float64 (m,), 0 to 1: 4 p (1 - p) of its probability p."""
        return np.asarray(4 * self._chance * (1 - self._chance))

    @cached_property
    def change(self) -> Floats:
        """The chance that an answer changes the groups, float64 (m,).

        That is the chance that a pair within a group is wrong, or that one across two groups is right.
        """
        return np.where(self._together, 1 - self._chance, self._chance)

    def _banded(self, band: str) -> Bools:
        if not self.verified:
            return np.ones(len(self), dtype=bool)
        return np.asarray(pc.equal(self._pairs["band"], band).fill_null(False).to_numpy())  # noqa: FBT003 - a value

    def _numbers(self, column: str) -> Floats:
        if column not in self._pairs.column_names:
            return np.full(len(self._pairs), np.nan)
        return np.asarray(self._pairs[column].cast(pa.float64()).fill_null(np.nan).to_numpy())

    def _known_digests(self) -> tuple[list[str | None], dict[str, int]]:
        """SHA-256 of each photo, as far as the results or an earlier review know it, and the photo of each SHA-256."""
        digests: list[str | None]
        if self.digests_known:
            codes, places = np.unique(np.concatenate([self.first, self.second]), return_index=True)
            both = pa.concat_arrays([_plain(self._pairs[f"{side}_sha256"]) for side in ("photo", "partner")])
            digests = both.take(pa.array(places)).to_pylist()
            digests += [None] * (len(self.paths) - len(codes))
        else:
            known = self._contents.remembered()
            digests = [known.get(path) for path in self.paths.to_pylist()] if known else [None] * len(self.paths)
        return digests, {digest: photo for photo, digest in enumerate(digests) if digest}

    def _read_groups(self, table: pa.Table) -> None:
        """Number the groups' photos as the pairs do; a photo that is in no pair gets a number of its own."""
        photos = pc.index_in(table["photo"], value_set=self.paths)
        if photos.null_count:
            alone = pc.unique(table["photo"].filter(pc.is_null(photos)))
            self.paths = pa.concat_arrays([self.paths, _plain(alone)])
            self._digests += [None] * len(alone)
            photos = pc.index_in(table["photo"], value_set=self.paths)
        numbers: Ints = table["group"].to_numpy()
        self.group_of = np.zeros(len(self.paths), dtype=np.int64)
        self.group_of[photos.to_numpy()] = numbers
        self._members = photos.to_numpy().astype(np.int64)[np.argsort(numbers, kind="stable")]
        self.groups = int(numbers.max(initial=0))
        self._starts = np.searchsorted(np.sort(numbers), np.arange(self.groups + 2))

    def members(self, group: int) -> Ints:
        """The photos of a group, in the order of its table; none for a number that no group has."""
        if not 1 <= group <= self.groups:
            return np.zeros(0, dtype=np.int64)
        return np.asarray(self._members[self._starts[group] : self._starts[group + 1]])

    def digest(self, photo: int) -> str:
        """SHA-256 of a photo, read from its file where nothing else knows it.

        Raises:
            ArchiveError: the file is gone.
            UnreadableImageError: it cannot be read.
        """
        digest = self._digests[photo]
        if digest is None:
            digest = self._contents.digest(self.path(photo))
            with self._lock:
                self._digests[photo] = digest
                self._photo_of.setdefault(digest, photo)
        return digest

    def path(self, photo: int) -> str:
        """Path of a photo, relative to the archive."""
        return str(self.paths[photo].as_py())

    def photo_of(self, sha256: str) -> int | None:
        """The photo that has a SHA-256, as far as it was read."""
        return self._photo_of.get(sha256)

    def learn(self, path: str, sha256: str) -> bool:
        """Record the content of a photo that was read elsewhere; return whether its file still exists in the archive.

        Args:
            path: relative to the archive.
            sha256: of its bytes, as the vectors' store has it.
        """
        if self.photo_of(sha256) is not None or self._others.get(sha256):
            return True
        try:
            if self._contents.digest(path) != sha256:
                return False
        except NeardupError:
            return False
        with self._lock:
            self._others[sha256] = path
        return True

    def content(self, sha256: str) -> Photo | None:
        """The photo that has a SHA-256: of the pairs and groups, else one that the search found or somebody brought."""
        number = self.photo_of(sha256)
        if number is not None:
            return self.photo(number)
        path = self._others.get(sha256)
        return None if path is None else Photo(sha256, path, self.facts.of(path) if path else PhotoFacts("", ""))

    def bring(self, sha256: str) -> None:
        """Register a photo that somebody uploaded for a search, which may not be in the archive."""
        with self._lock:
            self._others.setdefault(sha256, "")

    def file_of(self, sha256: str) -> Path | None:
        """Find the file of a photo by its SHA-256, if it was read: no other file can be reached."""
        photo = self.photo_of(sha256)
        path = self._others.get(sha256) if photo is None else self.path(photo)
        return self.archive / path if path else None

    @cached_property
    def _keys(self) -> tuple[Ints, Ints]:
        """One number for each pair, ordered, and the rows in that order."""
        keys = self.key(self.first, self.second)
        order = np.argsort(keys)
        return keys[order], order

    def key(self, first: Ints, second: Ints) -> Ints:
        """One number for each pair of photos, whatever their order."""
        return np.minimum(first, second) * len(self.paths) + np.maximum(first, second)

    def row_of(self, photo: int, partner: int) -> int | None:
        """The row of a pair of photos, if the machine proposes it."""
        keys, rows = self._keys
        key = int(self.key(np.array([photo]), np.array([partner]))[0])
        place = int(np.searchsorted(keys, key))
        return int(rows[place]) if place < len(keys) and keys[place] == key else None

    def row_of_contents(self, photo: str, partner: str) -> int | None:
        """The row of a pair of contents, if the machine proposes it."""
        first, second = self.photo_of(photo), self.photo_of(partner)
        return None if first is None or second is None else self.row_of(first, second)

    def contents(self, row: int) -> tuple[str, str]:
        """The two contents of a pair by its row, the lesser first; errors as in `digest`."""
        return ordered(self.digest(int(self.first[row])), self.digest(int(self.second[row])))

    def photo(self, number: int) -> Photo:
        """A photo by its number; errors as in `digest`."""
        path = self.path(number)
        return Photo(self.digest(number), path, self.facts.of(path))

    def candidate(self, row: int) -> ShownPair:
        """A pair by its row; errors as in `digest`."""
        photo, partner = (int(side[row]) for side in (self.first, self.second))
        first, second = self.photo(photo), self.photo(partner)
        evidence = self.evidence(first.sha256, second.sha256)
        terms = self.decision.waterfall(float(self.similarity[row]), evidence) if self.decision else []
        inliers, probability = self._text("inliers", row), float(self.probability[row])
        return ShownPair(
            row=row,
            photo=first,
            partner=second,
            similarity=float(self.similarity[row]),
            probability=None if np.isnan(probability) else probability,
            band=self._text("band", row),
            relation=self._text("relation", row),
            sentence=self._text("sentence", row),
            inliers=int(inliers) if inliers else None,
            terms=tuple(terms),
            groups=(int(self.group_of[photo]), int(self.group_of[partner])),
            affected=int(self.affected[row]),
            bridge=bool(self.bridges[row]),
            evidence=evidence,
        )

    def pair(self, photo: str, partner: str) -> ShownPair:
        """A pair of two contents, whether the machine proposes it or not.

        Raises:
            ArchiveError: one of them is no photo of the results.
        """
        first, second = self.content(photo), self.content(partner)
        if first is None or second is None or photo == partner:
            raise ArchiveError("no photo of these results has that SHA-256")
        row = self.row_of_contents(photo, partner)
        return ShownPair(None, first, second) if row is None else self.candidate(row)

    def proposed(self, rows: Ints) -> list[Candidate]:
        """Pairs by their rows, as the tables that are exported have them."""
        return candidates_in(self._pairs.take(pa.array(rows)).to_pylist())

    def _text(self, column: str, row: int) -> str:
        value = self._pairs[column][row].as_py() if column in self._pairs.column_names else None
        return "" if value is None else str(value)

    @cached_property
    def _evidence(self) -> pa.Table | None:
        return evidence_table(self._folder / EVIDENCE)

    def evidence(self, photo: str, partner: str) -> Evidence | None:
        """What verification measured of two contents, in whatever order, if it did."""
        if self._evidence is None:
            return None
        first, second = sorted((photo, partner))
        same = pc.and_(pc.equal(self._evidence["first"], first), pc.equal(self._evidence["second"], second))
        row = pc.index(same, value=True).as_py()
        if row < 0:
            return None
        return evidence_in(self._evidence.slice(row, 1))[0]

    def rows_within(self, photos: Sequence[int] | Ints) -> Ints:
        """The rows of all pairs of which both photos are among these."""
        inside = np.zeros(len(self.paths), dtype=bool)
        inside[np.asarray(photos, dtype=np.int64)] = True
        return np.flatnonzero(inside[self.first] & inside[self.second])


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece, as text."""
    pieces = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.concat_arrays([pa.array([], pa.string()), *(piece.cast(pa.string()) for piece in pieces)])


def _coded(*columns: pa.ChunkedArray) -> tuple[pa.Array, list[Ints]]:
    """The different values of some columns, and each column as their numbers."""
    coded = pa.concat_arrays([_plain(column) for column in columns]).dictionary_encode()
    numbers = coded.indices.to_numpy().astype(np.int64)
    return coded.dictionary, np.split(numbers, len(columns)) if len(numbers) else [numbers, numbers]
