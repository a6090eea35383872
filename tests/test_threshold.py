"""A threshold belongs to one encoder: that of another is refused, wherever it would be taken."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from neardup.encode.collection import Collection
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.encode.trainable import load_trainable
from neardup.errors import ArchiveError, ConfigError
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import compare
from neardup.measure.evaluate import evaluate
from neardup.measure.threshold import calibrated_beside
from neardup.settings.schema import Settings
from tasks.duplicates import threshold_of
from tasks.watch import look_for_new


def measure(folder: Path) -> float:
    """Evaluate the checkpoint of a folder on made vectors; its threshold."""
    groups = np.repeat(np.arange(6), 2)
    vectors = np.random.default_rng(0).normal(size=(6, 8))[groups].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fingerprint = load_encoder(str(folder / "checkpoint")).fingerprint
    names = [f"{i}.jpg" for i in range(12)]
    evaluation = evaluate(vectors, groups, names, approach="fine-tuned", fingerprint=fingerprint)
    evaluation.save(folder)
    return evaluation.threshold


def retrain(folder: Path) -> None:
    """Put other weights into the checkpoint, as another training does."""
    clip = load_trainable(str(folder / "checkpoint"))
    next(iter(clip.model.vision_model.parameters())).data += 0.5
    clip.save(folder / "checkpoint")


@pytest.fixture
def retrained(small_encoder: str, tmp_path: Path) -> Path:
    """An approach that was trained again after it was evaluated."""
    shutil.copytree(small_encoder, tmp_path / "checkpoint")
    measure(tmp_path)
    retrain(tmp_path)
    return tmp_path


def test_the_threshold_beside_a_checkpoint_is_its_own(small_encoder: str, tmp_path: Path) -> None:
    """It is the one that the evaluation of this very encoder calibrated."""
    shutil.copytree(small_encoder, tmp_path / "checkpoint")
    threshold = measure(tmp_path)
    checkpoint = str(tmp_path / "checkpoint")
    assert calibrated_beside(checkpoint, load_encoder(checkpoint).fingerprint) == threshold


def test_the_threshold_of_the_former_weights_is_refused(retrained: Path) -> None:
    """The sentence says whose threshold it is and what to do; evaluating again mends it."""
    checkpoint = str(retrained / "checkpoint")
    former = json.loads((retrained / "metrics.json").read_text())["fingerprint"][:12]
    now = load_encoder(checkpoint).fingerprint
    said = (
        rf"belongs to the encoder {former}, but .*checkpoint holds {now[:12]} now: run `neardup evaluate` .*--threshold"
    )
    with pytest.raises(ConfigError, match=said):
        calibrated_beside(checkpoint, now)
    threshold = measure(retrained)
    assert calibrated_beside(checkpoint, now) == threshold


def test_watch_refuses_the_threshold_of_the_former_weights(retrained: Path, tmp_path: Path) -> None:
    """It stops before it looks at any photo."""
    checkpoint = str(retrained / "checkpoint")
    with pytest.raises(ConfigError, match="belongs to the encoder"):
        look_for_new.fn(tmp_path, tmp_path / "out", Settings(device="cpu"), "champion", checkpoint, None, verify=True)


def test_duplicates_refuses_the_threshold_of_the_former_weights(retrained: Path, tmp_path: Path) -> None:
    """It stops before it encodes any photo; a threshold that was given is taken."""
    checkpoint = str(retrained / "checkpoint")
    fingerprint = load_encoder(checkpoint).fingerprint
    collection = Collection(tmp_path, str(tmp_path / "store"), checkpoint, "cpu", "fp32", fingerprint, 8, MAX_PIXELS)
    with pytest.raises(ConfigError, match="belongs to the encoder"):
        threshold_of(collection, tmp_path, None)
    assert threshold_of(collection, tmp_path, 0.5) == 0.5


def test_a_lower_precision_is_searched_by_its_own_threshold(tmp_path: Path) -> None:
    """Which its own evaluation calibrated, beside that of the same encoder in fp32."""
    groups, rng, out = np.repeat(np.arange(6), 2), np.random.default_rng(0), tmp_path / "zero-shot"
    vectors = rng.normal(size=(6, 8))[groups] + 0.3 * rng.normal(size=(12, 8))
    names = [f"{i}.jpg" for i in range(12)]
    full, lower = (
        evaluate(
            (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32),
            groups,
            names,
            approach=fingerprint,
            fingerprint=fingerprint,
        )
        for fingerprint, moved in (("fp32", vectors), ("int8", vectors + 0.5))
    )
    compare([full, lower]).write(out / "int8")
    full.save(out)
    lower.save(out / "int8")
    collection = Collection(tmp_path, str(tmp_path / "store"), "encoder", "cpu", "int8", "int8", 8, MAX_PIXELS)
    with disable_run_logger():
        assert threshold_of(collection, tmp_path, None) == lower.threshold != full.threshold
        assert threshold_of(collection, tmp_path, 0.5) == 0.5


def test_an_encoder_that_was_not_evaluated_has_no_threshold(tmp_path: Path) -> None:
    """The sentence says how to come by one."""
    with pytest.raises(ConfigError, match="has no calibrated threshold: give one with --threshold"):
        calibrated_beside(str(tmp_path / "checkpoint"), "f" * 64)


def test_the_shipped_encoder_has_a_threshold() -> None:
    """So that `--no-verify` works where nothing was measured; it belongs to the weights that are shipped."""
    assert 0.7 < calibrated_beside(BUILTIN, load_encoder(BUILTIN).fingerprint) < 0.8
    with pytest.raises(ConfigError, match="belongs to the encoder"):
        calibrated_beside(BUILTIN, "f" * 64)


def test_damaged_metrics_are_one_sentence(tmp_path: Path) -> None:
    """It names the file and what makes it anew."""
    (tmp_path / "metrics.json").write_text('{"threshold": 0.')
    with pytest.raises(ArchiveError, match=r"metrics\.json is damaged .*: run `neardup evaluate` again"):
        calibrated_beside(str(tmp_path / "checkpoint"), "f" * 64)
