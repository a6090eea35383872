"""The registry: versions of the model `near-duplicates`, the alias `champion` of the one in use, and `challenger`.

Promotions and rollbacks are recorded in the version's description and tags.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from neardup.approach import Approach, table_digest
from neardup.archive.testset import TestSet
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import embed_test_set
from neardup.errors import PromotionError
from neardup.measure.evaluate import Evaluation, evaluate
from neardup.measure.promotion import Promotion, decide_promotion
from neardup.settings.schema import Settings
from tasks.addresses import reachable
from tasks.running import RETRY
from tasks.runs import decided, ready_model, verified_values
from tasks.tracking import Tracking

MODEL = "near-duplicates"
"""Name of the registered model."""
CHAMPION = "champion"
"""Alias of the version in use."""
CHALLENGER = "challenger"
"""Alias of the newest version that may take the champion's place."""
ROLLED_BACK = "rolled back"
"""Tag `verdict` of a version that a person took out of use: only a person who names it puts it in place again."""
DESCRIPTION_LENGTH = 5000
"""Most characters of a version's description that MLflow's registry accepts; the newest are kept."""
_DESCRIPTION = (
    "Encoders of press photographs with their calibrated threshold. `champion` is the one in use, "
    "`challenger` the newest that may take its place."
)
"""What the registered model's page says of it."""


def register(tracking: Tracking, run_id: str, approach: Approach) -> ModelVersion:
    """Make an approach's logged model a version; the same weights, test set and decision are one version.

    What was measured of a version that is there already is written anew. Where the champion has the same weights, the
    version takes its place: with another decision, or, if nothing was trained, on another test set.

    Raises:
        TrackingError: the server cannot be reached.
    """
    facts = json.loads((approach.folder / "metrics.json").read_text(encoding="utf-8"))
    figures = {name: round(f["value"], 6) for name, f in facts["metrics"].items() if f["value"] is not None}
    decision = decided(approach)
    tags = {
        "approach": approach.name,
        "ndcg": str(figures.get("ndcg", "none")),
        "metrics": json.dumps(figures),
        "fingerprint": facts["fingerprint"],
        "base": approach.base,
        "threshold": "none" if facts["threshold"] is None else str(facts["threshold"]),
        "test_set": TestSet.load(approach.out).digest,
        "training_set": table_digest(approach.out, "training_set.csv"),
        **decision,
    }
    if verified := verified_values(approach):
        tags["verified"] = json.dumps({name: round(value, 6) for name, value in verified.items()})
    with reachable(tracking.uri):
        client = tracking.client
        _ensure_model(client)
        champion = _aliased(client, CHAMPION)
        same = _versions(client, fingerprint=tags["fingerprint"], test_set=tags["test_set"], **decision)
        if champion is not None and champion.version in {version.version for version in same}:
            same = [champion]
        if same:
            version = same[-1]
            _measured_anew(client, version, tags)
        else:
            model = ready_model(client, run_id)
            assert model is not None, "a model is logged before it is registered"  # noqa: S101 - our own mistake only
            tags["measured"] = _now()
            version = client.create_model_version(MODEL, model.model_uri, run_id, tags, model_id=model.model_id)
        if champion is not None and _succeeds(version, champion):
            _succeed(client, champion, version)
        return version


