"""Groups for others: manifests and annotations that a validator takes, and a page that needs nothing."""

import json
import re
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from review_results import NAMES, make_results

from neardup.cli import main
from neardup.errors import ArchiveError, VerdictError
from neardup.review.exchange.iiif import places
from neardup.review.exchange.share import share
from neardup.review.found.candidates import Found, load_evidence
from neardup.review.record.references import References
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict
from neardup.verify.evidence import Evidence

BASE = "https://archive.example/near"


def shared(folder: Path) -> tuple[Found, Path]:
    """Four photos of a group, shared with one verdict and one measured pair."""
    found = Found.load(make_results(folder)[1])
    first, second = found.candidates[0].pair
    verdict = Verdict.of(first, second, SAME, who="Chérau <b>", queue="review", relation="crop", note="=1+1")
    turned = found.digests[NAMES[0]] == first
    scale = 2.0 if turned else 0.5
    sizes = ((60, 40), (61, 40)) if turned else ((61, 40), (60, 40))
    evidence = Evidence(
        first, second, *sizes[0], *sizes[1], 100, 100, matches=90, inliers=80,
        transform=(scale, 0, 0, 0, scale, 0, 0, 0, 1),
    )  # fmt: skip
    share(folder / "share", found, [verdict], {(first, second): evidence}, BASE)
    return found, folder / "share"


def read(path: Path) -> dict:
    """The object of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared folder."""
    return shared(tmp_path_factory.mktemp("shared"))[1]


def test_the_manifest_is_valid(folder: Path) -> None:
    """Prezi3's models take it, and it has a canvas a photo at the photo's own size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import iiif_prezi3  # noqa: PLC0415 - it warns of its own parts while it is imported
    value = read(folder / "manifests" / "group-1.json")
    parsed = iiif_prezi3.Manifest(**value)
    assert [(canvas.width, canvas.height) for canvas in parsed.items] == [(60 + n, 40) for n in range(4)]
    assert value["items"][1]["label"] == {"none": [NAMES[1]]}


def test_the_annotations_are_valid(folder: Path) -> None:
    """Prezi3's models take the page, too; each annotation links two canvases of the manifest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import iiif_prezi3  # noqa: PLC0415 - it warns of its own parts while it is imported
    value = read(folder / "annotations" / "group-1.json")
    iiif_prezi3.AnnotationPage(**value)
    canvases = {canvas["id"] for canvas in read(folder / "manifests" / "group-1.json")["items"]}
    assert len(value["items"]) == 3
    for item in value["items"]:
        ends = item["target"], item["body"][0]
        assert item["motivation"] == "linking"
        assert {end["source"]["id"] for end in ends} <= canvases
        assert all(end["source"]["partOf"][0]["id"] == f"{BASE}/manifests/group-1.json" for end in ends)


def test_an_annotation_tells_part_relation_verdict_and_who(folder: Path) -> None:
    """The part that both photos show, in pixels of each, the machine's sentence and the person's words."""
    items = read(folder / "annotations" / "group-1.json")["items"]
    item = next(item for item in items if "Chérau" in json.dumps(item, ensure_ascii=False))
    boxes = {part["selector"]["value"] for part in (item["target"], item["body"][0])}
    assert boxes in ({"xywh=0,0,30,20", "xywh=0,0,61,40"}, {"xywh=0,0,30,20", "xywh=0,0,60,40"})
    texts = [body["value"] for body in item["body"][1:]]
    assert texts[0] == "B is a crop of A (62 %).; probability 0.990"
    assert re.fullmatch(r"Chérau <b>, \d{4}-\d\d-\d\d: same; crop; =1\+1", texts[1])


def test_what_is_named_is_there(folder: Path) -> None:
    """Every address below the base is a file of the folder."""
    text = (folder / "manifests" / "group-1.json").read_text()
    files = set(re.findall(rf'"{BASE}/([^"]+\.(?:json|jpg))"', text))
    assert len(files) == 6
    assert [name for name in files if not (folder / name).is_file()] == []


