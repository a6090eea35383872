"""Encoders of every kind through everything that neardup does with one: the shipped one is met all over the tests."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from commands import neardup
from mlflow.pyfunc.model import PythonModelContext
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from prefect import flow
from servers import environment
from tiny_models import encoder_of, pixels_model

from neardup.approach import Approach, approaches_of
from neardup.archive.testset import TestSet
from neardup.builtin.demo import MadeArchive
from neardup.cli import main
from neardup.detect.duplicates import find_duplicates
from neardup.encode.collection import open_collection, present
from neardup.encode.encoder import BUILTIN, CHECKPOINT, check_encoder, limits_of, load_encoder, objectives_of
from neardup.encode.shards import open_store
from neardup.encode.vectors import Embeddings, embed, stored_vectors
from neardup.errors import EncoderError
from neardup.experiment import encode_test_set, make_checkpoint, training_facts
from neardup.measure.evaluate import evaluate
from neardup.measure.low_precision import effect, measure
from neardup.search.nearest import search
from neardup.settings.schema import AdaptRecipe, ClusterSettings, Settings
from neardup.stages import write_json
from tasks.pyfunc import REQUIREMENTS

pytestmark = pytest.mark.usefixtures("one_thread")

STEP = {"batch_size": 8, "epochs": 1, "epoch_steps": 1, "validation": 0.2, "validation_copies": 1}
QUICK = replace(AdaptRecipe(), **STEP, interpolate=False)
"""One step whose weights are kept, whatever they are worth."""


def silent(_sentence: str) -> None:
    """Takes what a step reports."""


ROOT = Path(__file__).parents[1]
KINDS = ("clip", "siglip", "dinov2", "vit", "onnx", "script")
"""The kinds that go through everything; what is between them, as bare models of timm, is in test_kinds.py."""


@pytest.fixture(scope="module", params=KINDS)
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
        measure_vectors(approach)
    return found


def measure_vectors(approach: Approach) -> None:
    """Measure an approach as `evaluate_approach` does, but for its pictures, which take most of the time."""
    test_set, embeddings = TestSet.load(approach.out), Embeddings.load(approach.folder / "vectors.parquet")
    names = [photo.name for photo in test_set.photos]
    found = evaluate(
        embeddings.vectors, test_set.groups, names, approach=approach.name, fingerprint=embeddings.fingerprint
    )
    facts = {name: figure.value for name, figure in found.metrics.items()}
    approach.evaluation.finish(found.save(approach.folder), facts)


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


@pytest.mark.parametrize(
    ("command", "hint"),
    [("train", "; say --adapted"), ("tune", "; say objective = 'copies' in [train] of neardup.toml")],
)
def test_commands_that_train_say_why_they_cannot(
    encoder: str, prepared: Path, tmp_path: Path, command: str, hint: str
) -> None:
    """What is missing is a text tower, or anything that learns, not the legends, which there are; no study begins."""
    if "captions" in objectives_of(encoder):
        pytest.skip("it can")
    out = tmp_path / "results"
    shutil.copytree(prepared, out)
    ran = CliRunner().invoke(main, [command, "--encoder", encoder, "--out", str(out)])
    said = limits_of(encoder) + (hint if objectives_of(encoder) else "")
    assert (ran.exit_code, ran.stderr.strip()) == (1, f"neardup: {said}")
    assert not (out / "tuning").exists()


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
    """Then the commands compute by it, and say what it costs."""
    monkeypatch.setattr("neardup.encode.int8.FOLDER", tmp_path / "home")
    out = tmp_path / "results"
    shutil.copytree(approaches[0].out, out)
    folder = measure(out / "zero-shot", "cpu", "int8")
    vectors = tmp_path / "vectors.parquet"
    arguments = ["--out", str(vectors), "--encoder", encoder, "--precision", "int8", "--measured", str(out)]
    ran = CliRunner().invoke(main, ["embed", str(draw(tmp_path / "photos")), *arguments])
    assert ran.exit_code == 0, ran.stderr
    assert effect(folder) in ran.stderr
    assert Embeddings.load(vectors).fingerprint == load_encoder(encoder, "cpu", "int8").fingerprint


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
        candidates = find_candidates.fn(tracking, out)
        assert candidates is not None
        versions = candidates.challenger, candidates.champion
        evaluations = {
            version.version: measure.fn(tracking, version, out, Settings(device="cpu")) for version in versions
        }
        assert f"challenger ({approaches[1].name})" in decide(candidates, evaluations, "ndcg", 0.005).paragraph


def test_a_copy_is_found(encoder: str, tmp_path: Path) -> None:
    """By a search, and among the near-duplicates of a folder."""
    photos = draw(tmp_path / "photos")
    gallery = embed(photos, load_encoder(encoder), tmp_path / "store")
    hits = search(photos / "a.png", gallery, 2, encoder=encoder)
    assert [(Path(hit.path).name, hit.itself) for hit in hits] == [("a.png", True), ("d.jpg", False)]
    found = find_duplicates(photos, hits[1].similarity - 1e-6, encoder, device="cpu")
    assert [[Path(found.paths[i]).name for i in group] for group in found.groups] == [["a.png", "d.jpg"]]


def draw(folder: Path) -> Path:
    """Three pictures as PNG files, and `d.jpg`, a copy of the first."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name in "abc":
        pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{name}.png")
    Image.open(folder / "a.png").save(folder / "d.jpg", quality=95)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
