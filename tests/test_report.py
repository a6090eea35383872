"""The report: for a historian, in a real browser, on a phone, without a network."""

import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neardup.archive.discrepancies import KINDS, Discrepancy
from neardup.archive.testset import TestSet
from neardup.measure.comparison import Comparison, compare
from neardup.measure.evaluate import evaluate
from neardup.measure.plots import curves, pictures, title
from neardup.measure.report import best_approach, sentences, write_report
from neardup.pages import SIDE, Picture, _code, write_page
from neardup.settings.schema import APPROACHES

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def reported(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, Comparison]]:
    """The prepared archive, evaluated with vectors that know the groups better and better."""
    out = tmp_path_factory.mktemp("reported") / "results"
    shutil.copytree(prepared, out)
    test_set = TestSet.load(out)
    rng = np.random.default_rng(0)
    evaluations = []
    for noise, approach in zip((2.0, 1.0, 0.5, 1.0), APPROACHES, strict=True):
        centres = np.random.default_rng(5).normal(size=(int(test_set.groups.max()) + 1, 24))
        vectors = centres[test_set.groups] + noise * rng.normal(size=(len(test_set.photos), 24))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        names = [photo.name for photo in test_set.photos]
        made = evaluate(vectors, test_set.groups, names, approach=approach, fingerprint="f" * 64)
        history = [{"epoch": e, "train_loss": 3 / e, "validation_loss": 3.5 / e} for e in (1.0, 2.0, 3.0)]
        pictures(made, out / approach, out / "test_dataset", history if approach != "zero-shot" else [])
        evaluations.append(made)
        searched = {"validation_ndcg": 0.9, "validation_micro_ap": 0.8}
        shares = [{"share": share, **searched} for share in (0.0, 0.5, 1.0)]
        curves(out / approach, [{**row, **searched} for row in history], shares if approach == "adapted" else [])
    comparison = compare(evaluations)
    write_report(out, comparison, {"encoder": "by hand", "archive": "<made> & drawn"})
    return lambda: (out, comparison)


def test_it_starts_with_what_a_historian_asks(reported: Callable[[], tuple[Path, Comparison]]) -> None:
    """The first sentences say how many groups there are, how well they are found, and by which approach."""
    _, comparison = reported()
    first, *rest = sentences(comparison, comparison.evaluations[2])
    assert re.fullmatch(r"The test set has \d+ photos in 8 groups; 5 photos stand alone, .*", first)
    assert [line.partition(":")[0] for line in rest[:4]] == [title(a).capitalize() for a in APPROACHES]
    assert "fine-tuned + augmentation" in rest[4]


def compared(prepared: Path, out: Path, *, noise: float, approaches: int) -> Comparison:
    """A comparison of so many approaches of the prepared archive whose vectors are those of the groups, with noise."""
    test_set = TestSet.load(shutil.copytree(prepared, out))
    vectors = np.eye(int(test_set.groups.max()) + 1, dtype=np.float32)[test_set.groups]
    vectors += noise * np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [photo.name for photo in test_set.photos]
    chosen = list(APPROACHES)[:approaches]
    return compare([evaluate(vectors, test_set.groups, names, approach=one, fingerprint="f" * 64) for one in chosen])


def test_where_all_goes_right_the_report_says_no_more_than_that(prepared: Path, tmp_path: Path) -> None:
    """Equal approaches tie, no search is called the worst, and an interval without width is explained."""
    comparison = compared(prepared, tmp_path / "results", noise=0, approaches=2)
    first = comparison.evaluations[0]
    lines = sentences(comparison, first)
    searched, distinct = len(first.queries), len({row.group for row in first.queries})
    assert f"Zero-shot: for {searched} of {searched} photos the first answer" in lines[1]
    assert lines[-1] == "No approach is better than another: all have an nDCG of 100.0."
    page = write_report(tmp_path / "results", comparison, {}).read_text(encoding="utf-8")
    assert "No search went wrong." in page
    assert "Searches that went worst" not in page
    assert (
        f"with {distinct} groups a true value {100 * (1 - 0.05 ** (1 / distinct)):.1f} points worse cannot be" in page
    )


def test_no_search_is_among_the_best_and_the_worst(prepared: Path, tmp_path: Path) -> None:
    """With few groups the six of each would be the same ones."""
    comparison = compared(prepared, tmp_path / "results", noise=0.5, approaches=1)
    page = write_report(tmp_path / "results", comparison, {}).read_text(encoding="utf-8")
    finest, worst = (re.findall(r"searched for<br>([^<]+)<", part) for part in page.split("Searches that went worst"))
    assert worst
    assert not set(finest) & set(worst)


@pytest.mark.parametrize(("ndcg", "best"), [((0.9, 0.2), 0), ((0.2, 0.9), 1), ((0.9, 0.9), 0)])
def test_the_best_approach_has_the_greatest_ndcg(ndcg: tuple[float, float], best: int) -> None:
    """Whatever its F1; of equal ones the first is taken."""
    figures = [{"ndcg": SimpleNamespace(value=one), "f1": SimpleNamespace(value=1 - one)} for one in ndcg]
    evaluations: Any = tuple(SimpleNamespace(metrics=metrics) for metrics in figures)
    assert best_approach(Comparison(evaluations)) is evaluations[best]


