"""The command that opens the review page: review."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neardup.cli.options import ARCHIVE_CONFIG, DEVICE, FOLDER, OUT, options, settings_of
from neardup.cli.output import check_writable, say
from neardup.cli.verdicts import DATABASE, say_where_runs_look
from neardup.errors import ConfigError
from neardup.words import counted

if TYPE_CHECKING:
    from neardup.review.page.security import Guard


@click.command()
@options(OUT, ARCHIVE_CONFIG)
@click.option("--archive", type=FOLDER, help="Folder of the photos, if it is not where `duplicates` found it.")
@click.option("--who", help="Your name or initials, which stand beside each verdict; else that of your account.")
@DATABASE
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on; others need the token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="Port; 0 for any.")
@click.option("--allow-host", "names", multiple=True, help="A name by which others ask for the page.")
@click.option("--encoder", default="", help="For the search: the encoder, if it is not where `duplicates` found it.")
@options(DEVICE)
def review(
    out: Path,
    config: Path | None,
    archive: Path | None,
    who: str | None,
    database: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    encoder: str,
    device: str | None,
) -> None:
    """Look at what `duplicates` found and say what is right, in a browser; the photos are only read.

    Every answer is on the disk before the next pair is asked for, and no pair is asked twice, not even after another
    run of `duplicates`. Ends with Ctrl-C.

    \b
    Example: neardup review --out results
             neardup review --out results --host 0.0.0.0 --allow-host archive.example.org
    """
    import socket

    import uvicorn

    from neardup.archive.scan import check_folders
    from neardup.review.found.results import Results
    from neardup.review.page.desk import Desk
    from neardup.review.page.lookup import Lookup
    from neardup.review.page.pages import LONGEST_NAME
    from neardup.review.page.security import is_loopback, names_of, new_token
    from neardup.review.page.server import create_app
    from neardup.review.record.verdicts import open_verdicts

    check_writable(out, "review a copy of it")
    who = (who or "").strip() or _account()
    if len(who) > LONGEST_NAME:
        raise ConfigError(f"--who has {len(who)} letters: write a name of at most {LONGEST_NAME}, or initials")
    results = Results(out.resolve(), archive)
    settings = settings_of(config, results.archive, device=device)
    check_folders(results.archive, out)
    store = settings.cluster.store or ""
    lookup = Lookup(results, encoder, store, settings.device)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = f"{host}:{port} cannot be listened on ({error.strerror})"
        raise ConfigError(f"{reason}: end what runs there, or name another one with --port") from error
    port = listening.getsockname()[1]
    token = "" if is_loopback(host) else new_token()
    with open_verdicts(out, database) as verdicts, listening:
        desk = Desk(results, verdicts, who, lookup, settings.prepare.max_pixels)
        app: Guard = create_app(desk, names_of(host, port, names), token)
        shown = f"[{host}]" if ":" in host else next(iter(names), host)
        pairs, groups = counted(len(results), "candidate pair"), counted(results.groups, "group")
        say(f"{pairs}, {groups}; photos in {results.archive}. Ctrl-C ends it.")
        say_where_runs_look(database)
        click.echo(f"http://{shown}:{port}/" + f"?token={token}" * bool(token))
        serving = uvicorn.Config(app, log_level="warning", server_header=False, proxy_headers=False, access_log=False)
        uvicorn.Server(serving).run([listening])


def _account() -> str:
    """Name of the account that runs this, or a placeholder where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "reviewer"
