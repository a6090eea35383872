"""The whole experiment: archive → test set and training set → captions → four approaches → comparison and report."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from neardup.approach import approaches_of, with_enough_photos
from neardup.archive.new_photos import check_queries
from neardup.archive.scan import check_folders
from neardup.errors import TrackingError
from neardup.experiment import comparison_stage, provenance, steps_of
from neardup.settings.schema import Settings
from neardup.stages import alone
from tasks.approach import load_base, take
from tasks.augment import augment_training_set
from tasks.deployed import settings_of_run
from tasks.epochs import log_epochs
from tasks.every_flow import EVERY_FLOW
from tasks.prepare import prepare_archive
from tasks.publish import begin, publish, show
from tasks.tracking import tracking_of
from tasks.translate import translate_legends


@flow(name="experiment", **EVERY_FLOW)
def experiment(
    archive: Path,
    out: Path,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Compare zero-shot, fine-tuned, fine-tuned with augmentation and adapted on one archive.

    Runs monthly or on demand. Needs the archive's folder, room for the results, and the encoder's weights; uses the
    servers of PREFECT_API_URL and MLFLOW_TRACKING_URI where they are set. What a former run finished is not done again.

    Args:
        archive: folder of the archive; it is only read.
        out: folder of the results.
        settings: what neardup.toml would hold.
    """
    check_folders(archive, out)
    log = get_run_logger()
    settings = settings_of_run(settings, out, archive, settings="")
    if settings.queries:
        check_queries(Path(settings.queries), out)
    with alone(out, log.warning):
        tracking = tracking_of(out)
        loaded, base = load_base(tracking, settings)
        counts = prepare_archive(archive, out, settings.prepare)
        translate_legends(out, settings.translate)
        if settings.write_augmented:
            augment_training_set(out, settings)

        approaches = with_enough_photos(approaches_of(out, loaded, base), log.info)
        runs = begin(tracking, "experiment", comparison_stage(approaches).key, approaches)
        for step in steps_of(
            approaches, provenance(settings, archive), lambda a: log_epochs(tracking, runs.get(a.name), a)
        ):
            take(step)

        try:
            run_id = publish(tracking, approaches, counts)
            show(tracking, run_id)
        except TrackingError as fault:
            log.warning("%s", fault)
            return {"out": str(out), "mlflow": None}
        return {"out": str(out), "mlflow": tracking.page(run_id)}
