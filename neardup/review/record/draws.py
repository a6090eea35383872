"""The links that an audit drew at random: their order, the file `review/audit.json` of it, and what answers say."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from neardup.decide.promises import Audit
from neardup.review.record.links import Links
from neardup.stages import reading
from neardup.verify.evidence import ordered
from neardup.verify.store import read_results


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


def random_order(pairs: Sequence[tuple[str, str]], seed: str) -> list[int]:
    """The places of pairs in the order of their random numbers.

    A pair's number depends on its two photos and on the seed alone, so that pairs keep their order among others
    ("permanent random numbers", Ohlsson 1995).

    Args:
        pairs: what stands for the two photos of each, the lesser first.
        seed: of the output folder's audit.
    """
    key = seed.encode()
    numbers = [
        hashlib.blake2b("\0".join(pair).encode("utf-8", "surrogateescape"), key=key, digest_size=8).digest()
        for pair in pairs
    ]
    return sorted(range(len(pairs)), key=numbers.__getitem__)


def audit_of(out: Path, links: Links) -> Audit:
    """What the answers say of the links of the last `duplicates`; nothing where it verified or an audit drew nothing.

    Args:
        out: the output folder.
        links: what follows from the verdicts in force.

    Raises:
        ArchiveError: nothing was found there, or the file of the draws is damaged.
    """
    drawn = read_draws(out)
    columns = ["photo_sha256", "partner_sha256", "band"]
    table = read_results(out / "duplicates" / "pairs.parquet", out, ["kind"], columns)
    if not drawn or not set(columns) <= set(table.column_names):
        return Audit(0, 0)
    rows = table.filter(pc.equal(table["band"], "link")).to_pylist()
    pairs = list(dict.fromkeys(ordered(row["photo_sha256"], row["partner_sha256"]) for row in rows))
    in_order = (pairs[place] for place in random_order(pairs, drawn["seed"]))
    return Audit.of(right for _, right in links.judged(in_order))
