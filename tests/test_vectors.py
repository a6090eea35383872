"""Vectors are made once a photo and encoder, kept whole, never mixed; search is exact."""

import hashlib
import os
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neardup.archive.walk import Skipped
from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.encode.encoder import BATCH, load_encoder
from neardup.encode.shards import SHARDS, encode_into, known_files, mark_of
from neardup.encode.store import Store
from neardup.encode.vectors import Embeddings, embed, embed_photos, folder_of, stored_vectors
from neardup.errors import ArchiveError, EncoderError, UnreadableImageError
from neardup.images import MAX_BYTES, MAX_PIXELS, read_image, require_enlargeable
from neardup.search.nearest import Hit, mark_itself, nearest, read_queries
from neardup.stages import digest_file


class Tones:
    """An encoder that can be computed by hand: the mean red, green and blue, as a unit vector."""

    name = "tones"
    dimension = 3

    def __init__(self, fingerprint: str = "tones") -> None:
        """Nothing encoded yet."""
        self.fingerprint = fingerprint
        self.encoded = 0

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Float32 (n, 3)."""
        self.encoded += len(images)
        means = np.array([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) + 1 for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five photos, two of equal bytes."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Scene.of(i).image.save(folder / f"{i}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    return folder


NAMES = ("0.png", "1.png", "copy.png", "2.png", "3.png")


def items_of(folder: Path) -> list[tuple[str, str]]:
    """The photos of a folder, each with its digest."""
    return [(name, digest_file(folder / name)) for name in NAMES]


def test_a_content_is_encoded_once(photos: Path, tmp_path: Path) -> None:
    """Equal bytes under two names, and a second call: no second look."""
    encoder = Tones()
    first = embed_photos(items_of(photos), photos, encoder, store=tmp_path)
    second = embed_photos(items_of(photos), photos, encoder, store=tmp_path)
    assert (encoder.encoded, first.vectors.tobytes()) == (4, second.vectors.tobytes())


def test_rows_are_in_the_order_of_the_items(photos: Path, tmp_path: Path) -> None:
    """Whatever the store's order is."""
    made = embed_photos(items_of(photos), photos, Tones(), store=tmp_path)
    expected = Tones().encode([read_image(photos / path) for path in NAMES])
    assert (made.paths, made.vectors.tobytes()) == (NAMES, expected.tobytes())


def test_a_killed_encoding_goes_on(photos: Path, tmp_path: Path) -> None:
    """What was stored before is not encoded again; what was left half-written, days ago, is deleted."""
    embed_photos(items_of(photos)[:2], photos, Tones(), store=tmp_path)
    half = tmp_path / Tones().fingerprint / ".shard-000256-0.12-34.part.parquet"
    half.touch()
    os.utime(half, (0, 0))
    encoder = Tones()
    embed_photos(items_of(photos), photos, encoder, store=tmp_path)
    assert (encoder.encoded, half.exists()) == (2, False)


def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    """What was read and is no photo is known; what a disk did not give is not."""
    (tmp_path / "shut.png").mkdir()
    (tmp_path / "none.png").write_bytes(b"no photo")
    store = Store(str(tmp_path / "store"))
    assert encode_into(store, Tones(), tmp_path, ("none.png", "shut.png"), MAX_PIXELS).unreadable == 2
    assert known_files(store, MAX_PIXELS).tolist() == [mark_of(tmp_path, "none.png")]


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    """It is refused by its size; its bytes would fill the memory."""
    (tmp_path / "huge.tif").touch()
    os.truncate(tmp_path / "huge.tif", MAX_BYTES + 1)
    store = Store(str(tmp_path / "store"))
    assert encode_into(store, Tones(), tmp_path, ("huge.tif",), MAX_PIXELS).unreadable == 1
    assert known_files(store, MAX_PIXELS).tolist() == [mark_of(tmp_path, "huge.tif")]


