"""The near pairs of the photos of a folder, as the search of a whole collection found them."""

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
    """Files as pictures, where those of equal bytes or of equal vectors are one, and the near pairs of pictures.

    Attributes:
        contents: int64 (n,), key of each file's content, as `content_keys` gives it.
        rows: int64 (n,), row of the search that has each file's vector.
        numbers: int64 (n,), each file's picture.
        near: pairs of pictures that have a file, at the threshold; of the nearest alone where these are searched for.
    """

    contents: Ints
    rows: Ints
    numbers: Ints
    near: NearPairs

    def related(self) -> Bools:
        """Which files are in a pair, or have a picture of several files: bool (n,)."""
        paired, files = np.union1d(self.near.left, self.near.right), np.bincount(self.numbers)
        return np.asarray(np.isin(self.numbers, paired) | (files[self.numbers] > 1))

    def take(self, files: Ints) -> "Pictures":
        """Some of the files in another order; all files of the pairs must be among them."""
        return Pictures(self.contents[files], self.rows[files], self.numbers[files], self.near)

    @cached_property
    def first_files(self) -> tuple[Ints, NearPairs]:
        """The first file of each file's picture, int64 (n,), and the pairs of such first files, best first."""
        return by_first_file(self.numbers, self.near)

    def of_files(self) -> tuple[NearPairs, Ints]:
        """All pairs of files, best first, and what each is, an index of `KINDS`; copies make a pair with the first."""
        first, near = self.first_files
        return with_copies(near, first, first_of(self.contents))


def pictures_in(triangle: Triangle, contents: Ints) -> Pictures:
    """The pictures of some files, and which of them are near each other.

    The store may hold other photos as well, those that are gone from the folder or those of another folder. They are
    in no pair, and none of the nearest photos of those that are asked for is lost by them.

    Args:
        triangle: searched to its end; its store has a vector of each file.
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
    """The nearest pairs of pictures among those of all blocks, and the pictures that lack some, as `_starved` says.

    Each block gave the nearest ones of its own, a hundred blocks twenty times as many as are left: they are read one
    after the other, and what is not among the nearest so far is left out.
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
    """The nearest pairs of pictures, each once, best first; two blocks may have given the same one."""
    return between_pictures(joined(parts), np.arange(len(files)), files).sorted().nearest(most)


def _starved(pairs: NearPairs, picture_of_row: Ints, files: Ints) -> Ints:
    """The pictures whose nearest ones are not known, for a block kept others in place of them.

    These have no file, or are the picture itself, whose vectors two workers made with a bit that differs.

    Args:
        pairs: of rows, as all blocks gave them.
        picture_of_row: int64 (n,).
        files: int64 (n,), how many each picture has.

    Returns:
        int64 (m,), numbers of pictures that have a file, ordered.
    """
    left, right = picture_of_row[pairs.left], picture_of_row[pairs.right]
    lost = np.concatenate([left[files[right] == 0], right[files[left] == 0], left[left == right]])
    return np.unique(lost[files[lost] > 0])


def _nearest_of(triangle: Triangle, searched: Ints, numbers: Ints, rows: Ints) -> Iterator[NearPairs]:
    """Search for the nearest of some pictures among all that have a file; two slabs of vectors are in memory.

    What each slab gave for some pictures is cut to the nearest of all slabs before the next pictures are searched for.

    Args:
        triangle: which holds the vectors, and says how many nearest ones there are.
        searched: int64 (m,), the pictures.
        numbers: int64 (n,), the picture of each file.
        rows: int64 (n,), where each file's vector is.

    Yields:
        Pairs of pictures, the nearest ones of up to `SLAB` pictures.
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
            if first == last:  # no photo of this slab is there any more
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
