"""The command line: help, one sentence on a user's error, JSON where a machine reads."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from commands import start

from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.cli import main
from neardup.errors import EXTRAS
from neardup.stages import alone

COMMANDS = sorted(main.commands)
HEAVY = ("torch", "transformers", "pandas", "prefect", "mlflow", "numpy", "PIL", "matplotlib")


def neardup(*arguments: object) -> Result:
    """Run the command in this process, which has paid for the imports already."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def parameters(command: str) -> dict[str, click.Parameter]:
    """Name → option or argument of a command."""
    return {str(parameter.name): parameter for parameter in main.commands[command].params}


def test_every_promised_command_is_there() -> None:
    """No more and no fewer."""
    steps = ["prepare", "translate", "augment", "embed", "train", "evaluate", "experiment", "search", "demo"]
    pairs = ["watch", "duplicates", "explain", "verify", "review", "verdicts"]
    assert sorted([*steps, *pairs, "tune", "promote", "rollback", "up", "down"]) == COMMANDS


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
def vectors(made: MadeArchive, small_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors of the made archive."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.parquet"
    ran = neardup("embed", made.root, "--out", path, "--encoder", small_encoder)
    assert (ran.exit_code, "4 left out" in ran.stdout) == (0, True)
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("experiment", "no", "--out", "out"), "no is not a folder: name the folder"),
        (("experiment", ".", "--out", "../out"), "donnees_IS.xlsx is not there"),
        (
            ("experiment", ".", "--out", "../out", "--queries", "no"),
            "no is not a folder: name the folder of new photos",
        ),
        (("prepare", "no", "--out", "out"), "no is not a folder"),
        (("translate", "--out", "out"), "training_set.csv does not exist: run `neardup prepare"),
        (("augment", "--out", "out"), "training_set.csv does not exist"),
        (("train", "--out", "out", "--encoder", "builtin:tiny"), "does not exist"),
        (("evaluate", "--out", "out", "--encoder", "builtin:tiny"), "does not exist"),
        (("embed", "no", "--out", "v.parquet", "--encoder", "builtin:tiny"), "no is not a folder"),
        (("embed", ".", "--out", "../v.parquet", "--encoder", "no/such/folder"), "there is no folder no/such/folder"),
        (("search", "x.jpg", "--in", "v.parquet"), "v.parquet does not exist: make it with `neardup embed"),
        (("prepare", ".", "--config", "no.toml"), "no.toml does not exist"),
    ],
)
def test_a_users_error_is_one_line(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What, where and what to do; status 1, nothing on standard output, no traceback."""
    monkeypatch.chdir(tmp_path)
    Scene.of(0).image.save("a.png")  # a folder without an image is another error
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


def test_a_photo_finds_itself_first(vectors: Path, made: MadeArchive, small_encoder: str) -> None:
    """Searched for with its own bytes, it is the first hit, at similarity 1, and the only one marked as itself."""
    photo = made.groups[2][0]
    ran = neardup("search", made.root / photo, "--in", vectors, "--top", 3, "--encoder", small_encoder, "--json")
    (answer,) = json.loads(ran.stdout)
    assert [len(answer["hits"]), answer["hits"][0]["path"]] == [3, photo]
    assert answer["hits"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert [hit["itself"] for hit in answer["hits"]] == [True, False, False]
    assert answer["hits"][0]["photo"] == hashlib.sha256((made.root / photo).read_bytes()).hexdigest()


def test_search_prints_a_line_a_hit(vectors: Path, made: MadeArchive, small_encoder: str, tmp_path: Path) -> None:
    """Rank, similarity, path, and whether it is the photo that was searched for; the page says that too."""
    photo, page = made.groups[2][0], tmp_path / "hits.html"
    shown = ("--photos", made.root, "--page", page)
    ran = neardup("search", made.root / photo, "--in", vectors, "--top", 2, "--encoder", small_encoder, *shown)
    first, second = ran.stdout.splitlines()
    assert (first, second.endswith("(itself)")) == (f"  1  1.0000  {photo}  (itself)", False)
    assert page.read_text().count("1.000, itself") == 1


def test_a_search_says_what_it_could_not_verify(
    vectors: Path, made: MadeArchive, small_encoder: str, tmp_path: Path
) -> None:
    """Photos that are not in the folder that --photos names; a folder that is none is refused."""
    photo = made.root / made.groups[2][0]
    apart = shutil.copy(vectors, tmp_path)  # beside the other file another search may have kept keypoints
    command = ("search", photo, "--in", apart, "--top", 3, "--encoder", small_encoder, "--photos")
    ran, refused = neardup(*command, tmp_path), neardup(*command, tmp_path / "none")
    assert "2 hits of 3 could not be verified" in ran.stderr
    assert (ran.exit_code, refused.exit_code) == (0, 1)
    assert "none is not a folder: name with --photos the folder that was embedded" in refused.stderr


def test_an_approximate_search_marks_the_photo_itself(vectors: Path, made: MadeArchive, small_encoder: str) -> None:
    """A hit of the approximate search that is the photo itself is marked, as one of the exact search is."""
    photo = made.groups[2][0]
    command = ("search", made.root / photo, "--in", vectors, "--top", 2, "--encoder", small_encoder, "--approximate")
    assert neardup(*command).stdout.splitlines()[0] == f"  1  1.0000  {photo}  (itself)"


def test_a_store_is_searched_as_its_file_is(vectors: Path, made: MadeArchive, small_encoder: str) -> None:
    """`--in` takes the folder of a store as well; every content that was encoded there is found."""
    photo, store = made.root / made.groups[2][0], vectors.parent / ".neardup" / "vectors"
    options = ("--top", 3, "--encoder", small_encoder, "--json")
    (of_file,), (of_store,) = (
        json.loads(neardup("search", photo, "--in", place, *options).stdout) for place in (vectors, store)
    )
    assert [hit["similarity"] for hit in of_store["hits"]] == [hit["similarity"] for hit in of_file["hits"]]
    assert {hit["photo"] for hit in of_store["hits"]} == {hit["photo"] for hit in of_file["hits"]}


def test_search_with_another_encoder_is_refused(
    vectors: Path, made: MadeArchive, small_encoder: str, tmp_path: Path
) -> None:
    """Vectors of two encoders are never compared."""
    from neardup.encode.trainable import load_trainable  # noqa: PLC0415 - seconds that most of these tests need not wait

    clip = load_trainable(small_encoder)
    clip.image_processor.image_mean = [0.1, 0.1, 0.1]
    clip.save(tmp_path / "other")
    ran = neardup("search", made.root / made.groups[0][0], "--in", vectors, "--encoder", tmp_path / "other")
    assert (ran.exit_code, "these vectors were made by the encoder" in ran.stderr) == (1, True)


def test_new_queries_are_written_searched_and_shown(
    vectors: Path, made: MadeArchive, small_encoder: str, tmp_path: Path
) -> None:
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
        small_encoder,
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


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo", "up", "down", "review", "verdicts"}))
def test_each_command_with_a_result_gives_it_as_json(command: str) -> None:
    """For whoever calls neardup from a script."""
    assert "--json" in [option for parameter in main.commands[command].params for option in parameter.opts]


@pytest.mark.parametrize("command", [name for name in COMMANDS if "device" in parameters(name)])
def test_a_device_is_one_of_four(command: str) -> None:
    """A device that nobody knows is refused at once, and the help names those that there are."""
    device = parameters(command)["device"]
    assert isinstance(device.type, click.Choice)
    assert list(device.type.choices) == ["auto", "cpu", "cuda", "mps"]


@pytest.mark.parametrize(
    "command", ["prepare ARCHIVE", "experiment ARCHIVE", "duplicates ARCHIVE", "watch ARCHIVE", "embed ARCHIVE"]
)
def test_an_archive_cannot_name_a_server(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever command reads it: its file would send the key of DeepL, or code, to a server of its maker's."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "neardup.toml").write_text('[cluster]\nscheduler = "tcp://somewhere:8786"\n')
    monkeypatch.chdir(tmp_path)
    ran = neardup(*command.replace("ARCHIVE", "archive").split(), "--out", "out")
    assert (ran.exit_code, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert "lies in the archive, from which only [prepare] is taken, and sets [cluster]" in ran.stderr


WRITERS = {
    "prepare": "prepare ARCHIVE --out results",
    "translate": "translate --out results --translator none",
    "augment": "augment --out results",
    "queries": "augment --queries ARCHIVE --out results",
    "train": "train --out results --encoder builtin:tiny",
    "evaluate": "evaluate --out results --encoder builtin:tiny",
    "embed": "embed ARCHIVE --out results/vectors.parquet --encoder builtin:tiny",
    "demo": "demo --out results",
    "rollback": "rollback --out results",
}
"""Commands that write into a folder without a flow."""


@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_command_that_writes_waits_for_who_is_at_work(command: str, made: MadeArchive, tmp_path: Path) -> None:
    """A scheduled run and a person at a terminal never share the state of one folder."""
    out = tmp_path / "results"
    with alone(out, pytest.fail):
        (out / "training_set.csv").touch()
        running = start(*command.replace("ARCHIVE", str(made.root)).split(), cwd=tmp_path)
        while not running.said() and running.poll() is None:
            time.sleep(0.01)
        running.kill()
        assert running.ended().stderr == "neardup: another run works in results: waiting until it has ended\n"
    assert {path.name for path in out.rglob("*") if path.is_file()} == {"training_set.csv", "lock"}


def test_the_steps_of_commands_and_flows_are_the_same() -> None:
    """Neither names the work of a step: they take those that `neardup.experiment` lists."""
    work = re.compile(r"\b(make_checkpoint|encode_test_set|evaluate_approach|compare_approaches|write_augmented)\(")
    root = Path(__file__).parents[1]
    sources = [path for folder in ("neardup/cli", "tasks", "flows") for path in (root / folder).glob("*.py")]
    assert [path.name for path in sources if work.search(path.read_text(encoding="utf-8"))] == []


def test_the_packages_of_an_extra_are_those_of_the_project() -> None:
    """What an error's sentence tells a person to install is what the extra holds."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {name: tuple(packages) for name, packages in project["optional-dependencies"].items()} == EXTRAS


def test_the_stages_run_one_by_one(made: MadeArchive, small_encoder: str, tmp_path: Path) -> None:
    """Prepare, translate, augment, train, evaluate: each prints what it made, and again that nothing was done."""
    common = ("--out", tmp_path, "--encoder", small_encoder, "--epochs", 1, "--batch-size", 16)
    runs = [
        neardup("prepare", made.root, "--out", tmp_path),
        neardup("prepare", made.root, "--out", tmp_path),
        neardup("translate", "--out", tmp_path, "--translator", "none"),
        neardup("augment", "--out", tmp_path, "--copies", 2),
        neardup("train", *common),
        neardup("train", *common),
        neardup("evaluate", *common),
    ]
    assert [ran.exit_code for ran in runs] == [0] * 7, [ran.stderr for ran in runs]
    assert "nothing was done" in runs[1].stdout
    assert runs[2].stdout == f"Captions are in {tmp_path / 'df_training.xlsx'}\n"
    assert runs[4].stdout == f"The checkpoint is {tmp_path / 'fine-tuned' / 'checkpoint'}\n"
    assert "nothing was done" in runs[5].stdout
    assert "| nDCG" in runs[6].stdout
    assert (tmp_path / "report.html").is_file()


@pytest.fixture(scope="module")
def answers(
    made: MadeArchive, small_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Command → the one JSON document that is its whole standard output."""
    out = tmp_path_factory.mktemp("answers") / "results"
    common = ("--out", out, "--encoder", small_encoder, "--epochs", 1, "--batch-size", 16)
    commands = {
        "prepare": ("prepare", made.root, "--out", out),
        "translate": ("translate", "--out", out, "--translator", "none"),
        "augment": ("augment", "--out", out, "--copies", 2),
        "queries": ("augment", "--queries", made.root / "agence_rol", "--out", out),
        "train": ("train", *common),
        "evaluate": ("evaluate", *common),
        "precision": ("evaluate", *common, "--precision", "int8"),
        "embed": ("embed", made.root, "--out", out / "v.parquet", "--encoder", small_encoder),
    }
    return {name: json.loads(neardup(*command, "--json").stdout) for name, command in commands.items()}


def test_translate_counts_who_translated(answers: dict[str, dict[str, Any]]) -> None:
    """Each legend has a caption, by a translator or untranslated."""
    answer = answers["translate"]
    assert (sum(answer["translators"].values()), answer["sent"]) == (answer["captions"], 0)


def test_augment_counts_the_copies(answers: dict[str, dict[str, Any]]) -> None:
    """As many files lie in the folder that it names, two for each training photo."""
    answer = answers["augment"]
    assert answer["copies"] == len(list(Path(answer["folder"]).iterdir())) > 0


def test_augment_counts_the_queries(answers: dict[str, dict[str, Any]]) -> None:
    """Five for each photo, all of which can be read."""
    answer = answers["queries"]
    assert answer["queries"] == len([path for path in Path(answer["folder"]).rglob("*") if path.is_file()]) > 0
    assert answer["unreadable"] == []


def test_train_names_the_checkpoint(answers: dict[str, dict[str, Any]]) -> None:
    """And says whether it was there before, which epoch is in it, and why training ended."""
    answer = answers["train"]
    assert (answer["unchanged"], answer["best_epoch"]) == (False, 1)
    assert (Path(answer["checkpoint"]) / "model.safetensors").is_file()


def test_evaluate_compares_what_was_trained(answers: dict[str, dict[str, Any]]) -> None:
    """Metric → approach → value."""
    assert sorted(answers["evaluate"]["top_1"]) == [
        "fine-tuned",
        "fine-tuned, verified",
        "zero-shot",
        "zero-shot, verified",
    ]


def test_the_cost_of_a_precision_is_one_object_by_approach(answers: dict[str, dict[str, Any]]) -> None:
    """However many approaches there are, standard output is one document."""
    answer = answers["precision"]
    assert sorted(answer) == ["fine-tuned", "zero-shot"]
    assert sorted(answer["zero-shot"]["ndcg"]) == ["zero-shot", "zero-shot, int8"]


def test_embed_counts_the_photos(answers: dict[str, dict[str, Any]]) -> None:
    """Those in the file, and those that cannot be read with the reason."""
    answer = answers["embed"]
    assert (answer["photos"], len(answer["unreadable"])) == (pq.read_metadata(answer["vectors"]).num_rows, 4)
