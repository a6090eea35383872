"""Watch: photos that are new in the archive, and what they are near-duplicates of."""

from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.archive import check_folders
from neardup.recipes import ArchiveFolder, Device, OutFolder, PrepareSettings
from neardup.stages import alone
from tasks.hooks import HOOKS
from tasks.publish import tracking_of
from tasks.watch import log_watched, look_for_new, show_watched


@flow(name="watch", flow_run_name="{archive}", **HOOKS)
def watch(
    archive: ArchiveFolder,
    out: OutFolder,
    settings: Annotated[PrepareSettings, Field(description="Which files are photographs")] = PrepareSettings(),  # noqa: B008
    encoder: Annotated[
        str, Field(description="An MLflow model, whose threshold is used, or any other encoder")
    ] = "models:/near-duplicates@champion",
    threshold: Annotated[float | None, Field(ge=-1, le=1, description="Similarity; else the encoder's own")] = None,
    device: Device = "auto",
) -> dict[str, Any]:
    """Encode the photos that no former run has seen, and publish their near-duplicates among all photos.

    Runs nightly or on demand. Needs the archive's folder and a champion, which an experiment makes.
    """
    check_folders(archive, out)
    log = get_run_logger()
    with alone(out, log.warning):
        tracking = tracking_of(out)
        watched = look_for_new(archive, out, settings, encoder, tracking.encoder(encoder), threshold, device)
        show_watched(watched)
        log_watched(tracking, watched)
    return watched.facts() | {"folder": str(watched.folder) if watched.folder else None}
