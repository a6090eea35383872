"""All near-duplicates of a collection, as tables, groups and pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.archive.scan import check_folders
from neardup.arrays import Floats, Ints
from neardup.decide.groups import near_groups
from neardup.encode.collection import (
    Collection,
    encode_shard,
    encoded_photos,
    known,
    new_shards,
    open_collection,
    present,
    unreadable,
)
from neardup.encode.encoder import BUILTIN
from neardup.encode.store import write_parquet
from neardup.pages import write_strips
from neardup.search.blocks import Triangle, open_triangle, search_block
from neardup.search.pairs import NearPairs
from neardup.settings.schema import PrepareSettings
from neardup.stages import claim, replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table

KINDS = ("near-duplicate", "equal vectors", "exact copy")
"""What two files of a pair are: two pictures, one picture to the encoder in other bytes, or the same bytes."""
NEAR, EQUAL, COPY = range(len(KINDS))
SHEET_COLUMNS = 16_384
"""Cells that Excel can hold in a row."""


@dataclass(frozen=True)
class LeftOut:
    """A file that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicates:
    """What a search of a whole collection found.

    Of files with equal bytes the first by path stands for all in the pairs, and each further one is in one pair, with
    that first one; likewise contents with equal vectors. So thousands of copies are thousands of pairs, not millions.

    Attributes:
        collection: that was searched.
        threshold: the similarity at or above which a pair is called near-duplicate.
        photos: files that are there and could be encoded.
        unreadable: files that are there and could not.
        paths: of the photos that are in a pair, ordered; pairs and groups count these.
        pairs: best first.
        kinds: int64 (m,), what each pair is, an index of `KINDS`.
        group_of: int64 (len(paths),), the group of each; a number of its own for a photo in none.
    """

    collection: Collection
    threshold: float
    photos: int
    unreadable: tuple[LeftOut, ...]
    paths: tuple[str, ...]
    pairs: NearPairs
    kinds: Ints
    group_of: Ints

    @cached_property
    def copies(self) -> int:
        """Files whose bytes another file has that comes before them."""
        return int(np.count_nonzero(self.kinds == COPY))

    @cached_property
    def groups(self) -> list[list[int]]:
        """Members of each group of two or more, the group of the best pair first, exact copies last in each."""
        copies = set(self.pairs.right[self.kinds == COPY].tolist())
        members: dict[int, list[int]] = {}
        for row in _first_seen(self.pairs).tolist():
            members.setdefault(int(self.group_of[row]), []).append(row)
        return [sorted(rows, key=copies.__contains__) for rows in members.values() if len(rows) > 1]

    @property
    def summary(self) -> str:
        """What was found, as one sentence."""
        grouped = sum(map(len, self.groups))
        copies = f"; exact copies {self.copies:,}" if self.copies else ""
        left_out = f"; {len(self.unreadable):,} files could not be read" if self.unreadable else ""
        pairs = len(self.pairs.left) - self.copies
        return (
            f"{self.photos:,} photos, near-duplicate pairs {pairs:,} at {self.threshold:g} or above, "
            f"groups {len(self.groups):,} with {grouped:,} photos{copies}{left_out}."
        )

    def facts(self) -> dict[str, object]:
        """The counts, and what they were made with."""
        return {
            "summary": self.summary,
            "rule": self.collection.rule,
            "archive": str(self.collection.folder),
            "photos": self.photos,
            "pairs": len(self.pairs.left) - self.copies,
            "exact_copies": self.copies,
            "groups": len(self.groups),
            "unreadable": len(self.unreadable),
            "threshold": self.threshold,
            "encoder": self.collection.encoder,
            "precision": self.collection.precision,
            "fingerprint": self.collection.fingerprint,
        }

    def write(self, folder: Path) -> None:
        """Write tables, groups, pictures and counts into a folder of ours."""
        claim(folder)
        self._write_pairs(folder)
        self._write_groups(folder)
        save_rows(folder / "unreadable.csv", LeftOut, self.unreadable)
        best = _best(self.pairs, self.group_of)
        strips = [[(self.paths[row], f"{best[row]:.3f}", False) for row in rows] for rows in self.groups]
        root, limit = self.collection.folder, self.collection.max_pixels
        write_strips(folder / "gallery.html", "duplicates", root, strips, self.summary, limit)
        write_json(folder / "duplicates.json", self.facts())

    def _write_pairs(self, folder: Path) -> None:
        """Write every pair as Parquet, and as many as Excel holds as a workbook."""
        columns: dict[str, list[Any]] = {
            "photo": [self.paths[row] for row in self.pairs.left.tolist()],
            "partner": [self.paths[row] for row in self.pairs.right.tolist()],
            "similarity": self.pairs.similarities.tolist(),
            "kind": [KINDS[kind] for kind in self.kinds.tolist()],
        }
        with replacing(folder / "pairs.parquet") as partial:
            write_parquet(pa.table(columns), partial)
        shown = {name: values[:SHEET_ROWS] for name, values in columns.items()}
        shown["similarity"] = np.round(shown["similarity"], 6).tolist()
        write_table(folder / "pairs.xlsx", tuple(shown), zip(*shown.values(), strict=True))

    def _write_groups(self, folder: Path) -> None:
        """Write a row a photo as Parquet, and as many groups as Excel holds as a workbook, a row each."""
        rows = [(number, row) for number, group in enumerate(self.groups, 1) for row in group]
        first = dict(
            zip(*(side[self.kinds == COPY].tolist() for side in (self.pairs.right, self.pairs.left)), strict=True)
        )
        columns = {
            "group": pa.array([number for number, _ in rows], pa.int64()),
            "photo": pa.array([self.paths[row] for _, row in rows], pa.string()),
            "exact_copy_of": pa.array(
                [self.paths[first[row]] if row in first else None for _, row in rows], pa.string()
            ),
        }
        with replacing(folder / "groups.parquet") as partial:
            write_parquet(pa.table(columns), partial)
        names = [[self.paths[row] for row in group[:SHEET_COLUMNS]] for group in self.groups[:SHEET_ROWS]]
        write_table(folder / "groups.xlsx", (), names, header=False)


