"""The command line: help, one sentence on a user's error, JSON where a machine reads."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.cli import main

COMMANDS = sorted(main.commands)
HEAVY = ("torch", "transformers", "pandas", "prefect", "mlflow", "numpy", "PIL", "matplotlib")


def neardup(*arguments: object) -> Result:
    """Run the command in this process, which has paid for the imports already."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_every_promised_command_is_there() -> None:
    """No more and no fewer."""
    steps = ["prepare", "translate", "augment", "embed", "train", "evaluate", "experiment", "search", "demo"]
    assert sorted([*steps, "tune", "promote", "rollback", "watch", "duplicates", "up", "down"]) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str) -> None:
    """What it does, its options, and a line to copy."""
    text = main.commands[command].get_help(main.make_context("neardup", [command, "--help"], resilient_parsing=True))
    assert f"neardup {command}" in text
    assert "Example" in text
    assert all(option.help for option in main.commands[command].params if option.param_type_name == "option")


def test_help_pays_for_no_heavy_library(tmp_path: Path) -> None:
    """`neardup --help` imports nothing that takes seconds."""
    code = f"import sys, neardup.cli; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def vectors(made: MadeArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors of the made archive."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.parquet"
    ran = neardup("embed", made.root, "--out", path, "--encoder", "builtin:tiny")
    assert (ran.exit_code, "4 left out" in ran.stdout) == (0, True)
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("experiment", "no", "--out", "out"), "no is not a folder: name the folder"),
        (("experiment", ".", "--out", "../out"), "donnees_IS.xlsx is not there"),
        (("prepare", "no", "--out", "out"), "no is not a folder"),
        (("translate", "--out", "out"), "training_set.csv does not exist: run `neardup prepare"),
        (("augment", "--out", "out"), "training_set.csv does not exist"),
        (("train", "--out", "out", "--encoder", "builtin:tiny"), "does not exist"),
        (("evaluate", "--out", "out", "--encoder", "builtin:tiny"), "does not exist"),
        (("embed", "no", "--out", "v.parquet", "--encoder", "builtin:tiny"), "no is not a folder"),
        (("embed", ".", "--out", "v.parquet", "--encoder", "no/such/folder"), "there is no folder no/such/folder"),
        (("search", "x.jpg", "--in", "v.parquet"), "v.parquet does not exist: make it with `neardup embed"),
        (("prepare", ".", "--config", "no.toml"), "no.toml does not exist"),
    ],
)
def test_a_users_error_is_one_line(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What, where and what to do; status 1, nothing on standard output, no traceback."""
    monkeypatch.chdir(tmp_path)
    ran = neardup(*arguments)
    assert (ran.exit_code, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert sentence in ran.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """For whoever mends neardup itself."""
    command = [Path(sys.executable).parent / "neardup", "--debug", "prepare", "no"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, True)


def test_a_wrong_option_is_refused_with_usage() -> None:
    """Status 2, as everywhere."""
    ran = neardup("search", "x.jpg", "--in", "v", "--top", "0")
    assert (ran.exit_code, "Usage: main search" in ran.stderr) == (2, True)


def test_an_unknown_setting_suggests_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the working folder is read and checked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neardup.toml").write_text("[prepare]\nfotos = ['x']\n")
    ran = neardup("prepare", ".")
    assert "neardup.toml: unknown setting prepare.fotos: did you mean photos?" in ran.stderr


def test_embed_writes_what_was_promised(vectors: Path, made: MadeArchive) -> None:
    """A row a readable image of the folder, with paths relative to it."""
    table = pq.read_table(vectors).to_pydict()
    assert all((made.root / path).is_file() for path in table["path"])
    assert {path for group in made.groups for path in group} <= set(table["path"])


def test_a_photo_finds_itself_first(vectors: Path, made: MadeArchive) -> None:
    """Searched for with its own bytes, it is the first hit, at similarity 1, and the only one marked as itself."""
    photo = made.groups[2][0]
    ran = neardup("search", made.root / photo, "--in", vectors, "--top", 3, "--encoder", "builtin:tiny", "--json")
    (answer,) = json.loads(ran.stdout)
    assert [len(answer["hits"]), answer["hits"][0]["path"]] == [3, photo]
    assert answer["hits"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert [hit["itself"] for hit in answer["hits"]] == [True, False, False]
    assert answer["hits"][0]["photo"] == hashlib.sha256((made.root / photo).read_bytes()).hexdigest()


def test_search_prints_a_line_a_hit(vectors: Path, made: MadeArchive, tmp_path: Path) -> None:
    """Rank, similarity, path, and whether it is the photo that was searched for; the page says that too."""
    photo, page = made.groups[2][0], tmp_path / "hits.html"
    shown = ("--photos", made.root, "--page", page)
    ran = neardup("search", made.root / photo, "--in", vectors, "--top", 2, "--encoder", "builtin:tiny", *shown)
    first, second = ran.stdout.splitlines()
    assert (first, second.endswith("(itself)")) == (f"  1  1.0000  {photo}  (itself)", False)
    assert page.read_text().count("1.000, itself") == 1


def test_an_approximate_search_marks_the_photo_itself(vectors: Path, made: MadeArchive) -> None:
    """A hit of the approximate search that is the photo itself is marked, as one of the exact search is."""
    photo = made.groups[2][0]
    command = ("search", made.root / photo, "--in", vectors, "--top", 2, "--encoder", "builtin:tiny", "--approximate")
    assert neardup(*command).stdout.splitlines()[0] == f"  1  1.0000  {photo}  (itself)"


def test_search_with_another_encoder_is_refused(vectors: Path, made: MadeArchive, tmp_path: Path) -> None:
    """Vectors of two encoders are never compared."""
    from neardup.encode.encoder import load_clip  # noqa: PLC0415 - seconds that most of these tests need not wait

    clip = load_clip("builtin:tiny")
    clip.image_processor.image_mean = [0.1, 0.1, 0.1]
    clip.save(tmp_path / "other")
    ran = neardup("search", made.root / made.groups[0][0], "--in", vectors, "--encoder", tmp_path / "other")
    assert (ran.exit_code, "these vectors were made by the encoder" in ran.stderr) == (1, True)


def test_new_queries_are_written_searched_and_shown(vectors: Path, made: MadeArchive, tmp_path: Path) -> None:
    """Variants beside each original, a search for each, and one page with the pictures."""
    (tmp_path / "new").mkdir()
    Scene.of(77).image.save(tmp_path / "new" / "x.jpg")
    neardup("augment", "--queries", tmp_path / "new", "--out", tmp_path)
    page = tmp_path / "hits.html"
    ran = neardup(
        "search",
        tmp_path / "queries",
        "--in",
        vectors,
        "--encoder",
        "builtin:tiny",
        "--photos",
        made.root,
        "--page",
        page,
    )
    assert [line for line in ran.stdout.splitlines() if line.endswith(".jpg") and line.startswith("x")] == [
        "x.jpg",
        "x_color.jpg",
        "x_flip.jpg",
        "x_resize.jpg",
        "x_rotate.jpg",
    ]
    assert page.read_text().count("<img") == 5 * 11


def test_the_stages_run_one_by_one(made: MadeArchive, tmp_path: Path) -> None:
    """Prepare, translate, augment, train, evaluate: each says what it made, and a second time that nothing was done."""
    common = ("--out", tmp_path, "--encoder", "builtin:tiny", "--epochs", 1, "--batch-size", 16)
    said = [
        neardup("prepare", made.root, "--out", tmp_path),
        neardup("prepare", made.root, "--out", tmp_path),
        neardup("translate", "--out", tmp_path, "--translator", "none"),
        neardup("augment", "--out", tmp_path, "--copies", 2),
        neardup("train", *common),
        neardup("train", *common),
        neardup("evaluate", *common, "--json"),
    ]
    assert [ran.exit_code for ran in said] == [0] * 7, [ran.stderr for ran in said]
    assert "nothing was done" in said[1].stdout
    assert "nothing was done" in said[5].stdout
    assert sorted(json.loads(said[6].stdout)["metrics"]["top_1"]) == ["fine-tuned", "zero-shot"]
    assert (tmp_path / "report.html").is_file()
