"""The registry: versions of the model `near-duplicates`, the alias `champion` of the one in use, and `challenger`.

What is promoted or rolled back is recorded where people look: in the version's description and tags.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from neardup.archive.testset import TestSet
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import embed_test_set
from neardup.errors import PromotionError
from neardup.experiment import Approach, table_digest
from neardup.images import MAX_PIXELS
from neardup.measure.evaluate import Evaluation, evaluate
from neardup.measure.promotion import Verdict, judge
from neardup.stages import digest_of, write_json
from tasks.running import RETRY, outside_fault
from tasks.tracking import Tracking, reachable, ready_model

MODEL = "near-duplicates"
CHAMPION, CHALLENGER = "champion", "challenger"
_DESCRIPTION = (
    "Encoders of press photographs with their calibrated threshold. `champion` is the one in use, "
    "`challenger` the newest that may take its place."
)


def register(tracking: Tracking, run_id: str, approach: Approach) -> ModelVersion:
    """Make an approach's logged model a version; the same weights measured on the same test set are one version.

    Raises:
        TrackingError: the server cannot be reached.
    """
    facts = json.loads((approach.folder / "metrics.json").read_text(encoding="utf-8"))
    figures = {name: round(f["value"], 6) for name, f in facts["metrics"].items() if f["value"] is not None}
    tags = {
        "approach": approach.name,
        "ndcg": str(figures.get("ndcg", "none")),
        "metrics": json.dumps(figures),
        "fingerprint": facts["fingerprint"],
        "base": approach.base,
        "threshold": "none" if facts["threshold"] is None else str(facts["threshold"]),
        "test_set": TestSet.load(approach.out).digest,
        "training_set": table_digest(approach.out, "training_set.csv"),
    }
    with reachable(tracking.uri):
        _ensure_model(tracking.client)
        same = _versions(tracking.client, fingerprint=tags["fingerprint"], test_set=tags["test_set"])
        if same:
            return same[-1]
        model = ready_model(tracking.client, run_id)
        assert model is not None, "a model is logged before it is registered"  # noqa: S101 - our own mistake only
        tags["measured"] = _now()
        return tracking.client.create_model_version(MODEL, model.model_uri, run_id, tags, model_id=model.model_id)


def nominate(tracking: Tracking, versions: Mapping[str, ModelVersion]) -> None:
    """Name the best fine-tuned version of an experiment `challenger`; the first champion is zero-shot.

    Args:
        tracking: where the registry is.
        versions: approach → its version.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client = tracking.client
        if _aliased(client, CHAMPION) is None:
            first = versions["zero-shot"].version
            client.set_registered_model_alias(MODEL, CHAMPION, first)
            _record(client, first, "first", "The first champion is the encoder as it came, without fine-tuning.")
        trained = [version for name, version in versions.items() if name != "zero-shot"]
        if trained:
            best = max(trained, key=lambda version: json.loads(version.tags["metrics"]).get("ndcg", 0.0))
            client.set_registered_model_alias(MODEL, CHALLENGER, best.version)


@dataclass(frozen=True)
class Bout:
    """A challenger against the champion, with the zero-shot encoder that the challenger was trained from."""

    challenger: ModelVersion
    champion: ModelVersion
    zero_shot: ModelVersion


def find_bout(tracking: Tracking, out: Path, version: str | None = None) -> Bout | None:
    """The versions to compare on the test set of a folder; None where the challenger is the champion already.

    Args:
        tracking: where the registry is.
        out: the output folder.
        version: the challenger's; by default the one with that alias.

    Raises:
        PromotionError: there is no challenger, or they were measured on another test set.
        TrackingError: the server cannot be reached.
    """
    test_set = TestSet.load(out).digest
    with reachable(tracking.uri):
        client = tracking.client
        challenger = _version(client, version) if version else _aliased(client, CHALLENGER)
        champion = _aliased(client, CHAMPION)
        if challenger is None or champion is None:
            raise PromotionError(f"{tracking.uri} holds no challenger for {MODEL}: run `neardup experiment` first")
        if challenger.version == champion.version:
            return None
        zero_shot = _versions(client, fingerprint=challenger.tags["base"], test_set=test_set)
        for name, found in ((CHALLENGER, challenger), (CHAMPION, champion)):
            _require(name, found, test_set, out)
        if not zero_shot:
            raise PromotionError(f"zero-shot was not measured on the test set of {out}: run `neardup experiment` first")
        return Bout(challenger, champion, zero_shot[-1])


def _require(name: str, version: ModelVersion, test_set: str, out: Path) -> None:
    """Models are compared on the one test set that both were kept apart from in training."""
    if version.tags["test_set"] != test_set:
        raise PromotionError(
            f"the {name} (version {version.version} of {MODEL}) was measured on the test set "
            f"{version.tags['test_set'][:12]}, {out} holds {test_set[:12]}: it may have been trained on photos of this "
            "one, so they are not compared; run `neardup experiment` on this archive, and put a version of it in "
            "place with `neardup rollback --to VERSION` if the champion is out of date"
        )


