"""The effect of a lower number format on the metrics, which must be measured on the test set before it is used."""

import json
from pathlib import Path

from neardup.archive.testset import TestSet
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import embed_test_set
from neardup.errors import ConfigError
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import compare
from neardup.measure.distractors import draw, embed_distractors
from neardup.measure.evaluate import Distractors, Evaluation, evaluate
from neardup.measure.metrics import METRICS
from neardup.settings.schema import Dtype
from neardup.stages import reading
from neardup.words import typed

EFFECT_METRICS = ("ndcg", "top_1", "micro_ap")
"""Metrics in the sentence of `effect`: of the whole ranking, of the first answer, and of all pairs."""


def measure(
    folder: Path, device: str, precision: Dtype, max_pixels: int = MAX_PIXELS, store: str | None = None
) -> Path:
    """Measure an evaluated approach again in a lower number format, and write both to `<approach>/<precision>/`.

    Args:
        folder: the approach's folder, with `checkpoint/` and its evaluation, in an experiment's output folder.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: number format lower than fp32.
        max_pixels: larger photos are refused.
        store: folder or URL of the vectors, which other commands may share; None for one in the output folder.

    Returns:
        The folder `<approach>/<precision>`.

    Raises:
        EncoderError: this machine cannot compute in that number format.
    """
    out, full = folder.parent, Evaluation.load(folder)
    test_set = TestSet.load(out)
    encoder = load_encoder(str(folder / "checkpoint"), device, precision)
    drawn = draw(out, len(full.distractors.names))
    lower = evaluate(
        embed_test_set(out, test_set, encoder, max_pixels, store).vectors,
        test_set.groups,
        [photo.name for photo in test_set.photos],
        approach=f"{folder.name}, {precision}",
        fingerprint=encoder.fingerprint,
        distractors=Distractors.of(embed_distractors(out, drawn, encoder, max_pixels, store)) if drawn else None,
    )
    compare([full, lower]).write(folder / precision)
    lower.save(folder / precision)
    return folder / precision


def measured_folder(out: Path, precision: Dtype, fingerprint: str) -> Path:
    """Find the folder in which an encoder in a lower number format was measured beside its fp32.

    Args:
        out: output folder of an experiment.
        precision: number format lower than fp32.
        fingerprint: fingerprint of the encoder in that number format.

    Raises:
        ConfigError: the encoder was not measured there.
    """
    for metrics in sorted(out.glob(f"*/{precision}/metrics.json")):
        with reading(metrics, f"delete it, and run `neardup evaluate --precision {precision}` again"):
            facts = json.loads(metrics.read_text(encoding="utf-8"))
            if facts["fingerprint"] == fingerprint:
                return metrics.parent
    raise ConfigError(
        f"what {precision} does to this encoder was not measured in {out}: run `neardup evaluate --out {typed(out)} "
        f"--precision {precision}` with the same --encoder first, or leave --precision out"
    )


def effect(folder: Path) -> str:
    """Summarise `measure` in one sentence: each metric in both number formats, with the gain's paired interval."""
    figures = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    gains = json.loads((folder / "comparison_facts.json").read_text(encoding="utf-8"))["differences"]
    parts = []
    for name in EFFECT_METRICS:
        full, lower = (figure["value"] for figure in figures[name].values())
        (gain,) = gains[name].values()
        if None in {full, lower, gain["low"], gain["high"]}:
            parts.append(f"{METRICS[name].title} is not defined on this test set")
            continue
        interval = f"{100 * gain['low']:.2f} to {100 * gain['high']:.2f}"
        parts.append(f"{METRICS[name].title} {100 * full:.2f} → {100 * lower:.2f} ({interval})")
    return f"measured effect of {folder.name}: {', '.join(parts)}"
