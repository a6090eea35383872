"""Commands on verdicts: list, withdraw, export, import, recalibrate, propose, share."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup.cli.options import FILE, FOLDER, JSON, OUT, options, settings_of
from neardup.cli.output import check_there, check_writable, print_result, say, working_in
from neardup.errors import VerdictError
from neardup.words import counted, one_line, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neardup.review.exchange.imported import Imported
    from neardup.review.found.candidates import Found
    from neardup.review.record.verdicts import Verdict, Verdicts

DATABASE = click.option(
    "--database",
    default="",
    envvar="NEARDUP_VERDICTS",
    help="URL of the verdicts, postgresql+psycopg://…; `duplicates` and `watch` find it in NEARDUP_VERDICTS alone. "
    "Else verdicts.sqlite of --out.",
)
ARCHIVE = click.option("--archive", type=FOLDER, help="Folder of the photos; else the one that was searched.")
WHO = click.option("--who", help="Who answers; else the name that you are logged in with.")


@click.group()
def verdicts() -> None:
    """What people said of pairs: read, written to Excel and back, and carried to where it counts.

    \b
    Example: neardup verdicts list --out results
             neardup verdicts export --out results
             neardup verdicts import results/verdicts.xlsx --out results --who Marie
    """


@verdicts.command("list")
@options(OUT, DATABASE, JSON)
@click.option("--all", "everything", is_flag=True, help="Also what was withdrawn or superseded.")
def list_verdicts(out: Path, database: str, everything: bool, as_json: bool) -> None:
    """List the verdicts in force, what contradicts itself, and how far people agree.

    Photos are named by their paths where `duplicates` found them, else by the first digits of their SHA-256.

    \b
    Example: neardup verdicts list --out results
    """
    from dataclasses import asdict

    from neardup.review.record.links import Links, agreements

    with _kept(out, database) as kept:
        history, current = kept.history(), kept.current()
    links, agreed, names = Links.of(current), agreements(history), _names(out)
    lines = [_line(verdict, names) for verdict in (history if everything else current)]
    lines += [f"to settle: {found.in_words(names)}" for found in links.contradictions]
    for found in agreed:
        kappa = "undefined" if found.kappa is None else f"{found.kappa:.2f}"
        people = " and ".join(found.people)
        lines.append(f"{people} agree on {found.agreed} of {found.judged} pairs, Cohen's kappa {kappa}")
    given = counted(len(history), "verdict")
    lines.append(f"{given}, {len(current)} in force, {len(links.must)} same, {len(links.cannot)} not")
    facts = {
        "verdicts": [
            asdict(verdict) | {"shown": dict(verdict.shown)} for verdict in (history if everything else current)
        ],
        "contradictions": [found.sentence for found in links.contradictions],
        "agreements": [asdict(found) for found in agreed],
    }
    print_result(facts, "\n".join(map(one_line, lines)), as_json=as_json)


def _kept(out: Path, database: str) -> "Verdicts":
    """The verdicts of a folder in which somebody has judged, or of a team's database; nothing is made.

    Raises:
        VerdictError: nobody has judged a pair there.
    """
    from neardup.review.record.verdicts import DATABASE as FILE_NAME
    from neardup.review.record.verdicts import open_verdicts

    if not database and not (out / FILE_NAME).is_file():
        raise VerdictError(
            f"{out} holds no {FILE_NAME}, for nobody has judged a pair: run `neardup review --out {typed(out)}`"
        )
    return open_verdicts(out, database)


def say_where_runs_look(database: str) -> None:
    """Say that later runs ask the database of the environment, where answers go into another one that was typed."""
    if database and database != os.environ.get("NEARDUP_VERDICTS"):
        say("`duplicates` and `watch` obey these answers only if NEARDUP_VERDICTS holds the address of --database")


def _names(out: Path) -> "Mapping[str, str]":
    """Path of each photo by its SHA-256 in the pairs that `duplicates` found last; none where it has found none."""
    from neardup.errors import ArchiveError
    from neardup.verify.store import read_results

    names: dict[str, str] = {}
    with suppress(ArchiveError):
        pairs = read_results(
            out / "duplicates" / "pairs.parquet", out, ["photo", "photo_sha256", "partner", "partner_sha256"]
        )
        for side in ("partner", "photo"):
            names |= zip(pairs[f"{side}_sha256"].to_pylist(), pairs[side].to_pylist(), strict=True)
    return names


def _line(verdict: "Verdict", names: "Mapping[str, str]") -> str:
    """A verdict as the line of a list: when, the pair, what, who, and its number."""
    first, second = (names.get(digest, digest[:12]) for digest in verdict.pair)
    return f"{verdict.time[:19]}  {first} and {second}  {verdict.verdict:<11}  {verdict.who}  {verdict.id}"


@verdicts.command()
@click.argument("identity", metavar="ID")
@options(OUT, DATABASE, WHO)
def withdraw(identity: str, out: Path, database: str, who: str | None) -> None:
    """Take a verdict back, as if it had not been given; what was said stays in the history.

    \b
    Example: neardup verdicts withdraw 1b4e28ba-2fa1-11d2-883f-0016d3cca427 --out results
    """
    with _kept(out, database) as kept:
        undone = kept.withdraw(identity, _person(who))
        in_force = [f"{verdict.verdict} ({one_line(verdict.who)})" for verdict in kept.of_pair(*undone.pair)]
    say_where_runs_look(database)
    left = f"in force on this pair: {', '.join(in_force)}" if in_force else "the pair is open again"
    click.echo(f"withdrawn by {one_line(undone.who)}; {left}")


@verdicts.command()
@options(OUT, ARCHIVE, DATABASE, WHO)
@click.option("--to", "target", type=FILE, help="The .xlsx or .csv to write; else verdicts.xlsx of --out.")
@click.option(
    "--pairs",
    type=click.Choice(["open", "review", "all"]),
    default="open",
    show_default=True,
    help="Of 2 % or more and answered by nobody: links and pairs to review; or pairs to review alone, as `duplicates` "
    "counts them; or all pairs.",
)
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="At most so many pairs.")
def export(
    out: Path, archive: Path | None, database: str, who: str | None, target: Path | None, pairs: str, limit: int
) -> None:
    """Write pairs as a workbook with pictures and a drop-down a row, or as CSV, to be answered without neardup.

    Where there are probabilities, the pairs of which the machine knows least come first.

    \b
    Example: neardup verdicts export --out results
             neardup verdicts export --out results --pairs all --to pairs.csv
    """
    from neardup.archive.scan import check_folders
    from neardup.review.exchange.workbook import pictures_of, rows_of, write_answers_csv, write_workbook
    from neardup.review.found.candidates import require_results
    from neardup.review.record.verdicts import open_verdicts
    from tasks.tracking import tracking_of
    from tasks.verdicts import log_export

    found = _found(out, archive)
    require_results(found)
    path = target or out / "verdicts.xlsx"
    check_folders(found.root, path, "--to")
    if path.suffix.lower() not in {".xlsx", ".csv"}:
        raise VerdictError(f"{path} is neither a workbook nor a CSV: give --to a name that ends with .xlsx or .csv")
    check_writable(path.parent, "name another file with --to")
    with working_in(out), open_verdicts(out, database) as kept:
        current, number = kept.current(), kept.last()
        answered = {verdict.pair for verdict in current}
        wanted = {
            "open": lambda c: c.pair not in answered and c.band != "reject" and not c.unlikely,
            "review": lambda c: c.pair not in answered and c.band == "review" and not c.unlikely,
            "all": lambda _: True,
        }[pairs]
        chosen = sorted(filter(wanted, found.by_pair.values()), key=lambda candidate: candidate.doubt)
        rows = rows_of(chosen[:limit], current, number, who=_person(who))
        if path.suffix.lower() == ".csv":
            write_answers_csv(path, rows)
        else:
            write_workbook(path, rows, pictures_of(found.root, found.max_pixels))
        if os.access(out, os.W_OK):
            log_export(tracking_of(out), kept, path, len(rows), say)
    left = f", {len(chosen) - limit} more with a greater --limit" if len(chosen) > limit else ""
    click.echo(f"{path} holds {counted(len(rows), 'pair')}{left}")


@verdicts.command("import")
@click.argument("table", type=FILE)
@options(OUT, ARCHIVE, DATABASE, WHO, JSON)
@click.option("--dry-run", is_flag=True, help="Say what would be stored, and store nothing.")
def import_table(
    table: Path, out: Path, archive: Path | None, database: str, who: str | None, as_json: bool, dry_run: bool
) -> None:
    """Read the answers of a workbook or CSV back: all of them are stored, or none and every fault is named.

    \b
    Example: neardup verdicts import results/verdicts.xlsx --out results --who Marie
    """
    from dataclasses import asdict

    from neardup.review.exchange.imported import import_answers
    from neardup.review.found.candidates import Found
    from neardup.review.record.verdicts import open_verdicts

    found = Found.load(out, archive)
    with open_verdicts(out, database) as kept:
        imported = import_answers(table, kept, found.candidates, _person(who), dry=dry_run)
    if imported.stored and not dry_run:
        say_where_runs_look(database)
    for fault in (*imported.faults, *imported.contradictions, *imported.notes):
        say(f"{table.name}: {fault.line}")
    print_result(asdict(imported), _summary(imported, dry_run=dry_run), as_json=as_json)
    if imported.faults:
        raise VerdictError(f"{table}: {imported.summary}")


def _summary(imported: "Imported", *, dry_run: bool) -> str:
    """What an import of verdicts stored, or would have stored if it were no trial."""
    return f"a trial: {imported.summary}; nothing was stored" if dry_run else imported.summary


@verdicts.command()
@options(OUT, DATABASE, JSON)
def recalibrate(out: Path, database: str, as_json: bool) -> None:
    """Fit the decision again with the verdicts, so that probabilities say what people say.

    Writes decision.json, which `duplicates`, `watch` and `search` take from then on. Probabilities move once there are
    enough answers; what is promised of the links moves by the audit's alone. Without new answers nothing is changed.

    \b
    Example: neardup verdicts recalibrate --out results
    """
    from neardup.review.learned.recalibration import recalibrate as fit_again
    from neardup.review.record.verdicts import open_verdicts
    from tasks.tracking import tracking_of
    from tasks.verdicts import log_recalibration

    check_there(out)
    check_writable(out, "work on a copy of it")
    with working_in(out), open_verdicts(out, database) as kept:
        found = fit_again(out, kept)
        log_recalibration(tracking_of(out), found, say)
    print_result(found.facts(), found.summary, as_json=as_json)


@verdicts.command()
@options(OUT, ARCHIVE, DATABASE, JSON)
def propose(out: Path, archive: Path | None, database: str, as_json: bool) -> None:
    """Write the ground truth as the verdicts would have it, and what the pairs that were found say against it.

    Writes proposed_IS.xlsx, discrepancies_IS.xlsx, .csv and .html, and known_pairs.csv, from which training learns.
    Needs what `prepare` made; the discrepancies need what `duplicates` found, too.

    \b
    Example: neardup verdicts propose --out results
    """
    from neardup.archive.known_pairs import KNOWN_PAIRS
    from neardup.archive.testset import TestSet
    from neardup.review.asked.ground_truth import doubts_of, write_doubts
    from neardup.review.exchange.proposal import propose_rows, write_proposal
    from neardup.review.record.links import Links, save_known_pairs
    from neardup.review.record.verdicts import open_verdicts

    check_there(out)
    check_writable(out, "work on a copy of it")
    with working_in(out), open_verdicts(out, database) as kept:
        links = Links.of(kept.current())
        found = _found(out, archive) if (out / "duplicates" / "pairs.parquet").is_file() else None
        candidates = found.candidates if found else ()
        chances = {one.pair: one.probability for one in candidates if one.probability is not None}
        sheets = propose_rows(out, links, chances)
        written = [write_proposal(out / "proposed_IS.xlsx", sheets)]
        changed = sum(cell.kind != "kept" for rows in sheets.values() for cells in rows.values() for cell in cells)
        rows = save_known_pairs(out / KNOWN_PAIRS, kept.history(), links)
        facts: dict[str, Any] = {"changed_cells": changed, "known_pairs": len(rows)}
        if found:
            doubts = doubts_of(TestSet.load(out), candidates, links)
            written += write_doubts(out, doubts, found)
            facts["discrepancies"] = len(doubts)
    facts["files"] = written
    counts = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in facts.items() if name != "files")
    print_result(facts, f"{counts}\nLook at {', '.join(map(str, written))}", as_json=as_json)


@verdicts.command()
@options(OUT, ARCHIVE, DATABASE)
@click.option("--to", "target", type=FOLDER, help="Folder to write; else share of --out.")
@click.option(
    "--base",
    default="http://localhost:8000",
    show_default=True,
    help="Address at which the folder will be served: the ids of the manifests begin with it.",
)
def share(out: Path, archive: Path | None, database: str, target: Path | None, base: str) -> None:
    """Write the groups as a folder for others: a page that only shows, IIIF manifests and annotations.

    \b
    Example: neardup verdicts share --out results --base https://archive.example/neardup
    """
    from neardup.archive.scan import check_folders
    from neardup.review.exchange.share import share as share_groups
    from neardup.review.found.candidates import load_evidence
    from neardup.review.record.verdicts import open_verdicts

    found = _found(out, archive)
    folder = target or out / "share"
    check_folders(found.root, folder, "--to")
    with working_in(out), open_verdicts(out, database) as kept:
        written, missing = share_groups(folder, found, kept.current(), load_evidence(out), base)
    if missing:
        number = counted(len(missing), "photo")
        say(f"left out, as gone, replaced or unreadable: {number}, listed on the page; the first: {missing[0]}")
    click.echo(f"{counted(len(found.groups), 'group')}, {counted(len(written), 'file')}\nLook at {written[0]}")


def _found(out: Path, archive: Path | None) -> "Found":
    """What `duplicates` found, its photos to be shown up to the size that the settings allow."""
    from dataclasses import replace

    from neardup.review.found.candidates import Found

    found = Found.load(out, archive)
    return replace(found, max_pixels=settings_of(None, found.root).prepare.max_pixels)


def _person(who: str | None) -> str:
    """Who answers: the name that was given, without blanks around it, or that of the login."""
    import getpass

    from neardup.archive.walk import composed

    try:
        return composed(who.strip() if who else getpass.getuser())
    except (KeyError, OSError) as error:
        raise VerdictError("nobody is logged in by a name: say with --who who answers") from error
