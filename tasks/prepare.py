"""The task that reads an archive into its test set, training set and report."""

from pathlib import Path
from typing import Any

from prefect import get_run_logger, task

from neardup.archive.prepare import prepare
from neardup.settings.schema import PrepareSettings
from tasks.running import RETRY


@task(name="prepare", **RETRY)
def prepare_archive(archive: Path, out: Path, settings: PrepareSettings) -> dict[str, Any]:
    """Scan the archive and make the test set, the training set and the discrepancy report.

    Not cached by Prefect: only a look at the files tells whether something changed. What is unchanged is not read.

    Returns:
        The counts of the discrepancy report.
    """
    prepared = prepare(archive, out, settings)
    log = get_run_logger().info
    log("%d files of the archive read anew, %d photos in all", prepared.archive.read_anew, len(prepared.archive.photos))
    if prepared.reused:
        log("prepare: unchanged, nothing to do")
    return dict(prepared.counts)
