"""Every error that a user can cause or must act on.

NeardupError                 one sentence: what, where, what to do
├── ConfigError              neardup.toml or a parameter is wrong
├── ArchiveError             the archive, a sheet or a folder cannot be used as a whole
├── UnreadableImageError     one file is not an image that can be decoded
├── EncoderError             a model is missing or of no known kind, or vectors of two encoders were mixed
│   └── NoSuchModelError     the registry knows no model, version or alias of that name
├── TranslationError         no key, a wrong key, the service refuses
│   └── QuotaError           the quota is used up; what came back is kept
├── TrainingError            nothing to train on, a photo is gone
│   └── DivergedError        the loss is not finite, or the embeddings collapsed
├── PromotionError           models cannot be compared, or there is none to put in place
├── VerdictError             a verdict, its database or a workbook of verdicts cannot be taken as it is
│   └── StorageError         the database of verdicts cannot be used for the moment, or the photos' disk is away
└── ServerError              a server that the user configured cannot be reached
    └── TrackingError        MLflow's: results are on disk and are logged later
"""

import os
import re
from collections.abc import Mapping
from types import MappingProxyType


class NeardupError(Exception):
    """A fault that the user can fix; its text is one sentence meant for them."""


class ConfigError(NeardupError):
    """A setting is unknown, missing or out of its bounds."""


class ArchiveError(NeardupError):
    """The archive, a workbook or a folder cannot be used as a whole."""


class UnreadableImageError(NeardupError):
    """One file cannot be decoded as an image."""


class EncoderError(NeardupError):
    """A model cannot be loaded, or vectors of two encoders were about to be compared."""


class NoSuchModelError(EncoderError):
    """The registry knows no model, version or alias of that name."""


class TranslationError(NeardupError):
    """The translator cannot work: no key, a wrong key, a service that refuses."""


class QuotaError(TranslationError):
    """The translator's quota is used up; everything that came back has been kept."""


class TrainingError(NeardupError):
    """Training cannot start or cannot go on; the best checkpoint, if any, is kept."""


class DivergedError(TrainingError):
    """Training failed: the loss is not finite, or all embeddings have collapsed into one."""


class PromotionError(NeardupError):
    """Two models cannot be compared, or there is none to put in the champion's place."""


class VerdictError(NeardupError):
    """A verdict, the database of verdicts or a workbook of them cannot be taken as it is."""


class StorageError(VerdictError):
    """The database of verdicts is locked, damaged, unreachable or full, or photos are away: try again later."""


class ServerError(NeardupError):
    """A server that the user configured cannot be reached."""


class TrackingError(ServerError):
    """The tracking server cannot be reached, or refuses; nothing is lost."""


def system_error(error: BaseException) -> OSError | None:
    """Find the operating system's error that an error is, wraps or mentions; None for any other.

    xlsxwriter wraps such errors, and libraries in Rust, such as safetensors, mention their number.

    >>> system_error(RuntimeError("I/O error: No space left on device (os error 28)"))
    OSError(28, 'No space left on device')
    """
    wrapped = next((each for each in (error, *error.args) if isinstance(each, OSError)), None)
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number and not wrapped else wrapped


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or arose while a library dealt with it; its context is followed to the first error.

    Prefect's engine, interrupted while it makes a task run, raises ValueError because there is no task run yet.

    >>> is_interrupt(KeyboardInterrupt()), is_interrupt(ValueError())
    (True, False)
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dask": ("distributed", "prefect-dask"),
        "index": ("faiss-cpu",),
        "int8": ("onnx", "onnxscript"),
        "postgres": ("psycopg[binary]",),
        "s3": ("s3fs",),
    }
)
"""Optional dependencies: name of the extra in `pyproject.toml` → packages.

neardup itself is not on a package index, so that `pip install neardup[extra]` would not work.
"""


def install_hint(extra: str) -> str:
    """Say how to install the packages of an extra, as the end of an error's sentence.

    >>> install_hint("index")
    'run `make install` in a checkout, or `pip install faiss-cpu`'
    """
    return f"run `make install` in a checkout, or `pip install {' '.join(EXTRAS[extra])}`"
