"""Translate the legends of a prepared training set."""

from pathlib import Path
from typing import Any

from prefect import flow

from neardup.recipes import TranslateSettings
from tasks.translate import translate_legends


@flow(name="translate")
def translate(out: Path, settings: TranslateSettings = TranslateSettings()) -> dict[str, Any]:  # noqa: B008 - frozen
    """Make English captions of the legends in `out`.

    Runs on demand, and nightly until the quota is used up. Needs a prepared folder and, for DeepL, a key.
    """
    return translate_legends(out, settings)
