"""Pruning loses nothing: planned searches against brute force, and pairs for which the bound leaves no room.

Every test runs in int8 and in float32, whichever the machine would take by itself, and those of whole archives count
how often the bound decided: a search that prunes nothing is exact too, and would show nothing of the bound.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neardup.arrays import Floats, Vectors
from neardup.encode.vectors import Embeddings
from neardup.search import all_pairs as nearpairs
from neardup.search import int8_products
from neardup.search.all_pairs import DENSE, BlockSearch, PairSearch
from neardup.search.int8_products import LEAST_PEAK, LEVELS, Codes, Quantized, int8_is_exact
from neardup.search.nearest import MANY, nearest
from neardup.search.pairs import NearPairs

PLANTED = 60
"""Pairs that are planted in one block: 1 in 60 of its pairs are candidates, less than what makes it dense."""
ONE_STEP_EACH_WAY = (0.0, 2.0, -2.0)
"""Where `np.nextafter` goes from a similarity: nowhere, to the next threshold that it misses, to the one before."""


@dataclass
class Decisions:
    """How often the bound decided in the blocks of a search."""

    blocks: int = 0
    decided: int = 0
    pairs: int = 0
    candidates: int = 0


@pytest.fixture(params=["int8", "float32"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The type in which sketches are multiplied, forced.

    Where the machine's int8 products are wrong or slow, so that no search takes them, codes are multiplied as float64,
    which holds their sums exactly: ten times as fast.
    """

    def multiply(left: Codes, right: Codes, products: np.ndarray) -> None:
        wide = np.float64 if left.dtype == np.int8 else np.float32
        products[...] = left.astype(wide) @ right.astype(wide).T

    for module in (nearpairs, sys.modules["neardup.search.nearest"]):
        monkeypatch.setattr(module, "int8_pays", lambda: request.param == "int8")
        if not int8_products.int8_pays():
            monkeypatch.setattr(module, "multiply", multiply)
    return str(request.param)


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Decisions:
    """A count of what the bound decides, in all searches of a test."""
    counts = Decisions()
    candidates, pairs = BlockSearch.candidates, BlockSearch.pairs

    def counted_candidates(search: BlockSearch, rows: slice, columns: slice) -> np.ndarray:
        found = candidates(search, rows, columns)
        pairs = len(search.left.rows[rows]) * len(search.right.rows[columns])
        counts.pairs += pairs
        counts.candidates += len(found)
        counts.decided += len(found) <= DENSE * pairs
        return found

    def counted_blocks(search: BlockSearch, rows: slice, columns: slice) -> NearPairs:
        counts.blocks += 1
        return pairs(search, rows, columns)

    monkeypatch.setattr(BlockSearch, "candidates", counted_candidates)
    monkeypatch.setattr(BlockSearch, "pairs", counted_blocks)
    return counts


def units(rows: Floats) -> Vectors:
    """The rows as float32 unit rows."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def archive(count: int, dimension: int) -> Vectors:
    """Unit rows like an encoder's: a common direction, scenes of photos that are alike, a spectrum that decays."""
    rng = np.random.default_rng(dimension)
    scales = np.arange(1, dimension + 1) ** -0.7
    scenes = rng.normal(size=(40, dimension))
    rows = 0.4 * scenes[rng.integers(0, 40, count)] + 0.9 * rng.normal(size=(count, dimension))
    rows = rows * scales + 0.8 * np.linalg.norm(scales) / dimension**0.5
    return units(rows @ np.linalg.qr(rng.normal(size=(dimension, dimension)))[0])


def exact(left: Vectors, right: Vectors) -> Floats:
    """The similarity of each left row with the right row beside it, in float64."""
    return np.asarray((left.astype(np.float64) * right).sum(axis=1))


def listed(pairs: NearPairs) -> list[tuple[int, int, float]]:
    """The pairs as tuples."""
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarities.tolist(), strict=True))


@pytest.mark.parametrize(
    ("dimension", "share"), [(64, 3e-6), (128, 3e-6), (512, 3e-6), (512, 3e-5), (1024, 3e-6), (1024, 3e-5)]
)
def test_planned_searches_equal_brute_force(dimension: int, share: float, dtype: str, decisions: Decisions) -> None:
    """At thresholds where the mass of the similarities ends, which a pair reaches exactly or misses by one step.

    In every block the bound decided: it pruned 97 of 100 pairs and more, and left more than those that are found.
    """
    vectors = archive(2048, dimension)
    wide = vectors.astype(np.float64)
    i, j = np.triu_indices(len(vectors), 1)
    rough = (wide @ wide.T)[i, j]
    near = rough >= np.sort(rough)[-round(share * len(rough)) - 1] - 1e-3
    i, j = i[near], j[near]
    similarities = exact(vectors[i], vectors[j])
    threshold = float(np.sort(similarities)[-round(share * len(rough))])
    plan = PairSearch.of(vectors, threshold)
    assert plan.planned
    found = 0
    for way in ONE_STEP_EACH_WAY:
        moved = float(np.nextafter(threshold, threshold + way))
        kept = similarities >= moved
        pairs = replace(plan, threshold=moved).between(vectors, vectors, 0, 0)
        assert listed(pairs) == listed(NearPairs(i[kept], j[kept], similarities[kept]).sorted())
        found += len(pairs.left)
    assert (decisions.blocks, decisions.decided) == (3 * 4, decisions.blocks)
    assert 2 * found < decisions.candidates < DENSE * decisions.pairs
    assert plan.sketch(vectors[:9], np.arange(9)).sketches.codes.dtype == dtype


