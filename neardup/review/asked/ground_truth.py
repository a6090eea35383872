"""Doubts about the ground truth from decided pairs: links that it lacks, and rows that fall into parts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from neardup.archive.testset import TestPhoto, TestSet
from neardup.pages import Picture, write_page
from neardup.review.asked.question import Question
from neardup.review.found.candidates import Candidate, Found
from neardup.review.found.facts import place_text
from neardup.review.found.results import Results
from neardup.review.record.links import Links
from neardup.review.record.photo_pair import PhotoPair
from neardup.tables import write_csv, write_table
from neardup.verify.evidence import ordered
from neardup.words import counted

MISSING_FROM = 0.9
"""Probability from which two photos without a common row are reported: below it, too many lines would be wrong."""
APART_UP_TO = 0.1
"""Probability up to which a pair does not hold its row together: the historian is doubted only if it is low."""
COLUMNS = (
    *("kind", "probability", "photo", "photo_row", "partner", "partner_row", "reason", "verdict"),
    *("photo_sha256", "partner_sha256"),
)
"""Columns of the tables of doubts, all fields of a `Doubt`: those that a historian reads first, digests last."""
SHOWN = 200
"""Most lines that the page shows with pictures; the tables hold all."""


@dataclass(frozen=True)
class Doubt(PhotoPair):
    """One doubt about the ground truth.

    Attributes:
        kind: `missing` for two photos that are likely the same but in no common row; `apart` for two parts of a row
            that nothing holds together: the likeliest pair between the part and the row's largest part.
        probability: that the two photos show one picture; 0 where the search proposed no such pair of a row.
        photo_row: sheet and row of the photo, or empty.
        partner_row: sheet and row of its partner, or empty.
        reason: reason in words.
        verdict: what people said of the pair, or empty.
    """

    kind: str
    probability: float
    photo_row: str
    partner_row: str
    reason: str
    verdict: str


def doubts_of(test_set: TestSet, candidates: Iterable[Candidate], links: Links) -> list[Doubt]:
    """Compare the pairs of a search with the rows of the ground truth; the likeliest missing one first.

    A pair that people agree is different is not reported as missing. Without probabilities nothing is reported.

    Args:
        test_set: the ground truth as resolved.
        candidates: the pairs of a search of the same archive; those of photos that are in no row are passed over.
        links: what follows from the verdicts.
    """
    named = {photo.sha256: photo for photo in test_set.photos}
    scored = [candidate for candidate in candidates if candidate.probability is not None]
    must, cannot = set(links.must), set(links.cannot)
    likely = [c for c in scored if c.pair in must or (c.pair not in cannot and (c.probability or 0) >= MISSING_FROM)]
    doubts = [line for candidate in likely if (line := _missing(candidate, named, links))]
    doubts.sort(key=lambda line: (-line.probability, line.photo, line.partner))
    return doubts + (_apart(test_set, scored, links) if scored else [])


def _row(photo: TestPhoto | None) -> str:
    return f"{photo.sheet} row {photo.row}".strip() if photo else ""


def _missing(candidate: Candidate, named: Mapping[str, TestPhoto], links: Links) -> Doubt | None:
    """The line of a likely pair of which at least one photo is in the ground truth, and which is in no row."""
    one, other = named.get(candidate.photo_sha256), named.get(candidate.partner_sha256)
    if (one is None and other is None) or (one and other and one.group == other.group):
        return None
    where = "the photos are in two rows" if one and other else "one photo is in no row"
    reason = f"{where}: {candidate.sentence or counted(candidate.inliers or 0, 'point') + ' in agreement'}"
    verdicts = _verdicts_on(links, [candidate.pair])
    probability, rows = candidate.probability or 0.0, (_row(one), _row(other))
    return Doubt(*candidate.paths, *candidate.digests, "missing", probability, *rows, reason, verdicts)


def _verdicts_on(links: Links, pairs: Iterable[tuple[str, str]]) -> str:
    """Say in words what people agree on about some pairs."""
    return "; ".join(f"{verdict.who}: {verdict.verdict}" for pair in pairs if (verdict := links.decided.get(pair)))


def _apart(test_set: TestSet, scored: Sequence[Candidate], links: Links) -> list[Doubt]:
    """One line for each part of a row but its largest one, the least likely pair first."""
    probability = {candidate.pair: candidate.probability or 0.0 for candidate in scored}
    doubts = []
    for parts in _parts(test_set, probability, links):
        for part in parts[1:]:
            pairs = {ordered(one.sha256, other.sha256): (one, other) for one, other in product(part, parts[0])}
            best = max(pairs, key=lambda pair: probability.get(pair, 0.0))
            one, other = pairs[best]
            subject = "this photo" if len(part) == 1 else f"these {len(part)} photos"
            others = counted(len(parts[0]), "other photo")
            reason = f"nothing says that {subject} and {others} of the row are the same picture"
            photos = one.path, other.path, one.sha256, other.sha256
            rows, verdicts = (_row(one), _row(other)), _verdicts_on(links, pairs)
            doubts.append(Doubt(*photos, "apart", probability.get(best, 0.0), *rows, reason, verdicts))
    return sorted(doubts, key=lambda line: (line.probability, line.photo, line.partner))


def _parts(
    test_set: TestSet, probability: Mapping[tuple[str, str], float], links: Links
) -> Iterable[list[list[TestPhoto]]]:
    """Divide each row into the parts that verdicts and likely pairs hold together, the largest first."""
    rows: defaultdict[int, list[TestPhoto]] = defaultdict(list)
    for photo in test_set.photos:
        rows[photo.group].append(photo)
    row_of = {photo.sha256: photo.group for photo in test_set.photos}
    together = DisjointSet([*row_of, *(photo for pair in links.must for photo in pair)])
    apart = set(links.cannot)
    for first, second in links.must:
        together.merge(first, second)
    for (first, second), chance in probability.items():
        if chance > APART_UP_TO and (first, second) not in apart and row_of.get(first, 0) == row_of.get(second, -1):
            together.merge(first, second)
    for photos in rows.values():
        parts: defaultdict[str, list[TestPhoto]] = defaultdict(list)
        for photo in photos:
            parts[together[photo.sha256]].append(photo)
        yield sorted(parts.values(), key=len, reverse=True)


class RowQuestions:
    """Questions about the ground truth of some results: one pair per two rows, and one per part of a row."""

    def __init__(self, results: Results, test_set: TestSet) -> None:
        """Select the pairs of a run that concern the ground truth.

        Args:
            results: of the run, verified.
            test_set: the ground truth as resolved.
        """
        self._test_set = test_set
        row_of = np.zeros(len(results.paths), dtype=np.int64)
        for photo in test_set.photos:
            if (number := results.photo_of(photo.sha256)) is not None:
                row_of[number] = photo.group
        first, second = row_of[results.first], row_of[results.second]
        within = (first == second) & (first > 0)
        across = (first != second) & (results.probability >= MISSING_FROM)
        self._candidates = results.proposed(np.flatnonzero(within | across))

    @classmethod
    def of(cls, results: Results) -> "RowQuestions | None":
        """The questions of a folder of results; None where it has no ground truth, or nothing was verified."""
        if not (results.verified and results.digests_known and (results.out / "test_set.csv").is_file()):
            return None
        return cls(results, TestSet.load(results.out))

    def still_open(self, links: Links) -> list[Question]:
        """The pairs that no verdict settles, those that the ground truth lacks first.

        Two rows are asked about by their likeliest pair only, and so are a row and a photo outside all rows: its answer
        decides for all of them.

        Args:
            links: what the verdicts in force come to.
        """
        doubts = doubts_of(self._test_set, self._candidates, links)
        photos = {photo for doubt in doubts for photo in doubt.pair}
        units = DisjointSet(photos.union(*(pair for pair in (*links.must, *links.cannot))))
        units_of_rows: dict[int, str] = {}
        for photo in self._test_set.photos:
            if photo.sha256 in units:
                units.merge(units_of_rows.setdefault(photo.group, photo.sha256), photo.sha256)
        for first, second in links.must:
            units.merge(first, second)
        known = {frozenset((units[first], units[second])) for first, second in links.cannot}
        named = {photo.sha256: place_text(photo.sheet, photo.row) for photo in self._test_set.photos}
        questions = []
        for doubt in doubts:
            both = frozenset(units[photo] for photo in doubt.pair)
            if doubt.pair in links.answered or (doubt.kind == "missing" and (len(both) == 1 or both in known)):
                continue
            known.add(both)
            questions.append(_question(doubt, [named[photo] for photo in doubt.digests if photo in named]))
        return questions


def _question(doubt: Doubt, rows: Sequence[str]) -> Question:
    """A line as the page asks it."""
    photos = *doubt.paths, *doubt.digests
    if doubt.kind == "apart":
        return Question(*photos, "truth_apart", {"row": rows[0]})
    if len(rows) == 1:
        return Question(*photos, "truth_no_row", {"row": rows[0]})
    return Question(*photos, "truth_two_rows", {"row": rows[0], "other": rows[1]})


def write_doubts(folder: Path, doubts: Sequence[Doubt], found: Found) -> list[Path]:
    """Write `discrepancies_IS.xlsx`, `.csv` and `.html`, the page with a picture of both photos of each line."""
    paths = [folder / f"discrepancies_IS.{suffix}" for suffix in ("xlsx", "csv", "html")]
    rows = [[getattr(doubt, column) for column in COLUMNS] for doubt in doubts]
    write_table(paths[0], COLUMNS, rows)
    write_csv(paths[1], COLUMNS, rows)
    lines = [
        (doubt, [Picture.if_readable(found.root / path, path, max_pixels=found.max_pixels) for path in doubt.paths])
        for doubt in doubts[:SHOWN]
    ]
    write_page(paths[2], "ground_truth", lines=lines, total=len(doubts))
    return paths
