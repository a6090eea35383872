"""The review page in a real browser, through the real server: by keyboard, on a phone, in French, by two at once."""

import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import start
from made_results import drawn_photo, many_results, small_results
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from review_server import PATIENCE_S, Desk, asked, opened, serve
from servers import free_port

from neardup.review.found.results import Results
from neardup.review.record.verdicts import CANNOT_TELL, DATABASE, DIFFERENT, SAME, Verdict, open_verdicts
from neardup.review.texts import KEYS, texts
from neardup.stages import digest_file
from neardup.tables import write_csv

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt install chromium"),
    pytest.mark.timeout(240),  # the slowest takes a tenth of it, and not all that Chromium is asked for has a limit
]
FLAGS = ["--no-sandbox", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"]
"""Of Chromium: pages of several people are in sight at once, so that each draws."""
EVERYBODY = "0.0.0.0"  # noqa: S104 - that is what is tested
"""The interface that other machines reach."""
PATIENCE_MS = 1000 * PATIENCE_S
"""Milliseconds that the browser waits for what must come."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Eight groups of three photos, their pairs verified; one legend is hostile."""
    archive, out = small_results(tmp_path)
    path = min(archive.rglob("*.jpg")).relative_to(archive).as_posix()
    columns = ("path", "legend", "collection", "page")
    write_csv(out / "training_set.csv", columns, [(path, "<img src=x onerror=alert(1)> =1+1", "presse", "1")])
    with opened(out) as found:
        yield found


@contextmanager
def person(browser: Browser, desk: Desk, place: str = "/review", **options: object) -> Iterator[Page]:
    """Somebody's own browser window, open at a place; an error of its script fails the test."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(desk.address + place)
    yield page
    context.close()
    assert errors == []


def shown(page: Page, *, but: str = "") -> str:
    """The pair that is shown, as soon as one is, and another one than `but`."""
    page.wait_for_function("but => ![undefined, but].includes(document.body?.dataset.shown)", arg=but)
    return str(page.evaluate("document.body.dataset.shown"))


def press(page: Page, key: str) -> str:
    """Answer the shown pair by a key; the next pair."""
    before = shown(page)
    page.keyboard.press(key)
    return shown(page, but=before)


def answer_alone(page: Page, key: str, place: str) -> None:
    """Answer a pair that was opened from another page, and wait until that page is back.

    Chromium never closes a window that is on its way back.
    """
    shown(page)
    page.keyboard.press(key)
    expect(page).to_have_url(re.compile(place))
    page.wait_for_load_state()


def test_pairs_are_judged_by_keyboard_alone(browser: Browser, desk: Desk) -> None:
    """Each answer is stored with who, how long and what was shown; Z takes the last back and shows its pair again."""
    with person(browser, desk) as page:
        first = shown(page)
        for key in "sdx":
            last = shown(page)
            press(page, key)
        found = desk.wait_for(3)
        assert [verdict.verdict for verdict in found] == [SAME, DIFFERENT, CANNOT_TELL]
        assert {verdict.who for verdict in found} == {"Ada"}
        assert all(verdict.seconds is not None and 0.4 < verdict.shown["probability"] < 1 for verdict in found)
        assert set(first.split("/")) == {found[0].first, found[0].second}
        before = shown(page)
        page.keyboard.press("z")
        assert shown(page, but=before) == last
        assert len(desk.wait_for(2)) == 2
        expect(page.locator("#progress")).to_contain_text("2 answered")


def test_the_legend_is_the_table_of_keys(browser: Browser, desk: Desk) -> None:
    """Every key that works is in the legend, with one meaning, and every button says its own key."""
    with person(browser, desk) as page:
        shown(page)
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        words = texts("en")
        legend = [row.split("\t") for row in page.locator("#help table").inner_text().splitlines()]
        names = {words.get(f"name_{key.key}", key.key.upper()) for key in KEYS}
        assert {row[0].strip() for row in legend} == names
        assert [row[1].strip() for row in legend] == [words[f"key_{key.action.replace(' ', '_')}"] for key in KEYS]
        for button in page.locator("button[data-action][aria-keyshortcuts]").all():
            action, key = button.get_attribute("data-action"), button.get_attribute("aria-keyshortcuts")
            assert (key, action) in {(one.key, one.action) for one in KEYS}


def test_every_view_shows_both_photos(browser: Browser, desk: Desk) -> None:
    """Blink, slider, difference with boxes, matched points, and a zoom that moves both."""
    with person(browser, desk) as page:
        shown(page)
        for key, view in (("b", "blink"), ("l", "slider"), ("f", "difference"), ("p", "points"), ("1", "side")):
            page.keyboard.press(key)
            expect(page.locator("#stage")).to_have_attribute("data-view", view)
        expect(page.locator(".waterfall li").first).to_be_visible()
        before = [image.bounding_box() for image in page.locator(".frame > img").all()]
        page.keyboard.press("+")
        page.wait_for_timeout(100)
        after = [image.bounding_box() for image in page.locator(".frame > img").all()]
        assert len(before) == len(after) == 2
        assert all(a and b and b["width"] > a["width"] * 1.2 for a, b in zip(before, after, strict=True))


def test_swapped_photos_keep_their_letters(browser: Browser, desk: Desk) -> None:
    """What the machine says of A and B stays true, and the answer is stored for the pair as it was asked."""
    with person(browser, desk) as page:
        pair = shown(page)
        names = [page.locator(f"#{side} .name").inner_text() for side in ("photo", "partner")]
        page.keyboard.press("w")
        expect(page.locator("#photo .name")).to_have_text(names[1])
        expect(page.locator("#partner .name")).to_have_text(names[0])
        assert names[1].startswith("Photo B")
        assert shown(page) == pair
        page.keyboard.press("w")
        expect(page.locator("#photo .name")).to_have_text(names[0])


def test_the_difference_is_that_of_a_picture_with_equal_tones(browser: Browser, desk: Desk) -> None:
    """The toned partner is fetched when it is looked at, not before."""
    with person(browser, desk) as page:
        shown(page)
        loaded = "() => document.querySelector('#stage .toned').naturalWidth > 0"
        assert page.evaluate(loaded) is False
        page.keyboard.press("f")
        page.wait_for_function(loaded)


def test_the_audit_does_not_show_what_the_machine_thinks(browser: Browser, desk: Desk) -> None:
    """Neither the page nor what the server sends it, until the answer is given; then it counts for the bound."""
    with person(browser, desk, "/audit") as page:
        shown(page)
        assert "Probability" not in page.locator("#task").inner_text()
        page.keyboard.press("p")
        expect(page.locator("#stage")).to_have_attribute("data-view", "side")
        assert page.locator("[data-action=points], [data-points]").count() == 0
        press(page, "s")
        (found,) = desk.wait_for(1)
        assert found.queue == "audit"
        assert found.shown["machine_seen"] is False
        expect(page.locator("#bought")).to_contain_text("at least 5%")
        answer = page.request.get(f"{desk.address}/api/tasks?queue=audit&session=other").json()
        assert answer["tasks"]
        assert not {"probability", "band", "sentence", "similarity"} & {key for task in answer["tasks"] for key in task}


def test_french_people_read_french(browser: Browser, desk: Desk) -> None:
    """By the browser's language, with every text translated and every key where it was."""
    assert texts("fr").keys() == texts("en").keys()
    with person(browser, desk, locale="fr-FR") as page:
        shown(page)
        assert page.locator("html").get_attribute("lang") == "fr"
        expect(page.locator("[data-action=same]")).to_contain_text(texts("fr")["key_same"])
        press(page, "s")
        assert desk.wait_for(1)[0].verdict == SAME


def test_a_phone_shows_all_without_scrolling_sideways(browser: Browser, desk: Desk) -> None:
    """Buttons are large enough for a thumb, and a tap answers."""
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with person(browser, desk, **phone) as page:
        before = shown(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for button in page.locator(".verdicts button").all():
            box = button.bounding_box()
            assert box
            assert box["height"] >= 44
        page.locator("[data-action=different]").tap()
        shown(page, but=before)
        assert desk.wait_for(1)[0].verdict == DIFFERENT


def test_long_names_and_all_queues_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    """A name without a place to break is broken; no page scrolls sideways, and each way between pages is in sight."""
    archive, out = small_results(tmp_path, groups=1)
    long = "A" * 180
    for photo in list(archive.rglob("*.jpg")):
        photo.rename(photo.with_name(photo.name.replace("Aamulehti", long)))
    for table in ("pairs", "groups"):
        file = out / "duplicates" / f"{table}.parquet"
        columns = pq.read_table(file).to_pydict()
        named = {
            name: [path.replace("Aamulehti", long) for path in columns[name]]
            for name in ("photo", "partner")
            if name in columns
        }
        pq.write_table(pa.table(columns | named), file)
    for width in (390, 1280):
        size = {"viewport": {"width": width, "height": 800}}
        with opened(out) as desk, person(browser, desk, **size) as page:
            shown(page)
            for place in ("/review", "/groups", "/group/1", "/search"):
                page.goto(desk.address + place)
                if place == "/review":
                    shown(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, place
                for way in page.locator("nav a").all():
                    box = way.bounding_box()
                    assert box
                    assert 0 <= box["x"] <= box["x"] + box["width"] <= width


def test_the_buttons_of_a_group_name_their_photo(browser: Browser, desk: Desk) -> None:
    """Whoever hears them hears which photo each is for; without a script the page says what it needs."""
    with person(browser, desk, "/group/1") as page:
        for control in ("input[name=photo]", "button[data-reference]"):
            names = [one.get_attribute("aria-label") for one in page.locator(control).all()]
            assert len(set(names)) == len(names) == 2
    with person(browser, desk, java_script_enabled=False) as page:
        assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_two_people_get_different_pairs_and_may_disagree(browser: Browser, desk: Desk) -> None:
    """Nobody is given what another one looks at; two answers to one pair are a contradiction that somebody settles."""
    with person(browser, desk) as ada, person(browser, desk) as ben:
        pair = shown(ada)
        assert shown(ben) != pair
        ben.keyboard.press("?")
        ben.locator("#who").fill("Ben")
        ben.keyboard.press("Escape")
        press(ada, "s")
        desk.wait_for(1)
        ben.goto(f"{desk.address}/pair/{pair}")
        answer_alone(ben, "d", "/review$")
        shown(ben)
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while [verdict.who for verdict in desk.verdicts] != ["Ben"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with open_verdicts(desk.out) as kept:
        kept.add(Verdict.of(*pair.split("/"), SAME, who="Cleo", queue="import"))
    with person(browser, desk, "/contradictions") as page:
        expect(page.locator(".contradiction")).to_contain_text("Cleo")
        expect(page.locator(".contradiction")).to_contain_text("Ben")
        page.locator(".contradiction a").click()
        answer_alone(page, "s", "/contradictions$")
        (settled,) = desk.wait_for(1)
        assert settled.verdict == SAME


def test_what_a_closed_window_held_comes_to_the_one_that_is_open(browser: Browser, tmp_path: Path) -> None:
    """While another window has all that is left, the page says so and goes on asking; at the end nothing is left."""
    words = texts("en")
    _, out = small_results(tmp_path, groups=1)
    with opened(out) as desk, person(browser, desk) as ada:
        pair = shown(ada)
        with person(browser, desk) as ben:
            expect(ben.locator("#empty")).to_have_text(words["left_elsewhere"])
            expect(ben.locator("#progress")).to_contain_text("1 left")
            ada.close()
            assert shown(ben) == pair
            ben.keyboard.press("s")
            expect(ben.locator("#empty")).to_have_text(words["nothing_left"])
            desk.wait_for(1)


def test_pairs_of_another_run_are_asked_without_a_new_start(browser: Browser, tmp_path: Path) -> None:
    """What `duplicates` publishes while the page is open is what is asked after the next answer."""
    _, out = small_results(tmp_path, groups=1)
    with opened(out) as desk, person(browser, desk) as page:
        first = shown(page)
        expect(page.locator("#progress")).to_contain_text("1 left")
        small_results(tmp_path, groups=3)
        page.keyboard.press("s")
        assert shown(page, but=first) != first
        expect(page.locator("#progress")).to_contain_text("2 left · ")
        assert len(desk.wait_for(1)) == 1


def test_a_server_that_is_killed_loses_no_answer(browser: Browser, desk: Desk) -> None:
    """What was answered while it was gone is sent when it is there again, once, and no pair is asked twice."""
    with person(browser, desk) as page:
        press(page, "s")
        desk.wait_for(1)
        before = shown(page)
        desk.process.kill()
        page.keyboard.press("d")
        expect(page.locator("#notice")).to_contain_text("1 ")
        desk.again()
        assert [verdict.verdict for verdict in desk.wait_for(2)] == [SAME, DIFFERENT]
        expect(page.locator("#notice")).to_be_hidden()
        assert shown(page, but=before)
    answered = {verdict.pair for verdict in desk.verdicts}
    with person(browser, desk) as page:
        asked = {tuple(sorted(shown(page).split("/")))}
        asked.add(tuple(sorted(press(page, "x").split("/"))))
        assert not asked & answered


def test_a_pair_that_was_put_off_is_taken_back_first(browser: Browser, desk: Desk) -> None:
    """Before the answer that was given earlier; what is taken back is said where it is seen."""
    with person(browser, desk) as page:
        first = shown(page)
        second = press(page, "s")
        third = press(page, "n")
        page.keyboard.press("z")
        assert shown(page, but=third) == second
        expect(page.locator("#notice")).to_have_text("Taken back: Skip.")
        assert len(desk.wait_for(1)) == 1
        page.keyboard.press("z")
        assert shown(page, but=second) == first
        expect(page.locator("#notice")).to_have_text("Taken back: Same picture.")
        assert desk.wait_for(0) == []


def test_an_answer_that_waits_can_be_taken_back(browser: Browser, desk: Desk) -> None:
    """It is sent no more, and its pair is shown again, whether it is answered anew or not."""
    with person(browser, desk) as page, closing(sqlite3.connect(desk.out / DATABASE, isolation_level=None)) as other:
        before = shown(page)
        other.execute("CREATE TRIGGER away BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'away'); END")
        page.keyboard.press("s")
        expect(page.locator("#notice")).to_contain_text("not saved")
        after = shown(page, but=before)
        page.keyboard.press("z")
        assert shown(page, but=after) == before
        other.execute("DROP TRIGGER away")
        page.keyboard.press("d")
        assert [verdict.verdict for verdict in desk.wait_for(1)] == [DIFFERENT]


def test_an_answer_whose_receipt_was_lost_can_be_taken_back(browser: Browser, desk: Desk) -> None:
    """The server has stored it, the page thinks that it waits: it is withdrawn, and no more in force."""
    with person(browser, desk) as page:
        before = shown(page)

        def lose(route: Route) -> None:
            """Let the answer reach the server, and lose the response."""
            route.fetch()
            route.abort()

        page.route("**/api/verdict", lose)
        page.keyboard.press("s")
        expect(page.locator("#notice")).to_contain_text("not saved")
        (given,) = desk.wait_for(1)
        after = shown(page, but=before)
        page.keyboard.press("z")
        assert shown(page, but=after) == before
        assert desk.wait_for(0) == []
        page.unroute("**/api/verdict")
        page.keyboard.press("d")
        assert [(verdict.pair, verdict.verdict) for verdict in desk.wait_for(1)] == [(given.pair, DIFFERENT)]


def test_pairs_without_pictures_are_named_to_the_server_once(browser: Browser, desk: Desk) -> None:
    """However many there are, what the page asks for is no longer than for none, and all others are shown."""
    results = Results(desk.out)
    for number in range(1, 7):
        for photo in results.members(number).tolist():
            (results.archive / results.path(photo)).unlink()
    asked_for = list[str]()
    with person(browser, desk, "/contradictions") as page:
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(f"{desk.address}/review")
        shown(page)
        press(page, "x")
        page.keyboard.press("x")
        expect(page.locator("#empty")).to_be_visible()
    held = [parse_qs(urlsplit(url).query).get("but", [""])[0] for url in asked_for if "/api/tasks" in url]
    assert max(len(numbers.split(",")) for numbers in held) <= 4
    assert len(desk.wait_for(2)) == 2


def test_photos_whose_disk_was_away_are_asked_when_it_is_back(browser: Browser, tmp_path: Path) -> None:
    """No pair is passed over while it is away, the page says why, and needs not even be loaded again."""
    archive, out = small_results(tmp_path, groups=3)
    with opened(out) as desk:
        archive.rename(tmp_path / "away")
        with person(browser, desk) as page:
            expect(page.locator("#notice")).to_contain_text(f"{archive} cannot be read: is their disk connected?")
            expect(page.locator("#empty")).to_be_hidden()
            (tmp_path / "away").rename(archive)
            pair = shown(page)
            expect(page.locator("#notice")).to_be_hidden()
            page.keyboard.press("s")
            assert desk.wait_for(1)[0].pair == tuple(sorted(pair.split("/")))


def test_a_photo_that_is_there_again_is_asked_about(browser: Browser, tmp_path: Path) -> None:
    """While it is gone the page names it and says that its pair is left; no answer is waited for in vain."""
    archive, out = small_results(tmp_path, groups=1)
    file = min(archive.rglob("*.jpg"))
    held = file.read_bytes()
    file.unlink()
    with opened(out) as desk, person(browser, desk) as page:
        expect(page.locator("#notice")).to_contain_text(f"{file.name} is gone")
        expect(page.locator("#empty")).to_have_text(texts("en")["unreadable_one"].format(n=1))
        file.write_bytes(held)
        shown(page)


def test_a_pair_may_be_looked_at_for_days(browser: Browser, desk: Desk) -> None:
    """Its answer is stored with the longest time that the server takes."""
    with person(browser, desk) as page:
        before = shown(page)
        page.evaluate("performance.now = () => 3e8")
        page.keyboard.press("s")
        assert [verdict.seconds for verdict in desk.wait_for(1)] == [86_400]
        shown(page, but=before)


def test_who_moved_the_slider_goes_on_by_keyboard(browser: Browser, desk: Desk) -> None:
    """Letters answer though the slider has the focus; the arrows are the slider's own."""
    with person(browser, desk) as page:
        before = shown(page)
        page.keyboard.press("l")
        slider = page.locator("#slide input")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert float(slider.input_value()) > 50
        page.keyboard.press("s")
        shown(page, but=before)
        assert desk.wait_for(1)[0].verdict == SAME


def test_letters_answer_with_the_correction_that_was_chosen(browser: Browser, desk: Desk) -> None:
    """In a list, too, where a letter would choose another line; Escape closes what is corrected."""
    with person(browser, desk) as page:
        before = shown(page)
        page.keyboard.press("i")
        page.locator("#relation").select_option("crop")
        expect(page.locator("#relation")).to_be_focused()
        page.keyboard.press("s")
        shown(page, but=before)
        (found,) = desk.wait_for(1)
        assert (found.verdict, found.relation) == (SAME, "crop")
        page.locator("[name=note]").focus()
        page.keyboard.press("Escape")
        expect(page.locator("#relation")).to_be_hidden()
        expect(page.locator("#details summary")).to_be_focused()


def test_a_note_that_was_begun_stays_with_its_pair(browser: Browser, desk: Desk) -> None:
    """Through a new loading of the page, and no other pair has it; it is stored with the answer."""
    with person(browser, desk) as page:
        pair = shown(page)
        page.keyboard.press("i")
        page.locator("[name=note]").fill("from the agency")
        page.reload()
        assert shown(page) == pair
        expect(page.locator("[name=note]")).to_have_value("from the agency")
        page.locator("[data-action=different]").click()
        shown(page, but=pair)
        assert desk.wait_for(1)[0].note == "from the agency"
        expect(page.locator("[name=note]")).to_have_value("")


def test_points_that_cannot_be_found_are_said(browser: Browser, desk: Desk) -> None:
    """As where a photo went away after its picture was made."""
    with person(browser, desk) as page:
        shown(page)
        for photo in (desk.out.parent / "archive").rglob("*.jpg"):
            photo.unlink()
        page.keyboard.press("p")
        expect(page.locator("#notice")).to_contain_text("is gone: run `neardup duplicates` again")


def test_a_group_is_corrected(browser: Browser, desk: Desk) -> None:
    """A photo is taken out, another group merged, a reference chosen; each is a verdict, and can be undone."""
    with person(browser, desk, "/group/1") as page:
        page.locator("input[name=photo]").first.check()
        page.locator("#out").dblclick()
        expect(page.locator("#notice")).to_contain_text("Taken out")
        assert {verdict.verdict for verdict in desk.verdicts} == {DIFFERENT}
        assert len({verdict.id.partition(":")[0] for verdict in desk.verdicts}) == 1  # what one undo takes back
        taken = len(desk.verdicts)
        page.locator("#other").fill("2")
        page.locator("#merge").click()
        expect(page.locator("#notice")).to_contain_text("Merged")
        assert len(desk.wait_for(taken + 1)) == taken + 1
        page.keyboard.press("z")
        expect(page.locator("#notice")).to_contain_text("Taken back")
        desk.wait_for(taken)
        wanted = page.locator("button[data-reference]").last.get_attribute("data-reference")
        page.locator("button[data-reference]").last.click()
        expect(page.locator("#notice")).to_contain_text("reference")
        assert wanted in (page.locator(".members .reference a.picture img").get_attribute("src") or "")


def test_what_was_done_is_said_once_and_covers_no_button(browser: Browser, desk: Desk) -> None:
    """It goes with the next action, and is not said again when the page is loaded again."""
    with person(browser, desk, "/group/1") as page:
        page.locator("input[name=photo]").first.check()
        page.locator("#out").click()
        expect(page.locator("#notice")).to_contain_text("Taken out")
        top = page.locator("#notice").bounding_box()
        bars = [bar.bounding_box() for bar in page.locator("header, main").all()]
        assert top
        assert all(
            bar and (bar["y"] >= top["y"] + top["height"] or bar["y"] + bar["height"] <= top["y"]) for bar in bars
        )
        assert "done=" not in page.url
        page.keyboard.press("?")
        expect(page.locator("#notice")).to_be_hidden()


def test_the_legend_of_keys_opens_at_its_name(browser: Browser, desk: Desk) -> None:
    """In a low window, too: the name is what people look for there."""
    with person(browser, desk, viewport={"width": 640, "height": 360}) as page:
        shown(page)
        page.keyboard.press("?")
        expect(page.locator("#who")).to_be_in_viewport()


def test_the_slider_is_in_sight_on_a_small_screen(browser: Browser, desk: Desk) -> None:
    """On a phone and in a low window: beside the photo that it moves over, not behind the answers."""
    for width, height in ((390, 800), (640, 400), (1280, 720)):
        with person(browser, desk, viewport={"width": width, "height": height}) as page:
            shown(page)
            page.keyboard.press("l")
            place, bar = (page.locator(name).bounding_box() for name in ("#slide", ".verdicts"))
            assert place
            assert bar
            assert place["y"] + place["height"] <= min(bar["y"], height)


def test_a_photo_is_searched_and_judged_from_there(browser: Browser, team: dict[str, str], tmp_path: Path) -> None:
    """Hits are verified: the original is said to be mirrored; its verdict is of the search."""
    from commands import neardup  # noqa: PLC0415 - only here a folder is really searched

    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(4):
        drawn_photo(number).save(photos / f"{number}.jpg", quality=92)
    result = neardup("duplicates", photos, "--out", out, cwd=tmp_path, **team)
    assert result.returncode == 0, result.stderr
    brought = tmp_path / "brought.png"
    drawn_photo(2).transpose(0).save(brought)
    with opened(out) as desk, person(browser, desk, "/search") as page:
        page.locator("#file").set_input_files(brought)
        hit = page.locator("#hits li").first
        expect(hit).to_contain_text("mirrored")
        expect(hit).to_contain_text("2.jpg")
        found_at = page.url
        hit.locator("a").click()
        answer_alone(page, "s", re.escape(found_at))
        (found,) = desk.wait_for(1)
        assert found.queue == "search"
        assert set(found.pair) == {digest_file(photos / "2.jpg"), digest_file(brought)}
        page.goto(found_at)
        expect(page.locator("#hits li").first).to_be_visible()
        page.locator("#file").set_input_files({"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
        expect(page.locator("#notice")).to_contain_text("no whole JPEG")
        expect(page.locator("#hits li, #query")).to_have_count(0)  # those of another photo
        expect(page.locator("#file")).to_have_value("")  # the same file, mended, can be chosen again


def test_ten_thousand_pairs_are_judged_as_ten_are(browser: Browser, tmp_path: Path) -> None:
    """The queue says how many there are, and the next pair waits already when one is answered."""
    _, out = many_results(tmp_path, shown=24)
    with opened(out) as desk, person(browser, desk) as page:
        shown(page)
        expect(page.locator("#progress")).to_contain_text("10,000 left")
        for _ in range(5):
            press(page, "s")
        assert len(desk.wait_for(5)) == 5
        expect(page.locator("#progress")).to_contain_text("9,995 left")


def test_attacks_are_refused_with_a_sentence(desk: Desk) -> None:
    """A foreign name or origin, a form of another site, a path out of the archive, and a body that is no request."""
    body = b'{"ids": ["a"], "who": "Eve"}'
    json = {"Content_Type": "application/json"}
    own = {"Origin": desk.address}
    assert asked(desk.address, "/review", Host="evil.example")[0] == 421
    assert asked(desk.address, "/api/undo", data=body, **json, Origin="http://evil.example")[0] == 403
    assert asked(desk.address, "/api/undo", data=body, **json)[0] == 403
    assert asked(desk.address, "/api/undo", data=body, **own, Content_Type="text/plain")[0] == 415
    assert asked(desk.address, "/api/undo", data=body, **own, **json) == (
        422,
        '{"error":"that verdict was not stored: there is nothing to take back"}',
    )
    assert asked(desk.address, "/api/verdict", data=b"{}", **own, **json)[0] == 422
    for path in ("/photo/../../etc/passwd/320.jpg", "/photo/%2e%2e%2f%2e%2e%2fetc%2fpasswd/320.jpg"):
        status, text = asked(desk.address, path)
        assert status == 404
        assert "root:" not in text
    assert asked(desk.address, f"/photo/{'0' * 64}/320.jpg")[0] == 404
    assert asked(desk.address, "/static/../server.py")[0] == 404
    assert desk.verdicts == []


def test_legends_are_text_and_photos_are_encoded_anew(browser: Browser, desk: Desk) -> None:
    """A legend with markup is shown as it was written, and no script of a page's own can run."""
    with person(browser, desk, "/group/1") as page:
        text = page.locator(".members").inner_text()
        assert "<img src=x onerror=alert(1)>" in text
        assert page.locator("img[src=x]").count() == 0
        answer = page.request.get(f"{desk.address}/group/1")
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        source = page.locator(".members img").first.get_attribute("src")
        picture = page.request.get(f"{desk.address}{source}")
        assert picture.headers["content-type"] == "image/jpeg"


def test_other_machines_need_the_token(browser: Browser, tmp_path: Path) -> None:
    """Without it every request is refused; the printed address lets a browser in."""
    _, out = small_results(tmp_path, groups=2)
    port = free_port()
    process = serve(out, port, "--host", EVERYBODY, "--allow-host", "127.0.0.1")
    try:
        address = f"http://127.0.0.1:{port}"
        status, sentence = asked(address, "/review")
        assert status == 403
        assert "the address that `neardup review` printed" in sentence
        printed = process._files[0].read_text()
        token = re.search(r"\?token=[\w-]+", printed)
        assert token
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{address}/review{token[0]}")
        expect(page.locator("#progress")).to_contain_text("2 left", timeout=PATIENCE_MS)
        assert "token" not in page.url
        context.close()
    finally:
        process.kill()


def test_results_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    """It says which command makes them."""
    result = start("review", "--out", tmp_path, cwd=tmp_path).ended()
    assert result.returncode == 1
    assert "run `neardup duplicates ARCHIVE" in result.stderr
