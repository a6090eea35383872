"""Translate the legends of a prepared training set."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.settings.schema import Settings, TranslateSettings
from neardup.stages import alone
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.translate import translate_legends


@flow(name="translate", **EVERY_FLOW)
def translate(out: Path, settings: TranslateSettings = TranslateSettings()) -> dict[str, Any]:  # noqa: B008 - frozen
    """Make English captions of the legends in `out`.

    Runs on demand, and nightly until the quota is used up. Needs a prepared folder and, for DeepL, a key.

    Args:
        out: folder of the results.
        settings: who translates, and from which languages.
    """
    settings = settings_of_run(Settings(translate=settings), out, settings="translate").translate
    with alone(out, get_run_logger().warning):
        return translate_legends(out, settings)
