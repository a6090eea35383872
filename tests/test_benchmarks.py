"""The benchmark of encoders: its peers, its figures, its sentences."""

import json
from collections.abc import Sequence
from pathlib import Path

import encoders
import imagehash
import numpy as np
import page
import peers
import pytest
import sift
from click.testing import CliRunner
from damages import copied, copies, first_hits, kinds, on_copies
from PIL import Image, ImageOps
from rates import Speed, clock
from speed import small_jpegs

from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.images import MAX_PIXELS, read_image
from neardup.measure.comparison import compare
from neardup.measure.evaluate import evaluate

GROUPS = np.array([0, 0, 1, 1, 2, 3])


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    """A few drawn pictures."""
    return [Scene.of(seed).image for seed in range(6)]


@pytest.fixture(scope="module")
def originals(scenes: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> peers.Photos:
    """The same pictures as files."""
    folder = tmp_path_factory.mktemp("originals")
    paths = [folder / f"{number}.jpg" for number in range(len(scenes))]
    for path, image in zip(paths, scenes, strict=True):
        image.save(path, quality=90)
    return peers.Photos.of(folder, paths)


class Corners:
    """An encoder made by hand: the greys of 6 × 6 squares."""

    name, fingerprint, dimension = "corners", "c" * 64, 36

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Unit rows."""
        rows = np.stack([np.asarray(image.convert("L").resize((6, 6)), dtype=np.float32).ravel() for image in images])
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["phash", "dhash"])
def test_hash_vectors_order_as_the_hamming_distance(name: str, scenes: list[Image.Image]) -> None:
    """The dot product is 1 less 2/64 for each bit that imagehash counts as different."""
    vectors = getattr(peers, name)().encode(scenes)
    hashes = [getattr(imagehash, name)(image) for image in scenes]
    expected = [[1 - 2 * (a - b) / 64 for b in hashes] for a in hashes]
    assert expected == (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).tolist()


def test_pdq_vectors_order_as_the_hamming_distance(scenes: list[Image.Image]) -> None:
    """The same for its 256 bits."""
    pdqhash = pytest.importorskip("pdqhash")
    first, second = (pdqhash.compute(np.asarray(image))[0] for image in scenes[:2])
    vectors = peers.pdq().encode(scenes[:2]).astype(np.float64)
    assert 1 - 2 * int((first != second).sum()) / 256 == float(vectors[0] @ vectors[1])


def test_a_colour_histogram_is_a_unit_vector(scenes: list[Image.Image]) -> None:
    """So that equal pictures have the similarity 1."""
    vectors = peers.colour_histogram().encode(scenes)
    assert vectors.shape == (6, 512)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


def test_a_colour_histogram_knows_its_colours() -> None:
    """Half red and half white: two entries, the square roots of a half."""
    image = Image.new("RGB", (8, 4), "white")
    image.paste("red", (0, 0, 4, 4))
    vector = peers.colours(image)
    assert np.flatnonzero(vector).tolist() == [7 * 64, 511]
    assert vector[[7 * 64, 511]] == pytest.approx([0.5**0.5] * 2)


def test_a_copy_finds_its_original(originals: peers.Photos, tmp_path: Path) -> None:
    """Every blurred copy ranks its own photo first, for an encoder that sees where it is light."""
    method = peers.ByVector(Corners(), tmp_path / "vectors", "corners")
    made = copies(originals, tmp_path, "blur", kinds()["blur"])
    found = on_copies(method, made, originals)
    assert (1.0, pytest.approx(1.0)) == (found.top_1.value, found.micro_ap.value)


def test_copies_are_made_once(originals: peers.Photos, tmp_path: Path) -> None:
    """A second call finds them; the same seed would have given the same bytes."""
    first = copies(originals, tmp_path / "a", "all at once", kinds()["all at once"])
    stamp = first.paths[0].stat().st_mtime_ns
    assert first == copies(originals, tmp_path / "a", "all at once", kinds()["all at once"])
    assert stamp == first.paths[0].stat().st_mtime_ns
    assert first.items == copies(originals, tmp_path / "b", "all at once", kinds()["all at once"]).items


def test_a_tie_is_no_hit() -> None:
    """A photo as alike as the original might have come first."""
    similarities = np.array([[0.9, 0.2, 0.1], [0.5, 0.5, 0.1]])
    assert first_hits(similarities, np.array([0, 1])).tolist() == [1.0, 0.0]


def test_micro_ap_of_copies_is_over_all_pairs() -> None:
    """Right pairs at ranks 1 and 3 of all: the mean of 1 and 2/3, whatever follows."""
    similarities = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1]])
    assert pytest.approx((1 + 2 / 3) / 2) == copied(similarities, np.array([0, 1])).micro_ap.value


def test_the_figures_of_similarities_are_those_of_the_vectors(scenes: list[Image.Image]) -> None:
    """An evaluation that is handed the dot products gives what one of the vectors gives."""
    vectors = Corners().encode(scenes)
    names = [f"{number}.jpg" for number in range(6)]
    by_vector = evaluate(vectors, GROUPS, names, approach="a", fingerprint="")
    wide = vectors.astype(np.float64)
    scored = encoders.Scored("a", "", tuple(names), GROUPS, vectors[:, :0], similarities=wide @ wide.T)
    assert by_vector.metrics == scored.metrics


def test_sift_knows_a_mirrored_copy(originals: peers.Photos, scenes: list[Image.Image], tmp_path: Path) -> None:
    """The inliers of the mirrored query count."""
    pytest.importorskip("cv2")
    ImageOps.mirror(scenes[2]).save(tmp_path / "mirrored.png")
    query = peers.Photos.of(tmp_path, [tmp_path / "mirrored.png"])
    similarities = sift.Sift(tmp_path / "sift").similarities(query, originals)
    assert similarities.shape == (1, 6)
    assert similarities.argmax() == 2


def test_sift_compares_each_pair_once(originals: peers.Photos, tmp_path: Path) -> None:
    """Within one set the matrix is symmetric; the second call reads what the first one kept."""
    pytest.importorskip("cv2")
    few = originals.take([0, 1, 2])
    similarities = sift.Sift(tmp_path).similarities(few, few)
    assert similarities.tolist() == similarities.T.tolist()
    assert similarities.tolist() == sift.Sift(tmp_path).similarities(few, few).tolist()


def test_sift_sees_nothing_on_a_blank_page(scenes: list[Image.Image], tmp_path: Path) -> None:
    """No keypoint, no inlier, no error."""
    pytest.importorskip("cv2")
    method = sift.Sift(tmp_path)
    blank, scene = method.keypoints(Image.new("RGB", (90, 60), "white")), method.keypoints(scenes[0])
    assert (method.inliers(blank, scene), method.inliers(scene, blank)) == (0, 0)


def test_no_keypoint_is_matched_twice() -> None:
    """Of two that would match one place, the more alike one does."""
    photo = np.eye(3, 128, dtype=np.float32)
    second = np.zeros(128, np.float32)
    second[:4] = 0.98, 0, 0, 0.199
    here, there = sift.matches(np.stack([second, photo[0], photo[1]]), photo)
    assert (here, there) == ([1, 2], [0, 1])


def test_a_clock_gives_the_median_between_slowest_and_fastest(originals: peers.Photos, tmp_path: Path) -> None:
    """Of small JPEG files, shortest side 224."""
    small = small_jpegs(originals, tmp_path)
    assert {224} == {min(read_image(path).size) for path in small.paths}
    speed = clock(lambda: [read_image(path) for path in small.paths], 6)
    assert 0 < speed.least <= speed.median <= speed.greatest


def benchmark(scenes: list[Image.Image]) -> page.Benchmark:
    """What a run would give, from two methods."""
    names = [f"{number}.jpg" for number in range(6)]
    methods = {"corners": Corners().encode(scenes), "pHash": peers.phash().encode(scenes)}
    comparison = compare([evaluate(v, GROUPS, names, approach=m, fingerprint="") for m, v in methods.items()])
    found = copied(np.eye(6), np.arange(6))
    rows = {damage: dict.fromkeys(methods, found) for damage in ("caption_strip", "all at once")}
    return page.Benchmark("corners", comparison, rows, 6, 4, dict.fromkeys(methods, Speed(9.0, 8.0, 10.0)), 500.0)


def test_the_page_has_its_figures_and_its_picture_beside_it(
    scenes: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same value in the page and, as a share, in the JSON file; the picture is 1200 pixels wide."""
    monkeypatch.setattr(page, "PACKAGES", ("numpy",))
    written = benchmark(scenes).write(tmp_path / "encoders.md")
    text, facts = written[0].read_text(encoding="utf-8"), json.loads(written[1].read_text(encoding="utf-8"))
    assert f"{100 * facts['metrics']['ndcg']['pHash']['value']:.2f}" in text
    assert "| caption strip | 100.00 (100.0 to 100.0) |" in text
    assert "](encoders.png)" in text
    assert read_image(written[2]).width == 1200


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "."], "is not a folder"),
        (["archive", "nowhere"], "photos.csv does not exist"),
        (["archive", "photos"], "0 groups held out from training"),
        (["archive", "photos", "--out", "page.txt"], "is no .md file"),
    ],
)
def test_a_bad_folder_is_one_sentence(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with exit status 1, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photos.csv").write_text("file,group,source,licence\n")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "donnees_IS.xlsx").touch()
    result = CliRunner().invoke(encoders.main, arguments)
    assert (result.exit_code, len(result.stderr.splitlines()), expected in result.stderr) == (1, 1, True)
    assert not (tmp_path / "docs").exists()


def test_a_missing_package_is_one_sentence() -> None:
    """It says which command installs it."""
    with pytest.raises(encoders.NeardupError, match="`make bench` installs it"):
        peers.needed("a_package_that_nobody_wrote")