def _first_seen(pairs: NearPairs) -> Ints:
    """Rows in the order in which the pairs name them."""
    both = np.stack([pairs.left, pairs.right], axis=1).ravel()
    rows, places = np.unique(both, return_index=True)
    return np.asarray(rows[np.argsort(places)])


def _best(pairs: NearPairs, group_of: Ints) -> Floats:
    """Each row's greatest similarity to another one of its group, float64; 0 where there is none."""
    inside = pairs.take(group_of[pairs.left] == group_of[pairs.right])
    best = np.zeros(len(group_of))
    for side in (inside.left, inside.right):
        np.maximum.at(best, side, inside.similarities)
    return best


def duplicates(triangle: Triangle, present: Ints) -> Duplicates:
    """Put the pairs of all blocks together, of the files that are still there, and make groups of them.

    Args:
        triangle: searched to its end.
        present: marks of the files that are there, ordered.
    """
    collection, links, contents = triangle.collection, triangle.links(), triangle.contents()
    files = encoded_photos(collection, present)
    picture_of_row = _pictures(contents, links.equal)
    keys, firsts = np.unique(contents, return_index=True)
    rows = firsts[np.searchsorted(keys, files.contents)]
    pictures = picture_of_row[rows]
    count = np.bincount(pictures, minlength=len(contents))
    near = _between(links.pairs, picture_of_row, count)
    paired = np.zeros(len(contents), dtype=bool)
    paired[near.left] = paired[near.right] = True
    chosen = np.flatnonzero(paired[pictures] | (count[pictures] > 1))
    paths = files.paths(chosen)
    # By path, so that nothing depends on how the photos were cut into shards.
    order = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
    chosen = chosen[order]
    first, near = _by_first_file(pictures[chosen], near)
    group_of = _groups(triangle, rows[chosen], near)[first]
    pairs, kinds = _with_copies(near, first, _first_of(files.contents[chosen]))
    left_out = tuple(LeftOut(path, reason) for path, reason in unreadable(collection, present).items())
    names = tuple(paths[row] for row in order.tolist())
    return Duplicates(collection, triangle.threshold, len(files.contents), left_out, names, pairs, kinds, group_of)


