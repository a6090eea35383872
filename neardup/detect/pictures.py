"""The near pairs of a folder's photos, from the blocks that the search of a whole collection stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from neardup.arrays import Bools, Ints
from neardup.search.all_pairs import KEPT
from neardup.search.blocks import SLAB, Triangle
from neardup.search.exact_copies import between_pictures, by_first_file, first_of, pictures_of, rows_of, with_copies
from neardup.search.nearest import nearest_rows
from neardup.search.pairs import NearPairs, joined
from neardup.search.top_k import RunningTopK


@dataclass(frozen=True)
class Pictures:
    """Files as pictures, where files with equal bytes or equal vectors are one picture, and the near pairs of pictures.

    Attributes:
        contents: int64 (n,), key of each file's content, as `content_keys` gives it.
        rows: int64 (n,), row of the search that has each file's vector.
        numbers: int64 (n,), each file's picture.
        near: pairs, at the threshold, of pictures that have a file; only the nearest, where only these were searched
            for.
    """

    contents: Ints
    rows: Ints
    numbers: Ints
    near: NearPairs

    def related(self) -> Bools:
        """Find the files that are in a pair or share their picture with another file: bool (n,)."""
        paired, files = np.union1d(self.near.left, self.near.right), np.bincount(self.numbers)
        return np.asarray(np.isin(self.numbers, paired) | (files[self.numbers] > 1))

    def take(self, files: Ints) -> "Pictures":
        """Select files, in a new order; all files of the pairs must be among them."""
        return Pictures(self.contents[files], self.rows[files], self.numbers[files], self.near)

    @cached_property
    def first_files(self) -> tuple[Ints, NearPairs]:
        """The first file of each file's picture, int64 (n,), and the pairs of such first files, best first."""
        return by_first_file(self.numbers, self.near)

    def of_files(self) -> tuple[NearPairs, Ints]:
        """List all pairs of files, best first, and each one's kind, an index of `KINDS`; copies pair with the first."""
        first, near = self.first_files
        return with_copies(near, first, first_of(self.contents))


def pictures_in(triangle: Triangle, contents: Ints) -> Pictures:
    """Find the pictures of some files, and which of them are near each other.

    The store may also hold photos that are gone from the folder, or photos of another folder. These are in no pair, and
    they do not displace any of the wanted nearest photos.

    Args:
        triangle: the completed search; its store has a vector of each file.
        contents: int64 (n,), key of each file's content, as `content_keys` gives it.
    """
    contents_of_rows = triangle.contents()
    equal = np.concatenate([np.empty((2, 0), np.int64), *(links.equal for links in triangle.parts())], axis=1)
    picture_of_row = pictures_of(contents_of_rows, equal)
    rows = rows_of(contents, contents_of_rows)
    numbers = picture_of_row[rows]
    files = np.bincount(numbers, minlength=len(contents_of_rows))
    if triangle.most is None:
        near = between_pictures(triangle.links().pairs, picture_of_row, files)
    else:
        near, starved = _nearest_of_blocks(triangle, picture_of_row, files)
        near = _nearest([near, *_nearest_of(triangle, starved, numbers, rows)], files, triangle.most)
    return Pictures(contents, rows, numbers, near)


def _nearest_of_blocks(triangle: Triangle, picture_of_row: Ints, files: Ints) -> tuple[NearPairs, Ints]:
    """Find the nearest pairs of pictures among those of all blocks, and the pictures that lack some (`_starved`).

    Each block holds its own nearest, which for a hundred blocks are twenty times as many as remain: blocks are read one
    after the other, and pairs that are not among the nearest so far are dropped.
    """
    assert triangle.most is not None  # noqa: S101 - where all pairs are asked for, nothing is left out
    starved = no_rows = np.empty(0, np.int64)
    kept = NearPairs(no_rows, no_rows, np.empty(0))
    parts, top_k = [kept], RunningTopK(len(files), triangle.most, triangle.threshold)
    for links in triangle.parts():
        starved = np.union1d(starved, _starved(links.pairs, picture_of_row, files))
        near = between_pictures(links.pairs, picture_of_row, files)
        parts.append(near.take(top_k.reached(near.left, near.right, near.similarities)))
        if sum(len(part.left) for part in parts) > 2 * max(KEPT, len(kept.left)):
            kept = _nearest(parts, files, triangle.most)
            parts, top_k = [kept], RunningTopK(len(files), triangle.most, triangle.threshold)
            top_k.add(kept.left, kept.right, kept.similarities)
    return joined(parts), starved


def _nearest(parts: Sequence[NearPairs], files: Ints, most: int) -> NearPairs:
    """Join parts and keep the nearest pairs of pictures, each once, best first; two blocks may hold the same pair."""
    return between_pictures(joined(parts), np.arange(len(files)), files).sorted().nearest(most)


def _starved(pairs: NearPairs, picture_of_row: Ints, files: Ints) -> Ints:
    """Find the pictures whose nearest are not all known, because a block kept useless rows instead.

    Useless rows have no file, or are the picture itself, if two workers' vectors of it differ in a bit.

    Args:
        pairs: pairs of rows, as all blocks hold them.
        picture_of_row: int64 (n,), the picture of each row.
        files: int64 (n,), how many files each picture has.

    Returns:
        int64 (m,), numbers of pictures that have a file, sorted.
    """
    left, right = picture_of_row[pairs.left], picture_of_row[pairs.right]
    lost = np.concatenate([left[files[right] == 0], right[files[left] == 0], left[left == right]])
    return np.unique(lost[files[lost] > 0])


def _nearest_of(triangle: Triangle, searched: Ints, numbers: Ints, rows: Ints) -> Iterator[NearPairs]:
    """Search for the nearest of some pictures among all that have a file, with two slabs of vectors in memory.

    The results of all slabs for some pictures are cut to the nearest before the next pictures are searched for.

    Args:
        triangle: the search, which holds the vectors and the number of nearest that are wanted.
        searched: int64 (m,), the pictures to search for.
        numbers: int64 (n,), the picture of each file.
        rows: int64 (n,), row of the triangle that has each file's vector.

    Yields:
        Pairs of pictures: the nearest of up to `SLAB` pictures.
    """
    assert triangle.most is not None  # noqa: S101 - where all pairs are asked for, nothing was left out
    ends = np.append([slab.start for slab in triangle.slabs], triangle.rows)
    present, files = np.unique(numbers, return_index=True)
    order = np.argsort(rows[files])
    pictures, gallery = present[order], rows[files][order]
    queries = np.flatnonzero(np.isin(pictures, searched))
    for start in range(0, len(queries), SLAB):
        chunk = queries[start : start + SLAB]
        vectors, parts = triangle.vectors(gallery[chunk]), list[NearPairs]()
        for first, last in pairwise(np.searchsorted(gallery, ends).tolist()):
            if first == last:  # no photo of this slab exists any more
                continue
            nearest = nearest_rows(vectors, triangle.vectors(gallery[first:last]), triangle.most + 1)
            hits = [
                (query, first + place, similarity)
                for query, best in zip(chunk.tolist(), nearest, strict=True)
                for place, similarity in best
                if query != first + place and similarity >= triangle.threshold
            ]
            left, right = (np.array([hit[side] for hit in hits], dtype=np.int64) for side in (0, 1))
            similarities = np.array([hit[2] for hit in hits], dtype=np.float64)
            parts.append(NearPairs(pictures[left], pictures[right], similarities))
        yield _nearest(parts, np.bincount(numbers), triangle.most)
