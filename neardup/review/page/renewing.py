"""Reopening of the results when another run of `duplicates` has replaced them while the review page is open."""

import threading
from collections.abc import Callable
from contextlib import suppress

from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from neardup.errors import NeardupError
from neardup.review.page.desk import Desk


class Renewing:
    """An ASGI application that answers each request from the results that lie in the folder at that moment."""

    def __init__(self, desk: Desk, application: Callable[[Desk], ASGIApp]) -> None:
        """Begin with the results that are open.

        Args:
            desk: the open results, as the application works with them.
            application: function that makes the application of a desk.
        """
        self._desk, self._application, self._app = desk, application, application(desk)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and self._desk.results.outdated:
            await run_in_threadpool(self._renew)
        await self._app(scope, receive, send)
        if scope["type"] == "lifespan":
            self._desk.pictures.close()

    def _renew(self) -> None:
        """Reopen the results once for all waiting requests; while they cannot be read, the former ones are shown."""
        with self._lock, suppress(NeardupError):
            if self._desk.results.outdated:
                desk, former = self._desk.renewed(), self._desk
                self._desk, self._app = desk, self._application(desk)
                former.pictures.close()
