"""The whole experiment: archive → test set and training set → captions → three approaches → comparison and report."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from neardup.errors import TrackingError
from neardup.experiment import Approach, comparison_stage
from neardup.recipes import APPROACHES, Settings
from tasks.approach import checkpoint, compare, encode, encoder_fingerprint, evaluate
from tasks.augment import augment_training_set
from tasks.prepare import prepare_archive
from tasks.publish import begin, publish, show, tracking_of
from tasks.running import run
from tasks.tracking import resolve_encoder
from tasks.translate import translate_legends


@flow(name="experiment", flow_run_name="{archive}", validate_parameters=True)
def experiment(
    archive: Annotated[Path, Field(description="Folder of the archive; it is only read")],
    out: Annotated[Path, Field(description="Folder for the results")],
    settings: Annotated[Settings, Field(description="What neardup.toml holds")] = Settings(),  # noqa: B008 - frozen
    facts: Annotated[dict[str, str], Field(description="Provenance to show in the report")] = {},  # noqa: B006 - read only
) -> dict[str, Any]:
    """Compare zero-shot, fine-tuned and fine-tuned with augmentation on one archive.

    Runs monthly or on demand. Needs the archive's folder, room for the results, and the encoder's weights; uses the
    servers of PREFECT_API_URL and MLFLOW_TRACKING_URI where they are set. What a former run finished is not done again.
    """
    tracking = tracking_of(out)
    encoder = resolve_encoder(settings.encoder, tracking.uri, out / ".neardup" / "models")
    base = encoder_fingerprint(encoder)
    counts = prepare_archive(archive, out, settings.prepare)
    translate_legends(out, settings.translate)
    if settings.write_augmented:
        augment_training_set(out, settings)

    approaches = [Approach(name, out, replace(settings, encoder=encoder), base) for name in APPROACHES]
    runs = begin(tracking, approaches)
    for approach in approaches:
        run(checkpoint, approach.checkpoint, approach, tracking, runs.get(approach.name))
        run(encode, approach.vectors, approach)
        run(evaluate, approach.evaluation, approach)
    run(compare, comparison_stage(approaches), approaches, facts)

    try:
        run_id = publish(tracking, approaches, counts)
        show(tracking, run_id)
    except TrackingError as away:
        get_run_logger().warning("%s", away)
        return {"out": str(out), "mlflow": None}
    return {"out": str(out), "mlflow": tracking.page(run_id)}
