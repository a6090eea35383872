"""A small archive with hostile names and what a search found in it, for tests of what people are shown."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = (
    "agence/=HYPERLINK(1).jpg",
    "presse/<script>alert(1)</script> & co.jpg",
    "presse/line\nbreak.jpg",
    "presse/na\u00eff; 'quoted', \"twice\".jpg",
    "presse/été 1911.jpg",
)
"""Names of photos: a formula, markup, a newline, quotes, accents."""


def make_results(folder: Path, *, verified: bool = True) -> tuple[Path, Path]:
    """Draw five photos and write the tables of a search: the first four are one group, pairs 0-1, 1-2, 2-3 and 0-4.

    Args:
        folder: where the archive and the output folder go.
        verified: False writes the columns of a search by vectors alone.

    Returns:
        The archive and the output folder.
    """
    archive, out = folder / "archive", folder / "results"
    digests = []
    for number, name in enumerate(NAMES):
        file = archive / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60 + number, 40), (40 * number, 120, 200)).save(file)
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
    pairs = [(0, 1), (1, 2), (2, 3), (0, 4)]
    columns: dict[str, list[object]] = {
        "photo": [NAMES[left] for left, _ in pairs],
        "partner": [NAMES[right] for _, right in pairs],
        "similarity": [0.97, 0.93, 0.91, 0.6],
        "kind": ["similar"] * 4,
    }
    if verified:
        columns |= {
            "photo_sha256": [digests[left] for left, _ in pairs],
            "partner_sha256": [digests[right] for _, right in pairs],
            "probability": [0.99, 0.97, 0.55, 0.2],
            "band": ["link", "link", "review", "reject"],
            "relation": ["crop", "same frame", "", ""],
            "sentence": ["B is a crop of A (62 %).", '=1+1 "B"', "", ""],
            "inliers": [143, 80, 9, 3],
        }
    (out / "duplicates").mkdir(parents=True)
    pq.write_table(pa.table(columns), out / "duplicates" / "pairs.parquet")
    groups = {"group": [1] * 4, "photo": list(NAMES[:4]), "exact_copy_of": [None] * 4}
    pq.write_table(pa.table(groups), out / "duplicates" / "groups.parquet")
    (out / "duplicates" / "duplicates.json").write_text(json.dumps({"archive": str(archive), "encoder": "tiny"}))
    return archive, out
