"""Plots and pictures of an evaluation, as PNG files with equal bytes for equal figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from neardup.decide.promises import lower_bound, upper_bound
from neardup.decide.reliability import ReliabilityBin
from neardup.images import MAX_PIXELS, PNG_LEVEL
from neardup.measure.distractors import image_of
from neardup.measure.evaluate import Evaluation
from neardup.measure.pairs import precision_recall
from neardup.pages import THUMB, thumbnail
from neardup.settings.schema import APPROACHES
from neardup.stages import replacing

BLUE = "#0072b2"
"""Colour of what is right and of thresholds; colour-blind people can tell it from `ORANGE` (Okabe and Ito)."""
ORANGE = "#d55e00"
"""Colour of what is wrong or validated; colour-blind people can tell it from `BLUE` (Okabe and Ito)."""
GREY = "#666666"
"""Colour of what is shown only for comparison."""
SHOWN_QUERIES = 6
"""Number of the best queries, and of the worst, that galleries and the report show."""
Draw = Callable[[Any], None]
"""Function that draws on Matplotlib axes."""


def _picture(path: Path, draw: Draw, size: tuple[float, float] = (7.0, 4.2)) -> Path:
    """Write a drawing as a PNG file, `size` in inches at 110 dots per inch."""
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    return path


def pictures(
    evaluation: Evaluation,
    folder: Path,
    images: Path,
    history: Sequence[Mapping[str, float]],
    max_pixels: int = MAX_PIXELS,
) -> list[Path]:
    """Write all pictures of one approach.

    Args:
        evaluation: the evaluation.
        folder: folder to write the pictures to.
        images: folder of the test photos, by name; distractors lie in the folder beside it.
        history: epochs of the training, or nothing.
        max_pixels: larger photos are refused.

    Returns:
        The files.
    """
    files = [
        similarity_histogram(evaluation, folder / "similarity_histogram.png"),
        precision_recall_curve(evaluation, folder / "precision_recall.png"),
        similarity_matrix(evaluation, folder / "similarity_matrix.png"),
        gallery(
            evaluation, evaluation.worst(SHOWN_QUERIES), images, folder / "gallery_worst.png", max_pixels=max_pixels
        ),
        gallery(evaluation, evaluation.best(SHOWN_QUERIES), images, folder / "gallery_best.png", max_pixels=max_pixels),
    ]
    if history:
        files.append(losses(history, folder / "losses.png"))
    return files


def curves(folder: Path, history: Sequence[Mapping[str, float]], shares: Sequence[Mapping[str, float]]) -> list[Path]:
    """Draw nDCG and µAP on the validation photos by epoch, and by share of the way from untrained to best weights.

    Args:
        folder: folder to write the pictures to.
        history: epochs of the training, or nothing.
        shares: metrics of weights between the untrained ones and the kept epoch's, or nothing.

    Returns:
        The files.
    """
    files = []
    for name, column, label, lines in (
        ("validation", "epoch", "epoch", history),
        ("shares", "share", "share of the way from the untrained encoder to the best epoch", shares),
    ):
        if lines:
            files.append(_curve(lines, column, label, folder / f"{name}.png"))
    return files


def _curve(lines: Sequence[Mapping[str, float]], column: str, label: str, path: Path) -> Path:
    """Draw validation nDCG and µAP by a column of a table, and mark the line with the greatest nDCG, then µAP."""

    def draw(axes: Any) -> None:
        places = [row[column] for row in lines]
        ndcg, micro_ap = ([100 * row[f"validation_{name}"] for row in lines] for name in ("ndcg", "micro_ap"))
        axes.plot(places, ndcg, color=BLUE, marker="o", ms=3, label="nDCG")
        axes.plot(places, micro_ap, color=ORANGE, marker="s", ms=3, label="µAP")
        best = max(range(len(places)), key=lambda i: (ndcg[i], micro_ap[i]))
        axes.axvline(places[best], color=GREY, ls=":", label=f"best: {column} {places[best]:g}")
        axes.set(xlabel=label, ylabel="%", title="Copies of the validation photos, searched")
        axes.legend()

    return _picture(path, draw)


def losses(history: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Draw training and validation loss by epoch, and mark the epoch with the lowest validation loss."""

    def draw(axes: Any) -> None:
        epochs = [row["epoch"] for row in history]
        validation = [row["validation_loss"] for row in history]
        axes.plot(epochs, [row["train_loss"] for row in history], color=BLUE, marker="o", ms=3, label="training")
        axes.plot(epochs, validation, color=ORANGE, marker="s", ms=3, label="validation")
        best = int(np.argmin(validation))
        axes.axvline(epochs[best], color=GREY, ls=":", label=f"lowest: epoch {epochs[best]:.0f}")
        axes.set(xlabel="epoch", ylabel="loss", title="Loss of training")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()

    return _picture(path, draw)


