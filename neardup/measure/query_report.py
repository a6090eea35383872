"""The approaches' results for new photos as the report shows them: side by side, and with pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from neardup.archive.new_photos import COPY, STRANGER
from neardup.images import MAX_PIXELS
from neardup.measure.plots import title
from neardup.measure.queries import ARCHIVE, PHOTO, QUERIES, SENTENCES, Answer, load_answers, summary
from neardup.pages import Picture

TITLES: Mapping[str, str] = MappingProxyType(
    {
        PHOTO: "as it is",
        "flip": "mirrored (_flip)",
        "rotate": "rotated (_rotate)",
        "color": "other colours (_color)",
        "resize": "cropped, resized (_resize)",
    }
)
"""Variant → its title in the report."""
SHOWN_ROWS = 40
"""Most new photos that a table of the report lists; `new_queries.csv` has all."""
SHOWN_PHOTOS = 6
"""New photos whose hits the report shows as pictures, for each approach."""
SHOWN_VARIANTS = 3
"""Variants, those with the worst answers, whose hits the report shows as pictures, for each approach."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, smaller text below, and whether it shows a fault."""

    text: str
    small: str = ""
    wrong: bool = False


Table = list[tuple[Cell, list[Cell]]]
"""Rows of a table: heading, and a cell for each approach."""


@dataclass(frozen=True)
class NewPhotos:
    """The answers of all approaches to the same queries.

    Attributes:
        out: the output folder.
        answers: approach → its answers, all in the same order.
        sentences: files that were left out, and names that mean no photo, in words.
        max_pixels: larger photos are refused.
    """

    out: Path
    answers: Mapping[str, Sequence[Answer]]
    sentences: Sequence[str]
    max_pixels: int = MAX_PIXELS

    @classmethod
    def load(cls, out: Path, approaches: Sequence[str], max_pixels: int = MAX_PIXELS) -> "NewPhotos":
        """Read the results of the searches of some approaches."""
        sentences = (out / SENTENCES).read_text(encoding="utf-8").splitlines()
        return cls(out, {name: load_answers(out / name) for name in approaches}, sentences, max_pixels)

    @property
    def facts(self) -> dict[str, object]:
        """Facts for `comparison_facts.json`: `new_photos` → approach → figures of `summary`."""
        return {"new_photos": {name: summary(answers) for name, answers in self.answers.items()}}

    @property
    def lead(self) -> list[str]:
        """Answers to what a historian asks first, in plain words."""
        kinds = [a.kind for a in self._first if (a.gallery, a.variant) == (ARCHIVE, PHOTO)]
        copies, strangers = kinds.count(COPY), kinds.count(STRANGER)
        origins = f"{copies} are copies of photos of the archive, {strangers} are strangers to it"
        origins += f", of {unknown} nobody has said" if (unknown := len(kinds) - copies - strangers) else ""
        lines = [f"{len(kinds)} new photos were searched for, each as it is and in its variants: {origins}."]
        for name, answers in self.answers.items():
            figures = summary(answers)
            parts = []
            if count := figures["copies"]:
                share = f"{figures['copies_top_1'] * count:.0f} of {count}"
                parts.append(f"of the copies and their variants {share} find their original first")
            if count := figures["strangers"]:
                share = f"{figures['strangers_above']} of {count}"
                parts.append(f"of the strangers and their variants {share} are taken for near-duplicates")
            lines += [f"{title(name).capitalize()}: {'; '.join(parts)}."] if parts else []
        return lines

    @property
    def _first(self) -> Sequence[Answer]:
        """The answers of the first approach; the other approaches answer the same queries in the same order."""
        return next(iter(self.answers.values()))

    @property
    def galleries(self) -> list[tuple[str, str, Table, Table]]:
        """List, for each gallery, its title, a description of its ranks, and the tables `by_variant` and `by_photo`."""
        titles = (
            (ARCHIVE, "in the archive", "as it is, then of its variants"),
            (QUERIES, "among the new photos and all variants", "of its variants"),
        )
        return [(name, ranked, self.by_variant(key), self.by_photo(key)) for key, name, ranked in titles]

    def by_variant(self, gallery: str) -> Table:
        """Make a table of how often the original is the first hit in a gallery, one row per variant."""
        rows = self._answers_by("variant", gallery)
        ranks = {name: [_ranks(answers) for answers in row] for name, row in rows.items()}
        return [(Cell(TITLES[name]), [_share(cell) for cell in row]) for name, row in ranks.items() if row[0]]

    def by_photo(self, gallery: str) -> Table:
        """Make a table of the original's ranks in a gallery, one row per new photo: of it and its variants in order.

        Photos with an approach's worst ranks come first.
        """
        rows = []
        for photo, row in self._answers_by("query", gallery).items():
            ranks = [_ranks(answers) for answers in row]
            if ranks[0]:
                original = next(a.original for a in row[0] if a.rank is not None)
                cells = [Cell(" · ".join(map(str, cell)), wrong=max(cell) > 1) for cell in ranks]
                rows.append((max(map(max, ranks)), (Cell(photo, original), cells)))
        return [row for _, row in sorted(rows, key=lambda row: -row[0])][:SHOWN_ROWS]

    def of_strangers(self) -> Table:
        """Make a table of each stranger's best hit relative to the threshold, with its nearest variant's below."""
        rows = self._answers_by("query", ARCHIVE).items()
        strangers = [(photo, row) for photo, row in rows if row[0][0].kind == STRANGER]
        return [(Cell(photo), [_distance(answers) for answers in row]) for photo, row in strangers[:SHOWN_ROWS]]

    def _answers_by(self, attribute: str, gallery: str) -> dict[str, list[list[Answer]]]:
        """Group the answers in a gallery by an attribute: value → for each approach, its answers."""
        rows: dict[str, list[list[Answer]]] = {}
        for column, answers in enumerate(self.answers.values()):
            for answer in answers:
                if answer.gallery == gallery:
                    rows.setdefault(getattr(answer, attribute), [[] for _ in self.answers])[column].append(answer)
        return rows

    def strips(self) -> dict[str, list[list[Picture]]]:
        """Approach → rows of pictures: a query, then its hits in the archive, each marked right or wrong if known.

        All approaches show the same queries: unchanged photos, those with the worst answers first, and the variants
        with the worst answers.

        Raises:
            UnreadableImageError: a photo cannot be read.
        """
        picture = cache(lambda file: Picture.of(self.out / file, "", max_pixels=self.max_pixels))
        return {
            name: [
                [
                    replace(picture(answers[i].file), name=answers[i].query, label=_label(answers[i])),
                    *(
                        replace(picture(hit.file), name=hit.name, label=f"{hit.similarity:.3f}", right=hit.right)
                        for hit in answers[i].hits
                    ),
                ]
                for i in self._shown()
            ]
            for name, answers in self.answers.items()
        }

    def _shown(self) -> list[int]:
        """Choose the indices of the answers that are shown as pictures."""
        faults = [max(map(_fault, answers)) for answers in zip(*self.answers.values(), strict=True)]
        order = sorted(range(len(faults)), key=lambda i: -faults[i])
        order = [i for i in order if self._first[i].gallery == ARCHIVE]
        photos = [i for i in order if self._first[i].variant == PHOTO]
        variants = [i for i in order if self._first[i].variant != PHOTO and faults[i] > 0]
        return photos[:SHOWN_PHOTOS] + variants[:SHOWN_VARIANTS]


