"""What the decided pairs say against the ground truth: links that it lacks, and photos of a row that match no other."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from neardup.archive.testset import TestPhoto, TestSet
from neardup.errors import UnreadableImageError
from neardup.pages import Picture, write_page
from neardup.review.candidates import Candidate, Found
from neardup.review.links import Links
from neardup.tables import write_csv, write_table

LIKELY = 0.9
"""Probability from which a pair that the ground truth lacks is told."""
UNLIKELY = 0.1
"""Probability up to which a photo is told to match none of its row."""
SHOWN = 200
"""Lines that the page shows with pictures; the tables hold all."""


@dataclass(frozen=True)
class Doubt:
    """One line against the ground truth.

    Attributes:
        kind: `missing` for two photos that are likely the same and in no common row, `alone` for one that matches no
            other of its row.
        probability: that the two photos show one picture; of `alone` the greatest within the row, 0 where the search
            proposed none.
        photo: path of the photo; its picture lies there in the archive.
        photo_row: sheet and row of it, or nothing.
        partner: path of the other photo; of `alone` the one that it matches best, else another one of its row.
        partner_row: sheet and row of that, or nothing.
        reason: why, in words.
        verdict: what people said of the pair, or nothing.
    """

    kind: str
    probability: float
    photo: str
    photo_row: str
    partner: str
    partner_row: str
    reason: str
    verdict: str


def doubts_of(test_set: TestSet, found: Found, links: Links) -> list[Doubt]:
    """Compare the pairs of a search with the rows of the ground truth; the likeliest first.

    A pair on which people agree that it is different is not told as missing. Without probabilities nothing is told.

    Args:
        test_set: the ground truth as resolved.
        found: the pairs of a search of the same archive.
        links: what follows from the verdicts.
    """
    named = {photo.sha256: photo for photo in test_set.photos}
    scored = [candidate for candidate in found.candidates if candidate.probability is not None]
    doubts = [line for candidate in scored if (line := _missing(candidate, named, links))]
    doubts.sort(key=lambda line: (-line.probability, line.photo, line.partner))
    return doubts + (_alone(test_set, scored, links) if scored else [])


def _row(photo: TestPhoto | None) -> str:
    return f"{photo.sheet} row {photo.row}".strip() if photo else ""


def _missing(candidate: Candidate, named: dict[str, TestPhoto], links: Links) -> Doubt | None:
    """The line of a likely pair of which at least one photo is in the ground truth, and which is in no row."""
    one, other = named.get(candidate.photo_sha256), named.get(candidate.partner_sha256)
    probability = candidate.probability or 0.0
    verdict = links.decided.get(candidate.pair)
    if (one is None and other is None) or (one and other and one.group == other.group):
        return None
    if candidate.pair in links.cannot or (probability < LIKELY and candidate.pair not in links.must):
        return None
    where = "the photos are in two rows" if one and other else "one photo is in no row"
    reason = f"{where}: {candidate.sentence or f'{candidate.inliers or 0} points agree'}"
    word = f"{verdict.who}: {verdict.verdict}" if verdict else ""
    return Doubt("missing", probability, candidate.photo, _row(one), candidate.partner, _row(other), reason, word)


def _alone(test_set: TestSet, scored: Sequence[Candidate], links: Links) -> list[Doubt]:
    """The photos of rows of two or more that match no other one of their row, the least likely first."""
    probability = {candidate.pair: candidate.probability or 0.0 for candidate in scored}
    rows: defaultdict[int, list[TestPhoto]] = defaultdict(list)
    for photo in test_set.photos:
        rows[photo.group].append(photo)
    doubts = []
    for photos in rows.values():
        for photo in photos if len(photos) > 1 else []:
            pairs = {(min(photo.sha256, p.sha256), max(photo.sha256, p.sha256)): p for p in photos if p is not photo}
            best = max(pairs, key=lambda pair: probability.get(pair, 0.0))
            chance = probability.get(best, 0.0)
            if chance <= UNLIKELY and not any(pair in links.must for pair in pairs):
                words = [f"{v.who}: {v.verdict}" for pair in pairs if (v := links.decided.get(pair))]
                reason = f"none of the {len(pairs)} others of its row is likely the same picture"
                ends = photo.path, _row(photo), pairs[best].path, _row(pairs[best])
                doubts.append(Doubt("alone", chance, *ends, reason, "; ".join(words)))
    return sorted(doubts, key=lambda line: (line.probability, line.photo))


def write_doubts(folder: Path, doubts: Sequence[Doubt], found: Found) -> list[Path]:
    """Write `discrepancies_IS.xlsx`, `.csv` and `.html`, the page with a picture of both photos of each line."""
    columns = [column.name for column in fields(Doubt)]
    paths = [folder / f"discrepancies_IS.{suffix}" for suffix in ("xlsx", "csv", "html")]
    write_table(paths[0], columns, map(astuple, doubts))
    write_csv(paths[1], columns, map(astuple, doubts))
    lines = [(doubt, [_picture(found, path) for path in (doubt.photo, doubt.partner)]) for doubt in doubts[:SHOWN]]
    write_page(paths[2], "ground_truth", lines=lines, total=len(doubts))
    return paths


def _picture(found: Found, path: str) -> Picture:
    try:
        return Picture.of(found.root / path, path, max_pixels=found.max_pixels)
    except (FileNotFoundError, UnreadableImageError):
        return Picture("", path, "no picture")
