"""The pages of the project: what they show runs, and what they name is there."""

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
PAGES = sorted(
    [page for folder in ("", "docs", "mlflow", "neardup/builtin/checkpoint") for page in (ROOT / folder).glob("*.md")]
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
CONSOLE_LINES = re.findall(r"^\$ neardup (.*?)$", EVERYTHING, re.MULTILINE)
LONGEST_README = 120
"""Lines of the README: what a new user needs, and no more."""
MADE_LATER = {"neardup/edge/", "flows/NAME.py"}
"""Paths of pages that the repository lacks: a folder of the wheel, and a file that a reader is to write."""


@pytest.mark.parametrize("name", ["commands", "settings"])
def test_the_reference_is_the_codes(name: str) -> None:
    """The pages that `make docs` makes from the code are those in docs/."""
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == getattr(reference, name)()


def test_the_reference_holds_the_commands_below_a_command() -> None:
    """Each has a heading of its own with its options."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in main.commands["verdicts"].commands if f"## neardup verdicts {name}\n" not in page] == []


@pytest.mark.parametrize(
    "module",
    [found.name for found in pkgutil.walk_packages(neardup.__path__, "neardup.") if "__main__" not in found.name],
)
def test_the_examples_of_the_docstrings_are_true(module: str) -> None:
    """Each `>>>` of a module's docstrings gives the result below it."""
    assert (
        doctest.testmod(importlib.import_module(module), extraglobs={"np": importlib.import_module("numpy")}).failed
        == 0
    )


def blocks(kind: str, text: str = README) -> list[str]:
    """The fenced blocks of a language, in the README or another text."""
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("line", CONSOLE_LINES)
def test_the_commands_of_the_pages_are_commands(line: str) -> None:
    """Each console line of a page parses, options and all."""
    name, *arguments = shlex.split(line)
    command = main.commands[name]
    command.make_context(name, arguments, resilient_parsing=False)


def test_the_python_of_the_readme_runs(made: MadeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of the README run in a folder with photos, as a notebook would run them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(made.root / "agence_rol" / "photos" / "jpg")
    (tmp_path / "new.jpg").write_bytes((made.root / made.groups[0][0]).read_bytes())
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own README


def test_every_command_has_a_place_in_the_readme() -> None:
    """Each command is named in the README as `neardup NAME`, so that nobody must guess what there is."""
    assert [name for name in main.commands if not re.search(rf"neardup {name}\b", README)] == []


def test_the_settings_of_the_pages_are_settings(tmp_path: Path) -> None:
    """Each `neardup.toml` that a page shows is read without an error."""
    from neardup.settings.file import load_settings  # noqa: PLC0415 - beside its only use

    assert blocks("toml", EVERYTHING)
    for block in blocks("toml", EVERYTHING):
        (tmp_path / "neardup.toml").write_text(block)
        load_settings(tmp_path / "neardup.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link of a page leads to a file of the project, and to a heading of it where it names one."""
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether the file of a relative link exists, and the heading that the link names."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_link_to_a_heading_that_is_not_there_is_found() -> None:
    """A page's own heading is an anchor, another word is none."""
    page = ROOT / "docs" / "why.md"
    assert [leads_somewhere(page, link) for link in ("#where-the-layout-differs", "#nowhere", "nowhere.md")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/why.md", "neardup/builtin/checkpoint/README.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    """Each path in code type with a folder of ours in it leads to a file or folder of the project."""
    code = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text(encoding="utf-8"))
    ours = "neardup|flows|tasks|tests|benchmarks|mlflow|docs"
    paths = [path for text in code for path in re.findall(rf"(?:{ours})/[\w./-]*", text)]
    assert [path for path in paths if path not in MADE_LATER and not (ROOT / path).exists()] == []


def test_the_readme_holds_what_a_new_user_needs() -> None:
    """The README stays short; what it leaves out is in docs/ and CONTRIBUTING.md."""
    assert len(README.splitlines()) <= LONGEST_README


def test_nobody_is_sent_to_an_index_that_has_no_neardup() -> None:
    """The project is on no package index, so no page says `pip install neardup` or the like."""
    assert re.findall(r"pip install ['\"]?neardup", EVERYTHING) == []


def test_no_machine_is_named() -> None:
    """No page has an absolute path of a machine in it."""
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users)/", EVERYTHING)


def test_click_shows_no_bare_group() -> None:
    """The help of `neardup` itself has an example, like that of each command."""
    assert "Example" in main.get_help(click.Context(main))
