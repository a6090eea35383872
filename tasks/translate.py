"""Tasks that make English captions."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger, task
from prefect.blocks.system import Secret
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from neardup.archive.captions import Translation, Translator, translate_training_set
from neardup.archive.translators import DeepLTranslator, MarianTranslator
from neardup.errors import ServerError
from neardup.settings.schema import TranslateSettings
from neardup.words import reason_of

KEY = "DEEPL_AUTH_KEY"
"""Environment variable that holds the key of DeepL."""
SECRET = "deepl-auth-key"  # noqa: S105 - the name of the block, not the key
"""Name of the Prefect Secret block that holds the key of DeepL where the environment does not."""


def deepl_key() -> str | None:
    """The key for DeepL: from the environment, else from the Prefect Secret block, else None.

    Raises:
        ServerError: Prefect's server cannot be asked.
    """
    if os.environ.get(KEY):
        return os.environ[KEY]
    if not PREFECT_API_URL.value():
        return None
    try:
        block: Any = Secret.load(SECRET)
        return str(block.get())
    except ValueError:  # no such block
        return None
    except (httpx.HTTPError, PrefectException) as error:
        raise ServerError(
            f"Prefect's server, which may hold the key for DeepL, cannot be asked ({reason_of(error)}): start it, set "
            f"{KEY}, or unset PREFECT_API_URL"
        ) from error


def make_translator(settings: TranslateSettings) -> Translator | None:
    """The configured translator, or None where there is no key or none is wanted."""
    if settings.translator == "marian":
        return MarianTranslator()
    key = deepl_key() if settings.translator == "deepl" else None
    return DeepLTranslator(key, server_url=settings.server_url, glossary=settings.glossary) if key else None


def translate(out: Path, settings: TranslateSettings, say: Callable[[str], None]) -> Translation:
    """Translate the training set's legends with the configured translator; the command and the task both do it so."""
    return translate_training_set(out, settings, make_translator(settings), say)


@task(name="translate")
def translate_legends(out: Path, settings: TranslateSettings) -> dict[str, Any]:
    """Translate the training set's legends; no retries here, for the DeepL client retries by itself.

    Returns:
        Under `stopped` the sentence that says why not all was translated, or None.
    """
    log = get_run_logger()
    if not (out / "training_set.csv").is_file():
        log.info("Nothing was prepared in %s yet: there is nothing to translate.", out)
        return {"stopped": None}
    translation = translate(out, settings, log.info)
    if translation.stopped:
        log.warning(translation.stopped)
    return {"stopped": translation.stopped}
