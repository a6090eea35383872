"""Tasks that look for what is new in the archive."""

from copy import copy
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from neardup.decide.chosen_decision import decision_for
from neardup.detect.verified_pairs import Verification
from neardup.detect.watch import watch
from neardup.detect.watched import SHOWN_PAIRS, Watched
from neardup.encode.encoder import loaded_encoder
from neardup.errors import TrackingError
from neardup.measure.threshold import calibrated_beside
from neardup.review.asked.again import Again, announced, ask_about
from neardup.settings.schema import Settings
from neardup.stages import STATE, digest_file, read_json, write_json
from neardup.verify.candidates import LEAST_SIMILARITY
from tasks.decisions import judged_pairs, links_of
from tasks.running import RETRY
from tasks.tracking import Tracking


@task(name="watch", **RETRY)
def look_for_new(
    archive: Path, out: Path, settings: Settings, name: str, checkpoint: str, threshold: float | None, *, verify: bool
) -> tuple[Watched, list[Again]]:
    """Encode what is new, verify it, publish its near-duplicates, and the answered pairs that are to be asked again.

    By default a decision judges the nearest photos of each, however alike they are; without one candidates are pairs at
    or above the checkpoint's own threshold.
    """

    def say(sentence: str) -> None:
        get_run_logger().info(sentence)

    encoder = copy(loaded_encoder(checkpoint, settings.device))
    encoder.name = name
    decision = decision_for(out, encoder.fingerprint, checkpoint, say) if verify else None
    if threshold is None:
        threshold = LEAST_SIMILARITY if decision else calibrated_beside(checkpoint, encoder.fingerprint)
    verification = Verification(decision, judged_pairs(out)) if verify else None
    again: list[Again] = []

    def ask_again(watched: Watched) -> None:
        again.extend(ask_about(watched, links_of(out)) if watched.verified else ())

    watched = watch(
        archive, out, settings.prepare, encoder, threshold, say, settings.cluster.store, verification, ask_again
    )
    if again:
        say(announced(again))
    return watched, again


def show_watched(watched: Watched) -> None:
    """Put what was found into the Prefect UI."""
    create_markdown_artifact(watched.markdown(), key="watch", description=watched.summary)
    pairs = [
        {"photo": pair.photo, "partner": pair.partner, "similarity": f"{pair.similarity:.3f}", "group": pair.group}
        for pair in watched.pairs[:SHOWN_PAIRS]
    ]
    create_table_artifact(pairs, key="new-pairs", description=f"The first of {len(watched.pairs)} new pairs")


def log_watched(tracking: Tracking) -> None:
    """Log each run that was published and not logged yet, the oldest first, as a run of MLflow.

    A run that was killed before it was logged, or whose server was away, is logged by the next one. That the server is
    away is a warning, for the results are on disk.
    """
    marks = tracking.out / STATE / "watch" / "logged.json"
    logged = read_json(marks)
    try:
        for file in sorted((tracking.out / "watch").glob("[0-9]*/watch.json")):
            key, facts = digest_file(file), read_json(file)
            if logged.get(file.parent.name) == key or not {"counts", "threshold"} <= facts.keys():
                continue
            counts = {f"watch {name}": float(count) for name, count in facts["counts"].items()}
            tracking.log_folder("watch", key, {**counts, "threshold": facts["threshold"]}, file.parent)
            logged[file.parent.name] = key
            write_json(marks, logged)
    except TrackingError as away:
        get_run_logger().warning("%s", away)