def test_another_encoder_starts_anew(photos: Path, tmp_path: Path) -> None:
    """Its vectors lie apart."""
    embed_photos(items_of(photos), photos, Tones("one"), store=tmp_path)
    encoder = Tones("two")
    embed_photos(items_of(photos), photos, encoder, store=tmp_path)
    assert encoder.encoded == 4


def test_a_content_under_another_path_is_not_encoded_again(photos: Path, tmp_path: Path) -> None:
    """Nor in another folder: the store goes by bytes."""
    first = embed_photos(items_of(photos), photos, Tones(), store=tmp_path / "store")
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.png").write_bytes((photos / "1.png").read_bytes())
    encoder = Tones()
    again = embed_photos(
        [("renamed.png", digest_file(photos / "1.png"))], other, encoder, store=str(tmp_path / "store")
    )
    assert (encoder.encoded, again.vectors.tobytes()) == (0, first.vectors[1].tobytes())


def test_a_mark_is_that_of_place_size_and_times(tmp_path: Path) -> None:
    """A file of another folder, length or time is not taken for one that is known, nor one whose time was put back."""
    for name, data in (("a/x", b"1"), ("b/x", b"1"), ("a/y", b"1"), ("a/long", b"12"), ("a/late", b"1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, ns=(0, int(name == "a/late")))
    marks = [mark_of(tmp_path / folder, name) for folder, name in (("a", "x"), ("b", "x"), ("a", "y"))]
    for changed in ("long", "late"):
        (tmp_path / "a" / changed).rename(tmp_path / "a" / "x")
        marks.append(mark_of(tmp_path / "a", "x"))
    assert len(set(marks)) == 5
    assert mark_of(tmp_path / "a", "x") == marks[-1]
    (tmp_path / "a" / "x").write_bytes(b"2")
    os.utime(tmp_path / "a" / "x", ns=(0, 1))
    assert mark_of(tmp_path / "a", "x") != marks[-1]


def test_every_pass_has_the_batch_of_the_store(photos: Path, small_encoder: str, tmp_path: Path) -> None:
    """Whatever the encoder's own is; that one stays as it is."""
    encoder = load_encoder(small_encoder, "cpu")
    Store(str(tmp_path)).under(encoder.fingerprint).note("batch", 3)
    shapes: list[int] = []
    encoder._model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(len(given["pixel_values"])), with_kwargs=True
    )
    embed_photos(items_of(photos), photos, encoder, store=tmp_path)
    assert (set(shapes), encoder.batch) == ({3}, BATCH)


def test_a_photo_that_changed_meanwhile_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    """Its vector is not kept as that of the bytes that were there."""
    with pytest.raises(ArchiveError, match=r"0\.png changed while the folder was read"):
        embed_photos([("0.png", digest_file(photos / "1.png"))], photos, Tones(), store=tmp_path)


class Cropping(Tones):
    """An encoder that enlarges the shorter side to 224 pixels."""

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode, and refuse what is too thin."""
        image = super().read(source, max_pixels)
        require_enlargeable(image, 224)
        return image


def test_what_only_the_encoder_refuses_is_left_out_with_a_warning(photos: Path, tmp_path: Path) -> None:
    """A strip is too thin for an encoder that crops; the others are embedded, with a store and without one."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    Image.new("RGB", (60_000, 1)).save(folder / "a strip.png")
    (folder / "copy of the strip.png").write_bytes((folder / "a strip.png").read_bytes())
    for store in (None, tmp_path / "store"):
        with pytest.warns(UserWarning, match="strip.png: a picture of 60000 x 1 pixels is too thin") as told:
            found = embed(folder, Cropping(), store)
        assert {warning.filename for warning in told} == {__file__}
        assert [str(warning.message).partition(":")[0] for warning in told] == [
            "left out a strip.png",
            "left out copy of the strip.png",
        ]
        assert found.paths == ("0.png", "1.png", "2.png", "3.png", "copy.png")
        assert found.vectors.shape == (5, 3)


def test_a_photo_that_vanishes_before_it_is_encoded_is_left_out(photos: Path, tmp_path: Path) -> None:
    """Where the caller takes what is left out; the rows of the others are theirs."""
    folder, left_out = shutil.copytree(photos, tmp_path / "photos"), list[Skipped]()
    items = items_of(folder)
    (folder / "1.png").unlink()
    found = embed_photos(items, folder, Tones(), store=tmp_path / "store", left_out=left_out)
    assert left_out == [Skipped("1.png", "the file is gone")]
    others = [item for item in items if item[0] != "1.png"]
    expected = embed_photos(others, photos, Tones(), store=tmp_path / "other")
    assert (found.paths, found.photos) == (expected.paths, expected.photos)
    assert found.vectors.tolist() == expected.vectors.tolist()


def test_a_photo_that_is_none_is_an_error(photos: Path, tmp_path: Path) -> None:
    """The others of its shard are kept."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError):
        embed_photos(items_of(folder), folder, Tones(), store=tmp_path / "store")
    encoder = Tones()
    embed_photos(items_of(folder)[:4], folder, encoder, store=tmp_path / "store")
    assert encoder.encoded == 0


def former_store(folder: Path, vectors: Vectors, batch: int | None) -> Store:
    """What version 1 left of the five photos: tables of vectors, pairs, and perhaps the batch of another command."""
    store = Store(str(folder)).under("tones")
    for number, (path, photo) in enumerate(dict(items_of(folder.parent / "photos")).items()):
        table = Embeddings((photo,), (path,), vectors[number : number + 1], "tones").table()
        store.write(f"part-{number:016d}", table)
    store.write("pairs-0000-0000", pa.table({"left": [0], "right": [1], "similarity": [1.0]}))
    if batch:
        store.note("batch", batch)
    return store


@pytest.mark.parametrize(("batch", "encoded"), [(None, 0), (BATCH, 0), (32, 4)])
def test_a_store_of_a_former_version_is_used_or_made_anew(
    photos: Path, tmp_path: Path, batch: int | None, encoded: int
) -> None:
    """Its vectors are used if their passes had one size; one line says what happened, once."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    expected = embed_photos(items_of(folder), folder, Tones(), store=tmp_path / "new")
    store, encoder = former_store(tmp_path / "store", expected.vectors, batch), Tones()
    with pytest.warns(UserWarning, match="is of a former version") as said:
        made = embed_photos(items_of(folder), folder, encoder, store=tmp_path / "store")
    assert (len(said), "made anew" in str(said[0].message)) == (1, encoded > 0)
    assert (encoder.encoded, made.vectors.tobytes()) == (encoded, expected.vectors.tobytes())
    assert (store.names("part-"), store.names("pairs-")) == ([], [])
    embed_photos(items_of(folder), folder, encoder, store=tmp_path / "store")
    assert encoder.encoded == encoded


def test_a_store_of_a_later_version_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    """Nothing is written into it."""
    Store(str(tmp_path)).under("tones").note("format", 99)
    with pytest.raises(ArchiveError, match="a later version of neardup wrote the store"):
        embed_photos(items_of(photos), photos, Tones(), store=tmp_path)


def test_the_vectors_of_a_store_are_a_gallery(photos: Path, tmp_path: Path) -> None:
    """Each content once, though two workers encoded it, ordered by path; none of the encoder is one sentence."""
    made = embed_photos(items_of(photos), photos, Tones(), store=tmp_path)
    again = Embeddings(made.photos[1:2], ("0 again.png",), made.vectors[1:2], "tones").table()
    Store(str(tmp_path)).under("tones").write(f"{SHARDS}000001-another-worker", again)
    stored = stored_vectors(str(tmp_path), "tones")
    rows = [made.photos.index(photo) for photo in stored.photos]
    assert sorted(stored.photos) == sorted(set(made.photos))
    assert list(stored.paths) == sorted(stored.paths)
    assert stored.vectors.tobytes() == made.vectors[rows].tobytes()
    with pytest.raises(ArchiveError, match="no vectors of the encoder other"):
        stored_vectors(str(tmp_path), "other")


def test_save_and_load_are_equal(photos: Path, tmp_path: Path) -> None:
    """Ids, paths, bits and fingerprint."""
    made = embed_photos(items_of(photos), photos, Tones(), store=tmp_path / "store")
    read = Embeddings.load(made.save(tmp_path / "vectors.parquet"))
    assert (read.photos, read.paths, read.fingerprint) == (made.photos, made.paths, made.fingerprint)
    assert read.vectors.tobytes() == made.vectors.tobytes()


def test_the_file_is_what_was_promised(photos: Path, tmp_path: Path) -> None:
    """Columns `photo`, `path` and `vector`, the last of float32."""
    table = pq.read_table(embed_photos(items_of(photos), photos, Tones(), store=tmp_path).save(tmp_path / "v.parquet"))
    assert table.column_names == ["photo", "path", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 3)


def test_vectors_of_two_encoders_are_never_mixed(photos: Path, tmp_path: Path) -> None:
    """The sentence names both and says what to do."""
    gallery = embed_photos(items_of(photos), photos, Tones("one"), store=tmp_path)
    with pytest.raises(EncoderError, match=r"made by the encoder one, not by two.*--encoder"):
        nearest(gallery.vectors[:1], gallery, 3, fingerprint="two")


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_a_file_without_vectors_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    """Missing, or something else."""
    if content:
        (tmp_path / "v.parquet").write_bytes(content)
    with pytest.raises(ArchiveError, match="neardup embed"):
        Embeddings.load(tmp_path / "v.parquet")


def test_vectors_that_another_program_wrote_are_one_sentence(tmp_path: Path) -> None:
    """It wrote them as lists of any length."""
    table = gallery(np.eye(2, 4, dtype=np.float32)).table()
    lists = pa.array(table["vector"].to_pylist(), pa.list_(pa.float32()))
    pq.write_table(table.set_column(2, "vector", lists), tmp_path / "v.parquet")
    with pytest.raises(ArchiveError, match=r"v\.parquet holds no vectors of neardup"):
        Embeddings.load(tmp_path / "v.parquet")


def test_the_folder_of_the_photos_may_have_a_latin_1_name(tmp_path: Path) -> None:
    """The file of vectors remembers it as the disk has it."""
    folder = tmp_path / os.fsdecode(b"ch\xe9rau")
    folder.mkdir()
    assert folder_of(gallery(np.eye(1, 4, dtype=np.float32)).save(tmp_path / "v.parquet", folder)) == folder.resolve()


def gallery(vectors: Vectors) -> Embeddings:
    """Vectors with names in an order of their own, and with contents in another one."""
    names = tuple(f"{(7 * i) % 101:03d}.jpg" for i in range(len(vectors)))
    hashes = tuple(f"{(31 * i) % 97:064x}" for i in range(len(vectors)))
    return Embeddings(hashes, names, vectors, "f")


EXACT_UNITS = np.concatenate([np.eye(4), -np.eye(4), np.array(list(product((-0.5, 0.5), repeat=4)))]).astype(np.float32)
"""Unit vectors, many pairs of which are equally similar, with products that are exact in float32."""


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
def test_search_is_exact(count: int, top: int, seed: int) -> None:
    """Hits are those of a sort of all similarities; equal ones are in the order of their paths."""
    rng = np.random.default_rng(seed)
    vectors, queries = (rng.choice(EXACT_UNITS, n) for n in (count, 2))
    known = gallery(vectors)
    for query, hits in zip(queries, nearest(queries, known, top, fingerprint="f"), strict=True):
        expected = sorted(range(count), key=lambda i, q=query: (-float(vectors[i] @ q), known.paths[i]))[:top]
        assert [(hit.path, hit.photo) for hit in hits] == [(known.paths[i], known.photos[i]) for i in expected]


def test_equally_similar_photos_are_ordered_by_path() -> None:
    """Not by their contents, nor by their rows; a hit has the path and the SHA-256 of one and the same photo."""
    known = Embeddings(("c", "a", "b", "d"), ("x", "z", "y", "w"), np.tile(np.eye(1, 3, dtype=np.float32), (4, 1)), "f")
    (hits,) = nearest(known.vectors[:1], known, 3, fingerprint="f")
    assert hits == [Hit("w", "d", 1.0), Hit("x", "c", 1.0), Hit("y", "b", 1.0)]


def test_an_empty_gallery_has_no_hits() -> None:
    """A search of no photos is no error."""
    assert nearest(np.eye(1, 3, dtype=np.float32), gallery(np.empty((0, 3), np.float32)), 5, fingerprint="f") == [[]]


def test_a_photo_that_is_no_image_is_one_sentence(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError, match=r"x\.jpg: the content is no"):
        read_queries(tmp_path / "x.jpg", Tones(), print)


def test_a_folder_of_queries_tells_of_the_unreadable(photos: Path, tmp_path: Path) -> None:
    """A file that is no image is reported, and the others are encoded."""
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    (tmp_path / "y.png").write_bytes((photos / "1.png").read_bytes())
    said: list[str] = []
    made = read_queries(tmp_path, Tones(), said.append)
    assert (made.paths, len(said)) == (("y.png",), 1)
    assert made.photos == (hashlib.sha256((tmp_path / "y.png").read_bytes()).hexdigest(),)


class Counted(Tones):
    """An encoder that keeps an eye on the pictures that it decoded: how many of them there were at once."""

    def __init__(self) -> None:
        """No picture yet."""
        super().__init__()
        self.pictures: weakref.WeakValueDictionary[Path | bytes, Image.Image] = weakref.WeakValueDictionary()
        self.most = 0

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode, and count."""
        picture = super().read(source, max_pixels)
        self.pictures[source] = picture
        self.most = max(self.most, len(self.pictures))
        return picture


@pytest.mark.usefixtures("one_thread")
def test_a_folder_of_queries_is_not_held_as_pictures(tmp_path: Path) -> None:
    """Of a hundred photos two batches are decoded at once, and the vectors are those of the photos one by one."""
    for number in range(100):
        Image.new("RGB", (8, 8), (number, 2 * number, 250 - number)).save(tmp_path / f"{number:03d}.png")
    encoder = Counted()
    queries = read_queries(tmp_path, encoder, print)
    assert queries.paths == tuple(f"{number:03d}.png" for number in range(100))
    assert encoder.most <= 2 * BATCH
    alone = [read_queries(tmp_path / path, Tones(), print) for path in queries.paths]
    assert queries.vectors.tobytes() == b"".join(one.vectors.tobytes() for one in alone)
    assert queries.photos == tuple(one.photos[0] for one in alone)


def test_only_hits_of_equal_bytes_are_the_query_itself(photos: Path, tmp_path: Path) -> None:
    """Under any name; a photo that was saved again is not, however similar it is."""
    queries = read_queries(photos / "0.png", Tones(), print)
    with Image.open(photos / "0.png") as image:
        image.save(tmp_path / "again.bmp")
    again = read_queries(tmp_path / "again.bmp", Tones(), print)
    known = embed_photos(items_of(photos), photos, Tones(), store=tmp_path / "store")
    known = replace(known, photos=tuple(hashlib.sha256((photos / path).read_bytes()).hexdigest() for path in NAMES))
    for query, expected in ((queries, ["0.png", "copy.png"]), (again, [])):
        (hits,) = mark_itself(nearest(query.vectors, known, 5, fingerprint="tones"), query)
        assert [hit.path for hit in hits if hit.itself] == expected
        assert [hit.path for hit in hits[:2]] == ["0.png", "copy.png"]
