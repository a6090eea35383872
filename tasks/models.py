"""Models of MLflow as encoders: a URI becomes a local folder."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from neardup.encode.onnx import PREPARATION
from neardup.errors import EncoderError, NoSuchModelError
from neardup.stages import digest_of
from tasks.addresses import address_without_credentials, reachable, without_credentials


def fetch_encoder(name: str, uri: str, cache: Path) -> str:
    """The local folder of the checkpoint that an MLflow model URI names.

    An alias or `latest` is resolved each time; the weights of a version are downloaded once.

    Args:
        name: as `models:/near-duplicates@champion` or `runs:/RUN/model`.
        uri: where the model is.
        cache: folder that keeps what was fetched.

    Raises:
        NoSuchModelError: the registry knows no such model.
        EncoderError: the model's files are gone, or neardup did not log it.
        TrackingError: the server cannot be reached.
    """
    mlflow.set_tracking_uri(uri)
    missing: type[EncoderError] = NoSuchModelError
    with reachable(uri):
        try:
            source, made = _source(MlflowClient(uri), name)
            folder = cache.resolve() / digest_of(uri, source, made)[:16]
            missing = EncoderError
            if not folder.is_dir():
                _fetch(source, folder)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
                raise
            raise missing(
                f"no model {name} at {address_without_credentials(uri)} ({without_credentials(error.message)}): "
                "see the models in the MLflow UI"
            ) from error
    # Beside an encoder, of whatever kind, lies its preparation; the code that MLflow keeps holds the shipped one.
    found = [path for path in sorted(folder.rglob(PREPARATION)) if "code" not in path.relative_to(folder).parts]
    if not found:
        raise EncoderError(f"the MLflow model {name} holds no checkpoint: name a model that neardup logged")
    return str(found[0].parent)


def _source(client: MlflowClient, name: str) -> tuple[str, list[object]]:
    """The version of a registered model that a URI stands for now, and what tells it from others of its number.

    A registry that was made anew, or a model that was deleted and registered again, counts from 1 again. Any other URI
    names one model for good and stays as it is.
    """
    model, at, alias = name.removeprefix("models:/").partition("@")
    if not at:
        model, _, number = model.partition("/")
    if not name.startswith("models:/") or not (at or number.isdecimal() or number == "latest"):
        return name, []
    if at:
        version = client.get_model_version_by_alias(model, alias)
    else:
        if number == "latest":
            number = str(max((int(v.version) for v in client.search_model_versions(f"name = '{model}'")), default=0))
        version = client.get_model_version(model, number)
    return f"models:/{model}/{version.version}", [version.source, version.run_id, version.creation_timestamp]


def _fetch(source: str, folder: Path) -> None:
    """Download a model atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as partial:
        model = Path(partial) / "model"
        model.mkdir()
        mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(model))
        model.rename(folder)
