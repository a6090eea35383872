"""The docs are under test: what they show runs, what they list is there."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import click
import pytest
import reference

import neardup
from neardup.builtin.demo import MadeArchive
from neardup.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "mlflow").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("name", ["commands", "settings"])
def test_the_reference_is_the_codes(name: str) -> None:
    """`make docs` would change nothing."""
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == getattr(reference, name)()


@pytest.mark.parametrize(
    "module",
    [found.name for found in pkgutil.walk_packages(neardup.__path__, "neardup.") if "__main__" not in found.name],
)
def test_the_examples_of_the_docstrings_are_true(module: str) -> None:
    """Each `>>>` gives what it says."""
    assert (
        doctest.testmod(importlib.import_module(module), extraglobs={"np": importlib.import_module("numpy")}).failed
        == 0
    )


def blocks(kind: str, text: str = README) -> list[str]:
    """The blocks of a kind, in the README or another text."""
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("line", re.findall(r"^\$ neardup (.*?)$", EVERYTHING, re.MULTILINE))
def test_the_commands_of_the_pages_are_commands(line: str) -> None:
    """Each can be parsed, options and all."""
    name, *arguments = shlex.split(line)
    command = main.commands[name]
    command.make_context(name, arguments, resilient_parsing=False)


def test_the_python_of_the_readme_runs(made: MadeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with an archive, as a notebook would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(made.root / "agence_rol" / "photos" / "jpg")
    (tmp_path / "new.jpg").write_bytes((made.root / made.groups[0][0]).read_bytes())
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own README


def test_every_command_has_a_place_in_the_readme() -> None:
    """Nobody must guess what there is."""
    assert [name for name in main.commands if f"neardup {name}" not in README] == []


def test_the_settings_of_the_pages_are_settings(tmp_path: Path) -> None:
    """The files that they show are read without an error."""
    from neardup.settings.file import load_settings  # noqa: PLC0415 - beside its only use

    assert blocks("toml")
    for block in blocks("toml", EVERYTHING):
        (tmp_path / "neardup.toml").write_text(block)
        load_settings(tmp_path / "neardup.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the project, or to another place's address."""
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_no_machine_is_named() -> None:
    """No absolute path and no key in what people read."""
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users)/", EVERYTHING)


def test_click_shows_no_bare_group() -> None:
    """The group itself has help and an example too."""
    assert "Example" in main.get_help(click.Context(main))
