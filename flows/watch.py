"""Watch: photos that are new in the archive, and what they are near-duplicates of."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.archive.scan import check_folders
from neardup.settings.schema import ClusterSettings, Device, OnnxSettings, PrepareSettings, Settings
from neardup.stages import alone
from tasks.chosen import choose_encoder
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.tracking import tracking_of
from tasks.watch import log_watched, look_for_new, show_watched


@flow(name="watch", **EVERY_FLOW)
def watch(
    archive: Path,
    out: Path,
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008
    encoder: str | None = None,
    threshold: Annotated[float | None, Field(ge=-1, le=1)] = None,
    device: Device = "auto",
    store: str | None = None,
    verify: bool = True,  # noqa: FBT001, FBT002 - Prefect passes it by its name
    onnx: OnnxSettings = OnnxSettings(),  # noqa: B008
) -> dict[str, Any]:
    """Encode the photos that no former run has seen, and publish their near-duplicates among all photos.

    Runs nightly or on demand. Needs the archive's folder.

    Args:
        archive: folder of the archive; it is only read.
        out: folder of the results; it remembers what was seen.
        settings: which files are photographs.
        encoder: an MLflow model or any other encoder; else the champion, or the one that is shipped.
        threshold: least similarity of a pair; left out, any where a decision judges pairs, else the encoder's own.
        device: auto, cpu, cuda or mps.
        store: folder or URL of the vectors, which other flows may share; else in `out`.
        verify: whether local features verify the pairs that vectors propose.
        onnx: how photos are prepared for the encoder, if it is an ONNX file.
    """
    check_folders(archive, out)
    log = get_run_logger()
    given = Settings(prepare=settings, device=device, cluster=ClusterSettings(store=store), onnx=onnx)
    places = {"settings": "prepare", "device": "device", "store": "cluster.store", "onnx": "onnx"}
    chosen = settings_of_run(given, out, archive, **places)
    with alone(out, log.warning):
        tracking = tracking_of(out)
        names = choose_encoder(out, encoder, chosen.onnx)
        watched, again = look_for_new(archive, out, chosen, *names, threshold, verify=verify)
        show_watched(watched)
        log_watched(tracking)
    return watched.facts() | {
        "asked_again": [asdict(pair) for pair in again],
        "folder": str(watched.folder) if watched.folder else None,
    }
