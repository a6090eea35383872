"""The report that a historian looks at: one HTML file that needs no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from neardup.comparison import TITLES, Comparison, certain
from neardup.discrepancies import KINDS
from neardup.errors import ArchiveError
from neardup.evaluate import Evaluation, Figure
from neardup.images import MAX_PIXELS
from neardup.metrics import LOWER_IS_BETTER, NAMES
from neardup.plots import thumbnail, title
from neardup.search import Hit
from neardup.stages import replacing
from neardup.testset import load_rows

SHOWN_GROUPS = 8
SHOWN_QUERIES = 6
SHOWN_STRIPS = 60
"""Groups on a page of strips; with `SHOWN_IN_STRIP` it stays under some 10 MB."""
SHOWN_IN_STRIP = 12
SIDE = 150


@dataclass(frozen=True)
class Picture:
    """A photo of the report: its data URI, what it is called, what is said of it, and whether it is right."""

    source: str
    name: str
    label: str = ""
    right: bool | None = None


def write_report(out: Path, comparison: Comparison, facts: Mapping[str, str]) -> Path:
    """Write `report.html`.

    Args:
        out: the output folder, prepared and evaluated.
        comparison: the approaches.
        facts: provenance to show: encoder, archive, versions.

    Returns:
        The file.
    """
    best = best_approach(comparison)
    counts: dict[str, int] = {}
    for row in load_rows(out / "discrepancies.csv"):
        counts[row["kind"]] = counts.get(row["kind"], 0) + 1
    page = _page(
        "report.html.j2",
        comparison=comparison,
        best=best,
        title=title,
        sentences=sentences(comparison, best),
        groups=found_groups(best, out / "test_dataset"),
        worst=_queries(best, best.worst(SHOWN_QUERIES), out / "test_dataset"),
        finest=_queries(best, best.best(SHOWN_QUERIES), out / "test_dataset"),
        names=NAMES,
        titles=TITLES,
        lower=LOWER_IS_BETTER,
        show=show,
        gain=gain,
        plots={e.approach: _plots(out / e.approach) for e in comparison.evaluations},
        discrepancies=counts,
        kinds=KINDS,
        facts={
            **facts,
            "fingerprints": ", ".join(f"{e.approach} {e.fingerprint[:12]}" for e in comparison.evaluations),
        },
    )
    with replacing(out / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return out / "report.html"


def write_hits(path: Path, queries: Path, gallery: Path, found: Sequence[tuple[str, Sequence[Hit]]]) -> Path:
    """Write one HTML page that shows each query with its hits.

    Args:
        path: the file to write.
        queries: folder of the queries.
        gallery: folder of the photos that were searched.
        found: (path in `queries`, hits) of each query.

    Raises:
        ArchiveError: a hit is not in `gallery`: another folder was embedded.
    """
    rows = []
    for query, hits in found:
        row = [Picture(_thumb(queries / query), query, "searched for")]
        for hit in hits:
            if not (gallery / hit.path).is_file():
                raise ArchiveError(
                    f"{gallery / hit.path} is not there: name with --photos the folder that was embedded"
                )
            row.append(Picture(_thumb(gallery / hit.path), hit.path, f"{hit.similarity:.3f}"))
        rows.append(row)
    with replacing(path) as partial:
        partial.write_text(_page("hits.html.j2", rows=rows), encoding="utf-8")
    return path


def write_strips(
    path: Path,
    template: str,
    archive: Path,
    groups: Sequence[Sequence[tuple[str, str, bool]]],
    sentence: str,
    max_pixels: int,
) -> Path:
    """Write one HTML page that shows groups, a strip of pictures each.

    Args:
        path: the file to write.
        template: `watch` for groups that new photos belong to, `duplicates` for all of a folder.
        archive: folder of the photos.
        groups: of each group its photos: path in the archive, what is said of it, whether it is new.
        sentence: what happened, in plain words.
        max_pixels: larger images are refused.
    """
    strips = []
    for group in groups[:SHOWN_STRIPS]:
        shown = group[:SHOWN_IN_STRIP]
        pictures = [Picture(_thumb(archive / name, max_pixels), name, label, new) for name, label, new in shown]
        strips.append((pictures, len(group) - len(shown)))
    page = _page(f"{template}.html.j2", strips=strips, total=len(groups), sentence=sentence)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _page(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("neardup"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(values).lstrip()


def best_approach(comparison: Comparison) -> Evaluation:
    """The approach with the greatest nDCG; of equal ones the first."""
    return max(comparison.evaluations, key=lambda evaluation: evaluation.metrics["ndcg"].value or 0.0)


def sentences(comparison: Comparison, best: Evaluation) -> list[str]:
    """What a historian asks first, in plain words."""
    first = comparison.evaluations[0]
    sizes = [int((first.groups == group).sum()) for group in sorted(set(first.groups.tolist()))]
    lines = [
        (
            f"The test set has {len(first.names)} photos in {len(sizes)} groups; {sizes.count(1)} photos stand alone, "
            f"{len(first.queries)} have at least one other print in the archive."
        ),
    ]
    for evaluation in comparison.evaluations:
        one, five = evaluation.metrics["top_1"].value, evaluation.metrics["top_5"].value
        if one is None or five is None:
            continue
        lines.append(
            f"{title(evaluation.approach).capitalize()}: for {100 * one:.0f} of 100 photos the first answer is another "
            f"print of the same picture, for {100 * five:.0f} of 100 one of the first five is.",
        )
    if best is not first:
        difference = comparison.differences["ndcg"][best.approach]
        if certain(difference):
            lines.append(f"The best is {title(best.approach)}: its gain in nDCG over zero-shot is more than chance.")
        else:
            lines.append(
                f"No difference can be shown: {title(best.approach)} has the highest nDCG, but chance may do that.",
            )
    elif len(comparison.evaluations) > 1:
        lines.append("Fine-tuning did not help here: zero-shot has the highest nDCG.")
    return lines


def found_groups(evaluation: Evaluation, images: Path) -> list[list[Picture]]:
    """The largest groups that were found, each photo marked by whether most of the group are its true companions."""
    found = evaluation.judged.found
    members = [[int(i) for i in (found == group).nonzero()[0]] for group in sorted(set(found.tolist()))]
    large = sorted((group for group in members if len(group) > 1), key=lambda group: (-len(group), group[0]))[
        :SHOWN_GROUPS
    ]
    shown = []
    for group in large:
        true = [int(evaluation.groups[i]) for i in group]
        main = max(sorted(set(true)), key=true.count)
        right = true.count(main) > 1
        ordered = sorted(zip(group, true, strict=True), key=lambda pair: (pair[1] != main, pair[1]))
        names = [(evaluation.names[i], right and number == main) for i, number in ordered]
        shown.append([Picture(_thumb(images / name), name, "", same) for name, same in names])
    return shown


def _queries(evaluation: Evaluation, queries: Sequence[str], images: Path) -> list[list[Picture]]:
    rows = []
    for query in queries:
        hits = evaluation.hits(query)
        pictures = [Picture(_thumb(images / name), name, f"{score:.3f}", right) for name, score, right in hits]
        rows.append([Picture(_thumb(images / query), query, "searched for"), *pictures])
    return rows


def _thumb(path: Path, max_pixels: int = MAX_PIXELS) -> str:
    buffer = io.BytesIO()
    thumbnail(path, SIDE * 2, max_pixels).save(buffer, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plots(folder: Path) -> list[tuple[str, str]]:
    names = ("similarity_histogram", "precision_recall", "similarity_matrix", "losses")
    return [
        (
            name.replace("_", " "),
            f"data:image/png;base64,{base64.b64encode((folder / f'{name}.png').read_bytes()).decode()}",
        )
        for name in names
        if (folder / f"{name}.png").is_file()
    ]


def show(figure: Figure) -> str:
    """A figure in percent."""
    return "–" if figure.value is None else f"{100 * figure.value:.1f}"


def gain(figure: Figure) -> str:
    """An interval in percent."""
    return "" if figure.low is None or figure.high is None else f"{100 * figure.low:.1f} to {100 * figure.high:.1f}"
