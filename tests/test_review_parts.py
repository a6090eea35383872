"""What the server prepares for the review page: tones, bars, words, and pairs seen the other way round."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import drawn_photo, save, small_results
from PIL import Image
from review_results import make_results
from starlette.testclient import TestClient

from neardup.archive import captions
from neardup.archive.trainingset import TrainingPhoto, TrainingSet
from neardup.detect.duplicate_tables import write_duplicates
from neardup.detect.duplicates import find_duplicates
from neardup.errors import ArchiveError, StorageError
from neardup.review.asked.again import asked_again
from neardup.review.asked.queues import Task
from neardup.review.found.candidates import Photo, ShownPair
from neardup.review.found.facts import Archived, PhotoFacts, date_of
from neardup.review.found.results import Results
from neardup.review.page.desk import Desk
from neardup.review.page.lookup import Lookup
from neardup.review.page.payloads import Alignment, TaskView
from neardup.review.page.pictures import SIDES, Pictures
from neardup.review.page.searches import Searches
from neardup.review.page.security import names_of
from neardup.review.page.server import create_app
from neardup.review.page.tones import toned
from neardup.review.record.links import Links
from neardup.review.record.verdicts import SAME, Verdict, open_verdicts
from neardup.review.texts import Words
from neardup.stages import STATE
from neardup.tables import save_rows
from neardup.verify.evidence import Evidence

A, B = (Photo(digit * 64, f"{digit}.jpg", PhotoFacts(f"{digit}.jpg", "")) for digit in "ab")
"""Two photos without a file."""
ONTO_CROP = (1.0, 0.0, -100.0, 0.0, 1.0, -50.0, 0.0, 0.0, 1.0)
"""From pixels of a photo of 400 × 200 to those of its crop of 200 × 100, whose corner is at 100, 50."""
MEASURED = Evidence(
    A.sha256,
    B.sha256,
    *(400, 200, 200, 100, 500, 500),
    matches=150,
    inliers=120,
    transform=ONTO_CROP,
    coverage_first=0.9,
    coverage_second=0.9,
    scale=1.0,
    squeeze=1.0,
    correlation=0.95,
    differences=((100.0, 50.0, 20.0, 10.0),),
)
"""What verification measured of the photo and its crop."""


def test_a_darker_print_gets_the_tones_of_its_photo() -> None:
    """Its difference is then that of two JPEGs; before, it was a quarter of all levels."""
    photo = drawn_photo(1)
    dark = photo.point(lambda level: level // 2)
    grey = np.asarray(photo.convert("L"), dtype=float)
    like = np.asarray(Image.open(BytesIO(toned(photo, dark, Alignment()))), dtype=float)
    assert np.abs(grey - np.asarray(dark.convert("L"), dtype=float)).mean() > 20
    assert np.abs(grey - like).mean() < 4


def test_only_what_both_photos_show_sets_the_tones() -> None:
    """A crop of the dark left half keeps its tones, however bright the right half of the photo is."""
    halves = np.repeat(np.array([[60] * 50 + [250] * 50], dtype=np.uint8), 100, axis=0)
    crop = Image.fromarray(np.full((100, 50), 90, dtype=np.uint8))
    onto, back = [0.5, 0, 0, 0, 1, 0, 0, 0, 1.0], [2, 0, 0, 0, 1, 0, 0, 0, 1.0]
    like = np.asarray(Image.open(BytesIO(toned(Image.fromarray(halves), crop, Alignment(onto, back)))))
    assert abs(float(like.mean()) - 60) < 2


def test_a_pair_is_aligned_from_either_side() -> None:
    """The crop's corner lies at a quarter of the photo; the photo's corner lies outside of the crop."""
    pair = ShownPair(0, A, B, evidence=MEASURED)
    there, here = Alignment.of(pair), Alignment.of(pair.seen_from(B.sha256))
    assert there.onto == pytest.approx([0.5, 0, 0.25, 0, 0.5, 0.25, 0, 0, 1])
    assert (here.onto, here.back) == (there.back, there.onto)
    assert there.boxes[0] == pytest.approx((0.25, 0.25, 0.05, 0.05))
    assert here.boxes[0] == pytest.approx((0, 0, 0.1, 0.1))


def test_bars_of_a_probability_start_where_the_one_before_ended() -> None:
    """From 0 over 3 and -1 to 1: a span of 4, each bar in percent of it."""
    terms = (("similarity", 3.0), ("points", -4.0), ("overlap", 2.0))
    view = TaskView(Task(0, ShownPair(0, A, B, terms=terms)))
    bars = [(start, width) for _, _, start, width in view.waterfall]
    assert np.array(bars) == pytest.approx(np.array([(25, 75), (0, 100), (0, 50)]))


def test_who_must_not_be_led_sees_no_alignment() -> None:
    """In the audit the photos lie on each other as they are, without boxes."""
    view = TaskView(Task(0, ShownPair(0, A, B, evidence=MEASURED)), blind=True)
    assert view.alignment == Alignment()
    assert replace(view, blind=False).alignment.boxes


def test_numbers_are_written_as_the_language_does() -> None:
    """A bound is rounded towards zero, so that it never says too much, but not below what it is."""
    assert [Words(language).percent(0.9499) for language in ("en", "fr")] == ["94%", "94\u202f%"]
    assert [Words(language).percent(0.9499, 1) for language in ("en", "fr")] == ["94.9%", "94,9\u202f%"]
    assert Words("en").percent(0.29) == "29%"
    assert [Words(language).number(12_345) for language in ("en", "fr")] == ["12,345", "12\u202f345"]


def test_one_of_a_kind_is_said_in_the_singular() -> None:
    """In both languages; and no probability is said to be certain."""
    assert [Words("en").say("points_agree", n=n) for n in (1, 2)] == ["1 point agrees", "2 points agree"]
    assert Words("fr").say("bridges_in_group", n=1) == "Relié par 1 pont"
    assert [Words("en").chance(chance) for chance in (0.0003, 0.0007, 0.9991, 1.0)] == [
        *("under 0.1%", "0.1%", "99.9%", "over 99.9%"),
    ]
    assert Words("fr").chance(1.0) == "plus de 99,9\u202f%"


def test_the_caption_of_a_legend_is_shown(tmp_path: Path) -> None:
    """As `prepare` and `translate` write both; a table that somebody spoilt costs the words alone."""
    photo = TrainingPhoto("a.jpg", "p/a.jpg", "0" * 64, "Le roi", "p", "x.xlsx", "S", 2, "1", "1", "0" * 16, "0" * 16)
    TrainingSet((photo,)).save(tmp_path)
    rows = [captions._Row("Le roi", "The king", "fr", "deepl")]
    table = save_rows(tmp_path / "captions.csv", captions._Row, rows)
    facts = Archived.load(tmp_path).of("p/a.jpg")
    assert (facts.legend, facts.caption, facts.language) == ("Le roi", "The king", "fr")
    table.write_bytes(b"legend;caption\n\xe9;\xe9\n")
    assert Archived.load(tmp_path).of("p/a.jpg").legend == "Le roi"
    with pytest.raises(ArchiveError, match="run `neardup translate"):
        captions.load_captions(tmp_path)


def test_a_group_is_found_by_a_name_however_its_accents_are_composed(tmp_path: Path) -> None:
    """As a browser types them, or as a disk of a Mac has them."""
    results = Results(make_results(tmp_path)[1])
    with open_verdicts(results.out) as verdicts:
        groups = Desk(results, verdicts, "Ada", Lookup(results)).groups
        assert [groups.named(name).tolist() for name in ("NAÏF", "nai\u0308f", "nobody")] == [[1], [1], []]


def test_where_nothing_was_found_the_page_says_so(tmp_path: Path) -> None:
    """Results without any pair have a queue with nothing in it."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "white").save(photos / "only.png")
    out = tmp_path / "results"
    write_duplicates(find_duplicates(photos), out / "duplicates")
    with open_verdicts(out) as verdicts:
        desk = Desk(results := Results(out), verdicts, "Ada", Lookup(results))
        with TestClient(create_app(desk, names_of("127.0.0.1", 8420)), base_url="http://127.0.0.1:8420") as client:
            answer = client.get("/api/tasks", params={"queue": "review", "session": "one"})
    assert (answer.status_code, answer.json()["tasks"]) == (200, [])


