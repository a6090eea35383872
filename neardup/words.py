"""Numbers with their nouns, times, and paths as commands have them, in sentences for people."""

import shlex


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, which is in the singular for one alone.

    Args:
        number: how many.
        noun: in the singular.
        plural: of the noun, where it is not the singular and an s.

    >>> counted(1, "photo"), counted(1234, "photo"), counted(0, "query", "queries")
    ('1 photo', '1,234 photos', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def typed(path: object) -> str:
    """A path as it is typed in a terminal: in quotes where it holds spaces or signs that a shell would read.

    >>> typed("results"), typed("my results")
    ('results', "'my results'")
    """
    return shlex.quote(str(path))


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `2 min 05 s`, `3 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
