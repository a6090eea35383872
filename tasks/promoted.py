"""What a promotion came to: the file `promotion/verdict.json` of the output folder, and a run of MLflow."""

from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from neardup.measure.promotion import Promotion
from neardup.stages import digest_of, read_json, write_json
from tasks.registry import Candidates
from tasks.running import RETRY
from tasks.tracking import Tracking


def verdict_of(candidates: Candidates, promotion: Promotion) -> dict[str, Any]:
    """What `verdict.json` holds."""
    return {
        "promoted": promotion.promoted,
        "challenger": str(candidates.challenger.version),
        "champion": str(candidates.champion.version),
        "metric": promotion.metric,
        "gain": asdict(promotion.gain),
        "over_zero_shot": asdict(promotion.over_zero_shot),
        "why": promotion.paragraph,
    }


@task(name="log promotion", cache_policy=NO_CACHE, **RETRY)
def log_promotion(tracking: Tracking, verdict: dict[str, Any] | None = None) -> None:
    """Write a verdict to `promotion/verdict.json` and log it as a run; one that was logged before is not logged again.

    Args:
        tracking: where the runs are.
        verdict: as `verdict_of` makes it; None is the one that is there, which a server that was away may lack.

    Raises:
        TrackingError: the server cannot be reached.
    """
    file = tracking.out / "promotion" / "verdict.json"
    if verdict is None:
        verdict = read_json(file)
    else:
        write_json(file, verdict)
    if not {"gain", "over_zero_shot"} <= verdict.keys():
        return
    gain = verdict["gain"]
    figures = {
        "gain": gain["value"],
        "gain low": gain["low"],
        "gain high": gain["high"],
        "gain over zero-shot": verdict["over_zero_shot"]["value"],
    }
    defined = {name: value for name, value in figures.items() if value is not None}
    tracking.log_folder("promote", digest_of(verdict), defined, file.parent)