@pytest.mark.filterwarnings("ignore")  # of Dask's own imports, and of the processes that it starts
def test_a_worker_of_dask_encodes_by_each_kind(tmp_path: Path) -> None:
    """It loads the encoder that the collection names, which has the same fingerprint there, and writes to the store."""
    from tasks.cluster import workers  # noqa: PLC0415 - Prefect takes seconds
    from tasks.duplicates import encode_new  # noqa: PLC0415 - Prefect takes seconds

    photos, store = draw(tmp_path / "photos"), str(tmp_path / "store")
    cluster = ClusterSettings(runner="dask", workers=1, shard=2)
    collections = []
    for number, kind in enumerate(KINDS):
        (folder := tmp_path / str(number)).mkdir()
        name = encoder_of(kind, folder)
        open_store(store, load_encoder(name, "cpu"))  # so that the batch is not measured, which takes seconds
        collections.append(open_collection(photos, store, name, "cpu", "fp32"))

    @flow
    def encode_all() -> None:
        with workers(cluster) as runner:
            for collection in collections:
                encode_new(collection, present(collection), runner, cluster)

    encode_all()
    for collection in collections:
        stored = stored_vectors(collection.store, collection.fingerprint)
        expected = embed(photos, load_encoder(collection.encoder, "cpu"))
        assert stored.paths == expected.paths
        assert stored.vectors == pytest.approx(expected.vectors, abs=1e-5)


@pytest.mark.slow
def test_the_flows_prepare_photos_as_the_settings_say(tmp_path: Path, team: dict[str, str]) -> None:
    """`[onnx]` of neardup.toml reaches `duplicates` and `watch`."""
    draw(tmp_path / "archive" / "photos")
    pixels_model(tmp_path / "pixels.onnx", said=False)
    (tmp_path / "neardup.toml").write_text("[onnx]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n", encoding="utf-8")
    common = ("archive", "--out", "results", "--encoder", "pixels.onnx", "--threshold", 0.9, "--no-verify", "--json")
    for command in ("duplicates", "watch"):
        ran = neardup(command, *common, cwd=tmp_path, **team)
        assert ran.returncode == 0, ran.stderr
        folder = Path(json.loads(ran.stdout)["folder"])
        groups = pd.read_excel(folder / "groups.xlsx", engine="openpyxl").astype(str).to_string()
        assert ("a.png" in groups, "d.jpg" in groups, "b.png" in groups) == (True, True, False)


def test_an_onnx_file_is_never_trained(tmp_path: Path) -> None:
    """By name, too: the sentence says what to name in its place."""
    from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - torch takes seconds

    with pytest.raises(EncoderError, match="an ONNX file, which cannot be trained: name the checkpoint"):
        load_trainable(str(pixels_model(tmp_path / "pixels.onnx")))


SERVED = """
import runpy, sys
from pathlib import Path
from mlflow.pyfunc.model import PythonModelContext
import pandas as pd
model, photo, checkpoint, metrics = sys.argv[1:]
served = runpy.run_path(model, run_name="tasks.pyfunc")["NearDuplicates"]()
context = PythonModelContext({"checkpoint": checkpoint, "metrics": metrics}, {})
served.load_context(context)
print(served.predict(context, pd.DataFrame({"image": [Path(photo).read_bytes()]})).shape)
"""
"""A program that serves a checkpoint as MLflow does, and prints the shape of a photo's vectors."""


def required(names: Sequence[str]) -> set[str]:
    """Names of installed distributions that pip installs for these ones, themselves among them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            with suppress(PackageNotFoundError):  # of another platform
                needs = map(Requirement, distribution(name).requires or ())
                waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
                found.add(name)
    return found


def test_a_model_is_served_by_what_it_declares(made: MadeArchive, tmp_path: Path) -> None:
    """An environment of its requirements alone, as MLflow makes one, loads the model and encodes."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in required(REQUIREMENTS):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    (packages / "neardup").symlink_to(ROOT / "neardup")
    write_json(tmp_path / "metrics.json", {"threshold": None})
    photo = next(path for path in sorted(made.root.rglob("*.jpg")))
    ran = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            SERVED,
            ROOT / "tasks" / "pyfunc.py",
            photo,
            CHECKPOINT,
            tmp_path / "metrics.json",
        ],
        env=environment(PYTHONPATH=str(packages)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, f"(1, {load_encoder(BUILTIN).dimension})\n"), ran.stderr
