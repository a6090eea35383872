"""The settings file: every field checked, and a mistake is one sentence that helps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neardup.errors import ConfigError
from neardup.settings.file import find_config, load_settings
from neardup.settings.schema import Settings


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a settings file and return its path."""

    def _write(text: str) -> Path:
        path = tmp_path / "neardup.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def test_without_a_file_the_defaults_hold() -> None:
    """No file means the published recipe."""
    assert load_settings(None) == Settings()


def test_a_field_of_the_file_is_taken(write: Callable[[str], Path]) -> None:
    """What the file says replaces the default, and leaves the rest."""
    settings = load_settings(write('[prepare.patterns]\nrol = "rol_{page}_{photo}"\n[train]\nlr = 0.001\n'))
    assert (settings.prepare.patterns, settings.train.lr) == ({"rol": "rol_{page}_{photo}"}, 0.001)


def test_the_command_line_wins_over_the_file(write: Callable[[str], Path]) -> None:
    """An option that was given beats the file; one that was not says nothing."""
    settings = load_settings(write("[train]\nlr = 0.001\nepochs = 3\n"), {"train.lr": 0.01, "train.epochs": None})
    assert (settings.train.lr, settings.train.epochs) == (0.01, 3)


def test_an_unknown_field_suggests_the_right_one(write: Callable[[str], Path]) -> None:
    """A misspelt name is an error that says the name meant."""
    with pytest.raises(ConfigError, match=r"unknown setting train\.batch_sise: did you mean batch_size\?"):
        load_settings(write("[train]\nbatch_sise = 3\n"))


def test_all_faults_are_said_at_once(write: Callable[[str], Path]) -> None:
    """Two faults give two sentences, not only the first."""
    with pytest.raises(ConfigError, match=r"train\.lr = 5.*unknown setting encodr"):
        load_settings(write('encodr = "x"\n[train]\nlr = 5\n'))


def test_broken_toml_names_the_line(write: Callable[[str], Path]) -> None:
    """A file that is no TOML says where it broke."""
    with pytest.raises(ConfigError, match=r"not valid TOML .*line 1"):
        load_settings(write("[train\n"))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """A file that was named must exist."""
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path / "no.toml")


def test_the_archives_own_file_is_found(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a file in this folder, that of the archive is used."""
    path = write("")
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert find_config(tmp_path) == path
