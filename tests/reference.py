"""Makes docs/commands.md and docs/settings.md from the code; `make docs` writes them, a test holds them to it."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from neardup.cli import main
from neardup.settings.schema import TABLES, meanings

DOCS = Path(__file__).parents[1] / "docs"


def commands() -> str:
    """Every command with its help, as the terminal shows it at 110 columns."""
    parts = ["# Commands", "", "Made from the code by `make docs`.", ""]
    for name, command in every_command(main, "neardup"):
        names = ["-h", "--help"]
        context = click.Context(command, None, name, max_content_width=110, help_option_names=names)
        context.terminal_width = 110
        parts += [f"## {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(parts)


def every_command(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group as they are typed, each with those below it."""
    for own, command in sorted(group.commands.items()):
        yield f"{name} {own}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{name} {own}")


def settings() -> str:
    """Every field of neardup.toml with its default and its meaning."""
    parts = [
        "# Settings",
        "",
        "What `neardup.toml` of the working folder may hold; made from the code by `make docs`. Where there is none,",
        "`[prepare]` of the archive's own `neardup.toml` is taken, and nothing else may stand there. An option on the",
        "command line wins over the file. An unknown name is an error that suggests the right one.",
        "",
    ]
    for name, table in TABLES.items():
        meaning = meanings(table)
        parts += [f"## [{name}]" if name else "## At the top", "", "| name | default | meaning |", "|---|---|---|"]
        defaults = table()
        for field in fields(table):
            default = getattr(defaults, field.name)
            if not is_dataclass(default):
                parts.append(f"| `{field.name}` | {_toml(default)} | {meaning[field.name]} |")
        parts.append("")
    return "\n".join(parts)


def _toml(value: Any) -> str:
    """A value as the file would have it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    if isinstance(value, dict):
        return "<br>".join(f'`{key} = "{item}"`' for key, item in value.items())
    return f"`{value}`"


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
    (DOCS / "settings.md").write_text(settings(), encoding="utf-8")
