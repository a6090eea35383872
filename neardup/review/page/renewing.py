"""What takes up the results of another run of `duplicates` while the review page is open."""

import threading
from collections.abc import Callable
from contextlib import suppress

from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from neardup.errors import NeardupError
from neardup.review.page.desk import Desk


class Renewing:
    """Has each request answered by an application over the results that lie in the folder then."""

    def __init__(self, desk: Desk, application: Callable[[Desk], ASGIApp]) -> None:
        """Begin with the results that are open.

        Args:
            desk: what the application works with.
            application: makes the one of a desk.
        """
        self._desk, self._application, self._app = desk, application, application(desk)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and self._desk.results.outdated:
            await run_in_threadpool(self._renew)
        await self._app(scope, receive, send)

    def _renew(self) -> None:
        """Open the results anew, once for all who ask meanwhile; while they are no good, the former ones are shown."""
        with self._lock, suppress(NeardupError):
            if self._desk.results.outdated:
                desk, former = self._desk.renewed(), self._desk
                self._desk, self._app = desk, self._application(desk)
                former.pictures.close()
