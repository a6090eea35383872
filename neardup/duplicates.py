"""All near-duplicates of a collection, as tables, groups and pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from neardup.archive.scan import check_folders
from neardup.arrays import Floats, Ints
from neardup.decide.groups import near_groups
from neardup.encode.collection import (
    Collection,
    among,
    encode_shard,
    encoded,
    known,
    new_shards,
    open_collection,
    present,
    unreadable,
)
from neardup.encode.encoder import BUILTIN
from neardup.encode.store import write_parquet
from neardup.images import MAX_PIXELS
from neardup.pages import write_strips
from neardup.search.blocks import Triangle, all_pairs, gather, open_triangle, search_block, still_there
from neardup.search.pairs import NearPairs
from neardup.stages import claim, replacing, write_json
from neardup.tables import SHEET_ROWS, save_rows, write_table


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicates:
    """What a search of a whole collection found.

    Attributes:
        collection: that was searched.
        threshold: the similarity at or above which a pair is called near-duplicate.
        photos: files that are there and could be encoded.
        unreadable: files that are there and could not.
        paths: of the photos that are in a pair; pairs and groups count these.
        pairs: best first.
        group_of: int64 (len(paths),), the group of each; -1 for none.
    """

    collection: Collection
    threshold: float
    photos: int
    unreadable: tuple[Unreadable, ...]
    paths: tuple[str, ...]
    pairs: NearPairs
    group_of: Ints

    @cached_property
    def groups(self) -> list[list[int]]:
        """Members of each group of two or more, the group of the best pair first."""
        members: dict[int, list[int]] = {}
        for row in _first_seen(self.pairs).tolist():
            members.setdefault(int(self.group_of[row]), []).append(row)
        return [rows for group, rows in members.items() if group >= 0 and len(rows) > 1]

    @property
    def summary(self) -> str:
        """One sentence."""
        grouped = sum(map(len, self.groups))
        left_out = f"; {len(self.unreadable):,} files could not be read" if self.unreadable else ""
        return (
            f"{self.photos:,} photos, near-duplicate pairs {len(self.pairs.left):,} at {self.threshold:g} or above, "
            f"groups {len(self.groups):,} with {grouped:,} photos{left_out}."
        )

    def facts(self) -> dict[str, object]:
        """The counts, and what they were made with."""
        return {
            "summary": self.summary,
            "photos": self.photos,
            "pairs": len(self.pairs.left),
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
        left = [self.paths[row] for row in self.pairs.left.tolist()]
        right = [self.paths[row] for row in self.pairs.right.tolist()]
        similarities = self.pairs.similarities
        with replacing(folder / "pairs.parquet") as partial:
            write_parquet(pa.table({"photo": left, "partner": right, "similarity": similarities}), partial)
        rounded = np.round(similarities[:SHEET_ROWS], 6).tolist()
        rows = zip(left[:SHEET_ROWS], right[:SHEET_ROWS], rounded, strict=True)
        write_table(folder / "pairs.xlsx", ("photo", "partner", "similarity"), rows)
        names = [[self.paths[row] for row in rows] for rows in self.groups[:SHEET_ROWS]]
        write_table(folder / "groups.xlsx", (), names, header=False)
        save_rows(folder / "unreadable.csv", Unreadable, self.unreadable)
        best = _best(self.pairs, self.group_of)
        strips = [[(self.paths[row], f"{best[row]:.3f}", False) for row in rows] for rows in self.groups]
        root, limit = self.collection.folder, self.collection.max_pixels
        write_strips(folder / "gallery.html", "duplicates", root, strips, self.summary, limit)
        write_json(folder / "duplicates.json", self.facts())


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
    there = still_there(triangle, present)
    pairs = all_pairs(triangle)
    pairs = pairs.take(there[pairs.left] & there[pairs.right])
    rows = np.unique(np.concatenate([pairs.left, pairs.right]))
    vectors, paths = gather(triangle, rows)
    # By path, so that nothing depends on how the photos were cut into shards.
    order = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends = np.sort(place[np.searchsorted(rows, np.stack([pairs.left, pairs.right]))], axis=0)
    found = NearPairs(ends[0], ends[1], pairs.similarities).sorted()
    groups = near_groups(found, vectors[order], triangle.threshold)
    broken = _unreadable(triangle.collection, present)
    return Duplicates(
        triangle.collection,
        triangle.threshold,
        int(there.sum()),
        broken,
        tuple(paths[row] for row in order),
        found,
        groups,
    )


def _unreadable(collection: Collection, present: Ints) -> tuple[Unreadable, ...]:
    """The files that are there as they were when they could not be read, and were not encoded since."""
    table = unreadable(collection)
    marks = table["file"].to_numpy()
    table = table.filter(among(marks, present) & ~among(marks, encoded(collection)))
    reasons = dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return tuple(Unreadable(path, reasons[path]) for path in sorted(reasons))


def find_duplicates(
    folder: Path | str,
    threshold: float,
    encoder: str = BUILTIN,
    store: Path | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> Duplicates:
    """Find all near-duplicates among the photos of a folder.

    Args:
        folder: of the photos; it is only read.
        threshold: similarity, -1 to 1, at or above which a pair is called near-duplicate; it belongs to the encoder.
        encoder: what `load_encoder` takes.
        store: folder that keeps vectors and pairs, so that the next call does only what is new; else nothing is kept.
        device: `auto`, `cpu`, `cuda` or `mps`.
        max_pixels: larger images are refused.

    Raises:
        ArchiveError: there is no such folder.
        EncoderError: there is no such encoder.
    """
    if store is None:
        with TemporaryDirectory() as forgotten:
            return find_duplicates(folder, threshold, encoder, Path(forgotten), device, max_pixels)
    check_folders(Path(folder), store)
    collection = open_collection(Path(folder), str(store), encoder, device, "fp32", max_pixels)
    here = present(collection)
    for paths in new_shards(collection, known(collection)):
        encode_shard(collection, paths)
    triangle = open_triangle(collection, threshold)
    for i, j in triangle.blocks():
        search_block(collection, threshold, len(triangle.slabs), i, j)
    return duplicates(triangle, here)
