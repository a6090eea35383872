"""Exact search: all pairs and the most similar photos equal brute force to the last bit, whatever is thrown at them."""

import math
import pickle
import sys
import tracemalloc
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from test_pair_bound import listed

from neardup.arrays import Ints, Vectors
from neardup.decide.complete_linkage import near_groups
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import Embeddings
from neardup.errors import EncoderError
from neardup.search import all_pairs as nearpairs
from neardup.search.all_pairs import PairSearch, near_pairs
from neardup.search.approximate import EFFORTS, Index, Recall, build_index, measure_recall, opened_index
from neardup.search.nearest import BLOCK, FIRST, MANY, QUERIES, nearest, nearest_rows, read_queries
from neardup.stages import digest_file

Rows = list[tuple[int, int, float]]


def similarity(a: Vectors, b: Vectors) -> float:
    """The inner product of two rows, in float64."""
    return float((a.astype(np.float64) * b).sum())


def brute_force(vectors: Vectors, threshold: float) -> Rows:
    """Every pair at or above the threshold, best first."""
    found = [(i, j, similarity(vectors[i], vectors[j])) for i, j in combinations(range(len(vectors)), 2)]
    return sorted((pair for pair in found if pair[2] >= threshold), key=lambda pair: (-pair[2], pair[0], pair[1]))


def planned(vectors: Vectors, threshold: float) -> Rows:
    """All pairs, by a plan that was made on the vectors, however few they are."""
    return listed(PairSearch.of(vectors, threshold).between(vectors, vectors, 0, 0))


def every(vectors: Vectors) -> Ints:
    """The numbers of all rows."""
    return np.arange(len(vectors))


def units(seed: int, count: int, dimension: int, fall: float = 0.0) -> Vectors:
    """Unit rows, some equal and some nearly; the variance of axis k falls as k to the power of -2 `fall`."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, dimension)) * np.arange(1, dimension + 1) ** -fall
    rows = rows[rng.integers(0, count, count)] + rng.choice([0, 1e-7, 0.05], (count, 1)) * rng.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def without_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search as on a machine whose int8 products are slow or wrong."""
    for module in (nearpairs, sys.modules["neardup.search.nearest"]):
        monkeypatch.setattr(module, "int8_pays", lambda: False)


