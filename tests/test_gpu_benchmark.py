"""The benchmark of a GPU, where there is none and where there is one."""

from dataclasses import asdict
from pathlib import Path

import performance
import pytest
import torch
from rates import Measured, Speed
from training import measure_gpu

from neardup.builtin.scenes import Scene

MEASURED = asdict(Measured("a task", "neardup", "photos", Speed(2.0, 1.0, 3.0), 100.0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_page_says_that_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what was measured it says what was not, and why."""
    monkeypatch.setattr(performance, "PACKAGES", ("numpy",))
    made = {"machine": "1 core", "date": "2026-01-01"}
    topics = {"train": {**made, "measured": [MEASURED]}, "gpu": {**made, "measured": measure_gpu(tmp_path, tmp_path)}}
    performance._write(tmp_path / "page.md", topics)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.count("Not measured: no GPU on this machine.") == 1
    assert page.index("## Train") < page.index("## GPU") < page.index("Not measured")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three number formats, each compiled and not, and three ways to train."""
    monkeypatch.setattr("training.GPU_PHOTOS", 32)
    (tmp_path / "images").mkdir()
    for seed in range(4):
        Scene.of(seed).image.save(tmp_path / "images" / f"{seed}.jpg")
    assert len({(one.task, one.method) for one in measure_gpu(tmp_path, tmp_path / "work")}) == 9
