"""The links that an audit drew at random, as the output folder keeps them: `review/audit.json`."""

import json
from pathlib import Path
from typing import Any

from neardup.stages import reading


def draws_file(out: Path) -> Path:
    """The file of an output folder that holds the seed of its audit and all links that were drawn."""
    return out / "review" / "audit.json"


def read_draws(out: Path) -> dict[str, Any]:
    """What the file of the draws holds: `seed`, and `draws`, run → what was drawn of it; nothing where there is none.

    Raises:
        ArchiveError: the file is damaged; another draw would make two samples of one audit.
    """
    file = draws_file(out)
    if not file.is_file():
        return {}
    with reading(file, "put its last copy in its place, or delete it to have the audit drawn anew"):
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {"seed": str(stored["seed"]), "draws": dict(stored.get("draws", {}))}
