"""Commands on the registry of models: promote, rollback."""

from pathlib import Path

import click

from neardup.cli.flows import run_flow
from neardup.cli.options import ARCHIVE_CONFIG, DEVICE, JSON, OUT, options, settings_of_results
from neardup.cli.output import check_prepared, check_there, print_result, working_in
from neardup.errors import ConfigError


@click.command()
@options(OUT, ARCHIVE_CONFIG, DEVICE, JSON)
@click.option(
    "--metric",
    default="ndcg",
    show_default=True,
    help="Metric that must gain, as comparison.json names them: ndcg, micro_ap, f1, top_1, …",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Least gain, 0 to 1; 0.005 is half a point.",
)
@click.option("--version", "challenger", help="Version to promote; else the alias challenger.")
def promote(
    out: Path,
    config: Path | None,
    device: str | None,
    metric: str,
    margin: float,
    challenger: str | None,
    as_json: bool,
) -> None:
    """Make the challenger champion, if it is better than the champion and no worse than zero-shot on the same test set.

    The metric must gain the margin, and the paired 95 % interval of the gain over groups must lie above 0.

    \b
    Example: neardup promote --out results --metric ndcg --margin 0.01
    """
    from typing import get_args

    from neardup.settings.schema import Metric

    if metric not in get_args(Metric):
        raise ConfigError(f"no promotion goes by {metric}: name one of {', '.join(get_args(Metric))}")
    check_prepared(out)
    settings = settings_of_results(config, out, device=device)
    places = settings.device, settings.prepare.max_pixels, settings.cluster.store
    result = run_flow("promote", out, out.resolve(), metric, margin, challenger, *places)
    print_result(result, result["why"], as_json=as_json)


@click.command()
@options(OUT, JSON)
@click.option("--to", help="A version; else the champion before this one.")
def rollback(out: Path, to: str | None, as_json: bool) -> None:
    """Put the former champion back in place.

    \b
    Example: neardup rollback --out results
    """
    from tasks.registry import rollback as put_back
    from tasks.tracking import tracking_of

    check_there(out)
    with working_in(out):
        why = put_back(tracking_of(out), to)
    print_result({"why": why}, why, as_json=as_json)