def test_what_a_browser_keeps_belongs_to_one_folder(tmp_path: Path) -> None:
    """The pages of two folders have one address, one after the other: what is unsent of the first must not go there."""
    outs = [small_results(tmp_path / name, groups=1)[1] for name in ("one", "two")]
    places = []
    for out in (*outs, outs[0]):
        results = Results(out)
        with open_verdicts(out) as verdicts:
            app = create_app(Desk(results, verdicts, "Ada", Lookup(results)), names_of("127.0.0.1", 8420))
            with TestClient(app, base_url="http://127.0.0.1:8420") as client:
                places.append(re.search(r'"place": "(\w+)"', client.get("/review").text)[1])
    assert places[0] == places[2] != places[1]


def test_what_the_database_refuses_is_to_be_sent_again(tmp_path: Path) -> None:
    """503 tells the page to keep the answer and try again, 422 that it can never be taken."""
    _, out = small_results(tmp_path, groups=1)
    results = Results(out)
    answer = {"id": "one", "photo": results.digest(0), "partner": results.digest(1), "verdict": "same", "who": "Ada"}
    answer["queue"] = "review"
    origin = {"Origin": "http://127.0.0.1:8420"}
    with open_verdicts(out) as verdicts:
        desk = Desk(results, verdicts, "Ada", Lookup(results))
        with TestClient(create_app(desk, names_of("127.0.0.1", 8420)), base_url="http://127.0.0.1:8420") as client:
            with closing(sqlite3.connect(out / "verdicts.sqlite", isolation_level=None)) as other:
                other.execute("ALTER TABLE verdicts RENAME TO away")
                refused = client.post("/api/verdict", json=answer, headers=origin)
                other.execute("ALTER TABLE away RENAME TO verdicts")
            never = client.post("/api/verdict", json=answer | {"partner": answer["photo"]}, headers=origin)
    assert (refused.status_code, never.status_code) == (503, 422)


