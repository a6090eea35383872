"""The settings file: every field checked, and a mistake is one sentence that helps."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from neardup.cli import main
from neardup.errors import ConfigError
from neardup.settings.file import find_settings, load_settings
from neardup.settings.schema import TABLES, Settings, meanings
from neardup.stages import write_json


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
    # Windows' editor begins a file so.
    text = '\N{BOM}[prepare.patterns]\nrol = "rol_{page}_{photo}"\n[train]\nlr = 0.001\n'
    settings = load_settings(write(text))
    assert (settings.prepare.patterns, settings.train.lr) == ({"rol": "rol_{page}_{photo}"}, 0.001)


def test_the_command_line_wins_over_the_file(write: Callable[[str], Path]) -> None:
    """An option that was given beats the file; one that was not says nothing."""
    settings = load_settings(write("[train]\nlr = 0.001\nepochs = 3\n"), {"train.lr": 0.01, "train.epochs": None})
    assert (settings.train.lr, settings.train.epochs) == (0.01, 3)


def test_a_fault_of_the_command_line_is_not_said_of_the_file(write: Callable[[str], Path]) -> None:
    """Each value that is refused is told with where it stands."""
    file = write("[tune]\ntrials = 20\nepochs = 0\n")
    with pytest.raises(ConfigError) as refused:
        load_settings(file, {"tune.trials": 0, "tune.parallel": None})
    trials, epochs = str(refused.value).split("; ")
    assert trials.startswith("the command line: tune.trials = 0: ")
    assert epochs.startswith(f"{file}: tune.epochs = 0: ")


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


def test_a_table_that_is_none_is_refused(write: Callable[[str], Path]) -> None:
    """A value where a table belongs is one sentence, also where the command line sets a field of that table."""
    with pytest.raises(ConfigError, match="train = 3: it is a table, whose name stands in square brackets"):
        load_settings(write("train = 3\n"), {"train.lr": 0.01})


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an archive, beside the working folder."""
    for name in ("archive", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "archive"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('photos = "photos/*"', r"prepare\.photos = 'photos/\*': it is a list, in square brackets"),
        ("photos = [1]", r"prepare\.photos\.0 = 1: it is a text, in quotes"),
        ("patterns = 3", r"prepare\.patterns = 3: it is a table"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_in_plain_words(
    line: str, sentence: str, write: Callable[[str], Path]
) -> None:
    """It says what is to be written, not what a program would call it."""
    with pytest.raises(ConfigError, match=sentence):
        load_settings(write(f"[prepare]\n{line}\n"))


def test_an_archive_says_how_it_is_read(archive: Path) -> None:
    """Without a file in the working folder, `[prepare]` of the archive's own is used."""
    (archive / "neardup.toml").write_text('[prepare]\nground_truth = "x.xlsx"\n')
    assert find_settings(archive).prepare.ground_truth == "x.xlsx"


def test_the_working_folders_file_wins_over_the_archives(archive: Path) -> None:
    """The archive's is not even read."""
    (archive / "neardup.toml").write_text('encoder = "x"\n')
    Path("neardup.toml").write_text('encoder = "builtin:tiny"\n')
    assert find_settings(archive).encoder == "builtin:tiny"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[translate]\nserver_url = "http://somewhere"\n', r"\[translate\]"),
        ('[cluster]\nscheduler = "tcp://somewhere:8786"\n', r"\[cluster\]"),
        ('encoder = "models:/x"\n[prepare]\nlook_alike_bits = 3\n', "encoder"),
    ],
)
def test_an_archive_sets_nothing_else(archive: Path, text: str, name: str) -> None:
    """A server that would get the key of DeepL, or code, is named by the user and by nobody else."""
    (archive / "neardup.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"only \[prepare\] is taken, and sets {name}: put that into .* --config"):
        find_settings(archive)


def test_an_archive_that_is_the_working_folder_is_not_trusted_either(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes into an archive does not thereby vouch for its file."""
    (archive / "neardup.toml").write_text('[translate]\nserver_url = "http://somewhere"\n')
    monkeypatch.chdir(archive)
    with pytest.raises(ConfigError, match="lies in the archive"):
        find_settings(Path())


@pytest.mark.parametrize("command", ["translate", "augment", "train", "evaluate", "tune", "verify", "promote"])
def test_a_command_on_results_does_not_trust_their_archive(
    command: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named by no argument, but the results remember it: its file gets neither a key nor an encoder."""
    (archive / "neardup.toml").write_text('[translate]\nserver_url = "http://somewhere"\n')
    write_json(tmp_path / "out/.neardup/archive.json", {"root": str(archive)})
    (tmp_path / "out/training_set.csv").touch()
    monkeypatch.chdir(archive)
    ran = CliRunner().invoke(main, [command, "--out", "../out"])
    assert "lies in the archive, from which only [prepare] is taken, and sets [translate]" in ran.output


def test_a_search_does_not_trust_the_folder_that_is_searched(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file names no encoder."""
    (archive / "neardup.toml").write_text('encoder = "somebody/else"\n')
    monkeypatch.chdir(archive)
    ran = CliRunner().invoke(main, ["search", "../new.jpg", "--in", "../store", "--photos", "."])
    assert "lies in the archive, from which only [prepare] is taken, and sets encoder" in ran.output


def test_a_linked_archive_is_the_working_folder_too(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is not trusted whichever way the archive is named."""
    (archive / "neardup.toml").write_text('encoder = "somebody/else"\n')
    (tmp_path / "link").symlink_to(archive)
    monkeypatch.chdir(archive)
    with pytest.raises(ConfigError, match="lies in the archive"):
        find_settings(tmp_path / "link")


@pytest.mark.parametrize("table", TABLES)
def test_each_field_says_what_it_means(table: str) -> None:
    """In the settings reference and in the form of a Prefect deployment."""
    assert [name for name, meaning in meanings(TABLES[table]).items() if not meaning] == []


def test_the_form_of_a_deployment_shows_meanings_and_bounds() -> None:
    """Prefect makes it from a flow's parameters."""
    from prefect.utilities.callables import parameter_schema  # noqa: PLC0415 - seconds that the others need not wait

    from flows.finetune import finetune  # noqa: PLC0415 - seconds that the others need not wait

    recipe = parameter_schema(finetune).model_dump()["definitions"]["Recipe"]["properties"]
    assert recipe["lr"]["description"] == "Adam's learning rate."
    assert (recipe["lr"]["exclusiveMinimum"], recipe["lr"]["exclusiveMaximum"]) == (0, 1)


@pytest.mark.parametrize(
    "arguments", [("-c", "import neardup.settings.schema"), ("-m", "neardup", "--help")], ids=["settings", "help"]
)
def test_python_may_leave_out_docstrings(arguments: tuple[str, ...]) -> None:
    """Nothing that runs depends on one, nor on an assertion."""
    subprocess.run([sys.executable, "-OO", *arguments], check=True, capture_output=True)
