"""Whom the review page answers, request by request, without a server."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from neardup.review.page.security import COOKIE, HEADERS, LARGEST_BODY, Guard, is_loopback, names_of, new_token
from neardup.review.texts import language_of

OWN = {
    "host": "127.0.0.1:8000",
    "origin": "http://127.0.0.1:8000",
    "content-type": "application/json",
    "content-length": "2",
}
"""What a page of ours sends."""


def answer(
    method: str = "GET", path: str = "/review", query: str = "", token: str = "", **headers: str
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to one request."""
    sent: list[MutableMapping[str, Any]] = []
    named = {"host": OWN["host"], **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    guard = Guard(PlainTextResponse("let in"), names_of("127.0.0.1", 8000), token)
    asyncio.run(guard(scope, receive, send))
    return int(sent[0]["status"]), {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def posted(token: str = "", **changed: str | None) -> int:
    """Status of what a page of ours posts, with some headers changed; None leaves one out."""
    headers = {**OWN, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return answer("POST", token=token, **{name: value for name, value in headers.items() if value is not None})[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("LOCALHOST:8000", 200),
        ("[::1]", 200),
        ("127.0.0.1:8001", 421),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_a_request_names_this_server(host: str, status: int) -> None:
    """A name that somebody bound to this address is none of its own."""
    assert answer(host=host)[0] == status


def test_only_pages_of_ours_may_change_anything() -> None:
    """By where they come from, by what no form can send, and by a size that is said and bounded."""
    assert posted() == 200
    assert posted(origin="HTTP://127.0.0.1:8000") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8001", "", None):
        assert posted(origin=origin) == 403
    assert posted(sec_fetch_site="same-origin") == 200
    assert posted(sec_fetch_site="cross-site") == 403
    assert posted(sec_fetch_site="same-site") == 403
    assert posted(content_type="application/octet-stream") == 200
    assert posted(content_type="application/json; charset=utf-8") == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert posted(content_type=kind) == 415
    assert posted(content_length=str(LARGEST_BODY)) == 200
    assert posted(content_length=str(LARGEST_BODY + 1)) == 413
    for length in ("-1", "many", None):
        assert posted(content_length=length) == 411


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_and_posting_is_answered(method: str) -> None:
    """HEAD is reading."""
    assert answer(method)[0] == 405
    assert answer("HEAD")[0] == 200


def test_who_has_no_token_is_refused_and_who_has_it_gets_a_cookie() -> None:
    """The address with the token leads to the one without it; later requests show the cookie, to post as well."""
    token = new_token()
    assert answer(token=token)[0] == 403
    assert answer(token=token, query="token=another")[0] == 403
    assert answer(token=token, query="token=")[0] == 403
    assert answer("POST", token=token, query=f"token={token}", **{**OWN, "host": OWN["host"]})[0] == 403
    status, headers = answer(token=token, path="/group/1", query=f"page=2&token={token}")
    assert (status, headers["location"]) == (303, "/group/1?page=2")
    cookie = headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={token};")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert answer(token=token, cookie=f"{COOKIE}={token}")[0] == 200
    assert answer(token=token, cookie=f"{COOKIE}={token[:-1]}")[0] == 403
    assert answer(token=token, cookie="another=1")[0] == 403
    assert posted(token, cookie=f"{COOKIE}={token}") == 200
    assert posted(token) == 403
    assert posted(token, cookie=f"{COOKIE}={token}", origin="http://evil.example") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "evil.example"])
def test_every_answer_says_what_may_be_loaded(host: str) -> None:
    """Refusals too; nothing is kept by a cache on the way."""
    _, headers = answer(host=host)
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= headers.items()
    assert headers["cache-control"] == "no-store"
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is served
        ("192.168.0.7", False),
        ("archive", False),
    ],
)
def test_only_this_machines_own_interface_needs_no_token(host: str, own: bool) -> None:  # noqa: FBT001 - expected
    """All interfaces at once are not its own."""
    assert is_loopback(host) == own


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("en,fr", "en"),
        ("fr,en", "fr"),
        ("de,fr;q=0.3,en;q=0.2", "fr"),
        ("fr;q=0,en;q=0.1", "en"),
        ("fr;q=x,en", "en"),
        ("", "en"),
        ("de", "en"),
    ],
)
def test_the_language_is_the_one_that_is_liked_best(accepted: str, language: str) -> None:
    """Of equally liked ones the first; English for whoever wants none that there is."""
    assert language_of(accepted) == language
