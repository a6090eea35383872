"""Watch: photos that are new in the archive, and what they are near-duplicates of."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.archive.scan import check_folders
from neardup.settings.schema import ClusterSettings, Device, PrepareSettings, Settings
from neardup.stages import alone
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.tracking import tracking_of
from tasks.watch import log_watched, look_for_new, show_watched


@flow(name="watch", **EVERY_FLOW)
def watch(
    archive: Path,
    out: Path,
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008
    encoder: str = "models:/near-duplicates@champion",
    threshold: Annotated[float | None, Field(ge=-1, le=1)] = None,
    device: Device = "auto",
    store: str | None = None,
) -> dict[str, Any]:
    """Encode the photos that no former run has seen, and publish their near-duplicates among all photos.

    Runs nightly or on demand. Needs the archive's folder and a champion, which an experiment makes.

    Args:
        archive: folder of the archive; it is only read.
        out: folder of the results; it remembers what was seen.
        settings: which files are photographs.
        encoder: an MLflow model, whose threshold is used, or any other encoder.
        threshold: similarity at or above which a pair is a near-duplicate; else the encoder's own.
        device: auto, cpu, cuda or mps.
        store: folder or URL of the vectors, which other flows may share; else in `out`.
    """
    check_folders(archive, out)
    log = get_run_logger()
    given = Settings(prepare=settings, device=device, cluster=ClusterSettings(store=store))
    places = {"settings": "prepare", "device": "device", "store": "cluster.store"}
    chosen = settings_of_run(given, out, archive, **places)
    with alone(out, log.warning):
        tracking = tracking_of(out)
        checkpoint, store = tracking.encoder(encoder), chosen.cluster.store
        watched = look_for_new(archive, out, chosen.prepare, encoder, checkpoint, threshold, chosen.device, store)
        show_watched(watched)
        log_watched(tracking, watched)
    return watched.facts() | {"folder": str(watched.folder) if watched.folder else None}
