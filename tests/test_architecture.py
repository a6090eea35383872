"""The imports, read from the source: flows → tasks → neardup, never the other way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = {"cli", "config", "errors", "recipes", "stages", "__init__", "__main__"}
HEAVY = {"torch", "torchvision", "transformers", "pandas", "matplotlib", "sklearn", "mlflow", "prefect", "numpy", "PIL"}


def imports(path: Path, *, top: bool = False) -> set[str]:
    """The first parts of the modules that a file imports; only those at its top level if `top`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top else list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def modules(package: str) -> list[Path]:
    """The source files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("neardup"), ids=lambda path: path.stem)
def test_library_knows_nothing_of_the_edges(path: Path) -> None:
    """The library imports neither Prefect nor MLflow; only the command line reaches for tasks and flows."""
    edges = {"prefect", "mlflow"} | (set() if path.stem == "cli" else {"tasks", "flows"})
    assert imports(path) & edges == set()


@pytest.mark.parametrize("path", modules("tasks"), ids=lambda path: path.stem)
def test_tasks_do_not_know_flows(path: Path) -> None:
    """A task never imports a flow."""
    assert "flows" not in imports(path)


@pytest.mark.parametrize("path", modules("flows"), ids=lambda path: path.stem)
def test_nobody_imports_a_flow(path: Path) -> None:
    """Not even another flow."""
    assert "flows" not in imports(path)


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_core_starts_light(name: str) -> None:
    """What `neardup --help` imports pays for no heavy library."""
    assert imports(ROOT / "neardup" / f"{name}.py", top=True) & HEAVY == set()


def test_mlflow_folder_hides_no_library() -> None:
    """The folder of that name holds configuration only: an `__init__.py` there would hide the real package."""
    assert list((ROOT / "mlflow").rglob("*.py")) == []