def _measured_anew(client: MlflowClient, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Write what was measured of a version that is registered already, as with other distractors, and when."""
    figures = {name: tags[name] for name in ("ndcg", "metrics", "verified") if name in tags}
    if figures.items() <= version.tags.items():
        return
    for name, value in (figures | {"measured": _now()}).items():
        client.set_model_version_tag(MODEL, version.version, name, value)


def _succeeds(version: ModelVersion, champion: ModelVersion) -> bool:
    """Whether a version is the champion's weights with another decision or, if untrained, on another test set.

    What was trained may know the photos of another test set. A version that was rolled back stays back.
    """
    if version.version == champion.version or version.tags.get("verdict") == ROLLED_BACK:
        return False
    tags = champion.tags
    untrained = tags.get("approach") == "zero-shot" or tags.get("fingerprint") == tags.get("base")
    same = ["fingerprint"] if untrained else ["fingerprint", "test_set"]
    return all(version.tags[name] == tags.get(name) for name in same)


def _succeed(client: MlflowClient, champion: ModelVersion, new: ModelVersion) -> None:
    """Make a version champion that has the champion's weights; what it is rolled back to stays."""
    if former := champion.tags.get("former_champion"):
        client.set_model_version_tag(MODEL, new.version, "former_champion", former)
    client.set_registered_model_alias(MODEL, CHAMPION, new.version)
    other = "decision" if new.tags["test_set"] == champion.tags["test_set"] else "test set"
    _record(client, new.version, "champion", f"The weights of version {champion.version} with another {other}.")


def nominate(
    tracking: Tracking, versions: Mapping[str, ModelVersion], gains: Mapping[str, tuple[float, float]]
) -> None:
    """Name the fine-tuned version of an experiment that gained most on its validation photos `challenger`.

    The test set does not count for the choice, because the challenger is judged on it. The first champion is zero-shot.
    A version that was rolled back is passed over.

    Args:
        tracking: where the registry is.
        versions: approach → its version.
        gains: approach → what its nDCG and µAP on the validation photos are above those of the untrained encoder.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client = tracking.client
        if _aliased(client, CHAMPION) is None:
            first = versions["zero-shot"].version
            client.set_registered_model_alias(MODEL, CHAMPION, first)
            _record(client, first, "first", "The first champion is the encoder as it came, without fine-tuning.")
        back = {version.version for version in _versions(client, verdict=ROLLED_BACK)}
        trained = [name for name in versions if name != "zero-shot" and versions[name].version not in back]
        if trained:
            best = max(trained, key=lambda name: gains[name])
            client.set_registered_model_alias(MODEL, CHALLENGER, versions[best].version)


@dataclass(frozen=True)
class Candidates:
    """A challenger against the champion, with the zero-shot encoder that the challenger was trained from."""

    challenger: ModelVersion
    champion: ModelVersion
    zero_shot: ModelVersion


@task(name="find candidates", cache_policy=NO_CACHE, **RETRY)
def find_candidates(tracking: Tracking, out: Path, version: str | None = None) -> Candidates | str:
    """The versions to compare on the test set of a folder; where there is nothing to compare, the sentence on why.

    Nothing is where no version was trained, as of an ONNX file, or the challenger is the champion already, or was
    rolled back and is not named.

    Args:
        tracking: where the registry is.
        out: the output folder.
        version: the challenger's; by default the one with that alias.

    Raises:
        PromotionError: there is no champion, or they were measured on another test set.
        TrackingError: the server cannot be reached.
    """
    test_set = TestSet.load(out).digest
    with reachable(tracking.uri):
        client = tracking.client
        challenger = _version(client, version) if version else _aliased(client, CHALLENGER)
        champion = _aliased(client, CHAMPION)
        back = [] if version else _versions(client, verdict=ROLLED_BACK)
        if champion and back and (challenger is None or challenger.version in {each.version for each in back}):
            number = (challenger or back[-1]).version
            return (
                f"Version {number} was rolled back, and no challenger is newer: there is nothing to do. "
                f"`neardup promote --version {number}` judges it once more."
            )
        if champion is None:
            raise PromotionError(f"{tracking.shown} holds no champion of {MODEL}: run `neardup experiment` first")
        if challenger is None:
            return (
                f"Version {champion.version} is the champion, and no trained version challenges it: there is "
                "nothing to do. `neardup promote --version NUMBER` judges any version."
            )
        if challenger.version == champion.version:
            return "The challenger is the champion already: there is nothing to do."
        for found in (challenger, champion):
            if not {"base", "test_set", "approach"} <= found.tags.keys():
                raise PromotionError(
                    f"version {found.version} of {MODEL} was not made by an experiment of neardup: name one that was"
                )
        base = challenger.tags["base"]  # the fingerprint of zero-shot, too, unless similarities are normalised
        zero_shot = _versions(client, fingerprint=base, test_set=test_set)
        zero_shot += _versions(client, approach="zero-shot", base=base, test_set=test_set)
        for name, found in ((CHALLENGER, challenger), (CHAMPION, champion)):
            _require(name, found, test_set, out)
        if not zero_shot:
            raise PromotionError(f"zero-shot was not measured on the test set of {out}: run `neardup experiment` first")
        return Candidates(challenger, champion, zero_shot[-1])


def _require(name: str, version: ModelVersion, test_set: str, out: Path) -> None:
    """Refuse to compare a version that was measured on another test set: it may have been trained on photos of this.

    Raises:
        PromotionError: it was measured on another test set.
    """
    if version.tags["test_set"] != test_set:
        raise PromotionError(
            f"the {name} (version {version.version} of {MODEL}) was measured on the test set "
            f"{version.tags['test_set'][:12]}, {out} holds {test_set[:12]}: it may have been trained on photos of this "
            "one, so they are not compared; run `neardup experiment` on this archive, and put a version of it in "
            "place with `neardup rollback --to VERSION` if the champion is out of date"
        )


@task(name="measure", cache_policy=NO_CACHE, **RETRY)
def measure(tracking: Tracking, version: ModelVersion, out: Path, settings: Settings) -> Evaluation:
    """Evaluate a version on the test set of a folder; photos that its encoder has seen are not encoded again."""
    encoder = load_encoder(tracking.encoder(f"models:/{MODEL}/{version.version}"), settings.device)
    test_set = TestSet.load(out)
    limit, store = settings.prepare.max_pixels, settings.cluster.store
    vectors = embed_test_set(out, test_set, encoder, limit, store).vectors
    names = [photo.name for photo in test_set.photos]
    return evaluate(vectors, test_set.groups, names, approach=version.tags["approach"], fingerprint=encoder.fingerprint)


def decide(candidates: Candidates, evaluations: Mapping[str, Evaluation], metric: str, margin: float) -> Promotion:
    """Whether the challenger is promoted; the paragraph names the versions.

    Args:
        candidates: the versions.
        evaluations: version number → its evaluation; all are of one test set.
        metric: what must gain.
        margin: least gain; 0.005 is half a point.
    """
    promotion = decide_promotion(
        evaluations[candidates.challenger.version],
        evaluations[candidates.champion.version],
        evaluations[candidates.zero_shot.version],
        metric=metric,
        margin=margin,
    )
    names = f"Challenger: version {candidates.challenger.version}; champion: version {candidates.champion.version}."
    return replace(promotion, paragraph=f"{names} {promotion.paragraph}")


@task(name="promote", cache_policy=NO_CACHE, **RETRY)
def promote(tracking: Tracking, candidates: Candidates, promotion: Promotion) -> None:
    """Move the alias `champion` if the challenger is promoted, and record the outcome either way.

    Raises:
        PromotionError: another champion was named meanwhile.
        TrackingError: the server cannot be reached.
    """
    with reachable(tracking.uri):
        client, challenger = tracking.client, candidates.challenger.version
        current = _aliased(client, CHAMPION)
        if current is not None and current.version not in {candidates.champion.version, challenger}:
            raise PromotionError(f"version {current.version} became champion meanwhile: run `neardup promote` again")
        if promotion.promoted and current is not None and current.version != challenger:
            client.set_model_version_tag(MODEL, challenger, "former_champion", candidates.champion.version)
            client.set_registered_model_alias(MODEL, CHAMPION, challenger)
        _record(client, challenger, "promoted" if promotion.promoted else "refused", promotion.paragraph)
    create_markdown_artifact(
        promotion.paragraph, key="promotion", description="Whether the challenger was promoted, and why"
    )


def rollback(tracking: Tracking, to: str | None = None) -> str:
    """Put the former champion back, or a version that is named; the one that was champion is no challenger any more.

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
            raise PromotionError(f"{tracking.shown} holds no champion of {MODEL}: run `neardup experiment` first")
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
        sentence = f"Rolled back: version {target.version} is champion in place of version {champion.version}."
        if to:
            client.set_model_version_tag(MODEL, target.version, "former_champion", champion.version)
        challenger = _aliased(client, CHALLENGER)
        if challenger is not None and challenger.version == champion.version:
            client.delete_registered_model_alias(MODEL, CHALLENGER)
        _record(client, champion.version, ROLLED_BACK, sentence)
        _record(client, target.version, "champion", sentence)
        # Last, so that the same command, given again after the server went away, does the same.
        client.set_registered_model_alias(MODEL, CHAMPION, target.version)
        return sentence


def _record(client: MlflowClient, version: str, outcome: str, paragraph: str) -> None:
    """Put a dated paragraph on top of the version's description, and the outcome in its tag `verdict`."""
    before = client.get_model_version(MODEL, version).description or ""
    text = f"{_now()}: {paragraph}\n\n{before}".strip()
    if not before.partition("\n")[0].endswith(f": {paragraph}"):  # as where a command is given again
        client.update_model_version(MODEL, version, text[:DESCRIPTION_LENGTH])
    client.set_model_version_tag(MODEL, version, "verdict", outcome)


def _now() -> str:
    """Date and time as the description of a version shows them."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _ensure_model(client: MlflowClient) -> None:
    """Make the registered model if there is none."""
    try:
        client.create_registered_model(MODEL, description=_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliased(client: MlflowClient, alias: str) -> ModelVersion | None:
    """The version that has an alias, or None."""
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _version(client: MlflowClient, version: str) -> ModelVersion:
    """A version of the registered model, by its number.

    Raises:
        PromotionError: there is none.
    """
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
