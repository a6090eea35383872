"""Encoders of every kind through everything that neardup does with one: the shipped one is met all over the tests."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from commands import neardup
from mlflow.pyfunc.model import PythonModelContext
from PIL import Image
from servers import environment
from tiny_models import encoder_of, pixels_model

from neardup.approach import Approach, approaches_of
from neardup.builtin.demo import MadeArchive
from neardup.cli import main
from neardup.detect.duplicates import find_duplicates
from neardup.encode.encoder import check_encoder, limits_of, load_encoder, objectives_of
from neardup.encode.vectors import embed
from neardup.errors import EncoderError
from neardup.experiment import encode_test_set, evaluate_approach, make_checkpoint, training_facts
from neardup.measure.low_precision import effect, measure, measured_folder
from neardup.search.nearest import search
from neardup.settings.schema import AdaptRecipe, Settings

pytestmark = pytest.mark.usefixtures("one_thread")

STEP = {"batch_size": 8, "epochs": 1, "epoch_steps": 1, "validation": 0.2, "validation_copies": 1}
QUICK = replace(AdaptRecipe(), **STEP, interpolate=False)
"""One step whose weights are kept, whatever they are worth."""


def silent(_sentence: str) -> None:
    """Takes what a step reports."""


@pytest.fixture(scope="module", params=["onnx", "dinov2", "vit", "siglip", "script"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an encoder."""
    return encoder_of(request.param, tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def approaches(encoder: str, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Approach]:
    """Zero-shot and, where the encoder can learn, adapted: each trained, encoded and measured."""
    out = tmp_path_factory.mktemp("experiment") / "results"
    shutil.copytree(prepared, out)
    settings = Settings(encoder=encoder, adapt=QUICK, verify=False)
    possible = approaches_of(out, settings, load_encoder(encoder).fingerprint)
    found = [approach for approach in possible if approach.name in {"zero-shot", "adapted"}]
    for approach in found:
        make_checkpoint(approach, silent)
        encode_test_set(approach)
        evaluate_approach(approach)
    return found


def test_an_experiment_trains_what_can_be_trained(encoder: str, approaches: list[Approach]) -> None:
    """An ONNX file nothing, a model that only sees by copies; one sentence of the report says so."""
    check_encoder(encoder)
    names, facts = [approach.name for approach in approaches], training_facts(approaches)
    assert facts.get("left out", "") == limits_of(encoder)
    if encoder.endswith(".onnx"):
        assert names == ["zero-shot"]
        assert facts == {"left out": "the encoder is an ONNX file, which cannot be trained: it is measured as it is"}
    else:
        assert names == ["zero-shot", "adapted"]
        reads = "captions" in objectives_of(encoder)
        alone = "the encoder has no text tower: it is fine-tuned on copies alone"
        assert facts.get("left out", alone) == alone
        assert ("left out" in facts) != reads
        assert "by copies of them" in facts["adapted learned from"]


def test_the_command_that_trains_says_why_it_cannot(encoder: str, prepared: Path, tmp_path: Path) -> None:
    """What is missing is a text tower, or anything that learns; not the legends, which there are."""
    if "captions" in objectives_of(encoder):
        pytest.skip("it can")
    out = tmp_path / "results"
    shutil.copytree(prepared, out)
    ran = CliRunner().invoke(main, ["train", "--encoder", encoder, "--out", str(out)])
    assert ran.exit_code == 1
    assert ran.stderr.strip() == f"neardup: {limits_of(encoder)}"


def test_zero_shot_is_the_encoder_itself(encoder: str, approaches: list[Approach]) -> None:
    """The checkpoint that an experiment keeps, promotes and serves has the fingerprint of what was named."""
    checkpoint = str(approaches[0].folder / "checkpoint")
    assert load_encoder(checkpoint).fingerprint == load_encoder(encoder).fingerprint
    assert objectives_of(checkpoint) == objectives_of(encoder)


def test_what_was_measured_can_be_served(approaches: list[Approach], made: MadeArchive) -> None:
    """The model that MLflow serves loads each checkpoint and answers with vectors."""
    from tasks.pyfunc import NearDuplicates  # noqa: PLC0415 - MLflow takes seconds

    photo = next(path for path in sorted(made.root.rglob("*.jpg")))
    for approach in approaches:
        artifacts = {
            "checkpoint": str(approach.folder / "checkpoint"),
            "metrics": str(approach.folder / "metrics.json"),
        }
        served, context = NearDuplicates(), PythonModelContext(artifacts, {})
        served.load_context(context)
        vectors = served.predict(context, pd.DataFrame({"image": [photo.read_bytes()]}))
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0], abs=1e-5)


