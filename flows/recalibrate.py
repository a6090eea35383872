"""Recalibrate: the decision of a folder, fitted again with what people said since the last time."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from neardup.stages import alone
from tasks.every_flow import EVERY_FLOW
from tasks.tracking import tracking_of
from tasks.verdicts import fit_again, log_recalibration


@flow(name="recalibrate", **EVERY_FLOW)
def recalibrate(out: Path) -> dict[str, Any]:
    """Fit the decision again if there are new verdicts, and say so if there are none.

    Runs nightly, before `watch`, or on demand. Needs the folder of `duplicates`, and the verdicts in it or in the
    database that the variable NEARDUP_VERDICTS names.

    Args:
        out: folder of the results.
    """
    log = get_run_logger()
    with alone(out, log.warning):
        found = fit_again(out)
        if found is None:
            log.info("Nobody has judged a pair yet: there is nothing to fit a decision with.")
            return {"new": False, "changed": False, "summary": "Nobody has judged a pair yet."}
        log.info("%s", found.summary)
        log_recalibration(tracking_of(out), found, log.warning)
        create_markdown_artifact(found.summary, key="recalibration", description="What verdicts changed")
    return found.facts()
