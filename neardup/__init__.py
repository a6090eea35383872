"""neardup: finds the near-duplicates of an archive of press photographs and proves how well.

The names that a notebook needs can be imported from here; each is loaded when it is first used, so that `import
neardup` is cheap. Everything else is in the subpackages.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neardup.archive.prepare import prepare
    from neardup.detect.duplicates import Duplicates, find_duplicates
    from neardup.encode.encoder import Encoder, load_encoder
    from neardup.encode.vectors import Embeddings, embed
    from neardup.measure.comparison import compare
    from neardup.measure.evaluate import Evaluation, evaluate
    from neardup.search.nearest import Hit, search
    from neardup.settings.file import load_settings

__version__ = "0.1.0"

_HOMES = {
    "Duplicates": "detect.duplicates",
    "Embeddings": "encode.vectors",
    "Encoder": "encode.encoder",
    "Evaluation": "measure.evaluate",
    "Hit": "search.nearest",
    "compare": "measure.comparison",
    "embed": "encode.vectors",
    "evaluate": "measure.evaluate",
    "find_duplicates": "detect.duplicates",
    "load_encoder": "encode.encoder",
    "load_settings": "settings.file",
    "prepare": "archive.prepare",
    "search": "search.nearest",
}
"""Public name → the module that it is loaded from."""

__all__ = [
    "Duplicates",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "Hit",
    "compare",
    "embed",
    "evaluate",
    "find_duplicates",
    "load_encoder",
    "load_settings",
    "prepare",
    "search",
]


def __getattr__(name: str) -> Any:
    """Load a public name of `neardup` when it is first used, so that `import neardup` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, for tab completion."""
    return [*__all__, "__version__"]