@pytest.mark.slow
def test_what_int8_costs_is_measured(
    encoder: str, approaches: list[Approach], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the commands may compute by it: its figures are found by the fingerprint that it has there."""
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path / "home")
    out = tmp_path / "results"
    shutil.copytree(approaches[0].out, out)
    folder = measure(out / "zero-shot", "cpu", "int8")
    lower = load_encoder(encoder, "cpu", "int8")
    assert measured_folder(out, "int8", lower.fingerprint) == folder
    assert "nDCG" in effect(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_what_was_measured_can_be_promoted(approaches: list[Approach]) -> None:
    """The champion that the registry gives back is the very encoder, and a trained challenger is judged against it."""
    from tasks.publish import publish_approaches  # noqa: PLC0415 - MLflow takes seconds
    from tasks.registry import MODEL, decide, find_candidates, measure  # noqa: PLC0415 - MLflow takes seconds
    from tasks.tracking import Tracking, local_uri  # noqa: PLC0415 - MLflow takes seconds

    out = approaches[0].out
    tracking = Tracking(local_uri(out), out)
    publish_approaches(tracking, approaches, tracking.open("experiment", "made").info.run_id)
    for alias, approach in zip(("champion", "challenger"), approaches, strict=False):
        fetched = load_encoder(tracking.encoder(f"models:/{MODEL}@{alias}"))
        assert fetched.fingerprint == load_encoder(str(approach.folder / "checkpoint")).fingerprint
    if len(approaches) > 1:
        candidates = find_candidates(tracking, out)
        assert candidates is not None
        versions = candidates.challenger, candidates.champion
        evaluations = {version.version: measure.fn(tracking, version, out, "cpu") for version in versions}
        assert f"challenger ({approaches[1].name})" in decide(candidates, evaluations, "ndcg", 0.005).paragraph


def test_a_copy_is_found(encoder: str, tmp_path: Path) -> None:
    """By a search, and among the near-duplicates of a folder."""
    draws = np.random.default_rng(0)
    for name in "abc":
        pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / f"{name}.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "d.jpg", quality=95)
    gallery = embed(tmp_path, load_encoder(encoder), tmp_path / "store")
    hits = search(tmp_path / "a.png", gallery, 2, encoder=encoder)
    assert [(Path(hit.path).name, hit.itself) for hit in hits] == [("a.png", True), ("d.jpg", False)]
    shutil.rmtree(tmp_path / "store")
    found = find_duplicates(tmp_path, hits[1].similarity - 1e-6, encoder, device="cpu")
    assert [[Path(found.paths[i]).name for i in group] for group in found.groups] == [["a.png", "d.jpg"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_flows_prepare_photos_as_the_settings_say(tmp_path: Path, team: dict[str, str]) -> None:
    """`[onnx]` of neardup.toml reaches `watch`, and the worker that Dask starts for `duplicates`."""
    photos, draws = tmp_path / "archive" / "photos", np.random.default_rng(0)
    photos.mkdir(parents=True)
    for name in "abc":
        pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(photos / f"{name}.png")
    Image.open(photos / "a.png").save(photos / "d.jpg", quality=95)
    pixels_model(tmp_path / "pixels.onnx", said=False)
    (tmp_path / "neardup.toml").write_text(
        "[onnx]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n[cluster]\nshard = 2\n", encoding="utf-8"
    )
    common = ("archive", "--out", "results", "--encoder", "pixels.onnx", "--threshold", 0.9, "--no-verify", "--json")
    # A fork of the tests may start no processes, as Dask's workers are.
    dask = [sys.executable, "-m", "neardup", "duplicates", *map(str, common), "--runner", "dask", "--workers", "1"]
    runs = (
        subprocess.run(dask, cwd=tmp_path, env=environment(**team), capture_output=True, text=True, check=False),
        neardup("watch", *common, cwd=tmp_path, **team),
    )
    for ran in runs:
        assert ran.returncode == 0, ran.stderr
        folder = Path(json.loads(ran.stdout)["folder"])
        groups = pd.read_excel(folder / "groups.xlsx", engine="openpyxl").astype(str).to_string()
        assert ("a.png" in groups, "d.jpg" in groups, "b.png" in groups) == (True, True, False)


def test_an_onnx_file_is_never_trained(tmp_path: Path) -> None:
    """By name, too: the sentence says what to name in its place."""
    from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - torch takes seconds

    with pytest.raises(EncoderError, match="an ONNX file, which cannot be trained: name the checkpoint"):
        load_trainable(str(pixels_model(tmp_path / "pixels.onnx")))
