"""New photos: which photo each is a copy of, at which rank the original is found, and what the report says of it."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import photo
from PIL import Image

from neardup.approach import Approach
from neardup.archive.captions import translate_training_set
from neardup.archive.new_photos import (
    COPY,
    STRANGER,
    UNKNOWN,
    Original,
    SearchedPhoto,
    check_queries,
    find_originals,
    read_new_photos,
    read_originals,
)
from neardup.archive.scan import Archive
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.builtin.demo import NEW_COPIES, NEW_STRANGERS, MadeArchive, make_archive, make_new_photos
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.encode.vectors import Embeddings
from neardup.errors import ArchiveError, EncoderError
from neardup.experiment import compare_approaches, comparison_stage, steps_of
from neardup.measure.queries import (
    ARCHIVE,
    FILES,
    QUERIES,
    QUERIES_TABLE,
    Answer,
    Gallery,
    Query,
    load_answers,
    search_queries,
    summary,
)
from neardup.measure.query_report import Cell, NewPhotos
from neardup.settings.file import load_settings
from neardup.settings.schema import Settings, TranslateSettings
from neardup.stages import digest_contents
from neardup.tables import save_rows
from neardup.train.variants import VARIANTS, queries_stage
from tasks.settings_files import read_files

SEARCHED = [
    SearchedPhoto("test_dataset/a.jpg", "agence/a.jpg", "01", "group 1"),
    SearchedPhoto("test_dataset/b.jpg", "presse/b.jpg", "02", "group 1"),
    SearchedPhoto("test_dataset/x.jpg", "agence/x.jpg", "03", "group 2"),
    SearchedPhoto("training_set/x~presse.jpg", "presse/x.jpg", "04", "04"),
    SearchedPhoto("training_set/Été.tif", "presse/Été.tif", "05", "05"),
]


def found(*paths: str, rows: tuple[tuple[str, str], ...] = ()) -> tuple[dict[str, Original], list[str]]:
    """The originals of new photos at some paths, and the sentences."""
    return find_originals(Archive(Path("new"), tuple(map(photo, paths)), (), 0), rows, SEARCHED)


@pytest.mark.parametrize(
    ("path", "original"),
    [
        ("a.png", Original(COPY, "agence/a.jpg")),
        ("deep/ete.jpg", Original(COPY, "presse/Été.tif")),
        ("strangers/a.jpg", Original(STRANGER)),
        ("deep/strangers/c.jpg", Original(STRANGER)),
        ("strangers.jpg", Original(UNKNOWN)),
        ("c.jpg", Original(UNKNOWN)),
    ],
)
def test_a_name_or_a_folder_says_what_a_new_photo_is(path: str, original: Original) -> None:
    """A copy is called as its original, whatever suffix and accents; in `strangers/` lie strangers."""
    assert found(path) == ({path: original}, [])


def test_the_table_decides_before_the_name() -> None:
    """A name with or without folder and suffix; a stranger has an empty cell."""
    rows = (("a", "presse/x"), ("c.jpg", "b"), ("deep/d.jpg", ""), ("strangers/e.jpg", "Été.tif"), ("", "b"))
    originals, sentences = found("a.jpg", "c.jpg", "deep/d.jpg", "d.jpg", "strangers/e.jpg", rows=rows)
    assert sentences == []
    assert originals == {
        "a.jpg": Original(COPY, "presse/x.jpg"),
        "c.jpg": Original(COPY, "presse/b.jpg"),
        "deep/d.jpg": Original(STRANGER),
        "d.jpg": Original(UNKNOWN),
        "strangers/e.jpg": Original(COPY, "presse/Été.tif"),
    }


def test_a_name_that_means_no_photo_or_several_is_one_sentence() -> None:
    """Each with its line of the table; the original is unknown then."""
    rows = (("c.jpg", "nothing"), ("gone.jpg", "b"), ("d.jpg", "b"))
    originals, sentences = found("x.jpg", "c.jpg", "1/d.jpg", "2/d.jpg", rows=rows)
    assert {known.kind for known in originals.values()} == {UNKNOWN}
    assert sentences == [
        "queries.csv, line 2: no photo is called nothing in the test set and the training set",
        "queries.csv, line 3: no photo is called gone.jpg among the new photos",
        "queries.csv, line 4: d.jpg may be each of 1/d.jpg, 2/d.jpg: name the one with its folder in queries.csv",
        "x.jpg: x.jpg may be each of agence/x.jpg, presse/x.jpg: name the one with its folder in queries.csv",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "query,photo\na.jpg,b\nc.jpg\n",
        "\ufeffPhoto;Note;Query\r\nb;;a.jpg\r\n;;c.jpg\r\n",
        "query\tphoto\na.jpg\tb\nc.jpg\t\n",
    ],
)
def test_a_table_may_come_from_any_spreadsheet(text: str, tmp_path: Path) -> None:
    """Commas, semicolons or tabs, a byte order mark, further columns, a last cell that is not there."""
    (tmp_path / "queries.csv").write_bytes(text.encode())
    assert read_originals(tmp_path) == [("a.jpg", "b"), ("c.jpg", "")]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"query,original\na,b\n", "has the columns query, original: it needs query and photo"),
        (b"", "has the columns none"),
        ("query,photo\nété,b\n".encode("latin-1"), "cannot be read .* save it as a CSV table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    """It says what is wrong with it."""
    (tmp_path / "queries.csv").write_bytes(data)
    with pytest.raises(ArchiveError, match=sentence):
        read_originals(tmp_path)


def make_folder(root: Path, *names: str) -> Path:
    """A folder with small pictures of noise, all different."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60, 48)).save(root / name)
    return root


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root / "no", "no is not a folder: name the folder of new photos with --queries"),
        (lambda root: (root / "empty").mkdir() or root / "empty", "empty holds no image"),
        (lambda root: make_folder(root / "out" / "queries", "a.jpg"), "overlaps with .*queries, where the variants go"),
        (lambda root: make_folder(root, "a.jpg"), "overlaps with .*queries, where the variants go"),
    ],
)
def test_a_folder_that_cannot_be_searched_for_is_one_sentence(
    make: Callable[[Path], Path], sentence: str, tmp_path: Path
) -> None:
    """Not there, without an image, or where the variants are written."""
    with pytest.raises(ArchiveError, match=sentence):
        check_queries(make(tmp_path), tmp_path / "out")