@contextmanager
def client_of(out: Path, **headers: str) -> Iterator[TestClient]:
    """What asks the page of some results."""
    results = Results(out)
    with open_verdicts(out) as verdicts:
        app = create_app(Desk(results, verdicts, "Ada", Lookup(results)), names_of("127.0.0.1", 8420))
        with TestClient(app, base_url="http://127.0.0.1:8420", headers=headers) as client:
            yield client


def test_an_answer_to_a_folder_that_was_replaced_is_refused(tmp_path: Path) -> None:
    """With 503, so that the page keeps it until the server is started again; it went into a file that is gone."""
    _, out = small_results(tmp_path, groups=1)
    results = Results(out)
    answer = {"id": "one", "photo": results.digest(0), "partner": results.digest(1), "verdict": "same", "who": "Ada"}
    answer["queue"] = "review"
    with client_of(out, origin="http://127.0.0.1:8420") as client:
        out.rename(tmp_path / "former")
        deleted = client.post("/api/verdict", json=answer)
        small_results(tmp_path, groups=1)
        open_verdicts(out).close()
        replaced = client.post("/api/verdict", json=answer)
    for refused in (deleted, replaced):
        assert refused.status_code == 503
        assert "start `neardup review` again" in refused.json()["error"]
    with client_of(out, origin="http://127.0.0.1:8420") as client:
        assert client.post("/api/verdict", json=answer).json() == {"new": True}


def test_answers_that_do_not_count_yet_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    """The audit says that there are some, and why they do not count, where it would say that there are none."""
    _, out = small_results(tmp_path, groups=2)
    asked = {"queue": "audit", "session": "one"}
    with client_of(out) as client:
        before = client.get("/api/tasks", params=asked).json()
        later = before["tasks"][1]
        with open_verdicts(out) as verdicts:
            verdicts.add(Verdict.of(later["photo"]["sha256"], later["partner"]["sha256"], SAME, who="A", queue="audit"))
        after = client.get("/api/tasks", params=asked).json()
    assert "No link was audited yet" in before["html"]
    assert "1 link answered, it does not count so far" in after["html"]


