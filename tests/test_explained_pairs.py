"""Pairs of a folder verified: tables, sentences and pictures, and two photos explained from the command line."""

import html
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import neardup
from PIL import Image, ImageOps

from neardup.builtin.scenes import Scene
from neardup.decide.chosen_decision import SHIPPED, decision_for, own_decision, shipped_decision, starting_decision
from neardup.decide.decision import Decision
from neardup.decide.promises import photos_with_false_links
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.review.asked.again import load_again
from neardup.review.record.references import References
from neardup.review.record.verdicts import DIFFERENT, SAME, Verdict, open_verdicts
from neardup.settings.schema import APPROACHES
from neardup.stages import digest_file
from neardup.verify.candidates import LEAST_SIMILARITY


@pytest.fixture(scope="module")
def found(team: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a folder of four pictures, of which two are copies of the others and one is filed twice."""
    photos, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("out")
    for number in (1, 2):
        scene = Scene.of(number).image
        scene.save(photos / f"{number}.png")
        ImageOps.mirror(scene).save(photos / f"{number} mirrored <b>.png")
    (photos / "again.png").write_bytes((photos / "1.png").read_bytes())
    run(photos, out, **team)
    return out / "duplicates"


def run(photos: Path, out: Path, **servers: str) -> dict[str, Any]:
    """What `neardup duplicates` finds where nothing is said but the folders."""
    result = neardup("duplicates", photos, "--out", out, "--json", cwd=out, **servers)
    assert result.returncode == 0, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_each_pair_has_its_evidence_in_the_table(found: Path) -> None:
    """Mirrored copies are said to be such; of an exact copy there is nothing to prove."""
    table = pd.read_parquet(found / "pairs.parquet").set_index("kind")
    links = table[table["band"] == "link"]
    assert len(links) == 2
    assert links["sentence"].str.contains("mirrored").all()
    assert (links["inliers"] > 20).all()
    assert pd.isna(table.loc["exact copy", "sentence"])


def test_nothing_is_said_and_it_works(found: Path) -> None:
    """The shipped encoder and its decision search, and the summary says on what the probabilities rest."""
    facts = json.loads((found / "duplicates.json").read_text(encoding="utf-8"))
    assert facts["encoder"] == BUILTIN
    assert facts["threshold"] == LEAST_SIMILARITY
    assert "photographs that the encoder never saw" in facts["summary"]
    assert facts["groups"] == 2


def test_results_are_searched_where_nothing_but_their_folder_is_said(found: Path, tmp_path: Path) -> None:
    """By the encoder that made them, among the photos that they are of, verified; a stopped run is one sentence."""
    query = tmp_path / "query.jpg"
    Scene.of(2).image.rotate(2).save(query)
    result = neardup("search", query, "--in", found.parent, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (answer,) = json.loads(result.stdout)
    assert [hit["path"] for hit in answer["hits"][:2] if hit["probability"] > 0.9] == ["2.png", "2 mirrored <b>.png"]
    assert len(answer["hits"]) == 4  # the photo that is filed twice is one
    (tmp_path / "duplicates").mkdir()
    stopped = neardup("search", query, "--in", tmp_path, cwd=tmp_path)
    assert (stopped.returncode, "a run was stopped before it had written all tables" in stopped.stderr) == (1, True)


def test_groups_say_why_each_photo_is_in_them(found: Path) -> None:
    """One reference a group, a link for each other member, and an exact copy is in the group of its original."""
    table = pd.read_parquet(found / "groups.parquet")
    assert table.groupby("group")["reference"].sum().tolist() == [1, 1]
    assert sorted(table.groupby("group").size()) == [2, 3]
    assert (table["probability"] > 0.9).all()
    assert table["because_of"].notna().all()
    assert (found / "group_report.xlsx").is_file()


def test_what_people_said_binds_the_groups(team: dict[str, str], tmp_path: Path) -> None:
    """A pair that differs is in no group though the machine links it, one that is the same is, and both are marked.

    The photo that a person chose stands for its group.
    """
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    digests = {}
    for name, image in {
        "a": Scene.of(1).image,
        "mirrored": ImageOps.mirror(Scene.of(1).image),
        "other": Scene.of(2).image,
    }.items():
        image.save(photos / f"{name}.png")
        digests[name] = digest_file(photos / f"{name}.png")
    out.mkdir()
    before = run(photos, out, **team)
    assert before["groups"] == 1
    assert before["verification"]["links"] == 1
    with open_verdicts(out) as verdicts:
        for partner, answer in (("mirrored", DIFFERENT), ("other", SAME)):
            verdicts.add(Verdict.of(digests["a"], digests[partner], answer, who="Ada", queue="review"))
    for name in ("a", "other"):
        References(out).choose(digests[name], [], "Ada")
    after = run(photos, out, **team)
    table = pd.read_parquet(out / "duplicates" / "groups.parquet")
    assert table["photo"].tolist() == ["other.png", "a.png"]
    assert table["reference"].tolist() == [True, False]
    assert after["verification"]["to_review"] == 0
    assert after["verification"]["judged"] >= 1
    pairs = pd.read_parquet(out / "duplicates" / "pairs.parquet").set_index(["photo", "partner"])
    assert pairs.loc[("a.png", "mirrored.png"), "verdict"] == DIFFERENT
    assert pairs.loc[("a.png", "mirrored.png"), "band"] == "link"
    again = {one.paths: one for one in load_again(out)}
    assert {paths: one.verdict for paths, one in again.items()} == {
        ("a.png", "mirrored.png"): DIFFERENT,
        ("a.png", "other.png"): SAME,
    }
    for one in again.values():
        assert f"Ada says {one.verdict}; a new decision gives it a probability of" in one.why
    unverified = neardup("duplicates", photos, "--out", out, "--no-verify", cwd=out, **team)
    assert "2 answered pairs left aside: nothing was verified" in unverified.stderr
    assert load_again(out) == []


def test_a_threshold_without_verification_lists_all_pairs(team: dict[str, str], tmp_path: Path) -> None:
    """The vectors alone decide then, and the table has no probability."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Scene.of(5).image.rotate(number / 2).save(photos / f"{number}.png")
    options = ("--encoder", BUILTIN, "--threshold", "0.5", "--no-verify")
    result = neardup("duplicates", photos, "--out", tmp_path / "out", *options, cwd=tmp_path, **team)
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(tmp_path / "out" / "duplicates" / "pairs.parquet")
    assert len(table) == 3
    assert "probability" not in table


def test_the_page_shows_pictures_and_escapes_names(found: Path) -> None:
    """Each picture that the page names is there, and no file's name becomes markup."""
    page = (found / "explained.html").read_text(encoding="utf-8")
    pictures = sorted((found / "explained").glob("*.png"))
    assert [f'src="explained/{picture.name}"' in page for picture in pictures] == [True] * len(pictures) != []
    assert "mirrored <b>" not in page
    assert "mirrored &lt;b&gt;" in page


def test_the_page_calls_the_photos_a_and_b_as_the_pictures_do(found: Path) -> None:
    """In the order of the evidence, by the contents; the table's own order is another one."""
    page = (found / "explained.html").read_text(encoding="utf-8")
    digests: dict[str, str] = {}
    for side in ("photo", "partner"):
        table = pd.read_parquet(found / "pairs.parquet")
        digests |= dict(zip(table[side], table[f"{side}_sha256"], strict=True))
    named = re.findall(r"A is (.+?), B is (.+?)(?:, probability|</p>)", html.unescape(page))
    assert named
    assert all(digests[first] < digests[second] for first, second in named)


def test_two_photos_are_explained_from_the_command_line(tmp_path: Path) -> None:
    """One sentence, a picture that opens, the evidence as JSON."""
    scene = Scene.of(3).image
    scene.save(tmp_path / "a.png")
    scene.crop((0, 0, scene.width * 2 // 3, scene.height)).save(tmp_path / "b.png")
    result = neardup("explain", tmp_path / "a.png", tmp_path / "b.png", "--picture", "why.png", "--json", cwd=tmp_path)
    facts = json.loads(result.stdout)
    assert "b.png is a crop of a.png" in facts["sentence"]
    assert facts["coverage_first"] == pytest.approx(2 / 3, abs=0.02)
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.width == 1200


def test_a_file_that_is_no_image_is_one_sentence(tmp_path: Path) -> None:
    """It names the file and writes no picture."""
    Scene.of(3).image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    result = neardup("explain", tmp_path / "a.png", tmp_path / "b.png", "--picture", "why.png", cwd=tmp_path)
    assert result.returncode == 1
    assert "b.png: the content is no" in result.stderr
    assert not (tmp_path / "why.png").exists()


def test_the_shipped_decision_belongs_to_the_shipped_encoder_only() -> None:
    """It is found for that encoder and this verifier, and for no other."""
    decision = shipped_decision(load_encoder(BUILTIN).fingerprint)
    assert decision == Decision.load(SHIPPED)
    assert shipped_decision("another") is None


def test_watch_verifies_what_is_new_and_asks_no_answered_pair_again(team: dict[str, str], tmp_path: Path) -> None:
    """A new copy is a link with its sentence; the next copy's pairs are judged where somebody judged them before."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    photos = archive / "photos"
    photos.mkdir(parents=True)
    Scene.of(1).image.save(photos / "a.png")
    first = neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team)
    assert first.returncode == 0, first.stderr
    ImageOps.mirror(Scene.of(1).image).save(photos / "b.png")
    with open_verdicts(out) as verdicts:
        digests = [digest_file(photos / f"{name}.png") for name in "ab"]
        verdicts.add(Verdict.of(*digests, DIFFERENT, who="Ada", queue="import"))
    second = neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team)
    assert second.returncode == 0, second.stderr
    facts = json.loads(second.stdout)
    assert facts["threshold"] == LEAST_SIMILARITY
    (pair,) = facts["pairs"]
    assert (pair["band"], pair["verdict"], pair["group"]) == ("link", DIFFERENT, None)
    assert "mirrored" in pair["sentence"]
    assert facts["counts"]["groups"] == 0
    assert (Path(facts["folder"]) / "explained.html").is_file()
    (again,) = facts["asked_again"]
    assert "Ada says different; a new decision gives it a probability of" in again["why"]


def two_prints(archive: Path) -> tuple[Path, Image.Image]:
    """Make an archive of a picture and its mirror image, `a.png` and `b.png`: their folder, and the picture."""
    photos, scene = archive / "photos", Scene.of(1).image
    photos.mkdir(parents=True)
    scene.save(photos / "a.png")
    ImageOps.mirror(scene).save(photos / "b.png")
    return photos, scene


def test_an_answered_pair_is_shown_again_when_its_group_grows(team: dict[str, str], tmp_path: Path) -> None:
    """It says why; a run that finds nothing new shows nothing again."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    photos, scene = two_prints(archive)
    with open_verdicts(out) as verdicts:
        given = Verdict.of(*(digest_file(photos / f"{name}.png") for name in "ab"), SAME, who="Ada", queue="review")
        verdicts.add(given)
    first = json.loads(neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team).stdout)
    scene.crop((0, 0, scene.width * 3 // 4, scene.height)).save(photos / "c.png")
    second = json.loads(neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team).stdout)
    (pair,) = second["asked_again"]
    assert {pair["photo"], pair["partner"], pair["verdict"]} == {"photos/a.png", "photos/b.png", SAME}
    assert pair["why"] == "photos/c.png joined the group of both"
    assert [(row.verdict_id, asdict(row)) for row in load_again(out)] == [(given.id, pair)]
    assert (
        json.loads(neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team).stdout)["asked_again"] == []
    )
    assert len(first["pairs"]) == 1


def test_decoys_bound_the_false_links(team: dict[str, str], tmp_path: Path) -> None:
    """None of them is linked; one that is in the collection is left out, and one whose copy is there is shown."""
    photos, decoys, out = tmp_path / "photos", tmp_path / "decoys", tmp_path / "out"
    for folder, numbers in ((photos, range(4)), (decoys, range(3, 9))):
        folder.mkdir()
        for number in numbers:
            Scene.of(number).image.save(folder / f"{number}.png")
    ImageOps.mirror(Scene.of(8).image).save(photos / "8 mirrored.png")
    (decoys / "broken.png").write_bytes(b"no picture")
    result = neardup("duplicates", photos, "--out", out, "--decoys", decoys, "--json", cwd=tmp_path, **team)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    bound = photos_with_false_links(5, 5, 1)
    assert facts["false_links"]["expected_photos"] == pytest.approx(bound.expected_photos)
    assert "Left out, for the collection has the same bytes: 1 decoy." in facts["summary"]
    assert "1 more could not be read; the first: broken.png (the content is no" in facts["summary"]
    linked = pd.read_csv(out / "duplicates" / "decoys.csv")
    assert linked[["decoy", "photo"]].to_numpy().tolist() == [["8.png", "8 mirrored.png"]]
    again = neardup("duplicates", photos, "--out", out, "--json", cwd=tmp_path, **team)
    assert "is not known: no decoys were searched for" in json.loads(again.stdout)["summary"]


def test_the_decision_in_force_is_the_nearest_to_what_people_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the verdicts, of the ground truth by each approach in turn, of a registered model, at last the shipped one.

    That of the working folder is none of them, whatever the encoder is called.
    """
    shipped, out, model = Decision.load(SHIPPED), tmp_path / "out", tmp_path / "model"
    encoder = shipped.belongs.encoder
    (model / "checkpoint").mkdir(parents=True)
    monkeypatch.chdir(model)
    places = [out, *(out / name for name in (*APPROACHES, "tuned")), model]
    for folder in places:
        replace(shipped, source=folder.name).save(folder / "decision.json")
    assert decision_for(tmp_path / "none", encoder, BUILTIN) == shipped
    assert starting_decision(out, encoder) == own_decision(out, encoder) == Decision.load(places[1] / "decision.json")
    for folder in places:
        chosen = decision_for(out, encoder, str(model / "checkpoint"))
        assert chosen == replace(shipped, source=folder.name)
        (folder / "decision.json").unlink()
    assert decision_for(out, encoder, str(model / "checkpoint")) == starting_decision(out, encoder) == shipped


def test_a_registered_decision_of_another_step_is_passed_over(tmp_path: Path) -> None:
    """A champion of before a step stops nobody who has a decision; a sentence says what becomes of its own."""
    shipped, said = Decision.load(SHIPPED), list[str]()
    encoder, checkpoint = shipped.belongs.encoder, tmp_path / "model" / "checkpoint"
    checkpoint.mkdir(parents=True)
    replace(shipped, source="former", step="5").save(tmp_path / "model" / "decision.json")
    assert decision_for(tmp_path / "out", encoder, str(checkpoint), said.append) == shipped
    assert "is of version 5" in said.pop()
    own = replace(shipped, source="own")
    own.save(tmp_path / "out" / "zero-shot" / "decision.json")
    assert decision_for(tmp_path / "out", encoder, str(checkpoint), said.append) == own


def test_it_is_said_where_verdicts_taught_another_model(tmp_path: Path) -> None:
    """As after a promotion: another decision is taken, and the sentence says how verdicts count again."""
    shipped, said = Decision.load(SHIPPED), list[str]()
    encoder = shipped.belongs.encoder
    taught = replace(shipped, source="fitted again", belongs=replace(shipped.belongs, encoder="the former champion"))
    taught.save(tmp_path / "decision.json")
    assert decision_for(tmp_path, encoder, say=said.append) == shipped
    [sentence] = said
    assert sentence.startswith(f"What verdicts taught ({tmp_path / 'decision.json'}) belongs to another encoder")
    assert "`neardup duplicates`, then `neardup verdicts recalibrate`" in sentence
    assert decision_for(tmp_path, "the former champion", say=said.append) == taught
    assert len(said) == 1


def test_a_ground_truth_too_small_to_link_takes_no_link_away(tmp_path: Path) -> None:
    """The archive's own decision comes first if it links pairs; else the shipped one does until it can."""
    shipped = Decision.load(SHIPPED)
    encoder = shipped.belongs.encoder
    own = replace(shipped, source="the archive's own ground truth")
    own.save(tmp_path / "zero-shot" / "decision.json")
    assert decision_for(tmp_path, encoder) == own
    mute = replace(own, bands=replace(own.bands, precision=replace(own.bands.precision, threshold=None)))
    mute.save(tmp_path / "zero-shot" / "decision.json")
    assert decision_for(tmp_path, encoder) == shipped
    refuted = replace(mute, bands=replace(mute.bands, precision=replace(mute.bands.precision, drawn=True)))
    refuted.save(tmp_path / "decision.json")
    assert decision_for(tmp_path, encoder) == refuted  # an audit of these very photos took the links away
    (tmp_path / "decision.json").unlink()
    assert decision_for(tmp_path, "another") is None
    alone = replace(mute, belongs=replace(mute.belongs, encoder="another"))
    alone.save(tmp_path / "zero-shot" / "decision.json")
    assert decision_for(tmp_path, "another") == alone


def test_a_photo_that_only_moved_joins_no_group(team: dict[str, str], tmp_path: Path) -> None:
    """Of a member that was renamed and one that is new only the new one is a reason to look again."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    photos, scene = two_prints(archive)
    scene.crop((0, 0, scene.width * 7 // 8, scene.height)).save(photos / "m.png")
    with open_verdicts(out) as verdicts:
        pair = [digest_file(photos / f"{name}.png") for name in "ab"]
        verdicts.add(Verdict.of(*pair, SAME, who="Ada", queue="review"))
    neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team)
    (photos / "m.png").rename(photos / "aa.png")
    scene.crop((0, 0, scene.width * 3 // 4, scene.height)).save(photos / "c.png")
    second = json.loads(neardup("watch", archive, "--out", out, "--json", cwd=tmp_path, **team).stdout)
    assert [row["why"] for row in second["asked_again"]] == ["photos/c.png joined the group of both"]
