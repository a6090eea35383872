"""Pairs of a folder verified: tables, sentences and pictures, and two photos explained from the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import neardup
from PIL import Image, ImageOps

from neardup.builtin.decision import SHIPPED, shipped_decision
from neardup.builtin.scenes import Scene
from neardup.decide.decision import Decision
from neardup.encode.encoder import BUILTIN, load_encoder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a folder of four pictures, of which two are copies of the others and one is filed twice."""
    photos, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("out")
    for number in (1, 2):
        scene = Scene.of(number).image
        scene.save(photos / f"{number}.png")
        ImageOps.mirror(scene).save(photos / f"{number} mirrored <b>.png")
    (photos / "again.png").write_bytes((photos / "1.png").read_bytes())
    result = neardup("duplicates", photos, "--out", out, "--encoder", BUILTIN, "--threshold", "0.6", "--json", cwd=out)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verified"] is True
    return out / "duplicates"


def test_each_pair_has_its_evidence_in_the_table(found: Path) -> None:
    """Mirrored copies are said to be such; of an exact copy there is nothing to prove."""
    table = pd.read_parquet(found / "pairs.parquet").set_index("kind")
    near = table.loc[["near-duplicate"]] if "near-duplicate" in table.index else table.loc[["equal vectors"]]
    assert near["sentence"].str.contains("mirrored").all()
    assert (near["inliers"] > 20).all()
    assert set(near["band"]) <= {"link", "review", "reject"}
    assert pd.isna(table.loc["exact copy", "sentence"])


def test_the_page_shows_pictures_and_escapes_names(found: Path) -> None:
    """Each picture that the page names is there, and no file's name becomes markup."""
    page = (found / "explained.html").read_text(encoding="utf-8")
    pictures = sorted((found / "explained").glob("*.png"))
    assert [f'src="explained/{picture.name}"' in page for picture in pictures] == [True] * len(pictures) != []
    assert "mirrored <b>" not in page
    assert "mirrored &lt;b&gt;" in page


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