@task(name="measure", cache_policy=NO_CACHE, retry_condition_fn=outside_fault, **RETRY)
def measure(
    tracking: Tracking, version: ModelVersion, out: Path, device: str, max_pixels: int = MAX_PIXELS
) -> Evaluation:
    """Evaluate a version on the test set of a folder; photos that its encoder has seen are not encoded again."""
    encoder = load_encoder(tracking.encoder(f"models:/{MODEL}/{version.version}"), device)
    test_set = TestSet.load(out)
    vectors = embed_test_set(out, test_set, encoder, max_pixels).vectors
    names = [photo.name for photo in test_set.photos]
    return evaluate(vectors, test_set.groups, names, approach=version.tags["approach"], fingerprint=encoder.fingerprint)


def decide(bout: Bout, evaluations: Mapping[str, Evaluation], metric: str, margin: float) -> Verdict:
    """`neardup.measure.promotion.judge` on the evaluations by version number; its paragraph names the versions."""
    verdict = judge(
        evaluations[bout.challenger.version],
        evaluations[bout.champion.version],
        evaluations[bout.zero_shot.version],
        metric=metric,
        margin=margin,
    )
    names = f"Challenger: version {bout.challenger.version}; champion: version {bout.champion.version}."
    return replace(verdict, paragraph=f"{names} {verdict.paragraph}")


@task(name="crown", cache_policy=NO_CACHE, retry_condition_fn=outside_fault, **RETRY)
def crown(tracking: Tracking, bout: Bout, verdict: Verdict) -> None:
    """Move `champion` if the verdict says so, and record the verdict either way.

    Raises:
        PromotionError: another champion was named meanwhile.
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client, challenger = tracking.client, bout.challenger.version
        reigning = _aliased(client, CHAMPION)
        if reigning is not None and reigning.version not in {bout.champion.version, challenger}:
            raise PromotionError(f"version {reigning.version} became champion meanwhile: run `neardup promote` again")
        if verdict.promoted and reigning is not None and reigning.version != challenger:
            client.set_model_version_tag(MODEL, challenger, "former_champion", bout.champion.version)
            client.set_registered_model_alias(MODEL, CHAMPION, challenger)
        _record(client, challenger, "promoted" if verdict.promoted else "refused", verdict.paragraph)
    create_markdown_artifact(
        verdict.paragraph, key="promotion", description="Whether the challenger was promoted, and why"
    )


def rollback(tracking: Tracking, to: str | None = None) -> str:
    """Put the former champion back, or a version that is named.

    Returns:
        What was done, in a sentence.

    Raises:
        PromotionError: there is no champion, no former one, or no such version.
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client = tracking.client
        champion = _aliased(client, CHAMPION)
        if champion is None:
            raise PromotionError(f"{tracking.uri} holds no champion of {MODEL}: run `neardup experiment` first")
        former = to or champion.tags.get("former_champion")
        if former is None:
            raise PromotionError(
                f"version {champion.version} is the first champion: name another one with --to VERSION"
            )
        target = _version(client, former)
        if target.version == champion.version:
            raise PromotionError(
                f"version {champion.version} of {MODEL} is the champion already: there is nothing to do"
            )
        sentence = f"Rolled back: version {target.version} is champion again in place of version {champion.version}."
        if to:
            client.set_model_version_tag(MODEL, target.version, "former_champion", champion.version)
        client.set_registered_model_alias(MODEL, CHAMPION, target.version)
        _record(client, champion.version, "rolled back", sentence)
        _record(client, target.version, "champion", sentence)
        return sentence


def _record(client: MlflowClient, version: str, verdict: str, paragraph: str) -> None:
    """Put a dated paragraph on top of the version's description, and the verdict in its tags."""
    before = client.get_model_version(MODEL, version).description or ""
    text = f"{_now()}: {paragraph}"
    client.update_model_version(MODEL, version, f"{text}\n\n{before}".strip()[:5000])
    client.set_model_version_tag(MODEL, version, "verdict", verdict)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _ensure_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(MODEL, description=_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliased(client: MlflowClient, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _version(client: MlflowClient, version: str) -> ModelVersion:
    try:
        return client.get_model_version(MODEL, version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise PromotionError(f"{MODEL} has no version {version}: see the models in the MLflow UI") from None
        raise


def _versions(client: MlflowClient, **tags: str) -> list[ModelVersion]:
    """The versions with these tags, the oldest first."""
    conditions = " and ".join([f"name = '{MODEL}'", *(f"tags.{key} = '{value}'" for key, value in tags.items())])
    return sorted(client.search_model_versions(conditions), key=lambda version: int(version.version))


def log_verdict(tracking: Tracking, bout: Bout, verdict: Verdict) -> dict[str, Any]:
    """Write the verdict to `promotion/verdict.json` and log it as a run.

    Returns:
        The verdict for machines.

    Raises:
        TrackingError: the server cannot be reached.
    """
    facts = {
        "promoted": verdict.promoted,
        "challenger": str(bout.challenger.version),
        "champion": str(bout.champion.version),
        "metric": verdict.metric,
        "gain": asdict(verdict.gain),
        "over_zero_shot": asdict(verdict.over_zero_shot),
        "why": verdict.paragraph,
    }
    write_json(tracking.out / "promotion" / "verdict.json", facts)
    figures = {
        "gain": verdict.gain.value,
        "gain low": verdict.gain.low,
        "gain high": verdict.gain.high,
        "gain over zero-shot": verdict.over_zero_shot.value,
    }
    defined = {name: value for name, value in figures.items() if value is not None}
    tracking.log_folder("promote", digest_of(facts), defined, tracking.out / "promotion")
    return facts
