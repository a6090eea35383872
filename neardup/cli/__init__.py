"""The command line: parse, call, print. It alone knows tasks and flows.

Each module holds a group of commands. Every heavy import waits inside the command that needs it.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from neardup import __version__
from neardup.cli import archive, explain, models, photos, registry, review, servers, verdicts, verify
from neardup.cli.faults import sentence_of
from neardup.cli.output import say
from neardup.cli.sections import SECTIONS
from neardup.errors import is_interrupt

EDGE = Path(__file__).parents[1] / "edge"
"""Where the wheel puts `tasks` and `flows`: at its top level they would collide with anybody's packages of those names.

In the repository they lie at the top level, and this folder is not there.
"""
if EDGE.is_dir() and str(EDGE) not in sys.path:
    sys.path.insert(0, str(EDGE))
    # Processes that are started from here (servers, workers) find them as well.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(EDGE), os.environ.get("PYTHONPATH"))))


class Commands(click.Group):
    """A group whose help lists commands by purpose, and that turns neardup's errors into one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault that the user can mend becomes one sentence, unless `--debug` asks for more."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if is_interrupt(error):
                click.echo("\nneardup: interrupted; run the same command again and it goes on where it was", err=True)
                ctx.exit(130)
            sentence = sentence_of(error)
            if sentence is None or ctx.params.get("debug"):
                raise
            say(f"neardup: {sentence}")
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands by what they are for."""
        for title, lines in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<10}", line) for name, line in lines.items()])
        formatter.write_paragraph()
        formatter.write_text("`neardup COMMAND --help` explains a command and gives an example.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neardup")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find the near-duplicates in a folder of photographs, and prove how well.

    \b
    Example:
      neardup duplicates PHOTOS --out results
      neardup review --out results
    """


for _module in (archive, photos, explain, models, registry, servers, review, verdicts, verify):
    _commands = [value for value in vars(_module).values() if isinstance(value, click.Command)]
    _inner = {
        id(command) for group in _commands if isinstance(group, click.Group) for command in group.commands.values()
    }
    for _command in _commands:
        if id(_command) not in _inner:
            main.add_command(_command)