def test_a_long_list_of_groups_has_several_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group stands on one of them."""
    monkeypatch.setattr("neardup.review.page.server.GROUPS_A_PAGE", 2)
    with client_of(small_results(tmp_path, groups=5)[1]) as client:
        pages = [re.findall(r'href="/group/(\d)"', client.get(f"/groups?start={start}").text) for start in (0, 2, 4)]
    assert [len(numbers) for numbers in pages] == [2, 2, 1]
    assert sorted(number for numbers in pages for number in numbers) == list("12345")


@pytest.mark.parametrize(
    ("name", "day"), [("3 AOÛT 1911", "1911-08-03"), ("3 ju\u0131n 1911", ""), ("3 \u017fept 1911", "")]
)
def test_a_month_is_read_in_capitals_and_in_no_letters_that_only_look_alike(name: str, day: str) -> None:
    """A dotless i and a long s are letters of their own."""
    assert date_of(f"{name}.jpg") == day


def test_a_page_of_other_groups_is_refused(tmp_path: Path) -> None:
    """After another run of `duplicates` its numbers mean other groups: none is merged, no photo is taken out."""
    _, out = small_results(tmp_path, groups=3)
    form, who = re.compile(r'name="grouping" value="(\w+)"'), {"who": "Ada"}
    with client_of(out, origin="http://127.0.0.1:8420") as client:
        grouping = form.search(client.get("/group/1").text)[1]
    table = out / "duplicates" / "groups.parquet"
    columns = pq.read_table(table).to_pydict()
    pq.write_table(pa.table(columns | {"group": [number % 3 + 1 for number in columns["group"]]}), table)
    with client_of(out, origin="http://127.0.0.1:8420") as client:
        photo = Results(out).digest(0)
        stale = client.post("/api/group/1/merge", json={"other": 2, "grouping": grouping, **who})
        out_of = client.post("/api/group/2/out", json={"photos": [photo], "grouping": grouping, **who})
        fresh = form.search(client.get("/group/1").text)[1]
        merged = client.post("/api/group/1/merge", json={"other": 2, "grouping": fresh, **who})
    assert (stale.status_code, out_of.status_code, merged.status_code) == (422, 422, 200)
    assert "reload" in stale.json()["error"]


def test_a_change_of_a_group_keeps_what_the_machine_said(tmp_path: Path) -> None:
    """With the probability and the decision beside it, what was just said is not asked again as if they were new."""
    _, out = small_results(tmp_path, groups=1)
    facts = out / "duplicates" / "duplicates.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"decision": "first"}))
    results = Results(out)
    leaves = results.digest(2)
    with client_of(out, origin="http://127.0.0.1:8420") as client:
        grouping = client.get("/group/1").text.split('name="grouping" value="')[1].split('"')[0]
        answer = client.post("/api/group/1/out", json={"photos": [leaves], "grouping": grouping, "who": "Ada"})
    assert answer.status_code == 200, answer.text
    with open_verdicts(out) as verdicts:
        found = verdicts.current()
        links = Links.of(found)
    said = {verdict.pair: (verdict.shown["probability"], verdict.shown["decision"]) for verdict in found}
    rows = [row for row in range(3) if leaves in results.contents(row)]
    assert said == {results.contents(row): (results.probability[row], "first") for row in rows}
    assert asked_again(links, dict.fromkeys(said, 0.999), "first", {}, {}) == {}


def test_the_page_of_a_group_says_what_holds_each_photo(tmp_path: Path) -> None:
    """The same bytes are said of no photo that only a verdict holds there."""
    archive, out = small_results(tmp_path, groups=1)
    first = next(iter(sorted(archive.rglob("*.jpg"))))
    (archive / "copy.jpg").write_bytes(first.read_bytes())
    save(drawn_photo(9), archive / "held.jpg")
    table = out / "duplicates" / "groups.parquet"
    columns = pq.read_table(table).to_pydict()
    added = {"group": [1, 1], "photo": ["copy.jpg", "held.jpg"], "exact_copy_of": [None, None]}
    pq.write_table(pa.table({name: values + added[name] for name, values in columns.items()}), table)
    with client_of(out) as client:
        page = client.get("/group/1").text
    why = dict(
        re.findall(r'class="name">([^<]*)</p>.*?class="why">(.*?)</p>', page.split('class="tag">')[-1], re.DOTALL)
    )
    assert (why["copy.jpg"], why["held.jpg"]) == (
        "The same bytes as another photo of the group",
        "A verdict holds it in the group",
    )


def test_no_link_leads_past_the_last_group(tmp_path: Path) -> None:
    """And whoever goes there by hand is told on a page; a script is told in JSON."""
    with client_of(small_results(tmp_path, groups=2)[1]) as client:
        assert [('rel="next"' in client.get(f"/group/{number}").text) for number in (1, 2)] == [True, False]
        page = client.get("/group/3", headers={"Accept": "text/html,*/*"})
        told = client.get("/group/3")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert '<p class="warn">there is no group 3' in page.text
    assert (told.status_code, "there is no group 3" in told.json()["error"]) == (404, True)


def test_the_pictures_of_a_photo_that_is_brought_have_their_sizes(tmp_path: Path) -> None:
    """None is a smaller one that was enlarged."""
    pictures = Pictures(Results(small_results(tmp_path, groups=1)[1]))
    data = BytesIO()
    drawn_photo(1, (2000, 1500)).save(data, "PNG")
    sha256 = pictures.add(data.getvalue())
    made = [Image.open(BytesIO(pictures.jpeg(sha256, side).read_bytes())) for side in SIDES]
    assert [max(picture.size) for picture in made] == [320, 1600, 2000]
    pictures.close()


def test_a_picture_that_cannot_be_written_is_no_fault_of_its_photo(tmp_path: Path) -> None:
    """The pair would be put away for good; it is asked for again, once there is room."""
    results = Results(small_results(tmp_path, groups=1)[1])
    pictures, cache = Pictures(results), results.out / STATE / "thumbnails"
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot be written .*: make room there"):
        pictures.fault(results.digest(0))
    cache.unlink()
    assert pictures.fault(results.digest(0)) == ""
    pictures.close()


@pytest.fixture
def searched(tmp_path: Path) -> Iterator[Desk]:
    """Five photos with their vectors."""
    photos, out = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    for number in range(5):
        drawn_photo(number).save(photos / f"{number}.png")
    write_duplicates(find_duplicates(photos, store=out / ".neardup" / "vectors"), out / "duplicates")
    with open_verdicts(out) as verdicts:
        results = Results(out)
        yield Desk(results, verdicts, "Ada", Lookup(results))


def test_a_photo_of_the_archive_has_as_many_hits_as_any_other(searched: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is none of them itself, and its place is not empty."""
    monkeypatch.setattr("neardup.review.page.lookup.HITS", 3)
    hits = searched.lookup.like_photo((searched.results.archive / "0.png").read_bytes())
    assert (len(hits), "0.png" in {hit.path for hit in hits}) == (3, False)