def test_a_folder_of_broken_files_is_one_sentence(tmp_path: Path) -> None:
    """It names one of them and why it cannot be read."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.jpg").write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"no photo that can be read \(a\.jpg: the file is empty\)"):
        read_new_photos(tmp_path / "new", tmp_path / "out")


def unit(*angles: float) -> np.ndarray:
    """Unit vectors in the plane at some angles in degrees, float32 (n, 2)."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def gallery(*angles: float, title: str = ARCHIVE, pictures: str = "pqrst") -> Gallery:
    """Photos at some angles, called a to e, of the pictures p to t."""
    names = list("abcde"[: len(angles)])
    return Gallery(
        title, [f"queries/{name}" for name in names], names, np.array(list(pictures[: len(angles)])), unit(*angles)
    )


def query(kind: str = COPY, original: str = "", variant: str = "photo", name: str = "z") -> Query:
    """A query as the table of queries has it."""
    return Query(f"queries/{name}", "00", name, variant, kind, original)


def test_the_rank_is_that_of_the_original() -> None:
    """Photos of other pictures that are more similar, or as similar, come before it; other prints of it do not."""
    at = unit(0)[0]
    assert gallery(5, 10, 20).search(query(), at, "p", "a", 0.5).rank == 1
    assert gallery(5, 10, 20).search(query(), at, "r", "c", 0.5).rank == 3
    assert gallery(10, -10, 20).search(query(), at, "p", "a", 0.5).rank == 2
    assert gallery(5, 10, 20, pictures="ppq").search(query(), at, "p", "b", 0.5).rank == 1


def test_hits_are_right_if_they_show_the_same_picture() -> None:
    """In the order of their similarity; of equal ones the wrong comes first, and is the nearest."""
    answer = gallery(10, -10, 20, pictures="pqp").search(query(), unit(0)[0], "p", "a", 0.95)
    assert [(hit.name, hit.right, hit.above) for hit in answer.hits] == [
        ("b", False, True),
        ("a", True, True),
        ("c", True, False),
    ]
    assert (answer.nearest, answer.above, answer.similarity) == ("b", 1, pytest.approx(np.cos(np.radians(10))))


