"""The server of the review page as a command of its own, and requests to it without a browser."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from commands import Process, start
from servers import free_port

from neardup.review.record.verdicts import Verdict, open_verdicts

PATIENCE_S = 20
"""Seconds to wait for what must come, on a machine that is busy with other tests."""


@dataclass
class Desk:
    """A folder of results and the server that shows them.

    Attributes:
        out: the output folder.
        port: where the server listens.
        process: the server.
    """

    out: Path
    port: int
    process: Process

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts in force."""
        with open_verdicts(self.out) as kept:
            return kept.current()

    def wait_for(self, count: int) -> list[Verdict]:
        """The verdicts in force, once there are so many."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.verdicts) != count:
            assert time.monotonic() < deadline, f"{len(found)} verdicts, not {count}"
            time.sleep(0.05)
        return found

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """What the page is told by the server."""
        status, text = asked(self.address, f"{path}?{urlencode(query)}")
        assert status == 200, text
        return dict(json.loads(text))

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """What the server answers when the page sends something."""
        own = {"Origin": self.address, "Content_Type": "application/json"}
        status, text = asked(self.address, path, data=json.dumps(body).encode(), **own)
        assert status == 200, text
        return dict(json.loads(text))

    def again(self) -> None:
        """Start the server once more on the same port."""
        self.process = serve(self.out, self.port)


def serve(out: Path, port: int, *options: str) -> Process:
    """Start `neardup review` and wait until it listens."""
    process = start("review", "--out", out, "--port", str(port), "--who", "Ada", *options, cwd=out)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/static/review.css", timeout=5).close()
        except urllib.error.HTTPError:
            return process
        except OSError:
            assert process.poll() is None, process.said()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return process


@contextmanager
def opened(out: Path) -> Iterator[Desk]:
    """A server for some results, until the block ends."""
    port = free_port()
    desk = Desk(out, port, serve(out, port))
    try:
        yield desk
    finally:
        desk.process.kill()


def asked(address: str, path: str, *, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of a request with headers of one's own."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address + path, data=data, headers=named)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
