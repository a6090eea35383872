"""The report for historians: one HTML file that needs no network."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from neardup.archive.discrepancies import KINDS
from neardup.decide.promises import lower_bound
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import Comparison, certain, span
from neardup.measure.distractors import image_of
from neardup.measure.evaluate import Evaluation, Figure
from neardup.measure.metrics import METRICS
from neardup.measure.plots import SHOWN_QUERIES, title
from neardup.measure.query_report import NewPhotos
from neardup.pages import Picture, write_page
from neardup.tables import load_rows
from neardup.words import counted

SHOWN_GROUPS = 8
"""Found groups that the report shows; together with the queries, the page has a few megabytes."""
PLOTS = (
    "similarity_histogram",
    "precision_recall",
    "similarity_matrix",
    "reliability",
    "losses",
    "validation",
    "shares",
)
"""Pictures of an approach that the report shows, by file name without suffix; the template explains each."""


def write_report(
    out: Path,
    comparison: Comparison,
    facts: Mapping[str, str],
    max_pixels: int = MAX_PIXELS,
    new_photos: NewPhotos | None = None,
) -> Path:
    """Write a comparison as a page for people, `report.html`.

    Args:
        out: the output folder, prepared and evaluated.
        comparison: the approaches.
        facts: provenance to show: encoder, archive, versions.
        max_pixels: larger photos are refused.
        new_photos: the approaches' results for new photos; None without any.

    Returns:
        The file.
    """
    best = best_approach(comparison)
    images = out / "test_dataset"
    imperfect = {row.photo for row in best.queries if round(row.ndcg, 9) < 1}
    worst = [photo for photo in best.worst(SHOWN_QUERIES) if photo in imperfect]
    finest = [photo for photo in best.best(SHOWN_QUERIES) if photo not in worst]
    fingerprints = ", ".join(f"{e.approach} {e.fingerprint[:12]}" for e in comparison.evaluations)
    return write_page(
        out / "report.html",
        "report",
        comparison=comparison,
        best=best,
        title=title,
        sentences=sentences(comparison, best),
        groups=largest_found_groups(best, images, max_pixels),
        worst=_searches(best, worst, images, max_pixels),
        finest=_searches(best, finest, images, max_pixels),
        metrics=tuple(METRICS.values()),
        show=show,
        interval=interval,
        span=span,
        certain=certain,
        without_error=without_error(comparison),
        plots={e.approach: _plots(out / e.approach) for e in comparison.evaluations},
        discrepancies=Counter(row["kind"] for row in load_rows(out / "discrepancies.csv")),
        kinds=KINDS,
        new_photos=new_photos,
        explained=_explained(out / best.approach) if best.approach in comparison.verified else [],
        facts={**facts, "fingerprints": fingerprints},
    )


def best_approach(comparison: Comparison) -> Evaluation:
    """Find the approach with the greatest nDCG; of equal ones, the first."""
    return max(comparison.evaluations, key=lambda evaluation: evaluation.metrics["ndcg"].value or 0.0)


def sentences(comparison: Comparison, best: Evaluation) -> list[str]:
    """Answer what a historian asks first, in plain words."""
    first = comparison.evaluations[0]
    sizes = [int((first.groups == group).sum()) for group in sorted(set(first.groups.tolist()))]
    size = f"{len(first.names)} photos in {len(sizes)} groups; {sizes.count(1)} photos stand alone"
    lines = [f"The test set has {size}, {len(first.queries)} have at least one other print in the archive."]
    if count := len(first.distractors.names):
        among = f"all others and {count} further photos of the archive; verified, without these"
        lines.append(f"Each was searched for among {among}.")
    for evaluation in comparison.evaluations:
        one, five = evaluation.metrics["top_1"].value, evaluation.metrics["top_5"].value
        if one is None or five is None:
            continue
        lines.append(
            f"{title(evaluation.approach).capitalize()}: for {len(evaluation.queries) * one:.0f} of "
            f"{counted(len(evaluation.queries), 'photo')} the first answer is another print of the same picture, for "
            f"{len(evaluation.queries) * five:.0f} one of the first five is.",
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
        ndcg = [show(evaluation.metrics["ndcg"]) for evaluation in comparison.evaluations]
        if len(set(ndcg)) == 1:
            lines.append(f"No approach is better than another: all have an nDCG of {ndcg[0]}.")
        else:
            even = "no other approach has a higher nDCG than" if ndcg[0] in ndcg[1:] else "the highest nDCG is that of"
            lines.append(f"Training did not help here: {even} {title(first.approach)}.")
    changes = [
        f"{title(approach)} {100 * (one - gain):.1f} → {100 * one:.1f}"
        for approach, verified in comparison.verified.items()
        if (one := verified.figures["f1"].value) is not None and (gain := verified.gains["f1"].value) is not None
    ]
    if changes:
        lines.append(
            "With the most similar photos compared point by point, F1, which weighs what is found against what is "
            f"right, changes so: {', '.join(changes)} of 100."
        )
    return lines


def without_error(comparison: Comparison) -> str:
    """What an interval without a width does not say, where a figure has one; else nothing."""
    faultless = (
        row[approach].low == row[approach].high == float(METRICS[name].higher_is_better)
        for name, row in comparison.figures.items()
        for approach in comparison.approaches
    )
    if not any(faultless):
        return ""
    groups = len({row.group for row in comparison.evaluations[0].queries})
    return (
        "Where no error was made, the interval has no width, for resampling finds none either: with "
        f"{counted(groups, 'group')} a true value {100 * (1 - lower_bound(groups, groups)):.1f} points worse cannot be "
        "excluded."
    )


def largest_found_groups(evaluation: Evaluation, images: Path, max_pixels: int = MAX_PIXELS) -> list[list[Picture]]:
    """List the largest found groups, each photo marked by whether most of the group are its true companions."""
    group_of = evaluation.scored.found_groups
    members = [[int(i) for i in (group_of == group).nonzero()[0]] for group in sorted(set(group_of.tolist()))]
    large = sorted((group for group in members if len(group) > 1), key=lambda group: (-len(group), group[0]))
    strips = []
    for group in large[:SHOWN_GROUPS]:
        true = [int(evaluation.groups[i]) for i in group]
        main = max(sorted(set(true)), key=true.count)
        right = true.count(main) > 1
        ordered = sorted(zip(group, true, strict=True), key=lambda pair: (pair[1] != main, pair[1]))
        names = [(evaluation.names[i], right and number == main) for i, number in ordered]
        strips.append([Picture.of(images / name, name, right=same, max_pixels=max_pixels) for name, same in names])
    return strips


def _searches(evaluation: Evaluation, queries: Sequence[str], images: Path, max_pixels: int) -> list[list[Picture]]:
    """Make a row of pictures per query: the query, then its first hits, each marked right or wrong."""
    rows = []
    for query in queries:
        hits = [
            Picture.of(image_of(images, name), name, f"{score:.3f}", right=right, max_pixels=max_pixels)
            for name, score, right in evaluation.hits(query)
        ]
        rows.append([Picture.of(images / query, query, "searched for", max_pixels=max_pixels), *hits])
    return rows


def _plots(folder: Path) -> list[tuple[str, str]]:
    """Read name and data URI of each picture that the evaluation drew into an approach's folder."""
    files = [folder / f"{name}.png" for name in PLOTS]
    return [
        (file.stem.replace("_", " "), f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}")
        for file in files
        if file.is_file()
    ]


def _explained(folder: Path) -> list[str]:
    """Read data URIs of the pictures of pairs that verification drew into an approach's folder."""
    files = sorted(folder.glob("explained_*.jpg"))
    return [f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}" for file in files]


def show(figure: Figure) -> str:
    """Write a figure's value in percent, for people."""
    return "–" if figure.value is None else f"{100 * figure.value:.1f}"


def interval(figure: Figure) -> str:
    """Write a figure's interval in percent, for people."""
    return "" if figure.low is None or figure.high is None else span(figure.low, figure.high)
