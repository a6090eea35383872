"""Access to the review page: for this machine or holders of the token, and not for other sites through their browsers.

A browser sends what any site tells it to, even to 127.0.0.1. The name by which the server is addressed (Host) must
therefore be its own, which stops DNS rebinding. Requests that change something must come from the server's own pages
(Origin) and have a type that no form can send. These pages load and run only local files.
"""

import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "neardup_token"
"""Name of the cookie that holds the token once the printed address was opened."""
LARGEST_BODY = 64 * 2**20
"""Bytes that may be sent at once: a scan of 8-bit RGB at 600 dpi of a postcard fits, as a JPEG of any photo does."""
JSON, UPLOAD = "application/json", "application/octet-stream"
"""The types of what may be sent; a form of another site can send neither without asking first."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every answer: nothing is loaded from elsewhere, no script or style stands in the page itself."""


def is_loopback(host: str) -> bool:
    """Whether an interface is this machine's own, that nobody else can reach.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Make an unguessable token of 256 random bits."""
    return secrets.token_urlsafe(32)


def names_of(host: str, port: int, others: tuple[str, ...] = ()) -> frozenset[str]:
    """List the allowed Host headers, in lower case, of a server on an interface and port.

    Args:
        host: the interface.
        port: the port.
        others: further names by which the server is asked.
    """
    own = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host, *others}
    return frozenset(name.lower() + end for name in own for end in ("", f":{port}"))


class Guard:
    """Stands before the application and lets through what may come through."""

    def __init__(self, app: ASGIApp, names: frozenset[str], token: str = "") -> None:
        """Guard an application.

        Args:
            app: what is guarded.
            names: what the Host header may be.
            token: that every request must show; nothing where only this machine can ask.
        """
        self._app, self._names, self._token = app, names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not come through; None where it may."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._names:
            return PlainTextResponse("this server has another name: see --allow-host of neardup review", 421)
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return PlainTextResponse("only GET and POST are answered", 405)
        if self._token and not self._shown(headers.get("cookie", "")):
            return self._entry(scope)
        if scope["method"] == "POST":
            return _bad_post(headers)
        return None

    def _shown(self, cookie: str) -> bool:
        """Whether a request's cookies hold the token."""
        try:
            morsel = SimpleCookie(cookie).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._token.encode())

    def _entry(self, scope: Scope) -> Response:
        """Set the cookie for a request of the printed address, and refuse others."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] != "GET" or not hmac.compare_digest(query.pop("token", "").encode(), self._token.encode()):
            return PlainTextResponse("open the address that `neardup review` printed: it ends with the token", 403)
        answer = RedirectResponse(scope["path"] + ("?" + urlencode(query) if query else ""), 303)
        answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", path="/")
        return answer


def _bad_post(headers: Headers) -> Response | None:
    """The answer to a request that would change something and does not come from a page of ours; None where it does."""
    origin, host = headers.get("origin", ""), headers["host"]
    if origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()}:
        return PlainTextResponse("this was not asked by a page of this server (Origin)", 403)
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return PlainTextResponse("this was not asked by a page of this server (Sec-Fetch-Site)", 403)
    if headers.get("content-type", "").split(";")[0].strip().lower() not in {JSON, UPLOAD}:
        return PlainTextResponse(f"send {JSON}", 415)
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return PlainTextResponse("say how long it is (Content-Length)", 411)
    if int(length) > LARGEST_BODY:
        return PlainTextResponse(f"the file is too large: at most {LARGEST_BODY // 2**20} MB can be sent", 413)
    return None
