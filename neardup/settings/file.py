"""`neardup.toml`: what a person would otherwise type each time. Every field is checked."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from neardup.errors import ConfigError
from neardup.settings.schema import TABLES, Settings

FILE = "neardup.toml"
"""Name of the settings file, in the working folder or in an archive."""

OF_ARCHIVES = frozenset({"prepare"})
"""Tables that are taken from a file in an archive: they say how the archive is read.

An archive may come from anybody, and its file is read unasked; other tables name servers that get a key or send code.
"""

PLAIN: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("dataclass_type", "mapping_type", "dict_type"),
            "it is a table, whose name stands in square brackets on a line of its own",
        ),
        "tuple_type": "it is a list, in square brackets with a comma between its values",
        "string_type": "it is a text, in quotes",
    }
)
"""Kind of a fault that pydantic finds → what to write instead, where its own words are a programmer's."""


def find_settings(archive: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the working folder's `neardup.toml`, else of the archive's own, else the defaults.

    Args:
        archive: folder that a command works on, if it works on one; of a file in it only `[prepare]` is taken.
        overrides: as in `load_settings`.

    Raises:
        ConfigError: as in `load_settings`, or a file in the archive holds more than `[prepare]`.
    """
    for folder in filter(None, (Path(), archive)):
        path = folder / FILE
        if path.is_file():
            if archive and path.resolve().is_relative_to(archive.resolve()):
                check_archives_own(path)
            return load_settings(path, overrides)
    return load_settings(None, overrides)


def load_settings(path: Path | str | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a file, with those of the command line on top.

    Args:
        path: a TOML file, or None for the defaults.
        overrides: dotted names, such as `train.lr`, and values; a value of None changes nothing.

    Raises:
        ConfigError: the file is missing or no TOML, or a field is unknown or out of its bounds.
    """
    values = read_toml(Path(path)) if path else {}
    for name, value in (overrides or {}).items():
        if value is not None:
            _put(values, name.split("."), value)
    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        typed = {name for name, value in (overrides or {}).items() if path and value is not None}
        source = str(path) if path else "the settings"
        sentences = (
            _sentence("the command line" if ".".join(map(str, fault["loc"])) in typed else source, fault)
            for fault in error.errors()
        )
        raise ConfigError("; ".join(sentences)) from None


def check_archives_own(path: Path) -> None:
    """Refuse a settings file of an archive that sets more than how the archive is read.

    Raises:
        ConfigError: it holds more than `[prepare]`.
    """
    refused = [name if name not in TABLES else f"[{name}]" for name in read_toml(path) if name not in OF_ARCHIVES]
    if refused:
        raise ConfigError(
            f"{path} lies in the archive, from which only [prepare] is taken, and sets {', '.join(refused)}: put that "
            f"into the {FILE} of a working folder outside the archive, or name the file with --config"
        )


def _put(values: dict[str, Any], location: list[str], value: object) -> None:
    """Set a value in a table of tables; a table that is none in the file stays so, for the validation to refuse."""
    *tables, key = location
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            return
    values[key] = value


def read_toml(path: Path) -> dict[str, Any]:
    """The tables and values of a TOML file, unchecked; the folder of `queries` is taken from where the file lies.

    Raises:
        ConfigError: the file is missing or no TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: name a settings file with --config, or leave the option out"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML ({error}): mend that line") from None
    if (folder := values.get("queries")) and isinstance(folder, str):
        values["queries"] = str(path.parent.absolute() / folder)
    return values


def _sentence(source: str, fault: ErrorDetails) -> str:
    """What is wrong with one setting, where, and which name was probably meant."""
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        known = _names(fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{source}: unknown setting {name}: {hint}"
    return f"{source}: {name} = {fault['input']!r}: {PLAIN.get(fault['type'], fault['msg'].lower())}"


def _names(location: tuple[int | str, ...]) -> list[str]:
    """The names that are known in the table at a location such as `("train",)`."""
    table: Any = Settings
    for part in location:
        table = get_type_hints(table).get(str(part))
    return [field.name for field in fields(table)] if is_dataclass(table) else []
