"""The imports, read from the source: flows → tasks → neardup, and within neardup upward only, package by package."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("errors", "progress", "words"),
    ("arrays", "graphs", "settings", "stages", "images"),
    ("tables", "pages"),
    ("archive",),
    ("encode",),
    ("search",),
    ("verify",),
    ("decide",),
    ("detect",),
    ("measure",),
    ("train",),
    ("approach", "experiment", "tuning"),
    ("review",),
    ("builtin",),
    ("cli",),
)
"""The rooms of neardup from the ground up; each may import itself, what stands beside it before it, and all below."""
ROOMS = [room for floor in FLOORS for room in floor]
REVIEW = {
    "texts": "",
    "record": "",
    "found": "record",
    "asked": "texts record found",
    "exchange": "texts record found",
    "learned": "record",
    "page": "texts record found asked",
    "value": "record found asked learned page",
}
"""The parts of the review and which others each may import, as their `__init__` files say."""
LIGHT = (
    "__init__",
    "__main__",
    "errors",
    "arrays",
    "settings/__init__",
    "settings/recipe",
    "settings/schema",
    "settings/file",
    "stages",
)
HEAVY = {"torch", "torchvision", "transformers", "pandas", "matplotlib", "sklearn", "mlflow", "prefect", "PIL"}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
LONGEST_LOOP = 120
"""Lines of the one function that may be longer than others: the training loop, which reads top to bottom."""


def modules(package: str) -> list[Path]:
    """The source files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """What a test of a file is called."""
    return path.relative_to(ROOT).with_suffix("").as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file, which several tests read."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, *, top: bool = False) -> list[str]:
    """The dotted names that a file imports; only those at its top level if `top`."""
    tree = tree_of(path)
    names = []
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def parts(path: Path, *, top: bool = False) -> set[str]:
    """The first parts of what a file imports."""
    return {name.split(".")[0] for name in imported(path, top=top)}


def room_of(path: Path) -> str:
    """The room that a file of neardup lies in."""
    inside = path.relative_to(ROOT / "neardup").parts
    return inside[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("neardup"), ids=name_of)
def test_each_room_imports_only_what_stands_below_it(path: Path) -> None:
    """Lazy imports and those for types count too; `__init__` and `__main__` open the doors to all."""
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    allowed = {"__version__", *ROOMS[: ROOMS.index(room) + 1]}
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("neardup.")}
    assert rooms - allowed == set()


@pytest.mark.parametrize("path", modules("neardup/review"), ids=name_of)
def test_each_part_of_the_review_imports_only_what_it_says(path: Path) -> None:
    """And every part has its line in the table."""
    part = path.relative_to(ROOT / "neardup" / "review").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    parts_used = {name.split(".")[2] for name in imported(path) if name.startswith("neardup.review.")}
    assert parts_used - {part, *REVIEW[part].split()} == set()


@pytest.mark.parametrize("path", modules("neardup"), ids=name_of)
def test_library_knows_nothing_of_the_edges(path: Path) -> None:
    """The library imports neither Prefect nor MLflow; only the command line reaches for tasks and flows."""
    edges = {"prefect", "mlflow"} | (set() if room_of(path) == "cli" else {"tasks", "flows"})
    assert parts(path) & edges == set()


@pytest.mark.parametrize("path", modules("tasks") + modules("flows"), ids=name_of)
def test_nobody_imports_a_flow(path: Path) -> None:
    """Neither a task nor another flow; and nobody the command line."""
    names = imported(path)
    assert [name for name in names if name.startswith(("flows", "neardup.cli"))] == []


@pytest.mark.parametrize("name", LIGHT)
def test_core_starts_light(name: str) -> None:
    """What `neardup --help` imports pays for no heavy library."""
    assert parts(ROOT / "neardup" / f"{name}.py", top=True) & HEAVY == set()


@pytest.mark.parametrize("path", [p for p in modules("neardup") if p.name == "__init__.py"], ids=name_of)
def test_each_room_says_what_it_is_for(path: Path) -> None:
    """What goes in, what comes out, and what it may import, in a few lines."""
    said = ast.get_docstring(tree_of(path)) or ""
    if room_of(path) not in {"__init__", "cli"}:
        assert [word for word in ("In: ", "Out: ", "mports ") if word not in said] == []


@pytest.mark.parametrize("path", modules("neardup") + modules("tasks") + modules("flows"), ids=name_of)
def test_modules_and_functions_stay_short(path: Path) -> None:
    """What does not fit on a few screens is two things."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = LONGEST_LOOP if (path.stem, node.name) == ("finetune", "train") else LONGEST_FUNCTION
            assert (node.end_lineno or 0) - node.lineno + 1 <= limit, node.name


def test_every_room_has_a_floor() -> None:
    """A new folder of neardup gets its place in the order."""
    found = {room_of(path) for path in modules("neardup")} - {"__init__", "__main__"}
    assert found == set(ROOMS)


def test_mlflow_folder_hides_no_library() -> None:
    """The folder of that name holds configuration only: an `__init__.py` there would hide the real package."""
    assert list((ROOT / "mlflow").rglob("*.py")) == []