def test_the_page_needs_nothing_and_escapes(folder: Path) -> None:
    """Pictures are relative files, no script, no network, and markup of names and notes is text."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert [source for source in sources if not (folder / source).is_file()] == []
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Chérau &lt;b&gt;: same (=1+1)" in page


def test_a_photo_that_was_replaced_is_not_shown(tmp_path: Path) -> None:
    """Its name is listed as left out, and the manifest has one canvas fewer."""
    archive, out = make_results(tmp_path)
    (archive / NAMES[0]).write_bytes((archive / NAMES[4]).read_bytes())
    assert share(tmp_path / "share", Found.load(out), [], {}, BASE)[1] == [NAMES[0]]
    assert len(read(tmp_path / "share" / "manifests" / "group-1.json")["items"]) == 3
    assert "Not shown" in (tmp_path / "share" / "index.html").read_text()


def test_what_people_said_of_a_pair_that_no_search_proposed_is_on_the_page(tmp_path: Path) -> None:
    """As in the annotations; a pair of which one photo is no longer in the results is not."""
    _, out = make_results(tmp_path)
    found = Found.load(out)
    one, other = sorted(found.digests[name] for name in (NAMES[1], NAMES[3]))
    apart = replace(found, candidates=tuple(pair for pair in found.candidates if pair.pair != (one, other)))
    said = [Verdict.of(one, other, DIFFERENT, who="Ada", queue="review", note="another day")]
    said.append(Verdict.of(one, "0" * 64, SAME, who="Ben", queue="review"))
    share(tmp_path / "share", apart, said, {}, BASE)
    page = (tmp_path / "share" / "index.html").read_text(encoding="utf-8")
    assert "Ada: different (another day)" in page
    assert "Ben" not in page


def test_a_group_of_which_no_photo_is_left_is_not_shared(tmp_path: Path) -> None:
    """A manifest has a canvas at least."""
    archive, out = make_results(tmp_path)
    for name in NAMES[:4]:
        (archive / name).unlink()
    share(tmp_path / "share", Found.load(out), [], {}, BASE)
    assert not list(tmp_path.glob("share/manifests/*"))
    assert "0 groups;" in (tmp_path / "share" / "index.html").read_text()


def test_the_reference_that_a_person_chose_is_shared_first(tmp_path: Path) -> None:
    """The others follow as they were."""
    _, out = make_results(tmp_path)
    digests = Found.load(out).digests
    References(out).choose(digests[NAMES[2]], [], "Ada")
    assert Found.load(out).groups == ((NAMES[2], NAMES[0], NAMES[1], NAMES[3]),)
    share(tmp_path / "share", Found.load(out), [], {}, BASE)
    first = read(tmp_path / "share" / "manifests" / "group-1.json")["items"][0]
    assert first["metadata"][0]["value"] == {"none": [digests[NAMES[2]]]}


def test_what_is_no_group_any_more_is_shared_no_longer(tmp_path: Path) -> None:
    """Neither its manifest and annotations nor its pictures stay from a former time; what somebody added does."""
    found, folder = shared(tmp_path)
    own = {"index.html", "manifests/collection.json", "pictures/reading-room.jpg"}
    for name in own:
        (folder / name).write_text("{}")
    share(folder, replace(found, groups=found.groups[:0]), [], {}, BASE)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == own


@pytest.mark.parametrize(
    "base", ["", "archive.example", "file:///etc", "javascript:alert(1)", "https://x/?q", "http://[bad"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, base: str) -> None:
    """Before anything is written."""
    found = Found.load(make_results(tmp_path)[1])
    with pytest.raises(VerdictError, match="is no address"):
        share(tmp_path / "share", found, [], {}, base)
    assert not (tmp_path / "share").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Files that are not ours are never written over."""
    found = Found.load(make_results(tmp_path)[1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(ArchiveError, match="did not write"):
        share(tmp_path / "mine", found, [], {}, BASE)
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"


def test_the_command_shares(tmp_path: Path) -> None:
    """One command, and the page is there."""
    _, out = make_results(tmp_path)
    result = CliRunner().invoke(main, ["verdicts", "share", "--out", str(out), "--base", BASE])
    assert (result.exit_code, (out / "share" / "index.html").is_file()) == (0, True)


def test_evidence_is_read_from_its_table(tmp_path: Path) -> None:
    """As verification writes it, a row a pair; nothing is known where there is no table."""
    assert load_evidence(tmp_path) == {}
    crop = (1.0, 0.0, -100.0, 0.0, 1.0, -50.0, 0.0, 0.0, 1.0)
    one = Evidence("a" * 64, "b" * 64, 400, 300, 200, 100, 90, 90, transform=crop, differences=((1.0, 2.0, 3.0, 4.0),))
    other = Evidence("a" * 64, "c" * 64, 400, 300, 200, 100, 90, 90)
    (tmp_path / "duplicates").mkdir()
    pq.write_table(pa.Table.from_pylist([asdict(one), asdict(other)]), tmp_path / "duplicates" / "evidence.parquet")
    assert load_evidence(tmp_path) == {("a" * 64, "b" * 64): one, ("a" * 64, "c" * 64): other}


def test_the_place_of_a_crop_is_where_it_is() -> None:
    """Of a photo that is the middle of another one: the middle there, and all of it here."""
    evidence = Evidence(
        "a" * 64, "b" * 64, 400, 300, 200, 100, 90, 90, transform=(1, 0, -100, 0, 1, -50, 0, 0, 1)
    )  # fmt: skip
    assert places(evidence) == ((100, 50, 200, 100), (0, 0, 200, 100))
