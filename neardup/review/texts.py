"""The words of the review page, one file a language, and the one table of keys that its legend is made from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "fr")
"""ISO 639-1 codes of the languages that the page speaks; the first one is for whoever asks for none of them."""
_FOLDER = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Key:
    """A key of the keyboard and what it does, everywhere and always the same.

    Attributes:
        key: as the browser names it (`KeyboardEvent.key`).
        action: what it does; `key_…` in the texts says it in words.
    """

    key: str
    action: str


KEYS = (
    Key("s", "same"),
    Key("c", "same scene"),
    Key("d", "different"),
    Key("x", "cannot tell"),
    Key("n", "skip"),
    Key("z", "undo"),
    Key("1", "side"),
    Key("b", "blink"),
    Key("l", "slider"),
    Key("f", "difference"),
    Key("p", "points"),
    Key("w", "swap"),
    Key("+", "zoom in"),
    Key("-", "zoom out"),
    Key("0", "zoom off"),
    Key("ArrowLeft", "left"),
    Key("ArrowRight", "right"),
    Key("ArrowUp", "up"),
    Key("ArrowDown", "down"),
    Key("i", "details"),
    Key("?", "help"),
)
"""All keys of the page. A letter stands for one action in every language, queue and view."""


@cache
def texts(language: str) -> Mapping[str, str]:
    """The words of the page in one of `LANGUAGES`, by name."""
    words: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return words


def language_of(accepted: str) -> str:
    """The language that a browser likes best of those that the page speaks.

    >>> language_of("de, fr-CH;q=0.9, en;q=0.8"), language_of(""), language_of("fr;q=0, en")
    ('fr', 'en', 'en')

    Args:
        accepted: the header `Accept-Language`.
    """
    best, liking = LANGUAGES[0], 0.0
    for item in accepted.split(","):
        name, _, quality = item.partition(";")
        code = name.strip().lower().split("-")[0]
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if code in LANGUAGES and weight > liking:
            best, liking = code, weight
    return best
