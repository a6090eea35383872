"""The benchmarks: the methods that encoders are compared with, their figures and pages, the topics of performance."""

import ast
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import encoders
import encoders_page
import imagehash
import methods
import numpy as np
import performance
import pytest
import rates
import searching
from click.testing import CliRunner
from encoders import copies, kinds, on_damages, on_set, proven, relations
from encoders_page import Results, Scored, Told, copied, first_hits
from methods import ByVector, Photos, Search
from PIL import Image, ImageOps
from rates import Measured, Speed, clock, small_jpegs

from neardup.arrays import Vectors
from neardup.builtin.scenes import Scene
from neardup.images import MAX_PIXELS, read_image
from neardup.measure.comparison import VERIFIED, compare
from neardup.measure.evaluate import evaluate
from neardup.review.record.verdicts import open_verdicts

GROUPS = np.array([0, 0, 1, 1, 2, 3])


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    """Six drawn pictures."""
    return [Scene.of(seed).image for seed in range(6)]


@pytest.fixture(scope="module")
def originals(scenes: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> methods.Photos:
    """The six drawn pictures as JPEG files."""
    folder = tmp_path_factory.mktemp("originals")
    paths = [folder / f"{number}.jpg" for number in range(len(scenes))]
    for path, image in zip(paths, scenes, strict=True):
        image.save(path, quality=90)
    return methods.Photos.of(folder, paths)


class Corners:
    """An encoder made by hand, whose vectors are the greys of 6 × 6 squares."""

    name, fingerprint, dimension = "corners", "c" * 64, 36

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Encode images: float32 (n, 36), unit rows."""
        rows = np.stack([np.asarray(image.convert("L").resize((6, 6)), dtype=np.float32).ravel() for image in images])
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["phash", "dhash"])
def test_hash_vectors_order_as_the_hamming_distance(name: str, scenes: list[Image.Image]) -> None:
    """The dot product is 1 less 2/64 for each bit that imagehash counts as different."""
    vectors = getattr(methods, name)().encode(scenes)
    hashes = [getattr(imagehash, name)(image) for image in scenes]
    expected = [[1 - 2 * (a - b) / 64 for b in hashes] for a in hashes]
    assert expected == (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).tolist()


def test_pdq_vectors_order_as_the_hamming_distance(scenes: list[Image.Image]) -> None:
    """The dot product of PDQ vectors is 1 less 2/256 for each bit that differs."""
    pdqhash = pytest.importorskip("pdqhash")
    first, second = (pdqhash.compute(np.asarray(image))[0] for image in scenes[:2])
    vectors = methods.pdq().encode(scenes[:2]).astype(np.float64)
    assert 1 - 2 * int((first != second).sum()) / 256 == float(vectors[0] @ vectors[1])


def test_a_colour_histogram_is_a_unit_vector(scenes: list[Image.Image]) -> None:
    """Each row has the length 1, so that equal pictures have the similarity 1."""
    vectors = methods.colour_histogram().encode(scenes)
    assert vectors.shape == (6, 512)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


def test_a_colour_histogram_knows_its_colours() -> None:
    """A picture half red and half white has two entries, the square roots of a half."""
    image = Image.new("RGB", (8, 4), "white")
    image.paste("red", (0, 0, 4, 4))
    vector = methods.colours(image)
    assert np.flatnonzero(vector).tolist() == [7 * 64, 511]
    assert vector[[7 * 64, 511]] == pytest.approx([0.5**0.5] * 2)


def test_a_copy_finds_its_original(originals: methods.Photos, tmp_path: Path) -> None:
    """Every blurred copy ranks its own photo first, for an encoder that sees where it is light."""
    method = ByVector(Corners(), tmp_path / "vectors", "corners", proposes=False)
    damaged = {"blur": copies(originals, tmp_path, "blur", kinds()["blur"])}
    found = on_damages([method], damaged, originals, {})["blur"]["corners"]
    assert (1.0, pytest.approx(1.0)) == (found.top_1.value, found.micro_ap.value)


@pytest.mark.parametrize("within", [True, False])
def test_candidates_are_the_nearest_of_each(*, within: bool) -> None:
    """Within a set a pair comes once and no photo meets itself; else each query comes with the whole small gallery."""
    photos = Photos(Path(), (("a", "0"), ("b", "1"), ("c", "2")))
    other = photos if within else Photos(Path(), (("d", "3"), ("e", "4"), ("f", "5")))
    found = Search(photos, other, np.arange(3), np.arange(3)).candidates(np.eye(3))
    pairs = [(0, 1), (0, 2), (1, 2)] if within else [(row, column) for row in range(3) for column in range(3)]
    assert sorted(map(tuple, found.tolist())) == pairs


def test_only_so_many_candidates_as_verification_takes() -> None:
    """Of a gallery of 30 the 20 that are most alike are taken, the most alike first."""
    query, gallery = (
        Photos(Path(), tuple((f"{n}", f"{n}") for n in range(start, end))) for start, end in ((0, 1), (1, 31))
    )
    search = Search(query, gallery, np.zeros(1, np.int64), np.arange(30))
    assert search.candidates(np.arange(30.0)[None])[:, 1].tolist() == list(range(29, 9, -1))


@pytest.fixture(scope="module")
def pairs_of_scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Photos, Sequence[int]]:
    """Eight drawn pictures, each with its mirrored print in the same group."""
    folder, groups = tmp_path_factory.mktemp("pairs"), []
    for seed in range(8):
        image = Scene.of(seed).image
        image.save(folder / f"{seed}a.png")
        ImageOps.mirror(image).save(folder / f"{seed}b.png")
        groups += [seed, seed]
    return Photos.of(folder, sorted(folder.iterdir())), groups


def test_verified_pairs_outrank_what_only_looks_alike(
    pairs_of_scenes: tuple[Photos, Sequence[int]], tmp_path: Path
) -> None:
    """An encoder that knows no mirror image finds none; its candidates verified, each is found first."""
    photos, groups = pairs_of_scenes
    method = ByVector(Corners(), tmp_path / "vectors", "corners")
    found = on_set("scenes", [method], photos, np.array(groups), tmp_path)
    alone, verified = found.alone.figures["top_1"]["corners"], found.verified.figures["top_1"][f"corners{VERIFIED}"]
    assert (alone.value or 0) < 1
    assert verified.value == 1


def test_what_a_killed_run_found_is_not_found_again(
    pairs_of_scenes: tuple[Photos, Sequence[int]], tmp_path: Path
) -> None:
    """A second run reads evidence and resamples from the work folder and writes neither."""
    photos, groups = pairs_of_scenes
    method = ByVector(Corners(), tmp_path / "vectors", "corners")
    stamps = []
    for _ in range(2):
        found = on_set("scenes", [method], photos, np.array(groups), tmp_path)
        stamps.append((found.alone.figures, [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.*"))]))
    assert stamps[0] == stamps[1]
    assert {".parquet", ".npz"} <= {path.suffix for path in tmp_path.rglob("*")}


def test_what_a_damage_drew_is_known(originals: methods.Photos, tmp_path: Path) -> None:
    """A photo cut by the numbers that were noted has the pixels of the copy."""
    damaged = copies(originals, tmp_path, "crop", kinds()["crop"])
    for path, copy, drawn in zip(originals.paths, damaged.paths, encoders.drawn_by("crop", originals), strict=True):
        left, top = map(int, drawn[-2:])
        cut = read_image(copy)
        box = (left, top, left + cut.width, top + cut.height)
        assert np.array_equal(np.asarray(read_image(path).crop(box)), np.asarray(cut))


def test_what_is_said_of_copies_is_held_against_what_was_done(originals: methods.Photos, tmp_path: Path) -> None:
    """Mirrored prints are called so, crops lie where they were cut, angles and screens are those that were drawn."""
    damaged = {name: copies(originals, tmp_path, name, copy) for name, copy in kinds().items()}
    known = proven([], damaged, originals, tmp_path)
    told = {(one.damage, one.measure): one.figure.value or 0.0 for one in relations(damaged, originals, known)}
    assert told["mirror", "called mirrored, share"] == 1
    assert told["crop", "overlap of its place with the true one (IoU), median"] > 0.9
    assert told["rotate", "error of the angle, median"] < 1
    assert told["halftone", "error of the screen's period, median"] < 8


def test_shares_are_means_and_all_else_medians() -> None:
    """Of 0, 1 and 1 the share is two thirds, and the median 1."""
    values = np.array([0.0, 1.0, 1.0])
    assert Told.of("crop", "seen", "%", values).figure.value == pytest.approx(2 / 3)
    assert Told.of("crop", "error", "°", values).figure.value == 1


def test_copies_are_made_once(originals: methods.Photos, tmp_path: Path) -> None:
    """A second call writes nothing, and another folder gets the same bytes."""
    first = copies(originals, tmp_path / "a", "all at once", kinds()["all at once"])
    stamp = first.paths[0].stat().st_mtime_ns
    assert first == copies(originals, tmp_path / "a", "all at once", kinds()["all at once"])
    assert stamp == first.paths[0].stat().st_mtime_ns
    assert first.items == copies(originals, tmp_path / "b", "all at once", kinds()["all at once"]).items


def test_a_tie_is_no_hit() -> None:
    """A photo as alike as the original might have come first, so the original is no hit."""
    similarities = np.array([[0.9, 0.2, 0.1], [0.5, 0.5, 0.1]])
    assert first_hits(similarities, np.array([0, 1])).tolist() == [1.0, 0.0]


def test_micro_ap_of_copies_is_over_all_pairs() -> None:
    """Right pairs at ranks 1 and 3 of all give the mean of 1 and 2/3, whatever follows."""
    similarities = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1]])
    assert pytest.approx((1 + 2 / 3) / 2) == copied(similarities, np.array([0, 1])).micro_ap.value


def test_the_figures_of_similarities_are_those_of_the_vectors(scenes: list[Image.Image], tmp_path: Path) -> None:
    """An evaluation that is handed the dot products gives what one of the vectors gives."""
    vectors = Corners().encode(scenes)
    names = [f"{number}.jpg" for number in range(6)]
    by_vector = evaluate(vectors, GROUPS, names, approach="a", fingerprint="")
    wide = vectors.astype(np.float64)
    scored = Scored("a", "", tuple(names), GROUPS, vectors[:, :0], similarities=wide @ wide.T, store=tmp_path)
    assert by_vector.metrics == scored.metrics


def test_sift_knows_a_mirrored_copy(originals: methods.Photos, scenes: list[Image.Image], tmp_path: Path) -> None:
    """A mirrored copy has the most inliers with its own photo, as the mirrored query counts."""
    ImageOps.mirror(scenes[2]).save(tmp_path / "mirrored.png")
    query = methods.Photos.of(tmp_path, [tmp_path / "mirrored.png"])
    similarities = methods.Sift(tmp_path / "sift").similarities(query, originals)
    assert similarities.shape == (1, 6)
    assert similarities.argmax() == 2


def test_sift_compares_each_pair_once(originals: methods.Photos, tmp_path: Path) -> None:
    """Within one set the similarities are symmetric, and the second call reads those that the first one kept."""
    few = originals.take([0, 1, 2])
    similarities = methods.Sift(tmp_path).similarities(few, few)
    assert similarities.tolist() == similarities.T.tolist()
    assert similarities.tolist() == methods.Sift(tmp_path).similarities(few, few).tolist()


def test_killed_sift_goes_on_from_the_queries_that_it_has_compared(originals: methods.Photos, tmp_path: Path) -> None:
    """What was kept of a query is read, and the others are compared anew."""
    few = originals.take([0, 1, 2])
    methods.Sift(tmp_path).similarities(few, few)
    (whole,), (first,) = tmp_path.glob("*.npy"), tmp_path.glob("*/0.npy")
    whole.unlink()
    np.save(first, [0, 5, 6])
    again = methods.Sift(tmp_path).similarities(few, few)
    assert (again[0] * methods.FEATURES).tolist() == [0, 5, 6]


def test_sift_sees_nothing_on_a_blank_page(scenes: list[Image.Image], tmp_path: Path) -> None:
    """A blank page has no keypoint, hence no inlier with any photo, and raises nothing."""
    method = methods.Sift(tmp_path)
    blank, scene = method.keypoints(Image.new("RGB", (90, 60), "white")), method.keypoints(scenes[0])
    assert (method.inliers(blank, scene), method.inliers(scene, blank)) == (0, 0)


def test_no_keypoint_is_matched_twice() -> None:
    """Of two keypoints that would match one place, the more alike one does."""
    photo = np.eye(3, 128, dtype=np.float32)
    second = np.zeros(128, np.float32)
    second[:4] = 0.98, 0, 0, 0.199
    here, there = methods.matches(np.stack([second, photo[0], photo[1]]), photo)
    assert (here, there) == ([1, 2], [0, 1])


def test_a_clock_gives_the_median_between_slowest_and_fastest(originals: methods.Photos, tmp_path: Path) -> None:
    """Reading six small JPEG files, shortest side 224, is clocked from slowest to fastest."""
    small = small_jpegs(originals.paths, tmp_path)
    assert {224} == {min(read_image(path).size) for path in small}
    speed = clock(lambda: [read_image(path) for path in small], 6)
    assert 0 < speed.least <= speed.median <= speed.greatest


def benchmark(scenes: list[Image.Image]) -> encoders_page.Benchmark:
    """The figures of a run with two methods."""
    names = [f"{number}.jpg" for number in range(6)]
    vectors = {"corners": Corners().encode(scenes), "pHash": methods.phash().encode(scenes)}
    comparison = compare([evaluate(v, GROUPS, names, approach=m, fingerprint="") for m, v in vectors.items()])
    perfect = copied(np.eye(6), np.arange(6))
    rows = {
        damage: dict.fromkeys([*vectors, f"pHash{VERIFIED}"], perfect) for damage in ("caption_strip", "all at once")
    }
    results = Results(comparison, comparison, {"pHash": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3}})
    told = [Told.of("mirror", "called mirrored", "%", np.ones(6))]
    speeds = dict.fromkeys(vectors, Speed(9.0, 8.0, 10.0))
    return encoders_page.Benchmark("corners", {"archive": results}, rows, told, 6, 4, speeds, 500.0)


def test_the_page_has_its_figures_and_its_picture_beside_it(
    scenes: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and the JSON file state the same value, and the picture is 1200 pixels wide."""
    monkeypatch.setattr(encoders_page, "PACKAGES", ("numpy",))
    written = benchmark(scenes).write(tmp_path / "encoders.md")
    text, facts = written[0].read_text(encoding="utf-8"), json.loads(written[1].read_text(encoding="utf-8"))
    assert f"{100 * facts['archive']['metrics']['ndcg']['pHash']['value']:.2f}" in text
    assert "| caption strip | 100.00 (100.0 to 100.0) |" in text
    assert "0.75: pHash has precision 100.0, recall 50.0, F1 66.7 %." in text
    assert "100.0 (100.0 to 100.0) %" in text
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
    """The sentence is on stderr, the exit status 1, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photos.csv").write_text("file,group,source,licence\n")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "donnees_IS.xlsx").touch()
    result = CliRunner().invoke(encoders.main, arguments)
    assert (result.exit_code, len(result.stderr.splitlines()), expected in result.stderr) == (1, 1, True)
    assert not (tmp_path / "docs").exists()


def test_a_missing_package_is_one_sentence() -> None:
    """The error says which command installs the package."""
    with pytest.raises(encoders.NeardupError, match="`make bench` installs it"):
        methods.needed("a_package_that_nobody_wrote")


def row(task: str, rate: float) -> Measured:
    """A row as a topic gives it."""
    return Measured(task, "neardup", "photos", Speed(rate, rate, rate), 100.0)


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page states the version of numpy alone, for the peers' packages are not installed everywhere."""
    monkeypatch.setattr(performance, "PACKAGES", ("numpy",))


@pytest.mark.usefixtures("few_packages")
def test_a_topic_is_measured_again_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--only excel` changes the rows of that topic, and the page keeps the order of the topics."""
    for rate in (3.0, 4.0):
        topics = {"train": lambda *_, rate=rate: [row("training", rate)], "excel": lambda *_: [row("reading", 5.0)]}
        monkeypatch.setattr(performance, "TOPICS", topics)
        only = ["--only", "excel", "--only", "train"] if rate == 3.0 else ["--only", "excel"]
        folders = [str(tmp_path), "--out", str(tmp_path / "page.md"), "--work", str(tmp_path / "work")]
        CliRunner().invoke(performance.main, [*folders, *only], catch_exceptions=False)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Train", "## Excel"]
    assert ("| neardup | 3.00 (3.00 to 3.00) |" in text, "4.00" in text) == (True, False)


def test_every_topic_can_be_chosen() -> None:
    """`--only` takes each topic that a module lists, in the order of the page."""
    expected = ["encode", "growth", "search", "verify", "million", "cluster", "train", "augment", "excel"]
    (only,) = (option for option in performance.main.params if option.name == "only")
    assert list(only.type.choices) == list(performance.TOPICS)
    assert [topic for topic in performance.TOPICS if topic in expected] == expected


def test_a_method_is_clocked_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The text that the work returns becomes the note, and the memory is that of a process that was started."""
    (tmp_path / "note.txt").write_text("so near")
    reading = rates.measured("read", "pathlib", "files", 1, reader, tmp_path / "note.txt", passes=1, warm=False)
    assert (reading.task, reading.method, reading.unit, reading.note) == ("read", "pathlib", "files", "so near")
    assert reading.peak_mb > 1


def test_threads_find_what_a_plain_loop_finds(originals: methods.Photos) -> None:
    """What the topic verify clocks is the same work: equal evidence of equal pairs."""
    files = {path.stem: path for path in originals.paths}
    pairs = [("0", "1"), ("2", "3")]
    for way in ("finding", "verifying"):
        together = getattr(searching, way)(files, pairs)()
        alone = getattr(searching, f"{way}_alone")(files, pairs)()
        assert {(one.first, one.second): one for one in alone} == together


def reader(path: Path) -> partial[str]:
    """Work that reads a text, as `measured` makes it in another process."""
    return partial(path.read_text, encoding="utf-8")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine: apt install chromium")
def test_the_review_page_is_clocked_in_a_browser(
    scenes: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many answers are clocked, each stored by the server, and the note says how long they took."""
    small = {"PAIRS": (9,), "GROUPS": 3, "SHOWN": 6, "ANSWERS": 2, "PAUSE_S": 0.3, "SCAN": (300, 200)}
    for name, value in small.items():
        monkeypatch.setattr(performance, name, value)
    (tmp_path / "images").mkdir()
    for number in range(12):
        scenes[number % 6].save(tmp_path / "images" / f"{number:02d}.jpg")
    opened, answered = performance.measure_review(tmp_path, tmp_path)
    assert (opened.method, opened.unit, answered.unit) == ("neardup, 9 pairs", "pages", "pairs")
    assert 0 < answered.speed.least <= answered.speed.median <= answered.speed.greatest
    assert " ms in the median, " in answered.note
    with open_verdicts(tmp_path / "review 9" / "results") as kept:
        assert len(kept.current()) == 2


def test_there_are_two_commands_in_at_most_eight_short_modules() -> None:
    """No module has over 400 lines and no function over 60, as in the library."""
    modules = sorted(Path(encoders.__file__).parent.glob("*.py"))
    sources = {path.stem: path.read_text(encoding="utf-8") for path in modules}
    assert len(modules) <= 8
    assert [name for name, text in sources.items() if "@click.command" in text] == ["encoders", "performance"]
    assert [name for name, text in sources.items() if len(text.splitlines()) > 400] == []
    functions = [node for text in sources.values() for node in ast.walk(ast.parse(text))]
    assert [
        node.name
        for node in functions
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 59
    ] == []
