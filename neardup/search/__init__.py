"""Near pairs and nearest photos among vectors: exact by default, approximate where that is asked for.

In: vectors. Out: hits and pairs with their similarities. Imports the ground, `archive` and `encode`.
"""

import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """This package, which `neardup.search(photo, gallery)` calls: the folder and the function share their name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do as `neardup.search.nearest.search`."""
        from neardup.search.nearest import search  # noqa: PLC0415 - it imports torch

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
