"""Search for near pairs and nearest photos among vectors: exact by default, approximate on request.

In: vectors. Out: hits and pairs with their similarities. Imports the ground, `archive` and `encode`.
"""

import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """This package as a callable module, so that `neardup.search` is the package and the public function at once."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `neardup.search.nearest.search`."""
        from neardup.search.nearest import search  # noqa: PLC0415 - it imports torch

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
