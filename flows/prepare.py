"""Read the archive: sheets and photos → test set, training set, discrepancy report."""

from pathlib import Path
from typing import Any

from prefect import flow

from neardup.recipes import PrepareSettings
from tasks.prepare import prepare_archive


@flow(name="prepare", flow_run_name="{archive}")
def prepare(archive: Path, out: Path, settings: PrepareSettings = PrepareSettings()) -> dict[str, Any]:  # noqa: B008
    """Make the clean test set and training set of an archive.

    Runs on demand, or when the historian's sheets have changed. Needs the archive's folder; writes only to `out`.
    """
    return prepare_archive(archive, out, settings)
