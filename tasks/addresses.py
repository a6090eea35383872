"""Addresses of the servers of `neardup up`, the hosts that may be asked for, and addresses without passwords.

Prefect is imported only where its server runs: importing it makes a folder in the user's home.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neardup.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_HOSTS = "NEARDUP_PREFECT_HOSTS"
"""Variable that tells Prefect's server by which host names it may be asked, separated by commas."""
_LOOPBACK = ("127.0.0.1", "localhost")
"""Names by which only programs of this machine reach a server."""
_USER = re.compile(r"(?<=://)(?:[^/\s'\"]*|[^/\s'\"@:]*:(?!\d+/)[^\s@]*)@")
"""User and password of an address: the text between `://` and the last `@` before the host.

SQLAlchemy accepts passwords with slashes, as long as no port follows the slash, and with quotation marks.
"""
_SECRET = re.compile(
    r"(?i)([?&](?:[\w-]*(?:password|passphrase|token|secret|key|signature|credential)|passwd|pwd|sig)=)[^&\s'\"]*"
)
"""A parameter of an address that holds a password, with its value."""


def without_credentials(text: str) -> str:
    """Remove users and passwords from the addresses in a text, for logs, errors, artifacts and tags."""
    return _SECRET.sub(r"\1…", _USER.sub("", text))


def address_without_credentials(uri: str) -> str:
    """Remove user and password from a text that is an address, whatever characters its password holds.

    Where a path with an `@` cannot be told from a password with a slash, the path is left out too.
    """
    scheme, mark, rest = uri.partition("://")
    credentials, _, host = rest.partition("?")[0].rpartition("@")
    if ":" in credentials and not rest.startswith("/"):
        rest = host + rest[len(credentials) + 1 + len(host) :]
    return without_credentials(f"{scheme}{mark}{rest}")


@dataclass(frozen=True)
class Addresses:
    """Where the servers of `neardup up` listen, and by which host names they may be asked.

    Attributes:
        host: Interface to listen on.
        mlflow_port: MLflow's port.
        prefect_port: Prefect's port.
        names: Host names that browsers and clients use, beside this machine's own.
    """

    host: str = "127.0.0.1"
    mlflow_port: int = 5000
    prefect_port: int = 4200
    names: tuple[str, ...] = ()

    @property
    def mlflow(self) -> str:
        """MLflow's address as this machine sees it."""
        return f"http://{self._near}:{self.mlflow_port}"

    @property
    def prefect(self) -> str:
        """Prefect's address as this machine sees it."""
        return f"http://{self._near}:{self.prefect_port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that a request may name."""
        return tuple(dict.fromkeys((*_LOOPBACK, self._near, *self.names)))

    @property
    def guarded(self) -> bool:
        """Whether Prefect asks for a password."""
        return bool(os.environ.get("PREFECT_SERVER_API_AUTH_STRING"))

    @property
    def _near(self) -> str:
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared, not bound

    def check(self) -> None:
        """Raise an error if the servers would be open to others without protection.

        Raises:
            ConfigError: no name to be asked by, or no password for Prefect, whose users can run any code.
        """
        if self.host in _LOOPBACK:
            return
        opened = f"--host {self.host} opens the servers to others"
        if not self.names:
            raise ConfigError(f"{opened}: say with --allow-host by which name they are asked for")
        if not self.guarded:
            raise ConfigError(f"{opened}: set PREFECT_SERVER_API_AUTH_STRING=user:password, which all must know then")


def _origins(at: Addresses, port: int) -> str:
    near = [f"http://{host}:{port}" for host in at.hosts]
    return ",".join([*near, *(f"https://{name}" for name in at.names)])


def mlflow_settings(at: Addresses) -> dict[str, str]:
    """What MLflow's server gets: the hosts and origins that may ask it."""
    hosts = [pattern for host in at.hosts for pattern in (host, f"{host}:*")]
    return {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": _origins(at, at.mlflow_port),
    }


def prefect_settings(at: Addresses) -> dict[str, str]:
    """What Prefect's server gets: where it listens, and the hosts and origins that may ask it."""
    return {
        _HOSTS: ",".join(at.hosts),
        "PREFECT_SERVER_API_HOST": at.host,
        "PREFECT_SERVER_API_PORT": str(at.prefect_port),
        # By default, Prefect accepts requests from any web page that is open in a browser on this machine.
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(at, at.prefect_port),
        **({"PREFECT_SERVER_UI_API_URL": f"http://{at.names[0]}:{at.prefect_port}/api"} if at.names else {}),
    }


def prefect_app() -> "ASGIApp":
    """Prefect's own server behind a check of the Host header, which it has no setting for; uvicorn calls this."""
    from prefect.server.api.server import create_app  # noqa: PLC0415 - here only, it takes seconds
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: PLC0415

    return TrustedHostMiddleware(create_app(final=True), os.environ.get(_HOSTS, ",".join(_LOOPBACK)).split(","))


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn what MLflow raises when its server is away into one sentence.

    Raises:
        TrackingError: the server at `uri` cannot be reached, or refuses.
        ConfigError: what it takes to reach it, such as a database's driver, is not installed.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds

    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MLflow at {address_without_credentials(uri)} needs a package that is not installed ({error.name}): "
            "install it, or name another address in MLFLOW_TRACKING_URI"
        ) from error
    except (MlflowException, OSError) as error:
        shown = address_without_credentials(uri)
        line = (str(error).replace(uri, shown).splitlines() or [type(error).__name__])[0]
        message = without_credentials(line)[:200]
        raise TrackingError(
            f"MLflow at {shown} does not answer, or refuses ({message}): results are on disk, "
            "run the same command again when it is back",
        ) from error