def similarity_histogram(evaluation: Evaluation, path: Path) -> Path:
    """Draw histograms of the similarities of pairs of one group and of other pairs, with the threshold."""

    def draw(axes: Any) -> None:
        pairs = evaluation.scored.pairs
        edges = np.linspace(float(pairs.scores.min()), max(1.0, float(pairs.scores.max())), 80)
        for chosen, color, label in ((~pairs.same, GREY, "other pairs"), (pairs.same, ORANGE, "pairs of one group")):
            if chosen.any():
                axes.hist(
                    pairs.scores[chosen], edges, density=True, color=color, alpha=0.6, label=f"{label} ({chosen.sum()})"
                )
        if np.isfinite(evaluation.threshold):
            axes.axvline(evaluation.threshold, color=BLUE, label=f"threshold {evaluation.threshold:.3f}")
        axes.set(xlabel="similarity (cosine)", ylabel="density", title="How alike are near-duplicates, and others")
        axes.legend(loc="upper right")

    return _picture(path, draw)


def reliability(bins: Sequence[ReliabilityBin], alone: Sequence[ReliabilityBin], path: Path) -> Path:
    """Draw the share of true pairs by probability, with 95 % intervals, verified and by the vectors alone.

    Args:
        bins: bins of the verified probabilities, out of fold.
        alone: bins of the probabilities from the cosine alone.
        path: the PNG to write.
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfectly calibrated")
        for shown_bins, color, label in ((alone, GREY, "vectors alone"), (bins, BLUE, "verified")):
            right = [round(reliability_bin.observed * reliability_bin.pairs) for reliability_bin in shown_bins]
            low = [
                lower_bound(k, reliability_bin.pairs, 0.975)
                for k, reliability_bin in zip(right, shown_bins, strict=True)
            ]
            high = [
                upper_bound(k, reliability_bin.pairs, 0.975)
                for k, reliability_bin in zip(right, shown_bins, strict=True)
            ]
            share = np.array([reliability_bin.observed for reliability_bin in shown_bins])
            errors = np.maximum(0, np.stack([share - low, np.array(high) - share]))
            predicted = [reliability_bin.predicted for reliability_bin in shown_bins]
            axes.errorbar(predicted, share, errors, fmt="o", color=color, capsize=3, label=label)
        axes.set(xlabel="probability", ylabel="share of one group", title="Are the probabilities true?")
        axes.legend(loc="upper left")

    return _picture(path, draw)


def precision_recall_curve(evaluation: Evaluation, path: Path) -> Path:
    """Draw precision against recall over all pairs, with the point of the threshold."""

    def draw(axes: Any) -> None:
        pairs = evaluation.scored.pairs
        same = pairs.same[pairs.order]
        if same.any():
            precision, recall = precision_recall(same, np.ones(len(same)))
            axes.step(recall, precision, where="post", color=BLUE)
            point = evaluation.at(evaluation.threshold)
            axes.plot(
                point["recall"], point["precision"], "o", color=ORANGE, label=f"threshold {evaluation.threshold:.3f}"
            )
            axes.legend()
        axes.set(
            xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall of pairs", ylabel="precision of pairs", title="Pairs found"
        )

    return _picture(path, draw)


def similarity_matrix(evaluation: Evaluation, path: Path) -> Path:
    """Draw all similarities, with photos sorted by group, large groups first, so that near-duplicates form squares."""

    def draw(axes: Any) -> None:
        groups = evaluation.scored.group_of
        sizes = np.bincount(groups)
        order = np.lexsort((groups, -sizes[groups]))
        shown = axes.imshow(
            evaluation.scored.similarities[np.ix_(order, order)], cmap="viridis", interpolation="nearest"
        )
        axes.figure.colorbar(shown, label="similarity (cosine)")
        axes.set(xlabel="photo, by group, largest first", ylabel="photo", title="Similarity of all photos")

    return _picture(path, draw, (7.0, 6.0))


def gallery(
    evaluation: Evaluation,
    queries: Sequence[str],
    images: Path,
    path: Path,
    top: int = 5,
    *,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Draw a row per query: the photo, then its first hits, each marked right or wrong, with its similarity."""
    cell, foot, gap = THUMB, 26, 10
    page = Image.new("RGB", ((cell + gap) * (top + 1) + gap, max(1, len(queries)) * (cell + foot + gap) + gap), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row, query in enumerate(queries):
        y = gap + row * (cell + foot + gap)
        cells = [(query, "query", "#000000")]
        for name, score, right in evaluation.hits(query, top):
            cells.append((name, f"{'right' if right else 'wrong'}  {score:.3f}", BLUE if right else ORANGE))
        for column, (name, label, color) in enumerate(cells):
            x = gap + column * (cell + gap)
            image = thumbnail(image_of(images, name), max_pixels=max_pixels)
            page.paste(image, (x + (cell - image.width) // 2, y + (cell - image.height) // 2))
            if column:
                draw.rectangle((x - 3, y - 3, x + cell + 2, y + cell + foot - 4), outline=color, width=3)
            draw.text((x + 4, y + cell + 2), label, fill=color, font=font)
    with replacing(path) as partial:
        page.save(partial, "PNG", compress_level=PNG_LEVEL)
    return path


def title(approach: str) -> str:
    """Make the name of an approach for the plots' legends."""
    return APPROACHES.get(approach, approach)