def test_the_search_that_was_longest_ago_is_forgotten(searched: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is asked for once more is a new one."""
    monkeypatch.setattr("neardup.review.page.searches.KEPT", 2)
    searches = Searches(searched)
    data = [(searched.results.archive / f"{number}.png").read_bytes() for number in range(3)]
    first, second, _, third = (searches.add(data[number]) for number in (0, 1, 0, 2))
    assert [searches.of(query)[0].path for query in (first, third)] == ["0.png", "2.png"]
    with pytest.raises(ArchiveError, match="not remembered"):
        searches.of(second)


def test_every_page_is_made_without_a_browser(tmp_path: Path) -> None:
    """Each answers, and the points of a pair name a photo that went away."""
    archive, out = small_results(tmp_path, groups=1)
    results = Results(out)
    photo, partner = results.digest(0), results.digest(1)
    with open_verdicts(out) as verdicts:
        desk = Desk(results, verdicts, "Ada", Lookup(results))
        made = vars(desk).keys()  # before two requests at once could each make their own
        assert {"queues", "pictures", "groups"} <= made
        app = create_app(desk, names_of("127.0.0.1", 8420))
        with TestClient(app, base_url="http://127.0.0.1:8420") as client:
            places = ("review", "audit", "groups", "group/1", "group/1/pairs", "contradictions", "search")
            for place in (*places, f"pair/{photo}/{partner}", f"api/points/{photo}/{partner}"):
                assert client.get(f"/{place}").status_code == 200, place
            (archive / results.path(0)).unlink()
            gone = client.get(f"/api/points/{photo}/{partner}")
    assert (gone.status_code, "is gone: run `neardup duplicates` again" in gone.json()["error"]) == (404, True)
