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
from neardup.errors import NeardupError

EDGE = Path(__file__).parents[1] / "edge"
"""Where the wheel puts `tasks` and `flows`: at its top level they would collide with anybody's packages of those names.

In the repository they lie at the top level, and this folder is not there.
"""
if EDGE.is_dir() and str(EDGE) not in sys.path:
    sys.path.insert(0, str(EDGE))
    # What we start in its turn (servers, workers) finds them as well.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(EDGE), os.environ.get("PYTHONPATH"))))


class Sentence(click.Group):
    """A group that turns an error of the user's into one line, unless `--debug` asks for the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault that the user can mend becomes one sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except NeardupError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"neardup: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("\nneardup: interrupted; run the same command again and it goes on where it was", err=True)
            ctx.exit(130)


@click.group(cls=Sentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neardup")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find the near-duplicates of an archive of press photographs, and prove how well.

    \b
    Example:
      neardup demo
      neardup experiment ARCHIVE --out results --encoder builtin:tiny
    """


for _module in (archive, photos, explain, models, registry, servers, review, verdicts, verify):
    _commands = [value for value in vars(_module).values() if isinstance(value, click.Command)]
    _inner = {
        id(command) for group in _commands if isinstance(group, click.Group) for command in group.commands.values()
    }
    for _command in _commands:
        if id(_command) not in _inner:
            main.add_command(_command)
