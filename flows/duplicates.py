"""Duplicates: all near-duplicates among the photos of a folder, on this machine or on a cluster."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.archive.scan import check_folders
from neardup.decide.chosen_decision import decision_for
from neardup.detect.duplicates import duplicates as put_together
from neardup.encode.collection import open_collection, present
from neardup.encode.store import store_of
from neardup.search.blocks import open_triangle
from neardup.settings.schema import ClusterSettings, Device, Dtype, OnnxSettings, PrepareSettings, Settings
from neardup.stages import alone
from neardup.verify.candidates import CANDIDATES, LEAST_SIMILARITY
from tasks.chosen import choose_encoder, read_verdicts
from tasks.cluster import workers
from tasks.deployed import settings_of_run
from tasks.duplicates import (
    encode_new,
    look_for_decoys,
    publish,
    require_decision,
    search_all,
    threshold_of,
    verify_all,
)
from tasks.every_flow import EVERY_FLOW
from tasks.running import quoted


@flow(name="duplicates", **EVERY_FLOW)
def duplicates(
    archive: Path,
    out: Path,
    encoder: str | None = None,
    threshold: Annotated[float | None, Field(ge=-1, le=1)] = None,
    device: Device = "auto",
    precision: Dtype = "fp32",
    settings: PrepareSettings = PrepareSettings(),  # noqa: B008 - frozen
    cluster: ClusterSettings = ClusterSettings(),  # noqa: B008 - frozen
    verify: bool = True,  # noqa: FBT001, FBT002 - Prefect passes it by its name
    decoys: Path | None = None,
    onnx: OnnxSettings = OnnxSettings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Encode every photo of a folder that no former run has encoded, and compare all of them with each other.

    Runs on demand. Needs the folder, the same for every worker. What a run that was killed had encoded, compared and
    verified is not done again.

    Args:
        archive: folder of the photos; it is only read.
        out: folder of the results.
        encoder: an MLflow model or any other encoder; else the champion, or the one that is shipped.
        threshold: least similarity of a pair; left out, any where a decision judges pairs, else the encoder's own.
        device: auto, cpu, cuda or mps.
        precision: numbers that the encoder computes with; other than fp32 only if its effect was measured.
        settings: which files are photographs; every image of a folder that is not laid out as they say.
        cluster: where the tasks run, and where the vectors lie.
        verify: whether local features verify the pairs that vectors propose.
        decoys: folder of photographs that surely are not in the archive; they bound how many photos have a false link.
        onnx: how photos are prepared for the encoder, if it is an ONNX file.
    """
    check_folders(archive, out)
    log = get_run_logger()
    given = Settings(device=device, prepare=settings, cluster=cluster, onnx=onnx)
    places = {"device": "device", "settings": "prepare", "cluster": "cluster", "onnx": "onnx"}
    chosen = settings_of_run(given, out, archive, **places)
    device, settings, cluster = chosen.device, chosen.prepare, chosen.cluster
    with alone(out, log.warning), workers(cluster) as runner:
        _, checkpoint = choose_encoder(out, encoder, chosen.onnx)
        store = store_of(out, cluster.store)
        collection = open_collection(archive.resolve(), store, checkpoint, device, precision, settings)
        log.info(collection.rule)
        decision = decision_for(out, collection.fingerprint, checkpoint, log.info) if verify else None
        if decoys:
            require_decision(decision)
        least = LEAST_SIMILARITY if decision and threshold is None else threshold_of(collection, out, threshold)
        here = present(collection)
        encode_new(collection, here, runner, cluster)
        triangle = open_triangle(collection, least, cluster.slab, CANDIDATES if verify else None)
        search_all(triangle, runner, cluster)
        judged = read_verdicts(out)
        found = put_together(triangle, here, judged.photos if decision else (), grouped=decision is None)
        found, evidence = verify_all(found, out, runner, cluster) if verify else (found, None)
        bound = None
        if decoys and decision:
            bound = look_for_decoys(**quoted(triangle=triangle, here=here), folder=decoys, decision=decision, out=out)
        everything = quoted(found=found, evidence=evidence, judged=judged)
        facts: dict[str, Any] = publish(**everything, out=out, decision=decision, decoys=bound)
        return facts
