"""What a lower precision does to the metrics: it may be used where that was measured on the user's own test set."""

import json
from pathlib import Path

from neardup.archive.testset import TestSet
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import embed_test_set
from neardup.errors import ConfigError
from neardup.images import MAX_PIXELS
from neardup.measure.comparison import TITLES, compare
from neardup.measure.evaluate import Evaluation, evaluate
from neardup.settings.schema import Precision

SAID = ("ndcg", "top_1", "micro_ap")


def measure(folder: Path, device: str, precision: Precision, max_pixels: int = MAX_PIXELS) -> Path:
    """Measure an evaluated approach once more at a lower precision, and write both to `<approach>/<precision>/`.

    Args:
        folder: the approach's, with `checkpoint/` and its evaluation, in the output folder of an experiment.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: lower than fp32.
        max_pixels: larger photos are refused.

    Returns:
        That folder.

    Raises:
        EncoderError: this machine cannot compute with that precision.
    """
    test_set = TestSet.load(folder.parent)
    encoder = load_encoder(str(folder / "checkpoint"), device, precision)
    embeddings = embed_test_set(folder.parent, test_set, encoder, max_pixels)
    lower = evaluate(
        embeddings.vectors,
        test_set.groups,
        [photo.name for photo in test_set.photos],
        approach=f"{folder.name}, {precision}",
        fingerprint=encoder.fingerprint,
    )
    compare([Evaluation.load(folder), lower]).write(folder / precision)
    lower.save(folder / precision)
    return folder / precision


def measured(out: Path, precision: Precision, fingerprint: str) -> Path:
    """The folder in which an encoder of a lower precision was measured beside its fp32.

    Args:
        out: of an experiment.
        precision: lower than fp32.
        fingerprint: of the encoder at that precision.

    Raises:
        ConfigError: it was not measured there.
    """
    for metrics in sorted(out.glob(f"*/{precision}/metrics.json")):
        if json.loads(metrics.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
            return metrics.parent
    raise ConfigError(
        f"what {precision} does to this encoder was not measured in {out}: run `neardup evaluate --out {out} "
        f"--precision {precision}` with the same --encoder first, or leave --precision out"
    )


def effect(folder: Path) -> str:
    """What `measure` found, in one sentence: each metric at both precisions, with the paired interval of the gain."""
    facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    said = []
    for name in SAID:
        full, lower = (100 * figure["value"] for figure in facts["metrics"][name].values())
        (gain,) = facts["differences"][name].values()
        interval = f"{100 * gain['low']:.2f} to {100 * gain['high']:.2f}"
        said.append(f"{TITLES[name]} {full:.2f} → {lower:.2f} ({interval})")
    return f"measured effect of {folder.name}: {', '.join(said)}"
