"""Read the archive: sheets and photos → test set, training set, discrepancy report."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.archive.scan import check_folders
from neardup.settings.schema import PrepareSettings, Settings
from neardup.stages import alone
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.prepare import prepare_archive


@flow(name="prepare", **EVERY_FLOW)
def prepare(archive: Path, out: Path, settings: PrepareSettings = PrepareSettings()) -> dict[str, Any]:  # noqa: B008
    """Make the clean test set and training set of an archive.

    Runs on demand, or when the historian's sheets have changed. Needs the archive's folder; writes only to `out`.

    Args:
        archive: folder of the archive; it is only read.
        out: folder of the results.
        settings: where the photos and the sheets lie.
    """
    check_folders(archive, out)
    settings = settings_of_run(Settings(prepare=settings), out, archive, settings="prepare").prepare
    with alone(out, get_run_logger().warning):
        return prepare_archive(archive, out, settings)
