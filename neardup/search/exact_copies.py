"""Files as pictures: files of equal content or with equal vectors are one picture, and the first stands for it."""

import numpy as np

from neardup.arrays import Ints
from neardup.encode.shards import among
from neardup.errors import ArchiveError
from neardup.graphs import components
from neardup.search.pairs import NearPairs
from neardup.words import counted

KINDS = ("similar", "equal vectors", "exact copy")
"""Kinds of pairs of files: two pictures, one picture (to the encoder) in different bytes, or the same bytes."""
NEAR, EQUAL, COPY = range(len(KINDS))
"""Indices of the kinds in `KINDS`, as arrays hold them."""


def pictures_of(contents: Ints, equal: Ints) -> Ints:
    """Number the pictures: rows of equal content, or with equal vectors, are one picture.

    Args:
        contents: int64 (n,), the content's key of each row; two workers may have encoded the same content.
        equal: int64 (2, m), pairs of rows with equal vectors.

    Returns:
        int64 (n,), each row's picture, numbered from 0 without gaps.
    """
    first, rows = first_of(contents), np.arange(len(contents))
    left, right = np.concatenate([equal, np.stack([first, rows])[:, first != rows]], axis=1)
    return components(len(rows), left, right)


def first_of(values: Ints) -> Ints:
    """Find, for each index, the first index with the same value: int64 (n,)."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[which], dtype=np.int64)


def rows_of(contents: Ints, contents_of_rows: Ints) -> Ints:
    """Find the first row that holds the vector of each content: int64 (n,).

    Args:
        contents: int64 (n,), the contents' keys to look for.
        contents_of_rows: int64 (m,), the content's key of each row.

    Raises:
        ArchiveError: no row holds one of the contents, because a shard was deleted while the photos were searched.
    """
    keys, firsts = np.unique(contents_of_rows, return_index=True)
    lost = int(np.count_nonzero(~among(contents, keys)))
    if lost:
        raise ArchiveError(
            f"the vectors of {counted(lost, 'photo')} went away while they were searched: run the same command again, "
            "which encodes what lacks"
        )
    return np.asarray(firsts[np.searchsorted(keys, contents)], dtype=np.int64)


def between_pictures(pairs: NearPairs, picture_of_row: Ints, files: Ints) -> NearPairs:
    """Turn pairs of rows into pairs of pictures, each once, and keep those whose pictures have a file.

    Two workers' vectors of one content may differ in a bit; such a pair is dropped, as no photo is its own duplicate,
    and of several similarities of two pictures the greatest counts.

    Args:
        pairs: pairs of rows.
        picture_of_row: int64 (n,), the picture of each row.
        files: int64 (n,), how many files each picture has.
    """
    ends = np.sort(picture_of_row[np.stack([pairs.left, pairs.right])], axis=0)
    order = np.lexsort((-pairs.similarities, ends[1], ends[0]))
    once = np.unique((ends[0] * len(files) + ends[1])[order], return_index=True)[1]
    near = NearPairs(ends[0], ends[1], pairs.similarities).take(order[once])
    return near.take((near.left != near.right) & (files[near.left] > 0) & (files[near.right] > 0))


def by_first_file(pictures: Ints, near: NearPairs) -> tuple[Ints, NearPairs]:
    """Replace each picture by its first file.

    Args:
        pictures: int64 (n,), the picture of each file.
        near: pairs of pictures that have files.

    Returns:
        int64 (n,), the file that stands for each file's picture, and the pairs of such files, best first.
    """
    numbers, first = np.unique(pictures, return_index=True)
    ends = np.sort(first[np.searchsorted(numbers, np.stack([near.left, near.right]))], axis=0)
    return first_of(pictures), NearPairs(ends[0], ends[1], near.similarities).sorted()


def with_copies(near: NearPairs, first: Ints, first_of_content: Ints) -> tuple[NearPairs, Ints]:
    """Add a pair for each further file of a picture.

    Args:
        near: pairs of files that stand for pictures.
        first: int64 (n,), the file that stands for each file's picture.
        first_of_content: int64 (n,), the first file that has each file's bytes.

    Returns:
        All pairs, best first, and int64 (m,), the kind of each, an index of `KINDS`.
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
