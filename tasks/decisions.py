"""The encoder that a collection is searched with, and the verdicts on its pairs."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neardup.decide.constraints import PairVerdicts
from neardup.encode.encoder import BUILTIN
from neardup.encode.onnx_file import prepared
from neardup.errors import NoSuchModelError
from neardup.review.record.links import Links
from neardup.review.record.references import References
from neardup.review.record.verdicts import DATABASE, Verdicts, open_verdicts
from neardup.settings.schema import MODEL_URIS, OnnxSettings
from neardup.stages import models_of
from tasks.tracking import is_tracked, tracking_of

CHAMPION = "models:/near-duplicates@champion"
"""URI of the model that is used unless another one is named."""
VERDICTS_URL = "NEARDUP_VERDICTS"
"""Environment variable that names a team's database of verdicts; its address may hold a password."""


def chosen_encoder(
    out: Path,
    name: str | None,
    say: Callable[[str], object],
    onnx: OnnxSettings = OnnxSettings(),  # noqa: B008 - frozen
) -> tuple[str, str]:
    """Choose the named encoder, else the champion, else the shipped one.

    Args:
        out: output folder.
        name: name of the encoder, if one was given.
        say: called with sentences on the choice, and on contradicting settings.
        onnx: how photos are prepared for it, if it is an ONNX file.

    Returns:
        Its name, and what `load_encoder` takes.

    Raises:
        EncoderError: the model that was named does not exist, or the champion's files are gone.
        TrackingError: the server of the models cannot be reached.
    """
    if name:
        path = prepared(name, onnx, models_of(out), say)
        return name, tracking_of(out).encoder(path) if path.startswith(MODEL_URIS) else path
    with suppress(NoSuchModelError):
        if is_tracked(out):
            return CHAMPION, tracking_of(out).encoder(CHAMPION)
    say(f"There is no champion yet: {BUILTIN}, the encoder that neardup ships, searches")
    return BUILTIN, BUILTIN


def kept_verdicts(out: Path) -> Verdicts | None:
    """Open the verdicts of an output folder, which the caller closes; None if there never were any.

    Args:
        out: output folder, which keeps the verdicts unless the variable `VERDICTS_URL` names a database.
    """
    url = os.environ.get(VERDICTS_URL, "")
    return open_verdicts(out, url) if url or (out / DATABASE).is_file() else None


def links_of(out: Path) -> Links:
    """Draw the conclusions of the verdicts in force that `kept_verdicts` finds; empty without verdicts."""
    kept = kept_verdicts(out)
    if kept is None:
        return Links.of(())
    with kept:
        return Links.of(kept.current())


def judged_pairs(out: Path) -> PairVerdicts:
    """What people said of pairs so far, as `links_of` finds it, and which photos they chose to stand for groups."""
    links = links_of(out)
    answers = {pair: verdict.verdict for pair, verdict in links.decided.items()}
    return PairVerdicts(answers, links.must, links.cannot, References(out).chosen())
