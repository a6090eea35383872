"""`neardup.toml`: what a person would otherwise type each time. Every field is checked."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from neardup.errors import ConfigError
from neardup.settings.schema import Settings

FILE = "neardup.toml"


def find_config(archive: Path | None) -> Path | None:
    """The `neardup.toml` of this folder, else that of the archive, else None."""
    folders = [Path(), *([archive] if archive else [])]
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def load_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of a file, with what was said on the command line on top.

    Args:
        path: a TOML file, or None for the defaults.
        overrides: dotted names, such as `train.lr`, and values; a value of None says nothing.

    Raises:
        ConfigError: the file is missing or no TOML, or a field is unknown or out of its bounds.
    """
    values = _read(path) if path else {}
    for name, value in (overrides or {}).items():
        if value is not None:
            *tables, key = name.split(".")
            table = values
            for part in tables:
                table = table.setdefault(part, {})
            table[key] = value
    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        where = str(path) if path else "the settings"
        raise ConfigError("; ".join(_sentence(where, fault) for fault in error.errors())) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: name a settings file with --config, or leave the option out"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML ({error}): mend that line") from None


def _sentence(where: str, fault: ErrorDetails) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        known = _names(fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{where}: unknown setting {name}: {hint}"
    return f"{where}: {name} = {fault['input']!r}: {fault['msg'].lower()}"


def _names(location: tuple[int | str, ...]) -> list[str]:
    table: Any = Settings
    for part in location:
        table = get_type_hints(table).get(str(part))
    return [field.name for field in fields(table)] if is_dataclass(table) else []
