"""The server of the review page: its pages, its pictures, and what they ask for; it listens where it is told to."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined

from neardup.errors import ArchiveError, NeardupError, UnreadableImageError
from neardup.review.api import add_api
from neardup.review.desk import Desk
from neardup.review.group import GROUPS_A_PAGE
from neardup.review.pictures import SIDES
from neardup.review.queues import AUDIT, CONTRADICTIONS, REVIEW, TRUTH
from neardup.review.security import Guard
from neardup.review.texts import KEYS, language_of, texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STATIC = Path(__file__).parent / "static"
"""Folder of the page's script and style."""
YEAR_S = 31_536_000
"""Seconds for which a browser may keep a picture: it is named by its content, which never changes."""
QUEUES = MappingProxyType({"review": REVIEW, "audit": AUDIT, "truth": TRUTH})
"""Address of the page of each queue whose pairs are put before a person one after the other."""
PLACES = ("review", "audit", "groups", "truth", "contradictions", "search")
"""Addresses of the pages between which a person goes, in this order."""
RELATIONS = ("same frame", "crop", "overlapping crops", "mirrored", "rotated", "screened", "retouched", "same scene")
"""What kinds of copy a person may choose from."""

Page = Callable[..., HTMLResponse]
"""Takes a request, the name of a template, the place among `PLACES` and further values; gives the page."""


def create_app(desk: Desk, names: frozenset[str], token: str = "") -> Guard:
    """The application, guarded.

    Args:
        desk: what it works with.
        names: what the Host header may be.
        token: that every request must show; nothing where only this machine can ask.
    """

    @asynccontextmanager
    async def living(_: FastAPI) -> "AsyncIterator[None]":
        yield
        desk.pictures.close()

    app = FastAPI(title="neardup review", docs_url=None, redoc_url=None, openapi_url=None, lifespan=living)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _answer_errors(app)
    _add_pictures(app, desk)
    page = _page(desk)
    _add_queues(app, desk, page)
    _add_groups(app, desk, page)
    add_api(app, desk)
    return Guard(app, names, token)


def _answer_errors(app: FastAPI) -> None:
    """Have every error of the user's answered by its one sentence."""

    @app.exception_handler(NeardupError)
    async def refused(_: Request, error: NeardupError) -> JSONResponse:
        status = 404 if isinstance(error, ArchiveError) else 422
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return JSONResponse({"error": f"the request is not as it should be ({faults})"}, 422)


def _add_pictures(app: FastAPI, desk: Desk) -> None:
    """Serve photos by their contents."""

    @app.get("/photo/{sha256}/{side}.jpg")
    def picture(sha256: str, side: int) -> Response:
        if side not in SIDES or len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):  # noqa: PLR2004
            raise ArchiveError("no photo of these results is known by that number")
        cached = {"Cache-Control": f"private, max-age={YEAR_S}, immutable"}
        # Read whole: another thread may put the same picture in its place while this one is sent.
        return Response(desk.pictures.jpeg(sha256, side).read_bytes(), headers=cached, media_type="image/jpeg")


def _page(desk: Desk) -> Page:
    """What fills in the templates."""
    environment = Environment(
        loader=PackageLoader("neardup"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )

    def page(request: Request, template: str, place: str, **values: Any) -> HTMLResponse:
        language = language_of(request.headers.get("accept-language", ""))
        words = texts(language)
        keys = [{"key": key.key, "action": key.action} for key in KEYS]
        setup: dict[str, Any] = {"keys": keys, "texts": dict(words), "who": desk.who, "relations": RELATIONS}
        setup |= {"place": place, "points": desk.points is not None, **values.pop("setup", {})}
        places = [name for name in PLACES if name != "truth" or desk.queues.truth]
        common = {"t": words, "language": language, "place": place, "places": places, "setup": setup, "keys": KEYS}
        html = environment.get_template(f"{template}.html.j2").render(**common, **values)
        return HTMLResponse(html, headers={"Vary": "Accept-Language"})

    return page


def _add_queues(app: FastAPI, desk: Desk, page: Page) -> None:
    """Serve the pages on which pairs are judged, and the search."""

    @app.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse("/review", 307)

    def add_queue(place: str, queue: str) -> None:
        @app.get(f"/{place}")
        def pairs(request: Request) -> HTMLResponse:
            return page(request, "review_pair", place, setup={"queue": queue})

    for place, queue in QUEUES.items():
        add_queue(place, queue)

    @app.get("/group/{number}/pairs")
    def group_pairs(request: Request, number: int) -> HTMLResponse:
        desk.groups.photos(number)
        return page(request, "review_pair", "groups", setup={"queue": "group", "group": number})

    @app.get("/pair/{photo}/{partner}")
    def one_pair(request: Request, photo: str, partner: str) -> HTMLResponse:
        candidate = desk.results.pair(photo, partner)
        pair = [candidate.photo.sha256, candidate.partner.sha256]
        return page(request, "review_pair", "", setup={"queue": "pair", "pair": pair})

    @app.get("/contradictions")
    def contradictions(request: Request) -> HTMLResponse:
        desk.queues.refresh()
        shown = []
        for found in desk.queues.answers.links.contradictions:
            pairs = {verdict.pair: None for verdict in found.verdicts}
            shown.append([_contradicting(desk, *pair) for pair in pairs])
        return page(request, "review_contradictions", CONTRADICTIONS, contradictions=shown)

    @app.get("/search")
    def search(request: Request) -> HTMLResponse:
        return page(request, "review_search", "search", words=desk.lookup.knows_words)


def _contradicting(desk: Desk, photo: str, partner: str) -> dict[str, Any]:
    """A pair that contradicts another one, or on which people disagree, as its page shows it."""
    photos = [desk.results.content(digest) for digest in (photo, partner)]
    said = desk.queues.answers.of(photo, partner)
    return {"pair": (photo, partner), "said": said, "names": [one.path if one else "" for one in photos]}


def _add_groups(app: FastAPI, desk: Desk, page: Page) -> None:
    """Serve the list of groups and the page of one."""

    @app.get("/groups")
    def groups(request: Request, start: int = 0, name: str = "") -> HTMLResponse:
        numbers = desk.groups.named(name) if name else desk.groups.order()
        begin = max(0, start)
        rows = [
            {"number": number, "size": len(desk.results.members(number)), "photos": desk.groups.pictures(number, 4)}
            for number in numbers[begin : begin + GROUPS_A_PAGE].tolist()
        ]
        after = begin + GROUPS_A_PAGE
        places = {"before": max(0, begin - GROUPS_A_PAGE) if begin else None}
        places["after"] = after if after < len(numbers) else None
        return page(request, "review_groups", "groups", rows=rows, total=len(numbers), name=name, **places)

    @app.get("/group/{number}")
    def group(request: Request, number: int, part: int = 0) -> HTMLResponse:
        desk.queues.refresh()
        try:
            found = desk.groups.group(number, max(0, part))
        except UnreadableImageError as error:
            raise ArchiveError(str(error)) from error
        setup = {"group": number, "reference": found.reference.sha256}
        return page(request, "review_group", "groups", group=found, part=max(0, part), setup=setup)
