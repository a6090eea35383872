"""The command that measures approaches with and without verification."""

from pathlib import Path

import click

from neardup.cli.options import ARCHIVE_CONFIG, JSON, OUT, options, settings_of_results
from neardup.cli.output import check_prepared, print_result, say, working_in


@click.command()
@options(OUT, ARCHIVE_CONFIG, JSON)
def verify(out: Path, config: Path | None, *, as_json: bool) -> None:
    """Verify the test set's nearest pairs, and fit what decides pairs to the ground truth.

    Each evaluated approach is measured by its vectors alone and verified, by folds of the groups. The decision, in
    the approach's folder, is what `neardup duplicates` with that encoder takes from then on, unless it can link no
    pair, or one that was fitted again to verdicts is in the folder.

    \b
    Example: neardup verify --out results
    """
    from neardup.measure.verified_approaches import verify_approaches

    check_prepared(out)
    settings = settings_of_results(config, out)
    with working_in(out):
        promises = settings.decide.precision, settings.decide.recall
        found = verify_approaches(out, say, settings.prepare.max_pixels, promises)
    facts = {name: verified.facts() for name, verified in found.items()}
    print_result(facts, "\n\n".join(verified.text for verified in found.values()), as_json=as_json)