@example(count=13, dimension=1, fall=0.0, seed=1)
@given(st.integers(1, 40), st.sampled_from([1, 2, 17, 40]), st.sampled_from([0.0, 1.0]), st.integers(0, 999))
def test_pairs_equal_brute_force(count: int, dimension: int, fall: float, seed: int) -> None:
    """All pairs are found, also at thresholds that one reaches exactly, or misses by the least step of a float64."""
    vectors = units(seed, count, dimension, fall)
    reached = [pair[2] for pair in brute_force(vectors, -2)][:: max(1, count * count // 8)]
    for threshold in (-1.0, 0.0, 0.9, 1.0, *reached, *np.nextafter(reached, 2).tolist()):
        expected = brute_force(vectors, threshold)
        assert listed(near_pairs(vectors, every(vectors), threshold)) == expected
        assert planned(vectors, threshold) == expected


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("fall", [0.0, 0.7])
def test_more_photos_than_a_block(threshold: float, fall: float) -> None:
    """All pairs of several blocks are found, whether the spectrum of the vectors is even or steep."""
    vectors = units(1, 700, 64, fall)
    expected = brute_force(vectors, threshold)
    assert listed(near_pairs(vectors, every(vectors), threshold)) == expected
    assert planned(vectors, threshold) == expected


def test_few_vectors_and_many_are_searched_alike() -> None:
    """A search is planned where that pays, and finds the same pairs as one that is not."""
    many = math.isqrt(nearpairs.FEW) + 1
    vectors = units(6, many, 64, 0.7)
    assert listed(near_pairs(vectors, every(vectors), 0.95)) == planned(vectors, 0.95)
    few = every(vectors)[: nearpairs.FEW // many - 1]
    among = [pair for pair in planned(vectors, 0.95) if min(pair[:2]) < len(few)]
    assert listed(near_pairs(vectors, few, 0.95)) == among


def test_pairs_without_int8_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fast int8 products finds the same pairs."""
    vectors = units(2, 300, 64, 0.7)
    with_int8 = planned(vectors, 0.8)
    without_int8(monkeypatch)
    assert planned(vectors, 0.8) == with_int8


@given(st.lists(st.integers(0, 60), max_size=5), st.integers(0, 999))
def test_blocks_of_a_cluster_give_the_same_pairs(cuts: list[int], seed: int) -> None:
    """However the archive is cut, a plan that was made on a part of it, and pickled, finds the pairs of all parts."""
    vectors = units(seed, 60, 20, 0.5)
    plan = pickle.loads(pickle.dumps(PairSearch.of(vectors[:9], 0.6)))  # noqa: S301 - our own
    starts = sorted({0, *cuts} - {60})
    slabs = [(start, vectors[start:end]) for start, end in zip(starts, [*starts[1:], 60], strict=True)]
    found = [
        pair
        for j, (right_start, right) in enumerate(slabs)
        for left_start, left in slabs[: j + 1]
        for pair in listed(plan.between(left, right, left_start, right_start))
    ]
    expected = near_pairs(vectors, every(vectors), 0.6)
    assert sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1])) == listed(expected)


def test_slabs_in_the_other_order_give_the_same_pairs() -> None:
    """Two parts give the same pairs in either order: the lesser row is always left."""
    vectors = units(3, 50, 8)
    plan = PairSearch.of(vectors, 0.5)
    there, back = plan.between(vectors[:20], vectors[20:], 0, 20), plan.between(vectors[20:], vectors[:20], 20, 0)
    assert listed(there) == listed(back)


def test_a_row_that_is_searched_for_twice_is_searched_for_once() -> None:
    """Neither a pair of it with itself nor the same pair again comes of it."""
    vectors = units(3, 50, 8)
    assert listed(near_pairs(vectors, np.array([7, 3, 7]), 0.5)) == listed(near_pairs(vectors, np.array([3, 7]), 0.5))


@pytest.mark.parametrize("shape", [(0, 0), (0, 8), (1, 8)])
def test_too_few_photos_make_no_pair(shape: tuple[int, int]) -> None:
    """One photo, or none, is searched without an error."""
    vectors = np.full(shape, 8**-0.5, np.float32)
    assert listed(near_pairs(vectors, every(vectors), 0.0)) == []


@pytest.mark.parametrize("threshold", [-1.0, 0.5, 1.0])
def test_equal_photos_are_all_pairs(threshold: float) -> None:
    """Equal photos, whose vectors have no variance for components to explain, are all found."""
    vectors = np.tile(np.eye(1, 30, dtype=np.float32), (70, 1))
    expected = brute_force(vectors, threshold)
    assert listed(near_pairs(vectors, every(vectors), threshold)) == expected
    assert planned(vectors, threshold) == expected


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, 3.0])
def test_what_is_no_unit_vector_is_one_sentence(wrong: float) -> None:
    """The message names the row, whether or not it is in the sample that the search is planned on."""
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (9, 1))
    plan = PairSearch.of(vectors, 0.5)
    vectors[7, 0] = wrong
    with pytest.raises(EncoderError, match=r"vector 7 has length .* instead of 1"):
        near_pairs(vectors, every(vectors), 0.5)
    with pytest.raises(EncoderError, match=r"vector 7 has length .* instead of 1"):
        plan.between(vectors, vectors, 0, 0)
    with pytest.raises(EncoderError, match=r"vector 7 has length .* instead of 1"):
        PairSearch.of(vectors, 0.5)


def test_progress_adds_up_to_all_pairs() -> None:
    """The pairs that are reported add up to all there are, in several steps."""
    vectors, told = units(4, 1300, 4), list[int]()
    near_pairs(vectors, every(vectors), 0.99999, report=told.append)
    assert sum(told) == 1300 * 1299 // 2
    assert len(told) > 1


def test_pairs_of_a_memory_map(tmp_path: Path) -> None:
    """Pairs and groups of a memory map are those of the array in it."""
    vectors, path = units(5, 80, 16), tmp_path / "v.npy"
    np.save(path, vectors)
    mapped = np.load(path, mmap_mode="r")
    pairs = near_pairs(mapped, every(mapped), 0.8)
    assert listed(pairs) == brute_force(vectors, 0.8)
    assert near_groups(pairs, mapped, 0.8).tolist() == near_groups(pairs, vectors, 0.8).tolist()


def test_groups_are_numbered_chain_by_chain() -> None:
    """Groups are numbered from 0 without a gap, and a photo in no pair has none."""
    angles = np.array([0, 0.01, 1.5, 3.0, 3.01])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    groups = near_groups(near_pairs(vectors, every(vectors), 0.99), vectors, 0.99)
    assert groups.tolist() == [0, 0, -1, 1, 1]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_hits_equal_brute_force(count: int, top: int, seed: int) -> None:
    """Hits are best first, equally similar ones by path, with their float64 similarity."""
    vectors, queries = units(seed, count, 12), units(seed + 1, 5, 12)
    check_hits(queries, vectors, top)


@pytest.mark.parametrize(("count", "dimension", "fall"), [(130, 6, 0.0), (300, 6, 0.0), (300, 40, 0.7), (300, 1, 0.0)])
def test_hits_of_several_blocks_equal_brute_force(count: int, dimension: int, fall: float) -> None:
    """Hits of few queries and of many among more photos than one block holds, the least similar of which come first."""
    vectors = units(6, 9000, dimension, fall)
    queries = units(7, count, dimension, fall)
    check_hits(queries, vectors[np.argsort(vectors @ queries[0])], 3)


@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from([1, 2, 17, 40]), st.integers(0, 99))
def test_hits_by_whole_numbers_equal_brute_force(count: int, top: int, dimension: int, seed: int) -> None:
    """Hits of many queries, where some photos are equal, and some differ by less than a float32 product can tell."""
    vectors = units(seed, count, dimension)
    check_hits(np.resize(vectors, (MANY, dimension)), vectors, top)


def test_hits_of_several_groups_of_queries_equal_brute_force() -> None:
    """Hits of more queries than are searched for at once, among more photos than one block holds."""
    check_hits(units(8, QUERIES + 300, 8), units(9, BLOCK + 100, 8), 3)


@pytest.mark.parametrize("many", [1, MANY])
def test_hits_among_many_equal_photos_equal_brute_force(many: int) -> None:
    """Most photos of several blocks are as similar as the last hit, as far as a float32 product can tell."""
    rng = np.random.default_rng(11)
    vectors = np.tile(units(12, 1, 17), (BLOCK + 900, 1)) + rng.choice([0, 3e-8], (BLOCK + 900, 17))
    vectors = vectors.astype(np.float32)
    check_hits(vectors[rng.integers(0, len(vectors), many)], vectors, 5)


def test_hits_among_equal_photos_need_no_memory_for_all_pairs() -> None:
    """Of 20,000 equal photos, each query keeps those of a block at most; all pairs would take 160 MB."""
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (20_000, 1))
    tracemalloc.start()
    hits = list(nearest_rows(vectors[:200], vectors, 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert hits == [[(0, 1.0), (1, 1.0), (2, 1.0)]] * 200
    assert peak < 160e6


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, 3.0])
def test_hits_of_what_is_no_unit_vector_are_one_sentence(wrong: float) -> None:
    """Its row is named, in the gallery or among the queries; such a row cost other hits in silence."""
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (9, 1))
    odd = vectors.copy()
    odd[7, 0] = wrong
    for queries, gallery in ((vectors, odd), (odd, vectors)):
        with pytest.raises(EncoderError, match=r"vector 7 has length .* instead of 1"):
            list(nearest_rows(queries, gallery, 3))


def test_more_hits_than_a_search_begins_with_are_found() -> None:
    """As many are asked for as there are photos but one, more than those by which the floors are set first."""
    vectors = units(10, FIRST + 40, 8)
    check_hits(vectors[:2], vectors, FIRST + 39)


def check_hits(queries: Vectors, vectors: Vectors, top: int) -> None:
    """Compare the hits with a sort of the similarities of every photo."""
    names = tuple(f"{(7 * i) % 10007:05d}.jpg" for i in range(len(vectors)))
    hashes = tuple(f"{(31 * i) % 10009:064x}" for i in range(len(vectors)))
    wide, by_name = vectors.astype(np.float64), np.array(names)
    for query, hits in zip(
        queries, nearest(queries, Embeddings(hashes, names, vectors, "f"), top, fingerprint="f"), strict=True
    ):
        similarities = (wide * query).sum(axis=1)
        last = len(names) - min(top, len(names))
        rows = np.flatnonzero(similarities >= np.partition(similarities, last)[last])
        order = rows[np.lexsort((by_name[rows], -similarities[rows]))][:top]
        expected = [(float(similarities[row]), names[row], hashes[row]) for row in order]
        assert [(hit.similarity, hit.path, hit.photo) for hit in hits] == expected


def test_queries_of_a_folder_are_its_photos_that_can_be_read(small_encoder: str, tmp_path: Path) -> None:
    """Each vector stands by the path and the content of its own file, though files between them are none."""
    encoder, said = load_encoder(small_encoder), list[str]()
    for name in ("a.png", "c.png"):
        colours = np.random.default_rng(ord(name[0])).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no photo")
    (tmp_path / "aa.png").symlink_to("/proc/self/mem")  # which fails as a broken disk does
    found = read_queries(tmp_path, encoder, said.append)
    assert found.paths == ("a.png", "c.png")
    assert found.photos == tuple(digest_file(tmp_path / path) for path in found.paths)
    for path, vector in zip(found.paths, found.vectors, strict=True):
        assert vector == pytest.approx(encoder.encode([encoder.read(tmp_path / path)])[0], abs=1e-4)
    assert sorted(sentence.split(":")[0] for sentence in said) == ["left out aa.png", "left out b.png"]


def gallery_of(vectors: Vectors) -> Embeddings:
    """Photos whose paths and whose hashes are the numbers of their rows, in two ways."""
    names = tuple(f"{row:05d}.jpg" for row in range(len(vectors)))
    return Embeddings(tuple(f"{row:064x}" for row in range(len(vectors))), names, vectors, "f")


def test_an_index_says_what_it_finds(tmp_path: Path) -> None:
    """An index that was built, or opened again, finds each photo first, and reports the recall that was measured."""
    gallery = gallery_of(units(8, 600, 16))
    file = gallery.save(tmp_path / "vectors.parquet")
    said: list[str] = []
    built = opened_index(file, gallery, 5, said.append)
    read = opened_index(file, gallery, 5, said.append)
    assert (read.recall, len(said)) == (built.recall, 3)
    assert read.graph.hnsw.efSearch == built.graph.hnsw.efSearch == read.recall.effort
    assert 0.99 <= read.recall.recall <= 1
    assert "of the 5 most similar photos, measured on 200 photos" in said[-1]
    found = read.hits(gallery.vectors[:50], gallery, 1)
    assert [hits[0].similarity for hits in found] == pytest.approx([1.0] * 50)


def test_a_hit_of_an_index_is_one_photo(tmp_path: Path) -> None:
    """Path, hash and similarity of a hit belong to the same row of the gallery."""
    gallery, queries = gallery_of(units(8, 600, 16)), units(4, 9, 16)
    index = opened_index(gallery.save(tmp_path / "v.parquet"), gallery, 5, print)
    for query, hits in zip(queries, index.hits(queries, gallery, 5), strict=True):
        assert len(hits) == 5
        for hit in hits:
            row = gallery.paths.index(hit.path)
            assert hit.photo == gallery.photos[row]
            assert hit.similarity == pytest.approx(similarity(query, gallery.vectors[row]), abs=1e-5)


def test_an_index_of_other_vectors_is_built_anew(tmp_path: Path) -> None:
    """An index is built again where the file that it lies beside was written again."""
    opened_index(gallery_of(units(8, 60, 16)).save(tmp_path / "v.parquet"), gallery_of(units(8, 60, 16)), 5, print)
    other = gallery_of(units(9, 70, 16))
    said: list[str] = []
    index = opened_index(other.save(tmp_path / "v.parquet"), other, 5, said.append)
    assert said[0].startswith("building an index of 70 photos")
    assert index.hits(other.vectors[69:], other, 1)[0][0].path == "00069.jpg"


def test_a_damaged_index_is_built_again(tmp_path: Path) -> None:
    """One changed bit, which FAISS itself would not notice, is: a sentence names the file; half a manifest is none."""
    gallery, said = gallery_of(units(8, 60, 16)), list[str]()
    file = gallery.save(tmp_path / "v.parquet")
    built = opened_index(file, gallery, 5, print)
    index, manifest = tmp_path / "v.hnsw", tmp_path / "v.hnsw.json"
    index.write_bytes(index.read_bytes()[:-1] + bytes([index.read_bytes()[-1] ^ 1]))
    assert opened_index(file, gallery, 5, said.append).recall == built.recall
    assert said[0] == f"{index} is damaged, its bytes are not those that were written: it is not used"
    assert said[1].startswith("building an index of 60 photos")
    manifest.write_bytes(manifest.read_bytes()[:20])
    assert Index.load(index, digest_file(file), print) is None


def test_an_index_that_was_measured_for_fewer_hits_is_built_again(tmp_path: Path) -> None:
    """Its recall holds for as many as it was measured for, and for fewer; all others of a small archive are enough."""
    gallery = gallery_of(units(8, 60, 16))
    file = gallery.save(tmp_path / "v.parquet")
    assert [opened_index(file, gallery, top, print).recall.top for top in (5, 9, 5)] == [5, 9, 9]
    few, said = gallery_of(units(8, 4, 16)), list[str]()
    file = few.save(tmp_path / "few.parquet")
    assert [opened_index(file, few, 9, said.append).recall.top for _ in range(2)] == [3, 3]
    assert len([line for line in said if "building" in line]) == 1


class Graph:
    """In place of FAISS's graph one that finds the nearest photos but for the last, for which it gives the farthest."""

    def __init__(self, vectors: Vectors) -> None:
        """Take the vectors that are searched."""
        self.vectors, self.hnsw = vectors, SimpleNamespace(efSearch=0)

    def search(self, queries: Vectors, top: int) -> tuple[Vectors, Ints]:
        """The similarities and rows of `top` photos for each query."""
        order = np.argsort(-(queries @ self.vectors.T), axis=1)
        rows = np.concatenate([order[:, : top - 1], order[:, -1:]], axis=1)
        return np.vecdot(queries[:, None], self.vectors[rows]), rows


def test_the_recall_counts_others_that_are_as_near_as_the_nearest() -> None:
    """Not the photo itself: of five others one is missing; a graph compares at least as many as it is asked for."""
    vectors = np.unique(units(8, 90, 16), axis=0)
    assert measure_recall(Graph(vectors), vectors, 5, 0.8, 0) == Recall(5, EFFORTS[0], 0.8, len(vectors))
    assert measure_recall(Graph(vectors), vectors, 40, 0.0, 0).effort == 41


def test_an_index_whose_writing_was_killed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its manifest would name the same vectors."""
    faiss = pytest.importorskip("faiss")
    vectors = units(8, 60, 16)
    build_index(vectors, tmp_path / "index", "digest", top=5)
    monkeypatch.setattr(faiss, "write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_index(vectors, tmp_path / "index", "digest", top=9)
    assert Index.load(tmp_path / "index", "digest", print) is None


def test_an_index_that_misses_too_much_is_refused(tmp_path: Path) -> None:
    """An index whose recall is too low is an error, and leaves no file that would be taken for one."""
    with pytest.raises(EncoderError, match="search exactly instead"):
        build_index(units(8, 300, 16), tmp_path / "index", "digest", least=1.01)
    assert Index.load(tmp_path / "index", "digest", print) is None


def test_an_index_without_faiss_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(EncoderError, match=r"make install.*pip install faiss-cpu"):
        build_index(units(8, 30, 4), tmp_path / "index", "digest")
