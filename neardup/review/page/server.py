"""The server of the review page, with its pages, its pictures and its API."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from PIL import Image

from neardup.errors import ArchiveError, NeardupError, StorageError, UnreadableImageError
from neardup.review.asked.queues import CONTRADICTIONS
from neardup.review.page.api import add_api
from neardup.review.page.desk import Desk
from neardup.review.page.group import A_PAGE, GROUPS_A_PAGE
from neardup.review.page.pages import QUEUES, Pages, words_of
from neardup.review.page.payloads import Alignment
from neardup.review.page.pictures import SIDES
from neardup.review.page.renewing import Renewing
from neardup.review.page.searches import Searches
from neardup.review.page.security import Guard
from neardup.review.page.tones import toned

STATIC = Path(__file__).parent / "static"
"""Folder of the page's script and style."""
CHANGES = ("done_out", "done_merge", "done_reference", "undone")
"""Names of the texts that say what was just done to a group."""
YEAR_S = 31_536_000
"""Seconds for which a browser may keep a picture: it is named by its content, which never changes."""


def create_app(desk: Desk, names: frozenset[str], token: str = "") -> Guard:
    """The application, guarded, over the results as they are: those of another run are taken up when they are there.

    Args:
        desk: what it works with.
        names: what the Host header may be.
        token: that every request must show; nothing where only this machine can ask.
    """
    return Guard(Renewing(desk, _application), names, token)


def _application(desk: Desk) -> FastAPI:
    """The application over the results of one run."""
    app = FastAPI(title="neardup review", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    pages, searches = Pages(desk), Searches(desk)
    _answer_errors(app, pages)
    _add_pictures(app, desk)
    _add_queues(app, desk, pages)
    _add_search(app, desk, pages, searches)
    _add_groups(app, desk, pages)
    add_api(app, desk, pages, searches)
    return app


def _answer_errors(app: FastAPI, pages: Pages) -> None:
    """Answer every error of neardup with its sentence."""

    def answer(request: Request, sentence: str, status: int) -> Response:
        """Send the sentence as a page to a person, or as JSON to a script."""
        if "text/html" in request.headers.get("accept", ""):
            with suppress(NeardupError):  # an error may prevent rendering every page
                page = pages.page(request, "review_base", "", fault=sentence)
                page.status_code = status
                return page
        return JSONResponse({"error": sentence}, status)

    @app.exception_handler(NeardupError)
    async def refused(request: Request, error: NeardupError) -> Response:
        status = 404 if isinstance(error, ArchiveError) else 503 if isinstance(error, StorageError) else 422
        return answer(request, str(error), status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return answer(request, f"the request is not as it should be ({faults})", 422)


def _add_pictures(app: FastAPI, desk: Desk) -> None:
    """Serve photos by their contents."""

    @app.get("/photo/{sha256}/{side}.jpg")
    def picture(sha256: str, side: int) -> Response:
        if side not in SIDES or len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):  # noqa: PLR2004
            raise ArchiveError("no photo of these results has that SHA-256")
        cached = {"Cache-Control": f"private, max-age={YEAR_S}, immutable"}
        # Read whole, because another thread may replace the file by the same picture while it is sent.
        return Response(desk.pictures.jpeg(sha256, side).read_bytes(), headers=cached, media_type="image/jpeg")

    @app.get("/toned/{photo}/{partner}/{side}.jpg")
    def partner_like_photo(photo: str, partner: str, side: int) -> Response:
        first, second = (Image.open(BytesIO(picture(sha256, side).body)) for sha256 in (photo, partner))
        alignment = Alignment.of(desk.results.pair(photo, partner).seen_from(photo))
        return Response(toned(first, second, alignment), media_type="image/jpeg")


def _add_queues(app: FastAPI, desk: Desk, pages: Pages) -> None:
    """Serve the pages on which pairs are judged, and the search."""

    @app.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse("/review", 307)

    def add_queue(place: str, queue: str) -> None:
        @app.get(f"/{place}")
        def pairs(request: Request) -> HTMLResponse:
            source = f"/api/tasks?{urlencode({'queue': queue})}"
            return pages.page(request, "review_pair", place, setup={"queue": queue, "source": source, "one": False})

    for place, queue in QUEUES.items():
        add_queue(place, queue)

    @app.get("/group/{number}/pairs")
    def group_pairs(request: Request, number: int) -> HTMLResponse:
        desk.groups.photos(number)
        setup = {"queue": "group", "source": f"/api/tasks?queue=group&group={number}", "one": False}
        return pages.page(request, "review_pair", "groups", setup=setup)

    @app.get("/pair/{photo}/{partner}")
    def one_pair(request: Request, photo: str, partner: str, search: str | None = None) -> HTMLResponse:
        desk.results.pair(photo, partner)
        queue = "pair" if search is None else "search"
        setup = {"queue": queue, "source": f"/api/pair/{photo}/{partner}?queue={queue}", "one": True}
        return pages.page(request, "review_pair", "", setup=setup)

    @app.get("/contradictions")
    def contradictions(request: Request) -> HTMLResponse:
        desk.queues.refresh()
        sections = []
        for contradiction in desk.queues.answers.links.contradictions:
            pairs = dict.fromkeys(verdict.pair for verdict in contradiction.verdicts)
            sections.append([_contradicting(desk, *pair) for pair in pairs])
        return pages.page(request, "review_contradictions", CONTRADICTIONS, contradictions=sections)


def _add_search(app: FastAPI, desk: Desk, pages: Pages, searches: Searches) -> None:
    """Serve the page of the search, and what was found."""

    @app.get("/search")
    def search(request: Request, text: Annotated[str, Query(max_length=400)] = "") -> HTMLResponse:
        values = {"hits": searches.by_words(text) if text else None, "knows_words": desk.lookup.knows_words}
        return pages.page(request, "review_search", "search", query=None, **values)

    @app.get("/search/{query}")
    def found(request: Request, query: str) -> HTMLResponse:
        desk.queues.refresh()
        photo, hits = searches.of(query)
        return pages.page(request, "review_search", "search", knows_words=False, query=photo, hits=hits)


def _contradicting(desk: Desk, photo: str, partner: str) -> dict[str, Any]:
    """A pair that contradicts another one, or on which people disagree, as its page shows it."""
    photos = [desk.results.content(digest) for digest in (photo, partner)]
    verdicts = desk.queues.answers.of(photo, partner)
    return {"pair": (photo, partner), "verdicts": verdicts, "names": [one.path if one else "" for one in photos]}


def _add_groups(app: FastAPI, desk: Desk, pages: Pages) -> None:
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
        return pages.page(request, "review_groups", "groups", rows=rows, total=len(numbers), name=name, **places)

    @app.get("/group/{number}")
    def group(request: Request, number: int, part: int = 0, done: str = "", undo: str = "") -> HTMLResponse:
        desk.queues.refresh()
        try:
            found = desk.groups.group(number, max(0, part))
        except UnreadableImageError as error:
            raise ArchiveError(str(error)) from error
        setup = {"done": words_of(request).say(done)} if done in CHANGES else {}
        shown = {"group": found, "part": max(0, part), "page_size": A_PAGE, "groups": desk.results.groups}
        shown["grouping"] = desk.groups.grouping
        return pages.page(request, "review_group", "groups", **shown, undo=undo, setup=setup)