def badly_rounded(width: int, seed: int) -> tuple[Floats, Floats]:
    """Planted pairs of unit rows (PLANTED + 1, width) that int8 rounds as badly as it can, each towards zero.

    All numbers are of a size, just below the middle of two codes, so that the rounding errors point along the rows and
    are as great as they can be; signs differ from pair to pair. The last row of each side is no pair: its greatest
    number is the greatest code, which sets the scale of all.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(114, 127, width) + 0.499
    signs = rng.choice([-1.0, 1.0], (PLANTED + 1, width))
    left, right = (signs * rng.permuted(np.tile(sizes, (PLANTED + 1, 1)), axis=1) for _ in range(2))
    left[-1], right[-1] = left[-1] * 0 + sizes, right[-1] * 0 - sizes
    left[-1, 0], right[-1, 0] = 127, -127
    length = np.linalg.norm(sizes)
    return left / length, right / length


def planted(dimension: int, width: int, seed: int) -> tuple[PairSearch, Vectors, Vectors]:
    """A plan, and pairs whose bound is their similarity: their sketches are rounded badly, their residuals parallel."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    plan = PairSearch(0.0, axes[:, : width - 1], nearpairs._rotation(width))
    sketches = [side @ plan.rotation.T for side in badly_rounded(width, seed)]
    outside = rng.normal(size=(PLANTED + 1, dimension - width + 1)) @ axes[:, width - 1 :].T
    outside /= np.linalg.norm(outside, axis=1, keepdims=True)
    positive = (sketches[0][:, -1] > 0) & (sketches[1][:, -1] > 0)
    negative = (sketches[0][:, -1] < 0) & (sketches[1][:, -1] < 0)
    kept = positive | negative  # a residual has no sign, so that both of a pair must have the same one: it is turned
    kept[-1] = True
    sides = []
    for side in sketches:
        turned = np.where(side[:, -1:] < 0, -side, side)[kept]
        sides.append((turned[:, :-1] @ plan.components.T + turned[:, -1:] * outside[kept]).astype(np.float32))
    return plan, sides[0], sides[1]


SHAPES = [(24, 16), (32, 32), (64, 32), (64, 64), (256, 64), (1024, 128)]
"""Dimensions of vectors, and widths of their sketches."""


@pytest.mark.parametrize(("dimension", "width"), SHAPES)
def test_pairs_whose_bound_is_tight_are_found(dimension: int, width: int, dtype: str, decisions: Decisions) -> None:
    """A threshold that one of them reaches exactly, or misses by one step, and the steps on both sides of it."""
    plan, left, right = planted(dimension, width, 0)
    count = len(left)
    everyone = (left.astype(np.float64)[:, None] * right).sum(axis=2)
    pairs = np.diag(everyone)[:-1]
    assert len(pairs) > PLANTED / 2
    for similarity in pairs:
        for way in ONE_STEP_EACH_WAY:
            search = replace(plan, threshold=float(np.nextafter(similarity, similarity + way)))
            i, j = np.nonzero(everyone >= search.threshold)
            expected = NearPairs(i, j + count, everyone[i, j]).sorted()
            assert listed(search.between(left, right, 0, count)) == listed(expected)
    assert decisions.decided == decisions.blocks == 3 * len(pairs)
    assert plan.sketch(left, np.arange(9)).sketches.codes.dtype == dtype


@pytest.mark.parametrize(("dimension", "width"), SHAPES)
def test_the_planted_bound_is_tight(dimension: int, width: int, dtype: str) -> None:
    """What the test before this one rests on: a limit that is higher by little loses pairs.

    That is twice the slack in float32, 8e-6 at 24 dimensions; in int8 it is 1e-4 more, of which most is the square of
    the rounding error.
    """
    plan, left, right = planted(dimension, width, 0)
    sides = [plan.sketch(side, np.arange(len(side))) for side in (left, right)]
    quantized = [side.sketches for side in sides]
    products = np.vecdot(*(side.codes.astype(np.float64) for side in quantized))[:-1]
    steps = quantized[0].scale * quantized[1].scale
    for product, similarity in zip(products, exact(left, right)[:-1], strict=True):
        limit = plan.limits(*sides, float(similarity))
        assert 0 <= (product - limit) * steps < 2 * plan.slack + (1e-4 if dtype == "int8" else 1e-6)


