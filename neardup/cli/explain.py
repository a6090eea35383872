"""The command that says how two photos relate, and shows it: explain."""

from pathlib import Path

import click

from neardup.cli.flows import resolved
from neardup.cli.options import ENCODER, FILE, FOLDER, JSON, options, settings_of
from neardup.cli.output import print_result, say


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--picture", type=FILE, default=Path("explained.png"), help="The PNG to write, in place of no other file."
)
@click.option("--in", "out", type=FOLDER, help="Output folder whose encoder and decision judge; else the shipped ones.")
@options(ENCODER, JSON)
def explain(first: Path, second: Path, picture: Path, out: Path | None, encoder: str | None, *, as_json: bool) -> None:
    """Say whether two photos show one picture, how one was made of the other, how probable that is, and draw it.

    \b
    Example: neardup explain print.jpg negative.tif --picture explained.png
             neardup explain print.jpg negative.tif --in results
    """
    from dataclasses import asdict

    from neardup.archive.scan import refuse_inside
    from neardup.detect.explain import explain_files
    from neardup.encode.protocol import BUILTIN
    from neardup.errors import ArchiveError
    from neardup.verify.store import FACTS, read_facts

    for path in (first, second):
        if not path.is_file():
            raise ArchiveError(f"{path} is not there or no file: name two image files")
    if out and not out.is_dir():
        raise ArchiveError(f"{out} is not there: name with --in the folder that holds the results")
    settings = settings_of(None, encoder=encoder)
    found = read_facts(out) if out and (out / "duplicates" / FACTS).is_file() else {}
    if archive := found.get("archive"):
        refuse_inside(Path(archive), picture, "--picture")
    made_with = {} if encoder else found
    name = resolved(settings, out or picture.parent) if encoder else str(made_with.get("encoder", BUILTIN))
    precision = made_with.get("precision", "fp32")
    explained = explain_files(first, second, picture, settings.prepare.max_pixels, name, out, precision)
    facts = {
        "sentence": explained.sentence,
        "relation": explained.relation.words,
        "similarity": explained.similarity,
        "probability": explained.probability,
        "band": explained.band,
        "terms": dict(explained.terms),
    }
    print_result(facts | asdict(explained.evidence), explained.text, as_json=as_json)
    say(f"Look at {picture}")