def test_it_needs_no_network(reported: Callable[[], tuple[Path, Comparison]]) -> None:
    """Every picture lies in the page, which names no address of another place."""
    page = (reported()[0] / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="(\w+):', page)) == {"data"}
    assert not re.search(r"https?://|@import|url\(", page)


def test_names_are_escaped(reported: Callable[[], tuple[Path, Comparison]]) -> None:
    """A name with angle brackets is a name, no markup."""
    page = (reported()[0] / "report.html").read_text(encoding="utf-8")
    assert ("<made>" in page, "&lt;made&gt; &amp; drawn" in page) == (False, True)


def test_what_stands_between_backticks_is_code_and_escaped() -> None:
    """A folder's name in a command may hold any sign."""
    assert _code("run `a <b>` & look") == "run <code>a &lt;b&gt;</code> &amp; look"


def test_a_picture_holds_twice_the_pixels_that_it_is_shown_at(tmp_path: Path) -> None:
    """Else photos are blurred on every dense screen, a phone's first of all."""
    Image.new("RGB", (900, 600)).save(tmp_path / "x.png")
    data = Picture.of(tmp_path / "x.png", "x").source.removeprefix("data:image/jpeg;base64,")
    assert Image.open(BytesIO(b64decode(data))).size == (2 * SIDE, 2 * SIDE * 2 // 3)


def test_every_picture_is_drawn(reported: Callable[[], tuple[Path, Comparison]]) -> None:
    """Each picture is written and shows something."""
    folder = reported()[0] / "fine-tuned"
    names = {
        "similarity_histogram",
        "precision_recall",
        "similarity_matrix",
        "gallery_worst",
        "gallery_best",
        "losses",
        "validation",
    }
    assert {path.stem for path in folder.glob("*.png")} == names
    assert all(np.asarray(Image.open(path).convert("L")).std() > 10 for path in folder.glob("*.png"))


def browse(page: Path, folder: Path, width: int) -> str:
    """What a browser of that width makes of a page: how far it scrolls sideways, and how many pictures are broken."""
    frame = folder / "frame.html"
    frame.write_text(
        f"""<iframe id=f src="{page.as_uri()}" width={width} height=800></iframe><p id=said></p><script>
        const frame = document.getElementById("f");
        frame.onload = () => {{
            const images = [...frame.contentDocument.images];
            images.forEach(image => image.loading = "eager");
            setTimeout(() => {{
                const width = frame.contentDocument.documentElement.scrollWidth;
                const broken = images.filter(image => !image.naturalWidth).length;
                document.getElementById("said").textContent =
                    `width ${{width}} images ${{images.length}} broken ${{broken}}`;
            }}, 5000);
        }}</script>"""
    )
    ran = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--allow-file-access-from-files",
            "--virtual-time-budget=20000",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return re.search(r"width \d+ images \d+ broken \d+", ran.stdout)[0]  # type: ignore[index]


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_a_phone_and_a_desk(
    reported: Callable[[], tuple[Path, Comparison]], width: int, tmp_path: Path
) -> None:
    """The page does not scroll sideways, and every picture shows."""
    page = reported()[0] / "report.html"
    found = browse(page, tmp_path, width)
    count = page.read_text(encoding="utf-8").count("<img")
    assert re.fullmatch(rf"width (\d+) images {count} broken 0", found), found
    assert int(found.split()[1]) <= width


@in_a_browser
@pytest.mark.slow
def test_the_discrepancies_fit_a_phone(prepared: Path, tmp_path: Path) -> None:
    """The page does not scroll sideways: its wide tables scroll by themselves."""
    assert int(browse(prepared / "discrepancies.html", tmp_path, 390).split()[1]) <= 390


def test_pairs_to_be_reviewed_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    """And the page says what asks about all of them."""
    facts = ("picture", "photo", "partner", "sentence", "title", "note", "probability")
    shown = {"linked": [], "doubtful": [dict.fromkeys(facts, "")]}
    page = write_page(tmp_path / "explained.html", "explained", **shown, summary="", groups=0, in_doubt=13)
    assert "Shown are 1 of 13 pairs; <code>neardup review</code> asks about all of them." in page.read_text()


@in_a_browser
@pytest.mark.slow
def test_pairs_of_long_names_fit_a_phone(tmp_path: Path) -> None:
    """The page of explained pairs does not scroll sideways for a name without a space."""
    Image.new("L", (64, 48), 128).save(tmp_path / "pair.png")
    name = "z" * 200 + ".jpg"
    pair = {"picture": "pair.png", "photo": name, "partner": name, "sentence": f"{name} is a crop of {name}."}
    pair |= {"title": "Group 1", "note": "", "probability": "98.8 %"}
    page = tmp_path / "explained.html"
    write_page(page, "explained", linked=[pair], doubtful=[], summary="1 pair", groups=1, in_doubt=0)
    assert int(browse(page, tmp_path, 390).split()[1]) <= 390


def test_the_template_of_the_discrepancies_shows_every_line(tmp_path: Path) -> None:
    """Counts, kinds in their order, and the lines of each with their fields escaped; a kind without lines is not."""
    lines = [
        Discrepancy("not found", "sheet.xlsx", "Sheet1", 3, "B3", "<name>", "no photo of that name", "is name meant?"),
        Discrepancy("note", "a.jpg", detail="equal bytes"),
    ]
    counts = [("names", "listed", 2), ("names", "used", 1)]
    columns = [field.name for field in fields(Discrepancy)][1:]
    page = write_page(
        tmp_path / "page.html", "discrepancies", lines=lines, counts=counts, kinds=KINDS, columns=columns
    ).read_text(encoding="utf-8")
    assert re.findall(r"<h2>([\w ]+): 1 <small>", page) == ["not found", "note"]
    assert "<td>&lt;name&gt;</td><td>no photo of that name</td>" in page
    assert '<td>names</td><td>listed</td><td class="number">2</td>' in page
    assert "<td>a.jpg</td><td></td><td></td>" in page
