"""Format numbers with nouns, probabilities, times, paths and other libraries' errors for sentences."""

import re
import shlex

LONGEST_REASON = 200
"""Most letters of another library's error that a sentence quotes: two lines of a terminal."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, in the singular for 1 and else in the plural.

    Args:
        number: how many.
        noun: in the singular.
        plural: of the noun, where it is not the singular and an s.

    >>> counted(1, "photo"), counted(1234, "photo"), counted(0, "query", "queries")
    ('1 photo', '1,234 photos', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


LEAST_CHANCE = 0.001
"""Least probability that is written as a number; 1 minus it is the greatest."""


def chance_bound(probability: float) -> str:
    """`under` or `over` for a probability that in tenths of a per cent would be 0 or 1; nothing for any other."""
    return "under" if probability < LEAST_CHANCE / 2 else "over" if probability >= 1 - LEAST_CHANCE / 2 else ""


def chance_text(probability: float) -> str:
    """A probability in per cent, never rounded to certainty.

    >>> chance_text(0.98765), chance_text(0.9995), chance_text(0.00001)
    ('98.8 %', 'over 99.9 %', 'under 0.1 %')
    """
    shown = min(max(probability, LEAST_CHANCE), 1 - LEAST_CHANCE)
    return f"{chance_bound(probability)} {100 * shown:.1f} %".lstrip()


def typed(path: object) -> str:
    """Write a path as it is typed in a terminal: quoted if it holds spaces or characters special to a shell.

    >>> typed("results"), typed("my results")
    ('results', "'my results'")
    """
    return shlex.quote(str(path))


def one_line(text: str) -> str:
    r"""Escape characters that would end or move a terminal's line, which file names may hold.

    >>> print(one_line("a\nb\tc"))
    a\nb\tc
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda sign: repr(sign[0])[1:-1], text)


def duration(seconds: float) -> str:
    """Write seconds for people: `8 s`, `2 min 05 s`, `3 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def reason_of(error: BaseException) -> str:
    """Extract the first sentence of another library's error, for quoting; its class if it has no text.

    >>> reason_of(ValueError("Shapes differ. For details see above.")), reason_of(KeyError())
    ('Shapes differ', 'KeyError')
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0].rstrip(".")[:LONGEST_REASON]