def test_a_stranger_has_only_wrong_hits() -> None:
    """One that comes up to the threshold is wrong, one below it is no fault; without a threshold none is."""

    def marks(kind: str, threshold: float | None) -> list[bool | None]:
        answer = gallery(10, 60).search(query(kind), unit(0)[0], "new z", "", threshold)
        return [hit.right for hit in answer.hits]

    assert marks(STRANGER, 0.9) == [False, None]
    assert marks(STRANGER, None) == marks(UNKNOWN, 0.9) == [None, None]
    assert gallery(0).search(query(STRANGER), unit(0)[0], "new z", "", 1.0).above == 1


def test_a_query_never_finds_itself() -> None:
    """Among the queries the file itself is passed over, however small the gallery."""
    among = gallery(0, 5, 20, title=QUERIES, pictures="ppq")
    answer = among.search(query(UNKNOWN, name="a", variant="flip"), unit(0)[0], "p", "b", None)
    assert (answer.rank, [hit.name for hit in answer.hits], [hit.right for hit in answer.hits]) == (
        1,
        ["b", "c"],
        [True, False],
    )


def answer(kind: str, rank: int | None, *, above: int = 0, gallery: str = ARCHIVE, variant: str = "photo") -> Answer:
    """An answer as the tables have it."""
    return Answer("new.jpg", variant, gallery, kind, "a.jpg" if rank else "", rank, "b.jpg", 0.7, 0.8, above)


def test_vectors_of_another_encoder_are_not_searched(prepared: Path, small_encoder: str, tmp_path: Path) -> None:
    """As after another training, without encoding the test set again."""
    out = tmp_path / "results"
    shutil.copytree(prepared, out)
    photos = TestSet.load(out).photos
    digests, names = tuple(photo.sha256 for photo in photos), tuple(photo.name for photo in photos)
    vectors = np.zeros((len(photos), 8), np.float32)
    Embeddings(digests, names, vectors, "another").save(out / "zero-shot" / "vectors.parquet")
    save_rows(out / QUERIES_TABLE, Query, [])
    with pytest.raises(EncoderError, match="made by the encoder another"):
        search_queries(out / "zero-shot", load_encoder(small_encoder), tmp_path / "store")


def test_the_summary_counts_firsts_and_reciprocal_ranks() -> None:
    """Of copies in the archive, of variants among the queries, and of strangers those above the threshold."""
    answers = [
        *(answer(COPY, 1), answer(COPY, 4), answer(STRANGER, None), answer(STRANGER, None, above=1)),
        *(answer(UNKNOWN, None, above=1), answer(COPY, 2, gallery=QUERIES), answer(COPY, None, gallery=QUERIES)),
    ]
    assert summary(answers) == {
        "copies": 2,
        "copies_top_1": 0.5,
        "copies_mrr": 0.625,
        "variants": 1,
        "variants_top_1": 0,
        "variants_mrr": 0.5,
        "strangers": 2,
        "strangers_above": 1,
    }
    assert summary([answer(UNKNOWN, None)]) == {"copies": 0, "variants": 0, "strangers": 0, "strangers_above": 0}


@pytest.mark.parametrize("count", [1, 4])
def test_the_tables_of_the_report_have_a_column_for_each_approach(count: int, tmp_path: Path) -> None:
    """However many there are: first hits by variant, ranks by photo, and strangers against the threshold."""
    rows = [answer(COPY, 1), answer(COPY, 3, variant="flip"), replace(answer(STRANGER, None, above=1), query="s.jpg")]
    report = NewPhotos(tmp_path, {f"approach {i}": rows for i in range(count)}, [])
    (as_it_is, first), (flip, second) = report.by_variant(ARCHIVE)
    assert [as_it_is.text, flip.text] == ["as it is", "mirrored (_flip)"]
    assert first == [Cell("1 of 1", "mean reciprocal rank 1.00")] * count
    assert second == [Cell("0 of 1", "mean reciprocal rank 0.33", wrong=True)] * count
    assert [(head.text, head.small, [cell.text for cell in cells]) for head, cells in report.by_photo(ARCHIVE)] == [
        ("new.jpg", "a.jpg", ["1 · 3"] * count)
    ]
    assert report.by_photo(QUERIES) == []
    assert [(head.text, [cell.text for cell in cells]) for head, cells in report.of_strangers()] == [
        ("s.jpg", ["0.100 below"] * count)
    ]


