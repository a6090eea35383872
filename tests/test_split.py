"""The validation split never divides what hangs together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import phash_distance

from neardup.errors import TrainingError
from neardup.train.split import inseparable, split

FAR = ["0" * 16, "f" * 16, "0f" * 8, "00ff" * 4, "3" * 16, "5" * 16]
"""Hashes that are 32 bits or more apart."""

Row = tuple[str, str, str, str]
"""Caption, photo, perceptual hash and that of the mirror image."""
hashes = st.one_of(st.sampled_from(FAR), st.integers(0, 2**64 - 1).map("{:016x}".format), st.just(""))
rows = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30).map(str), hashes, hashes), min_size=1, max_size=30
)


def alike(a: Row, b: Row, bits: int) -> bool:
    """Slow and readable: whether two rows must stay together, by themselves."""
    looks = ((a[2], b[2]), (a[2], b[3]), (a[3], b[2]))
    look_alike = any(one and other and phash_distance(one, other) <= bits for one, other in looks)
    return a[0] == b[0] or a[1] == b[1] or look_alike


def sets_of(data: list[Row], bits: int) -> list[list[int]]:
    """The sets of rows that must stay together."""
    captions, photos, phashes, mirrored = zip(*data, strict=True)
    return inseparable(captions, photos, phashes, bits, mirrored=mirrored)


@given(rows, st.integers(0, 30), st.floats(0.05, 0.5), st.integers(0, 5))
def test_split_never_divides(data: list[Row], bits: int, share: float, seed: int) -> None:
    """No legend, photo or look is on both sides, each row is on one, and no side is empty."""
    sets = sets_of(data, bits)
    if len(sets) == 1:
        with pytest.raises(TrainingError):
            split(sets, share, seed)
        return
    parts = split(sets, share, seed)
    assert sorted(parts.training + parts.validation) == list(range(len(data)))
    assert parts.training
    assert parts.validation
    assert not any(alike(data[a], data[b], bits) for a in parts.training for b in parts.validation)


@given(rows, st.integers(0, 30))
def test_sets_are_the_connected_ones(data: list[Row], bits: int) -> None:
    """The sets equal those of a search that follows every link."""
    expected, left = [], set(range(len(data)))
    while left:
        found, ahead = set(), {min(left)}
        while ahead:
            row = ahead.pop()
            found.add(row)
            ahead |= {other for other in left - found if alike(data[row], data[other], bits)}
        expected.append(sorted(found))
        left -= found
    assert sets_of(data, bits) == expected


def test_share_is_kept_where_sets_are_small() -> None:
    """Of 100 sets of one, a tenth is ten."""
    assert len(split([[row] for row in range(100)], 0.1, 0).validation) == 10


def test_giant_set_goes_to_training() -> None:
    """A set that is larger than the share stays whole, in training."""
    sets = [list(range(90)), *([row] for row in range(90, 100))]
    parts = split(sets, 0.1, 0)
    assert set(range(90)) <= set(parts.training)
    assert len(parts.validation) == 9


def test_each_side_has_two_sets() -> None:
    """A contrastive loss over photos that all hang together says nothing."""
    parts = split([[0], [1], [2], [3]], 0.05, 0)
    assert (len(parts.training), len(parts.validation)) == (2, 2)


def test_two_sets_suffice() -> None:
    """The smaller one is validated on."""
    assert split([[0, 1, 2], [3]], 0.1, 0).validation == (3,)


def test_seed_decides() -> None:
    """One seed gives one split, another seed another."""
    sets = [[row] for row in range(50)]
    assert split(sets, 0.2, 3) == split(sets, 0.2, 3)
    assert split(sets, 0.2, 3) != split(sets, 0.2, 4)


def test_one_set_is_refused() -> None:
    """The sentence says what is needed."""
    with pytest.raises(TrainingError, match="all of them share a legend or a look: training needs photos"):
        split([[0, 1, 2]], 0.1, 0)