def _ranks(answers: Sequence[Answer]) -> list[int]:
    """List the ranks of the originals, where there is one to be found."""
    return [answer.rank for answer in answers if answer.rank is not None]


def _fault(answer: Answer) -> float:
    """Measure how wrong an answer is: 0 where the original is first or a stranger is below the threshold."""
    return float((answer.rank or 1) - 1 + (answer.kind == STRANGER and answer.above))


def _label(answer: Answer) -> str:
    """Make the text below the picture of a query."""
    origin = {COPY: f"copy of {answer.original}", STRANGER: "stranger"}.get(answer.kind, "original unknown")
    return origin if answer.variant == PHOTO else f"{origin}, {TITLES[answer.variant]}"


def _share(ranks: Sequence[int]) -> Cell:
    """Make the cell of how many ranks are 1, with the mean of 1 / rank."""
    first = sum(rank == 1 for rank in ranks)
    mean = sum(1 / rank for rank in ranks) / len(ranks)
    return Cell(f"{first} of {len(ranks)}", f"mean reciprocal rank {mean:.2f}", wrong=first < len(ranks))


def _distance(answers: Sequence[Answer]) -> Cell:
    """Make the cell of how far a stranger's best hit lies from the threshold, with that of its nearest variant."""
    photo, worst = answers[0], max(answers, key=lambda answer: answer.similarity)
    small = f"{photo.similarity:.3f}; {TITLES[worst.variant]} {worst.similarity:.3f}"
    if photo.threshold is None:
        return Cell("no threshold", small)
    gap = photo.similarity - photo.threshold
    return Cell(f"{abs(gap):.3f} {'above' if gap >= 0 else 'below'}", small, wrong=bool(worst.above))
