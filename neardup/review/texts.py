"""The words of the review page, one file a language, and the one table of keys that its legend is made from."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neardup.words import LEAST_CHANCE, chance_bound

LANGUAGES = ("en", "fr")
"""ISO 639-1 codes of the page's languages; the first one is the default."""
NARROW_SPACE = "\u202f"
"""What French writes between the thousands of a number and before a percent sign: a space that no line breaks at."""
_FOLDER = Path(__file__).parent / "locales"
"""Folder of the texts, a JSON file a language."""


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


@dataclass(frozen=True)
class Words:
    r"""The words and numbers of the page in one language, for its templates.

    >>> Words("en").say("left", n=10_000), Words("en").percent(0.9399), Words("fr").percent(0.9399, 1)
    ('10,000 left', '93%', '93,9\u202f%')

    Attributes:
        language: one of `LANGUAGES`.
    """

    language: str

    def say(self, name: str, **values: object) -> str:
        """A text by its name, its places filled in; a whole number is written as the language does.

        Where `n` is 1, the text that is called so and `_one` is taken, if there is one.
        """
        written = {place: self.number(value) if isinstance(value, int) else value for place, value in values.items()}
        words = texts(self.language)
        return (words.get(f"{name}_one", words[name]) if values.get("n") == 1 else words[name]).format(**written)

    def number(self, value: int) -> str:
        """A whole number with its thousands parted."""
        return f"{value:,}".replace(",", NARROW_SPACE) if self.language == "fr" else f"{value:,}"

    def percent(self, share: float, digits: int = 0) -> str:
        """A share as a percentage, rounded towards zero so that a bound never says too much."""
        steps = 10 ** (2 + digits)
        # What is a hair below a step because it has no exact binary form is that step.
        value = math.floor(share * steps + 1e-9) / 10**digits
        return f"{value:g}".replace(".", ",") + f"{NARROW_SPACE}%" if self.language == "fr" else f"{value:g}%"

    def chance(self, probability: float) -> str:
        """A probability as a percentage, never rounded to certainty, as `chance_text` writes it elsewhere.

        >>> Words("en").chance(0.98765), Words("en").chance(1.0), Words("en").chance(0.0003)
        ('98.8%', 'over 99.9%', 'under 0.1%')
        """
        bound = chance_bound(probability)
        shown = self.percent(min(max(round(probability, 3), LEAST_CHANCE), 1 - LEAST_CHANCE), 1)
        return self.say(bound, p=shown) if bound else shown


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
