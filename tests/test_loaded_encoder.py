"""An encoder that several steps of a run ask for: loaded once, and never an old one."""

import os
import shutil
from pathlib import Path

from tiny_models import pixels_model

from neardup.encode.encoder import CHECKPOINT, loaded_encoder


def test_an_encoder_is_loaded_once_until_its_files_change(tmp_path: Path) -> None:
    """The check before a run and the run share it; a checkpoint that was written anew under its name is read anew."""
    folder = shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    first = loaded_encoder(str(folder), "cpu")
    assert loaded_encoder(str(folder), "cpu") is first
    os.utime(folder / "config.json", ns=(1, 1))
    assert loaded_encoder(str(folder), "cpu") is not first


def test_an_onnx_file_is_loaded_again_when_its_external_weights_change(tmp_path: Path) -> None:
    """They lie beside it in a file of another name, and the file itself stays as it is."""
    file = pixels_model(tmp_path / "model.onnx")
    first = loaded_encoder(str(file), "cpu")
    assert loaded_encoder(str(file), "cpu") is first
    (tmp_path / "weights.data").write_bytes(b"other weights")
    assert loaded_encoder(str(file), "cpu") is not first
