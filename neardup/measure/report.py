"""The report that a historian looks at: one HTML file that needs no network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from neardup.archive.discrepancies import KINDS
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import TITLES, Comparison, certain
from neardup.measure.evaluate import Evaluation, Figure
from neardup.measure.metrics import LOWER_IS_BETTER, NAMES
from neardup.measure.plots import title
from neardup.pages import Picture, write_page
from neardup.tables import load_rows

SHOWN_GROUPS = 8
SHOWN_QUERIES = 6


def write_report(out: Path, comparison: Comparison, facts: Mapping[str, str], max_pixels: int = MAX_PIXELS) -> Path:
    """Write `report.html`.

    Args:
        out: the output folder, prepared and evaluated.
        comparison: the approaches.
        facts: provenance to show: encoder, archive, versions.
        max_pixels: larger photos are refused.

    Returns:
        The file.
    """
    best, images = best_approach(comparison), out / "test_dataset"
    counts: dict[str, int] = {}
    for row in load_rows(out / "discrepancies.csv"):
        counts[row["kind"]] = counts.get(row["kind"], 0) + 1
    return write_page(
        out / "report.html",
        "report",
        comparison=comparison,
        best=best,
        title=title,
        sentences=sentences(comparison, best),
        groups=largest_groups(best, images, max_pixels),
        worst=_queries(best, best.worst(SHOWN_QUERIES), images, max_pixels),
        finest=_queries(best, best.best(SHOWN_QUERIES), images, max_pixels),
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


def largest_groups(evaluation: Evaluation, images: Path, max_pixels: int = MAX_PIXELS) -> list[list[Picture]]:
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
        shown.append([Picture.of(images / name, name, right=same, max_pixels=max_pixels) for name, same in names])
    return shown


def _queries(evaluation: Evaluation, queries: Sequence[str], images: Path, max_pixels: int) -> list[list[Picture]]:
    rows = []
    for query in queries:
        hits = evaluation.hits(query)
        pictures = [
            Picture.of(images / name, name, f"{score:.3f}", right=right, max_pixels=max_pixels)
            for name, score, right in hits
        ]
        rows.append([Picture.of(images / query, query, "searched for", max_pixels=max_pixels), *pictures])
    return rows


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
