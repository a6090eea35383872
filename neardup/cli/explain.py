"""The command that says what two photos have to do with each other, and shows it."""

from pathlib import Path

import click

from neardup.cli.options import JSON, options
from neardup.cli.output import print_result, say


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), default=Path("explained.png"), help="The PNG to write.")
@options(JSON)
def explain(first: Path, second: Path, picture: Path, *, as_json: bool) -> None:
    """Say whether two photos show one picture, how one was made of the other, and draw it.

    \b
    Example: neardup explain print.jpg negative.tif --picture explained.png
    """
    from dataclasses import asdict

    from neardup.errors import ArchiveError
    from neardup.verify.explain import explain_files

    for path in (first, second):
        if not path.is_file():
            raise ArchiveError(f"{path} is not there or no file: name two image files")
    explained = explain_files(first, second, picture)
    facts = {"sentence": explained.sentence, "relation": explained.relation.kind, **asdict(explained.evidence)}
    print_result(facts, explained.sentence, as_json=as_json)
    say(f"Look at {picture}")