def test_the_folder_is_taken_from_where_the_settings_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one from the file's folder, for commands and deployments alike; the command line's as it is typed."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "neardup.toml").write_text('queries = "new"\n')
    monkeypatch.chdir(tmp_path)
    file = Path("work/neardup.toml")
    expected = str(tmp_path / "work" / "new")
    assert (load_settings(file).queries, read_files([file], None)) == (expected, {"queries": expected})
    assert load_settings(file, {"queries": "other"}).queries == "other"
    (tmp_path / "work" / "neardup.toml").write_text('queries = "/else/new"\n')
    assert load_settings(file).queries == "/else/new"


def test_the_demo_has_new_photos(tmp_path: Path) -> None:
    """Copies whose originals are found, strangers, and a file that is none; the same for the same seed."""
    archive = make_archive(tmp_path / "archive", groups=4, training=16)
    folders = [make_new_photos(tmp_path / name, archive) for name in ("one", "two")]
    assert digest_contents(folders[0]) == digest_contents(folders[1])
    new = read_new_photos(folders[0], tmp_path / "out")
    paths = [*(path for group in archive.groups for path in group), *archive.training]
    searched = [SearchedPhoto(path, path, path, path) for path in paths]
    originals, sentences = find_originals(new, read_originals(folders[0]), searched)
    kinds = [known.kind for known in originals.values()]
    assert (kinds.count(COPY), kinds.count(STRANGER), len(kinds)) == (2 * NEW_COPIES, NEW_STRANGERS, 9)
    assert (sentences, [skipped.path for skipped in new.left_out]) == ([], ["text.jpg"])
    times = {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")}
    make_new_photos(folders[0], archive)
    assert {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")} == times
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").touch()
    with pytest.raises(ArchiveError, match="not drawn by neardup"):
        make_new_photos(tmp_path / "mine", archive)


Searched = tuple[Path, Path, list[str]]
"""An output folder, the folder of new photos, and what was said of them."""


@pytest.fixture(scope="module")
def searched(
    made: MadeArchive, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[str]]:
    """The output folder of zero-shot that has searched for new photos, their folder, and what was said."""
    root = tmp_path_factory.mktemp("searched")
    out, new, said = root / "results", root / "new", list[str]()
    shutil.copytree(prepared, out)
    translate_training_set(out, TranslateSettings(translator="none"), None, lambda _: None)
    make_new_photos(new, made)
    for step in steps_of([zero_shot(out, new)], {}):
        step.take(said.append)
    return out, new, said


def zero_shot(out: Path, new: Path) -> Approach:
    """The approach without training, which searches for the photos of a folder."""
    return Approach("zero-shot", out, Settings(encoder=BUILTIN, queries=str(new)), "base")


def test_every_variant_is_searched_for(searched: Searched) -> None:
    """In the archive and among the others: rows by photo and variant, with columns as promised."""
    out, _, said = searched
    assert said == [
        "new photos: text.jpg is left out: the content is no whole JPEG, PNG, TIFF, BMP, GIF, WebP or JPEG 2000 image"
    ]
    with (out / "zero-shot" / FILES[0]).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:7] == ["query", "variant", "gallery", "kind", "original", "rank", "nearest"]
    assert list(rows[0])[7:] == ["similarity", "threshold", "above"]
    assert len(rows) == (2 * NEW_COPIES + NEW_STRANGERS) * (len(VARIANTS) + 1) * 2
    names = {photo.path for photo in TestSet.load(out).photos}
    of_table = [row for row in rows if (row["query"], row["gallery"]) == ("out_of_a_weekly.jpg", ARCHIVE)]
    assert [row["variant"] for row in of_table] == ["photo", *(name.strip("_") for name in VARIANTS)]
    assert {row["original"] for row in of_table} <= names
    assert all((row["rank"] != "") == (row["kind"] == COPY) for row in rows if row["gallery"] == ARCHIVE)
    assert all((row["rank"] != "") == (row["variant"] != "photo") for row in rows if row["gallery"] == QUERIES)
    flips = [row for row in rows if (row["variant"], row["gallery"]) == ("flip", QUERIES)]
    assert np.mean([row["rank"] == "1" for row in flips]) > 0.7


def test_the_summary_is_a_fact_of_the_comparison(searched: Searched) -> None:
    """For each approach, and the report shows the pictures of it."""
    out = searched[0]
    figures = json.loads((out / "comparison_facts.json").read_text())["new_photos"]["zero-shot"]
    assert figures == summary(load_answers(out / "zero-shot"))
    assert (figures["copies"], figures["strangers"]) == (10 * NEW_COPIES, 5 * NEW_STRANGERS)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "9 new photos were searched for" in page
    assert "text.jpg is left out: the content is no whole JPEG" in page
    assert page.count("<figcaption>copy of ") + page.count("<figcaption>stranger") >= 6


def test_the_users_folder_is_only_read(searched: Searched, made: MadeArchive, tmp_path: Path) -> None:
    """No file of it is changed, none is added; the variants lie in the output folder."""
    out, new, _ = searched
    assert digest_contents(new) == digest_contents(make_new_photos(tmp_path / "new", made))
    assert len(list((out / "queries").rglob("*.jpg"))) == 9 * 5


def test_what_is_done_is_not_done_again(searched: Searched) -> None:
    """Taken again, no step has anything to do."""
    out, new, _ = searched
    assert [step.title for step in steps_of([zero_shot(out, new)], {}) if not step.stage.done()] == []


def test_another_photo_or_original_is_another_search(searched: Searched, tmp_path: Path) -> None:
    """The keys of queries, search and comparison hold the photos and the table; those of the evaluation do not.

    What is searched counts too.
    """
    out, new, _ = searched
    changed = shutil.copytree(new, tmp_path / "changed")
    (changed / "queries.csv").write_text("query,photo\nout_of_a_weekly.jpg,\n")
    more = shutil.copytree(new, tmp_path / "more")
    shutil.copy(more / "out_of_a_weekly.jpg", more / "again.jpg")
    approaches = [zero_shot(out, folder) for folder in (new, changed, more)]
    assert len({comparison_stage([approach]).key for approach in approaches}) == 3
    assert len({queries_stage(out, approach.settings).key for approach in approaches}) == 3
    assert len({approach.evaluation.key for approach in approaches}) == 1
    fewer = shutil.copytree(out, tmp_path / "fewer")
    TrainingSet(TrainingSet.load(fewer).photos[1:]).save(fewer)
    assert queries_stage(fewer, approaches[0].settings).key != queries_stage(out, approaches[0].settings).key


def test_killed_while_variants_are_written_it_begins_them_again(searched: Searched, tmp_path: Path) -> None:
    """What lies half in `queries/` goes away, and so do the variants of photos that are gone."""
    out, new = shutil.copytree(searched[0], tmp_path / "out"), shutil.copytree(searched[1], tmp_path / "new")
    (new / "out_of_a_weekly.jpg").unlink()
    (out / "queries" / "half.jpg").write_bytes(b"half")
    for step in steps_of([zero_shot(out, new)], {}):
        step.take(lambda _: None)
    left = [path.name for path in (out / "queries").rglob("*.jpg")]
    assert (len(left), [name for name in left if "weekly" in name or name == "half.jpg"]) == (8 * 5, [])
    assert "line 2: no photo is called out_of_a_weekly.jpg among the new photos" in (out / "report.html").read_text()


def test_without_new_photos_nothing_is_said_of_them(searched: Searched, tmp_path: Path) -> None:
    """The comparison and the report are as they were before there were any."""
    out = shutil.copytree(searched[0], tmp_path / "out")
    compare_approaches([replace(zero_shot(out, out), settings=Settings(encoder=BUILTIN))], {})
    assert "new_photos" not in json.loads((out / "comparison_facts.json").read_text())
    assert "New photos" not in (out / "report.html").read_text()
