"""Promote: the challenger becomes champion only if it is really better."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.measure.promotion import MARGIN
from neardup.settings.schema import ClusterSettings, Device, Metric, PrepareSettings, Settings
from neardup.stages import alone
from tasks.approval import approved
from tasks.deployed import settings_of_run
from tasks.every_flow import EVERY_FLOW
from tasks.promoted import log_promotion, verdict_of
from tasks.registry import decide, find_candidates, measure
from tasks.registry import promote as move_champion
from tasks.tracking import tracking_of


@flow(name="promote", **EVERY_FLOW)
def promote(
    out: Path,
    metric: Metric = "ndcg",
    margin: Annotated[float, Field(ge=0, le=1)] = MARGIN,
    challenger: str | None = None,
    device: Device = "auto",
    max_pixels: Annotated[int, Field(ge=1)] = PrepareSettings.max_pixels,
    store: str | None = None,
    ask_person: bool = False,  # noqa: FBT001, FBT002 - Prefect passes it by its name
) -> dict[str, Any]:
    """Measure challenger, champion and zero-shot on one test set, and move `champion` if the challenger is better.

    Runs after `tune` or on demand. Needs the registry of an experiment and its folder.

    Args:
        out: folder of the results; its test set is what all are measured on.
        metric: what must gain.
        margin: least gain; 0.005 is half a point.
        challenger: version to promote; else the one with that alias.
        device: auto, cpu, cuda or mps.
        max_pixels: larger photos are refused.
        store: folder or URL of the vectors, which other flows may share; else in `out`.
        ask_person: whether a promotion waits, suspended, until a person confirms it in the form of the run.
    """
    log = get_run_logger()
    given = Settings(
        device=device, prepare=PrepareSettings(max_pixels=max_pixels), cluster=ClusterSettings(store=store)
    )
    places = {"device": "device", "max_pixels": "prepare.max_pixels", "store": "cluster.store"}
    settings = settings_of_run(given, out, None, **places)
    with alone(out, log.warning):
        tracking = tracking_of(out)
        candidates = find_candidates(tracking, out, challenger)
        if isinstance(candidates, str):
            log.info("%s", candidates)
            log_promotion(tracking)
            return {"promoted": False, "why": candidates}
        versions = {v.version: v for v in (candidates.zero_shot, candidates.champion, candidates.challenger)}
        evaluations = {number: measure(tracking, version, out, settings) for number, version in versions.items()}
        promotion = decide(candidates, evaluations, metric, margin)
        promotion = approved(candidates, evaluations, promotion) if ask_person else promotion
        move_champion(tracking, candidates, promotion)
        log.info("%s", promotion.paragraph)
        verdict = verdict_of(candidates, promotion)
        log_promotion(tracking, verdict)
        return verdict