def _pictures(contents: Ints, equal: Ints) -> Ints:
    """Number the pictures: rows of one content, or of equal vectors, are one.

    Args:
        contents: int64 (n,), the content of each row; two workers may have encoded the same one.
        equal: int64 (2, m), pairs of rows with equal vectors.

    Returns:
        int64 (n,), each row's picture, from 0, fewer than n.
    """
    first, rows = _first_of(contents), np.arange(len(contents))
    left, right = np.concatenate([equal, np.stack([first, rows])[:, first != rows]], axis=1)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(rows), len(rows)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _first_of(values: Ints) -> Ints:
    """For each place the first one that has the same value: int64 (n,)."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[which], dtype=np.int64)


def _between(pairs: NearPairs, picture_of_row: Ints, files: Ints) -> NearPairs:
    """Pairs of pictures instead of rows, each once, of pictures that have a file.

    Args:
        pairs: of rows.
        picture_of_row: int64 (n,).
        files: int64 (n,), how many each picture has.
    """
    ends = np.sort(picture_of_row[np.stack([pairs.left, pairs.right])], axis=0)
    once = np.unique(ends[0] * len(files) + ends[1], return_index=True)[1]
    near = NearPairs(ends[0], ends[1], pairs.similarities).take(once)
    return near.take((files[near.left] > 0) & (files[near.right] > 0))


def _by_first_file(pictures: Ints, near: NearPairs) -> tuple[Ints, NearPairs]:
    """Let the first file of each picture stand for it.

    Args:
        pictures: int64 (n,), of each file.
        near: pairs of pictures, which have files.

    Returns:
        int64 (n,), the file that stands for each file's picture, and the pairs of such files, best first.
    """
    numbers, first = np.unique(pictures, return_index=True)
    ends = np.sort(first[np.searchsorted(numbers, np.stack([near.left, near.right]))], axis=0)
    return _first_of(pictures), NearPairs(ends[0], ends[1], near.similarities).sorted()


def _groups(triangle: Triangle, rows: Ints, near: NearPairs) -> Ints:
    """The group of each file that stands for a picture, int64 (n,); whoever is in no pair has one for itself.

    Args:
        triangle: which holds the vectors.
        rows: int64 (n,), where each file's vector is.
        near: pairs of files that stand for pictures.
    """
    groups = np.arange(len(rows)) + len(rows)
    paired = np.unique(np.concatenate([near.left, near.right]))
    places, which = np.unique(rows[paired], return_inverse=True)
    vectors = triangle.vectors(places)[which]
    ends = np.searchsorted(paired, np.stack([near.left, near.right]))
    groups[paired] = near_groups(NearPairs(ends[0], ends[1], near.similarities), vectors, triangle.threshold)
    return groups


def _with_copies(near: NearPairs, first: Ints, first_of_content: Ints) -> tuple[NearPairs, Ints]:
    """Add a pair for each further file of a picture.

    Args:
        near: pairs of files that stand for pictures.
        first: int64 (n,), the file that stands for each file's picture.
        first_of_content: int64 (n,), the first file that has each file's bytes.

    Returns:
        All pairs, best first, and what each is, an index of `KINDS`.
    """
    files = np.arange(len(first))
    copies = np.flatnonzero(first_of_content != files)
    equal = np.flatnonzero((first_of_content == files) & (first != files))
    left = np.concatenate([near.left, first[equal], first_of_content[copies]])
    right = np.concatenate([near.right, equal, copies])
    similarities = np.concatenate([near.similarities, np.ones(len(equal) + len(copies))])
    kinds = np.repeat([NEAR, EQUAL, COPY], [len(near.left), len(equal), len(copies)])
    order = np.lexsort((right, left, -similarities))
    return NearPairs(left, right, similarities).take(order), kinds[order]


def find_duplicates(
    folder: Path | str,
    threshold: float,
    encoder: str = BUILTIN,
    store: Path | str | None = None,
    device: str = "auto",
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008 - frozen
) -> Duplicates:
    """Find all near-duplicates among the photos of a folder.

    Args:
        folder: of the photos; it is only read.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate; it belongs to the encoder.
        encoder: what `load_encoder` takes.
        store: folder or URL that keeps vectors and pairs, so that the next call does only what is new; else nothing is
            kept.
        device: `auto`, `cpu`, `cuda` or `mps`.
        settings: which files are photographs; every image of a folder that is not laid out as they say.

    Raises:
        ArchiveError: there is no such folder.
        EncoderError: there is no such encoder.
    """
    if store is None:
        with TemporaryDirectory() as forgotten:
            return find_duplicates(folder, threshold, encoder, forgotten, device, settings)
    check_folders(Path(folder), Path(store))
    collection = open_collection(Path(folder), str(store), encoder, device, "fp32", settings)
    here = present(collection)
    for paths in new_shards(collection, known(collection)):
        encode_shard(collection, paths)
    triangle = open_triangle(collection, threshold)
    for block in triangle.blocks():
        search_block(collection, threshold, block)
    return duplicates(triangle, here)