NUMBERS = st.floats(-2, 2, width=32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.float32, (7, 5), elements=NUMBERS), arrays(np.float32, (4, 5), elements=NUMBERS))
def test_no_product_of_codes_is_below_its_limit(left: Vectors, right: Vectors) -> None:
    """Rows of any length, of zeros, of negative numbers alone: the limit of their own inner product is reached."""
    for quantize in (Quantized.to_int8, Quantized.as_float32):
        first, second = quantize(left), quantize(right)
        products = first.codes.astype(np.float64) @ second.codes.astype(np.float64).T
        similarities = left.astype(np.float64) @ right.astype(np.float64).T
        assert (products >= first.limits(second, similarities - 1e-5)).all()


def test_limits_beyond_any_product_are_those_of_int32() -> None:
    """A floor of minus infinity lets everything pass, one of plus infinity nothing."""
    rows = Quantized.to_int8(np.full((2, 3), -0.5, np.float32))
    assert rows.limits(rows, np.array([-np.inf, np.inf])).tolist() == [-(2**31), 2**31 - 1]


def test_the_error_is_the_greatest_of_all_rows() -> None:
    """Some thousands are quantised at a time: the first part counts as the last one does, which has no error here."""
    rows = np.zeros((int8_products.CHUNK + 1, 1), np.float32)
    rows[0], rows[-1] = 0.4 / LEVELS, 1
    assert Quantized.to_int8(rows).error == pytest.approx(0.4 / LEVELS)


def test_the_limit_holds_where_codes_are_longer_than_their_row() -> None:
    """The left row is rounded away from zero along the right one, whose own error points along the left row's codes."""
    step = LEAST_PEAK / LEVELS
    left, right = (Quantized.to_int8(np.full((1, 2), steps * step, np.float32)) for steps in (0.6, -10.52))
    assert (left.codes.tolist(), right.codes.tolist()) == ([[1, 1]], [[-11, -11]])
    assert left.limits(right, (2 * 0.6 * -10.52 - 0.01) * step**2) == -22


def test_codes_go_as_far_below_zero_as_above() -> None:
    """The scale is set by the greatest number of either sign."""
    rows = Quantized.to_int8(np.array([[-0.8, 0.2], [0.4, -0.1]], np.float32))
    assert rows.codes.tolist() == [[-127, 32], [64, -16]]


def names(count: int) -> tuple[str, ...]:
    """Paths in the order of the rows."""
    return tuple(f"{row:05d}.jpg" for row in range(count))


def found_rows(queries: Vectors, vectors: Vectors, top: int) -> list[list[int]]:
    """The rows of the hits of each query."""
    gallery = Embeddings(names(len(vectors)), names(len(vectors)), vectors, "f")
    hits = nearest(queries, gallery, top, fingerprint="f")
    return [[int(hit.path.removesuffix(".jpg")) for hit in found] for found in hits]


@pytest.mark.usefixtures("dtype")
def test_the_nearest_photo_is_found_where_the_bound_is_tight() -> None:
    """Queries and photos that int8 rounds as badly as it can, each with a partner that is the only one near it."""
    pairs = [badly_rounded(64, seed) for seed in range(MANY // PLANTED + 1)]
    for left, right in pairs:
        queries = np.resize(units(left), (MANY, 64))
        expected = [[int(np.argmax(units(right).astype(np.float64) @ query))] for query in queries]
        assert found_rows(queries, units(right), 1) == expected
        assert [row for (row,) in expected[:PLANTED]] == list(range(PLANTED))


@pytest.mark.usefixtures("dtype")
@pytest.mark.parametrize("count", [1, 5, MANY])
def test_photos_that_float32_cannot_order_are_ordered(count: int) -> None:
    """Three thousand photos that differ from each other by the rounding of a float32 product, or less."""
    rng = np.random.default_rng(5)
    vectors = units(rng.normal(size=64) + 1e-5 * rng.normal(size=(3000, 64)))
    queries = vectors[rng.permutation(3000)[:count]]
    expected = [np.argsort(-(vectors.astype(np.float64) * query).sum(axis=1), kind="stable")[:7] for query in queries]
    assert found_rows(queries, vectors, 7) == [rows.tolist() for rows in expected]


@pytest.mark.usefixtures("dtype")
def test_the_least_unlike_photo_is_found() -> None:
    """Where all similarities are negative, the limits are, too."""
    rng = np.random.default_rng(6)
    vectors = units(rng.normal(size=64) + 0.3 * rng.normal(size=(3000, 64)))
    queries = -vectors[:MANY]
    expected = [np.argsort(-(vectors.astype(np.float64) * query).sum(axis=1))[:3].tolist() for query in queries]
    assert found_rows(queries, vectors, 3) == expected


def test_int8_products_are_taken_only_where_they_are_exact() -> None:
    """A machine that is fast and wrong is taken for slow."""
    assert not int8_products.int8_pays() or int8_is_exact()
