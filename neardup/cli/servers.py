"""Commands that start and end the servers: up, down."""

import os
from pathlib import Path
from typing import Any

import click

from neardup.cli.options import FOLDER
from neardup.cli.output import say
from neardup.words import typed

STATE = click.option(
    "--state",
    type=FOLDER,
    default=Path("services"),
    show_default=True,
    help="Folder for databases, artifacts and logs.",
)


@click.command()
@STATE
@click.option("--archive", type=FOLDER, help="The deployments' archive; else as before, or that of `neardup demo`.")
@click.option(
    "--out", type=FOLDER, help="Folder of their results; else as before, or results (without --archive the demo's)."
)
@click.option("--host", help="Interface to listen on; this machine only, if left out.")
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="MLflow's port; 5000 if left out.")
@click.option("--prefect-port", type=click.IntRange(1, 65535), help="Prefect's port; 4200 if left out.")
@click.option("--allow-host", "names", multiple=True, help="A name by which others ask for the servers.")
def up(state: Path, archive: Path | None, out: Path | None, **interfaces: Any) -> None:
    """Start MLflow, Prefect and a worker for the flows of this folder, in the background; what runs is left alone.

    Databases: MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION and PREFECT_SERVER_DATABASE_CONNECTION_URL, or
    sqlite and files in the state folder.

    \b
    Example: neardup up --archive ARCHIVE --out results
             neardup up --mlflow-port 5050 --prefect-port 4250
    """
    from tasks.services import up as start

    folders = {"NEARDUP_ARCHIVE": archive, "NEARDUP_OUT": out}
    os.environ.update({name: str(folder) for name, folder in folders.items() if folder})
    servers = start(Path.cwd(), state.resolve(), interfaces, say)
    password = ' PREFECT_API_AUTH_STRING="$PREFECT_SERVER_API_AUTH_STRING"' * servers.guarded
    end = "make down" if state == Path("services") else f"neardup down --state {typed(state)}"
    click.echo(f"MLflow   {servers.mlflow}\nPrefect  {servers.prefect}\nLogs     {state / 'logs'}\n")
    click.echo(f"export PREFECT_API_URL={servers.prefect}/api MLFLOW_TRACKING_URI={servers.mlflow}{password}\n{end}")


@click.command()
@STATE
def down(state: Path) -> None:
    """End what `neardup up` started, runs of flows included, and nothing else.

    \b
    Example: neardup down
    """
    from tasks.services import down as end

    end(state.resolve(), click.echo)
